"""`precision="auto"` takes what a clock says is faster, for each network by itself.

The clock is the tests' own: it goes on only where a network says how long it takes.
"""

import pytest
import torch
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet, render
from torch import nn

from captum_neuroinspect.optvis._rendering import precision
from captum_neuroinspect.optvis._rendering.precision import bfloat16_pays

IMAGES = torch.rand(1, 3, 8, 8)


class Clock:
    """Stands still until somebody lets time pass."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def _is_low():
    return torch.is_autocast_enabled("cpu")


def _pays(seconds, low_seconds):
    """Whether bfloat16 pays where steps take so long; the precisions that were tried."""
    clock, seen = Clock(), []

    def run(images):
        seen.append(_is_low())
        times = low_seconds if _is_low() else seconds
        clock.now += times[min(seen.count(_is_low()), len(times)) - 1]
        return images.sum()

    return bfloat16_pays(run, IMAGES, clock=clock), seen


@pytest.mark.parametrize(
    ("seconds", "low_seconds", "pays"),
    [
        ([1.0], [0.5], True),
        ([0.5], [1.0], False),
        ([1.0], [1.0], False),  # no gain is not worth the digits
        ([1.0], [0.95], False),
        ([1.0], [0.89], True),
        # The first step warms up, and a machine may be busy: the best of several counts.
        ([1.0], [9.0, 0.5], True),
        ([1.0], [9.0, 9.0, 0.5], True),
        ([9.0, 0.5], [1.0], False),
    ],
)
def test_the_faster_precision(seconds, low_seconds, pays):
    found, seen = _pays(seconds, low_seconds)
    assert found is pays
    assert set(seen) == {False, True}
    assert seen.count(True) == seen.count(False)


class Timed(nn.Module):
    """Takes two units of the clock in one precision and one in the other."""

    def __init__(self, network, clock, slow_when):
        super().__init__()
        self.network, self.clock, self.slow_when = network, clock, slow_when

    def forward(self, images):
        self.clock.now += 1 + (_is_low() is self.slow_when)
        return self.network(images)


@pytest.mark.parametrize("slow_when", [False, True])
def test_each_network_by_itself(slow_when, monkeypatch):
    clock, encoder = Clock(), FakeEncoder()
    monkeypatch.setattr(precision, "CLOCK", clock)
    encoder.network = Timed(encoder.network, clock, not slow_when)
    found = render(
        Timed(TinyNet(), clock, slow_when), [0], [1], encoder=encoder, class_names=CLASS_NAMES,
        size=16, n_steps=2, precision="auto", progress=False,
    )  # fmt: skip
    assert found.settings["options"]["precision"] == "auto"
    assert found.settings["low_precision"] == {"model": not slow_when, "encoder": slow_when}
