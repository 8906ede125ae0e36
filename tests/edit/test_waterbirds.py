"""The benchmark's cases of the published Waterbirds, on a small archive of the same layout."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
N_OF_SPLIT = {0: 80, 1: 24, 2: 24}


@pytest.fixture
def waterbirds(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    import edit_waterbirds

    yield edit_waterbirds
    for name in set(sys.modules) - known:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Blue or green places, dark or bright birds; most training birds are at their own place."""
    rng = torch.Generator().manual_seed(0)
    rows = []
    for split, n in N_OF_SPLIT.items():
        for i in range(n):
            label = i % 2
            is_usual = i % 20 > 1 if split == 0 else i % 4 < 2
            place = label if is_usual else 1 - label
            image = torch.zeros(3, 12, 16)
            image[1 + place] = 0.8
            image[:, 4:8, 4:8] = 0.2 + 0.6 * label
            image = (image + 0.1 * torch.rand(3, 12, 16, generator=rng)).clamp(0, 1)
            name = f"{label:03d}.Bird/{split}_{i}.jpg"
            (tmp_path / name).parent.mkdir(exist_ok=True)
            to_pil_image(image).save(tmp_path / name)
            rows.append([len(rows), name, label, split, place, "/p/place.jpg"])
    _write(tmp_path, ["img_id", "img_filename", "y", "split", "place", "place_filename"], rows)
    return tmp_path


def _write(folder: Path, columns: list[str], rows: list[list]) -> None:
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


class Means:
    """Mean colours of the middle and of the rest, in place of a network."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def named(self, name: str, data) -> torch.Tensor:
        self.names.append(name)
        photos = torch.stack([data[i][0] for i in range(len(data))])
        assert photos.shape[1:] == (3, 224, 224)
        return torch.cat([photos[:, :, 80:140, 80:140].mean((2, 3)), photos.mean((2, 3))], 1)


def test_both_kinds_are_scenarios_and_groups_tell_the_cue(waterbirds, archive: Path) -> None:
    features = Means()
    first, second = waterbirds.waterbird_cases(features, archive, seed=3)
    assert (first.scenario, second.scenario) == ("landbird", "waterbird")
    for case in (first, second):
        assert len(case.train) + len(case.validation) == N_OF_SPLIT[0]
        assert len(case.editing) + len(case.choosing) == N_OF_SPLIT[1]
        assert len(case.test) == N_OF_SPLIT[2]
        has_cue = case.test.groups % 2
        assert torch.equal(case.test.groups // 2, case.test.labels)
        assert int(has_cue.sum()) == N_OF_SPLIT[2] // 2
        assert float((case.train.groups % 2).float().mean()) > 0.8
        assert set(case.results(case.head)) == {"target", "average", "worst"}
    # Another seed parts the training photos anew, and reads the others where they are kept.
    assert features.names[:4] == [
        "waterbirds-train-3",
        "waterbirds-validation-3",
        "waterbirds-deployment",
        "waterbirds-test",
    ]
