"""Rows of activations are those of the photos that were given, all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_neuroinspect import collect_activations

MODEL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


def test_two_batches_are_no_photos_with_labels() -> None:
    batches = [torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8)]
    with pytest.raises(ValueError, match=r"item 0 has shape \(5, 3, 8, 8\), expected \(C, H, W\)"):
        collect_activations(MODEL, batches, "1")


def test_labels_of_other_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="5 photos and 4 labels"):
        collect_activations(MODEL, (torch.rand(5, 3, 8, 8), torch.arange(4)), "1")


def test_a_loader_that_shuffles_warns() -> None:
    data = TensorDataset(torch.rand(5, 3, 8, 8))
    with pytest.warns(UserWarning, match="a DataLoader that shuffles"):
        collect_activations(MODEL, DataLoader(data, shuffle=True), "1")


def test_photos_of_bytes_are_refused() -> None:
    photos = torch.randint(255, (2, 3, 8, 8), dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"photos 0\.\.1 are torch.uint8, expected floating point"):
        collect_activations(MODEL, photos, "1")
