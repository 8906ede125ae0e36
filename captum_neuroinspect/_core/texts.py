"""What every stage does with texts that come from outside."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# Controls, halves of characters, ends of lines and paragraphs.
_NEVER_SHOWN = ("Cc", "Cs", "Zl", "Zp")
# Of the invisible format characters (Cf), which turn the direction of writing round or hide text,
# these two are part of how Persian, Hindi and emoji are written.
_JOINERS = "\u200c\u200d"


def check_texts(name: str, texts: Sequence[str]) -> list[str]:
    """Return ``texts`` as a list, refusing what a text encoder would misread.

    Args:
        name: the argument's name, for the message.
        texts: one string or more.

    Raises:
        TypeError: for a single string (it would be read letter by letter) or
            an item that is not a string.
        ValueError: for no texts at all.

    Example:
        >>> check_texts("class_names", ("cat", "dog"))
        ['cat', 'dog']
    """
    if isinstance(texts, str):
        raise TypeError(f"{name}={texts!r} is one string, expected a list of strings")
    items = list(texts)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} holds {item!r} ({type(item).__name__}), expected only strings")
    if not items:
        raise ValueError(f"{name} is empty, expected at least one string")
    return items


def shown(text: object, *, lines: bool = False) -> str:
    r"""A text as it may reach a terminal or a page: what would steer one is escaped.

    A folder's name may clear the screen, set the window's title, forge a line, or turn the
    direction of writing round.

    Args:
        text: anything; its ``str``.
        lines: leave ends of lines and tabs as they are, for what consists of many.

    Examples::

        >>> shown("cat\x1b[2J\nError: no"), shown("\u202egpj.exe"), shown("Füße 猫")
        ('cat\\x1b[2J\\nError: no', '\\u202egpj.exe', 'Füße 猫')
        >>> shown("a\n\tb\x07", lines=True)
        'a\n\tb\\x07'
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        letter if _is_harmless(letter) or (lines and letter in "\n\t") else _escaped(letter)
        for letter in plain
    )


def _is_harmless(letter: str) -> bool:
    category = unicodedata.category(letter)
    return category not in _NEVER_SHOWN and (category != "Cf" or letter in _JOINERS)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii")
