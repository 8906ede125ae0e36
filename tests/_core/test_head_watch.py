"""Which layer decides: heads that are given, and models in which more than one could."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from helpers import ConvNet, left_unchanged, linear
from torch import nn

from captum_neuroinspect import collect_features, edit_head, find_head
from captum_neuroinspect._core.head_watch import check_belongs, watched
from captum_neuroinspect.edit import EditSettings, edit_through_images
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.optvis import render_illusions

Pair = namedtuple("Pair", ["age", "sex"])


class TwoHeads(nn.Module):
    """Returns what ``after`` makes of the outputs of two heads."""

    def __init__(self, after=lambda age, sex: (age, sex)) -> None:
        super().__init__()
        self.conv, self.inner = nn.Conv2d(3, 8, 3), nn.Linear(8, 8)
        self.age, self.sex, self.after = nn.Linear(8, 5), nn.Linear(8, 2), after

    def forward(self, images):
        features = self.inner(self.conv(images).mean((2, 3))).relu()
        return self.after(self.age(features), self.sex(features))


def _pictures(n=12):
    return torch.rand(n, 3, 8, 8), torch.arange(n) % 2


AFTER = {
    "tuple": lambda age, sex: (age, sex),
    "named": Pair,
    "dict": lambda age, sex: {"age": age, "sex": sex},
    "nested": lambda age, sex: {"all": [age, {"sex": sex}]},
    "logits": lambda age, sex: {"logits": age, "sex": sex},
    "in place": lambda age, sex: (age.clone(), sex.clone(), age.mul_(2), sex.mul_(3)),
    "softmax": lambda age, sex: (age.softmax(1), sex.softmax(1)),
}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER.keys())
@pytest.mark.parametrize("name", ["age", "sex"])
def test_a_given_head_is_judged_by_its_own_logits(after, name):
    torch.manual_seed(0)
    model, (images, labels) = TwoHeads(after), _pictures()
    head = model.get_submodule(name)
    with left_unchanged(model):
        found = collect_features(model, (images, labels), head, progress=False)
    with torch.no_grad():
        features = model.inner(model.conv(images).mean((2, 3))).relu()
        torch.testing.assert_close(found.features, features)
        torch.testing.assert_close(found.logits, head(features))
        torch.testing.assert_close(found.logits, head(found.features))


@pytest.mark.parametrize("after", [AFTER["tuple"], AFTER["named"]])
def test_two_heads_are_not_chosen_between(after):
    model, (images, labels) = TwoHeads(after), _pictures()
    message = r"several outputs that linear layers compute \('age' and 'sex'\).* give head="
    for call in (
        lambda: find_head(model, images[:1]),
        lambda: collect_features(model, (images, labels), progress=False),
        lambda: render_illusions(model, [0], [1], size=8, n_steps=1, progress=False),
        lambda: render_illusions(model, [0], [1], layer="conv", size=8, n_steps=1, progress=False),
        lambda: NeuroInspect(model, image_size=8),
    ):
        with left_unchanged(model), pytest.raises(ValueError, match=message):
            call()


def test_a_dictionary_without_logits_asks_for_a_head():
    with pytest.raises(TypeError, match="of its 'age', 'sex' none is known to count: give"):
        find_head(TwoHeads(AFTER["dict"]), torch.rand(1, 3, 8, 8))


def test_an_inner_output_beside_the_logits_is_no_rival():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head, self.aside = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x):
            z = self.inner(x)
            self.aside(z)
            return self.head(z.relu()), z

    model = Net()
    with left_unchanged(model):
        assert find_head(model, torch.rand(2, 4)) is model.head


def test_a_session_and_illusions_of_the_second_head():
    torch.manual_seed(0)
    model, (images, labels) = TwoHeads(), _pictures(40)
    session = NeuroInspect(model, head="sex", image_size=8, progress=False)
    with torch.no_grad():
        torch.testing.assert_close(session.load((images, labels)).logits, model(images)[1])
    found = render_illusions(model, [0], [1], head=model.sex, size=8, n_steps=1, progress=False)
    torch.testing.assert_close(found.logits, model(found.images)[1][:, 1].detach())


def test_edit_through_images_takes_a_head():
    torch.manual_seed(0)
    model, data = TwoHeads(), _pictures()
    torch.manual_seed(1)  # other photos than those that it trains on
    held = collect_features(model, _pictures(), model.sex, progress=False)
    settings = EditSettings(n_epochs=1, lr=1e-4)
    options = {"target": 1, "neurons": [1, 2], "settings": settings}
    edit = edit_through_images(model, data, held, head=model.sex, **options)
    assert torch.equal(edit.original.weight, model.sex.weight)
    with pytest.raises(ValueError, match="'inner' is not the decision layer"):
        edit_through_images(model, data, held, head=model.inner, **options)


NOT_HEADS = {
    "inner": (lambda m: m.backbone[6], None, r"'backbone\.6' is not the decision layer.*layer="),
    "scaled": (lambda m: m.head, lambda y: 2 * y, "something .a scale, .* changes it before"),
    "scaled in place": (lambda m: m.head, lambda y: y.mul_(2), "changes it before"),
    "cut": (lambda m: m.head, lambda y: y[:, :2], r"\(1?\d, 4\) is not the model's output"),
}


@pytest.mark.parametrize(("pick", "after", "message"), NOT_HEADS.values(), ids=NOT_HEADS.keys())
def test_what_does_not_decide_is_refused_as_a_head(pick, after, message):
    model = ConvNet()
    model.backbone.append(nn.Linear(16, 16))
    head = pick(model)
    if after is not None:
        model.register_forward_hook(lambda _, __, output: after(output))
    with left_unchanged(model):
        for call in (
            lambda: collect_features(model, _pictures(), head, progress=False),
            lambda: render_illusions(model, [0], head=head, size=8, n_steps=1, progress=False),
            lambda: render_illusions(
                model, [0], head=head, layer="backbone.0", size=8, n_steps=1, progress=False
            ),
            lambda: NeuroInspect(model, head=head, image_size=8),
        ):
            with pytest.raises(ValueError, match=message):
                call()


@pytest.mark.parametrize("of", [lambda y: y.softmax(1), lambda y: y.log_softmax(1), torch.sigmoid])
def test_probabilities_behind_a_given_head(of):
    """The head's own output is kept, so that `with_head` compares like with like."""
    model, (images, labels) = ConvNet(), _pictures()
    model.register_forward_hook(lambda _, __, output: of(output))
    found = collect_features(model, (images, labels), model.head, progress=False)
    torch.testing.assert_close(found.logits, model.head(found.features).detach())
    torch.testing.assert_close(found.logits, found.with_head(model.head).logits)


