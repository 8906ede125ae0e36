"""Pictures that follow one another, as a GIF that a notebook plays."""

from __future__ import annotations

import io
import math
from base64 import b64encode
from collections.abc import Sequence

from PIL import Image
from PIL.Image import Quantize, Resampling

from captum_neuroinspect._core.checks import check_at_least

_COLOURS = 256
_SAMPLE = 200_000  # pixels
# Time to look at the result before the loop starts again.
_LAST = 5


class Gif(bytes):
    """The content of a GIF file, which plays where a notebook shows a cell's value."""

    def __repr__(self) -> str:
        return f"Gif({len(self)} bytes)"

    # Bytes have a __str__ of their own, which would print them all.
    __str__ = __repr__

    def _repr_html_(self) -> str:
        return f'<img alt="animation" src="data:image/gif;base64,{b64encode(self).decode()}">'


def as_gif(frames: Sequence[Image.Image], duration: int) -> Gif:
    """Play frames of one size one after the other, in a loop.

    Args:
        frames: at least one.
        duration: milliseconds per frame, rounded down to hundredths of a second, the
            unit of the format; the last frame stays five times as long.

    Raises:
        ValueError: when there is no frame, or ``duration`` is below 20: browsers slow
            down what is faster.
    """
    check_at_least("duration", duration, 20)
    if not frames:
        raise ValueError("no frames, expected at least one for an animation")
    first, *others = _with_few_colours(frames)
    buffer = io.BytesIO()
    durations = [duration] * len(others) + [_LAST * duration]
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return Gif(buffer.getvalue())


def _with_few_colours(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """One palette for all, or the colours would flicker."""
    width, height = frames[0].size
    strip = Image.new("RGB", (width, height * len(frames)))
    for number, frame in enumerate(frames):
        strip.paste(frame, (0, number * height))
    # The slow method that keeps the bright colours of the last frames; it needs no more
    # than a sample of the pixels.
    scale = min(1.0, math.sqrt(_SAMPLE / (strip.width * strip.height)))
    sample = strip.resize(
        (math.ceil(strip.width * scale), math.ceil(strip.height * scale)), Resampling.NEAREST
    )
    palette = sample.quantize(_COLOURS, Quantize.MAXCOVERAGE)
    return [frame.convert("RGB").quantize(palette=palette) for frame in frames]
