from __future__ import annotations

from typing import Any

import pytest
import torch

from captum_neuroinspect import FeatureSet
from captum_neuroinspect._core.shares import share_with_interval
from captum_neuroinspect.analysis import confusions, worst_classes


def _set(labels: list[int], predictions: list[int], n: int = 4, **more: Any) -> FeatureSet:
    logits = torch.nn.functional.one_hot(torch.tensor(predictions), n).float()
    return FeatureSet(torch.rand(len(labels), 2), logits, torch.tensor(labels), **more)


FEW = _set([0, 0, 0, 1, 1, 3, 3, 3, 3], [0, 1, 1, 1, 0, 3, 0, 1, 0])


def test_the_worst_come_first_and_absent_classes_not_at_all() -> None:
    rows = [(row.index, row.n_samples, row.n_wrong) for row in worst_classes(FEW)]
    assert rows == [(3, 4, 3), (0, 3, 2), (1, 2, 1)]
    assert [row.accuracy for row in worst_classes(FEW)] == pytest.approx([1 / 4, 1 / 3, 1 / 2])
    assert len(worst_classes(FEW, 2)) == 2
    assert len(worst_classes(FEW, None)) == 3


def test_of_equal_classes_that_with_more_mistakes_then_the_earlier() -> None:
    even = _set([0, 0, 1, 1, 1, 1, 2, 2], [0, 1, 1, 1, 0, 0, 2, 0])
    assert [row.index for row in worst_classes(even)] == [1, 0, 2]


def test_confusions_by_number_then_share() -> None:
    rows = [(c.label, c.predicted, c.n_samples) for c in confusions(FEW)]
    assert rows == [(0, 1, 2), (3, 0, 2), (1, 0, 1), (3, 1, 1)]
    assert [c.share for c in confusions(FEW)] == pytest.approx([2 / 3, 1 / 2, 1 / 2, 1 / 4])
    assert {c.label for c in confusions(FEW, target=3)} == {3}
    assert len(confusions(FEW, target=2)) == 0
    assert len(confusions(FEW, 1)) == 1


@pytest.mark.parametrize(("n", "shown"), [(19, "18 of 19 (95 %: 0.75 to 0.99)"), (20, "95.0 %")])
def test_shares_of_few_photos_carry_count_and_interval(n: int, shown: str) -> None:
    """Of a class, and of a class taken for another."""
    data = _set([0] * n, [0] * (n - 1) + [1], 2)
    assert worst_classes(data)[0].cells()[-1] == shown
    other = share_with_interval(1, n)
    assert confusions(data)[0].cells()[-1] == other
    assert ("of" in other) == (n < 20)
    assert other in confusions(data)._repr_html_()


def test_tables_print_slice_and_become_rows() -> None:
    named = _set([0, 1], [0, 0], 2, class_names=("cat", "dog"))
    table = worst_classes(named)
    assert repr(table).splitlines()[1].split(maxsplit=3) == [
        *("dog", "1", "1"),
        "0 of 1 (95 %: 0.00 to 0.79)",
    ]
    assert repr(table[:1]) == "\n".join(repr(table).splitlines()[:2])
    assert table.rows()[0] == {"index": 1, "name": "dog", "n_samples": 1, "n_wrong": 1}
    assert confusions(named).rows()[0]["predicted_name"] == "cat"
    assert repr(confusions(named, target=0)).split() == (
        "photos of taken for number share of class".split()
    )


def test_names_stay_text_in_a_notebook() -> None:
    hostile = _set([0, 1], [1, 0], 2, class_names=("<b onclick='x'>", '"&'))
    for table in (worst_classes(hostile), confusions(hostile)):
        page = table._repr_html_()
        assert "<b" not in page
        assert "&lt;b onclick=&#x27;x&#x27;&gt;" in page
        assert "&quot;&amp;" in page


def test_bad_arguments() -> None:
    many = FeatureSet(torch.rand(2, 2), torch.rand(2, 3), torch.eye(3)[:2])
    for table in (worst_classes, confusions):
        with pytest.raises(ValueError, match="n=0, expected at least 1"):
            table(FEW, 0)  # type: ignore[operator]
        with pytest.raises(ValueError, match="multi-hot"):
            table(many)  # type: ignore[operator]
    with pytest.raises(ValueError, match="target=4 is out of range"):
        confusions(FEW, target=4)
