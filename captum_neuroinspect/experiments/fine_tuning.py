"""A whole network trained on photos, an epoch at a time: an interrupt costs one epoch at most."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from captum_neuroinspect._core.checks import check_at_least
from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.features import find_head
from captum_neuroinspect.models import LoadedModel, replace_layer

_N_WORKERS = 8
_EVAL_BATCH = 64


@dataclass(frozen=True)
class NetworkRecipe:
    """How a network is trained: Adam, cross entropy, the best epoch on validation.

    Attributes:
        n_epochs: passes over the photos.
        batch_size: photos a step.
        lr: first step size.
        last_lr: step size at the end of a cosine; ``None``: it stays as it is.
        weight_decay: Adam's.
        turns: degrees by which photos are turned at random, at most.
        moves: share of the side by which they are moved, at most.
    """

    n_epochs: int
    batch_size: int
    lr: float
    last_lr: float | None = None
    weight_decay: float = 0.0
    turns: float = 0.0
    moves: float = 0.0


def check_steps(config: object, sizes: Iterable[str], rates: Iterable[str]) -> None:
    """Refuse settings with which nothing is trained.

    Args:
        config: of an experiment.
        sizes: names of numbers that are at least 1, where it has them.
        rates: of numbers above 0.

    Raises:
        ValueError: names the setting.
    """
    for name in sizes:
        check_at_least(name, getattr(config, name, 1), 1)
    for name in rates:
        if not (value := getattr(config, name, 1)) > 0:
            raise ValueError(f"{name}={value}, expected a number above 0")


class Turned(Dataset[tuple[Tensor, int]]):
    """Photos, each turned and moved at random, the same in every run of an epoch."""

    def __init__(
        self, data: Dataset[Any], labels: Sequence[int], recipe: NetworkRecipe, seed: int
    ) -> None:
        self.data, self.labels, self.recipe = data, labels, recipe
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from torchvision.transforms import v2

        image, recipe = self.data[index][0], self.recipe
        if recipe.turns or recipe.moves:
            turn = v2.RandomAffine(recipe.turns, (recipe.moves, recipe.moves))
            # By epoch and photo: so many workers as there are give the same picture.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(hash((self.seed, self.epoch, index)))
                image = turn(image)
        return image, self.labels[index]


@undisturbed()
def fine_tuned(
    loaded: LoadedModel,
    train: tuple[Dataset[Any], Sequence[int]],
    validation: tuple[Dataset[Any], Sequence[int]],
    n_classes: int,
    recipe: NetworkRecipe,
    *,
    seed: int,
    kept: Path,
    progress: bool = False,
) -> LoadedModel:
    """Train all layers of a network, with a new decision layer.

    The state after each epoch is in ``kept``; the next call with the same path goes on from there,
    and gives what an undisturbed training would have given.

    Args:
        loaded: where the training starts; its model is changed.
        train: images in 0..1 that come first in a data set's items, and their labels.
        validation: likewise; the epoch with the highest accuracy on it is kept, the first of
            equals.
        n_classes: outputs of the new decision layer.
        recipe: of the training.
        seed: draws the decision layer, the order, and how photos are turned.
        kept: file that the trained values are kept in; stands for all arguments.
        progress: show a bar a epoch.

    Returns:
        The trained network, in eval mode.
    """
    model = _with_new_head(loaded, n_classes, train[0], seed)
    trained = replace(loaded, model=model, weights=f"trained here, seed {seed}", class_names=None)
    if not kept.exists():
        with generators_forked():
            _train(trained, train, validation, recipe, seed, kept, progress)
    values, _ = read_kept(kept, "network")
    model.load_state_dict(values)
    model.requires_grad_(False).eval()
    return trained


def _with_new_head(loaded: LoadedModel, n_classes: int, data: Dataset[Any], seed: int) -> nn.Module:
    model = loaded.model
    device = next(model.parameters()).device
    example = loaded.preprocess(data[0][0][None]).to(device)
    old = find_head(model, example)
    rng = torch.Generator().manual_seed(seed)
    new = nn.utils.skip_init(nn.Linear, old.in_features, n_classes)
    with torch.no_grad():
        new.weight.uniform_(-(old.in_features**-0.5), old.in_features**-0.5, generator=rng)
        new.bias.zero_()
    return replace_layer(model, old, new.to(device))


def _train(
    trained: LoadedModel,
    train: tuple[Dataset[Any], Sequence[int]],
    validation: tuple[Dataset[Any], Sequence[int]],
    recipe: NetworkRecipe,
    seed: int,
    kept: Path,
    progress: bool,
) -> None:
    model, state = trained.model.requires_grad_(True), kept.with_suffix(".state")
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    turned = Turned(*train, recipe, seed)
    first, best = 0, -1.0
    if state.exists():
        first, best = _go_on(state, model, optimizer)
    for epoch in range(first, recipe.n_epochs):
        torch.manual_seed(hash((seed, epoch)))  # dropout
        turned.epoch = epoch
        order = torch.randperm(len(turned), generator=torch.Generator().manual_seed(seed + epoch))
        batches = _loader(turned, _batches(order, recipe.batch_size), device)
        rate = _rate(recipe, epoch * len(batches), len(batches))
        model.train()
        words = f"training, seed {seed}, epoch {epoch + 1} of {recipe.n_epochs}"
        for step, (images, labels) in enumerate(tqdm(batches, words, disable=not progress)):
            for group in optimizer.param_groups:
                group["lr"] = rate(step)
            optimizer.zero_grad()
            logits = _logits(model, trained.preprocess(images).to(device))
            F.cross_entropy(logits, labels.to(device)).backward()
            optimizer.step()
        accuracy = _accuracy(trained, validation, device)
        if accuracy > best:
            best = accuracy
            write_kept(kept.with_suffix(".best"), "network", model.state_dict(), {})
        _save_state(state, model, optimizer, epoch + 1, best)
    os.replace(kept.with_suffix(".best"), kept)
    state.unlink(missing_ok=True)


def _rate(recipe: NetworkRecipe, done: int, n_steps: int) -> Callable[[int], float]:
    """Of a step of an epoch; a cosine runs over all steps of the training."""
    if recipe.last_lr is None:
        return lambda step: recipe.lr
    last, total = recipe.last_lr, n_steps * recipe.n_epochs
    return lambda step: (
        last + (recipe.lr - last) * (1 + math.cos(math.pi * (done + step) / total)) / 2
    )


def _batches(order: Tensor, size: int) -> list[list[int]]:
    """Positions by step; a photo that is left over joins the last batch, for BatchNorm's sake."""
    batches = [part.tolist() for part in order.split(size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def _loader(
    data: Dataset[Any], batches: Sequence[list[int]], device: torch.device
) -> DataLoader[Any]:
    workers = 0 if device.type == "cpu" else min(_N_WORKERS, os.cpu_count() or 1)
    return DataLoader(data, batch_sampler=batches, num_workers=workers)


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    found = model(images)
    logits: Tensor = found if isinstance(found, Tensor) else found.logits
    return logits


def _accuracy(
    trained: LoadedModel, data: tuple[Dataset[Any], Sequence[int]], device: torch.device
) -> float:
    model = trained.model.eval()
    pictures = Turned(*data, NetworkRecipe(1, 1, 1.0), 0)
    n_right = 0
    with torch.no_grad():
        for images, labels in _loader(
            pictures, _batches(torch.arange(len(pictures)), _EVAL_BATCH), device
        ):
            logits = _logits(model, trained.preprocess(images).to(device))
            n_right += int((logits.argmax(1).cpu() == labels).sum())
    return n_right / len(pictures)


def _save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Adam, epoch: int, best: float
) -> None:
    record = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": epoch,
        "best": best,
    }
    write_atomically(path, lambda temporary: torch.save(record, temporary))


def _go_on(path: Path, model: nn.Module, optimizer: torch.optim.Adam) -> tuple[int, float]:
    """Read the state after an epoch: how many are done, and the best accuracy."""
    record = torch.load(path, weights_only=True)
    model.load_state_dict(record["model"])
    optimizer.load_state_dict(record["optimizer"])
    return int(record["epoch"]), float(record["best"])
