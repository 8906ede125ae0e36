"""An inspection from photos to an edit: the session, its preflight and its reports.

Names are loaded when they are used: the command line answers ``--help`` at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.doctor import Finding, examine
    from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight, preflight
    from captum_neuroinspect.inspection.report.selection import Selection
    from captum_neuroinspect.inspection.session.session import NeuroInspect

__all__ = ["Finding", "NeuroInspect", "Preflight", "Selection", "examine", "preflight"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Finding": "doctor",
        "NeuroInspect": "session.session",
        "Preflight": "preflight_checks.preflight",
        "Selection": "report.selection",
        "examine": "doctor",
        "preflight": "preflight_checks.preflight",
    },
)
