"""Equation (1) for any number of samples: behind a linear head, or behind any layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._head import computes_output, is_linear
from captum_neuroinspect._sites import Site, read_activation
from captum_neuroinspect.attr._passes import Passes
from captum_neuroinspect.attr._replay import ReplayedTail, channel_means, replayed
from captum_neuroinspect.attr._tails import LinearTail, Tail
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
class Problem:
    """What is asked for each sample.

    Attributes:
        solver: the way to the answer.
        penalty: the two norms.
        feasible: keep ``z + w >= 0``; None: where no activation is negative.
        reference: contrast the changes with it, or None.
        progress: show a progress bar.
    """

    solver: Solver
    penalty: ElasticNet
    feasible: bool | None
    reference: Reference | None
    progress: bool

    def contrasted(self, found: Counterfactual, usual: Tensor, target: Tensor) -> Counterfactual:
        """Add the contrast; ``usual`` (n, F) is what the reference's numbers describe."""
        if self.reference is None:
            return found
        contrast = self.reference.contrast(found.w.flatten(1), usual.flatten(1), target)
        return replace(found, contrast=contrast.view_as(found.w))

    def keeps_feasible(self, activations: Sequence[Tensor]) -> bool:
        """Decide ``feasible`` once for all samples.

        Raises:
            ValueError: when it is asked for and activations are negative.
        """
        smallest = min(float(activation.min()) for activation in activations)
        if self.feasible and smallest < 0:
            raise ValueError(
                f"feasible=True but activations reach {smallest:.3g}: z + w >= 0 is only meant "
                "for activations that are never negative"
            )
        return smallest >= 0 if self.feasible is None else self.feasible


def solve_head(
    features: Tensor, weight: Tensor, bias: Tensor, target: Tensor, problem: Problem
) -> Counterfactual:
    """Solve behind a linear head, in batches that bound the memory.

    Args:
        features: ``(N, F)``.
        weight: ``(C, F)``.
        bias: ``(C,)``.
        target: ``(N,)`` class that each sample should get.
        problem: how.
    """
    batch_size = max(1, _BATCH_NUMBERS // sum(weight.shape))
    batches = _batches(len(features), batch_size)
    check_finite("features", (features[rows] for rows in batches))
    feasible = problem.keeps_feasible([features])
    one = len(batches) == 1

    def parts() -> Iterator[Counterfactual]:
        for rows in tqdm(batches, "counterfactual", disable=one or not problem.progress):
            z = features[rows].float()
            found = problem.solver.solve(
                LinearTail(z, weight, bias),
                target[rows],
                -z if feasible else None,
                problem.penalty,
                progress=problem.progress and one,
            )
            yield problem.contrasted(found, z, target[rows])

    # The user's autocast is meant for the network; the descent needs its small steps.
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        return _joined(parts(), len(features))


@dataclass(frozen=True)
class Readings:
    """What lies at a site, for all samples, batch by batch.

    Attributes:
        site: where.
        activations: ``(n, *shape)`` each.
        logits: ``(n, C)`` each, that the target is one of.
    """

    site: Site
    activations: list[Tensor]
    logits: list[Tensor]

    @classmethod
    def take(cls, passes: Passes, site: Site, targets: Targets) -> Readings:
        """Run the network once.

        Raises:
            ValueError: when target does not fit the output, or activations are not finite.
        """
        activations, logits = [], []
        for rows, run in passes:
            activation, output = read_activation(run, site, passes.device_ids)
            logits.append(targets.subset(rows).select_output(output).detach())
            activations.append(activation)
        check_finite("features", activations)
        if any(bool(batch.isnan().any()) for batch in logits):
            raise ValueError("the network's output has NaN: look for NaN in the weights")
        return cls(site, activations, logits)

    @property
    def are_inputs_of_head(self) -> bool:
        """Whether the network returns what a linear layer makes of these activations."""
        layer = self.site.layer
        if not self.site.at_input or not isinstance(layer, nn.Linear):
            return False
        with torch.no_grad():
            return all(
                z.ndim == 2 and is_linear(layer, z) and computes_output(layer, z, output)
                for z, output in zip(self.activations, self.logits, strict=True)
            )


def solve_layer(
    passes: Passes, readings: Readings, targets: Targets, channel_dim: int | None, problem: Problem
) -> Counterfactual:
    """Solve behind any layer, by running what follows it again and again.

    Args:
        passes: the network's forward passes.
        readings: what they gave before.
        targets: class that each sample should get.
        channel_dim: None: a change for each element. Else one for each channel.
        problem: how.
    """
    passes, feasible = passes.on_one_device(), problem.keeps_feasible(readings.activations)
    root = passes.modules[0] if passes.modules else None

    def parts() -> Iterator[Counterfactual]:
        for i, (rows, run) in enumerate(passes):
            mine, activation = targets.subset(rows), readings.activations[i]
            with replayed(run, root, readings.site, mine.select_output) as logits_from:
                tail = ReplayedTail(logits_from, activation, channel_dim, feasible)
                _check_replay(tail, readings.logits[i])
                found = problem.solver.solve(
                    tail,
                    mine.classes.to(activation.device),
                    tail.lower,
                    problem.penalty,
                    progress=problem.progress,
                )
            usual = activation.float()
            if channel_dim is None:
                found = replace(found, w=found.w.view_as(activation))
            else:
                usual = channel_means(activation, channel_dim)
            yield problem.contrasted(found, usual, mine.classes)

    return _joined(parts(), passes.n_samples)


def _check_replay(tail: Tail, logits: Tensor) -> None:
    again, logits = tail.logits(tail.zeros()), logits.float()
    if not torch.allclose(again, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().max())):
        raise RuntimeError(
            "the network gives other logits when it runs again on the same inputs: something in "
            "it is random or keeps a state (dropout outside of modules, a cache)"
        )


def check_finite(name: str, tensors: Iterator[Tensor] | list[Tensor]) -> None:
    """Refuse NaN and infinite values."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError(f"{name} have NaN or infinite values")


def _batches(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _joined(parts: Iterator[Counterfactual], n: int) -> Counterfactual:
    """One record of all batches; large fields are filled in place: two copies may not fit."""
    w: Tensor | None = None
    contrast: Tensor | None = None
    rest: list[Counterfactual] = []
    start = 0
    for part in parts:
        w, contrast = _fill(w, part.w, start, n), _fill(contrast, part.contrast, start, n)
        start += len(part.w)
        rest.append(replace(part, w=part.n_steps, contrast=None))
    assert w is not None  # there is at least one sample
    return Counterfactual(
        w,
        converged=torch.cat([part.converged for part in rest]),
        n_steps=torch.cat([part.n_steps for part in rest]),
        already_correct=torch.cat([part.already_correct for part in rest]),
        residual=torch.cat([part.residual for part in rest]),
        feasible=rest[0].feasible,
        contrast=contrast,
    )


def _fill(whole: Tensor | None, part: Tensor | None, start: int, n: int) -> Tensor | None:
    if part is None:
        return None
    if whole is None:
        whole = part.new_empty(n, *part.shape[1:])
    whole[start : start + len(part)] = part
    return whole
