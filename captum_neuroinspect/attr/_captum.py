"""The only module that imports Captum's underscored internals.

They move between minor releases; the version bounds in ``pyproject.toml`` and the
tests of this package say which releases were tried.
"""

from __future__ import annotations

from captum._utils.common import (
    _format_additional_forward_args as format_additional_forward_args,
)
from captum._utils.common import _run_forward as run_forward
from captum._utils.typing import TargetType as TargetType

__all__ = ["TargetType", "format_additional_forward_args", "run_forward"]
