from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch
from helpers import feature_set, linear

from captum_neuroinspect import NeuronCounterfactual, rank_neurons
from captum_neuroinspect.attr import Reference

# Neuron:           0     1     2     3     4
W = torch.tensor(
    [
        [0.90, 0.50, -0.20, 0.00, -0.10],
        [0.80, -0.10, -0.30, 0.00, 0.10],
        [0.10, 0.70, -0.40, 0.00, 0.00],
        [0.20, 0.30, 0.00, 0.00, -0.50],
    ]
)


def test_rank_neurons_by_hand():
    """k = 1: the best of each row votes up (0, 0, 1, 1) and the worst down (2, 2, 2, 4)."""
    ranking = rank_neurons(W, k=1)
    # The two with equal precision stand by magnitude: 2.0 against 1.5.
    assert ranking.insufficient.neurons == (0, 1)
    assert ranking.insufficient.precision == (0.5, 0.5)
    assert ranking.insufficient.magnitude == pytest.approx((2.0, 1.5))
    assert ranking.excessive.neurons == (2, 4)
    assert ranking.excessive.precision == (0.75, 0.25)
    assert ranking.excessive.magnitude == pytest.approx((0.9, 0.6))
    assert len(ranking.both) == 0
    assert (ranking.n_mistakes, ranking.k) == (4, 1)


def test_rank_neurons_both_directions_are_listed_apart():
    """k = 2: neurons 1 and 4 have votes up and down; a zero is no vote."""
    ranking = rank_neurons(W, k=2)
    assert ranking.insufficient.neurons == (0,)
    assert ranking.insufficient.precision == (1.0,)
    assert ranking.excessive.neurons == (2,)
    assert ranking.excessive.precision == (0.75,)
    assert ranking.both.neurons == (1, 4)
    # 1: up in rows 0, 2, 3 and down in row 1. 4: up in row 1, down in rows 0 and 3.
    assert ranking.both.precision == (1.0, 0.75)
    assert ranking.both.magnitude == pytest.approx((1.6, 0.7))


def test_rank_neurons_without_change_is_never_listed():
    ranking = rank_neurons(W, k=5, min_precision=0.0)
    listed = ranking.insufficient.neurons + ranking.excessive.neurons + ranking.both.neurons
    assert sorted(listed) == [0, 1, 2, 4]


@pytest.mark.parametrize(("min_precision", "expected"), [(0.25, (2, 4)), (0.26, (2,)), (0.8, ())])
def test_rank_neurons_min_precision_drops(min_precision, expected):
    assert rank_neurons(W, k=1, min_precision=min_precision).excessive.neurons == expected


def test_rank_neurons_min_precision_is_reached_at_3_percent():
    w = torch.zeros(100, 3)
    w[:97, 0], w[97:, 1] = 1, 1
    assert rank_neurons(w, k=1).insufficient.neurons == (0, 1)
    w[97, 1], w[97, 2] = 0, 1
    assert rank_neurons(w, k=1).insufficient.neurons == (0,)


def test_rank_neurons_samples_that_are_right_do_not_dilute_precision():
    """No change, no mistake: shares are of the mistakes, and the others are counted."""
    mixed = torch.cat([W, torch.zeros(36, 5)])[torch.randperm(40)]
    for options in ({"k": 1}, {"k": 2}, {"by": "mean"}, {"k": 2, "min_precision": 0.5}):
        alone, among = rank_neurons(W, **options), rank_neurons(mixed, **options)
        assert among.n_right == 36
        assert among.n_mistakes == 4
        for kind in ("insufficient", "excessive", "both"):
            one, other = getattr(alone, kind), getattr(among, kind)
            assert one.neurons == other.neurons
            assert one.precision == pytest.approx(other.precision)
            assert one.magnitude == pytest.approx(other.magnitude)
    title = "4 mistakes (without 36 that need no change), top-5 precision"
    assert str(rank_neurons(mixed)).splitlines()[0] == title
    assert title in rank_neurons(mixed)._repr_html_()
    assert str(rank_neurons(W)).splitlines()[0] == "4 mistakes, top-5 precision"


