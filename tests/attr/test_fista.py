from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import nn

from captum_neuroinspect.attr import FISTA, SGD, ElasticNet
from captum_neuroinspect.attr._tails import LinearTail

EXACT = FISTA(max_steps=5000, tolerance=1e-11)
cases = settings(derandomize=True, deadline=None, max_examples=10)
scalings = st.sampled_from(["code", "paper"])


class NetworkTail:
    """A nonlinear tail, by autograd."""

    def __init__(self, network, features):
        self._network, self._features = network, features

    def zeros(self):
        return torch.zeros_like(self._features)

    def logits(self, w):
        self._w = w.clone().requires_grad_()
        self._logits = self._network(self._features + self._w)
        return self._logits.detach()

    def pullback(self, residual):
        return torch.autograd.grad(self._logits, self._w, residual)[0]

    def keep(self, mask):
        self._features = self._features[mask]


def _problem(seed, n=6, n_features=8, n_classes=4, dtype=torch.float64):
    """Features with zeros among them, as behind a ReLU, and a head that gets most wrong."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n, n_features, generator=rng, dtype=dtype).relu()
    weight = torch.randn(n_classes, n_features, generator=rng, dtype=dtype)
    bias = torch.randn(n_classes, generator=rng, dtype=dtype)
    return z, weight, bias, torch.randint(n_classes, (n,), generator=rng)


def _solve(problem, penalty, *, feasible=False, solver=EXACT):
    z, weight, bias, target = problem
    return solver.solve(LinearTail(z, weight, bias), target, -z if feasible else None, penalty)


def _logits(w, problem):
    z, weight, bias, _ = problem
    return (z + w) @ weight.T + bias


def _objective(w, problem, penalty):
    loss = F.cross_entropy(_logits(w, problem), problem[3], reduction="none")
    return loss + penalty.value(w)


def _was_right(problem):
    return _logits(torch.zeros_like(problem[0]), problem).argmax(1) == problem[3]


def _gradient(w, problem):
    w = w.clone().requires_grad_()
    loss = F.cross_entropy(_logits(w, problem), problem[3], reduction="sum")
    return torch.autograd.grad(loss, w)[0]


def _assert_minimum(w, gradient, lower, penalty, atol):
    """The optimality conditions, neuron by neuron (free: ``lower`` is -inf)."""
    l1, l2 = penalty.weights(w.shape[1])
    for w_i, gradient_i, lower_i in zip(w, gradient, lower, strict=True):
        if not w_i.any():  # a force above l1 may remain, as long as l2 holds it as a group
            force = (gradient_i.abs() - l1).clamp_min(0)
            force[(lower_i == 0) & (gradient_i > 0)] = 0
            assert force.norm() <= l2 + atol
            continue
        for w_j, slope, lower_j in zip(
            w_i, gradient_i + l2 * w_i / w_i.norm(), lower_i, strict=True
        ):
            if w_j == lower_j:
                assert slope >= (-l1 if w_j == 0 else l1) - atol  # only up is open, and not wanted
            elif w_j == 0:
                assert abs(slope) <= l1 + atol
            else:
                assert abs(slope + l1 * w_j.sign()) <= atol


def _lower(z, feasible):
    return -z if feasible else torch.full_like(z, -torch.inf)


def _reference_scipy(problem, penalty, row, feasible):
    """A general solver on one sample; ``w`` is split into parts >= 0, so only 0 has a kink."""
    z, weight, bias, target = problem
    z, weight, bias, target = z[row].numpy(), weight.numpy(), bias.numpy(), int(target[row])
    size = len(z)
    l1, l2 = penalty.weights(size)

    def value(parts):
        w = parts[:size] - parts[size:]
        logits, length = weight @ (z + w) + bias, np.sqrt(w @ w)
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        slope = weight.T @ (shares - np.eye(len(bias))[target]) + l2 * w / length
        loss = -np.log(shares[target]) + l1 * parts.sum() + l2 * length
        return loss, np.concatenate([slope + l1, l1 - slope])

    bounds = [(0, None)] * size + [(0, x if feasible else None) for x in z]
    options = {"ftol": 1e-15, "maxiter": 2000}
    start = np.concatenate([np.full(size, 0.1), np.minimum(np.full(size, 0.05), z)])
    found = minimize(value, start, jac=True, bounds=bounds, method="SLSQP", options=options)
    return found.x[:size] - found.x[size:]


@pytest.mark.parametrize("feasible", [False, True])
@pytest.mark.parametrize("scaling", ["code", "paper"])
def test_fista_equals_a_general_solver(scaling, feasible):
    penalty, problem = ElasticNet(l1=0.1, l2=0.05, scaling=scaling), _problem(0, n=8)
    found = _solve(problem, penalty, feasible=feasible)
    wrong = (~found.already_correct).nonzero()[:, 0].tolist()
    assert len(wrong) >= 4
    for row in wrong:
        expected = _reference_scipy(problem, penalty, row, feasible)
        np.testing.assert_allclose(found.w[row].numpy(), expected, atol=1e-4)
        assert np.abs(expected).max() > 0.5


@cases
@given(
    seed=st.integers(0, 10_000),
    scaling=scalings,
    feasible=st.booleans(),
    l1=st.sampled_from([0.0, 0.01, 0.1, 0.5]),
    l2=st.sampled_from([0.01, 0.3]),
)
def test_fista_meets_the_optimality_conditions(seed, scaling, feasible, l1, l2):
    penalty, problem = ElasticNet(l1, l2, scaling), _problem(seed)
    found = _solve(problem, penalty, feasible=feasible)
    wrong = ~found.already_correct
    assert (found.residual[wrong] <= EXACT.tolerance).all()
    gradient, lower = _gradient(found.w, problem), _lower(problem[0], feasible)
    _assert_minimum(found.w[wrong], gradient[wrong], lower[wrong], penalty, atol=1e-9)


@cases
@given(seed=st.integers(0, 10_000), scaling=scalings, feasible=st.booleans())
def test_fista_keeps_its_promises(seed, scaling, feasible):
    penalty, problem = ElasticNet(scaling=scaling), _problem(seed)
    found = _solve(problem, penalty, feasible=feasible)
    was_right = _was_right(problem)
    assert torch.equal(found.already_correct, was_right)
    assert torch.equal(found.converged, _logits(found.w, problem).argmax(1) == problem[3])
    assert torch.equal(found.residual.isnan(), was_right)
    assert found.w[was_right].eq(0).all()
    assert found.n_steps[was_right].eq(0).all()
    assert found.feasible.eq(feasible).all()
    if feasible:
        assert (found.w >= -problem[0]).all()


@cases
@given(seed=st.integers(0, 10_000), scaling=scalings, feasible=st.booleans())
def test_fista_finds_nothing_better(seed, scaling, feasible):
    """Neither no change, nor the paper's, nor a change nearby has a smaller objective."""
    penalty, problem = ElasticNet(scaling=scaling), _problem(seed)
    found = _solve(problem, penalty, feasible=feasible)
    sgd = _solve(problem, penalty, feasible=feasible, solver=SGD()).w
    others = [torch.zeros_like(found.w), sgd]
    others += [found.w + size * torch.randn_like(found.w) for size in (1e-3, 0.1, 1)]
    least = _objective(found.w, problem, penalty)
    for other in others:
        allowed = torch.maximum(other, _lower(problem[0], feasible))
        worse = _objective(allowed, problem, penalty) - least
        assert worse[~found.already_correct].min() >= -1e-9


