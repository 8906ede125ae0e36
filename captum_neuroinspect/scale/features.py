"""Features of many photos: collected in parts by many processes, kept in Parquet files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from captum_neuroinspect._core.class_names import as_names
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.files import (
    explained,
    partial_folder,
    put_in_place,
    read_text,
    write_text,
)
from captum_neuroinspect._core.fingerprint import text_fingerprint
from captum_neuroinspect._core.optional import SCALE, optional
from captum_neuroinspect.features import collect_features
from captum_neuroinspect.models import LoadedModel, load_model
from captum_neuroinspect.scale._model_identity import ModelIdentity, check_same
from captum_neuroinspect.scale._plan import FORMAT, begin, begun, check_format, refuse_pickled
from captum_neuroinspect.scale._running import run_missing_parts
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.options import ScaleOptions
from captum_neuroinspect.scale.photo_lists import (
    FileStates,
    Kind,
    PhotoList,
    PhotoPlace,
    PhotoReader,
    UnreadableError,
)

_PHOTOS, _INDEX, _PARTS = "photos.parquet", "index.json", "parts"


@dataclass(frozen=True)
class SkippedPhoto:
    """A photo that could not be read.

    Attributes:
        identity: its name in the list of photos.
        reason: why.
    """

    identity: str
    reason: str


@dataclass(frozen=True)
class FeaturePart:
    """Some photos' features.

    Attributes:
        photos: N identities.
        features: of the same photos; ``indices`` are their positions in the list of all.
    """

    photos: tuple[str, ...]
    features: FeatureSet


@dataclass(frozen=True)
class FeatureParts(Sequence[FeaturePart]):
    """A folder of features, read part by part: no more than one is in memory.

    Attributes:
        folder: that :func:`collect_features_at_scale` finished.
        n_photos: with features.
        skipped: photos that could not be read, in the order of the list.
        class_names: in the order of the logits, or ``None``.
        head_fingerprint: of the decision layer that gave the logits.
    """

    folder: Path
    n_photos: int
    skipped: tuple[SkippedPhoto, ...]
    class_names: tuple[str, ...] | None
    head_fingerprint: str
    _records: tuple[dict[str, Any], ...] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> FeatureParts:
        """Open a finished folder.

        Raises:
            OSError: when there is none.
            ValueError: when it is not finished, or damaged.
        """
        folder = Path(folder)
        try:
            index = json.loads(read_text(folder / _INDEX))
            check_format(index, folder / _INDEX)
            names = index["class_names"]
            return cls(
                folder,
                index["n_photos"],
                tuple(SkippedPhoto(*one) for one in index["skipped"]),
                None if names is None else tuple(names),
                index["head_fingerprint"],
                tuple(index["parts"]),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder / _INDEX} is damaged: {error!r}") from None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, part: Any) -> Any:
        """One part, after a look at its digest.

        Raises:
            IndexError: when there is no such part.
            ValueError: when it is not what was committed.
        """
        record = self._records[part]
        parts = CommittedParts(self.folder / _PARTS, ".parquet")
        if (parts.record(record["part"]) or {}).get("sha256") != record["sha256"]:
            raise ValueError(f"{parts.path(record['part'])} is damaged: collect it again")
        return _read(parts.path(record["part"]), record, self.class_names)

    def __iter__(self) -> Iterator[FeaturePart]:
        return (self[part] for part in range(len(self)))

    @property
    def counts(self) -> tuple[int, ...]:
        """Photos with features, part by part."""
        return tuple(record["n_photos"] for record in self._records)

    @property
    def identity(self) -> str:
        """Names all of the features: the same photos, model and pieces give the same."""
        text = json.dumps([record["sha256"] for record in self._records])
        return text_fingerprint(text)

    def together(self) -> FeatureSet:
        """All parts as one set in memory.

        Raises:
            ValueError: when no photo has features.
        """
        sets = [part.features for part in self if len(part.photos)]
        if not sets:
            raise ValueError(f"{self.folder} has no photo that could be read")
        return FeatureSet(
            torch.cat([one.features for one in sets]),
            torch.cat([one.logits for one in sets]),
            torch.cat([one.labels for one in sets]),
            indices=torch.cat([one.indices for one in sets]),
            class_names=self.class_names,
            head_fingerprint=self.head_fingerprint,
            backbone_fingerprint=sets[0].backbone_fingerprint,
        )


def collect_features_at_scale(
    spec: str,
    source: str | Path,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    n_classes: int | None = None,
    class_names: Sequence[str] | None = None,
    options: ScaleOptions | None = None,
) -> FeatureParts:
    """Collect features, logits and labels of many photos into a folder, by many processes.

    Each part of the photos is a Parquet file that is written whole or not at all. Called again
    with the same arguments it goes on from the parts that are there; the finished folder has the
    same bytes whatever the number of workers, their order, and whatever was killed on the way.

    Args:
        spec: of the model, as :func:`~captum_neuroinspect.models.load_model` takes it. Every
            worker loads it: it has to have the same weights each time.
        source: photos, as :meth:`PhotoList.of` takes them.
        out: a folder of the work alone. In a cluster all nodes have to see it, and the photos.
        weights: a library's, by name, ``"random"`` only where a seed makes them equal, or the
            path of a safetensors file. Pickled files are refused here.
        n_classes: as :func:`~captum_neuroinspect.models.load_model` takes it.
        class_names: in the order of the logits. None: those of the model.
        options: pieces and workers.

    Returns:
        The finished folder. Photos that could not be read are in ``skipped``.

    Raises:
        ImportError: when Ray or pyarrow is missing; says how to install it.
        FileNotFoundError: when there are no photos.
        ValueError: for pickled weights, labels or names that do not fit, or an ``out`` that was
            begun with other photos or settings, or before photos, weights or the model's Python
            file were changed.
        RuntimeError: when workers load different weights.
        OSError: when photos' files cannot be read, or the disk is full; the parts that are
            there stay, and another call goes on.
    """
    options = options or ScaleOptions()
    refuse_pickled(weights)
    loaded = load_model(spec, weights=weights, n_classes=n_classes)
    identity = ModelIdentity.of(loaded, spec)
    if class_names is None:
        class_names = loaded.class_names
    del loaded
    names = None if class_names is None else as_names(class_names)
    listed = PhotoList.of(source, names)
    asked = {"model": as_text(spec=spec, weights=weights, n_classes=n_classes), **asdict(identity)}
    made = MakeCollecting(
        str(out), str(listed.root.resolve()), listed.kind, spec, weights, n_classes, names,
        options.batch_size, "auto" if options.gpus else "cpu", identity.fingerprint,
    )  # fmt: skip
    return collect_parts(made, listed, asked, options)


def collect_parts(
    made: MakeCollecting, listed: PhotoList, asked: Mapping[str, object], options: ScaleOptions
) -> FeatureParts:
    """Collect what is not there yet of the photos of a list.

    Args:
        made: makes the work, and says where it is written.
        listed: the photos.
        asked: what the plan says of the model.
        options: pieces and workers.
    """
    out, names = Path(made.out), made.class_names
    n_parts = _plan(out, listed, options, names, asked)
    parts = CommittedParts(out / _PARTS, ".parquet")
    run_missing_parts(made, parts, n_parts, options)
    return finished(out, parts, n_parts, names, progress=options.progress)


def _plan(
    out: Path,
    listed: PhotoList,
    options: ScaleOptions,
    names: tuple[str, ...] | None,
    asked: Mapping[str, object],
) -> int:
    """Write what is to be done, or compare it with what was begun; the number of parts."""
    out.mkdir(parents=True, exist_ok=True)
    with explained(out), partial_folder(out) as folder:
        n, digest, files = write_list(listed, folder / _PHOTOS, options.part_size)
        plan = {
            **asked,
            "photos": digest,
            "files": files,
            "n_photos": n,
            "part_size": options.part_size,
            "batch_size": options.batch_size,
            "n_threads": options.n_threads,
            "class_names": names,
        }
        if not begun(out, plan):
            put_in_place(folder / _PHOTOS, out / _PHOTOS)
            begin(out, plan)
    return -(-n // options.part_size)


def as_text(**given: object) -> dict[str, str | None]:
    """Arguments, as a plan has them."""
    return {name: None if one is None else str(one) for name, one in given.items()}


def write_list(listed: PhotoList, path: Path, part_size: int) -> tuple[int, str, str]:
    """Write the photos, a part in memory at a time.

    Returns:
        How many there are, a digest of all, and one of the state of their files: without it a
        photo that was changed would be seen only where its size is another.
    """
    arrow, parquet = optional("pyarrow", SCALE), optional("pyarrow.parquet", SCALE)
    text, number = arrow.string(), arrow.int64()
    kinds = {"identity": text, "file": text, "place": number, "size": number, "label": number}
    digest, n, photos, files = hashlib.sha256(), 0, iter(listed), FileStates(listed.root)
    with parquet.ParquetWriter(path, arrow.schema(list(kinds.items()))) as writer:
        while part := list(islice(photos, part_size)):
            for photo in part:
                line = [photo.identity, photo.place, photo.size, photo.label]
                digest.update(json.dumps(line).encode())
                files.add(photo.file)
            columns = {name: [getattr(photo, name) for photo in part] for name in kinds}
            writer.write_table(arrow.table(columns, schema=writer.schema))
            n += len(part)
    return n, digest.hexdigest(), files.digest


@dataclass(frozen=True)
class MakeCollecting:
    """What is sent to a worker: how to make its work."""

    out: str
    root: str
    kind: Kind
    spec: str
    weights: str | Path | None
    n_classes: int | None
    class_names: tuple[str, ...] | None
    batch_size: int
    device: str
    fingerprint: str

    def __call__(self) -> Collecting:
        return Collecting(self, self.loaded())

    def loaded(self) -> LoadedModel:
        loaded = load_model(
            self.spec, weights=self.weights, n_classes=self.n_classes, device=self.device
        )
        return check_same(loaded, self.fingerprint)


class Collecting:
    """One worker's model, and the parts that it collects.

    Args:
        made: what is to be done.
        loaded: the model, and how photos become its input.
        is_labelled: whether photos' labels are classes of this model; else all are 0.
    """

    def __init__(
        self, made: MakeCollecting, loaded: LoadedModel, *, is_labelled: bool = True
    ) -> None:
        self._made, self._loaded, self._is_labelled = made, loaded, is_labelled
        self._parts = CommittedParts(Path(made.out) / _PARTS, ".parquet")
        self._plan = optional("pyarrow.parquet", SCALE).ParquetFile(Path(made.out) / _PHOTOS)
        self._reader = PhotoReader(Path(made.root), made.kind)

    def do(self, part: int) -> None:
        if self._parts.record(part) is not None:
            return
        rows = self._plan.read_row_group(part).to_pylist()
        if not self._is_labelled:
            rows = [{**row, "label": 0} for row in rows]
        photos = _PartPhotos([PhotoPlace(**row) for row in rows], self._reader, self._loaded,
                             self._made.batch_size)  # fmt: skip
        found = collect_features(
            self._loaded.model,
            photos,
            batch_size=self._made.batch_size,
            class_names=self._made.class_names,
            progress=False,
        )
        is_there = [i not in photos.skipped for i in range(len(rows))]
        kept = found.subset(torch.tensor(is_there).nonzero().flatten())
        names = [row["identity"] for row, there in zip(rows, is_there, strict=True) if there]
        record = {
            "first": part * self._plan.metadata.row_group(0).num_rows,
            "n_photos": len(names),
            "skipped": [[rows[i]["identity"], photos.skipped[i]] for i in sorted(photos.skipped)],
            "head_fingerprint": found.head_fingerprint,
            "backbone_fingerprint": found.backbone_fingerprint,
        }
        self._parts.commit(part, lambda file: write_part(file, names, kept), record)


class _PartPhotos(Dataset[Any]):
    """The photos of a part, filled up with black to whole batches of one shape."""

    def __init__(
        self, places: list[PhotoPlace], reader: PhotoReader, loaded: LoadedModel, batch_size: int
    ) -> None:
        self._places, self._reader, self._loaded = places, reader, loaded
        self._n = -(-len(places) // batch_size) * batch_size
        self.skipped: dict[int, str] = {}

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index >= self._n:
            raise IndexError(index)
        image, label = torch.zeros(3, *self._loaded.view.size), 0
        if index < len(self._places):
            label = self._places[index].label
            try:
                image = self._loaded.view.of_picture(self._reader.picture(self._places[index]))
            except UnreadableError as error:
                self.skipped[index] = str(error)
        return self._loaded.preprocess(image[None])[0], label


def write_part(file: Path, photos: list[str], found: FeatureSet) -> None:
    """Write a part's file."""
    arrow, parquet = optional("pyarrow", SCALE), optional("pyarrow.parquet", SCALE)

    def rows(values: Tensor) -> Any:
        flat = arrow.array(values.numpy().reshape(-1))
        return arrow.FixedSizeListArray.from_arrays(flat, values.shape[1])

    table = arrow.table(
        {
            "photo": arrow.array(photos, arrow.string()),
            "position": arrow.array(found.indices.numpy()),
            "label": arrow.array(found.labels.numpy()),
            "features": rows(found.features),
            "logits": rows(found.logits),
        }
    )
    # Floats of features hardly shrink, and a dictionary of them only grows.
    parquet.write_table(table, file, compression="none", use_dictionary=False)


