"""Renderings that do not go smoothly: interrupts, too little memory, numbers not finite."""

import json
import warnings
from contextlib import contextmanager

import pytest
import torch
from helpers import left_unchanged
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet, render
from torch import nn

FAST = {"size": 16, "n_steps": 5, "progress": False}
PAIRS = {"neurons": [0, 3, 5, 1, 2], "classes": [1, 0, 3, 2, 2]}
GUIDED = {"encoder": FakeEncoder(), "class_names": CLASS_NAMES}


def assert_same(one, other, atol=1e-4):
    for name in ("images", "masks", "activations", "logits", "similarities", "snapshots"):
        left, right = getattr(one, name), getattr(other, name)
        if left is None:
            assert right is None
        else:
            torch.testing.assert_close(left, right, atol=atol, rtol=1e-3)


@contextmanager
def before_pass(model, act):
    """Call ``act(number of the pass, input)`` before each pass; it may change the input.

    The first step is pass 1; passes that look at the model before it are pass 0. One of
    them, with a gradient, tries the order of memory.
    """
    n_passes, was_tried = 0, False

    def hook(_, args):
        nonlocal n_passes, was_tried
        n_passes += n_passes > 0 or (was_tried and args[0].requires_grad)
        was_tried |= args[0].requires_grad
        return act(n_passes, args[0])

    handle = model.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def interrupting(*passes):
    def act(number, _):
        if number in passes:
            raise KeyboardInterrupt

    return act


@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["class", "guided"])
def test_an_interrupt_gives_what_there_is(guided):
    model = TinyNet().train()
    whole = render(model, **PAIRS, **guided, **FAST, batch_size=2)
    # Two batches of two with 5 steps, a clean pass and one for masks; in
    # the second, 3 steps are done.
    third_step = 7 + 4
    with before_pass(model, interrupting(third_step)), left_unchanged(model):
        with pytest.warns(UserWarning, match="4 of 5 illusions are returned, the last 2 after 3 "):
            found = render(model, **PAIRS, **guided, **FAST, batch_size=2)
    assert found.neurons == (0, 3, 5, 1)
    assert found.classes == (1, 0, 3, 2)
    assert found.settings["interrupted"] == {"n_pairs": 5, "step": 3}
    assert len(found.images) == len(found.masks) == len(found.logits) == 4
    assert found.images[:2].equal(whole.images[:2])
    assert not found.images[2:].equal(whole.images[2:4])
    model.eval()
    with torch.no_grad():
        logits = model(found.images)
    torch.testing.assert_close(found.logits, logits[torch.arange(4), list(found.classes)])


def test_an_interrupted_image_is_that_of_its_step():
    model = TinyNet()
    way = render(model, [0, 1], **FAST, snapshots=[2, 3, 5])
    with before_pass(model, interrupting(4)), pytest.warns(UserWarning, match="after 3"):
        found = render(model, [0, 1], **FAST, snapshots=[2, 3, 5])
    torch.testing.assert_close(found.images, way.snapshots[1])
    torch.testing.assert_close(found.snapshots[:2], way.snapshots[:2])
    assert found.snapshots[2].equal(found.images), "the last images stand in"
    assert found.snapshot_steps == (2, 3, 5)


def test_an_interrupt_in_the_clean_pass_loses_nothing():
    model = TinyNet()
    whole = render(model, [0, 1], **FAST)
    with before_pass(model, interrupting(6)), pytest.warns(UserWarning, match="2 of 2"):
        found = render(model, [0, 1], **FAST)
    assert_same(found, whole)


def test_a_batch_without_a_step_is_left_out():
    model = TinyNet()
    first_of_second = 6 + 1
    with before_pass(model, interrupting(first_of_second)), pytest.warns(UserWarning, match="2 of"):
        found = render(model, [0, 1, 2], **FAST, batch_size=2)
    assert found.neurons == (0, 1)
    assert found.settings["interrupted"] == {"n_pairs": 3, "step": 5}


@pytest.mark.parametrize("passes", [(0,), (1,), (3, 4)])
def test_an_interrupt_is_passed_on_when_nothing_exists(passes):
    model = TinyNet().train()
    with before_pass(model, interrupting(*passes)), left_unchanged(model):
        with pytest.raises(KeyboardInterrupt):
            render(model, [0, 1], **FAST)


ERRORS = {
    "accelerator": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "Windows": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"),
    "Python": MemoryError(),
}
each_error = pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())


class Narrow(nn.Module):
    """Takes no more than some images at a time, from its first step on."""

    def __init__(self, most, error, n_good=0):
        super().__init__()
        self.net, self.most, self.error, self.n_good = TinyNet(), most, error, n_good
        self.widths: list[int] = []

    def forward(self, x):
        if x.requires_grad:
            self.widths.append(len(x))
            # The first pass with a gradient, of two images, tries the order of memory.
            if len(x) > self.most and len(self.widths) > 1 + self.n_good:
                raise self.error
        return self.net(x)


