from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import ConvNet
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_neuroinspect.attr import SGD, ElasticNet
from captum_neuroinspect.attr._tails import LinearTail

MAX_STEPS = 150


def solve_sgd(z, weight, bias, target, *, feasible=False, scaling="code", **options):
    tail, lower = LinearTail(z, weight, bias), -z if feasible else None
    return SGD(**options).solve(tail, target, lower, ElasticNet(scaling=scaling))


def _reference_paper_loop(net, image, label, *, scaling, feasible):
    """The paper's loop as its authors wrote it: one sample, the backbone in every step.

    Torch gives both norms the subgradient 0 at w = 0 (``sign(0)``, and a masked
    division in ``norm``), so the first step follows the cross entropy alone.
    """
    w = torch.zeros(1, net.head.in_features, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.01, momentum=0.9)
    scale = net.head.in_features if scaling == "code" else 1
    for n_steps in range(MAX_STEPS + 1):
        features = net.backbone(image[None])
        logits = net.head(features + w)
        if logits.argmax(1) == label or n_steps == MAX_STEPS:
            return w.detach()[0], n_steps
        loss = F.cross_entropy(logits, label[None])
        loss = loss + 0.1 * w.abs().sum() / scale + 0.01 * w.norm() / scale
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if feasible:
            with torch.no_grad():
                w.copy_(torch.maximum(w, -features))
    raise AssertionError


def _solve(net, images, labels, **options):
    with torch.no_grad():
        features = net.backbone(images)
    return solve_sgd(features, net.head.weight.detach(), net.head.bias.detach(), labels, **options)


@pytest.fixture
def net():
    return ConvNet().eval().requires_grad_(False)


@pytest.fixture
def mistakes(net):
    """Pictures that the net takes for another class than their label."""
    images, labels = torch.rand(24, 3, 8, 8), torch.arange(24) % 4
    wrong = net(images).argmax(1) != labels
    assert 8 <= wrong.sum() < 24
    return images[wrong], labels[wrong]


@pytest.mark.parametrize("scaling", ["code", "paper"])
@pytest.mark.parametrize("feasible", [False, True])
def test_sgd_equals_the_papers_loop(net, mistakes, scaling, feasible):
    images, labels = mistakes
    found = _solve(
        net,
        images,
        labels,
        feasible=feasible,
        scaling=scaling,
        max_steps=MAX_STEPS,
    )
    expected = [
        _reference_paper_loop(net, image, label, scaling=scaling, feasible=feasible)
        for image, label in zip(images, labels, strict=True)
    ]
    w, n_steps = zip(*expected, strict=True)
    assert found.n_steps.tolist() == list(n_steps)
    assert len(set(n_steps)) > 3  # samples stop by themselves, not together
    torch.testing.assert_close(found.w, torch.stack(w), atol=1e-5, rtol=0)
    assert found.w.abs().max() > 0.05  # far above the tolerance
    assert found.feasible.eq(feasible).all()


def test_sgd_one_step_by_hand():
    """w = -lr * (softmax(z) - onehot) for W = 1, as both norms are flat at 0."""
    z = torch.tensor([[1.0, 0.8]])
    found = solve_sgd(z, torch.eye(2), torch.zeros(2), torch.tensor([1]), max_steps=1)
    share = 1 / (1 + torch.tensor(-0.2).exp())
    torch.testing.assert_close(found.w, 0.01 * torch.stack([-share, share])[None])
    assert found.n_steps.tolist() == [1]
    assert found.converged.tolist() == [False]


def _problem(seed, n=6, n_features=5, n_classes=3):
    rng = torch.Generator().manual_seed(seed)
    z = torch.rand(n, n_features, generator=rng)
    weight = 3 * torch.randn(n_classes, n_features, generator=rng)
    bias = torch.randn(n_classes, generator=rng)
    return z, weight, bias, torch.randint(n_classes, (n,), generator=rng)


def test_sgd_batch_equals_singles():
    z, weight, bias, target = _problem(0, n=12)
    batch = solve_sgd(z, weight, bias, target)
    for row in range(12):
        one = slice(row, row + 1)
        single = solve_sgd(z[one], weight, bias, target[one])
        torch.testing.assert_close(batch.w[one], single.w, atol=1e-6, rtol=1e-5)
        assert batch.n_steps[row] == single.n_steps[0]
        assert batch.converged[row] == single.converged[0]


