"""A direction from mistakes: what it is by hand, and what holds for any."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from captum_neuroinspect import FeatureSet, render_illusions
from captum_neuroinspect.attr import Direction, cue_direction


def _wrong(features, labels):
    """Samples that are taken for another class."""
    return FeatureSet(features, -torch.nn.functional.one_hot(labels, 2).float(), labels)


def _set(features, labels):
    return _wrong(torch.tensor(features), torch.tensor(labels))


REFERENCE = _set([[1.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 2.0]], [0, 0, 1, 1])


def test_each_mistake_is_set_against_its_own_class():
    mistakes = _set([[1.0, 1.0], [1.0, 0.0]], [0, 1])
    direction = cue_direction(mistakes, REFERENCE)
    # (2, 4) - (1, 1) and (0, 1) - (1, 0), in the mean; within classes (1, 1, 0, 0) in squares.
    torch.testing.assert_close(direction.shift, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(direction.spread, torch.full((2,), 0.5**0.5))


@given(st.integers(0, 50))
def test_positions_and_moves_along_a_direction(seed):
    rng = torch.Generator().manual_seed(seed)
    direction = Direction(torch.randn(7, generator=rng), torch.rand(7, generator=rng) + 0.1)
    z, where = torch.randn(5, 7, generator=rng), torch.randn(5, generator=rng)
    close = {"atol": 1e-4, "rtol": 1e-4}
    by_a_step = direction.positions(z + direction.shift) - direction.positions(z)
    torch.testing.assert_close(by_a_step, torch.ones(5), **close)
    placed = direction.placed(z, where)
    torch.testing.assert_close(direction.positions(placed), where, **close)
    moved = (placed - z) / (where - direction.positions(z))[:, None]
    torch.testing.assert_close(moved, direction.shift.expand(5, 7), atol=1e-3, rtol=1e-2)
    # The same z, read by least squares in units of the spread.
    units = (direction.shift / direction.spread)[:, None]
    by_lstsq = torch.linalg.lstsq(units, (z / direction.spread).T).solution[0]
    torch.testing.assert_close(direction.positions(z), by_lstsq, **close)


def test_without_any_spread_the_direction_is_the_plain_difference():
    direction = cue_direction(_set([[5.0, 1.0]], [0]), REFERENCE.subset(torch.tensor([1, 3])))
    assert torch.equal(direction.spread, torch.ones(2))
    assert torch.equal(direction.shift, torch.tensor([-2.0, 3.0]))


def test_mean_mistake_lies_one_step_below_its_class():
    mistakes = _set([[5.0, 1.0], [1.0, -3.0]], [0, 0])
    direction = cue_direction(mistakes, REFERENCE)
    of_class = direction.positions(REFERENCE.features[:2]).mean()
    assert of_class - direction.positions(mistakes.features).mean() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_unit_of_features_does_not_matter(scale):
    z, labels = torch.rand(12, 4), torch.arange(12) % 2
    z[:, 3] = 0.5  # never moves
    sets = [_wrong(z * by, labels).split(0.5, seed=1) for by in (1.0, scale)]
    one, other = (cue_direction(*pair) for pair in sets)
    torch.testing.assert_close(one.shift * scale, other.shift)
    torch.testing.assert_close(one.spread * scale, other.spread)
    assert one.neurons() == other.neurons()


def test_neurons_come_by_their_change_in_units_of_spread():
    direction = Direction(torch.tensor([1.0, -3.0, 2.0]), torch.tensor([0.1, 1.0, 1.0]))
    assert direction.neurons() == (0, 1, 2)
    assert direction.neurons(2) == (0, 1)
    assert "3 features" in repr(direction)


def test_the_other_way_round():
    direction = Direction(torch.tensor([1.0, -3.0]), torch.tensor([0.5, 1.0]), torch.tensor([7]))
    z = torch.randn(4, 2)
    torch.testing.assert_close((-direction).positions(z), -direction.positions(z))
    torch.testing.assert_close((-direction).weights, -direction.weights)
    assert (-direction).located_by.tolist() == [7]


def test_weights_give_the_position_in_units_of_its_spread():
    """Of neurons that vary by themselves by ``spread``, the weighted sum varies by 1."""
    direction = Direction(torch.tensor([1.0, -3.0, 0.5]), torch.tensor([0.5, 1.0, 2.0]))
    varies = (direction.weights * direction.spread).square().sum().sqrt()
    assert varies == pytest.approx(1)
    ratio = direction.weights / direction.reading
    torch.testing.assert_close(ratio, ratio[:1].expand(3))
    assert ratio[0] > 0


def test_a_direction_knows_the_mistakes_that_located_it():
    mistakes = _set([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 0])
    names = cue_direction(mistakes, REFERENCE).located_by
    assert len(names) == 3
    assert names[0] == names[2] != names[1]


def test_illusions_of_a_direction_are_those_of_its_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    one = Direction(torch.tensor([1.0, 2.0, 0.0, -1.0]), torch.ones(4))
    options = {"size": 16, "n_steps": 2, "progress": False}
    found = render_illusions(model, one, [0, 1], **options)
    by_weights = render_illusions(model, one.weights, [0, 1], **options)
    assert torch.equal(found.images, by_weights.images)
    both = render_illusions(model, [one, -one], [0, 0], **options)
    weights = torch.stack([one.weights, -one.weights])
    assert torch.equal(both.images, render_illusions(model, weights, [0, 0], **options).images)
    assert both.captions()[1].startswith("direction 1")


@pytest.mark.parametrize(
    ("shift", "spread", "error", "match"),
    [
        ([1.0], torch.ones(1), TypeError, "shift is"),
        (torch.ones(2).long(), torch.ones(2), TypeError, "floating point"),
        (torch.ones(2), torch.ones(3), ValueError, r"expected \(F,\) both"),
        (torch.ones(1, 2), torch.ones(1, 2), ValueError, r"expected \(F,\) both"),
        (torch.tensor([torch.nan]), torch.ones(1), ValueError, "NaN"),
        (torch.ones(2), torch.tensor([1.0, 0.0]), ValueError, "expected above 0"),
        (torch.zeros(2), torch.ones(2), ValueError, "expected a direction"),
    ],
)
def test_a_direction_refuses(shift, spread, error, match):
    with pytest.raises(error, match=match):
        Direction(shift, spread)


def test_samples_that_are_right_are_warned_of():
    mistakes = FeatureSet(torch.rand(3, 2), torch.eye(2)[[0, 1, 1]], torch.zeros(3).long())
    with pytest.warns(UserWarning, match="1 of 3 samples of mistakes are predicted right"):
        cue_direction(mistakes, REFERENCE)


def test_a_drawn_direction_is_as_long_and_points_elsewhere():
    cue = Direction(torch.randn(500), torch.rand(500) + 0.1, torch.tensor([1, 2]))
    length = (cue.shift / cue.spread).norm()
    drawn = [cue.drawn(seed) for seed in range(3)]
    for one in drawn:
        in_units = one.shift / one.spread
        assert in_units.norm() == pytest.approx(length)
        assert abs(in_units @ (cue.shift / cue.spread)) < 0.2 * length**2
        assert one.located_by is cue.located_by
    assert not drawn[0].shift.equal(drawn[1].shift)
    assert drawn[0].shift.equal(cue.drawn(0).shift)


def test_names_of_mistakes_are_whole_numbers():
    with pytest.raises(TypeError, match="located_by is"):
        Direction(torch.ones(2), torch.ones(2), torch.ones(2))


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_positions_of_features_of_any_kind(kind):
    direction = Direction(torch.tensor([3.0, 8.0]), torch.tensor([1.0, 2.0]))
    features = torch.tensor([[1.0, 2.0], [0.5, 4.0]])
    found = direction.positions(features.to(kind))
    torch.testing.assert_close(found.float(), direction.positions(features))
    placed = direction.placed(features.to(kind), 0.0)
    torch.testing.assert_close(placed.float(), direction.placed(features, 0.0))


def test_a_direction_is_drawn_by_a_whole_number():
    direction = Direction(torch.ones(2), torch.ones(2))
    with pytest.raises(TypeError, match=r"seed=0\.5, expected a whole number"):
        direction.drawn(0.5)
    with pytest.raises(ValueError, match="seed=-1, expected at least 0"):
        direction.drawn(-1)


def test_cue_direction_refuses():
    mistakes = _set([[5.0, 1.0]], [0])
    with pytest.raises(TypeError, match="mistakes is Tensor"):
        cue_direction(mistakes.features, REFERENCE)
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="mistakes is empty"):
        cue_direction(mistakes.subset(nothing), REFERENCE)
    with pytest.raises(ValueError, match="mistakes have 1 features, reference 2"):
        cue_direction(_set([[5.0]], [0]), REFERENCE)
    with pytest.raises(ValueError, match="mistakes of class 1 have no sample"):
        cue_direction(_set([[5.0, 1.0]], [1]), REFERENCE.subset(torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="no direction separates"):
        cue_direction(_set([[2.0, 4.0]], [0]), REFERENCE)
    several = FeatureSet(torch.ones(1, 2), torch.zeros(1, 2), torch.ones(1, 2).long())
    with pytest.raises(ValueError, match="reference has multi-hot labels"):
        cue_direction(mistakes, several)
