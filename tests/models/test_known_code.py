"""A run folder from someone else: which Python files run, and which do not."""

from __future__ import annotations

import importlib.util
import json
import marshal
import os
import shutil
import stat
import struct
from pathlib import Path
from typing import Any

import pytest
from session_examples import assert_one_sentence, inspect_arguments

from captum_neuroinspect.models import _known_code as known_code
from captum_neuroinspect.models._python_file import FileSource

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the processes are forks")

EVIL = "import pathlib\npathlib.Path({mark!r}).touch()\n"


@pytest.fixture(scope="module")
def made(commands, place: Path, tmp_path_factory) -> Path:
    """A project, a run of it, and the cache that remembers it."""
    folder = tmp_path_factory.mktemp("made")
    project = _project(folder / "project", place)
    arguments = inspect_arguments(project, folder / "run", "--json")
    done = commands.run(*arguments, XDG_CACHE_HOME=folder / "cache")
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def project(made: Path) -> Path:
    return made / "project"


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run that this user made, and the environment that remembers it."""
    shutil.copytree(made / "run", tmp_path / "run")
    shutil.copytree(made / "cache", tmp_path / "cache")
    return tmp_path / "run", {"XDG_CACHE_HOME": tmp_path / "cache"}


@pytest.fixture
def theirs(project: Path, tmp_path: Path) -> Path:
    """The project as someone else may change it."""
    shutil.copytree(project, tmp_path / "theirs", symlinks=True)
    return tmp_path / "theirs"


def _project(folder: Path, place: Path) -> Path:
    """A model's file that imports a neighbour when it is read and another when it runs."""
    (folder / "parts").mkdir(parents=True)
    (folder / "model.py").write_text(
        "import neighbour_of_model\n"
        "import parts\n"
        "def net():\n"
        "    from session_examples import CountedNet\n"
        "    class Net(CountedNet):\n"
        "        def forward(self, images):\n"
        "            from parts import late\n"
        "            return super().forward(images)\n"
        "    return Net(3)\n"
    )
    tests = Path(__file__).resolve().parents[1]
    for_path = f"import sys\nsys.path[:0] = [{str(tests)!r}]\n"
    (folder / "neighbour_of_model.py").write_text(for_path)
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "late.py").write_text("")
    (folder / "photos").symlink_to(place / "photos")
    return folder


def _moved(run: Path, model: Path) -> Path:
    """The run as someone else sends it: with a model of theirs, and nothing kept."""
    received = run.with_name("received")
    received.mkdir()
    record = json.loads((run / "run.json").read_text())
    (received / "run.json").write_text(json.dumps(record | {"model": f"{model}:net"}))
    return received


def _refused(commands, run: Path, environment: dict[str, Any], name: str, mark: Path) -> None:
    for command in ("report", "edit"):
        done = commands.run(command, "--run", run, "--json", **environment)
        assert_one_sentence(done, "you have not run this very content before: it was not run")
        assert name in done.stderr
        assert not mark.exists()


def test_one_s_own_runs_need_no_word(commands, mine, tmp_path: Path) -> None:
    run, environment = mine
    done = commands.run("report", "--run", run, "--json", **environment)
    assert done.code == 0, done.stderr
    store = tmp_path / "cache" / "captum-neuroinspect" / "python-files-that-ran.txt"
    assert stat.S_IMODE(store.stat().st_mode) == 0o600
    assert not list(run.rglob("*that-ran*"))


def test_code_of_someone_else_runs_only_when_it_is_trusted(
    commands, mine, project: Path, tmp_path: Path
) -> None:
    run, environment = mine
    mark = tmp_path / "ran"
    model = tmp_path / "theirs" / "model.py"
    shutil.copytree(project, model.parent, symlinks=True)
    model.write_text(EVIL.format(mark=str(mark)) + model.read_text())
    received = _moved(run, model)
    _refused(commands, received, environment, "model.py", mark)
    done = commands.run("report", "--run", received, "--trust", "--json", **environment)
    assert done.code == 0, done.stderr
    mark.unlink()
    # What was trusted is remembered, by content and for this user.
    done = commands.run("report", "--run", received, "--json", **environment)
    assert done.code == 0, done.stderr
    mark.unlink()
    another = environment | {"XDG_CACHE_HOME": tmp_path / "of another user"}
    _refused(commands, received, another, "model.py", mark)
    model.write_text(model.read_text() + "\n")
    _refused(commands, received, environment, "model.py", mark)


def test_the_content_counts_and_not_the_place(commands, mine, project: Path) -> None:
    run, environment = mine
    copy = run.with_name("copy")
    shutil.copytree(project, copy, symlinks=True)
    received = _moved(run, copy / "model.py")
    done = commands.run("report", "--run", received, "--json", **environment)
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("name", ["neighbour_of_model.py", "parts/__init__.py", "parts/late.py"])
def test_a_known_file_does_not_vouch_for_its_neighbours(
    commands, mine, theirs: Path, tmp_path: Path, name: str
) -> None:
    run, environment = mine
    mark = tmp_path / "ran"
    changed = theirs / name
    changed.write_text(EVIL.format(mark=str(mark)) + changed.read_text())
    _refused(commands, _moved(run, theirs / "model.py"), environment, changed.name, mark)


