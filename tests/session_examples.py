"""A tiny classifier that errs, its photos, and counts of what it was asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from helpers import ConvNet
from PIL import Image
from torch import Tensor, nn

from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.optvis import Illusions

SIZE = 16
NAMES = ("apple", "bread", "coat")
QUICK: dict[str, Any] = {"n_steps": 2, "size": SIZE}


class CountedNet(ConvNet):
    """Counts the images that pass through it; raises at the n-th pass if told to.

    Its head reads the mean colours, so that it is often right and often wrong.
    """

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__(n_classes)
        self.n_images = self.n_passes = 0
        self.raise_at: int | None = None
        self.error: type[BaseException] = KeyboardInterrupt
        images, labels = photos(90, seed=9, n_classes=n_classes)
        with torch.no_grad():
            self.backbone[0].weight.zero_()
            for channel, row in enumerate(self.backbone[0].weight):
                row[channel % 3] = 0.2 / (1 + channel // 3)
            self.backbone[0].bias.fill_(-0.3)
            z = self.eval().backbone(images)
            self.train()
            ones, target = torch.ones(len(z), 1), nn.functional.one_hot(labels, n_classes).float()
            z1 = torch.cat([z, ones], 1)
            fitted = torch.linalg.solve(z1.T @ z1 + 0.1 * torch.eye(z1.shape[1]), z1.T @ target)
            self.head.weight.copy_(6 * fitted[:-1].T)
            self.head.bias.copy_(6 * fitted[-1])

    def forward(self, images: Tensor) -> Tensor:
        self.n_passes += 1
        if self.n_passes == self.raise_at:
            raise self.error
        self.n_images += len(images)
        return super().forward(images)


def photos(n: int = 90, *, seed: int = 1, n_classes: int = 3) -> tuple[Tensor, Tensor]:
    """Noisy pictures whose class is, a little, their colour."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    colours = torch.eye(3)[labels % 3][:, :, None, None]
    noise = torch.randn(n, 3, 1, 1, generator=generator) * 0.12
    grain = torch.rand(n, 3, SIZE, SIZE, generator=generator) * 0.3
    return (0.3 + 0.16 * colours + noise + grain).clamp(0, 1), labels


def session(model: nn.Module | None = None, **options: Any) -> NeuroInspect:
    """A session over a new :class:`CountedNet` with nothing loaded."""
    options = {"image_size": SIZE, "progress": False, "class_names": NAMES, **options}
    model = CountedNet() if model is None else model
    return NeuroInspect(model, **options)


def loaded(model: nn.Module | None = None, data: Any = None, **options: Any) -> NeuroInspect:
    """A session with photos."""
    made = session(model, **options)
    made.load(photos() if data is None else data)
    return made


def assert_same_illusions(one: Illusions, other: Illusions) -> None:
    for name in ("images", "masks", "activations", "logits"):
        left, right = getattr(one, name), getattr(other, name)
        assert (left is None) == (right is None), name
        assert left is None or torch.equal(left, right), name
    assert (one.neurons, one.classes) == (other.neurons, other.classes)


def write_photos(folder: Path, names: Sequence[str] = NAMES, n: int = 90, seed: int = 1) -> Path:
    """The same pictures as PNG files in one folder a class."""
    images, labels = photos(n, seed=seed)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / names[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(pixels).save(path)
    return folder


# A user's own file. What it does is steered from outside: where it writes a line a pass,
# and the pass at which it is killed, and by what.
MODEL_FILE = """
import os
import sys

sys.path[:0] = [TESTS]
from session_examples import CountedNet


class Net(CountedNet):
    def forward(self, images):
        log = os.environ.get("PASSES")
        if log:
            with open(log, "a") as file:
                file.write(f"{len(images)}\\n")
            with open(log) as file:
                n = len(file.readlines())
            if str(n) == os.environ.get("DIE_AT"):
                os.kill(os.getpid(), int(os.environ["DIE_BY"]))
        return super().forward(images)


def net(n_classes=3):
    return Net(n_classes)


def other():
    made = Net(3)
    made.head.weight.data[0] += 1
    return made


def broken():
    return 3
"""


def write_model(folder: Path) -> Path:
    """A file whose function ``net`` gives a :class:`CountedNet`."""
    path = folder / "model.py"
    tests = str(Path(__file__).resolve().parent)
    path.write_text(MODEL_FILE.replace("TESTS", repr(tests)), encoding="utf-8")
    return path


def n_images_in(log: Path) -> int:
    """How many images passed through the model of a file."""
    return sum(map(int, log.read_text().split())) if log.exists() else 0


def inspect_arguments(place: Path, out: Path, *more: object) -> list[object]:
    """``neuroinspect inspect`` of the model and photos in a folder."""
    return [
        *("inspect", "--model", f"{place}/model.py:net", "--data", place / "photos"),
        *("--out", out, "--image-size", SIZE, "--steps", 2, "--neurons", 2),
        *("--encoder", "none", "--quiet", *more),
    ]


def assert_one_sentence(result: Any, message: str) -> None:
    """A command failed and said why, without a traceback and without a word on stdout."""
    code = result.exit_code if hasattr(result, "exit_code") else result.code
    assert code == 1, result.stderr
    assert result.stdout == ""
    *_, last = result.stderr.strip().splitlines()
    assert last.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert message in last
