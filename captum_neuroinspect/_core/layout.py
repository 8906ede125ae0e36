"""Which dimension of a layer's output counts channels, and which count positions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from captum_neuroinspect._core.modules import first_tensor

_CHANNELS_FIRST = (
    *(nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d),
    *(nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d),
    *(nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.InstanceNorm3d),
    *(nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d),
)
# Of sequences (N, C, L), which no other layer tells from tokens (N, T, C).
_SEQUENCES = (
    *(nn.Conv1d, nn.ConvTranspose1d, nn.InstanceNorm1d, nn.BatchNorm1d, nn.GroupNorm),
    *(nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveMaxPool1d, nn.AdaptiveAvgPool1d),
)
# Class, distillation and register tokens that a vision transformer has before its patches.
_MOST_PREFIX_TOKENS = 5


@dataclass(frozen=True)
class Layout:
    """How maps ``(N, C, h, w)`` are made of a layer's output.

    Attributes:
        channels_last: the output is ``(N, h, w, C)``; else ``(N, C, h, w)``.
        grid: rows and columns of the output's patch tokens ``(N, T, C)``, which
            follow other tokens; ``None`` for an output of four dimensions.
    """

    channels_last: bool = False
    grid: tuple[int, int] | None = None

    def maps(self, output: Tensor) -> Tensor:
        """Maps ``(N, C, h, w)``, a view of the output.

        Examples::

            >>> Layout(channels_last=True).maps(torch.zeros(2, 7, 5, 3)).shape
            torch.Size([2, 3, 7, 5])
            >>> Layout(grid=(2, 4)).maps(torch.zeros(2, 9, 3)).shape
            torch.Size([2, 3, 2, 4])
        """
        if self.grid is None:
            return output.movedim(-1, 1) if self.channels_last else output
        n_patches = self.grid[0] * self.grid[1]
        return output[:, -n_patches:].transpose(1, 2).unflatten(2, self.grid)

    def has_positions(self, output: Tensor) -> bool:
        """Whether there is a map of more than one position in the output."""
        if output.ndim != 4 and self.grid is None:
            return False
        return self.maps(output)[0, 0].numel() > 1


@dataclass(eq=False)
class Shapes:
    """What shapes the modules of a network take and give in one pass.

    Attributes:
        first: shapes known to be ``(C, h, w)``, from a convolution, norm or pooling; or
            ``(C, l)`` of sequences, ``(C, d, h, w)`` of volumes.
        last: shapes known to be ``(h, w, C)``, from a linear layer or LayerNorm; or
            ``(t, C)``, ``(d, h, w, C)``.
    """

    first: set[torch.Size] = field(default_factory=set)
    last: set[torch.Size] = field(default_factory=set)

    def remember(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook."""
        for tensor in (first_tensor(args), first_tensor(output)):
            is_last = None if tensor is None else _own_evidence(module, tensor)
            if tensor is not None and is_last is not None:
                (self.last if is_last else self.first).add(tensor.shape[1:])

    def channel_dim(self, module: nn.Module, tensor: Tensor) -> int:
        """The dimension of a module's input or output that counts channels.

        The one place that decides it, for attributions as for illusions: the second of
        features ``(N, F)``; of tokens ``(N, T, C)`` the last, unless only one-dimensional
        convolutions and the like work on such a shape in this pass; of maps the second,
        unless linear layers or LayerNorms work on such a shape.

        Args:
            module: that took or gave the tensor.
            tensor: ``(N, ...)``.

        Raises:
            ValueError: when the same shape is known with channels first and last.

        Examples::

            >>> shapes = Shapes()
            >>> shapes.channel_dim(nn.Conv2d(3, 6, 1), torch.zeros(1, 6, 8, 8))
            1
            >>> shapes.channel_dim(nn.LayerNorm(6), torch.zeros(1, 8, 8, 6))
            3
        """
        if tensor.ndim < 3:
            return 1
        if tensor.ndim == 3:
            own, shape = _own_evidence(module, tensor), tensor.shape[1:]
            is_sequence = shape in self.first and shape not in self.last if own is None else not own
            return 1 if is_sequence else 2
        return tensor.ndim - 1 if self.is_channels_last(module, tensor) else 1

    def is_channels_last(self, module: nn.Module, output: Tensor) -> bool:
        """Whether maps that a module takes or gives are ``(N, h, w, C)``.

        Raises:
            ValueError: when the same shape is known with channels first and last.
        """
        own = _own_evidence(module, output)
        if own is not None:
            return own
        shape = output.shape[1:]
        if shape in self.first and shape in self.last:
            raise ValueError(
                f"an activation of {type(module).__name__} has shape {tuple(output.shape)}, which "
                "this model uses both as (N, C, H, W) and as (N, H, W, C): "
                "choose a convolution, a linear layer or a norm beside it"
            )
        return shape in self.last


