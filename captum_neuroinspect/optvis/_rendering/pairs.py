"""The (neuron, class) pairs that are asked for, checked before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_neuroinspect._core.modules import as_indices, check_indices, logits_of
from captum_neuroinspect.encoders.prompts import class_embeddings
from captum_neuroinspect.optvis.illusion_options import Guidance
from captum_neuroinspect.optvis.units.activation import n_units
from captum_neuroinspect.optvis.units.image_targets import Directions, ImageTargets, Units
from captum_neuroinspect.optvis.units.reader import Reading

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder

Indices = int | Sequence[int] | Tensor


@dataclass(frozen=True, eq=False)
class Pairs:
    """One neuron or direction, and possibly one class, for each image.

    Attributes:
        neurons: int64 ``(N,)`` on the CPU; the row numbers where there are directions.
        classes: int64 ``(N,)`` on the CPU, or ``None``.
        class_names: a name for each class of the model, or ``None``.
        directions: float32 ``(N, F)`` on the CPU: weights of the units, or ``None``.
    """

    neurons: Tensor
    classes: Tensor | None
    class_names: tuple[str, ...] | None
    directions: Tensor | None = None

    @classmethod
    def of(
        cls, neurons: Indices, classes: Indices | None, class_names: Sequence[str] | None
    ) -> Pairs:
        """Pair neurons with classes; a single one goes with every other.

        A single one is a number or a tensor of no dimension, or a direction of one: what
        ``weight.argmax()`` and ``weight[c]`` give.

        Raises:
            TypeError: for indices that are not whole numbers, or names in one str.
            ValueError: for empty indices, lengths that differ, or a direction that is
                zero or not finite.
        """
        if isinstance(class_names, str):
            raise TypeError(f"class_names={class_names!r} is one str, expected a list of names")
        names = None if class_names is None else tuple(class_names)
        directions = _directions(neurons)
        unit_of = (
            _indices("neurons", neurons) if directions is None else torch.arange(len(directions))
        )
        if classes is None:
            return cls(unit_of, None, names, directions)
        class_of = _indices("classes", classes)
        if _ndim(neurons) == (0 if directions is None else 1):
            unit_of = unit_of.expand(len(class_of))
        if _ndim(classes) == 0:
            class_of = class_of.expand(len(unit_of))
        if len(unit_of) != len(class_of):
            raise ValueError(
                f"neurons has {len(unit_of)} values and classes {len(class_of)}, "
                "expected equal lengths (pairs), or an int for one of them"
            )
        return cls(unit_of, class_of, names, None if directions is None else directions[unit_of])

    def __len__(self) -> int:
        return len(self.neurons)

    def repeated(self, n_images: int) -> Pairs:
        """A single pair for several images."""
        if len(self) > 1 or n_images == 1:
            return self
        rows = torch.zeros(n_images, dtype=torch.int64)
        classes, directions = self.classes, self.directions
        return replace(
            self,
            neurons=self.neurons[rows],
            classes=None if classes is None else classes[rows],
            directions=None if directions is None else directions[rows],
        )

    def check(self, reading: Reading, place: str) -> None:
        """Refuse a neuron or class that the model does not have.

        Args:
            reading: what the model gives for any image.
            place: where its units are, in words.

        Raises:
            ValueError: naming the index and the range.
        """
        _check_neurons(self, n_units(reading.units), place)
        if self.classes is None:
            return
        logits = logits_of(reading.output)
        _check_no_probabilities(logits)
        n_classes = logits.shape[-1]
        check_indices("class", self.classes, n_classes, "classes of the model")
        if self.class_names is not None and len(self.class_names) != n_classes:
            raise ValueError(
                f"class_names has {len(self.class_names)} names, "
                f"expected {n_classes}: one per class of the model"
            )

    def targets(self, n_units: int, device: torch.device, read: Tensor | None) -> ImageTargets:
        """What the images are to please, on the model's device; ``read`` as :class:`Units`."""
        if self.directions is None:
            return Units(
                self.neurons.to(device), n_units, None if read is None else read.to(device)
            )
        return Directions(self.directions.to(device))

    def name_of_each(self) -> tuple[str, ...] | None:
        """The class name of each pair."""
        if self.class_names is None or self.classes is None:
            return None
        return tuple(self.class_names[index] for index in self.classes.tolist())

    def text(self, encoder: ImageTextEncoder, guidance: Guidance) -> Tensor:
        """Text embedding of each pair's class or prompt, ``(N, D)``; each is embedded once.

        Raises:
            ValueError: when there are no classes or class names, or more or fewer prompts
                than pairs.
        """
        if guidance.prompts is not None:
            return self._of_prompts(encoder, guidance.prompts)
        if self.classes is None or self.class_names is None:
            missing = "classes" if self.classes is None else "class_names"
            raise ValueError(
                f"{missing}=None, but an encoder compares an image with the name of its class"
            )
        needed, row_of = self.classes.unique(return_inverse=True)
        names = [self.class_names[index] for index in needed.tolist()]
        with torch.no_grad():
            embeddings = class_embeddings(encoder, names, guidance.templates)
        return embeddings.float()[row_of.to(embeddings.device)]

    def _of_prompts(self, encoder: ImageTextEncoder, prompts: str | Sequence[str]) -> Tensor:
        texts = [prompts] * len(self) if isinstance(prompts, str) else list(prompts)
        if len(texts) != len(self):
            raise ValueError(f"{len(texts)} prompts, expected {len(self)}: one for each image")
        different = list(dict.fromkeys(texts))
        embeddings = _embeddings(encoder, different)
        return embeddings[[different.index(text) for text in texts]]


