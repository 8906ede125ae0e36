"""Partial results of many parts: made by workers, kept, and joined here one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect.scale._plan import begin
from captum_neuroinspect.scale._running import PartWork, run_missing_parts
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.features import FeaturePart, FeatureParts
from captum_neuroinspect.scale.options import ScaleOptions

# Parts of features that one partial result is of, where it is as large as they are.
GROUP = 64


class Kept(Protocol):
    """A partial result with a way to its tensors."""

    def tensors(self) -> dict[str, Tensor]: ...

    @classmethod
    def from_tensors(cls: type[_K], kept: Mapping[str, Tensor]) -> _K: ...


_K = TypeVar("_K", bound=Kept)


def kept_parts(out: str | Path) -> CommittedParts:
    """The partial results in a folder of the work."""
    return CommittedParts(Path(out) / "parts", ".safetensors")


def commit(out: str | Path, part: int, partial: Kept) -> None:
    """Keep the partial result of a part."""
    tensors, kind = partial.tensors(), type(partial).__name__
    kept_parts(out).commit(part, lambda file: write_kept(file, kind, tensors, {}), {})


def run_missing(
    out: Path,
    plan: Mapping[str, object],
    n_parts: int,
    make: Callable[[], PartWork],
    options: ScaleOptions,
) -> None:
    """Let workers make the partial results that are not there yet.

    Args:
        out: a folder of the work.
        plan: what they depend on; it is compared with the plan that the folder was begun with.
        n_parts: how many there are.
        make: makes the work, which commits to ``kept_parts(out)``.
        options: workers.

    Raises:
        ValueError: when the folder was begun with another plan.
    """
    begin(out, plan)
    run_missing_parts(make, kept_parts(out), n_parts, options)


def kept(out: Path, n_parts: int, kind: type[_K]) -> Iterator[_K]:
    """The partial results, one in memory at a time."""
    return (kept_part(out, part, kind) for part in range(n_parts))


def kept_part(out: Path, part: int, kind: type[_K]) -> _K:
    """The partial result of a part."""
    return kind.from_tensors(read_kept(kept_parts(out).path(part), kind.__name__)[0])


def n_groups(features: FeatureParts) -> int:
    """Groups of parts of features."""
    return -(-len(features) // GROUP)


def of_group(features: FeatureParts, group: int) -> Iterator[FeaturePart]:
    """The parts of a group, read one at a time."""
    return (
        features[part] for part in range(group * GROUP, min((group + 1) * GROUP, len(features)))
    )
