"""What exact sums, parts and workers cost.

Run ``python tests/benchmarks/scale.py``: exact sums beside sums in float64 and ``math.fsum``, and a
reduction over more and more rows. ``--workers`` also collects features of packaged noise photos
with ``collect_features``, in parts in this process, and by one and two workers of Ray (extra
``scale``).
"""

from __future__ import annotations

import argparse
import io
import math
import random
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captum_neuroinspect import collect_features
from captum_neuroinspect.models import load_model
from captum_neuroinspect.photos import Photos
from captum_neuroinspect.scale import (
    ChangeTotals,
    ExactSum,
    ScaleOptions,
    collect_features_at_scale,
    combined,
)


def sums() -> None:
    """How often an order changes a sum, and what exactness costs."""
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    values = values.double() * 1.1
    draw, orders = random.Random(0), []
    for _ in range(20):
        order = list(range(len(values)))
        draw.shuffle(order)
        orders.append(values[order])
    wide = torch.randn(2_000, 2_048, generator=torch.Generator().manual_seed(1)).double()
    ways = {
        "float64, in parts of 1,000": lambda v: sum(part.sum(0) for part in v.split(1000)),
        "ExactSum": lambda v: combined(ExactSum.of(part) for part in v.split(1000)).value(),
    }
    print("| 10,000 numbers, 20 orders | different results | ns a number of 2,000 x 2,048 |")
    print("|---|---|---|")
    for name, add in ways.items():
        found = {float(add(one)) for one in orders}
        start = time.perf_counter()
        add(wide)
        spent = time.perf_counter() - start
        print(f"| {name} | {len(found)} | {spent / wide.numel() * 1e9:.1f} |")
    found = {math.fsum(one.tolist()) for one in orders}
    start = time.perf_counter()
    math.fsum(orders[0].tolist())
    spent = time.perf_counter() - start
    print(f"| math.fsum, which joins no parts | {len(found)} | {spent / len(values) * 1e9:.1f} |")


def reduction(counts: list[int]) -> None:
    """Changes of synthetic mistakes, a part of 1,000 at a time."""
    print("| rows x 2,048 | seconds | microseconds a row | largest memory so far, MB |")
    print("|---|---|---|---|")
    for n in counts:
        draw = torch.Generator().manual_seed(0)
        start = time.perf_counter()
        parts = (
            ChangeTotals.of(torch.randn(1_000, 2_048, generator=draw), 5) for _ in range(n // 1000)
        )
        assert combined(parts).n_voters == n
        spent = time.perf_counter() - start
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {n:,} | {spent:.1f} | {spent / n * 1e6:.0f} | {memory:.0f} |")


def workers(counts: list[int]) -> None:
    """The same photos in every way; what more of them add is the cost without starting up."""
    print("| photos, EfficientNet-Lite0, one thread each | way | seconds |")
    print("|---|---|---|")
    for n in counts:
        _ways(n)


def _ways(n: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shard = _shard(place / "photos.tar", n)
        torch.set_num_threads(1)
        loaded = load_model("lite:0")
        names = loaded.class_names
        assert names is not None
        folder = _folder(shard, place / "folder" / names[0])
        photos = Photos.of(folder, view=loaded.view, class_names=names).dataset(loaded.preprocess)
        start = time.perf_counter()
        collect_features(loaded.model, photos, progress=False)
        print(f"| {n} | collect_features | {time.perf_counter() - start:.1f} |")
        for n_workers in (0, 1, 2):
            options = ScaleOptions(n_workers=n_workers, part_size=16, progress=False)
            start = time.perf_counter()
            collect_features_at_scale("lite:0", shard, place / str(n_workers), options=options)
            said = f"{n_workers} worker(s) of Ray" if n_workers else "in parts, without Ray"
            print(f"| {n} | {said} | {time.perf_counter() - start:.1f} |")


def _shard(path: Path, n: int) -> Path:
    with tarfile.open(path, "w") as shard:
        for i in range(n):
            file = io.BytesIO()
            values = np.random.default_rng(i).integers(0, 256, (256, 256, 3), dtype=np.uint8)
            Image.fromarray(values).save(file, "jpeg")
            for end, content in (("jpg", file.getvalue()), ("cls", b"0")):
                member = tarfile.TarInfo(f"{i:06d}.{end}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return path


def _folder(shard: Path, folder: Path) -> Path:
    """The shard's photos as the files of one class; the folder above it."""
    folder.mkdir(parents=True)
    with tarfile.open(shard) as file:
        for member in file:
            content = file.extractfile(member)
            if member.name.endswith(".jpg") and content is not None:
                (folder / member.name).write_bytes(content.read())
    return folder.parent


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--workers", type=int, nargs="+", default=[], metavar="PHOTOS")
    arguments = parser.parse_args()
    sums()
    reduction(arguments.rows)
    if arguments.workers:
        workers(arguments.workers)
