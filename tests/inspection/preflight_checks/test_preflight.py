"""The preflight against hand counts, references and made-up faults."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from session_examples import NAMES, QUICK, CountedNet, loaded, photos, session
from torch import Tensor

from captum_neuroinspect import FeatureSet, preflight
from captum_neuroinspect.inspection.preflight_checks.agreement import guessing, renaming
from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight, PreprocessingCheck
from captum_neuroinspect.optvis import IllusionOptions


def _said(labels: Tensor, predicted: Tensor, n_classes: int, names=None) -> FeatureSet:
    """Features whose head says ``predicted``."""
    logits = torch.nn.functional.one_hot(predicted, n_classes).float()
    return FeatureSet(logits, logits, labels, class_names=names)


def _noisy(labels: Tensor, share: float, n_classes: int, seed: int = 0) -> Tensor:
    """Predictions that are right with this probability, else any class."""
    rng = torch.Generator().manual_seed(seed)
    other = torch.randint(n_classes, labels.shape, generator=rng)
    return torch.where(torch.rand(len(labels), generator=rng) < share, labels, other)


def _warned(found: Preflight, words: str) -> bool:
    return any(words in text for text in found.warnings)


# Guessing


def test_the_numbers_are_counted() -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    found = preflight(_said(labels, torch.tensor([0] * 5 + [1] * 3 + [2, 0]), 4)).guessing
    assert (found.n_right, found.n_photos, found.guess) == (7, 10, 0.25)
    assert (found.commonest, found.commonest_share) == (0, 0.6)
    # Clopper and Pearson's own table: 7 of 10.
    assert (found.low, found.high) == pytest.approx((0.3475, 0.9333), abs=1e-4)
    assert found.by_chance == pytest.approx(0.6 * 0.6 + 0.3 * 0.3 + 0.1 * 0.1)


@pytest.mark.parametrize(("n_classes", "n_photos"), [(2, 60), (3, 40), (10, 100), (1000, 80)])
def test_guessing_is_found_and_skill_is_not_mistaken_for_it(n_classes: int, n_photos: int) -> None:
    labels = torch.arange(n_photos) % n_classes
    blind = preflight(_said(labels, _noisy(labels, 0.0, n_classes), n_classes))
    assert _warned(blind, "near chance, no better than guessing")
    assert _warned(blind, "check preprocessing and class order")
    skilled = preflight(_said(labels, _noisy(labels, 0.9, n_classes), n_classes))
    assert skilled.warnings == ()


def test_always_the_commonest_class_is_no_skill() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    found = preflight(_said(labels, torch.zeros(100, dtype=torch.long), 2))
    assert _warned(found, "no better than always saying class 0 (90.0 %)")
    assert found.collapse is not None
    assert found.collapse.share == 1


def test_skill_on_rare_classes_is_not_called_chance() -> None:
    """9 of 10 right in both classes: less than always saying the common one, and still good."""
    labels = torch.tensor([0] * 190 + [1] * 10)
    predicted = labels.clone()
    predicted[::10] = 1 - predicted[::10]
    found = preflight(_said(labels, predicted, 2))
    assert found.warnings == ()
    assert any("always saying class 0 would be right on 95.0 %" in line for line in found.lines)


def test_one_class_alone_is_no_reason_to_warn() -> None:
    labels = torch.full((40,), 2)
    assert preflight(_said(labels, _noisy(labels, 0.9, 4), 4)).warnings == ()


def test_few_photos_do_not_prove_skill() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    found = preflight(_said(labels, torch.tensor([0, 1, 0, 0]), 2))
    assert _warned(found, "near chance")
    assert not found.is_like_training


# The same answer for most


def test_a_collapse_is_named_with_its_shares() -> None:
    labels = torch.arange(100) % 5
    predicted = torch.where(torch.arange(100) < 85, 3, labels)
    found = preflight(_said(labels, predicted, 5))
    assert found.collapse is not None
    assert found.collapse.predicted == 3
    assert found.collapse.share == float((predicted == 3).double().mean())
    assert found.collapse.label_share == pytest.approx(0.2)
    assert _warned(found, "of the photos are taken for class 3, which 20.0 % are")


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_most_photos_of_one_class_are_no_collapse(share: float) -> None:
    labels = (torch.arange(200) >= 200 * share).long()
    assert preflight(_said(labels, labels, 2)).collapse is None


# Other names


def test_a_permutation_is_found_whatever_it_is() -> None:
    """Every order of four classes but the right one."""
    labels = torch.arange(80) % 4
    for order in itertools.permutations(range(4)):
        predicted = _noisy(torch.tensor(order)[labels], 0.85, 4)
        found = renaming(_said(labels, predicted, 4))
        moved = tuple((label, name) for label, name in enumerate(order) if label != name)
        assert (found.names if found else ()) == moved
        if found:
            # The reference tries them all.
            best = max(
                float((predicted == torch.tensor(other)[labels]).double().mean())
                for other in itertools.permutations(range(4))
            )
            assert found.renamed_accuracy == pytest.approx(best)
            assert found.accuracy == pytest.approx(float((predicted == labels).double().mean()))


def test_two_swapped_of_many_and_a_class_named_as_one_without_photos() -> None:
    labels = torch.arange(300) % 10
    swapped = torch.where(labels == 3, 7, torch.where(labels == 7, 3, labels))
    found = preflight(_said(labels, _noisy(swapped, 0.8, 10), 10))
    assert _warned(found, "labels look permuted: check the order of class names. With class 3 as")
    assert found.renaming is not None
    assert found.renaming.names == ((3, 7), (7, 3))
    subset = torch.arange(60) % 3  # of six classes, of which the model knows the others
    found = preflight(_said(subset, subset + 3, 6))
    assert found.renaming is not None
    assert found.renaming.names == ((0, 3), (1, 4), (2, 5))
    assert not _warned(found, "near chance")  # a better reason is known


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n_classes", "n_photos"), [(2, 30), (3, 12), (10, 60), (200, 150)])
def test_chance_is_not_called_a_permutation(seed: int, n_classes: int, n_photos: int) -> None:
    """Any table of confusions can be made to look better: not on other photos."""
    labels = torch.arange(n_photos) % n_classes
    for share in (0.0, 0.3, 0.95):
        predicted = _noisy(labels, share, n_classes, seed)
        assert renaming(_said(labels, predicted, n_classes)) is None, share


def test_a_weak_class_is_no_permutation() -> None:
    """Taken for its neighbour more often than not, and the neighbour for it."""
    labels = torch.arange(400) % 4
    rng = torch.Generator().manual_seed(0)
    mixed = (labels < 2) & (torch.rand(400, generator=rng) < 0.6)
    predicted = torch.where(mixed, 1 - labels, labels)
    assert renaming(_said(labels, predicted, 4)) is None


def test_labels_the_wrong_way_round() -> None:
    labels = torch.arange(60) % 2
    predicted = torch.where(torch.arange(60) % 6 == 0, labels, 1 - labels)
    assert renaming(_said(labels, predicted, 2)) is not None


def test_more_classes_than_can_be_assigned_are_left_alone() -> None:
    labels = torch.arange(1600)
    assert renaming(_said(labels, labels.roll(1), 1600)) is None


# Classes, mistakes, training photos


def test_missed_and_small_classes_are_listed() -> None:
    labels = torch.tensor([0] * 30 + [1] * 25 + [2] * 5 + [3] * 3)
    predicted = torch.where(labels == 1, 0, labels)
    found = preflight(_said(labels, predicted, 5, ("a", "b", "c", "d", "none")))
    assert [row.name for row in found.missed] == ["b"]
    assert [(row.name, row.n_samples) for row in found.few] == [("d", 3), ("c", 5)]
    assert "never recognised: b (25)" in found.lines
    assert "fewer than 20 photos, so their accuracy is uncertain: d (3), c (5)" in found.lines
    many = preflight(_said(torch.arange(30), torch.arange(30).roll(1), 30))
    assert any("and 25 more" in line for line in many.lines)


def test_mistakes_are_divided_by_the_roles_of_their_photos() -> None:
    labels = torch.tensor([0] * 20 + [1] * 20 + [2] * 20)
    predicted = labels.clone()
    predicted[:8], predicted[8:12] = 1, 2
    features = _said(labels, predicted, 3, ("outwear", "b", "c"))
    places = torch.arange(60) % 8
    deployment = features.subset(places % 2 == 0)
    assert "outwear: 12 mistakes; 6 explained, 6 for validation" in (
        preflight(features, deployment, target=0).lines
    )
    count = preflight(features, deployment, target=0, predicted=2).mistakes
    assert str(count) == (
        "outwear: 12 mistakes; 2 explained, 6 for validation, 4 taken for other classes than the "
        "one asked about"
    )
    # Those of no other role stand for train photos.
    validation, test = features.subset(places == 1), features.subset(places == 3)
    assert str(preflight(features, deployment, validation, test, target=0).mistakes) == (
        "outwear: 12 mistakes; 6 explained, 2 for validation, 2 for test, 2 for train"
    )
    assert str(preflight(features, target=0).mistakes) == "outwear: 12 mistakes; 12 explained"
    assert str(preflight(features, target=1).mistakes) == "b: 0 mistakes; 0 explained"


def test_photos_that_it_was_trained_on_are_suspected() -> None:
    labels = torch.arange(60) % 3
    assert _warned(preflight(_said(labels, labels, 3)), "are these the photos that it was trained")
    weaker = _said(labels, _noisy(labels, 0.9, 3), 3)
    assert not preflight(weaker).is_like_training


def test_it_shows_itself_and_nothing_becomes_markup() -> None:
    labels = torch.arange(30) % 3
    names = ("<b>", "&", "c")
    found = preflight(_said(labels, torch.zeros_like(labels), 3, names), target=1)
    assert str(found).splitlines()[0] == found.lines[0]
    assert str(found).splitlines()[-1] == f"Warning: {found.warnings[-1]}"
    assert "<b>" not in found._repr_html_()
    assert "&lt;b&gt;" in found._repr_html_()
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["accuracy"] == found.accuracy
    assert record["collapse"]["predicted"] == 0
    assert record["warnings"] == list(found.warnings)
    assert record["mistakes"]["n_mistakes"] == 10


def test_pixels_become_lines_and_warnings() -> None:
    features = _said(torch.arange(30) % 3, _noisy(torch.arange(30) % 3, 0.9, 3), 3)
    plain = PreprocessingCheck(False, 8, (0.0, 1.0), 0.2, (0.0, 1.0))
    found = preflight(features, preprocessing=plain)
    assert "input: no preprocessing was given: the model sees pixels in 0..1" in found.lines
    assert found.warnings == ()
    given = PreprocessingCheck(True, 8, (0.0, 0.004), 0.001, (-2.1, -2.1), "x", "because of x")
    found = preflight(features, preprocessing=given)
    assert "input: the model sees values from -2.1 to -2.1" in found.lines
    assert _warned(found, "divided by 255 once too often?")
    assert _warned(found, "the normalisation (preprocess=) looks wrong: because of x")


def test_bad_arguments() -> None:
    multi = FeatureSet(torch.rand(3, 2), torch.rand(3, 2), torch.eye(3)[:, :2].long())
    with pytest.raises(ValueError, match="multi-hot labels, expected one class a sample"):
        preflight(multi)
    features = _said(torch.arange(4), torch.arange(4), 4)
    with pytest.raises(ValueError, match="features are empty, expected at least one photo"):
        preflight(features.subset(torch.tensor([], dtype=torch.long)))
    with pytest.raises(ValueError, match="target=4 is out of range"):
        preflight(features, target=4)
    assert guessing(features).accuracy == 1


# In a session


_FOURS = IllusionOptions(batch_size=4)


class _Clock:
    """Time that passes when it is asked for."""

    def __init__(self, step: float) -> None:
        self.now, self.step, self.n_asked = 0.0, step, 0

    def __call__(self) -> float:
        self.now += self.step
        self.n_asked += 1
        return self.now


def test_a_session_knows_what_it_will_do() -> None:
    made = loaded()
    clock = _Clock(3.0)
    found = made.preflight(n_neurons=5, options=_FOURS, clock=clock, **QUICK)
    features, target = made.data.inspected.features, made.worst_classes()[0].index
    assert made.explanation is None  # it only looked
    assert found.mistakes is not None
    assert found.mistakes.target == target
    explanation = made.explain()
    assert found.mistakes.n_explained == len(explanation.mistakes)
    for role in ("validation", "test", "train"):
        n_mistakes = len(getattr(made.data, role).features.mistakes(target))
        assert getattr(found.mistakes, f"n_{role}") == n_mistakes
    assert found.mistakes.n_mistakes == len(features.mistakes(target))
    plan = found.rendering
    assert plan is not None
    assert (plan.n_pictures, plan.n_kept, plan.n_steps) == (10, 0, QUICK["n_steps"])
    # 3 seconds a step of four pictures; 10 pictures of 2 steps.
    assert plan.seconds == pytest.approx(3.0 * 2 * 10 / 4)
    assert str(plan) == "illusions: 10 pictures of 2 steps, about 20 seconds on this machine"


def test_what_is_kept_is_not_timed() -> None:
    made = loaded()
    neurons = made.explain().neurons(3)
    made.visualize(neurons[:2], options=_FOURS, **QUICK)
    clock = _Clock(1.0)
    plan = made.preflight(n_neurons=2, options=_FOURS, clock=clock, **QUICK).rendering
    assert plan is not None
    assert plan.n_kept == plan.n_pictures == 4
    assert plan.seconds is None
    assert clock.n_asked == 0
    assert str(plan).endswith("kept from before")
    partly = made.preflight(n_neurons=3, options=_FOURS, clock=clock, **QUICK).rendering
    assert partly is not None
    assert (partly.n_kept, partly.seconds) == (4, 1.0 * 2 * 2 / 2)
    made.fresh = True
    again = made.preflight(n_neurons=2, options=_FOURS, clock=None, **QUICK).rendering
    assert again is not None
    assert (again.n_kept, again.seconds) == (0, None)


def test_a_second_session_looks_at_no_photo_again(tmp_path) -> None:
    first, second = CountedNet(), CountedNet()
    results = []
    for net in (first, second):
        made = session(net, work=tmp_path)
        made.load(photos())
        before = net.n_images
        results.append(made.preflight(clock=None, **QUICK))
        looked = net.n_images - before
    assert looked == 0
    assert results[0].record() == results[1].record()
    assert results[0].preprocessing == results[1].preprocessing


def test_other_photos_are_looked_at_anew() -> None:
    made = loaded()
    made.preflight(clock=None)
    images, labels = photos(seed=3)
    made.load((0.5 + images * 0.003, labels))
    found = made.preflight(clock=None)
    assert found.preprocessing is not None
    assert found.preprocessing.is_flat


def test_without_mistakes_nothing_is_rendered() -> None:
    images, _ = photos()
    found = CountedNet().eval()(images).argmax(1)
    made = loaded(data=(images, found))
    looked = made.preflight(clock=_Clock(1.0))
    assert looked.rendering is None
    assert _warned(looked, "are these the photos that it was trained on?")


def test_bad_preflights() -> None:
    with pytest.raises(RuntimeError, match=r"call load\(data\) first"):
        session().preflight()
    made = loaded()
    with pytest.raises(ValueError, match="class 'dog' is unknown: expected one of"):
        made.preflight("dog")
    with pytest.raises(ValueError, match="class 'dog' is unknown"):
        made.preflight(predicted="dog")
    with pytest.raises(ValueError, match="n_neurons=0, expected at least 1"):
        made.preflight(n_neurons=0)
    with pytest.raises(TypeError, match="layer is the session's"):
        made.preflight(layer="backbone")
    assert made.preflight("coat", clock=None).class_names == NAMES
