"""Archives over a real connection: whole, cut off, another one, and an interrupt on the way."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from torchvision.datasets import Flowers102, Food101

from captum_neuroinspect.experiments.downloads import Archive, ensure
from captum_neuroinspect.experiments.worst_class import FLOWERS, FOOD


def packed(folder: str = "data") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for name in ("a.txt", "b/c.txt"):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            content = hashlib.sha256(name.encode()).digest() * 50
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


class Served(dict[str, bytes]):
    """Files by name; ``url`` is where they are, ``asked`` what was fetched."""

    url = ""
    asked: list[str]


@pytest.fixture
def served() -> Iterator[Served]:
    files = Served()
    files.asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            files.asked.append(name)
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            self.wfile.write(files[name])

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield files
    http.shutdown()
    http.server_close()
    thread.join()


def archive(served: Served, content: bytes, *, hashed: bool = True) -> Archive:
    served["data.tgz"] = content
    md5 = hashlib.md5(packed()).hexdigest() if hashed else None
    return Archive(f"{served.url}/data.tgz", md5, "2 files", "below", "data")


def test_it_is_fetched_checked_and_unpacked_once(served: Served, tmp_path: Path) -> None:
    one = archive(served, packed())
    ensure((one,), tmp_path, download=True, what="Data")
    assert (tmp_path / "below/data/b/c.txt").stat().st_size == 1600
    n = len(served.asked)
    ensure((one,), tmp_path, download=True, what="Data")
    assert len(served.asked) == n
    assert sorted(p.name for p in (tmp_path / "below").iterdir()) == ["data", "data.tgz"]


def test_a_file_put_there_by_hand_needs_no_network(served: Served, tmp_path: Path) -> None:
    one = archive(served, packed())
    (tmp_path / "below").mkdir()
    (tmp_path / "below/data.tgz").write_bytes(packed())
    ensure((one,), tmp_path, download=False, what="Data")
    assert (tmp_path / "below/data/a.txt").is_file()
    assert not served.asked


def test_what_is_needed_is_said(served: Served, tmp_path: Path) -> None:
    one = archive(served, packed())
    place = tmp_path / "below/data.tgz"
    with pytest.raises(FileNotFoundError, match=f"download {one.url} .*as {place}, md5 {one.md5}"):
        ensure((one,), tmp_path, download=False, what="Data")
    del served["data.tgz"]
    with pytest.raises(RuntimeError, match=r"could not be downloaded \(.*404.*\): download http"):
        ensure((one,), tmp_path, download=True, what="Data")
    assert not served.keys()
    assert not list((tmp_path / "below").iterdir())


@pytest.mark.parametrize("hashed", [True, False])
def test_a_file_that_is_cut_off_is_refused_and_fetched_again(
    served: Served, tmp_path: Path, hashed: bool
) -> None:
    one = archive(served, packed()[:-40], hashed=hashed)
    with pytest.raises(ValueError, match="cut off"):
        ensure((one,), tmp_path, download=True, what="Data")
    assert not (tmp_path / "below/data").exists()
    if not hashed:  # no hash told it before it was in place
        (tmp_path / "below/data.tgz").unlink()
    served["data.tgz"] = packed()
    ensure((one,), tmp_path, download=True, what="Data")
    assert (tmp_path / "below/data/a.txt").is_file()


def test_another_file_is_refused(served: Served, tmp_path: Path) -> None:
    one = archive(served, packed("other"))
    with pytest.raises(ValueError, match=r"has md5 .*cut off or another file"):
        ensure((one,), tmp_path, download=True, what="Data")
    one = archive(served, packed("other"), hashed=False)
    with pytest.raises(ValueError, match=r"another archive: expected a folder data/ .*found other"):
        ensure((one,), tmp_path, download=True, what="Data")
    served["data.tgz"] = b"no archive"
    (tmp_path / "below/data.tgz").unlink()
    with pytest.raises(ValueError, match="no tar archive"):
        ensure((one,), tmp_path, download=True, what="Data")


def test_an_archive_writes_nothing_outside(served: Served, tmp_path: Path) -> None:
    one = archive(served, packed("../../out"), hashed=False)
    with pytest.raises(ValueError, match="no tar archive"):
        ensure((one,), tmp_path, download=True, what="Data")
    assert not (tmp_path.parent / "out").exists()
    assert not (tmp_path / "out").exists()


def test_an_interrupt_while_unpacking_leaves_nothing_that_looks_whole(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = archive(served, packed())
    unpack = tarfile.TarFile.extractall

    def interrupted(self, path, **options) -> None:
        Path(path, "data").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(tarfile.TarFile, "extractall", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure((one,), tmp_path, download=True, what="Data")
    assert [p.name for p in (tmp_path / "below").iterdir()] == ["data.tgz"]
    monkeypatch.setattr(tarfile.TarFile, "extractall", unpack)
    n = len(served.asked)
    ensure((one,), tmp_path, download=True, what="Data")
    assert len(served.asked) == n
    assert (tmp_path / "below/data/a.txt").is_file()


def test_urls_and_hashes_are_those_of_torchvision() -> None:
    prefix, files = Flowers102._download_url_prefix, Flowers102._file_dict
    assert [(one.url, one.md5) for one in FLOWERS] == [
        (prefix + name, md5) for name, md5 in files.values()
    ]
    assert [(one.url, one.md5) for one in FOOD] == [(Food101._URL, Food101._MD5)]
