"""What goes into the rectifier at the end of a layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_neuroinspect.optvis._rectifiers import captured_before_rectifier


class Block(nn.Module):
    """Ends in whatever function it is given."""

    def __init__(self, last):
        super().__init__()
        self.inner, self.last = nn.ReLU(), last

    def forward(self, x):
        return self.last(self.inner(x) - 1)


ENDS = {
    "relu6 in place": nn.ReLU6(inplace=True),
    "relu_": torch.relu_,
    "a function": F.relu6,
    "clamp": lambda x: x.clamp(min=0),
    "silu": F.silu,
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_it_is_read_before_the_rectifier(end):
    x = torch.tensor([0.0, 0.5, 9.0])
    block = Block(end)
    with captured_before_rectifier(block) as before:
        block(x)
        assert before.value.tolist() == [-1.0, -0.5, 8.0]
    assert not block._forward_hooks


def test_without_a_rectifier_at_the_end_it_is_the_output():
    block = Block(torch.sigmoid)
    with captured_before_rectifier(block) as before:
        assert block(torch.ones(2)) is before.value