@dataclass(eq=False)
class Trace:
    """What the modules of a network gave in one pass, and what that says of layouts.

    Attributes:
        image_size: height and width of the images.
        outputs: the output of each module's last call, in the order of finishing.
        norms: the input of each ``nn.LayerNorm``'s last call.
        shapes: with channels first and last.
    """

    image_size: tuple[int, int]
    outputs: dict[nn.Module, Tensor] = field(default_factory=dict)
    norms: dict[nn.LayerNorm, Tensor] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=Shapes)

    def remember(self, module: nn.Module, args: Any, output: Any) -> None:
        """A forward hook."""
        given, made = first_tensor(args), first_tensor(output)
        self.outputs.pop(module, None)
        if made is not None:
            self.outputs[module] = made
        if given is not None and isinstance(module, nn.LayerNorm):
            self.norms[module] = given
        self.shapes.remember(module, args, output)

    def layout(self, module: nn.Module, output: Tensor) -> Layout | None:
        """The layout of the last output of ``module``; ``None`` where it has no positions.

        Raises:
            ValueError: when the same shape is known with channels first and last.
        """
        if output.ndim == 3:
            grid = self._token_grid(output.shape[1])
            return None if grid is None else Layout(grid=grid)
        return Layout(self.shapes.is_channels_last(module, output)) if output.ndim == 4 else None

    def has_channels_last(self, module: nn.Module, output: Tensor) -> bool:
        """Whether the last output of ``module`` is ``(N, h, w, C)`` for certain."""
        try:
            layout = self.layout(module, output) if output.ndim == 4 else None
        except ValueError:
            return False
        return layout is not None and layout.channels_last

    def has_plane(self, output: Tensor, layout: Layout) -> bool:
        """Whether a 4-D output is a picture's plane, and not one of heads and tokens."""
        maps = layout.maps(output)
        is_known = output.ndim == 3 or output.shape[1:] in self.shapes.first | self.shapes.last
        return is_known and maps.shape[2] * maps.shape[3] > 1 and self._fits(*maps.shape[2:])

    def _token_grid(self, n_tokens: int) -> tuple[int, int] | None:
        """The plane that leaves the fewest tokens over."""
        planes = [tuple(s[1:]) for s in self.shapes.first if len(s) == 3]
        planes += [tuple(s[:2]) for s in self.shapes.last if len(s) == 3]
        grids = [grid for h, w in planes if self._fits(h, w) for grid in _halvings(h, w)]
        left_over = {(h, w): n_tokens - h * w for h, w in grids or self._proportional(n_tokens)}
        possible = {
            grid: n
            for grid, n in left_over.items()
            if 0 <= n <= _MOST_PREFIX_TOKENS and n < n_tokens - n and n_tokens - n > 1
        }
        return min(possible, key=lambda grid: possible[grid], default=None)

    def _proportional(self, n_tokens: int) -> list[tuple[int, int]]:
        """Grids of the image's proportions, for patches that no convolution cuts."""
        height, width = self.image_size
        return [(h, max(1, round(h * width / height))) for h in range(1, n_tokens + 1)]

    def _fits(self, h: int, w: int) -> bool:
        """A plane has the proportions of the image, to a row or column."""
        height, width = self.image_size
        return abs(h * width - w * height) <= max(height, width)


@contextmanager
def shapes_noted(model: nn.Module | None) -> Iterator[Shapes]:
    """Note what shapes modules take and give in the passes inside the block.

    Args:
        model: its modules; None: all modules that this thread runs.
    """
    shapes, thread = Shapes(), threading.get_ident()

    def remember(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            shapes.remember(module, args, output)

    with ExitStack() as hooks:
        if model is None:
            hooks.callback(register_module_forward_hook(remember).remove)
        else:
            for module in model.modules():
                hooks.callback(module.register_forward_hook(remember).remove)
        yield shapes


@contextmanager
def traced(model: nn.Module, image_size: tuple[int, int]) -> Iterator[Trace]:
    """Note what the modules give in the passes inside the block."""
    trace = Trace(image_size)
    with ExitStack() as hooks:
        for module in model.modules():
            hooks.callback(module.register_forward_hook(trace.remember).remove)
        yield trace


def _own_evidence(module: nn.Module, tensor: Tensor) -> bool | None:
    """Whether this module takes the last dimension for channels; ``None``: it does not tell."""
    if tensor.ndim < 3:
        return None
    if isinstance(module, _SEQUENCES if tensor.ndim == 3 else _CHANNELS_FIRST):
        return False
    if isinstance(module, nn.Linear):
        return True
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        # Subclasses named LayerNorm2d work on (N, C, H, W).
        (n_channels,) = module.normalized_shape
        is_first = type(module) is not nn.LayerNorm and tensor.shape[1] == n_channels
        return not is_first and tensor.shape[-1] == n_channels
    return None


def _halvings(h: int, w: int) -> Iterator[tuple[int, int]]:
    """A plane, and what is left of it after each merging of patches."""
    while h * w > 1:
        yield h, w
        h, w = -(-h // 2), -(-w // 2)
