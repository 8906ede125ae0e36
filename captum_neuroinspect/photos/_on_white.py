"""A picture as people see it on a page."""

from __future__ import annotations

from PIL import Image


def on_white(picture: Image.Image) -> Image.Image:
    """An RGB image that nobody else holds; what is transparent is white.

    A model is given the colours under transparency, as its library gives them.

    Examples::

        >>> on_white(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return picture.convert("RGB") if picture.mode != "RGB" else picture.copy()
