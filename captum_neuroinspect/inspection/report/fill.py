"""From a session to what its report shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_neuroinspect._core.blocks import by_blocks
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.shares import FEW, share_with_interval
from captum_neuroinspect._core.version import __version__
from captum_neuroinspect.analysis.class_errors import counted_pairs
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.inspection.preflight_checks.preflight import MistakeCount
from captum_neuroinspect.inspection.report.data import (
    BlamedNeuron,
    ClassMapping,
    ClassResult,
    Confusion,
    Mistake,
    ReportData,
)
from captum_neuroinspect.inspection.report.fill_cards import neuron_cards
from captum_neuroinspect.inspection.report.fill_edit import edit_result
from captum_neuroinspect.inspection.report.fill_groups import about_groups, group_results
from captum_neuroinspect.inspection.report.formats import share
from captum_neuroinspect.inspection.report.public import public, public_source
from captum_neuroinspect.inspection.session.data_parts import Part
from captum_neuroinspect.inspection.session.identity import report_identity

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.session.session import NeuroInspect

_MAX_MISTAKES = 50
_N_RANKED = 20  # lines of the ranking
_KINDS = ("insufficient", "excessive", "both")


def report_data(
    session: NeuroInspect, run: str, command: tuple[str, ...] = (), inspection: str = ""
) -> ReportData:
    """All that the session knows by now; pictures that take long are kept on the way."""
    found = session.explanation
    assert found is not None
    part = session.material.inspected
    names = _names(part.features)
    cards = neuron_cards(session, found)
    groups = tuple(group_results(part.features, found.target))
    # Without a clock: the same data give the same page.
    looked = session.preflight(found.target, found.predicted, clock=None)
    return ReportData(
        title=f"Inspection of {names[found.target]}",
        verdict=_verdict(session, found, looked.mistakes) + about_groups(groups),
        run=run,
        target=found.target,
        classes=tuple(_classes(part.features, names)),
        facts=tuple(_facts(session)),
        mappings=tuple(_mappings(session)),
        groups=groups,
        confusions=tuple(_confusions(part.features)),
        mistakes=tuple(_mistakes(part, found)),
        ranking=tuple(_ranking(found, {card.neuron for card in cards})),
        n_explained=len(found.mistakes),
        neurons=cards,
        edit=edit_result(session),
        cautions=tuple(map(public, looked.warnings)),
        command=command,
        digest=report_identity(session),
        inspection=inspection,
    )


def _names(features: FeatureSet) -> list[str]:
    return [features.class_name(i) for i in range(features.n_classes)]


def _classes(features: FeatureSet, names: list[str]) -> Iterator[ClassResult]:
    table = features.confusion()
    counts = zip(names, table.sum(axis=1).tolist(), table.diagonal().tolist(), strict=True)
    for name, n_photos, n_correct in counts:
        yield ClassResult(name, n_photos, n_correct)


def _mappings(session: NeuroInspect) -> Iterator[ClassMapping]:
    """Of the sets whose class names, or their numbers, are not the model's."""
    material = session.material
    parts = {
        "photos": material.inspected,
        "training photos": material.train,
        "test photos": material.test,
    }
    for what, part in parts.items():
        match = None if part is None else part.photos.match
        if part is None or match is None or match.given is None or match.is_identity:
            continue
        counts = part.features.labels.bincount(minlength=part.features.n_classes).tolist()
        rows = [
            (name, index, counts[index])
            for name, index in zip(match.given, match.to_class or (), strict=True)
            if index >= 0
        ]
        names = match.names or ()
        is_plain = all(name == names[index] for name, index, _ in rows)
        yield ClassMapping(what, tuple(rows), match.by_position, is_plain)


def _class_order(session: NeuroInspect) -> str | None:
    """How the photos' classes became the model's, where names did not decide."""
    match = session.material.inspected.photos.match
    if match.by_position:
        return "taken by position, as asked: the photos' names are not the model's"
    if match.given is None:
        return "the numbers of the photos' labels, which have no names"
    if session.model.class_names is None:
        return "the order of the photos' classes, by position: the model has no names for them"
    return None


def _confusions(features: FeatureSet) -> Iterator[Confusion]:
    for label, predicted, n_photos in counted_pairs(features.confusion()):
        if label != predicted:
            yield Confusion(label, predicted, n_photos)


