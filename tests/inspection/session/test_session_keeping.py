"""The session keeps what took long, and leaves the model and the disk as they were."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Boom, assert_same_set, left_unchanged
from session_examples import (
    QUICK,
    SIZE,
    CountedNet,
    assert_same_illusions,
    loaded,
    photos,
    session,
)
from torch import nn

from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.optvis import IllusionOptions, Illusions

# The model is left as it was


def _everything(made: NeuroInspect, folder: Path) -> None:
    made.load(photos())
    made.explain()
    made.visualize(options=IllusionOptions(batch_size=5), **QUICK)
    made.edit("apple")
    made.compare()
    made.report(folder / "report.html")


def test_the_model_is_as_before_and_the_random_numbers_too(tmp_path: Path) -> None:
    net = CountedNet()
    net.backbone[1].eval()  # partly in training mode
    state = torch.random.get_rng_state()
    with left_unchanged(net):
        _everything(session(net), tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.fixture(scope="module")
def n_passes_of_everything(tmp_path_factory) -> int:
    net = CountedNet()
    _everything(session(net), tmp_path_factory.mktemp("everything"))
    return net.n_passes


@pytest.mark.parametrize("share", [0.05, 0.6, 0.95])
def test_the_model_is_as_before_after_an_error_anywhere(
    tmp_path: Path, n_passes_of_everything: int, share: float
) -> None:
    net = CountedNet()
    net.raise_at, net.error = max(int(share * n_passes_of_everything), 3), Boom
    made = session(net)
    with left_unchanged(net), pytest.raises(Boom):
        _everything(made, tmp_path)


# Keeping


def test_a_second_session_does_not_run_the_backbone(tmp_path: Path) -> None:
    first, second = CountedNet(), CountedNet()
    _everything(session(first, work=tmp_path / "work"), tmp_path / "1" / "run")
    _everything(session(second, work=tmp_path / "work"), tmp_path / "2" / "run")
    pages = [(tmp_path / n / "run" / "report.html").read_bytes() for n in "12"]
    assert pages[0] == pages[1]
    assert second.n_images <= 2  # where is the head, and is it the same model
    assert second.n_images < 0.02 * first.n_images


def _n_collected(work: Path, data: Any = None, net: Any = None, **options: Any) -> int:
    net = CountedNet() if net is None else net
    made = session(net, work=work, **options)
    n_before = net.n_images
    made.load(photos() if data is None else data)
    return net.n_images - n_before


def _repainted() -> CountedNet:
    net = CountedNet()
    net.backbone[0].weight.data[0, 0, 0, 0] += 0.01
    return net


class Squared(CountedNet):
    """The same weights, and another forward pass."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images**2)


