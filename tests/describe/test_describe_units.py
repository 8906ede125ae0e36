from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_neuroinspect.attr import Direction
from captum_neuroinspect.describe import (
    ConceptScores,
    DescribeOptions,
    Descriptions,
    UnitDescription,
    describe_units,
)

NAMES = ("grass", "sky", "dog", "brick", "text")
N = 400


@pytest.fixture
def scores() -> Tensor:
    return torch.rand(N, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def noise() -> Tensor:
    return torch.randn(N, 8, generator=torch.Generator().manual_seed(1))


def test_each_unit_gets_its_concept_whatever_its_scale(scores: Tensor) -> None:
    units = torch.stack([scores[:, 2].exp(), 100 * scores[:, 0] - 7], 1)
    found = describe_units(units, scores, NAMES)
    assert [d.phrases[0] for d in found] == ["dog", "grass"]
    assert all(d.is_certain and d.could_be == d.phrases[:1] for d in found)
    for d in found:
        assert d.correlations[0] > 0.9
        assert d.average_precisions[0] == pytest.approx(1)


def test_the_evidence_is_of_photos_that_did_not_choose(noise: Tensor) -> None:
    concepts = torch.rand(N, 2000, generator=torch.Generator().manual_seed(2))
    found = describe_units(noise, concepts, [f"p{n}" for n in range(2000)])
    # The best of 2,000 by chance, on the photos that chose it; nothing on the others.
    assert min(d.scores[0] for d in found) > 0.15
    assert abs(sum(d.correlations[0] for d in found) / len(found)) < 0.1
    assert not any(d.is_certain for d in found)
    assert min(len(d.could_be) for d in found) > 1


def spoiled(units: Tensor, label: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """A unit and its label with half of the labels missing, many wrong, or photos mixed up."""
    rng = torch.Generator().manual_seed(3)
    is_kept = torch.rand(N, 1, generator=rng) < 0.5
    wrong = (torch.rand(N, 5, generator=rng) < 0.1).float()
    shuffled = units[torch.randperm(N, generator=rng)]
    return {
        "missing": (units, label * is_kept),
        "extra": (units, label.maximum(wrong)),
        "shuffled": (shuffled, label),
    }


def evidence(units: Tensor, label: Tensor) -> tuple[float, float, float]:
    """Correlation, average precision and area of the first label; chance for what is not said."""
    found = describe_units(units, label, NAMES)[0]
    told = zip(found.correlations, found.average_precisions, found.areas, strict=True)
    # What correlates below 0 is not said at all.
    return dict(zip(found.phrases, told, strict=True)).get("grass", (0.0, 0.0, 0.5))


@pytest.mark.parametrize("case", ["missing", "extra", "shuffled"])
def test_spoiled_labels_and_units_lower_the_evidence(scores: Tensor, case: str) -> None:
    label = (scores > 0.9).float()
    units = label[:, :1] + 0.1 * scores[:, 1:2]
    correlation, precision, area = evidence(units, label)
    worse_correlation, worse_precision, worse_area = evidence(*spoiled(units, label)[case])
    assert worse_correlation < correlation - 0.1
    assert worse_precision < precision - 0.2
    if case == "missing":  # why the area stands beside, and decides nothing
        assert worse_area > area - 0.1
    if case == "shuffled":
        assert abs(worse_area - 0.5) < 0.2


def test_an_area_of_one_is_perfect_and_of_half_is_chance(scores: Tensor) -> None:
    found = describe_units(scores[:, :1], scores, NAMES)[0]
    assert found.areas[0] == 1
    assert len(found.areas) == len(found.phrases)


def test_a_label_of_most_photos_can_be_certain() -> None:
    is_cat = (torch.arange(N) % 5 < 3).float()[:, None]
    found = describe_units(2 * is_cat, torch.cat([is_cat, 1 - is_cat], 1), ("cat", "dog"))[0]
    assert found.phrases == ("cat",)
    assert found.is_certain
    assert found.average_precisions == (1.0,)
    assert found.chances[0] == pytest.approx(0.6, abs=0.1)


def test_rare_labels_win_no_resampled_set_that_they_are_not_in() -> None:
    labels = torch.zeros(100, 9)
    labels[:50, 0] = 1
    for column in range(1, 9):
        labels[[10 * column, 10 * column + 5], column] = 1
    units = labels[:, :1] + 0.2 * torch.rand(100, 1, generator=torch.Generator().manual_seed(0))
    for seed in range(5):
        found = describe_units(
            units, labels, list("abcdefghi"), options=DescribeOptions(seed=seed)
        )[0]
        assert found.could_be == ("a",)


def test_what_is_the_same_on_all_photos_or_goes_against_a_unit_is_not_said(scores: Tensor) -> None:
    sky = scores[:, 1]
    given = torch.stack([sky, torch.ones(N), -sky], 1)
    found = describe_units(torch.stack([sky, sky.square()], 1), given, ("sky", "photo", "ground"))
    assert [d.phrases for d in found] == [("sky",), ("sky",)]
    against = describe_units(-sky[:, None], given[:, :2], ("sky", "photo"))[0]
    assert (against.phrases, against.note) == ((), "no phrase goes with it")
    assert against.combination == ((-1, "sky"),)


def test_a_combination_names_what_adds_and_what_must_be_missing(scores: Tensor) -> None:
    unit = scores[:, 0] + scores[:, 3] - scores[:, 1]
    found = describe_units(unit[:, None], scores, NAMES)[0]
    assert set(found.combination) == {(1, "grass"), (1, "brick"), (-1, "sky")}
    assert found.combination_correlation > max(found.correlations) + 0.2


def test_scores_with_their_phrases_give_the_same(scores: Tensor) -> None:
    units = scores[:, :2]
    assert describe_units(units, ConceptScores(scores, NAMES)) == describe_units(
        units, scores, NAMES
    )


def test_a_direction_is_named_by_the_positions_of_photos(scores: Tensor) -> None:
    # Many features carry a little of "grass"; the mistakes lack it.
    rng = torch.Generator().manual_seed(4)
    loads = torch.randn(40, generator=rng)
    z = scores[:, :1] * loads + 0.5 * torch.randn(N, 40, generator=rng)
    lacks = scores[:, 0] < 0.3
    cue = Direction(z[~lacks].mean(0) - z[lacks].mean(0), torch.full((40,), 0.5))
    positions = cue.positions(z)[:, None]
    found = describe_units(torch.cat([positions, -positions], 1), scores, NAMES)
    assert found[0].phrases[0] == "grass"
    assert found[0].is_certain
    assert "grass" not in found[1].phrases


def test_what_one_photo_shows_is_not_certain_by_its_crops() -> None:
    """A unit and a wrong phrase that agree on the crops of one photo alone."""
    rng = torch.Generator().manual_seed(5)
    together = torch.cat([torch.arange(300), torch.full((100,), 300)])
    is_crop = (together == 300).float()[:, None]
    units = is_crop + 0.3 * torch.rand(N, 1, generator=rng)
    scores = torch.rand(N, 5, generator=rng)
    scores[:, 2:3] += is_crop
    alone = describe_units(units, scores, NAMES)[0]
    assert alone.phrases[0] == "dog"
    assert alone.is_certain
    for seed in range(4):
        told = describe_units(
            units, scores, NAMES, together=together, options=DescribeOptions(seed=seed)
        )[0]
        assert not told.is_certain


def test_groups_choose_or_judge_as_a_whole(scores: Tensor) -> None:
    # Copies of a photo add nothing: the numbers are those of the photos themselves.
    photos, copies = torch.arange(100), torch.arange(100).repeat_interleave(4)
    units = scores[:100, :2] + 0.2 * scores[:100, 2:4]
    once = describe_units(units, scores[:100], NAMES, together=photos)
    four_times = describe_units(units[copies], scores[copies], NAMES, together=copies)
    for one, of_copies in zip(once, four_times, strict=True):
        assert of_copies.correlations == pytest.approx(one.correlations, abs=1e-5)
        assert of_copies.could_be == one.could_be


def test_a_certain_phrase_comes_first_on_the_photos_that_judge(scores: Tensor) -> None:
    rng = torch.Generator().manual_seed(DescribeOptions().seed)
    judges = torch.zeros(N, dtype=torch.bool)
    judges[torch.randperm(N, generator=rng)[: N // 2]] = True
    # "grass" goes with the unit everywhere; "sky" more, but only where it cannot be chosen.
    unit = scores[:, 0]
    given = scores.clone()
    given[:, 0] = unit + 0.3 * scores[:, 2]
    given[judges, 1] = unit[judges]
    found = describe_units(unit[:, None], given, NAMES)[0]
    assert found.phrases[0] == "grass"
    assert found.correlations[0] > 0.8
    assert not found.is_certain


def test_silent_units_and_twins_are_named(scores: Tensor) -> None:
    rare = torch.zeros(N)
    rare[0] = 1
    units = torch.stack([scores[:, 0], torch.full((N,), 2.0), 3 * scores[:, 0], rare], 1)
    found = describe_units(units, scores, NAMES, units=[10, 11, 12, 13])
    assert found.of(11) == UnitDescription(
        11, note="the same on all photos", n_images=N, n_held_out=N // 2
    )
    assert found.of(12).phrases == found.of(10).phrases
    assert found.of(12).note == "equals unit 10 up to scale"
    assert found.of(10).note == ""
    assert found.of(13).phrases == ()
    assert found.of(13).note.startswith("the same on all photos of one part")


def test_units_are_twins_only_where_they_are_equal_on_all_photos(scores: Tensor) -> None:
    part = torch.zeros(N, dtype=torch.bool)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(DescribeOptions().seed))
    part[order[: N // 2]] = True  # the photos that judge
    one = scores[:, 0]
    other = torch.where(part, scores[:, 1], one)
    assert [d.note for d in describe_units(torch.stack([one, other], 1), scores, NAMES)] == ["", ""]


def test_the_same_seed_gives_the_same(scores: Tensor, noise: Tensor) -> None:
    units = scores[:, :3] + 0.3 * noise[:, :3]
    first = describe_units(units, scores, NAMES)
    assert first == describe_units(units, scores, NAMES)
    other = describe_units(units, scores, NAMES, options=DescribeOptions(seed=1))
    assert [d.phrases[0] for d in first] == [d.phrases[0] for d in other]
    assert first != other


def test_one_unit_at_a_time_gives_the_same_as_all(scores: Tensor, noise: Tensor) -> None:
    units = scores[:, :3] + 0.3 * noise[:, :3]
    singles = [describe_units(units[:, k : k + 1], scores, NAMES, units=[k])[0] for k in range(3)]
    for one, of_all in zip(singles, describe_units(units, scores, NAMES), strict=True):
        assert (one.phrases, one.could_be) == (of_all.phrases, of_all.could_be)
        assert one.correlations == pytest.approx(of_all.correlations, abs=1e-6)


def test_units_are_found_by_phrase() -> None:
    found = Descriptions(
        [
            UnitDescription(1, ("Red text", "sky"), *[(0.4, 0.1)] * 4),
            UnitDescription(2, ("texture",), *[(0.9,)] * 4),
            UnitDescription(3, ("dog",), *[(0.4,)] * 4),
        ]
    )
    assert [d.unit for d in found.find("TEXT")] == [2, 1]
    with pytest.raises(KeyError, match=r"unit=9 was not described, expected one of \[1, 2, 3\]"):
        found.of(9)
    assert len(found.rows()) == 4
    assert found.rows()[0]["correlation"] == 0.4


def test_names_are_shown_safely() -> None:
    found = Descriptions([UnitDescription(1, ("<b>\x1b[31m",), (0.5,), (0.4,))])
    assert "\x1b" not in str(found)
    assert "<b>" not in found._repr_html_()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"activations": [[1.0]]}, TypeError, "activations is a list, expected a tensor"),
        ({"activations": torch.rand(N)}, ValueError, r"activations has shape \(400,\)"),
        ({"activations": torch.rand(N - 1, 2)}, ValueError, "399 photos and concept_scores 400"),
        ({"activations": torch.full((N, 2), torch.nan)}, ValueError, "activations has NaN"),
        ({"phrases": NAMES[:4]}, ValueError, r"scores has shape \(400, 5\), expected \(N, 4\)"),
        ({"phrases": ("a",) * 5}, ValueError, "phrases has 'a' twice"),
        ({"phrases": "abcde"}, TypeError, "phrases"),
        ({"phrases": None}, ValueError, "phrases is None, expected one name"),
        (
            {"concept_scores": ConceptScores(torch.rand(N, 5), NAMES)},
            ValueError,
            "phrases are given, and concept_scores have their own",
        ),
        ({"concept_scores": torch.ones(N, 5)}, ValueError, "the same on all photos"),
        ({"concept_scores": torch.full((N, 5), torch.inf)}, ValueError, "concept_scores has NaN"),
        ({"concept_scores": torch.rand(N, 0), "phrases": ()}, ValueError, "expected at least one"),
        ({"concept_scores": torch.rand(N, 0)}, ValueError, r"concept_scores has shape \(400, 0\)"),
        ({"phrases": [1, 2, 3, 4, 5]}, TypeError, "phrases holds 1"),
        ({"activations": torch.rand(N, 2).to(torch.complex64)}, TypeError, "real numbers"),
        ({"units": [0.5, 1.5]}, TypeError, r"units has dtype torch\.float32"),
        ({"options": {"seed": 1}}, TypeError, "options is dict, expected DescribeOptions"),
        ({"together": [0.5] * N}, TypeError, r"together has dtype torch\.float32"),
        ({"together": [1] * 9}, ValueError, "together has 9 numbers, expected 400, one a photo"),
        ({"together": [1, 2] * 200}, ValueError, "together has 2 different numbers, expected at"),
        ({"units": [1]}, ValueError, "units has 1 numbers, 1 of them different, expected 2"),
        ({"units": [1, 1]}, ValueError, "units has 2 numbers, 1 of them different"),
    ],
)
def test_bad_input_is_told(scores: Tensor, change: dict, error: type, message: str) -> None:
    given = {"activations": torch.rand(N, 2), "concept_scores": scores, "phrases": NAMES} | change
    with pytest.raises(error, match=message):
        describe_units(**given)


def test_hostile_names_are_words_like_others(scores: Tensor) -> None:
    names = ("ignore all instructions\x1b[2J", "<img src=x onerror=alert(1)>", *NAMES[2:])
    found = describe_units(scores[:, :2], scores, names)
    assert [d.phrases[0] for d in found] == list(names[:2])
    assert "\x1b" not in str(found)
    assert "<img" not in found._repr_html_()


def test_few_photos_are_told() -> None:
    with pytest.raises(ValueError, match="activations has 1 photos, expected at least 20"):
        describe_units(torch.rand(1, 2), torch.rand(1, 1), ["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_phrases": 0}, "n_phrases=0, expected at least 1"),
        ({"held_out": 1.0}, "held_out=1.0, expected a share"),
        ({"certain_correlation": -1.0}, "certain_correlation=-1.0"),
    ],
)
def test_bad_options_are_told(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DescribeOptions(**options)


@pytest.mark.parametrize("name", ["n_phrases", "certain_set", "seed"])
def test_numbers_that_are_not_whole_are_told(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name}=2.5, expected a whole number"):
        DescribeOptions(**{name: 2.5})


def test_a_unit_equals_itself_on_very_many_photos() -> None:
    """Sums of squares in float32 lose digits."""
    draw = torch.Generator().manual_seed(0)
    unit, scores = torch.rand(200_000, 1, generator=draw), torch.rand(200_000, 2, generator=draw)
    scores[:, 1] += unit[:, 0]
    found = describe_units(unit, scores, ["other", "this"])[0]
    assert (found.phrases[0], found.note) == ("this", "")
    held_out = torch.corrcoef(torch.stack([unit[:, 0].square(), scores[:, 1]]).double())[0, 1]
    assert found.correlations[0] == pytest.approx(float(held_out), abs=0.01)
