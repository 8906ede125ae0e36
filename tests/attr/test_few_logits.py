"""The descent behind many classes, against the one that looks at all of them in every step."""

import pytest
import torch
from torch import nn

from captum_neuroinspect import NeuronCounterfactual
from captum_neuroinspect.attr import SGD, _few_logits, sgd
from captum_neuroinspect.attr._few_logits import FewLogits

C, F = 1500, 40


def problem(seed=0, scale=1.0, n=40, signed=False):
    """A random head, and samples that should get one of the five classes next to the predicted."""
    rng = torch.Generator().manual_seed(seed)
    head = nn.Linear(F, C).requires_grad_(False)
    head.weight.copy_(scale * torch.randn(C, F, generator=rng) / F**0.5)
    head.bias.copy_(0.1 * torch.randn(C, generator=rng))
    z = torch.randn(n, F, generator=rng)
    z = z if signed else z.relu()
    best = head(z).topk(6).indices
    return head, z, best.gather(1, torch.randint(0, 6, (n, 1), generator=rng))[:, 0]


def both(monkeypatch, head, z, target, **options):
    method = NeuronCounterfactual(head, head, solver=SGD(**options))
    few = method.attribute_features(z, target, return_details=True)
    monkeypatch.setattr(sgd, "LARGEST_WHOLE", C)
    return few, method.attribute_features(z, target, return_details=True)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_it_is_the_same_descent(monkeypatch, scale, signed):
    few, whole = both(monkeypatch, *problem(scale=scale, signed=signed))
    assert whole.n_steps.max() > 5
    for name in ("n_steps", "converged", "already_correct", "feasible", "ran_out"):
        assert torch.equal(getattr(few, name), getattr(whole, name)), name
    off = (few.w - whole.w).norm(dim=1) / whole.w.norm(dim=1).clamp_min(1e-12)
    assert off.max() < 1e-4
    assert few.residual.isnan().all()


def test_most_steps_do_not_look_at_all_classes(monkeypatch):
    looked, true = [], FewLogits.look
    monkeypatch.setattr(FewLogits, "look", lambda *a: (looked.append(len(a[1])), true(*a))[1])
    few, whole = both(monkeypatch, *problem(scale=0.3))
    assert torch.equal(few.n_steps, whole.n_steps)
    assert sum(looked) < int(whole.n_steps.sum()) / 2


def test_all_say_so_before_a_sample_is_done():
    """Also of classes that are not among the few: the prediction at z + w is the target's."""
    head, z, target = problem(seed=3, scale=2.0)
    found = NeuronCounterfactual(head, head).attribute_features(z, target, return_details=True)
    assert found.converged.all()
    assert torch.equal(head(z + found.w).argmax(1), target)


def test_steps_that_rest_on_bad_foresight_are_made_again(monkeypatch):
    """A first span far too long, and one class beside the target: still the same descent."""
    monkeypatch.setattr(_few_logits, "_FIRST_SPAN", 1e6)
    monkeypatch.setattr(_few_logits, "_N_FEW", 2)
    taken_back = []
    true = FewLogits.take_back
    monkeypatch.setattr(FewLogits, "take_back", lambda *a: (taken_back.append(1), true(*a))[1])
    few, whole = both(monkeypatch, *problem())
    assert taken_back
    assert torch.equal(few.n_steps, whole.n_steps)
    torch.testing.assert_close(few.w, whole.w, rtol=0, atol=1e-3 * float(whole.w.abs().max()))


def test_a_class_out_of_reach_is_given_up_after_the_same_steps(monkeypatch):
    head, z, target = problem(n=4)
    head.weight[7], head.bias[7] = 0.0, -50.0
    target[:2] = 7
    with pytest.warns(RuntimeWarning, match="did not reach their class"):
        few, whole = both(monkeypatch, head, z, target, max_steps=30)
    assert few.ran_out.tolist() == whole.ran_out.tolist()
    assert few.ran_out[:2].all()
    assert few.n_steps[:2].tolist() == [30, 30]
    torch.testing.assert_close(few.w, whole.w, rtol=1e-3, atol=1e-4)


def test_samples_do_not_influence_each_other():
    head, z, target = problem(n=12)
    method = NeuronCounterfactual(head, head)
    together = method.attribute_features(z, target)
    alone = torch.cat(
        [method.attribute_features(z[i : i + 1], target[i : i + 1]) for i in range(12)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * float(together.abs().max()))


def test_all_samples_right_from_the_start():
    head, z, _ = problem(n=5)
    found = NeuronCounterfactual(head, head).attribute_features(
        z, head(z).argmax(1), return_details=True
    )
    assert found.already_correct.all()
    assert not found.w.any()
    assert found.n_steps.sum() == 0


def test_double_precision_stays():
    head, z, target = problem(n=3)
    w = NeuronCounterfactual(head.double(), head).attribute_features(z.double(), target)
    assert w.dtype == torch.float64
