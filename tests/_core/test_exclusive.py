"""Several threads on one model: the numbers of one alone, and the model as it was."""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Boom, ConvNet, SmallEncoder, left_unchanged
from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    NeuronCounterfactual,
    collect_features,
    edit_head,
    find_head,
    neuron_saliency,
    render_illusions,
)
from captum_neuroinspect._core import exclusive as _exclusive
from captum_neuroinspect._core.exclusive import exclusive, exclusive_layer, generators_forked
from captum_neuroinspect._core.fingerprint import backbone_fingerprint, head_fingerprint
from captum_neuroinspect._core.locks import locked
from captum_neuroinspect._core.modules import captured_input, frozen
from captum_neuroinspect.analysis.top_photos import crops
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.models.saving import save_model
from captum_neuroinspect.optvis import GuidedModel, clean_hooks, neurons_of_classes

FOR_EVER = 60.0


@pytest.fixture(autouse=True)
def often_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)
    assert not _exclusive._held
    assert not _exclusive._waiting


def together(*calls: Callable[[], Any]) -> list[Any]:
    """What each call gave in a thread of its own, or the error that it raised."""
    found: list[Any] = [None] * len(calls)

    def run(place: int, call: Callable[[], Any]) -> None:
        try:
            found[place] = call()
        except Exception as error:
            found[place] = error

    threads = [
        threading.Thread(target=run, args=pair, daemon=True, name=f"call {pair[0]}")
        for pair in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(FOR_EVER)
        assert not thread.is_alive(), "it hangs"
    return found


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + FOR_EVER
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.001)


def somebody_waits() -> bool:
    return bool(_exclusive._waiting)


def net(**options: Any) -> ConvNet:
    torch.manual_seed(0)
    return ConvNet(**options)


def photos(n: int = 12) -> Tensor:
    return torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def edit_of(model: ConvNet) -> HeadEdit:
    data = collect_features(model, (photos(), torch.arange(12) % 4), progress=False)
    return compare_heads(model.head, nn.Linear(16, 4), data, {0: [1]})


