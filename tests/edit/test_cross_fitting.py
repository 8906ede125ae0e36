"""Edits that are made on some samples and judged on others, also where there are few."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import feature_set, nudged
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, edit_head, mend
from captum_neuroinspect.edit import EditOptions, Judged, compare_heads, cross_fit, fit_and_judge
from captum_neuroinspect.edit.cross_fitting import folds_of

TARGET = 1


def _noise(n: int, seed: int, n_classes: int = 4) -> tuple[nn.Linear, FeatureSet]:
    """Labels that nothing in the features tells."""
    rng = torch.Generator().manual_seed(seed)
    head = nn.Linear(24, n_classes)
    with torch.no_grad():
        head.weight.copy_(torch.randn(n_classes, 24, generator=rng))
        head.bias.zero_()
    features = torch.rand(n, 24, generator=rng)
    return head, feature_set(head, features, torch.arange(n) % n_classes)


def _quarters(data: FeatureSet, seed: int = 0) -> list[FeatureSet]:
    return [part for half in data.split(seed=seed) for part in half.split(seed=seed)]


def _mender(head: nn.Linear, **options: Any) -> Any:
    def fit(train: Any, deployment: Any, validation: Any, neurons: Any) -> HeadEdit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return mend(
                head, train, validation, deployment, target=TARGET, neurons=neurons, **options
            )

    return fit


def _retrainer(head: nn.Linear) -> Any:
    def fit(train: Any, deployment: Any, validation: Any, neurons: Any) -> HeadEdit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return edit_head(
                head, train, validation, target=TARGET, neurons=neurons or [1, 2], lr=0.1,
                strength=0.0, mistakes=deployment, select="target",
                options=EditOptions(mistake_weight=3.0, max_cost=1.0),
            )  # fmt: skip

    return fit


def _mean_and_half(values: list[float]) -> tuple[float, float]:
    """A mean and half its 99.9 % interval, by Student's t."""
    from scipy.stats import t

    n, mean = len(values), sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    return mean, float(t.ppf(0.9995, n - 1)) * math.sqrt(variance / n)


# On noise there is nothing to gain


@pytest.mark.parametrize("way", ["cross", "once"])
@pytest.mark.parametrize("make", [_mender, _retrainer])
def test_on_noise_the_judged_gain_is_chance(make: Any, way: str) -> None:
    """Of all samples, and of the class beyond how often its name is given to others."""
    overall, own, taught = [], [], []
    for seed in range(10 if make is _mender else 20):
        head, data = _noise(100, seed)
        options = {"max_cost": 1.0} if make is _mender else {}
        fit = make(head, **options)
        train, deployment, validation, test = _quarters(data, seed)
        if way == "cross":
            held = data.without(train, deployment)
            edit = cross_fit(fit, train, deployment, held, [1, 2, 5], n_folds=3, seed=seed)
        else:
            edit = fit_and_judge(fit, train, deployment, validation, test)
        before, after = edit.judged.before, edit.judged.after
        overall.append(after.accuracy() - before.accuracy())
        mine = before.of_class(TARGET)
        named = [(one.predictions == TARGET).float() for one in (before, after)]
        skill = [float(one[mine].mean() - one[~mine].mean()) for one in named]
        own.append(skill[1] - skill[0])
        taught.append(deployment.with_head(edit.head).accuracy() - deployment.accuracy())
    for gains in (overall, own):
        mean, half = _mean_and_half(gains)
        assert abs(mean) < half, gains
    mean, half = _mean_and_half(taught)
    assert mean > half, "samples that it was fitted to say otherwise: the law can fail"


