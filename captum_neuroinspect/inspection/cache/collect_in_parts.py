"""Collect features of many photos part by part, so that an interrupt costs one part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import Dataset, Subset
from tqdm import tqdm

from captum_neuroinspect._core.class_names import as_names, names_of
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import backbone_fingerprint, head_fingerprint
from captum_neuroinspect._core.head import check_head, find_head
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.features import collect_as_given, without_one_hot

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.cache.work_folder import WorkFolder

_PART = "features-part"


@undisturbed()
def collect_in_parts(
    work: WorkFolder,
    model: nn.Module,
    data: Dataset[Any],
    head: nn.Linear | None = None,
    *,
    key: Mapping[str, Any],
    batch_size: int | None = None,
    part_size: int = 512,
    class_names: Iterable[str] | None = None,
    fresh: bool = False,
    progress: bool = True,
) -> FeatureSet:
    """``collect_features`` that keeps its result, and every finished part of it on the way.

    After an interrupt the same call goes on behind the last finished part. Batches are
    cut at the same places whether it was interrupted or not, so the numbers are the
    same, and equal to those of ``collect_features`` with this batch size. When all
    parts are there they become one file.

    Args:
        work: where they are kept.
        model: a classifier on the images of ``data``.
        data: a ``Dataset`` with a length, such as ``photos.dataset()``, that gives the
            same items each time.
        head: the decision layer; found when not given.
        key: what names the data and how they are prepared, such as
            ``{"photos": photos.fingerprint(), **loaded.key()}``. The values of the
            model's weights are added.
        batch_size: images a pass; ``None``: 8 on a CPU, else 64.
        part_size: photos a part, rounded up to whole batches.
        class_names: one name for each output of the head; taken from ``data.classes``
            when present.
        fresh: collect again, also the parts.
        progress: show a progress bar.

    Raises:
        TypeError, ValueError: as ``collect_features``; for sizes below 1, or no data.
        OSError: when the folder cannot be written to.
    """
    job = _Job.of(model, data, head, key, batch_size, part_size, class_names)
    result = work.features(job.key, lambda: _collect(work, job, fresh, progress), fresh=fresh)
    for start in job.starts:  # left by an interrupt between joining and removing, or just now
        if work.has(_PART, job.part_key(start)):
            work.remove(_PART, job.part_key(start))
    return without_one_hot(result)


@dataclass(frozen=True, eq=False)
class _Job:
    """What is collected, and how it is cut."""

    model: nn.Module
    data: Dataset[Any]
    head: nn.Linear
    class_names: tuple[str, ...] | None
    n_photos: int
    batch_size: int
    part_size: int
    key: dict[str, Any]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: Any,
        head: nn.Linear | None,
        key: Mapping[str, Any],
        batch_size: int | None,
        part_size: int,
        class_names: Iterable[str] | None,
    ) -> _Job:
        n_photos = len(data)
        if not n_photos:
            raise ValueError("data is empty: expected at least one (image, label)")
        if batch_size is None:
            batch_size = 8 if device_of(model).type == "cpu" else 64
        for name, size in {"batch_size": batch_size, "part_size": part_size}.items():
            if size < 1:
                raise ValueError(f"{name}={size}, expected at least 1")
        head = _head_of(model, data) if head is None else check_head(head)
        names = names_of(data).names if class_names is None else as_names(class_names)
        whole = {
            **key,
            "backbone": backbone_fingerprint(model, head),
            "head": head_fingerprint(head),
            "class_names": names,
            "n_photos": n_photos,
            "batch_size": batch_size,
        }
        part_size = -(-part_size // batch_size) * batch_size
        return cls(model, data, head, names, n_photos, batch_size, part_size, whole)

    @property
    def starts(self) -> range:
        return range(0, self.n_photos, self.part_size)

    def stop(self, start: int) -> int:
        return min(start + self.part_size, self.n_photos)

    def part_key(self, start: int) -> dict[str, Any]:
        return {**self.key, "photos_from_to": [start, self.stop(start)]}

    def part(self, start: int) -> FeatureSet:
        found = collect_as_given(
            self.model,
            Subset(self.data, range(start, self.stop(start))),
            self.head,
            batch_size=self.batch_size,
            class_names=self.class_names,
            progress=False,
        )
        return replace(found, indices=found.indices + start)


def _collect(work: WorkFolder, job: _Job, fresh: bool, progress: bool) -> FeatureSet:
    parts, save, load = [], FeatureSet.save, FeatureSet.load
    with tqdm(total=job.n_photos, desc="features", disable=not progress) as bar:
        for start in job.starts:
            key, make = job.part_key(start), partial(job.part, start)
            parts.append(work.get_or_make(_PART, key, make, save, load, fresh=fresh))
            bar.update(len(parts[-1]))
    return _joined(parts)


def _head_of(model: nn.Module, data: Any) -> nn.Linear:
    item = data[0]
    image = item["pixel_values"] if isinstance(item, Mapping) else item[0]
    # A cropped photo is a view, which a network that flattens by `view` does not take.
    return find_head(model, torch.as_tensor(image).unsqueeze(0).contiguous())


def _joined(parts: list[FeatureSet]) -> FeatureSet:
    fields: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("features", "logits", "labels", "indices", "groups")
        if getattr(parts[0], name) is not None
    }
    return replace(parts[0], **fields)
