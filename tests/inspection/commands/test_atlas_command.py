"""``neuroinspect atlas`` as people meet it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from captum_neuroinspect.inspection.commands.atlas import numbers_and_ranges
from captum_neuroinspect.inspection.commands.cli import app
from captum_neuroinspect.scale import IllusionAtlas

NET = """
import torch
from torch import nn

def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(12, 3),
        ), nn.Identity()
"""
SMALL = ("--size", "16", "--steps", "2", "--batch", "2", "--quiet")


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:net"


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["atlas", *map(str, arguments)])


def _bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_quiet_run_says_nothing_and_gives_the_same_bytes(tmp_path: Path, spec: str) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for out in folders:
        result = _run("--model", spec, "--out", out, *SMALL)
        assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert _bytes_of(folders[0]) == _bytes_of(folders[1])
    assert len(IllusionAtlas.open(folders[0])) == 12
    times = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ done: 12 pictures$"
    assert re.search(times, (tmp_path / "one.log").read_text(), re.MULTILINE)


def test_it_says_where_the_page_is(tmp_path: Path, spec: str) -> None:
    out = tmp_path / "out"
    words = tmp_path / "words.csv"
    words.write_text("unit,description\n3,a fox\n")
    command = ("--model", spec, "--out", out, "--neurons", "3,5-6", "--words", words, *SMALL[:-1])
    said = _run(*command)
    assert said.exit_code == 0, said.stderr
    assert f"Open {out / 'index.html'}" in said.stdout
    assert "a fox" in (out / "index.html").read_text()
    as_json = _run(*command, "--json", "--quiet")
    assert json.loads(as_json.stdout)["n_pictures"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--neurons", "5-3"), "--neurons='5-3', expected 'all', or numbers and rising ranges"),
        (("--neurons", "3,2-4"), "names a neuron twice"),
        (("--neurons", "12"), "out of range: expected 0..11"),
        (("--classes-per-neuron", "4"), "the head has 3 classes"),
        (("--weights", "net.pt"), "pickled file"),
        (("--encoder", "clap"), "encoder='clap', expected"),
        (("--encoder", "label-space"), "no class names"),
        (("--words", "absent.csv"), "absent.csv"),
    ],
)
def test_what_cannot_be_done_is_said_before(
    tmp_path: Path, spec: str, arguments: tuple[str, ...], message: str
) -> None:
    result = _run("--model", spec, "--out", tmp_path / "out", *SMALL, *arguments)
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_ranges() -> None:
    assert numbers_and_ranges(" 4 , 7 - 9") == (4, 7, 8, 9)
    with pytest.raises(ValueError, match="expected numbers below 1,000,000"):
        numbers_and_ranges("0-99999999999")
    for text in ("", "a", "1-", "-3", "1,,2"):
        with pytest.raises(ValueError, match="expected 'all'"):
            numbers_and_ranges(text)


def test_an_interrupt_ends_it_and_the_same_command_goes_on(
    tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    module = tmp_path / "net.py"
    stops = "\nnn.Linear.calls = 0\ndef stop(*_):\n    nn.Linear.calls += 1\n"
    stops += (
        "    if 'STOP' in os.environ and nn.Linear.calls == 30:\n        raise KeyboardInterrupt\n"
    )
    stops += "made = net\ndef net():\n    model, first = made()\n"
    stops += "    model[0].register_forward_pre_hook(stop)\n    return model, first\n"
    module.write_text("import os\n" + NET + stops)
    assert _run("--model", spec, "--out", undisturbed, *SMALL).exit_code == 0
    monkeypatch.setenv("STOP", "1")
    result = _run("--model", spec, "--out", out, *SMALL)
    assert result.exit_code == 130
    assert result.stderr == "Interrupted. The same command goes on from here.\n"
    assert (out / "plan.json").exists()
    assert not (out / "index.json").exists()
    monkeypatch.delenv("STOP")
    assert _run("--model", spec, "--out", out, *SMALL).exit_code == 0
    assert _bytes_of(out) == _bytes_of(undisturbed)


@pytest.mark.slow
def test_two_workers_are_as_quiet_and_give_the_same_bytes(tmp_path: Path, spec: str) -> None:
    pytest.importorskip("ray.data")
    assert _run("--model", spec, "--out", tmp_path / "one", *SMALL).exit_code == 0
    code = "from captum_neuroinspect.inspection.commands.cli import main; main()"
    command = [sys.executable, "-c", code, "atlas", "--model", spec, "--workers", "2"]
    command += ["--out", str(tmp_path / "two"), *SMALL]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout + ended.stderr == ""
    assert _bytes_of(tmp_path / "two") == _bytes_of(tmp_path / "one")
