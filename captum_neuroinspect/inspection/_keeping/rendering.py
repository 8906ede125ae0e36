"""Render many illusions part by part, so that an interrupt costs one part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._fingerprint import tensor_fingerprint
from captum_neuroinspect.inspection.encoders_by_name import LazyEncoder
from captum_neuroinspect.optvis import Illusions, render_illusions

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.workfolder import WorkFolder

Pair = tuple[int, int | None]
# What the caller names in the key, as it is no plain data.
_NAMED = ("head", "layer", "preprocess", "encoder")


def render_in_parts(
    work: WorkFolder,
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    key: Mapping[str, Any],
    seed: int,
    batch_size: int,
    fresh: bool = False,
    **options: Any,
) -> Illusions:
    """``render_illusions`` that keeps every finished batch.

    After an interrupt the same call goes on behind the last finished batch; the numbers are
    those of one call, as image i is drawn by ``seed + i`` and images never mix.

    Args:
        work: where they are kept.
        model: the classifier.
        pairs: (neuron, class) of each image; ``None`` in all for the neurons alone.
        key: what names model, head, layer, preprocessing and encoder.
        seed: of the first image.
        batch_size: pairs a part.
        fresh: render again what is there.
        **options: of :func:`render_illusions`. With one that has no name, such as a
            function for ``transforms``, nothing is kept.

    Raises:
        ValueError: for no pairs, or ``batch_size`` below 1.
        KeyboardInterrupt: when it was interrupted; finished batches are kept.
    """
    if not pairs:
        raise ValueError("pairs is empty: expected at least one neuron")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}, expected at least 1")
    parts = []
    for start in range(0, len(pairs), batch_size):
        chosen, first = list(pairs[start : start + batch_size]), seed + start
        own = _of_rows(options, start, len(chosen), len(pairs))
        make = partial(_part, model, chosen, seed=first, batch_size=batch_size, **own)
        named = _key_of(own)
        if named is None:
            parts.append(make())
            continue
        part_key = {**key, "options": named, "pairs": chosen, "seed": first}
        parts.append(work.illusions(part_key, make, fresh=fresh))
    return _joined(parts)


def _part(model: nn.Module, pairs: list[Pair], **options: Any) -> Illusions:
    neurons, classes = zip(*pairs, strict=True)
    encoder = options.get("encoder")
    if isinstance(encoder, LazyEncoder):  # loaded now that something has to be rendered
        options["encoder"] = encoder.encoder
    found = render_illusions(model, neurons, None if None in classes else classes, **options)
    if found.settings["interrupted"] is not None:
        # A half-finished batch would be taken for a finished one the next time.
        raise KeyboardInterrupt
    return found


def _of_rows(options: dict[str, Any], start: int, n: int, n_pairs: int) -> dict[str, Any]:
    """The options for some pairs: images to start from may be one for each."""
    init = options.get("init")
    if isinstance(init, Tensor) and init.ndim == 4 and len(init) == n_pairs:
        return {**options, "init": init[start : start + n]}
    return options


def _key_of(options: dict[str, Any]) -> dict[str, Any] | None:
    """What names the options; ``None`` when one has no name."""
    plain = {n: _plain(v) for n, v in options.items() if n not in (*_NAMED, "progress")}
    return None if _Unnamed in plain.values() else plain


class _Unnamed:
    """Stands for what cannot be part of a key."""


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tensor_fingerprint(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        found = [_plain(item) for item in value]
        return _Unnamed if _Unnamed in found else found
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return value if is_plain else _Unnamed


def _joined(parts: list[Illusions]) -> Illusions:
    if len(parts) == 1:
        return parts[0]

    def values(name: str) -> list[Any]:
        return [getattr(part, name) for part in parts]

    def tensor(name: str, dim: int = 0) -> Tensor | None:
        found = values(name)
        return None if any(part is None for part in found) else torch.cat(found, dim)

    def row(name: str) -> tuple[Any, ...] | None:
        found = values(name)
        return None if any(part is None for part in found) else sum(found, ())

    names = ("images", "masks", "maps", "activations", "logits", "similarities")
    together: dict[str, Any] = {name: tensor(name) for name in names}
    together |= {name: row(name) for name in ("neurons", "classes", "class_names")}
    counts = [n for part in parts for n in part.settings["n_rolled_back"]]
    settings = {**parts[0].settings, "n_rolled_back": counts}
    return replace(parts[0], **together, snapshots=tensor("snapshots", 1), settings=settings)
