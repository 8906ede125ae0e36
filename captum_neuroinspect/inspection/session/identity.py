"""Short names for what a session looks at, so that what was made of it is not taken elsewhere."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.session.session import NeuroInspect


def edit_identity(session: NeuroInspect) -> str:
    """Names the head, the class and every photo that teaches, chooses or judges an edit."""
    return _digest(_parts(session))


def report_identity(session: NeuroInspect) -> str:
    """Names what a report is about: model, photos and the mistakes that are explained.

    A tick in a report is about these; an edit of the run leaves it as it is.
    """
    assert session.explanation is not None
    return _digest([*_parts(session), session.explanation.predicted])


def _parts(session: NeuroInspect) -> list[Any]:
    material, found = session.material, session.explanation
    assert found is not None
    parts = [material.train, material.deployment, material.validation, material.test]
    photos = [[part.fingerprint, part.features.indices.tolist()] for part in parts]
    return [session.source.key, photos, found.target]


def _digest(record: list[Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()[:16]