def negative_embeddings(encoder: ImageTextEncoder, guidance: Guidance) -> Tensor | None:
    """Embeddings ``(K, D)`` of what should be in no image, or ``None``."""
    return _embeddings(encoder, list(guidance.negative)) if guidance.negative else None


def _embeddings(encoder: ImageTextEncoder, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return encoder.encode_text(texts).float()


def _check_neurons(pairs: Pairs, n_units: int, place: str) -> None:
    if pairs.directions is None:
        check_indices("neuron", pairs.neurons, n_units, place)
    elif pairs.directions.shape[1] != n_units:
        raise ValueError(
            f"neurons are directions of shape {tuple(pairs.directions.shape)}, "
            f"expected (N, {n_units}): one weight per unit ({place})"
        )


def _directions(neurons: Indices) -> Tensor | None:
    """Floating point rows (N, F), or None where neurons are indices."""
    if isinstance(neurons, (int, Sequence)):
        return None
    given = torch.as_tensor(neurons)  # NumPy's arrays too: scikit-learn's components
    if not given.is_floating_point() or given.ndim not in (1, 2):
        return None
    if not given.numel():
        raise ValueError("neurons is empty, expected at least one")
    directions = torch.atleast_2d(given.detach().to("cpu", torch.float32))
    bad = ~directions.isfinite().all(1) | directions.eq(0).all(1)
    if bad.any():
        raise ValueError(
            f"neurons: direction {int(bad.nonzero()[0])} is zero or not finite, "
            "expected a finite weight for each unit"
        )
    return directions


def _check_no_probabilities(logits: Tensor) -> None:
    """Refuse rows that sum to 1: their gradient vanishes where the class is certain."""
    sums = logits.detach().float().sum(-1)
    if logits.shape[-1] > 1 and logits.min() >= 0 and (sums - 1).abs().max() < 1e-3:
        raise ValueError(
            "the model returns probabilities (each row sums to 1), expected logits: give "
            "its decision layer as head, whose outputs are taken instead"
        )


def _indices(name: str, value: Indices) -> Tensor:
    indices = as_indices(name, value)
    if not len(indices):
        raise ValueError(f"{name} is empty, expected at least one")
    return indices


def _ndim(value: Any) -> int:
    return 1 if isinstance(value, Sequence) else torch.as_tensor(value).ndim
