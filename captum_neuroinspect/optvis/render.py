"""Illusions of any number of (neuron, class) pairs, rendered in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.head import check_one_answer
from captum_neuroinspect._core.input_fit import told_what_fits
from captum_neuroinspect._core.modules import device_of, frozen
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.optvis._lucent_words import (
    LucentParam,
    Objective,
    as_movement,
    as_objectives,
    as_preprocess,
    description,
    one_layer,
)
from captum_neuroinspect.optvis._rendering.batches import render_batches
from captum_neuroinspect.optvis._rendering.cheaper_steps import halved
from captum_neuroinspect.optvis._rendering.outcome import as_illusions, warn_of
from captum_neuroinspect.optvis._rendering.pairs import Indices, Pairs, negative_embeddings
from captum_neuroinspect.optvis._rendering.scores import PairScorer
from captum_neuroinspect.optvis._rendering.starts import (
    Movement,
    Param,
    Starts,
    Transforms,
)
from captum_neuroinspect.optvis.illusion_options import IllusionOptions, RenderSettings
from captum_neuroinspect.optvis.illusions import Illusions
from captum_neuroinspect.optvis.units.activation import n_units
from captum_neuroinspect.optvis.units.image_targets import HasWeights, as_weights
from captum_neuroinspect.optvis.units.objective_reader import ObjectiveReader
from captum_neuroinspect.optvis.units.reader import Preprocess, Reader, UnitReader

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder

_SIZE = 224


@undisturbed()
def render_illusions(
    model: nn.Module,
    neurons: Indices | HasWeights | str | Objective | Sequence[str | Objective | HasWeights],
    classes: Indices | None = None,
    *,
    layer: nn.Module | str | None = None,
    head: nn.Linear | None = None,
    encoder: ImageTextEncoder | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Preprocess | bool | None = None,
    param: Param = "fft",
    transforms: Movement | None = None,
    size: int | tuple[int, int] | None = None,
    n_steps: int | None = None,
    gamma: float | None = None,
    seed: int | Sequence[int] = 0,
    options: IllusionOptions | Literal["paper"] | None = None,
    progress: bool = True,
) -> Illusions:
    """Synthesise images that activate neurons, alone or in a class (CLIP-Illusion).

    Image i maximises ``(S + eps) * (A + gamma * Z)``, equations (2)-(4) of NeuroInspect: A is
    the activation of neuron i, Z the logit of class i, S the cosine between the image and the
    name of class i under an image-text encoder. Without an encoder S drops out; without
    classes A alone is left (feature visualization).

    The same seed gives the same images, whatever shares their batch: to the last bit for the
    convolutional networks tried on a CPU, except where a convolution rounds a single image
    otherwise. Where rounding differs, images of many steps drift apart. Model and encoder are
    frozen and in eval mode meanwhile, and left bit-identical and free of hooks.

    A long rendering gives what it has, with a warning. After Ctrl-C it returns the finished
    batches and the current one as it is. When memory runs out it goes on with half as many
    images at a time. An image whose loss or gradient is not finite skips that step. The
    result's ``settings`` record it: ``"interrupted"`` (``None``, or ``"n_pairs"`` asked for
    and the ``"step"`` of the last batch), ``"n_together"`` and ``"n_rolled_back"`` (steps that
    each image skipped).

    Args:
        model: a classifier; it runs on its own device.
        neurons: one neuron per image, or a single one for every class
            (:func:`classes_of_neurons` chooses some). Or directions, a floating point tensor
            ``(N, F)`` of a weight for each unit (a feature of a sparse autoencoder, a
            principal component), or ``(F,)`` for every class: A is the weighted sum, and
            ``neurons`` of the result are the row numbers; or a :class:`Direction` or several, such
            as :func:`cue_direction` gives. Or what Lucent's ``render_vis``
            takes, one or a list: ``"layer:channel"``, an ``Objective``, or a function of what
            gives a layer's output by its name; A is its negative value, and ``neurons`` are
            its positions in the list. One that speaks of several images (``batch=1``,
            ``diversity``) stands alone, and its images belong together.
        classes: one class per image, a single one for every neuron
            (:func:`neurons_of_classes` chooses some), or ``None``.
        layer: a module or its name, dotted or as Lucent has it (``layer4_1_conv2``), whose
            outputs the neurons are (channels, units, dimensions of tokens). ``None``: the
            neurons are inputs of the decision layer.
        head: the decision layer, whose outputs are the logits. ``None``: it is found for
            ``layer=None``, else the logits are what the model returns. Needed where a model
            ends in a softmax.
        encoder: image-text encoder; needs ``classes`` and ``class_names``, or prompts in
            ``options``. A :class:`~captum_neuroinspect.LabelSpaceEncoder` guides best when it
            is ``softened()``.
        class_names: a name for each class of the model.
        preprocess: turns images in 0..1 into the model's input; ``None`` or ``False`` when the
            model normalises its input by itself. ``True`` is what Lucent does: mean and standard
            deviation of ImageNet.
        param: how images are parametrized: ``"fft"`` (:func:`illusion_image`), ``"maco"``
            (:func:`maco_image`), a function ``(size, batch, *, seed, device)`` that gives
            ``(params, image_f)`` as they do; or Lucent's ``param_f``, a function of no
            arguments (one that gives several images at a time sets the batch size, and how
            many images a single neuron gets), or Lucent's ``image`` or ``cppn`` itself.
        transforms: functions of images ``(N, C, H, W)`` for each step, such as Lucent's, one or
            a list, or a function ``(seeds, n_steps)`` that makes them for a batch; ``None``:
            :func:`illusion_transforms`. Images are brought back to ``size`` after them. Only
            functions that draw by each image's seed keep images independent of their batch.
            Lucent's and torchvision's normalisation at their end becomes ``preprocess``.
        size: pixels, one side or ``(height, width)``, that the networks are shown. ``None``: 224;
            for Lucent's ``param_f`` the size of its images, at least 224.
        n_steps: optimisation steps. ``None``: 150, or the paper's 450 with ``options="paper"``;
            of hard classes more show a few more (``docs/measurements/illusions.md``).
        gamma: weight of the logit, 0..1. ``None``: 0.25, or the paper's 0.5 with
            ``options="paper"``; at 0.5 the class is recognised no more often and the neuron
            less often (``docs/measurements/illusion-defaults.md``).
        seed: image i is drawn, moved and disturbed by numbers of ``seed + i``; or one seed for
            each image.
        options: :class:`IllusionOptions`, all that is rarely set; ``"paper"``: those of the
            authors' code (a table in ``docs/paper.md``), and pictures as they come out.
        progress: show a progress bar over the steps.

    Returns:
        :class:`Illusions`; their numbers come from a last pass over the clean images.

    Raises:
        TypeError: for an argument of the wrong kind.
        ValueError: for a neuron or class that does not exist, lengths that differ, a model
            that returns probabilities, an encoder without classes or class names, options
            that do not fit the other arguments, or a number out of range.
        torch.OutOfMemoryError: when a single image does not fit (``MemoryError`` or
            ``RuntimeError`` if that is what the device raised).
        KeyboardInterrupt: when it comes before the first step is done.

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
    chosen = IllusionOptions.of(options)
    lucents = LucentParam.of(param, size, chosen.channels)
    if size is None:
        size = _SIZE if lucents is None else lucents.shown_size
    settings = RenderSettings.of(size, n_steps, gamma, seed, options)
    objectives, neurons, layer = _asked_for(as_weights(neurons), layer)
    pairs = Pairs.of(neurons, classes, class_names)
    transforms, preprocess = as_movement(transforms, as_preprocess(preprocess, model))
    moves = Transforms(transforms, settings.size, settings.options.published)
    _check_encoder(encoder, chosen)
    networks = [model] if encoder is None else [model, encoder.network]
    with frozen(*networks):
        example = _example(settings, device_of(model))
        with told_what_fits(model, chosen.channels, settings.size):
            reader = _reader(model, objectives, layer, head, preprocess, example, chosen)
            pairs, settings = _together(pairs, reader, lucents, settings)
            chosen, guidance = settings.options, settings.options.guidance
            starts = Starts(lucents or param, len(pairs), settings)
            if isinstance(reader, ObjectiveReader) and reader.is_tied:
                example = _example(settings, example.device, len(pairs))
            with torch.no_grad():
                reading = reader(example)
        with torch.no_grad():
            if chosen.coarse:
                _check_coarse(reader, example)
        pairs.check(reading, reader.place)
        reads_features = objectives is None and layer is None
        if pairs.classes is not None and not reads_features and head is None:
            check_one_answer(model, example if preprocess is None else preprocess(example))
        scorer = PairScorer(
            reader,
            pairs.targets(n_units(reading.units), example.device, reader.read),
            None if pairs.classes is None else pairs.classes.to(example.device),
            encoder,
            None if encoder is None else pairs.text(encoder, guidance),
            None if encoder is None else negative_embeddings(encoder, guidance),
        )
        with scorer.shortened(example):
            scorer = scorer.in_format(example).in_precision(chosen.precision, example)
            result = render_batches(scorer, starts, moves, settings, example.device, progress)
    is_direction = pairs.directions is not None
    record: dict[str, object] = {
        "model": type(model).__name__,
        "neurons_are": f"directions in {reader.place}" if is_direction else reader.place,
        "maps_are": reader.maps_are,
        "encoder": None if encoder is None else type(encoder).__name__,
        "param": starts.name,
        "transforms": moves.names,
        "size": settings.size,
        "n_steps": settings.n_steps,
        "gamma": settings.gamma,
        "seed": settings.seed,
        "low_precision": scorer.low_precision._asdict(),
        "options": chosen.record(),
    }
    if objectives is not None:
        record["objectives"] = [description(objective) for objective in objectives]
    warn_of(result, len(pairs), settings)
    return as_illusions(result, pairs, settings, record)


