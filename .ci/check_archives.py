"""What is in the wheel and the sdist: `python .ci/check_archives.py FOLDER` ends with an error."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "captum_neuroinspect"
# What the tests read beside the package, and what says what this is.
SDIST_FILES = ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "setup.cfg", ".ci/run")
SDIST_FOLDERS = ("tests", "docs", "tutorials", PACKAGE)


def main(folder: Path) -> None:
    """Look at the only wheel and the only sdist of a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    faults = [*_of_wheel(wheel), *_of_sdist(sdist)]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    if faults:
        sys.exit(1)


def _of_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        metadata = message_from_string(archive.read(f"{info}/METADATA").decode())
    wanted = _files(ROOT / PACKAGE)
    faults = [f"{path.name} lacks {name}" for name in sorted(wanted - names)]
    others = names - wanted
    faults += [f"{path.name} has {n}" for n in sorted(others) if not n.startswith(f"{info}/")]
    if f"{info}/licenses/LICENSE" not in names:
        faults.append(f"{path.name} has no licence")
    for name in ("Name", "Version", "Summary", "License-Expression", "Requires-Python"):
        if not metadata[name]:
            faults.append(f"{path.name} has no {name} in its metadata")
    if metadata["Version"] not in path.name:
        faults.append(f"{path.name} says that it is version {metadata['Version']}")
    return faults


def _of_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    wanted = set(SDIST_FILES)
    for folder in SDIST_FOLDERS:
        wanted |= _files(ROOT / folder)
    return [f"{path.name} lacks {name}" for name in sorted(wanted - names)]


def _files(folder: Path) -> set[str]:
    """Files that are part of the project, with their place in it."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
