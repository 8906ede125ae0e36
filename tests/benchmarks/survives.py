"""What a run survives: kills and interrupts, files that changed, and many photos.

``kills`` stops each command at random times and gives it again; ``mutations`` changes each kept
file and counts what the next command makes of it; ``load`` lists, hashes and deals out many small
photos. Commands work on 90 small pictures and a small network, in processes of their own. POSIX.
Run with the package installed: ``python tests/benchmarks/survives.py kills``.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image
from processes import Done, Processes, processes
from session_examples import inspect_arguments, write_model, write_photos
from trees import n_unfinished, tree
from whole_commands import COMMANDS, is_new, work_of

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.edit import HeadEdit
from captum_neuroinspect.inspection.data.roles import dealt_roles, set_apart, shares_of
from captum_neuroinspect.optvis import Illusions
from captum_neuroinspect.photos.photos import Photos

# The quicker method; what is kept is the same.
_EDIT = ("--method", "equation8", "--quiet")


@contextmanager
def place() -> Iterator[tuple[Processes, Path, Path]]:
    """Commands, a folder with photos and a model, and a finished run with an edit."""
    root = Path(tempfile.mkdtemp())
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    write_photos(root / "photos")
    write_model(root)
    (root / "out").mkdir()
    try:
        with processes(root / "out") as commands:
            run = root / "inspected" / "run"
            expect(commands.run(*inspect_arguments(root, run, "--neurons", 1)))
            yield commands, root, root / "inspected"
    finally:
        shutil.rmtree(root)


def expect(done: Done) -> None:
    if done.code:
        raise SystemExit(f"a command failed: {done.stderr}")


# Kills


def kills(trials: int, seed: int) -> None:
    """Stop each command at a random time, and give it again."""
    numbers = random.Random(seed)
    print("| command | signal | trials | stopped | same result after | unfinished files after |")
    print("|---|---|---|---|---|---|")
    with place() as (commands, root, inspected):
        for name in COMMANDS:
            given = None if is_new(name) else inspected
            work = work_of(name, root, root / f"whole {name}" / "place", given)
            begin = time.monotonic()
            expect(commands.run(*work.arguments))
            seconds, whole = time.monotonic() - begin, tree(work.folder)
            for number in (signal.SIGKILL, signal.SIGINT):
                counts = Counter[str]()
                for trial in range(trials):
                    folder = root / f"{name} {number} {trial}" / "place"
                    work = work_of(name, root, folder, given)
                    started = commands.start(*work.arguments)
                    time.sleep(numbers.uniform(0, seconds))
                    os.kill(started.pid, number)  # it is there until it is waited for
                    counts["stopped"] += started.wait().code != 0
                    expect(commands.run(*work.arguments))
                    counts["same"] += tree(folder) == whole
                    counts["unfinished"] += n_unfinished(folder)
                    shutil.rmtree(folder.parent)
                print(
                    f"| `{name}` | {number.name} | {trials} | {counts['stopped']} | "
                    f"{counts['same']} | {counts['unfinished']} |",
                    flush=True,
                )


# Mutations


def _flip(numbers: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[numbers.randrange(len(content))] ^= 1 << numbers.randrange(8)
    path.write_bytes(content)


def _cut(numbers: random.Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: numbers.randrange(len(content))])


def _noise(numbers: random.Random, path: Path) -> None:
    path.write_bytes(numbers.randbytes(numbers.randrange(3000)))


def _folder(numbers: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _loop(numbers: random.Random, path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _pipe(numbers: random.Random, path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


_OTHERS = (_cut, _noise, _folder, _loop, _pipe)
OUTCOMES = ("identical", "rebuilt", "left out", "refused", "other result")


def mutations(flips: int, seed: int) -> None:
    """Change each kept file, and see what the next command makes of it."""
    numbers = random.Random(seed)
    changes = [_flip] * flips + [change for change in _OTHERS for _ in range(max(1, flips // 8))]
    print(f"| file | read by | changes | {' | '.join(OUTCOMES)} |")
    print("|---|---|---|---|---|---|---|---|")
    with place() as (commands, root, inspected):
        run = root / "ready" / "run"
        shutil.copytree(inspected, run.parent)
        expect(commands.run("edit", "--run", run, *_EDIT))
        selection = run / "selection.json"
        target = HeadEdit.load(run / "edit.safetensors").target
        selection.write_text(
            f'{{"format": 1, "run": "run", "target": {target}, "neurons": [8, 4]}}'
        )
        expect(commands.run("edit", "--run", run, *_EDIT, "--selection", selection))
        report, edit = ("report", "--quiet"), ("edit", *_EDIT, "--selection")
        cases: dict[str, tuple[Any, ...]] = {
            "run.json": report,
            "report.html": report,
            "edit.safetensors": report,
            "selection.json": edit,
            "work/features/*.safetensors": report,
            "work/features/*.entry.json": report,
            "work/illusions/*.safetensors": report,
            "work/illusions/*.entry.json": report,
            "work/saliency/*.safetensors": report,
        }
        for pattern, command in cases.items():
            counts = Counter[str]()
            for change in changes:
                counts[_outcome(commands, run, pattern, command, change, numbers)] += 1
            _row(pattern.replace("*.", "…"), f"`{command[0]}`", counts)
        _loaders(root, run, numbers, 20 * flips)


def _outcome(
    commands: Processes,
    ready: Path,
    pattern: str,
    command: tuple[Any, ...],
    change: Callable[[random.Random, Path], None],
    numbers: random.Random,
) -> str:
    folder = Path(tempfile.mkdtemp()) / "run"
    shutil.copytree(ready, folder)
    change(numbers, next(iter(sorted(folder.glob(pattern)))))
    given = (folder / "selection.json",) if "--selection" in command else ()
    done = commands.run(*command, *given, "--run", folder)
    if done.code == 1 and "Error: " in done.stderr and "should not happen" not in done.stderr:
        found = "refused"
    elif done.code == 1:
        raise SystemExit(f"{pattern}: {done.stderr}")
    elif "is left out of the report" in done.stderr:
        found = "left out"
    elif (folder / "report.html").read_bytes() != (ready / "report.html").read_bytes():
        found = "other result"
    else:
        found = "rebuilt" if "made again" in done.stderr else "identical"
    shutil.rmtree(folder.parent)
    return found


def _loaders(root: Path, run: Path, numbers: random.Random, n: int) -> None:
    """One flipped bit in what Python reads by itself."""
    made: dict[str, tuple[Any, Path]] = {
        "`FeatureSet`": (FeatureSet, next((run / "work/features").glob("*.safetensors"))),
        "`HeadEdit`": (HeadEdit, run / "edit.safetensors"),
        "`Illusions`": (Illusions, next((run / "work/illusions").glob("*.safetensors"))),
    }
    for name, (kind, path) in made.items():
        again, copy = root / "again.safetensors", root / "copy.safetensors"
        whole = kind.load(path).save(copy).read_bytes()
        counts = Counter[str]()
        for _ in range(n):
            shutil.copy(path, again)
            _flip(numbers, again)
            try:
                found = kind.load(again).save(copy).read_bytes()
            except (ValueError, OSError):
                counts["refused"] += 1
            else:
                counts["identical" if found == whole else "other result"] += 1
        _row(f"{name}, one bit", f"{name[:-1]}.load`", counts)


def _row(name: str, by: str, counts: Counter[str]) -> None:
    cells = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
    print(f"| {name} | {by} | {counts.total()} | {cells} |", flush=True)


# Load


def load(sizes: list[int], kilobytes: int, n_classes: int) -> None:
    """List, hash and deal out photos; peak memory is that of the process so far."""
    print("| photos | MB | list (s) | hash (s) | find copies (s) | roles (s) | peak (MB) |")
    print("|---|---|---|---|---|---|---|")
    for n in sizes:
        folder = Path(tempfile.mkdtemp())
        try:
            _photos(folder, n, kilobytes, n_classes)
            _load(folder, n, kilobytes)
        finally:
            shutil.rmtree(folder)


def _photos(folder: Path, n: int, kilobytes: int, n_classes: int) -> None:
    """Pictures that differ, with what pads them to their size behind the picture's end."""
    numbers = random.Random(0)
    picture = io.BytesIO()
    Image.new("RGB", (24, 24), (90, 120, 40)).save(picture, "JPEG")
    for number in range(n_classes):
        (folder / f"class {number:04}").mkdir()
    for number in range(n):
        padding = numbers.randbytes(max(8, kilobytes * 1000 - picture.tell()))
        path = folder / f"class {number % n_classes:04}" / f"{number:06}.jpg"
        path.write_bytes(picture.getvalue() + padding)


