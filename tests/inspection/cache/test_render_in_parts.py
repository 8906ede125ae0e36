from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Boom, ConvNet, left_unchanged

from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.inspection.cache.render_in_parts import render_in_parts
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.optvis import Guidance, IllusionOptions, render_illusions

PAIRS = [(0, 1), (3, 2), (5, 0), (0, 2), (9, 3)]
PAIRWISE = IllusionOptions(batch_size=2)
QUICK: dict[str, Any] = {"n_steps": 2, "size": 12, "progress": False}


@pytest.fixture
def work(tmp_path: Path) -> WorkFolder:
    return WorkFolder(tmp_path / "work")


def _render(work: WorkFolder, net: Any, pairs: Any = PAIRS, **options: Any) -> Any:
    options = {"key": {"model": "a"}, "seed": 3, "options": PAIRWISE, **QUICK, **options}
    return render_in_parts(work, net, pairs, **options)


def _n_kept(work: WorkFolder) -> int:
    return sum(entry["kind"] == "illusions" for entry in work.entries())


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_parts_are_the_whole(work: WorkFolder, batch_size: int) -> None:
    net = ConvNet()
    options = IllusionOptions(batch_size=batch_size, snapshots=[1, 2])
    with left_unchanged(net):
        found = _render(work, net, options=options)
    neurons, classes = zip(*PAIRS, strict=True)
    expected = render_illusions(net, neurons, classes, seed=3, options=options, **QUICK)
    for name in ("images", "masks", "activations", "logits", "snapshots"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert (found.neurons, found.classes) == (neurons, classes)
    assert found.snapshot_steps == (1, 2)
    assert found.settings["n_rolled_back"] == expected.settings["n_rolled_back"]
    assert found.settings["seed"] == 3
    assert _n_kept(work) == -(-len(PAIRS) // batch_size)


def test_neurons_alone(work: WorkFolder) -> None:
    net = ConvNet()
    found = _render(work, net, [(1, None), (2, None), (4, None)])
    assert found.classes is None
    assert found.logits is None
    expected = render_illusions(net, [1, 2, 4], seed=3, options=PAIRWISE, **QUICK)
    assert torch.equal(found.images, expected.images)


class Dying(ConvNet):
    """Fails at one pass: what an interrupt comes upon may still finish something."""

    n_passes, raise_at = 0, -1

    def forward(self, images: Any) -> Any:
        self.n_passes += 1
        if self.n_passes == self.raise_at or self.raise_at == 0:
            raise self.error
        return super().forward(images)


@pytest.mark.filterwarnings("ignore:.*interrupted")
@pytest.mark.parametrize("error", [KeyboardInterrupt, Boom])
def test_finished_parts_stay_and_half_a_part_does_not(work: WorkFolder, error: Any) -> None:
    net = Dying()
    _render(work, net, PAIRS[:2], n_steps=6)
    whole = net.n_passes
    assert whole >= 6
    net.raise_at, net.error = 3 * whole - 3, error  # one of the last steps of the second part
    with left_unchanged(net), pytest.raises(error):
        _render(work, net, n_steps=6, key={"model": "b"})
    assert _n_kept(work) == 1 + 1
    found = _render(work, net, n_steps=6, key={"model": "b"})
    again = _render(work, net, n_steps=6, key={"model": "b"}, fresh=True)
    assert torch.equal(found.images, again.images)
    assert found.settings["interrupted"] is None


def test_what_is_kept_is_not_rendered_again(work: WorkFolder) -> None:
    net = Dying()
    _render(work, net)
    net.raise_at, net.error = 0, Boom
    _render(work, net)
    _render(work, net, progress=True)  # no setting of the images
    for change in (
        {"n_steps": 3}, {"seed": 4}, {"key": {"model": "b"}}, {"size": 13},
        {"options": replace(PAIRWISE, lr=0.1)}, {"options": "paper"},
        {"options": replace(PAIRWISE, guidance=Guidance(eps=0.1))},
    ):  # fmt: skip
        with pytest.raises(Boom):
            _render(work, net, **change)
    with pytest.raises(Boom):
        _render(work, net, fresh=True)
    with pytest.raises(Boom):
        _render(work, net, [*PAIRS[1:], PAIRS[0]])


def test_an_options_name_is_no_part_of_the_key(work: WorkFolder) -> None:
    """The caller's key may have a name that an option has too."""
    net = ConvNet()
    small, large = (_render(work, net, key={"size": 1}, size=size) for size in (12, 16))
    assert small.images.shape != large.images.shape


def test_what_nobody_can_name_is_not_kept(work: WorkFolder) -> None:
    net = ConvNet()

    def to_left(images: torch.Tensor) -> torch.Tensor:
        return images.roll(1, -1)

    def upside_down(images: torch.Tensor) -> torch.Tensor:
        return images.flip(-2)

    found = [_render(work, net, transforms=[function]) for function in (to_left, upside_down)]
    assert not torch.equal(found[0].images, found[1].images)
    assert _n_kept(work) == 0


def test_each_image_starts_from_its_own(work: WorkFolder) -> None:
    net = ConvNet()
    init = torch.rand(5, 3, 12, 12)
    options, turned = (replace(PAIRWISE, init=images) for images in (init, init.flip(0)))
    found = _render(work, net, options=options)
    neurons, classes = zip(*PAIRS, strict=True)
    expected = render_illusions(net, neurons, classes, seed=3, options=options, **QUICK)
    assert torch.equal(found.images, expected.images)
    assert not torch.equal(_render(work, net, options=turned).images, found.images)


def test_an_encoder_is_loaded_when_something_is_rendered(work: WorkFolder) -> None:
    n_loaded = 0

    def load() -> LabelSpaceEncoder:
        nonlocal n_loaded
        n_loaded += 1
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        texts = lambda texts: torch.tensor([[len(t), 9.0] for t in texts])  # noqa: E731
        return LabelSpaceEncoder(network, ["red", "greenish", "of a blue sort"], texts)

    net, names = ConvNet(), list("abcd")
    for _ in range(2):
        lazy = LazyEncoder("mine", load, "mine")
        found = _render(work, net, encoder=lazy, class_names=names, key={"encoder": lazy.key})
    assert n_loaded == 1
    assert found.settings["encoder"] == "LabelSpaceEncoder"
    assert found.class_names == ("b", "c", "a", "c", "d")


def test_each_image_has_its_own_prompt(work: WorkFolder) -> None:
    """And its own similarity to what should not be there."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    def embed(texts: list[str]) -> torch.Tensor:
        return torch.tensor([[len(text), 9.0] for text in texts])

    encoder = LabelSpaceEncoder(network, ["red", "greenish", "of a blue sort"], embed)
    guidance = Guidance(prompts=["a", "bb", "cccc", "d", "ee"], negative=["a watermark"])
    options = replace(PAIRWISE, guidance=guidance)
    net, neurons = ConvNet(), [neuron for neuron, _ in PAIRS]
    pairs = [(neuron, None) for neuron in neurons]
    found = _render(work, net, pairs, encoder=encoder, options=options)
    expected = render_illusions(net, neurons, encoder=encoder, seed=3, options=options, **QUICK)
    assert torch.equal(found.images, expected.images)
    assert found.settings == expected.settings


def test_bad_arguments(work: WorkFolder) -> None:
    with pytest.raises(ValueError, match="options='slow'"):
        _render(work, ConvNet(), options="slow")
    with pytest.raises(ValueError, match="pairs is empty"):
        _render(work, ConvNet(), [])
    with pytest.raises(ValueError, match="n_steps"):
        _render(work, ConvNet(), n_steps=0)
    assert _n_kept(work) == 0
