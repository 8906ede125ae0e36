"""Features of many photos in parts, in this process: without Ray."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from scale_examples import (
    CLASSES,
    bytes_of,
    pictures,
    write_folder,
    write_net,
    write_parquet,
    write_shards,
)

pytest.importorskip("pyarrow")

from captum_neuroinspect import collect_features
from captum_neuroinspect.models import load_model
from captum_neuroinspect.photos import Photos
from captum_neuroinspect.scale import (
    FeatureParts,
    ScaleOptions,
    TopActivations,
    collect_features_at_scale,
    combined,
)

N = 47
HERE = ScaleOptions(n_workers=0, part_size=12, batch_size=4, progress=False)


def _collect(spec: str, source: Path, out: Path, options: ScaleOptions = HERE) -> FeatureParts:
    return collect_features_at_scale(spec, source, out, class_names=CLASSES, options=options)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write_net(tmp_path)


def test_features_are_those_of_one_process(tmp_path: Path, spec: str) -> None:
    folder = write_folder(tmp_path / "photos", N)
    found = _collect(spec, folder, tmp_path / "out")
    loaded = load_model(spec)
    photos = Photos.of(folder, view=loaded.view, class_names=CLASSES, on_error="skip")
    whole = collect_features(
        loaded.model, photos.dataset(loaded.preprocess), batch_size=4, progress=False
    )
    together = found.together()
    names = [name for part in found for name in part.photos]
    assert names == [photos.name(i) for i in range(len(photos))]
    assert torch.equal(together.labels, whole.labels)
    torch.testing.assert_close(together.features, whole.features, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together.logits, whole.logits, rtol=1e-5, atol=1e-5)
    assert together.head_fingerprint == whole.head_fingerprint


def test_unreadable_photos_are_listed_and_none_is_lost(tmp_path: Path, spec: str) -> None:
    found = _collect(spec, write_folder(tmp_path / "photos", N), tmp_path / "out")
    broken = {f"{CLASSES[i % 3]}/{i:04d}.png" for i in range(N) if i % 10 == 5}
    assert {one.identity for one in found.skipped} == broken
    assert found.n_photos == N - len(broken) == sum(len(part.photos) for part in found)
    assert all("object at" not in one.reason for one in found.skipped)
    assert str(tmp_path) not in (tmp_path / "out" / "index.json").read_text()


def test_all_sources_give_the_same_features(tmp_path: Path, spec: str) -> None:
    shards = _collect(spec, write_shards(tmp_path / "shards", N), tmp_path / "a").together()
    tables = _collect(spec, write_parquet(tmp_path / "tables", N), tmp_path / "b").together()
    assert len(shards) == N - sum(i % 10 == 5 for i in range(N))
    for name in ("features", "logits", "labels", "indices"):
        assert torch.equal(getattr(shards, name), getattr(tables, name))


def test_features_do_not_depend_on_the_parts(tmp_path: Path, spec: str) -> None:
    source = write_shards(tmp_path / "shards", N)
    one = _collect(spec, source, tmp_path / "a").together()
    other = _collect(spec, source, tmp_path / "b", replace(HERE, part_size=20)).together()
    assert torch.equal(one.features, other.features)
    assert torch.equal(one.indices, other.indices)


def test_a_restart_does_what_is_missing_or_damaged(tmp_path: Path, spec: str) -> None:
    source, out = write_shards(tmp_path / "shards", N), tmp_path / "out"
    _collect(spec, source, out)
    undisturbed = bytes_of(out)
    (out / "parts" / "part-000000.json").unlink()
    damaged = out / "parts" / "part-000001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (out / "index.json").unlink()
    kept = out / "parts" / "part-000002.parquet"
    before = kept.stat().st_mtime_ns
    _collect(spec, source, out)
    assert bytes_of(out) == undisturbed
    assert kept.stat().st_mtime_ns == before


def test_a_damaged_part_is_no_result(tmp_path: Path, spec: str) -> None:
    found = _collect(spec, write_shards(tmp_path / "shards", N), tmp_path / "out")
    path = tmp_path / "out" / "parts" / "part-000001.parquet"
    path.write_bytes(path.read_bytes().replace(b"shard", b"SHARD"))
    with pytest.raises(ValueError, match="is damaged"):
        found[1]
    assert len(found[0].photos) == 11


def test_tables_and_shards_in_one_folder_are_refused(tmp_path: Path, spec: str) -> None:
    source = write_shards(tmp_path / "photos", 12)
    table = next(write_parquet(tmp_path / "tables", 12).iterdir())
    table.rename(source / table.name)
    with pytest.raises(ValueError, match=r"has \.parquet files and \.tar shards"):
        _collect(spec, source, tmp_path / "out")


def test_a_damaged_index_is_said(tmp_path: Path) -> None:
    for content in ("[]", "null", "{"):
        (tmp_path / "index.json").write_text(content)
        with pytest.raises(ValueError, match="is damaged"):
            FeatureParts.open(tmp_path)


def test_other_photos_or_settings_are_refused(tmp_path: Path, spec: str) -> None:
    source, out = write_shards(tmp_path / "shards", N), tmp_path / "out"
    _collect(spec, source, out)
    with pytest.raises(ValueError, match="begun with other batch_size"):
        _collect(spec, source, out, replace(HERE, batch_size=2))
    next(iter(source.iterdir())).unlink()
    with pytest.raises(ValueError, match="begun with other photos"):
        _collect(spec, source, out)


def test_a_model_that_differs_each_time_is_refused(tmp_path: Path) -> None:
    spec = write_net(tmp_path, "int.from_bytes(os.urandom(4), 'big')")
    source, out = write_shards(tmp_path / "shards", N), tmp_path / "out"
    with pytest.raises(RuntimeError, match="a worker loaded different weights"):
        _collect(spec, source, out)
    with pytest.raises(ValueError, match="the model's weights were changed since"):
        _collect(spec, source, out)


@pytest.mark.parametrize("write", [write_folder, write_shards, write_parquet])
def test_changed_photos_are_seen_whatever_their_size_and_time(
    tmp_path: Path, spec: str, write: Callable[[Path, int], Path]
) -> None:
    source, out = write(tmp_path / "photos", N), tmp_path / "out"
    _collect(spec, source, out)
    path = next(path for path in sorted(source.rglob("*")) if path.is_file())
    before, content = path.stat(), bytearray(path.read_bytes())
    time.sleep(0.02)  # the clock of a file system is coarse
    content[600] ^= 1  # in the first picture
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match=r"the files of photos were changed since .* was begun"):
        _collect(spec, source, out)


def test_a_changed_model_is_refused(tmp_path: Path, spec: str) -> None:
    """The same path, with other weights or another function."""
    source, weights, out = write_shards(tmp_path / "shards", N), tmp_path / "w.safetensors", "out"

    def collect(seed: int) -> FeatureParts:
        state = load_model(spec).model.state_dict()
        save_file({name: one + seed for name, one in state.items()}, weights)
        return collect_features_at_scale(
            spec, source, tmp_path / out, weights=weights, class_names=CLASSES, options=HERE
        )

    collect(0)
    assert collect(0).n_photos
    with pytest.raises(ValueError, match="the model's weights were changed since"):
        collect(1)
    module = tmp_path / "net.py"
    usual = module.read_text()
    module.write_text(usual.replace("self.backbone(images)", "self.backbone(1 - images)"))
    with pytest.raises(ValueError, match="the Python file of the model were changed since"):
        collect(0)
    module.write_text(usual.replace("nn.Identity()", "lambda images: 1 - images"))
    with pytest.raises(ValueError, match="preprocessing and the Python file of the model were"):
        collect(0)


def test_a_part_of_other_photos_is_none(tmp_path: Path, spec: str) -> None:
    """Two folders have parts of the same numbers."""
    _collect(spec, write_shards(tmp_path / "shards", N), tmp_path / "out")
    _collect(spec, write_shards(tmp_path / "more", N + 12), tmp_path / "other")
    before = bytes_of(tmp_path / "out")
    for end in ("json", "parquet"):
        part = f"parts/part-000000.{end}"
        (tmp_path / "out" / part).write_bytes((tmp_path / "other" / part).read_bytes())
    (tmp_path / "out" / "index.json").unlink()
    _collect(spec, tmp_path / "shards", tmp_path / "out")
    assert bytes_of(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ckpt"])
def test_pickled_weights_are_refused(tmp_path: Path, spec: str, name: str) -> None:
    with pytest.raises(ValueError, match=r"pickled file, expected \.safetensors"):
        collect_features_at_scale(spec, tmp_path, tmp_path / "out", weights=tmp_path / name)


def test_a_missing_file_is_no_corrupt_photo(tmp_path: Path, spec: str, monkeypatch) -> None:
    source = write_shards(tmp_path / "shards", N)
    opened = Path.open

    def broken(self: Path, *args: object, **settings: object) -> object:
        if self.suffix == ".tar" and "0007" in self.name:
            raise OSError(5, "Input/output error", str(self))
        return opened(self, *args, **settings)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(OSError, match="Input/output error"):
        _collect(spec, source, tmp_path / "out")
    monkeypatch.undo()
    assert _collect(spec, source, tmp_path / "out").n_photos == 42


def test_sources_that_are_none(tmp_path: Path, spec: str) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        _collect(spec, tmp_path / "none", tmp_path / "out")
    (tmp_path / "photo.png").write_bytes(pictures(1)[0][2])
    with pytest.raises(ValueError, match=r"expected a folder, a \.parquet file or a \.tar shard"):
        _collect(spec, tmp_path / "photo.png", tmp_path / "out")


def test_the_folder_says_what_it_holds(tmp_path: Path, spec: str) -> None:
    out = tmp_path / "out"
    found = _collect(spec, write_shards(tmp_path / "shards", N), out)
    assert FeatureParts.open(out) == found
    assert len({found.identity, FeatureParts.open(out).identity}) == 1
    index = json.loads((out / "index.json").read_text())
    assert sum(part["n_photos"] for part in index["parts"]) == found.n_photos
    with pytest.raises(FileNotFoundError):
        FeatureParts.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_workers": -1}, "n_workers=-1, expected at least 0"),
        ({"part_size": 12, "batch_size": 8}, "expected a part of whole batches"),
        ({"gpus": -0.5}, "gpus=-0.5, expected at least 0"),
    ],
)
def test_options_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleOptions(**settings)  # type: ignore[arg-type]


def test_without_ray_it_is_said_how_to_install_it(tmp_path: Path, spec: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = write_shards(tmp_path / "shards", N)
    with pytest.raises(ImportError, match=r'pip install "captum-neuroinspect\[scale\]"'):
        _collect(spec, source, tmp_path / "out", replace(HERE, n_workers=1))


def test_top_photos_over_parts_are_those_of_all(tmp_path: Path, spec: str) -> None:
    found = _collect(spec, write_shards(tmp_path / "shards", N), tmp_path / "out")
    top = combined(TopActivations.of(part.features.features, part.photos, 3) for part in found)
    names, values = [name for part in found for name in part.photos], found.together().features
    for unit in range(values.shape[1]):
        best = sorted((-float(values[i, unit]), names[i]) for i in range(len(names)))[:3]
        assert [(-value, name) for name, value in top.of_unit(unit)] == best