def _load(folder: Path, n: int, kilobytes: int) -> None:
    seconds = []

    def timed(function: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = function()
        seconds.append(f"{time.perf_counter() - begin:.2f}")
        return found

    photos = timed(lambda: Photos.of(folder, image_size=24))
    digests = timed(photos.digests)
    halves = {"data": photos.subset(range(1, n, 2)), "train": photos.subset(range(0, n, 2))}
    timed(lambda: set_apart(halves))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, len(photos.class_names or ()), generator=generator)
    features = FeatureSet(torch.randn(n, 64, generator=generator), logits, photos.labels)
    timed(lambda: dealt_roles(features, digests, shares_of(0.5, []), seed=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)
    row = " | ".join(seconds)
    print(f"| {n:,} | {n * kilobytes / 1e3:,.0f} | {row} | {megabytes:,.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("kills", "mutations", "load"))
    parser.add_argument("--trials", type=int, default=20, help="kills: a command and signal")
    parser.add_argument("--flips", type=int, default=16, help="mutations: flipped bits a file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--kilobytes", type=int, default=2, help="load: of a photo")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part == "kills":
        kills(options.trials, options.seed)
    elif options.part == "mutations":
        mutations(options.flips, options.seed)
    else:
        load(options.sizes, options.kilobytes, options.classes)


if __name__ == "__main__":
    main()
