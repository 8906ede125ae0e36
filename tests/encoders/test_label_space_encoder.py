from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect.encoders import ImageTextEncoder, LabelSpaceEncoder, class_embeddings

_COLOURS = ["red", "green", "blue"]
_AXES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.6, 0.8]])


def _text_encoder(texts: list[str]) -> Tensor:
    """The direction of the colour that is named in a text."""
    return torch.stack([_AXES[[c in text for c in _COLOURS].index(True)] for text in texts])


def _mean_colour(weight: float = 4.0) -> nn.Sequential:
    """Logits are ``weight`` times the mean red, green and blue."""
    head = nn.Linear(3, 3, bias=False)
    nn.init.eye_(head.weight).data.mul_(weight)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def _encoder(**options: int) -> LabelSpaceEncoder:
    return LabelSpaceEncoder(_mean_colour(), _COLOURS, _text_encoder, **options)


def _plain(*colours: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None].expand(-1, -1, 6, 6)


def test_embedding_is_the_mean_of_the_labels_by_probability():
    # Logits (4, 2, 0): probabilities e^4, e^2 and 1 over their sum, which does not count.
    red, green, blue = (torch.tensor(logit).exp() for logit in (4.0, 2.0, 0.0))
    expected = F.normalize(red * _AXES[0] + green * _AXES[1] + blue * _AXES[2], dim=0)
    (embedding,) = _encoder().encode_image(_plain((1.0, 0.5, 0.0)))
    torch.testing.assert_close(embedding, expected)


@pytest.mark.parametrize(
    ("top_k", "weights"),
    [(1, (1.0, 0.0, 0.0)), (2, (1.0, 1 / torch.e**2, 0.0)), (3, (1, torch.e**-2, torch.e**-4))],
)
def test_top_k_counts_the_most_probable_classes_only(top_k, weights):
    expected = F.normalize(torch.tensor(weights) @ _AXES, dim=0)
    (embedding,) = _encoder(top_k=top_k).encode_image(_plain((1.0, 0.5, 0.0)))
    torch.testing.assert_close(embedding, expected)


@pytest.mark.parametrize("make", [_encoder, lambda temperature: _encoder().softened(temperature)])
def test_temperature_divides_the_logits(make):
    # Logits (4, 2, 0) become (1, 0.5, 0).
    red, green, blue = (torch.tensor(logit).exp() for logit in (1.0, 0.5, 0.0))
    expected = F.normalize(red * _AXES[0] + green * _AXES[1] + blue * _AXES[2], dim=0)
    (embedding,) = make(temperature=4.0).encode_image(_plain((1.0, 0.5, 0.0)))
    torch.testing.assert_close(embedding, expected)


def test_a_softened_encoder_shares_all_but_the_temperature():
    calls: list[list[str]] = []

    def text_encoder(texts: list[str]) -> Tensor:
        calls.append(list(texts))
        return _text_encoder(texts)

    encoder = LabelSpaceEncoder(_mean_colour(), _COLOURS, text_encoder)
    softer = encoder.softened(2.0)
    assert (softer.network, encoder.temperature) == (encoder.network, 1.0)
    softer.encode_text(["a red wall"])
    encoder.encode_text(["a red wall"])
    assert calls[1:] == [["a red wall"]]
    with pytest.raises(ValueError, match="temperature=-1"):
        encoder.softened(-1)


