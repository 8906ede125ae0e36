"""Illusions: our renderer against the paper-literal loop, same pairs, in one run.

The literal loop does what the authors' published code does: weights ask for gradients that are
thrown away, one affine for the whole batch through three resamplings, contiguous float32 images,
an optimiser that walks over its tensors one by one. (Its coupling of the images of a batch, a
broadcast of (B,) with (B, 1), is left out: it changes the result, not the time.) Ours:
``render_illusions``. Seconds of a step come from the difference of two runs of different length,
so that starting costs cancel. ``--parts quality`` asks after how many seconds ours reaches the
activation and the similarity that the literal loop ends with (real weights only); ``--parts cost``
what pairs cost in time and memory.

Run with the package installed: ``python tests/benchmarks/illusion.py --parts speed quality cost``.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as vision

from captum_neuroinspect import find_head, render_illusions
from captum_neuroinspect._core.modules import captured_input
from captum_neuroinspect.encoders import LabelSpaceEncoder, class_embeddings
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite
from captum_neuroinspect.optvis import Guidance, IllusionOptions, Illusions, illusion_image

NEURONS, CLASSES = [3, 50, 121, 200], [207, 281, 504, 817]
# More for what is not timed by the step: any neurons in any classes.
MORE_NEURONS, MORE_CLASSES = [*NEURONS, 431, 622, 845, 1100], [*CLASSES, 19, 339, 701, 954]
CHEAP = IllusionOptions(guidance=Guidance(encoder_every=3), coarse=0.5)


class LiteralLoop:
    """The loop of the authors' code, one batch of pairs."""

    def __init__(
        self,
        model: nn.Module,
        encoder: Any,
        names: list[str],
        size: int,
        neurons: list[int] = NEURONS,
        classes: list[int] = CLASSES,
    ) -> None:
        self.model, self.encoder, self.size = model, encoder, size
        self.neurons, self.classes = neurons, classes
        for network in (model, encoder.network):
            network.eval().requires_grad_(True)
        self.head = find_head(model, torch.rand(1, 3, size, size))
        with torch.no_grad():
            self.text = class_embeddings(encoder, [names[c] for c in classes])
        self.rng = torch.Generator().manual_seed(0)

    def run(self, n_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images, and activation and cosine of the clean images, after ``n_steps``."""
        params, image_f = illusion_image(self.size, len(self.neurons))
        optimizer = torch.optim.AdamW(
            params, lr=9e-3, betas=(0.5, 0.99), weight_decay=2e-4, foreach=False
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps, 0.12 * 9e-3)
        for step in range(n_steps):
            activation, logit, cosine = self.scores(self.moved(image_f(), 1 - step / n_steps))
            loss = -((cosine + 0.05) * (activation + 0.5 * logit)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        images = image_f().detach()
        with torch.no_grad():
            activation, _, cosine = self.scores(images)
        return images, activation, cosine

    def scores(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with captured_input(self.head) as captured:
            logits = self.model(images)
            features = captured.value
        rows = torch.arange(len(images))
        cosine = (self.encoder.encode_image(images) * self.text).sum(1)
        return features[rows, self.neurons], logits[rows, self.classes], cosine

    def moved(self, images: Tensor, noise: float) -> Tensor:
        """Rotation, translation and scale, each a resampling; then noise on the channels."""
        angle, right, down, scale = torch.rand(4, generator=self.rng).tolist()
        side = self.size
        images = vision.rotate(images, 30 * angle - 15)
        shift = [int(0.3 * side * (right - 0.5)), int(0.3 * side * (down - 0.5))]
        images = vision.affine(images, 0, shift, 1, [0, 0])
        images = vision.affine(images, 0, [0, 0], 0.7 + 0.5 * scale, [0, 0])
        shade = 0.2 * noise * torch.randn(len(images), 3, 1, 1, generator=self.rng)
        return (images + shade).clamp(0, 1)


class RandomCLIP:
    """ViT-B-32 of OpenCLIP with random weights, which :class:`OpenCLIPEncoder` refuses."""

    def __init__(self) -> None:
        self.network = open_clip.create_model("ViT-B-32", pretrained=None).eval()
        self.mean, self.std = (
            torch.tensor(numbers).view(3, 1, 1)
            for numbers in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )

    def encode_image(self, images: Tensor) -> Tensor:
        if images.shape[-1] != 224:  # a ViT takes one size
            images = F.interpolate(images, (224, 224), mode="bilinear", align_corners=False)
        return F.normalize(self.network.encode_image((images - self.mean) / self.std), dim=-1)

    def encode_text(self, texts: list[str]) -> Tensor:
        rng = torch.Generator().manual_seed(0)
        return F.normalize(torch.randn(len(texts), 512, generator=rng), dim=-1)


def seconds_a_step(run: Callable[[int], object], n_steps: int) -> float:
    """Of the faster of two measurements of ``n_steps`` more steps."""
    run(1)
    measured = []
    for _ in range(2):
        seconds = []
        for n in (1, 1 + n_steps):
            start = time.perf_counter()
            run(n)
            seconds.append(time.perf_counter() - start)
        measured.append((seconds[1] - seconds[0]) / n_steps)
    return min(measured)


def ours(
    model: nn.Module,
    encoder: Any,
    names: list[str],
    size: int,
    n_steps: int,
    neurons: list[int] = NEURONS,
    classes: list[int] = CLASSES,
    options: IllusionOptions | None = None,
) -> Illusions:
    return render_illusions(
        model,
        neurons,
        classes,
        encoder=encoder,
        class_names=names,
        size=size,
        n_steps=n_steps,
        gamma=0.5,  # the paper's, as in the literal loop
        options=options,
        progress=False,
    )


def networks() -> dict[str, Callable[[], tuple[nn.Module, Any]]]:
    """What is timed; random weights are fine for time."""

    return {
        "Lite0, guided by Lite2 + MiniLM": lambda: (
            load_efficientnet_lite(0),
            LabelSpaceEncoder.pretrained(),
        ),
        "ResNet-18, guided by ViT-B-32": lambda: (torchvision.models.resnet18(), RandomCLIP()),
        "ResNet-50, guided by ViT-B-32": lambda: (torchvision.models.resnet50(), RandomCLIP()),
    }


def print_speed(names: list[str], size: int, n_steps: int) -> None:
    print(
        "| networks | literal, s a step | ours | faster | encoder every 3rd, half coarse | faster |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for title, make in networks().items():
        model, encoder = make()
        model.eval()
        mine = seconds_a_step(lambda n: ours(model, encoder, names, size, n), n_steps)  # noqa: B023
        # A whole rendering of so many steps: half of them are coarse.
        cheap = seconds_a_step(
            lambda n: ours(model, encoder, names, size, n, options=CHEAP),  # noqa: B023
            3 * n_steps,
        )
        loop = LiteralLoop(model, encoder, names, size)
        literal = seconds_a_step(loop.run, n_steps)
        print(
            f"| {title} | {literal:.2f} | {mine:.2f} | {literal / mine:.1f} x | {cheap:.2f} | "
            f"{literal / cheap:.1f} x |",
            flush=True,
        )


def print_quality(names: list[str], size: int, n_steps: int) -> None:
    """Both are scored by the same encoder, the one that guides the literal loop."""
    model, encoder = load_efficientnet_lite(0), LabelSpaceEncoder.pretrained(image_size=size)
    start = time.perf_counter()
    pairs = MORE_NEURONS, MORE_CLASSES
    _, activation, cosine = LiteralLoop(model, encoder, names, size, *pairs).run(n_steps)
    literal = time.perf_counter() - start
    print("\n| | seconds | faster | activation | similarity | pairs that reach both |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| literal, {n_steps} steps | {literal:.0f} | | {activation.mean():.2f} | "
        f"{cosine.mean():.2f} | |",
        flush=True,
    )
    with torch.no_grad():
        text = class_embeddings(encoder, [names[c] for c in MORE_CLASSES])
    soft, plain = ("softened", encoder.softened()), ("plain", encoder)
    for (title, guide), n, options in (
        *((plain, n, None) for n in (60, 90, 120)),
        *((soft, n, None) for n in (30, 60, 75, 90, 120, 180)),
        *((soft, n, CHEAP) for n in (90, 120, 180)),
    ):
        start = time.perf_counter()
        found = ours(model, guide, names, size, n, *pairs, options=options)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            reached = (encoder.encode_image(found.images) * text).sum(1)
        both = int(((found.activations >= activation) & (reached >= cosine)).sum())
        print(
            f"| ours, {n} steps, {title} guide{', cheap' if options else ''} | {seconds:.0f} | "
            f"{literal / seconds:.1f} x | {found.activations.mean():.2f} | "
            f"{reached.mean():.2f} | {both} of {len(found)} |",
            flush=True,
        )


def print_cost(names: list[str], size: int) -> None:
    """Seconds and peak memory for several numbers of pairs, each in a process of its own."""
    print("\n| pairs | together | s a step and pair | peak memory, GiB |")
    print("| --- | --- | --- | --- |")
    for n_pairs, together in ((1, 1), (8, 8), (16, 16), (16, 8), (32, 8)):
        command = [sys.executable, __file__, "--one", str(n_pairs), str(together)]
        printed = subprocess.run(
            [*command, "--size", str(size)], capture_output=True, text=True, check=True
        ).stdout
        seconds, memory = map(float, printed.split()[-2:])
        print(f"| {n_pairs} | {together} | {seconds / n_pairs:.3f} | {memory:.2f} |", flush=True)


def print_one(names: list[str], size: int, n_pairs: int, together: int) -> None:
    model, encoder = load_efficientnet_lite(0), LabelSpaceEncoder.pretrained()

    def run(n_steps: int) -> None:
        render_illusions(
            model, list(range(n_pairs)), list(range(n_pairs)), encoder=encoder, class_names=names,
            size=size, n_steps=n_steps, progress=False,
            options=IllusionOptions(batch_size=together),
        )  # fmt: skip

    seconds = seconds_a_step(run, 3)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=5, help="steps that are timed")
    parser.add_argument(
        "--parts", nargs="+", choices=("speed", "quality", "cost"), default=["speed"]
    )
    parser.add_argument("--quality-steps", type=int, default=450)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = imagenet_class_names()
    if arguments.one is not None:
        print_one(names, arguments.size, *arguments.one)
        return
    if "speed" in arguments.parts:
        print_speed(names, arguments.size, arguments.steps)
    if "quality" in arguments.parts:
        print_quality(names, arguments.size, arguments.quality_steps)
    if "cost" in arguments.parts:
        print_cost(names, arguments.size)


if __name__ == "__main__":
    main()
