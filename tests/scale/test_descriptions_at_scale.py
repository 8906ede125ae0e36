"""Descriptions over parts are those of one process over all photos."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scale_examples import CLASSES, bytes_of, write_folder, write_net, write_shards
from torch import Tensor, nn

pytest.importorskip("pyarrow")

from captum_neuroinspect.describe import DescribeOptions, UnitDescription, describe_units
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.scale import (
    FeatureParts,
    ScaleOptions,
    collect_features_at_scale,
    collect_similarities_at_scale,
    describe_at_scale,
)

HERE = ScaleOptions(n_workers=0, part_size=12, batch_size=4, progress=False)
PHRASES = [f"thing {i}" for i in range(20)]


class _Encoder:
    """Cosines with random directions of a photo's mean colour."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.network = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.Tanh()).eval()

    def encode_image(self, images: Tensor) -> Tensor:
        return nn.functional.normalize(self.network(images).mean((2, 3)), dim=-1)

    def encode_text(self, texts: list[str]) -> Tensor:
        draw = torch.Generator()
        rows = [torch.randn(6, generator=draw.manual_seed(len(t) * 7 + ord(t[-2]))) for t in texts]
        rows = [row + 0.1 * ord(t[-2]) for row, t in zip(rows, texts, strict=True)]
        return nn.functional.normalize(torch.stack(rows), dim=-1)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> tuple[FeatureParts, FeatureParts]:
    place = tmp_path_factory.mktemp("words")
    spec, source = write_net(place), write_shards(place / "shards", 90)
    features = collect_features_at_scale(
        spec, source, place / "features", class_names=CLASSES, options=HERE
    )
    with pytest.MonkeyPatch.context() as patch:
        _name_encoder(patch)
        similarities = collect_similarities_at_scale(
            spec, source, place / "similarities", encoder="own", phrases=PHRASES, options=HERE
        )
    return features, similarities


def _name_encoder(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        "captum_neuroinspect.scale.similarities.find_encoder",
        lambda name, device="cpu": LazyEncoder(name, _Encoder) if name == "own" else None,
    )


def _assert_alike(one: UnitDescription, other: UnitDescription) -> None:
    """Equal words; numbers to the rounding of float32."""
    numbers = ("scores", "correlations", "average_precisions", "areas", "combination_correlation")
    for name in numbers:
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=2e-6), name
    same = dict.fromkeys(numbers, ())
    assert replace(one, **same) == replace(other, **same)


def test_descriptions_are_those_of_all_photos_at_once(found, tmp_path: Path) -> None:
    features, similarities = found
    describe = DescribeOptions(n_phrases=3, seed=2)
    ours = describe_at_scale(
        features, similarities, tmp_path / "out", describe=describe, options=HERE
    )
    expected = describe_units(
        features.together().features, similarities.together().logits, PHRASES, options=describe
    )
    assert len(ours) == len(expected) == 32
    assert any(one.is_certain for one in expected)
    assert any(one.combination for one in expected)
    for one, other in zip(ours, expected, strict=True):
        _assert_alike(one, other)


def _with_columns(parts: FeatureParts, out: Path, column: str, change) -> FeatureParts:
    """A copy whose features or logits are changed."""
    from pyarrow import FixedSizeListArray, array, parquet

    from captum_neuroinspect.scale.committed import CommittedParts

    shutil.copytree(parts.folder, out)
    index = json.loads((out / "index.json").read_text())
    committed = CommittedParts(out / "parts", ".parquet")
    for number, record in enumerate(index["parts"]):
        table = parquet.read_table(committed.path(number))
        values = getattr(parts[number].features, column).clone()
        change(values)
        flat = array(values.numpy().reshape(-1))
        place = table.schema.get_field_index(column)
        rows = FixedSizeListArray.from_arrays(flat, values.shape[1])
        table = table.set_column(place, column, rows)
        kept = {k: v for k, v in record.items() if k not in ("part", "sha256")}
        committed.commit(number, lambda file, t=table: parquet.write_table(t, file), kept)
        index["parts"][number] = committed.record(number)
    (out / "index.json").write_text(json.dumps(index))
    return FeatureParts.open(out)


def test_equal_units_dead_units_and_phrases_that_never_change(found, tmp_path: Path) -> None:
    def change(values: Tensor) -> None:
        values[:, 9] = 3 * values[:, 4]  # equals an earlier one up to scale
        values[:, 11] = 0
        values[:, 14] *= 1e-25  # squares are 0 in float32
        values[:, 15] *= 1e25  # and infinite
        values[:, 12] = 1e6 + values[:, 13].round()  # a small spread on a large level

    def flatten(values: Tensor) -> None:
        values[:, 3] = 0.25

    features = _with_columns(found[0], tmp_path / "f", "features", change)
    similarities = _with_columns(found[1], tmp_path / "s", "logits", flatten)
    ours = describe_at_scale(features, similarities, tmp_path / "out", options=HERE)
    expected = describe_units(features.together().features, similarities.together().logits, PHRASES)
    assert ours.of(9).note == "equals unit 4 up to scale"
    assert ours.of(11).note == "the same on all photos"
    for one, other in zip(ours, expected, strict=True):
        _assert_alike(one, other)


