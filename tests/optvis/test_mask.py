import pytest
import torch

from captum_neuroinspect.optvis import activation_mask


def test_hand_computed_values():
    # Mean 1, standard deviation sqrt(3): z is -0.58 three times and 1.73 once.
    corner = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    assert activation_mask(corner, 2, floor=0.25).tolist() == [[[[0.25, 0.25], [0.25, 1.0]]]]
    assert activation_mask(corner, 2, threshold=-1).eq(1).all()


def test_each_image_has_its_own_scale():
    maps = torch.rand(1, 4, 4)
    both = activation_mask(torch.cat([maps, 100 * maps + 7]), (8, 8))
    assert both[0].equal(both[1])


def test_any_size():
    assert activation_mask(torch.rand(3, 4, 5), (31, 48)).shape == (3, 1, 31, 48)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.3, 1e6])
def test_constant_maps_are_not_masked(value):
    assert activation_mask(torch.full((2, 7, 7), value), 60).eq(1).all()


def test_a_map_without_a_place_that_stands_out_is_not_masked():
    saturated = torch.full((1, 4, 4), 6.0)
    saturated[0, 0, 0] = 5.0
    assert activation_mask(saturated, 4).eq(1).all()
    assert activation_mask(saturated, 4, threshold=0.2).eq(0.5).sum() == 1


def test_low_precision_map():
    assert activation_mask(torch.rand(1, 4, 4).bfloat16(), 8).dtype == torch.float32


def test_bad_values():
    with pytest.raises(
        ValueError, match=r"activation_map has shape \(2, 2\), expected \(N, h, w\)"
    ):
        activation_mask(torch.zeros(2, 2), 4)
    with pytest.raises(ValueError, match=r"floor=1\.5, expected 0\.\.1"):
        activation_mask(torch.zeros(1, 2, 2), 4, floor=1.5)
    with pytest.raises(ValueError, match="size=0"):
        activation_mask(torch.zeros(1, 2, 2), 0)
