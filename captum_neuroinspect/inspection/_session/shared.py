"""Photos that two sets have in common, found once and kept."""

from __future__ import annotations

from captum_neuroinspect.inspection._session.evidence import Source
from captum_neuroinspect.inspection._session.material import Part


def kept_n_shared(source: Source, part: Part, other: Part | None) -> int:
    """How many photos of a part are in another one too, by their content.

    Args:
        source: where it is kept.
        part: whose photos are counted.
        other: ``None``: none are shared.
    """
    if other is None:
        return 0
    theirs = other.photos

    def make() -> int:
        known = set(theirs.digests())
        return sum(digest in known for digest in part.photos.digests())

    key = {"photos": part.fingerprint, "other": other.fingerprint}
    return source.work.json("shared-photos", key, make, fresh=source.fresh)
