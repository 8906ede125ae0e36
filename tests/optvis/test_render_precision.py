"""`precision="auto"` takes what a clock says is faster, for each network by itself."""

import time

import pytest
import torch
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet
from torch import nn

from captum_neuroinspect.optvis import render_illusions
from captum_neuroinspect.optvis._rendering.precision import bfloat16_pays

IMAGES = torch.rand(1, 3, 8, 8)


def _is_low():
    return torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("slow_when", [False, True])
def test_the_faster_precision(slow_when):
    seen = []

    def run(images):
        seen.append(_is_low())
        time.sleep(0.02 * (_is_low() is slow_when))
        return images.sum()

    assert bfloat16_pays(run, IMAGES) is not slow_when
    assert set(seen) == {False, True}


def test_no_gain_is_not_worth_the_digits():
    assert not bfloat16_pays(lambda images: (time.sleep(0.02), images.sum())[1], IMAGES)


class Sleepy(nn.Module):
    def __init__(self, network, slow_when):
        super().__init__()
        self.network, self.slow_when = network, slow_when

    def forward(self, images):
        time.sleep(0.02 * (_is_low() is self.slow_when))
        return self.network(images)


@pytest.mark.parametrize("slow_when", [False, True])
def test_each_network_by_itself(slow_when):
    encoder = FakeEncoder()
    encoder.network = Sleepy(encoder.network, not slow_when)
    found = render_illusions(
        Sleepy(TinyNet(), slow_when), [0], [1], encoder=encoder, class_names=CLASS_NAMES,
        size=16, n_steps=2, precision="auto", progress=False,
    )  # fmt: skip
    assert found.settings["precision"] == "auto"
    assert found.settings["low_precision"] == {"model": not slow_when, "encoder": slow_when}