def test_satisfies_the_protocol_with_unit_vectors():
    encoder = _encoder()
    assert isinstance(encoder, ImageTextEncoder)
    images, texts = encoder.encode_image(torch.rand(5, 3, 9, 7)), encoder.encode_text(_COLOURS)
    torch.testing.assert_close(images.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(texts, _AXES)


def test_gradient_reaches_the_image_and_no_weight():
    encoder = _encoder(image_size=4)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    (encoder.encode_image(images) @ encoder.encode_text(["red"]).T).sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.ne(0).all()
    assert all(parameter.grad is None for parameter in encoder.network.parameters())


def test_gradient_climbs_towards_a_text():
    encoder = _encoder()
    images = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    cosine = encoder.encode_image(images) @ encoder.encode_text(["blue"]).T
    cosine.sum().backward()
    climbed = (images + 0.1 * images.grad.sign()).detach()
    assert (encoder.encode_image(climbed) @ encoder.encode_text(["blue"]).T > cosine).all()


def test_batch_equals_singles():
    encoder, images = _encoder(image_size=5), torch.rand(4, 3, 11, 8)
    singles = torch.cat([encoder.encode_image(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(encoder.encode_image(images), singles)


@pytest.mark.parametrize("size", [(6, 6), (40, 25), (224, 224)])
def test_any_input_size_is_brought_to_image_size(size):
    seen: list[tuple[int, ...]] = []
    classifier = _mean_colour()
    classifier.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    encoder = LabelSpaceEncoder(classifier, _COLOURS, _text_encoder, image_size=16)
    colour = torch.tensor([[0.9, 0.4, 0.1]])
    embedding = encoder.encode_image(colour[:, :, None, None].expand(1, 3, *size))
    torch.testing.assert_close(embedding, _encoder().encode_image(_plain((0.9, 0.4, 0.1))))
    assert seen == [(1, 3, 16, 16)]


def test_classifier_is_run_in_eval_mode_and_left_as_it_was():
    classifier = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), _mean_colour()).train()
    classifier[2].eval()
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    encoder = LabelSpaceEncoder(classifier, _COLOURS, _text_encoder)
    images = torch.rand(3, 3, 6, 6)
    assert torch.equal(encoder.encode_image(images), encoder.encode_image(images))
    assert [module.training for module in classifier] == [True, True, False]
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())


def test_classifier_that_fails_is_left_as_it_was():
    classifier = nn.Sequential(nn.Conv2d(4, 3, 1)).train()
    encoder = LabelSpaceEncoder(classifier, _COLOURS, _text_encoder)
    with pytest.raises(RuntimeError, match="channels"):
        encoder.encode_image(torch.rand(1, 3, 6, 6))
    assert classifier.training
    assert all(parameter.requires_grad for parameter in classifier.parameters())


def test_texts_are_encoded_once_and_class_prompts_never_again():
    calls: list[list[str]] = []

    def text_encoder(texts: list[str]) -> Tensor:
        calls.append(list(texts))
        return _text_encoder(texts)

    encoder = LabelSpaceEncoder(_mean_colour(), _COLOURS, text_encoder)
    assert len(calls) == 1
    class_embeddings(encoder, _COLOURS)
    encoder.encode_text(["a red wall", "a red wall"])
    encoder.encode_text(["a red wall"])
    assert calls[1:] == [["a red wall"]]


def test_float64_and_autocast():
    images = torch.rand(2, 3, 6, 6)
    expected = _encoder().encode_image(images)
    torch.testing.assert_close(_encoder().encode_image(images.double()), expected)
    with torch.autocast("cpu", torch.bfloat16):
        embedding = _encoder().encode_image(images)
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(embedding, expected, atol=0.02, rtol=0)


def test_logits_of_a_hugging_face_output():
    class Wrapped(nn.Module):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"logits": 4 * images.mean((2, 3))}

    images = torch.rand(2, 3, 6, 6)
    encoder = LabelSpaceEncoder(Wrapped(), _COLOURS, _text_encoder)
    torch.testing.assert_close(encoder.encode_image(images), _encoder().encode_image(images))


@pytest.mark.parametrize("names", [["red", "green"], [*_COLOURS, "red"]])
def test_number_of_names_must_be_the_number_of_logits(names):
    encoder = LabelSpaceEncoder(_mean_colour(), names, _text_encoder)
    with pytest.raises(ValueError, match=rf"\(1, 3\) for {len(names)} class_names"):
        encoder.encode_image(torch.rand(1, 3, 6, 6))


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.full((1, 3, 6, 6), 1.5), ValueError, "values in 1.5..1.5"),
        (torch.full((1, 3, 6, 6), torch.nan), ValueError, "NaN"),
        (torch.rand(1, 4, 6, 6), ValueError, r"\(1, 4, 6, 6\)"),
        (torch.ones(1, 3, 6, 6, dtype=torch.uint8), TypeError, "uint8"),
    ],
)
def test_bad_images(images, error, message):
    with pytest.raises(error, match=message):
        _encoder().encode_image(images)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"classifier": len}, TypeError, "classifier is a builtin"),
        ({"text_encoder": {"red": 1}}, TypeError, "text_encoder=.* cannot be called"),
        ({"class_names": []}, ValueError, "class_names is empty"),
        ({"class_names": "red"}, TypeError, "class_names='red'"),
        ({"top_k": 0}, ValueError, r"top_k=0, expected 1\.\.3"),
        ({"top_k": 4}, ValueError, r"top_k=4, expected 1\.\.3"),
        ({"image_size": 0}, ValueError, "image_size=0"),
        ({"temperature": 0.0}, ValueError, "temperature=0.0, expected a positive number"),
        ({"temperature": float("nan")}, ValueError, "temperature=nan"),
    ],
)
def test_bad_arguments(change, error, message):
    arguments = {
        "classifier": _mean_colour(),
        "class_names": _COLOURS,
        "text_encoder": _text_encoder,
    }
    with pytest.raises(error, match=message):
        LabelSpaceEncoder(**{**arguments, **change})


@pytest.mark.slow
def test_pretrained_names_what_is_on_real_photos():
    data = pytest.importorskip("skimage.data")
    photos = {
        "cat": data.chelsea(),
        "cup of coffee": data.coffee(),
        "rocket": data.rocket(),
        "motorcycle": data.stereo_motorcycle()[0],
    }
    encoder = LabelSpaceEncoder.pretrained()
    # The same templates for all: a text that speaks of a photo is nearer to every image.
    texts = class_embeddings(encoder, [*photos, "dog", "bird", "piano", "pizza", "shark", "shirt"])
    images = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None] / 255 for p in photos.values()]
    embeddings = torch.cat([encoder.encode_image(image) for image in images])
    assert (embeddings @ texts.T).argmax(1).tolist() == [0, 1, 2, 3]
