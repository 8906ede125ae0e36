"""An archive without a published hash: whole, or refused. ``tarfile`` takes damage for the end."""

from __future__ import annotations

import io
import random
import tarfile
import threading
from pathlib import Path

import pytest

from captum_neuroinspect.experiments.downloads import Archive, ensure

N_FILES = 12


def archive(kind: str) -> Archive:
    return Archive(f"http://localhost/data.{kind}", None, "1 KB", inner="data")


def packed(kind: str) -> bytes:
    text, rng = io.BytesIO(), random.Random(0)
    with tarfile.open(fileobj=text, mode=f"w:{kind}" if kind != "tar" else "w") as file:
        for number in range(N_FILES):
            entry = tarfile.TarInfo(f"data/{number}.bin")
            entry.size = 700
            file.addfile(entry, io.BytesIO(rng.randbytes(700)))
    return text.getvalue()


def unpacked(kind: str, content: bytes, root: Path) -> None:
    root.mkdir(exist_ok=True)
    (root / f"data.{kind}").write_bytes(content)
    ensure((archive(kind),), root, download=False, what="the data set")


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_damage_anywhere_is_refused_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    good, rng = packed(kind), random.Random(1)
    unpacked(kind, good, tmp_path / "good")
    assert len(list((tmp_path / "good/data").iterdir())) == N_FILES
    for trial in range(24):
        content = bytearray(good)
        if trial % 2:
            del content[rng.randrange(len(content) - 8) :]
        else:
            place = rng.randrange(16, len(content) - 8)
            content[place] ^= 1 << rng.randrange(8)
        root = tmp_path / str(trial)
        with pytest.raises(ValueError, match=r"cut off or no tar archive|another archive"):
            unpacked(kind, bytes(content), root)
        assert [path.name for path in root.iterdir()] == [f"data.{kind}"]


@pytest.mark.parametrize("n_left", [1, 5, 11])
def test_an_archive_that_ends_between_two_files_is_refused(n_left: int, tmp_path: Path) -> None:
    of_a_file = 512 + 1024  # its header, and 700 bytes in blocks of 512
    with pytest.raises(ValueError, match=f"no end after {n_left} entries"):
        unpacked("tar", packed("tar")[: n_left * of_a_file], tmp_path)


def test_a_damaged_name_between_files_is_not_the_end(tmp_path: Path) -> None:
    content = bytearray(packed("tar"))
    content[5 * (512 + 1024) + 3] ^= 1
    with pytest.raises(ValueError, match="no end after 5 entries"):
        unpacked("tar", bytes(content), tmp_path)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    text = io.BytesIO()
    with tarfile.open(fileobj=text, mode="w") as file:
        for name, kind in (("real", tarfile.DIRTYPE), ("data", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = kind, "real", 0o755
            file.addfile(entry)
    with pytest.raises(ValueError, match="another archive"):
        unpacked("tar", text.getvalue(), tmp_path)
    assert not (tmp_path / "data").is_symlink()


def test_two_at_once_both_find_it_unpacked(tmp_path: Path) -> None:
    (tmp_path / "data.gz").write_bytes(packed("gz"))
    errors: list[Exception] = []
    start = threading.Barrier(4)

    def fetch() -> None:
        start.wait()
        try:
            ensure((archive("gz"),), tmp_path, download=False, what="the data set")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list((tmp_path / "data").iterdir())) == N_FILES
