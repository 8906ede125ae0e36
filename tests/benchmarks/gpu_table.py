"""Tables that are printed row by row, kept as JSON, and survive what a row raises."""

from __future__ import annotations

import gc
import json
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Cells = Mapping[str, object]
_LONGEST = 240


class OutOfTime(BaseException):
    """The row took too long. No ``Exception``: the code that is measured catches those."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` inside the block after so many seconds."""

    def stop(*_: object) -> None:
        raise OutOfTime(f"more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass
class Report:
    """All tables.

    Attributes:
        path: JSON, written anew after each row; ``None``: nowhere.
        seconds: after which no row begins.
        facts: about the machine.
    """

    path: Path | None
    seconds: float
    facts: dict[str, object]
    tables: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    n_failed: int = 0
    _start: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - self.elapsed

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def table(self, title: str, columns: list[str], seconds: float) -> Table:
        """Begin a table to which rows are added for so many seconds."""
        self.tables[title] = []
        print(f"\n**{title}** (after {self.elapsed:.0f} s)\n", flush=True)
        print("| " + " | ".join(columns) + " |")
        print("| " + " | ".join("---" for _ in columns) + " |", flush=True)
        return Table(self, title, columns, time.monotonic() + min(seconds, self.left))

    def save(self) -> None:
        if self.path is not None:
            facts = {**self.facts, "seconds": round(self.elapsed, 1)}
            text = json.dumps({"machine": facts, "tables": self.tables}, indent=1, default=str)
            self.path.write_text(text)


@dataclass
class Table:
    report: Report
    title: str
    columns: list[str]
    deadline: float

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def attempt(
        self,
        given: Cells,
        measure: Callable[[], Cells],
        seconds: float,
        fallen: Cells | None = None,
    ) -> bool:
        """A row of what is given and measured; what is raised becomes its last cell.

        Args:
            given: first cells.
            measure: gives the others.
            seconds: at most.
            fallen: cells of a row that fell.
        """
        last = self.columns[-1]
        if self.left <= 0:
            self._add({**given, last: "not run: no time left"})
            return False
        start, cells, trace, seen = time.monotonic(), {}, None, []
        try:
            with limit(min(seconds, self.left)), warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("default")
                cells = dict(measure())
        except (Exception, OutOfTime) as error:
            trace = traceback.format_exc()
            cells = {last: f"FELL {type(error).__name__}: {error}", **(fallen or {})}
            self.report.n_failed += 1
        # Only here is the error gone, which keeps the tensors of its frames alive.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        more = {"warnings": sorted({f"{w.category.__name__}: {w.message}" for w in seen or ()})}
        if trace is not None:
            more["traceback"] = trace
        self._add({**given, **cells}, seconds=round(time.monotonic() - start, 2), **more)
        return trace is None

    def _add(self, cells: dict[str, object], **more: object) -> None:
        printed = (_text(cells.get(column, "")) for column in self.columns)
        print("| " + " | ".join(printed) + " |", flush=True)
        self.report.tables[self.title].append({**cells, **more})
        self.report.save()


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    text = " ".join(str(value).split()).replace("|", "/")
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
