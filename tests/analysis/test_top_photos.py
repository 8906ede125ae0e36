from __future__ import annotations

import pytest
import torch
from helpers import left_unchanged
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, rank_neurons
from captum_neuroinspect.analysis import crops, top_photos
from captum_neuroinspect.attr import Direction


@pytest.fixture
def features() -> FeatureSet:
    values = torch.rand(20, 5)
    return FeatureSet(values, values[:, :3], torch.arange(20) % 3)


def test_the_k_most_active_photos_best_first(features: FeatureSet) -> None:
    found = top_photos(features, [4, 0], k=3)
    for row, neuron in enumerate(found.neurons):
        column = features.features[:, neuron]
        assert torch.equal(found.activations[row], column.sort(descending=True).values[:3])
        assert torch.equal(column[found.rows[row]], found.activations[row])


def test_indices_lead_back_to_the_photos(features: FeatureSet) -> None:
    few = features.subset(torch.tensor([7, 3, 11]))
    found = top_photos(few, 2, k=9)
    assert found.indices.shape == (1, 3)  # no more than there are
    assert set(found.indices[0].tolist()) == {7, 3, 11}
    assert torch.equal(features.features[found.indices[0], 2], found.activations[0])


def test_equal_activations_keep_their_order() -> None:
    values = torch.zeros(50, 2)
    found = top_photos(FeatureSet(values, values, torch.zeros(50, dtype=torch.int64)), [1], k=9)
    assert found.rows.tolist() == [list(range(9))]


def test_a_direction_sorts_by_positions(features: FeatureSet) -> None:
    direction = Direction(torch.tensor([1.0, -2.0, 0.0, 0.0, 3.0]), torch.ones(5))
    positions = direction.positions(features.features)
    found, other_end = top_photos(features, direction, k=4), top_photos(features, -direction, k=4)
    assert found.neurons == (0,)
    assert found.rows.tolist() == [positions.argsort(descending=True)[:4].tolist()]
    assert other_end.rows.tolist() == [positions.argsort()[:4].tolist()]
    torch.testing.assert_close(found.activations[0], positions.sort(descending=True).values[:4])
    with pytest.raises(ValueError, match="the direction has 2 features, expected 5"):
        top_photos(features, Direction(torch.ones(2), torch.ones(2)))


def test_a_list_of_the_ranking_is_taken(features: FeatureSet) -> None:
    ranking = rank_neurons(torch.tensor([[1.0, 0.5, 0, 0, 0]]), k=2)
    assert top_photos(features, ranking.insufficient).neurons == ranking.insufficient.neurons
    assert top_photos(features, torch.tensor([1, 2])).neurons == (1, 2)


def test_bad_arguments_of_top_photos(features: FeatureSet) -> None:
    with pytest.raises(ValueError, match="neuron=5 is out of range"):
        top_photos(features, [5])
    with pytest.raises(ValueError, match="k=0"):
        top_photos(features, [0], k=0)
    with pytest.raises(TypeError, match="expected whole numbers"):
        top_photos(features, [0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="of no samples"):
        top_photos(features.subset(torch.zeros(20, dtype=torch.bool)), [0])


# Crops


class Bright(nn.Module):
    """Neuron 0: how bright a place is; neuron 1: how dark."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, 4, 4)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(2, 3)
        with torch.no_grad():
            self.patches.weight[0].fill_(1 / 48)
            self.patches.weight[1].fill_(-1 / 48)
            self.patches.bias.copy_(torch.tensor([0.0, 1.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.patches(images)))


def _with_spot(left: int, top: int, side: int, size: tuple[int, int] = (64, 64)) -> Tensor:
    image = torch.zeros(3, *size)
    image[:, top : top + side, left : left + side] = 1
    return image


def test_the_box_holds_the_spot_and_little_else() -> None:
    spots = [(8, 40, 12), (44, 4, 8), (20, 20, 24)]
    images = torch.stack([_with_spot(*spot) for spot in spots])
    with left_unchanged(model := Bright()):
        found = crops(model, images, 0, min_share=0.1)
    assert found.maps is not None
    assert found.maps.shape == (3, 16, 16)
    for (left, top, side), box, cut, image in zip(
        spots, found.boxes.tolist(), found.images, images, strict=True
    ):
        assert box[0] <= left
        assert box[1] <= top
        assert box[2] >= left + side
        assert box[3] >= top + side
        assert box[2] - box[0] <= side + 8
        assert torch.equal(cut, image[:, box[1] : box[3], box[0] : box[2]])


def test_boxes_are_squares_of_a_least_size_inside_the_photo() -> None:
    images = torch.stack([_with_spot(0, 60, 4), _with_spot(60, 0, 4)])
    found = crops(Bright(), images, 0, min_share=0.5)
    assert found.boxes.tolist() == [[0, 32, 32, 64], [32, 0, 64, 32]]


def test_only_the_part_around_the_peak_counts() -> None:
    image = 0.8 * _with_spot(4, 4, 8) + _with_spot(48, 48, 8)
    (box,) = crops(Bright(), image[None], 0, min_share=0.1).boxes.tolist()
    assert box[0] > 40
    assert box[1] > 40


def test_a_wide_photo() -> None:
    image = _with_spot(0, 0, 64, (32, 96))
    image[:, :4, 8:12] += 0.5
    (box,) = crops(Bright(), image[None].clamp(0, 2), 0, level=0.2).boxes.tolist()
    assert box[2] - box[0] == box[3] - box[1] == 32
    assert box[0] == 0


def test_a_flat_map_and_a_neuron_without_positions_give_the_whole_photo() -> None:
    images = torch.full((1, 3, 16, 24), 0.5)
    assert crops(Bright(), images, 0).boxes.tolist() == [[0, 0, 24, 16]]
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.Linear(5, 2))
    found = crops(mlp, torch.rand(2, 3, 4, 4), 3)
    assert found.maps is None
    assert found.boxes.tolist() == [[0, 0, 4, 4]] * 2


def test_the_preprocessing_and_an_inner_layer_are_used() -> None:
    image = _with_spot(8, 8, 8)[None]
    dark = crops(Bright(), image, 0, preprocess=lambda x: 1 - x, min_share=0.1)
    bright = crops(Bright(), image, 1, layer="patches", min_share=0.1)
    assert torch.equal(dark.boxes, bright.boxes)


def test_units_behind_a_hidden_layer_are_found_by_their_gradient() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip
    found = crops(model, torch.rand(3, 3, 16, 16), 2)
    assert found.boxes.shape == (3, 4)
    assert found.maps is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neuron": 2}, "neuron=2 is out of range"),
        ({"level": 1.0}, "level=1.0"),
        ({"min_share": 1.5}, "min_share=1.5"),
        ({"images": torch.rand(3, 8, 8)}, r"images have shape \(3, 8, 8\)"),
        ({"images": torch.rand(0, 3, 8, 8)}, "at least one"),
    ],
)
def test_bad_arguments_of_crops(options: dict, message: str) -> None:
    arguments = {"images": torch.rand(1, 3, 16, 16), "neuron": 0, **options}
    with pytest.raises(ValueError, match=message):
        crops(Bright(), **arguments)


def test_images_must_be_floats() -> None:
    with pytest.raises(TypeError, match=r"images are torch.uint8"):
        crops(Bright(), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 0)
