"""The only module that imports Captum's underscored internals.

They move between minor releases; the version bounds in ``pyproject.toml`` and the
tests of this package say which releases were tried.
"""

from __future__ import annotations

from captum._utils.gradient import _forward_layer_eval as forward_layer_eval
from captum._utils.typing import TargetType as TargetType

__all__ = ["TargetType", "forward_layer_eval"]
