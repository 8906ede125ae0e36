"""Our pixels are those of the library's own preprocessing, on photos that are not square."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.models import load_model
from captum_neuroinspect.models._measured import recipe_of
from captum_neuroinspect.models._recipe import Recipe, Wanted
from captum_neuroinspect.models._transforms import (
    HuggingFaceTransform,
    TimmTransform,
    TorchvisionTransform,
)
from captum_neuroinspect.photos import Photos

# The float32 arithmetic of (x - mean) / std, in units of what comes out.
_ROUNDING = 2e-6


def _photo(width: int, height: int) -> Image.Image:
    generator = torch.Generator().manual_seed(width)
    blobs = torch.rand(3, height // 9, width // 9, generator=generator)
    photo: Image.Image = tv.to_pil_image(tv.resize(blobs, [height, width]).clamp(0, 1))
    return photo


_PHOTOS = [_photo(300, 200), _photo(121, 205), _photo(64, 64), _photo(37, 90)]


def _is_followed(recipe: Recipe, library: Any) -> None:
    """Pictures give the library's very values; tensors are no further off than rounding."""
    std = None
    for photo in _PHOTOS:
        image, expected = tv.pil_to_tensor(photo), library(photo)
        pixels = recipe.view.of_picture(image)
        assert 0 <= pixels.min() <= pixels.max() <= 1
        made = recipe.preprocess(pixels[None])[0]
        std = (expected.abs().max() + 1) if std is None else std
        assert made.shape == expected.shape
        assert float((made - expected).abs().max()) <= _ROUNDING * float(std)
        assert recipe.view.of_tensor(image).shape == pixels.shape


# torchvision

_TORCHVISION = [
    ("ResNet18_Weights.DEFAULT", 256),
    ("ViT_B_16_Weights.IMAGENET1K_SWAG_LINEAR_V1", 224),  # bicubic
    ("EfficientNet_B0_Weights.DEFAULT", 256),
    ("Swin_T_Weights.DEFAULT", 232),
    ("Inception_V3_Weights.DEFAULT", 342),
]


@pytest.mark.parametrize(("name", "resize"), _TORCHVISION)
def test_torchvision(name: str, resize: int) -> None:
    from torchvision import models

    weights, entry = name.split(".")
    transform = getattr(getattr(models, weights), entry).transforms
    recipe = recipe_of(TorchvisionTransform(transform, {}), name, Wanted())
    _is_followed(recipe, transform())
    assert recipe.view.resize_size == resize
    small = recipe_of(TorchvisionTransform(transform, {}), name, Wanted(64))
    crop = transform().crop_size[0]
    _is_followed(small, transform(crop_size=64, resize_size=round(resize * 64 / crop)))


@pytest.mark.filterwarnings("ignore:Anti-alias option is always applied")
@pytest.mark.parametrize("antialias", [True, False, None])
def test_torchvision_antialias(antialias: bool | None) -> None:
    from torchvision.transforms._presets import ImageClassification

    make = partial(ImageClassification, crop_size=48, resize_size=64, antialias=antialias)
    _is_followed(recipe_of(TorchvisionTransform(make, {}), "x", Wanted()), make())


# timm


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "shorter side 71, centre 64 x 64 pixels"),
        ({"crop_pct": 1.0}, "shorter side 64, centre 64 x 64 pixels"),
        ({"crop_mode": "squash"}, "squashed to 71 x 71, centre 64 x 64 pixels"),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "squashed to 64 x 64 pixels"),
        ({"crop_mode": "border"}, "longer side 71, with borders, centre 64 x 64 pixels"),
        ({"crop_mode": "border", "crop_pct": 1.0}, "whole, with borders, in 64 x 64 pixels"),
        ({"interpolation": "bilinear"}, "shorter side 71, centre 64 x 64 pixels"),
        ({"mean": (0, 0, 0), "std": (1, 1, 1)}, "shorter side 71, centre 64 x 64 pixels"),
        (
            {"input_size": (3, 48, 96), "crop_mode": "squash", "crop_pct": 1.0},
            "squashed to 96 x 48 pixels",
        ),
    ],
)
def test_timm(changed: dict[str, Any], words: str) -> None:
    timm = pytest.importorskip("timm")
    config = {
        "input_size": (3, 64, 64), "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225), "crop_pct": 0.9, "crop_mode": "center", **changed,
    }  # fmt: skip
    transform = TimmTransform.of(config)
    recipe = recipe_of(transform, "timm:x", Wanted())
    _is_followed(recipe, timm.data.create_transform(**config, is_training=False))
    assert recipe.view.said == words
    wider = {**config, "input_size": (3, 80, 80)}
    _is_followed(
        recipe_of(transform, "timm:x", Wanted(80)),
        timm.data.create_transform(**wider, is_training=False),
    )


