"""A disk that refuses, at each change of a file in turn, whatever is being written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from file_events import FileEvents, heard
from helpers import ConvNet
from test_loaders import CASES

from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.report.report_data import ClassResult, ReportData
from captum_neuroinspect.inspection.report.write import write_report
from captum_neuroinspect.models.saving import save_model

CAUSES = [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES]
_NET = ConvNet()


def _illusions() -> Any:
    return CASES["illusions"].make()


def _work(folder: Path, save: Callable[[WorkFolder], object]) -> None:
    save(WorkFolder(folder / "work"))


_PAGE = ReportData("Birds", "All is well.", "run", 0, (ClassResult("heron", 4, 4),))
# What is written, and the file that an error names.
WRITERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "features": (lambda f: CASES["features"].make().save(f / "x.safetensors"), "x.safetensors"),
    "edit": (lambda f: CASES["edit"].make().save(f / "x.safetensors"), "x.safetensors"),
    "illusions": (lambda f: _illusions().save(f / "x.safetensors"), "x.safetensors"),
    "pictures": (lambda f: _illusions().save_pictures(f), ""),
    "selection": (lambda f: CASES["selection"].make().save(f / "s.json"), "s.json"),
    "run": (lambda f: CASES["run"].make().save(f), "run.json"),
    "report": (lambda f: write_report(_PAGE, f / "report.html"), "report.html"),
    "model as safetensors": (lambda f: save_model(_NET, f / "m.safetensors"), "m.safetensors"),
    "model as pth": (lambda f: save_model(_NET, f / "m.pth"), "m.pth"),
    "cached features": (
        lambda f: _work(f, lambda w: w.features({"n": 1}, CASES["features"].make, fresh=True)),
        "work",
    ),
    "cached illusions": (
        lambda f: _work(f, lambda w: w.illusions({"n": 1}, _illusions, fresh=True)),
        "work",
    ),
    "cached tensors": (
        lambda f: _work(f, lambda w: w.tensors("t", {}, lambda: {"x": torch.ones(3)}, fresh=True)),
        "work",
    ),
    "cached numbers": (
        lambda f: _work(f, lambda w: w.json("words", {}, lambda: ["x"], fresh=True)),
        "work",
    ),
}


def _content(folder: Path) -> dict[str, bytes]:
    """Of all files but locks and records of the cache, which have the time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and not path.name.endswith(".entry.json")
    }


@pytest.mark.parametrize("number", CAUSES, ids=errno.errorcode.get)
@pytest.mark.parametrize("name", WRITERS)
def test_each_refusal_names_file_and_cause_and_leaves_the_old(
    tmp_path: Path, name: str, number: int
) -> None:
    write, named = WRITERS[name]
    folder = tmp_path / "place"
    folder.mkdir()
    write(folder)
    old = _content(folder)

    for at in range(100):

        def refuse(n: int, removes: bool, at: int = at) -> None:
            if n >= at and not removes:
                raise OSError(number, os.strerror(number))

        with heard(FileEvents([folder], refuse)) as events:
            try:
                write(folder)
            except OSError as error:
                caught = error
            else:
                break
        assert caught.errno == number
        assert os.strerror(number) in str(caught)
        assert str(folder / named) in str(caught)
        assert _content(folder) == old
        assert not list(tmp_path.rglob("*.partial")), at
        assert not list(tmp_path.rglob(".neuroinspect-*")), at
    else:
        pytest.fail("it never ended")
    assert events.n <= at + 20  # removing may come after
    assert at >= 4
    assert _content(folder) == old
    write(folder)


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("size", [0, 1, 400, 2000])
@pytest.mark.parametrize("name", [n for n in WRITERS if n not in ("run", "selection")])
def test_a_write_that_the_system_itself_cuts_off(tmp_path: Path, name: str, size: int) -> None:
    """Also where Rust and C++ write: no file may be longer than a limit."""
    import resource

    write, named = WRITERS[name]
    write(tmp_path)
    old = _content(tmp_path)
    fits = size >= max(map(len, old.values()))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        write(tmp_path)
    except OSError as error:
        caught = error
    else:
        assert fits
        return
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not fits
    assert caught.errno == errno.EFBIG
    assert str(tmp_path / named) in str(caught)
    assert _content(tmp_path) == old
    assert not list(tmp_path.rglob(".neuroinspect-*"))
