from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import feature_set, linear
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import SGD
from captum_neuroinspect.attr._targets import Targets

# Each logit says where it stands: sample, class, row, column.
DENSE = torch.arange(3 * 4 * 5 * 6).view(3, 4, 5, 6).float()


def _reference_logits(output, entries):
    """One sample and one class at a time."""
    return torch.tensor(
        [
            [float(output[(n, c, *entry[1:])]) for c in range(output.shape[1])]
            for n, entry in enumerate(entries)
        ]
    )


@pytest.mark.parametrize(
    ("target", "entries"),
    [
        (2, [(2,)] * 3),
        ([0, 3, 1], [(0,), (3,), (1,)]),
        (torch.tensor([0, 3, 1]), [(0,), (3,), (1,)]),
        (torch.tensor([[0], [3], [1]]), [(0,), (3,), (1,)]),
        (np.array([0, 3, 1], dtype=np.int32), [(0,), (3,), (1,)]),
        (np.int64(2), [(2,)] * 3),
        (torch.tensor(1), [(1,)] * 3),
        (torch.tensor([1]), [(1,)] * 3),
        ([torch.tensor(0), torch.tensor(3), torch.tensor(1)], [(0,), (3,), (1,)]),
        ((2,), [(2,)] * 3),
        ((2, 4), [(2, 4)] * 3),
        ((2, 4, 5), [(2, 4, 5)] * 3),
        ([(0, 4), (3, 0), (1, 2)], [(0, 4), (3, 0), (1, 2)]),
        ([(0, 4, 1), (3, 0, 5), (1, 2, 0)], [(0, 4, 1), (3, 0, 5), (1, 2, 0)]),
    ],
)
def test_targets_of_captum(target, entries):
    """Every format is one row of indices a sample, and selects the logits at its position."""
    targets = Targets.read(target, 3)
    assert targets.index.tolist() == [list(entry) for entry in entries]
    assert targets.classes.tolist() == [entry[0] for entry in entries]
    output = DENSE[(..., *[0] * (3 - len(entries[0])))]
    selected = targets.select(output)
    assert torch.equal(selected, _reference_logits(output, entries))


def test_targets_subset_selects_as_the_whole():
    targets = Targets.read([(0, 4, 1), (3, 0, 5), (1, 2, 0)], 3)
    part = targets.subset(slice(1, 3))
    assert part.classes.tolist() == [3, 1]
    assert torch.equal(part.select(DENSE[1:]), targets.select(DENSE)[1:])


def test_targets_select_lets_gradients_through():
    """The gradient of one selected logit lies at its place in the output, and nowhere else."""
    output = DENSE.clone().requires_grad_()
    Targets.read((1, 2, 3), 3).select(output)[2, 1].backward()
    assert output.grad.nonzero().tolist() == [[2, 1, 2, 3]]


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x, None), lambda x: {"logits": x}])
def test_targets_select_output_unwraps(wrap):
    logits = DENSE[:, :, 0, 0]
    assert torch.equal(Targets.read(0, 3).select_output(wrap(logits)), logits)
    output = ImageClassifierOutput(logits=logits, hidden_states=(DENSE,))
    assert torch.equal(Targets.read(0, 3).select_output(output), logits)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, ValueError, "target is missing"),
        ([0, 1], ValueError, "target has 2 entries for 3 samples"),
        ([(0, 1)], ValueError, "target has 1 entries for 3 samples"),
        ([[0, 1], [1, 1], [2, 1]], ValueError, "target has 6 entries for 3 samples"),
        ([(0, 1), (1, 1), (1,)], ValueError, "tuples of different lengths"),
        ((0, 1.5), TypeError, "expected whole numbers"),
        ([True, False, True], TypeError, "expected whole numbers"),
    ],
)
def test_targets_read_refuses(target, error, message):
    with pytest.raises(error, match=message):
        Targets.read(target, 3)


@pytest.mark.parametrize(
    ("target", "output", "message"),
    [
        (4, DENSE[:, :, 0, 0], r"target=4 is out of range: expected 0..3 \(the network has 4 cl"),
        ((3, 5), DENSE[..., 0], r"target=5 is out of range: expected 0..4 \(position 1 of an out"),
        ((3, -1), DENSE[..., 0], "target=-1 is out of range"),
        ((3, 0, 6), DENSE, r"target=6 is out of range: expected 0..5 \(position 2"),
        (1, DENSE, r"target has 1 index\(es\).*shape \(3, 4, 5, 6\)"),
        ((1, 1), DENSE[:, :, 0, 0], r"target has 2 index\(es\).*shape \(3, 4\)"),
        ((), DENSE[:, :, 0, 0], r"target has 0 index\(es\)"),
        (2, DENSE[:, 0, 0, 0], r"target=2 .* expected 0..1 \(one output decides between two"),
        (2, DENSE[:, :1, 0, 0], r"target=2 is out of range: expected 0..1"),
        ((2, 1), DENSE[:, :1, 0], r"target=2 is out of range: expected 0..1"),
        (0, DENSE[0, 0, 0, 0], r"shape \(\)"),
        (0, DENSE[:2, :, 0, 0], r"each of 3 samples.*shape \(2, 4\)"),
    ],
)
def test_targets_select_refuses(target, output, message):
    with pytest.raises(ValueError, match=message):
        Targets.read(target, 3).select(output)


class Dense(nn.Module):
    """Logits at each position of a map (``n_positions`` 2), of a row (1), or for the whole."""

    def __init__(self, n_positions) -> None:
        super().__init__()
        self.a, self.b, self.n = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 3, padding=1), n_positions

    def forward(self, images):
        logits = 5 * self.b(self.a(images).tanh())
        return logits.flatten(2 + self.n).mean(-1) if self.n < 2 else logits

    def at(self, position):
        return lambda images: self(images)[(..., *position)]


@pytest.mark.filterwarnings("ignore:.* did not converge:RuntimeWarning")  # so few steps
@pytest.mark.parametrize("batch_size", [None, 1, 4])
@pytest.mark.parametrize(
    "target",
    [
        *(2, torch.tensor(2), (2,), [0, 1, 2, 3, 0, 1], [(i % 4,) for i in range(6)]),
        *((3, 2), [(i % 4, (2 * i) % 5) for i in range(6)]),
        *((3, 4, 0), [(i % 4, i % 5, (3 * i) % 5) for i in range(6)]),
    ],
    ids=str,
)
def test_attributions_of_dense_outputs_equal_singles(target, batch_size):
    """What each sample gives alone, from a network that returns only the logits at its position."""
    entries = target if isinstance(target, list) else [target] * 6
    entries = [entry if isinstance(entry, tuple) else (int(entry),) for entry in entries]
    net, images, solver = Dense(len(entries[0]) - 1), torch.rand(6, 3, 5, 5), SGD(0.1, max_steps=20)
    method = NeuronCounterfactual(net, "a", solver=solver)
    w = method.attribute(images, target, internal_batch_size=batch_size)
    for i, (label, *position) in enumerate(entries):
        alone = NeuronCounterfactual(net.at(position), net.a, solver=solver)
        one = alone.attribute(images[i : i + 1], label)
        torch.testing.assert_close(w[i : i + 1], one, atol=1e-5, rtol=1e-5)
    assert w.ne(0).any()


def test_targets_of_a_feature_set_are_its_labels():
    """Labels of a FeatureSet are a target as they are."""
    head = linear(torch.eye(2))
    found = feature_set(head, torch.rand(4, 2), [0, 1, 1, 0])
    assert Targets.read(found.labels, len(found)).classes.tolist() == [0, 1, 1, 0]
