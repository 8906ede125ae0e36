"""Illusions of many neurons in many classes: a pair is a part, and its identity is its seed."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.fingerprint import backbone_fingerprint
from captum_neuroinspect._core.head import find_head
from captum_neuroinspect.encoders import find_encoder
from captum_neuroinspect.models import LoadedModel, load_model
from captum_neuroinspect.optvis import IllusionOptions, Illusions, render_illusions
from captum_neuroinspect.optvis.pairing import classes_of_neurons
from captum_neuroinspect.scale._plan import FORMAT, begin, check_format, refuse_pickled
from captum_neuroinspect.scale._running import run_parts
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.options import ScaleOptions

_INDEX, _PARTS = "index.json", "pairs"


@dataclass(frozen=True)
class AtlasSettings:
    """What an atlas shows, and how its illusions are rendered.

    Attributes:
        neurons: inputs of the decision layer. None: all.
        classes_per_neuron: those that it has the largest weights to.
        n_steps: optimisation steps.
        size: pixels of a side.
        gamma: weight of the logit, 0..1.
        encoder: that guides, by the name that ``find_encoder`` takes; ``"none"``: no encoder.
        seed: beside the pair's identity, draws every pair.
    """

    neurons: tuple[int, ...] | None = None
    classes_per_neuron: int = 1
    n_steps: int = 60
    size: int = 96
    gamma: float = 0.25
    encoder: str = "none"
    seed: int = 0


@dataclass(frozen=True)
class IllusionAtlas:
    """A folder of illusions, one file a pair.

    Attributes:
        folder: that :func:`render_atlas` finished.
        pairs: one record each: ``neuron``, ``class``, ``seed``, ``activation``, ``logit``,
            ``predicted`` (the class that the model gives the picture) and ``sha256``.
    """

    folder: Path
    pairs: tuple[dict[str, Any], ...] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> IllusionAtlas:
        """Open a finished folder.

        Raises:
            OSError: when there is none, or it is not finished.
            ValueError: when its index is damaged.
        """
        index = json.loads(read_text(Path(folder) / _INDEX))
        if not isinstance(index, dict) or not isinstance(index.get("pairs"), list):
            raise ValueError(f"{Path(folder) / _INDEX} is damaged: it has no list of pairs")
        check_format(index, Path(folder) / _INDEX)
        return cls(Path(folder), tuple(index["pairs"]))

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Illusions]:
        return (self.illusion(pair) for pair in range(len(self)))

    def illusion(self, pair: int) -> Illusions:
        """One pair's picture, mask and numbers."""
        parts = CommittedParts(self.folder / _PARTS, ".safetensors")
        return Illusions.load(parts.path(pair))

    @property
    def top_1(self) -> float:
        """The share of pictures that the model itself takes for their class."""
        hits = [one["predicted"] == one["class"] for one in self.pairs]
        return sum(hits) / len(hits)


def pair_seed(neuron: int, of_class: int, seed: int = 0) -> int:
    """The seed of a pair: the same in every atlas, wherever the pair stands in it.

    Examples::

        >>> pair_seed(7, 207) == pair_seed(7, 207) != pair_seed(207, 7)
        True
    """
    text = f"{seed}/{neuron}/{of_class}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") >> 1


