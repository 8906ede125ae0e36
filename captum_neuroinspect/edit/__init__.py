"""Weaken a false correlation in the decision layer, and show what it costs and gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names
from captum_neuroinspect.edit._result import HeadEdit, compare_heads
from captum_neuroinspect.edit.controls import Control, run_controls, run_direction_controls
from captum_neuroinspect.edit.cross_fitting import cross_fit, fit_and_judge
from captum_neuroinspect.edit.edit_options import Anchor, EditOptions, EditSettings, Training
from captum_neuroinspect.edit.evaluation import Evaluation, calibration_error
from captum_neuroinspect.edit.head_diff import HeadDiff
from captum_neuroinspect.edit.head_edit import edit_head
from captum_neuroinspect.edit.image_edit import edit_through_images
from captum_neuroinspect.edit.judged import Estimate, Judged, Paired, mcnemar, paired_change
from captum_neuroinspect.edit.mend import mend
from captum_neuroinspect.edit.method_records import (
    ComparisonRecord,
    ConstraintRecord,
    HeldOutAccuracy,
    MendRecord,
    RemovalRecord,
)
from captum_neuroinspect.edit.probability_ratio import probability_ratio
from captum_neuroinspect.edit.removal_options import RemovalOptions
from captum_neuroinspect.edit.remove_cue import remove_cue
from captum_neuroinspect.edit.verdict import ClassChange, Verdict, verdict_on

if TYPE_CHECKING:
    from captum_neuroinspect.attr.direction import Direction, cue_direction

__all__ = [
    "Anchor",
    "ClassChange",
    "ComparisonRecord",
    "ConstraintRecord",
    "Control",
    "Direction",
    "EditOptions",
    "EditSettings",
    "Estimate",
    "Evaluation",
    "HeadDiff",
    "HeadEdit",
    "HeldOutAccuracy",
    "Judged",
    "MendRecord",
    "Paired",
    "RemovalOptions",
    "RemovalRecord",
    "Training",
    "Verdict",
    "calibration_error",
    "compare_heads",
    "cross_fit",
    "cue_direction",
    "edit_head",
    "edit_through_images",
    "fit_and_judge",
    "mcnemar",
    "mend",
    "paired_change",
    "probability_ratio",
    "remove_cue",
    "run_controls",
    "run_direction_controls",
    "verdict_on",
]

# Captum, which `attr` imports, is not loaded before one of these is used.
_OF_ATTR = dict.fromkeys(("Direction", "cue_direction"), "direction")
__getattr__, _ = lazy_names("captum_neuroinspect.attr", _OF_ATTR)