@pytest.mark.parametrize("name", ["test_resnet", "test_vit3", "test_convnext"])
def test_timm_models(name: str) -> None:
    timm = pytest.importorskip("timm")
    loaded = load_model(f"timm:{name}", weights="random")
    config = timm.data.resolve_model_data_config(loaded.model)
    library = timm.data.create_transform(**config, is_training=False)
    _is_followed(Recipe(loaded.preprocess, loaded.view), library)


# Hugging Face

_HF = [
    ("ViT", {"size": {"height": 32, "width": 32}}, "squashed to 32 x 32 pixels"),
    ("ViT", {"size": {"height": 24, "width": 40}}, "squashed to 40 x 24 pixels"),
    # Of the shape of the photos that are tried, lying and upright, and nearly so.
    ("ViT", {"size": {"height": 40, "width": 60}}, "squashed to 60 x 40 pixels"),
    ("ViT", {"size": {"height": 60, "width": 40}}, "squashed to 40 x 60 pixels"),
    ("ViT", {"size": {"height": 200, "width": 303}}, "squashed to 303 x 200 pixels"),
    ("ViT", {"size": {"height": 32, "width": 32}, "do_rescale": False}, "squashed"),
    ("ViT", {"size": {"height": 32, "width": 32}, "do_normalize": False}, "squashed"),
    ("ViT", {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5}, "squashed"),
    ("ConvNext", {"size": {"shortest_edge": 56}}, "shorter side 64, centre 56 x 56"),
    ("ConvNext", {"size": {"shortest_edge": 56}, "crop_pct": 0.8}, "shorter side 70, centre 56"),
    ("ConvNext", {"size": {"shortest_edge": 384}}, "squashed to 384 x 384 pixels"),
    (
        "MobileViT",
        {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}},
        "shorter side 72, centre 64 x 64",
    ),
    ("EfficientNet", {"size": {"height": 40, "width": 40}}, "squashed to 40 x 40 pixels"),
    ("EfficientNet", {"size": {"height": 40, "width": 40}, "rescale_offset": True}, "squashed"),
    ("EfficientNet", {"size": {"height": 40, "width": 40}, "include_top": False}, "squashed"),
    ("DeiT", {}, "squashed to 256 x 256, centre 224 x 224"),
    ("Beit", {"size": {"height": 48, "width": 48}}, "squashed to 48 x 48"),
    ("Levit", {}, "shorter side 256, centre 224 x 224"),
    ("Perceiver", {}, "shorter side 256, centre 224 x 224"),
    ("PoolFormer", {}, "shorter side 248, centre 224 x 224"),
    ("CLIP", {}, "shorter side 224, centre 224 x 224"),
    ("MobileNetV2", {}, "shorter side 256, centre 224 x 224"),
]


@pytest.mark.parametrize("backend", ["", "Pil"])
@pytest.mark.parametrize(("name", "options", "words"), _HF)
def test_hugging_face(name: str, options: dict[str, Any], words: str, backend: str) -> None:
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, f"{name}ImageProcessor{backend}", None)
    if kind is None:
        pytest.skip("this version of transformers has one kind of processors")
    processor = kind(**options)
    recipe = recipe_of(HuggingFaceTransform(processor), name, Wanted())

    def library(photo: Image.Image) -> Tensor:
        pixels: Tensor = processor(images=photo, return_tensors="pt")["pixel_values"][0]
        return pixels

    _is_followed(recipe, library)
    assert recipe.view.said.startswith(words)


