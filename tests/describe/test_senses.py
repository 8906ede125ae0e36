from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from captum_neuroinspect._core.kinds import as_plain, check_kinds, from_plain
from captum_neuroinspect.describe import (
    ConceptScores,
    DescribeOptions,
    Descriptions,
    UnitDescription,
    ablation_effects,
    describe_units,
    find_senses,
)

NAMES = ("grass", "sky", "dog", "brick", "thing")
N = 600
OPTIONS = DescribeOptions(top_share=0.3)


@dataclass(frozen=True)
class Photos:
    """Photos of ten kinds: the first four have a phrase, "thing" is said of the first two."""

    kinds: Tensor
    scores: Tensor
    vectors: Tensor

    def unit(self, *kinds: int) -> Tensor:
        """Active on some kinds, a little different on each photo."""
        is_on = sum((self.kinds == kind).float() for kind in kinds)
        noise = torch.rand(N, generator=torch.Generator().manual_seed(sum(kinds)))
        return is_on * (1 + 0.3 * noise) + 0.05 * noise


@pytest.fixture(scope="module")
def photos() -> Photos:
    rng = torch.Generator().manual_seed(0)
    kinds = torch.arange(N) % 10
    shown = torch.nn.functional.one_hot(kinds, 10).float()
    noise = 0.3 * torch.randn(N, 5, generator=rng)
    scores = torch.cat([shown[:, :4], shown[:, :2].sum(1, keepdim=True)], 1) + noise
    vectors = shown + 0.3 * torch.randn(N, 10, generator=rng)
    return Photos(kinds, scores, vectors)


def described(photos: Photos, units: Tensor, names: tuple[str, ...] = NAMES) -> Descriptions:
    given = units, photos.scores[:, : len(names)], names
    found = describe_units(*given, options=OPTIONS)
    return find_senses(found, *given, vectors=photos.vectors, options=OPTIONS)


def test_a_unit_of_two_things_has_two_senses(photos: Photos) -> None:
    found = described(photos, photos.unit(2, 3)[:, None])[0]
    assert {sense.phrases[0] for sense in found.senses} == {"dog", "brick"}
    assert sum(sense.share for sense in found.senses) == pytest.approx(1)
    for sense in found.senses:
        kind = NAMES.index(sense.phrases[0])
        assert len(sense.exemplars) == 9
        assert set(photos.kinds[list(sense.exemplars)].tolist()) == {kind}
        assert len(sense.phrases) == len(sense.correlations)
        # Without the photos of the other, its phrase tells more.
        assert sense.correlations[0] > found.correlations[0]


def test_three_things_are_three_senses(photos: Photos) -> None:
    unit = photos.unit(0, 2, 3)
    found = described(photos, unit[:, None], NAMES[:4])[0]
    assert {sense.phrases[0] for sense in found.senses} == {"grass", "dog", "brick"}


def test_one_thing_is_one_sense_whatever_its_photos_look_like(photos: Photos) -> None:
    # One kind; noise; and two kinds which one phrase says as well as two.
    noise = torch.rand(N, generator=torch.Generator().manual_seed(5))
    units = torch.stack([photos.unit(2), noise, photos.scores[:, 4]], 1)
    assert [d.senses for d in described(photos, units)] == [(), (), ()]


def test_things_without_a_phrase_of_their_own_are_no_senses(photos: Photos) -> None:
    assert described(photos, photos.unit(8, 9)[:, None])[0].senses == ()
    assert described(photos, photos.unit(2, 9)[:, None])[0].senses == ()


def test_clusters_that_only_the_choosing_photos_have_are_no_senses(photos: Photos) -> None:
    unit = photos.unit(2, 3)
    judging = torch.randperm(N, generator=torch.Generator().manual_seed(OPTIONS.seed))[: N // 2]
    shuffled = unit.clone()
    shuffled[judging] = unit[judging.flip(0)].sort().values
    assert described(photos, shuffled[:, None])[0].senses == ()


def test_one_unit_at_a_time_gives_the_same_as_all(photos: Photos) -> None:
    units = torch.stack([photos.unit(2, 3), photos.unit(1), photos.unit(0, 3)], 1)
    together = described(photos, units)
    assert together[2].senses
    for k, one in enumerate(together):
        assert described(photos, units[:, [k]])[0].senses == one.senses
    assert together == described(photos, units)


def test_without_vectors_the_concepts_say_what_is_alike(photos: Photos) -> None:
    unit = photos.unit(2, 3)[:, None]
    concepts = ConceptScores(photos.scores, NAMES)
    found = describe_units(unit, concepts, options=OPTIONS)
    senses = find_senses(found, unit, concepts, options=OPTIONS)[0].senses
    assert {sense.phrases[0] for sense in senses} == {"dog", "brick"}


def test_everything_else_of_a_description_stays(photos: Photos) -> None:
    units = torch.stack([photos.unit(2, 3), torch.ones(N)], 1)
    before = describe_units(units, photos.scores, NAMES, options=OPTIONS)
    after = described(photos, units)
    assert after[0].phrases == before[0].phrases
    assert after[0].correlations == before[0].correlations
    assert after[1] == before[1]  # the same on all photos
    assert [d.unit for d in after] == [d.unit for d in before]


def test_a_description_with_all_its_evidence_is_kept_and_read_again(photos: Photos) -> None:
    found = described(photos, photos.unit(2, 3)[:, None])
    head = torch.nn.Linear(1, 3)
    found = ablation_effects(head, photos.unit(2, 3)[:, None]).beside(found)
    again = from_plain(json.loads(json.dumps(as_plain(found[0]))), UnitDescription)
    assert again == found[0]
    assert again.senses
    assert again.ablation.losing
    check_kinds(vars(again), UnitDescription)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activations": torch.rand(N, 2)}, ValueError, "1 descriptions for activations of 2"),
        ({"activations": torch.rand(N - 1, 1)}, ValueError, "the same photos"),
        ({"vectors": torch.rand(N - 1, 4)}, ValueError, r"vectors has shape \(599, 4\)"),
        ({"vectors": torch.rand(N)}, ValueError, r"vectors has shape \(600,\)"),
        ({"vectors": torch.full((N, 2), torch.nan)}, ValueError, "vectors has NaN"),
        ({"vectors": [1.0]}, TypeError, "vectors is a list"),
        ({"most": 1}, ValueError, "most=1, expected at least 2"),
        ({"most": 2.5}, TypeError, "most=2.5, expected a whole number"),
        ({"phrases": None}, ValueError, "phrases is None"),
    ],
)
def test_bad_input_is_told(photos: Photos, change: dict, error: type, message: str) -> None:
    unit = photos.unit(2)[:, None]
    given = {"activations": unit, "concept_scores": photos.scores, "phrases": NAMES}
    found = describe_units(**given)
    with pytest.raises(error, match=message):
        find_senses(found, **(given | change))
