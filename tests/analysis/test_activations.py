from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers import Boom, ConvNet, Listed, left_unchanged
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from captum_neuroinspect import collect_activations, collect_features, render_illusions
from captum_neuroinspect.optvis import IllusionOptions


@pytest.fixture
def photos() -> Tensor:
    return torch.rand(7, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet().train()  # BatchNorm and dropout would tell


class Tokens(nn.Module):
    """A class token before 16 patches of 5 dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 3, 3)
        self.block = nn.Linear(5, 5)
        self.position = nn.Embedding(17, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        tokens = tokens + self.position(torch.arange(17))[None]
        return self.head(self.block(tokens)[:, 0])


class Strange(nn.Module):
    """Layers that are no units of a photo."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.unused, self.tail = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.table, self.constant, self.index = _Table(), _Constant(), _Index()
        self.volume = _Volume()

    def forward(self, images: Tensor) -> Tensor:
        z = self.twice(self.twice(images.mean((2, 3))))
        self.table(z)
        self.constant(z)
        self.index(z)
        self.volume(z)
        return self.tail(z)


class _Table(nn.Module):
    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"z": z}


class _Constant(nn.Module):
    def forward(self, _: Tensor) -> Tensor:
        return torch.ones(1, 4)


class _Index(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.argmax(1)


class _Volume(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, :, None, None, None].expand(-1, -1, 2, 2, 2)


def test_channels_are_reduced_over_their_positions(model: ConvNet, photos: Tensor) -> None:
    with left_unchanged(model):
        means = collect_activations(model, photos, "backbone.2")
        peaks = collect_activations(model, photos, model.backbone[2], units=[3, 1], reduce="max")
    with torch.no_grad():
        maps = model.eval().backbone[:3](photos)
    torch.testing.assert_close(means, maps.mean((2, 3)))
    torch.testing.assert_close(peaks, maps.amax((2, 3))[:, [3, 1]])
    assert means.dtype == torch.float32


def test_tokens_by_their_mean_their_largest_or_one_of_them(photos: Tensor) -> None:
    model = Tokens().eval()
    tokens: list[Tensor] = []
    handle = model.block.register_forward_hook(lambda _, __, out: tokens.append(out.detach()))
    model(photos)
    handle.remove()
    expected = tokens[0]
    for arguments, values in (
        ({}, expected.mean(1)),
        ({"reduce": "max"}, expected.amax(1)),
        ({"token": "cls"}, expected[:, 0]),
        ({"token": 3}, expected[:, 3]),
    ):
        torch.testing.assert_close(collect_activations(model, photos, "block", **arguments), values)


def test_a_unit_is_what_an_illusion_makes_large(model: ConvNet) -> None:
    made = render_illusions(
        *(model, [1, 2], 0),
        layer="backbone.2",
        size=12,
        n_steps=2,
        progress=False,
        options=IllusionOptions(batch_size=2),
    )
    found = collect_activations(model, made.images, "backbone.2")
    torch.testing.assert_close(found[[0, 1], [1, 2]], made.activations, rtol=1e-4, atol=1e-5)


def test_features_agree_with_those_that_are_collected(model: ConvNet, photos: Tensor) -> None:
    labels = torch.zeros(7, dtype=torch.int64)
    features = collect_features(model, (photos, labels), progress=False)
    found = collect_activations(model, (photos, labels), "head")
    torch.testing.assert_close(found, features.logits)
    # Dropout is the last layer before the head, and does nothing here.
    torch.testing.assert_close(collect_activations(model, photos, "backbone.5"), features.features)


def test_a_batch_gives_what_each_photo_gives(model: ConvNet, photos: Tensor) -> None:
    whole = collect_activations(model, photos, "backbone.1", batch_size=7)
    singles = [collect_activations(model, photo[None], "backbone.1") for photo in photos]
    torch.testing.assert_close(whole, torch.cat(singles), rtol=1e-5, atol=1e-6)


def test_photos_in_any_form_give_the_same(model: ConvNet, photos: Tensor) -> None:
    expected = collect_activations(model, photos, "backbone.2")
    items: list[Any] = [(photo, 0) for photo in photos]

    class WithoutLength(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            if index >= len(photos):
                raise IndexError
            return {"pixel_values": photos[index], "labels": 0}

    class Misjudged:
        """Gives more photos than its length says."""

        def __init__(self, n: int) -> None:
            self.n = n

        def __len__(self) -> int:
            return self.n

        def __iter__(self) -> Iterator[Tensor]:
            return iter(photos)

    forms: dict[str, Any] = {
        "longer than told": Misjudged(3),
        "shorter than told": Misjudged(9),
        "part of a data set": DataLoader(Listed(items * 2), batch_size=2, sampler=range(7)),
        "list": list(photos),
        "dataset": Listed(items),
        "loader": DataLoader(Listed(items), batch_size=3),
        "short loader": DataLoader(Listed(items), batch_size=7, drop_last=True),
        "generator": (photo for photo in photos),
        "mappings": WithoutLength(),
    }
    for form, data in forms.items():
        found = collect_activations(model, data, "backbone.2", batch_size=2)
        torch.testing.assert_close(found, expected, msg=form)


def test_photos_come_one_by_one(model: ConvNet, photos: Tensor) -> None:
    seen: list[int] = []
    passes: list[int] = []

    def one_by_one() -> Iterator[Tensor]:
        for number, photo in enumerate(photos):
            seen.append(number)
            yield photo

    handle = model.head.register_forward_hook(lambda *_: passes.append(len(seen)))
    collect_activations(model, one_by_one(), "backbone.2", batch_size=2)
    handle.remove()
    # The first pass ran when two photos had been asked for, and none waits for all of them.
    assert passes[0] == 2
    assert {2, 4, 6, 7} <= set(passes)


def test_photos_of_several_sizes_keep_their_order(photos: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    mixed = [photos[0], photos[1][:, :9], photos[2], photos[3]]
    found = collect_activations(model, mixed, "0", batch_size=4)
    singles = [collect_activations(model, [photo], "0") for photo in mixed]
    torch.testing.assert_close(found, torch.cat(singles))


def test_the_preprocess_is_applied(model: ConvNet, photos: Tensor) -> None:
    found = collect_activations(model, photos, "backbone.2", preprocess=lambda x: 2 * x - 1)
    torch.testing.assert_close(found, collect_activations(model, 2 * photos - 1, "backbone.2"))


def test_a_model_in_half_precision_gives_float32(model: ConvNet, photos: Tensor) -> None:
    exact = collect_activations(model, photos, "backbone.2")
    found = collect_activations(model.bfloat16(), photos, "backbone.2")
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.05)


def test_the_model_is_unchanged_after_an_exception(model: ConvNet, photos: Tensor) -> None:
    def broken() -> Iterator[Tensor]:
        yield from photos
        raise Boom

    with left_unchanged(model), pytest.raises(Boom):
        collect_activations(model, broken(), "backbone.2", batch_size=2)


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        ("twice", ValueError, "the layer Linear runs 2 times in one pass"),
        ("unused", RuntimeError, "the model does not run the layer Linear"),
        ("index", TypeError, "is a tensor of torch.int64, expected a tensor of floating point"),
        ("table", TypeError, "the output of table is dict, expected a tensor"),
        ("constant", ValueError, "expected a row for each|one row, or several"),
        ("volume", ValueError, r"shape \(2, 3, 2, 2, 2\)"),
        ("nowhere", ValueError, "layer='nowhere' is not in Strange"),
    ],
)
def test_layers_that_have_no_units_are_refused(
    photos: Tensor, layer: str, error: type, message: str
) -> None:
    model = Strange()
    with left_unchanged(model), pytest.raises(error, match=message):
        collect_activations(model, photos, layer)


