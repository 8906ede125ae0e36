from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pytest

from captum_neuroinspect._core.kinds import check_kinds, fits


class Pair(NamedTuple):
    x: int
    y: float | None


@dataclass
class Inner:
    n: int


@dataclass
class Outer:
    inner: Inner
    names: tuple[str, ...] | None


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, float, True), (1.0, int, False), (True, int, False), (True, bool, True),
        ("a", Literal["a", "b"], True), ("c", Literal["a", "b"], False), (1, Literal[True], False),
        ([], Literal["a"], False), ((1, 2), tuple[int, ...], True), ([1], tuple[int, ...], False),
        ((1, "a"), tuple[int, str], True), ((1,), tuple[int, str], False),
        ((), tuple[int, ...], True), ({1: (2,)}, dict[int, tuple[int, ...]], True),
        ({"1": (2,)}, dict[int, tuple[int, ...]], False), (None, int | None, True),
        (None, int, False), ({}, Any, True), (Inner(1), Inner, True), (Inner("1"), Inner, False),
        (Pair(1, None), Pair, True), (Pair("1", None), Pair, False), ((1, None), Pair, False),
        (Outer(Inner(1), ("a",)), Outer, True), (Outer(Inner(1.5), None), Outer, False),
    ],
)  # fmt: skip
def test_values_and_hints(value: Any, hint: Any, expected: bool) -> None:
    assert fits(value, hint) is expected


def test_the_message_says_what_was_found_and_expected() -> None:
    check_kinds({"inner": Inner(1), "names": None}, Outer)
    with pytest.raises(ValueError, match=r"^`names` is \['a'\], expected tuple\[str, ...\] | None"):
        check_kinds({"names": ["a"]}, Outer)
    with pytest.raises(ValueError, match=r"^`inner` is 3, expected Inner$"):
        check_kinds({"inner": 3}, Outer)
    with pytest.raises(ValueError, match=r"^`other` is unknown$"):
        check_kinds({"other": 3}, Outer)
    with pytest.raises(ValueError, match=r"is 'x{79}\.\.\., expected"):
        check_kinds({"inner": "x" * 1000}, Outer)
