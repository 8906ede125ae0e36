"""Illusions of any number of (neuron, class) pairs, rendered in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import as_size
from captum_neuroinspect._core.head import check_one_answer
from captum_neuroinspect._core.input_fit import told_what_fits
from captum_neuroinspect._core.modules import device_of, frozen
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.encoders.prompts import DEFAULT_TEMPLATES
from captum_neuroinspect.optvis._rendering.batches import render_batches
from captum_neuroinspect.optvis._rendering.economy import halved
from captum_neuroinspect.optvis._rendering.movement import Movement, Transforms
from captum_neuroinspect.optvis._rendering.options import Precision, RenderOptions
from captum_neuroinspect.optvis._rendering.outcome import as_illusions, warn_of
from captum_neuroinspect.optvis._rendering.pairs import Indices, Pairs, prompt_embeddings
from captum_neuroinspect.optvis._rendering.scores import PairScorer
from captum_neuroinspect.optvis._rendering.starts import Param, Starts
from captum_neuroinspect.optvis.illusions import Illusions
from captum_neuroinspect.optvis.units.activation import Token, n_units
from captum_neuroinspect.optvis.units.reader import Preprocess, UnitReader

if TYPE_CHECKING:
    from captum_neuroinspect.encoders import ImageTextEncoder


@undisturbed()
def render_illusions(
    model: nn.Module,
    neurons: Indices,
    classes: Indices | None = None,
    *,
    layer: nn.Module | str | None = None,
    head: nn.Linear | None = None,
    token: Token = "mean",
    encoder: ImageTextEncoder | None = None,
    class_names: Sequence[str] | None = None,
    templates: Sequence[str] = DEFAULT_TEMPLATES,
    prompts: str | Sequence[str] | None = None,
    negative: Sequence[str] = (),
    negative_weight: float = 4.0,
    preprocess: Preprocess | None = None,
    param: Param = "fft",
    init: Tensor | None = None,
    transforms: Movement | None = None,
    size: int | tuple[int, int] = 224,
    channels: int = 3,
    n_steps: int = 450,
    gamma: float = 0.25,
    eps: float = 0.05,
    lr: float = 0.05,
    batch_size: int = 8,
    seed: int = 0,
    precision: Precision = "float32",
    encoder_every: int = 1,
    coarse: float = 0.0,
    snapshots: Sequence[int] = (),
    progress: bool = True,
) -> Illusions:
    """Synthesise what neurons look for, alone or in a class (CLIP-Illusion).

    Image i maximises ``(S + eps) * (A + gamma * Z)``, equations (2)-(4) of
    NeuroInspect: A is the activation of neuron i, Z the logit of class i, S the
    cosine between the image and the name of class i under an image-text encoder.
    Without an encoder S drops out; without classes A alone is left (feature
    visualization). Images never influence each other, and the same seed gives the
    same images however they are batched: to the last bit for the convolutional networks
    that were tried on a CPU, but for an image that goes through a network alone, whose
    convolutions some round otherwise. Where rounding differs, images of many steps drift
    apart.

    Both networks are frozen and in eval mode meanwhile; afterwards they are
    bit-identical and free of hooks, also after an exception.

    A long rendering gives what it has. Interrupted by Ctrl-C (``KeyboardInterrupt``), it
    returns the finished batches and the one in work as its images are at that step;
    pairs not begun are left out. Out of memory, it goes on with half as many images at a
    time. An image whose loss or gradient is not finite sits out that step, alone. Each
    is said in a warning, and ``settings`` keeps it: ``"interrupted"`` (``None``, or
    ``"n_pairs"`` asked for and the ``"step"`` of the last batch), ``"n_together"`` and
    ``"n_rolled_back"`` (steps sat out by each image).

    Args:
        model: a classifier; it runs on its own device.
        neurons: one neuron per image; a single number goes with every class
            (:func:`classes_of_neurons` chooses some). Or directions, a floating point
            tensor ``(N, F)`` of a weight for each unit (a feature of a sparse
            autoencoder, a principal component), or ``(F,)`` for every class: A is then
            the weighted sum of the units, and ``neurons`` of the result are the row
            numbers. For silent images the gradient is redirected through the unit of
            the largest weight.
        classes: one class per image, a single number for every neuron
            (:func:`neurons_of_classes` chooses some), or ``None``.
        layer: where the neurons are. ``None``: they are inputs of the decision
            layer. A module or its dotted name: they are its outputs (a channel of
            a convolution, a unit of a linear layer, a dimension of tokens).
        head: the decision layer. Its outputs are the logits, also where a model ends in a
            softmax (Lucent's ``InceptionV1``), whose probabilities are refused. Not
            given, it is found for ``layer=None``, else the logits are what the model returns.
        token: for a ``layer`` of tokens ``(N, T, D)``, what stands for an image: the
            ``"mean"`` over tokens, ``"cls"`` (the first) or a token's number.
        encoder: image-text encoder; needs ``classes`` and ``class_names``, or ``prompts``.
            A :class:`~captum_neuroinspect.LabelSpaceEncoder` guides best when it is
            ``softened()``.
        class_names: a name for each class of the model.
        templates: prompts with a ``{}`` for the name of the class;
            :func:`~captum_neuroinspect.encoders.clip_templates` gives CLIP's own.
        prompts: what the encoder should see instead of the names of the classes: one text
            for each image, or one for all. Goes without classes too.
        negative: prompts of what should be in no image, such as ``"a watermark"``;
            needs an encoder. With B the largest of their cosines to the image, what is
            maximised is multiplied by ``exp(-negative_weight * max(0, B))``, or divided
            by it where it is below 0.
        negative_weight: 0 turns ``negative`` off; at 4 it pulls as hard as the class
            does where its ``S + eps`` is 1/4.
        preprocess: turns images in 0..1 into the model's input; ``None`` when the
            model normalises its input by itself.
        param: how images are parametrized: ``"fft"`` (:func:`illusion_image`),
            ``"maco"`` (:func:`maco_image`: phases only), or a function ``(size, batch, *,
            seed, device)`` that gives ``(params, image_f)`` as they do, with a row for
            each image in each parameter. Or Lucent's ``param_f``, a function of no
            arguments that makes as many images as a batch has: ``lambda:
            param.image(224, batch=2)``. Such images depend on how they are batched.
        init: images to start from, in 0..1, one ``(channels, height, width)`` for all or
            ``(N, channels, height, width)``; only for ``param="fft"``.
        transforms: what moves the images in each step: functions of images ``(N, C, H,
            W)``, Lucent's among them, or a function ``(seeds, n_steps)`` that makes them
            for a batch, as :func:`illusion_transforms` does, which is the default. What
            they make larger or smaller is brought back to ``size``. The same images for a
            seed, however they are batched, are only certain of functions that draw for each
            image by its seed; Lucent's do not.
        size: pixels, one side or ``(height, width)``.
        channels: what the model takes; an encoder sees one channel as grey, and goes with
            1 or 3.
        n_steps: optimisation steps.
        gamma: weight of the logit, 0..1. The paper has 0.5, with which the class is seen no
            more often and the neuron told less often (``docs/measurements.md``).
        eps: added to the similarity.
        lr: first learning rate; it falls to 0.12 of it along a cosine. The paper has
            9e-3, which leaves the images of :func:`illusion_image` pale. Phases
            (``"maco"``) are radians and take more: 0.2 where steps are few.
        batch_size: images optimised together, at most.
        seed: image i is drawn, moved and disturbed by numbers of ``seed + i``.
        precision: ``"bfloat16"`` runs both networks under autocast; ``"auto"`` those
            for which a few passes say that it is faster on this device (it can be several
            times slower). Illusions are then only the same on machines that decide alike;
            ``settings["low_precision"]`` says how.
        encoder_every: the encoder looks at the images in every so many steps; in between
            its last word stands. Cheaper, and the class is seen less often.
        coarse: share of the steps, 0..1, at the beginning, in which the networks see the
            images at half the size, for a quarter of the cost; the class is seen less
            often. For models that take any size.
        snapshots: steps after which the images are kept, rising numbers in
            ``1..n_steps``. Where an interrupt came first, the last images stand in.
        progress: show a progress bar over the steps.

    Returns:
        :class:`Illusions`; their numbers come from a last pass over the clean images.

    Raises:
        TypeError: for an argument of the wrong kind.
        ValueError: for a neuron or class that does not exist, lengths that differ,
            a model that returns probabilities, an encoder without classes or class names,
            more or fewer prompts than images, ``prompts`` or ``negative`` without an
            encoder, ``init`` that does not fit, or a number out of range.
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
    options = RenderOptions(
        as_size(size), n_steps, gamma, eps, lr, batch_size, seed, precision, channels,
        tuple(snapshots), negative_weight, encoder_every, coarse,
    )  # fmt: skip
    pairs = Pairs.of(neurons, classes, class_names)
    starts, moves = Starts(param, init, len(pairs), options), Transforms(transforms, options.size)
    for name, texts in {"prompts": prompts, "negative": negative}.items():
        if texts and encoder is None:
            raise ValueError(f"{name}={texts!r}, but encoder=None: only an encoder reads prompts")
    if encoder is not None and options.channels not in (1, 3):
        raise ValueError(f"channels={channels}, but an encoder takes images of 1 or 3 channels")
    networks = [model] if encoder is None else [model, encoder.network]
    with frozen(*networks):
        example = _example(options, device_of(model))
        with told_what_fits(model, options.channels, options.size):
            reader = UnitReader(model, layer, head, preprocess, example, token=token)
            with torch.no_grad():
                reading = reader(example)
        with torch.no_grad():
            if options.coarse:
                _check_coarse(reader, example)
        pairs.check(reading, reader.place)
        if pairs.classes is not None and layer is not None and head is None:
            check_one_answer(model, example if preprocess is None else preprocess(example))
        scorer = PairScorer(
            reader,
            pairs.targets(n_units(reading.units), example.device),
            None if pairs.classes is None else pairs.classes.to(example.device),
            encoder,
            None if encoder is None else pairs.text(encoder, templates, prompts),
            None if encoder is None or not negative else prompt_embeddings(encoder, negative),
        )
        with scorer.shortened(example):
            scorer = scorer.in_format(example).in_precision(precision, example)
            result = render_batches(scorer, starts, moves, options, example.device, progress)
    settings = {
        "model": type(model).__name__,
        "neurons_are": reader.place
        if pairs.directions is None
        else f"directions in {reader.place}",
        "maps_are": reader.maps_are,
        "encoder": None if encoder is None else type(encoder).__name__,
        "templates": None if encoder is None or prompts else list(templates),
        "prompts": [prompts] if isinstance(prompts, str) else prompts and list(prompts),
        "negative": list(negative),
        "param": starts.name,
        "init": None if init is None else "images",
        "transforms": moves.names,
        "low_precision": scorer.low_precision._asdict(),
        **asdict(options),
    }
    warn_of(result, len(pairs), options)
    return as_illusions(result, pairs, options, settings)


def _check_coarse(reader: UnitReader, example: Tensor) -> None:
    try:
        reader(halved(example))
    except Exception as error:  # whatever the model says of a size that it does not take
        raise ValueError(
            f"coarse is above 0, but the model does not take images at half the size: {error}"
        ) from error


def _example(options: RenderOptions, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, options.channels, *options.size, generator=generator).to(device)