def test_a_table_of_positions_is_no_row_of_a_photo(photos: Tensor) -> None:
    with pytest.raises(ValueError, match="one row, or several that follow each other"):
        collect_activations(Tokens(), photos[:1], "position")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": torch.rand(0, 3, 12, 12)}, ValueError, "data is empty"),
        ({"data": []}, ValueError, "data is empty"),
        ({"data": 3}, TypeError, "data is int, expected photos"),
        ({"data": ["a.jpg"]}, TypeError, "item 0 has a str for a photo"),
        ({"data": torch.rand(3, 12, 12)}, ValueError, r"data has shape \(3, 12, 12\), expected"),
        ({"data": torch.rand(2, 1, 12, 12)}, ValueError, "takes images of 3 channels"),
        ({"data": torch.full((2, 3, 12, 12), torch.nan)}, ValueError, r"photos 0..1 have NaN"),
        ({"units": [4]}, ValueError, "unit=4 is out of range: expected 0..3"),
        ({"units": []}, ValueError, "units is empty"),
        ({"units": [0.5]}, TypeError, "expected whole numbers"),
        ({"reduce": "median"}, ValueError, "reduce='median', expected one of"),
        ({"token": "cls"}, ValueError, "token=0, but the layer's output has shape"),
        ({"batch_size": 0}, ValueError, "batch_size=0"),
        ({"layer": 3}, TypeError, "layer is int"),
    ],
)
def test_bad_input_is_told(
    model: ConvNet, photos: Tensor, change: dict, error: type, message: str
) -> None:
    given = {"data": photos, "layer": "backbone.2"} | change
    with left_unchanged(model), pytest.raises(error, match=message):
        collect_activations(model, given.pop("data"), given.pop("layer"), **given)
