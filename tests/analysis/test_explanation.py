from __future__ import annotations

import pytest
import torch
from helpers import assert_same_set, feature_set, left_unchanged, linear

from captum_neuroinspect.analysis import (
    Explanation,
    explain_mistakes,
    mistakes_about,
)
from captum_neuroinspect.attr import NeuronCounterfactual, neuron_importance, rank_neurons

HEAD = linear([[2.0, 0.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.5, 2.0]])  # class 1 lives in neuron 1


def _data(n: int = 60, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    noise = torch.rand(n, 3, generator=generator) * 1.4
    return feature_set(HEAD, torch.eye(3)[labels] + noise, labels)


def test_it_is_counterfactuals_then_a_ranking() -> None:
    data, usual = _data(), _data(seed=1)
    with left_unchanged(HEAD):
        found = explain_mistakes(HEAD, data, usual, target=1, k=2)
    wrong = data.mistakes(1)
    w = NeuronCounterfactual(HEAD, HEAD).attribute_features(wrong.features, 1)
    assert_same_set(found.mistakes, wrong)
    assert torch.equal(found.w, w)
    # Of four mistakes or more, two must have a neuron among their strongest.
    assert len(wrong) >= 4
    least = 2 / len(wrong)
    expected = rank_neurons(
        w,
        k=2,
        min_precision=least,
        features=wrong,
        reference=usual,
        importance=neuron_importance(HEAD, usual, 1),
    )
    assert found.ranking == expected
    given = explain_mistakes(HEAD, data, usual, target=1, k=2, w=w)
    assert given.ranking == found.ranking


def test_without_a_reference_the_right_ones_of_the_set_are_it() -> None:
    data = _data()
    found = explain_mistakes(HEAD, data, target=1)
    assert found.ranking == explain_mistakes(HEAD, data, data, target=1).ranking


def test_paper_options_are_votes_over_unbounded_changes() -> None:
    data = _data()
    found = explain_mistakes(HEAD, data, target=1, k=2, options="paper")
    wrong = data.mistakes(1)
    w = NeuronCounterfactual(HEAD, HEAD, options="paper").attribute_features(wrong.features, 1)
    assert torch.equal(found.w, w)
    at = neuron_importance(HEAD, data.features.double().mean(0), 1)
    assert found.ranking == rank_neurons(w, k=2, importance=at, options="paper")
    with pytest.raises(ValueError, match="options='paper' ranks without a reference"):
        explain_mistakes(HEAD, data, data, target=1, options="paper")


def test_importance_is_left_out_where_no_sample_of_the_class_is_right() -> None:
    data = _data()
    wrong = data.subset(~(data.is_correct & (data.labels == 1)))
    found = explain_mistakes(HEAD, wrong, target=1)
    assert not found.ranking.has_importance
    assert "importance" not in found._repr_html_()
    assert "importance" in explain_mistakes(HEAD, data, target=1)._repr_html_()


def test_slices_have_the_importance_beside_their_neurons() -> None:
    found = explain_mistakes(HEAD, _data(), target=1, slices=2)
    at = neuron_importance(HEAD, _data(), 1)
    for one in found.of_slices():
        group = one.ranking.insufficient
        assert group.importance == tuple(at[list(group.neurons)].tolist())
        assert one.ranking.has_importance


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": "papr"}, "options='papr', expected 'paper' or None"),
        ({"options": "paper", "slices": 2}, "expected no slices"),
        ({"options": "paper", "reference": _data()}, "without a reference, expected none"),
    ],
)
def test_other_options_are_refused_also_with_known_changes(change, message) -> None:
    data = _data()
    w = NeuronCounterfactual(HEAD, HEAD).attribute_features(data.mistakes(1).features, 1)
    with pytest.raises(ValueError, match=message):
        explain_mistakes(HEAD, data, target=1, w=w, **change)


def test_only_those_taken_for_a_class() -> None:
    data = _data(seed=1)
    whole, part = (explain_mistakes(HEAD, data, target=1, predicted=p) for p in (None, 0))
    assert 0 < len(part.mistakes) < len(whole.mistakes)
    assert set(part.mistakes.predictions.tolist()) == {0}
    assert part.confused == 0
    rows = [whole.mistakes.indices.tolist().index(i) for i in part.mistakes.indices.tolist()]
    torch.testing.assert_close(part.w, whole.w[rows])
    assert "taken for class 0" in str(part)


def test_a_neuron_that_is_missing_is_insufficient() -> None:
    """Class 1 lives in neuron 1 alone: that is what its mistakes lack."""
    found = explain_mistakes(HEAD, _data(), target=1)
    assert found.ranking.insufficient.neurons[0] == 1
    assert 1 in found.neurons(2)
    assert sorted(found.neurons()) == sorted(row["neuron"] for row in found.rows())
    assert len(found.neurons(1)) == 1
    sizes = [row["magnitude"] for row in found.rows()]
    assert sizes == sorted(sizes, reverse=True)


