"""Which models a user's function reaches."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from captum_neuroinspect.attr._models_in import models_in

NAMED = nn.Linear(1, 1)


def _by_name(x: Any) -> Any:
    return NAMED(x)


def _by_a_name_inside(x: Any) -> Any:
    return [NAMED(one) for one in x]


class Around:
    def __init__(self, *models: nn.Module) -> None:
        self.models, self.itself = {"all": list(models)}, self

    def __call__(self, x: Any) -> Any:
        return x

    def method(self, x: Any) -> Any:
        return x


def test_models_in_what_a_function_closes_over_names_or_is_bound_to() -> None:
    one, other = nn.Linear(1, 1), nn.Linear(1, 1)

    def inner(x: Any) -> Any:
        return one(x)

    ways: list[Any] = [
        one,
        one.forward,
        lambda x: one(x),
        lambda x: inner(x),
        torch.no_grad()(inner),
        functools.partial(inner),
        functools.partial(lambda model, x: model(x), one),
        functools.partial(lambda x, model: model(x), model=one),
        Around(one),
        Around(one).method,
        lambda x, around=(one,): [m(x) for m in around],
    ]
    for way in ways:
        assert models_in(way) == [one], way
    assert models_in(_by_name) == models_in(_by_a_name_inside) == [NAMED]
    assert models_in(lambda x: _by_name(x)) == [NAMED]
    assert set(models_in(Around(one, other))) == {one, other}


def test_models_in_nothing() -> None:
    def unbound(x: Any) -> Any:
        return later(x)

    assert models_in(torch.relu) == models_in(unbound) == models_in(len) == []
    later = nn.Linear(1, 1)
    assert models_in(unbound) == [later]
