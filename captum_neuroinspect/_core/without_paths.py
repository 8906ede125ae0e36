"""Texts for a report, which is made to be shared: without the folders of this machine."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

_LOCAL = ("hf:", "timm:local-dir:", "local-dir:")
# An absolute path of two parts or more, from the root, the home folder or a drive.
_PATH = re.compile(r"(?<![\w.~/\\-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\,;:'\"()]+){2,}")


def source_without_paths(spec: str, *texts: str) -> tuple[str, ...]:
    """A model's spec and texts about it, with the last part of each path alone.

    Examples::

        >>> source_without_paths("/home/ann/my nets/net.py:net", "as net.py:net made them")
        ('net.py:net', 'as net.py:net made them')
        >>> source_without_paths("hf:microsoft/resnet-50")
        ('hf:microsoft/resnet-50',)
    """
    path = _path_in(spec)
    named = (spec, *texts)
    if path is not None:
        # Longest first: a path is part of the one with its home folder written out.
        for known in sorted({path, str(Path(path).expanduser())}, key=len, reverse=True):
            named = tuple(text.replace(known, _last_part(known)) for text in named)
    return tuple(map(without_paths, named))


def without_paths(text: str) -> str:
    r"""A text with the last part of each absolute path alone.

    Examples::

        >>> without_paths("weights of C:\\Users\\ann\\net.pt, openclip:ViT-B-32/openai")
        'weights of net.pt, openclip:ViT-B-32/openai'
    """
    return _PATH.sub(lambda found: _last_part(found[0]), text)


def _path_in(spec: str) -> str | None:
    in_file = re.fullmatch(r"(.+\.py):\w+", spec)
    if in_file is not None:
        return in_file[1]
    for kind in _LOCAL:
        path = spec.removeprefix(kind)
        if spec.startswith(kind) and Path(path).expanduser().is_dir():
            return path
    return None


def _last_part(path: str) -> str:
    return PureWindowsPath(path).name or path  # which knows both kinds of slashes
