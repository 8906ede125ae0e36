"""Commands and code in processes of their own, without the seconds that each would need to import.

One process imports everything once; each other is a fork of it, which signals reach and which
leaves as any process does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_SERVER = """
import json, os, signal, sys
# Shells start what runs in the background with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import torch
from captum_neuroinspect.inspection.commands.cli import main
from captum_neuroinspect.inspection.session import session
from captum_neuroinspect.inspection.commands import _run_folder
from captum_neuroinspect.inspection.report import selection, write
sys.path.insert(0, HERE)
import file_events
torch.set_num_threads(1)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
print("ready", file=answers, flush=True)
for line in sys.stdin:
    task = json.loads(line)
    if "wait" in task:
        print(os.waitstatus_to_exitcode(os.waitpid(task["wait"], 0)[1]), file=answers, flush=True)
        continue
    if "here" in task:
        sys.argv = ["neuroinspect", *task["here"]]
        try:
            main()
        except SystemExit as end:
            print(end.code or 0, file=answers, flush=True)
        continue
    # A signal that comes before the command begins waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        print(child, file=answers, flush=True)
        continue
    for number in (1, 2):
        os.dup2(os.open(task["out"] + str(number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(task["environment"])
    if "UMASK" in os.environ:
        os.umask(int(os.environ["UMASK"], 8))
    if "USER_ID" in os.environ:
        os.setgroups([int(os.environ["GROUP_ID"])])
        os.setgid(int(os.environ["GROUP_ID"]))
        os.setuid(int(os.environ["USER_ID"]))
    if "EVENTS_DO" in os.environ:
        file_events.start(os.environ)
    sys.argv = ["neuroinspect", *task["arguments"]]
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if task["code"]:
            exec(task["code"], {"__name__": "__main__"})
            raise SystemExit
        main()
    except SystemExit as end:
        code = end.code or 0
    except KeyboardInterrupt:
        code = NOT_BEGUN
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        open(task["out"] + "0", "w").close()
        os._exit(code)
"""


NOT_BEGUN = 77  # interrupted before the command looked after that


@dataclass(frozen=True)
class Done:
    """What a process left: its exit code (below 0: the signal), and what it printed."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Started:
    """A process that may still run."""

    pid: int
    out: str
    server: Processes

    def wait_for_line(self, line: str) -> None:
        """Until it has printed this; an error if it ends before."""
        printed, ended = Path(self.out + "1"), Path(self.out + "0")
        while not (printed.exists() and line in printed.read_text("utf-8").splitlines()):
            assert not ended.exists(), self.wait()
            time.sleep(0.005)

    def wait(self) -> Done:
        code = int(self.server.ask({"wait": self.pid}))
        texts = [Path(self.out + n).read_text("utf-8") for n in "12"]
        return Done(code, *texts)


class Processes:
    """Starts ``neuroinspect``, or code, with arguments."""

    def __init__(self, server: subprocess.Popen[str], folder: Path) -> None:
        self._server, self._folder, self._n = server, folder, 0

    def start(self, *arguments: object, **environment: object) -> Started:
        return self._start("", arguments, environment)

    def start_code(self, code: str, *arguments: object) -> Started:
        return self._start(textwrap.dedent(code), arguments, {})

    def _start(
        self, code: str, arguments: tuple[object, ...], environment: dict[str, object]
    ) -> Started:
        self._n += 1
        out = str(self._folder / f"{self._n}.")
        task = {
            "code": code,
            "arguments": [str(one) for one in arguments],
            "environment": {name: str(value) for name, value in environment.items()},
            "out": out,
        }
        return Started(int(self.ask(task)), out, self)

    def run(self, *arguments: object, **environment: object) -> Done:
        return self.start(*arguments, **environment).wait()

    def warm_up(self, *arguments: object) -> None:
        """Run a command in the server: what it imports is there for users who cannot read it."""
        code = int(self.ask({"here": [str(one) for one in arguments]}))
        assert code == 0

    def ask(self, task: dict[str, Any]) -> str:
        print(json.dumps(task), file=_pipe(self._server.stdin), flush=True)
        return _pipe(self._server.stdout).readline()


@contextmanager
def processes(folder: Path) -> Iterator[Processes]:
    """Start the process that the others are forks of, and end it."""
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    with subprocess.Popen(
        [sys.executable, "-c", _server()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    ) as server:
        assert _pipe(server.stdout).readline() == "ready\n"
        yield Processes(server, folder)
        _pipe(server.stdin).close()


def _server() -> str:
    tests = repr(str(Path(__file__).parent))
    return _SERVER.replace("HERE", tests).replace("NOT_BEGUN", str(NOT_BEGUN))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