def test_channels_in_another_order() -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.MobileViTImageProcessor(
        size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
    )
    recipe = recipe_of(HuggingFaceTransform(processor), "hf:x", Wanted())
    red = tv.pil_to_tensor(Image.new("RGB", (90, 80), (255, 0, 0)))
    pixels = recipe.view.of_picture(red)
    assert pixels.mean((1, 2)).tolist() == [1, 0, 0]  # what people see
    assert recipe.preprocess(pixels[None]).mean((0, 2, 3)).tolist() == [0, 0, 1]
    images = torch.rand(1, 3, 8, 8, requires_grad=True)
    recipe.preprocess(images)[:, 2].sum().backward()
    assert images.grad is not None
    assert torch.equal(images.grad[0, 0], torch.ones(8, 8))


def test_a_hugging_face_processor_at_another_size() -> None:
    transformers = pytest.importorskip("transformers")
    # ConvNeXT crops below 384 pixels and squashes from there on.
    transform = HuggingFaceTransform(transformers.ConvNextImageProcessor())
    assert recipe_of(transform, "x", Wanted()).view.said == "squashed to 384 x 384 pixels"
    small = recipe_of(transform, "x", Wanted(112)).view
    assert small.said == "shorter side 128, centre 112 x 112 pixels"
    assert small.at_size(384).said == "squashed to 384 x 384 pixels"
    squashed = recipe_of(transform, "x", Wanted(112, "squash")).view
    assert squashed.said == "squashed to 112 x 112 pixels"
    assert squashed.interpolation == "bicubic"


@pytest.mark.parametrize("at_size", [None, 96])
def test_timm_in_transformers(tmp_path: Path, at_size: int | None) -> None:
    timm = pytest.importorskip("timm")
    pytest.importorskip("transformers")
    model = timm.create_model("test_resnet", num_classes=3)
    timm.models.save_for_hf(model, tmp_path, model_config={"label_names": ["a", "b", "c"]})
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("model_args", None)
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "crop_mode": "squash"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_model(f"hf:{tmp_path}", image_size=at_size)
    data = timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])
    if at_size is not None:
        data["input_size"] = (3, at_size, at_size)
    library = timm.data.create_transform(**data, is_training=False)
    _is_followed(Recipe(loaded.preprocess, loaded.view), library)
    assert loaded.view.said.startswith("squashed")


# Lite


def test_lite() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    loaded = load_model("lite:0", weights="random", n_classes=2)
    library = v2.Compose(
        [
            *(v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.498] * 3, [0.502] * 3),
        ]
    )
    _is_followed(Recipe(loaded.preprocess, loaded.view), library)


# What is not followed


class _Made:
    """A preprocessing that somebody wrote."""

    interpolation = "bilinear"

    def __init__(self, function: Any) -> None:
        self._function = function

    def __call__(self, photo: Image.Image) -> Any:
        return self._function(tv.pil_to_tensor(photo) / 255)

    def at_size(self, image_size: int) -> _Made:
        return self


def _squash(image: Tensor) -> Tensor:
    return tv.resize(image, [32, 32], antialias=True)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, "450 x 300 pixels become images of 450 x 300 .*resize= and image_size="),
        (lambda x: tv.resize(x, [32], antialias=True), "so there is no one size"),
        (lambda x: _squash(x)[:1], r"it makes \(1, 32, 32\) of a photo, expected one image"),
        (lambda x: _squash(x)[None], r"it makes \(1, 3, 32, 32\) of a photo"),
        (lambda x: [x], "it makes list of a photo"),
        (lambda x: _squash(x).mean(0, keepdim=True).expand(3, -1, -1), "mixes or drops colours"),
        (lambda x: _squash(x)[[0, 0, 2]], "mixes or drops colours"),
        (lambda x: _squash(x) ** 2, "no factor and offset"),
        (lambda x: _squash(x).clamp(max=0.6), "no factor and offset"),
        (lambda x: _squash(x[..., :200]), "cuts another part than the middle"),
        (lambda x: _squash(x).flip(-1), "mirrors or turns"),
        (lambda x: _squash(x).transpose(1, 2), "mirrors or turns|middle out of"),
        (lambda x: _squash(tv.center_crop(x, [300, 200])), "it stretches a photo"),
        (lambda x: _squash(x) + 0.1 * (_squash(x)[2].std() > 0.1), "pixels differ"),
        (lambda x: x[0, 0, 0, 0], r"it fails on a photo \(IndexError"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"preprocessing of my:net is not followed: .*{message}"):
        recipe_of(_Made(function), "my:net", Wanted())


