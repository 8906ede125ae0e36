import pytest
import torch

from captum_neuroinspect.optvis import illusion_loss

A, Z, S = torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0]), torch.tensor([0.5, -0.25])


def test_hand_computed_values():
    assert illusion_loss(A).tolist() == [-1.0, -2.0]
    assert illusion_loss(A, Z, gamma=0.5).tolist() == [-2.5, -1.5]
    # -(0.5 + 0.05) * (1 + 0.2 * 3) and -(-0.25 + 0.05) * (2 - 0.2 * 1)
    both = illusion_loss(A, Z, S, gamma=0.2, eps=0.05)
    torch.testing.assert_close(both, torch.tensor([-0.88, 0.36]))
    torch.testing.assert_close(illusion_loss(A, None, S, eps=0.05), torch.tensor([-0.55, 0.4]))


def test_gamma_0_is_the_neuron_alone():
    assert illusion_loss(A, Z, gamma=0).equal(illusion_loss(A))


def test_an_unwanted_likeness_makes_it_worse_whatever_the_sign():
    unwanted = torch.tensor([0.5, 0.25])
    free, held = illusion_loss(A, Z, S), illusion_loss(A, Z, S, unwanted, negative_weight=2.0)
    # The first product is above 0 and shrinks by exp(-1); the second below, and grows.
    torch.testing.assert_close(held, free * torch.tensor([-1.0, 0.5]).exp())
    assert free[0] < 0 < free[1]
    assert held.gt(free).all()
    assert illusion_loss(A, Z, S, -unwanted).equal(free), "unlike is no better than neutral"
    assert illusion_loss(A, Z, S, unwanted, negative_weight=0).equal(free)


def test_the_pull_of_a_negative_is_that_of_the_class_at_its_balance():
    similarity, negative = torch.full((2, 1), 0.2).requires_grad_().unbind()
    loss = illusion_loss(A[:1], None, similarity, negative, eps=0.05, negative_weight=4.0)
    towards, away = torch.autograd.grad(loss, [similarity, negative])
    torch.testing.assert_close(towards, -away)


def test_images_do_not_mix():
    inputs = [value.clone().requires_grad_() for value in (A, Z, S, S.abs())]
    loss = illusion_loss(*inputs)
    for gradient in torch.autograd.grad(loss[0], inputs):
        assert gradient[0] != 0
        assert gradient[1] == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((A.unsqueeze(1),), r"activation has shape \(2, 1\), expected \(N,\)"),
        ((A, Z.unsqueeze(1)), r"logit has shape \(2, 1\), expected \(2,\)"),
        ((A, Z, S[:1]), r"similarity has shape \(1,\), expected \(2,\)"),
        ((A, Z, S, S.unsqueeze(1)), r"negative has shape \(2, 1\), expected \(2,\)"),
        ((A, Z, None, S), "negative is given without similarity"),
        ((A, torch.tensor(1.0)), r"logit has shape \(\), expected \(2,\)"),
    ],
)
def test_refuses_shapes_that_would_broadcast(values, message):
    with pytest.raises(ValueError, match=message):
        illusion_loss(*values)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan")])
def test_refuses_gamma_outside_0_to_1(gamma):
    with pytest.raises(ValueError, match=r"gamma=.*expected 0\.\.1"):
        illusion_loss(A, Z, gamma=gamma)


def test_refuses_a_negative_weight_below_0():
    with pytest.raises(ValueError, match=r"negative_weight=-1, expected at least 0"):
        illusion_loss(A, Z, S, S, negative_weight=-1)
