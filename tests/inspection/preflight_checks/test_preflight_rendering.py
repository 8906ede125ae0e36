"""How long rendering takes is worked out from a clock that the tests move."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import ConvNet

from captum_neuroinspect.inspection.preflight_checks.rendering import (
    RenderingPlan,
    about,
    seconds_of,
)
from captum_neuroinspect.optvis import render_illusions


def test_the_first_step_which_prepares_much_does_not_count() -> None:
    moments = iter([10.0, 110.0, 113.0, 118.0])  # when each step begins
    net = ConvNet().eval()

    def render(**options: Any) -> Any:
        return render_illusions(net, [0, 1], [0, 1], size=12, **options)

    # Steps two and three took 3 and 5 seconds for two pictures.
    found = seconds_of(6, 50, 2, render, lambda: next(moments))
    assert found == pytest.approx((3 + 5) / 2 * 50 * 6 / 2)
    assert next(moments, None) is None


def test_what_is_timed_is_the_renderer_itself() -> None:
    """With stamps among the movements the images stay those that they would be."""
    net, seen = ConvNet().eval(), []

    def render(transforms: Any, **options: Any) -> None:
        with_stamps = render_illusions(net, [0], [0], size=12, transforms=transforms, **options)
        plain = render_illusions(net, [0], [0], size=12, **options)
        seen.append(torch.equal(with_stamps.images, plain.images))

    seconds_of(1, 1, 1, render, lambda: 0.0)
    assert seen == [True]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "a few seconds"), (9.9, "a few seconds"), (11, "about 10 seconds"),
     (89, "about 90 seconds"), (91, "about 2 minutes"), (3600, "about 60 minutes"),
     (5400, "about 1.5 hours"), (36000, "about 10.0 hours")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_plans_as_text() -> None:
    assert str(RenderingPlan(1, 0, 9)) == "illusions: 1 picture of 9 steps"
    assert str(RenderingPlan(4, 0, 9, 240.0)) == (
        "illusions: 4 pictures of 9 steps, about 4 minutes on this machine"
    )
    assert str(RenderingPlan(4, 2, 9, 60.0)) == (
        "illusions: 4 pictures of 9 steps, 2 kept from before, about 60 seconds on this machine"
    )
    assert str(RenderingPlan(4, 4, 9)) == "illusions: 4 pictures of 9 steps, kept from before"
