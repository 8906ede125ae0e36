"""``neuroinspect visualize``: pictures of any neurons in any classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely

if TYPE_CHECKING:
    from captum_neuroinspect.optvis import Illusions


def visualize(
    model: options.Model,
    neurons: Annotated[str, typer.Option(help="Neurons, such as 12,40.")],
    classes: Annotated[
        str | None,
        typer.Option(help="Classes by name or number, such as cat,dog: each neuron in each."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Dotted name of a layer. Default: inputs of the decision layer."),
    ] = None,
    weights: options.Weights = None,
    out: Annotated[
        Path,
        typer.Option(parser=options.user_path, metavar="FOLDER", help="Folder for the pictures."),
    ] = Path("neuroinspect-illusions"),
    class_names: options.ClassNames = None,
    steps: options.Steps = 150,
    size: options.Size = None,
    gamma: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weight of the class. Default: 0.25; 0.5 with --paper."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="The settings of the authors' code.")
    ] = False,
    encoder: Annotated[
        str, typer.Option(help="Guides the illusions: as in `inspect`; needs class names.")
    ] = "none",
    image_size: options.ImageSize = None,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Make pictures of what neurons look for, alone or in classes; no photos are needed.

    Writes OUT/illusions.png (all on a sheet), a PNG each, illusions.json with the numbers,
    and illusions.safetensors, which `Illusions.load` reads.
    """
    with safely(debug):
        chosen = whole_numbers(neurons)
        session_options: dict[str, Any] = {
            "encoder": encoder,
            "layer": layer,
            "work": out / "work",
            "seed": seed,
            "fresh": fresh,
            "progress": not quiet,
        }
        from captum_neuroinspect.inspection.commands.inspect import file_of_names
        from captum_neuroinspect.inspection.session.session import NeuroInspect
        from captum_neuroinspect.models.load import load_model

        loaded = load_model(model, weights=weights, device=device, image_size=image_size)
        session = NeuroInspect(loaded, class_names=file_of_names(class_names), **session_options)
        found = session.visualize(
            chosen,
            [] if classes is None else [name.strip() for name in classes.split(",")],
            n_steps=steps,
            size=size or loaded.image_size,
            gamma=gamma,
            options="paper" if paper else None,
        )
        sheet = _write(found, out)
        finish({"sheet": str(sheet), "illusions": found.rows()}, f"Open {sheet}", as_json=as_json)


def whole_numbers(text: str) -> list[int]:
    """What ``--neurons`` means.

    Raises:
        ValueError: for something else than whole numbers between commas.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--neurons={text!r}, expected whole numbers such as 12,40") from None


def _write(found: Illusions, out: Path) -> Path:
    found.save_pictures(out)
    found.save(out / "illusions.safetensors")
    sheet = found.grid()
    return write_atomically(out / "illusions.png", lambda path: sheet.save(path, format="PNG"))
