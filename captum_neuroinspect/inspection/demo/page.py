"""The demo's page: data in, one self-contained HTML text out."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

_PHOTO, _ILLUSION = 128, 192


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of a report, in the order of the record's lists.

    Attributes:
        mistakes: the photos that went wrong.
        illusions: for each neuron one picture a class.
        masked: the same with quiet regions dimmed.
        top_photos: for each neuron its most activating photos.
    """

    mistakes: list[Image.Image]
    illusions: list[list[Image.Image]]
    masked: list[list[Image.Image]]
    top_photos: list[list[Image.Image]]


def demo_report(record: dict[str, Any], pictures: Pictures) -> str:
    """Render the page: no script, no link to elsewhere; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("captum_neuroinspect.inspection.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["points"] = points
    environment.filters["photo"] = lambda image: data_uri(image, _PHOTO)
    environment.filters["illusion"] = lambda image: data_uri(image, _ILLUSION)
    best = next(edit for edit in record["edits"] if edit["is_best"])
    compared = next((edit for edit in record["edits"] if edit["is_comparison"]), None)
    return environment.get_template("demo.html.j2").render(
        r=record, pictures=pictures, best=best, compared=compared
    )


def percent(share: float | None) -> str:
    """A share in 0..1 as a percentage; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f} %"  # noqa: RUF001 - a real dash


def points(difference: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    return "–" if difference is None else f"{100 * difference:+.1f}"  # noqa: RUF001


def data_uri(image: Image.Image, size: int) -> str:
    """A picture inside the page: no larger than it is shown at twice the density."""
    small = image.convert("RGB")
    small.thumbnail((size * 2, size * 2))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
