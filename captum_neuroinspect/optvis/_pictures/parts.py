"""Whether the parts of illusions belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_neuroinspect.optvis.illusions import Illusions


def check_parts(illusions: Illusions, per_image: Sequence[str]) -> None:
    """Refuse parts of which some have other lengths or shapes than the images.

    Args:
        illusions: as they are made.
        per_image: names of the parts that have an entry for each image.

    Raises:
        ValueError: naming the part, its length or shape, and what was expected.
    """
    images, masks = illusions.images, illusions.masks
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (N, 3, H, W)")
    for name in per_image:
        part = getattr(illusions, name)
        if part is not None and len(part) != len(images):
            raise ValueError(
                f"{name} has {len(part)} entries, expected {len(images)}: one per image"
            )
    shape = (len(images), 1, *images.shape[-2:])
    if masks is not None and masks.shape != shape:
        raise ValueError(f"masks have shape {tuple(masks.shape)}, expected {shape}")
    if illusions.maps is not None and illusions.maps.ndim != 3:
        raise ValueError(f"maps have shape {tuple(illusions.maps.shape)}, expected (N, h, w)")
    _check_snapshots(illusions)


def _check_snapshots(illusions: Illusions) -> None:
    snapshots, steps = illusions.snapshots, illusions.snapshot_steps
    n_steps = len(steps)
    shape = (n_steps, *illusions.images.shape)
    if snapshots is None and n_steps:
        raise ValueError(f"{n_steps} snapshot_steps without snapshots, expected none")
    if snapshots is not None and not n_steps:
        raise ValueError("snapshots without snapshot_steps, expected one step per snapshot")
    if snapshots is not None and snapshots.shape != shape:
        raise ValueError(
            f"snapshots have shape {tuple(snapshots.shape)}, expected {shape}: "
            f"{n_steps} steps, each like images"
        )