class Scale(nn.Module):
    """Without a word about its factor in its text."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.factor


def test_only_the_same_question_is_answered_from_the_folder(tmp_path: Path) -> None:
    images, labels = photos()
    changed = images.clone()
    changed[3, 0, 0, 0] += 0.25
    Squared.__name__ = "CountedNet"
    questions: list[dict[str, Any]] = [
        {},
        {"net": _repainted()},
        {"net": Squared()},
        {"data": (changed, labels)},
        {"data": (images, labels.flip(0))},
        {"data": (images[:80], labels[:80])},
        {"image_size": 12},
        {"class_names": ("a", "b", "c")},
        {"preprocess": lambda x: x * 0.9},
        {"preprocess": lambda x: x * 0.8},
        {"preprocess": Scale(0.7)},
        {"preprocess": Scale(0.6)},
    ]
    for question in questions:
        assert _n_collected(tmp_path, **question) >= 80, question
    for question in questions:
        assert _n_collected(tmp_path, **question) <= 1, question
    assert _n_collected(tmp_path, fresh=True) >= 90


def test_other_settings_render_again(tmp_path: Path) -> None:
    net = CountedNet()

    def n_passes(made: NeuroInspect, **more: Any) -> int:
        before = net.n_images
        made.visualize([1, 2], more.pop("classes", (0,)), **{**QUICK, **more})
        return net.n_images - before

    def new(**options: Any) -> NeuroInspect:
        return session(net, work=tmp_path, **options)

    def half(images: torch.Tensor) -> torch.Tensor:
        return images.roll(1, -1)

    assert n_passes(new()) > 2
    assert n_passes(new()) <= 1
    for more in ({"n_steps": 3}, {"gamma": 0.1}, {"size": 20}, {"seed": 3}, {"classes": (1,)}):
        assert n_passes(new(), **more) > 2, more
        assert n_passes(new(), **more) <= 1, more
    grey = IllusionOptions(init=torch.full((3, SIZE, SIZE), 0.5))
    assert n_passes(new(), options=grey) > 2
    assert n_passes(new(), options=grey) <= 1
    assert n_passes(new(), options=IllusionOptions(init=grey.init + 0.1)) > 2
    assert n_passes(new(seed=4)) > 2
    assert n_passes(new(layer="backbone.0")) > 2
    assert n_passes(new(layer="backbone.2")) > 2
    assert n_passes(new(fresh=True)) > 2
    for _ in range(2):  # nobody can name a function
        assert n_passes(new(), transforms=[half]) > 2


def _look(made: NeuroInspect, page: Path) -> bytes:
    made.load(photos())
    made.visualize(options=IllusionOptions(batch_size=5), **QUICK)
    return made.report(page / "run" / "report.html").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[list[int], Illusions, bytes]:
    """Passes until the photos are loaded, illusions rendered, all is done; and the results."""
    folder, net = tmp_path_factory.mktemp("whole"), CountedNet()
    made = session(net, work=folder / "work")
    made.load(photos())
    n_passes = [net.n_passes]
    illusions = made.visualize(options=IllusionOptions(batch_size=5), **QUICK)
    n_passes.append(net.n_passes)
    page = _look(made, folder)
    return [*n_passes, net.n_passes], illusions, page


@pytest.mark.filterwarnings("ignore:.*interrupted")
@pytest.mark.parametrize("phase", range(4))
def test_an_interrupt_loses_nothing_that_was_finished(
    tmp_path: Path, uninterrupted, phase: int
) -> None:
    (n_loaded, n_rendered, n_passes), illusions, page = uninterrupted
    middle, half = (n_loaded + n_rendered) // 2, (n_rendered + n_passes) // 2

    net = CountedNet()
    net.raise_at = (n_loaded // 2, n_loaded + 3, middle, half)[phase]
    made = session(net, work=tmp_path / "work")

    with pytest.raises(KeyboardInterrupt):
        _look(made, tmp_path)
    kept = {entry["sha256"] for entry in made.work.entries()}
    assert bool(kept) == (phase > 0)
    n_before = net.n_passes
    assert _look(made, tmp_path) == page
    assert made.illusions is not None
    assert_same_illusions(made.illusions, illusions)
    assert kept <= {entry["sha256"] for entry in made.work.entries()}
    # What was begun is done twice: a part of the features, or a batch of illusions.
    at_most = (n_loaded, *[n_rendered - n_loaded] * 2, 10)[phase]
    assert net.n_passes - n_before <= n_passes - n_before + at_most


def test_a_damaged_result_is_reported_and_made_again(tmp_path: Path) -> None:
    net = CountedNet()
    made = session(net, work=tmp_path)
    made.load(photos())
    expected = made.visualize([1], [0], **QUICK)
    for kind in ("features", "illusions"):
        (path,) = (tmp_path / kind).glob("*.safetensors")
        path.write_bytes(path.read_bytes()[:-5])
    again = session(net, work=tmp_path)
    with pytest.warns(UserWarning, match="damaged and is made again"):
        assert_same_set(again.load(photos()), made.data.inspected.features)
    with pytest.warns(UserWarning, match="damaged and is made again"):
        assert_same_illusions(again.visualize([1], [0], **QUICK), expected)


def test_without_a_folder_nothing_is_left(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = loaded()
    made.explain()
    assert any(tmp_path.rglob("*.safetensors"))
    del made
    gc.collect()
    assert not list(tmp_path.iterdir())
