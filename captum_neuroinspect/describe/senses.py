"""What a unit with several senses answers to: its most active photos, clustered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.optional import DESCRIBE, optional
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.agreement import most_active, standardised, strengths
from captum_neuroinspect.describe.concept_scores import ConceptScores
from captum_neuroinspect.describe.sense import Sense
from captum_neuroinspect.describe.unit_description import Descriptions
from captum_neuroinspect.describe.units import (
    DescribeOptions,
    check_same_photos,
    checked_activations,
    checked_concepts,
    checked_groups,
    resampled_sets,
    split_photos,
)

__all__ = ["find_senses"]

_N_EXEMPLARS = 9
_LEAST_MEMBERS = 5
_LEAST_SHARE = 0.1  # of the active photos, in each cluster
_LEAST_CORRELATION = 0.3  # held out, of a sense's first phrase with its own photos
_MOST_SHOWN = 1 / 3  # how much of one sense's phrase the photos of another may show
_N_DRAWS, _SURE = 100, 0.95


@undisturbed()
def find_senses(
    descriptions: Descriptions,
    activations: Tensor,
    concept_scores: Tensor | ConceptScores,
    phrases: Sequence[str] | None = None,
    *,
    vectors: Tensor | None = None,
    together: Sequence[int] | Tensor | None = None,
    most: int = 3,
    options: DescribeOptions | None = None,
    progress: bool = False,
) -> Descriptions:
    """Tell the senses of units whose most active photos fall into several things.

    The most active of the photos that choose are clustered (k-means). Each cluster gets the phrases
    that correlate most with the unit's squared activation when the other clusters' photos are left
    out. On the photos that judge, active ones belong to the nearest centre, and there are several
    senses only where all of this holds:

    * each sense's first phrase correlates with its own photos by at least 0.3;
    * the photos of another sense show it at most a third as much as its own do, above silent ones;
    * the largest of the senses' first phrases goes with the unit better than the best single phrase
      does, on 95 of 100 resampled sets of these photos; three senses, better than two.

    Otherwise the unit has one sense. Of units that answer to either of two concepts by their rule a
    third were found by an encoder's embeddings, and one of sixteen others was split
    (``docs/measurements/senses.md``).

    Args:
        descriptions: of K units, by :func:`describe_units` with the same options.
        activations: ``(N, K)`` of the same units.
        concept_scores: ``(N, P)``, or :class:`ConceptScores`.
        phrases: the P names; ``None`` with :class:`ConceptScores`.
        vectors: ``(N, D)`` by which photos are alike, such as an encoder's embeddings; ``None``:
            the concept scores, in standard deviations.
        together: photos that belong together, as :func:`describe_units` was told.
        most: how many senses a unit may have.
        options: the split of the photos, ``n_phrases`` and ``top_share`` count here.
        progress: show a bar.

    Returns:
        The descriptions with their ``senses``; none for a unit that has a single one.

    Raises:
        ImportError: without scikit-learn; says how to install it.
        TypeError: for tensors, descriptions or options that are none, or ``most`` that is not
            whole.
        ValueError: as :func:`describe_units`; for another number of descriptions than units,
            vectors of other photos or not finite, or ``most`` below 2.

    Examples::

        >>> from captum_neuroinspect.describe import describe_units
        >>> kind = torch.arange(300) % 6  # a third of the photos: grass or sky
        >>> scores = torch.stack([(kind == 0).float(), (kind == 1).float()], 1)
        >>> unit = scores.sum(1, keepdim=True)
        >>> found = describe_units(unit, scores, ["grass", "sky"])
        >>> options = DescribeOptions(top_share=0.3)
        >>> both = find_senses(found, unit, scores, ["grass", "sky"], options=options)
        >>> sorted(sense.phrases[0] for sense in both[0].senses)
        ['grass', 'sky']
    """
    if not isinstance(descriptions, Descriptions):
        raise TypeError(f"descriptions is {type(descriptions).__name__}, expected Descriptions")
    if not (options is None or isinstance(options, DescribeOptions)):
        raise TypeError(f"options is {type(options).__name__}, expected DescribeOptions")
    options = options or DescribeOptions()
    values = checked_activations(activations)
    scores, names = checked_concepts(concept_scores, phrases)
    check_same_photos(values, scores)
    if len(descriptions) != values.shape[1]:
        raise ValueError(
            f"{len(descriptions)} descriptions for activations of {values.shape[1]} units, "
            "expected the same units in the same order"
        )
    check_whole("most", most)
    check_at_least("most", most, 2)
    # Of concept scores as of describe_units: deviations count, not the level.
    likeness = standardised(scores) if vectors is None else _checked_vectors(vectors, len(values))
    choosing, judging, _ = split_photos(len(values), options, together)
    groups = checked_groups(together, len(values))[judging]
    parts = [_Photos.of(rows, values, scores) for rows in (choosing, judging)]
    directions = F.normalize(likeness, dim=1)
    found = Descriptions(rests_on=descriptions.rests_on)
    for k, description in enumerate(tqdm(descriptions, "senses", disable=not progress)):
        senses: tuple[Sense, ...] = ()
        if description.phrases:
            chosen, judged = (part.half(k, options.top_share) for part in parts)
            senses = _Unit(chosen, judged, groups, directions, names, options).senses(most)
        found.append(replace(description, senses=senses))
    return found


@dataclass(frozen=True, eq=False)
class _Half:
    """One unit on the photos that choose, or on those that judge.

    Attributes:
        rows: ``(n,)`` among all photos.
        active: positions of the photos on which it is most active.
        strengths: ``(n,)`` its squared activation, standardised.
        concepts: ``(n, P)``, standardised.
        products: ``(P,)`` sums of strength times concept over the photos.
        varies: ``(P,)`` 1 for a concept that is not the same on all photos, else 0.
    """

    rows: Tensor
    active: Tensor
    strengths: Tensor
    concepts: Tensor
    products: Tensor
    varies: Tensor

    def correlations(self, left_out: Tensor) -> Tensor:
        """``(P,)`` of the concepts with the strength, without the photos that are left out.

        From sums over all photos less those of the few: no copy of the concepts is made.
        """
        n = len(self.rows) - len(left_out)
        out, weights = self.concepts[left_out], self.strengths[left_out]
        means, mean = -out.sum(0) / n, -weights.sum() / n
        squares = (len(self.rows) * self.varies - out.square().sum(0)) / n - means.square()
        spread = (self.strengths.square().sum() - weights.square().sum()) / n - mean.square()
        together = (self.products - weights @ out) / n - mean * means
        found = together / (squares.clamp_min(1e-6) * spread.clamp_min(1e-12)).sqrt()
        return torch.where(squares < 1e-6, -torch.inf, found)


@dataclass(frozen=True, eq=False)
class _Photos:
    """The photos of one part.

    Attributes:
        rows: ``(n,)`` among all photos.
        values: ``(n, K)`` activations.
        concepts: ``(n, P)``, standardised.
        varies: see :class:`_Half`.
    """

    rows: Tensor
    values: Tensor
    concepts: Tensor
    varies: Tensor

    @classmethod
    def of(cls, rows: Tensor, values: Tensor, scores: Tensor) -> _Photos:
        concepts = standardised(scores[rows])
        return cls(rows, values[rows], concepts, concepts.any(0).float())

    def half(self, k: int, share: float) -> _Half:
        values = self.values[:, [k]]
        active = most_active(values, share)[:, 0].nonzero()[:, 0]
        mine = strengths(values)[:, 0]
        products = mine @ self.concepts
        return _Half(self.rows, active, mine, self.concepts, products, self.varies)


@dataclass(frozen=True, eq=False)
class _Cluster:
    """Photos of one cluster.

    Attributes:
        chosen: positions of the members among the photos that choose.
        judged: among those that judge.
        centre: ``(D,)``.
    """

    chosen: Tensor
    judged: Tensor
    centre: Tensor


@dataclass(frozen=True, eq=False)
class _Unit:
    """One unit, and what tells its senses."""

    choosing: _Half
    judging: _Half
    groups: Tensor  # of the photos that judge: which belong together
    vectors: Tensor
    names: tuple[str, ...]
    options: DescribeOptions

    def senses(self, most: int) -> tuple[Sense, ...]:
        single = int(self.choosing.correlations(torch.empty(0, dtype=torch.int64)).argmax())
        found: tuple[Sense, ...] = ()
        shown = self.judging.concepts[:, single]
        for n_senses in range(2, most + 1):
            clusters = self._clusters(n_senses)
            senses, first = self._held_out(clusters)
            if not senses or self._is_shared(clusters, first):
                continue
            together = self.judging.concepts[:, first].amax(1)
            if self._is_better(together, shown):
                found, shown = senses, together
        return found

    def _clusters(self, n: int) -> list[_Cluster]:
        """Clusters of the most active photos; none where they are too few or too small."""
        halves = (self.choosing, self.judging)
        given, others = (self.vectors[half.rows[half.active]].double() for half in halves)
        if len(given.unique(dim=0)) < n or len(given) < n * _LEAST_MEMBERS:
            return []
        cluster = optional("sklearn.cluster", DESCRIBE)
        fitted = cluster.KMeans(n, n_init=4, random_state=self.options.seed % 2**32).fit(
            given.numpy()
        )
        chosen, judged = (torch.from_numpy(fitted.predict(p.numpy())) for p in (given, others))
        found = [
            _Cluster(
                self.choosing.active[chosen == c],
                self.judging.active[judged == c],
                torch.from_numpy(centre).float(),
            )
            for c, centre in enumerate(fitted.cluster_centers_)
        ]
        least = max(_LEAST_MEMBERS, _LEAST_SHARE * len(given))
        is_small = any(len(c.chosen) < least or len(c.judged) < _LEAST_MEMBERS for c in found)
        return [] if is_small else found

    def _held_out(self, clusters: list[_Cluster]) -> tuple[tuple[Sense, ...], list[int]]:
        """A sense a cluster and their first phrases; none where one does not correlate."""
        found: list[Sense] = []
        first: list[int] = []
        n_active = sum(len(cluster.judged) for cluster in clusters)
        for cluster in clusters:
            others = [c for c in clusters if c is not cluster]
            scores = self.choosing.correlations(torch.cat([c.chosen for c in others]))
            best = scores.sort(descending=True, stable=True).indices[: self.options.n_phrases]
            best = best[scores[best] > 0]
            judged = self.judging.correlations(torch.cat([c.judged for c in others]))[best]
            if not len(best) or float(judged[0]) < _LEAST_CORRELATION:
                return (), []
            first.append(int(best[0]))
            phrases = tuple(self.names[p] for p in best.tolist())
            share = len(cluster.judged) / n_active
            found.append(Sense(phrases, tuple(judged.tolist()), self._exemplars(cluster), share))
        return tuple(found), first

    def _is_shared(self, clusters: list[_Cluster], first: list[int]) -> bool:
        """Whether photos of one cluster show another one's phrase."""
        silent = torch.ones(len(self.judging.rows), dtype=torch.bool)
        silent[self.judging.active] = False
        shown = self.judging.concepts[:, first]
        levels = torch.stack([shown[cluster.judged].mean(0) for cluster in clusters])
        levels = levels - shown[silent].mean(0)  # (clusters, phrases)
        own = levels.diagonal()
        share = levels / own.clamp_min(1e-6)
        share.fill_diagonal_(0)
        return bool((own <= 0).any() or (share > _MOST_SHOWN).any())

    def _is_better(self, together: Tensor, shown: Tensor) -> bool:
        """Whether one score ``(n,)`` goes with the unit better than another does."""
        mine, compared = self.judging.strengths[:, None], torch.stack([shown, together], 1)
        rng = torch.Generator().manual_seed(self.options.seed)
        draws = resampled_sets(self.groups, rng, _N_DRAWS)
        shares = draws / draws.sum(1, keepdim=True)
        spreads = (shares @ compared.square() - (shares @ compared).square()).clamp_min(1e-12)
        products = shares @ (mine * compared) - (shares @ mine) * (shares @ compared)
        before, now = (products / spreads.sqrt()).unbind(1)
        return float((now > before).float().mean()) >= _SURE

    def _exemplars(self, cluster: _Cluster) -> tuple[int, ...]:
        members = torch.cat([self.choosing.rows[cluster.chosen], self.judging.rows[cluster.judged]])
        distances = (self.vectors[members] - cluster.centre).square().sum(1)
        order = distances.sort(stable=True).indices[:_N_EXEMPLARS]
        return tuple(members[order].tolist())


def _checked_vectors(vectors: Tensor, n_photos: int) -> Tensor:
    if not isinstance(vectors, Tensor):
        raise TypeError(f"vectors is a {type(vectors).__name__}, expected a tensor (N, D)")
    if vectors.ndim != 2 or len(vectors) != n_photos or not vectors.shape[1]:
        raise ValueError(
            f"vectors has shape {tuple(vectors.shape)}, expected ({n_photos}, D): a row for each "
            "photo"
        )
    vectors = vectors.detach().cpu().float()
    if not all_finite(vectors):
        raise ValueError("vectors has NaN or infinite values")
    return vectors
