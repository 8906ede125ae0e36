"""Illusions of many neurons in many classes: a pair is a part, and its identity is its seed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._core.checks import (
    check_at_least,
    check_between,
    check_seed,
    check_whole,
)
from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.head import find_head
from captum_neuroinspect._core.head_watch import watched
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect.encoders import find_encoder
from captum_neuroinspect.models import LoadedModel, load_model
from captum_neuroinspect.optvis import IllusionOptions, Illusions, render_illusions
from captum_neuroinspect.optvis.pairing import classes_of_neurons
from captum_neuroinspect.scale._model_identity import (
    ModelIdentity,
    check_same,
    encoder_fingerprint,
)
from captum_neuroinspect.scale._plan import FORMAT, PLAN, begin, check_format, refuse_pickled
from captum_neuroinspect.scale._running import run_parts
from captum_neuroinspect.scale.atlas_folder import INDEX, features_of, near_path, pairs_of
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.site import words as of_words
from captum_neuroinspect.scale.site.growing import PAGE, GrowingSite
from captum_neuroinspect.scale.site.neighbours import nearest

_N_ANSWERS = 3  # of a model about a picture that are kept


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
        pairs_per_batch: rendered together, in the order of the pairs; the last batch is filled,
            so that all have one shape. On the CPU a picture has the same bits in any batch of
            the same size; on a GPU it also depends on what is beside it.

    Raises:
        TypeError: when a number is of another kind.
        ValueError: when it is out of range.
    """

    neurons: tuple[int, ...] | None = None
    classes_per_neuron: int = 1
    n_steps: int = 60
    size: int = 96
    gamma: float = 0.25
    encoder: str = "none"
    seed: int = 0
    pairs_per_batch: int = 8

    def __post_init__(self) -> None:
        for name in ("classes_per_neuron", "n_steps", "size", "pairs_per_batch"):
            check_whole(name, getattr(self, name))
            check_at_least(name, getattr(self, name), 1)
        check_between("gamma", self.gamma, 0, 1)
        check_seed("seed", self.seed)
        # Numbers of numpy are none that a plan, which is JSON, can hold.
        for name in ("classes_per_neuron", "n_steps", "size", "pairs_per_batch", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "gamma", float(self.gamma))
        if self.neurons is not None:
            object.__setattr__(self, "neurons", _checked(self.neurons))


def _checked(neurons: Iterable[int]) -> tuple[int, ...]:
    """Each once, as Python's own numbers."""
    given = [*neurons] if isinstance(neurons, Iterable) else [neurons]
    for neuron in given:
        check_whole("neurons", neuron)
    found = tuple(map(int, given))
    if not found:
        raise ValueError("neurons is empty, expected at least one, or None for all")
    if len(set(found)) < len(found):
        twice = next(neuron for neuron in found if found.count(neuron) > 1)
        raise ValueError(f"neurons has {twice} twice, expected each once")
    return found


