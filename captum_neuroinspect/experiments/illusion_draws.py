"""Pairs of classes and neurons at random, and their illusions, kept part by part."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_neuroinspect.optvis import Illusions, neurons_of_classes, render_illusions

GROUP = 4  # neurons of one class
N_CANDIDATES = 20  # a class's neurons are drawn from those with the largest weights
TOGETHER = 8  # pairs that are rendered, and kept, together
_PER_IMAGE = ("images", "masks", "maps", "activations", "logits", "similarities")


@dataclass(frozen=True)
class Draw:
    """Pairs in groups of :data:`GROUP` that share the class."""

    seed: int
    neurons: list[int]
    classes: list[int]

    def groups(self, wanted: Sequence[int]) -> Draw:
        rows = [GROUP * group + i for group in wanted for i in range(GROUP)]
        return replace(
            self,
            neurons=[self.neurons[row] for row in rows],
            classes=[self.classes[row] for row in rows],
        )


def draw_pairs(head: nn.Linear, n_pairs: int, seed: int) -> Draw:
    """Classes at random, and for each of them a group of neurons that speak for it."""
    rng = torch.Generator().manual_seed(seed)
    neurons, classes = [], []
    for label in torch.randperm(head.out_features, generator=rng)[: n_pairs // GROUP].tolist():
        best = head.weight[label].topk(min(N_CANDIDATES, head.in_features)).indices
        neurons += best[torch.randperm(len(best), generator=rng)[:GROUP]].tolist()
        classes += [label] * GROUP
    return Draw(seed, neurons, classes)


def strongest_pairs(head: nn.Linear, n: int, seed: int) -> Draw:
    """Classes at random, each with the neuron of its largest weight."""
    order = torch.randperm(head.out_features, generator=torch.Generator().manual_seed(seed))
    classes = order[:n].tolist()
    neurons, _ = neurons_of_classes(head, classes, n=1)
    return Draw(seed, neurons, classes)


def rendered(
    model: nn.Module,
    draw: Draw,
    folder: Path | None,
    name: str,
    is_neuron_alone: bool = False,
    progress: bool = False,
    **arguments: Any,
) -> Illusions:
    """The illusions of a draw; what ``folder`` already has is read from there.

    Args:
        model: whose neurons are shown.
        draw: the pairs, and the seed.
        folder: that keeps finished illusions, or ``None``. A damaged file is made again.
        name: of the row; part of a file's name.
        is_neuron_alone: without the classes.
        progress: show a bar over the steps.
        arguments: of :func:`~captum_neuroinspect.render_illusions`.

    Returns:
        Illusions whose ``settings`` say how many seconds and seconds of the processor they took,
        when they were rendered.

    Raises:
        KeyboardInterrupt: when it came while illusions were rendered; unfinished ones are not kept.
        ValueError: when what is kept has another size, number of steps or gamma.
    """
    parts = []
    for start in range(0, len(draw.neurons), TOGETHER):
        part = slice(start, start + TOGETHER)
        classes = None if is_neuron_alone else draw.classes[part]
        file = None if folder is None else folder / f"{plain(name)}-{draw.seed}-{start}.safetensors"
        if file is not None and (kept := _read(file)) is not None:
            parts.append(same_settings(kept, file, arguments))
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        made = render_illusions(
            model,
            draw.neurons[part],
            classes,
            seed=draw.seed + start,
            progress=progress,
            **arguments,
        )
        if made.settings.get("interrupted"):
            raise KeyboardInterrupt
        took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        made = replace(made, settings=made.settings | took)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            made.save(file)
        parts.append(made)
    return joined(parts)


def _read(file: Path) -> Illusions | None:
    """What a file keeps; nothing of one that is not there, or damaged."""
    try:
        return Illusions.load(file) if file.exists() else None
    except ValueError:
        return None


def same_settings(found: Illusions, file: Path, arguments: dict[str, Any]) -> Illusions:
    for name in ("n_steps", "gamma"):
        wanted, has = arguments.get(name), found.settings[name]
        if wanted is not None and wanted != has:
            raise ValueError(f"{file} has {name}={has}, expected {wanted}: give another folder")
    if found.images.shape[-1] != arguments["size"]:
        raise ValueError(f"{file} has other pixels, expected {arguments['size']}")
    return found


def joined(parts: Sequence[Illusions]) -> Illusions:
    """Several renderings with the same settings as one; their seconds are added."""
    together: dict[str, Any] = {}
    for name in _PER_IMAGE:
        found = [getattr(part, name) for part in parts]
        together[name] = None if any(value is None for value in found) else torch.cat(found)
    for name in ("neurons", "classes", "class_names"):
        found = [getattr(part, name) for part in parts]
        together[name] = None if None in found else sum(found, ())
    times = {
        name: sum(part.settings[name] for part in parts) for name in ("seconds", "cpu_seconds")
    }
    return replace(parts[0], **together, settings=parts[0].settings | times)


def plain(name: str) -> str:
    """A name of a row as that of a file."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
