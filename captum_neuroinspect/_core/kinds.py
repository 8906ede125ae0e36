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


def as_plain(value: Any) -> Any:
    """A value as JSON knows it: dataclasses and tuples with named fields by their fields.

    Dictionaries by other keys than texts become pairs. :func:`from_plain` takes it back.

    Examples::

        >>> as_plain({1: (2, 3)})
        [[1, [2, 3]]]
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: as_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", ())):
        return dict(zip(names, map(as_plain, value), strict=True))
    if isinstance(value, dict):
        pairs = [[key, as_plain(item)] for key, item in value.items()]
        return dict(pairs) if all(isinstance(key, str) for key in value) else pairs
    return [as_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_plain(value: Any, hint: Any) -> Any:
    """What :func:`as_plain` made plain, of the kind that a hint says.

    What does not fit is returned as it is, for :func:`check_kinds` to refuse.

    Raises:
        TypeError: when a dataclass lacks a field, or has another.
        ValueError: as the dataclass.

    Examples::

        >>> from_plain([[1, [2, 3]]], dict[int, tuple[int, ...]])
        {1: (2, 3)}
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        made = (from_plain(value, one) for one in arguments if _may_be(value, one))
        return next((one for one in made if fits(one, hint)), value)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(map(from_plain, value, kinds)) if len(kinds) == len(value) else value
    if origin is dict and isinstance(value, list):
        return {from_plain(k, arguments[0]): from_plain(v, arguments[1]) for k, v in value}
    if isinstance(value, dict) and origin is None and isinstance(hint, type) and _is_record(hint):
        hints = hints_of(hint) if is_dataclass(hint) else get_type_hints(hint)
        return hint(**{k: from_plain(v, hints[k]) if k in hints else v for k, v in value.items()})
    return value


def _is_record(hint: type) -> bool:
    return is_dataclass(hint) or hasattr(hint, "_fields")


def _may_be(value: Any, hint: Any) -> bool:
    """Whether a dataclass is tried: only on fields, so that its own errors are raised."""
    return isinstance(value, dict) or not (isinstance(hint, type) and _is_record(hint))
