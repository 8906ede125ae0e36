"""How many lines and branches of each package the tests reach.

pytest --cov && python tests/benchmarks/coverage_by_package.py
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import PurePath

_COUNTS = ("num_statements", "covered_lines", "num_branches", "covered_branches")


def _package(path: str) -> str:
    """`edit` for a module in any folder of the package `edit`."""
    parts = PurePath(path).parts
    inside = parts[parts.index("captum_neuroinspect") + 1 :]
    return inside[0] if len(inside) > 1 else "the rest"


def _share(covered: int, n: int) -> str:
    return f"{covered / n:.1%}" if n else "-"


def main() -> None:
    command = [sys.executable, "-m", "coverage", "json", "-q", "-o", "-"]
    report = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    packages: dict[str, Counter[str]] = {}
    for path, file in report["files"].items():
        counts = {name: file["summary"][name] for name in _COUNTS}
        packages.setdefault(_package(path), Counter()).update(counts)
    packages = dict(sorted(packages.items()))
    packages["all"] = sum(packages.values(), Counter())
    print("| package | lines | reached | branches | reached | both |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, counts in packages.items():
        n_lines, lines, n_branches, branches = (counts[one] for one in _COUNTS)
        both = _share(lines + branches, n_lines + n_branches)
        print(
            f"| {name} | {n_lines} | {_share(lines, n_lines)} "
            f"| {n_branches} | {_share(branches, n_branches)} | {both} |"
        )


if __name__ == "__main__":
    main()
