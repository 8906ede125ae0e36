"""Does core relevance tell the neurons of a planted cue from those of the class itself?

The ten scenarios of ``edit.py``: decision layers on EfficientNet-Lite0 that learned a cue. In each,
``--neurons`` neurons through which the cue raises the class's logit most, and as many through which
the class does without the cue; the truth is known from test photos with and without it. Illusions
of all of them in that class, without a guide; then every score ranks the neurons, the least core
first. Area under the curve of precision and recall of the cue's neurons (chance: a half), mean over
scenarios with the 95 % interval of a bootstrap over them, and in how many scenarios it is above a
half. Beside the scores stand what needs no illusion: the weight and the importance of the neuron.

Run with the package installed: ``python tests/benchmarks/core_relevance.py [--photos DIR]
[--neurons 8] [--steps 80] [--size 160] [--seed 0] [--cache DIR]``.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from edit_cases import EditCase, cases
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect import render_illusions
from captum_neuroinspect.analysis import core_relevance
from captum_neuroinspect.attr import neuron_importance
from captum_neuroinspect.models import load_efficientnet_lite
from captum_neuroinspect.optvis import Illusions

_N_DRAWS = 2000


class Rendered(NamedTuple):
    """A scenario, its network, and illusions of the cue's neurons and then the class's."""

    case: EditCase
    model: nn.Module
    illusions: Illusions
    neurons: Tensor


def pulls(case: EditCase) -> tuple[Tensor, Tensor]:
    """``(F,)`` how much the cue, and how much the class without it, raises the class's margin."""
    z, labels = case.test.features, case.test.labels
    has_cue, is_target = case.test.groups % 2 == 1, case.test.labels == case.target
    moves = [
        z[(labels == c) & has_cue].mean(0) - z[(labels == c) & ~has_cue].mean(0)
        for c in labels.unique()
        if ((labels == c) & has_cue).any() and ((labels == c) & ~has_cue).any()
    ]
    clean = z[is_target & ~has_cue].mean(0) - z[~is_target & ~has_cue].mean(0)
    weight = case.head.weight.detach()
    others = torch.arange(len(weight)) != case.target
    margin = weight[case.target] - weight[others].mean(0)
    return margin * torch.stack(moves).mean(0), margin * clean


def neurons_of(case: EditCase, n: int) -> Tensor:
    """``(2 n,)`` those that the cue pulls at most, then those that the class does."""
    cue, core = pulls(case)
    return torch.cat(
        [
            cue.where(cue > core, -torch.inf).topk(n).indices,
            core.where(core > cue, -torch.inf).topk(n).indices,
        ]
    )


def rendered(case: EditCase, network: nn.Module, asked: argparse.Namespace) -> Rendered:
    model = copy.deepcopy(network)
    model[1]._fc = copy.deepcopy(case.head)
    neurons = neurons_of(case, asked.neurons)
    illusions = render_illusions(
        model,
        neurons,
        [case.target] * len(neurons),
        size=asked.size,
        n_steps=asked.steps,
        seed=asked.seed,
        progress=False,
    )
    return Rendered(case, model, illusions, neurons)


def difference(one: Rendered, **mask: float) -> Tensor:
    illusions = one.illusions.remasked(**mask) if mask else one.illusions
    return core_relevance(one.model, one.model[1]._fc, illusions, one.case.validation)


def ratio(one: Rendered) -> Tensor:
    head, data = one.model[1]._fc, one.case.validation
    return core_relevance(one.model, head, one.illusions, data, score="ratio")


SCORES: dict[str, Callable[[Rendered], Tensor]] = {
    "difference of the cosines, masks as shown": difference,
    "difference of the cosines, masks of the authors": lambda one: difference(
        one, threshold=0.25, floor=0.0
    ),
    "the authors' ratio": ratio,
    "weight of the neuron, largest first": lambda one: (
        -one.case.head.weight[one.case.target, one.neurons].detach()
    ),
    "importance of the neuron, largest first": lambda one: (
        -neuron_importance(one.case.head, one.case.train, one.case.target)[one.neurons]
    ),
    "at random": lambda one: torch.rand(
        len(one.neurons), generator=torch.Generator().manual_seed(one.case.target)
    ),
}


def area(scores: Tensor) -> float:
    """Of the first half of the neurons, by low scores."""
    is_cue = torch.arange(len(scores)) < len(scores) // 2
    return float(average_precision_score(is_cue.numpy(), -scores.double().numpy()))


def interval(values: Tensor) -> str:
    rng = torch.Generator().manual_seed(0)
    draws = torch.randint(len(values), (_N_DRAWS, len(values)), generator=rng)
    low, high = values[draws].mean(1).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder with one subfolder of photos a class")
    parser.add_argument("--neurons", type=int, default=8)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder to keep features in")
    asked = parser.parse_args()
    network = load_efficientnet_lite(0)
    found: dict[str, list[tuple[str, float]]] = {name: [] for name in SCORES}
    for case in tqdm(cases([asked.seed], asked.photos, asked.cache), "scenarios"):
        one = rendered(case, network, asked)
        for name, score in SCORES.items():
            found[name].append((case.data, area(score(one))))
    data = list(dict.fromkeys(kind for kind, _ in found["at random"]))
    print(f"\n{asked.neurons} + {asked.neurons} neurons, {asked.steps} steps at {asked.size} px\n")
    print(
        f"| score | all | {' | '.join(data)} | above a half |\n" + "| --- " * (3 + len(data)) + "|"
    )
    for name, areas in found.items():
        every = torch.tensor([value for _, value in areas]).double()
        parts = [torch.tensor([v for k, v in areas if k == kind]).double() for kind in data]
        cells = [interval(values) for values in (every, *parts)]
        print(f"| {name} | {' | '.join(cells)} | {int((every > 0.5).sum())} of {len(every)} |")


if __name__ == "__main__":
    main()