def test_mends_own_held_out_accuracy_is_chance_on_noise() -> None:
    gains = []
    for seed in range(10):
        head, data = _noise(120, seed)
        train, met, validation, _ = _quarters(data, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            edit = mend(head, train, validation, met, target=TARGET, max_cost=1.0)
        gains.append(edit.method.chosen.mean - edit.method.original.mean)
    mean, half = _mean_and_half(gains)
    assert abs(mean) < half


# Who is fitted to what


class Spy:
    """Keeps the rows of each fit; the head it makes names the fold's number everywhere."""

    def __init__(self, head: nn.Linear) -> None:
        self.head, self.calls = head, []

    def __call__(self, train: Any, deployment: Any, validation: Any, neurons: Any) -> HeadEdit:
        self.calls.append(
            ([set(one.indices.tolist()) for one in (train, deployment, validation)], neurons)
        )
        new = nn.Linear(self.head.in_features, self.head.out_features)
        with torch.no_grad():
            new.weight.zero_()
            new.bias.zero_()
            new.bias[(len(self.calls) - 1) % self.head.out_features] = 1.0
        return compare_heads(self.head, new, validation, {TARGET: neurons or []})


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_each_sample_is_judged_once_by_a_head_that_did_not_see_it(n_folds: int) -> None:
    head, data = _noise(120, 0, n_classes=6)
    train, deployment, *_ = _quarters(data)
    held = data.without(train, deployment)
    spy = Spy(head)
    edit = cross_fit(spy, train, deployment, held, [3, 4], n_folds=n_folds)
    assert len(spy.calls) == n_folds + 1
    everyone = set(held.indices.tolist())
    seen_of_row = {}
    for number, ((a, b, c), neurons) in enumerate(spy.calls):
        assert neurons == [3, 4]
        assert (a, b) == (set(train.indices.tolist()), set(deployment.indices.tolist()))
        assert not (a | b) & everyone
        for row in everyone - c:
            assert row not in seen_of_row
            seen_of_row[row] = number % 6
    assert spy.calls[0][0][2] == everyone
    judged = edit.judged
    assert judged.before.indices.tolist() == held.indices.tolist()
    assert judged.after.predictions.tolist() == [seen_of_row[i] for i in held.indices.tolist()]
    assert torch.equal(judged.before.predictions, held.predictions)
    assert judged.how == f"{len(held)} photos, cross-fitted over {n_folds} folds"
    assert edit.head.bias.argmax() == 0, "the head that is returned was made with all"


def test_once_the_test_samples_judge_and_nothing_else_sees_them() -> None:
    head, data = _noise(80, 0)
    train, deployment, validation, test = _quarters(data)
    spy = Spy(head)
    edit = fit_and_judge(spy, train, deployment, validation, test, [5])
    ((rows, neurons),) = spy.calls
    assert rows == [set(one.indices.tolist()) for one in (train, deployment, validation)]
    assert neurons == [5]
    assert edit.judged.before.indices.tolist() == test.indices.tolist()
    assert torch.equal(edit.judged.after.logits, test.with_head(edit.head).logits)
    assert edit.judged.how == "20 photos that were used for nothing else"


def test_an_edit_that_keeps_the_original_changes_nothing_for_anyone() -> None:
    head, data = _noise(80, 0)
    train, deployment, *_ = _quarters(data)
    held, calls = data.without(train, deployment), []

    def fit(train: Any, deployment: Any, validation: Any, neurons: Any) -> HeadEdit:
        calls.append(len(validation))
        kept = head if len(validation) == len(held) else nn.Linear(24, 4)
        return compare_heads(head, kept, validation, {TARGET: []})

    edit = cross_fit(fit, train, deployment, held)
    assert torch.equal(edit.judged.after.predictions, edit.judged.before.predictions)
    assert calls == [len(held)]


def test_folds_share_classes_and_mistakes_and_keep_the_same_sample_together() -> None:
    head, data = _noise(200, 1)
    twice = feature_set(head, torch.cat([data.features, data.features[:40]]), torch.arange(240) % 4)
    folds = folds_of(twice, 5, seed=2)
    assert torch.equal(folds[:40], folds[200:])
    assert torch.equal(folds, folds_of(twice, 5, seed=2))
    assert not torch.equal(folds, folds_of(twice, 5, seed=3))
    single = folds_of(data, 5)
    for label in range(4):
        for right in (True, False):
            rows = data.of_class(label) & (data.is_correct == right)
            counts = single[rows].bincount(minlength=5)
            assert int(counts.max() - counts.min()) <= 2


def test_fewer_samples_than_folds() -> None:
    head, data = _noise(12, 0)
    train, deployment = data.subset(torch.arange(4)), data.subset(torch.arange(4, 8))
    edit = cross_fit(Spy(head), train, deployment, data.subset(torch.arange(8, 11)))
    assert edit.judged.how == "3 photos, cross-fitted over 3 folds"


# What is refused


def _sets(n: int = 80) -> tuple[nn.Linear, dict[str, FeatureSet]]:
    head, data = _noise(n, 0)
    return head, dict(
        zip(("train", "deployment", "validation", "test"), _quarters(data), strict=True)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [("train", "test"), ("deployment", "test"), ("validation", "test"), ("train", "validation")],
)
def test_a_sample_in_two_roles_is_refused(one: str, other: str) -> None:
    head, sets = _sets()
    both = sets[other].subset(torch.arange(3))
    a, b = sets[one], both
    sets[one] = feature_set(
        head, torch.cat([a.features, b.features]), torch.cat([a.labels, b.labels])
    )
    with pytest.raises(ValueError, match=rf"3 of 20 samples of {other} are in {one} too"):
        fit_and_judge(Spy(head), **sets)


def test_bad_folds() -> None:
    head, sets = _sets()
    used = sets["train"], sets["deployment"]
    with pytest.raises(ValueError, match="n_folds=1, expected at least 2"):
        cross_fit(Spy(head), *used, sets["test"], n_folds=1)
    one = sets["test"].subset(torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="held_out has 6 samples, 1 of them different"):
        cross_fit(Spy(head), *used, one)
    with pytest.raises(ValueError, match="20 of 20 samples of held_out are in train too"):
        cross_fit(Spy(head), *used, sets["train"])


def _given(shared: str, by: str) -> tuple[nn.Linear, dict[str, FeatureSet]]:
    """Three sets; every second sample of one makes up another."""
    head, sets = _sets()
    given = {
        "train": sets["train"],
        "validation": sets["validation"],
        "deployment": sets["deployment"],
    }
    given[by] = given[shared].subset(torch.arange(0, 20, 2))
    return head, given


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("validation", "deployment")])
def test_mend_and_edit_head_refuse_samples_of_validation_in_another_set(
    one: str, other: str
) -> None:
    head, given = _given(one, other)
    with pytest.raises(ValueError, match=rf"10 of 10 samples of {other} are in {one} too, the f"):
        mend(head, **given, target=TARGET)
    given["mistakes"] = given.pop("deployment")
    named = "mistakes" if other == "deployment" else other
    with pytest.raises(ValueError, match=f"10 of 10 samples of {named} are in {one} too"):
        edit_head(head, **given, target=TARGET, neurons=[1])


