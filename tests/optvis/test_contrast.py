"""Pictures are brought to natural contrast, each by itself, and nothing else changes."""

import pytest
import torch
from optvis_nets import TinyNet

from captum_neuroinspect.optvis import IllusionOptions, illusion_image, render_illusions
from captum_neuroinspect.optvis import with_contrast as lifted

FAST = {"neurons": [0, 3], "classes": 1, "size": 16, "n_steps": 4, "progress": False}
PLAIN = IllusionOptions(contrast=0)


def _pale(n=3, channels=3, std=0.1, mean=0.5, seed=0):
    noise = torch.randn(n, channels, 24, 20, generator=torch.Generator().manual_seed(seed))
    return (mean + std * noise).clamp(0.05, 0.95)


def _std(images):
    return images.flatten(1).std(1, unbiased=False)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mean", [0.3, 0.5, 0.65])
@pytest.mark.parametrize("contrast", [0.15, 0.2, 0.25])
def test_contrast_is_as_asked_and_brightness_only_moves_towards_grey(channels, mean, contrast):
    pale = _pale(channels=channels, mean=mean)
    found = lifted(pale, contrast)
    torch.testing.assert_close(_std(found), torch.full((3,), contrast), atol=1e-4, rtol=0)
    before, after = ((images.mean((1, 2, 3)) - 0.5).abs() for images in (pale, found))
    assert (after < before + 0.005).all()
    assert (before - after).max() < 0.1
    assert 0 < found.min() < found.max() < 1


def test_logits_are_stretched_around_their_mean():
    pale = _pale(n=1)
    before, after = pale.logit() - pale.logit().mean(), lifted(pale).logit()
    gain = (after - after.mean()) / before
    torch.testing.assert_close(gain, gain.mean().expand_as(gain), atol=1e-3, rtol=1e-3)
    assert 1 < gain.mean() < 4
    torch.testing.assert_close(after.mean(), pale.logit().mean())


def test_what_has_contrast_comes_back_bit_by_bit():
    rich = _pale(std=0.25)
    assert 0.2 < _std(rich).min() < _std(rich).max() < 0.25
    assert lifted(rich).equal(rich)
    assert lifted(_pale(), 0).equal(_pale())
    once = lifted(_pale())
    torch.testing.assert_close(lifted(once), once)


def test_harsh_images_are_lowered_to_a_quarter_more():
    harsh = _pale(std=0.8)
    assert _std(harsh).min() > 0.35
    torch.testing.assert_close(_std(lifted(harsh)), torch.full((3,), 0.25), atol=1e-4, rtol=0)


def test_noise_is_not_made_a_picture():
    assert _std(lifted(_pale(std=0.001))).max() < 0.005
    grey = torch.full((1, 3, 8, 8), 0.5)
    assert lifted(grey).equal(grey)


def test_black_and_white_stay_finite():
    images = torch.zeros(1, 3, 40, 40)
    images[..., 0, :8] = 1
    found = lifted(images, 0.25)
    assert found.isfinite().all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_image_does_not_depend_on_its_batch():
    pale = torch.cat([_pale(n=2, std=0.05), _pale(n=2, std=0.8)])
    assert lifted(pale).equal(torch.cat([lifted(one) for one in pale.split(1)]))


@pytest.mark.parametrize("param", ["fft", "maco"])
def test_finished_illusions_are_the_plain_ones_with_contrast(param):
    # The steps do not see it, the numbers and the snapshots are those of what is shown.
    plain = render_illusions(TinyNet(), **FAST, param=param, options=PLAIN)
    options = IllusionOptions(contrast=0.3, snapshots=[2, 4])
    found = render_illusions(TinyNet(), **FAST, param=param, options=options)
    assert found.images.equal(lifted(plain.images, 0.3))
    assert found.snapshots[1].equal(found.images)
    assert not found.activations.equal(plain.activations)
    assert found.settings["options"]["contrast"] == 0.3


def test_own_images_and_own_parametrizations_are_left_alone():
    def own(size, batch, *, seed, device):
        return illusion_image(size, batch, seed=seed, device=device)

    start = torch.full((3, 16, 16), 0.4)
    for given, options in (({"param": own}, {}), ({}, {"init": start})):
        first, second = (
            render_illusions(TinyNet(), **FAST, **given, options=IllusionOptions(**options, **c))
            for c in ({}, {"contrast": 0})
        )
        assert first.images.equal(second.images)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.rand(2, 3, 8, 8), 0.31), ValueError, r"contrast=0\.31, expected 0\.\.0\.3"),
        ((torch.rand(2, 3, 8, 8), -0.1), ValueError, r"contrast=-0\.1"),
        ((torch.rand(2, 3, 8, 8) - 1,), ValueError, r"expected 0\.\.1"),
        ((torch.rand(3, 8, 8),), ValueError, r"expected \(N, C, H, W\)"),
        ((torch.ones(1, 3, 8, 8, dtype=torch.uint8),), TypeError, "images is torch.uint8"),
    ],
)
def test_bad_values(arguments, error, message):
    with pytest.raises(error, match=message):
        lifted(*arguments)


def test_bad_option():
    with pytest.raises(ValueError, match="contrast=1"):
        IllusionOptions(contrast=1)
