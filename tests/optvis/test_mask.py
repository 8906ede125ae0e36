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


def test_a_soft_edge_is_the_sigmoid_of_the_excess():
    corner = torch.tensor([[[0.0, 0.0], [0.0, 4.0]]])
    scores = (corner - 1) / 3**0.5
    expected = 0.2 + 0.8 / (1 + torch.exp(-(scores - 0.3) / 0.7))
    mask = activation_mask(corner, 2, threshold=0.3, floor=0.2, softness=0.7)
    torch.testing.assert_close(mask[:, 0], expected)


def test_a_soft_edge_becomes_the_hard_one_and_rises_with_the_activation():
    maps = torch.rand(3, 5, 5)
    hard = activation_mask(maps, 5)
    torch.testing.assert_close(activation_mask(maps, 5, softness=1e-9), hard)
    soft = activation_mask(maps, 5, floor=0.1, softness=0.5)
    for image, mask in zip(maps.flatten(1), soft.flatten(1), strict=True):
        assert mask[image.argsort()].diff().ge(0).all()
    assert soft.min() >= 0.1
    assert soft.max() <= 1
    assert len(soft.unique()) > 50


def test_blur_spreads_an_edge_by_its_gaussian():
    # One pixel of 1 among zeros: what remains is the Gaussian itself.
    maps = torch.zeros(1, 21, 21)
    maps[0, 10, 10] = 1.0
    mask = activation_mask(maps, 21, floor=0.0, blur=1.5)[0, 0]
    line = torch.exp(-0.5 * (torch.arange(-5, 6) / 1.5) ** 2)
    line = line / line.sum()
    torch.testing.assert_close(mask[5:16, 5:16], line[:, None] * line)
    assert mask.sum().item() == pytest.approx(1, abs=1e-5)


def test_blur_keeps_the_range_also_at_the_border():
    maps = torch.zeros(1, 8, 8)
    maps[0, :, :4] = 1.0
    mask = activation_mask(maps, 8, floor=0.3, blur=1.0)[0, 0]
    assert mask.min() >= 0.3
    assert mask.max() <= 1
    torch.testing.assert_close(mask, mask[:1].expand(8, 8))
    torch.testing.assert_close(mask[0, 0], torch.tensor(1.0), atol=5e-3, rtol=0)
    assert activation_mask(torch.rand(2, 3, 3), 4, blur=9.0).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("edge", [{"softness": 0.4}, {"blur": 2.0}, {"softness": 1.0, "blur": 1.0}])
def test_soft_masks_are_made_image_by_image_and_leave_flat_maps_alone(edge):
    maps = torch.rand(3, 4, 4)
    maps[1] = 0.7
    together = activation_mask(maps, 12, **edge)
    assert together[1].eq(1).all()
    singles = [activation_mask(one[None], 12, **edge) for one in maps]
    torch.testing.assert_close(together, torch.cat(singles))
    saturated = torch.full((1, 4, 4), 6.0)
    saturated[0, 0, 0] = 5.0
    assert activation_mask(saturated, 4, **edge).eq(1).all()


def test_bad_values():
    with pytest.raises(
        ValueError, match=r"activation_map has shape \(2, 2\), expected \(N, h, w\)"
    ):
        activation_mask(torch.zeros(2, 2), 4)
    with pytest.raises(ValueError, match=r"floor=1\.5, expected 0\.\.1"):
        activation_mask(torch.zeros(1, 2, 2), 4, floor=1.5)
    with pytest.raises(ValueError, match="size=0"):
        activation_mask(torch.zeros(1, 2, 2), 0)
    with pytest.raises(ValueError, match=r"softness=-0\.1, expected at least 0"):
        activation_mask(torch.zeros(1, 2, 2), 4, softness=-0.1)
    with pytest.raises(ValueError, match="blur=nan, expected at least 0"):
        activation_mask(torch.zeros(1, 2, 2), 4, blur=float("nan"))
