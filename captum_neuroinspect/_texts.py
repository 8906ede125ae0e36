"""What every stage checks of the texts that a user gives."""

from __future__ import annotations

from collections.abc import Sequence


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
