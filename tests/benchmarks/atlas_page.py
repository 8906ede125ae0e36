"""How an atlas's page behaves with more and more pictures.

Makes pages of synthetic pairs without pictures, opens each in Chromium and measures: the size of
the file, elements of the page, milliseconds until it shows, to search, and to draw after a jump.

Run with ``python tests/benchmarks/atlas_page.py --pairs 1280 20480``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from captum_neuroinspect.scale.atlas_folder import AtlasFolder
from captum_neuroinspect.scale.site.page import page_of
from captum_neuroinspect.scale.site.words import UnitWords, Words

_CLASSES = 1000
_HEADINGS = (
    "pictures",
    "page, MB",
    "made in, s",
    "elements",
    "shown, ms",
    "search, ms",
    "jump, ms",
)
# From a change of the text to the next frame: the list is found and drawn.
_SEARCH = """text => new Promise(done => {
  const box = document.getElementById("search");
  const began = performance.now();
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  requestAnimationFrame(() => done(performance.now() - began));
})"""
_JUMP = """share => new Promise(done => {
  const began = performance.now();
  scrollTo(0, share * document.body.scrollHeight);
  requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - began)));
})"""


def main() -> None:
    """Print a row for each number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1280, 20480])
    asked = parser.parse_args()
    print(f"| {' | '.join(_HEADINGS)} |\n|{' --- |' * len(_HEADINGS)}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for n_pairs in asked.pairs:
            began = time.perf_counter()
            text = page_of(_atlas(n_pairs), _words(n_pairs // 10))
            seconds = time.perf_counter() - began
            file = Path(folder) / "index.html"
            file.write_text(text, encoding="utf-8")
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            began = time.perf_counter()
            page.goto(file.as_uri())
            page.wait_for_selector("#grid .tile")
            shown = 1000 * (time.perf_counter() - began)
            print(
                f"| {n_pairs:,} | {len(text.encode()) / 1e6:.1f} | {seconds:.1f} "
                f"| {page.evaluate('document.querySelectorAll(`*`).length')} | {shown:.0f} "
                f"| {_median(page, _SEARCH, ['word 7', 'class', 'word 31 class', '7', ''])} "
                f"| {_median(page, _JUMP, [0.2, 0.9, 0.5, 0.1, 1])} |"
            )
            page.close()
        browser.close()


def _atlas(n_pairs: int) -> AtlasFolder:
    draw, n_classes = random.Random(0), 10
    pairs = [[pair // n_classes, draw.randrange(_CLASSES)] for pair in range(n_pairs)]
    plan = {
        "pairs": pairs,
        "class_names": [f"class number {one}" for one in range(_CLASSES)],
        "model": {"spec": "lite:0", "weights": None},
        "settings": {
            "size": 128, "n_steps": 60, "gamma": 0.25, "encoder": "none", "pairs_per_batch": 8
        },
    }  # fmt: skip
    records = [
        {
            "sha256": "", "weight": draw.random(), "activation": 6 * draw.random(),
            "logit": 20 * draw.random(), "class": of_class, "predicted": of_class,
            "answers": [[of_class, 0.9], [1, 0.05], [2, 0.01]],
        }
        for _, of_class in pairs
    ]  # fmt: skip
    return AtlasFolder(Path("nowhere"), plan, tuple(records))


def _words(n_neurons: int) -> Words:
    return {
        neuron: UnitWords(
            [f"word {neuron % 100}", f"thing {neuron % 37}", "a phrase of several words"], True
        )
        for neuron in range(n_neurons)
    }


def _median(page: Page, script: str, values: list[object]) -> str:
    times = sorted(page.evaluate(script, value) for value in values)
    return f"{times[len(times) // 2]:.0f}, at most {times[-1]:.0f}"


if __name__ == "__main__":
    main()
