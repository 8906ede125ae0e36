import math

import pytest
import torch
from torch.nn import functional as F

from captum_neuroinspect.optvis import channel_noise, random_affine

IMAGES = torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))
MAKERS = [random_affine, lambda seed: channel_noise(0.2, seed)]


def _smooth(height: int, width: int) -> torch.Tensor:
    """One bright blob right of and below the centre, in pixels: wide images show shear."""
    y = torch.arange(height).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    return 0.5 + 0.5 * torch.exp(-((y - 4) ** 2 + (x - 6) ** 2) / 8).view(1, 1, height, width)


def _centre(image: torch.Tensor) -> torch.Tensor:
    """Centre of mass in pixels from the middle, (x, y)."""
    mass = (image[0, 0] - 0.5).clamp_min(0)
    height, width = mass.shape
    y = torch.arange(height).view(-1, 1) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    return torch.stack([(mass * x).sum(), (mass * y).sum()]) / mass.sum()


@pytest.mark.parametrize("make", MAKERS)
def test_an_image_does_not_depend_on_its_batch(make):
    together = make(seed=4)
    singles = [make(seed=4 + i) for i in range(3)]
    for _ in range(2):
        batch = together(IMAGES)
        for i, alone in enumerate(singles):
            torch.testing.assert_close(batch[i : i + 1], alone(IMAGES[i : i + 1]))
    torch.testing.assert_close(make(seed=[6, 4])(IMAGES[:2])[1], make(seed=4)(IMAGES[1:2])[0])


@pytest.mark.parametrize("make", MAKERS)
def test_each_image_and_each_call_is_different(make):
    transform = make(seed=0)
    same = IMAGES[:1].expand(3, -1, -1, -1)
    first, second = transform(same), transform(same)
    assert not torch.allclose(first[0], first[1], atol=1e-3)
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("make", MAKERS)
def test_gradients_do_not_mix(make):
    images = IMAGES.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(make(seed=0)(images)[1].square().sum(), images)
    assert gradient[1].abs().sum() > 0
    assert gradient[[0, 2]].eq(0).all()


@pytest.mark.parametrize("make", MAKERS)
def test_leaves_the_global_generator_and_the_type_alone(make):
    before = torch.get_rng_state()
    assert make(seed=0)(IMAGES.double()).dtype == torch.float64
    assert torch.get_rng_state().equal(before)


def test_rotation_keeps_distances_on_an_oblong_image():
    image = _smooth(40, 80)
    start = _centre(image)
    angles = []
    rotate = random_affine(degrees=15, translate=0, scale=(1, 1))
    for _ in range(20):
        end = _centre(rotate(image))
        assert end.norm().item() == pytest.approx(start.norm().item(), abs=0.1)
        angles.append(math.degrees(math.atan2(end[1], end[0]) - math.atan2(start[1], start[0])))
    assert min(angles) < -8
    assert max(angles) > 8
    assert max(map(abs, angles)) < 16


def test_translation_and_scale_in_their_units():
    image = _smooth(40, 80)
    move = random_affine(degrees=0, translate=0.1, scale=(1, 1))
    shifts = torch.stack([_centre(move(image)) - _centre(image) for _ in range(40)])
    assert shifts[:, 0].abs().max().item() == pytest.approx(8, abs=1)
    assert shifts[:, 1].abs().max().item() == pytest.approx(4, abs=0.5)
    grow = random_affine(degrees=0, translate=0, scale=(1.5, 1.5))
    torch.testing.assert_close(_centre(grow(image)), 1.5 * _centre(image), atol=0.1, rtol=0)


def test_outside_is_grey():
    shrink = random_affine(degrees=0, translate=0, scale=(0.5, 0.5))
    shrunk = shrink(torch.ones(1, 3, 16, 16))
    assert shrunk[..., :3, :].sub(0.5).abs().max() < 1e-6
    assert shrunk[..., 6:10, 6:10].sub(1).abs().max() < 1e-6


def test_one_offset_per_image_and_channel():
    noise = channel_noise(0.2)(IMAGES) - IMAGES
    torch.testing.assert_close(noise, noise[..., :1, :1].expand_as(noise))
    many = channel_noise(0.2)(torch.zeros(2000, 3, 1, 1))
    assert many.std().item() == pytest.approx(0.2, rel=0.1)


def test_noise_follows_its_steps():
    seen = []
    transform = channel_noise(lambda step: seen.append(step) or 0.0)
    for _ in range(3):
        assert transform(IMAGES).equal(IMAGES)
    assert seen == [0, 1, 2]


def test_composes_with_other_functions():
    stacked = channel_noise(0.1)(random_affine()(F.pad(IMAGES, [2] * 4, value=0.5)))
    assert stacked.shape == (3, 3, 24, 34)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: random_affine(degrees=-1), "degrees=-1"),
        (lambda: random_affine(translate=-0.1), "translate=-0.1"),
        (lambda: random_affine(scale=(1.2, 0.7)), "scale="),
        (lambda: random_affine(scale=(0, 1)), "scale="),
        (lambda: channel_noise(-0.2), "std=-0.2"),
        (lambda: random_affine(seed=[1])(IMAGES), "seed has 1 values for a batch of 3"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
