"""A tiny network in a file, and tiny photos in folders, Parquet files and shards."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")
_NET = """
import os, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
        )
        self.head = nn.Linear(32, 3)
        nn.init.normal_(self.head.weight, std=4)

    def forward(self, images):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return self.head(self.backbone(images))

def net():
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return Net(), nn.Identity()
"""


def write_net(folder: Path, seed: str = "0") -> str:
    """The spec of a network that is the same each time it is loaded, unless the seed is not."""
    path = folder / "net.py"
    path.write_text(_NET.replace("SEED", seed))
    return f"{path}:net"


def pictures(n: int) -> list[tuple[str, int, bytes]]:
    """Name, class and PNG of photos, in the order of the names; every tenth is cut off."""
    found = []
    for i in range(n):
        draw = np.random.default_rng(i)  # a colour with noise: the network tells colours apart
        values = draw.integers(0, 220, 3) + draw.integers(0, 36, (20, 20, 3))
        file = io.BytesIO()
        Image.fromarray(values.astype(np.uint8)).save(file, "png")
        content = file.getvalue()
        found.append((f"{i:04d}", i % 3, content[:100] if i % 10 == 5 else content))
    return found


def write_folder(folder: Path, n: int) -> Path:
    for name, label, content in pictures(n):
        path = folder / CLASSES[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_shards(folder: Path, n: int, size: int = 7) -> Path:
    folder.mkdir()
    photos = pictures(n)
    for first in range(0, n, size):
        with tarfile.open(folder / f"shard-{first:04d}.tar", "w") as shard:
            for name, label, content in photos[first : first + size]:
                for end, part in (("png", content), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{name}.{end}")
                    member.size = len(part)
                    shard.addfile(member, io.BytesIO(part))
    return folder


def write_parquet(folder: Path, n: int, size: int = 13) -> Path:
    import pyarrow
    from pyarrow import parquet

    folder.mkdir()
    photos = pictures(n)
    for first in range(0, n, size):
        rows = photos[first : first + size]
        table = pyarrow.table(
            {
                "image": [{"bytes": row[2], "path": row[0]} for row in rows],
                "label": [CLASSES[row[1]] for row in rows],
            }
        )
        parquet.write_table(table, folder / f"part-{first:04d}.parquet", row_group_size=5)
    return folder


def bytes_of(folder: Path) -> dict[str, str]:
    """A digest of each file in a folder, by its path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
