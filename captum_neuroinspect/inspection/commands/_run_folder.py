"""A run: how an inspection was started, kept beside its results."""

from __future__ import annotations

import json
import os
import shlex
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_neuroinspect._core.files import read_text, write_text
from captum_neuroinspect._core.fingerprint import head_fingerprint
from captum_neuroinspect._core.kinds import check_kinds
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.attr.slices import NSlices
from captum_neuroinspect.describe import LEAST_PHOTOS
from captum_neuroinspect.edit import HeadEdit
from captum_neuroinspect.inspection.commands._run_lock import (
    is_of_another,
    mark_of,
    settings_digest,
    writing_together,
)
from captum_neuroinspect.inspection.report.edit_notes import notes_of, with_notes
from captum_neuroinspect.inspection.session.arguments import class_index, n_classes_of
from captum_neuroinspect.inspection.session.session import NeuroInspect
from captum_neuroinspect.models._known_code import watch
from captum_neuroinspect.models.load import load_model

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight
    from captum_neuroinspect.inspection.preflight_checks.rendering import Clock
    from captum_neuroinspect.inspection.report.selection import Selection

_FORMAT = 1
_TOO_MANY = 2**63
_MADE_FROM = "made_from"  # in an edit's settings
_RECORD, _EDIT, _WORK, REPORT = "run.json", "edit.safetensors", "work", "report.html"
SELECTION = "selection.json"


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what a run computes; paths are absolute.

    Attributes are the options of ``neuroinspect inspect``; ``target`` and ``predicted``
    are class indices, and ``target`` is ``None`` for the worst class; ``slices`` is ``None`` where
    none are looked for. ``inspection`` names what came of them; the report of the run carries the
    same.
    """

    model: str
    weights: str | None
    data: str
    train: str | None
    test: str | None
    class_names: tuple[str, ...] | None
    image_size: int | None
    resize: str | None
    device: str
    encoder: str
    guide: bool | None
    target: str | None
    predicted: str | None
    slices: str | None
    n_neurons: int
    n_steps: int
    size: int | None
    held_out: float
    skip_unreadable: bool
    by_position: bool
    seed: int
    inspection: str = ""

    def save(self, folder: Path) -> Path:
        """Write ``run.json``."""
        record = {"format": _FORMAT, **asdict(self)}
        return write_text(folder / _RECORD, json.dumps(record, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> RunSettings:
        """Read ``run.json``.

        Raises:
            FileNotFoundError: when the folder is no run.
            PermissionError: when the folder or the file may not be read.
            ValueError: when the file is damaged or of another version.
        """
        path = folder / _RECORD
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(
                f"{shown(folder)} is no run, as it has no {_RECORD}: make one with "
                "`neuroinspect inspect --out FOLDER`"
            ) from None
        try:
            record = json.loads(read_text(path))
            _check_version(record.pop("format", None), record)
            names = record["class_names"]
            record["class_names"] = tuple(names) if _are_texts(names) else names
            check_kinds(record, cls)
            _check_numbers(record)
            number_of_slices(record["slices"])
            _check_digest(record)
            return cls(**record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{shown(path)} cannot be read ({shown(error)}): run `neuroinspect inspect` again"
            ) from error


def open_session(
    settings: RunSettings,
    folder: Path,
    *,
    fresh: bool = False,
    progress: bool = True,
    trust: bool = False,
) -> NeuroInspect:
    """The session of a run with its photos loaded; what is kept is not computed again.

    Args:
        settings: of the run.
        folder: of the run.
        fresh: compute again what is kept.
        progress: show progress bars.
        trust: run the Python file that the settings name, and remember its content. Else it
            runs only when it was remembered: the folder may come from someone else.

    Raises:
        RuntimeError: for a Python file that is neither trusted nor remembered.
        ValueError: for a class that the model does not know, before its photos are read.
    """
    watch(settings.model, trusted=trust)
    loaded = load_model(
        settings.model,
        weights=settings.weights,
        device=settings.device,
        image_size=settings.image_size,
        resize=settings.resize,
    )
    session = NeuroInspect(
        loaded,
        class_names=settings.class_names,
        encoder=settings.encoder,
        work=folder / _WORK,
        seed=settings.seed,
        fresh=fresh,
        progress=progress,
    )
    _check_classes(session, settings)
    session.load(
        settings.data,
        train=settings.train,
        test=settings.test,
        held_out=settings.held_out,
        on_error="skip" if settings.skip_unreadable else "raise",
        by_position=settings.by_position,
    )
    data = session.data
    sets = {"": data.inspected}
    sets |= {f" of {role}": getattr(data, role) for role in sorted(data.given)}
    for of_set, part in sets.items():
        for name, reason in part.photos.skipped:
            text = f"{shown(name)}{of_set} is left out, as it cannot be read: {shown(reason)}"
            warnings.warn(text, stacklevel=2)
    return session


def _check_classes(session: NeuroInspect, settings: RunSettings) -> None:
    """Refuse an unknown class while nothing was computed. Without names the photos bring them."""
    names = session.model.class_names
    if names is None or settings.by_position:
        return
    for given in (settings.target, settings.predicted):
        if given is not None:
            class_index(given, names, n_classes_of(session.model, session.head))


@contextmanager
def names_record(folder: Path) -> Iterator[None]:
    """Say that ``run.json`` named what is not there, as no option did."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error} (named in {shown(folder / _RECORD)}, where the places of model and photos "
            "may be changed)"
        ) from error


