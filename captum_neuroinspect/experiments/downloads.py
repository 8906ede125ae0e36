"""Archives of data sets: fetched whole or not at all, checked, and unpacked whole or not at all."""

from __future__ import annotations

import lzma
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from captum_neuroinspect._core.files import partial_folder
from captum_neuroinspect._core.texts import shown

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """A file that a data set is published as.

    Attributes:
        url: of the file.
        md5: of its content; ``None`` where nobody publishes one: then only what is in the archive
            can be checked.
        size: in words, as people decide by it.
        parent: folder below the root that the file belongs in, and is unpacked in.
        inner: folder that is in the archive; ``""``: the file is no archive.
    """

    url: str
    md5: str | None
    size: str
    parent: str = ""
    inner: str = ""

    @property
    def name(self) -> str:
        """Of the file."""
        return self.url.rsplit("/", 1)[-1]

    def file(self, root: Path) -> Path:
        """Where the file is put, by a download or by hand."""
        return root / self.parent / self.name

    def place(self, root: Path) -> Path:
        """What has to be there in the end: the unpacked folder, or the file."""
        return root / self.parent / (self.inner or self.name)


def ensure(archives: tuple[Archive, ...], root: Path, *, download: bool, what: str) -> None:
    """See to it that archives are unpacked in a folder.

    A file that was put there by hand is checked and unpacked. Otherwise it is downloaded, if
    ``download``. An interrupt leaves nothing behind that a later call would take for whole.

    Args:
        archives: all that the data set needs.
        root: folder of the data.
        download: whether it may be fetched.
        what: the data set is called in errors.

    Raises:
        FileNotFoundError: when it is not there and may not be fetched; says what to download, from
            where, and where to put it.
        RuntimeError: when it cannot be fetched.
        ValueError: when a file is not what was published: another hash, cut off, or no archive.
    """
    missing = [one for one in archives if not one.place(root).exists()]
    absent = [one for one in missing if not one.file(root).is_file()]
    if absent and not download:
        raise FileNotFoundError(f"{what} is not in {shown(root)}: {how_to_get(absent, root)}")
    for one in missing:
        if one in absent:
            _fetch(one, root, what)
        _check_hash(one, one.file(root))
        if one.inner:
            _unpack(one, root)


def how_to_get(archives: list[Archive], root: Path) -> str:
    """What to download, from where, and where to put it."""
    files = "; ".join(
        f"{one.url} ({one.size}) as {shown(one.file(root))}"
        + (f", md5 {one.md5}" if one.md5 else "")
        for one in archives
    )
    return f"download {files}, or give --download where there is a network"


def _fetch(archive: Archive, root: Path, what: str) -> None:
    from torchvision.datasets.utils import download_url

    path = archive.file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(path.parent) as folder:
        try:
            # The hash is checked here: torchvision's error does not say which file it is.
            download_url(archive.url, folder, archive.name)
        # What urllib, http and ssl raise: nearly all of it is an OSError.
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise RuntimeError(
                f"{what} could not be downloaded ({reason}): {how_to_get([archive], root)}"
            ) from error
        fetched = folder / archive.name
        _check_hash(archive, fetched)
        os.replace(fetched, path)


def _check_hash(archive: Archive, path: Path) -> None:
    from torchvision.datasets.utils import calculate_md5

    if archive.md5 is None:
        return
    found = calculate_md5(path)
    if found != archive.md5:
        size = path.stat().st_size
        raise ValueError(
            f"{shown(path)} has md5 {found} ({size:,} bytes), expected {archive.md5}: it is cut "
            f"off or another file. Remove it and download {archive.url} again"
        )


def _unpack(archive: Archive, root: Path) -> None:
    path = archive.file(root)
    with partial_folder(path.parent) as folder:
        try:
            with tarfile.open(path) as packed:
                packed.extractall(folder, filter="data")
                _check_end(packed)
        except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # such as a full disk
                raise
            raise ValueError(
                f"{shown(path)} is cut off or no tar archive ({error}). Remove it and download "
                f"{archive.url} again"
            ) from None
        inner = folder / archive.inner
        if inner.is_symlink() or not inner.is_dir():
            there = ", ".join(sorted(shown(p.name) for p in folder.iterdir())[:5]) or "nothing"
            raise ValueError(
                f"{shown(path)} is another archive: expected a folder {archive.inner}/ in it, "
                f"found {there}"
            )
        try:
            os.replace(inner, archive.place(root))
        except OSError:
            if not archive.place(root).is_dir():  # else another process was faster
                raise


def _check_end(packed: tarfile.TarFile) -> None:
    """Refuse an archive that does not end as one: ``tarfile`` takes damage for the end.

    Raises:
        tarfile.ReadError: when it is damaged after its first file, or cut off between files.
        OSError, EOFError: when the checksum of its compression is another.
    """
    assert packed.fileobj is not None
    packed.fileobj.seek(packed.offset)
    if packed.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"no end after {len(packed.getnames()):,} entries")
    while packed.fileobj.read(_CHUNK):  # to its end, where the checksum is
        pass
