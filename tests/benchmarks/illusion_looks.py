"""Do pictures look like photos: contrast, clipping, colour, spectrum, grain.

Run with the package installed: ``python tests/benchmarks/illusion_looks.py FOLDER [FOLDER ...]``.
A folder of photos has one subfolder a class; a file of illusions ends in ``.safetensors``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos, folder_photos
from captum_neuroinspect.optvis import Illusions

_LUMINANCE = (0.299, 0.587, 0.114)
LOOKS = ("contrast", "clipped", "colour", "slope", "grain")


def looks(images: Tensor) -> dict[str, float]:
    """Means over images ``(N, 3, H, W)`` in 0..1.

    * contrast: standard deviation over pixels and channels;
    * clipped: share of values within one grey level of black or white, of 255;
    * colour: standard deviation over the channels of a pixel;
    * slope: of the power of luminance against frequency, both as logarithms;
    * grain: standard deviation of what a mean over 3 x 3 pixels takes away.
    """
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)
    is_clipped = (images <= 1 / 255) | (images >= 254 / 255)
    values = (
        images.flatten(1).std(1, unbiased=False),
        is_clipped.float(),
        images.std(1, unbiased=False),
        slopes(images),
        (images - smooth).flatten(1).std(1),
    )
    return {name: float(value.mean()) for name, value in zip(LOOKS, values, strict=True)}


def slopes(images: Tensor) -> Tensor:
    """Slope of the spectrum of each square image, from 4 waves a side to 0.4 a pixel."""
    grey = torch.einsum("nchw,c->nhw", images, torch.tensor(_LUMINANCE))
    side = grey.shape[-1]
    window = torch.hann_window(side, periodic=False)
    grey = (grey - grey.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(grey).abs().square()
    waves = torch.fft.fftfreq(side) * side
    radius = torch.hypot(waves[:, None], waves).round()
    rings = torch.arange(4, int(0.4 * side))
    rows = torch.stack([power[:, radius == ring].mean(1) for ring in rings], 1).clamp(min=1e-12)
    # Each octave counts the same, although higher ones have more rings.
    weight = 1 / rings
    place = rings.log() - (weight * rings.log()).sum() / weight.sum()
    return (rows.log() * place * weight).sum(1) / (weight * place.square()).sum()


def cells(images: Tensor) -> str:
    """The numbers for a row of a table."""
    found = looks(images)
    return (
        f"{found['contrast']:.3f} | {found['clipped']:.2%} | {found['colour']:.3f} | "
        f"{found['slope']:.2f} | {found['grain']:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", type=Path, nargs="*")
    print(f"| pictures | {' | '.join(LOOKS)} |\n|{' --- |' * (1 + len(LOOKS))}")
    print(f"| crops of eight photos | {cells(crops_of_packaged_photos())} |")
    for place in parser.parse_args().places:
        is_file = place.suffix == ".safetensors"
        images = Illusions.load(place).images if is_file else folder_photos(place, 25)[0]
        print(f"| {len(images)} of {place.name} | {cells(images)} |", flush=True)


if __name__ == "__main__":
    main()
