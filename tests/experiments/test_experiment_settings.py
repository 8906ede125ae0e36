"""Settings with which an experiment would compute something else than was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_experiments import setup, write_classes

from captum_neuroinspect.experiments import run_experiment


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("photos"), ("cat", "dog"), 27)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neurons": [["dog", [1]]]}, r"neurons are given for \['dog'\], expected each once of"),
        ({"neurons": [["cat (tile)", [1]], ["cat (tile)", [2]]]}, "expected each once of"),
        ({"neurons": [7]}, "neurons holds 7, expected pairs of a scenario and its neurons"),
        ({"neurons": [["cat (tile)", 7]]}, "expected pairs of a scenario and its neurons"),
        ({"neurons": [["cat (tile)", ["a"]]]}, "neuron='a', expected a whole number"),
        ({"batch_size": 0}, "batch_size=0, expected at least 1"),
        ({"n_epochs": 0}, "setting n_epochs=0, expected 1 or more, such as 20"),
        ({"edit_epochs": -1}, "setting edit_epochs=-1, expected 1 or more"),
        ({"n_neurons": 0}, "setting n_neurons=0, expected 1 or more"),
        ({"n_validation": 0}, "setting n_validation=0, expected 1 or more"),
        ({"strength": -1}, r"setting strength=-1\.0, expected 0 or more"),
        ({"lr": -1}, r"lr=-1\.0, expected a number above 0"),
        ({"edit_lr": 0}, r"edit_lr=0\.0, expected a number above 0"),
    ],
)
def test_they_are_refused_before_any_work(
    photos: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run_experiment("tiles", setup(tmp_path / "out", photos), quick=True, settings=settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"neurons": ["a"]}, "neuron='a'"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"lr": 0}, "lr=0"),
        ({"n_epochs": 0}, "n_epochs=0"),
        ({"most_photos": -1}, "most_photos=-1, expected 0 or more"),
    ],
)
def test_so_are_those_of_experiments_with_photos(
    photos: Path, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        run_experiment("clothing", setup(tmp_path / "out", photos), quick=True, settings=settings)
    assert not (tmp_path / "out").exists()
