"""What belongs to one way of making an edit: its settings, and how it went."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from captum_neuroinspect._core.checks import check_at_least, check_between, check_whole
from captum_neuroinspect.edit._epoch_choice import EpochRecord
from captum_neuroinspect.edit.edit_options import EditSettings
from captum_neuroinspect.edit.removal_options import RemovalOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PlainRatio = float | tuple[float, ...] | dict[int, float | tuple[float, ...]]

_MOST_SAMPLES = 2**53  # a float counts no further
_COLOUR, _KEPT, _LOSS = "#1f77b4", "#9aa5b1", "#d1495b"


class HeldOut(NamedTuple):
    """An accuracy on samples kept from the fit, before and after, and of how many samples."""

    name: str
    key: str  # the same as a name in a table of experiments
    before: float
    after: float
    n_samples: int | None = None


class Table(NamedTuple):
    """Rows with a title; the first row names the columns."""

    title: str
    rows: tuple[tuple[str, ...], ...]


class MethodRecord(ABC):
    """How the head of a :class:`HeadEdit` came about."""

    @abstractmethod
    def describe(self, n_classes: int) -> str:
        """In the title of a summary of a head with so many classes."""

    @abstractmethod
    def facts(self) -> dict[str, str]:
        """Settings worth a line in a report."""

    def held_out(self) -> tuple[HeldOut, ...]:
        """What was kept from the fit, where something was."""
        return ()

    def table(self) -> Table | None:
        """What competed, if something did."""
        return None

    def draw(self, axes: Axes) -> None:
        """The course as a picture."""
        axes.set(title="training", xlabel="epoch")
        axes.text(0.5, 0.5, "no epochs", ha="center", transform=axes.transAxes)


@dataclass(frozen=True)
class ComparisonRecord(MethodRecord):
    """Of :func:`compare_heads`.

    Attributes:
        how: in words, how the second head came about.
    """

    how: str = "two heads compared"

    def describe(self, n_classes: int) -> str:
        return self.how

    def facts(self) -> dict[str, str]:
        return {"method": self.how}


@dataclass(frozen=True)
class ConstraintRecord(MethodRecord):
    """Of :func:`edit_head` and :func:`edit_through_images`.

    Attributes:
        settings: of the training.
        ratio: ``o``: a number, one a neuron, or one of these for each of many classes.
        history: one record an epoch.
        best_epoch: the epoch whose head was kept; 0: the original itself.

    Raises:
        ValueError: when the best epoch is none of the history.
    """

    settings: EditSettings
    ratio: PlainRatio = 1.0
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0

    def __post_init__(self) -> None:
        check_between("best_epoch", self.best_epoch, 0, len(self.history))

    def describe(self, n_classes: int) -> str:
        settings = self.settings
        return f"scope {settings.scope}, strength {settings.strength:g}, epoch {self.best_epoch}"

    def facts(self) -> dict[str, str]:
        settings = self.settings
        return {
            "method": "equation (8)",
            "scope": settings.scope,
            "strength": f"{settings.strength:g}",
            "seed": str(settings.seed),
        }

    def draw(self, axes: Axes) -> None:
        if not self.history:
            super().draw(axes)
            return
        epochs = [record.epoch for record in self.history]
        axes.plot(epochs, [r.accuracy for r in self.history], color=_COLOUR, label="accuracy")
        targets = [r.target_accuracy for r in self.history]
        axes.plot(epochs, targets, color=_COLOUR, linestyle="--", label="target's accuracy")
        axes.axvline(self.best_epoch, color=_KEPT, linestyle=":", label="kept")
        axes.set(title="training", xlabel="epoch")
        axes.set(ylim=(0, 1.02), ylabel="on the validation set")
        axes.legend(loc="lower right")
        losses = axes.twinx()
        losses.plot(epochs, [r.loss for r in self.history], color=_LOSS)
        losses.set_ylabel("loss", color=_LOSS)


@dataclass(frozen=True)
class RemovalRecord(MethodRecord):
    """Of :func:`remove_cue`.

    Attributes:
        options: of the interventions and the fit.
        cue: what was removed: ``"direction"`` or so many neurons.
        seed: drew the pairs that were swapped.
        raised_before: by how much the cue raised the targets' logits above the other classes', on
            average: one step along the direction, or the difference of the class's mean from the
            others' in the neurons.
        raised_after: the same of the edited head.
        n_located: how many mistakes located the direction, where that is known;
            ``HeadEdit.seen`` has their names.

    Raises:
        TypeError: when ``seed`` or ``n_located`` is no whole number.
        ValueError: when a logit is not finite, or a count is below 0.
    """

    options: RemovalOptions
    cue: str
    seed: int
    raised_before: float
    raised_after: float
    n_located: int | None = None

    def __post_init__(self) -> None:
        check_whole("seed", self.seed)
        if self.n_located is not None:
            check_whole("n_located", self.n_located)
            check_between("n_located", self.n_located, 0, _MOST_SAMPLES)
        for name in ("raised_before", "raised_after"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}, expected a finite number")

    def describe(self, n_classes: int) -> str:
        return f"cue removed, {self.options.intervention} of {self.cue}"

    def facts(self) -> dict[str, str]:
        return {
            "method": f"cue removed by {self.options.intervention}"
            + ("" if self.options.refit else ", nothing fitted"),
            "learned from": "training samples alone: no deployment sample is trained on",
            "cue": self.cue
            if self.n_located is None
            else f"{self.cue} located by {self.n_located:,} mistakes",
            "the cue raises the class by": f"{self.raised_before:.2f} -> {self.raised_after:.2f}",
            "seed": str(self.seed),
        }


@dataclass(frozen=True)
class HeldOutAccuracy:
    """What held-out samples say of one of the two heads between which :func:`mend` chooses.

    Attributes:
        target: accuracy on the target's deployment samples, 0..1.
        mean: mean of that and of the other classes' accuracies on validation and deployment
            samples.

    Raises:
        ValueError: for a share outside 0..1.
    """

    target: float
    mean: float

    def __post_init__(self) -> None:
        check_between("target", self.target, 0, 1)
        check_between("mean", self.mean, 0, 1)


@dataclass(frozen=True)
class MendRecord(MethodRecord):
    """Of :func:`mend`: the two heads that competed, and which was chosen.

    The held-out samples were not fitted to, but they choose; each is judged by a head that was
    made without it.

    Attributes:
        target_weight: of the target, beside 1 for each other class.
        max_cost: how much the mean may fall.
        seed: dealt out the held-out parts.
        n_target: deployment samples of the target.
        original: the original head; ``None`` where too few samples of the target were there.
        fitted: heads that were found and fitted in the same way; likewise.
        objection: why the original head is returned; ``None``: the fitted one is.
        n_fitted_classes: rows of a large head that were fitted; ``None``: all.

    Raises:
        TypeError: when a whole number is something else.
        ValueError: for a count below 0, or a fitted head that nothing judged.
    """

    target_weight: float
    max_cost: float
    seed: int
    n_target: int
    original: HeldOutAccuracy | None = None
    fitted: HeldOutAccuracy | None = None
    objection: str | None = None
    n_fitted_classes: int | None = None

    def __post_init__(self) -> None:
        check_whole("n_target", self.n_target)
        check_between("n_target", self.n_target, 0, _MOST_SAMPLES)
        if self.n_fitted_classes is not None:
            check_whole("n_fitted_classes", self.n_fitted_classes)
            check_at_least("n_fitted_classes", self.n_fitted_classes, 2)
        if self.objection is None and (self.original is None or self.fitted is None):
            raise ValueError("objection is None, expected why a head that nothing judged is kept")

    @property
    def chosen(self) -> HeldOutAccuracy | None:
        """Of the head that is returned."""
        return self.fitted if self.objection is None else self.original

    def describe(self, n_classes: int) -> str:
        if self.n_fitted_classes is None:
            return "mend"
        return f"mend, fitted on {self.n_fitted_classes:,} of {n_classes:,} classes"

    def facts(self) -> dict[str, str]:
        return {
            "method": "mend",
            "learned from": "training samples and labelled deployment samples",
            "target weight": f"{self.target_weight:g}",
            "seed": str(self.seed),
        }

    def held_out(self) -> tuple[HeldOut, ...]:
        before, after = self.original, self.chosen
        if before is None or after is None:
            return ()
        return (
            HeldOut(
                "target, kept from the fit", "target", before.target, after.target, self.n_target
            ),
            HeldOut("mean over classes, kept from the fit", "mean", before.mean, after.mean),
        )

    def table(self) -> Table | None:
        if self.original is None or self.fitted is None:
            return None
        rows = [("head", "target, kept from the fit", "mean over classes, kept from it", "")]
        for name, one in (("original", self.original), ("fitted", self.fitted)):
            is_chosen = (name == "fitted") == (self.objection is None)
            chosen = "chosen" if is_chosen else ""
            rows.append((name, f"{one.target:.3f}", f"{one.mean:.3f}", chosen))
        title = f"Candidates, with a cap of {self.max_cost:g} on the cost in the mean:"
        return Table(title, tuple(rows))

    def draw(self, axes: Axes) -> None:
        pair = [one for one in (self.original, self.fitted) if one is not None]
        for name, label, style in (("mean", "mean over classes", "-"), ("target", "target", "--")):
            values = [getattr(one, name) for one in pair]
            axes.plot(range(len(values)), values, f"o{style}", color=_COLOUR, label=label)
        axes.set_xticks(range(len(pair)), ["original", "fitted"][: len(pair)])
        axes.set(title="candidates", ylim=(0, 1.02), ylabel="accuracy on samples kept from the fit")
        axes.legend(loc="lower right")
