"""What judges of illusions count, worked out by hand."""

import torch

from captum_neuroinspect.experiments.illusion_scores import (
    near_classes,
    neurons_told,
    told_among,
    translation,
)


def test_near_classes_are_nearest_by_angle_whatever_the_length() -> None:
    weight = torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.1, 0.0], [-1.0, 0.1]])
    # Cosines of class 0: .71 with 1, 1 with 2, about -1 with 3.
    near = near_classes(weight, 2)
    assert near[0].tolist() == [2, 1]
    assert all(own not in row for own, row in enumerate(near.tolist()))


def test_a_class_is_told_among_its_neighbours_only() -> None:
    logits = torch.tensor([[3.0, 2.0, 9.0], [1.0, 2.0, 0.0], [2.0, 2.0, 0.0]])
    truth, others = torch.tensor([0, 0, 0]), torch.tensor([[1], [1], [1]])
    # The first is beaten by class 2 only, which is not asked; a tie is not told.
    assert told_among(logits, truth, others).tolist() == [True, False, False]


def test_a_neurons_level_in_all_pictures_does_not_count() -> None:
    # Neuron 1 is high in both pictures; above its mean of 9 it is in the second only.
    excited = torch.tensor([[2.0, 8.0], [0.0, 10.0]])
    assert neurons_told(excited).tolist() == [True, True]
    assert excited.argmax(1).tolist() == [1, 1]


def test_more_neurons_than_pictures_can_take_the_first_place() -> None:
    # Above their means: neuron 0 by 1 in picture 0, neuron 2 by 3 there; picture 1 is told.
    excited = torch.tensor([[2.0, 0.0, 6.0], [0.0, 2.0, 0.0]])
    assert neurons_told(excited[:, :2]).tolist() == [True, True]
    assert neurons_told(excited).tolist() == [False, True]


def test_a_translation_of_equal_units_is_the_identity_but_for_the_ridge() -> None:
    # Orthogonal columns of mean 0 and standard deviation 1 (n - 1 in the denominator).
    units = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * (3 / 4) ** 0.5
    # Their Gram matrix is 3 I, so that ridge regression gives 3 / (3 + ridge).
    found = translation(units, units, ridge=1.0)
    torch.testing.assert_close(found, 0.75 * torch.eye(2))
