"""Fixtures that all tests share."""

import pytest
import torch

# Tiny nets: a second thread costs more than it gives, above all on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same random weights and pictures, whatever ran before it."""
    torch.manual_seed(0)
