"""Shortcuts through a network, taken only where they lead to the same numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from captum_neuroinspect.optvis._shortcuts.batch_norm import fold_batch_norms
from captum_neuroinspect.optvis._shortcuts.equivalents import use_equivalents
from captum_neuroinspect.optvis._shortcuts.swaps import Swaps, swaps

# Rounding of float32 through a hundred layers stays a hundred times below this share.
_TOLERANCE = 1e-3
_LEAST_SPREAD = 1e-6
_LOGGER = logging.getLogger(__name__)


@contextmanager
def shortened(
    network: nn.Module, run: Callable[[], Sequence[Tensor]], keep: Collection[nn.Module] = ()
) -> Iterator[Swaps]:
    """Compute a network with less work inside the block, and put it back as it was.

    Each kind of shortcut is tried on an example; where an output moves by more than
    rounding, that kind is left out.

    Args:
        network: frozen and in eval mode.
        run: a forward pass over an example, which gives all outputs that count.
        keep: modules whose outputs are read while the network runs.

    Yields:
        What was changed.
    """
    kinds = (
        partial(fold_batch_norms, network, run, keep),
        partial(use_equivalents, network, keep),
    )
    with swaps() as changes:
        with torch.no_grad():
            before = run()
            for kind in kinds:
                _try(kind, run, before, changes)
        yield changes


def _try(
    kind: Callable[[Swaps], None],
    run: Callable[[], Sequence[Tensor]],
    before: Sequence[Tensor],
    changes: Swaps,
) -> None:
    trial = Swaps()
    try:
        kind(trial)
        if all(_same(*pair) for pair in zip(before, run(), strict=True)):
            changes.take(trial)
    except Exception as error:  # whatever a network says of a change that it cannot take
        _LOGGER.info("%s is left out: %s", kind, error)
    finally:
        trial.undo()


def _same(before: Tensor, after: Tensor) -> bool:
    if before.shape != after.shape:
        return False
    # The spread, not the size: an offset that all values share says nothing.
    spread = float((before - before.mean()).abs().amax().clamp_min(_LEAST_SPREAD))
    return float((before - after).abs().max()) <= _TOLERANCE * spread
