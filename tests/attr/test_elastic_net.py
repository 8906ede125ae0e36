from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from captum_neuroinspect.attr import ElasticNet
from captum_neuroinspect.attr.elastic_net import cross_entropy_residual


@pytest.mark.parametrize("scaling", ["code", "paper"])
@pytest.mark.parametrize("start", ["random", "zero", "some zero"])
def test_elastic_net_gradient_equals_autograd(scaling, start):
    w = torch.randn(5, 7, dtype=torch.float64)
    if start != "random":
        w[: 5 if start == "zero" else 2] = 0
        w[:, 3] = 0
    w.requires_grad_()
    penalty, scale = ElasticNet(0.3, 0.2, scaling), 7 if scaling == "code" else 1
    loss = (0.3 * w.abs().sum() + 0.2 * w.norm(dim=1).sum()) / scale
    (expected,) = torch.autograd.grad(loss, w)
    torch.testing.assert_close(penalty.gradient(w.detach()), expected)


def test_elastic_net_value_by_hand():
    w = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    paper, code = ElasticNet(0.1, 0.01, "paper"), ElasticNet(0.1, 0.01)
    torch.testing.assert_close(paper.value(w), torch.tensor([0.7 + 0.05, 0.0]))
    torch.testing.assert_close(code.value(w), torch.tensor([0.375, 0.0]))
    assert paper.weights(1280) == (0.1, 0.01)
    assert code.weights(1280) == (0.1 / 1280, 0.01 / 1280)


def test_cross_entropy_residual_equals_autograd():
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 0, 1])
    loss = F.cross_entropy(logits, target, reduction="sum")
    (expected,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(cross_entropy_residual(logits.detach(), target), expected)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"l1": -0.1}, "l1=-0.1, expected 0 or more"),
        ({"l2": -1}, "l2=-1, expected 0 or more"),
        ({"l1": float("nan")}, "l1=nan, expected 0 or more"),
        ({"scaling": "none"}, "scaling='none', expected 'code' or 'paper'"),
    ],
)
def test_elastic_net_refuses(option, message):
    with pytest.raises(ValueError, match=message):
        ElasticNet(**option)
