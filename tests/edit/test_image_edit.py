"""Edits through images: the same training, with a backbone that stays as it is."""

from __future__ import annotations

import pytest
import torch
from edit_arguments import arguments, with_settings
from helpers import Boom, ConvNet, left_unchanged, nudged
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from captum_neuroinspect import collect_features, edit_head
from captum_neuroinspect.edit import edit_through_images

EDIT = {"target": 1, "neurons": [0, 5], "n_epochs": 3, "patience": 3, "lr": 0.01}


@pytest.fixture
def case():
    """A model in training mode with BatchNorm and dropout, and its features."""
    model = ConvNet(3).train()
    images, labels = torch.rand(12, 3, 8, 8), torch.arange(12) % 3
    features = collect_features(model, (images, labels), progress=False)
    easy = nudged(features.correct().subset(torch.tensor([0])))
    return model, (images, labels), features, easy


def test_without_augmentation_it_is_edit_head(case):
    model, data, features, easy = case
    with left_unchanged(model):
        edit = edit_through_images(model, data, easy, **with_settings(**EDIT))
    expected = edit_head(model.head, features, easy, **arguments(**EDIT))
    assert torch.equal(edit.head.weight, expected.head.weight)
    assert edit.method.history == expected.method.history
    with left_unchanged(model), edit.applied(model):
        assert torch.equal(model.head.weight, edit.head.weight)


def test_features_are_drawn_anew_in_each_epoch(case):
    """The loss of a step of size nearly 0 is that of the epoch's own images."""
    model, data, _, easy = case
    seen = []

    def augment(image):
        seen.append(float(torch.rand(())))
        return image * seen[-1]

    torch.manual_seed(7)
    state = torch.get_rng_state()
    options = EDIT | {"lr": 1e-12, "batch_size": 12}
    with left_unchanged(model):
        edit = edit_through_images(model, data, easy, augment=augment, **with_settings(**options))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(seen) == 3 * 12
    assert len(set(seen)) == 36
    assert len({record.loss for record in edit.method.history}) == 3
    torch.manual_seed(8)
    again = edit_through_images(model, data, easy, augment=augment, **with_settings(**options))
    assert again.method.history == edit.method.history
    other = edit_through_images(
        model, data, easy, augment=augment, **with_settings(seed=5, **options)
    )
    assert other.method.history != edit.method.history


class _Stream(IterableDataset):
    def __init__(self, images, labels):
        self.pairs = list(zip(images, labels.tolist(), strict=True))

    def __iter__(self):
        return iter(self.pairs)


@pytest.mark.parametrize("kind", ["tensors", "dataset", "loader", "stream", "mappings"])
def test_every_kind_of_data_is_augmented_alike(case, kind):
    model, (images, labels), _, easy = case
    data = {
        "tensors": (images, labels),
        "dataset": TensorDataset(images, labels),
        "loader": DataLoader(TensorDataset(images, labels), batch_size=5),
        "stream": DataLoader(_Stream(images, labels), batch_size=5),
        "mappings": [
            {"pixel_values": i, "labels": y} for i, y in zip(images, labels.tolist(), strict=True)
        ],
    }[kind]
    edit = edit_through_images(model, data, easy, augment=lambda x: 1 - x, **with_settings(**EDIT))
    flipped = collect_features(model, (1 - images, labels), progress=False)
    expected = edit_head(model.head, flipped, easy, **arguments(**EDIT))
    torch.testing.assert_close(edit.head.weight, expected.head.weight)


def test_the_model_survives_an_augmentation_that_fails(case):
    model, data, _, easy = case
    calls = []

    def fails(image):
        calls.append(1)
        if len(calls) > 20:
            raise Boom
        return image

    with left_unchanged(model), pytest.raises(Boom):
        edit_through_images(model, data, easy, augment=fails, **with_settings(**EDIT))


def test_it_refuses_what_edit_head_refuses(case):
    model, data, _, easy = case
    with pytest.raises(TypeError, match="augment is int, expected a function"):
        edit_through_images(model, data, easy, augment=3, **with_settings(**EDIT))
    with pytest.raises(TypeError, match="augment gave ndarray, expected a tensor"):
        edit_through_images(
            model, data, easy, augment=lambda image: image.numpy(), **with_settings(**EDIT)
        )
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        edit_through_images(model, data, easy, epochs=3, **with_settings(**EDIT))
    with pytest.raises(ValueError, match="scope='all'"):
        edit_through_images(model, data, easy, **with_settings(scope="all", **EDIT))
    with pytest.raises(ValueError, match="neuron=99 is out of range"):
        edit_through_images(model, data, easy, target=0, neurons=99)
    other = collect_features(ConvNet(3), data, progress=False)
    with pytest.raises(ValueError, match="validation was judged by another head"):
        edit_through_images(model, data, other, **with_settings(**EDIT))
    with pytest.raises(ValueError, match="empty"):
        edit_through_images(
            model, DataLoader(_Stream(data[0][:0], data[1][:0])), easy, **with_settings(**EDIT)
        )


def test_warnings_point_at_the_caller(case):
    model, (images, labels), features, _ = case
    with pytest.warns(RuntimeWarning, match="every epoch was worse") as record:
        edit = edit_through_images(
            model,
            (images, (labels + 1) % 3),
            features.correct(),
            **with_settings(**(EDIT | {"lr": 5.0, "n_epochs": 2})),
        )
    assert record[0].filename == __file__
    assert edit.method.best_epoch == 0
    assert isinstance(edit.head, nn.Linear)