@pytest.mark.parametrize("feasible", [False, True])
def test_sgd_commutes_with_permutations(feasible):
    """Neither the order of the samples nor that of the neurons or classes matters."""
    z, weight, bias, target = _problem(1, n=10)
    found = solve_sgd(z, weight, bias, target, feasible=feasible)
    rows, neurons, classes = torch.randperm(10), torch.randperm(5), torch.randperm(3)
    permuted = solve_sgd(
        z[rows][:, neurons],
        weight[classes][:, neurons],
        bias[classes],
        classes.argsort()[target[rows]],
        feasible=feasible,
    )
    torch.testing.assert_close(permuted.w, found.w[rows][:, neurons], atol=1e-6, rtol=1e-5)
    assert torch.equal(permuted.n_steps, found.n_steps[rows])


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000),
    feasible=st.booleans(),
    scaling=st.sampled_from(["code", "paper"]),
    max_steps=st.sampled_from([1, 7, 200]),
)
def test_sgd_keeps_its_promises(seed, feasible, scaling, max_steps):
    z, weight, bias, target = _problem(seed)
    found = solve_sgd(
        z, weight, bias, target, feasible=feasible, scaling=scaling, max_steps=max_steps
    )
    was_right = (z @ weight.T + bias).argmax(1) == target
    is_right = ((z + found.w) @ weight.T + bias).argmax(1) == target
    assert torch.equal(found.already_correct, was_right)
    assert torch.equal(found.converged, is_right)
    assert found.w[was_right].eq(0).all()
    assert found.w[~was_right].ne(0).any(1).all()
    assert found.n_steps[was_right].eq(0).all()
    assert found.n_steps[~was_right].ge(1).all()
    assert found.n_steps.max() <= max_steps
    assert found.n_steps[~is_right].eq(max_steps).all()
    if feasible:
        assert (z + found.w >= 0).all()


def test_sgd_feasible_holds_where_it_binds():
    """The descent would push the excessive neuron below zero: it must stop there."""
    z, weight = torch.tensor([[0.05, 0.0]]), torch.tensor([[4.0, 0.0], [0.0, 0.2]])
    bias, target = torch.tensor([0.02, 0.0]), torch.tensor([1])
    free = solve_sgd(z, weight, bias, target)
    kept = solve_sgd(z, weight, bias, target, feasible=True)
    assert free.w[0, 0] < -0.05
    assert kept.w[0, 0] == -0.05
    assert kept.w[0, 1] > free.w[0, 1]
    assert kept.converged.item()


def test_sgd_gives_up_after_max_steps():
    """No feasible change can help: without bias zero features tie, and class 0 wins ties."""
    z, weight = torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [-1.0]])
    target = torch.tensor([1, 0])
    found = solve_sgd(z, weight, torch.zeros(2), target, feasible=True, max_steps=50)
    assert found.converged.tolist() == [False, True]
    assert found.n_steps.tolist() == [50, 0]
    assert found.already_correct.tolist() == [False, True]
    assert found.w[1].tolist() == [0]


def test_sgd_leaves_its_arguments_alone():
    problem = _problem(2)
    copies = [tensor.clone() for tensor in problem]
    state = torch.get_rng_state()
    solve_sgd(*problem, feasible=True)
    assert all(torch.equal(a, b) for a, b in zip(problem, copies, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_sgd_keeps_the_dtype():
    problem = [t.double() if t.is_floating_point() else t for t in _problem(3)]
    assert solve_sgd(*problem).w.dtype == torch.float64


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lr": 0}, "lr=0, expected a positive step size"),
        ({"lr": float("nan")}, "lr=nan, expected a positive step size"),
        ({"momentum": 1.0}, "momentum=1.0, expected 0 <= momentum < 1"),
        ({"momentum": -0.1}, "momentum=-0.1"),
        ({"max_steps": 0}, "max_steps=0, expected at least 1"),
    ],
)
def test_sgd_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        SGD(**option)
