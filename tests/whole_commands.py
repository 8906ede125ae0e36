"""Each command on a folder of its own, as tests that stop or hinder it need it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from session_examples import SIZE, inspect_arguments

COMMANDS = ("inspect", "visualize", "edit", "report")


@dataclass(frozen=True)
class Work:
    """A command, the folder that it writes into, and what lies there before."""

    arguments: list[object]
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"


def work_of(name: str, place: Path, folder: Path, inspected: Path | None) -> Work:
    """A command in a new folder, with a copy of a finished run in it if one is given."""
    run = folder / "run"
    if inspected is not None:
        shutil.copytree(inspected, folder, dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    model = f"{place}/model.py:net"
    command: dict[str, list[object]] = {
        "inspect": inspect_arguments(place, run),
        "visualize": [
            *("visualize", "--model", model, "--neurons", "1,2", "--out", run, "--quiet"),
            *("--image-size", SIZE, "--steps", 2),
        ],
        "edit": [
            *("edit", "--run", run, "--method", "equation8", "--quiet"),
            *("--save-model", folder / "model.pth"),
        ],
        "report": ["report", "--run", run, "--quiet"],
    }
    return Work(command[name], folder)


def is_new(name: str) -> bool:
    """Whether a command needs no run that is there already."""
    return name in ("inspect", "visualize")