def operations(model: ConvNet) -> dict[str, Callable[[], Any]]:
    images, labels = photos(), torch.arange(12) % 4
    edit, wrapped = edit_of(model), nn.Sequential(nn.Identity(), model)

    def collected(net: nn.Module) -> list[Any]:
        found = collect_features(net, (images, labels), progress=False)
        return [found.features, found.logits, found.head_fingerprint]

    def at(forward: Any, layer: nn.Module) -> Tensor:
        return NeuronCounterfactual(forward, layer).attribute(images[:3], target=1)

    def applied() -> Tensor:
        with edit.applied(model, example=images[:2]):
            return collect_features(model, (images, labels), progress=False).logits

    def guided() -> Tensor:
        return GuidedModel(model, SmallEncoder(), example=images[:2])(images[:2])

    return {
        "find": lambda: id(find_head(model, images[:1])),
        "collect": lambda: collected(model),
        "collect wrapped": lambda: collected(wrapped),
        "saliency": lambda: neuron_saliency(model, "head", images[:4], [0, 1]),
        "gradcam": lambda: neuron_saliency(model, "head", images[:4], [0, 1], "gradcam"),
        "inner": lambda: at(model, model.backbone[0]),
        "inner of function": lambda: at(lambda x: model(x), model.backbone[0]),
        "head": lambda: at(model, model.head),
        "head of function": lambda: at(model.forward, model.head),
        "features": lambda: NeuronCounterfactual(model.head, model.head).attribute_features(
            edit.head.weight.detach().abs()[:, :16], target=1
        ),
        "render": lambda: (
            render_illusions(model, [1], [0], n_steps=1, size=12, progress=False).images
        ),
        "crops": lambda: crops(model, images[:3], 1).boxes,
        "guided": guided,
        "applied": applied,
        "weights": lambda: [head_fingerprint(model.head), neurons_of_classes(model.head, 1)],
        "all weights": lambda: backbone_fingerprint(model),
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        return all(same(*pair) for pair in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


@pytest.mark.parametrize(
    "names",
    [
        ("find", "find"),
        ("collect", "saliency"),
        ("saliency", "gradcam"),
        ("inner", "collect wrapped"),
        ("inner", "head"),
        ("inner of function", "head of function"),
        ("inner of function", "collect"),
        ("render", "collect"),
        ("render", "applied"),
        ("crops", "inner"),
        ("applied", "collect wrapped"),
        ("applied", "weights", "all weights"),
        ("applied", "features"),
        ("applied", "head of function"),
        ("applied", "applied"),
        ("guided", "render", "applied"),
        ("find", "inner", "saliency", "collect"),
    ],
    ids=" + ".join,
)
@pytest.mark.parametrize("is_training", [True, False], ids=["train", "eval"])
def test_threads_get_what_each_gets_alone(names: tuple[str, ...], is_training: bool) -> None:
    model = net().train(is_training)
    model.backbone[0].requires_grad_(False)
    calls = operations(model)
    right = {name: calls[name]() for name in names}
    with left_unchanged(model):
        for _ in range(2):
            for name, found in zip(names, together(*(calls[n] for n in names)), strict=True):
                assert not isinstance(found, Exception), f"{name}: {found!r}"
                assert same(found, right[name]), name


def test_functions_of_which_nothing_is_known_keep_their_passes_apart() -> None:
    """Only their layers are held: a pass of one call runs the hooks of the other."""
    model, n_inside = net().eval(), 0
    both = threading.Barrier(2, timeout=FOR_EVER)

    class Opaque:  # the model is not found in it
        __slots__ = ()

        def __call__(self, images: Tensor) -> Tensor:
            nonlocal n_inside
            if threading.current_thread() is not threading.main_thread():
                n_inside += 1
                if n_inside <= 2:
                    both.wait()  # both have hooked their layers by now
            return models[0](images)

    models = [model]
    calls = [
        lambda layer=layer: NeuronCounterfactual(Opaque(), layer).attribute(photos(3), target=1)
        for layer in (model.backbone[1], model.head)
    ]
    right = [call() for call in calls]
    with left_unchanged(model):
        assert same(together(*calls), right)


@pytest.mark.parametrize("name", ["collect", "weights", "all weights", "saliency", "save"])
def test_an_edit_that_is_tried_is_seen_by_nobody_else(name: str, tmp_path: Path) -> None:
    model = net().eval()
    calls = operations(model)

    def saved() -> Tensor:
        path = save_model(model, tmp_path / "model.pt").path
        return torch.load(path, weights_only=True)["head.weight"]

    calls["save"] = saved
    edit, right, is_applied = edit_of(model), calls[name](), threading.Event()

    def applied() -> None:
        with edit.applied(model):
            is_applied.set()
            until(somebody_waits)

    def other() -> Any:
        is_applied.wait(FOR_EVER)
        return calls[name]()

    with left_unchanged(model):
        assert same(together(applied, other), [None, right])


@pytest.mark.filterwarnings("ignore:every epoch was worse")
@pytest.mark.filterwarnings("ignore:train has samples of")
@pytest.mark.parametrize("name", ["compare", "edit"])
def test_a_large_head_is_read_while_nobody_tries_an_edit_in_it(name: str) -> None:
    torch.manual_seed(0)
    head, other = nn.Linear(16, 1200), nn.Linear(16, 1200)
    z = torch.rand(900, 16)
    logits = head(z).detach()
    labels = torch.where(torch.arange(900) % 3 == 0, 1, logits.argmax(1))
    data = FeatureSet(z, logits, labels)
    train, held = data.split()
    edit, done = compare_heads(head, other, data, {1: [0]}), threading.Event()
    calls = {
        "compare": lambda: compare_heads(head, other, data, {1: [0]}),
        "edit": lambda: edit_head(head, train, held, target=1, neurons=[1], n_epochs=1, lr=1e-6),
    }

    def numbers() -> list[Any]:
        found = calls[name]()
        return [found.head.weight.detach(), found.before.accuracy, found.after.accuracy]

    def applied_and_not() -> None:
        while not done.is_set():
            with edit.applied(head):
                time.sleep(5e-4)
            time.sleep(5e-4)

    def several() -> list[bool]:
        try:
            return [same(numbers(), right) for _ in range(5)]
        finally:
            done.set()

    right = numbers()
    assert together(applied_and_not, several) == [None, [True] * 5]


class Meeting(nn.Module):
    """A classifier that answers when two of its kind are asked at the same time."""

    def __init__(self, both: threading.Barrier) -> None:
        super().__init__()
        self.head, self._both = nn.Linear(4, 2), both

    def forward(self, images: Tensor) -> Tensor:
        self._both.wait()
        return self.head(images.flatten(1)[:, :4])


@pytest.mark.parametrize("name", ["collect", "saliency", "counterfactual", "applied"])
def test_different_models_run_side_by_side(name: str) -> None:
    both = threading.Barrier(2, timeout=FOR_EVER)
    images, labels = torch.rand(4, 4), torch.arange(4) % 2

    def run(model: Meeting) -> None:
        head = model.head
        if name == "collect":
            collect_features(model, (images, labels), head, progress=False)
        elif name == "saliency":
            neuron_saliency(model, head, images, [0])
        elif name == "counterfactual":
            right = head(images).argmax(1)  # nothing to change: both make the same passes
            NeuronCounterfactual(lambda x: model(x), head).attribute(images, target=right)
        else:
            with edits[model].applied(model):
                both.wait()

    models = [Meeting(both), Meeting(both)]
    z = torch.rand(4, 4)
    edits = {}
    for model in models:
        data = collect_features(nn.Sequential(model.head), (z, labels), progress=False)
        edits[model] = compare_heads(model.head, nn.Linear(4, 2), data, {0: [1]})
    assert together(*(lambda m=m: run(m) for m in models)) == [None, None]


@pytest.mark.parametrize("kind", ["wrapper", "part", "tied"])
def test_what_shares_a_layer_or_a_parameter_waits(kind: str) -> None:
    model, tied = net(), nn.Linear(16, 4)
    tied.weight = model.head.weight
    wrapper = nn.Sequential(nn.Identity(), model)
    other = {"wrapper": wrapper, "part": model.head, "tied": nn.Sequential(tied)}[kind]
    started, order = threading.Event(), []

    def first() -> None:
        with exclusive(model):
            started.set()
            until(somebody_waits)
            order.append("first")

    def second() -> None:
        started.wait(FOR_EVER)
        with exclusive(other):
            order.append("second")

    assert together(first, second) == [None, None]
    assert order == ["first", "second"]


def test_what_was_swapped_meanwhile_is_held_too() -> None:
    """Whoever had the model may have put a parameter back into its place."""
    model, started = nn.Linear(2, 2), threading.Event()
    original = model.weight

    def swaps() -> None:
        with exclusive(model):
            model.weight = nn.Parameter(torch.zeros(2, 2))
            started.set()
            until(somebody_waits)
            model.weight = original

    def waits() -> bool:
        started.wait(FOR_EVER)
        with exclusive(model):
            return id(original) in _exclusive._held[-1]._ids

    assert together(swaps, waits) == [None, True]


def test_lucents_hooks_keep_others_from_the_networks_of_a_guided_model() -> None:
    model = net().eval()
    guided = GuidedModel(model, SmallEncoder(), example=photos(2))
    started, order = threading.Event(), []

    def first() -> None:
        with clean_hooks(guided):
            started.set()
            until(somebody_waits)
            order.append("first")

    def second() -> None:
        started.wait(FOR_EVER)
        find_head(model, photos(1))
        order.append("second")

    assert together(first, second) == [None, None]
    assert order == ["first", "second"]


def test_whoever_waits_longest_is_next() -> None:
    model, started, order = nn.Linear(1, 1), threading.Event(), []

    def greedy() -> None:
        with exclusive(model):
            started.set()
            until(somebody_waits)
        with exclusive(model):
            order.append("greedy")

    def patient() -> None:
        started.wait(FOR_EVER)
        with exclusive(model):
            order.append("patient")

    assert together(greedy, patient) == [None, None]
    assert order == ["patient", "greedy"]


def test_who_holds_something_goes_before_those_who_wait_for_it() -> None:
    one, other, started = nn.Linear(1, 1), nn.Linear(1, 1), threading.Event()

    def holder() -> str:
        with exclusive(one):
            started.set()
            until(somebody_waits)
            with exclusive(other, one):  # behind the other in the queue, it would never come
                return "done"

    def waiter() -> str:
        started.wait(FOR_EVER)
        with exclusive(one, other):
            return "done"

    assert together(holder, waiter) == ["done", "done"]


def test_several_models_are_taken_at_once_in_any_order() -> None:
    models = [nn.Linear(1, 1) for _ in range(3)]

    def many(order: list[int]) -> str:
        for _ in range(50):
            with frozen(*(models[i] for i in order)), exclusive(models[order[0]]):
                pass
        return "done"

    orders = ([0, 1, 2], [2, 1, 0], [1, 2, 0])
    assert together(*(lambda o=o: many(o) for o in orders)) == ["done"] * 3


@pytest.mark.parametrize("n", [2, 3])
def test_threads_that_would_wait_for_ever_are_told(n: int) -> None:
    models, all_hold = [nn.Linear(1, 1) for _ in range(n)], threading.Barrier(n, timeout=FOR_EVER)

    def hold(place: int) -> str:
        with frozen(models[place]):
            all_hold.wait()
            with frozen(models[(place + 1) % n]):
                return "done"

    found = together(*(lambda p=p: hold(p) for p in range(n)))
    errors = [one for one in found if one != "done"]
    assert len(errors) == 1
    assert isinstance(errors[0], RuntimeError)
    assert "wait for each other for ever" in str(errors[0])
    assert all(m.training and m.weight.requires_grad for m in models)


def test_so_are_those_who_wait_for_a_model_and_a_kept_result(tmp_path: Path) -> None:
    model, both = nn.Linear(1, 1), threading.Barrier(2, timeout=FOR_EVER)

    def model_first() -> str:
        with exclusive(model):
            both.wait()
            with locked(tmp_path / "lock"):
                return "done"

    def file_first() -> str:
        with locked(tmp_path / "lock"):
            both.wait()
            with exclusive(model):
                return "done"

    found = together(model_first, file_first)
    assert sorted(type(one) for one in found if one != "done") == [RuntimeError]


def test_an_error_gives_the_model_back() -> None:
    model = net().train()
    iterator_open = threading.Event()

    def broken() -> None:
        def items() -> Iterator[tuple[Tensor, int]]:
            yield photos(1)[0], 0
            iterator_open.set()
            until(somebody_waits)
            raise Boom

        class Data(torch.utils.data.IterableDataset):
            def __iter__(self) -> Iterator[tuple[Tensor, int]]:
                return items()

        collect_features(model, Data(), batch_size=1, progress=False)

    def other() -> bool:
        iterator_open.wait(FOR_EVER)
        return find_head(model, photos(1)) is model.head

    with left_unchanged(model):
        error, found = together(broken, other)
    assert isinstance(error, Boom)
    assert found is True


def test_an_interrupt_of_one_that_waits_leaves_no_trace(monkeypatch: Any) -> None:
    model, started = nn.Linear(1, 1), threading.Event()
    is_over = threading.Event()

    def hold() -> None:
        with exclusive(model):
            started.set()
            is_over.wait(FOR_EVER)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=hold)
    thread.start()
    started.wait(FOR_EVER)
    with monkeypatch.context() as patch:
        patch.setattr(_exclusive._changed, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt), exclusive(model):
            pass
    is_over.set()
    thread.join()
    with exclusive(model):
        assert len(_exclusive._held) == 1


def test_contexts_may_be_left_out_of_order_and_by_another_thread() -> None:
    model = net().eval()
    edit = edit_of(model)
    with left_unchanged(model):
        first, second = exclusive(model), edit.applied(model)
        for context in (first, second):
            context.__enter__()
        first.__exit__(None, None, None)
        assert _exclusive._held  # by the second one still
        assert together(lambda: second.__exit__(None, None, None)) == [False]
        assert together(lambda: find_head(model, photos(1))) == [model.head]


def test_an_abandoned_context_is_told_until_it_is_closed() -> None:
    model = net().eval()
    context = edit_of(model).applied(model)
    with left_unchanged(model):
        together(context.__enter__)
        with pytest.raises(RuntimeError, match=r"held by the thread 'call 0', which has ended"):
            find_head(model, photos(1))
        context.__exit__(None, None, None)
        assert find_head(model, photos(1)) is model.head


def test_waiting_for_long_is_said(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr(_exclusive, "_LONG", 0.0)
    monkeypatch.setattr(_exclusive, "_LOOK_AGAIN", 0.001)
    model, started = nn.Linear(1, 1), threading.Event()

    def hold() -> None:
        with exclusive(model):
            started.set()
            until(lambda: caplog.messages)

    def wait() -> None:
        started.wait(FOR_EVER)
        with exclusive_layer(model):
            pass

    together(hold, wait)
    assert caplog.messages == ["waiting for the thread 'call 0', which holds what is needed"]


def test_a_thread_may_hold_a_model_again() -> None:
    model = net()
    with frozen(model), frozen(model.head, model), captured_input(model.head):
        assert not model.training
    assert model.training


def test_no_model_is_kept_alive() -> None:
    model = net()
    operations(model)["render"]()
    with pytest.raises(Boom), frozen(model):
        raise Boom
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_threads_have_torchs_generators_one_after_the_other() -> None:
    started = threading.Event()
    right = torch.rand(4, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def first() -> Tensor:
        with generators_forked():
            torch.manual_seed(1)
            started.set()
            until(somebody_waits)
            return torch.rand(4)

    def second() -> Tensor:
        started.wait(FOR_EVER)
        with generators_forked():
            torch.manual_seed(1)
            return torch.rand(4)

    assert same(together(first, second), [right, right])
    assert torch.equal(torch.get_rng_state(), before)


def _try(model: nn.Module, found: Any) -> None:
    try:
        with exclusive(model):
            found.value = 1
    except RuntimeError:
        found.value = 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("is_mine", "expected"), [(True, 1), (False, 2)])
def test_a_forked_process_has_what_its_thread_had(is_mine: bool, expected: int) -> None:
    """What another thread did to a model when it was forked stays half done there."""
    model, leave, inside = nn.Linear(1, 1), threading.Event(), threading.Event()
    context = multiprocessing.get_context("fork")
    found = context.Value("i", 0)

    def hold() -> None:
        with exclusive(model):
            inside.set()
            leave.wait(FOR_EVER)

    def forked() -> bool:
        process = context.Process(target=_try, args=(model, found))
        process.start()
        process.join(FOR_EVER)
        is_done = process.exitcode == 0
        process.kill()
        return is_done

    if is_mine:
        with exclusive(model):
            assert forked()
    else:
        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait(FOR_EVER)
        assert forked()
        leave.set()
        thread.join()
    assert found.value == expected
