"""An inspection in numbers: a second run, the report's size and time to open, many photos.

Run with the package installed: ``python tests/benchmarks/inspection.py --parts memory size
large``, or
``--parts twice --photos DIR --model lite:0 --weights FILE`` for photos of your own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import to_pil_image

MAIN = "from captum_neuroinspect.inspection.commands.cli import main; main()"
COMMAND = [sys.executable, "-c", MAIN]
SMALL_NET = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )
"""


def write_photos(folder: Path, n_photos: int, size: int) -> None:
    """Noise around a colour for each of ten classes, so that there are rights and wrongs."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(10, 3, 1, 1, generator=generator)
    for i in range(n_photos):
        noise = torch.randn(3, size, size, generator=generator)
        picture = to_pil_image((colours[i % 10] + 0.2 * noise).clamp(0, 1))
        path = folder / f"class {i % 10}" / f"{i:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def run(*arguments: object) -> float:
    """Seconds of one command."""
    start = time.perf_counter()
    subprocess.run([*COMMAND, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def twice(out: Path, model: str, weights: str | None, photos: Path, steps: int) -> None:
    """The same command twice: what is kept is not computed again."""
    extra = [] if weights is None else ["--weights", weights]
    command = ["inspect", "--model", model, *extra, "--data", photos, "--out", out, "--quiet"]
    first, second = (run(*command, "--steps", steps) for _ in range(2))
    print("| inspect | seconds | share of the first |\n| --- | --- | --- |")
    print(f"| first | {first:.1f} | 100 % |")
    print(f"| second | {second:.1f} | {100 * second / first:.1f} % |")


def memory(out: Path, counts: list[int]) -> None:
    """Peak memory of collecting features of so many photos, each in a process of its own."""
    (out / "net.py").write_text(SMALL_NET)
    print("| photos | seconds | peak memory, MiB |\n| --- | --- | --- |")
    for n_photos in counts:
        write_photos(out / f"{n_photos}", n_photos, 64)
        code = (
            "import resource, time\n"
            "from captum_neuroinspect import NeuroInspect\n"
            "from captum_neuroinspect.models.load import load_model\n"
            f"model = load_model({str(out / 'net.py') + ':small'!r}, image_size=64)\n"
            f"work = {str(out / f'work-{n_photos}')!r}\n"
            "session = NeuroInspect(model, work=work, progress=False)\n"
            "start = time.perf_counter()\n"
            f"session.load({str(out / f'{n_photos}')!r})\n"
            "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
            f"print(f'| {n_photos:,} | {{time.perf_counter() - start:.0f}} | {{peak:.0f}} |')\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


def size(out: Path, photos: Path | None) -> None:
    """A report of ten neurons and fifty mistakes: bytes, and the time a browser takes.

    Of noise, which JPEG cannot make small, unless there are photos of ten classes.
    """
    from captum_neuroinspect import NeuroInspect

    if photos is None:
        photos = out / "photos"
        write_photos(photos, 600, 224)
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 64, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    net = nn.Sequential(*backbone, nn.Linear(64, 10))
    session = NeuroInspect(net, work=out / "work", progress=False)
    features = session.load(photos)
    target = int(features.labels[features.is_mistake()].bincount().argmax())
    neurons = session.explain(target).neurons(10)
    session.visualize(neurons, n_steps=2)
    session.edit(target, neurons[:3])
    path = session.report(out / "report.html")
    n_mistakes = min(50, len(features.mistakes(target)))
    print("| neurons | mistakes | MB | seconds to load |\n| --- | --- | --- | --- |")
    row = f"| {len(neurons)} | {n_mistakes} | {path.stat().st_size / 1e6:.1f} | "
    print(f"{row}{seconds_to_open(path)} |")


def large(out: Path, n_neurons: int = 200, n_mistakes: int = 500) -> None:
    """A report of many neurons and mistakes: its page and folder, and that all pictures open.

    Twelve different photos a neuron, two illusions with masks, six saliency maps; photos are
    blurred noise, which JPEG makes about as small as photos.
    """
    from captum_neuroinspect.inspection.report import report_data as parts
    from captum_neuroinspect.inspection.report.write import write_report

    rng = torch.Generator().manual_seed(0)

    def picture() -> Image.Image:
        coarse = torch.rand(1, 3, 28, 28, generator=rng)
        blurred = nn.functional.interpolate(coarse, (224, 224), mode="bicubic")[0]
        noise = torch.rand(3, 224, 224, generator=rng)
        return to_pil_image((0.85 * blurred + 0.15 * noise).clamp(0, 1))

    wrong = [picture() for _ in range(n_mistakes)]
    cards = tuple(
        parts.NeuronCard(
            neuron,
            tuple(parts.IllusionPicture(c, picture(), picture()) for c in (0, 1)),
            tuple(parts.TopPhoto(picture(), f"{i}.jpg", 0, 1.0, picture()) for i in range(6)),
            tuple(
                parts.SaliencyPicture(picture(), f"{i}.jpg", 0, 1, wrong[(7 * neuron + i) % 500])
                for i in range(6)
            ),
        )
        for neuron in range(n_neurons)
    )
    classes = tuple(parts.ClassResult(f"class {i}", n_mistakes, 0) for i in range(2))
    mistakes = tuple(parts.Mistake(one, f"{i}.jpg", 0, 1, 0.9) for i, one in enumerate(wrong))
    data = parts.ReportData("Large", "", "run", 0, classes, mistakes=mistakes, neurons=cards)
    print("| pictures | page, MB | folder, MB | files | seconds to write | seconds to open |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, limit in (("inside", 10**10), ("beside", None)):
        start = time.perf_counter()
        options = {} if limit is None else {"max_bytes": limit}
        path = write_report(data, out / f"{name}.html", **options)
        seconds = time.perf_counter() - start
        files = list((out / f"{name}_files").glob("*"))
        folder = sum(file.stat().st_size for file in files) / 1e6
        row = f"| {name} | {path.stat().st_size / 1e6:.1f} | {folder:.1f} | {len(files):,} | "
        print(f"{row}{seconds:.1f} | {seconds_to_open(path)} |", flush=True)


def seconds_to_open(path: Path) -> str:
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        except Error:
            return "no browser"
        page = browser.new_page()
        start = time.perf_counter()
        page.goto(path.as_uri(), wait_until="load", timeout=600_000)
        seconds = time.perf_counter() - start
        # Fails for a picture that is not there.
        page.locator("img").evaluate_all(
            "images => Promise.all(images.slice(0, 1000).map(image => {"
            "image.loading = 'eager'; return image.decode(); }))"
        )
        browser.close()
        return f"{seconds:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ["twice", "memory", "size", "large"]
    parser.add_argument("--parts", nargs="+", choices=parts, required=True)
    parser.add_argument("--model", default="lite:0")
    parser.add_argument("--weights")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 20_000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if "twice" in arguments.parts:
            if arguments.photos is None:
                parser.error("--parts twice needs --photos")
            twice(out, arguments.model, arguments.weights, arguments.photos, arguments.steps)
        if "memory" in arguments.parts:
            memory(out, arguments.counts)
        if "size" in arguments.parts:
            size(out, arguments.photos)
        if "large" in arguments.parts:
            large(out)


if __name__ == "__main__":
    main()
