"""What Ray adds to an atlas, and whether a worker's memory grows.

Renders the same pairs of EfficientNet-Lite0 in this process and by workers of Ray (extra
``scale``): seconds in all, until the first picture is there, and of the rest. Then one worker
renders many small pairs; its memory is read from ``/proc``.

Run with ``python tests/benchmarks/atlas_workers.py --pairs 200 --workers 0 1 --memory 500``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from captum_neuroinspect.scale import AtlasSettings, ScaleOptions, render_atlas

_SECONDS = 0.5  # between two looks at a worker


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--memory", type=int, default=500, help="Pairs; 0: not measured.")
    asked = parser.parse_args()
    print("| workers | pairs | seconds | until the first | of the rest |\n|---|---|---|---|---|")
    for n_workers in asked.workers:
        _timed(n_workers, asked.pairs, asked.size, asked.steps)
    if asked.memory:
        _memory(asked.memory)


def _timed(n_workers: int, n_pairs: int, size: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        _render(folder, n_workers, n_pairs, size, steps)
        seconds = time.time() - began
        times = sorted(path.stat().st_mtime for path in _records(folder))
    print(
        f"| {n_workers} | {n_pairs} | {seconds:.1f} | {times[0] - began:.1f} "
        f"| {times[-1] - times[0]:.1f} |",
        flush=True,
    )


def _memory(n_pairs: int) -> None:
    """Of one worker, after each tenth of many pairs."""
    with tempfile.TemporaryDirectory() as folder:
        work = threading.Thread(target=_render, args=(folder, 1, n_pairs, 64, 2))
        work.start()
        seen: dict[int, int] = {}
        while work.is_alive():
            n_done = len(_records(folder))
            tenth = n_done * 10 // n_pairs
            if tenth and tenth not in seen and (used := _worker_megabytes()):
                seen[tenth] = used
                print(f"a worker after {n_done} pairs: {used} MB", flush=True)
            time.sleep(_SECONDS)
        work.join()


def _render(folder: str, n_workers: int, n_pairs: int, size: int, steps: int) -> None:
    render_atlas(
        "lite:0",
        Path(folder) / "atlas",
        settings=AtlasSettings(tuple(range(n_pairs)), n_steps=steps, size=size),
        options=ScaleOptions(n_workers=n_workers, progress=False),
    )


def _records(folder: str) -> list[Path]:
    return list((Path(folder) / "atlas" / "pairs").glob("part-*.json"))


def _worker_megabytes() -> int:
    """The largest of this user's workers whose parent's parent is this process; 0: none."""
    found = [0]
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            is_ours = (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker")
            status = (folder / "status").read_text()
            parent = status.partition("PPid:")[2].split()[0]
            above = Path(f"/proc/{parent}/status").read_text().partition("PPid:")[2].split()[0]
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if is_ours and str(os.getpid()) in (parent, above):
            found.append(int(status.partition("VmRSS:")[2].split()[0]) // 1024)
    return max(found)


if __name__ == "__main__":
    main()
