"""Open a picture's file; a warning about it says which one."""

from __future__ import annotations

import threading
import warnings

from PIL import Image

from captum_neuroinspect._core.texts import shown

# Filters of warnings belong to the whole process, and photos are read in threads.
_lock = threading.Lock()


def open_picture(path: str) -> Image.Image:
    """Pillow's ``Image.open``, whose warning about very many pixels names the file.

    Warns:
        DecompressionBombWarning: for more pixels than Pillow's limit.

    Raises:
        DecompressionBombError: for more than twice as many.
        OSError: when it is no picture.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image = Image.open(path)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        warnings.warn(
            f"photo {shown(path)} has {image.width} x {image.height} pixels, more than Pillow's "
            f"limit of {limit}: it may be made to fill the memory",
            Image.DecompressionBombWarning,
            stacklevel=3,
        )
    return image
