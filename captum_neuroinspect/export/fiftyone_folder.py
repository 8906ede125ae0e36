"""Photos, predictions, slices and heat maps as a folder that FiftyOne imports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.files import write_files, write_text
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.export.heat_maps import check_maps, png_of, write_heat_maps
from captum_neuroinspect.export.records import (
    HasWords,
    blame_rows,
    prediction_rows,
    slice_rows,
    word_rows,
)

_PER_WRITE = 64  # photos in memory


def to_fiftyone(
    folder: str | Path,
    features: FeatureSet,
    image: Callable[[int], Tensor],
    *,
    photos: Sequence[str] | None = None,
    explanation: Explanation | None = None,
    maps: Tensor | None = None,
    map_of: FeatureSet | None = None,
    neurons: Sequence[int] = (),
    descriptions: Iterable[HasWords] = (),
    tags: Sequence[str] = (),
    progress: bool = False,
) -> Path:
    """Write a folder that the FiftyOne App shows, without FiftyOne or a database.

    Read it with ``fiftyone.Dataset.from_dir(folder, fiftyone.types.LegacyFiftyOneDataset)``. It
    holds the photos as the model sees them, to which the heat maps fit; ``ground_truth`` and
    ``prediction`` as classifications; the fields ``photo`` (its name), ``index``, ``group`` and
    ``slice``; and a field ``heat_map_7`` for neuron 7. What is known of neurons, their blame and
    words, is in the data set's ``info``. Tags are ``tags``, and ``"mistake"``.

    Args:
        folder: where it is written; made if need be.
        features: N samples, one class each.
        image: the photo of an index, ``(3, H, W)`` in 0..1, such as ``photos.image``; asked for one
            after the other.
        photos: ``(N,)`` names of the photos; ``None``: their numbers.
        explanation: whose slices and blame are told; its mistakes are found by their indices.
        maps: ``(M, J, h, w)`` heat maps.
        map_of: the M samples that they are of.
        neurons: J.
        descriptions: words for neurons.
        tags: N, such as the part that a sample is in.
        progress: show a bar.

    Returns:
        The folder.

    Raises:
        TypeError: for features or an explanation of another kind.
        ValueError: for multi-hot labels, no samples, an index twice, maps of other samples, or
            lengths that do not fit, before anything is written; for a photo outside 0..1.
        OSError: when a file cannot be written.
    """
    rows = prediction_rows(features, photos)
    if not rows:
        raise ValueError("features has no samples, expected at least one")
    if tags and len(tags) != len(rows):
        raise ValueError(f"{len(tags)} tags for {len(rows)} samples")
    if len(features.indices.unique()) < len(rows):
        raise ValueError(
            "features has an index twice, by which photos are asked for and named: expected a "
            "number of its own for each sample"
        )
    if (maps is None) != (map_of is None):
        raise ValueError("maps and map_of belong together, expected both or neither")
    if map_of is not None and not bool(torch.isin(map_of.indices, features.indices).all()):
        raise ValueError("map_of has samples that are not in features, expected some of them")
    slices = (
        {} if explanation is None else {r["index"]: r["slice"] for r in slice_rows(explanation)}
    )
    info: dict[str, Any] = {
        "blame": [] if explanation is None else blame_rows(explanation),
        "words": word_rows(descriptions),
    }
    if maps is not None and map_of is not None:
        check_maps(maps, neurons, map_of.indices.tolist(), [""] * len(map_of))
    folder = Path(folder).expanduser()
    # Of an earlier export: beside other photos it would tell of those that were there.
    (folder / "samples.json").unlink(missing_ok=True)
    heat: dict[int, dict[str, Any]] = {}
    if maps is not None and map_of is not None and len(map_of):
        indices = map_of.indices.tolist()
        files = write_heat_maps(
            maps,
            neurons,
            folder / "fields",
            indices=indices,
            photos=[""] * len(indices),
            size=_size_of(image(indices[0])),
        )
        for one in files:
            field = f"heat_map_{one['neuron']}"
            heat.setdefault(one["index"], {})[field] = _heat_map(f"fields/{one['file']}")
    _write_photos(folder / "data", [row["index"] for row in rows], image, progress)
    samples = [
        _sample(row, tag, slices.get(row["index"])) | heat.get(row["index"], {})
        for row, tag in zip(rows, tags or [""] * len(rows), strict=True)
    ]
    # The samples last: a folder without them is no data set, so that none is ever half there.
    about = {"media_type": "image", "info": info}
    write_text(folder / "metadata.json", json.dumps(about))
    write_text(folder / "samples.json", json.dumps({"samples": samples}))
    return folder


def _size_of(picture: Tensor) -> tuple[int, int]:
    height, width = picture.shape[-2:]
    return height, width


def _write_photos(
    folder: Path, indices: list[int], image: Callable[[int], Tensor], progress: bool
) -> None:
    numbers = torch.tensor(indices).split(_PER_WRITE)
    with tqdm(total=len(indices), desc="photos", disable=not progress, unit="photo") as bar:
        for part in numbers:
            write_files(folder, {f"{i:06}.png": png_of(image(i)) for i in part.tolist()})
            bar.update(len(part))


def _sample(row: dict[str, Any], tag: str, number: int | None) -> dict[str, Any]:
    return {
        "filepath": f"data/{row['index']:06}.png",
        "tags": [*([tag] if tag else []), *([] if row["is_right"] else ["mistake"])],
        "metadata": None,
        "_media_type": "image",
        "photo": row["photo"],
        "index": row["index"],
        "group": None if row["group"] is None else str(row["group"]),
        "slice": number,
        "ground_truth": _classification(row["label"], row["p_label"]),
        "prediction": _classification(row["predicted"], row["p_predicted"]),
    }


def _classification(label: str, confidence: float) -> dict[str, Any]:
    return {"_cls": "Classification", "tags": [], "label": label, "confidence": confidence}


def _heat_map(path: str) -> dict[str, Any]:
    return {"_cls": "Heatmap", "tags": [], "map": None, "map_path": path, "range": None}
