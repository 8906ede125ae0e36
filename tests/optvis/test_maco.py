import pytest
import torch

from captum_neuroinspect.optvis import illusion_image, maco_image, spectrum_magnitude


def _photos(n, channels, height, width):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))


def _spectrum(images):
    """Of the logits, in Lucent's colours: written out apart from the library."""
    from lucent.optvis.param.color import color_correlation_normalized

    logits = images.double().logit()
    if images.shape[1] == 3:
        basis = torch.as_tensor(color_correlation_normalized).double()
        logits = torch.linalg.solve(basis, logits.flatten(2)).view_as(logits)
    return 4 * torch.fft.fft2(logits, norm="ortho")


def test_keeps_lucents_contract():
    params, image_f = maco_image((9, 14), batch=2)
    image = image_f()
    assert image.shape == (2, 3, 9, 14)
    assert 0 < image.min() < image.max() < 1
    assert [p.is_leaf and p.requires_grad for p in params] == [True]
    image.square().sum().backward()
    assert params[0].grad.abs().sum() > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 24), (15, 9)])
def test_the_magnitude_stays_whatever_the_phases(size, channels):
    magnitude = spectrum_magnitude(_photos(5, channels, *size))
    params, image_f = maco_image(size, magnitude=magnitude, channels=channels)
    with torch.no_grad():
        params[0] += torch.randn(params[0].shape, generator=torch.Generator().manual_seed(1))
        found = _spectrum(image_f())[..., : size[1] // 2 + 1].abs()[0].float()
    # The first column, and the last of an even width, hold each number twice: there the
    # two halves of the spectrum must agree, and phases that do not are averaged.
    free = slice(1, (size[1] + 1) // 2)
    torch.testing.assert_close(found[..., free], magnitude[..., free], atol=1e-3, rtol=1e-3)
    assert (found <= magnitude + 1e-3 * magnitude.max()).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_photo_comes_back_from_its_magnitude_and_phases(channels):
    photo = _photos(1, channels, 16, 12).clamp(0.01, 0.99)
    params, image_f = maco_image((16, 12), magnitude=spectrum_magnitude(photo), channels=channels)
    with torch.no_grad():
        params[0].copy_(_spectrum(photo)[..., :7].angle())
    torch.testing.assert_close(image_f(), photo, atol=1e-4, rtol=0)


def test_the_magnitude_of_photos_is_their_mean():
    photos = _photos(4, 3, 12, 10).clamp(0.01, 0.99)
    expected = _spectrum(photos)[..., :6].abs().mean(0).float()
    torch.testing.assert_close(spectrum_magnitude(photos), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (63, 31), (32, 80)])
def test_by_default_images_vary_like_photos_and_fall_with_frequency(size):
    _, image_f = maco_image(size, batch=8, channels=1)
    logits = image_f().detach().logit()
    assert logits.square().mean().sqrt().item() == pytest.approx(1.5, rel=0.1)
    power = torch.fft.rfft2(logits, norm="ortho").abs().mean((0, 1))
    assert power[2, 2] > 3 * power[10, 10]


def test_one_magnitude_for_all_channels():
    magnitude = _photos(1, 1, 8, 5)[0, 0]
    _, one = maco_image(8, magnitude=magnitude)
    _, each = maco_image(8, magnitude=magnitude.expand(3, -1, -1))
    assert one().equal(each())


def test_an_image_does_not_depend_on_its_batch():
    _, together = maco_image(16, batch=3, seed=5)
    for i in range(3):
        _, alone = maco_image(16, seed=5 + i)
        torch.testing.assert_close(together()[i], alone()[0])
    _, chosen = maco_image(16, batch=2, seed=[7, 5])
    torch.testing.assert_close(chosen(), together()[[2, 0]])


def test_does_not_touch_the_global_generator():
    before = torch.get_rng_state()
    maco_image(16)
    assert torch.get_rng_state().equal(before)


def test_it_works_in_lucents_renderer():
    from lucent.optvis import render
    from torch import nn

    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    images = render.render_vis(
        model,
        "0:1",
        param_f=lambda: maco_image(32),
        thresholds=(3,),
        transforms=[],
        preprocess=False,
        show_image=False,
        progress=False,
    )
    assert images[0].shape == (1, 32, 32, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: maco_image(0), ValueError, "size=0"),
        (lambda: maco_image(8, batch=0), ValueError, "batch=0"),
        (lambda: maco_image(8, channels=0), ValueError, "channels=0"),
        (lambda: maco_image(8, batch=2, seed=[1]), ValueError, "seed has 1 values"),
        (lambda: maco_image(8, magnitude=torch.ones(8, 8)), ValueError, r"or \(8, 5\)"),
        (lambda: maco_image(8, magnitude=-torch.ones(8, 5)), ValueError, "magnitude has negative"),
        (lambda: maco_image(8, magnitude=torch.ones(8, 5) / 0), ValueError, "non-finite"),
        (lambda: spectrum_magnitude(torch.rand(3, 8, 8)), ValueError, r"expected \(N, C, H, W\)"),
        (lambda: spectrum_magnitude(torch.rand(1, 3, 8, 8) * 9), ValueError, "expected 0..1"),
        (lambda: spectrum_magnitude(torch.zeros(0, 3, 8, 8)), ValueError, "photos has shape"),
        (lambda: spectrum_magnitude([1]), TypeError, "photos is list"),
    ],
)
def test_bad_values(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_fewer_parameters_than_the_spectrum():
    assert maco_image(16)[0][0].numel() * 2 == illusion_image(16)[0][0].numel()
