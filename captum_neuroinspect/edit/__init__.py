"""Weaken a false correlation in the decision layer, and show what it costs and gains."""

from captum_neuroinspect.edit._result import Evaluation, HeadEdit
from captum_neuroinspect.edit.head_edit import edit_head
from captum_neuroinspect.edit.probability_ratio import probability_ratio

__all__ = ["Evaluation", "HeadEdit", "edit_head", "probability_ratio"]
