from __future__ import annotations

import threading
from collections import OrderedDict, namedtuple

import pytest
import torch
from helpers import left_unchanged
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from captum_neuroinspect._core import sites as _sites
from captum_neuroinspect._core.sites import Site, read_activations

Pair = namedtuple("Pair", "first second")
X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])


class Packs(nn.Module):
    """Gives its input and a second tensor in some container, and takes them in one."""

    def __init__(self, pack=lambda x, rest: x) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, *args, **kwargs):
        x = args[0] if args else kwargs["x"]
        return self.pack(x, torch.zeros(3))


PACKED = {
    "tensor": lambda x, rest: x,
    "tuple": lambda x, rest: (x, rest),
    "list": lambda x, rest: [x, rest],
    "not first": lambda x, rest: (None, "name", x, rest),
    "nested": lambda x, rest: ((), [{"empty": ()}, (x, rest)], rest),
    "namedtuple": Pair,
    "dict": lambda x, rest: {"flag": True, "x": x, "rest": rest},
    "ordered dict": lambda x, rest: OrderedDict(x=x, rest=rest),
    "model output": lambda x, rest: BaseModelOutputWithPooling(x, rest),
    "max": lambda x, rest: torch.return_types.max((x, rest)),
}


def _same(value, other):
    """Equal containers of equal kinds, tensor by tensor."""
    if isinstance(value, torch.Tensor):
        return torch.equal(value, other)
    if isinstance(value, dict):
        return type(value) is type(other) and _same([*value.items()], [*other.items()])
    if isinstance(value, (tuple, list)):
        pairs = zip(value, other, strict=True)
        return type(value) is type(other) and all(_same(a, b) for a, b in pairs)
    return value == other


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
def test_visited_output_is_the_first_tensor_in_any_container(pack):
    """Reading leaves the output as it is; replacing changes that tensor alone, in a new object."""
    layer = Packs(pack)
    with left_unchanged(layer):
        (activation, *_), output = read_activations(lambda: layer(X), Site(layer, False))
        assert torch.equal(activation, X)
        assert _same(output, pack(X, torch.zeros(3)))
        with Site(layer, False).visited(lambda z: z + 1):
            assert _same(layer(X), pack(X + 1, torch.zeros(3)))
        assert _same(layer(X), pack(X, torch.zeros(3)))


def test_visited_model_output_changes_the_attribute_too():
    """Hugging Face's code reads `.last_hidden_state`, not only the key."""
    layer, held = Packs(lambda x, rest: kept), []
    kept = BaseModelOutputWithPooling(X, torch.zeros(3))
    with Site(layer, False).visited(lambda z: z * 2):
        held.append(layer(X))
    assert torch.equal(held[0].last_hidden_state, 2 * X)
    assert torch.equal(held[0][0], 2 * X)
    assert torch.equal(kept.last_hidden_state, X)  # the network's own object may live on


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer(X),
        lambda layer: layer((X, torch.zeros(3))),
        lambda layer: layer(None, X),
        lambda layer: layer(x=X),
        lambda layer: layer(flag=True, x=X, rest=torch.zeros(3)),
        lambda layer: layer("positional", x=X),
    ],
)
def test_visited_input_is_the_first_tensor_of_the_call(call):
    """Positional, nested, or by keyword: read, and replaced where it stood."""
    seen = []
    layer = Packs(lambda x, rest: rest)
    layer.register_forward_hook(
        lambda m, args, kwargs, _: seen.append((args, kwargs)), with_kwargs=True
    )
    (activation, *_), _ = read_activations(lambda: call(layer), Site(layer, True))
    assert torch.equal(activation, X)
    with Site(layer, True).visited(lambda z: z - 5):
        call(layer)
    plain, changed = seen
    assert _same(_replaced(plain), changed)


def _replaced(value):
    """What the call above must have become: X, which is one object, minus 5."""
    if isinstance(value, (tuple, list)):
        return type(value)(_replaced(item) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item) for key, item in value.items()}
    return X - 5 if isinstance(value, torch.Tensor) and value.shape == X.shape else value


