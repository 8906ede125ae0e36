import pytest
import torch

from captum_neuroinspect.optvis import illusion_image


def test_keeps_lucents_contract():
    params, image_f = illusion_image((9, 14), batch=2)
    image = image_f()
    assert image.shape == (2, 3, 9, 14)
    assert 0 < image.min() < image.max() < 1
    assert all(p.is_leaf and p.requires_grad for p in params)
    image.square().sum().backward()
    assert params[0].grad.abs().sum() > 0


@pytest.mark.parametrize("size", [(16, 24), (24, 16), (33, 33)])
def test_lucents_image_for_lucents_spectrum(size):
    from lucent.optvis.param.color import to_valid_rgb
    from lucent.optvis.param.spatial import fft_image

    theirs, their_image = fft_image([1, 3, *size])
    ours, our_image = illusion_image(size)
    with torch.no_grad():
        # Lucent keeps one frequency more for odd widths, which carries nothing.
        ours[0].copy_(theirs[0][:, :, :, : ours[0].shape[3]].cpu())
        expected = to_valid_rgb(their_image, decorrelate=True)().cpu()
        torch.testing.assert_close(our_image(), expected, atol=1e-4, rtol=1e-4)


def test_an_image_does_not_depend_on_its_batch():
    _, together = illusion_image(16, batch=3, seed=5)
    for i in range(3):
        _, alone = illusion_image(16, seed=5 + i)
        torch.testing.assert_close(together()[i], alone()[0])
    _, chosen = illusion_image(16, batch=2, seed=[7, 5])
    torch.testing.assert_close(chosen(), together()[[2, 0]])


def test_does_not_touch_the_global_generator():
    before = torch.get_rng_state()
    illusion_image(16)
    assert torch.get_rng_state().equal(before)


def test_decay_power_0_is_white_noise():
    powers = []
    for decay_power in (0.0, 1.0):
        _, image_f = illusion_image(32, batch=16, channels=1, decay_power=decay_power)
        power = torch.fft.rfft2(image_f().detach().logit(), norm="ortho").abs().square()
        powers.append(power[..., 1:5, 1:5].mean() / power[..., 12:20, 8:16].mean())
    assert 0.7 < powers[0] < 1.4
    assert powers[1] > 10


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels(channels):
    assert illusion_image(8, channels=channels)[1]().shape == (1, channels, 8, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 0}, ValueError, "size=0"),
        ({"size": "8"}, TypeError, "size='8'"),
        ({"size": (8, 8, 8)}, TypeError, "expected an int or two ints"),
        ({"size": 8.5}, TypeError, r"size=8\.5"),
        ({"size": 8, "batch": 0}, ValueError, "batch=0"),
        ({"size": 8, "channels": 0}, ValueError, "channels=0"),
        ({"size": 8, "batch": 2, "seed": [1]}, ValueError, "seed has 1 values for a batch of 2"),
        ({"size": 8, "seed": 0.5}, TypeError, r"seed=0\.5"),
    ],
)
def test_bad_values(arguments, error, message):
    with pytest.raises(error, match=message):
        illusion_image(**arguments)
