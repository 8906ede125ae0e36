"""Numbers as other programs give them: large offsets, tiny units, seeds of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum_neuroinspect.describe import (
    DescribeOptions,
    SeenPhotos,
    ablation_effects,
    describe_units,
    find_senses,
    find_units,
)

_N = 60


@pytest.fixture
def unit() -> Tensor:
    return torch.randn(_N, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("scale", "offset"), [(1, 1e9), (1e50, 0), (1e-50, 0), (3, -1e12)])
def test_neither_offset_nor_unit_of_float64_matters(
    unit: Tensor, scale: float, offset: float
) -> None:
    noise = torch.randn(_N, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores, names = torch.cat([noise, unit + 0.3 * noise[:, :1]], 1), ["a", "b", "c", "right"]
    expected = describe_units(unit, scores, names)[0]
    found = describe_units(scale * unit + offset, scale * scores + offset, names)[0]
    assert found.phrases == expected.phrases
    assert found.correlations == pytest.approx(expected.correlations, abs=1e-3)
    assert found.is_certain == expected.is_certain
    by_words = find_units(scale * unit + offset, scale * scores[:, 3] + offset)[0]
    assert by_words.correlation == pytest.approx(
        find_units(unit, scores[:, 3])[0].correlation, abs=1e-3
    )


def test_rounding_of_a_constant_is_no_signal(unit: Tensor) -> None:
    constant = 0.1 + 1e-17 * unit
    constant[::2] += 2e-17
    assert describe_units(constant, unit, ["a"])[0].note == "the same on all photos"


@pytest.mark.parametrize("seed", [-3, 2**40])
def test_any_seed_finds_senses(seed: int) -> None:
    kind = torch.arange(300) % 6
    scores = torch.stack([(kind == 0).float(), (kind == 1).float()], 1)
    unit, names = scores.sum(1, keepdim=True), ["grass", "sky"]
    options = DescribeOptions(top_share=0.3, seed=seed)
    found = describe_units(unit, scores, names, options=options)
    senses = find_senses(found, unit, scores, names, options=options)[0].senses
    assert {sense.phrases[0] for sense in senses} == {"grass", "sky"}


def test_a_seed_that_no_generator_takes_is_refused(unit: Tensor) -> None:
    with pytest.raises(ValueError, match=r"seed=.*64 bits"):
        DescribeOptions(seed=2**70)
    with pytest.raises(TypeError, match=r"seed=1\.5, expected a whole number"):
        find_units(unit, unit[:, 0], seed=1.5)  # type: ignore[arg-type]


def test_senses_of_something_else_are_refused(unit: Tensor) -> None:
    found = describe_units(unit, unit, ["a"])
    with pytest.raises(TypeError, match="descriptions is list, expected Descriptions"):
        find_senses(list(found), unit, unit, ["a"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="options is dict, expected DescribeOptions"):
        find_senses(found, unit, unit, ["a"], options={})  # type: ignore[arg-type]


def test_complex_scores_are_no_numbers_to_order_by(unit: Tensor) -> None:
    with pytest.raises(TypeError, match="complex64, expected real numbers"):
        find_units(unit, unit[:, 0].to(torch.complex64))


def test_a_head_that_says_nothing_is_no_head_without_effects() -> None:
    features = torch.rand(5, 4)
    broken = nn.Linear(4, 3)
    broken.weight.data[1, 2] = torch.nan
    with pytest.raises(ValueError, match="the head has NaN or infinite weights"):
        ablation_effects(broken, features)
    with pytest.raises(ValueError, match=r"one output.*link='sigmoid'"):
        ablation_effects(nn.Linear(4, 1), features)
    large = nn.Linear(4, 3)
    large.weight.data.mul_(100)
    with pytest.raises(ValueError, match="logits overflow"):
        ablation_effects(large, features * 3e38)


def test_parts_of_photos_are_joined_only_where_one_encoder_looked() -> None:
    attributes = SeenPhotos.of(torch.rand(2, 3, 4, 4)).attributes
    with pytest.raises(ValueError, match="different encoders or some by none"):
        SeenPhotos.joined([SeenPhotos(attributes), SeenPhotos(attributes, torch.rand(2, 5))])
    with pytest.raises(ValueError, match="parts is empty"):
        SeenPhotos.joined([])
