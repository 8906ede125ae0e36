"""Putting an edited head into a model: what cannot hold it says so, and stays as it was."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers import Boom, ConvNet, feature_set, left_unchanged
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from captum_neuroinspect import collect_features, find_head
from captum_neuroinspect.edit import compare_heads
from captum_neuroinspect.edit.head_diff import changed

IMAGES = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def old_weight_norm(layer: nn.Linear) -> nn.Linear:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def old_spectral_norm(layer: nn.Linear) -> nn.Linear:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.spectral_norm(layer)


class Doubled(nn.Module):
    """A parametrization without a way back."""

    def forward(self, value):
        return 2 * value


class Halves(Doubled):
    def right_inverse(self, value):
        return value / 2


def _with(parametrization: nn.Module, *names: str):
    def change(layer: nn.Linear) -> nn.Linear:
        for name in names:
            parametrize.register_parametrization(layer, name, parametrization)
        return layer

    return change


def _model(change=lambda layer: layer, dtype=torch.float32) -> ConvNet:
    torch.manual_seed(0)
    model = ConvNet()
    model.head = change(nn.Linear(16, 4))
    return model.to(dtype).eval()


def _edit(model: nn.Module, head: nn.Linear):
    """An edit that moves every coefficient."""
    features = collect_features(model, (IMAGES, torch.arange(8) % 4), head, progress=False)
    torch.manual_seed(1)
    new = changed(head, torch.randn(4, 16) / 4, torch.randn(4) / 4)
    return compare_heads(head, new, features, {1: [0]}), features


def _expected(edit, features):
    return F.linear(features.features, edit.head.weight.float(), edit.head.bias.float()).detach()


WRITABLE = {
    "plain": lambda layer: layer,
    "weight norm": parametrizations.weight_norm,
    "old weight norm": old_weight_norm,
    "own parametrization": _with(Halves(), "weight", "bias"),
}
NOT_WRITABLE = {
    "spectral norm": (parametrizations.spectral_norm, "computed by _SpectralNorm"),
    "old spectral norm": (old_spectral_norm, "weight is computed by SpectralNorm: make it a plain"),
    "no way back": (_with(Doubled(), "weight"), "computed by Doubled"),
    "no way back for the bias": (_with(Doubled(), "bias"), "the layer's bias is computed by Doub"),
}


@pytest.mark.parametrize("change", WRITABLE.values(), ids=WRITABLE.keys())
@pytest.mark.parametrize("train", [False, True])
def test_an_edit_reaches_the_model(change, train):
    model = _model(change)
    edit, features = _edit(model, model.head)
    model.train(train)
    with left_unchanged(model), edit.applied(model, example=IMAGES):
        torch.testing.assert_close(model.eval()(IMAGES).detach(), _expected(edit, features))
        model.train(train)
    original = model.eval()(IMAGES).detach()
    torch.testing.assert_close(original, features.logits)
    assert edit.apply_(model, example=IMAGES) is model
    torch.testing.assert_close(model(IMAGES).detach(), _expected(edit, features))
    edit.revert_(model, example=IMAGES)
    torch.testing.assert_close(model(IMAGES).detach(), original)
    assert torch.allclose(model.head.weight, edit.original.weight, atol=1e-6)


@pytest.mark.parametrize(("change", "message"), NOT_WRITABLE.values(), ids=NOT_WRITABLE.keys())
def test_computed_weights_that_cannot_hold_an_edit_are_refused(change, message):
    model = _model(change)
    edit, _ = _edit(model, model.head)
    with left_unchanged(model):
        weight = model.head.weight.clone()
        with pytest.raises((RuntimeError, ValueError), match=message):
            edit.apply_(model)
        assert torch.equal(model.head.weight, weight)
        with pytest.raises((RuntimeError, ValueError), match="remove_parametrizations"):
            edit.applied(model).__enter__()


def test_a_refused_head_works_once_its_weight_is_plain():
    model = _model(parametrizations.spectral_norm)
    parametrize.remove_parametrizations(model.head, "weight")
    edit, features = _edit(model, model.head)
    with edit.applied(model):
        torch.testing.assert_close(model(IMAGES).detach(), _expected(edit, features))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_edit_in_another_dtype(dtype):
    model = _model(dtype=dtype)
    edit, _ = _edit(model, model.head)
    with left_unchanged(model), edit.applied(model, example=IMAGES):
        assert torch.equal(model.head.weight, edit.head.weight)
        assert model.head.weight.dtype == dtype


class Twins(nn.Module):
    """Two heads with the same weights; ``ties`` makes them the same tensors."""

    def __init__(self, ties: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        self.main, self.aside = nn.Linear(16, 4), nn.Linear(16, 4)
        self.aside.load_state_dict(self.main.state_dict())
        if ties:
            self.aside.weight = self.main.weight

    def forward(self, x):
        z = self.body(x)
        self.aside(-z)
        return self.main(z)


def test_of_twins_the_named_one_is_written():
    torch.manual_seed(0)
    model = Twins(ties=False)
    edit, features = _edit(model, model.main)
    with left_unchanged(model):
        with pytest.raises(ValueError, match=r"2 layers .* \('main', 'aside': give layer= one of"):
            edit.apply_(model)
        with edit.applied(model, layer="main", example=IMAGES):
            torch.testing.assert_close(model(IMAGES).detach(), _expected(edit, features))
            assert torch.equal(model.aside.weight, edit.original.weight)
        with pytest.raises(ValueError, match=r"0 layers .'body.1' is none. have the weights of"):
            edit.apply_(model, layer="body.1")
        with pytest.raises(TypeError, match=r"layer is ReLU, expected nn\.Linear"):
            edit.apply_(model, layer=model.body[2])
        with pytest.raises(ValueError, match="layer='nowhere' is not in Twins"):
            edit.apply_(model, layer="nowhere")
        # The wrong one of the two holds the edit, but the model does not say so.
        with pytest.raises(ValueError, match="'aside' is not the decision layer of this Twins"):
            edit.apply_(model, layer="aside", example=IMAGES)
    edit.apply_(model, layer=model.main)
    edit.revert_(model, layer=model.main)
    assert torch.equal(model.main.weight, edit.original.weight)


def test_shared_weights_are_not_changed_behind_another_layers_back():
    torch.manual_seed(0)
    model = Twins(ties=True)
    edit, features = _edit(model, model.main)
    message = r"'main' shares its weights with 'aside\.weight'.*model\.main\.weight = "
    with left_unchanged(model), pytest.raises(ValueError, match=message):
        edit.apply_(model, layer="main")
    model.main.weight = nn.Parameter(model.main.weight.detach().clone())
    with edit.applied(model, layer="main", example=IMAGES):
        torch.testing.assert_close(model(IMAGES).detach(), _expected(edit, features))


def test_one_layer_under_two_names_is_one_layer():
    model = _model()
    model.again = model.head
    edit, features = _edit(model, model.head)
    with left_unchanged(model), edit.applied(model, example=IMAGES):
        torch.testing.assert_close(model(IMAGES).detach(), _expected(edit, features))


def test_what_a_hook_does_to_the_layer_is_found_after_writing():
    model = _model()
    edit, _ = _edit(model, model.head)
    model.head.register_forward_hook(lambda _, __, output: 3 * output)
    with left_unchanged(model):
        for enter in (edit.apply_, lambda m: edit.applied(m).__enter__()):
            with pytest.raises(
                RuntimeError, match=r"what was there is back\. Why: .*\(a hook changes"
            ):
                enter(model)


def test_what_the_model_does_is_found_with_an_example():
    """Weights are read elsewhere, or the output is not the layer's: only an example shows it."""
    model = _model()
    edit, _ = _edit(model, model.head)
    scale = model.head.weight

    def uses(_, args):
        return (args[0] * scale.abs().mean(),)

    handle = model.register_forward_pre_hook(uses)
    with left_unchanged(model):
        with pytest.raises(RuntimeError, match="'head' changed its own inputs"):
            edit.apply_(model, example=IMAGES)
    handle.remove()
    model.register_forward_hook(lambda *_: torch.zeros(8, 4))
    with left_unchanged(model), pytest.raises(ValueError, match="not the decision layer"):
        edit.apply_(model, example=IMAGES)


