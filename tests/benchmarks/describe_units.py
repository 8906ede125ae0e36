"""How often units of a known rule get their name: `describe_units` against published references.

Synthetic units (``rules``): built from EfficientNet-Lite1's logits on photos and from attributes of
the pixels: one concept, A or B, A only with B, A without B. Phrases: ImageNet's class names,
the built-in words (scored by ``LabelSpaceEncoder.pretrained()``, which is Lite2: another network
than the units') and the attributes. Right: a phrase of the rule that makes the unit active;
capitals do not count, as the list of words has no two phrases that differ by them alone. Of a photo
that is cut into crops all crops belong together.

Planted causes (``--causes``): photos, half of them with text, stripes, blur, dots, fog or a frame;
the unit of Lite0 that the cause moves most must get the cause's name.

What rests on the networks is computed once and kept in ``--keep``.
Run with the package installed: ``python tests/benchmarks/describe_units.py --data clothing``, or
``--speed`` for time and memory.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from blame_causes import Cause, causes, frame, unseen_causes
from describe import SCENES, read, scene_crops
from describe_references import mean_cosine, rank_correlation, strong_correlation
from large_edit import peak
from safetensors.torch import load_file, save_file
from torch import Tensor

from captum_neuroinspect import collect_features
from captum_neuroinspect.describe import (
    ATTRIBUTES,
    DescribeOptions,
    UnitDescription,
    attribute_scores,
    describe_units,
    word_list,
)
from captum_neuroinspect.describe._embedding import embed_phrases
from captum_neuroinspect.describe.matching import TEMPLATES
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.soft_wpmi import soft_wpmi
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite, load_minilm

SIDE, BATCH, N_OF_SCENE = 224, 32, 60
NEAR = 0.7  # cosine of two phrases, fixed before measuring
_NEEDED = 15  # photos that a class must win before a unit is built from it
CAUSE_NAMES = {  # written down before measuring
    "text": {"text", "word", "letters", "handwriting", "page", "document"},
    "blur": {"blurred", "blur", "blurry"},
    "stripes": {"stripes", "stripe", "striped", "fine texture", "lines"},
    "dots": {"dots", "dot", "dotted", "spots", "spotted"},
    "fog": {"pale", "fog", "foggy", "mist", "misty", "bright"},
    "frame": {"frame", "border"},
}


@dataclass(frozen=True)
class Unit:
    """A synthetic unit: its kind, activations, and the phrases that name it."""

    kind: str
    values: Tensor
    right: frozenset[str]


def photos_of(folder: Path, n: int | None) -> list[Tensor]:
    paths = sorted(folder.glob("*/*/*.jpg"))
    chance = random.Random(0)
    chance.shuffle(paths)
    of_scenes = [crop for name in SCENES for crop in scene_crops(name, N_OF_SCENE, chance)]
    images = [read(path) for path in paths[:n]]
    return [
        F.interpolate(image[None], (SIDE, SIDE), mode="area")[0] for image in images + of_scenes
    ]


def groups_of(n_photos: int) -> Tensor:
    """``(N,)`` which of the photos of :func:`photos_of` belong together: crops of one photo."""
    n_single = n_photos - N_OF_SCENE * len(SCENES)
    of_scenes = torch.arange(len(SCENES)).repeat_interleave(N_OF_SCENE)
    return torch.cat([torch.arange(n_single), n_single + of_scenes])


def measured(photos: list[Tensor]) -> dict[str, Tensor]:
    """Of photos: Lite0's and Lite1's features and logits, embeddings and attributes."""
    encoder = LabelSpaceEncoder.pretrained()
    networks = {variant: load_efficientnet_lite(variant) for variant in (0, 1)}
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(photos), BATCH):
        batch = torch.stack(photos[start : start + BATCH])
        part = {"attributes": attribute_scores(batch).scores}
        with torch.no_grad():
            part["embeddings"] = F.normalize(encoder.encode_image(batch), dim=1)
        for variant, network in networks.items():
            unlabelled = torch.zeros(len(batch), dtype=torch.int64)
            collected = collect_features(network, (batch, unlabelled), progress=False)
            part[f"features{variant}"] = collected.features
            part[f"logits{variant}"] = collected.logits
        for name, values in part.items():
            found.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in found.items()}


def kept_measures(keep: Path, data: Path, n_photos: int | None = None) -> dict[str, Tensor]:
    """What :func:`measured` says of the photos, from ``keep`` where it is there already."""
    if not keep.exists():
        keep.parent.mkdir(parents=True, exist_ok=True)
        save_file(measured(photos_of(data, n_photos)), keep)
    return load_file(keep)


def synthetic_units(
    logits: Tensor, attributes: Tensor, names: tuple[str, ...], seed: int
) -> list[Unit]:
    """Eighty units of rules, drawn from the classes that are there and the attributes."""
    rng = random.Random(seed)
    classes = imagenet_class_names()
    wins = logits.argmax(1).bincount(minlength=logits.shape[1])
    there = [c for c in range(len(classes)) if wins[c] >= _NEEDED]
    concepts = {classes[c]: _standard(logits[:, c]) for c in there}
    pixels = {name: _standard(attributes[:, k]) for k, name in enumerate(names)}
    units = [Unit("class", concepts[a], frozenset({a})) for a in rng.sample(sorted(concepts), 20)]
    units += [Unit("attribute", pixels[a], frozenset({a})) for a in rng.sample(sorted(pixels), 15)]
    for _ in range(15):
        a, b = rng.sample(sorted(concepts), 2)
        units.append(Unit("A or B", torch.maximum(concepts[a], concepts[b]), frozenset({a, b})))
        a, b = rng.choice(sorted(concepts)), rng.choice(sorted(pixels))
        units.append(
            Unit("A only with B", torch.minimum(concepts[a], pixels[b]), frozenset({a, b}))
        )
        a, b = rng.sample(sorted(concepts), 2)
        units.append(Unit("A without B", concepts[a] - concepts[b].relu(), frozenset({a})))
    noise = torch.Generator().manual_seed(seed)
    return [
        Unit(u.kind, (u.values + 0.3 * torch.randn(len(u.values), generator=noise)).relu(), u.right)
        for u in units
    ]


def _standard(values: Tensor) -> Tensor:
    return (values - values.mean()) / values.std()


Method = Callable[[Tensor, Tensor], Tensor]  # activations (N, K), scores (N, P) -> (K, P)


METHODS: dict[str, Method] = {
    "mean cosine": mean_cosine,
    "mean cosine, in spreads": lambda a, s: mean_cosine(a, s) / s.std(0).clamp_min(1e-6),
    "soft WPMI": soft_wpmi,
    "Pearson": lambda a, s: F.normalize(a - a.mean(0), dim=0).T @ F.normalize(s - s.mean(0), dim=0),
    "rank correlation": rank_correlation,
    "correlation with squares": strong_correlation,
}


def interval(hits: list[bool], seed: int = 0) -> str:
    """Share in per cent with a 95 % bootstrap interval."""
    values = np.array(hits, float)
    drawn = np.random.default_rng(seed).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return f"{100 * values.mean():.0f} ({100 * low:.0f} to {100 * high:.0f})"


def print_rules(units: list[Unit], scores: Tensor, names: list[str]) -> None:
    kinds = list(dict.fromkeys(unit.kind for unit in units))
    activations = torch.stack([unit.values for unit in units], 1)
    rows: dict[str, list[list[str]]] = {}
    rng = random.Random(0)
    rows["a random word"] = [rng.sample(names, 5) for _ in units]
    counts = {name: sum(is_right(name, unit) for unit in units) for name in names}
    constant = sorted(names, key=lambda name: -counts[name])[:5]
    rows["the best constant five"] = [constant for _ in units]
    for method, agreement in METHODS.items():
        order = agreement(activations, scores).sort(dim=1, descending=True, stable=True).indices
        rows[method] = [[names[p] for p in best[:5].tolist()] for best in order]
    groups = groups_of(len(activations))
    found = describe_units(activations, scores, names, together=groups)
    alone = describe_units(activations, scores, names)
    rows["describe_units"] = [list(d.phrases) for d in found]
    rows["describe_units, crops taken for photos"] = [list(d.phrases) for d in alone]
    print(
        f"{len(units)} units, {len(activations)} photos, {len(names)} phrases; one of five right, %"
    )
    print(f"\n| method | all: first right | all: one of five | {' | '.join(kinds)} |")
    print("| --- " * (3 + len(kinds)) + "|")
    for method, said in rows.items():
        first = [is_right(words[0], u) for words, u in zip(said, units, strict=True)]
        five = [
            any(is_right(word, u) for word in words) for words, u in zip(said, units, strict=True)
        ]
        of_kind = [
            f"{100 * np.mean([h for h, u in zip(five, units, strict=True) if u.kind == kind]):.0f}"
            for kind in kinds
        ]
        print(f"| {method} | {interval(first)} | {interval(five)} | {' | '.join(of_kind)} |")
    print("\n| | units | first right, % | or a near word, % | words alone: units, first right, % |")
    print("| --- | --- | --- | --- | --- |")
    _print_certain("together, ", units, found)
    _print_certain("crops taken for photos, ", units, alone)
    parts = [
        {p for sign, p in d.combination if sign > 0} >= u.right
        for d, u in zip(found, units, strict=True)
        if u.kind in ("A or B", "A only with B")
    ]
    print(f"\ncombination holds A and B: {interval(parts)} % of {len(parts)}")
    print("\nwrong, though certain:")
    for d, u in zip(found, units, strict=True):
        if d.is_certain and not is_right(d.phrases[0], u):
            print(f"- {u.kind} {sorted(u.right)}: {d.text()}")


def is_right(phrase: str, unit: Unit) -> bool:
    return phrase.casefold() in {name.casefold() for name in unit.right}


def _print_certain(case: str, units: list[Unit], found: Sequence[UnitDescription]) -> None:
    near = _near()
    for word, wanted in (("certain", True), ("uncertain", False)):
        of_kind = [(d, u) for d, u in zip(found, units, strict=True) if d.is_certain is wanted]
        hits = [is_right(d.phrases[0], u) for d, u in of_kind]
        nearly = [any(near(d.phrases[0], right) for right in u.right) for d, u in of_kind]
        words = [
            hit for hit, (d, _) in zip(hits, of_kind, strict=True) if d.phrases[0] not in ATTRIBUTES
        ]
        kinds = Counter(u.kind for _, u in of_kind)
        told = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        cells = [f"{len(hits)} of {len(units)}: {told}", _share(hits), _share(nearly)]
        print(f"| {case}{word} | {' | '.join(cells)} | {len(words)}, {_share(words)} |")


def _share(hits: list[bool]) -> str:
    return interval(hits) if hits else ""


def _near() -> Callable[[str, str], bool]:
    """Whether two phrases mean about the same, by a sentence encoder that names no unit here."""
    encode = load_minilm()
    kept: dict[str, Tensor] = {}

    def of(phrase: str) -> Tensor:
        if phrase not in kept:
            kept[phrase] = F.normalize(encode([phrase])[0], dim=0)
        return kept[phrase]

    return lambda one, other: float(of(one) @ of(other)) >= NEAR


def planted() -> dict[str, dict[str, Cause]]:
    known = causes()
    return {
        "text": known["text"],
        "blur": known["blur"],
        "stripes": known["stripes"],
        "dots": {"tile": known["tile"]["dots"]},
        "fog": unseen_causes()["fog"],
        "frame": {"black": frame(28, (0.0, 0.0, 0.0)), "orange": frame(40, (1.0, 0.5, 0.1))},
    }


def print_causes(photos: list[Tensor], encoder: LabelSpaceEncoder, words: tuple[str, ...]) -> None:
    model = load_efficientnet_lite(0)
    texts = embed_phrases(words, encoder, TEMPLATES, progress=False)
    clean = torch.stack(photos)
    first, second = clean.chunk(2)
    print("\n| cause | variant | first five phrases of its unit | right | certain |")
    print("| --- | --- | --- | --- | --- |")
    hits: list[bool] = []
    for name, variants in planted().items():
        for variant, cause in variants.items():
            shown = torch.cat([first, cause(second)])
            features = collect_features(
                model, (shown, torch.zeros(len(shown), dtype=torch.int64)), progress=False
            ).features
            moved = collect_features(
                model, (second, torch.zeros(len(second), dtype=torch.int64)), progress=False
            ).features
            shift = (features[len(first) :] - moved).mean(0) / features.std(0).clamp_min(1e-6)
            unit = int(shift.argmax())
            with torch.no_grad():
                embeddings = torch.cat([encoder.encode_image(b) for b in shown.split(BATCH)])
            attributes = attribute_scores(shown)
            scores = torch.cat([attributes.scores, F.normalize(embeddings, dim=1) @ texts.T], 1)
            names = _different([*attributes.phrases, *words])
            (said,) = describe_units(
                features[:, unit : unit + 1], scores, names, units=[unit], options=DescribeOptions()
            )
            hits.append(bool(set(said.phrases) & CAUSE_NAMES[name]))
            cells = [name, variant, ", ".join(said.phrases), "yes" if hits[-1] else "no"]
            print(f"| {' | '.join([*cells, 'yes' if said.is_certain else 'no'])} |", flush=True)
    print(f"\none of five right: {interval(hits)} %, {len(hits)} causes")


def _different(names: list[str]) -> list[str]:
    """Names of which later equals carry their source: 'red' the attribute, 'red (word)'."""
    seen: set[str] = set()
    found = []
    for name in names:
        found.append(name if name not in seen else f"{name} (word)")
        seen.add(name)
    return found


def print_speed(n_units: int = 1280, n_phrases: int = 20_000, n_photos: int = 5000) -> None:
    """Seconds and the highest memory, with embeddings that are there already."""
    rng = torch.Generator().manual_seed(0)
    activations = torch.randn(n_photos, n_units, generator=rng).relu()
    scores = torch.randn(n_photos, n_phrases, generator=rng)
    before, start = peak(), time.perf_counter()
    describe_units(activations, scores, [f"phrase {n}" for n in range(n_phrases)])
    seconds = time.perf_counter() - start
    print("| units | phrases | photos | seconds | GiB of the input | GiB at most |")
    print("| --- | --- | --- | --- | --- | --- |")
    cells = n_units, n_phrases, n_photos, f"{seconds:.0f}", f"{before:.1f}", f"{peak():.1f}"
    print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with train and test")
    parser.add_argument("--speed", action="store_true", help="time and memory on random numbers")
    parser.add_argument("--photos", type=int, help="of the folder, at most")
    parser.add_argument("--causes", type=int, default=0, help="photos for the planted causes")
    parser.add_argument("--seed", type=int, default=0, help="of the rules")
    parser.add_argument("--keep", type=Path, default=Path("describe_kept.safetensors"))
    options = parser.parse_args()
    if options.speed:
        print_speed()
        return
    if options.data is None:
        parser.error("--data is needed, or --speed")
    encoder = LabelSpaceEncoder.pretrained()
    kept = kept_measures(options.keep, options.data, options.photos)
    classes = list(dict.fromkeys(imagenet_class_names()))
    words = word_list(class_names=classes)
    start = time.perf_counter()
    texts = embed_phrases(words, encoder, TEMPLATES, progress=False)
    print(f"{len(words)} words embedded in {time.perf_counter() - start:.0f} s")
    scores = torch.cat([kept["attributes"], kept["embeddings"] @ texts.T], 1)
    names = _different([*ATTRIBUTES, *words])
    print_rules(
        synthetic_units(kept["logits1"], kept["attributes"], ATTRIBUTES, options.seed),
        scores,
        names,
    )
    if options.causes:
        print_causes(photos_of(options.data, options.causes)[: options.causes], encoder, words)


if __name__ == "__main__":
    main()