def test_rank_neurons_contrasted_among_samples_that_are_right():
    w, z, usual = torch.randn(20, 6), torch.rand(20, 6), torch.rand(9, 6)
    w[5:] = 0
    alone = rank_neurons(w[:5], features=z[:5], reference=usual)
    among = rank_neurons(w, features=z, reference=usual)
    assert among == replace(alone, n_right=15)


@pytest.mark.parametrize("effect", [None, 0.25, 1.0])
def test_one_contrast_by_each_way(effect):
    """Details made with a reference, and a reference given to the ranking, are one ranking."""
    head = linear(2 * torch.eye(4))
    z, usual = torch.rand(12, 4), torch.rand(9, 4)
    method = NeuronCounterfactual(head, head)
    plain = method.attribute_features(z, 1, return_details=True)
    assert rank_neurons(plain, k=2) == rank_neurons(plain.w, k=2)
    reference = Reference.of(usual, effect=effect)
    found = method.attribute_features(z, 1, reference=reference, return_details=True)
    for options in ({}, {"k": 2}, {"k": 1, "by": "precision"}, {"min_precision": 0.5}):
        by_ranking = rank_neurons(plain, features=z, reference=reference, **options)
        assert rank_neurons(found, **options) == by_ranking
        assert rank_neurons(found, features=z, reference=reference, **options) == by_ranking
        assert rank_neurons(plain.w, features=z, reference=reference, **options) == by_ranking


def test_defaults_with_a_contrast():
    """Twenty votes or all features; two mistakes, or one of fewer than four."""
    w, z, usual = torch.randn(9, 30), torch.rand(9, 30), torch.rand(9, 30)
    contrasted = {"features": z, "reference": usual}
    assert rank_neurons(w).k == 5
    assert rank_neurons(w, **contrasted).k == 20
    ranking = rank_neurons(w, **contrasted)
    assert ranking == rank_neurons(w, 20, 2 / 9, **contrasted)
    few = {"features": z[:3, :6], "reference": usual[:, :6]}
    assert rank_neurons(w[:3, :6], **few) == rank_neurons(w[:3, :6], 6, 1 / 3, **few)


def test_rank_neurons_keeps_float64():
    """Sums of float64 changes to the last digits."""
    w = torch.rand(30, 4, dtype=torch.float64)
    found = rank_neurons(w, k=4, by="magnitude").insufficient
    expected = w.sum(0).sort(descending=True)
    assert found.neurons == tuple(expected.indices.tolist())
    assert found.magnitude == pytest.approx(tuple(expected.values.tolist()), rel=1e-14)


def test_rank_neurons_by_magnitude():
    """One strong change outweighs two weak ones; precision is still reported."""
    w = torch.tensor([[0.1, 0.0], [0.1, 0.0], [0.0, 5.0]])
    assert rank_neurons(w, k=1).insufficient.neurons == (0, 1)
    ranking = rank_neurons(w, k=1, by="magnitude")
    assert ranking.insufficient.neurons == (1, 0)
    assert ranking.insufficient.precision == pytest.approx((1 / 3, 2 / 3))


def test_rank_neurons_negated_change_swaps_the_lists():
    there, back = rank_neurons(W, k=2), rank_neurons(-W, k=2)
    assert there.insufficient == back.excessive
    assert there.excessive == back.insufficient
    assert there.both == back.both


def test_rank_neurons_does_not_depend_on_the_order_of_mistakes():
    w = torch.randn(50, 20)
    assert rank_neurons(w).insufficient.neurons == rank_neurons(w.flip(0)).insufficient.neurons


def test_rank_neurons_ties_go_by_index():
    ranking = rank_neurons(torch.ones(3, 4), k=4)
    assert ranking.insufficient.neurons == (0, 1, 2, 3)


