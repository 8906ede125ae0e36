"""The demo: an inspection on real weights, with few photos and steps, and what it says it found."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from session_examples import CountedNet, photos, session
from torch import Tensor
from torch.utils.data import Dataset
from typer.testing import CliRunner

from captum_neuroinspect.edit import HeadEdit
from captum_neuroinspect.experiments import digits_on_textures
from captum_neuroinspect.inspection.commands.cli import app
from captum_neuroinspect.inspection.demo import GROUPS, finding, make_digits
from captum_neuroinspect.photos import Photos

_FEW = {"n_train": 16, "n_validation": 6, "n_deployment": 8, "n_test": 6}
FewDigits = partial(digits_on_textures.DigitsOnTexturesConfig, **_FEW)


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits_on_textures, "DigitsOnTexturesConfig", FewDigits)


def _run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--quiet", "--json", "--debug"])
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_the_demo_is_a_run_that_can_be_edited_and_has_the_same_numbers_again(
    tmp_path: Path,
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    found = _run("demo", "--out", one, "--steps", 2, "--seed", 1)
    again = _run("demo", "--out", other, "--steps", 2, "--seed", 1)
    assert {**again, "report": found["report"]} == found
    assert json.loads((one / "result.json").read_text("utf-8")) == found

    page = (one / "report.html").read_bytes()
    made = (one / "digits-1" / "model.safetensors").stat().st_mtime_ns
    assert _run("demo", "--out", one, "--steps", 2, "--seed", 1) == found
    assert (one / "digits-1" / "model.safetensors").stat().st_mtime_ns == made
    assert (one / "report.html").read_bytes() == page
    text = page.decode()
    assert "Accuracy by group: of \u201cdigit 4\u201d and of all photos" in text
    assert text.count("Illusions of neuron") == len(found["neurons"]) == 6
    assert "not on grass" in text

    judged = HeadEdit.load(one / "edit.safetensors").judged
    assert judged is not None
    assert found["before"]["all photos"] == [int(judged.before.is_correct.sum()), 90]
    assert found["after"]["all photos"] == [int(judged.after.is_correct.sum()), 90]
    assert [found["after"][group][1] for group in GROUPS] == [12, 6]
    record = {"format": 1, "run": "one", "target": 2, "neurons": [found["neurons"][0]["neuron"]]}
    (tmp_path / "selection.json").write_text(json.dumps(record), encoding="utf-8")
    edited = _run("edit", "--run", one, "--selection", tmp_path / "selection.json")
    assert edited["classes"]["digit 4"]["neurons"] == record["neurons"]


@pytest.mark.slow
def test_what_was_made_is_left_as_it_is_and_the_photos_are_those_of_the_data_set(
    tmp_path: Path,
) -> None:
    made = make_digits(tmp_path, FewDigits(), progress=False)
    before = made.model.stat().st_mtime_ns
    assert make_digits(tmp_path, FewDigits(), progress=False) == made
    assert made.model.stat().st_mtime_ns == before
    data = digits_on_textures.DigitsOnTextures("deployment", FewDigits())
    photos = Photos.of(made.split("deployment"), class_names=made.class_names)
    assert torch.equal(photos.labels, data.labels)
    on_grass = torch.tensor([photos.item(i).group for i in range(len(photos))]) == 1
    assert photos.group_names == GROUPS
    assert torch.equal(on_grass, data.textures == digits_on_textures.CUE)
    difference = photos.images(range(20)) - data.images[:20] / 255
    assert float(difference.abs().mean()) < 0.02  # what JPEG makes of it
    make_digits(tmp_path, FewDigits(), fresh=True, progress=False)
    assert made.model.stat().st_mtime_ns != before


class _Grouped(Dataset[Any]):
    """Photos of three classes, some of each on grass."""

    group_names = GROUPS

    def __init__(self, grass: Tensor, n: int, seed: int) -> None:
        (self.images, self.labels), self.grass = photos(n, seed=seed), grass

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.images[index], int(self.labels[index]), int(self.grass[index])


def test_grass_is_said_only_where_the_numbers_say_so() -> None:
    made = session(CountedNet())
    made.load(
        _Grouped(torch.arange(90) // 3 % 2, 90, 1), test=_Grouped(torch.arange(60) // 3 % 2, 60, 5)
    )
    made.explain()
    made.edit(method="equation8", n_epochs=1)
    found, edit = finding(made), made.compare()
    assert "not clearly because grass is missing" in found["sentence"]
    assert found["share_on_grass"] == 0.5
    chosen = (edit.before.labels == made.explanation.target) & (edit.before.groups == 1)
    assert found["before"]["on grass"] == [int(edit.before.is_correct[chosen].sum()), 10]
    assert found["after"]["on grass"] == [int(edit.after.is_correct[chosen].sum()), 10]
    assert found["verdict"] == edit.edit.verdict.as_dict()
