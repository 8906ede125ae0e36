"""Captum's own test models: targets in every format, batches, and hooks that are gone afterwards.

Captum generates such tests for its attribution classes; its wheel carries the models.
"""

from __future__ import annotations

import pytest
import torch
from helpers import Boom, hooks_of, left_unchanged
from torch import nn

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import FISTA, SGD

# Captum 0.8 has them in its repository only.
models = pytest.importorskip("captum.testing.helpers.basic_models")

SOLVERS = pytest.mark.parametrize("solver", [SGD(lr=0.2, max_steps=20), FISTA(max_steps=12)])
# Rows of ones and few steps: not every sample reaches its class, which is tested apart.
pytestmark = pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")


def _generator():
    return torch.Generator().manual_seed(4)


def _multi_layer(**options):
    """Weights that tell the two classes apart: Captum's rows of ones move both alike."""
    net = models.BasicModel_MultiLayer(**options)
    net.linear2.weight.data = torch.randn(2, 4, generator=_generator())
    net.linear2.bias.data = torch.tensor([0.3, -0.2])
    return net


def _conv_net():
    net = models.BasicModel_ConvNet()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=_generator()))
    return net


def _multi_input(cls):
    net = cls()
    inner = net.model if hasattr(net, "model") else net.m1
    inner.linear2.weight.data = torch.randn(2, 4, generator=_generator())
    return net


def _rand(*shape):
    return torch.randn(*shape, generator=_generator()) * 2


# model, layer, inputs, further arguments, classes of the output
CASES = {
    "linear": (_multi_layer(), "linear1", _rand(4, 3), None, 2),
    "relu": (_multi_layer(), "relu", _rand(4, 3), None, 2),
    "in-place relu after": (_multi_layer(inplace=True), "linear1", _rand(4, 3), None, 2),
    "head": (_multi_layer(), "linear2", _rand(4, 3), None, 2),
    "added input": (_multi_layer(), "linear0", _rand(4, 3), (_rand(4, 3),), 2),
    "conv": (_conv_net(), "conv1", _rand(3, 1, 10, 10), None, 10),
    "pool": (_conv_net(), "pool1", _rand(3, 1, 10, 10), None, 10),
    "head before a softmax": (_conv_net(), "fc2", _rand(3, 1, 10, 10), None, 10),
    "several inputs": (
        _multi_input(models.BasicModel_MultiLayer_MultiInput),
        "model.linear1",
        (_rand(4, 3), _rand(4, 3), _rand(4, 3)),
        (2,),
        2,
    ),
    "inputs of two branches": (
        _multi_input(models.BasicModel_MultiLayer_TrueMultiInput),
        "m1.relu",
        (_rand(4, 3), _rand(4, 3), _rand(4, 3)),
        None,
        2,
    ),
}
EVERYWHERE = pytest.mark.parametrize("name", CASES)


def _first(inputs):
    return inputs[0] if isinstance(inputs, tuple) else inputs


def _cut(inputs, rows):
    return tuple(x[rows] for x in inputs) if isinstance(inputs, tuple) else inputs[rows]


def _sample_args(args, rows):
    if args is None:
        return None
    return tuple(a[rows] if isinstance(a, torch.Tensor) else a for a in args)


def _logits(net, inputs, args):
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    return net(*inputs, *(args or ())).detach()


@EVERYWHERE
@SOLVERS
def test_targets_in_every_format(name, solver):
    """An int, a list, tensors, a tuple and a list of tuples mean the same classes."""
    net, layer, inputs, args, n_classes = CASES[name]
    n, method = len(_first(inputs)), NeuronCounterfactual(net, layer, solver=solver)
    one = method.attribute(inputs, 1, args)
    for target in ([1] * n, torch.tensor(1), torch.tensor([1] * n), (1,), [(1,)] * n):
        assert torch.equal(method.attribute(inputs, target, args), one)
    mixed = [i % n_classes for i in range(n)]
    found = method.attribute(inputs, mixed, args)
    for target in (torch.tensor(mixed), [(label,) for label in mixed]):
        assert torch.equal(method.attribute(inputs, target, args), found)
    assert found.ne(0).any()


@EVERYWHERE
@SOLVERS
def test_batch_equals_singles_and_any_batch_size(name, solver):
    net, layer, inputs, args, n_classes = CASES[name]
    n, method = len(_first(inputs)), NeuronCounterfactual(net, layer, solver=solver)
    target = [(i + 1) % n_classes for i in range(n)]
    batch = method.attribute(inputs, target, args)
    singles = [
        method.attribute(_cut(inputs, slice(i, i + 1)), target[i], _sample_args(args, [i]))
        for i in range(n)
    ]
    torch.testing.assert_close(torch.cat(singles), batch, atol=1e-4, rtol=1e-3)
    for size in (1, 2, n + 3):
        found = method.attribute(inputs, target, args, internal_batch_size=size)
        torch.testing.assert_close(found, batch, atol=1e-4, rtol=1e-3)