def check_place_of_report(folder: Path) -> None:
    """Refuse a folder in the report's place before any work.

    Raises:
        IsADirectoryError: when there is one.
    """
    if (folder / REPORT).is_dir():
        raise IsADirectoryError(
            f"{shown(folder / REPORT)} is a folder, where the report is to be written: move it away"
        )


def retrace(session: NeuroInspect, settings: RunSettings) -> None:
    """Explain, visualize and describe as the settings say."""
    slices = number_of_slices(settings.slices)
    found = session.explain(settings.target, settings.predicted, slices=slices)
    neurons = found.neurons(settings.n_neurons)
    if not neurons:
        return
    session.visualize(neurons, **_rendering(session, settings))
    if (n := len(session.data.inspected.features)) >= LEAST_PHOTOS:
        session.describe(neurons)
    else:
        warnings.warn(
            f"{n} photos are too few for words, which need at least {LEAST_PHOTOS}", stacklevel=2
        )


def number_of_slices(text: str | None) -> NSlices | None:
    """What ``--slices`` means.

    Raises:
        ValueError: when it is neither ``"off"``, ``"auto"`` nor a whole number from 1.
    """
    if text is None or text == "off":
        return None
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--slices={text!r}, expected 'off', 'auto' or a whole number from 1")
    return int(text)


def look_before(session: NeuroInspect, settings: RunSettings, clock: Clock | None) -> Preflight:
    """The preflight of what :func:`retrace` will do."""
    return session.preflight(
        settings.target,
        settings.predicted,
        n_neurons=settings.n_neurons,
        clock=clock,
        **_rendering(session, settings),
    )


def _rendering(session: NeuroInspect, settings: RunSettings) -> dict[str, Any]:
    guide = settings.guide
    if guide is None:
        # OpenCLIP was trained on images and texts. Label space knows ImageNet's classes, which
        # are seldom the user's, and a guided step takes more than twice the time.
        guide = session.encoder is not None and session.encoder.name.startswith("openclip")
    size = settings.size or session.model.image_size
    return {"n_steps": settings.n_steps, "guided": guide, "size": size}


def save_run(session: NeuroInspect, settings: RunSettings, folder: Path) -> Path:
    """Write the report of an inspection and its ``run.json``, as one as far as files can be."""
    settings = replace(settings, inspection=mark_of(session, asdict(settings)))
    with writing_together(folder):
        # The record last: it takes a moment, the report takes long.
        path = write_report(session, settings, folder)
        settings.save(folder)
    return path


@contextmanager
def changing_run(settings: RunSettings, folder: Path) -> Iterator[None]:
    """Be the only one that writes the run's files, which are still those of its settings.

    Raises:
        OSError: when the folder cannot be written to.
        RuntimeError: when another command has made another inspection of it meanwhile.
    """
    with writing_together(folder):
        if RunSettings.load(folder) != settings:
            raise RuntimeError(
                f"another command inspected {folder} anew meanwhile: run this one again, for "
                "what is there now"
            )
        yield


def check_one_inspection(settings: RunSettings, folder: Path) -> None:
    """Refuse a run whose report is of another inspection than its settings.

    Raises:
        RuntimeError: says what to do.
    """
    if is_of_another(folder / REPORT, settings.inspection):
        again = shlex.join(["neuroinspect", "report", "--run", str(folder)])
        raise RuntimeError(
            f"{folder / REPORT} is of another inspection than {_RECORD} beside it, as a command "
            f"was stopped between the two or one was copied here: run `{again}` for the report "
            f"of {_RECORD}, or `neuroinspect inspect` again"
        )