@pytest.mark.parametrize("name", ["__init__.py", "other.py", "nets/__init__.py", "nets/model.py"])
def test_every_part_of_a_package_is_looked_at(tmp_path: Path, monkeypatch, name: str) -> None:
    """A file with relative imports runs as part of its package, from the package's root on."""
    monkeypatch.setattr(known_code, "_store", lambda: tmp_path / "store")
    root, mark = tmp_path / "package", tmp_path / "ran"
    (root / "nets").mkdir(parents=True)
    for part in ("__init__.py", "nets/__init__.py"):
        (root / part).write_text("")
    (root / "other.py").write_text("from torch import nn\n")
    text = "from ..other import nn\ndef net():\n    return nn.Linear(2, 2)\n"
    (root / "nets" / "model.py").write_text(text)
    spec = f"{root / 'nets' / 'model.py'}:net"
    with monkeypatch.context() as patch:
        patch.setattr(known_code._watcher, "folders", {})
        known_code.watch(spec, trusted=True)
        FileSource(spec.removesuffix(":net"), "net")
        known_code.watch(spec, trusted=False)
        FileSource(spec.removesuffix(":net"), "net")  # remembered
        changed = root / name
        changed.write_text(EVIL.format(mark=str(mark)) + changed.read_text())
        with pytest.raises(RuntimeError, match=rf"{changed} is Python code that this run names"):
            FileSource(spec.removesuffix(":net"), "net")
    assert not mark.exists()


def test_a_module_that_hides_another_is_looked_at(
    commands, mine, theirs: Path, tmp_path: Path
) -> None:
    run, environment = mine
    mark = tmp_path / "ran"
    (theirs / "session_examples.py").write_text(EVIL.format(mark=str(mark)))
    (theirs / "neighbour_of_model").mkdir()
    (theirs / "neighbour_of_model" / "__init__.py").write_text(EVIL.format(mark=str(mark)))
    _refused(commands, _moved(run, theirs / "model.py"), environment, "neighbour_of_model", mark)


@pytest.mark.parametrize("name", ["model.py", "neighbour_of_model.py"])
def test_compiled_files_beside_known_ones_do_not_run(
    commands, mine, theirs: Path, tmp_path: Path, name: str
) -> None:
    """Python takes ``__pycache__`` at its word where its header says "unchecked"."""
    run, environment = mine
    mark = tmp_path / "ran"
    path = theirs / name
    code = compile(EVIL.format(mark=str(mark)) + path.read_text(), str(path), "exec")
    header = importlib.util.MAGIC_NUMBER + struct.pack("<L8s", 0b01, b"\0" * 8)
    cached = Path(importlib.util.cache_from_source(str(path)))
    cached.parent.mkdir(exist_ok=True)
    cached.write_bytes(header + marshal.dumps(code))
    received = _moved(run, theirs / "model.py")
    done = commands.run("report", "--run", received, "--json", **environment)
    assert done.code == 0, done.stderr
    assert not mark.exists()


def test_a_compiled_module_without_its_text_is_not_known(
    commands, mine, theirs: Path, tmp_path: Path
) -> None:
    run, environment = mine
    mark = tmp_path / "ran"
    (theirs / "neighbour_of_model.py").unlink()
    code = compile(EVIL.format(mark=str(mark)), "x.py", "exec")
    header = importlib.util.MAGIC_NUMBER + struct.pack("<LLL", 0, 0, 0)
    (theirs / "neighbour_of_model.pyc").write_bytes(header + marshal.dumps(code))
    _refused(
        commands, _moved(run, theirs / "model.py"), environment, "neighbour_of_model.pyc", mark
    )


def test_without_a_place_to_remember_it_is_asked_again(
    commands, project: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environment = {"XDG_CACHE_HOME": tmp_path / "file"}
    done = commands.run(*inspect_arguments(project, tmp_path / "run", "--json"), **environment)
    assert done.code == 0, done.stderr
    _refused(commands, tmp_path / "run", environment, "model.py", tmp_path / "none")
    done = commands.run("report", "--run", tmp_path / "run", "--trust", "--json", **environment)
    assert done.code == 0, done.stderr


def test_only_a_python_file_is_watched() -> None:
    before = dict(known_code._watcher.folders)
    for spec in ("timm:resnet18", "hf:folder/x.py", "torchvision:resnet18", "x.py"):
        known_code.watch(spec, trusted=False)
    assert known_code._watcher.folders == before


def test_help_says_it(commands) -> None:
    for command in ("report", "edit"):
        text = commands.run(command, "--help", COLUMNS=200).stdout
        text = " ".join(text.replace("│", " ").split())
        assert "--trust" in text
        assert "RUNS that file" in text
        assert "from someone else could hold any code" in text
