"""The whole path on real weights, with few pictures and steps."""

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from markupsafe import escape
from PIL import Image

from captum_neuroinspect.experiments.digits_on_textures import DigitsOnTexturesConfig
from captum_neuroinspect.inspection.demo import data as demo_data
from captum_neuroinspect.inspection.demo.output import write_demo
from captum_neuroinspect.inspection.demo.run import run_demo

_HOSTILE = '<script>alert("1")</script>'


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"n_train": 16, "n_validation": 6, "n_deployment": 6, "n_test": 4}

    def config(seed: int) -> DigitsOnTexturesConfig:
        return DigitsOnTexturesConfig(seed=seed, **small)

    monkeypatch.setattr(demo_data, "DigitsOnTexturesConfig", config)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "img":
            assert dict(attrs)["alt"]


def _parsed(report: Path) -> _Page:
    page = _Page()
    page.feed(report.read_text(encoding="utf-8"))
    return page


@pytest.mark.slow
@pytest.mark.usefixtures("few_digits")
def test_demo_writes_everything_and_the_same_numbers_for_the_same_seed(tmp_path: Path) -> None:
    records = []
    for name in ("first", "second"):
        report = write_demo(run_demo(seed=1, n_steps=3, progress=False), tmp_path / name)
        records.append(json.loads((tmp_path / name / "result.json").read_text()))
    assert records[0] == records[1]

    record, folder = records[1], tmp_path / "second"
    assert record["target"]["name"] == "digit 4"
    assert not record["data"]["field_is_validation"]
    assert "carry a false correlation" in report.read_text(encoding="utf-8")
    assert len(record["neurons"]) == 6
    assert len(list((folder / "illusions").glob("*.png"))) == 12
    assert len(list((folder / "top-photos").glob("*.png"))) == 6
    assert sum(edit["is_best"] for edit in record["edits"]) == 1
    verdict = record["judgement"]["verdict"]
    assert verdict["n_mended"] == record["judgement"]["mended"]
    assert str(escape(verdict["sentence"])) in report.read_text(encoding="utf-8")
    page = _parsed(report)
    assert "script" not in page.tags
    assert all(source.startswith("data:image/") for source in page.sources)


@pytest.mark.slow
def test_demo_on_a_folder_with_hostile_names(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    for split, n in (("train", 8), ("validation", 6), ("test", 3)):
        for name in ("plain", _HOSTILE.replace("/", "\u2215")):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                noise = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=rng)
                Image.fromarray(noise.numpy()).save(folder / f"{i}.png")

    result = run_demo(tmp_path / "photos", n_steps=2, progress=False)
    report = write_demo(result, tmp_path / "out")

    assert "script" not in _parsed(report).tags
    assert "&lt;script&gt;" in report.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "out" / "result.json").read_text())["data"]["field_is_validation"]
    assert "carry a false correlation" not in report.read_text(encoding="utf-8")