def warn_of_two_inspections(settings: RunSettings, folder: Path) -> None:
    """Say that the report that is now written takes the place of one of another inspection.

    Warns:
        UserWarning: says what to do if the other one was wanted.
    """
    if is_of_another(folder / REPORT, settings.inspection):
        warnings.warn(
            f"{folder / REPORT} was of another inspection than {_RECORD} beside it: the report of "
            f"{_RECORD} takes its place; for the other one run its `neuroinspect inspect` again",
            stacklevel=2,
        )


def write_report(
    session: NeuroInspect, settings: RunSettings, run: Path, out: Path | None = None
) -> Path:
    """The report of a run, with the command that goes on from it.

    The command names no folder above the run, as reports are given to others; the page puts
    in where it lies when it is opened.
    """
    name = run.resolve().name
    command = edit_command(name, f"~/Downloads/{SELECTION}")
    path = out or run / REPORT
    return session.report(path, run=name, command=command, inspection=settings.inspection)


def edit_command(run: str, selection: str) -> tuple[str, ...]:
    """The words of the command that edits a run by a selection."""
    return ("neuroinspect", "edit", "--run", run, "--selection", selection)


def next_command(run: Path) -> str:
    """The same with this run's real place, ready for a shell."""
    downloads = Path(os.path.expanduser("~/Downloads"))
    where = downloads if downloads.is_dir() else run.absolute()
    words = edit_command(str(run.absolute()), str(where / SELECTION))
    return " ".join(map(_as_typed, words))


def _as_typed(word: str) -> str:
    """A word for a shell; control characters as bash and zsh read them, so it can be pasted."""
    escaped = shown(word)
    if escaped == word:
        return shlex.quote(word)
    # A backslash of the word's own is doubled first, then what steers a terminal is escaped.
    return "$'" + shown(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def save_edit(session: NeuroInspect, folder: Path, picked: Selection | None = None) -> Path:
    """Keep the session's last edit in the run, with what it was made from and why.

    Args:
        session: whose edit it is.
        folder: of the run.
        picked: the choice that it was made by, whose notes the report shows.
    """
    edit = session.last_edit
    assert edit is not None
    remarks = {**edit.remarks, _MADE_FROM: session.edit_identity}
    if picked is not None:
        remarks = with_notes(remarks | {"note": picked.note}, picked.notes)
    session.last_edit = replace(edit, remarks=remarks)
    return session.last_edit.save(folder / _EDIT)


def restore_edit(session: NeuroInspect, folder: Path) -> bool:
    """Take up the edit that the run has, if it has one of these weights and photos.

    Warns:
        UserWarning: when it is of others, whose photos may have taught it, or damaged.
    """
    path = folder / _EDIT
    if not os.path.lexists(path):
        return False
    try:
        edit = HeadEdit.load(path)
        notes_of(edit)
        reason = "it was made from other photos, weights or settings than the run has now"
    except (OSError, ValueError) as error:
        edit, reason = None, f"it cannot be read ({error})"
    if edit is None or not _is_of(session, edit):
        warnings.warn(
            f"{shown(path)} is left out of the report, as {shown(reason)}: run `neuroinspect "
            "edit` again",
            stacklevel=2,
        )
        return False
    session.last_edit = edit
    return True


def _is_of(session: NeuroInspect, edit: HeadEdit) -> bool:
    is_of_head = head_fingerprint(edit.original) == head_fingerprint(session.head)
    return is_of_head and edit.remarks.get(_MADE_FROM) == session.edit_identity


def _check_version(number: Any, record: dict[str, Any]) -> None:
    """What is of another version is not guessed at: other settings are another inspection."""
    wanted = {field.name for field in fields(RunSettings)}
    if type(number) is int and number > _FORMAT:
        raise ValueError(
            f"it has format {number}, and this version reads {_FORMAT}: update captum_neuroinspect"
        )
    if type(number) is not int or number != _FORMAT:
        raise ValueError(f"`format` is {number!r}, expected {_FORMAT}")
    if set(record) != wanted:
        names = ", ".join(f"`{shown(name)}`" for name in sorted(wanted ^ set(record)))
        raise ValueError(f"it is of another version, which differs in {names}")


def _are_texts(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _check_numbers(record: dict[str, Any]) -> None:
    for name, value in record.items():
        # No option of `inspect` goes further, and loops of such lengths fail in odd ways.
        if isinstance(value, (int, float)) and not 0 <= value < _TOO_MANY:
            raise ValueError(f"`{name}` is {value}, expected 0 or more")


def _check_digest(record: dict[str, Any]) -> None:
    mark = record["inspection"]
    if mark and not mark.startswith(settings_digest(record)):
        raise ValueError(
            "its settings are not those that its `inspection` names: it is damaged, or was "
            "edited by hand"
        )
