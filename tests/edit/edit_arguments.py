"""Flat keyword arguments brought to where `edit_head` takes them."""

from __future__ import annotations

from typing import Any

from captum_neuroinspect.edit import Anchor, EditOptions, EditSettings, Training

_OF_TRAINING = ("batch_size", "schedule", "warmup", "patience", "weight_decay")
_OF_OPTIONS = ("penalty", "anchor", "mistake_weight", "max_cost", "link", "rule_at", "keep")
_OF_SETTINGS = ("strength", "scope", "select", "n_epochs", "lr", "seed", "options")


def arguments(**flat: Any) -> dict[str, Any]:
    """For :func:`edit_head`; ``anchor`` is a text, beside ``anchor_weight``.

    Args:
        **flat: all options by their own names.
    """
    weight = flat.pop("anchor_weight", 1.0)
    if flat.get("anchor") is not None:
        flat["anchor"] = Anchor(flat["anchor"], weight)
    if training := _taken(flat, _OF_TRAINING):
        flat["training"] = Training(**training)
    if options := _taken(flat, (*_OF_OPTIONS, "training")):
        flat["options"] = EditOptions(**options)
    return flat


def with_settings(**flat: Any) -> dict[str, Any]:
    """For :func:`edit_through_images`."""
    flat = arguments(**flat)
    return flat | {"settings": EditSettings(**_taken(flat, _OF_SETTINGS))}


def _taken(flat: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: flat.pop(name) for name in names if name in flat}
