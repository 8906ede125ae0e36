"""``neuroinspect experiment`` as people meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from session_examples import assert_one_sentence
from torchvision.transforms.v2.functional import to_pil_image
from typer.testing import CliRunner, Result

from captum_neuroinspect.experiments import NAMES
from captum_neuroinspect.inspection.commands.cli import app

SMALL = ("--model", "torchvision:resnet18", "--weights", "random", "--image-size", 32)


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["experiment", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = torch.Generator().manual_seed(0)
    for split, n in (("train", 6), ("validation", 4), ("test", 3)):
        for name in ("hat", "shoe"):
            for i in range(n):
                path = tmp_path / "photos" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                to_pil_image(torch.rand(3, 32, 32, generator=rng)).save(path)
    return tmp_path / "photos"


def test_all_are_listed_without_a_name() -> None:
    result = _run()
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in NAMES)
    unknown = _run("nope")
    assert unknown.exit_code == 1
    assert "Warning: experiment 'nope' is unknown" in unknown.stderr
    assert "metashift" in unknown.stdout


def test_it_writes_a_page_and_goes_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("clothing", "--quick", "--out", out, "--data", photos, *SMALL, "--quiet")
    first = _run(*command, "--seeds", "0")
    assert first.exit_code == 0, first.stderr
    assert "| Ours, equation (8) |" in first.stdout
    assert "1 of 1 parts computed" in first.stdout
    assert "![The same as a figure](results.png)" in (out / "results.md").read_text()
    second = _run(*command, "--seeds", "0,1", "--json")
    assert second.exit_code == 0, second.stderr
    assert "1 of 2 parts are there from an earlier run" in second.stderr
    record = json.loads(second.stdout)
    assert (record["n_parts"], record["n_reused"], record["n_other"]) == (2, 1, 0)


def test_settings_are_json(photos: Path, tmp_path: Path) -> None:
    command = ("clothing", "--quick", "--data", photos, *SMALL, "--quiet", "--seeds", "0")
    given = ("--set", "n_epochs=1", "--set", "neurons=[5]", "--set", "trains=head")
    result = _run(*command, "--out", tmp_path / "out", *given)
    assert result.exit_code == 0, result.stderr
    config = json.loads((tmp_path / "out/results.json").read_text())["made_with"]["config"]
    assert (config["n_epochs"], config["neurons"], config["trains"]) == (1, [5], "head")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--seeds", "a"), "--seeds='a', expected whole numbers"),
        (("--seeds", ""), "expected one or more different ones"),
        (("--set", "n_epochs"), "expected NAME=VALUE"),
        (("--set", "n_epoch=1"), "setting 'n_epoch' is unknown, expected one of"),
        (("--set", "n_epochs=x"), "setting n_epochs='x' is a str, expected a int"),
        ((), "data is not given"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    assert_one_sentence(_run("clothing", "--out", tmp_path / "out", *arguments), said)
    assert not (tmp_path / "out").exists()
