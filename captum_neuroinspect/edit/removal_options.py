"""The settings of an edit by intervention, checked when they are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from captum_neuroinspect._core.checks import check_at_least, check_between, check_whole
from captum_neuroinspect.edit.edit_options import check_choice, set_number

Intervention = Literal["project", "shift", "swap"]


@dataclass(frozen=True)
class RemovalOptions:
    """Options of :func:`remove_cue`; its result records them.

    Attributes:
        intervention: what is done to the cue in training features.

            * ``"project"``: the cue has one value in all samples. The edited head does not look at
              it at all.
            * ``"shift"``: the target's are moved to where its mistakes are, the other classes' the
              other way; by neurons, by the difference of the class's mean from the others'.
            * ``"swap"``: the target's take the cue's values of other classes' samples, and these
              take the target's.
        share: of each class's weight on samples that were shifted or swapped, above 0 and up to 1;
            the others are as they were. ``"project"`` has no others.
        target_weight: of each target beside 1 for each other class, above 0. More than 1 gains for
            the class, at the cost of the mean over classes.
        anchor: how hard the head is held near the original (for ``"project"``: near the original
            that does not look at the cue), above 0; ``None``: 1 for ``"project"``, else 0.01. Also
            0.01 for a head without bias: its weights must learn what a bias would.
        n_draws: in how many pairs each sample is swapped.
        refit: whether the head is fitted after ``"project"``. ``False``: it only stops looking at
            the cue, in closed form, and all other evidence counts as before. That is for heads of
            many classes with training samples of few of them, which a fit would favour, and needs
            no memory beyond a few copies of the head.

    Raises:
        TypeError: for values of other kinds.
        ValueError: for a number out of range, another text, or another intervention than
            ``"project"`` without a fit.

    Examples::

        >>> RemovalOptions("swap", n_draws=2).share
        0.5
    """

    intervention: Intervention = "project"
    share: float = 0.5
    target_weight: float = 1.0
    anchor: float | None = None
    n_draws: int = 4
    refit: bool = True

    def __post_init__(self) -> None:
        check_choice("intervention", self.intervention, get_args(Intervention))
        for name in ("share", "target_weight", "anchor"):
            if getattr(self, name) is not None or name != "anchor":
                set_number(self, name, may_be_zero=False)
        check_between("share", self.share, 0, 1)
        check_whole("n_draws", self.n_draws)
        check_at_least("n_draws", self.n_draws, 1)
        if not isinstance(self.refit, bool):
            raise TypeError(f"refit is {self.refit!r}, expected True or False")
        if not self.refit and self.intervention != "project":
            raise ValueError(
                f"intervention={self.intervention!r} with refit=False, expected 'project': "
                "the others are samples to fit to"
            )

    def anchor_of(self, has_bias: bool) -> float:
        """The anchor for a head with or without bias."""
        if self.anchor is not None:
            return self.anchor
        return 1.0 if self.intervention == "project" and has_bias else 1e-2
