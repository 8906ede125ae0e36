"""Large sets: what is worked out once, or in blocks, is what it would be all at once."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect._core.blocks import all_finite, blocks, by_blocks
from captum_neuroinspect._core.splitting import first_part
from captum_neuroinspect.analysis.class_errors import confusions, worst_classes
from captum_neuroinspect.analysis.core_relevance import class_representatives
from captum_neuroinspect.edit.evaluation import calibration_error


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_neuroinspect._core.blocks._N_NUMBERS", 12)
    monkeypatch.setattr("captum_neuroinspect._core.decisions._N_COLUMNS", 2)


@pytest.fixture
def n_decided(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples were decided, call by call."""
    from captum_neuroinspect._core import feature_set as _feature_set

    calls: list[int] = []
    decide = _feature_set.decide

    def counted(logits: Tensor, *, multi_hot: bool) -> Tensor:
        calls.append(len(logits))
        return decide(logits, multi_hot=multi_hot)

    monkeypatch.setattr(_feature_set, "decide", counted)
    return calls


def _data(n: int = 60, n_classes: int = 7, *, multi_hot: bool = False) -> FeatureSet:
    rng = torch.Generator().manual_seed(n_classes)
    logits = torch.randn(n, n_classes, generator=rng)
    labels = torch.randint(0, n_classes - 1, (n,), generator=rng)  # the last class has none
    labels[::2] = logits[::2].argmax(1)
    if multi_hot:
        labels = (torch.rand(n, n_classes, generator=rng) < 0.4).long()
    return FeatureSet(torch.randn(n, 5, generator=rng), logits, labels)


# --- blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (7, 3), (9, 40), (3, 0), (25,)])
def test_blocks_are_all_rows_in_order(shape: tuple[int, ...], tiny_blocks: None) -> None:
    rows = torch.randn(shape)
    parts = list(blocks(rows))
    assert torch.equal(torch.cat(parts), rows)
    assert all(len(part) == 1 or part.numel() <= 12 for part in parts[:-1])
    doubled = by_blocks(lambda a, b: a + b, rows, rows)
    assert torch.equal(doubled, 2 * rows)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_value_anywhere_is_found(bad: float, tiny_blocks: None) -> None:
    for place in (0, 40, 99):
        values = torch.zeros(25, 4)
        assert all_finite(values)
        values.view(-1)[place] = bad
        assert not all_finite(values)
        with pytest.raises(ValueError, match="logits have NaN or infinite values"):
            FeatureSet(torch.zeros(25, 1), values, torch.zeros(25, dtype=torch.int64))


@pytest.mark.parametrize("multi_hot", [False, True])
def test_measures_in_blocks_are_those_at_once(
    multi_hot: bool, request: pytest.FixtureRequest
) -> None:
    data = _data(multi_hot=multi_hot)
    at_once = data.class_accuracy(), torch.tensor(calibration_error(data))
    request.getfixturevalue("tiny_blocks")
    in_blocks = data.class_accuracy(), torch.tensor(calibration_error(data))
    for one, other in zip(at_once, in_blocks, strict=True):
        assert torch.equal(one.nan_to_num(9), other.nan_to_num(9))


# --- decisions ------------------------------------------------------------------------


def test_a_set_decides_once_and_its_parts_not_at_all(n_decided: list[int]) -> None:
    data = _data()
    worst_classes(data)
    confusions(data)
    class_representatives(data)
    wrong = data.mistakes()
    assert torch.equal(wrong.predictions, wrong.logits.argmax(1))
    assert len(wrong.mistakes()) == len(wrong)
    assert n_decided == [60]