@cases
@given(seed=st.integers(0, 10_000), scaling=scalings, feasible=st.booleans())
def test_fista_commutes_with_permutations(seed, scaling, feasible):
    """Neither the order of the samples nor that of the neurons or classes matters."""
    z, weight, bias, target = problem = _problem(seed)
    rows, neurons, classes = torch.randperm(6), torch.randperm(8), torch.randperm(4)
    permuted = (
        z[rows][:, neurons],
        weight[classes][:, neurons],
        bias[classes],
        classes.argsort()[target[rows]],
    )
    penalty = ElasticNet(scaling=scaling)
    expected = _solve(problem, penalty, feasible=feasible).w[rows][:, neurons]
    found = _solve(permuted, penalty, feasible=feasible).w
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("feasible", [False, True])
def test_fista_batch_equals_singles(feasible):
    """Samples that leave early or late do not disturb each other."""
    problem, penalty = _problem(1, n=12), ElasticNet()
    z, weight, bias, target = problem
    batch = _solve(problem, penalty, feasible=feasible)
    assert len(set(batch.n_steps.tolist())) > 5
    for row in range(12):
        one = (z[[row]], weight, bias, target[[row]])
        single = _solve(one, penalty, feasible=feasible)
        torch.testing.assert_close(batch.w[[row]], single.w, atol=1e-6, rtol=0)
        assert batch.already_correct[row] == single.already_correct[0]
        # Rounding moves restarts, so the number of steps is only about the same.
        assert abs(batch.n_steps[row] - single.n_steps[0]) <= 0.2 * single.n_steps[0]