def test_a_library_that_makes_another_size_than_asked_for() -> None:
    with pytest.raises(ValueError, match="asked for 64 pixels it makes images of 32 x 32 pixels"):
        recipe_of(_Made(_squash), "x", Wanted(64))


def test_where_the_size_is_open_the_user_gives_it() -> None:
    transformers = pytest.importorskip("transformers")
    transform = HuggingFaceTransform(transformers.ViTImageProcessor(do_resize=False))
    with pytest.raises(ValueError, match="there is no one size"):
        recipe_of(transform, "x", Wanted(32))
    recipe = recipe_of(transform, "x", Wanted(32, "squash"))
    assert recipe.view.said == "squashed to 32 x 32 pixels"
    white = torch.ones(1, 3, 2, 2)
    assert torch.equal(recipe.preprocess(white), white)  # mean and std are 0.5


def test_the_names_of_what_is_seen_differ() -> None:
    transformers = pytest.importorskip("transformers")
    views = [
        recipe_of(HuggingFaceTransform(kind(size=size)), "x", Wanted()).view
        for kind in (transformers.ViTImageProcessor, transformers.BeitImageProcessor)
        for size in ({"height": 32, "width": 32}, {"height": 40, "width": 40})
    ]
    assert len({repr(view) for view in views}) == 4
    assert all("0x" not in repr(view) for view in views)  # no address: it names kept work


# The whole way


def test_photos_of_a_loaded_model_are_those_of_the_library(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number, photo in enumerate(_PHOTOS):
        photo.save(tmp_path / "photos" / "a" / f"{number}.png")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37,
        image_size=32, patch_size=8, num_labels=1,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "hf")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path / "hf")
    loaded = load_model(f"hf:{tmp_path / 'hf'}")
    photos = Photos.of(tmp_path / "photos", view=loaded.view)
    expected = processor(images=_PHOTOS, return_tensors="pt")["pixel_values"]
    made = loaded.preprocess(photos.images(range(4)))
    torch.testing.assert_close(made, expected, rtol=0, atol=_ROUNDING)
    # Its three parts are enough to come close.
    near = Photos.of(
        tmp_path / "photos",
        image_size=loaded.image_size,
        resize_size=loaded.resize_size,
        interpolation=loaded.interpolation,
    )
    off = (near.images(range(4)) - photos.images(range(4))).abs()
    assert off.max() <= 1 / 255 + 1e-6
    assert "squashed to 32 x 32 pixels" in repr(photos)


class _Bright(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(images.mean((2, 3)))


def test_a_session_says_and_takes_another_resizing() -> None:
    images, labels = torch.rand(12, 3, 40, 60), torch.arange(12) % 3
    made = NeuroInspect(_Bright(), image_size=20, resize="squash", progress=False)
    made.load((images, labels))
    assert made.model.view.said == "squashed to 20 x 20 pixels"
    assert made.data.inspected.photos.image(0).shape == (3, 20, 20)
    loaded = load_model("torchvision:resnet18", weights="random", n_classes=3, resize="squash")
    assert loaded.view.said == "squashed to 224 x 224 pixels"
    again = NeuroInspect(loaded, resize="crop 250", progress=False).model.view
    assert again.said == "shorter side 250, centre 224 x 224 pixels"
    with pytest.raises(ValueError, match="resize='stretch', expected 'crop'"):
        load_model("torchvision:resnet18", weights="random", resize="stretch")
