"""Files that another version wrote: read, or refused with one sentence that says what to do.

The table of formats stands in docs/versions.md; this file holds it true.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import feature_set, nudged
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit, Illusions, edit_head
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect.concepts import ConceptBank
from captum_neuroinspect.experiments.questionnaire import (
    Question,
    QuestionnaireKey,
    write_questionnaire,
)
from captum_neuroinspect.inspection.commands._run_folder import RunSettings
from captum_neuroinspect.inspection.report.selection import Selection
from captum_neuroinspect.scale import FeatureParts, IllusionAtlas
from captum_neuroinspect.scale._plan import begin, begun

PAGE = Path(__file__).resolve().parents[2] / "docs" / "versions.md"
SAVED = {"FeatureSet": 1, "HeadEdit": 2, "Illusions": 1, "ConceptBank": 1}
SETTINGS = RunSettings(
    model="m.py:net", weights=None, data="photos", train=None, test=None, class_names=None,
    image_size=None, resize=None, device="cpu", encoder="none", guide=None, target=None,
    predicted=None, slices=None, n_neurons=3, n_steps=2, size=None, held_out=0.5,
    skip_unreadable=False, by_position=False, seed=0,
)  # fmt: skip


def _load(kind: str, path: Path) -> Any:
    loaders = (FeatureSet.load, HeadEdit.load, Illusions.load, ConceptBank.load)
    return dict(zip(SAVED, loaders, strict=True))[kind](path)


@pytest.mark.parametrize("kind", list(SAVED))
def test_a_file_of_a_newer_format(tmp_path: Path, kind: str) -> None:
    newer = SAVED[kind] + 1
    path = write_kept(tmp_path / "x.safetensors", kind, {"a": torch.ones(1)}, {}, version=newer)
    said = f"version {newer} of the format, this package reads up to {SAVED[kind]}: update captum_"
    with pytest.raises(ValueError, match=said):
        _load(kind, path)


@pytest.mark.parametrize("kind", list(SAVED))
def test_a_file_without_what_this_version_wants(tmp_path: Path, kind: str) -> None:
    path = write_kept(tmp_path / "x.safetensors", kind, {"a": torch.ones(1)}, {})
    with pytest.raises(ValueError, match=f"x.safetensors cannot be read as {kind}: ") as caught:
        _load(kind, path)
    assert "\n" not in str(caught.value)


def test_features_of_0_1_had_no_names_of_groups(tmp_path: Path) -> None:
    data = feature_set(nn.Linear(6, 3), torch.rand(9, 6), torch.arange(9) % 3)
    tensors, record = read_kept(data.save(tmp_path / "new.safetensors"), "FeatureSet")
    del record["group_names"]
    path = write_kept(tmp_path / "old.safetensors", "FeatureSet", tensors, record)
    old = FeatureSet.load(path)
    assert torch.equal(old.features, data.features)
    assert old.group_names is None


def test_a_file_of_early_0_1_had_no_description(tmp_path: Path) -> None:
    save_file({"features": torch.ones(2, 3)}, tmp_path / "old.safetensors")
    with pytest.raises(
        ValueError, match=r"no FeatureSet, or one of early 0\.1: then make it again"
    ):
        FeatureSet.load(tmp_path / "old.safetensors")


def _edit() -> HeadEdit:
    head = nn.Linear(6, 3)
    features = torch.rand(30, 6, generator=torch.Generator().manual_seed(0))
    data = feature_set(head, features, torch.arange(30) % 3)
    right = data.correct()
    surest = right.logits.softmax(1).amax(1).argmax()
    easy = nudged(right.subset(surest[None]))
    return edit_head(head, data, easy, target=1, neurons=[0], n_epochs=2, lr=1e-4)


def test_an_edit_of_before_0_2(tmp_path: Path) -> None:
    """It had its settings in the record itself, and no method."""
    edit = _edit()
    heads = {"head": edit.head, "original": edit.original}
    tensors = {f"{n}.{k}": v for n, head in heads.items() for k, v in head.state_dict().items()}
    record = {
        "targets": {"1": [0]}, "scope": "class", "strength": 1.0, "ratio": None, "history": [],
        "best_epoch": 1, "settings": {"notes": {}}, "class_names": None, "is_kept": True,
    }  # fmt: skip
    path = write_kept(tmp_path / "old.safetensors", "HeadEdit", tensors, record)
    said = "as a version before 0.2 wrote it: make the edit again with `edit_head`, `mend` or"
    with pytest.raises(ValueError, match=said):
        HeadEdit.load(path)


def test_an_edit_of_format_1_that_is_whole_is_read(tmp_path: Path) -> None:
    edit = _edit()
    tensors, record = read_kept(edit.save(tmp_path / "new.safetensors"), "HeadEdit", version=2)
    old = HeadEdit.load(write_kept(tmp_path / "old.safetensors", "HeadEdit", tensors, record))
    assert torch.equal(old.head.weight, edit.head.weight)
    assert repr(old.method) == repr(edit.method)


def _run_json(folder: Path, change: dict[str, Any], *, without: str = "") -> Path:
    path = SETTINGS.save(folder)
    record = json.loads(path.read_text()) | change
    record.pop(without, None)
    path.write_text(json.dumps(record))
    return path


@pytest.mark.parametrize(
    ("change", "without", "said"),
    [
        ({"format": 2}, "", "it has format 2, and this version reads 1: update captum_neuro"),
        ({}, "slices", "it is of another version, which differs in `slices`"),
        ({"later": 1}, "", "it is of another version, which differs in `later`"),
        ({"format": "1"}, "", "`format` is '1', expected 1"),
        ({"format": True}, "", "`format` is True, expected 1"),
        ({}, "format", "`format` is None, expected 1"),
    ],
)
def test_a_run_of_another_version(
    tmp_path: Path, change: dict[str, Any], without: str, said: str
) -> None:
    _run_json(tmp_path, change, without=without)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        RunSettings.load(tmp_path)
    assert "run `neuroinspect inspect` again" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_selection_of_another_format(tmp_path: Path) -> None:
    path = Selection(run="r", target=0, neurons=(1,)).save(tmp_path / "selection.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(ValueError, match="`format` is 2, expected 1: tick the neurons in a report"):
        Selection.load(path)


def test_the_key_of_a_questionnaire_of_another_version(tmp_path: Path) -> None:
    pictures = {name: Image.new("RGB", (4, 4), name) for name in ("red", "blue")}
    path = tmp_path / "key.json"
    write_questionnaire([Question("fox", pictures)], tmp_path / "page.html", path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 2}))
    with pytest.raises(ValueError, match="its version is 2, expected 1: update captum_neuroinsp"):
        QuestionnaireKey.load(path)


def test_work_at_scale_of_a_newer_format(tmp_path: Path) -> None:
    plan = {"photos": "digest", "part_size": 3}
    begin(tmp_path, plan)
    record = json.loads((tmp_path / "plan.json").read_text())
    assert record == {"format": 1, **plan}
    assert begun(tmp_path, plan)
    (tmp_path / "plan.json").write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(ValueError, match="has format 2, and this version reads 1: update captum"):
        begun(tmp_path, plan)
    # 0.1 wrote no number.
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert begun(tmp_path, plan)


@pytest.mark.parametrize("kind", [FeatureParts, IllusionAtlas])
def test_a_finished_folder_of_a_newer_format(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "index.json").write_text(json.dumps({"format": 2, "pairs": []}))
    with pytest.raises(ValueError, match="has format 2, and this version reads 1: update captum"):
        kind.open(tmp_path)


def test_the_formats_stand_in_the_documentation() -> None:
    """A number that is raised is raised there, too."""
    rows = {
        cells[0].strip("` "): cells[1].strip()
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if len(cells := line.strip("| ").split("|")) > 2
    }
    for kind, number in SAVED.items():
        assert rows[kind] == str(number)
    assert asdict(SETTINGS)
    assert rows["run.json"] == "1"
