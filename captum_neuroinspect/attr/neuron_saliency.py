"""Which pixels move many neurons: Captum's neuron methods, many neurons at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._core.layout import Shapes
from captum_neuroinspect._core.modules import as_layer, device_of, frozen
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.attr._neuron_gradients import NeuronReader, Selector, as_selectors
from captum_neuroinspect.attr._neuron_layers import Probe, probe
from captum_neuroinspect.attr._places import is_at_input
from captum_neuroinspect.attr._saliency_figure import saliency_figure as saliency_figure
from captum_neuroinspect.attr._tails import working_dtype
from captum_neuroinspect.attr.neuron_ranking import NeuronList

__all__ = ["Method", "neuron_saliency", "saliency_figure"]

Method = Literal["gradient", "input_x_gradient", "gradcam", "integrated_gradients"]


@undisturbed(keep_autocast=True)
def neuron_saliency(
    model: nn.Module,
    layer: nn.Module | str,
    inputs: Tensor,
    neurons: NeuronList | Sequence[Selector] | Tensor | int,
    method: Method = "gradient",
    *,
    attribute_to_neuron_input: bool | None = None,
    cam_layer: nn.Module | str | None = None,
    baselines: Tensor | float | None = None,
    n_steps: int = 50,
    internal_batch_size: int | None = None,
    neurons_per_pass: int | None = None,
    additional_forward_args: Any = None,
    progress: bool = False,
) -> Tensor:
    """Show which pixels move many neurons, for many images.

    Equal to these Captum classes, which take one neuron at a time:

    - ``"gradient"``: ``NeuronGradient``;
    - ``"input_x_gradient"``: the same times the input (Captum has it for outputs only);
    - ``"integrated_gradients"``: ``NeuronIntegratedGradients``, by the same quadrature;
    - ``"gradcam"``: ``LayerGradCam`` at ``cam_layer``, its target being the neuron.

    The model runs once for each batch of images (and steps), not once more for each
    neuron; then every neuron is pulled back through the same graph. The model runs
    in eval mode and is left as it was. Rounding near the kink of a rectifier depends
    on the batch size: give both sides the same when comparing with Captum.

    Args:
        model: returns logits or an object with ``.logits`` (Hugging Face).
        layer: a module of ``model`` or its dotted name; of several calls in a pass
            the last counts.
        inputs: images ``(N, C, H, W)`` as the model takes them; any ``(N, ...)`` for
            all methods but gradcam. They are not changed.
        neurons: a ``NeuronList`` such as ``ranking.excessive``, or a sequence of

            - whole numbers: the unit of features ``(N, F)``, of maps ``(N, C, h, w)``
              or ``(N, h, w, C)``, or of tokens ``(N, T, D)``, the MEAN over positions
              as in ``optvis``;
            - tuples as in Captum: ``(c, slice(None), slice(None))`` is the SUM over
              positions, ``(c, 3, 4)`` one position;
            - functions of the layer's value that give one number per image.
        method: one of the four above.
        attribute_to_neuron_input: the neurons are what ``layer`` takes (True) or
            gives (False). ``None``: what it takes if it is an ``nn.Linear``, else what
            it gives.
        cam_layer: for gradcam, the module with maps ``(N, C, h, w)`` or
            ``(N, h, w, C)``. ``None``: the
            last one with more than one position before the neurons. A transformer
            has only its patches: take another method for it.
        baselines: for integrated gradients, a number or a tensor that broadcasts to
            ``inputs``; 0 by default.
        n_steps: for integrated gradients, the points of the Gauss-Legendre rule.
        internal_batch_size: images (times steps) in a forward pass, which bounds the
            memory. ``None``: 4 on a CPU, else 16.
        neurons_per_pass: neurons pulled back together, a batched vector-Jacobian
            product. ``None``: up to 32; to large photos on a CPU 1, as it is faster.
        additional_forward_args: one more argument of ``model`` or a tuple of them.
            Tensors of length N are taken to belong to the images.
        progress: show a progress bar.

    Returns:
        Float32, float64 for a model in float64, of shape ``(N, K, *inputs.shape[1:])``
        for K neurons in the order given, on the device of ``inputs``; for gradcam
        ``(N, K, 1, h, w)``, signed as in Captum.
        ``LayerAttribution.interpolate(maps.flatten(1, 2), (H, W))`` brings the latter to
        the size of the photos; :func:`saliency_figure` draws both.

    Raises:
        TypeError: for ``inputs`` that are no floating point tensor, or a ``layer`` or
            ``neurons`` of another kind.
        ValueError: for an unknown ``method``, a module outside ``model``, neurons
            that are out of range or do not depend on the inputs, no maps for gradcam,
            arguments that the method does not take, or sizes below 1.

    Examples::

        >>> _ = torch.manual_seed(0)
        >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pool, nn.Linear(8, 4))
        >>> photos = torch.rand(2, 3, 16, 16)
        >>> neuron_saliency(net, net[3], photos, neurons=[5, 0, 2]).shape
        torch.Size([2, 3, 3, 16, 16])
        >>> neuron_saliency(net, net[3], photos, neurons=[5, 0, 2], method="gradcam").shape
        torch.Size([2, 3, 1, 14, 14])
        >>> whole_map = (5, slice(None), slice(None))
        >>> sums = neuron_saliency(net, "1", photos, neurons=[whole_map])
        >>> means = neuron_saliency(net, "1", photos, neurons=[5])
        >>> torch.allclose(sums, means * 14 * 14)
        True
    """
    _check_options(method, baselines, cam_layer)
    _check_sizes(n_steps, internal_batch_size, neurons_per_pass)
    _check_inputs(inputs)
    selectors, module = as_selectors(neurons), as_layer(model, layer)
    n_points = n_steps if method == "integrated_gradients" else 1
    n_products = len(inputs) * len(selectors) * n_points
    with (
        frozen(model),
        tqdm(desc="saliency", total=n_products, disable=not progress) as bar,
    ):
        images = _Images.of(inputs, baselines, additional_forward_args, device_of(model))
        maps_of = None if cam_layer is None else as_layer(model, cam_layer, "cam_layer")
        at_input = is_at_input(module, attribute_to_neuron_input)
        one = images[:1]
        seen = probe(model, module, at_input, one.inputs, one.args)
        if method == "gradcam" and maps_of is None:
            maps_of = seen.last_maps(at_input)
        axis = _unit_axis(seen, module, selectors)
        reader = NeuronReader(
            model, module, at_input, selectors, axis, neurons_per_pass, bar.update
        )
        size = internal_batch_size or (4 if images.inputs.device.type == "cpu" else 16)
        batches = (images[start : start + size] for start in range(0, len(inputs), size))
        parts: Iterable[Tensor]
        if maps_of is not None:
            parts = (_gradcam(reader, batch, maps_of, seen.shapes) for batch in batches)
        elif method == "integrated_gradients":
            parts = (_integrated_gradients(reader, batch, n_steps, size) for batch in batches)
        else:
            times_input = method == "input_x_gradient"
            parts = (_gradient(reader, batch, times_input) for batch in batches)
        return _gathered(parts, inputs)


@dataclass(frozen=True)
class _Images:
    """Inputs and what belongs to them; a slice has its share of everything."""

    inputs: Tensor
    baselines: Tensor
    args: tuple[Any, ...]
    is_per_image: tuple[bool, ...]

    @classmethod
    def of(cls, inputs: Tensor, baselines: Any, args: Any, device: torch.device) -> _Images:
        args = () if args is None else args if isinstance(args, tuple) else (args,)
        args = tuple(a.detach().to(device) if isinstance(a, Tensor) else a for a in args)
        is_per_image = tuple(
            isinstance(a, Tensor) and a.ndim > 0 and len(a) == len(inputs) for a in args
        )
        inputs = inputs.detach().to(device)
        return cls(inputs, _expanded(baselines, inputs), args, is_per_image)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, chosen: slice) -> _Images:
        # A copy: a model that works in place must not reach the caller's images.
        inputs, baselines = self.inputs[chosen].clone(), self.baselines[chosen].clone()
        own = zip(self.args, self.is_per_image, strict=True)
        args = tuple(a[chosen].clone() if is_per_image else a for a, is_per_image in own)
        return _Images(inputs, baselines, args, self.is_per_image)

    def repeated_args(self, n: int) -> tuple[Any, ...]:
        own = zip(self.args, self.is_per_image, strict=True)
        return tuple(torch.cat([a] * n) if is_per_image else a for a, is_per_image in own)


def _expanded(baselines: Any, inputs: Tensor) -> Tensor:
    value = torch.as_tensor(0.0 if baselines is None else baselines).detach().to(inputs)
    try:
        return value.expand_as(inputs)
    except RuntimeError:
        raise ValueError(
            f"baselines have shape {tuple(value.shape)}, expected a number or what broadcasts "
            f"to the inputs {tuple(inputs.shape)}"
        ) from None


def _unit_axis(seen: Probe, layer: nn.Module, selectors: Sequence[Selector]) -> int:
    """The dimension of the layer's value that counts units, if whole numbers ask for it."""
    if not any(isinstance(selector, int) for selector in selectors):
        return 1
    try:
        return seen.shapes.channel_dim(layer, seen.value)
    except ValueError as error:
        raise ValueError(f"{error}, or give neurons as tuples of indices and slices") from None


