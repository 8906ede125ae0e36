"""Mistakes whose cause is known: planted in photos, or learned by a decision layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from blame_causes import Cause
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet, collect_features
from captum_neuroinspect.experiments.digits_on_textures import (
    CUE,
    DigitsOnTextures,
    DigitsOnTexturesConfig,
)
from captum_neuroinspect.models import train_decision_layer

N_TRUE = 20
MIN_MISTAKES = 10
TRAINING_PHOTOS_A_CLASS = 100

Features = dict[str, Tensor]  # "clean" or "cause/variant" -> (N, F)


@dataclass(frozen=True, eq=False)
class Case:
    """Mistakes, what the model gets right, and the neurons that stand behind the mistakes.

    Attributes:
        cause: its name, with the data it was planted in.
        mistakes: what the head gets wrong because of the cause.
        correct: other photos that the head gets right.
        head: the decision layer.
        truth: ``(F,)`` how much the cause moves each neuron; the 20 largest are the truth.
    """

    cause: str
    mistakes: FeatureSet
    correct: FeatureSet
    head: nn.Linear
    truth: Tensor

    @property
    def true_neurons(self) -> set[int]:
        return set(self.truth.topk(N_TRUE).indices.tolist())


def planted(
    name: str,
    features: Features,
    labels: Tensor,
    head: nn.Linear,
    right: FeatureSet | None,
    seed: int,
) -> Iterator[Case]:
    """One case a cause and variant; half of the photos tell the truth, half make mistakes.

    ``right=None``: the first half is also the reference. Truth: the z-score of the
    neuron's mean move, over clean photos (either direction).
    """
    clean = features["clean"]
    order = torch.randperm(len(clean), generator=torch.Generator().manual_seed(seed))
    first, second = order.chunk(2)
    right = judged(head, clean[first], labels[first]).correct() if right is None else right
    was_right = judged(head, clean[second], labels[second]).is_correct
    for key, moved in features.items():
        wrong = judged(head, moved[second], labels[second])
        wrong = wrong.subset(was_right & ~wrong.is_correct)
        if key != "clean" and len(wrong) >= MIN_MISTAKES:
            move = (moved - clean)[first].mean(0)
            truth = (move / clean[first].std(0).clamp(min=1e-6)).abs()
            yield Case(f"{name}: {key.split('/')[0]}", wrong, right, head, truth)


def learned_cues(
    train: Features, labels: Tensor, deployment: FeatureSet, seed: int
) -> Iterator[Case]:
    """Heads that saw a tile or text on all training photos of one class, and then miss it.

    Truth: the neurons through which the cue moves the class's logit against the mean of
    the others.
    """
    for target in range(0, deployment.n_classes, 2):
        for key in train:
            if key == "clean":
                continue
            z = torch.where((labels == target)[:, None], train[key], train["clean"])
            data = judged(nn.Linear(z.shape[1], deployment.n_classes), z, labels)
            head = train_decision_layer(data, data, seed=seed)
            wrong = deployment.with_head(head).mistakes(target)
            if len(wrong) >= MIN_MISTAKES:
                move = (train[key] - train["clean"]).mean(0)
                truth = move * margin(head, target)
                right = data.with_head(head).correct()
                yield Case(f"learned: {key.split('/')[0]}", wrong, right, head, truth)


def learned_texture(
    sets: dict[str, FeatureSet], textures: Tensor, seed: int, target: int
) -> Iterator[Case]:
    """Digits of which one stood on grass in training; the deployment shows it elsewhere."""
    head = train_decision_layer(sets["train"], sets["validation"], seed=seed)
    test, wrong = sets["test"].features, sets["deployment"].with_head(head).mistakes(target)
    if len(wrong) >= MIN_MISTAKES:
        move = test[textures == CUE].mean(0) - test[textures != CUE].mean(0)
        right = sets["train"].with_head(head).correct()
        yield Case("learned: texture", wrong, right, head, move * margin(head, target))


def margin(head: nn.Linear, target: int) -> Tensor:
    """``(F,)`` weights of the target's logit minus the mean of the others."""
    others = [c for c in range(head.out_features) if c != target]
    return (head.weight[target] - head.weight[others].mean(0)).detach()


def judged(head: nn.Linear, features: Tensor, labels: Tensor) -> FeatureSet:
    with torch.no_grad():
        return FeatureSet(features, head(features), labels)


def moved_features(
    features_of: Callable[[Tensor], Tensor],
    photos: Tensor,
    plants: dict[str, dict[str, Cause]],
    only: tuple[str, ...] = (),
) -> Features:
    """Features of clean photos, and with each cause planted."""
    wanted: dict[str, Cause] = {
        f"{cause}/{variant}": plant
        for cause, variants in plants.items()
        for variant, plant in variants.items()
        if not only or f"{cause}/{variant}" in only
    }
    return {"clean": features_of(photos)} | {
        key: features_of(plant(photos)) for key, plant in wanted.items()
    }


def digit_sets(
    model: nn.Module, head: nn.Linear, config: DigitsOnTexturesConfig
) -> tuple[dict[str, FeatureSet], Tensor]:
    """Features of all splits, and the texture under each test picture."""
    splits = {s: DigitsOnTextures(s, config) for s in ("train", "validation", "deployment", "test")}
    n_classes = len(config.digits)
    sets = {}
    for name, data in splits.items():
        # The network's own classes: names of the digits would be five for a thousand outputs.
        names = map(str, range(head.out_features))
        z = collect_features(model, data, head, class_names=names)
        sets[name] = judged(nn.Linear(head.in_features, n_classes), z.features, z.labels)
    return sets, splits["test"].textures
