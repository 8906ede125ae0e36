from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.encoders import by_name as encoders_by_name
from captum_neuroinspect.encoders.by_name import LazyEncoder, find_encoder


def _texts(texts: list[str]) -> Tensor:
    return torch.tensor([[len(text), text.count("e") + 1, 1.0] for text in texts])


def _encoder(names: tuple[str, ...] = ("red", "green", "blue"), **options: Any) -> Any:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return LabelSpaceEncoder(network, names, _texts, **options)


@pytest.fixture
def never(monkeypatch) -> None:
    """No encoder may be loaded."""

    def fail(*_: Any, **__: Any) -> Any:
        pytest.fail("loaded before it was needed")

    monkeypatch.setattr(encoders_by_name.LabelSpaceEncoder, "pretrained", fail)
    monkeypatch.setattr(encoders_by_name, "OpenCLIPEncoder", fail)


@pytest.mark.usefixtures("never")
def test_texts_are_names_and_nothing_is_loaded() -> None:
    for spec in ("label-space", "openclip", "openclip:ViT-B-32/openai", "openclip:hf-hub:a/b"):
        found = find_encoder(spec)
        assert found is not None
        assert found.name == found.key == spec
    assert find_encoder(None) is find_encoder("none") is None


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize(
    ("clip", "labels", "name"),
    [(True, True, "openclip"), (False, True, "label-space"), (False, False, None)],
)
def test_auto_is_the_best_that_is_here(monkeypatch, clip: bool, labels: bool, name: Any) -> None:
    monkeypatch.setattr(encoders_by_name, "has_open_clip", lambda: clip)
    monkeypatch.setattr(encoders_by_name, "has_label_space", lambda: labels)
    found = find_encoder("auto")
    assert (found and found.name) == name


def test_it_is_loaded_once_on_its_device(monkeypatch) -> None:
    made = []

    def open_clip(*args: Any, **options: Any) -> Any:
        made.append((args, options))
        return _encoder()

    monkeypatch.setattr(encoders_by_name, "OpenCLIPEncoder", open_clip)
    found = find_encoder("openclip:ViT-B-32/openai", "meta")
    assert found is not None
    assert not made
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(found.encode_image(images), _encoder().encode_image(images))
    assert found.encode_text(["a"]).shape == (1, 3)
    assert found.network is found.encoder.network
    assert made == [(("ViT-B-32", "openai"), {"device": "meta"})]


def test_an_encoder_of_ones_own_is_named_by_what_it_answers() -> None:
    one, same = find_encoder(_encoder()), find_encoder(_encoder())
    assert one is not None
    assert same is not None
    assert one.key == same.key
    assert one.key.startswith("LabelSpaceEncoder:")
    # The network is the same, and its images mean something else.
    others = [_encoder(("red", "green", "violet eye")), _encoder(top_k=1)]
    for encoder in others:
        found = find_encoder(encoder)
        assert found is not None
        assert found.key != one.key
    assert find_encoder(one) is one


def test_label_space_guides_with_flatter_probabilities() -> None:
    found = find_encoder(_encoder())
    assert found is not None
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(found.guide.encode_image(images), _encoder().softened().encode_image(images))
    assert torch.equal(found.encode_image(images), _encoder().encode_image(images))
    assert found.guide.network is found.network
    assert found.guide.key != found.key


@pytest.mark.usefixtures("never")
def test_a_guide_has_a_name_before_it_is_loaded() -> None:
    found = find_encoder("label-space")
    assert found is not None
    assert found.guide.key == "label-space, guide"


def test_a_temperature_of_ones_own_guides() -> None:
    found = find_encoder(_encoder(temperature=2.0))
    assert found is not None
    assert found.guide.encoder is found.encoder


@pytest.mark.parametrize(
    "spec", ["", "clip", "openclip:", "openclip:ViT-B-32", "openclip:/x", "openclip:x/", "AUTO"]
)
def test_bad_texts(spec: str) -> None:
    with pytest.raises(ValueError, match=rf"encoder='{spec}', expected 'auto', 'none'"):
        find_encoder(spec)


def test_what_is_no_encoder() -> None:
    class NoNetwork:
        encode_image = encode_text = None

    for wrong in (3, nn.ReLU(), NoNetwork(), LabelSpaceEncoder):
        with pytest.raises(TypeError, match=r"encoder is .*expected 'auto'.*network, encode_image"):
            find_encoder(wrong)  # type: ignore[arg-type]
    assert isinstance(find_encoder("label-space"), LazyEncoder)
