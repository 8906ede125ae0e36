"""OpenCLIP through its own loading code, on a tiny model: no network, no real weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import save_file

from captum_neuroinspect.encoders import ImageTextEncoder, OpenCLIPEncoder, class_embeddings

_MODEL: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
_PREPROCESS: dict[str, Any] = {
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_HUB_ID = "someone/tiny-clip"
_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _model(*, quick_gelu: bool = False) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return open_clip.CLIP(**_MODEL, quick_gelu=quick_gelu).eval()


def _write(folder: Path, **preprocess: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": _MODEL, "preprocess_cfg": {**_PREPROCESS, **preprocess}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(_model().state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> OpenCLIPEncoder:
    return OpenCLIPEncoder(f"local-dir:{folder}")


@pytest.fixture
def checkpoint(folder: Path) -> Path:
    return folder / "open_clip_model.safetensors"


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny architecture under a name, as the built-in ones have."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-tiny-test", _MODEL)
    return "ViT-tiny-test"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # huggingface_hub reads the variable once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def _noise(*size: int) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(1))


def _assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_image_embedding_is_that_of_the_model(encoder):
    images = _noise(3, 3, 32, 32)
    mean, std = (torch.tensor(_PREPROCESS[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = F.normalize(_model().encode_image((images - mean) / std), dim=-1)
    _assert_close(encoder.encode_image(images), expected)


def test_text_embedding_is_that_of_the_model(encoder):
    texts = ["a cat", "a dog on a sofa"]
    tokens = open_clip.SimpleTokenizer(context_length=16)(texts)
    with torch.no_grad():
        expected = F.normalize(_model().encode_text(tokens), dim=-1)
    _assert_close(encoder.encode_text(texts), expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("shape", [(96, 96), (80, 120), (20, 25)])
def test_preprocessing_is_open_clips_own(folder, tmp_path, interpolation, resize_mode, shape):
    changed = {"interpolation": interpolation, "resize_mode": resize_mode}
    encoder = OpenCLIPEncoder(f"local-dir:{_write(tmp_path, **changed)}")
    # A smooth picture: the reference clamps, which ours does not.
    smooth = F.interpolate(_noise(1, 3, 6, 6), shape, mode="bilinear")
    pixels = (255 * smooth).round().byte()
    transform = image_transform_v2(
        PreprocessCfg(size=32, **{**_PREPROCESS, **changed}), is_train=False
    )
    reference = transform(Image.fromarray(np.asarray(pixels[0].permute(1, 2, 0)))).unsqueeze(0)
    ours = encoder._normalise(pixels / 255)
    # The reference is rounded to grey values, of which std makes 1 / (255 * 0.2).
    torch.testing.assert_close(ours, reference, atol=1.5 / (255 * 0.2), rtol=0)


def test_satisfies_the_protocol_with_unit_vectors(encoder):
    assert isinstance(encoder, ImageTextEncoder)
    for vectors in (encoder.encode_image(_noise(4, 3, 40, 40)), encoder.encode_text(["a", "b"])):
        _assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert class_embeddings(encoder, ["cat", "dog"]).shape == (2, 16)
    assert not any(module.training for module in encoder.network.modules())


def test_gradient_reaches_the_image_and_no_weight(encoder):
    images = _noise(2, 3, 48, 48).requires_grad_()
    (encoder.encode_image(images) @ encoder.encode_text(["a cat"]).T).sum().backward()
    assert images.grad.isfinite().all()
    assert images.grad.ne(0).float().mean() > 0.99
    assert all(parameter.grad is None for parameter in encoder.network.parameters())


def test_batch_equals_singles(encoder):
    images = _noise(4, 3, 45, 37)
    singles = torch.cat([encoder.encode_image(image.unsqueeze(0)) for image in images])
    _assert_close(encoder.encode_image(images), singles)


def test_size_of_the_image_hardly_matters(encoder):
    small = F.interpolate(_noise(1, 3, 4, 4), (32, 32), mode="bilinear")
    large = F.interpolate(small, (160, 160), mode="bilinear")
    cosine = (encoder.encode_image(small) * encoder.encode_image(large)).sum()
    assert cosine > 0.99


def test_texts_are_encoded_once(encoder, monkeypatch):
    calls: list[int] = []
    encode_text = encoder._model.encode_text

    def count(tokens: torch.Tensor) -> torch.Tensor:
        calls.append(len(tokens))
        return encode_text(tokens)

    monkeypatch.setattr(encoder._model, "encode_text", count)
    encoder.encode_text(["one owl", "two owls", "one owl"])
    encoder.encode_text(["two owls", "three owls"])
    assert calls == [2, 1]


def test_many_texts_come_in_batches(encoder, monkeypatch):
    texts = [f"{n} geese" for n in range(5)]
    singles = torch.cat([encoder._embed_texts([text]) for text in texts])
    monkeypatch.setattr("captum_neuroinspect.encoders.open_clip_encoder._TEXTS_PER_BATCH", 2)
    _assert_close(encoder._embed_texts(texts), singles)


def test_text_does_not_depend_on_autocast(folder):
    expected = OpenCLIPEncoder(f"local-dir:{folder}").encode_text(["a cat"])
    with torch.autocast("cpu", torch.bfloat16):
        under = OpenCLIPEncoder(f"local-dir:{folder}").encode_text(["a cat"])
    _assert_close(under, expected)


def test_network_in_training_mode_is_left_in_it(folder):
    encoder = OpenCLIPEncoder(f"local-dir:{folder}")
    encoder.network.train()
    encoder.encode_image(_noise(1, 3, 32, 32))
    assert encoder.network.training
    assert all(parameter.requires_grad for parameter in encoder.network.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_checkpoint_file_is_loaded(tiny_name, tmp_path, encoder, suffix):
    path = tmp_path / f"weights{suffix}"
    state = _model().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = OpenCLIPEncoder(tiny_name, path)
    _assert_close(loaded.encode_text(["a cat"]), encoder.encode_text(["a cat"]))
    assert repr(loaded) == f"OpenCLIPEncoder(name='{tiny_name}', pretrained='{path}')"


def test_tag_is_loaded_with_the_gelu_it_was_trained_with(tiny_name, checkpoint, monkeypatch):
    tag = {"file": str(checkpoint), "quick_gelu": True, "mean": (0.1, 0.2, 0.3)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, tiny_name, {"a_tag": tag})
    encoder = OpenCLIPEncoder(tiny_name, "a_tag")
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a cat"])
    with torch.no_grad():
        expected = F.normalize(_model(quick_gelu=True).encode_text(tokens), dim=-1)
    _assert_close(encoder.encode_text(["a cat"]), expected)
    assert encoder._preprocess["mean"] == (0.1, 0.2, 0.3)


def test_hub_model_is_read_from_the_cache(offline, tmp_path, encoder):
    repository = tmp_path / f"models--{_HUB_ID.replace('/', '--')}"
    _write(repository / "snapshots" / _COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_COMMIT)
    cached = OpenCLIPEncoder(f"hf-hub:{_HUB_ID}", cache_dir=tmp_path)
    images = _noise(1, 3, 32, 32)
    _assert_close(cached.encode_image(images), encoder.encode_image(images))


@pytest.mark.parametrize(
    ("arguments", "source", "repository"),
    [
        (
            (),
            "ViT-B-32/laion2b_s34b_b79k",
            "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        ),
        ((f"hf-hub:{_HUB_ID}",), f"hf-hub:{_HUB_ID}", _HUB_ID),
    ],
)
def test_offline_and_not_cached_says_how_to_get_them(
    offline, tmp_path, capfd, arguments, source, repository
):
    with pytest.raises(RuntimeError, match="could not be loaded") as caught:
        OpenCLIPEncoder(*arguments, cache_dir=tmp_path)
    message = str(caught.value)
    assert f"'{source}'" in message
    for way in (f"hf download {repository} ", "HF_HUB_OFFLINE", "LabelSpaceEncoder.pretrained()"):
        assert way in message
    assert caught.value.__cause__ is not None
    assert capfd.readouterr().err == ""


def test_hub_model_without_weights_is_not_made_up(offline, tmp_path):
    repository = tmp_path / f"models--{_HUB_ID.replace('/', '--')}"
    (_write(repository / "snapshots" / _COMMIT) / "open_clip_model.safetensors").unlink()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(_COMMIT)
    with pytest.raises(RuntimeError, match=f"'hf-hub:{_HUB_ID}' could not be loaded"):
        OpenCLIPEncoder(f"hf-hub:{_HUB_ID}", cache_dir=tmp_path)


def test_loading_leaves_random_numbers_and_logging_alone(folder):
    state, handlers = torch.get_rng_state(), list(logging.root.handlers)
    OpenCLIPEncoder(f"local-dir:{folder}")
    assert torch.equal(torch.get_rng_state(), state)
    assert logging.root.handlers == handlers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vit-b-33",), "name='vit-b-33' is no OpenCLIP model.*'ViT-B-32'"),
        (("ViT-B-32", "laion2b"), "pretrained='laion2b' is neither.*'laion2b_e16'"),
        (("ViT-B/32", "openia"), "pretrained='openia' is neither a tag of ViT-B-32.*'openai'"),
        (("ViT-B-32", "missing/weights.pt"), r"'missing/weights\.pt' is neither a tag"),
        (("ViT-B-32", None), "pretrained=None would give ViT-B-32 random weights"),
        (("ViT-B-32", ""), "pretrained='' would give ViT-B-32 random weights"),
        (("local-dir:missing",), "'local-dir:missing'.*open_clip_config.json"),
        (("local-dir:x", "openai"), "pretrained='openai' given with name='local-dir:x'"),
    ],
)
def test_unknown_names_are_answered_with_near_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        OpenCLIPEncoder(*arguments)


def test_name_of_another_kind():
    with pytest.raises(TypeError, match=r"name is a \w*Path, expected a string"):
        OpenCLIPEncoder(Path("local-dir"))


def _misfit(path: Path) -> None:
    save_file({"visual.conv1.weight": torch.zeros(2)}, path)


def _garbage(path: Path) -> None:
    path.write_bytes(b"these are not weights")


@pytest.mark.parametrize("spoil", [_misfit, _garbage])
def test_local_weights_that_do_not_fit(tmp_path, spoil):
    spoil(_write(tmp_path) / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="expected a checkpoint of this very model"):
        OpenCLIPEncoder(f"local-dir:{tmp_path}")


def test_pickled_code_is_not_run(tiny_name, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": Path("not a tensor")}, path)
    with pytest.raises(ValueError, match="could not be loaded"):
        OpenCLIPEncoder(tiny_name, path)


def test_folder_without_weights_is_not_made_up(tmp_path):
    (_write(tmp_path) / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="could not be loaded"):
        OpenCLIPEncoder(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.full((1, 3, 6, 6), -1.0), ValueError, "values in -1..-1"),
        (torch.full((1, 3, 6, 6), torch.nan), ValueError, "NaN"),
        (torch.rand(3, 6, 6), ValueError, r"\(3, 6, 6\)"),
        (torch.ones(1, 3, 6, 6, dtype=torch.int64), TypeError, "int64"),
    ],
)
def test_bad_images(encoder, images, error, message):
    with pytest.raises(error, match=message):
        encoder.encode_image(images)


@pytest.mark.parametrize(("texts", "error"), [("cat", TypeError), ([], ValueError)])
def test_bad_texts(encoder, texts, error):
    with pytest.raises(error, match="texts"):
        encoder.encode_text(texts)
