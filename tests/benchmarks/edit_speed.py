"""How much faster is an edit on collected features than the paper's loop over images?

The same data, head, constraint and batches of 16 in one run, on EfficientNet-Lite0: the loop as
the paper trains (each batch of photos through the backbone, the head's cross entropy and the
constraint of equation (8), a step of Adam), written out here, against ``edit_head`` on features
that were collected once. The photos lie in memory: reading them would slow the loop further.

Run with the package installed: ``python tests/benchmarks/edit_speed.py [--n-train 80]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, collect_features, edit_head, find_head
from captum_neuroinspect.edit import EditOptions, EditSettings, Training, edit_through_images
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.models import load_efficientnet_lite, replace_layer

BATCH, N_EPOCHS = 16, 20
NEURONS, TARGET, STRENGTH = tuple(range(6)), 2, 1.0
OPTIONS: dict[str, Any] = {"target": TARGET, "neurons": NEURONS, "strength": STRENGTH}

COLLECT = "collect the features, once"
EDIT = f"`edit_head`, {N_EPOCHS} epochs with their validation"
EPOCH = "an epoch of it"
FLIPS = "an epoch of `edit_through_images`, each photo flipped"
LOOP = "an epoch of the paper's loop, backbone frozen"
OPEN_LOOP = "the same with gradients of all the backbone's weights, as the authors' code"


@contextmanager
def head_input(head: nn.Linear) -> Iterator[list[Tensor]]:
    """The last input of a layer, as the only item of the list."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kept[:] = inputs[:1]

    handle = head.register_forward_pre_hook(keep)
    try:
        yield kept
    finally:
        handle.remove()


def epoch_through_images(
    model: nn.Module, head: nn.Linear, images: Tensor, labels: Tensor, *, frozen: bool
) -> None:
    """One epoch of the paper's loop; ``frozen``: no gradients below the head."""
    mask = torch.ones(head.in_features).index_fill(0, torch.tensor(NEURONS), 0.0)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    model.requires_grad_(not frozen)
    head.requires_grad_(True)
    with head_input(head) as kept:
        for rows in torch.randperm(len(labels)).split(BATCH):
            with torch.set_grad_enabled(not frozen):
                model(images[rows])
            z = kept[0].detach() if frozen else kept[0]
            logits, masked = head(z), head(z * mask)
            ratio = (logits.log_softmax(1) - masked.log_softmax(1))[:, TARGET].exp()
            loss = F.cross_entropy(logits, labels[rows]) + STRENGTH * (ratio - 1).norm()
            model.zero_grad()
            loss.backward()
            optimizer.step()


def seconds(work: Callable[[], object], n_times: int = 1) -> float:
    """Mean time of one call."""
    start = time.perf_counter()
    for _ in range(n_times):
        work()
    return (time.perf_counter() - start) / n_times


@dataclass(frozen=True, eq=False)
class Setup:
    """What both ways start from; the model ends in ``head``."""

    model: nn.Module
    head: nn.Linear
    images: Tensor
    labels: Tensor
    held: FeatureSet

    def collected(self) -> FeatureSet:
        return collect_features(self.model, (self.images, self.labels), self.head)

    def edit(self, features: FeatureSet) -> object:
        # A patience of all epochs: none is left out.
        options = EditOptions(training=Training(patience=N_EPOCHS))
        return edit_head(
            self.head, features, self.held, n_epochs=N_EPOCHS, options=options, **OPTIONS
        )

    def edit_with_flips(self) -> object:
        return edit_through_images(
            self.model,
            (self.images, self.labels),
            self.held,
            augment=lambda image: image.flip(-1),
            settings=EditSettings(n_epochs=2),
            **OPTIONS,
        )


def setup(n_train: int) -> Setup:
    config = DigitsOnTexturesConfig(n_train=n_train)
    train, validation = DigitsOnTextures("train", config), DigitsOnTextures("validation", config)
    images = torch.stack([image for image, _ in train])
    model = load_efficientnet_lite(0).eval()
    old = find_head(model, images[:1])
    head = nn.Linear(old.in_features, len(train.classes))
    replace_layer(model, old, head)
    held = collect_features(model, validation, head)
    return Setup(model, head, images, train.labels, held)


def measure(start: Setup) -> dict[str, float]:
    """Seconds of each part. What ran before has warmed the caches."""
    sets: list[FeatureSet] = []
    found = {COLLECT: seconds(lambda: sets.append(start.collected()))}
    start.edit(sets[0])
    found[EDIT] = seconds(lambda: start.edit(sets[0]), 3)
    found[EPOCH] = found[EDIT] / N_EPOCHS
    found[FLIPS] = seconds(start.edit_with_flips) / 2
    data = start.model, start.head, start.images, start.labels
    found[LOOP] = seconds(lambda: epoch_through_images(*data, frozen=True))
    found[OPEN_LOOP] = seconds(lambda: epoch_through_images(*data, frozen=False))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-train", type=int, default=80, help="photos of each of five classes")
    arguments = parser.parse_args()
    start = setup(arguments.n_train)
    found = measure(start)
    print(f"\n{len(start.images)} photos, {torch.get_num_threads()} threads\n")
    print("| work | seconds | beside an epoch of the frozen loop |\n| --- | --- | --- |")
    for name, value in found.items():
        print(f"| {name} | {value:.3f} | {value / found[LOOP]:.4f} |")
    print(f"\none epoch: {found[LOOP] / found[EPOCH]:.0f} times faster")
    whole = N_EPOCHS * found[LOOP] / (found[COLLECT] + found[EDIT])
    print(f"{N_EPOCHS} epochs, with the collection: {whole:.1f} times faster")


if __name__ == "__main__":
    main()