REFERENCE = torch.tensor(
    [[1.0, 2.0, 1.0], [3.0, 0.0, 1.0]]
)  # level 2, 1, 1; spread sqrt(2), sqrt(2), 0
FEATURES = torch.tensor([[1.0, 3.0, 1.0], [3.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
CHANGES = torch.tensor([[0.5, 0.5, -0.5], [0.5, -0.5, -0.5], [0.5, 0.5, -0.5]])


def test_rank_neurons_contrast_by_hand():
    """The shortfalls 1, -1, 1 of neuron 0 leave 1; those of neuron 1, -2, -2, 0, add up."""
    reference = Reference.of(REFERENCE, effect=0.25)
    ranking = rank_neurons(CHANGES, k=1, features=FEATURES, reference=reference)
    unit = 0.5**0.25 * (2**0.5) ** -0.75  # |w| ** e * spread ** (e - 1)
    assert ranking.insufficient.neurons == (0,)
    assert ranking.insufficient.magnitude == pytest.approx((unit,))
    assert ranking.insufficient.precision == pytest.approx((2 / 3,))
    assert ranking.excessive.neurons == (1,)
    assert ranking.excessive.magnitude == pytest.approx((4 * unit,))
    assert ranking.excessive.precision == pytest.approx((2 / 3,))
    assert len(ranking.both) == 0


def test_rank_neurons_contrast_equals_ranking_the_contrast():
    w, z, usual = torch.randn(40, 6), torch.randn(40, 6), torch.randn(9, 6)
    reference = Reference.of(usual, effect=0.4)
    v = reference.contrast(w, z)
    by_mean = rank_neurons(w, 5, 0.0, features=z, reference=reference)
    assert by_mean == replace(rank_neurons(v, 5, by="mean"), effect=0.4)
    by_votes = rank_neurons(w, 5, 0.03, features=z, reference=reference, by="precision")
    assert by_votes == replace(rank_neurons(v), effect=0.4)


def test_rank_neurons_weighs_the_effect_by_the_agreement_of_the_mistakes():
    z, usual = torch.randn(40, 6), torch.randn(9, 6)
    same, mixed = torch.ones(40, 6) + 0.1 * torch.randn(40, 6), torch.randn(40, 6)
    for w, low, high in ((same, 0.9, 1.0), (mixed, 0.0, 0.1)):
        ranking = rank_neurons(w, features=z, reference=usual)
        assert low <= ranking.effect <= high
        given = Reference.of(usual, effect=ranking.effect)
        assert ranking == rank_neurons(w, features=z, reference=given)
    assert rank_neurons(same).effect is None


def test_rank_neurons_takes_feature_sets():
    """Their labels choose the level, and only correct samples of the reference count."""
    head = linear(torch.eye(3))
    usual = feature_set(head, torch.rand(60, 3), torch.randint(3, (60,)))
    wrong = feature_set(head, torch.rand(20, 3), torch.randint(3, (20,))).mistakes()
    w = torch.randn(len(wrong), 3)
    reference = Reference.of(usual, effect=0.25)
    v = reference.contrast(w, wrong.features, wrong.labels)
    expected = replace(rank_neurons(v, 2, by="mean"), effect=0.25)
    assert rank_neurons(w, k=2, features=wrong, reference=reference) == expected
    z, labels = wrong.features, wrong.labels
    by_tensor = rank_neurons(w, k=2, features=z, reference=reference, target=labels)
    assert by_tensor == expected
    with pytest.raises(ValueError, match="target is missing: the reference has levels for 3"):
        rank_neurons(w, k=2, features=wrong.features, reference=usual)


def test_rank_neurons_by_mean_lists_what_no_mistake_voted_for():
    """Neuron 1 is second in every mistake: no vote, but a mean."""
    w = torch.tensor([[0.9, 0.5, 0.0], [0.9, 0.4, -0.1]])
    assert rank_neurons(w, k=1, by="mean").insufficient.neurons == (0, 1)
    assert rank_neurons(w, k=1, by="mean", min_precision=0.5).insufficient.neurons == (0,)


def test_rank_neurons_in_chunks_equals_at_once(monkeypatch):
    w, z, usual = torch.randn(37, 6), torch.randn(37, 6), torch.randn(9, 6)
    at_once = rank_neurons(w, k=2, features=z, reference=usual)
    monkeypatch.setattr("captum_neuroinspect._core.blocks._N_NUMBERS", 6 * 5)
    in_chunks = rank_neurons(w, k=2, features=z, reference=usual)
    assert in_chunks.insufficient.neurons == at_once.insufficient.neurons
    assert in_chunks.excessive.precision == at_once.excessive.precision
    assert in_chunks.excessive.magnitude == pytest.approx(at_once.excessive.magnitude)


def test_rank_neurons_rows_into_pandas():
    table = pd.DataFrame(rank_neurons(W, k=2).rows())
    assert table.columns.tolist() == ["kind", "rank", "neuron", "precision", "magnitude"]
    assert table["kind"].tolist() == ["insufficient", "excessive", "both", "both"]
    assert table["rank"].tolist() == [1, 1, 1, 2]
    assert table["neuron"].tolist() == [0, 2, 1, 4]
    assert table["precision"].tolist() == [1.0, 0.75, 1.0, 0.75]


def test_rank_neurons_as_text():
    lines = str(rank_neurons(W, k=1)).splitlines()
    assert lines[0] == "4 mistakes, top-1 precision"
    assert str(rank_neurons(W[:1], k=1)).startswith("1 mistake, ")
    assert lines[1].split() == ["kind", "rank", "neuron", "precision", "magnitude"]
    assert lines.pop().startswith("Ranked without a reference.")
    assert [line.split() for line in lines[2:]] == [
        ["insufficient", "1", "0", "0.500", "2"],
        ["insufficient", "2", "1", "0.500", "1.5"],
        ["excessive", "1", "2", "0.750", "0.9"],
        ["excessive", "2", "4", "0.250", "0.6"],
    ]
    assert len({len(line) for line in lines[1:]}) == 1  # a table: columns end together


def test_rank_neurons_text_stops_after_ten():
    lines = str(rank_neurons(torch.ones(2, 25), k=25)).splitlines()
    assert len(lines) == 2 + 10 + 1 + 1
    assert lines[-2].split() == ["insufficient", "and", "15", "more"]


def test_a_ranking_says_that_it_has_no_reference():
    without, z = rank_neurons(W), torch.rand(4, 5)
    for text in (str(without), without._repr_html_()):
        assert "Ranked without a reference. features= and reference=" in text
    ranking = rank_neurons(W, features=z, reference=torch.rand(9, 5))
    assert "reference" not in str(ranking) + ranking._repr_html_()


def test_rank_neurons_leaves_its_arguments_alone():
    w, features = W.clone(), torch.rand(4, 5)
    copies = features.clone()
    rank_neurons(w, k=2, features=features, reference=features)
    assert torch.equal(w, W)
    assert torch.equal(features, copies)


@pytest.mark.parametrize(
    ("w", "options", "message"),
    [
        (torch.zeros(3, 2), {}, "no mistakes to rank, the head is right on all"),
        (torch.empty(0, 5), {}, r"shape \(0, 5\), expected \(N, F\) with at least one mistake"),
        (torch.ones(5), {}, r"shape \(5,\), expected \(N, F\)"),
        (torch.full((2, 5), torch.nan), {}, "w has NaN"),
        (torch.full((2, 5), torch.inf), {}, "w has NaN or infinite"),
        (W, {"k": 0}, r"k=0, expected 1..5 \(the number of features\)"),
        (W, {"k": 6}, "k=6, expected 1..5"),
        (W, {"min_precision": -0.1}, "min_precision=-0.1, expected a share in 0..1"),
        (W, {"min_precision": 1.1}, "min_precision=1.1"),
        (W, {"by": "votes"}, "by='votes', expected 'precision', 'magnitude' or 'mean'"),
        (W, {"features": W}, "features and reference go together"),
        (W, {"reference": W}, "features and reference go together"),
        (W, {"features": W[:2], "reference": W}, r"features \(2, 5\) do not fit w \(4, 5\)"),
        (W, {"features": W, "reference": W[:, :2]}, r"reference has 2 features, w has \(4, 5\)"),
        (
            W,
            {"features": W, "reference": W[:1]},
            r"1 correct sample.*expected \(R, F\) with R >= 2",
        ),
        (W, {"features": W, "reference": W[0]}, r"0 correct sample.*expected \(R, F\) with R >= 2"),
        (W, {"features": W / 0, "reference": W}, "features have NaN"),
        (W, {"features": W, "reference": W / 0}, "reference has NaN"),
    ],
)
def test_rank_neurons_refuses(w, options, message):
    with pytest.raises(ValueError, match=message):
        rank_neurons(w, **options)


def test_html_has_a_row_for_each_neuron():
    page = rank_neurons(torch.tensor([[0.9, 0.0, -0.2], [0.5, 0.1, 0.0]]), k=1)._repr_html_()

    assert page.count("<tr>") == 1 + 2
    assert "insufficient" in page
    assert "excessive" in page
