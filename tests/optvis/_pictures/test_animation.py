import io
from base64 import b64encode

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageSequence

from captum_neuroinspect.optvis._pictures.animation import Gif, as_gif


def _gradient(peak: int) -> Image.Image:
    """All hues, ``peak`` bright."""
    ramp = np.linspace(0, peak, 64).astype(np.uint8)
    red, green = np.meshgrid(ramp, ramp)
    return Image.fromarray(np.stack([red, green, peak - red], axis=2))


def _soft(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").filter(ImageFilter.GaussianBlur(2)), float)


def test_frames_order_and_durations():
    given = [_gradient(peak) for peak in (60, 150, 255)]
    with Image.open(io.BytesIO(as_gif(given, 70))) as gif:
        assert gif.info["loop"] == 0
        frames = [(f.info["duration"], _soft(f)) for f in ImageSequence.Iterator(gif)]
    assert [duration for duration, _ in frames] == [70, 70, 350]
    for (_, seen), frame in zip(frames, given, strict=True):
        assert np.abs(seen - _soft(frame)).mean() < 6


def test_bright_colours_of_the_last_frame_survive_many_dull_frames():
    given = [_gradient(peak) for peak in (40, 50, 60, 70, 80, 90, 100, 255)]
    with Image.open(io.BytesIO(as_gif(given, 50))) as gif:
        last = [_soft(frame) for frame in ImageSequence.Iterator(gif)][-1]
    assert np.abs(last - _soft(given[-1])).max() < 20


def test_the_same_frames_give_the_same_bytes():
    frames = [_gradient(100), _gradient(200)]
    assert as_gif(frames, 100) == as_gif(frames, 100)
    assert as_gif(frames, 100) != as_gif(frames[::-1], 100)


def test_one_frame_and_more_pixels_than_are_sampled():
    with Image.open(io.BytesIO(as_gif([_gradient(200).resize((700, 500))], 100))) as gif:
        assert (gif.size, gif.n_frames) == ((700, 500), 1)


def test_a_gif_is_bytes_that_do_not_flood_the_screen():
    gif = Gif(b"<>&" * 5)
    assert repr(gif) == str(gif) == f"{gif}" == "Gif(15 bytes)"
    html = gif._repr_html_()
    assert b64encode(gif).decode() in html
    assert html.count("<") == 1


def test_bad_values():
    with pytest.raises(ValueError, match="duration=19, expected at least 20"):
        as_gif([_gradient(100)], 19)
    with pytest.raises(ValueError, match="no frames, expected at least one"):
        as_gif([], 100)
