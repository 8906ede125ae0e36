"""Any units in words: by their activations and by concept scores on the same photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.checks import check_between, check_seed, check_whole
from captum_neuroinspect._core.modules import as_indices
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.agreement import (
    area_under_roc,
    average_precision,
    in_float32,
    most_active,
    standardised,
    strengths,
)
from captum_neuroinspect.describe.concept_scores import ConceptScores
from captum_neuroinspect.describe.unit_description import Descriptions, UnitDescription

NO_PHRASE = "no phrase goes with it"  # the note of a unit that others may yet go with
LEAST_PHOTOS = 20  # to describe units by: half choose, half judge
_N_DRAWS = 50
N_CANDIDATES = 10  # phrases between which resampled photos choose
_SET_SHARE = 0.9
_UNITS_AT_A_TIME = 64
_ROWS_AT_A_TIME = 2**14
MOST_TERMS = 3
LEAST_GAIN = 0.02  # of explained variance, by one more phrase
_LEAST_Z = 3.0  # standard deviations of chance that a certain correlation must be above 0
EQUAL = 1 - 1e-5  # correlation of duplicates
_ROUNDING = 1e-5  # of a correlation
_LEAST_SPREAD = 1e-3  # of a concept on resampled photos, in standard deviations: less is rounding


@dataclass(frozen=True)
class DescribeOptions:
    """How units are described; the defaults are what measured best.

    Attributes:
        n_phrases: how many are told of each unit, at most: only what correlates above 0.
        held_out: share of the photos that judge and do not choose, above 0 and below 1.
        top_share: share of the photos that show a concept, those of its highest scores, for
            average precision; of a label all that have it.
        certain_correlation: least held-out correlation of a certain phrase.
        certain_set: how many phrases ``could_be`` may have for a certain one.
        seed: draws which photos judge, and the resampled photos.

    Raises:
        TypeError: for a number of phrases or a seed that is not whole.
        ValueError: for a number outside its range.
    """

    n_phrases: int = 5
    held_out: float = 0.5
    top_share: float = 0.05
    certain_correlation: float = 0.3
    certain_set: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_phrases", "certain_set"):
            check_whole(name, getattr(self, name))
        check_seed("seed", self.seed)
        for name in ("n_phrases", "certain_set"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least 1")
        for name in ("held_out", "top_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"{name}={getattr(self, name)}, expected a share above 0 and below 1"
                )
        check_between("certain_correlation", self.certain_correlation, 0, 1)


@undisturbed()
def describe_units(
    activations: Tensor,
    concept_scores: Tensor | ConceptScores,
    phrases: Sequence[str] | None = None,
    *,
    units: Sequence[int] | None = None,
    together: Sequence[int] | Tensor | None = None,
    options: DescribeOptions | None = None,
    progress: bool = False,
) -> Descriptions:
    r"""Name units by the concepts whose scores go with their activations on the same photos.

    A unit is anything with one number a photo: a neuron, a channel's mean, a logit, a coordinate
    along a direction, a code of a sparse autoencoder. A concept is a phrase with one number a
    photo: an encoder's similarity, a label, a column of a table, an attribute measured on the
    pixels (:func:`attribute_scores`). Neither has a unit that matters: scores count in standard
    deviations over the photos.

    One part of the photos chooses the phrases whose scores correlate most with the unit's squared
    activation. All numbers of the result but ``scores`` are of the other part. The first phrase is
    *certain* when it comes first of all phrases there as well, its correlation there is at least
    ``options.certain_correlation`` and three standard errors, its average precision is above
    chance, and on resampled photos no more than ``options.certain_set`` phrases come first nine
    times of ten. The standard error is that of resampled photos as well.
    Also a certain phrase is only the best of those that were offered: what goes with it on these
    photos cannot be told from it.

    All of this takes photos for independent. Crops of one photo, frames of a film or photos of one
    person are not: what chose on some of them is found again on the others, whatever it is. Say
    which belong ``together``; in the project's measurements nearly all wrong *certain* phrases came
    from crops of which this had not been said.

    Args:
        activations: ``(N, K)`` of K units on N photos.
        concept_scores: ``(N, P)`` of P concepts on the same photos, in the same order; or
            :class:`ConceptScores`, which bring their phrases.
        phrases: the P names; ``None`` with :class:`ConceptScores`.
        units: the K units' numbers; ``None``: 0 to K - 1.
        together: ``(N,)`` whole numbers, the same for photos that belong together: all of them
            choose or all judge, and they are resampled together. ``None``: each photo is one of
            its own.
        options: :class:`DescribeOptions`.
        progress: show a bar.

    Returns:
        A :class:`UnitDescription` for each unit. A unit that is the same on all photos is named as
        such and has no phrases, nor has one with which no concept correlates above 0; one that
        equals an earlier one has that one's, and a note.

    Raises:
        TypeError: for phrases that are no strings, values that are no numbers, units that are no
            or groups that are no whole numbers, or options of another kind.
        ValueError: for shapes that do not fit, fewer than 20 photos or groups of them, values that
            are not finite, no phrases, a phrase twice, or concepts that are all the same on all
            photos.

    Examples::

        >>> red = torch.arange(200) / 200
        >>> green = torch.rand(200, generator=torch.Generator().manual_seed(0))
        >>> found = describe_units(
        ...     activations=torch.stack([green.square(), torch.ones(200)], 1),
        ...     concept_scores=torch.stack([red, green], 1),
        ...     phrases=["red", "green"],
        ... )
        >>> found[0].phrases[0], found[0].is_certain, found[1].note
        ('green', True, 'the same on all photos')
    """
    if not (options is None or isinstance(options, DescribeOptions)):
        raise TypeError(f"options is {type(options).__name__}, expected DescribeOptions")
    options = options or DescribeOptions()
    activations = checked_activations(activations)
    scores, names = checked_concepts(concept_scores, phrases)
    numbers = unit_numbers(units, activations)
    check_same_photos(activations, scores)
    split = PhotoSplit.of(len(activations), options, together)
    describer = UnitDescriber.of(activations, scores, names, numbers, split, options)
    found = []
    with tqdm(desc="units", total=len(numbers), disable=not progress) as bar:
        for block in torch.arange(len(numbers)).split(_UNITS_AT_A_TIME):
            found += describer.described(block)
            bar.update(len(block))
    return Descriptions(found)


@dataclass(frozen=True, eq=False)
class PhotoSplit:
    """Which photos choose and which judge, and how both are resampled.

    Attributes:
        choosing: rows of the photos that choose the phrases.
        judging: rows of the others.
        draws: ``(B, n)`` how often each choosing photo is in a resampled set of them.
        judging_draws: the same of the judging ones.
    """

    choosing: Tensor
    judging: Tensor
    draws: Tensor
    judging_draws: Tensor

    @classmethod
    def of(
        cls, n: int, options: DescribeOptions, together: Sequence[int] | Tensor | None = None
    ) -> PhotoSplit:
        """That of n photos."""
        choosing, judging, rng = split_photos(n, options, together)
        groups = checked_groups(together, n)
        draws = resampled_sets(groups[choosing], rng)
        return cls(choosing, judging, draws, resampled_sets(groups[judging], rng))


@dataclass(frozen=True, eq=False)
class _Part:
    """Photos that choose, or that judge.

    Attributes:
        units: ``(n, K)`` activations, standardised.
        strengths: ``(n, K)`` squared activations, standardised.
        concepts: ``(n, P)`` scores, standardised.
    """

    units: Tensor
    strengths: Tensor
    concepts: Tensor

    @classmethod
    def of(cls, activations: Tensor, scores: Tensor, rows: Tensor) -> _Part:
        chosen = activations[rows]
        return cls(standardised(chosen), strengths(chosen), standardised(scores[rows]))

    def agreement(self, block: Tensor) -> Tensor:
        """``(block, P)`` correlations of concepts with squared activations."""
        return _mean_products(self.strengths[:, block], self.concepts)


@dataclass(frozen=True, eq=False)
class UnitDescriber:
    """Units described block by block.

    Attributes:
        choosing: photos that choose the phrases.
        judging: the others.
        names: the phrases.
        units: their numbers, one a column.
        split: of the photos.
        options: as given.
    """

    choosing: _Part
    judging: _Part
    names: tuple[str, ...]
    units: list[int]
    split: PhotoSplit
    options: DescribeOptions

    @classmethod
    def of(
        cls,
        activations: Tensor,
        scores: Tensor,
        names: tuple[str, ...],
        units: list[int],
        split: PhotoSplit,
        options: DescribeOptions,
    ) -> UnitDescriber:
        """With activations ``(N, K)`` and scores ``(N, P)`` that were checked."""
        choosing = _Part.of(activations, scores, split.choosing)
        judging = _Part.of(activations, scores, split.judging)
        return cls(choosing, judging, names, units, split, options)

    def described(self, block: Tensor) -> list[UnitDescription]:
        """Descriptions of the columns ``block``."""
        units = self.choosing.units[:, block]
        scores = self.choosing.agreement(block)
        highest = self.judging.agreement(block).amax(1)
        # Not topk: which of equal values it takes depends on the machine.
        order = scores.sort(dim=1, descending=True, stable=True).indices
        # On the photos of both parts: rare units may have a single one in common.
        is_twin = self._equals(self.choosing, block) & self._equals(self.judging, block)
        combinations = self._combinations(units)
        found = []
        for row, k in enumerate(block.tolist()):
            unit = self.units[k]
            if why := self._why_silent(k):
                found.append(UnitDescription(unit, note=why))
                continue
            description = self._one(k, unit, order[row], scores[row], float(highest[row]))
            terms, correlation = self._judged(k, combinations[row])
            first = int(is_twin[row].nonzero()[0])
            found.append(
                replace(
                    description,
                    combination=terms,
                    combination_correlation=correlation,
                    note=(
                        f"equals unit {self.units[first]} up to scale"
                        if first < k
                        else description.note
                    ),
                )
            )
        n = len(self.split.choosing) + len(self.split.judging)
        return [replace(one, n_images=n, n_held_out=len(self.split.judging)) for one in found]

    @staticmethod
    def _equals(part: _Part, block: Tensor) -> Tensor:
        """``(block, K)`` which units correlate to rounding."""
        found = _mean_products(part.units[:, block], part.units) > EQUAL
        found[torch.arange(len(block)), block] = True  # whatever rounding does to itself
        return found

    def _why_silent(self, k: int) -> str:
        for part in (self.choosing, self.judging):
            if not part.units[:, k].any():
                other = self.judging if part is self.choosing else self.choosing
                both = not other.units[:, k].any()
                return f"the same on all photos{'' if both else ' of one part: hardly ever active'}"
        return ""

    def _one(
        self, k: int, unit: int, order: Tensor, scores: Tensor, highest: float
    ) -> UnitDescription:
        """The description of a unit.

        Args:
            k: its column.
            unit: its number.
            order: ``(P,)`` phrases, best first.
            scores: ``(P,)`` by which they are ordered.
            highest: correlation of any phrase on the photos that judge.
        """
        best = order[: self.options.n_phrases]
        best = best[scores[best] > 0]
        if not len(best):
            return UnitDescription(unit, note=NO_PHRASE)
        concepts = self.judging.concepts[:, best]
        mine = self.judging.units[:, k, None]
        correlations = _mean_products(self.judging.strengths[:, [k]], concepts)[0]
        shows = most_active(concepts, self.options.top_share)
        # NaN where none of these photos shows it.
        mine = mine.expand(-1, len(best))
        precisions = average_precision(shows, mine).nan_to_num(0.0)
        areas = area_under_roc(shows, mine).nan_to_num(0.5)
        chances = shows.float().mean(0)
        could_be = self._could_be(k, order[:N_CANDIDATES])
        first = float(correlations[0])
        return UnitDescription(
            unit,
            phrases=tuple(self.names[p] for p in best.tolist()),
            scores=tuple(scores[best].tolist()),
            correlations=tuple(correlations.tolist()),
            average_precisions=tuple(precisions.tolist()),
            chances=tuple(chances.tolist()),
            areas=tuple(areas.tolist()),
            could_be=could_be,
            is_certain=(
                first >= max(self.options.certain_correlation, highest - _ROUNDING)
                and first >= _LEAST_Z * self._standard_error(k, best[:1])
                and float(precisions[0]) > float(chances[0])
                and len(could_be) <= self.options.certain_set
            ),
        )

    def _could_be(self, k: int, candidates: Tensor) -> tuple[str, ...]:
        """The first candidate, then those that win on resampled photos until nine of ten."""
        winners = self._resampled(self.choosing, self.split.draws, k, candidates).argmax(1)
        wins = winners.bincount(minlength=len(candidates))
        chosen, share = [0], float(wins[0]) / len(winners)
        for row in wins.argsort(descending=True, stable=True).tolist():
            if share >= _SET_SHARE:
                break
            if row != 0:
                chosen.append(row)
                share += float(wins[row]) / len(winners)
        return tuple(self.names[int(candidates[row])] for row in chosen)

    def _standard_error(self, k: int, candidate: Tensor) -> float:
        """Of the correlation on the photos that judge; infinite where a set shows nothing."""
        found = self._resampled(self.judging, self.split.judging_draws, k, candidate)
        return float(found.std()) if bool(found.isfinite().all()) else float("inf")

    @staticmethod
    def _resampled(part: _Part, draws: Tensor, k: int, candidates: Tensor) -> Tensor:
        """``(B, C)`` correlations of candidates with a unit on resampled photos."""
        concepts, mine = part.concepts[:, candidates], part.strengths[:, k]
        shares = draws / draws.sum(1, keepdim=True)
        means, mean = shares @ concepts, shares @ mine
        spreads = (shares @ concepts.square() - means.square()).clamp_min(0).sqrt()
        spread = (shares @ mine.square() - mean.square()).clamp_min(0).sqrt()
        joint = shares @ (mine[:, None] * concepts) - mean[:, None] * means
        # A rare label may be on no photo of a resampled set: then it goes with nothing. So may a
        # unit, with which then nothing goes more than another: it is left out of the divisor.
        is_flat = spreads < _LEAST_SPREAD
        unit = torch.where(spread < _LEAST_SPREAD, 1, spread)
        return torch.where(is_flat, -torch.inf, joint / spreads / unit[:, None])

    def _combinations(self, units: Tensor) -> list[dict[int, float]]:
        """Orthogonal matching pursuit: for each unit few concepts and their coefficients.

        Args:
            units: ``(n, K)`` standardised.
        """
        concepts, left = self.choosing.concepts, units
        found: list[dict[int, float]] = [{} for _ in units.T]
        is_open = units.any(0)
        for _ in range(MOST_TERMS):
            agreement = (left.T @ concepts).abs()
            for row, terms in enumerate(found):
                agreement[row, list(terms)] = 0
            best = agreement.argmax(1)
            left = left.clone()
            for row in is_open.nonzero()[:, 0].tolist():
                tried = [*found[row], int(best[row])]
                fitted = torch.linalg.lstsq(
                    concepts[:, tried].double(), units[:, row, None].double(), driver="gelsd"
                ).solution
                rest = units[:, row] - (concepts[:, tried].double() @ fitted)[:, 0].float()
                gained = left[:, row].square().mean() - rest.square().mean()
                if float(gained) < LEAST_GAIN:
                    is_open[row] = False
                    continue
                found[row] = dict(zip(tried, fitted[:, 0].tolist(), strict=True))
                left[:, row] = rest
        return found

    def _judged(self, k: int, terms: dict[int, float]) -> tuple[tuple[tuple[int, str], ...], float]:
        """Signed phrases, and their correlation with the unit on the judging photos."""
        if not terms:
            return (), 0.0
        together = self.judging.concepts[:, list(terms)] @ torch.tensor(list(terms.values()))
        correlation = (self.judging.units[:, k] * standardised(together[:, None])[:, 0]).mean()
        signed = tuple((1 if value > 0 else -1, self.names[p]) for p, value in terms.items())
        return signed, float(correlation)


def _mean_products(left: Tensor, right: Tensor) -> Tensor:
    """``left.T @ right / n``: of very many rows float32 alone would lose digits."""
    pairs = zip(left.split(_ROWS_AT_A_TIME), right.split(_ROWS_AT_A_TIME), strict=True)
    total = torch.zeros(left.shape[1], right.shape[1], dtype=torch.float64)
    for some, others in pairs:
        total += some.T @ others
    return (total / len(left)).float()


def split_photos(
    n: int, options: DescribeOptions, together: Sequence[int] | Tensor | None = None
) -> tuple[Tensor, Tensor, torch.Generator]:
    """Rows of the photos that choose and of those that judge, and what draws next.

    Examples::

        >>> choosing, judging, _ = split_photos(40, DescribeOptions())
        >>> len(choosing), sorted([*choosing.tolist(), *judging.tolist()]) == list(range(40))
        (20, True)
    """
    groups = checked_groups(together, n)
    rng = torch.Generator().manual_seed(options.seed)
    sizes = groups.bincount()
    order = torch.randperm(len(sizes), generator=rng)
    wanted = round(options.held_out * n)
    n_judging = int((sizes[order].cumsum(0) < wanted).sum()) + 1
    judges = torch.zeros(len(sizes), dtype=torch.bool)
    judges[order[: min(max(n_judging, 10), len(sizes) - 10)]] = True
    is_judging = judges[groups]
    return (~is_judging).nonzero()[:, 0], is_judging.nonzero()[:, 0], rng


def check_given(
    activations: Tensor,
    concepts: ConceptScores | None,
    units: Sequence[int] | None,
    together: Sequence[int] | Tensor | None = None,
) -> None:
    """Refuse what :func:`describe_units` would, before phrases are asked for or scored.

    Args:
        activations: ``(N, K)``.
        concepts: those that are there already.
        units: the K units' numbers, or ``None``.
        together: groups of photos, or ``None``.
    """
    checked = checked_activations(activations)
    unit_numbers(units, checked)
    checked_groups(together, len(checked))
    if concepts is not None:
        check_same_photos(checked, checked_concepts(concepts, None)[0])


def check_same_photos(activations: Tensor, scores: Tensor) -> None:
    """Refuse activations and scores of other photos."""
    if len(activations) != len(scores):
        raise ValueError(
            f"activations has {len(activations)} photos and concept_scores {len(scores)}, "
            "expected the same photos"
        )


def resampled_sets(groups: Tensor, rng: torch.Generator, n_sets: int = _N_DRAWS) -> Tensor:
    """``(B, n)`` how often each of n photos is in a set drawn with repeats, group by group."""
    names, group_of = groups.unique(return_inverse=True)
    drawn = torch.randint(len(names), (n_sets, len(names)), generator=rng)
    counts = torch.zeros(n_sets, len(names)).scatter_add_(1, drawn, torch.ones(drawn.shape))
    return counts[:, group_of]


def checked_activations(values: Tensor) -> Tensor:
    """``(N, K)`` float32 on the CPU, refused when no unit can be described by it."""
    return _checked("activations", values)


def _checked(name: str, values: Tensor) -> Tensor:
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} is a {type(values).__name__}, expected a tensor")
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected (N, number of columns)")
    if values.is_complex():
        raise TypeError(f"{name} holds {values.dtype}, expected real numbers")
    if len(values) < LEAST_PHOTOS:
        raise ValueError(
            f"{name} has {len(values)} photos, expected at least {LEAST_PHOTOS}: one part of "
            "them chooses the phrases, the other judges them"
        )
    values = values.detach().cpu()
    if not all_finite(values):
        raise ValueError(f"{name} has NaN or infinite values")
    return in_float32(values)


def checked_concepts(
    given: Tensor | ConceptScores, phrases: Sequence[str] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Scores ``(N, P)`` and their phrases."""
    if isinstance(given, ConceptScores):
        if phrases is not None:
            raise ValueError("phrases are given, and concept_scores have their own: expected None")
        concepts = given
    elif phrases is None:
        raise ValueError("phrases is None, expected one name for each column of concept_scores")
    else:
        names = tuple(check_texts("phrases", phrases))
        concepts = ConceptScores(_checked("concept_scores", given), names)
    scores = _checked("concept_scores", concepts.scores)
    if bool((scores == scores[0]).all()):
        raise ValueError("concept_scores are the same on all photos, so no phrase tells a unit")
    return scores, concepts.phrases


def checked_groups(together: Sequence[int] | Tensor | None, n: int) -> Tensor:
    """``(N,)`` groups 0 to G - 1."""
    given = torch.arange(n) if together is None else as_indices("together", together)
    if len(given) != n:
        raise ValueError(f"together has {len(given)} numbers, expected {n}, one a photo")
    names, groups = given.unique(return_inverse=True)
    if len(names) < LEAST_PHOTOS:
        raise ValueError(
            f"together has {len(names)} different numbers, expected at least {LEAST_PHOTOS}: some "
            "groups of photos choose the phrases, the others judge them"
        )
    return groups


def unit_numbers(units: Sequence[int] | None, activations: Tensor) -> list[int]:
    """One number a column: those given, or 0 to K - 1."""
    numbers = (
        list(range(activations.shape[1])) if units is None else as_indices("units", units).tolist()
    )
    if len(numbers) != activations.shape[1] or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"units has {len(numbers)} numbers, {len(set(numbers))} of them different, expected "
            f"{activations.shape[1]} different ones, one a column of activations"
        )
    return numbers
