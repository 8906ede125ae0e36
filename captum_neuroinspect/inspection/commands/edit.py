"""``neuroinspect edit``: from a selection of neurons to an edited decision layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, names_option, safely

if TYPE_CHECKING:
    from captum_neuroinspect.analysis.comparison import Comparison
    from captum_neuroinspect.edit import HeadEdit
    from captum_neuroinspect.inspection.commands._run_folder import RunSettings
    from captum_neuroinspect.inspection.report.selection import Selection
    from captum_neuroinspect.inspection.session.session import NeuroInspect
    from captum_neuroinspect.models.saving import SavedModel


def edit(
    run: options.Run,
    selection: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FILE",
            help="selection.json from the report. Default: the first of the ranking.",
        ),
    ] = None,
    slice: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Instead of a selection: the neurons behind this slice of the report, or with "
            "--method remove_cue its cue.",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="'mend', 'equation8' (the paper's constraint), or 'remove_cue', which trains on "
            "no deployment photo. Default: mend, or remove_cue where the cue is ticked."
        ),
    ] = None,
    save_model: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FILE",
            help="Write the whole model as a checkpoint (.safetensors, .pth or .pt): edited if the "
            "edit is kept, else as it was.",
        ),
    ] = None,
    keep_anyway: Annotated[
        bool, typer.Option("--keep-anyway", help="Keep the edit whatever its verdict is.")
    ] = False,
    trust: options.Trust = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Mend the decision layer of a run, and say whether to keep that.

    Test photos judge the edit: keep, do not keep, or cannot tell. Unless it is to be kept, the
    original head stays in use, and --save-model writes the model as it was. Writes
    RUN/edit.safetensors, which `HeadEdit.load` reads, with both heads and the verdict, and adds
    the edit to RUN/report.html.

    A run whose model is a Python file RUNS that file, if you ran it before or give --trust.
    """
    with safely(debug):
        if save_model is not None:
            from captum_neuroinspect.models.saving import check_save_path

            check_save_path(save_model, "--save-model")
        _check_method(method)
        if slice is not None and selection is not None:
            raise ValueError("--slice and --selection are both given, expected one of them")
        from captum_neuroinspect.inspection.commands import _run_folder as runs
        from captum_neuroinspect.inspection.report.selection import Selection

        settings = runs.RunSettings.load(run)
        runs.check_one_inspection(settings, run)
        runs.check_place_of_report(run)
        picked = None
        if selection is not None:
            with names_option("--selection", selection):
                picked = Selection.load(selection)
        with runs.names_record(run):
            session = runs.open_session(settings, run, progress=not quiet, trust=trust)
        runs.retrace(session, settings)
        _check(picked, session)
        _edit(session, picked, slice, method, keep_anyway)
        saved = ""
        with runs.changing_run(settings, run):
            kept = runs.save_edit(session, run, picked)
            if picked is not None:
                picked.save(run / runs.SELECTION)
            if save_model is not None:
                saved = f"\nModel: {_save_model(session, settings, save_model)}"
            found = session.compare()
            path = runs.write_report(session, settings, run)
        record = _record(found, kept, path)
        which = _which_head(found.edit, save_model)
        text = f"{found}\n\n{which}\nEdit: {kept}{saved}\nOpen {path}"
        finish(record, text, as_json=as_json)


def _check(picked: Selection | None, session: NeuroInspect) -> None:
    if picked is None:
        return

    n_features, n_classes = session.head.in_features, session.head.out_features
    if picked.target >= n_classes:
        raise ValueError(
            f"the selection is for class {picked.target}, the run's model has {n_classes} "
            "classes: it comes from another run"
        )
    wrong = [neuron for neuron in picked.neurons if neuron >= n_features]
    if wrong:
        raise ValueError(
            f"the selection has neuron {wrong[0]}, the run's model has {n_features}: "
            "it comes from another run"
        )
    if not (picked.neurons or picked.cue):
        raise ValueError("the selection has no neurons, and no cue: tick some in the report")
    if picked.neurons and picked.cue:
        raise ValueError(
            "the selection has both the cue and neurons: an edit removes one of them, tick either"
        )
    assert session.explanation is not None
    if picked.target != session.explanation.target:
        name = session.data.inspected.features.class_name
        raise ValueError(
            f"the selection is for {name(picked.target)!r}, the run inspects "
            f"{name(session.explanation.target)!r}: it comes from another run, or "
            f"`neuroinspect inspect --class {picked.target}` has to be run again"
        )
    picked.check_report(session.report_identity)


def _check_method(method: str | None) -> None:
    from captum_neuroinspect.inspection.session.fitting import METHODS

    if method is not None and method not in METHODS:
        raise ValueError(f"--method={method!r}, expected one of {', '.join(METHODS)}")


def _edit(
    session: NeuroInspect,
    picked: Selection | None,
    slice: int | None,
    method: str | None,
    keep_anyway: bool,
) -> None:
    target = None if picked is None else picked.target
    neurons = None if picked is None else picked.neurons or None
    removes = picked is not None and picked.cue
    if removes and method not in (None, "remove_cue"):
        raise ValueError(f"--method={method!r}, but the selection asks to remove the cue")
    method = "remove_cue" if removes else method or "mend"
    session.edit(
        target,
        neurons,
        method=method,  # type: ignore[arg-type]
        slice=slice,
        keep_anyway=keep_anyway,
    )


def _save_model(session: NeuroInspect, settings: RunSettings, path: Path) -> SavedModel:
    from captum_neuroinspect.inspection.session.arguments import example_of
    from captum_neuroinspect.models.saving import original_checkpoint, save_model

    assert session.last_edit is not None
    model, like = session.model, original_checkpoint(settings.model, settings.weights)
    example = model.preprocess(example_of(model))
    edit = session.last_edit.as_decided()
    with edit.applied(model.model, layer=session.head, example=example):
        return save_model(model.model, path, like=like, example=example)


def _which_head(edit: HeadEdit, saved: Path | None) -> str:
    """One line: which head is in use, and in the file if there is one."""
    where = "The run" if saved is None else str(saved)
    if edit.is_original:
        return f"{where} has the ORIGINAL head: the fit gave no other."
    if not edit.is_kept:
        return (
            f"{where} has the ORIGINAL head, as the verdict is {edit.verdict.decision!r} "
            "(--keep-anyway takes the edited one)."
        )
    if edit.verdict.decision == "keep":
        return f"{where} has the edited head."
    return f"{where} has the edited head, although the verdict is {edit.verdict.decision!r}."


def _record(found: Comparison, kept: Path, report: Path) -> dict[str, Any]:
    before, after = found.edit.before, found.edit.after
    targets = {
        found.edit.class_name(i): {
            "before": _number(before.class_accuracy[i]),
            "after": _number(after.class_accuracy[i]),
            "neurons": list(neurons),
        }
        for i, neurons in found.edit.targets.items()
    }
    return {
        "report": str(report),
        "edit": str(kept),
        "head": "edited" if found.edit.is_kept else "original",
        "verdict": found.edit.verdict.as_dict(),
        "accuracy": {"before": before.accuracy, "after": after.accuracy},
        "classes": targets,
        "n_judged": len(found.before),
        "n_corrected": len(found.rows("corrected")),
        "n_broken": len(found.rows("broken")),
    }


def _number(value: float) -> float | None:
    return None if value != value else value
