"""Options of a rendering that few callers set, checked when they are put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from captum_neuroinspect._core.checks import as_size, check_at_least, check_between, check_whole
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.encoders.prompts import DEFAULT_TEMPLATES, check_templates
from captum_neuroinspect.optvis.contrast import LARGEST_CONTRAST, NATURAL_CONTRAST
from captum_neuroinspect.optvis.units.activation import Token, check_token

Precision = Literal["float32", "bfloat16", "auto"]
_PRECISIONS = ("float32", "bfloat16", "auto")
# What masks are made of.
MaskedBy = Literal["before_rectifier", "activation"]
_MASKED_BY = ("before_rectifier", "activation")
_GAMMA, _PAPER_GAMMA, _PAPER_LR = 0.25, 0.5, 9e-3
_STEPS, _PAPER_STEPS = 150, 450
# As many as the authors' code has, in words of our own.
_SHOWN_AS = (
    *("a {}", "the {}", "one {}", "several {}", "a piece of a {}", "a small {}", "a big {}"),
    *("a typical {}", "an unusual {}", "a {} from near by", "a {} far away", "a {} in daylight"),
    *("a dark {}", "a {} that fills the frame", "an ordinary {}", "a detail of the {}"),
)
_PAPER_TEMPLATES = tuple(
    f"{kind} of {shown}." for kind in ("a photograph", "an image") for shown in _SHOWN_AS
)


@dataclass(frozen=True)
class Guidance:
    """What the encoder of :func:`render_illusions` compares the images with, and how often.

    Attributes:
        templates: prompts with a ``{}`` for the name of the class;
            :func:`~captum_neuroinspect.encoders.clip_templates` gives CLIP's own.
        prompts: texts that replace the names of the classes: one for each image, or one for
            all. Then neither classes nor class names are needed.
        negative: texts of what should be in no image, such as ``"a watermark"``. With B the
            largest of their cosines to the image, what is maximised is multiplied by
            ``exp(-negative_weight * max(0, B))``, or divided by it where it is below 0.
        negative_weight: 0 turns ``negative`` off; at 4 it pulls as hard as the class does
            where its ``S + eps`` is 1/4.
        eps: added to the similarity S.
        encoder_every: the encoder sees the images in every so many steps; in between its last
            similarities are used. A larger number is faster, and the class is recognised in
            fewer images.

    Raises:
        TypeError: for texts that are no strings, or an ``encoder_every`` that is no whole number.
        ValueError: for a template without ``{}``, or a number out of range.

    Examples::

        >>> Guidance(negative=["a watermark"], encoder_every=3).negative
        ('a watermark',)
    """

    templates: Sequence[str] = DEFAULT_TEMPLATES
    prompts: str | Sequence[str] | None = None
    negative: Sequence[str] = ()
    negative_weight: float = 4.0
    eps: float = 0.05
    encoder_every: int = 1

    def __post_init__(self) -> None:
        _set(self, "templates", tuple(check_templates(self.templates)))
        if self.prompts is not None and not isinstance(self.prompts, str):
            _set(self, "prompts", tuple(check_texts("prompts", self.prompts)))
        negative = self.negative
        is_given = isinstance(negative, str) or len(_as_tuple("negative", negative))
        _set(self, "negative", tuple(check_texts("negative", negative)) if is_given else ())
        _check_count("encoder_every", self.encoder_every)
        check_at_least("negative_weight", self.negative_weight, 0)
        check_at_least("eps", self.eps, 0)


@dataclass(frozen=True, eq=False)
class IllusionOptions:
    """Options of :func:`render_illusions` that few callers set.

    ``settings["options"]`` of the :class:`Illusions` records them.

    Attributes:
        guidance: what the encoder does.
        token: for a ``layer`` of tokens ``(N, T, D)``, what represents an image: the
            ``"mean"`` over tokens, ``"cls"`` (the first) or a token's number.
        channels: of the images that the model takes. An encoder sees one channel as grey, and
            takes 1 or 3.
        init: images to start from, in 0..1, one ``(channels, height, width)`` for all or
            ``(N, channels, height, width)``; only for ``param="fft"``.
        lr: first learning rate; it falls to 0.12 of it along a cosine. The paper has 9e-3,
            which leaves images pale unless steps are many. Phases (``"maco"``) are
            radians and take more: 0.2 where steps are few.
        optimizer: a function of the parameters that gives an optimizer, as Lucent has it,
            with a step size of its own that stays; ``None``: AdamW as in the paper.
        batch_size: images optimised together, at most.
        precision: ``"bfloat16"`` runs both networks under autocast; ``"auto"`` those for which
            a few passes say that it is faster on this device (it can be several times slower).
            Illusions are then only the same on machines that decide alike;
            ``settings["low_precision"]`` of the result says how.
        coarse: share of the steps, 0..1, at the beginning, in which the networks see the images
            at half the size, for a quarter of the cost; the class is recognised in fewer
            images. For models that take any size.
        masked_by: what masks show of a neuron: its ``"activation"``, as in the paper; or what
            goes into the rectifier that gives it, which also tells places apart where a ReLU6
            is saturated. Of maps of other kinds it changes nothing.
        contrast: standard deviation of an image's values, 0..0.3, that finished images which
            started from noise have at least, and 1.25 times of it at most
            (:func:`with_contrast`); photos have 0.2. 0 leaves them as they are, as the paper
            does. Not for ``init`` or a ``param`` of one's own.
        decay_power: how much weaker high frequencies start and learn, for ``param="fft"``; more
            is less grainy. Lucent's 1 makes a spectrum flatter than that of photos.
        published: the spectrum and the first noise of the authors' code in place of
            ``decay_power``'s, for ``param="fft"``; and its magnifications, 0.6 to 1.2, where
            no transforms are given.
        snapshots: steps after which the images are kept, rising numbers from 1 to the number of
            steps. Where an interrupt came first, the last images are repeated.

    Raises:
        TypeError: when a whole number is something else, or the optimizer no function.
        ValueError: for a number out of range, an unknown ``precision`` or ``token``, or
            ``snapshots`` that do not rise.

    Examples::

        >>> IllusionOptions(batch_size=4, guidance=Guidance(prompts="a red dot")).lr
        0.08
        >>> IllusionOptions.of("paper").lr
        0.009
    """

    guidance: Guidance = field(default_factory=Guidance)
    token: Token = "mean"
    channels: int = 3
    init: Tensor | None = None
    lr: float = 0.08
    optimizer: Callable[[list[Tensor]], Optimizer] | None = None
    batch_size: int = 8
    precision: Precision = "float32"
    coarse: float = 0.0
    masked_by: MaskedBy = "before_rectifier"
    contrast: float = NATURAL_CONTRAST
    decay_power: float = 1.2
    published: bool = False
    snapshots: Sequence[int] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.guidance, Guidance):
            raise TypeError(f"guidance is {type(self.guidance).__name__}, expected a Guidance")
        check_token(self.token)
        for name in ("batch_size", "channels"):
            _check_count(name, getattr(self, name))
        check_between("coarse", self.coarse, 0, 1)
        check_between("contrast", self.contrast, 0, LARGEST_CONTRAST)
        check_at_least("decay_power", self.decay_power, 0)
        if not self.lr > 0:
            raise ValueError(f"lr={self.lr}, expected a positive number")
        if self.optimizer is not None and not callable(self.optimizer):
            raise TypeError(
                f"optimizer is {type(self.optimizer).__name__}, expected a function of parameters"
            )
        if self.precision not in _PRECISIONS:
            raise ValueError(f"precision={self.precision!r}, expected one of {_PRECISIONS}")
        if self.masked_by not in _MASKED_BY:
            raise ValueError(f"masked_by={self.masked_by!r}, expected one of {_MASKED_BY}")
        _set(self, "snapshots", _as_tuple("snapshots", self.snapshots))
        for step in self.snapshots:
            check_whole("snapshots", step)
        if any(b <= a for a, b in pairwise((0, *self.snapshots))):
            raise ValueError(f"snapshots={self.snapshots}, expected rising steps from 1")

    @classmethod
    def of(cls, options: Options) -> IllusionOptions:
        """The options that an argument ``options`` means; ``None`` gives the defaults.

        Raises:
            TypeError: when it is something else.
            ValueError: for another text.
        """
        if options is None or isinstance(options, IllusionOptions):
            return options or cls()
        if not isinstance(options, str):
            raise TypeError(
                f"options is {type(options).__name__}, expected IllusionOptions or 'paper'"
            )
        if options != "paper":
            raise ValueError(f"options={options!r}, expected IllusionOptions or 'paper'")
        guidance = Guidance(templates=_PAPER_TEMPLATES)
        return cls(guidance, lr=_PAPER_LR, masked_by="activation", contrast=0.0, published=True)

    def record(self) -> dict[str, Any]:
        """The options as JSON values; images and functions are only named."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        record["guidance"] = {f.name: getattr(self.guidance, f.name) for f in fields(Guidance)}
        record["optimizer"] = None if self.optimizer is None else "given"
        return record | {"init": None if self.init is None else "images"}


