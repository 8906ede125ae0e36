"""Which of a user's packages would an install change, by extra? A dry run of pip's resolver.

In an environment that has torch, torchvision, numpy and a newer kornia than Lucent wants, pip is
asked what it would do, without doing it. The four are stubs, a name and a version each: the
resolver reads no more of what is installed.

    python -m build && python tests/benchmarks/what_installing_changes.py dist/*.whl
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

HAD = {"torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.2.6", "kornia": "0.8.2"}
# torchvision names the torch that it was built for, as the real one does.
NEEDS = {"torchvision": ["torch==2.14.1", "numpy"], "kornia": ["torch>=2.0"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("extras", nargs="*", help="Default: none, and each by itself.")
    asked = parser.parse_args()
    extras = asked.extras or ["", *_extras(asked.wheel)]
    print(f"| extra | {' | '.join(f'{name} {v}' for name, v in HAD.items())} | packages added |")
    print(f"|---|{'---|' * (len(HAD) + 1)}")
    for extra in extras:
        print(_row(asked.wheel.resolve(), extra), flush=True)


def _row(wheel: Path, extra: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        python = _environment(Path(folder))
        what = f"{wheel}[{extra}]" if extra else str(wheel)
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--dry-run"]
        run = subprocess.run(
            [*command, "--quiet", "--report", "-", what], capture_output=True, text=True
        )
    name = f"`{extra}`" if extra else "none"
    if run.returncode:
        reason = run.stderr.strip().splitlines()[-1]
        return f"| {name} | {' | '.join('?' for _ in HAD)} | cannot be resolved: {reason} |"
    report = json.loads(run.stdout)["install"]
    new = {one["metadata"]["name"].lower(): one["metadata"]["version"] for one in report}
    cells = [f"**becomes {new[one]}**" if one in new else "stays" for one in HAD]
    n_added = len(set(new) - set(HAD) - {"captum-neuroinspect"})
    return f"| {name} | {' | '.join(cells)} | {n_added} |"


def _environment(folder: Path) -> Path:
    """An environment with stubs of what a user had; its Python."""
    venv.create(folder, with_pip=False)
    (place,) = folder.glob("lib/python*/site-packages")
    for name, version in HAD.items():
        info = place / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {one}" for one in NEEDS.get(name, [])]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text("")
    return folder / "bin" / "python"


def _extras(wheel: Path) -> Iterator[str]:
    with ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        yield from message_from_string(archive.read(name).decode()).get_all("Provides-Extra", [])


if __name__ == "__main__":
    main()
