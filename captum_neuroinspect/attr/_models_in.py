"""The models that a user's function runs, so that they can be held while it does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor, nn


def models_in(function: Callable[..., Any]) -> list[nn.Module]:
    """The models that a function around them reaches: what it closes over, names or is bound to.

    Examples::

        >>> model = nn.Linear(2, 2)
        >>> models_in(lambda x: model(x)) == [model]
        True
    """
    found: dict[int, nn.Module] = {}
    seen, ahead = set[int](), [function]
    while ahead:
        value = ahead.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module):
            found[id(value)] = value
        else:
            ahead += _reached_from(value)
    return list(found.values())


def _reached_from(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _is_filled(c)]
        named = [value.__globals__.get(name) for name in _names_in(value)]
        given = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        return (
            cells
            + given
            + [v for v in named if isinstance(v, (nn.Module, FunctionType, MethodType))]
        )
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, dict):
        return list(value.values())
    is_plain = inspect.isclass(value) or inspect.ismodule(value) or isinstance(value, Tensor)
    return [] if is_plain else list(getattr(value, "__dict__", {}).values())


def _names_in(function: FunctionType) -> set[str]:
    """Names that a function and those that are written inside it read."""
    names, ahead = set[str](), [function.__code__]
    while ahead:
        code = ahead.pop()
        names.update(code.co_names)
        ahead += [constant for constant in code.co_consts if inspect.iscode(constant)]
    return names


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
