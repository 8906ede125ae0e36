"""Where in an image a unit is active, for units that have no positions of their own.

Four kinds of maps, the first that applies:

* ``mean``: the unit is the mean of a channel over positions; the map is that channel.
* ``token``: the unit is a dimension of one token, such as the class token of a vision
  transformer, also of tokens joined with their mean (DINOv2); the map is the same
  dimension of the patch tokens. It shows where the patches have what the unit stands
  for, not what the token looked at.
* ``normalised``: the unit is made by a LayerNorm of such means (ConvNeXt); each position
  is centred on its own and scaled as the mean is, so that the mean over the map is the
  unit. The gradient would be no help: along the features themselves a norm is flat.
* ``gradient``: anything else, such as a unit of an MLP (VGG, MobileNetV3). The map is
  the sum over channels of gradient times activation, clamped at 0, in the last layer
  with positions that the unit depends on. Behind a mean over positions this is Grad-CAM
  (Selvaraju et al., https://arxiv.org/abs/1610.02391); where positions have weights of
  their own, as behind a flattened map, it keeps them apart, as HiResCAM does (Draelos
  and Carin, https://arxiv.org/abs/2011.08891), and Grad-CAM would mix them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.layout import Layout, Trace
from captum_neuroinspect._core.modules import is_close

Kind = Literal["output", "mean", "token", "normalised", "gradient"]


@dataclass(frozen=True, eq=False)
class MapSource:
    """A layer with positions, and how a unit's map is made of what it gives.

    Attributes:
        module: the layer.
        layout: of its output.
        kind: see the module's docstring; ``"output"``: the units are its output.
        norm: for ``"normalised"``, what comes between its mean and the units.
    """

    module: nn.Module
    layout: Layout
    kind: Kind
    norm: nn.LayerNorm | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the layer's output is the maps ``(N, F, h, w)`` of all units."""
        return self.kind == "mean" and self.layout == Layout()

    def maps(self, output: Tensor, units: Tensor, neurons: Tensor) -> Tensor:
        """Maps ``(N, h, w)`` of one unit per image.

        Args:
            output: what the layer gave.
            units: all units of the same pass, with a graph for ``"gradient"``.
            neurons: the ones asked for, int64 ``(N,)``, or directions, weights ``(N, F)``.
        """
        if self.kind == "gradient":
            (gradient,) = torch.autograd.grad(_asked_for(units.flatten(1), neurons), output)
            return self.layout.maps(gradient * output).sum(1).relu()
        maps = self.layout.maps(output)
        if self.norm is not None:
            maps = _normalised(maps, self.norm)
        if neurons.ndim == 1:
            rows = torch.arange(len(neurons), device=neurons.device)
            return maps[rows, neurons % maps.shape[1]]
        # More units than channels are parts that lie over each other.
        weights = neurons.unflatten(1, (-1, maps.shape[1])).sum(1)
        return torch.einsum("nchw,nc->nhw", maps.float(), weights)


def _asked_for(units: Tensor, neurons: Tensor) -> Tensor:
    """The sum over images of one unit of each; images do not notice each other."""
    if neurons.ndim == 1:
        return units.gather(1, neurons.unsqueeze(1)).sum()
    return (units * neurons).sum()


def find_source(trace: Trace, units: Tensor) -> MapSource | None:
    """Find the layer whose positions tell most about units ``(N, F)``.

    Args:
        trace: of the pass that gave the units, on images that require a gradient.
        units: with their graph; values are compared to 1e-4 of the largest.

    Returns:
        The source, by the first kind that applies and the layer that ran last, or
        ``None``: no layer has positions, or the graph is cut.
    """
    planes = list(_planes(trace, len(units)))
    return (
        _mean_source(planes, units)
        or _token_source(planes, units)
        or _normalised_source(trace, planes, units)
        or _gradient_source(planes, units)
    )


def find_gradient_source(trace: Trace, units: Tensor) -> MapSource | None:
    """The last layer with positions that units ``(N, F)`` depend on, whatever they are."""
    return _gradient_source(list(_planes(trace, len(units))), units)


_Plane = tuple[nn.Module, Tensor, Layout]


def _planes(trace: Trace, n_images: int) -> Iterator[_Plane]:
    """Outputs with positions, that of the last layer first; windows of images are not asked."""
    for module, output in reversed(trace.outputs.items()):
        if len(output) != n_images:
            continue
        try:
            layout = trace.layout(module, output)
        except ValueError:  # nobody asked for this layer
            continue
        if layout is not None and trace.has_plane(output, layout):
            yield module, output, layout


def _mean_source(planes: list[_Plane], units: Tensor) -> MapSource | None:
    for module, output, layout in planes:
        if any(_is_close(mean, units) for mean in _means(output, layout)):
            return MapSource(module, layout, "mean")
    return None


def _token_source(planes: list[_Plane], units: Tensor) -> MapSource | None:
    for module, output, layout in planes:
        if layout.grid is None or units.shape[1] % output.shape[2]:
            continue
        n_others = output.shape[1] - layout.grid[0] * layout.grid[1]
        rows = [*output[:, :n_others].unbind(1), *_means(output, layout)]
        # DINOv2 joins the class token with the mean of the patches.
        parts = units.split(output.shape[2], dim=1)
        if all(any(_is_close(row, part) for row in rows) for part in parts):
            return MapSource(module, layout, "token")
    return None


def _normalised_source(trace: Trace, planes: list[_Plane], units: Tensor) -> MapSource | None:
    for norm, given in reversed(trace.norms.items()):
        output = trace.outputs.get(norm)
        if output is None or not _is_close(output.flatten(1), units):
            continue
        for module, plane, layout in planes:
            if any(_is_close(mean, given.flatten(1)) for mean in _means(plane, layout)):
                return MapSource(module, layout, "normalised", norm)
    return None


def _gradient_source(planes: list[_Plane], units: Tensor) -> MapSource | None:
    planes = [plane for plane in planes if plane[1].requires_grad]
    if not (units.requires_grad and planes):
        return None
    # Weights that differ: the sum of normalised features would not depend on anything.
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(units.shape, generator=generator).to(units)
    outputs = [output for _, output, _ in planes]
    gradients = torch.autograd.grad(
        (weights * units).sum(), outputs, allow_unused=True, retain_graph=True
    )
    for (module, _, layout), gradient in zip(planes, gradients, strict=True):
        # Behind the last attention the patch tokens of a class token's units do nothing.
        if gradient is not None and layout.maps(gradient).any():
            return MapSource(module, layout, "gradient")
    return None


def _means(output: Tensor, layout: Layout) -> Iterator[Tensor]:
    yield layout.maps(output).mean((2, 3))
    if layout.grid is not None:
        yield output.mean(1)


def _is_close(values: Tensor, units: Tensor) -> bool:
    return bool(units.any()) and is_close(values, units)


def _normalised(maps: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of the mean over positions, position by position: its scale is kept fixed."""
    pooled = maps.mean((2, 3))
    scale = (pooled.var(1, correction=0) + norm.eps).rsqrt()
    normed = (maps - maps.mean(1, keepdim=True)) * scale.view(-1, 1, 1, 1)
    if norm.weight is not None:
        normed = normed * norm.weight.view(-1, 1, 1)
    return normed if norm.bias is None else normed + norm.bias.view(-1, 1, 1)
