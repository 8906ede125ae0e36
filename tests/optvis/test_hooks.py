import copy
import gc
import pickle
import weakref

import pytest
import torch
from helpers import hooks_of, left_unchanged, state_of
from lucent.optvis.render import render_vis
from optvis_nets import FakeEncoder, TinyNet
from torch import nn

from captum_neuroinspect.optvis import GuidedModel, clean_hooks, illusion_image

OPTIONS = {"transforms": [], "thresholds": (3,), "progress": False, "show_image": False}


def _render(model: nn.Module, objective="conv:1"):
    return render_vis(model, objective, lambda: illusion_image(8), fixed_image_size=8, **OPTIONS)[0]


def nothing(*_):
    """A hook of the user's."""


def test_lucent_leaves_hooks_and_gradients_behind():
    """The defect this module is for; when this fails, Lucent has corrected it."""
    model = TinyNet().eval()
    for n_calls in (1, 2):
        _render(model)
        assert [len(child._forward_hooks) for child in model.children()] == 4 * [n_calls]
    assert model.conv.weight.grad is not None


def test_two_renders_leave_nothing_and_give_the_same_images():
    model = TinyNet().eval()
    model.conv.register_forward_hook(nothing)
    expected = _render(copy.deepcopy(model))
    with left_unchanged(model), clean_hooks(model):
        first, second = _render(model), _render(model)
    assert (first == expected).all()
    assert (second == expected).all()


@pytest.mark.parametrize("culprit", ["objective", "model"])
def test_an_exception_leaves_nothing(culprit):
    model = TinyNet()

    def boom(*_):
        raise ArithmeticError  # Lucent makes a warning of a RuntimeError

    if culprit == "model":
        model.fc.register_forward_hook(boom)
    objective = boom if culprit == "objective" else "conv:1"
    with left_unchanged(model), pytest.raises(ArithmeticError), clean_hooks(model):
        _render(model, objective)


def test_flags_are_put_back_one_by_one():
    model = TinyNet().train()
    model.norm.eval()
    model.fc.weight.requires_grad_(False)
    model.fc.bias.grad = torch.ones(4)
    with left_unchanged(model), clean_hooks(model):
        assert not model.training
        _render(model)
        model.train().requires_grad_(True)


def test_every_kind_of_hook_and_none_of_the_users():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def register(module):
        module.register_forward_hook(nothing, with_kwargs=True, always_call=True)
        module.register_forward_pre_hook(nothing, with_kwargs=True)
        module.register_full_backward_hook(nothing)
        module.register_full_backward_pre_hook(nothing)
        module.register_state_dict_post_hook(nothing)
        module.register_state_dict_pre_hook(nothing)
        module.register_load_state_dict_pre_hook(nothing)
        module.register_load_state_dict_post_hook(nothing)

    register(model[0])
    model[1].hooks = {10**9: "the user's own table"}
    before = state_of(model)["hooks"]
    with clean_hooks(model):
        for module in model.modules():
            register(module)
    assert state_of(model)["hooks"] == before
    assert sum(len(table) for table in before["0"].values()) > 8


def test_a_hook_that_the_user_removes_inside_stays_removed():
    model = nn.Linear(2, 2)
    handle = model.register_forward_hook(nothing)
    with clean_hooks(model):
        handle.remove()
    assert not model._forward_hooks


def test_modules_that_come_and_go_inside():
    model, newcomer = nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sigmoid()
    newcomer.register_forward_hook(nothing)
    before = hooks_of(newcomer)
    with clean_hooks(model):
        leaver, model[0] = model[0], newcomer
        for module in (leaver, newcomer):
            module.register_forward_hook(nothing)
    assert hooks_of(newcomer) == before
    assert not leaver._forward_hooks


def test_hooks_of_a_loaded_model_stay():
    """Their numbers come from another process, and may be higher than any here."""
    model = nn.Linear(2, 2)
    model._forward_hooks[10**9] = nothing
    model = pickle.loads(pickle.dumps(model))
    with left_unchanged(model), clean_hooks(model):
        model.register_forward_hook(nothing)


def test_blocks_nest():
    model = TinyNet().eval()
    with left_unchanged(model), clean_hooks(model):
        model.conv.register_forward_hook(nothing)
        with left_unchanged(model), clean_hooks(model):
            _render(model)


def test_a_guided_model_and_its_networks():
    model, encoder = TinyNet(), FakeEncoder()
    guided = GuidedModel(model, encoder, example=torch.rand(2, 3, 16, 16), layers=["conv"])
    with left_unchanged(guided), left_unchanged(model), left_unchanged(encoder.network):
        with clean_hooks(guided):
            _render(guided, "conv:1")


def test_activations_are_let_go():
    model, seen = TinyNet().eval(), []

    def remember(activations):
        seen.append(weakref.ref(activations("norm")))
        return -activations("conv").mean()

    with clean_hooks(model):
        _render(model, remember)
    gc.collect()  # Lucent's hooks and their functions are a circle
    assert [reference() for reference in seen] == 3 * [None]