def test_other_parts_describe_alike_and_a_restart_goes_on(found, tmp_path: Path) -> None:
    features, similarities = found
    out = tmp_path / "out"
    first = describe_at_scale(features, similarities, out, options=HERE)
    before = bytes_of(out)
    (out / "moments" / "parts" / "part-000000.json").unlink()
    (out / "described" / "parts" / "part-000001.safetensors").write_bytes(b"half")
    assert describe_at_scale(features, similarities, out, options=HERE) == first
    assert bytes_of(out) == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captum_neuroinspect.scale._reducing.GROUP", 3)
        patch.setattr("captum_neuroinspect.scale.descriptions.GROUP", 3)
        patch.setattr("captum_neuroinspect.scale.descriptions._PARTS_AT_A_TIME", 2)
        again = describe_at_scale(features, similarities, tmp_path / "other", options=HERE)
    assert again == first


def test_similarities_are_those_of_the_encoder(found) -> None:
    from captum_neuroinspect.describe import phrase_scores
    from captum_neuroinspect.models import load_model
    from captum_neuroinspect.photos import Photos

    features, similarities = found
    assert similarities.class_names == tuple(PHRASES)
    assert similarities.skipped == features.skipped
    place = features.folder.parent
    loaded = load_model(f"{place / 'net.py'}:net")
    folder = write_folder(place / "photos", 90)
    photos = Photos.of(folder, view=loaded.view, class_names=CLASSES, on_error="skip")
    names = [photos.name(i) for i in range(len(photos))]
    images = (photos.image(i) for i in range(len(photos)))
    scores = phrase_scores(images, _Encoder(), phrases=PHRASES)
    expected = {Path(name).stem: row for name, row in zip(names, scores.scores, strict=True)}
    for part in similarities:
        for name, row in zip(part.photos, part.features.logits, strict=True):
            torch.testing.assert_close(row, expected[name.rpartition("#")[2]], atol=1e-6, rtol=0)


def test_what_does_not_belong_together_is_refused(found, tmp_path: Path) -> None:
    features, similarities = found
    place = features.folder.parent
    spec = f"{place / 'net.py'}:net"
    wide = collect_features_at_scale(
        spec, place / "shards", tmp_path / "wide", class_names=CLASSES,
        options=replace(HERE, part_size=20),
    )  # fmt: skip
    with pytest.raises(ValueError, match="similarities are of other part_size than features"):
        describe_at_scale(wide, similarities, tmp_path / "out", options=HERE)
    few = collect_features_at_scale(
        spec, write_shards(tmp_path / "few", 12), tmp_path / "out-few", class_names=CLASSES,
        options=HERE,
    )  # fmt: skip
    with pytest.raises(ValueError, match="features has 11 photos, expected at least 20"):
        describe_at_scale(few, few, tmp_path / "out", options=HERE)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="encoder='none' is none"):
        collect_similarities_at_scale(
            spec, place / "shards", tmp_path / "s", encoder="none", phrases=PHRASES, options=HERE
        )
    with pytest.raises(ValueError, match="phrases has 1 different ones"):
        collect_similarities_at_scale(
            spec, place / "shards", tmp_path / "s", encoder="none", phrases=["a", "A"], options=HERE
        )


def test_another_encoder_of_the_same_name_is_refused(found, tmp_path: Path, monkeypatch) -> None:
    _name_encoder(monkeypatch)
    place = found[0].folder.parent
    spec = f"{place / 'net.py'}:net"

    def collect() -> FeatureParts:
        return collect_similarities_at_scale(
            spec, place / "shards", tmp_path, encoder="own", phrases=PHRASES[:2], options=HERE
        )

    collect()
    collect()
    state = _Encoder.__init__

    def other(self: _Encoder) -> None:
        state(self)
        with torch.no_grad():
            self.network[0].weight += 1

    monkeypatch.setattr(_Encoder, "__init__", other)
    with pytest.raises(ValueError, match="the encoder's weights were changed since"):
        collect()


def test_photos_that_were_changed_between_are_refused(found, tmp_path: Path) -> None:
    features, similarities = found
    copy = tmp_path / "copy"
    shutil.copytree(features.folder, copy)
    plan = json.loads((copy / "plan.json").read_text())
    (copy / "plan.json").write_text(json.dumps({**plan, "files": "of another day"}))
    with pytest.raises(ValueError, match="similarities are of other versions of the files"):
        describe_at_scale(FeatureParts.open(copy), similarities, tmp_path / "out", options=HERE)
