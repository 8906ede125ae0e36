"""How much there is to render, and how long it takes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_neuroinspect.optvis import illusion_transforms

Clock = Callable[[], float]
_N_MEASURED = 2  # steps, after a first one that also finds memory and kernels
_N_STEPS = _N_MEASURED + 2  # the beginning of the last one is the end of those measured


@dataclass(frozen=True)
class RenderingPlan:
    """Illusions that an inspection makes.

    Attributes:
        n_pictures: in all.
        n_kept: of these, in the work folder already.
        n_steps: optimisation steps of each.
        seconds: that the others take on this machine, or ``None`` where that was not measured.
    """

    n_pictures: int
    n_kept: int
    n_steps: int
    seconds: float | None = None

    def __str__(self) -> str:
        plural = "" if self.n_pictures == 1 else "s"
        text = f"illusions: {self.n_pictures} picture{plural} of {self.n_steps} steps"
        if self.n_kept == self.n_pictures:
            return f"{text}, kept from before"
        if self.n_kept:
            text += f", {self.n_kept} kept from before"
        return text if self.seconds is None else f"{text}, {about(self.seconds)} on this machine"


class Stopwatch:
    """Movements of images that note when each of four steps begins.

    Given as ``transforms=`` of :func:`render_illusions`, which makes them for each batch.

    Args:
        clock: seconds from any start.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._moments: list[float] = []

    def __call__(self, seeds: Sequence[int], n_steps: int) -> list[Callable[[Tensor], Tensor]]:
        return [self._noted, *illusion_transforms(seeds, n_steps)]

    def _noted(self, images: Tensor) -> Tensor:
        self._moments.append(self._clock())
        return images

    @property
    def seconds_a_step(self) -> float:
        """Of a batch: the mean of the second and the third step."""
        first, last = self._moments[-_N_MEASURED - 1], self._moments[-1]
        return max(last - first, 0.0) / _N_MEASURED


def seconds_of(
    n_pictures: int,
    n_steps: int,
    n_together: int,
    render: Callable[..., Any],
    clock: Clock,
) -> float:
    """About how long so many pictures take, from steps of one batch.

    Args:
        n_pictures: to render.
        n_steps: of each.
        n_together: pictures in the batch that ``render`` makes.
        render: :func:`render_illusions` of the batch, with all but ``n_steps``,
            ``transforms`` and ``progress``.
        clock: seconds from any start.

    Examples::

        >>> def steps_of_three_seconds(transforms, n_steps, **options):
        ...     for _ in range(n_steps):
        ...         now[0] += 3.0
        ...         transforms([0, 1], n_steps)[0](None)
        >>> now = [0.0]
        >>> seconds_of(4, 100, 2, steps_of_three_seconds, lambda: now[0])
        600.0
    """
    watch = Stopwatch(clock)
    render(transforms=watch, n_steps=_N_STEPS, progress=False)
    return watch.seconds_a_step * n_steps * n_pictures / n_together


def about(seconds: float) -> str:
    """A duration as people say it.

    Examples::

        >>> about(3), about(52), about(250), about(8000)
        ('a few seconds', 'about 50 seconds', 'about 4 minutes', 'about 2.2 hours')
    """
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds"
    if seconds < 90 * 60:
        return f"about {max(seconds / 60, 2):.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