@dataclass(frozen=True)
class IllusionAtlas:
    """A folder of illusions, one file a pair.

    Attributes:
        folder: that :func:`render_atlas` finished.
        pairs: one record each: ``neuron``, ``class``, ``seed``, ``weight`` (of the neuron to the
            class), ``activation``, ``logit``, ``predicted`` (the class that the model gives the
            picture), ``answers`` (its likeliest classes with their probabilities) and ``sha256``.
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
        index = json.loads(read_text(Path(folder) / INDEX))
        if not isinstance(index, dict) or not isinstance(index.get("pairs"), list):
            raise ValueError(f"{Path(folder) / INDEX} is damaged: it has no list of pairs")
        check_format(index, Path(folder) / INDEX)
        return cls(Path(folder), tuple(index["pairs"]))

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Illusions]:
        return (self.illusion(pair) for pair in range(len(self)))

    def illusion(self, pair: int) -> Illusions:
        """One pair's picture, mask and numbers."""
        return Illusions.load(pairs_of(self.folder).path(pair))

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
    words: str | Path | None = None,
    settings: AtlasSettings | None = None,
    options: ScaleOptions | None = None,
) -> IllusionAtlas:
    """Render the illusions of many neurons, each in a few classes, into a folder with a page.

    Each pair is a file, written whole or not at all; called again with the same arguments it goes
    on from the pairs that are there. ``index.html`` shows what there is, and is written again every
    minute or so. The finished folder has the same bytes whatever the number of workers, and
    whatever was killed on the way.

    Args:
        spec: of the model, as :func:`~captum_neuroinspect.models.load_model` takes it.
        out: a folder of the atlas alone.
        weights: a library's, by name, or the path of a safetensors file.
        words: phrases of neurons to search by, a CSV as ``neuroinspect describe`` writes it.
            ``None``: those that the folder has.
        settings: what it shows.
        options: workers; ``part_size`` and ``batch_size`` play no role.

    Returns:
        The finished atlas.

    Raises:
        ImportError: when Ray is missing; says how to install it.
        ValueError: for a neuron that does not exist, more classes than there are, an encoder
            without class names, or an ``out`` that was begun with other arguments.
        RuntimeError: when workers load different weights, or a batch does not fit into memory.
        OSError: when the folder cannot be written; the pairs that are there stay.
    """
    options, settings, out = options or ScaleOptions(), settings or AtlasSettings(), Path(out)
    refuse_pickled(weights)
    phrases = None if words is None else of_words.read_table(words)
    encoder = find_encoder(settings.encoder)
    loaded = load_model(spec, weights=weights)
    if encoder is not None and loaded.class_names is None:
        raise ValueError(
            f"encoder={settings.encoder!r}, but the model has no class names to show it: expected "
            "'none'"
        )
    head = _head(loaded)
    neurons = range(head.in_features) if settings.neurons is None else settings.neurons
    pairs = list(
        zip(*classes_of_neurons(head, [*neurons], settings.classes_per_neuron), strict=True)
    )
    identity = ModelIdentity.of(loaded, spec)
    if phrases and (last := max(phrases)) >= head.in_features:
        raise ValueError(
            f"words={str(words)!r} has a unit {last}, but there are {head.in_features} neurons: "
            "it is of another layer"
        )
    plan = {
        "model": {"spec": spec, "weights": None if weights is None else str(weights)},
        **asdict(identity),
        "encoder_fingerprint": None if encoder is None else encoder_fingerprint(encoder),
        "settings": asdict(settings),
        "n_threads": options.n_threads,
        "class_names": None if loaded.class_names is None else [*loaded.class_names],
        "pairs": pairs,
    }
    _refuse_others(out)
    begin(out, plan)
    _write_near(out, head, list(dict.fromkeys(neuron for neuron, _ in pairs)))
    if phrases is not None:
        of_words.keep(phrases, out)
    parts, features, site = pairs_of(out), features_of(out), GrowingSite(out)
    for one in (parts, features):
        one.folder.mkdir(parents=True, exist_ok=True)
        one.clear()
    missing = [
        batch
        for batch in range(math.ceil(len(pairs) / settings.pairs_per_batch))
        if features.record(batch) is None
        or any(parts.record(part) is None for part in _in_batch(batch, len(pairs), settings))
    ]
    work = _MakeAtlasWork(
        str(out.resolve()), spec, weights, settings, tuple(pairs), identity.fingerprint,
        "auto" if options.gpus else "cpu", "none" if encoder is None else encoder.name,
    )  # fmt: skip
    del loaded, head, encoder
    run_parts(
        work, missing, options, f"batches of {settings.pairs_per_batch}", on_part=site.refresh
    )
    parts.clear()
    features.clear()
    records = [
        parts.record(part, check=False) or {}
        for part in tqdm(range(len(pairs)), desc="index", disable=not options.progress)
    ]
    site.write()
    write_text(out / INDEX, json.dumps({"format": FORMAT, "pairs": records}, indent=1) + "\n")
    return IllusionAtlas.open(out)


def _refuse_others(out: Path) -> None:
    """Write over no page that is not an atlas's."""
    names = [] if (out / PLAN).exists() else [PAGE, INDEX, "pairs", "features", "sheets"]
    if found := [name for name in names if os.path.lexists(out / name)]:
        raise ValueError(f"{out} has {found[0]}, but no atlas was begun there: give a new folder")


def _write_near(out: Path, head: nn.Linear, neurons: list[int]) -> None:
    """Neighbours by the weights of the decision layer, which only the model has."""
    weight = head.weight.detach().cpu()[:, neurons].T
    near = nearest(neurons, weight)
    write_text(near_path(out), json.dumps(near) + "\n")


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
    encoder: str

    def __call__(self) -> _AtlasWork:
        loaded = load_model(self.spec, weights=self.weights, device=self.device)
        return _AtlasWork(self, check_same(loaded, self.fingerprint))


