from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import feature_set, linear

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.analysis import compare_photos
from captum_neuroinspect.edit import compare_heads

OLD, NEW = linear(torch.eye(3)), linear([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 1.0]])
# Row by row: right and stays, corrected, broken, wrong in another way, wrong and stays.
FEATURES = torch.tensor([[9.0, 1, 1], [2, 1, 0], [2, 1, 0], [2, 1, 0], [9, 1, 1]])
LABELS = [0, 1, 0, 2, 1]


def _data() -> FeatureSet:
    return feature_set(OLD, FEATURES, LABELS)


def test_counts_by_hand() -> None:
    data = _data()
    found = compare_photos(compare_heads(OLD, NEW, data, {1: [1]}), data)
    assert found.rows("corrected").tolist() == [1]
    assert found.rows("broken").tolist() == [2]
    assert found.rows("still wrong").tolist() == [3]
    assert found.rows().tolist() == [1, 2, 3]
    assert found.edit.before.accuracy == pytest.approx(2 / 5)
    assert found.edit.after.accuracy == pytest.approx(2 / 5)
    assert "1 corrected, 1 broken" in str(found)
    assert "5 samples" in repr(found)


def test_it_judges_other_data_than_the_edit_was_chosen_by() -> None:
    edit = compare_heads(OLD, NEW, _data(), {1: [1]})
    other = feature_set(OLD, FEATURES[1:2], [1])
    found = compare_photos(edit, other)
    assert (found.edit.before.accuracy, found.edit.after.accuracy) == (0.0, 1.0)
    assert edit.before.accuracy == pytest.approx(2 / 5)  # the edit itself stays as it was
    assert found.edit.head is edit.head
    # Also when the features were judged by something else before.
    stale = compare_photos(edit, other.with_head(NEW))
    assert torch.equal(stale.before.predictions, found.before.predictions)


def test_names_stay_text_in_a_notebook() -> None:
    data = replace(_data(), class_names=("<u>a</u>", "b", "c"))
    page = compare_photos(compare_heads(OLD, NEW, data, {0: [1]}), data)._repr_html_()
    assert "<u>" not in page
    assert "&lt;u&gt;" in page
    assert "1 corrected, 1 broken" in page


def test_bad_arguments() -> None:
    data = _data()
    edit = compare_heads(OLD, NEW, data, {1: [1]})
    with pytest.raises(ValueError, match="outcome='better', expected one of 'corrected', 'broken'"):
        compare_photos(edit, data).rows("better")  # type: ignore[arg-type]
    many = FeatureSet(FEATURES, FEATURES, torch.eye(3)[torch.tensor(LABELS)])
    with pytest.raises(ValueError, match="features have multi-hot labels"):
        compare_photos(edit, many)
    with pytest.raises(ValueError, match="features"):
        compare_photos(edit, FeatureSet(torch.rand(2, 5), torch.rand(2, 3), torch.tensor([0, 1])))


def test_results_are_those_that_the_edit_evaluates() -> None:
    data = _data()
    edit = compare_heads(OLD, NEW, data, {1: [1], 2: [0, 2]})
    found = compare_photos(edit, data).edit
    assert (found.before, found.after) == edit.evaluate(data)
