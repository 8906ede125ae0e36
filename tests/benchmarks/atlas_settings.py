"""How large an atlas's illusions have to be, and how many steps they need.

Renders the same random neurons of EfficientNet-Lite0, each in the class that it has the largest
weight to, at several sizes and numbers of steps, in batches as an atlas does. Lite0 itself and
Lite2, which took no part, say what they see; times are processor time of one thread.

Run with ``python tests/benchmarks/atlas_settings.py --neurons 40 --settings 96/60 128/100``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect import find_head
from captum_neuroinspect.models import LoadedModel, load_model
from captum_neuroinspect.optvis import IllusionOptions, Illusions, render_illusions
from captum_neuroinspect.optvis.pairing import classes_of_neurons
from captum_neuroinspect.scale import pair_seed

_HEADINGS = ("size/steps", "pairs", "Lite0 top-1", "Lite2 top-1", "Lite2 top-5", "CPU-s a pair")


def main() -> None:
    """Print a row of the table for each setting."""
    asked = _arguments()
    torch.set_num_threads(1)
    shown, judge = load_model("lite:0"), load_model("lite:2")
    head = find_head(shown.model, torch.zeros(1, 3, 224, 224))
    generator = torch.Generator().manual_seed(asked.seed)
    neurons = torch.randperm(head.in_features, generator=generator)[: asked.neurons].tolist()
    pairs = list(zip(*classes_of_neurons(head, neurons, 1), strict=True))
    print(f"| {' | '.join(_HEADINGS)} |\n|{' --- |' * len(_HEADINGS)}", flush=True)
    for setting in asked.settings:
        size, steps = map(int, setting.split("/"))
        began = time.process_time()
        found = [
            _render(shown, head, pairs[first : first + asked.batch], size, steps)
            for first in range(0, len(pairs), asked.batch)
        ]
        seconds = (time.process_time() - began) / len(pairs)
        images = torch.cat([one.images for one in found])
        classes = torch.tensor([of_class for _, of_class in pairs])
        print(
            f"| {setting} | {len(pairs)} | {_share(shown, images, classes, size, 1)} "
            f"| {_share(judge, images, classes, 260, 1)} "
            f"| {_share(judge, images, classes, 260, 5)} | {seconds:.2f} |",
            flush=True,
        )
        if asked.sheets is not None:
            asked.sheets.mkdir(parents=True, exist_ok=True)
            sheet = _joined(found).grid()
            sheet.save(asked.sheets / f"{size}-{steps}.png")


def _render(
    loaded: LoadedModel, head: torch.nn.Linear, pairs: list[tuple[int, int]], size: int, steps: int
) -> Illusions:
    neurons, classes = zip(*pairs, strict=True)
    return render_illusions(
        loaded.on_pixels(),
        neurons,
        classes,
        head=head,
        class_names=loaded.class_names,
        size=size,
        n_steps=steps,
        seed=[pair_seed(*pair) for pair in pairs],
        options=IllusionOptions(batch_size=len(pairs)),
        progress=False,
    )


@torch.no_grad()
def _share(judge: LoadedModel, images: Tensor, classes: Tensor, side: int, k: int) -> str:
    """How many images have their class among the judge's first k."""
    shown = F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    order = torch.cat([judge.on_pixels()(one[None]) for one in shown]).topk(k).indices
    return f"{float((order == classes[:, None]).any(1).float().mean()):.0%}"


def _joined(found: list[Illusions]) -> Illusions:
    return Illusions(
        torch.cat([one.images for one in found]),
        None,
        torch.cat([one.activations for one in found]),
        None,
        None,
        tuple(neuron for one in found for neuron in one.neurons),
        tuple(number for one in found for number in one.classes or ()),
        tuple(name for one in found for name in one.class_names or ()),
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8, help="Pairs a batch.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--settings", nargs="+", default=["96/60", "128/60", "128/100", "160/60"])
    parser.add_argument("--sheets", type=Path, help="Folder for a sheet of pictures of each.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
