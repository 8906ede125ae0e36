from __future__ import annotations

import pytest
import torch

from captum_neuroinspect import FeatureSet
from captum_neuroinspect._core.same_samples import row_names
from captum_neuroinspect._core.splitting import dealt

SHARES = {"a": 0.25, "b": 0.25, "c": 0.5}


@pytest.mark.parametrize("seed", range(4))
def test_every_sample_is_dealt_once_and_each_part_has_its_share_of_everything(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (300,), generator=rng)
    kinds = (torch.rand(300, generator=rng) < 0.3).long()
    parts = dealt(labels, kinds, torch.arange(300), SHARES, seed)
    assert torch.equal(torch.stack(list(parts.values())).sum(0), torch.ones(300, dtype=torch.int64))
    for rows in (
        torch.ones(300, dtype=torch.bool),
        kinds == 1,
        *(labels == c for c in range(5)),
        *((labels == c) & (kinds == k) for c in range(5) for k in range(2)),
    ):
        for name, share in SHARES.items():
            assert abs(int((parts[name] & rows).sum()) - share * int(rows.sum())) <= 2


def test_single_mistakes_of_many_classes_are_shared_too() -> None:
    """A class has one mistake; rounding each by itself would give all of them to one part."""
    labels = torch.arange(100).repeat_interleave(4)
    kinds = (torch.arange(400) % 4 == 0).long()
    parts = dealt(labels, kinds, torch.arange(400), SHARES, 0)
    assert [int(kinds[mask].sum()) for mask in parts.values()] == [25, 25, 50]


def test_units_stay_together_also_across_classes() -> None:
    labels, units = torch.arange(120) % 3, torch.arange(120) // 4
    parts = dealt(labels, labels * 0, units, SHARES, 1)
    for mask in parts.values():
        for unit in units[mask].unique():
            assert mask[units == unit].all()


def test_the_seed_deals() -> None:
    labels = torch.arange(60) % 3
    one, again, other = (
        dealt(labels, labels * 0, torch.arange(60), SHARES, seed)["a"] for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_rows_have_one_name_if_they_are_the_same_numbers() -> None:
    z = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    names = row_names(z)
    assert [names[0] == name for name in names] == [True, True, True, False]
    with_labels = row_names(z, torch.tensor([0, 0, 1, 0]))
    assert [with_labels[0] == name for name in with_labels] == [True, True, False, False]
    assert row_names(z[:0]) == []


def test_without_takes_out_what_others_have() -> None:
    z = torch.rand(12, 3)
    data = FeatureSet(z, z, torch.arange(12) % 3)
    some, more = data.subset(torch.tensor([1, 2])), data.subset(torch.tensor([2, 7]))
    assert data.without(some, more).indices.tolist() == [0, 3, 4, 5, 6, 8, 9, 10, 11]
    assert len(data.without(data)) == 0
    assert data.without().indices.tolist() == list(range(12))
