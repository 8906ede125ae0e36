"""CCE's scores against a loop in float64, and what they say of a toy head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from concept_examples import small_bank
from helpers import feature_set, linear
from scipy.optimize import minimize
from torch import Tensor

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.concepts import (
    ConceptBank,
    ConceptCounterfactual,
    ConceptOptions,
    concept_change,
    concept_counterfactual,
)

# Class 1 is where the first axis is high: its mistakes lack grass.
HEAD = linear([[0.0, 0.2, 0.1], [1.0, 0.0, -0.3]], [2.0, -1.0])


def mistakes() -> FeatureSet:
    z = torch.tensor([[0.2, 0.1, 0.0], [-0.3, 2.0, 0.5], [0.5, -1.0, 0.3]])
    return feature_set(HEAD, z, torch.ones(3, dtype=torch.int64))


def by_the_book(bank: ConceptBank, z: Tensor, label: Tensor, options: ConceptOptions) -> Tensor:
    """One mistake: the objective by autograd and torch's SGD, projected after each step."""
    weight, bias = HEAD.weight.detach().double(), HEAD.bias.detach().double()
    length, low = bank.highest.double(), bank.lowest.double()
    concepts = length[:, None] * bank.vectors.double()
    margin = bank.vectors.double() @ z.double() + bank.intercepts.double()
    upper, lower = (length - margin) / length, (low - margin) / length
    limits = (bank.mean_shown, bank.mean_absent) if options.validity == "mean" else (0.0, 0.0)
    upper[margin > limits[0]] = 0
    lower[margin < limits[1]] = 0
    upper, lower = upper.clamp_min(0), lower.clamp_max(0)
    w = torch.zeros(len(bank), dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([w], lr=options.lr, momentum=options.momentum)
    for _ in range(options.n_steps):
        descent.zero_grad()
        logits = (z.double() + w @ concepts) @ weight.T + bias
        loss = F.cross_entropy(logits[None], label[None])
        loss = loss + options.l1 * w.abs().mean() + options.l2 * w.norm() / len(bank)
        loss.backward()
        descent.step()
        if options.validity != "none":
            w.data = torch.minimum(torch.maximum(w.data, lower), upper)
    return w.detach()


@pytest.mark.parametrize("validity", ["mean", "zero", "none"])
def test_scores_equal_the_loop_over_mistakes(validity: str) -> None:
    bank, data = small_bank(), mistakes()
    options = ConceptOptions(validity=validity, l1=0.3, l2=0.2)
    found = concept_counterfactual(bank, data, HEAD, options=options)
    for row in range(len(data)):
        expected = by_the_book(bank, data.features[row], data.labels[row], options)
        torch.testing.assert_close(found.scores[row].double(), expected, rtol=1e-5, atol=1e-6)


def test_many_steps_reach_the_optimum() -> None:
    bank, data = small_bank(), mistakes().subset(torch.tensor([0]))
    options = ConceptOptions(n_steps=20_000, l1=0.3, l2=0.05)
    found = concept_counterfactual(bank, data, HEAD, options=options)
    concepts = (bank.highest[:, None] * bank.vectors).double().numpy()
    weight, bias = HEAD.weight.detach().double().numpy(), HEAD.bias.detach().double().numpy()
    z = data.features[0].double().numpy()

    def objective(halves: np.ndarray) -> float:
        w = halves[:3] - halves[3:]  # |w| is smooth in its positive and negative part
        logits = weight @ (z + w @ concepts) + bias
        loss = np.logaddexp(*logits) - logits[1]
        return loss + options.l1 * halves.sum() / 3 + options.l2 * np.linalg.norm(w) / 3

    low, high = found.lowest[0].tolist(), found.highest[0].tolist()
    bounds = [(0, h) for h in high] + [(0, -low_) for low_ in low]
    best = minimize(objective, np.full(6, 1e-3), bounds=bounds, tol=1e-12)
    w = found.scores[0].double().numpy()
    reached = objective(np.concatenate([w.clip(0), (-w).clip(0)]))
    assert reached == pytest.approx(best.fun, abs=1e-4)


def test_the_lacking_concept_comes_first() -> None:
    found = concept_counterfactual(small_bank(), mistakes(), HEAD)
    assert found.ranked(1)[0][0] == "grass"
    assert found.precision_at(1, "grass") == 1
    assert found.chance_at(2) == pytest.approx(2 / 3)
    assert found.chance_at(5) == 1
    assert (found.after > found.before).all()
    assert torch.equal(found.ranks("grass"), torch.ones(3))
    assert repr(found).startswith("ConceptCounterfactual(3 mistakes; grass +")


def test_after_is_what_the_head_says_with_the_concepts_added() -> None:
    bank, data = small_bank(), mistakes()
    found = concept_counterfactual(bank, data, HEAD)
    moved = data.features + found.scores @ (bank.highest[:, None] * bank.vectors)
    said = HEAD(moved).detach()
    torch.testing.assert_close(found.after, said.softmax(1)[:, 1])
    torch.testing.assert_close(found.before, data.logits.softmax(1)[:, 1])
    assert torch.equal(found.is_corrected, said.argmax(1) == 1)
    # All margins stay within those that the concepts' photos have.
    many = ConceptOptions(n_steps=3000, l1=0, l2=0, lr=0.1)
    found = concept_counterfactual(bank, data, HEAD, options=many)
    assert ((found.lowest <= found.scores) & (found.scores <= found.highest)).all()
    assert (found.scores == found.highest).any()


def test_a_concept_that_is_there_is_not_added() -> None:
    bank = small_bank()
    with_grass = feature_set(HEAD, torch.tensor([[4.5, 0.0, 5.0]]), torch.ones(1).long())
    assert float(bank.margins(with_grass.features)[0, 0]) > float(bank.mean_shown[0])
    found = concept_counterfactual(bank, with_grass, HEAD)
    assert float(found.highest[0, 0]) == 0
    assert float(found.scores[0, 0]) <= 0


def test_shared_scores_are_one_for_all() -> None:
    bank, data = small_bank(), mistakes()
    shared = ConceptOptions(shared=True)
    found = concept_counterfactual(bank, data, HEAD, options=shared)
    assert torch.equal(found.scores, found.scores[:1].expand(3, -1))
    # Of one mistake they are its own.
    one = data.subset(torch.tensor([1]))
    torch.testing.assert_close(
        concept_counterfactual(bank, one, HEAD, options=shared).scores,
        concept_counterfactual(bank, one, HEAD).scores,
    )


def test_precision_counts_draws_between_equal_scores() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    nothing = torch.zeros(2)
    found = ConceptCounterfactual(
        ("a", "b", "c", "d"), scores, scores, scores, nothing, nothing, nothing > 0
    )
    assert found.precision_at(1, "a") == pytest.approx((1 + 1 / 4) / 2)
    assert found.precision_at(3, "d") == pytest.approx((0 + 3 / 4) / 2)
    assert found.ranks("c").tolist() == [3.0, 2.5]
    with pytest.raises(ValueError, match="'sky' is not among a, b, c, d"):
        found.score("sky")
    with pytest.raises(ValueError, match="k=0"):
        found.precision_at(0, "a")


def test_an_edit_changes_the_score() -> None:
    bank = small_bank()
    z = torch.tensor([[0.2, 0.1, 0.0], [-0.3, 2.0, 0.5], [6.0, 0.0, 0.0], [0.5, -1.0, 0.3]])
    data = feature_set(HEAD, z, torch.ones(4).long())
    edited = linear([[0.0, 0.2, 0.1], [0.0, 0.0, -0.3]], [0.0, 0.35])  # deaf to grass
    found = concept_change(bank, data, HEAD, edited, concept="grass")
    assert found.accuracy == (0.25, 0.75)
    assert found.n_mistakes == (3, 1)
    mine = data.mistakes()
    direct = concept_counterfactual(bank, mine.with_head(edited), edited)
    assert torch.equal(found.after.scores, direct.scores)
    before, after = found.score
    assert before > after + 0.05
    assert "accuracy 0.250 -> 0.750" in repr(found)
    assert found.own_after is not None
    assert len(found.own_after) == 1
    with pytest.raises(ValueError, match="'sky' is not among"):
        concept_change(bank, data, HEAD, edited, concept="sky")
    right = data.subset(torch.tensor([2]))
    with pytest.raises(ValueError, match="makes no mistake"):
        concept_change(bank, right, HEAD, edited, concept="grass")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bank": 1}, TypeError, "bank is int, expected ConceptBank"),
        ({"mistakes": torch.ones(2, 3)}, TypeError, "mistakes is Tensor, expected FeatureSet"),
        ({"head": torch.nn.ReLU()}, TypeError, "head is ReLU"),
        ({"options": 3}, TypeError, "options is int"),
        ({"head": linear(torch.ones(2, 4))}, ValueError, "the head takes 4 features"),
        ({"head": linear(torch.ones(1, 3))}, ValueError, "the head has one output"),
        ({"mistakes": mistakes().subset(torch.arange(0))}, ValueError, "mistakes is empty"),
    ],
)
def test_counterfactual_names_bad_arguments(arguments, error, message) -> None:
    whole = {"bank": small_bank(), "mistakes": mistakes(), "head": HEAD, **arguments}
    with pytest.raises(error, match=message):
        concept_counterfactual(**whole)


def test_a_bank_of_another_backbone_is_refused() -> None:
    bank = replace(small_bank(), backbone_fingerprint="one")
    concept_counterfactual(bank, mistakes(), HEAD)  # not known of the mistakes
    other = replace(mistakes(), backbone_fingerprint="other")
    with pytest.raises(ValueError, match="features of another backbone"):
        concept_counterfactual(bank, other, HEAD)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"l1": -1}, ValueError),
        ({"n_steps": 0}, ValueError),
        ({"n_steps": 1.5}, TypeError),
        ({"lr": 0}, ValueError),
        ({"momentum": 1}, ValueError),
        ({"validity": "some"}, ValueError),
    ],
)
def test_options_are_checked(options, error) -> None:
    with pytest.raises(error, match=next(iter(options))):
        ConceptOptions(**options)