@EVERYWHERE
def test_nothing_is_left_behind(name):
    """After a normal run, a bad target, and a module that raises, in training mode too."""
    net, layer, inputs, args, n_classes = CASES[name]
    method = NeuronCounterfactual(net, layer, solver=SGD(lr=0.05, max_steps=5))
    for training in (True, False):
        net.train(training)
        net.requires_grad_(training)
        with left_unchanged(net):
            method.attribute(inputs, 1, args)
            method.attribute(inputs, 1, args, channelwise=True, channel_dim=1)
        for target in (n_classes, -1, None, [0, 1], 0.5):
            with left_unchanged(net), pytest.raises((ValueError, TypeError)):
                method.attribute(inputs, target, args)
    net.requires_grad_(True)
    for module in net.modules():
        if len([*module.children()]):
            continue
        for raising in ("register_forward_pre_hook", "register_forward_hook"):
            handle = getattr(module, raising)(_raise)
            try:
                with left_unchanged(net):
                    try:
                        method.attribute(inputs, 1, args)
                    except Boom:
                        pass
            finally:
                handle.remove()
    assert not any(hooks for module in net.modules() for hooks in hooks_of(module).values())


def _raise(*_):
    raise Boom


@SOLVERS
@pytest.mark.parametrize("at_input", [False, True])
def test_a_layer_with_several_tensors_gives_a_tuple(solver, at_input):
    """As in Captum; together the parts make the network say the class."""
    net, inputs = _multi_layer(multi_input_module=True), _rand(4, 3)
    target = 1 - net(inputs).argmax(1)
    method = NeuronCounterfactual(net, net.multi_relu, solver=solver)
    found = method.attribute(inputs, target, None, at_input, return_details=True)
    parts = method.attribute(inputs, target, None, at_input)
    assert isinstance(parts, tuple)
    assert [part.shape for part in parts] == [(4, 4), (4, 4)]
    assert found.w.shape == (4, 8)
    assert torch.equal(torch.cat(parts, 1), found.w)
    assert all(torch.equal(a, b) for a, b in zip(found.attribution, parts, strict=True))
    assert all(part.ne(0).any() for part in parts)

    def change(_, value, output=None):
        tensors = value if output is None else output
        return tuple(t + part for t, part in zip(tensors, parts, strict=True))

    register = "register_forward_pre_hook" if at_input else "register_forward_hook"
    handle = getattr(net.multi_relu, register)(change)
    predicted = net(inputs).argmax(1)
    handle.remove()
    assert torch.equal(predicted == target, found.converged)
    assert found.converged.any()
    for size in (1, 3):
        again = method.attribute(inputs, target, None, at_input, internal_batch_size=size)
        for part, other in zip(parts, again, strict=True):
            torch.testing.assert_close(part, other, atol=1e-5, rtol=1e-4)


def test_several_tensors_and_a_reference():
    """One tensor for each, or the joined rows: the same contrast, in the shape of the change."""
    net, inputs = _multi_layer(multi_input_module=True), _rand(4, 3)
    method = NeuronCounterfactual(net, net.multi_relu, solver=SGD(lr=0.2, max_steps=20))
    usual = tuple(torch.rand(9, 4) for _ in range(2))
    parts = method.attribute(inputs, 1, reference=usual)
    joined = method.attribute(inputs, 1, reference=torch.cat(usual, 1))
    assert [part.shape for part in parts] == [(4, 4), (4, 4)]
    assert all(torch.equal(a, b) for a, b in zip(parts, joined, strict=True))
    assert not torch.equal(parts[0], method.attribute(inputs, 1)[0])
    with pytest.raises(ValueError, match="reference has 3 tensor"):
        method.attribute(inputs, 1, reference=(*usual, usual[0]))
    with pytest.raises(ValueError, match="reference has 4 features"):
        method.attribute(inputs, 1, reference=usual[0])


def test_a_layer_that_takes_a_tuple_of_tensors():
    """`models.BasicModel_MultiLayer_TupleInput` as a layer: its three inputs change together."""
    inner = _multi_input(models.BasicModel_MultiLayer_TupleInput)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner((x, 2 * x, -x))

    net, inputs = Outer(), _rand(4, 3)
    parts = NeuronCounterfactual(net, "inner").attribute(inputs, 1, None, True)
    assert [part.shape for part in parts] == [(4, 3)] * 3
    # The layer adds its three inputs, so the change of each is the same.
    torch.testing.assert_close(parts[0], parts[1])
    torch.testing.assert_close(parts[0], parts[2])


