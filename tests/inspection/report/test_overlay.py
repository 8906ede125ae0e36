from __future__ import annotations

import torch

from captum_neuroinspect.inspection.report.overlay import overlay


def test_nothing_to_show_is_the_grey_photo() -> None:
    image = torch.rand(3, 6, 9)
    for heat in (torch.zeros(2, 3), -torch.ones(2, 3)):
        grey = overlay(image, heat)
        torch.testing.assert_close(grey, image.mean(0, keepdim=True).expand(3, -1, -1))


def test_it_is_brightest_where_the_map_is_largest_whatever_its_scale() -> None:
    heat = torch.zeros(4, 4)
    heat[0, 3] = 1.0
    image = torch.zeros(3, 16, 16)
    found = overlay(image, heat)
    assert torch.allclose(found, overlay(image, heat * 1e-3), atol=1e-4)
    row, column = divmod(int(found.sum(0).argmax()), 16)
    assert row < 4
    assert column >= 12
    assert found[:, 10:, :6].abs().max() == 0
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
