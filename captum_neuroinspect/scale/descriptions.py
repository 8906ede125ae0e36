"""Units in words over many photos: exact sums find the few phrases that a unit may go with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from captum_neuroinspect.describe import Descriptions, UnitDescription
from captum_neuroinspect.describe.units import (
    EQUAL,
    LEAST_GAIN,
    LEAST_PHOTOS,
    MOST_TERMS,
    N_CANDIDATES,
    DescribeOptions,
    PhotoSplit,
    UnitDescriber,
    split_photos,
)
from captum_neuroinspect.scale._plan import read_plan
from captum_neuroinspect.scale._reducing import (
    GROUP,
    commit,
    kept,
    kept_parts,
    n_groups,
    run_missing,
)
from captum_neuroinspect.scale._running import one_session
from captum_neuroinspect.scale.features import FeatureParts
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.reduction import PhotoMoments, combined

_N_PROBES = 16  # combinations of units, with which units that are equal correlate equally
_UNITS_AT_A_TIME = 16
_SPARE = 2  # further candidates: float32 may order almost equal ones otherwise
_ROUNDING = 1e-4  # of a correlation, far above that of float32
_FLAT = 1e-6  # of the largest value: a smaller spread is rounding, as in describe_units
_MOST_TWINS = 4
_PARTS_AT_A_TIME = 8
_COLUMNS, _RANGES, _MOMENTS, _DESCRIBED = "columns", "ranges", "moments", "described"


def describe_at_scale(
    features: FeatureParts,
    similarities: FeatureParts,
    out: str | Path,
    *,
    describe: DescribeOptions | None = None,
    options: ScaleOptions | None = None,
) -> Descriptions:
    """Name the units of a layer by the phrases that go with them on many photos.

    These are the descriptions of :func:`~captum_neuroinspect.describe.describe_units` on all
    features and similarities together; correlations differ by what float32 rounds there. Exact
    sums over the parts give the correlations of all units and phrases, and so the few phrases that
    a unit is to be looked at with; these are then read over all photos, unit by unit. No step holds
    all features.

    Args:
        features: of the photos; each input of the decision layer is a unit.
        similarities: of the same photos in the same parts, as
            :func:`~captum_neuroinspect.scale.collect_similarities_at_scale` gives them.
        out: a folder of the work: as large as features and similarities together, and for each
            64 parts about 160 bytes for each pair of a unit and a phrase, and 80 for each of two
            phrases. A further call goes on from what is there.
        describe: how units are described. Photos are taken for independent.
        options: workers; its ``part_size`` and ``batch_size`` play no role. Each worker needs some
            600 bytes for each photo, and 2 GB for 2,048 units and 1,000 phrases.

    Returns:
        A description for each unit.

    Raises:
        ImportError: when Ray or pyarrow is missing; says how to install it.
        ValueError: for other photos in the two, fewer than 20, damaged parts, or an ``out`` that
            was begun with other arguments.
        OSError: when the folder cannot be written.
    """
    out, options, describe = Path(out), options or ScaleOptions(), describe or DescribeOptions()
    phrases = _check(features, similarities)
    plan = {
        "features": features.identity,
        "similarities": similarities.identity,
        "describe": asdict(describe),
        "n_threads": options.n_threads,
        "group": GROUP,
    }
    made = _Describing(
        str(features.folder.resolve()), str(similarities.folder.resolve()), str(out.resolve()),
        describe,
    )  # fmt: skip
    n = n_groups(features)
    with one_session(options):
        for stage, make in (
            (_COLUMNS, partial(_ColumnsWork, made)),
            (_RANGES, partial(_RangesWork, made)),
            (_MOMENTS, partial(_MomentsWork, made)),
        ):
            run_missing(out / stage, plan, n, make, options)
        shortlists = _shortlists(out, n, len(phrases), describe)
        n_blocks = -(-len(shortlists) // _UNITS_AT_A_TIME)
        work = partial(_DescribeWork, made, tuple(shortlists))
        run_missing(out / _DESCRIBED, plan, n_blocks, work, options)
        blocks = kept(out / _DESCRIBED, n_blocks, _Described)
        return Descriptions(one for block in blocks for one in block.descriptions)


def _check(features: FeatureParts, similarities: FeatureParts) -> tuple[str, ...]:
    """Refuse what belongs to other photos; the phrases."""
    plans = [read_plan(one.folder) for one in (features, similarities)]
    names = {"photos": "photos", "files": "versions of the files", "part_size": "part_size"}
    differs = [said for name, said in names.items() if plans[0].get(name) != plans[1].get(name)]
    if differs or features.skipped != similarities.skipped:
        raise ValueError(
            f"similarities are of other {' and '.join(differs) or 'photos'} than features: collect "
            "both with the same source and part_size"
        )
    if similarities.class_names is None:
        raise ValueError("similarities have no class_names, expected the phrases")
    if features.n_photos < LEAST_PHOTOS:
        raise ValueError(
            f"features has {features.n_photos} photos, expected at least {LEAST_PHOTOS}"
        )
    return similarities.class_names


@dataclass(frozen=True)
class _Describing:
    """What a worker is told.

    Attributes:
        features: a folder, and so
        similarities: is one, and
        out: of the work.
        describe: how.
    """

    features: str
    similarities: str
    out: str
    describe: DescribeOptions


@dataclass(frozen=True)
class _Shortlist:
    """What a unit is looked at with.

    Attributes:
        units: earlier ones that may equal it, then itself.
        phrases: their numbers, ascending.
    """

    units: tuple[int, ...]
    phrases: tuple[int, ...]


class _Groups:
    """The photos of both folders, some parts at a time."""

    def __init__(self, made: _Describing) -> None:
        self.features = FeatureParts.open(made.features)
        self._similarities = FeatureParts.open(made.similarities)
        self.phrases = self._similarities.class_names or ()
        _, judging, _ = split_photos(self.features.n_photos, made.describe)
        self._judges = torch.zeros(self.features.n_photos, dtype=torch.bool)
        self._judges[judging] = True
        counts = [0, *self.features.counts]
        self._starts = torch.tensor(counts).cumsum(0).tolist()

    def __call__(self, group: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Activations ``(n, K)``, similarities ``(n, P)`` and ``(n,)`` who judges."""
        last = min((group + 1) * GROUP, len(self.features))
        for first in range(group * GROUP, last, _PARTS_AT_A_TIME):
            parts = range(first, min(first + _PARTS_AT_A_TIME, last))
            yield (
                torch.cat([self.features[part].features.features for part in parts]),
                torch.cat([self._similarities[part].features.logits for part in parts]),
                self._judges[self._starts[parts[0]] : self._starts[parts[-1] + 1]],
            )