def render_atlas(
    spec: str,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    settings: AtlasSettings | None = None,
    options: ScaleOptions | None = None,
) -> IllusionAtlas:
    """Render the illusions of many neurons, each in a few classes, into a folder.

    Each pair is a file, written whole or not at all; called again with the same arguments it goes
    on from the pairs that are there. The finished folder has the same bytes whatever the number
    of workers, and whatever was killed on the way.

    Args:
        spec: of the model, as :func:`~captum_neuroinspect.models.load_model` takes it.
        out: a folder of the atlas alone.
        weights: a library's, by name, or the path of a safetensors file.
        settings: what it shows.
        options: workers; ``part_size`` and ``batch_size`` play no role.

    Returns:
        The finished atlas.

    Raises:
        ImportError: when Ray is missing; says how to install it.
        ValueError: for a neuron that does not exist, more classes than there are, an encoder
            without class names, or an ``out`` that was begun with other arguments.
        RuntimeError: when workers load different weights.
        OSError: when the folder cannot be written; the pairs that are there stay.
    """
    options, settings, out = options or ScaleOptions(), settings or AtlasSettings(), Path(out)
    refuse_pickled(weights)
    loaded = load_model(spec, weights=weights)
    head = _head(loaded)
    neurons = range(head.in_features) if settings.neurons is None else settings.neurons
    pairs = list(
        zip(*classes_of_neurons(head, [*neurons], settings.classes_per_neuron), strict=True)
    )
    of_model = backbone_fingerprint(loaded.model)
    plan = {
        "model": {"spec": spec, "weights": None if weights is None else str(weights)},
        "fingerprint": of_model,
        "settings": asdict(settings),
        "n_threads": options.n_threads,
        "pairs": pairs,
    }
    begin(out, plan)
    parts = CommittedParts(out / _PARTS, ".safetensors")
    parts.folder.mkdir(parents=True, exist_ok=True)
    parts.clear()
    missing = [part for part in range(len(pairs)) if parts.record(part) is None]
    work = _MakeAtlasWork(
        str(out.resolve()), spec, weights, settings, tuple(pairs), of_model,
        "auto" if options.gpus else "cpu",
    )  # fmt: skip
    del loaded, head
    run_parts(work, missing, options, "pairs")
    parts.clear()
    records = [
        parts.record(part, check=False) or {}
        for part in tqdm(range(len(pairs)), desc="index", disable=not options.progress)
    ]
    write_text(out / _INDEX, json.dumps({"format": FORMAT, "pairs": records}, indent=1) + "\n")
    return IllusionAtlas.open(out)


@dataclass(frozen=True)
class _MakeAtlasWork:
    """What is sent to a worker."""

    out: str
    spec: str
    weights: str | Path | None
    settings: AtlasSettings
    pairs: tuple[tuple[int, int], ...]
    fingerprint: str
    device: str

    def __call__(self) -> _AtlasWork:
        loaded = load_model(self.spec, weights=self.weights, device=self.device)
        if backbone_fingerprint(loaded.model) != self.fingerprint:
            raise RuntimeError(
                "a worker loaded different weights: give weights= or a seed, so that the model is "
                "the same each time it is loaded"
            )
        return _AtlasWork(self, loaded)


class _AtlasWork:
    """One worker's networks, and the pairs that it renders."""

    def __init__(self, made: _MakeAtlasWork, loaded: LoadedModel) -> None:
        self._made, self._loaded = made, loaded
        self._parts = CommittedParts(Path(made.out) / _PARTS, ".safetensors")
        self._model = loaded.on_pixels()
        self._head = _head(loaded)
        named = find_encoder(made.settings.encoder, made.device)
        self._encoder = None if named is None else named.guide.load()

    def do(self, part: int) -> None:
        if self._parts.record(part) is not None:
            return
        (neuron, of_class), asked = self._made.pairs[part], self._made.settings
        seed = pair_seed(neuron, of_class, asked.seed)
        found = render_illusions(
            self._model,
            neuron,
            of_class,
            head=self._head,
            encoder=self._encoder,
            class_names=self._loaded.class_names,
            size=asked.size,
            n_steps=asked.n_steps,
            gamma=asked.gamma,
            seed=seed,
            # Alone: what shares a batch may not change a picture.
            options=IllusionOptions(batch_size=1),
            progress=False,
        )
        record = {
            "neuron": neuron,
            "class": of_class,
            "seed": seed,
            "activation": _number(found.activations),
            "logit": None if found.logits is None else _number(found.logits),
            "predicted": self._predicted(found),
        }
        self._parts.commit(part, found.save, record)

    def _predicted(self, found: Illusions) -> int:
        with torch.no_grad():
            output = self._model(found.images.to(next(self._model.parameters()).device))
        logits = output if isinstance(output, torch.Tensor) else output.logits
        return int(logits.argmax(1))


def _head(loaded: LoadedModel) -> nn.Linear:
    height, width = loaded.view.size
    return find_head(loaded.model, loaded.preprocess(torch.zeros(1, 3, height, width)))


def _number(value: torch.Tensor) -> float | None:
    """As JSON knows it."""
    number = float(value[0])
    return number if math.isfinite(number) else None
