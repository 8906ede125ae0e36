from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import SGD
from captum_neuroinspect.attr._passes import Passes


class TwoInputs(nn.Module):
    """Inputs that belong to samples, an argument that does, and three that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = nn.Linear(4, 7), nn.Linear(7, 3)

    def forward(self, left, right, scale, shift, factor, nothing):
        assert nothing is None
        return self.head((self.fc(left - right) * scale + shift).relu() * factor)


@pytest.mark.parametrize("layer", ["fc", "head"])
@pytest.mark.parametrize("batch_size", [None, 1, 2, 5, 9])
@pytest.mark.parametrize("n_shifts", [7, 1])
def test_batches_cut_what_belongs_to_samples(layer, batch_size, n_shifts):
    """Tuple inputs and tensor arguments go along with their samples, other tensors do not."""
    net, (left, right), scale = TwoInputs(), torch.randn(2, 5, 4), 1 + torch.rand(5, 1)
    rest, target = (torch.rand(n_shifts), torch.tensor(3.0), None), [0, 1, 2, 0, 1]
    method = NeuronCounterfactual(net, layer, solver=SGD(lr=0.1, max_steps=500))
    options = {"attribute_to_layer_input": layer == "head", "internal_batch_size": batch_size}
    w = method.attribute((left, right), target, (scale, *rest), **options)
    assert w.shape == (5, 7)
    for i in range(5):
        rows = slice(i, i + 1)
        one = method.attribute(
            (left[rows], right[rows]), target[i], (scale[rows], *rest), layer == "head"
        )
        torch.testing.assert_close(w[rows], one, atol=1e-5, rtol=1e-5)
    assert w.ne(0).any(1).sum() >= 2


def _collect(passes):
    return [(rows, run()) for rows, run in passes]


@pytest.mark.parametrize(
    ("batch_size", "expected"),
    [
        (None, [slice(0, 5)]),
        (5, [slice(0, 5)]),
        (8, [slice(0, 5)]),
        (2, [slice(0, 2), slice(2, 4), slice(4, 5)]),
    ],
)
def test_passes_are_the_rows_in_order(batch_size, expected):
    x, y = torch.randn(5, 3), torch.arange(5)
    passes = Passes.prepare(lambda *call: call, (x, y), "argument", batch_size)
    assert passes.n_samples == 5
    found = _collect(passes)
    assert [rows for rows, _ in found] == expected
    for rows, (left, right, argument) in found:
        assert torch.equal(left, x[rows])
        assert torch.equal(right, y[rows])
        assert argument == "argument"


def test_passes_call_as_captum_calls():
    """A function without arguments is called without; a tuple of arguments is spread."""
    x = torch.ones(2, 1)
    assert _collect(Passes.prepare(lambda: "none", x, None, None))[0][1] == "none"
    assert _collect(Passes.prepare(lambda x, a, b: (a, b), x, (1, "b"), None))[0][1] == (1, "b")


def test_passes_of_inference_tensors_are_copies():
    """No gradient may pass a tensor made in inference mode, but one may pass its copy."""
    with torch.inference_mode():
        x, argument = torch.ones(2, 1), torch.ones(3)
    for value in _collect(Passes.prepare(lambda *call: call, x, (argument, 3), None))[0][1][:2]:
        assert not value.is_inference()
    plain = torch.ones(2, 1)
    assert Passes.prepare(lambda x: x, plain, None, None).inputs[0] is plain


def test_passes_know_what_to_freeze_and_the_order_of_devices():
    net, x = nn.Linear(1, 1), torch.ones(2, 1)
    assert Passes.prepare(net, x, None, None).modules == [net]
    assert Passes.prepare(lambda x: net(x), x, None, None).modules == []
    assert Passes.prepare(net, x, None, None).device_ids is None
    assert Passes.prepare(lambda x: net(x), x, None, None, [1, 0]).device_ids == [1, 0]
    parallel = nn.DataParallel(net)
    parallel.device_ids = [2, 1]  # as on a machine with three devices
    assert Passes.prepare(parallel, x, None, None).device_ids == [2, 1]
    assert Passes.prepare(parallel, x, None, None, [1, 2]).device_ids == [1, 2]


def test_passes_on_one_device_are_without_data_parallel():
    net, x = nn.Linear(1, 1), torch.ones(2, 1)
    single = Passes.prepare(nn.DataParallel(net), x, (x, "argument"), 1).on_one_device()
    assert single.forward_func is net
    assert single.batch_size == 1
    assert torch.equal(single.inputs[0], x)
    assert single.additional_forward_args[1] == "argument"
    passes = Passes.prepare(net, x, None, None)
    assert passes.on_one_device() is passes
    assert Passes.prepare(nn.DataParallel(net), x, None, 1).on_one_device().modules == [net]


@pytest.mark.parametrize(
    ("inputs", "batch_size", "error", "message"),
    [
        ([[1.0]], None, TypeError, "inputs are list, expected a tensor or a tuple of tensors"),
        ((torch.ones(1), 3), None, TypeError, "inputs are Tensor, int"),
        ((), None, TypeError, "inputs are empty"),
        (torch.ones(0, 3), None, ValueError, r"inputs have shape \(0, 3\), expected one sample"),
        (torch.tensor(1.0), None, ValueError, r"inputs have shape \(\)"),
        (torch.ones(2, 1), 0, ValueError, "internal_batch_size=0, expected at least 1"),
        (torch.ones(2, 1), -1, ValueError, "internal_batch_size=-1"),
    ],
)
def test_passes_refuse(inputs, batch_size, error, message):
    with pytest.raises(error, match=message):
        Passes.prepare(lambda x: x, inputs, None, batch_size)