@dataclass(frozen=True, eq=False)
class _Columns:
    """Some photos' numbers unit by unit, and phrase by phrase.

    Attributes:
        units: ``(K, n)``.
        phrases: ``(P, n)``.
    """

    units: Tensor
    phrases: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {"units": self.units, "phrases": self.phrases}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> _Columns:
        return cls(kept["units"], kept["phrases"])


class _ColumnsWork:
    """Turns rows into columns, so that a unit can be read over all photos."""

    def __init__(self, made: _Describing) -> None:
        self._groups, self._out = _Groups(made), Path(made.out) / _COLUMNS

    def do(self, part: int) -> None:
        if kept_parts(self._out).record(part) is None:
            rows = list(self._groups(part))
            units, phrases = (torch.cat([one[i] for one in rows]).T for i in range(2))
            commit(self._out, part, _Columns(units, phrases))


@dataclass(frozen=True, eq=False)
class _Ranges:
    """Between which numbers activations and similarities are; of the photos that choose, and judge.

    Attributes:
        low: ``(2, K + P)``.
        high: ``(2, K + P)``.
    """

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, values: Tensor, judges: Tensor) -> _Ranges:
        """Those of ``(n, K + P)``."""
        none = values.new_full((1, values.shape[1]), torch.inf)
        halves = [values[~judges], values[judges]]
        low = torch.stack([torch.cat([half, none]).amin(0) for half in halves])
        high = torch.stack([torch.cat([half, -none]).amax(0) for half in halves])
        return cls(low, high)

    def merged(self, other: _Ranges) -> _Ranges:
        return _Ranges(self.low.minimum(other.low), self.high.maximum(other.high))

    def tensors(self) -> dict[str, Tensor]:
        return {"low": self.low, "high": self.high}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> _Ranges:
        return cls(kept["low"], kept["high"])


