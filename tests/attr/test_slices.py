from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.attr import (
    Counterfactual,
    cue_direction,
    rank_neurons,
    slice_mistakes,
)
from captum_neuroinspect.attr.slices import _explained_by_two


def _data(n_each: tuple[int, ...], seed: int = 0, n_right: int = 60) -> tuple[FeatureSet, Tensor]:
    """Samples of one class: right ones, and mistakes that each lack one of the first neurons.

    Returns:
        All samples, and the cause of each mistake.
    """
    rng = torch.Generator().manual_seed(seed)
    causes = torch.cat([torch.full((n,), i) for i, n in enumerate(n_each)])
    causes = causes[torch.randperm(len(causes), generator=rng)]
    z = torch.rand(n_right + len(causes), 30, generator=rng)
    z[:, : len(n_each)] += 4
    z[n_right + torch.arange(len(causes)), causes] -= 4
    is_wrong = torch.arange(len(z)) >= n_right
    logits = torch.eye(2)[is_wrong.long()]
    return FeatureSet(z, logits, torch.zeros(len(z), dtype=torch.int64)), causes


def _sliced(data: FeatureSet, **options):
    wrong = data.mistakes()
    w = torch.ones_like(wrong.features)
    return slice_mistakes(w, wrong, data.correct(), **options)


@pytest.mark.parametrize("n_each", [(12, 9), (20, 14, 8)])
def test_causes_are_parted_whatever_their_number(n_each):
    data, causes = _data(n_each)
    found = _sliced(data)
    assert [len(one) for one in found] == list(n_each)
    for place, one in enumerate(found):
        assert set(causes[one.members].tolist()) == {place}
        assert one.ranking.insufficient.neurons[0] == place
    assert found.p_value < 0.01
    assert f"{len(n_each)} slices" in found.reason


def test_one_cause_stays_together():
    """Over ten draws of unstructured mistakes; the level allows one in a hundred."""
    assert all(len(_sliced(_data((25,), seed)[0])) == 1 for seed in range(10))


def test_every_mistake_is_in_one_slice_with_what_belongs_to_it():
    data, _ = _data((12, 9))
    wrong = data.mistakes()
    w = torch.rand(wrong.features.shape, generator=torch.Generator().manual_seed(1)) + 0.5
    found = slice_mistakes(w, wrong, data.correct())
    assert torch.cat([one.members for one in found]).sort().values.tolist() == list(range(21))
    for place, one in enumerate(found):
        assert torch.equal(one.mistakes.indices, wrong.indices[one.members])
        assert torch.equal(one.w, w[one.members])
        assert (found.labels[one.members] == place).all()
        alone = rank_neurons(one.w, features=one.mistakes, reference=data.correct())
        assert one.ranking == alone


def test_a_slice_has_the_whole_cue():
    data, _ = _data((12, 9))
    for place, one in enumerate(_sliced(data)):
        assert cue_direction(one.mistakes, data.correct()).neurons(1) == (place,)


def test_the_order_of_mistakes_and_the_size_of_changes_part_nothing():
    """Scales of single changes too: mistakes are compared by direction."""
    data, causes = _data((12, 9))
    wrong = data.mistakes()
    order = torch.randperm(21, generator=torch.Generator().manual_seed(3))
    scale = torch.rand(21, 1, generator=torch.Generator().manual_seed(4)) + 0.1
    shuffled = wrong.subset(order)
    found = slice_mistakes(scale.expand(-1, 30), shuffled, data.correct())
    assert torch.equal(found.labels, causes[order])


def test_the_same_seed_gives_the_same_slices_and_leaves_the_global_one_alone():
    data, _ = _data((25,))
    state = np.random.get_state()[1].copy()
    one, other = _sliced(data, n_slices=3), _sliced(data, n_slices=3)
    assert torch.equal(one.labels, other.labels)
    assert (np.random.get_state()[1] == state).all()


def test_few_mistakes_are_one_slice_and_it_says_why():
    found = _sliced(_data((5, 4))[0])
    assert len(found) == 1
    assert found.p_value is None
    assert found.reason == "one slice: 9 mistakes, and from 10 on there could be two"


def test_a_number_is_taken_as_it_is():
    data, _ = _data((5, 4))
    found = _sliced(data, n_slices=2)
    assert [len(one) for one in found] == [5, 4]
    assert found.reason == "2 slices, as asked"
    assert found.p_value is None
    assert len(_sliced(data, n_slices=1)) == 1


def test_mistakes_that_are_alike_stay_together():
    data, _ = _data((12, 9))
    wrong = data.mistakes()
    alike = replace(wrong, features=wrong.features[:1].expand(21, -1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = slice_mistakes(torch.ones(21, 30), alike, data.correct())
    assert len(found) == 1
    with pytest.raises(ValueError, match="n_slices=2, expected at most 1"):
        slice_mistakes(torch.ones(21, 30), alike, data.correct(), n_slices=2)


def test_unfinished_changes_part_nothing_and_join_the_slice_they_resemble():
    data, causes = _data((12, 9))
    wrong = data.mistakes()
    finished = torch.ones(21, dtype=torch.bool)
    finished[3] = False
    no, zeros = torch.zeros(21, dtype=torch.bool), torch.zeros(21)
    details = Counterfactual(torch.ones(21, 30), finished, zeros, no, zeros, no, no)
    found = slice_mistakes(details, wrong, data.correct())
    assert torch.equal(found.labels, causes)
    assert sum(one.ranking.n_unfinished for one in found) == 1


def test_variance_explained_by_two_groups_by_hand():
    """0, 1 against 9, 10: between 81 of 82 in all; and against the definition, cut by cut."""
    assert _explained_by_two(np.array([[0.0, 9, 1, 10]])) == pytest.approx([81 / 82])
    places = np.random.default_rng(0).random((3, 11))
    for row, found in zip(places, _explained_by_two(places), strict=True):
        row = np.sort(row)
        within = [row[:i].var() * i + row[i:].var() * (11 - i) for i in range(1, 11)]
        assert found == pytest.approx(1 - min(within) / (11 * row.var()))
    assert _explained_by_two(np.ones((1, 4))) == [0]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"n_slices": "many"}, ValueError, "n_slices='many', expected 'auto' or a whole number"),
        ({"n_slices": 0}, ValueError, "n_slices=0, expected at least 1"),
        ({"n_slices": 1.5}, TypeError, "n_slices is float"),
        ({"n_slices": True}, TypeError, "n_slices is bool"),
        ({"n_slices": 40}, ValueError, "n_slices=40, expected at most 21"),
        ({"seed": -1}, ValueError, "seed=-1, expected at least 0"),
        ({"seed": 0.5}, TypeError, r"seed=0\.5, expected a whole number"),
    ],
)
def test_bad_numbers_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        _sliced(_data((12, 9))[0], **options)


def test_changes_that_do_not_fit_are_refused():
    data, _ = _data((12, 9))
    wrong, right = data.mistakes(), data.correct()
    with pytest.raises(ValueError, match="w has shape"):
        slice_mistakes(torch.ones(3, 30), wrong, right)
    with pytest.raises(TypeError, match="mistakes is Tensor"):
        slice_mistakes(torch.ones(21, 30), wrong.features, right)
    with pytest.raises(TypeError, match="w is str"):
        slice_mistakes("w", wrong, right)
    with pytest.raises(ValueError, match="none of the 21 mistakes"):
        slice_mistakes(torch.zeros(21, 30), wrong, right)
    with pytest.raises(ValueError, match="w has NaN or infinite values"):
        slice_mistakes(torch.full((21, 30), torch.nan), wrong, right)
