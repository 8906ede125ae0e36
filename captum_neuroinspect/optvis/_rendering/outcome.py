"""What a rendering gives to the user: illusions, settings and warnings."""

from __future__ import annotations

import math
import warnings

from captum_neuroinspect.optvis._rendering.batches import Rendering
from captum_neuroinspect.optvis._rendering.pairs import Pairs
from captum_neuroinspect.optvis.illusion_options import RenderSettings
from captum_neuroinspect.optvis.illusions import Illusions
from captum_neuroinspect.optvis.mask import activation_mask


def as_illusions(
    result: Rendering, pairs: Pairs, settings: RenderSettings, record: dict[str, object]
) -> Illusions:
    """The images that there are, with their pairs and numbers."""
    images, scores, names = result.images(), result.scores(), pairs.name_of_each()
    n_images, maps = len(images), result.maps()
    return Illusions(
        images=images,
        masks=None if maps is None else activation_mask(maps, images.shape[-2:]),
        activations=scores.activation,
        logits=scores.logit,
        similarities=scores.similarity,
        neurons=tuple(pairs.neurons[:n_images].tolist()),
        classes=None if pairs.classes is None else tuple(pairs.classes[:n_images].tolist()),
        class_names=None if names is None else names[:n_images],
        settings={**record, **_outcome(result, len(pairs))},
        snapshots=result.snapshots(),
        snapshot_steps=tuple(settings.options.snapshots),
        maps=maps,
    )


def warn_of(result: Rendering, n_pairs: int, settings: RenderSettings) -> None:
    """Warn of what the user should know about these images, as seen from the caller's caller."""
    for message in _messages(result, n_pairs, settings):
        warnings.warn(message, stacklevel=4)


def _outcome(result: Rendering, n_pairs: int) -> dict[str, object]:
    """How it went, as JSON values; NaN is none."""
    outcome: dict[str, object] = {
        "n_together": result.n_together,
        "n_rolled_back": result.n_rolled_back(),
        "interrupted": None,
    }
    if result.is_interrupted:
        outcome["interrupted"] = {"n_pairs": n_pairs, "step": result.batches[-1].n_steps}
    negative = result.scores().negative
    if negative is not None:
        outcome["negative_similarities"] = [
            value if math.isfinite(value) else None for value in negative.tolist()
        ]
    return outcome


def _messages(result: Rendering, n_pairs: int, settings: RenderSettings) -> list[str]:
    messages = []
    if result.is_interrupted:
        last = result.batches[-1]
        n_done = sum(len(batch.images) for batch in result.batches)
        messages.append(
            f"interrupted: {n_done} of {n_pairs} illusions are returned, "
            f"the last {len(last.images)} after {last.n_steps} of {settings.n_steps} steps"
        )
    counts = [n for n in result.n_rolled_back() if n]
    if counts:
        messages.append(
            f"{len(counts)} images had a loss or gradient that is not finite in {sum(counts)} "
            "steps, which they sat out: settings['n_rolled_back'] counts them for each image"
        )
    batch_size = settings.options.batch_size
    if result.n_together < min(batch_size, n_pairs):
        messages.append(
            f"out of memory with batch_size={batch_size}: images went through the "
            f"networks {result.n_together} at a time; results do not depend on it"
        )
    return messages