class _RangesWork:
    """The first look at all photos."""

    def __init__(self, made: _Describing) -> None:
        self._groups, self._out = _Groups(made), Path(made.out) / _RANGES

    def do(self, part: int) -> None:
        if kept_parts(self._out).record(part) is None:
            rows = self._groups(part)
            found = (_Ranges.of(torch.cat([a, s], 1), judges) for a, s, judges in rows)
            commit(self._out, part, combined(found))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sums that correlate strengths, units and phrases with phrases and probes.

    A unit's strength is here what its activation is above its least, in 0..1, squared.

    Attributes:
        choosing: of the photos that choose, rows: K strengths, K units, P phrases; columns: P
            phrases and the probes.
        judging: of the others.
    """

    choosing: PhotoMoments
    judging: PhotoMoments

    def merged(self, other: _Moments) -> _Moments:
        return _Moments(self.choosing.merged(other.choosing), self.judging.merged(other.judging))

    def tensors(self) -> dict[str, Tensor]:
        halves = (("choosing", self.choosing), ("judging", self.judging))
        return {f"{n}/{key}": one for n, half in halves for key, one in half.tensors().items()}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> _Moments:
        return cls(
            *(
                PhotoMoments.from_tensors(
                    {k.removeprefix(n): one for k, one in kept.items() if k.startswith(n)}
                )
                for n in ("choosing/", "judging/")
            )
        )


class _MomentsWork:
    """Adds up products."""

    def __init__(self, made: _Describing) -> None:
        self._groups, self._out = _Groups(made), Path(made.out) / _MOMENTS
        n = n_groups(self._groups.features)
        ranges = combined(kept(Path(made.out) / _RANGES, n, _Ranges))
        n_units = ranges.low.shape[1] - len(self._groups.phrases)
        self._low = ranges.low[:, :n_units].double()
        width = ranges.high[:, :n_units].double() - self._low
        self._width = width.where(width > 0, 1.0)
        draw = torch.Generator().manual_seed(0)
        self._signs = torch.randint(2, (n_units, _N_PROBES), generator=draw) * 2.0 - 1

    def do(self, part: int) -> None:
        if kept_parts(self._out).record(part) is None:
            commit(self._out, part, combined(self._of(*rows) for rows in self._groups(part)))

    def _of(self, activations: Tensor, scores: Tensor, judges: Tensor) -> _Moments:
        halves = []
        for low, width, rows in zip(self._low, self._width, (~judges, judges), strict=True):
            a, s = activations[rows], scores[rows]
            # In 0..1: squares of very small activations would be 0 in float32.
            above = (a.double() - low) / width
            left = torch.cat([above.square().float(), a, s], 1)
            halves.append(PhotoMoments.of(left, torch.cat([s, above.float() @ self._signs], 1)))
        return _Moments(*halves)


def _shortlists(
    out: Path, n_groups: int, n_phrases: int, describe: DescribeOptions
) -> list[_Shortlist]:
    """What each unit is to be looked at with."""
    ranges = combined(kept(out / _RANGES, n_groups, _Ranges))
    moments = combined(kept(out / _MOMENTS, n_groups, _Moments))
    halves = [
        _Correlations.of(one, low, high, n_phrases)
        for one, low, high in zip(
            (moments.choosing, moments.judging), ranges.low, ranges.high, strict=True
        )
    ]
    choosing, judging = halves
    n_candidates = max(N_CANDIDATES, describe.n_phrases) + _SPARE
    best = choosing.strengths.sort(dim=1, descending=True, stable=True).indices[:, :n_candidates]
    highest = judging.strengths.sort(dim=1, descending=True, stable=True).indices[:, :_SPARE]
    found = []
    for unit in range(len(choosing.units)):
        phrases = {*best[unit].tolist(), *highest[unit].tolist(), *choosing.pursued(unit)}
        found.append(_Shortlist((*_twins(halves, unit), unit), tuple(sorted(phrases))))
    return found


@dataclass(frozen=True, eq=False)
class _Correlations:
    """Those of some photos, 0 where one of both never changes.

    Attributes:
        strengths: ``(K, P)`` of squared activations with phrases.
        units: ``(K, P)`` of activations with phrases, and so
        probes: ``(K, R)`` with probes.
        phrases: ``(P, P)``.
    """

    strengths: Tensor
    units: Tensor
    probes: Tensor
    phrases: Tensor

    @classmethod
    def of(cls, sums: PhotoMoments, low: Tensor, high: Tensor, n_phrases: int) -> _Correlations:
        n_units = len(low) - n_phrases
        size = low.abs().maximum(high.abs()).double()
        square = (high > low)[:n_units].double()  # the largest square of what is in 0..1
        spread = (sums.a_squared.value() / sums.n - (sums.a.value() / sums.n).square()).clamp(min=0)
        is_flat = spread.sqrt() <= _FLAT * torch.cat([square, size])
        found = sums.correlation().nan_to_num(0.0)
        found[is_flat] = 0
        found[:, :n_phrases][:, is_flat[2 * n_units :]] = 0
        strengths, units, phrases = found.split([n_units, n_units, n_phrases])
        p = n_phrases
        return cls(strengths[:, :p], units[:, :p], units[:, p:], phrases[:, :p])

    def pursued(self, unit: int) -> Iterator[int]:
        """Phrases that orthogonal matching pursuit tries for a unit, as describe_units does."""
        mine, terms, explained = self.units[unit], list[int](), 0.0
        left = mine
        for _ in range(MOST_TERMS):
            agreement = left.abs()
            agreement[terms] = 0
            terms = [*terms, int(agreement.argmax())]
            yield terms[-1]
            fitted = torch.linalg.lstsq(
                self.phrases[terms][:, terms], mine[terms, None], driver="gelsd"
            ).solution[:, 0]
            reached = float(mine[terms] @ fitted)
            if reached - explained < LEAST_GAIN - _ROUNDING:
                return
            explained, left = reached, mine - self.phrases[:, terms] @ fitted


def _twins(halves: Sequence[_Correlations], unit: int) -> tuple[int, ...]:
    """Earlier units that may equal this one: they correlate alike with whatever there is."""
    most = math.sqrt(2 * (1 - EQUAL)) + _ROUNDING
    is_alike = torch.ones(unit, dtype=torch.bool)
    for half in halves:
        for values in (half.probes, half.units):
            is_alike &= (values[:unit] - values[unit]).abs().amax(1) <= most
    return tuple(is_alike.nonzero()[:_MOST_TWINS, 0].tolist())


@dataclass(frozen=True)
class _Described:
    """Descriptions of some units."""

    descriptions: list[UnitDescription]

    def tensors(self) -> dict[str, Tensor]:
        text = json.dumps([asdict(one) for one in self.descriptions])
        return {"text": torch.tensor(list(text.encode()), dtype=torch.uint8)}

    @classmethod
    def from_tensors(cls, kept: Mapping[str, Tensor]) -> _Described:
        found = json.loads(bytes(kept["text"].tolist()))
        return cls([UnitDescription(**{k: _tuples(v) for k, v in one.items()}) for one in found])


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


class _DescribeWork:
    """Describes some units with the columns that they need."""

    def __init__(self, made: _Describing, shortlists: tuple[_Shortlist, ...]) -> None:
        self._made, self._shortlists = made, shortlists
        self._out = Path(made.out)
        features = FeatureParts.open(made.features)
        self._names = FeatureParts.open(made.similarities).class_names or ()
        self._files = [
            str(kept_parts(self._out / _COLUMNS).path(group)) for group in range(n_groups(features))
        ]
        self._split = PhotoSplit.of(features.n_photos, made.describe)

    def do(self, part: int) -> None:
        if kept_parts(self._out / _DESCRIBED).record(part) is None:
            block = self._shortlists[part * _UNITS_AT_A_TIME : (part + 1) * _UNITS_AT_A_TIME]
            commit(self._out / _DESCRIBED, part, _Described([self._one(unit) for unit in block]))

    def _one(self, shortlist: _Shortlist) -> UnitDescription:
        describer = UnitDescriber.of(
            self._columns("units", shortlist.units),
            self._columns("phrases", shortlist.phrases),
            tuple(self._names[p] for p in shortlist.phrases),
            list(shortlist.units),
            self._split,
            self._made.describe,
        )
        return describer.described(torch.tensor([len(shortlist.units) - 1]))[0]

    def _columns(self, name: str, wanted: Sequence[int]) -> Tensor:
        """``(N, len(wanted))`` over all photos."""
        found = []
        for path in self._files:
            with safe_open(path, framework="pt") as file:
                rows = file.get_slice(name)
                found.append(torch.cat([rows[one : one + 1] for one in wanted]).T)
        return torch.cat(found)