def _one_sample(*features):
    """One sample of class 1; the logits are the features."""
    z = torch.tensor([features], dtype=torch.float64)
    return z, torch.eye(2, dtype=torch.float64), z.new_zeros(2), torch.tensor([1])


@pytest.mark.parametrize(("feasible", "n_moving"), [(False, 2), (True, 1)])
@pytest.mark.parametrize(("share", "is_zero"), [(1.001, True), (0.999, False)])
def test_fista_leaves_zero_at_the_threshold(feasible, n_moving, share, is_zero):
    """At (0, 0) both slopes are 1/2, so sqrt(2) (1/2 - l1) pulls; 1/2 - l1 if one cannot sink."""
    l1 = 0.2
    penalty = ElasticNet(l1, share * math.sqrt(n_moving) * (0.5 - l1), "paper")
    found = _solve(_one_sample(0.0, 0.0), penalty, feasible=feasible)
    assert found.w.eq(0).all() == is_zero
    assert (found.w != 0).sum() == (0 if is_zero else n_moving)
    assert found.residual.item() <= EXACT.tolerance
    assert found.already_correct.tolist() == [False]


def test_fista_by_hand():
    """w = (-a, a): the wrong class keeps probability l1 + l2 / sqrt(2), so 1 - 2a is its logit."""
    found = _solve(_one_sample(1.0, 0.0), ElasticNet(0.1, 0.1 * math.sqrt(2), "paper"))
    a = (1 - math.log(0.2 / 0.8)) / 2
    torch.testing.assert_close(found.w, torch.tensor([[-a, a]], dtype=torch.float64))


def test_fista_by_hand_where_a_neuron_cannot_sink_further():
    """Held at w_1 = -1, the wrong class keeps probability l1 + l2 w_2 / |w|: at w_2 = 3/2 here."""
    l1, b = 0.1, 1.5
    l2 = (1 / (1 + math.exp(b)) - l1) * math.hypot(1, b) / b
    found = _solve(_one_sample(1.0, 0.0), ElasticNet(l1, l2, "paper"), feasible=True)
    torch.testing.assert_close(found.w, torch.tensor([[-1, b]], dtype=torch.float64))
    assert found.w[0, 0] == -1


def test_fista_says_when_the_minimum_is_still_wrong():
    """Norms this strong leave probability 0.6 with the wrong class, at a proven minimum."""
    found = _solve(_one_sample(1.0, 0.0), ElasticNet(0.5, 0.1 * math.sqrt(2), "paper"))
    torch.testing.assert_close(found.w[0, 1].item(), (1 - math.log(1.5)) / 2)
    assert found.converged.tolist() == [False]
    assert found.residual.item() <= EXACT.tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("feasible", [False, True])
def test_fista_on_a_wide_layer(dtype, feasible):
    """1,280 neurons: the norms are so weak that the minimum lies where the loss is flat."""
    problem = _problem(2, n=8, n_features=1280, n_classes=10, dtype=dtype)
    problem[1].mul_(0.05)
    penalty = ElasticNet()
    solver = FISTA() if dtype == torch.float32 else FISTA(tolerance=1e-10)
    found = _solve(problem, penalty, feasible=feasible, solver=solver)
    wrong = ~found.already_correct
    assert found.w.dtype == found.residual.dtype == dtype
    assert (found.residual[wrong] <= solver.tolerance).all()
    assert found.n_steps.max() < 400
    assert found.converged.all()
    n_changed = (found.w != 0).sum(1)[wrong]
    assert n_changed.min() >= 1
    assert n_changed.max() < 30
    exact = tuple(part.double() if part.is_floating_point() else part for part in problem)
    gradient, lower = _gradient(found.w.double(), exact), _lower(exact[0], feasible)
    atol = 2e-10 if dtype == torch.float64 else 1.5e-7  # 1/500 of l1, where rounding ends
    _assert_minimum(found.w.double()[wrong], gradient[wrong], lower[wrong], penalty, atol)


def _network(activation):
    network = nn.Sequential(nn.Linear(10, 16), activation(), nn.Linear(16, 5)).double()
    for parameter in network.requires_grad_(False).parameters():
        parameter.mul_(2)
    return network


