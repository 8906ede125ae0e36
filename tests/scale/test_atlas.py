"""Illusions of many pairs in a folder, in this process: without Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SmallEncoder
from scale_examples import CLASSES, bytes_of, write_net

from captum_neuroinspect import render_illusions
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.models import load_model
from captum_neuroinspect.optvis import IllusionOptions, classes_of_neurons
from captum_neuroinspect.scale import (
    AtlasSettings,
    IllusionAtlas,
    ScaleOptions,
    pair_seed,
    render_atlas,
)

HERE = ScaleOptions(n_workers=0, progress=False)
SMALL = AtlasSettings(neurons=(3, 9), classes_per_neuron=2, n_steps=3, size=16)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write_net(tmp_path)


def test_pairs_are_those_of_the_largest_weights(tmp_path: Path, spec: str) -> None:
    atlas = render_atlas(spec, tmp_path / "atlas", settings=SMALL, options=HERE)
    expected = classes_of_neurons(load_model(spec).model.head, [3, 9], n=2)
    assert [(one["neuron"], one["class"]) for one in atlas.pairs] == [*zip(*expected, strict=True)]
    assert len(atlas) == 4
    assert 0 <= atlas.top_1 <= 1
    assert IllusionAtlas.open(tmp_path / "atlas") == atlas


def test_a_pair_is_what_its_seed_renders(tmp_path: Path, spec: str) -> None:
    atlas = render_atlas(spec, tmp_path / "atlas", settings=SMALL, options=HERE)
    loaded = load_model(spec)
    for record, illusion in zip(atlas.pairs, atlas, strict=True):
        neuron, of_class = record["neuron"], record["class"]
        alone = render_illusions(
            loaded.model, [neuron] * 8, of_class, size=16, n_steps=3, progress=False,
            seed=[pair_seed(neuron, of_class), *range(7)], options=IllusionOptions(batch_size=8),
        )  # fmt: skip
        assert torch.equal(illusion.images, alone[:1].images)
        assert illusion.settings["seed"] == [pair_seed(neuron, of_class)]
        with torch.no_grad():
            assert record["predicted"] == int(loaded.model(illusion.images).argmax())


def test_a_pair_is_the_same_in_another_atlas(tmp_path: Path, spec: str) -> None:
    few = render_atlas(spec, tmp_path / "few", settings=SMALL, options=HERE)
    others = replace(SMALL, neurons=(20, 9), classes_per_neuron=1)
    other = render_atlas(spec, tmp_path / "other", settings=others, options=HERE)
    assert few.pairs[2]["sha256"] == other.pairs[1]["sha256"]
    again = replace(others, seed=1)
    seeded = render_atlas(spec, tmp_path / "seeded", settings=again, options=HERE)
    assert not torch.equal(seeded.illusion(1).images, other.illusion(1).images)


def test_a_restart_goes_on(tmp_path: Path, spec: str) -> None:
    out = tmp_path / "atlas"
    render_atlas(spec, out, settings=SMALL, options=HERE)
    before = bytes_of(out)
    (out / "pairs" / "part-000000.json").unlink()
    (out / "pairs" / "part-000001.safetensors").write_bytes(b"half")
    (out / "index.json").unlink()
    render_atlas(spec, out, settings=SMALL, options=HERE)
    assert bytes_of(out) == before


def test_what_does_not_fit_is_refused(tmp_path: Path, spec: str) -> None:
    out = tmp_path / "atlas"
    with pytest.raises(ValueError, match="neuron"):
        render_atlas(spec, out, settings=AtlasSettings(neurons=(99,)), options=HERE)
    with pytest.raises(ValueError, match="pickled file"):
        render_atlas(spec, out, weights="net.pt", options=HERE)
    assert not out.exists()
    render_atlas(spec, out, settings=SMALL, options=HERE)
    with pytest.raises(ValueError, match="begun with other settings"):
        render_atlas(spec, out, settings=replace(SMALL, n_steps=4), options=HERE)
    changed = write_net(tmp_path, "1")
    with pytest.raises(ValueError, match=r"model's weights and .* were changed since"):
        render_atlas(changed, out, settings=SMALL, options=HERE)


def test_neurons_are_whole_numbers_each_once(tmp_path: Path, spec: str) -> None:
    for neurons, message in (((3, 9, 3), "neurons has 3 twice"), ((), "neurons is empty")):
        with pytest.raises(ValueError, match=message):
            AtlasSettings(neurons)
    with pytest.raises(TypeError, match="neurons"):
        AtlasSettings((1.5,))  # type: ignore[arg-type]
    given = replace(SMALL, neurons=np.array([3, 9]), n_steps=np.int64(3))  # type: ignore[arg-type]
    assert given == SMALL
    render_atlas(spec, tmp_path / "atlas", settings=given, options=HERE)


def test_a_page_of_something_else_is_kept(tmp_path: Path, spec: str) -> None:
    page = tmp_path / "index.html"
    page.write_text("mine")
    with pytest.raises(ValueError, match=r"has index\.html, but no atlas was begun there"):
        render_atlas(spec, tmp_path, settings=SMALL, options=HERE)
    assert page.read_text() == "mine"
    assert not (tmp_path / "plan.json").exists()


def test_a_batch_changes_no_picture_but_fills_the_last(tmp_path: Path, spec: str) -> None:
    asked = replace(SMALL, neurons=(3, 9, 20), classes_per_neuron=1, pairs_per_batch=2)
    three = render_atlas(spec, tmp_path / "three", settings=asked, options=HERE)
    last = render_atlas(spec, tmp_path / "1", settings=replace(asked, neurons=(20,)), options=HERE)
    assert three.pairs[2]["sha256"] == last.pairs[0]["sha256"]
    assert all(one.settings["n_together"] == 2 for one in three)


def test_what_is_interrupted_is_no_picture(
    tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(SMALL, n_steps=30)
    whole, out = tmp_path / "whole", tmp_path / "atlas"
    module = tmp_path / "net.py"
    stops = """
