"""The results of an edit as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect.edit._summary import classes_to_show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_neuroinspect.edit._result import HeadEdit

_BEFORE, _AFTER, _LOSS = "#9aa5b1", "#1f77b4", "#d1495b"


def edit_figure(edit: HeadEdit) -> Figure:
    """Accuracy by class before and after, beside the course of the training or the candidates."""
    from matplotlib.figure import Figure  # an import that takes long, for those who draw

    classes = classes_to_show(edit)
    figure = Figure((10, max(3.0, 0.3 * len(classes) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_classes(left, edit, classes)
    if edit.candidates:
        _draw_candidates(right, edit)
    else:
        _draw_history(right, edit)
    return figure


def _draw_classes(axes: Axes, edit: HeadEdit, classes: list[int]) -> None:
    places = range(len(classes))
    for offset, evaluation, colour, label in (
        (-0.2, edit.before, _BEFORE, "before"),
        (0.2, edit.after, _AFTER, "after"),
    ):
        values = [evaluation.class_accuracy[index] for index in classes]
        axes.barh([p + offset for p in places], values, 0.4, color=colour, label=label)
    axes.set_yticks(list(places), [edit.class_name(index) for index in classes])
    for index, tick in zip(classes, axes.get_yticklabels(), strict=True):
        tick.set_fontweight("bold" if index in edit.targets else "normal")
        tick.set_parse_math(False)  # a name with two dollars is no formula
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy", title="classes (bold: target)")
    # Outside, for inside there are bars anywhere.
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _draw_history(axes: Axes, edit: HeadEdit) -> None:
    axes.set(title="training", xlabel="epoch")
    if not edit.history:
        axes.text(0.5, 0.5, "no epochs", ha="center", transform=axes.transAxes)
        return
    epochs = [record.epoch for record in edit.history]
    axes.plot(epochs, [r.accuracy for r in edit.history], color=_AFTER, label="accuracy")
    targets = [r.target_accuracy for r in edit.history]
    axes.plot(epochs, targets, color=_AFTER, linestyle="--", label="target's accuracy")
    axes.axvline(edit.best_epoch, color=_BEFORE, linestyle=":", label="kept")
    axes.set(ylim=(0, 1.02), ylabel="on the validation set")
    axes.legend(loc="lower right")
    losses = axes.twinx()
    losses.plot(epochs, [r.loss for r in edit.history], color=_LOSS)
    losses.set_ylabel("loss", color=_LOSS)


def _draw_candidates(axes: Axes, edit: HeadEdit) -> None:
    names = [f"{one.name}{' (chosen)' if one.is_chosen else ''}" for one in edit.candidates]
    for name, label, style in (("mean", "mean over classes", "-"), ("target", "target", "--")):
        values = [getattr(one, f"held_out_{name}") for one in edit.candidates]
        axes.plot(range(len(values)), values, f"o{style}", color=_AFTER, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set(title="candidates", ylim=(0, 1.02), ylabel="accuracy on samples kept from the fit")
    axes.legend(loc="lower right")