def test_what_a_single_mistake_of_many_has_of_its_own_is_no_reason() -> None:
    data = _data()
    wrong = data.mistakes(1)
    w = torch.zeros(len(wrong), 3)
    w[:, 1], w[0, 0] = 1.0, 50.0
    found = explain_mistakes(HEAD, data, target=1, k=1, w=w)
    assert 0 not in found.neurons()
    few = data.subset(torch.isin(data.indices, wrong.indices[:3]) | data.is_correct)
    assert 0 in explain_mistakes(HEAD, few, target=1, k=1, w=w[:3]).neurons()


def test_both_ways_to_be_wrong_about_a_class() -> None:
    data = _data()
    about = mistakes_about(data, 1)
    assert about is not None
    for label, found in zip(about.labels.tolist(), about.predictions.tolist(), strict=True):
        assert (label == 1) != (found == 1)
    wrong = data.mistakes()
    assert len(about) == int(((wrong.labels == 1) | (wrong.predictions == 1)).sum())
    assert mistakes_about(data.correct(), 1) is None


def test_heads_with_one_output() -> None:
    """Classes 0 and 1: what misses 1 needs a higher logit, what misses 0 a lower one."""
    head = linear([[2.0, -1.0, 0.5]], [-1.0])
    features = torch.rand(90, 3, generator=torch.Generator().manual_seed(0)) * 2
    labels = (head(features).flatten() > 0).long()
    labels[::4] = 1 - labels[::4]
    data = feature_set(head, features, labels)
    for target, sign in ((1, 1), (0, -1)):
        found = explain_mistakes(head, data, target=target)
        assert found.ranking.n_mistakes == len(found.mistakes) > 5
        change = head(found.mistakes.features + found.w) - head(found.mistakes.features)
        assert (sign * change > 0).all()
        assert found.confused == 1 - target
        assert found.neurons()


@pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")
def test_mistakes_that_cannot_be_turned_are_left_out_or_refused() -> None:
    head = linear([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.0, 0.0, -1e4])
    features = torch.rand(30, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.full((30,), 2)
    labels[:20] = head(features[:20]).argmax(1)
    data = feature_set(head, features, labels)
    with pytest.raises(ValueError, match="none of the 10 samples reached its class"):
        explain_mistakes(head, data, target=2)
    # Some reach it: the others neither vote nor count.
    labels = head(features).argmax(1)
    labels[::3] = 1 - labels[::3]
    data = feature_set(head, features, labels)
    wrong = data.mistakes(0)
    details = NeuronCounterfactual(head, head).attribute_features(
        wrong.features, 0, return_details=True
    )
    details.converged[:2] = False
    found = explain_mistakes(head, data, target=0, k=2, w=details)
    assert found.ranking.n_mistakes == len(wrong) - 2
    assert found.ranking.n_unfinished == 2
    assert "2 that did not reach their class" in str(found)
    assert len(found.w) == len(wrong)


def test_names_stay_text_in_a_notebook() -> None:
    from dataclasses import replace

    data = replace(_data(), class_names=("'\"&", "<i>b</i>", "c"))
    page = explain_mistakes(HEAD, data, target=1, predicted=0)._repr_html_()
    assert "<i>" not in page
    assert "&lt;i&gt;b&lt;/i&gt;" in page
    assert "&#x27;&quot;&amp;" in page


def test_bad_arguments() -> None:
    data = _data()
    with pytest.raises(ValueError, match=r"target=1: none of the .* is wrong, expected at least"):
        explain_mistakes(HEAD, data.correct(), target=1)
    with pytest.raises(ValueError, match=r"is wrong taken for 'class 1'"):
        explain_mistakes(HEAD, data, target=1, predicted=1)
    with pytest.raises(ValueError, match="target=3 is out of range"):
        explain_mistakes(HEAD, data, target=3)
    with pytest.raises(ValueError, match="predicted=-1 is out of range"):
        explain_mistakes(HEAD, data, target=1, predicted=-1)
    with pytest.raises(TypeError, match=r"nn\.Linear"):
        explain_mistakes(torch.nn.ReLU(), data, target=1)  # type: ignore[arg-type]
    found = explain_mistakes(HEAD, data, target=1)
    with pytest.raises(ValueError, match=r"w has 1 rows for \d+ mistakes"):
        Explanation(1, None, found.mistakes, found.w[:1], found.ranking)
    with pytest.raises(ValueError, match=r"w has 1 rows for \d+ mistakes"):
        explain_mistakes(HEAD, data, target=1, w=found.w[:1])
