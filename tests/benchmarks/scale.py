"""What exact sums, parts and workers cost.

Run ``python tests/benchmarks/scale.py``: exact sums beside sums in float64 and ``math.fsum``, exact
products beside those in float64, and a reduction over more and more rows (``--rows`` without
numbers leaves these out). ``--levels`` adds up levels of 1,000 classes. ``--linear`` lists more and
more tiny photos, and ranks as many synthetic features; ``--small`` collects those of tiny photos
with a tiny network. ``--describe`` describes a unit on more and more photos. ``--workers`` collects
features of noise photos with ``collect_features``, in parts in this process, and by one and two
workers of Ray (extra ``scale``); ``--efficiency 24 512`` renders pairs and collects photos with 0,
1 and 2 workers and takes the rates from the times of the finished parts, without the start. CPU
seconds, where they are printed, hardly depend on what else the machine does.
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
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from captum_neuroinspect import FeatureSet, collect_features
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect.describe import DescribeOptions
from captum_neuroinspect.describe.units import PhotoSplit, UnitDescriber
from captum_neuroinspect.models import load_model
from captum_neuroinspect.photos import Photos
from captum_neuroinspect.scale import (
    AtlasSettings,
    ChangeTotals,
    ClassTotals,
    ExactSum,
    FeatureParts,
    PhotoList,
    ScaleOptions,
    collect_features_at_scale,
    combined,
    rank_at_scale,
    reference_at_scale,
    render_atlas,
)
from captum_neuroinspect.scale.committed import CommittedParts
from captum_neuroinspect.scale.features import finished, write_list, write_part


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
    print("| 10,000 numbers, 20 orders | different results | CPU ns a number of 2,000 x 2,048 |")
    print("|---|---|---|")
    for name, add in ways.items():
        found = {float(add(one)) for one in orders}
        start = time.process_time()
        add(wide)
        spent = time.process_time() - start
        print(f"| {name} | {len(found)} | {spent / wide.numel() * 1e9:.1f} |")
    found = {math.fsum(one.tolist()) for one in orders}
    start = time.process_time()
    math.fsum(orders[0].tolist())
    spent = time.process_time() - start
    print(f"| math.fsum, which joins no parts | {len(found)} | {spent / len(values) * 1e9:.1f} |")


def products() -> None:
    """What exact products cost: 2,048 units and 1,000 phrases on 2,048 photos."""
    torch.set_num_threads(1)
    draw = torch.Generator().manual_seed(0)
    units = torch.randn(2048, 2048, generator=draw).relu()
    phrases = 0.25 + 0.03 * torch.randn(2048, 1000, generator=draw)
    ways = {
        "float64 matrix product": lambda: units.double().T @ phrases.double(),
        "ExactSum.of_products": lambda: ExactSum.of_products(units, phrases),
        "ExactSum.of_products, squared units": lambda: ExactSum.of_products(
            units.square(), phrases
        ),
    }
    print("| 2,048 units x 1,000 phrases x 2,048 photos | CPU ns a product | ms a photo |")
    print("|---|---|---|")
    for name, multiply in ways.items():
        start = time.process_time()
        multiply()
        spent = time.process_time() - start
        print(f"| {name} | {spent / 2048**2 / 1e-6:.3f} | {spent / 2.048:.2f} |")
    few = units[:, :20]
    start = time.process_time()
    for unit in range(20):
        ExactSum.of(few[:, [unit]].double() * phrases.double())
    spent = time.process_time() - start
    n = few.shape[1] * phrases.numel()
    print(f"| each product by itself, then ExactSum | {spent / n * 1e9:.3f} | |")


def reduction(counts: list[int]) -> None:
    """Changes of synthetic mistakes, a part of 1,000 at a time."""
    print("| rows x 2,048 | CPU seconds | microseconds a row | largest memory so far, MB |")
    print("|---|---|---|---|")
    for n in counts:
        draw = torch.Generator().manual_seed(0)
        start = time.process_time()
        parts = (
            ChangeTotals.of(torch.randn(1_000, 2_048, generator=draw), 5) for _ in range(n // 1000)
        )
        assert combined(parts).n_voters == n
        spent = time.process_time() - start
        print(f"| {n:,} | {spent:.1f} | {spent / n * 1e6:.0f} | {_memory():.0f} |")


def levels(n: int) -> None:
    """Level and spread of 1,000 classes x 2,048 neurons over n synthetic photos."""
    draw = torch.Generator().manual_seed(0)

    def part() -> FeatureSet:
        labels = torch.randint(1000, (1024,), generator=draw)
        logits = torch.zeros(1024, 1000).scatter_(1, labels[:, None], 1.0)
        return FeatureSet(torch.randn(1024, 2048, generator=draw).relu(), logits, labels)

    start = time.process_time()
    combined(ClassTotals.of(part()) for _ in range(n // 1024)).reference()
    spent = time.process_time() - start
    print(
        "| photos, 1,000 classes x 2,048 | CPU seconds | ms a photo | largest memory so far, MB |"
    )
    print("|---|---|---|---|")
    print(f"| {n:,} | {spent:.1f} | {spent / n * 1e3:.2f} | {_memory():.0f} |")


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def linear(counts: list[int]) -> None:
    """Lists of tiny photos in shards, and a reference and a ranking of synthetic features."""
    print("| photos | list | reference | ranking | CPU ms a photo | largest MB so far |")
    print("|---|---|---|---|---|---|")
    names = tuple(f"class {i}" for i in range(100))
    options = ScaleOptions(n_workers=0, progress=False)
    for n in counts:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "shards").mkdir()
            for first in range(0, n, 10_000):
                _shard(place / "shards" / f"{first:07d}.tar", min(10_000, n - first), 16, 100)
            head = nn.Linear(512, 100)
            found = _synthetic(place / "features", n, head, names)
            clock = [time.process_time()]
            assert write_list(PhotoList.of(place / "shards", names), place / "list", 1024)[0] == n
            clock.append(time.process_time())
            reference = reference_at_scale(found, place / "reference", options=options)
            clock.append(time.process_time())
            rank_at_scale(found, head, place / "ranks", reference=reference, options=options)
            clock.append(time.process_time())
            spent = [after - before for before, after in pairwise(clock)]
            cells = " | ".join(f"{one:.1f}" for one in spent)
            print(f"| {n:,} | {cells} | {sum(spent) / n * 1e3:.2f} | {_memory():.0f} |", flush=True)


_NET = """
import torch
from torch import nn

