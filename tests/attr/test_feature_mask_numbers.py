"""Levels of maps whose numbers float32 cannot tell apart."""

from __future__ import annotations

import pytest
import torch

from captum_neuroinspect.attr import feature_mask


@pytest.mark.parametrize(("scale", "offset"), [(1e-50, 0), (1e50, 0), (1, 1e9)])
def test_levels_of_float64_do_not_depend_on_scale_and_offset(scale: float, offset: float) -> None:
    maps = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(feature_mask(scale * maps + offset, 4), feature_mask(maps, 4))


def test_maps_without_a_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps has shape \(1, 0, 4\), expected \(N, h, w\)"):
        feature_mask(torch.rand(1, 0, 4), 8)
