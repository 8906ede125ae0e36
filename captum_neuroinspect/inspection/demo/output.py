"""The files of a demo run: pictures, ``result.json`` and ``report.html``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect._core.files import write_atomically, write_text
from captum_neuroinspect.inspection.demo.page import Pictures, demo_report
from captum_neuroinspect.inspection.demo.record import Record, as_record
from captum_neuroinspect.inspection.demo.run import DemoResult

N_MISTAKES_SHOWN = 12


def write_demo(result: DemoResult, out: str | Path) -> Path:
    """Write everything into ``out`` and return the path of the report."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    record = as_record(result)
    pictures = _pictures(result, record)
    result.illusions.save_pictures(out / "illusions")
    _save(result.illusions.grid(columns=4), out / "illusions.png")
    _save(result.illusions.grid(masked=True, columns=4), out / "illusions-masked.png")
    _save(_sheet(pictures.mistakes, columns=6), out / "mistakes.png")
    for neuron, photos in zip(result.neurons, pictures.top_photos, strict=True):
        _save(_sheet(photos, columns=len(photos)), out / "top-photos" / f"neuron-{neuron}.png")
    if result.chosen is not None:
        replace(result.chosen.edit, verdict=result.verdict).save(out / "edit.safetensors")
    write_text(out / "result.json", json.dumps(record, indent=2, allow_nan=False) + "\n")
    return write_text(out / "report.html", demo_report(record, pictures))


def _pictures(result: DemoResult, record: Record) -> Pictures:
    mistakes = record["mistakes"]["photos"][:N_MISTAKES_SHOWN]
    plain, masked = result.illusions.to_pil(), result.illusions.to_pil(masked=True)
    pairs = range(0, 2 * len(result.neurons), 2)
    return Pictures(
        mistakes=[_pil(result.data.image("deployment", photo["index"])) for photo in mistakes],
        illusions=[plain[i : i + 2] for i in pairs],
        masked=[masked[i : i + 2] for i in pairs],
        top_photos=[
            [_pil(result.data.image("test", photo["index"])) for photo in neuron["photos"]]
            for neuron in record["neurons"]
        ],
    )


def _pil(image: Tensor) -> Image.Image:
    return to_pil_image(image.clamp(0, 1))


def _sheet(images: list[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Photos side by side, in rows."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (i % columns * (width + gap), i // columns * (height + gap)))
    return sheet


def _save(image: Image.Image, path: Path) -> None:
    write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
