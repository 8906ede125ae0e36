from __future__ import annotations

import math

import pytest
import torch
from helpers import left_unchanged, linear
from torch import Tensor, nn

from captum_neuroinspect import probability_ratio
from captum_neuroinspect.describe import (
    AblationEffects,
    Descriptions,
    UnitDescription,
    ablation_effects,
)
from captum_neuroinspect.describe import ablation as module


@pytest.fixture
def head() -> nn.Linear:
    rng = torch.Generator().manual_seed(0)
    return linear(torch.randn(5, 7, generator=rng), torch.randn(5, generator=rng))


@pytest.fixture
def features() -> Tensor:
    return torch.rand(30, 7, generator=torch.Generator().manual_seed(1))


def whole_result(effects: AblationEffects) -> dict[tuple[int, str], tuple[float, float]]:
    return {
        (e.unit, one.class_name): (one.change, one.ratio)
        for e in effects
        for one in (*e.losing, *e.gaining)
    }


def test_the_changes_are_those_of_the_formula(head: nn.Linear, features: Tensor) -> None:
    with left_unchanged(head):
        found = whole_result(ablation_effects(head, features, n_classes=5))
    weight, bias = head.weight.detach().double(), head.bias.detach().double()
    z = features.double()
    whole = (z @ weight.T + bias).softmax(1)
    assert len(found) == 35  # every class loses or gains
    for unit in range(7):
        masked = z.clone()
        masked[:, unit] = 0
        without = (masked @ weight.T + bias).softmax(1)
        for c in range(5):
            change, ratio = found[unit, f"class {c}"]
            assert change == pytest.approx(float((without - whole)[:, c].mean()), abs=1e-6)
            expected = float((whole / without)[:, c].log().mean().exp())
            assert ratio == pytest.approx(expected, rel=1e-5)


def test_the_ratio_is_the_papers(head: nn.Linear, features: Tensor) -> None:
    effect = ablation_effects(head, features, 3, n_classes=5).of(3)
    one = effect.losing[0]
    ratios = probability_ratio(head, features, 3, one.class_index)
    assert one.ratio == pytest.approx(float(ratios.log().mean().exp()), rel=1e-5)
    assert one.ratio > 1


def test_losses_and_gains_are_sorted_and_told_apart(head: nn.Linear, features: Tensor) -> None:
    for effect in ablation_effects(head, features, [6, 2], n_classes=2):
        losses, gains = ([one.change for one in part] for part in (effect.losing, effect.gaining))
        assert losses == sorted(losses)
        assert gains == sorted(gains, reverse=True)
        assert all(value < 0 for value in losses)
        assert all(value > 0 for value in gains)
        assert len(losses) <= 2
        assert len(gains) <= 2


def test_a_unit_that_is_silent_or_moves_all_classes_alike_moves_none(features: Tensor) -> None:
    head = linear(torch.tensor([[3.0, 1.0], [3.0, 2.0]]))
    z = features[:, :2].clone()
    z[:, 1] = 0
    for effect in ablation_effects(head, z):
        assert effect.losing == effect.gaining == ()


def test_sigmoid_heads_and_single_outputs(features: Tensor) -> None:
    single = linear(torch.ones(1, 7))
    effect = ablation_effects(single, features, 0, class_names=["no", "yes"], link="sigmoid")[0]
    assert [one.class_name for one in effect.losing] == ["yes"]
    assert effect.losing[0].change == pytest.approx(-effect.gaining[0].change, rel=1e-4)


def test_parts_of_units_and_photos_give_the_same(
    head: nn.Linear, features: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole_result(ablation_effects(head, features, n_classes=5))
    monkeypatch.setattr(module, "_MOST_SUMS", 11)
    monkeypatch.setattr(module, "_MOST_LOGITS", 20)
    found = whole_result(ablation_effects(head, features, n_classes=5))
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-4, abs=1e-7)


def test_effects_stand_beside_descriptions(head: nn.Linear, features: Tensor) -> None:
    effects = ablation_effects(head, features, [1, 4])
    described = effects.beside(Descriptions([UnitDescription(4), UnitDescription(2)]))
    assert described.of(4).ablation == effects.of(4)
    assert described.of(2).ablation is None
    with pytest.raises(KeyError, match=r"unit=3 was not zeroed, expected one of \[1, 4\]"):
        effects.of(3)
    row = effects.rows()[0]
    assert (row["unit"], row["effect"], row["rank"], row["n_photos"]) == (1, "loses", 1, 30)


def test_hostile_names_are_shown_safely(features: Tensor) -> None:
    head = linear(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    effects = ablation_effects(head, features[:, :2], class_names=["<script>\x1b[2J", "b"])
    assert "\x1b" not in str(effects)
    assert "<script>" not in effects._repr_html_()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": [[1.0]]}, TypeError, "features is a list, expected a tensor"),
        ({"features": torch.rand(3, 6)}, ValueError, r"shape \(3, 6\), expected \(N, 7\)"),
        ({"features": torch.rand(0, 7)}, ValueError, r"expected \(N, 7\), N >= 1"),
        ({"features": torch.full((3, 7), math.nan)}, ValueError, "features has NaN"),
        ({"units": [7]}, ValueError, "unit=7 is out of range"),
        ({"units": [1, 1]}, ValueError, r"units=\[1, 1\], expected at least one, and each once"),
        ({"units": []}, ValueError, "expected at least one"),
        ({"units": [0.5]}, TypeError, "expected whole numbers"),
        ({"class_names": ["a"]}, ValueError, "class_names has 1 names, expected 5"),
        ({"n_classes": 0}, ValueError, "n_classes=0, expected at least 1"),
        ({"link": "tanh"}, ValueError, "link='tanh', expected one of"),
        ({"head": nn.ReLU()}, TypeError, "ReLU"),
    ],
)
def test_bad_input_is_told(
    head: nn.Linear, features: Tensor, change: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        ablation_effects(**{"head": head, "features": features} | change)