def _scaled(cls):
    """Captum's 1-D and 3-D networks, with weights that tell photos apart."""
    net = cls().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=_generator()) * 0.5)
    return net


@pytest.mark.parametrize(
    ("cls", "shape", "layers"),
    [
        (models.BasicModel_ConvNet_MaxPool1d, (2, 1, 10), {"conv1": 2, "relu1": 2, "pool1": 2}),
        (
            models.BasicModel_ConvNet_MaxPool3d,
            (2, 1, 10, 10, 10),
            {"conv1": 2, "relu1": 2, "conv2": 4},
        ),
    ],
)
def test_channels_of_sequences_and_volumes(cls, shape, layers):
    """(N, C, L) behind a convolution is no (N, T, C), and volumes have channels first."""
    net = _scaled(cls)
    for layer, n_channels in layers.items():
        for forward_func in (net, lambda x: net(x)):
            method = NeuronCounterfactual(
                forward_func, net.get_submodule(layer), solver=SGD(lr=0.1, max_steps=3)
            )
            w = method.attribute(_rand(*shape), 1, channelwise=True)
            assert w.shape == (2, n_channels)


@pytest.mark.parametrize(
    ("target", "positions"), [((1, 0, 1), [(0, 1)] * 4), ([(i % 2, 1, 0) for i in range(4)], None)]
)
def test_outputs_with_positions(target, positions):
    """`multidim_output=True`: logits (N, C, 2, 2), of which one position is meant."""
    net, inputs = _multi_layer(), _rand(4, 3)
    method = NeuronCounterfactual(net, "relu", solver=SGD(lr=0.2, max_steps=20))
    w = method.attribute(inputs, target, (None, True))
    rows = [target] * 4 if positions else target
    for i, (label, row, column) in enumerate(rows):
        alone = NeuronCounterfactual(
            lambda x, row=row, column=column: net(x, None, True)[:, :, row, column],
            net.relu,
            solver=method.solver,
        )
        one = alone.attribute(inputs[i : i + 1], label)
        torch.testing.assert_close(w[i : i + 1], one, atol=1e-5, rtol=1e-4)


def test_a_module_that_runs_twice_is_refused():
    net = models.BasicModelWithReusedModules()
    with left_unchanged(net), pytest.raises(ValueError, match="ReLU runs 2 times"):
        NeuronCounterfactual(net, net.relu).attribute(_rand(4, 3), 0)


def test_constant_inputs():
    """Zeros, ones and equal rows: finite, and equal rows get equal changes."""
    net = _multi_layer()
    for value in (0.0, 1.0, -50.0):  # where a ReLU is shut for all, no change has a gradient
        for layer in ("linear1", "relu", "linear2"):
            method = NeuronCounterfactual(net, layer, solver=SGD(lr=0.2, max_steps=20))
            w = method.attribute(torch.full((3, 3), value), [0, 1, 1], feasible=False)
            assert w.isfinite().all()
            assert torch.equal(w[1], w[2])
            assert w.ne(0).any() or value == -50


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(("layer", "words"), [("linear1", "inputs of Linear"), ("relu", "outputs")])
def test_activations_that_are_not_finite_are_named(bad, layer, words):
    net, inputs = _multi_layer(), _rand(4, 3)
    inputs[2] = abs(bad)
    message = rf"{words}.* NaN or infinite values in 1 of 4 sample\(s\), the first in sample 2"
    for size in (None, 1, 3):
        with left_unchanged(net), pytest.raises(ValueError, match=message):
            NeuronCounterfactual(net, layer).attribute(inputs, 0, internal_batch_size=size)


def test_an_empty_batch_is_refused():
    net = _multi_layer()
    with pytest.raises(ValueError, match=r"inputs have shape \(0, 3\), expected one sample or"):
        NeuronCounterfactual(net, "linear2").attribute(torch.rand(0, 3), 0)
    with pytest.raises(ValueError, match=r"shape \(0, 4\), expected .* at least one sample"):
        NeuronCounterfactual(net, "linear2").attribute_features(torch.rand(0, 4), 0)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
def test_scripted_networks_say_that_layers_cannot_be_read():
    """A traced network runs its layers without hooks: refused, not answered with zeros."""
    net, inputs = _multi_layer(), _rand(4, 3)
    traced = torch.jit.trace(net, inputs, check_trace=False)
    for layer in (traced.linear2, "linear2"):
        with pytest.raises(RuntimeError, match="did not run the layer"):
            NeuronCounterfactual(traced, layer).attribute(inputs, 1)
    # Its features can be collected, and behind the layer nothing has to be run.
    w = NeuronCounterfactual(net.linear2, net.linear2).attribute_features(torch.rand(3, 4), 1)
    assert w.shape == (3, 4)