def _read(path: Path, record: dict[str, Any], names: tuple[str, ...] | None) -> FeaturePart:
    table = optional("pyarrow.parquet", SCALE).read_table(path, memory_map=False)

    def rows(name: str) -> Tensor:
        column = table.column(name)
        width = column.type.list_size
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return torch.from_numpy(np.array(flat).reshape(-1, width))

    positions = torch.from_numpy(np.array(table.column("position").to_numpy()))
    features = FeatureSet(
        rows("features"),
        rows("logits"),
        torch.from_numpy(np.array(table.column("label").to_numpy())),
        indices=positions + record["first"],
        class_names=names,
        head_fingerprint=record["head_fingerprint"],
        backbone_fingerprint=record["backbone_fingerprint"],
    )
    return FeaturePart(tuple(table.column("photo").to_pylist()), features)


def finished(
    out: Path,
    parts: CommittedParts,
    n_parts: int,
    names: tuple[str, ...] | None,
    *,
    progress: bool,
) -> FeatureParts:
    """Write the index of all parts; with it the folder is finished."""
    records = []
    for part in tqdm(range(n_parts), desc="index", disable=not progress):
        record = parts.record(part, check=False)  # each was looked at when it was written
        if record is None:
            raise RuntimeError(f"part {part} of {out} is gone: call again to collect it")
        records.append(record)
    for name in ("head_fingerprint", "backbone_fingerprint"):
        found = {record[name] for record in records}
        if len(found) > 1:
            raise RuntimeError(
                f"workers loaded different weights ({name}s {', '.join(sorted(found))}): give "
                "weights= or a seed, so that the model is the same each time it is loaded"
            )
    index = {
        "format": FORMAT,
        "n_photos": sum(record["n_photos"] for record in records),
        "skipped": [one for record in records for one in record["skipped"]],
        "head_fingerprint": records[0]["head_fingerprint"],
        "backbone_fingerprint": records[0]["backbone_fingerprint"],
        "class_names": names,
        "parts": records,
    }
    write_text(out / _INDEX, json.dumps(index, indent=1) + "\n")
    return FeatureParts.open(out)
