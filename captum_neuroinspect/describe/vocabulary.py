"""The built-in list of words that a neuron may be described with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect.describe._visible_words import VISIBLE_WORDS


def word_list(n: int = 3000, class_names: Sequence[str] = ()) -> tuple[str, ...]:
    """List the class names and common English words for what is seen in photos.

    About 2,000 words, chosen by reading: no rule on frequency keeps out what cannot be seen,
    or what insults the person on a photo. The same arguments give the same list.

    Args:
        n: how many words, besides the class names; all when there are fewer. The most
            frequent ones when the package ``wordfreq`` is installed (``pip install
            "captum-neuroinspect[describe]"``), else the first of the list.
        class_names: they come first, as they are.

    Returns:
        The phrases, none twice (capital letters do not count).

    Raises:
        TypeError: for a single string or class names that are no strings.
        ValueError: for a negative ``n``.

    Examples::

        >>> len(word_list(3, ["t-shirt", "dress code"]))
        5
    """
    if n < 0:
        raise ValueError(f"n={n}, expected 0 or more words")
    names = check_texts("class_names", class_names) if len(class_names) else []
    return without_repeats([*names, *_common_words(n)])


def without_repeats(phrases: Iterable[str]) -> tuple[str, ...]:
    """The first of all phrases that differ in nothing but capital letters.

    Examples::

        >>> without_repeats(["T-Shirt", "dog", "t-shirt"])
        ('T-Shirt', 'dog')
    """
    folded2phrase: dict[str, str] = {}
    for phrase in phrases:
        folded2phrase.setdefault(phrase.casefold(), phrase)
    return tuple(folded2phrase.values())


def _common_words(n: int) -> list[str]:
    try:
        from wordfreq import word_frequency
    except ImportError:
        return list(VISIBLE_WORDS[:n])
    # Of equally frequent words the first in the alphabet.
    return sorted(VISIBLE_WORDS, key=lambda word: (-word_frequency(word, "en"), word))[:n]