@each_error
@pytest.mark.parametrize("n_good", [0, 2])
def test_too_little_memory_halves_the_batch(error, n_good):
    whole = render(TinyNet(), **PAIRS, **GUIDED, **FAST, snapshots=[1, 4])
    model = Narrow(1, error, n_good)
    with left_unchanged(model), pytest.warns(UserWarning, match="out of memory with batch_size=4"):
        found = render(
            model, **PAIRS, **GUIDED, **FAST, snapshots=[1, 4], batch_size=4, head=model.net.fc
        )
    assert_same(found, whole)
    assert found.settings["n_together"] == 1
    # Each size is tried once, and no step that was done is done again.
    tried = [2] + [4] * n_good + [4, 2] + [1] * 4 * (5 - n_good) + [1] * 5
    assert model.widths == tried


def test_an_allocation_that_really_fails():
    class Greedy(TinyNet):
        def forward(self, x):
            torch.empty(2**50 if len(x) > 2 else 1)
            return super().forward(x)

    with pytest.warns(UserWarning, match="2 at a time"):
        found = render(Greedy(), **PAIRS, **FAST)
    assert_same(found, render(TinyNet(), **PAIRS, **FAST))


def test_a_clean_pass_that_does_not_fit():
    def act(number, images):
        if number > 0 and not images.requires_grad and len(images) > 1:
            raise MemoryError

    model = TinyNet()
    whole = render(model, [0, 1, 2], **FAST)
    with before_pass(model, act), pytest.warns(UserWarning, match="1 at a time"):
        assert_same(render(model, [0, 1, 2], **FAST), whole)


@each_error
def test_a_single_image_that_does_not_fit(error):
    model = Narrow(0, error)
    with left_unchanged(model), pytest.raises(type(error), match="for a single image: try") as info:
        render(model, [0, 1, 2], **FAST)
    assert info.value.__cause__ is error


def test_other_errors_are_not_about_memory():
    model = Narrow(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        render(model, [0, 1], **FAST)
    assert model.widths == [2, 2]


def poisoning(row, *steps, value=float("nan")):
    def act(number, images):
        if images.requires_grad and number in steps:
            factor = torch.ones(len(images), 1, 1, 1)
            factor[row] = value
            return images * factor

    return act


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("steps", [(1,), (3,), (2, 3, 5)])
def test_a_step_that_is_not_finite_is_rolled_back_for_its_image_only(steps, value):
    model = TinyNet().train()
    whole = render(model, [0, 3, 5], 1, **FAST)
    with before_pass(model, poisoning(1, *steps, value=value)), left_unchanged(model):
        message = rf"1 images had .* in {len(steps)} steps"
        with pytest.warns(UserWarning, match=message):
            found = render(model, [0, 3, 5], 1, **FAST, snapshots=[1, 2, 3, 4, 5])
    assert found.settings["n_rolled_back"] == [0, len(steps), 0]
    others = [0, 2]
    assert found.images[others].equal(whole.images[others])
    for name in ("images", "activations", "logits", "masks"):
        assert getattr(found, name).isfinite().all()
    start = render(model, [0, 3, 5], 1, **{**FAST, "n_steps": 1}, lr=1e-12).images
    way = torch.cat([start[None], found.snapshots])
    for step in range(1, 6):
        moved = (way[step, 1] - way[step - 1, 1]).abs().max()
        assert (moved < 1e-6) == (step in steps)


def test_a_rolled_back_image_does_not_depend_on_its_batch():
    model = TinyNet()
    found = []
    for row, arguments in ((1, {"neurons": [0, 3, 5]}), (0, {"neurons": 3, "seed": 1})):
        with before_pass(model, poisoning(row, 2, 4)), pytest.warns(UserWarning, match="sat out"):
            found.append(render(model, **arguments, **FAST))
    torch.testing.assert_close(found[0].images[1], found[1].images[0], atol=1e-4, rtol=1e-4)


def test_a_gradient_that_is_not_finite():
    class Root(TinyNet):
        """The square root has an infinite slope at the 0 of a closed ReLU."""

        def forward(self, x):
            return self.fc(self.act(self.norm(self.conv(x))).mean((2, 3)).sqrt())

    model = Root(bias=-30.0)
    with pytest.warns(UserWarning, match="2 images had a loss or gradient"):
        found = render(model, [0, 1], 1, **FAST)
    assert found.settings["n_rolled_back"] == [5, 5]
    assert found.images.isfinite().all()


def test_a_parameterization_without_finite_gradients():
    def broken(size, batch, *, seed, device):
        values = torch.zeros(batch, 3, *size).requires_grad_()
        slope = torch.ones(batch, 1, 1, 1)
        slope[0] = float("inf")
        values.register_hook(lambda gradient: gradient * slope)
        return [values], values.sigmoid

    with pytest.warns(UserWarning, match="1 images"):
        found = render(TinyNet(), [0, 1], param=broken, **FAST)
    assert found.settings["n_rolled_back"] == [5, 0]
    assert found.images[0].eq(0.5).all()
    assert found.images[1].ne(0.5).any()


def test_without_trouble_there_are_no_warnings_and_settings_are_json():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = render(TinyNet(), **PAIRS, **GUIDED, negative=["a dot"], **FAST)
    assert found.settings["interrupted"] is None
    assert found.settings["n_rolled_back"] == [0] * 5
    json.dumps(found.settings, allow_nan=False)
