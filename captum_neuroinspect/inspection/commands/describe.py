"""``neuroinspect describe``: words for all neurons of the decision layer, and neurons by words."""

from __future__ import annotations

import csv
import io
import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect._core.files import write_text
from captum_neuroinspect._core.kinds import as_plain
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely

if TYPE_CHECKING:
    from captum_neuroinspect.describe import Descriptions, FoundUnits
    from captum_neuroinspect.inspection.session.descriptions import FoundNeuron
    from captum_neuroinspect.inspection.session.session import NeuroInspect

_SHOWN = 20  # neurons in print
_IN_BRACKETS = "in brackets: correlation with the activation on the photos that judge"
_NOTHING_CERTAIN = (
    "the words of all neurons are guesses and stand in the table, --neurons 3,17 prints those of "
    "some; of a few dozen photos hardly any is certain, of thousands some are"
)


class Reduced(str, Enum):
    """As :func:`collect_activations` has it."""

    mean = "mean"
    max = "max"


def describe(
    run: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Folder that `neuroinspect inspect` made: its model, photos and mistakes.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help=options.MODEL_HELP)] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="PHOTOS",
            help="Folder with one subfolder of photos a class of the model, or a table (.csv, "
            ".parquet) of paths and labels.",
        ),
    ] = None,
    unlabelled: Annotated[
        bool,
        typer.Option(
            "--unlabelled",
            help="Take all pictures in the folder and below it; its subfolders say nothing.",
        ),
    ] = False,
    weights: options.Weights = None,
    neurons: Annotated[
        str | None,
        typer.Option(help="Neurons to print, such as 12,40. Default: the most certain ones."),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(metavar="PHRASE", help="Print the neurons that answer to this, best first."),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Describe the outputs of this layer, such as layer3.1.conv2, instead of the "
            "inputs of the decision layer.",
        ),
    ] = None,
    reduce: Annotated[
        Reduced,
        typer.Option(
            help="With --layer: what stands for a unit with positions; max tells what fills a "
            "small part of a photo."
        ),
    ] = Reduced.mean,
    phrases: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FILE",
            help="Text file: a phrase a line, that the encoder may say. Default: a built-in list.",
        ),
    ] = None,
    n_phrases: Annotated[int, typer.Option(min=1, help="For each neuron, at most.")] = 5,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FOLDER",
            help="Folder for the results and kept work. Default: the run's, or neuroinspect-words.",
        ),
    ] = None,
    class_names: options.ClassNames = None,
    by_position: options.ByPosition = False,
    encoder: options.Encoder = "auto",
    image_size: options.ImageSize = None,
    resize: options.Resize = None,
    trust: options.Trust = False,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    fresh: options.Fresh = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Name the neurons of the decision layer by what all photos say of them.

    Half of the photos choose the words, half judge them. Give a run, or a model and photos.
    Writes OUT/descriptions.json with all evidence, and OUT/descriptions.csv with each neuron's
    first phrase, in the columns that CoSy reads. What takes long is kept in OUT/work.
    """
    with safely(debug):
        # Imported here: --help must not wait for torch.
        from captum_neuroinspect.inspection.commands.inspect import file_of_names
        from captum_neuroinspect.inspection.commands.visualize import whole_numbers

        wanted = None if neurons is None else whole_numbers(neurons)
        words = file_of_names(phrases, "--phrases")
        of_model: dict[str, Any] = {
            "model": model,
            "data": data,
            "unlabelled": unlabelled or None,
            "weights": weights,
            "class_names": file_of_names(class_names),
            "image_size": image_size,
            "resize": resize,
            "by_position": by_position or None,
        }
        folder = out or run or Path("neuroinspect-words")
        if run is not None:
            _check_alone(of_model)
            session = _session_of_run(run, fresh=fresh, progress=not quiet, trust=trust)
            _check_neurons(wanted, session, layer)
        else:
            others = {"encoder": encoder, "seed": seed, "fresh": fresh, "progress": not quiet}
            session = _session(folder, device, others, wanted, layer, **of_model)
        options_of_words: dict[str, Any] = {"phrases": words, "n_phrases": n_phrases}
        of_layer: dict[str, Any] = {} if layer is None else {"layer": layer, "reduce": reduce.value}
        if layer is not None:
            everything = session.describe_layer(layer, reduce=reduce.value, **options_of_words)
            place = layer
        else:
            # All 1,280 with 1,000 classes take a minute; those that were asked for a moment.
            everything = session.describe(
                range(session.head.in_features) if wanted is None else wanted,
                ablation=wanted is not None,
                **options_of_words,
            )
            assert session.descriptions is not None
            everything, place = session.descriptions, _layer(session)
        found = None if find is None else session.find_units(find, **of_layer)
        described = everything if wanted is None else _only(everything, wanted)
        table, record = _write(everything, place, folder)
        lines = _lines(described, found, asked_for=wanted is not None)
        finish(
            _record(described, found, table, record),
            f"{lines}\n\nTable: {table}\nEvidence: {record}",
            as_json=as_json,
        )


def _check_alone(of_model: dict[str, Any]) -> None:
    for name, value in of_model.items():
        if value is not None:
            raise ValueError(
                f"--run and --{name.replace('_', '-')} are both given, expected a run, or a model "
                "and photos"
            )


def _session_of_run(run: Path, *, fresh: bool, progress: bool, trust: bool) -> NeuroInspect:
    """The session of a run, with its mistakes explained."""
    from captum_neuroinspect.inspection.commands import _run_folder as runs

    settings = runs.RunSettings.load(run)
    with runs.names_record(run):
        session = runs.open_session(settings, run, fresh=fresh, progress=progress, trust=trust)
    session.explain(settings.target, settings.predicted)
    return session


def _session(
    folder: Path,
    device: str,
    others: dict[str, Any],
    wanted: list[int] | None,
    layer: str | None,
    *,
    model: str | None,
    data: Path | None,
    unlabelled: bool | None,
    weights: str | None,
    class_names: tuple[str, ...] | None,
    image_size: int | None,
    resize: str | None,
    by_position: bool | None,
) -> NeuroInspect:
    """A session of a model with its photos loaded; nothing is explained."""
    if model is None or data is None:
        missing = "--model" if model is None else "--data"
        raise ValueError(f"{missing} is missing: expected --model and --data, or --run")
    from captum_neuroinspect._core.class_names import UnknownClassError
    from captum_neuroinspect.inspection.session.session import NeuroInspect
    from captum_neuroinspect.models.load import load_model

    photos = _table_of(data, folder) if unlabelled else data
    loaded = load_model(model, weights=weights, device=device, image_size=image_size, resize=resize)
    session = NeuroInspect(loaded, class_names=class_names, work=folder / "work", **others)
    _check_neurons(wanted, session, layer)
    try:
        session.load(photos, by_position=bool(by_position))
    except UnknownClassError as error:
        raise ValueError(f"{error}. Words need no classes: --unlabelled takes all photos") from None
    return session


def _check_neurons(wanted: list[int] | None, session: NeuroInspect, layer: str | None) -> None:
    """Refuse neurons that the decision layer does not have, before photos are looked at."""
    if layer is None and wanted is not None:
        _check_range(wanted, session.head.in_features)


def _check_range(wanted: list[int], n: int) -> None:
    missing = [unit for unit in wanted if not 0 <= unit < n]
    if missing:
        raise ValueError(f"--neurons has {missing[0]}, expected 0 to {n - 1}")


def _table_of(data: Path, folder: Path) -> Path:
    """A table of all pictures below a folder, each of the model's first class.

    A label that all photos have says nothing, and so is no concept.

    Raises:
        FileNotFoundError: when there is no such folder, or it has no pictures.
        ValueError: for a file's name that is no UTF-8.
    """
    from captum_neuroinspect.photos._reading import photo_suffixes

    if not data.is_dir():
        raise FileNotFoundError(f"--data={str(data)!r}: there is no such folder")
    suffixes = photo_suffixes()
    found = sorted(
        path.absolute()
        for path in data.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    if not found:
        raise FileNotFoundError(f"--data={str(data)!r} has no pictures")
    for path in found:
        if not _is_text(str(path)):
            raise ValueError(
                f"{shown(path)} has a name that is no UTF-8, which no table can hold: rename it"
            )
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "label"))
    rows.writerows((str(path), 0) for path in found)
    return write_text(folder / "work" / "unlabelled.csv", text.getvalue())


def _only(everything: Descriptions, wanted: list[int]) -> Descriptions:
    """Those that were asked for.

    Raises:
        ValueError: when the layer has no such unit.
    """
    _check_range(wanted, len(everything))
    return everything.only(wanted)


def _is_text(name: str) -> bool:
    return name == name.encode("utf-8", "replace").decode()


def _layer(session: NeuroInspect) -> str:
    from captum_neuroinspect._core.modules import module_name

    return f"{module_name(session.model.model, session.head)}.input"


def _write(everything: Descriptions, layer: str, folder: Path) -> tuple[Path, Path]:
    """The table and the evidence of all neurons."""
    from captum_neuroinspect.export import write_table

    rows = everything.cosy_rows(layer)
    columns = list(rows[0]) if rows else ["layer", "unit", "description", "similarity"]
    record = {"layer": layer, "rests_on": everything.rests_on, "units": as_plain(everything)}
    return (
        write_table(rows, folder / "descriptions.csv", columns),
        write_text(folder / "descriptions.json", json.dumps(record, indent=1) + "\n"),
    )


def _lines(
    described: Descriptions, found: FoundUnits[FoundNeuron] | None, *, asked_for: bool
) -> str:
    if found is not None:
        return str(found)
    if asked_for:
        return f"{described}\n{_IN_BRACKETS}"
    certain = [one for one in described if one.is_certain]
    certain.sort(key=lambda one: -one.correlations[0])
    n_more = len(certain) - _SHOWN
    lines = [f"{len(certain):,} of {len(described):,} neurons have a certain word"]
    lines += [str(one) for one in certain[:_SHOWN]]
    lines += [f"... and {n_more:,} more, in the table"] if n_more > 0 else []
    lines.append(f"rests on {described.rests_on}")
    lines.append(_IN_BRACKETS if certain else _NOTHING_CERTAIN)
    return "\n".join(lines)


def _record(
    described: Descriptions, found: FoundUnits[FoundNeuron] | None, table: Path, record: Path
) -> dict[str, Any]:
    return {
        "table": str(table),
        "evidence": str(record),
        "rests_on": described.rests_on,
        "n_described": len(described),
        "n_certain": sum(one.is_certain for one in described),
        "units": described.rows() if len(described) <= _SHOWN else [],
        "found": None if found is None else found.rows()[:_SHOWN],
    }
