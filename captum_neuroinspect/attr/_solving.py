"""Equation (1) for any number of samples: behind a linear head, or behind any layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.modules import logits_of
from captum_neuroinspect._core.sites import Site, read_activations
from captum_neuroinspect.attr._last_layer import followed
from captum_neuroinspect.attr._passes import Passes
from captum_neuroinspect.attr._replay import (
    Activations,
    ReplayedTail,
    channel_means,
    replayed,
)
from captum_neuroinspect.attr._tails import LinearTail, Tail, lower_bound, working_dtype
from captum_neuroinspect.attr._targets import Targets
from captum_neuroinspect.attr.elastic_net import Counterfactual, ElasticNet
from captum_neuroinspect.attr.reference import Reference

# Numbers that one batch of features and logits may hold: half a gigabyte with all copies.
_BATCH_NUMBERS = 2**23


class Solver(Protocol):
    """How equation (1) is solved: :class:`SGD` or :class:`FISTA`."""

    def solve(
        self,
        tail: Tail,
        target: Tensor,
        lower: Tensor | None,
        penalty: ElasticNet,
        *,
        progress: bool = ...,
    ) -> Counterfactual: ...


@dataclass(frozen=True)
class SolverSettings:
    """What is asked for each sample.

    Attributes:
        solver: the way to the answer.
        penalty: the two norms.
        feasible: keep ``z + w >= 0``; None: for each sample that has no negative activation.
        reference: contrast the changes with it, or None.
        progress: show a progress bar.
    """

    solver: Solver
    penalty: ElasticNet
    feasible: bool | None
    reference: Reference | None
    progress: bool

    def contrasted(self, found: Counterfactual, usual: Tensor, target: Tensor) -> Counterfactual:
        """Add the shortfall; ``usual`` (n, D) is what the reference's numbers describe."""
        if self.reference is None:
            return found
        shortfall = self.reference.shortfall(found.w, usual, target)
        return replace(found, shortfall=shortfall, reference=self.reference)

    def feasible_rows(self, activations: Sequence[Tensor]) -> Tensor:
        """``(n,)`` the samples whose changes are bounded: each decides for itself.

        Raises:
            ValueError: when it is asked for and activations are negative.
        """
        negative = torch.stack([(z < 0).flatten(1).any(1) for z in activations]).any(0)
        if self.feasible and bool(negative.any()):
            smallest = min(float(z.min()) for z in activations)
            raise ValueError(
                f"feasible=True but activations reach {smallest:.3g}: z + w >= 0 is only meant "
                "for activations that are never negative"
            )
        return ~negative if self.feasible is None else torch.full_like(negative, self.feasible)


