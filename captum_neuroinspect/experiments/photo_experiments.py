"""Experiments on photos of files: a network or a head is trained, then edited."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import text_fingerprint
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.experiments._photos import ViewedPhotos
from captum_neuroinspect.experiments.experiment import Experiment, Part
from captum_neuroinspect.experiments.fine_tuning import NetworkRecipe, check_steps, fine_tuned
from captum_neuroinspect.experiments.networks import (
    Network,
    files_identity,
    labelled,
    load_network,
    unseen,
)
from captum_neuroinspect.features import find_head
from captum_neuroinspect.models import LoadedModel, train_decision_layer

SPLITS = ("train", "validation", "test")
_PAPER_SIZE = 224
# What --quick changes of the training; an experiment adds how few photos it takes.
QUICK: Mapping[str, Any] = {"trains": "head", "n_epochs": 3, "edit_epochs": 3}


class Labelled(NamedTuple):
    """Files of photos with labels.

    Attributes:
        paths: of the photos.
        labels: class index of each.
        groups: group of each, or ``None``.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    groups: tuple[int, ...] | None = None


class HeadSets(NamedTuple):
    """A trained head, and the photos as it judges them."""

    head: nn.Linear
    train: FeatureSet
    validation: FeatureSet
    test: FeatureSet


@dataclass(frozen=True, kw_only=True)
class PhotoConfig:
    """How the network is trained.

    Attributes:
        trains: ``"network"``: all layers, as the paper; ``"head"``: the decision layer alone, on
            frozen features.
        n_epochs, batch_size, lr, last_lr, weight_decay: of that training; the step size falls from
            ``lr`` to ``last_lr`` by a cosine, or stays where both are the same. A head alone is
            trained with ``head_lr``, which falls to 0.
        turns, moves: degrees and share of the side by which training photos are turned and moved
            at random; of a whole network's training.
        head_lr: step size of a head alone.
        n_ranked: neurons that the results list for each part.
        neurons: to edit, chosen by eye; none: the first ``n_neurons`` of the ranking.
        most_photos: of each class in each split; 0: all.
    """

    trains: str = "network"
    n_epochs: int = 20
    batch_size: int = 128
    lr: float = 0.002
    last_lr: float = 0.0001
    weight_decay: float = 0.0
    turns: float = 15.0
    moves: float = 0.15
    head_lr: float = 0.002
    n_ranked: int = 30
    neurons: tuple[int, ...] = ()
    most_photos: int = 0

    def __post_init__(self) -> None:
        if self.trains not in ("network", "head"):
            raise ValueError(f"trains={self.trains!r}, expected 'network' or 'head'")
        check_steps(self, ("batch_size", "edit_batch_size"), ("lr", "head_lr", "edit_lr"))
        for neuron in self.neurons:
            check_whole("neuron", neuron)

    @property
    def recipe(self) -> NetworkRecipe:
        """Of the whole network's training."""
        return NetworkRecipe(
            self.n_epochs,
            self.batch_size,
            self.lr,
            None if self.last_lr == self.lr else self.last_lr,
            self.weight_decay,
            self.turns,
            self.moves,
        )


