"""Runs the parts of a piece of work, here or in workers of Ray."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from captum_neuroinspect._core.optional import SCALE, optional
from captum_neuroinspect.scale._ray_session import ray_session
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.options import ScaleOptions


@contextmanager
def one_session(options: ScaleOptions) -> Iterator[None]:
    """Pieces of work in the block share one Ray, which otherwise each of them would start."""
    if not options.n_workers:
        yield
        return
    with ray_session(options):
        yield


class PartWork(Protocol):
    """What a worker holds, such as a model, and does for each part.

    A part may be done again, also by two workers at once: its result is written atomically, and
    its bytes depend on nothing but the part.
    """

    def do(self, part: int) -> None:
        """Write the result of one part, unless it is there."""


def run_parts(
    make: Callable[[], PartWork],
    parts: Sequence[int],
    options: ScaleOptions,
    what: str,
    *,
    on_part: Callable[[], object] = lambda: None,
) -> None:
    """Do some parts; returns when all are written.

    Args:
        make: makes the work, once in each worker.
        parts: numbers of those that are not there yet.
        options: how many workers, and where.
        what: is counted, in the progress bar.
        on_part: called here after each part.

    Raises:
        Exception: what the work raises for a part; parts that were written stay.
    """
    bar = tqdm(total=len(parts), desc=what, disable=not options.progress)
    with bar:
        done = _here(make, parts, options) if not options.n_workers else None
        for _ in _by_ray(make, parts, options) if done is None else done:
            bar.update()
            on_part()


def run_missing_parts(
    make: Callable[[], PartWork], parts: CommittedParts, n_parts: int, options: ScaleOptions
) -> None:
    """Do those parts that are not there yet, and remove what killed processes left.

    Args:
        make: makes the work, which commits to ``parts``.
        parts: of a folder that was begun.
        n_parts: how many there are.
        options: workers.
    """
    parts.folder.mkdir(parents=True, exist_ok=True)
    parts.clear()
    missing = [part for part in range(n_parts) if parts.record(part) is None]
    run_parts(make, missing, options, "parts")
    parts.clear()


def _here(make: Callable[[], PartWork], parts: Sequence[int], options: ScaleOptions) -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(options.n_threads)
    try:
        work = make() if parts else None
        for part in parts:
            assert work is not None
            work.do(part)
            yield part
    finally:
        torch.set_num_threads(before)


class _Worker:
    """An actor of Ray Data: makes the work once, then takes part after part."""

    def __init__(self, make: Callable[[], PartWork], n_threads: int) -> None:
        torch.set_num_threads(n_threads)
        self._work = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        [part] = batch["part"].tolist()
        try:
            self._work.do(part)
            failed = b""
        # Ray Data would wrap it in its own words, in which a caller finds no OSError.
        except Exception as error:
            failed = _packed(error)
        return {"part": np.array([part]), "failed": np.array([failed], dtype=object)}


def _packed(error: Exception) -> bytes:
    told = "".join(traceback.format_exception(error))
    try:
        content = pickle.dumps((error, told))
        pickle.loads(content)  # some are written and cannot be read
    except Exception:
        content = pickle.dumps((RuntimeError(f"{type(error).__name__}: {error}"), told))
    return content


class WorkerTraceback(RuntimeError):
    """Where in a worker an error was raised, as text."""


def _by_ray(
    make: Callable[[], PartWork], parts: Sequence[int], options: ScaleOptions
) -> Iterable[int]:
    if not parts:
        return
    with ray_session(options):
        data = optional("ray.data", SCALE)
        _silence(data)
        # One part a block: it is what is handed to a worker, and what a lost one does again.
        numbers = data.from_items([{"part": p} for p in parts], override_num_blocks=len(parts))
        n_workers = min(options.n_workers, len(parts))
        done = numbers.map_batches(
            _Worker,
            fn_constructor_args=(make, options.n_threads),
            batch_size=1,
            compute=data.ActorPoolStrategy(size=n_workers, max_tasks_in_flight_per_actor=2),
            num_cpus=options.cpus,
            num_gpus=options.gpus or None,
        )
        for row in _rows(done):
            if row["failed"]:
                error, told = pickle.loads(row["failed"])
                raise error from WorkerTraceback(told)
            yield row["part"]


def _rows(done: Any) -> Iterable[dict[str, Any]]:
    """What workers answer; what is wrong with Ray itself as a RuntimeError, which callers know."""
    exceptions = optional("ray.exceptions", SCALE)
    try:
        yield from done.iter_rows()
    except exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        raise RuntimeError(
            f"Ray failed ({type(error).__name__}: {first}): parts that were written stay, and the "
            "same call goes on"
        ) from error


def _silence(data: Any) -> None:
    """The bar here counts parts; Ray Data's own bars and logs count its operators."""
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    # What fails comes back as an error; what Ray logs beside is about its own processes.
    for name in ("ray.data", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