def solve_head(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, settings: SolverSettings
) -> Counterfactual:
    """Solve behind a linear head, in batches that bound the memory.

    Args:
        features: ``(N, F)``.
        weight: ``(C, F)``, in the precision of the descent.
        bias: ``(C,)``.
        target: ``(N,)`` class that each sample should get.
        settings: how.
    """
    batch_size = max(1, _BATCH_NUMBERS // sum(weight.shape))
    batches = _batches(len(features), batch_size)
    check_finite("features", [features[rows] for rows in batches])
    feasible = torch.cat([settings.feasible_rows([features[rows]]) for rows in batches])
    one = len(batches) == 1

    def parts() -> Iterator[Counterfactual]:
        for rows in tqdm(batches, "counterfactual", disable=one or not settings.progress):
            z = features[rows].to(weight.dtype)
            found = settings.solver.solve(
                LinearTail(z, weight, bias),
                target[rows],
                lower_bound(z, feasible[rows]),
                settings.penalty,
                progress=settings.progress and one,
            )
            yield settings.contrasted(found, z, target[rows])

    # The user's autocast is meant for the network; the descent needs its small steps.
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        return _joined(parts(), len(features))


@dataclass(frozen=True)
class Readings:
    """What lies at a site, for all samples, batch by batch.

    Attributes:
        site: where.
        activations: ``(n, *shape)`` each: the tensors there, batch by batch.
        logits: ``(n, C)`` each, that the target is one of.
        are_inputs_of_head: whether the network returns what a linear layer makes of these
            activations.
    """

    site: Site
    activations: list[Activations]
    logits: list[Tensor]
    are_inputs_of_head: bool

    @classmethod
    def take(cls, passes: Passes, site: Site, targets: Targets) -> Readings:
        """Run the network once.

        Raises:
            ValueError: when target does not fit the output, activations are not finite, or
                a tensor at the site has not a row for each sample.
        """
        activations, logits = [], []
        # The parts that replicas return are copies: there one sample on one device tells.
        watched = site.at_input and not passes.is_parallel
        is_head = watched or (site.at_input and _leads_to_output(passes, site))
        for rows, run in passes:
            with followed(site.layer) if watched else nullcontext() as last:
                read, output = read_activations(run, site, passes.device_ids)
                is_head &= last is None or last.leads_to(output)
            logits.append(targets.subset(rows).select(logits_of(output).detach()))
            _check_rows(read, rows.stop - rows.start, site)
            activations.append(read)
        where = f"{'inputs' if site.at_input else 'outputs'} of {type(site.layer).__name__}"
        for tensors in zip(*activations, strict=True):
            check_finite(where, tensors)
        if any(bool((batch.isnan() | (batch == torch.inf)).any()) for batch in logits):
            raise ValueError(
                "the network's output has NaN or infinity: look for NaN in the weights"
            )
        is_flat = all(len(read) == 1 and read[0].ndim == 2 for read in activations)
        return cls(site, activations, logits, is_head and is_flat)


def _leads_to_output(passes: Passes, site: Site) -> bool:
    _, run = next(iter(replace(passes.on_one_device(), batch_size=1)))
    with followed(site.layer) as last:
        return last.leads_to(run())


def _check_rows(activations: Activations, n_samples: int, site: Site) -> None:
    for activation in activations:
        if len(activation) != n_samples:
            raise ValueError(
                f"the layer {type(site.layer).__name__} {'takes' if site.at_input else 'gives'} "
                f"a tensor of shape {tuple(activation.shape)} for {n_samples} sample(s), expected "
                "one row a sample: choose another layer, or its other side by "
                "attribute_to_layer_input"
            )


def solve_layer(
    passes: Passes,
    readings: Readings,
    targets: Targets,
    channel_dims: tuple[int, ...] | None,
    settings: SolverSettings,
) -> Counterfactual:
    """Solve behind any layer, by running what follows it again and again.

    Args:
        passes: the network's forward passes.
        readings: what they gave before.
        targets: class that each sample should get.
        channel_dims: None: a change for each element. Else one for each channel.
        settings: how.
    """
    passes = passes.on_one_device()
    feasible = [settings.feasible_rows(activations) for activations in readings.activations]
    root = passes.modules[0] if passes.modules else None

    def parts() -> Iterator[Counterfactual]:
        for i, (rows, run) in enumerate(passes):
            mine, activations = targets.subset(rows), readings.activations[i]
            with replayed(run, root, readings.site, mine.select_output) as logits_from:
                tail = ReplayedTail(logits_from, activations, channel_dims, feasible[i])
                _check_replay(tail, readings.logits[i])
                found = settings.solver.solve(
                    tail,
                    mine.classes.to(activations[0].device),
                    tail.lower,
                    settings.penalty,
                    progress=settings.progress,
                )
            usual = _usual(activations, channel_dims)
            joined = torch.cat([z.flatten(1) for z in usual], 1)
            yield settings.contrasted(found, joined, mine.classes)

    found = _joined(parts(), passes.n_samples)
    return _shaped(found, [z.shape[1:] for z in _usual(readings.activations[0], channel_dims)])


def _usual(activations: Activations, channel_dims: tuple[int, ...] | None) -> list[Tensor]:
    """What changes: each element of the activations, or each channel as a whole."""
    if channel_dims is None:
        return [z.to(working_dtype(*activations)) for z in activations]
    return [channel_means(z, dim) for z, dim in zip(activations, channel_dims, strict=True)]


def _shaped(found: Counterfactual, shapes: list[torch.Size]) -> Counterfactual:
    """Changes in the shape of the activation; of several, the shapes beside joined changes."""
    if len(shapes) > 1:
        return replace(found, shapes=tuple(shapes))
    w = found.w.view(-1, *shapes[0])
    shortfall = None if found.shortfall is None else found.shortfall.view_as(w)
    return replace(found, w=w, shortfall=shortfall)


def _check_replay(tail: Tail, logits: Tensor) -> None:
    again = tail.logits(tail.zeros())
    logits = logits.to(again.dtype)
    largest = float(logits.abs().nan_to_num(posinf=0).max())
    if not torch.allclose(again, logits, rtol=1e-2, atol=1e-2 * largest):
        raise RuntimeError(
            "the network gives other logits when it runs again on the same inputs: something in "
            "it is random or keeps a state (dropout outside of modules, a cache)"
        )


def check_finite(name: str, tensors: Iterable[Tensor]) -> None:
    """Refuse NaN and infinite values, and say in which samples they are.

    Args:
        name: what the values are, in the plural.
        tensors: ``(n, ...)`` of the same samples' batches, in their order.
    """
    tensors = list(tensors)
    if all(bool(tensor.isfinite().all()) for tensor in tensors):
        return
    bad = torch.cat([~tensor.isfinite().flatten(1).all(1) for tensor in tensors])
    raise ValueError(
        f"{name} have NaN or infinite values in {int(bad.sum())} of {len(bad)} sample(s), the "
        f"first in sample {int(bad.nonzero()[0])}"
    )


def _batches(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _joined(parts: Iterator[Counterfactual], n: int) -> Counterfactual:
    """One record of all batches; large fields are filled in place: two copies may not fit."""
    w: Tensor | None = None
    shortfall: Tensor | None = None
    rest: list[Counterfactual] = []
    start = 0
    for part in parts:
        w, shortfall = _fill(w, part.w, start, n), _fill(shortfall, part.shortfall, start, n)
        start += len(part.w)
        rest.append(replace(part, w=part.n_steps, shortfall=None))
    assert w is not None  # there is at least one sample
    return Counterfactual(
        w,
        converged=torch.cat([part.converged for part in rest]),
        n_steps=torch.cat([part.n_steps for part in rest]),
        already_correct=torch.cat([part.already_correct for part in rest]),
        residual=torch.cat([part.residual for part in rest]),
        feasible=torch.cat([part.feasible for part in rest]),
        ran_out=torch.cat([part.ran_out for part in rest]),
        shortfall=shortfall,
        reference=rest[0].reference,
    )


def _fill(whole: Tensor | None, part: Tensor | None, start: int, n: int) -> Tensor | None:
    if part is None:
        return None
    if whole is None:
        whole = part.new_empty(n, *part.shape[1:])
    whole[start : start + len(part)] = part
    return whole
