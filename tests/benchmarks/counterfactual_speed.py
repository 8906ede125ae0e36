"""Batched counterfactuals against the paper-literal loop, on real mistakes of a real network.

EfficientNet-Lite0 with a decision layer trained here on digits on textures; equation (1)
with the paper's settings. Literal: one sample at a time, the backbone in every step; kind:
nothing but ``w`` asks for a gradient; as published: the weights ask for one too, and it is
thrown away. The goals are held against the kind one.
Run with the package installed: ``python tests/benchmarks/counterfactual_speed.py``.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Subset

from captum_neuroinspect import FeatureSet, NeuronCounterfactual, collect_features, find_head
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.models import load_efficientnet_lite, replace_layer, train_decision_layer

GOALS = {"collected": 100, "with collecting": 10}
MAX_STEPS = 2000


def prepare(
    config: DigitsOnTexturesConfig,
) -> tuple[nn.Module, nn.Linear, DigitsOnTextures, FeatureSet]:
    """The network with its trained decision layer, and the deployment pictures with features."""
    model = load_efficientnet_lite(0)
    old = find_head(model, torch.zeros(1, 3, config.size, config.size))
    head = nn.Linear(old.in_features, len(config.digits))
    replace_layer(model, old, head)
    train, validation, deployment = (
        DigitsOnTextures(split, config) for split in ("train", "validation", "deployment")
    )
    collected = [collect_features(model, data, head) for data in (train, validation, deployment)]
    head.load_state_dict(train_decision_layer(*collected[:2], seed=config.seed).state_dict())
    return model, head, deployment, collected[2].with_head(head)


def literal_loop(
    backbone: nn.Module, head: nn.Linear, image: Tensor, label: int
) -> tuple[Tensor, int]:
    """One sample until it is right; the weights' gradients follow their ``requires_grad``."""
    w = torch.zeros(1, head.in_features, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    target = torch.tensor([label])
    for step in range(MAX_STEPS):
        logits = head(backbone(image[None]) + w)
        if logits.argmax(1) == target:
            return w.detach()[0], step
        norms = 0.1 * w.abs().sum() + 0.01 * w.norm()
        loss = F.cross_entropy(logits, target) + norms / head.in_features
        backbone.zero_grad()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return w.detach()[0], MAX_STEPS


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Seconds of the fastest run, and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-literal", type=int, default=8, help="mistakes for the literal loop")
    parser.add_argument("--n-deployment", type=int, default=20, help="handwritten digits a class")
    parser.add_argument("--n-train", type=int, default=40, help="training pictures a class")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the batched versions")
    parser.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="pictures a pass when collecting; on a CPU 32 takes twice as long a picture as 8",
    )
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice if not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = DigitsOnTexturesConfig(
        n_train=options.n_train,
        n_validation=20,
        n_deployment=options.n_deployment,
        seed=options.seed,
    )
    model, head, deployment, features = prepare(config)
    model.eval().requires_grad_(False)
    mistakes = features.mistakes()
    n = len(mistakes)
    # Spread over all classes, not the first class only.
    chosen = torch.linspace(0, n - 1, min(options.n_literal, n)).long()
    print(
        f"\n{n} mistakes of {len(features)} pictures; literal loop on {len(chosen)} of them; "
        f"{torch.get_num_threads()} threads, {options.batch_size} pictures a pass"
    )

    backbone = copy.deepcopy(model)
    replace_layer(backbone, find_head(backbone, deployment[0][0][None]), nn.Identity())
    one_by_one = [deployment[int(mistakes.indices[row])] for row in chosen]
    backbone(one_by_one[0][0][None])  # the first pass is slow for everybody

    def literal(frozen: bool) -> list[tuple[Tensor, int]]:
        backbone.requires_grad_(not frozen)
        return [literal_loop(backbone, head, image, label) for image, label in one_by_one]

    method = NeuronCounterfactual(model, head)

    def solve(collected: FeatureSet) -> Any:
        return method.attribute_features(
            collected.features, collected.labels, feasible=False, return_details=True
        )

    def collect_and_solve() -> Any:
        photos = Subset(deployment, mistakes.indices.tolist())
        return solve(
            collect_features(model, photos, head, batch_size=options.batch_size, progress=False)
        )

    published_seconds, _ = timed(lambda: literal(frozen=False), 1)
    literal_seconds, loops = timed(lambda: literal(frozen=True), 1)
    batched_seconds, found = timed(lambda: solve(mistakes), options.repeats)
    whole_seconds, again = timed(collect_and_solve, options.repeats)
    expected = torch.stack([w for w, _ in loops])
    difference = max(float((f.w[chosen] - expected).abs().max()) for f in (found, again))

    kind, published = (t / len(chosen) for t in (literal_seconds, published_seconds))
    print(f"{'':<28}{'s per mistake':>14}{'than kind':>12}{'(goal)':>9}{'than published':>16}")
    print(f"{'literal loop, as published':<28}{published:>14.5f}{kind / published:>10.1f} x")
    print(f"{'literal loop, kind':<28}{kind:>14.5f}{1:>10.1f} x{'':>9}{published / kind:>14.1f} x")
    for name, seconds in (("collected", batched_seconds), ("with collecting", whole_seconds)):
        each = seconds / n
        goal = f"({GOALS[name]} x)"
        print(
            f"{'batched, ' + name:<28}{each:>14.5f}{kind / each:>10.1f} x{goal:>9}"
            f"{published / each:>14.1f} x"
        )
    steps = [n_steps for _, n_steps in loops]
    print(
        f"steps, literal loop: {min(steps)} to {max(steps)}, mean {sum(steps) / len(steps):.1f} "
        f"(batched, all mistakes: mean {found.n_steps.float().mean():.1f})\n"
        f"converged: {int(found.converged.sum())} of {n}\n"
        f"largest |w - w of the literal loop|: {difference:.1e} "
        f"(largest |w|: {float(expected.abs().max()):.3f})"
    )


if __name__ == "__main__":
    main()
