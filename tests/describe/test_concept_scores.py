from __future__ import annotations

import pytest
import torch
from colour_encoder import WORDS, ColourEncoder, plain

from captum_neuroinspect.describe import ConceptScores, label_scores, phrase_scores


def test_phrase_scores_are_the_cosines_of_photos_and_phrases() -> None:
    images = [plain(1.0, 0.0, 0.0), plain(0.0, 0.5, 0.5, height=9), plain(0.2, 0.2, 0.2)]
    found = phrase_scores(iter(images), ColourEncoder(), phrases=list(WORDS), batch_size=2)
    half, third = 0.5**0.5, 3**-0.5
    expected = [
        [1, 0, 0, third],
        [0, half, half, 2 * half * third],
        [third, third, third, 1],
    ]
    torch.testing.assert_close(found.scores, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert found.phrases == tuple(WORDS)
    assert found.source == "encoder"


def test_class_names_come_first_and_the_built_in_words_are_the_default() -> None:
    found = phrase_scores(
        [plain(1.0, 0.0, 0.0)], ColourEncoder(), phrases=["red"], class_names=["Blue"]
    )
    assert found.phrases == ("Blue", "red")
    assert len(phrase_scores([plain(1.0, 0.0, 0.0)], ColourEncoder()).phrases) > 1000


def test_labels_are_concepts() -> None:
    one_each = label_scores(torch.tensor([2, 0]), ["a", "b", "c"])
    assert one_each.scores.tolist() == [[0, 0, 1], [1, 0, 0]]
    many = label_scores(torch.tensor([[1, 1], [0, 1]]), ["striped", "red"], source="attribute")
    assert many.of("striped").tolist() == [1, 0]


def test_scores_are_joined_for_the_same_photos() -> None:
    one = ConceptScores(torch.ones(2, 1), ("a",))
    both = one.joined(ConceptScores(torch.zeros(2, 2), ("b", "a"), "label"))
    assert both.scores.tolist() == [[1, 0, 0]] * 2
    assert both.phrases == ("a", "b", "a (label)")


def test_bad_input_is_told() -> None:
    one = ConceptScores(torch.ones(2, 1), ("a",))
    with pytest.raises(ValueError, match="scores of 2 and of 3 photos"):
        one.joined(ConceptScores(torch.zeros(3, 1), ("b",)))
    with pytest.raises(KeyError, match="phrase='b' is not among the 1 phrases"):
        one.of("b")
    with pytest.raises(ValueError, match=r"scores has shape \(2, 1\), expected \(N, 2\)"):
        ConceptScores(torch.ones(2, 1), ("a", "b"))
    with pytest.raises(ValueError, match="phrases has 'a' twice"):
        ConceptScores(torch.ones(2, 2), ("a", "a"))
    with pytest.raises(ValueError, match=r"labels are in 0\.\.2, expected 0\.\.1 for 2 names"):
        label_scores(torch.tensor([0, 2]), ["a", "b"])
    with pytest.raises(ValueError, match="images has no photos"):
        phrase_scores([], ColourEncoder(), phrases=["a"])
    with pytest.raises(ValueError, match=r"values in 0..255, expected 0..1"):
        phrase_scores([255 * plain(1.0, 0.0, 0.0)], ColourEncoder(), phrases=["a"])
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        phrase_scores([plain(1.0, 0.0, 0.0)], ColourEncoder(), phrases=["a"], batch_size=0)
    with pytest.raises(TypeError, match="scores is a list"):
        ConceptScores([[1.0]], ("a",))
    with pytest.raises(TypeError, match="phrases='ab' is one string"):
        ConceptScores(torch.ones(2, 2), "ab")
    with pytest.raises(TypeError, match="labels is a list"):
        label_scores([0, 1], ["a", "b"])
    with pytest.raises(TypeError, match=r"labels holds torch\.float32, expected whole numbers"):
        label_scores(torch.tensor([0.5, 1.7]), ["a", "b"])