def _gradient(reader: NeuronReader, images: _Images, times_input: bool) -> Tensor:
    result = _zeros(reader, images)
    for chosen, gradients in reader.input_gradients(images.inputs, images.args):
        result[:, chosen] = gradients.transpose(0, 1)
    return result * images.inputs.unsqueeze(1) if times_input else result


def _integrated_gradients(
    reader: NeuronReader, images: _Images, n_steps: int, batch_size: int
) -> Tensor:
    nodes, lengths = np.polynomial.legendre.leggauss(n_steps)
    alphas, weights = (1 + nodes) / 2, torch.from_numpy(lengths / 2).to(images.inputs)
    difference = images.inputs - images.baselines
    result = _zeros(reader, images)
    steps_per_pass = max(1, batch_size // len(images))
    for start in range(0, n_steps, steps_per_pass):
        steps = slice(start, start + steps_per_pass)
        # All images at the first step, then all at the second: the order of Captum.
        points = torch.cat([images.baselines + float(a) * difference for a in alphas[steps]])
        args = images.repeated_args(len(alphas[steps]))
        for chosen, gradients in reader.input_gradients(points, args):
            by_step = gradients.unflatten(1, (-1, len(images)))
            result[:, chosen] += torch.einsum("s,ksn...->nk...", weights[steps], by_step)
    return result * difference.unsqueeze(1)


def _zeros(reader: NeuronReader, images: _Images) -> Tensor:
    n_images, *shape = images.inputs.shape
    return images.inputs.new_zeros(n_images, len(reader.selectors), *shape)


def _gradcam(reader: NeuronReader, images: _Images, cam_layer: nn.Module, shapes: Shapes) -> Tensor:
    maps, gradients = reader.map_gradients(cam_layer, images.inputs, images.args)
    channels = shapes.channel_dim(cam_layer, maps)
    maps = maps.movedim(channels, 1)
    parts = [_weighted(g.movedim(channels + 1, 2), maps) for _, g in gradients]
    return torch.cat(parts, 1).unsqueeze(2)


def _weighted(gradients: Tensor, maps: Tensor) -> Tensor:
    return torch.einsum("knc,nchw->nkhw", gradients.mean((3, 4)), maps)


def _gathered(parts: Iterable[Tensor], inputs: Tensor) -> Tensor:
    """The parts in one tensor, made once the first says which shape it has."""
    result, start = torch.empty(0), 0
    for part in parts:
        if not start:
            shape, dtype = (len(inputs), *part.shape[1:]), working_dtype(part)
            result = torch.empty(shape, dtype=dtype, device=inputs.device)
        result[start : start + len(part)] = part.detach()
        start += len(part)
    return result


def _check_options(method: str, baselines: Any, cam_layer: Any) -> None:
    if method not in get_args(Method):
        raise ValueError(f"method={method!r}, expected one of {', '.join(get_args(Method))}")
    if baselines is not None and method != "integrated_gradients":
        raise ValueError(f"baselines are for integrated_gradients, not for method={method!r}")
    if cam_layer is not None and method != "gradcam":
        raise ValueError(f"cam_layer is for gradcam, not for method={method!r}")


def _check_sizes(
    n_steps: int, internal_batch_size: int | None, neurons_per_pass: int | None
) -> None:
    sizes = {"internal_batch_size": internal_batch_size, "neurons_per_pass": neurons_per_pass}
    for name, size in {"n_steps": n_steps, **sizes}.items():
        if size is not None and size < 1:
            raise ValueError(f"{name}={size}, expected at least 1")


def _check_inputs(inputs: Tensor) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"inputs are {kind}, expected a floating point tensor (N, C, H, W)")
    if not inputs.ndim or not len(inputs):
        raise ValueError(f"inputs have shape {tuple(inputs.shape)}, expected at least one image")
