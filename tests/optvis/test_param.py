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


@pytest.mark.parametrize("size", [(16, 24), (15, 9), (33, 20), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("decay_power", [0.0, 1.0])
def test_it_starts_from_images(size, channels, decay_power):
    given = torch.rand(2, channels, *size, generator=torch.Generator().manual_seed(0))
    given[0, 0, 0, 0], given[1, 0, 0, 0] = 0, 1
    options = {"channels": channels, "decay_power": decay_power}
    params, image_f = illusion_image(size, batch=2, init=given, **options)
    inside = given.clamp(0.4 / 255, 1 - 0.4 / 255)
    torch.testing.assert_close(image_f(), inside, atol=1e-4, rtol=0)
    assert params[0].is_leaf
    assert params[0].requires_grad
    _, of_one = illusion_image(size, batch=2, init=given[1], **options)
    torch.testing.assert_close(of_one(), inside[[1, 1]], atol=1e-4, rtol=0)


def test_a_start_is_not_tied_to_the_given_image():
    given = torch.rand(3, 8, 8, requires_grad=True)
    params, image_f = illusion_image(8, init=given)
    image_f().sum().backward()
    assert given.grad is None
    assert params[0].grad is not None


def test_white_and_black_survive_as_bytes():
    given = torch.zeros(2, 3, 8, 8)
    given[1] = 1
    _, image_f = illusion_image(8, batch=2, init=given)
    assert (image_f() * 255).round().equal(given * 255)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"size": 8, "init": torch.rand(3, 8, 9)}, ValueError, "images are not resized"),
        ({"size": 8, "init": torch.rand(1, 8, 8)}, ValueError, r"init has shape \(1, 8, 8\)"),
        ({"size": 8, "init": torch.rand(8, 8)}, ValueError, r"init has shape \(8, 8\)"),
        ({"size": 8, "init": torch.rand(2, 3, 8, 8)}, ValueError, r"or \(1, 3, 8, 8\)"),
        ({"size": 8, "init": torch.rand(3, 8, 8) - 1}, ValueError, "expected 0..1"),
        ({"size": 8, "init": 0.5}, TypeError, "init is float"),
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
