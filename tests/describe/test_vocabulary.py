from __future__ import annotations

import sys

import pytest

from captum_neuroinspect.describe import word_list
from captum_neuroinspect.describe._visible_words import _WORDS, VISIBLE_WORDS


@pytest.fixture
def wordfreq():
    return pytest.importorskip("wordfreq")


@pytest.fixture
def _without_wordfreq(monkeypatch):
    monkeypatch.setitem(sys.modules, "wordfreq", None)


def test_words_come_by_falling_frequency(wordfreq):
    words = word_list()
    frequencies = [wordfreq.word_frequency(word, "en") for word in words]
    assert frequencies == sorted(frequencies, reverse=True)
    assert set(words) == set(VISIBLE_WORDS)
    assert word_list(10) == words[:10]
    assert word_list(0) == ()


def test_wordfreq_knows_every_word(wordfreq):
    assert [word for word in VISIBLE_WORDS if not wordfreq.word_frequency(word, "en")] == []


@pytest.mark.usefixtures("wordfreq")
def test_class_names_come_first_and_nothing_twice():
    words = word_list(50, ["T-Shirt", "Water", "t-shirt", "no such word"])
    assert words[:3] == ("T-Shirt", "Water", "no such word")
    assert "water" not in words
    assert len(words) == 52
    assert len({word.casefold() for word in words}) == len(words)


@pytest.mark.usefixtures("wordfreq")
def test_every_call_gives_the_same_words():
    assert word_list(500) == word_list(500)


def test_words_are_written_plainly_and_once():
    words = _WORDS.split()
    assert all(word.isascii() and word.isalpha() and word.islower() for word in words)
    assert min(map(len, words)) >= 3
    assert len(words) == len(VISIBLE_WORDS)


def test_words_name_what_can_be_seen_and_insult_nobody():
    for word in ("grass", "striped", "brick", "sleeve", "dog", "red", "firefighter"):
        assert word in VISIBLE_WORDS
    for word in ("the", "idea", "said", "idiot", "terrorist", "ugly", "slave", "picture"):
        assert word not in VISIBLE_WORDS


@pytest.mark.usefixtures("_without_wordfreq")
def test_without_wordfreq_the_same_words_come_in_the_order_of_the_list():
    assert word_list(2, ["Tabby"]) == ("Tabby", *VISIBLE_WORDS[:2])
    assert set(word_list()) == set(VISIBLE_WORDS)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((-1,), ValueError, "n=-1, expected 0 or more"),
        ((3, "dress"), TypeError, "class_names='dress' is one string"),
        ((3, [1]), TypeError, "class_names holds 1"),
    ],
)
def test_refuses_bad_arguments(arguments, error, match):
    with pytest.raises(error, match=match):
        word_list(*arguments)
