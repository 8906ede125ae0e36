"""What lies in a folder, for comparing two."""

from __future__ import annotations

import json
from pathlib import Path


def tree(folder: Path) -> dict[str, bytes]:
    """Path and content of all files but locks, which are empty and stay.

    The records of the cache come without the time, and unfinished files show up by their names.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and ".locks" not in path.parts:
            found[name] = _timeless(path)
    return found


def n_unfinished(folder: Path) -> int:
    return len(list(folder.rglob(".neuroinspect-*")))


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if not path.name.endswith(".entry.json"):
        return content
    record = json.loads(content)
    del record["made"]
    return json.dumps(record).encode()