class Cosine(nn.Linear):
    def forward(self, x):
        return 9 * F.linear(F.normalize(x), F.normalize(self.weight))


class Adapted(nn.Linear):
    """As LoRA's layers that are subclasses."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.a = nn.Parameter(torch.rand(sizes[1], sizes[0]))

    def forward(self, x):
        return super().forward(x) + F.linear(x, self.a)


def _hooked(layer):
    layer.register_forward_hook(lambda _, __, output: 3 * output)
    return layer


def _replaced(layer):
    layer.forward = lambda x: F.linear(x, layer.weight)
    return layer


ODD_HEADS = {
    "cosine": (lambda: Cosine(16, 4), r"its class .*Cosine computes something else"),
    "adapter": (lambda: Adapted(16, 4), "its class .*Adapted computes"),
    "hook": (lambda: _hooked(nn.Linear(16, 4)), "a hook changes what it takes or gives"),
    "forward": (lambda: _replaced(nn.Linear(16, 4)), "its forward was replaced"),
}


@pytest.mark.parametrize(("make", "message"), ODD_HEADS.values(), ids=ODD_HEADS.keys())
def test_heads_whose_weight_is_not_what_they_compute_by(make, message):
    model = ConvNet()
    model.head = make()
    for head in (None, model.head):
        with left_unchanged(model), pytest.raises(ValueError, match=message):
            collect_features(model, _pictures(), head, progress=False)


def test_a_hook_that_changes_the_heads_input_is_part_of_the_backbone():
    model, (images, labels) = ConvNet().eval(), _pictures()
    model.head.register_forward_pre_hook(lambda _, args: (F.normalize(args[0]),))
    found = collect_features(model, (images, labels), progress=False)
    torch.testing.assert_close(found.features.norm(dim=1), torch.ones(len(images)))
    torch.testing.assert_close(found.logits, model(images).detach())


def test_quantised_heads_are_named():
    model = ConvNet().eval()
    with torch.no_grad():
        model.head = _Codes(16, 4)
    with pytest.raises(TypeError, match=r"quantised .*_Codes, whose weights are torch\.int8"):
        collect_features(model, _pictures(), model.head, progress=False)

    class Packed(nn.Module):
        def forward(self, x):
            return x[:, :4] * 2

    Packed.__module__ = "torch.ao.nn.quantized.dynamic.modules.linear"
    model.head = Packed()
    with pytest.raises(ValueError, match=r"quantised layers \(torch\.ao.*Packed\)"):
        find_head(model, torch.rand(1, 3, 8, 8))
    with pytest.raises(TypeError, match=r"head is torch\.ao.*Packed, expected nn\.Linear"):
        collect_features(model, _pictures(), model.head, progress=False)


class _Codes(nn.Linear):
    """As bitsandbytes keeps its weights."""

    def __init__(self, *sizes):
        super().__init__(*sizes, bias=False)
        codes = torch.ones_like(self.weight, dtype=torch.int8)
        self.weight = nn.Parameter(codes, requires_grad=False)

    def forward(self, x):
        return F.linear(x, self.weight.float())


def test_lazy_layers_are_refused_before_they_change():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    message = "Sequential has no weights yet, as layer '1' is a LazyLinear: run the model once"
    for call in (
        lambda: find_head(model, torch.rand(1, 3, 2, 2)),
        lambda: collect_features(model, _pictures(), progress=False),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(ValueError, match="LazyLinear has no weights yet, as it is a LazyLinear"):
        edit_head(model[3], None, None, target=0, neurons=[1])
    model(torch.rand(1, 3, 2, 2))
    assert find_head(model, torch.rand(1, 3, 2, 2)) is model[3]


class Views(nn.Module):
    """One head over two views, whose answers are averaged, or only the last counts."""

    def __init__(self, averages):
        super().__init__()
        self.head, self.averages = nn.Linear(12, 3), averages

    def forward(self, x):
        first, second = self.head(x.flatten(1)), self.head(x.flip(-1).flatten(1))
        return (first + second) / 2 if self.averages else second


def test_a_head_that_runs_twice():
    data = torch.rand(4, 3, 2, 2), torch.arange(4) % 3
    model = Views(averages=False)
    found = collect_features(model, data, model.head, progress=False)
    torch.testing.assert_close(found.logits, model(data[0]).detach())
    model = Views(averages=True)
    with pytest.raises(ValueError, match="it runs 2 times in one pass"):
        collect_features(model, data, model.head, progress=False)
    with pytest.raises(ValueError, match=r"Averaging: 2 outputs \('head'\) are averaged"):
        find_head(model, data[0])


class Averaged(nn.Module):
    def __init__(self, n, scale):
        super().__init__()
        self.body = nn.Linear(12, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 4) for _ in range(n))
        self.scale = scale

    def forward(self, x):
        z = self.body(x.flatten(1)).relu()
        return sum(head(z) for head in self.heads) * self.scale


@pytest.mark.parametrize(("n", "scale"), [(2, 0.5), (3, 1 / 3), (2, 1.0)])
def test_averaged_heads_are_named(n, scale):
    """The body has outputs of the same shape, and takes no part in the mean."""
    model = Averaged(n, scale)
    names = ", ".join(f"'heads.{i}'" for i in range(n))
    with pytest.raises(ValueError, match=rf"Averaging: {n} outputs \({names}\).*layer= works"):
        find_head(model, torch.rand(2, 3, 2, 2))


def test_a_layer_works_without_a_head():
    model, images = Averaged(2, 0.5), torch.rand(2, 3, 2, 2)
    session = NeuroInspect(model, layer="body", image_size=2, progress=False)
    found = session.visualize([0, 3], [1, 2], n_steps=2, size=2)
    torch.testing.assert_close(found.logits, model(found.images).detach()[range(4), [1, 2, 1, 2]])
    with pytest.raises(ValueError, match="class 4 is out of range: there are 4 classes"):
        session.visualize([0], [4], n_steps=1, size=2)
    for call in (
        lambda: session.load((images, torch.arange(2))),
        lambda: session.head,
    ):
        with pytest.raises(RuntimeError, match=r"only visualize.* works without .*Averaging"):
            call()
    with pytest.raises(ValueError, match="class_names are 3"):
        NeuroInspect(model, class_names=["a", "b", "c"], layer="body", image_size=2)
    with pytest.raises(ValueError, match="'body' is not the decision layer"):
        NeuroInspect(model, head="body", layer="body", image_size=2)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models(wrap):
    model, (images, labels) = ConvNet().eval(), _pictures()
    wrapped = wrap(model)
    wrapped(images)
    assert find_head(wrapped, images[:1]) is model.head
    for head in (None, model.head):
        found = collect_features(wrapped, (images, labels), head, progress=False)
        torch.testing.assert_close(found.logits, model(images).detach())
        torch.testing.assert_close(found.features, model.backbone(images).detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("as_float", [False, True])
def test_models_of_other_dtypes(dtype, as_float):
    """Pixels in float32 come in; what is kept is float32 too."""
    model, (images, labels) = ConvNet().eval().to(dtype), _pictures()
    if as_float:
        model.register_forward_hook(lambda _, __, output: output.float())
    assert find_head(model, images[:1]) is model.head
    found = collect_features(model, (images, labels), progress=False)
    assert found.features.dtype == found.logits.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model(images.to(dtype)).float())


def test_masked_classes_and_the_rounding_of_other_kernels_are_no_difference():
    model = nn.Sequential(linear(torch.eye(3)), linear(torch.eye(3)))
    with torch.no_grad():
        model[1].bias = nn.Parameter(torch.tensor([0.0, -torch.inf, 0.0]))
    assert check_belongs(model, model[1], torch.rand(2, 3)) is model[1]
    model.register_forward_hook(lambda _, __, output: output * (1 + 1e-6))
    check_belongs(model, model[1], torch.rand(2, 3))
    model.register_forward_hook(lambda _, __, output: output + 0.01)
    with pytest.raises(ValueError, match="not the decision layer"):
        check_belongs(model, model[1], torch.rand(2, 3))


def test_a_watch_that_saw_nothing():
    model = ConvNet()
    with watched(model, model.head) as watch, pytest.raises(RuntimeError, match="was not run"):
        watch.logits(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="not a submodule"):
        check_belongs(model, nn.Linear(16, 4), torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize("given", [True, False])
def test_a_single_output_without_its_dimension_is_named(given: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1), nn.Flatten(0)).eval()
    head = model[1] if given else None
    assert head is None or isinstance(head, nn.Linear)
    data = torch.rand(6, 3, 2, 2), torch.arange(6) % 2
    with pytest.raises(ValueError, match=r"returns \(N, 1\), without squeeze"):
        collect_features(model, data, head, progress=False)
