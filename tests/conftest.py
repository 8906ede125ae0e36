"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tiny nets: a second thread costs more than it gives, above all where each core has its process
# of tests. The processes that tests start inherit this.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings
from processes import processes
from session_examples import inspect_arguments, write_model, write_photos

torch.set_num_threads(1)

# No test may depend on how fast a machine is: Hypothesis would fail an example for its seconds.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """A file or two run in this process: another would import torch for longer than it helps."""
    is_small = len(config.args) <= 2 and all(".py" in name for name in config.args)
    return 0 if is_small else None


@pytest.fixture(autouse=True)
def _seeded():
    """Give every test the same random weights and pictures, whatever ran before it."""
    torch.manual_seed(0)


def pytest_fixture_setup(fixturedef: Any) -> None:
    """What several tests share is made before :func:`_seeded`, so it is seeded here."""
    if fixturedef.scope != "function":
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _nothing_watched() -> Iterator[None]:
    """A run that one test opened without trust must not refuse the model's file of the next."""
    yield
    known_code = sys.modules.get("captum_neuroinspect.models._known_code")
    if known_code is not None:
        known_code._watcher.folders.clear()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> Iterator[Path]:
    """What the command remembers of Python files is not what the developer's own does."""
    folder: Path = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def commands(tmp_path_factory, own_cache):
    """Runs ``neuroinspect``, or code, in processes of their own."""
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork processes")
    with processes(tmp_path_factory.mktemp("processes")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium; nothing is downloaded."""
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder with photos and a model's file, which nobody changes."""
    folder: Path = tmp_path_factory.mktemp("place")
    write_photos(folder / "photos")
    write_photos(folder / "test", n=30, seed=4)
    write_model(folder)
    return folder


@pytest.fixture(scope="session")
def inspected(commands, place: Path, tmp_path_factory) -> Path:
    """A finished inspection, in ``run``, with fewer neurons than :func:`work_of` asks for."""
    folder: Path = tmp_path_factory.mktemp("inspected")
    done = commands.run(*inspect_arguments(place, folder / "run", "--neurons", 1))
    assert done.code == 0, done.stderr
    return folder
