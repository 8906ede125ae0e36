"""A driver of Ray in a process of its own, and what its workers are and listen on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Ray would run workers at nice 15: beside other programs they would hardly begin.
_SETTINGS = {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
ROOT = Path(__file__).resolve().parents[2]


class Driver:
    """Runs code that uses Ray; descendants are found through /proc."""

    def __init__(self, code: str, log: Path, **environment: str) -> None:
        path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                env={**os.environ, "PYTHONPATH": path, **_SETTINGS, **environment},
                stdout=file,
                stderr=file,
            )
        self.log = log

    def is_running(self) -> bool:
        return self.process.poll() is None

    def descendants(self) -> dict[int, str]:
        """Command line of each process below the driver."""
        children: dict[int, list[int]] = {}
        for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except OSError:  # it has ended meanwhile
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(pid)
        found, todo = {}, [self.process.pid]
        while todo:
            for pid in children.get(todo.pop(), ()):
                todo.append(pid)
                try:
                    found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                except OSError:
                    continue
        return found

    def workers(self) -> list[int]:
        return [
            pid for pid, line in self.descendants().items() if line.startswith("ray::MapWorker")
        ]

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave nothing behind, also when a test fails."""
        if self.is_running():
            self.kill()

    def kill(self) -> None:
        """End the driver as a power cut would, and wait until Ray's processes have followed."""
        below = self.descendants()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not any(_is_alive(pid, line) for pid, line in below.items()))

    def finished(self, timeout: float = 600) -> None:
        assert self.process.wait(timeout) == 0, self.log.read_text()[-3000:]


def wait_for(is_so: Callable[[], bool], timeout: float = 600) -> None:
    end = time.monotonic() + timeout
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def listened_addresses(pids: list[int]) -> set[str]:
    """The addresses, as the kernel writes them, that processes listen on."""
    sockets = set()
    for pid in pids:
        try:
            handles = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for handle in handles:
            try:
                sockets.add(os.readlink(handle).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A" and cells[9] in sockets:
                found.add(cells[1].partition(":")[0])
    return found


def _is_alive(pid: int, line: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") == line
    except OSError:
        return False
