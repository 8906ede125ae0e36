"""Small data sets laid out exactly as the published ones."""

from __future__ import annotations

import csv
import json
import pickle
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.io import savemat
from toy_experiments import write_photo

ANIMALS = ("bear", "bird", "cat", "dog", "elephant")
N_OF_SPLIT = {0: 80, 1: 24, 2: 24}


def write_metashift(folder: Path, n: int = 40) -> Path:
    """``full-candidate-subsets.pkl`` and ``allImages/images``; a third of the dogs have a chair."""
    subsets: dict[str, set[str]] = defaultdict(set)
    for kind, name in enumerate(ANIMALS):
        for i in range(n):
            number = f"{1000 * kind + i}"
            write_photo(folder / "allImages/images" / f"{number}.jpg", kind, int(number))
            subsets[f"{name}({'chair' if i % 3 == 0 else 'grass'})"].add(number)
    subsets["dog(grass)"].add("99999")  # a photo that was not downloaded
    subsets["cat(grass)"].add("3001")  # and one that shows a dog too
    table = folder / "dataset/meta_data/full-candidate-subsets.pkl"
    table.parent.mkdir(parents=True)
    table.write_bytes(pickle.dumps(subsets))
    return folder


def write_waterbirds(folder: Path) -> Path:
    """Kinds of birds in folders, and ``metadata.csv``; most training birds are at their place."""
    rows = []
    for split, n in N_OF_SPLIT.items():
        for i in range(n):
            label = i % 2
            is_usual = i % 20 > 1 if split == 0 else i % 4 < 2
            place = label if is_usual else 1 - label
            name = f"{label:03d}.Bird/{split}_{i}.jpg"
            write_photo(folder / name, 2 * label + place, 100 * split + i)
            rows.append([len(rows), name, label, split, place, "/p/place.jpg"])
    write_table(folder, ["img_id", "img_filename", "y", "split", "place", "place_filename"], rows)
    return folder


def write_table(folder: Path, columns: list[str], rows: list[list]) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_flowers(root: Path, n_classes: int = 4) -> Path:
    """``flowers-102/jpg/image_00001.jpg`` and the two files of MATLAB."""
    folder = root / "flowers-102"
    sizes = {"trnid": 6, "valid": 4, "tstid": 4}
    ids: dict[str, list[int]] = {name: [] for name in sizes}
    labels: list[int] = []
    for split, n in sizes.items():
        for kind in range(n_classes):
            for _ in range(n):
                labels.append(kind + 1)  # counted from 1
                ids[split].append(len(labels))
                write_photo(folder / f"jpg/image_{len(labels):05d}.jpg", kind, len(labels))
    savemat(folder / "imagelabels.mat", {"labels": np.array([labels])})
    savemat(folder / "setid.mat", {name: np.array([one]) for name, one in ids.items()})
    return root


def write_food(root: Path, names: tuple[str, ...] = ("apple_pie", "sushi", "waffles")) -> Path:
    """``food-101/images/CLASS/ID.jpg`` and ``food-101/meta/train.json``."""
    meta: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for kind, name in enumerate(names):
        for split, n in (("train", 12), ("test", 4)):
            numbers = [f"{name}/{kind}{'01'[split == 'test']}{i}" for i in range(n)]
            meta[split][name] = numbers
            for i, one in enumerate(numbers):
                write_photo(root / f"food-101/images/{one}.jpg", kind, 50 * kind + i)
    for split, found in meta.items():
        path = root / f"food-101/meta/{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(found))
    return root