# What an argument `options` may be; None: the defaults.
Options = IllusionOptions | Literal["paper"] | None


@dataclass(frozen=True, eq=False)
class RenderSettings:
    """The numbers of one rendering.

    Raises:
        TypeError: when a whole number is something else.
        ValueError: when a number is out of its range.
    """

    size: tuple[int, int]
    n_steps: int
    gamma: float
    seed: int | tuple[int, ...]
    options: IllusionOptions

    @classmethod
    def of(
        cls,
        size: int | tuple[int, int],
        n_steps: int | None,
        gamma: float | None,
        seed: int | Sequence[int],
        options: Options,
    ) -> RenderSettings:
        """As the arguments of :func:`render_illusions` mean them."""
        chosen = IllusionOptions.of(options)
        if gamma is None:
            gamma = _PAPER_GAMMA if isinstance(options, str) else _GAMMA
        n_steps = default_steps(options) if n_steps is None else n_steps
        seeds = tuple(seed) if isinstance(seed, Iterable) else seed
        return cls(as_size(size), n_steps, gamma, seeds, chosen)

    def __post_init__(self) -> None:
        _check_count("n_steps", self.n_steps)
        for seed in self.seed if isinstance(self.seed, tuple) else (self.seed,):
            check_whole("seed", seed)
        check_between("gamma", self.gamma, 0, 1)
        snapshots = self.options.snapshots
        if snapshots and snapshots[-1] > self.n_steps:
            raise ValueError(f"snapshots={snapshots}, expected rising steps in 1..{self.n_steps}")

    def seeds(self, rows: slice) -> list[int]:
        """One for each image of some rows."""
        if isinstance(self.seed, tuple):
            return [*self.seed[rows]]
        return [*range(self.seed + rows.start, self.seed + rows.stop)]


def default_steps(options: Options) -> int:
    """Optimisation steps where none are asked for."""
    return _PAPER_STEPS if isinstance(options, str) else _STEPS


def _check_count(name: str, value: object) -> None:
    check_whole(name, value)
    check_at_least(name, value, 1)  # type: ignore[arg-type]  # a whole number


def _as_tuple(name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, Iterable):
        raise TypeError(f"{name}={values!r}, expected a list")
    return tuple(values)


def _set(options: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass while it is made."""
    object.__setattr__(options, name, value)
