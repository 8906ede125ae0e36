"""Batched counterfactuals against the paper-literal loop, on real mistakes of a real network.

EfficientNet-Lite0 with a decision layer trained here on digits on textures; equation (1)
with the paper's settings. Literal: one sample at a time, the backbone in every step.
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
from captum_neuroinspect.experiments.decision_layer import replace_layer, train_decision_layer
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.weights import load_efficientnet_lite

GOALS = {"collected": 100, "with collecting": 10}
MAX_STEPS = 2000


def prepare(
    config: DigitsOnTexturesConfig,
) -> tuple[nn.Module, nn.Linear, DigitsOnTextures, FeatureSet]:
    """The network with its trained decision layer, and the field pictures with features."""
    model = load_efficientnet_lite(0)
    old = find_head(model, torch.zeros(1, 3, config.size, config.size))
    head = nn.Linear(old.in_features, len(config.digits))
    replace_layer(model, old, head)
    train, validation, field = (
        DigitsOnTextures(split, config) for split in ("train", "validation", "field")
    )
    collected = [collect_features(model, data, head) for data in (train, validation, field)]
    head.load_state_dict(train_decision_layer(*collected[:2], seed=config.seed).state_dict())
    return model, head, field, collected[2].with_head(head)


def literal_loop(
    backbone: nn.Module, head: nn.Linear, image: Tensor, label: int
) -> tuple[Tensor, int]:
    """As the paper's authors do it; kinder: nothing but ``w`` asks for a gradient."""
    w = torch.zeros(1, head.in_features, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    target = torch.tensor([label])
    for step in range(MAX_STEPS):
        with torch.no_grad():
            features = backbone(image[None])
        logits = head(features + w)
        if logits.argmax(1) == target:
            return w.detach()[0], step
        norms = 0.1 * w.abs().sum() + 0.01 * w.norm()
        loss = F.cross_entropy(logits, target) + norms / head.in_features
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
    parser.add_argument("--n-field", type=int, default=20, help="handwritten digits a class")
    parser.add_argument("--n-train", type=int, default=40, help="training pictures a class")
    parser.add_argument("--repeats", type=int, default=3, help="runs of the batched versions")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    config = DigitsOnTexturesConfig(
        n_train=options.n_train, n_validation=20, n_field=options.n_field, seed=options.seed
    )
    model, head, field, features = prepare(config)
    model.eval().requires_grad_(False)
    mistakes = features.mistakes()
    n = len(mistakes)
    # Spread over all classes, not the first class only.
    chosen = torch.linspace(0, n - 1, min(options.n_literal, n)).long()
    print(
        f"\n{n} mistakes of {len(features)} pictures; literal loop on {len(chosen)} of them; "
        f"{torch.get_num_threads()} threads"
    )

    backbone = copy.deepcopy(model)
    replace_layer(backbone, find_head(backbone, field[0][0][None]), nn.Identity())
    one_by_one = [field[int(mistakes.indices[row])] for row in chosen]
    backbone(one_by_one[0][0][None])  # the first pass is slow for everybody

    def literal() -> list[tuple[Tensor, int]]:
        return [literal_loop(backbone, head, image, label) for image, label in one_by_one]

    method = NeuronCounterfactual(model, head)

    def solve(collected: FeatureSet) -> Any:
        return method.attribute_features(
            collected.features, collected.labels, feasible=False, return_details=True
        )

    def collect_and_solve() -> Any:
        photos = Subset(field, mistakes.indices.tolist())
        return solve(collect_features(model, photos, head, progress=False))

    literal_seconds, loops = timed(literal, 1)
    batched_seconds, found = timed(lambda: solve(mistakes), options.repeats)
    whole_seconds, again = timed(collect_and_solve, options.repeats)
    expected = torch.stack([w for w, _ in loops])
    difference = max(float((f.w[chosen] - expected).abs().max()) for f in (found, again))

    literal_each = literal_seconds / len(chosen)
    print(f"{'':<44}{'s per mistake':>14}{'faster':>9}{'goal':>7}")
    print(f"{'literal loop, backbone in every step':<44}{literal_each:>14.5f}{'1 x':>9}")
    for name, seconds in (("collected", batched_seconds), ("with collecting", whole_seconds)):
        each = seconds / n
        ratio = f"{literal_each / each:.0f} x"
        label = f"batched, {name}"
        print(f"{label:<44}{each:>14.5f}{ratio:>9}{GOALS[name]:>5} x")
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