@pytest.mark.parametrize("change", WRITABLE.values(), ids=WRITABLE.keys())
def test_an_exception_inside_puts_everything_back(change):
    model = _model(change)
    edit, features = _edit(model, model.head)
    with left_unchanged(model), pytest.raises(Boom), edit.applied(model):
        raise Boom
    torch.testing.assert_close(model(IMAGES).detach(), features.logits)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models_get_the_edit(wrap):
    model = _model()
    wrapped = wrap(model)
    wrapped(IMAGES)
    edit, features = _edit(wrapped, find_head(wrapped, IMAGES[:1]))
    with edit.applied(wrapped, example=IMAGES):
        torch.testing.assert_close(wrapped(IMAGES).detach(), _expected(edit, features))
    torch.testing.assert_close(wrapped(IMAGES).detach(), features.logits)


def test_a_set_of_features_judges_the_edit_as_the_model_does():
    model = _model(parametrizations.weight_norm)
    edit, features = _edit(model, model.head)
    with edit.applied(model, example=IMAGES):
        again = feature_set(model.head, features.features, features.labels)
    assert again.accuracy() == edit.after.accuracy


class Twice(ConvNet):
    """Its decision layer serves for something else too."""

    def forward(self, images):
        logits = super().forward(images)
        return logits + 0.1 * self.head(logits.repeat(1, 4))


def test_a_head_that_runs_twice_in_a_pass_is_told_without_an_example() -> None:
    torch.manual_seed(0)
    model = Twice().eval()
    model.head = nn.Linear(16, 4)
    other = nn.Linear(16, 4)
    features = feature_set(model.head, torch.rand(8, 16), torch.arange(8) % 4)
    edit = compare_heads(model.head, other, features, {0: [1]})
    with left_unchanged(model), edit.applied(model):
        with pytest.warns(UserWarning, match=r"runs layer 'head'.*2 times in one pass.*example="):
            model(IMAGES)
        model(IMAGES)  # said once
    plain = _model()
    edit = compare_heads(plain.head, other, features, {0: [1]})
    with left_unchanged(plain), edit.applied(plain):
        plain(IMAGES)
        plain(IMAGES)
    with left_unchanged(plain.head), edit.applied(plain.head):
        plain.head(torch.rand(2, 16))