def _mistakes(part: Part, found: Explanation) -> Iterator[Mistake]:
    """The explained ones first, the most certain first; then those that were held out."""
    wrong = part.features.mistakes(found.target, found.predicted)
    predictions = wrong.predictions
    # Of two classes alone: the probabilities of all would be as large as the logits.
    columns = torch.stack([predictions, torch.full_like(predictions, found.target)], 1)
    shares = by_blocks(
        lambda logits, classes: logits.softmax(-1).gather(1, classes), wrong.logits, columns
    )
    certain = shares[:, 0]
    explained = torch.isin(wrong.indices, found.mistakes.indices)
    order = (explained + certain).argsort(descending=True, stable=True)[:_MAX_MISTAKES]
    for row in order.tolist():
        index = int(wrong.indices[row])
        yield Mistake(
            picture=part.photos.image(index),
            file=part.photos.name(index),
            label=found.target,
            predicted=int(predictions[row]),
            probability=_share(certain[row]),
            label_probability=_share(shares[row, 1]),
            group=None if wrong.groups is None else wrong.group_name(int(wrong.groups[row])),
        )


def _share(value: Tensor) -> float:
    return min(max(float(value), 0.0), 1.0)


def _ranking(found: Explanation, with_card: set[int]) -> Iterator[BlamedNeuron]:
    """The first lines, and those of neurons that have a card."""
    n_mistakes = found.ranking.n_mistakes
    for place, row in enumerate(found.rows()):
        if place < _N_RANKED or row["neuron"] in with_card:
            share = min(float(row["precision"]), 1.0)  # "both" adds two shares
            yield BlamedNeuron(
                neuron=int(row["neuron"]),
                kind=str(row["kind"]),  # type: ignore[arg-type]
                rank=int(row["rank"]),
                score=float(row["magnitude"]),
                precision=share,
                n_mistakes=round(share * n_mistakes),
            )


def _verdict(session: NeuroInspect, found: Explanation, count: MistakeCount | None) -> str:
    features = session.material.inspected.features
    name = features.class_name
    of_class = features.of_class(found.target)
    right, n_class = int((features.is_correct & of_class).sum()), int(of_class.sum())
    n_wrong = int(features.is_mistake(found.target).sum())
    (most,) = session.confusions(1, target=found.target)
    words = (
        f"\u201c{name(found.target)}\u201d is recognised on {_counted(right, n_class)}; of all "
        f"photos {share(features.accuracy(), len(features))} are right. {most.n_samples} of its "
        f"{n_wrong} mistakes are taken for \u201c{name(most.predicted)}\u201d."
    )
    if count is not None:
        words += f" {_explained(count)}"
    first = next(iter(found.rows()), None)
    if first is None:
        return words
    kind = {"insufficient": "too quiet", "excessive": "active where it should not be"}
    how = kind.get(str(first["kind"]), "off in both directions")
    return f"{words} The neuron blamed most, {first['neuron']}, is {how}."


def _counted(n_right: int, n: int) -> str:
    return f"{n_right} of {n} photos" if n >= FEW else share_with_interval(n_right, n)


def _explained(count: MistakeCount) -> str:
    """How many of the mistakes are explained, and what the others are for."""
    if count.n_explained == count.n_mistakes:
        return "All its mistakes are explained."
    n, held = count.n_explained, count.n_held
    words = f"{n} of its mistakes {'is' if n == 1 else 'are'} explained"
    words += f", {held} held out to {count.purpose} an edit" if held else ""
    return f"{words}, {count.n_training} stand for training." if count.n_training else f"{words}."


def _facts(session: NeuroInspect) -> Iterator[tuple[str, str]]:
    material, model = session.material, session.model
    yield "model", ", ".join(public_source(model.spec, model.weights))
    seen = f"{model.view.said} ({model.view.interpolation})"
    yield "photos", f"{len(material.inspected.features):,}, {seen}"
    yield "roles", material.roles()
    found = session.explanation
    if found is not None and (n_left_out := len(found.mistakes) - found.ranking.n_mistakes):
        yield "without", f"{n_left_out:,} mistakes whose change did not reach their class"
    order = _class_order(session)
    if order is not None:
        yield "class order", public(order)
    yield "encoder", "none" if session.encoder is None else public(session.encoder.name)
    yield "seed", str(session.seed)
    yield "made with", f"captum-neuroinspect {__version__}"
