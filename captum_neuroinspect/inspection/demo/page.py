"""The demo's page: data in, one self-contained HTML text out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from captum_neuroinspect.inspection.report.environment import page_environment
from captum_neuroinspect.inspection.report.number_formats import points
from captum_neuroinspect.inspection.report.pictures import thumbnail

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
    environment = page_environment("captum_neuroinspect.inspection.demo")
    environment.filters["difference"] = lambda share: points(0.0, share)
    environment.filters["photo"] = lambda image: thumbnail(image, _PHOTO).uri
    environment.filters["illusion"] = lambda image: thumbnail(image, _ILLUSION).uri
    best = next(edit for edit in record["edits"] if edit["is_best"])
    compared = next((edit for edit in record["edits"] if edit["is_comparison"]), None)
    return environment.get_template("demo.html.j2").render(
        r=record, pictures=pictures, best=best, compared=compared
    )