@pytest.mark.parametrize("activation", [nn.Tanh, nn.SiLU])
def test_fista_behind_a_network_reaches_a_stationary_point(activation):
    network = _network(activation)
    z, target = torch.randn(12, 10).double().relu(), torch.arange(12) % 5
    penalty = ElasticNet(0.02, 0.01, "paper")
    found = EXACT.solve(NetworkTail(network, z), target, -z, penalty)
    wrong = ~found.already_correct
    assert wrong.sum() > 6
    assert (found.residual[wrong] <= EXACT.tolerance).all()
    w = found.w.clone().requires_grad_()
    logits = network(z + w)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, target, reduction="sum"), w)
    _assert_minimum(found.w[wrong], gradient[wrong], -z[wrong], penalty, atol=1e-9)
    assert torch.equal(found.converged, logits.argmax(1) == target)
    assert found.w[wrong].ne(0).any(1).all()
    before = F.cross_entropy(network(z), target, reduction="none")
    after = F.cross_entropy(logits, target, reduction="none") + penalty.value(w)
    assert (after < before)[wrong].all()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_fista_never_rises(activation):
    """Momentum would carry some samples uphill, above all over the kinks of a ReLU."""
    network = _network(activation)
    z, target, penalty = torch.randn(12, 10).double().relu(), torch.arange(12) % 5, ElasticNet()
    last = torch.full((12,), torch.inf).double()
    for max_steps in range(1, 40):
        found = FISTA(max_steps).solve(NetworkTail(network, z), target, None, penalty)
        loss = F.cross_entropy(network(z + found.w), target, reduction="none")
        now = loss + penalty.value(found.w)
        assert (now <= last + 1e-12).all()
        last = now


@pytest.mark.parametrize("max_steps", [1, 7])
def test_fista_stops_after_max_steps(max_steps):
    """An unfinished sample comes back as it is, better than at 0, with its honest residual."""
    problem, penalty = _problem(3, n=10), ElasticNet(0.02, 0.01, "paper")
    found = _solve(problem, penalty, solver=FISTA(max_steps=max_steps, tolerance=1e-12))
    wrong = ~found.already_correct
    assert found.n_steps[wrong].eq(max_steps).all()
    start = _objective(torch.zeros_like(found.w), problem, penalty)
    assert (_objective(found.w, problem, penalty) < start)[wrong].any()
    assert (_objective(found.w, problem, penalty) <= start)[wrong].all()
    v = found.w - _gradient(found.w, problem)
    threshold = v.sign() * (v.abs() - 0.02).clamp_min(0)
    expected = (found.w - threshold * (1 - 0.01 / threshold.norm(dim=1, keepdim=True))).abs()
    torch.testing.assert_close(found.residual[wrong], expected.amax(1)[wrong])
    assert torch.equal(found.converged, _logits(found.w, problem).argmax(1) == problem[3])


def test_fista_with_no_mistake_or_no_sample():
    z, weight, bias, _ = _problem(4)
    right = _solve((z, weight, bias, (z @ weight.T + bias).argmax(1)), ElasticNet())
    assert right.already_correct.all()
    assert right.converged.all()
    assert right.w.eq(0).all()
    assert right.residual.isnan().all()
    nothing = _solve((z[:0], weight, bias, torch.arange(0)), ElasticNet())
    assert nothing.w.shape == (0, 8)


def test_fista_refuses_to_believe_a_broken_network():
    """NaN logits: the sample stays as it is, its neighbour is solved."""
    z, weight, bias, target = problem = _problem(1)
    row = int((~_was_right(problem) & (target != 0)).nonzero()[0])  # argmax of NaNs is 0
    expected = _solve(problem, ElasticNet()).w
    broken = z.clone()
    broken[row] = torch.nan
    solver = FISTA(max_steps=300, tolerance=1e-11)
    found = _solve((broken, weight, bias, target), ElasticNet(), solver=solver)
    assert found.w[row].eq(0).all()
    assert found.residual[row].isnan()
    assert not found.converged[row]
    others = torch.arange(len(z)) != row
    torch.testing.assert_close(found.w[others], expected[others], atol=1e-6, rtol=0)


def test_fista_leaves_its_arguments_alone():
    problem = _problem(5)
    lower = -problem[0]
    parts = (*problem, lower)
    copies = [part.clone() for part in parts]
    state = torch.get_rng_state()
    EXACT.solve(LinearTail(*problem[:3]), problem[3], lower, ElasticNet())
    assert all(torch.equal(a, b) for a, b in zip(parts, copies, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_steps": 0}, "max_steps=0, expected at least 1"),
        ({"tolerance": 0}, "tolerance=0, expected a positive number"),
        ({"tolerance": math.nan}, "tolerance=nan"),
    ],
)
def test_fista_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        FISTA(**option)
