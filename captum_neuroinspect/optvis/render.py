"""Illusions of any number of (neuron, class) pairs, rendered in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._modules import device_of, frozen
from captum_neuroinspect.encoders.prompts import DEFAULT_TEMPLATES
from captum_neuroinspect.optvis._checks import as_size
from captum_neuroinspect.optvis._optimise import Precision, RenderOptions, optimise
from captum_neuroinspect.optvis._pairs import Indices, Pairs
from captum_neuroinspect.optvis._reader import Preprocess, UnitReader
from captum_neuroinspect.optvis._scores import PairScorer, Scores
from captum_neuroinspect.optvis.illusions import Illusions
from captum_neuroinspect.optvis.mask import activation_mask
from captum_neuroinspect.optvis.param import illusion_image
from captum_neuroinspect.optvis.transform import channel_noise, random_affine
from captum_neuroinspect.optvis.units import activation_map, n_units

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder

_FIRST_NOISE = 0.2


def render_illusions(
    model: nn.Module,
    neurons: Indices,
    classes: Indices | None = None,
    *,
    layer: nn.Module | str | None = None,
    head: nn.Linear | None = None,
    encoder: ImageTextEncoder | None = None,
    class_names: Sequence[str] | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    preprocess: Preprocess | None = None,
    size: int | tuple[int, int] = 224,
    n_steps: int = 450,
    gamma: float = 0.5,
    eps: float = 0.05,
    lr: float = 0.05,
    batch_size: int = 8,
    seed: int = 0,
    precision: Precision = "float32",
    progress: bool = True,
) -> Illusions:
    """Synthesise what neurons look for, alone or in a class (CLIP-Illusion).

    Image i maximises ``(S + eps) * (A + gamma * Z)``, equations (2)-(4) of
    NeuroInspect: A is the activation of neuron i, Z the logit of class i, S the
    cosine between the image and the name of class i under an image-text encoder.
    Without an encoder S drops out; without classes A alone is left (feature
    visualization). Images never influence each other, and the same seed gives the
    same images however they are batched.

    Both networks are frozen and in eval mode meanwhile; afterwards they are
    bit-identical and free of hooks, also after an exception.

    Args:
        model: a classifier; it runs on its own device.
        neurons: one neuron per image; an int goes with every class.
        classes: one class per image, an int for every neuron, or ``None``.
        layer: where the neurons are. ``None``: they are inputs of the decision
            layer. A module or its dotted name: they are its outputs (a channel of
            a convolution, a unit of a linear layer, a dimension of tokens).
        head: the decision layer, found when not given; only for ``layer=None``.
        encoder: image-text encoder; needs ``classes`` and ``class_names``.
        class_names: a name for each class of the model.
        templates: prompts with a ``{}`` for the name of the class.
        preprocess: turns images in 0..1 into the model's input; ``None`` when the
            model normalises its input by itself.
        size: pixels, one side or ``(height, width)``.
        n_steps: optimisation steps.
        gamma: weight of the logit, 0..1.
        eps: added to the similarity.
        lr: first learning rate; it falls to 0.12 of it along a cosine. The paper has
            9e-3, which leaves the images of :func:`illusion_image` pale.
        batch_size: images optimised together.
        seed: image i is drawn, moved and disturbed by numbers of ``seed + i``.
        precision: ``"bfloat16"`` runs both networks under autocast.
        progress: show a progress bar over the steps.

    Returns:
        :class:`Illusions`; their numbers come from a last pass over the clean images.

    Raises:
        TypeError: for an argument of the wrong kind.
        ValueError: for a neuron or class that does not exist, lengths that differ,
            an encoder without classes or class names, or a number out of range.

    Examples::

        >>> model = nn.Sequential(
        ...     nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        ... )
        >>> found = render_illusions(
        ...     model, neurons=[0, 3], classes=1, size=16, n_steps=2, progress=False
        ... )
        >>> found.images.shape, found.masks.shape, found.classes
        (torch.Size([2, 3, 16, 16]), torch.Size([2, 1, 16, 16]), (1, 1))
    """
    options = RenderOptions(as_size(size), n_steps, gamma, eps, lr, batch_size, seed, precision)
    pairs = Pairs.of(neurons, classes, class_names)
    networks = [model] if encoder is None else [model, encoder.network]
    with frozen(*networks), torch.enable_grad():
        example = _example(options.size, device_of(model))
        reader = UnitReader(model, layer, head, preprocess, example)
        with torch.no_grad():
            reading = reader(example)
        pairs.check(reading, reader.place)
        scorer = PairScorer(
            reader,
            pairs.neurons.to(example.device),
            n_units(reading.units),
            None if pairs.classes is None else pairs.classes.to(example.device),
            encoder,
            None if encoder is None else pairs.text(encoder, templates),
            precision == "bfloat16",
        )
        batches = list(_rendered(scorer, options, progress))
    settings = {
        "model": type(model).__name__,
        "neurons_are": reader.place,
        "encoder": None if encoder is None else type(encoder).__name__,
        "templates": None if encoder is None else list(templates),
        **asdict(options),
    }
    return _joined(batches, pairs, settings)


class _Batch(NamedTuple):
    """What is kept of a batch, on the CPU."""

    images: Tensor
    masks: Tensor | None
    scores: Scores


def _rendered(scorer: PairScorer, options: RenderOptions, progress: bool) -> Iterator[_Batch]:
    starts = range(0, len(scorer), options.batch_size)
    n_steps = len(starts) * options.n_steps
    with tqdm(desc="illusions", total=n_steps, disable=not progress) as bar:
        for start in starts:
            rows = scorer.rows(start, start + options.batch_size)
            yield _render_batch(rows, options, options.seed + start, bar.update)


def _render_batch(
    scorer: PairScorer, options: RenderOptions, seed: int, on_step: Callable[[], object]
) -> _Batch:
    params, image_f = illusion_image(
        options.size, len(scorer), seed=seed, device=scorer.neurons.device
    )
    transforms = [random_affine(seed=seed), channel_noise(_fading(options.n_steps), seed=seed)]
    images = optimise(params, image_f, transforms, scorer, options, on_step)
    # The numbers that are reported come from the clean image in full precision.
    clean = replace(scorer, low_precision=False)
    with torch.no_grad():
        scores, reading = clean.with_reading(images)
    maps = None if reading.maps is None else activation_map(reading.maps, scorer.neurons)
    masks = None if maps is None else activation_mask(maps, options.size).cpu()
    return _Batch(images.cpu(), masks, scores.cpu())


def _fading(n_steps: int) -> Callable[[int], float]:
    """Noise that falls along a line and is gone in the last step."""
    last = max(n_steps - 1, 1)
    return lambda step: _FIRST_NOISE * max(0.0, 1 - step / last)


def _example(size: tuple[int, int], device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, *size, generator=generator).to(device)


def _joined(batches: Sequence[_Batch], pairs: Pairs, settings: dict[str, object]) -> Illusions:
    return Illusions(
        images=torch.cat([batch.images for batch in batches]).contiguous(),
        masks=_cat([batch.masks for batch in batches]),
        activations=torch.cat([batch.scores.activation for batch in batches]),
        logits=_cat([batch.scores.logit for batch in batches]),
        similarities=_cat([batch.scores.similarity for batch in batches]),
        neurons=tuple(pairs.neurons.tolist()),
        classes=None if pairs.classes is None else tuple(pairs.classes.tolist()),
        class_names=pairs.name_of_each(),
        settings=settings,
    )


def _cat(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None
