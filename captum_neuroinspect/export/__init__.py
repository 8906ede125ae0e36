"""What was found, for other tools: tables, heat maps, and a data set for FiftyOne."""

from captum_neuroinspect.export.fiftyone_folder import to_fiftyone
from captum_neuroinspect.export.heat_maps import write_heat_maps
from captum_neuroinspect.export.records import (
    blame_rows,
    prediction_rows,
    slice_rows,
    word_rows,
)
from captum_neuroinspect.export.tables import write_table

__all__ = [
    "blame_rows",
    "prediction_rows",
    "slice_rows",
    "to_fiftyone",
    "word_rows",
    "write_heat_maps",
    "write_table",
]
