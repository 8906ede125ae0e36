import pytest
import torch
from optvis_nets import TinyNet
from torch import nn

from captum_neuroinspect.optvis import classes_of_neurons, neurons_of_classes, render_illusions

WEIGHT = torch.tensor([[0.0, 5.0, -1.0], [2.0, -4.0, -1.0], [1.0, 3.0, -2.0], [2.0, 4.0, 0.5]])


@pytest.fixture
def head():
    head = nn.Linear(3, 4)
    head.weight.data = WEIGHT.clone()
    return head


def test_hand_computed_pairs(head):
    # Neuron 0 has the weights 0, 2, 1, 2: of the two equal ones the first class comes first.
    assert classes_of_neurons(head, 0, n=3) == ([0, 0, 0], [1, 3, 2])
    assert classes_of_neurons(head, [2, 1], n=2) == ([2, 2, 1, 1], [3, 0, 0, 3])
    assert neurons_of_classes(head, 1, n=2) == ([0, 2], [1, 1])
    assert neurons_of_classes(head, torch.tensor([0, 3]), n=1) == ([1, 1], [0, 3])


def test_all_equal_weights_keep_their_order(head):
    head.weight.data.fill_(1.0)
    assert classes_of_neurons(head, 1, n=4)[1] == [0, 1, 2, 3]
    assert neurons_of_classes(head, 1, n=3)[0] == [0, 1, 2]


@pytest.mark.parametrize("choose", [classes_of_neurons, neurons_of_classes])
def test_pairs_go_into_the_renderer(choose):
    model = TinyNet()
    pairs = choose(model.fc, [2, 0], n=2)
    found = render_illusions(model, *pairs, size=16, n_steps=1, progress=False)
    assert (list(found.neurons), list(found.classes)) == pairs
    for neuron, class_index in zip(*pairs, strict=True):
        weights = (
            model.fc.weight[:, neuron]
            if choose is classes_of_neurons
            else (model.fc.weight[class_index])
        )
        assert model.fc.weight[class_index, neuron] >= weights.sort().values[-2]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda head: classes_of_neurons(head, 3), ValueError, "neurons=3 is out of range"),
        (lambda head: neurons_of_classes(head, [0, 4]), ValueError, "classes=4 is out of range"),
        (lambda head: classes_of_neurons(head, 0, n=5), ValueError, "n=5, but .* 4 classes"),
        (lambda head: neurons_of_classes(head, 0, n=4), ValueError, "n=4, but .* 3 neurons"),
        (lambda head: neurons_of_classes(head, 0, n=0), ValueError, "n=0, expected at least 1"),
        (lambda head: neurons_of_classes(head, 0, n=1.5), TypeError, r"n=1\.5, expected a whole"),
        (lambda head: classes_of_neurons(head, 0.5), TypeError, "neurons has dtype"),
        (lambda head: classes_of_neurons(nn.ReLU(), 0), TypeError, "head is ReLU"),
    ],
)
def test_bad_values(call, error, message, head):
    with pytest.raises(error, match=message):
        call(head)
