from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from helpers import ConvNet, left_unchanged
from session_examples import SIZE
from torch import nn

from captum_neuroinspect.inspection.session.arguments import (
    check_names,
    class_index,
    head_of,
    layer_name,
    loaded_model,
    model_key,
    n_classes_of,
    unit_indices,
)
from captum_neuroinspect.photos import View


def _model(net: nn.Module | None = None, preprocess: Any = None) -> Any:
    return loaded_model(net or ConvNet(), preprocess, None, SIZE)


def test_classes() -> None:
    names = ("cat", "dog", "0")
    assert class_index("dog", names, 3) == class_index(1, names, 3) == class_index("1", names, 3)
    assert class_index("0", names, 3) == 2  # a name comes before a number
    assert class_index("2", None, 3) == 2
    assert class_index(torch.tensor(2), None, 3) == 2  # type: ignore[arg-type]
    for given, message in (
        ("bird", "class 'bird' is unknown: expected one of cat, dog, 0, or a number"),
        ("", "class '' is unknown"),
        ("-1", "class '-1' is unknown"),
        ("3", "class 3 is out of range: there are 3 classes"),
        (3, "class 3 is out of range"),
        (-1, "class -1 is out of range"),
    ):
        with pytest.raises(ValueError, match=message):
            class_index(given, names, 3)
    with pytest.raises(ValueError, match="class 'bird' is unknown: there are no class names"):
        class_index("bird", None, 3)
    many = tuple(map(str, range(100, 200)))
    with pytest.raises(ValueError, match=r"111, ... \(100 in all\)"):
        class_index("bird", many, 100)
    for wrong in (1.5, True, None, [1]):
        with pytest.raises(TypeError, match="expected a whole number"):
            class_index(wrong, names, 3)  # type: ignore[arg-type]


def test_neurons() -> None:
    for given in ([3, 1], (3, 1), torch.tensor([3, 1]), iter([3, 1]), range(3, 0, -2)):
        assert unit_indices(given) == [3, 1]
    assert unit_indices(3) == unit_indices(torch.tensor(3)) == [3]
    for wrong in ([1.0], ["1"], [None], [True], 1.5, None, torch.tensor([1.5])):
        with pytest.raises(TypeError, match=r"a neuron is .*expected a whole number"):
            unit_indices(wrong)
    with pytest.raises(TypeError, match="neurons='12'"):
        unit_indices("12")
    for nothing in ([], (), torch.tensor([], dtype=torch.int64)):
        with pytest.raises(ValueError, match="neurons is empty"):
            unit_indices(nothing)


def test_a_head_is_found_beside_the_callers_random_numbers() -> None:
    net = ConvNet()
    state = torch.random.get_rng_state()
    with left_unchanged(net):
        assert head_of(_model(net), None) is net.head
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_output_is_two_classes() -> None:
    for n, expected in {1: 2, 2: 2, 7: 7}.items():
        model = _model(ConvNet(n))
        assert n_classes_of(model, model.model.head) == n_classes_of(model, None) == expected
    check_names(("no", "yes"), 2)
    check_names(None, 2)
    with pytest.raises(ValueError, match=r"class_names are 3 .*expected 2"):
        check_names(("a", "b", "c"), 2)


class Steep(ConvNet):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images * 1.5)


Steep.__name__ = "ConvNet"


def test_a_key_is_of_what_is_computed_not_of_names() -> None:
    def new(kind: type[ConvNet] = ConvNet) -> ConvNet:
        torch.manual_seed(0)
        return kind()

    def key(net: ConvNet, preprocess: Any = None, size: int = SIZE) -> dict[str, object]:
        return model_key(loaded_model(net, preprocess, None, size), net.head)

    assert key(new()) == key(new())
    scale = [lambda x, f=f: x * f for f in (1.0, 1.00001, 1.5)]
    partials = [partial(torch.mul, other=f) for f in (1.0, 1.5)]
    different = [
        key(new()), key(new(Steep)), key(new(), size=12), *(key(new(), f) for f in scale),
        *(key(new(), f) for f in partials), key(new(), nn.AvgPool2d(2)),
    ]  # fmt: skip
    for i, one in enumerate(different):
        assert one not in different[:i]
    net = new()
    with left_unchanged(net):
        key(net)


def test_layers_by_name() -> None:
    net = ConvNet()
    assert layer_name(net, None) is None
    assert layer_name(net, "backbone.0") == layer_name(net, net.backbone[0]) == "backbone.0"
    with pytest.raises(ValueError, match="layer='x' is not in ConvNet"):
        layer_name(net, "x")
    with pytest.raises(ValueError, match="not a submodule"):
        layer_name(net, nn.ReLU())
    with pytest.raises(TypeError, match="layer is int"):
        layer_name(net, 3)  # type: ignore[arg-type]


def test_sizes_of_a_model_that_has_one() -> None:
    from dataclasses import replace

    given = replace(_model(), view=View.of(224, 256), class_names=("a", "b", "c", "d"))
    assert loaded_model(given, None, None, None).resize_size == 256
    found = loaded_model(given, None, None, 112)
    assert (found.image_size, found.resize_size, found.class_names) == (112, 128, tuple("abcd"))
    assert loaded_model(given, None, list("efgh"), None).class_names == tuple("efgh")