def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = nn.Conv2d(3, 16, 3, stride=4)
        body = nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        return nn.Sequential(body, nn.Linear(64, 10)), nn.Identity()
"""


def small(counts: list[int]) -> None:
    """Features by a network of one convolution: pictures of 16 pixels, enlarged to 224."""
    print("| photos, one convolution | CPU seconds | ms a photo | largest MB so far |")
    print("|---|---|---|---|")
    options = ScaleOptions(n_workers=0, progress=False)
    for n in counts:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            (place / "net.py").write_text(_NET)
            shard = _shard(place / "photos.tar", n, 16, 10)
            start = time.process_time()
            collect_features_at_scale(
                f"{place / 'net.py'}:net", shard, place / "features", options=options
            )
            spent = time.process_time() - start
            print(f"| {n:,} | {spent:.1f} | {spent / n * 1e3:.2f} | {_memory():.0f} |", flush=True)


def _synthetic(folder: Path, n: int, head: nn.Linear, names: tuple[str, ...]) -> FeatureParts:
    """Parts of random features, whose labels are the predictions but for one of ten."""
    parts, draw = CommittedParts(folder / "parts", ".parquet"), torch.Generator().manual_seed(0)
    about = {"head_fingerprint": head_fingerprint(head), "backbone_fingerprint": "", "skipped": []}
    n_parts = -(-n // 1024)
    for part in range(n_parts):
        size = min(1024, n - part * 1024)
        features = torch.randn(size, head.in_features, generator=draw).relu()
        with torch.no_grad():
            logits = head(features)
        is_wrong = torch.rand(size, generator=draw) < 0.1
        labels = torch.where(is_wrong, logits.topk(2).indices[:, 1], logits.argmax(1))
        found, photos = FeatureSet(features, logits, labels), [f"{part}/{i}" for i in range(size)]
        record = {"first": part * 1024, "n_photos": size, **about}
        parts.commit(part, lambda file, p=photos, f=found: write_part(file, p, f), record)
    return finished(folder, parts, n_parts, names, progress=False)


def descriptions(counts: list[int]) -> None:
    """What describing one unit takes, when its columns are read: 16 phrases."""
    print("| photos | CPU seconds a unit | bytes a photo |")
    print("|---|---|---|")
    names = tuple(f"phrase {i}" for i in range(16))
    for n in counts:
        draw = torch.Generator().manual_seed(0)
        unit, scores = torch.rand(n, 1, generator=draw), torch.rand(n, 16, generator=draw)
        before = _memory()
        describe = DescribeOptions()
        split = PhotoSplit.of(n, describe)
        start = time.process_time()
        describer = UnitDescriber.of(unit, scores, names, [0], split, describe)
        describer.described(torch.tensor([0]))
        spent = time.process_time() - start
        print(f"| {n:,} | {spent:.2f} | {(_memory() - before) * 2**20 / n:.0f} |", flush=True)


def efficiency(n_pairs: int, n_photos: int) -> None:
    """Rates of finished parts without the start: from the first of each worker to the last."""
    print("| work | workers | parts a second | first part after, s |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shard = _shard(place / "photos.tar", n_photos)
        settings = AtlasSettings(neurons=tuple(range(n_pairs)), n_steps=40, size=96)
        for n_workers in (0, 1, 2):
            options = ScaleOptions(n_workers=n_workers, part_size=32, progress=False)
            out, start = place / f"atlas{n_workers}", time.time()
            render_atlas("lite:0", out, settings=settings, options=options)
            _rate("illusions, 96 px, 40 steps", n_workers, out / "pairs", start)
            out, start = place / f"features{n_workers}", time.time()
            collect_features_at_scale("lite:0", shard, out, options=options)
            _rate("features, 32 photos a part", n_workers, out / "parts", start)


def _rate(what: str, n_workers: int, folder: Path, start: float) -> None:
    ends = sorted(path.stat().st_mtime for path in folder.glob("*.json"))
    first = max(n_workers - 1, 0)  # when each worker has given one
    rate = (len(ends) - 1 - first) / (ends[-1] - ends[first])
    print(f"| {what} | {n_workers} | {rate:.3f} | {ends[0] - start:.1f} |", flush=True)


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


def _shard(path: Path, n: int, side: int = 256, n_classes: int = 1) -> Path:
    pictures = []
    for i in range(min(n, 500)):
        file = io.BytesIO()
        values = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(values).save(file, "jpeg")
        pictures.append(file.getvalue())
    with tarfile.open(path, "w") as shard:
        for i in range(n):
            label = str(i % n_classes).encode()
            for end, content in (("jpg", pictures[i % len(pictures)]), ("cls", label)):
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
    parser.add_argument("--rows", type=int, nargs="*", default=[1_000, 10_000, 100_000])
    parser.add_argument("--levels", type=int, metavar="PHOTOS")
    parser.add_argument("--linear", type=int, nargs="+", default=[], metavar="PHOTOS")
    parser.add_argument("--small", type=int, nargs="+", default=[], metavar="PHOTOS")
    parser.add_argument("--describe", type=int, nargs="+", default=[], metavar="PHOTOS")
    parser.add_argument("--workers", type=int, nargs="+", default=[], metavar="PHOTOS")
    parser.add_argument("--efficiency", type=int, nargs=2, metavar=("PAIRS", "PHOTOS"))
    arguments = parser.parse_args()
    if arguments.rows:
        sums()
        reduction(arguments.rows)
        products()
    if arguments.levels:
        levels(arguments.levels)
    if arguments.linear:
        linear(arguments.linear)
    if arguments.small:
        small(arguments.small)
    if arguments.describe:
        descriptions(arguments.describe)
    if arguments.workers:
        workers(arguments.workers)
    if arguments.efficiency:
        efficiency(*arguments.efficiency)
