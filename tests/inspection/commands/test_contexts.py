"""The commands inside contexts that a program which calls them has switched on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CONTEXTS
from session_examples import inspect_arguments
from torch import Tensor
from typer.testing import CliRunner

from captum_neuroinspect import HeadEdit, Illusions
from captum_neuroinspect.inspection.commands.cli import app

pytestmark = pytest.mark.filterwarnings("ignore:the original head is returned")


def _run(place: Path, out: Path, context: Callable[[], Any]) -> dict[str, Tensor]:
    commands = (inspect_arguments(place, out), ["edit", "--run", out, "--method", "mend"])
    for arguments in (*commands, ["report", "--run", out]):
        with context():
            result = CliRunner().invoke(app, [str(one) for one in arguments])
        assert result.exit_code == 0, result.output
    kept = sorted((out / "work" / "illusions").glob("*.safetensors"))
    edit = HeadEdit.load(out / "edit.safetensors")
    return {
        **{path.name.split(".")[0]: Illusions.load(path).images for path in kept},
        "head": edit.head.weight.detach(),
        "judged": torch.tensor([edit.after.accuracy, edit.verdict.n_corrected]),
    }


@pytest.fixture(scope="module")
def right(place: Path, tmp_path_factory) -> dict[str, Tensor]:
    return _run(place, tmp_path_factory.mktemp("right") / "run", nullcontext)


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_commands_give_what_they_give_by_themselves(
    place: Path, tmp_path: Path, right: dict[str, Tensor], context: str
) -> None:
    found = _run(place, tmp_path / "run", CONTEXTS[context])
    assert len(right) > 2
    assert found.keys() == right.keys()
    for name, value in right.items():
        assert torch.equal(found[name], value), name
