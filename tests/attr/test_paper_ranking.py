"""The published settings of the ranking against its formulas, written out in float64."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from helpers import linear
from torch import nn

from captum_neuroinspect import NeuronCounterfactual, rank_neurons

N_FEATURES = 12


@pytest.fixture
def case():
    """A head, features behind a ReLU, and the class that none of them is taken for."""
    rng = torch.Generator().manual_seed(4)
    head = nn.Linear(N_FEATURES, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, N_FEATURES, generator=rng))
        head.bias.zero_()
    features = torch.randn(400, N_FEATURES, generator=rng).relu()
    return head, features[head(features).argmax(1) != 1][:40]


def _counterfactual(head, z, target):
    """Equation (1) as the authors run it: one sample, SGD from 0 until the class is right."""
    weight, bias, z = head.weight.detach().double(), head.bias.detach().double(), z.double()
    w = torch.zeros(len(z), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    n_steps = 0
    while True:
        logits = weight @ (z + w) + bias
        if logits.argmax() == target:
            return w.detach(), n_steps
        loss = F.cross_entropy(logits[None], torch.tensor([target]))
        norms = 0.1 * w.abs().sum() + 0.01 * (w.square().sum().sqrt() if n_steps else w.sum() * 0)
        optimizer.zero_grad()
        (loss + norms / len(z)).backward()
        optimizer.step()
        n_steps += 1


def _published(changes, min_share=0.03):
    """Votes of the five most raised and the five most lowered; more than 3 % of all samples."""
    lists = []
    for sign in (1, -1):
        votes = Counter()
        for w in changes:
            if w.any():
                order = sorted(range(len(w)), key=lambda j: -sign * float(w[j]))
                votes.update(j for j in order[:5] if sign * float(w[j]) > 0)
        shares = {j: n / len(changes) for j, n in votes.items()}
        lists.append({j: share for j, share in shares.items() if share > min_share})
    wanted, unwanted = lists
    return [
        {j: share for j, share in one.items() if j not in other}
        for one, other in ((wanted, unwanted), (unwanted, wanted))
    ]


def test_paper_options_are_equation_1_and_its_votes(case):
    head, features = case
    method = NeuronCounterfactual(head, head, options="paper")
    found = method.attribute_features(features, 1, return_details=True)
    expected = [_counterfactual(head, z, 1) for z in features]
    assert not found.feasible.any()
    assert found.n_steps.tolist() == [n for _, n in expected]
    changes = torch.stack([w for w, _ in expected])
    torch.testing.assert_close(found.w.double(), changes, atol=1e-5, rtol=1e-4)

    ranking = rank_neurons(found, options="paper")
    insufficient, excessive = _published(changes)
    for one, published in ((ranking.insufficient, insufficient), (ranking.excessive, excessive)):
        assert dict(zip(one.neurons, one.precision, strict=True)) == pytest.approx(published)
        assert list(one.precision) == sorted(published.values(), reverse=True)
    assert ranking.k == 5


def test_without_the_paper_the_bound_changes_the_descent(case):
    """Behind a ReLU `z + w` stays 0 or more, which is not the paper's."""
    head, features = case
    bounded = NeuronCounterfactual(head, head).attribute_features(features, 1)
    free = NeuronCounterfactual(head, head, options="paper").attribute_features(features, 1)
    assert (features + bounded >= 0).all()
    assert (features + free < 0).any()
    same = NeuronCounterfactual(head, head).attribute_features(features, 1, feasible=False)
    assert torch.equal(free, same)
    asked = NeuronCounterfactual(head, head, options="paper")
    assert torch.equal(asked.attribute_features(features, 1, feasible=True), bounded)


def test_paper_options_hold_for_images_too():
    _ = torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3))
    images = torch.rand(5, 3, 2, 2)
    method = NeuronCounterfactual(net, net[3], options="paper")
    w = method.attribute(images, target=2)
    torch.testing.assert_close(w, method.attribute_features(net[:3](images), target=2))


def test_paper_options_drop_a_share_of_exactly_3_percent():
    w = torch.zeros(100, 9)
    w[:97, 0], w[97:, 1] = 1, 1
    assert rank_neurons(w).insufficient.neurons == (0, 1)
    assert rank_neurons(w, options="paper").insufficient.neurons == (0,)
    w[96, 1] = 0.5
    assert rank_neurons(w, options="paper").insufficient.neurons == (0, 1)


def test_paper_options_count_samples_that_are_right_already():
    """They have no vote, and dilute the others' shares."""
    w = torch.zeros(10, 9)
    w[:5, 0] = 1
    assert rank_neurons(w).insufficient.precision == (1.0,)
    ranking = rank_neurons(w, options="paper")
    assert ranking.insufficient.precision == (0.5,)
    assert (ranking.n_mistakes, ranking.n_right) == (10, 0)
    assert ranking.insufficient.precision == tuple(_published(w)[0].values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": "text"}, "options='text', expected 'paper' or None"),
        (
            {"options": "paper", "features": torch.rand(3, 9), "reference": torch.rand(3, 9)},
            "options='paper' ranks without a reference, expected none",
        ),
    ],
)
def test_rank_neurons_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        rank_neurons(torch.ones(3, 9), **options)


def test_counterfactual_refuses_the_paper_with_another_solver():
    head = linear([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="options='paper' with solver='fista', expected SGD"):
        NeuronCounterfactual(head, head, solver="fista", options="paper")
    with pytest.raises(ValueError, match="options='text', expected 'paper' or None"):
        NeuronCounterfactual(head, head, options="text")  # type: ignore[arg-type]
