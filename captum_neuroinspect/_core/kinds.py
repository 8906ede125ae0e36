"""Whether a value from a file is of the kind that its type hint says."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_N_SHOWN = 80  # letters of a value in a message


def check_kinds(values: Mapping[str, Any], kind: type) -> None:
    """Refuse values that do not fit the hints of a dataclass's fields of these names.

    Raises:
        ValueError: names the first that does not fit.

    Examples::

        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     x: float
        ...     names: tuple[str, ...]
        >>> check_kinds({"x": 1, "names": ("a",)}, Point)
        >>> check_kinds({"x": True}, Point)
        Traceback (most recent call last):
        ValueError: `x` is True, expected float
    """
    hints = hints_of(kind)
    for name, value in values.items():
        if name not in hints:
            raise ValueError(f"`{name}` is unknown")
        if not fits(value, hints[name]):
            shown = repr(value)
            shown = shown if len(shown) <= _N_SHOWN else shown[:_N_SHOWN] + "..."
            expected = getattr(hints[name], "__name__", None)
            if get_args(hints[name]) or expected is None:
                expected = str(hints[name]).replace("typing.", "")
            raise ValueError(f"`{name}` is {shown}, expected {expected}")


@cache
def hints_of(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a kind; a whole number is a float too, a bool is no number."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in arguments)
    if origin is tuple:
        return _fits_tuple(value, arguments)
    if origin in (dict, Mapping):
        key, item = arguments
        return isinstance(value, dict) and all(
            fits(k, key) and fits(v, item) for k, v in value.items()
        )
    return _fits_plain(value, hint)


def _fits_tuple(value: Any, arguments: tuple[Any, ...]) -> bool:
    if not isinstance(value, tuple):
        return False
    if arguments[-1] is ...:
        return all(fits(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(map(fits, value, arguments))


def _fits_plain(value: Any, hint: Any) -> bool:
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if not isinstance(value, hint):
        return False
    kind: Any = type(value)
    if isinstance(value, tuple):  # one with named fields; others have arguments
        hints = get_type_hints(kind)
        return all(fits(item, hints[name]) for name, item in zip(kind._fields, value, strict=True))
    if not is_dataclass(value):
        return True
    return all(fits(getattr(value, name), one) for name, one in hints_of(kind).items())