class _AtlasWork:
    """One worker's networks, and the pairs that it renders."""

    def __init__(self, made: _MakeAtlasWork, loaded: LoadedModel) -> None:
        self._made, self._loaded = made, loaded
        self._parts, self._features = pairs_of(Path(made.out)), features_of(Path(made.out))
        self._model = loaded.on_pixels()
        self._head = _head(loaded)
        named = find_encoder(made.encoder, made.device)
        self._encoder = None if named is None else named.guide.load()

    def do(self, part: int) -> None:
        """Render the pairs of one batch together, and write those that are not there."""
        asked = self._made.settings
        batch = _in_batch(part, len(self._made.pairs), asked)
        missing = [number for number in batch if self._parts.record(number) is None]
        if not missing and self._features.record(part) is not None:
            return
        # The whole batch, even for one of it, and always as many: no shape rounds otherwise.
        filled = [*batch] + [batch[-1]] * (asked.pairs_per_batch - len(batch))
        neurons, classes = zip(*(self._made.pairs[number] for number in filled), strict=True)
        seeds = [pair_seed(*pair, asked.seed) for pair in zip(neurons, classes, strict=True)]
        found = self._rendered(neurons, classes, seeds)
        illusions = [_alone(found, row) for row in range(len(batch))]
        features, logits = zip(*map(self._seen, illusions), strict=True)
        kept = {"features": torch.stack(features)}
        self._features.commit(part, lambda path: save_file(kept, path), {"pairs": [*batch]})
        for number in missing:
            row = number - batch[0]
            self._commit(number, illusions[row], seeds[row], logits[row])

    def _rendered(
        self, neurons: Sequence[int], classes: Sequence[int], seeds: Sequence[int]
    ) -> Illusions:
        asked = self._made.settings
        with warnings.catch_warnings():
            # Of pictures that nobody will see.
            warnings.filterwarnings("ignore", "interrupted: ")
            found = render_illusions(
                self._model,
                neurons,
                classes,
                head=self._head,
                encoder=self._encoder,
                class_names=self._loaded.class_names,
                size=asked.size,
                n_steps=asked.n_steps,
                gamma=asked.gamma,
                seed=seeds,
                options=IllusionOptions(batch_size=asked.pairs_per_batch),
                progress=False,
            )
        self._check_whole(found)
        return found

    def _check_whole(self, found: Illusions) -> None:
        """Refuse what another run would not give: pictures that are not done, or other batches."""
        if found.settings["interrupted"] is not None:  # the rendering gave what it had
            raise KeyboardInterrupt
        n_asked, n_together = self._made.settings.pairs_per_batch, found.settings["n_together"]
        if n_together != n_asked:
            raise RuntimeError(
                f"there is memory for {n_together} pictures at a time, but "
                f"pairs_per_batch={n_asked}: give fewer, in another folder"
            )

    def _commit(self, pair: int, found: Illusions, seed: int, logits: Tensor) -> None:
        neuron, of_class = self._made.pairs[pair]
        weight = self._head.weight.detach()[of_class, neuron]
        record = {
            "neuron": neuron,
            "class": of_class,
            "seed": seed,
            "weight": float(weight),
            "activation": _number(found.activations),
            "logit": None if found.logits is None else _number(found.logits),
            "predicted": int(logits.argmax()),
            "answers": _answers(logits),
        }
        self._parts.commit(pair, found.save, record)

    def _seen(self, found: Illusions) -> tuple[Tensor, Tensor]:
        """Features and logits of one picture, by itself."""
        with torch.no_grad(), watched(self._model, self._head) as watch:
            output = self._model(found.images.to(device_of(self._model)))
            logits = watch.logits(output)
            return watch.features[0].float().cpu(), logits[0].float().cpu()


def _alone(found: Illusions, row: int) -> Illusions:
    """One row, with what its settings say of it alone."""
    settings = dict(found.settings)
    for name in ("seed", "n_rolled_back", "negative_similarities"):
        if isinstance(settings.get(name), list):
            settings[name] = settings[name][row : row + 1]
    return replace(found[row], settings=settings)


def _in_batch(batch: int, n_pairs: int, settings: AtlasSettings) -> range:
    """The numbers of a batch's pairs."""
    size = settings.pairs_per_batch
    return range(batch * size, min((batch + 1) * size, n_pairs))


def _answers(logits: Tensor) -> list[list[float]]:
    """The classes that a model finds likeliest, each with its probability in ten-thousandths."""
    shares, classes = logits.softmax(0).sort(descending=True, stable=True)
    return [
        [int(one), round(float(share), 4)]
        for one, share in zip(classes[:_N_ANSWERS], shares, strict=False)
    ]


def _head(loaded: LoadedModel) -> nn.Linear:
    height, width = loaded.view.size
    return find_head(loaded.model, loaded.preprocess(torch.zeros(1, 3, height, width)))


def _number(value: torch.Tensor) -> float | None:
    """As JSON knows it."""
    number = float(value[0])
    return number if math.isfinite(number) else None
