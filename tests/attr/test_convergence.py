"""Samples that do not converge are counted: in one warning a call, and in their ranking."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import linear
from torch import nn

from captum_neuroinspect import NeuronCounterfactual, rank_neurons
from captum_neuroinspect.attr import FISTA, SGD, ElasticNet

EYE = torch.eye(3)


def _out_of_reach():
    """No change of the features reaches class 2; classes 0 and 1 are each other's mirror."""
    return linear([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.0, 0.0, -1e4])


def _warnings(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = call()
    return found, [w for w in caught if issubclass(w.category, RuntimeWarning)]


@pytest.mark.parametrize("solver", [SGD(max_steps=50), FISTA(max_steps=50)])
@pytest.mark.parametrize("how", ["features", "head", "layer", "batches"])
def test_samples_that_do_not_reach_their_class_are_counted_once(solver, how):
    head, z = _out_of_reach(), torch.rand(6, 2)
    target = [2, 2, 0, 1, 2, 2]  # of which 0 and 1 are right or reached
    target[2:4] = (head(z).argmax(1))[2:4].tolist()
    net = nn.Sequential(nn.Identity(), head)
    calls = {
        "features": lambda: NeuronCounterfactual(head, head, solver=solver).attribute_features(
            z, target, return_details=True
        ),
        "head": lambda: NeuronCounterfactual(net, head, solver=solver).attribute(
            z, target, return_details=True
        ),
        "layer": lambda: NeuronCounterfactual(net, net[0], solver=solver).attribute(
            z, target, return_details=True
        ),
        "batches": lambda: NeuronCounterfactual(net, net[0], solver=solver).attribute(
            z, target, internal_batch_size=2, return_details=True
        ),
    }
    found, caught = _warnings(calls[how])
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith("4 of 4 samples that were wrong did not converge: 4 ")
    assert "reach their class" in text
    assert "some classes cannot be reached" in text
    assert caught[0].filename == __file__  # the caller's line
    assert found.converged.tolist() == [False, False, True, True, False, False]
    if isinstance(solver, SGD):  # the other may be at the minimum, which is no better
        assert "max_steps" in text
        assert torch.equal(found.ran_out, ~found.converged)
    assert found.already_correct.tolist() == [False, False, True, True, False, False]


def test_nothing_is_said_where_all_converge():
    head = linear(EYE)
    for solver in ("sgd", "fista"):
        method = NeuronCounterfactual(head, head, solver=solver)
        _, caught = _warnings(lambda m=method: m.attribute_features(torch.rand(9, 3), 1))
        assert not caught


def test_a_residual_that_is_left_is_counted():
    head, z = linear(4 * EYE), torch.rand(5, 3)
    method = NeuronCounterfactual(head, head, solver=FISTA(max_steps=8))
    found, caught = _warnings(lambda: method.attribute_features(z, 1, return_details=True))
    n_left = int((found.residual > 1e-7).sum())
    assert found.converged.all()
    assert n_left > 0
    assert f"{n_left} reached their class but not the minimum" in str(caught[0].message)
    assert torch.equal(found.ran_out, found.residual > 1e-7)


def test_norms_that_are_too_strong_are_named():
    """The minimum itself leaves the prediction wrong: more steps would change nothing."""
    head, z = linear(EYE), torch.tensor([[1.0, 0.0, 0.0]])
    method = NeuronCounterfactual(
        head, head, solver="fista", penalty=ElasticNet(l1=5.0, scaling="paper")
    )
    found, caught = _warnings(lambda: method.attribute_features(z, 1, return_details=True))
    assert not found.w.any()
    assert not found.ran_out.any()
    assert not found.already_correct.any()
    assert "1 of 1 samples that were wrong did not converge: 1 are at a minimum that" in str(
        caught[0].message
    )
    assert "ElasticNet" in str(caught[0].message)


def test_several_reasons_stand_in_one_warning():
    head = linear([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], [0.0, 0.0, -1e4])
    z, target = torch.tensor([[0.5, 0.1], [0.5, 0.1]]), [2, 1]
    method = NeuronCounterfactual(head, head, solver=FISTA(max_steps=3))
    _, caught = _warnings(lambda: method.attribute_features(z, target))
    assert len(caught) == 1
    assert "2 of 2" in str(caught[0].message)
    assert "; 1 are at a minimum that does not reach" in str(caught[0].message)
    assert ": 1 reached" in str(caught[0].message)


def test_changes_that_become_nan_are_an_error():
    head = linear(1e30 * EYE)
    method = NeuronCounterfactual(head, head, solver=SGD(lr=1e30, max_steps=5))
    with pytest.raises(RuntimeError, match=r"changes of 2 of 2 sample\(s\) became NaN or infinite"):
        method.attribute_features(torch.rand(2, 3) + torch.tensor([9.0, 0, 0]), 1, feasible=False)


def test_a_network_that_becomes_nan_on_the_way_is_an_error():
    class Root(nn.Module):
        def forward(self, z):
            return torch.stack([z[:, 0].sqrt(), z[:, 1] * 0 + 0.9], 1)

    net = nn.Sequential(nn.Identity(), Root())
    method = NeuronCounterfactual(net, net[0], solver=SGD(lr=30.0))
    with pytest.raises(RuntimeError, match="became NaN when the activations were changed"):
        method.attribute(torch.ones(2, 2), 1, feasible=False)


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_heads_with_nan_are_refused(name):
    head = nn.Linear(3, 2)
    getattr(head, name).data[0] = torch.nan
    with pytest.raises(ValueError, match=f"the layer's {name} has NaN or infinite values"):
        NeuronCounterfactual(head, head).attribute_features(torch.rand(2, 3), 1)


@pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")
def test_a_ranking_leaves_out_what_did_not_reach_its_class():
    head = _out_of_reach()
    z, target = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.9, 0.3], [0.1, 0.9]]), [1, 1, 2, 1]
    found = NeuronCounterfactual(head, head).attribute_features(z, target, return_details=True)
    assert found.converged.tolist() == [True, True, False, True]
    ranking = rank_neurons(found, k=1)
    assert (ranking.n_mistakes, ranking.n_unfinished, ranking.n_right) == (2, 1, 1)
    assert ranking.insufficient == rank_neurons(found.w[:2], k=1).insufficient
    assert ranking.excessive == rank_neurons(found.w[:2], k=1).excessive
    title = str(ranking).splitlines()[0]
    assert title == (
        "2 mistakes (without 1 that need no change and 1 that did not reach their class), "
        "top-1 precision"
    )
    assert "did not reach" in ranking._repr_html_()
    usual = torch.rand(9, 2)
    contrasted = rank_neurons(found, k=1, features=z, reference=usual)
    assert contrasted.insufficient == (
        rank_neurons(found.w[:2], k=1, features=z[:2], reference=usual).insufficient
    )
    with pytest.raises(ValueError, match="none of the 1 samples reached its class"):
        rank_neurons(
            NeuronCounterfactual(head, head).attribute_features(z[2:3], 2, return_details=True)
        )