@pytest.mark.filterwarnings("ignore:(the original head|every epoch):RuntimeWarning")
def test_samples_of_train_that_were_met_teach_once() -> None:
    """Such as the mistakes of the training set."""
    head, given = _given("train", "deployment")
    train, met, validation = given["train"], given["deployment"], given["validation"]
    rest = train.without(met)
    with pytest.warns(
        UserWarning, match="10 of 20 samples of train are in deployment too, and are left"
    ):
        found = mend(head, train, validation, met, target=TARGET, max_cost=1.0)
    expected = mend(head, rest, validation, met, target=TARGET, max_cost=1.0)
    assert torch.equal(found.head.weight, expected.head.weight)
    assert found.method == expected.method
    options = {"target": TARGET, "neurons": [1], "mistakes": met, "select": "target", "lr": 0.1}
    options["options"] = EditOptions(max_cost=1.0)
    with pytest.warns(UserWarning, match="10 of 20 samples of train are in mistakes too"):
        found = edit_head(head, train, validation, **options)
    expected = edit_head(head, rest, validation, **options)
    assert torch.equal(found.head.weight, expected.head.weight)


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 6])
def test_heads_of_few_features_are_refitted(n_features: int) -> None:
    torch.manual_seed(n_features)
    head = nn.Linear(n_features, 2)
    labels = torch.randint(0, 2, (240,))
    parts = _quarters(feature_set(head, torch.rand(240, n_features), labels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        edit = mend(head, *parts[:3], target=TARGET)
    assert all(0 <= neuron < n_features for neuron in edit.neurons)


def test_the_same_features_with_another_label_or_a_hair_apart_are_other_samples() -> None:
    head, sets = _sets()
    train, met = sets["train"], sets["deployment"]
    other = replace(train, labels=(train.labels + 1) % 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        mend(head, train, other, met, target=TARGET)
        mend(head, train, nudged(train), met, target=TARGET)


# As a thing


def test_what_judged_is_saved_with_the_edit(tmp_path: Any) -> None:
    head, data = _noise(160, 0)
    data = replace(data, groups=torch.arange(160) % 2, class_names=("a", "b", "c", "d"))
    train, deployment, *_ = _quarters(data)
    edit = cross_fit(
        _mender(head, max_cost=1.0), train, deployment, data.without(train, deployment)
    )
    again = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert again.judged.how == edit.judged.how
    for name in ("before", "after"):
        one, other = getattr(edit.judged, name), getattr(again.judged, name)
        for field in ("labels", "logits", "indices", "groups"):
            assert torch.equal(getattr(one, field), getattr(other, field)), (name, field)
        assert one.class_names == other.class_names
        assert one.features.shape[1] == 0, "features take room"


def test_judged_are_the_same_samples() -> None:
    _, data = _noise(20, 0)
    with pytest.raises(ValueError, match="before has 20 samples and after 10, expected the same"):
        Judged(data, data.subset(torch.arange(10)), "any")