def test_a_change_in_place_is_decided_again() -> None:
    data = _data()
    data.predictions.zero_()  # a copy: the set's own stay
    assert torch.equal(data.predictions, data.logits.argmax(1))
    data.logits[:, 3] += 99
    assert data.predictions.tolist() == [3] * len(data)
    for copied in (copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert copied.predictions.tolist() == [3] * len(data)
    data.logits[:, 4] += 999
    assert copy.deepcopy(data).predictions.tolist() == [4] * len(data)
    other = data.with_head(nn.Linear(5, 7).requires_grad_(False))
    assert torch.equal(other.predictions, other.logits.argmax(1))


def test_is_mistake_says_which_samples_mistakes_gives() -> None:
    for data in (_data(), _data(multi_hot=True)):
        for target, predicted in ((None, None), (2, None), (None, 1), (2, 1)):
            rows = data.is_mistake(target, predicted)
            assert data.indices[rows].tolist() == data.mistakes(target, predicted).indices.tolist()
    with pytest.raises(ValueError, match="predicted=7 is out of range"):
        data.is_mistake(predicted=7)


# --- many classes ---------------------------------------------------------------------


def test_a_hundred_thousand_classes_need_no_table_of_their_pairs() -> None:
    """It would have ten thousand million entries."""
    n = 100_000
    logits = torch.zeros(3, n)
    logits[[0, 1, 2], [5, 5, 99_999]] = 1
    data = FeatureSet(torch.eye(3), logits, torch.tensor([5, 7, 7]))
    rows = [(row.index, row.n_samples, row.n_wrong) for row in worst_classes(data)]
    assert rows == [(7, 2, 2), (5, 1, 0)]
    pairs = [(c.label, c.predicted, c.n_samples, c.n_of_class) for c in confusions(data)]
    assert pairs == [(7, 5, 1, 2), (7, 99_999, 1, 2)]
    means = class_representatives(data)
    assert means[5].tolist() == [1, 0, 0]
    assert int(means.isnan().all(1).sum()) == n - 1


def test_confusion_is_the_plain_table() -> None:
    data = _data()
    plain = torch.zeros(7, 7, dtype=torch.int64)
    for label, predicted in zip(data.labels, data.logits.argmax(1), strict=True):
        plain[label, predicted] += 1
    table = data.confusion()
    assert table.toarray().tolist() == plain.tolist()
    assert table.nnz == int((plain > 0).sum())


@pytest.mark.parametrize("multi_hot", [False, True])
def test_representatives_are_the_plain_means_bit_by_bit(multi_hot: bool) -> None:
    data = _data(multi_hot=multi_hot)
    if multi_hot:
        found = (data.logits > 0) & (data.labels == 1)
    else:
        right = data.logits.argmax(1) == data.labels
        found = right[:, None] & (data.labels[:, None] == torch.arange(7))
    plain = torch.stack([data.features[found[:, c]].mean(0) for c in range(7)])
    assert torch.equal(class_representatives(data).nan_to_num(9), plain.nan_to_num(9))


def _split_class_by_class(labels: Tensor, units: Tensor, fraction: float, seed: int) -> Tensor:
    """The rule written out over all samples: the time is classes times samples."""
    generator = torch.Generator().manual_seed(seed)
    first, placed = torch.zeros(2, len(labels), dtype=torch.bool)
    for label in labels.unique():
        of_class = labels == label
        n_first = len(units[of_class & first].unique())
        n_missing = round(fraction * len(units[of_class].unique())) - n_first
        free = units[of_class & ~placed].unique()
        free = free[torch.randperm(len(free), generator=generator)]
        first |= torch.isin(units, free[: max(n_missing, 0)])
        placed |= torch.isin(units, free)
    return first


UNITS: dict[str, Callable[[Tensor], Tensor]] = {
    "each by itself": lambda rows: rows,
    "some together": lambda rows: 1000 - rows // 3,
    "across classes": lambda rows: (rows * 7) % 11,
    "all together": lambda rows: rows * 0,
}


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.77])
def test_a_split_is_that_of_the_plain_rule(
    units: Callable[[Tensor], Tensor], fraction: float
) -> None:
    for seed in range(3):
        labels = torch.randint(0, 9, (80,), generator=torch.Generator().manual_seed(seed))
        together = units(torch.arange(80))
        plain = _split_class_by_class(labels, together, fraction, seed)
        assert torch.equal(first_part(labels, together, fraction, seed), plain)
