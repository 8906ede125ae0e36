"""An order of memory is tried forwards and backwards."""

import pytest
import torch
from helpers import Boom

from captum_neuroinspect.optvis._rendering.memory_format import format_for

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_an_order_that_changes_the_numbers_is_left_out():
    """Who reads the memory as it lies gets other numbers, and no error."""

    def run(images):
        return [images.as_strided((2, 48), (48, 1)) * torch.arange(48.0)]

    assert format_for(run, IMAGES) == torch.contiguous_format
    assert format_for(lambda images: [images.flatten(1)], IMAGES) == torch.channels_last


@pytest.mark.parametrize("error", [RuntimeError("view"), torch.cuda.OutOfMemoryError(), Boom()])
def test_any_error_means_contiguous_but_an_interrupt_passes(error):
    def run(images):
        if images.requires_grad:
            raise error
        return [images]

    assert format_for(run, IMAGES) == torch.contiguous_format
    error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        format_for(run, IMAGES)


def test_numbers_that_are_not_finite_are_compared_too():
    def run(images):
        return [images.sum((1, 2, 3)), images.sum((1, 2, 3)) * torch.inf, images / 0 - images / 0]

    assert format_for(run, IMAGES) == torch.channels_last
