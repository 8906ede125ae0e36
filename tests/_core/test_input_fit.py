from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from captum_neuroinspect import NeuroInspect, render_illusions
from captum_neuroinspect._core.input_fit import told_what_fits
from captum_neuroinspect.optvis import IllusionOptions


def _net(n_channels: int) -> nn.Module:
    pooled = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(nn.Conv2d(n_channels, 8, 3), pooled, nn.Flatten(), nn.Linear(8, 4)).eval()


def test_a_model_of_one_channel_says_what_to_do() -> None:
    message = r"takes images of 1 channel, but is given 3: .*Grayscale\(\).*channels=1"
    with pytest.raises(ValueError, match=message):
        NeuroInspect(_net(1), image_size=28, progress=False)
    with pytest.raises(ValueError, match=message):
        render_illusions(_net(1), [1], [2], size=28, n_steps=2, progress=False)
    with pytest.raises(ValueError, match="takes images of 5 channels, but is given 3"):
        NeuroInspect(_net(5), progress=False)


def test_the_size_error_of_transformers_names_the_option() -> None:
    def of_transformers() -> None:
        raise ValueError("Input image size (96*96) doesn't match model (128*128).")

    with (
        pytest.raises(ValueError, match=r"does not take images of 96 x 96 pixels .*--size"),
        told_what_fits(nn.Identity(), 3, (96, 96)),
    ):
        of_transformers()


def test_what_it_says_works() -> None:
    found = render_illusions(
        _net(1), [1], [2], size=28, n_steps=2, progress=False, options=IllusionOptions(channels=1)
    )
    assert found.images.shape == (1, 1, 28, 28)
    session = NeuroInspect(_net(1), preprocess=v2.Grayscale(), progress=False)
    features = session.load((torch.rand(12, 1, 28, 28), torch.arange(12) % 4))
    assert len(features) == 12
    assert session.model.image_size == 28


def test_a_model_of_one_size_says_so() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).eval()
    message = r"does not take images of 224 x 224 pixels and 3 channels .*image_size="
    with pytest.raises(ValueError, match=message):
        NeuroInspect(net, progress=False)
    assert NeuroInspect(net, image_size=8, progress=False).head is net[1]


@pytest.mark.parametrize(
    "error",
    [KeyError("shape"), torch.OutOfMemoryError("size"), RuntimeError("no such device")],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, told_what_fits(_net(3), 3, (8, 8)):
        raise error
    assert found.value is error