def _asked_for(
    neurons: Any, layer: nn.Module | str | None
) -> tuple[tuple[Objective, ...] | None, Indices, nn.Module | str | None]:
    """Objectives, if Lucent's were given; neurons or their numbers; and the layer."""
    objectives = as_objectives(neurons)
    if objectives is None:
        return None, neurons, layer
    if layer is not None:
        raise ValueError(
            f"layer is given, but neurons={neurons!r} name theirs, expected layer=None"
        )
    named = one_layer(neurons)
    if named is not None:
        return None, named[1], named[0]
    is_one = not isinstance(neurons, (list, tuple))
    return objectives, 0 if is_one else list(range(len(objectives))), None


def _reader(
    model: nn.Module,
    objectives: tuple[Objective, ...] | None,
    layer: nn.Module | str | None,
    head: nn.Linear | None,
    preprocess: Preprocess | None,
    example: Tensor,
    options: IllusionOptions,
) -> Reader:
    if objectives is not None:
        return ObjectiveReader(model, objectives, head, preprocess, example)
    before = options.masked_by == "before_rectifier"
    return UnitReader(
        model, layer, head, preprocess, example, token=options.token, before_rectifier=before
    )


def _together(
    pairs: Pairs, reader: Reader, lucents: LucentParam | None, settings: RenderSettings
) -> tuple[Pairs, RenderSettings]:
    """As many pairs as there are images, and batches of those that belong together."""
    is_tied = isinstance(reader, ObjectiveReader) and reader.is_tied
    n_needed = reader.n_needed if isinstance(reader, ObjectiveReader) else 1
    n_given = 1 if lucents is None else lucents.n_images
    pairs = pairs.repeated(max(n_given, n_needed if lucents is None or n_given == 1 else 1))
    if isinstance(settings.seed, tuple) and len(settings.seed) != len(pairs):
        raise ValueError(
            f"seed has {len(settings.seed)} numbers for {len(pairs)} images, expected one for each"
        )
    if len(pairs) < n_needed:
        raise ValueError(f"the objective speaks of {n_needed} images, but there are {len(pairs)}")
    if len(pairs) % n_given or (is_tied and 1 < n_given < len(pairs)):
        raise ValueError(f"param gives {n_given} images at a time, expected {len(pairs)}")
    batch_size = n_given if n_given > 1 else settings.options.batch_size
    if isinstance(reader, ObjectiveReader) and is_tied:
        reader.n_tied = batch_size = len(pairs)
    return pairs, replace(settings, options=replace(settings.options, batch_size=batch_size))


def _check_encoder(encoder: ImageTextEncoder | None, options: IllusionOptions) -> None:
    """Refuse texts without an encoder, and images that an encoder does not take."""
    if encoder is not None:
        if options.channels not in (1, 3):
            raise ValueError(
                f"channels={options.channels}, but an encoder takes images of 1 or 3 channels"
            )
        return
    for name in ("prompts", "negative"):
        if texts := getattr(options.guidance, name):
            raise ValueError(f"{name}={texts!r}, but encoder=None: only an encoder reads prompts")


def _check_coarse(reader: Reader, example: Tensor) -> None:
    try:
        reader(halved(example))
    except Exception as error:  # whatever the model says of a size that it does not take
        raise ValueError(
            f"coarse is above 0, but the model does not take images at half the size: {error}"
        ) from error


def _example(settings: RenderSettings, device: torch.device, n_images: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (n_images, settings.options.channels, *settings.size)
    return torch.rand(shape, generator=generator).to(device)
