import pytest
import torch
from torch import nn

from captum_neuroinspect.features import FeatureSet
from captum_neuroinspect.models import replace_layer, train_decision_layer


def _separable(n: int, seed: int) -> FeatureSet:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=rng)
    features = torch.rand(n, 8, generator=rng) + 2 * torch.eye(8)[labels]
    return FeatureSet(features, torch.zeros(n, 3), labels)


def test_train_decision_layer_learns_and_repeats_for_a_seed() -> None:
    train, validation = _separable(96, 0), _separable(48, 1)

    heads = [train_decision_layer(train, validation, lr=0.02, seed=s) for s in (0, 0, 1)]

    assert validation.with_head(heads[0]).accuracy() > 0.9
    assert torch.equal(heads[0].weight, heads[1].weight)
    assert not torch.equal(heads[0].weight, heads[2].weight)
    assert not any(p.requires_grad for p in heads[0].parameters())


def test_train_decision_layer_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    train_decision_layer(_separable(16, 0), _separable(8, 1), n_epochs=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_replace_layer_finds_a_nested_layer() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))
    new = nn.Linear(3, 4)
    replace_layer(model, model[0][0], new)
    assert model[0][0] is new


def test_replace_layer_refuses_a_stranger() -> None:
    with pytest.raises(ValueError, match="Linear is not a submodule of this Sequential"):
        replace_layer(nn.Sequential(nn.Linear(3, 4)), nn.Linear(3, 4), nn.Linear(3, 4))