class PhotoExperiment(Experiment):
    """One scenario; a seed draws the training, and the split where there is one to draw."""

    default_model: ClassVar[str] = "torchvision:resnet50"
    resize: ClassVar[str] = "squash"  # with the pixels before the crop of 224; "": the library's

    @property
    @abstractmethod
    def root(self) -> Path:
        """Folder that all photos are in; checks that the data are there."""

    @abstractmethod
    def given(self) -> dict[str, Labelled]:
        """The photos as they are published, by split."""

    def dealt(self, given: dict[str, Labelled], seed: int) -> dict[str, Labelled]:
        """Training, validation and test photos, where a seed has to draw some of them."""
        return given

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        return [Part("", seed) for seed in seeds]

    def identity(self) -> dict[str, Any]:
        return {"data": self._data_identity, **self._network.identity()}

    @cached_property
    def _few(self) -> dict[str, Labelled]:
        """As they are published, with at most ``most_photos`` of each class."""
        most, given = self.config.most_photos, self.given()
        if empty := [name for name, one in given.items() if not one.paths]:
            raise ValueError(f"{self.root} has no photos for {', '.join(empty)}")
        return {name: _limited(one, most) for name, one in given.items()} if most else given

    @cached_property
    def _data_identity(self) -> str:
        labels = json.dumps([[one.labels, one.groups] for one in self._few.values()])
        text = files_identity(self._pool, self.root) + labels + "|".join(self.class_names)
        return text_fingerprint(text)

    @cached_property
    def _pool(self) -> list[Path]:
        return sorted({path for one in self._few.values() for path in one.paths})

    @cached_property
    def _network(self) -> Network:
        return Network(self.setup, self.default_model, self._load())

    def _load(self) -> LoadedModel:
        loaded = load_network(self.setup, self.default_model)
        if not self.resize:
            return loaded
        mode, _, pixels = self.resize.partition(" ")
        if pixels:
            mode += f" {round(int(pixels) * min(loaded.view.size) / _PAPER_SIZE)}"
        return replace(loaded, view=loaded.view.with_resize(mode))

    def trained(self, seed: int) -> HeadSets:
        """The head of a seed, and all sets."""
        few = self.dealt(self._few, seed)
        if self.config.trains == "head":
            sets = self._sets(self._network, few, "frozen")
            head = train_decision_layer(
                sets["train"],
                sets["validation"],
                n_epochs=self.config.n_epochs,
                batch_size=self.config.batch_size,
                lr=self.config.head_lr,
                seed=seed,
            )
        else:
            network = Network(self.setup, self.default_model, self._fine_tuned(few, seed))
            sets = self._sets(network, few, f"seed{seed}")
            head = _head_of(network, self._pool[0])
        return HeadSets(head, *(sets[name].with_head(head) for name in SPLITS))

    def _fine_tuned(self, few: dict[str, Labelled], seed: int) -> LoadedModel:
        config = self.config
        text = f"{self._network.fingerprint} {self._data_identity} {config.recipe} {seed}"
        digest = text_fingerprint(text)
        view = self._network.loaded.view
        train, validation = (
            (ViewedPhotos(one.paths, view), one.labels) for one in (few["train"], few["validation"])
        )
        return fine_tuned(
            self._load(),
            train,
            validation,
            len(self.class_names),
            config.recipe,
            seed=seed,
            kept=self.setup.kept / f"{self.name}-network-{digest}.safetensors",
            progress=self.setup.progress,
        )

    def _sets(
        self, network: Network, few: dict[str, Labelled], which: str
    ) -> dict[str, FeatureSet]:
        pool = self._pool
        z = network.features(
            f"{self.name}-{which}", ViewedPhotos(pool, network.loaded.view), self._data_identity
        )
        place = {path: i for i, path in enumerate(pool)}
        found = {
            name: labelled(
                z[[place[path] for path in one.paths]],
                torch.tensor(one.labels),
                self.class_names,
                None if one.groups is None else torch.tensor(one.groups),
            )
            for name, one in few.items()
        }
        return found | {"validation": unseen(found["validation"], found["train"])}


def _head_of(network: Network, photo: Path) -> nn.Linear:
    """A copy of a trained network's decision layer, on the CPU."""
    loaded = network.loaded
    place = next(loaded.model.parameters()).device
    image: Tensor = loaded.preprocess(ViewedPhotos([photo], loaded.view)[0][0][None])
    own = find_head(loaded.model, image.to(place))
    weight, bias = head_tensors(own)
    head = nn.utils.skip_init(nn.Linear, own.in_features, own.out_features)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head.requires_grad_(False)


def _limited(one: Labelled, most: int) -> Labelled:
    """At most so many photos of each class and group, the first ones."""
    seen: dict[tuple[int, int], int] = {}
    rows = []
    for i, label in enumerate(one.labels):
        key = (label, 0 if one.groups is None else one.groups[i])
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= most:
            rows.append(i)
    groups = None if one.groups is None else tuple(one.groups[i] for i in rows)
    return Labelled(tuple(one.paths[i] for i in rows), tuple(one.labels[i] for i in rows), groups)
