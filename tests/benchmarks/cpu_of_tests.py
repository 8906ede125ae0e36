"""Which tests take the most processor time, with the processes that they start.

Seconds of a clock say how busy the machine is; these say what a test costs. A plugin of pytest:

    PYTHONPATH=tests/benchmarks pytest -p cpu_of_tests
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

_N_SLOWEST = 10
_PROPERTY = "processor seconds"
_began = 0.0
_seconds: dict[str, float] = {}


def _used() -> float:
    """Processor time of this process and of those of its own that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pytest_runtest_logstart() -> None:
    global _began
    _began = _used()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    if call.when == "teardown":
        item.user_properties.append((_PROPERTY, _used() - _began))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Also in the process that only hands out the tests: what a worker measured comes with it."""
    if report.when == "teardown":
        _seconds[report.nodeid] = float(dict(report.user_properties)[_PROPERTY])


def _folder(name: str) -> str:
    path = name.split("::")[0].split("/")
    return "/".join(path[:2]) if path[0] == "tests" else "examples of docstrings"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    folders = Counter[str]()
    for name, seconds in _seconds.items():
        folders[_folder(name)] += seconds
    slowest = Counter(_seconds).most_common(_N_SLOWEST)
    for title, rows in (("slowest tests", slowest), ("folders", folders.most_common())):
        terminalreporter.section(f"processor seconds: {title}")
        for name, seconds in rows:
            terminalreporter.line(f"{seconds:8.1f}  {name}")
    terminalreporter.line(f"{sum(_seconds.values()):8.1f}  all")
