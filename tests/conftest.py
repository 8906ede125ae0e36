"""Fixtures that all tests share."""

import pytest
import torch
from hypothesis import HealthCheck, settings

# Tiny nets: a second thread costs more than it gives, above all on a busy machine.
torch.set_num_threads(1)

# No test may depend on how fast a machine is: Hypothesis would fail an example for its seconds.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same random weights and pictures, whatever ran before it."""
    torch.manual_seed(0)
