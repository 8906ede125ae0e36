"""From the findings of an inspection to what its report shows."""

from __future__ import annotations

from collections.abc import Iterator

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.shares import FEW, share_with_interval
from captum_neuroinspect._core.version import __version__
from captum_neuroinspect._core.without_paths import source_without_paths, without_paths
from captum_neuroinspect.analysis.class_errors import confusions, counted_pairs
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.inspection.data.parts import InspectionData
from captum_neuroinspect.inspection.preflight_checks.preflight import MistakeCount
from captum_neuroinspect.inspection.report.fill_cards import neuron_cards
from captum_neuroinspect.inspection.report.fill_cue import cue_card
from captum_neuroinspect.inspection.report.fill_edit import edit_result
from captum_neuroinspect.inspection.report.fill_groups import about_groups, group_results
from captum_neuroinspect.inspection.report.fill_mistakes import mistake_photos, ranked_neurons
from captum_neuroinspect.inspection.report.fill_slices import slices_of
from captum_neuroinspect.inspection.report.fill_words import neuron_words, words_summary
from captum_neuroinspect.inspection.report.findings import Findings
from captum_neuroinspect.inspection.report.number_formats import share
from captum_neuroinspect.inspection.report.report_data import (
    ClassMapping,
    ClassResult,
    ConfusedPair,
    ReportData,
)

_MAX_MISTAKES = 50
_N_RANKED = 20  # lines of the ranking


def report_data(
    findings: Findings, run: str, command: tuple[str, ...] = (), inspection: str = ""
) -> ReportData:
    """What a report shows of these findings.

    Args:
        findings: of an inspection.
        run: its name, which a downloaded selection carries.
        command: as in :class:`ReportData`.
        inspection: as in :class:`ReportData`.
    """
    found, part = findings.explanation, findings.data.inspected
    names = _names(part.features)
    cards = neuron_cards(findings)
    with_card = {card.neuron for card in cards}
    wrong = part.features.mistakes(found.target, found.predicted)
    groups = tuple(group_results(part.features, found.target))
    descriptions = findings.descriptions
    blamed = [neuron for neuron in found.neurons() if neuron in with_card]
    summary = words_summary(descriptions, blamed)
    verdict = _verdict(part.features, found, findings.preflight.mistakes) + about_groups(groups)
    if any(one.is_certain for one in descriptions or () if one.unit in blamed):
        verdict += f" {summary}"
    return ReportData(
        title=f"Inspection of {names[found.target]}",
        verdict=verdict,
        run=run,
        target=found.target,
        classes=tuple(_classes(part.features, names)),
        facts=tuple(_facts(findings)),
        mappings=tuple(_mappings(findings.data)),
        groups=groups,
        confusions=tuple(_confusions(part.features)),
        mistakes=tuple(mistake_photos(part, wrong, found.mistakes, most=_MAX_MISTAKES)),
        slices=slices_of(part, found, with_card),
        slices_reason="" if found.slices is None else found.slices.reason,
        ranking=tuple(ranked_neurons(found, with_card, _N_RANKED)),
        n_explained=len(found.mistakes),
        neurons=cards,
        words=neuron_words(descriptions),
        words_summary=summary,
        words_rest_on="" if descriptions is None else without_paths(descriptions.rests_on),
        cue=cue_card(findings),
        edit=edit_result(findings.comparison, findings.data),
        cautions=tuple(map(without_paths, findings.preflight.warnings)),
        command=command,
        digest=findings.digest,
        inspection=inspection,
    )


def _names(features: FeatureSet) -> list[str]:
    return [features.class_name(i) for i in range(features.n_classes)]


def _classes(features: FeatureSet, names: list[str]) -> Iterator[ClassResult]:
    table = features.confusion()
    counts = zip(names, table.sum(axis=1).tolist(), table.diagonal().tolist(), strict=True)
    for name, n_photos, n_correct in counts:
        yield ClassResult(name, n_photos, n_correct)


def _mappings(data: InspectionData) -> Iterator[ClassMapping]:
    """Of the sets whose class names, or their numbers, are not the model's."""
    parts = {
        "photos": data.inspected,
        "train photos": data.train,
        "test photos": data.test,
    }
    for what, part in parts.items():
        match = part.photos.match
        if match.given is None or match.is_identity:
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


def _class_order(findings: Findings) -> str | None:
    """How the photos' classes became the model's, where names did not decide."""
    match = findings.data.inspected.photos.match
    if match.by_position:
        return "taken by position, as asked: the photos' names are not the model's"
    if match.given is None:
        return "the numbers of the photos' labels, which have no names"
    if not findings.is_named:
        return "the order of the photos' classes, by position: the model has no names for them"
    return None


def _confusions(features: FeatureSet) -> Iterator[ConfusedPair]:
    for label, predicted, n_photos in counted_pairs(features.confusion()):
        if label != predicted:
            yield ConfusedPair(label, predicted, n_photos)


def _verdict(features: FeatureSet, found: Explanation, count: MistakeCount | None) -> str:
    name = features.class_name
    of_class = features.of_class(found.target)
    right, n_class = int((features.is_correct & of_class).sum()), int(of_class.sum())
    n_wrong = int(features.is_mistake(found.target).sum())
    (most,) = confusions(features, 1, target=found.target)
    verb = "is" if most.n_samples == 1 else "are"
    words = (
        f"\u201c{name(found.target)}\u201d is recognised on {_counted(right, n_class)}; of all "
        f"photos {share(features.accuracy(), len(features))} are right. {most.n_samples} of its "
        f"{n_wrong} mistakes {verb} taken for \u201c{name(most.predicted)}\u201d."
    )
    if count is not None:
        words += f" {explained_in_words(count)}"
    first = next(iter(found.rows()), None)
    if first is None:
        return words
    kind = {"insufficient": "not active enough", "excessive": "too active"}
    how = kind.get(
        str(first["kind"]), "too active in some mistakes and not active enough in others"
    )
    return f"{words} The first neuron of the ranking, {first['neuron']}, is {how}."


def _counted(n_right: int, n: int) -> str:
    return f"{n_right} of {n} photos" if n >= FEW else share_with_interval(n_right, n)


def explained_in_words(count: MistakeCount) -> str:
    """How many of the mistakes are explained, and what the others are for."""
    if count.n_explained == count.n_mistakes:
        return "All its mistakes are explained."
    n, others = count.n_explained, count.of_other_roles
    words = f"{n} of its mistakes {'is' if n == 1 else 'are'} explained"
    if not others:
        return f"{words}."
    verb = "is" if others.startswith("1 ") else "are"
    return f"{words}; of the others, {others.replace(' for', f' {verb} for', 1)}."


def _facts(findings: Findings) -> Iterator[tuple[str, str]]:
    data, view, found = findings.data, findings.view, findings.explanation
    yield "model", ", ".join(source_without_paths(findings.spec, findings.weights))
    seen = f"{view.said} ({view.interpolation})"
    yield "photos", f"{len(data.inspected.features):,}, {seen}"
    yield "roles", data.roles()
    if n_left_out := len(found.mistakes) - found.ranking.n_mistakes:
        yield "without", f"{n_left_out:,} mistakes whose change did not reach their class"
    order = _class_order(findings)
    if order is not None:
        yield "class order", without_paths(order)
    yield "encoder", "none" if findings.encoder is None else without_paths(findings.encoder)
    yield "seed", str(findings.seed)
    yield "made with", f"captum-neuroinspect {__version__}"
