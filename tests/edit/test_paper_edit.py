"""The published settings of the edit against its formulas, written out in float64."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from edit_arguments import arguments
from helpers import feature_set, nudged
from torch import nn

from captum_neuroinspect import edit_head
from captum_neuroinspect.edit import EditOptions, Training


@pytest.fixture
def case():
    """A head, training features, and validation features that it gets wrong at times."""
    rng = torch.Generator().manual_seed(1)
    head = nn.Linear(6, 3)
    with torch.no_grad():
        head.weight.copy_(torch.randn(3, 6, generator=rng))
        head.bias.copy_(torch.randn(3, generator=rng))
    features = torch.rand(90, 6, generator=rng)
    labels = (features[:, :3] + 0.3 * torch.rand(90, 3, generator=rng)).argmax(1)
    data = feature_set(head, features, labels)
    return head, data.subset(torch.arange(60)), data.subset(torch.arange(60, 90))


def _probability(layer, z, target):
    """Equation (6), one value a sample."""
    powers = (z @ layer.weight.T + layer.bias).exp()
    return powers[:, target] / powers.sum(1)


def _ratios(layer, z, neurons, target):
    """Equation (7), one value a sample."""
    masked = z.clone()
    masked[:, list(neurons)] = 0
    return _probability(layer, z, target) / _probability(layer, masked, target)


def _epochs(head, train, penalty, *, n_epochs, batch_size=16, lr=1e-3, decay=0.0, seed=0):
    """The layer after each epoch, by torch's Adam in float64."""
    layer = copy.deepcopy(head).double()
    optimizer = torch.optim.Adam(layer.parameters(), lr=lr, weight_decay=decay)
    rng = torch.Generator().manual_seed(seed)
    z = train.features.double()
    for _ in range(n_epochs):
        for rows in torch.randperm(len(z), generator=rng).split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(layer(z[rows]), train.labels[rows]) + penalty(layer, z[rows])
            loss.backward()
            optimizer.step()
        yield copy.deepcopy(layer)


def _assert_same(found, expected):
    torch.testing.assert_close(found.weight.double(), expected.weight.data, atol=2e-5, rtol=0)
    torch.testing.assert_close(found.bias.double(), expected.bias.data, atol=2e-5, rtol=0)


def test_paper_options_are_equation_8_with_the_last_best_epoch(case):
    """Lambda 1, o = 1, batches of 16, twenty epochs; nothing but equation (8) trains."""
    head, train, validation = case

    def equation_8(layer, z):
        return (_ratios(layer, z, (1, 4), 2) - 1).square().sum().sqrt()

    best, most = None, -1.0
    for layer in _epochs(head, train, equation_8, n_epochs=20):
        right = layer(validation.features.double()).argmax(1) == validation.labels
        if right.double().mean() >= most:
            best, most = layer, right.double().mean()
    found = edit_head(head, train, validation, target=2, neurons=[1, 4], options="paper")
    assert len(found.method.history) == 20
    _assert_same(found.head, best)


def test_paper_options_keep_an_epoch_that_is_worse_than_the_original(case):
    head, train, _ = case
    right = nudged(train.correct())
    options = dict(target=2, neurons=[1, 4], strength=30.0, lr=0.1, n_epochs=2)
    with pytest.warns(RuntimeWarning, match="every epoch was worse than the original"):
        ours = edit_head(head, train, right, **options)
    assert torch.equal(ours.head.weight, head.weight)
    found = edit_head(head, train, right, options="paper", **options)
    assert found.after.accuracy < found.before.accuracy
    assert found.method.best_epoch > 0


@pytest.mark.parametrize(("options", "at"), [("paper", "validation"), (None, "class")])
def test_the_rule_looks_where_the_options_say(case, options, at):
    """``(min_j r_c - 1) / 3 + 1`` at mean features."""
    head, train, validation = case
    z = validation.features if at == "validation" else train.features[train.labels == 2]
    mean, layer = z.double().mean(0, keepdim=True), copy.deepcopy(head).double()
    singles = [_ratios(layer, mean, [j], 2).item() for j in (1, 4)]
    found = edit_head(
        head,
        train,
        nudged(validation),
        target=2,
        neurons=[1, 4],
        ratio="rule",
        n_epochs=1,
        strength=0.0,
        lr=1e-6,
        options=options,
    )
    assert found.method.ratio == pytest.approx((min(singles) - 1) / 3 + 1, rel=1e-4)


def test_waterbirds_variant_as_the_authors_have_it(case):
    """One absolute value of the mean over batch and all classes, and Adam's weight decay."""
    head, train, validation = case

    def variant(layer, z):
        ratios = torch.cat([_ratios(layer, z, (1, 4), c) for c in range(3)])
        return 0.5 * (ratios.mean() - 1).abs()

    options = dict(lr=1e-2, n_epochs=3, batch_size=32)
    *_, last = _epochs(head, train, variant, decay=1e-2, **options)
    found = edit_head(
        head,
        train,
        validation.subset(torch.tensor([0])),  # of one sample the last epoch is as good as any
        neurons={c: [1, 4] for c in range(3)},
        strength=0.5,
        **arguments(
            penalty="mean_ratio_of_classes",
            weight_decay=1e-2,
            keep="best_epoch",
            select="accuracy",
            **options,
        ),
    )
    assert found.method.best_epoch == 3
    _assert_same(found.head, last)


@pytest.mark.parametrize("scope", ["class", "neurons"])
def test_weight_decay_pulls_only_what_may_change(case, scope):
    head, train, validation = case
    fixed = dict(scope=scope, strength=0.0, lr=1e-2, n_epochs=2, keep="best_epoch")
    plain, pulled = (
        edit_head(
            head,
            train,
            validation,
            target=2,
            neurons=[1, 4],
            **arguments(weight_decay=decay, **fixed),
        ).head
        for decay in (0.0, 10.0)
    )
    other = torch.tensor([0, 1])
    assert torch.equal(pulled.weight[other], head.weight[other])
    assert torch.equal(pulled.bias[other], head.bias[other])
    assert pulled.weight[2, [1, 4]].norm() < plain.weight[2, [1, 4]].norm()
    if scope == "neurons":
        assert torch.equal(pulled.weight[2, [0, 2, 3, 5]], head.weight[2, [0, 2, 3, 5]])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"rule_at": "train"}, ValueError, "rule_at='train', expected one of"),
        ({"keep": "last"}, ValueError, "keep='last', expected one of"),
        ({"penalty": "coefficients"}, ValueError, "penalty='coefficients', expected one of"),
    ],
)
def test_options_refuse(wrong, error, message):
    with pytest.raises(error, match=message):
        EditOptions(**wrong)


def test_training_refuses_a_negative_decay():
    with pytest.raises(ValueError, match=r"weight_decay=-1.0, expected a finite number, 0 or more"):
        Training(weight_decay=-1.0)
