"""Masks from a neuron's maps, in Captum's perturbation methods."""

from __future__ import annotations

import pytest
import torch
from captum.attr import FeatureAblation, ShapleyValueSampling
from helpers import ConvNet

from captum_neuroinspect.attr import feature_mask, neuron_saliency

SIDE = 16


def test_levels_have_as_many_pixels_each_and_rise() -> None:
    maps = torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(0))
    masks = feature_mask(maps, 40, n_levels=5)
    assert masks.shape == (3, 1, 40, 40)
    assert masks.dtype == torch.int64
    scaled = torch.nn.functional.interpolate(maps[:, None], (40, 40), mode="bilinear")
    for mask, values in zip(masks, scaled, strict=True):
        assert mask.flatten().bincount().tolist() == pytest.approx([320] * 5, abs=5)
        for level in range(4):
            assert values[mask == level].max() <= values[mask == level + 1].min()


def test_equal_pixels_stay_together_and_numbers_have_no_gaps() -> None:
    same = feature_mask(torch.ones(1, 4, 4), 8)
    assert same.unique().tolist() == [0]
    one_spot = torch.zeros(1, 4, 4)
    one_spot[0, 1, 1] = 1
    assert feature_mask(one_spot, 4, n_levels=4).unique().tolist() == [0, 1]
    assert feature_mask(torch.empty(0, 4, 4), 8).shape == (0, 1, 8, 8)


def test_connected_parts_are_regions_of_their_own() -> None:
    two_spots = torch.zeros(1, 6, 6)
    two_spots[0, :2, :3] = two_spots[0, 3:, 3:] = 1
    together = feature_mask(two_spots, 6, n_levels=2)[0, 0]
    assert together.unique().tolist() == [0, 1]
    apart = feature_mask(two_spots, 6, n_levels=2, connected=True)[0, 0]
    assert sorted(apart.unique().tolist()) == list(range(int(apart.max()) + 1))
    assert apart[0, 0] != apart[5, 5]
    for number in apart.unique():  # a region is of one level
        assert together[apart == number].unique().numel() == 1


def test_captum_ablates_the_regions_of_a_neuron() -> None:
    torch.manual_seed(1)
    model = ConvNet().eval()
    photos = torch.rand(2, 3, SIDE, SIDE)
    maps = neuron_saliency(model, "backbone.2", photos, [1], "gradcam", cam_layer="backbone.2")[
        :, 0, 0
    ]
    mask = feature_mask(maps, SIDE, n_levels=3)
    found = FeatureAblation(model).attribute(photos, target=2, feature_mask=mask)
    with torch.no_grad():
        whole = model(photos)[:, 2]
        for level in range(3):
            here = mask == level
            without = model(photos.masked_fill(here, 0.0))[:, 2]
            for i in range(2):
                values = found[i][here[i].expand(3, -1, -1)]
                torch.testing.assert_close(
                    values, (whole - without)[i].expand_as(values), rtol=1e-4, atol=1e-5
                )
        nothing = model(torch.zeros_like(photos))[:, 2]
    shapley = ShapleyValueSampling(model).attribute(
        photos, target=2, feature_mask=mask, n_samples=4
    )
    totals = [
        sum(float(shapley[i, 0][mask[i, 0] == level][0]) for level in range(3)) for i in range(2)
    ]
    assert totals == pytest.approx((whole - nothing).tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("maps", "arguments", "error", "message"),
    [
        (torch.ones(2, 2).long(), {}, TypeError, "floating point"),
        (torch.ones(2, 2), {}, ValueError, r"shape \(2, 2\)"),
        (torch.full((1, 2, 2), torch.inf), {}, ValueError, "NaN or infinite"),
        (torch.ones(1, 2, 2), {"n_levels": 1}, ValueError, "n_levels=1"),
        (torch.ones(1, 2, 2), {"n_levels": 2.5}, TypeError, "n_levels=2.5"),
    ],
)
def test_bad_maps_are_named(maps, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        feature_mask(maps, 4, **arguments)