class Stops(Net):
    n_calls = 0
    def forward(self, images):
        Stops.n_calls += 1
        if "STOP" in os.environ and Stops.n_calls == 20:
            raise KeyboardInterrupt
        return super().forward(images)
"""
    usual = module.read_text()
    module.write_text(usual.replace("def net", f"{stops}\ndef net").replace("Net(),", "Stops(),"))
    render_atlas(spec, whole, settings=asked, options=HERE)
    monkeypatch.setenv("STOP", "1")
    with pytest.raises(KeyboardInterrupt):
        render_atlas(spec, out, settings=asked, options=HERE)
    assert not list((out / "pairs").glob("part-*"))
    monkeypatch.delenv("STOP")
    render_atlas(spec, out, settings=asked, options=HERE)
    assert bytes_of(out) == bytes_of(whole)


def test_a_pair_of_another_atlas_is_rendered_again(tmp_path: Path, spec: str) -> None:
    """Two atlases have parts of the same numbers."""
    out = tmp_path / "atlas"
    render_atlas(spec, out, settings=SMALL, options=HERE)
    before = bytes_of(out)
    render_atlas(spec, tmp_path / "other", settings=replace(SMALL, seed=1), options=HERE)
    for folder in ("pairs", "features"):
        for path in (tmp_path / "other" / folder).iterdir():
            (out / folder / path.name).write_bytes(path.read_bytes())
    render_atlas(spec, out, settings=SMALL, options=HERE)
    assert bytes_of(out) == before


def test_an_encoder_guides(tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is sent a name, and makes the encoder itself."""
    asked = replace(SMALL, encoder="small")
    with pytest.raises(ValueError, match="expected 'auto', 'none'"):
        render_atlas(spec, tmp_path / "atlas", settings=asked, options=HERE)
    encoder = LazyEncoder("small", SmallEncoder)
    monkeypatch.setattr("captum_neuroinspect.scale.atlas.find_encoder", lambda *_: encoder)
    with pytest.raises(ValueError, match="no class names"):
        render_atlas(spec, tmp_path / "atlas", settings=asked, options=HERE)
    assert not (tmp_path / "atlas").exists()
    # A network in a file has no names of its own.
    monkeypatch.setattr(
        "captum_neuroinspect.scale.atlas.load_model",
        lambda *given, **named: replace(load_model(*given, **named), class_names=CLASSES),
    )
    guided = render_atlas(spec, tmp_path / "atlas", settings=asked, options=HERE)
    alone = render_illusions(
        load_model(spec).model, 3, guided.pairs[0]["class"], encoder=SmallEncoder(), size=16,
        class_names=CLASSES, n_steps=3, seed=guided.pairs[0]["seed"], progress=False,
    )  # fmt: skip
    found = guided.illusion(0)
    assert torch.allclose(found.images, alone.images, atol=1e-4)
    assert torch.allclose(found.similarities, alone.similarities, atol=1e-4)
