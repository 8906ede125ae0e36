"""The settings of an edit by the paper's constraint, checked when they are put together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.ratios import Link

Scope = Literal["head", "class", "neurons"]
Penalty = Literal["ratio", "mean_ratio", "mean_ratio_of_classes", "con", "coefficient_norm"]
RuleAt = Literal["class", "validation"]
Keep = Literal["no_worse", "best_epoch"]
Select = Literal["accuracy", "min_class", "group", "target"]
Schedule = Literal["constant", "cosine"]
_PAPER_EPOCHS = 20


@dataclass(frozen=True)
class Anchor:
    """What holds a head near the original while it is trained.

    Attributes:
        to: ``"predictions"`` adds the KL divergence from the original's predictions on the
            batch, ``"weights"`` the squared distance to its weights.
        weight: of that, 0 or more.

    Raises:
        TypeError: when ``weight`` is no number.
        ValueError: for another text, or a weight below 0.
    """

    to: Literal["predictions", "weights"] = "predictions"
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("anchor.to", self.to, ("predictions", "weights"))
        set_number(self, "weight", may_be_zero=True)


@dataclass(frozen=True)
class Training:
    """How the descent goes through the samples.

    Attributes:
        batch_size: samples a step; the norm in equation (8) runs over a batch.
        schedule: ``"constant"``, or ``"cosine"``: ``lr`` falls to 0 over the epochs.
        warmup: epochs in which ``lr`` rises from 0, less than ``n_epochs``.
        patience: epochs without a better result on validation before stopping.
        weight_decay: Adam's pull of everything that may change towards zero, 0 or more: added to
            the gradient, as ``torch.optim.Adam`` does.

    Raises:
        TypeError: when a whole number is something else.
        ValueError: for a number out of range, or another schedule.
    """

    batch_size: int = 16
    schedule: Schedule = "constant"
    warmup: float = 0.0
    patience: int = 5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check_count("batch_size", self.batch_size)
        _check_count("patience", self.patience)
        check_choice("schedule", self.schedule, get_args(Schedule))
        set_number(self, "warmup", may_be_zero=True)
        set_number(self, "weight_decay", may_be_zero=True)


@dataclass(frozen=True)
class EditOptions:
    """Options of :func:`edit_head` that few callers set; its result records them.

    ``"paper"`` stands for the paper's edit of planted cues, as its authors' code runs it:
    ``EditOptions(rule_at="validation", keep="best_epoch", training=Training(patience=20))``,
    with the defaults of :func:`edit_head`. ``docs/paper.md`` has those of its other
    experiments, and says where the paper, the code and the defaults here differ.

    Attributes:
        penalty: ``"ratio"``: the norm of r - o over the batch, equation (8);
            ``"mean_ratio"``: ``|mean of r - o|`` over the batch, class by class;
            ``"mean_ratio_of_classes"``: over the batch and all classes that share the neurons, as
            the authors have it for Waterbirds; ``"con"``: the norm over the neurons of
            ``relu(W_c * z + b_c)``, mean over the batch (CON, equation 9, as the authors have
            it); ``"coefficient_norm"``: the norm of the class's own coefficients of the neurons.
            For the last two ``ratio`` does not matter. Ratios above 22,000 enter by the tangent
            of the exponential, so that none overflows.
        anchor: hold the head near the original; ``None``: nothing does.
        mistake_weight: weight of ``mistakes`` beside the training data, above 0.
        max_cost: loss of accuracy on all other classes together that ``select="target"`` puts
            up with, 0 or more.
        link: ``"softmax"``, or ``"sigmoid"`` for outputs that are decisions of their own: a
            sigmoid takes the place of the softmax in the ratio, and binary cross entropy trains.
            Labels are multi-hot ``(N, C)``; or the head has one output and labels are 0 or 1,
            then ``target`` is that class.
        training: how the descent goes through the samples.
        rule_at: where ``ratio="rule"`` looks: at the mean training features of the ``"class"``,
            or of all of ``"validation"``, as the authors do.
        keep: ``"no_worse"``: the best epoch, the first of equals, and the original if all are
            worse; ``"best_epoch"``: the best epoch, the last of equals, as the authors do, also
            if the original is better.

    Raises:
        TypeError: for values of other kinds.
        ValueError: for a number out of range, or another text.

    Examples::

        >>> options = EditOptions(anchor=Anchor("weights"), training=Training(batch_size=128))
        >>> options.training.patience
        5
        >>> EditOptions.of("paper").keep
        'best_epoch'
    """

    penalty: Penalty = "ratio"
    anchor: Anchor | None = None
    mistake_weight: float = 0.3
    max_cost: float = 0.005
    link: Link = "softmax"
    training: Training = field(default_factory=Training)
    rule_at: RuleAt = "class"
    keep: Keep = "no_worse"

    def __post_init__(self) -> None:
        check_choice("penalty", self.penalty, get_args(Penalty))
        check_choice("rule_at", self.rule_at, get_args(RuleAt))
        check_choice("keep", self.keep, get_args(Keep))
        check_choice("link", self.link, get_args(Link))
        if not (self.anchor is None or isinstance(self.anchor, Anchor)):
            raise TypeError(f"anchor is {self.anchor!r}, expected an Anchor or None")
        if not isinstance(self.training, Training):
            raise TypeError(f"training is {self.training!r}, expected a Training")
        set_number(self, "mistake_weight", may_be_zero=False)
        set_number(self, "max_cost", may_be_zero=True)

    @classmethod
    def of(cls, options: Options) -> EditOptions:
        """The options that an argument ``options`` means; ``None`` gives the defaults.

        Raises:
            TypeError: when it is something else.
            ValueError: for another text.
        """
        if isinstance(options, EditOptions):
            return options
        if not (options is None or isinstance(options, str)):
            raise TypeError(f"options is {type(options).__name__}, expected EditOptions or 'paper'")
        if options not in (None, "paper"):
            raise ValueError(f"options={options!r}, expected EditOptions or 'paper'")
        if options is None:
            return cls()
        never = Training(patience=_PAPER_EPOCHS)
        return cls(rule_at="validation", keep="best_epoch", training=never)


# What an argument `options` may be; None: the defaults.
Options = EditOptions | Literal["paper"] | None


@dataclass(frozen=True)
class EditSettings:
    """All settings of :func:`edit_head` that need no data, as its result records them.

    Attributes:
        strength: lambda3, 0 or more.
        scope: what may change: the whole ``"head"``, the targets' rows and biases
            (``"class"``), or the targets' coefficients of the neurons (``"neurons"``).
        select: what the best epoch is best in.
        n_epochs: upper bound on passes over the training samples.
        lr: Adam's step size.
        seed: draws the order of the samples.
        options: the others.

    Raises:
        TypeError: for values of other kinds.
        ValueError: for a number out of range, or another text.

    Examples::

        >>> EditSettings(strength=0.1, n_epochs=5).options.penalty
        'ratio'
    """

    strength: float = 1.0
    scope: Scope = "head"
    select: Select = "accuracy"
    n_epochs: int = 20
    lr: float = 1e-3
    seed: int = 0
    options: EditOptions = field(default_factory=EditOptions)

    def __post_init__(self) -> None:
        set_number(self, "strength", may_be_zero=True)
        set_number(self, "lr", may_be_zero=False)
        check_choice("scope", self.scope, get_args(Scope))
        check_choice("select", self.select, get_args(Select))
        _check_count("n_epochs", self.n_epochs)
        check_whole("seed", self.seed)
        if not isinstance(self.options, EditOptions):
            raise TypeError(f"options is {self.options!r}, expected EditOptions")
        warmup = self.options.training.warmup
        if warmup >= self.n_epochs:
            raise ValueError(f"warmup={warmup:g}, expected less than n_epochs={self.n_epochs}")

    def rate(self, epoch: int, step: int, n_steps: int) -> float:
        """Adam's step size in one step of an epoch (counted from 1 and from 0).

        It rises in a straight line for ``warmup`` epochs, then stays or falls to 0 in
        half a cosine.

        Examples::

            >>> training = Training(warmup=1, schedule="cosine")
            >>> settings = EditSettings(lr=1.0, n_epochs=3, options=EditOptions(training=training))
            >>> [round(settings.rate(e, s, 2), 3) for e in (1, 2, 3) for s in (0, 1)]
            [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        training = self.options.training
        passed = epoch - 1 + step / n_steps
        if passed < training.warmup:
            return self.lr * min(1.0, (passed + 1 / n_steps) / training.warmup)
        if training.schedule == "constant":
            return self.lr
        share = (passed - training.warmup) / (self.n_epochs - training.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * share))


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuse what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r}, expected one of {choices}")


def _check_count(name: str, value: Any) -> None:
    check_whole(name, value)
    check_at_least(name, value, 1)


def set_number(options: object, name: str, *, may_be_zero: bool) -> None:
    """Check a number of a frozen dataclass, and make it a plain one: files hold no NumPy's."""
    value: Any = getattr(options, name)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, str):
        raise TypeError(f"{name}={value!r}, expected a number")
    if not (math.isfinite(number) and (number > 0 or (may_be_zero and number == 0))):
        expected = "a finite number, 0 or more" if may_be_zero else "a positive number"
        raise ValueError(f"{name}={value}, expected {expected}")
    object.__setattr__(options, name, number)