def test_read_activations_are_copies():
    """In-place work on either side of the layer does not reach what was read."""
    net = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    for at_input in (True, False):
        x = torch.tensor([[-1.0, 1.0]], requires_grad=True)
        (activation,), output = read_activations(lambda x=x: net(x * 1), Site(net[0], at_input))
        assert activation.tolist() == [[-1.0, 1.0]]
        assert output.tolist() == [[0.0, 1.0]]
        assert not activation.requires_grad


def test_read_activations_refuse_layers_that_run_never_or_often():
    layer = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="did not run the layer Linear"):
        read_activations(lambda: X, Site(layer, False))
    with pytest.raises(ValueError, match="Linear runs 3 times in one forward pass"):
        read_activations(lambda: layer(layer(layer(X))), Site(layer, True))
    nothing = Packs(lambda x, rest: (None, 3))
    with pytest.raises(RuntimeError, match="gave it no tensor"):
        read_activations(lambda: nothing(X), Site(nothing, False))


@pytest.mark.parametrize(
    ("pack", "n_tensors"),
    [
        (lambda x, rest: x, 1),
        (lambda x, rest: (x, rest), 2),
        (lambda x, rest: [x, (rest, [rest + 1])], 3),
        (lambda x, rest: (3, x, None, torch.arange(2), torch.tensor(1.0), rest), 2),
        (lambda x, rest: BaseModelOutputWithPooling(x, rest), 1),  # a mapping: as `visited`
        (lambda x, rest: {"a": x, "b": rest}, 1),
    ],
)
def test_all_visited_are_the_floating_tensors_in_order(pack, n_tensors):
    """Whole numbers and single numbers are no activations; each is replaced where it stood."""
    layer = Packs(pack)
    rest = torch.zeros(3)
    with left_unchanged(layer):
        activations, output = read_activations(lambda: layer(X), Site(layer, False))
        assert len(activations) == n_tensors
        assert torch.equal(activations[0], X)
        assert _same(output, pack(X, rest))
        with Site(layer, False).all_visited(lambda tensors: [t * 1 for t in tensors]):
            assert _same(layer(X), pack(X, rest))
        numbers = iter(range(7, 10))
        with Site(layer, False).all_visited(lambda z: [t * 0 + next(numbers) for t in z]):
            (first, *others), _ = read_activations(lambda: layer(X), Site(layer, False))
    assert first.eq(7).all()
    assert [int(other.flatten()[0]) for other in others] == [8, 9][: n_tensors - 1]


def test_visited_unhooks_after_an_error_in_the_visit():
    layer = nn.Linear(2, 2)

    def fails(_):
        raise KeyboardInterrupt

    with left_unchanged(layer), pytest.raises(KeyboardInterrupt), Site(layer, True).visited(fails):
        layer(X)


@pytest.mark.parametrize("device_ids", [None, [0, 1, 2], [2, 0, 1]])
def test_gathered_parts_follow_the_order_of_devices(device_ids):
    """Replicas arrive as their threads finish: the batch is put together by device."""
    order = device_ids or [0, 1, 2]
    rows = {index: torch.full((2, 1), float(place)) for place, index in enumerate(order)}
    for arrival in ([2, 1, 0], [1, 2, 0], [0, 1, 2]):
        parts = {torch.device("cpu", index): rows[index] for index in arrival}
        gathered = _sites._gathered(parts, device_ids)
        assert gathered[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_gathered_parts_may_be_fewer_than_devices():
    """A batch of one sample reaches one device of two, and not always the first."""
    one = {torch.device("cpu", 1): X}
    assert torch.equal(_sites._gathered(one, [0, 1]), X)
    assert torch.equal(_sites._gathered({torch.device("cpu"): X}, None), X)


def test_visited_in_threads_sees_every_call():
    """DataParallel runs its replicas in threads: no call is lost."""
    layer, seen = nn.Identity(), []
    with Site(layer, False).visited(lambda z: seen.append(float(z))):
        threads = [threading.Thread(target=layer, args=(torch.tensor(float(i)),)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(seen) == list(range(8))
