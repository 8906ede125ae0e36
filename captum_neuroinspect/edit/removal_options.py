"""The settings of an edit by intervention, checked when they are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from captum_neuroinspect._core.checks import check_at_least, check_between, check_whole
from captum_neuroinspect.edit.edit_options import check_choice, set_number

Intervention = Literal["shift", "swap", "project"]


@dataclass(frozen=True)
class RemovalOptions:
    """Options of :func:`remove_cue`; its result records them.

    Attributes:
        intervention: what is done to the cue in training features.

            * ``"shift"``: the target's are moved to where its mistakes are, the other classes' the
              other way; by neurons, by the difference of the class's mean from the others'.
            * ``"swap"``: the target's take the cue's values of other classes' samples, and these
              take the target's.
            * ``"project"``: the cue has one value in all samples. The edited head does not look at
              it at all.
        share: of each class's weight on such samples, above 0 and up to 1; the others are as they
            were. ``"project"`` has no others.
        target_weight: of each target beside 1 for each other class, above 0.
        anchor: how hard the head is held near the original, above 0.
        n_draws: in how many pairs each sample is swapped.

    Raises:
        TypeError: for values of other kinds.
        ValueError: for a number out of range, or another text.

    Examples::

        >>> RemovalOptions("swap", n_draws=2).share
        0.5
    """

    intervention: Intervention = "shift"
    share: float = 0.5
    target_weight: float = 1.0
    anchor: float = 1e-2
    n_draws: int = 4

    def __post_init__(self) -> None:
        check_choice("intervention", self.intervention, get_args(Intervention))
        for name in ("share", "target_weight", "anchor"):
            set_number(self, name, may_be_zero=False)
        check_between("share", self.share, 0, 1)
        check_whole("n_draws", self.n_draws)
        check_at_least("n_draws", self.n_draws, 1)
