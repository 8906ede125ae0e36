"""What a session's report shows, against the session's own results."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from markupsafe import escape
from session_examples import NAMES, QUICK, SIZE, CountedNet, loaded, photos, session
from torch import Tensor
from torch.utils.data import Dataset

from captum_neuroinspect.describe import Descriptions, UnitDescription
from captum_neuroinspect.edit import compare_heads
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.inspection.report._data_checks import check_data
from captum_neuroinspect.inspection.report._page_values import page_values_of
from captum_neuroinspect.inspection.report.fill import report_data
from captum_neuroinspect.inspection.report.fill_cards import overlay
from captum_neuroinspect.inspection.report.report_data import GroupResult, ReportData


def _explained() -> NeuroInspect:
    made = loaded()
    made.explain()
    return made


def _filled(made: NeuroInspect) -> ReportData:
    data = report_data(made.findings(), "run")
    check_data(data)
    return data


def test_accuracies_and_confusions_are_counted() -> None:
    made = _explained()
    features = made.data.inspected.features
    data = _filled(made)

    for index, result in enumerate(data.classes):
        rows = features.labels == index
        assert result.name == NAMES[index]
        assert result.n_photos == int(rows.sum())
        assert result.n_correct == int((features.predictions[rows] == index).sum())
    n_confused = sum(pair.n_photos for pair in data.confusions)
    assert n_confused == len(features.mistakes())
    assert all(pair.label != pair.predicted for pair in data.confusions)


def test_the_cue_is_the_direction_of_the_explained_mistakes() -> None:
    made = _explained()
    card, cue, part = _filled(made).cue, made.cue(), made.data.inspected
    assert card is not None
    assert card.n_mistakes == len(made.data.deployment.features.mistakes(made.explanation.target))
    positions = cue.positions(part.features.features)
    most, least = ([photo.activation for photo in end] for end in (card.most, card.least))
    assert most == pytest.approx(positions.sort(descending=True).values[:8].tolist())
    assert least == pytest.approx(positions.sort().values[:8].tolist(), abs=1e-6)
    raised = made.head.weight.detach() @ cue.shift
    target = made.explanation.target
    others = torch.cat([raised[:target], raised[target + 1 :]]).mean()
    assert card.raised == pytest.approx(float(raised[target] - others), abs=1e-5)


def test_probabilities_in_blocks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _explained()
    found = made.explanation
    assert found is not None
    wrong = made.data.inspected.features.mistakes(found.target)
    shares = wrong.logits.softmax(1)
    expected = {(float(row.max()), float(row[found.target])) for row in shares}
    monkeypatch.setattr("captum_neuroinspect._core.blocks._N_NUMBERS", 4)
    data = _filled(made)
    assert {(m.probability, m.label_probability) for m in data.mistakes} == expected


def test_all_illusions_are_dimmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a neuron, two hundred neurons would take two hundred times the room."""
    made = _explained()
    illusions = made.visualize([0, 1, 2], **QUICK)
    calls = []
    masked = type(illusions).masked

    def counted(one: object) -> object:
        calls.append(one)
        return masked(one)  # type: ignore[arg-type]

    expected = illusions.masked()
    findings = made.findings()
    monkeypatch.setattr(type(illusions), "masked", counted)
    cards = {card.neuron: card for card in report_data(findings, "run").neurons}
    assert len(calls) == 1
    for i, neuron in enumerate(illusions.neurons):
        pictures = {p.class_index: p for p in cards[neuron].illusions}
        shown = pictures[illusions.classes[i]]  # type: ignore[index]
        assert torch.equal(shown.picture, illusions.images[i])  # type: ignore[arg-type]
        assert shown.masked is None or torch.equal(shown.masked, expected[i])  # type: ignore[arg-type]


def test_mistakes_are_the_classes_own_with_the_explained_ones_first() -> None:
    made = _explained()
    found, part = made.explanation, made.data.inspected
    assert found is not None
    data = _filled(made)

    wrong = part.features.mistakes(found.target)
    assert len(data.mistakes) == len(wrong)
    assert {m.file for m in data.mistakes} == set(part.names(wrong))
    n_explained = len(found.mistakes)
    assert data.n_explained == n_explained
    assert {m.file for m in data.mistakes[:n_explained]} == set(part.names(found.mistakes))
    for kept in (data.mistakes[:n_explained], data.mistakes[n_explained:]):
        certain = [m.probability for m in kept]
        assert certain == sorted(certain, reverse=True)
    first = data.mistakes[0]
    row = part.names(part.features).index(first.file)
    shares = part.features.logits[row].softmax(0)
    assert first.probability == pytest.approx(float(shares[first.predicted]))
    assert first.label_probability == pytest.approx(float(shares[found.target]))
    assert torch.equal(first.picture, part.photos.image(row))


def test_ranking_has_the_order_of_the_explanation() -> None:
    made = _explained()
    assert made.explanation is not None
    data = _filled(made)

    rows = made.explanation.rows()
    assert [line.neuron for line in data.ranking] == [row["neuron"] for row in rows]
    assert [line.score for line in data.ranking] == [row["magnitude"] for row in rows]
    assert all(0 <= line.n_mistakes <= len(made.explanation.mistakes) for line in data.ranking)
    assert [line.importance for line in data.ranking] == [row["importance"] for row in rows]


def test_cards_show_what_was_visualized_and_described() -> None:
    made = _explained()
    assert made.explanation is not None
    neurons = made.explanation.neurons(2)
    illusions = made.visualize(neurons, **QUICK)
    made.descriptions = Descriptions([UnitDescription(neurons[0], ("red",), (0.5,), n_images=3)])
    data = _filled(made)

    assert [card.neuron for card in data.neurons] == list(neurons)
    first = data.neurons[0]
    assert [picture.class_index for picture in first.illusions] == list(illusions.classes or ())[:2]
    assert torch.equal(first.illusions[1].picture, illusions.images[1])
    assert torch.equal(first.illusions[1].masked, illusions.masked()[1])
    assert first.illusions[1].activation == float(illusions.activations[1])
    (words,) = data.words
    assert (words.neuron, words.is_certain) == (neurons[0], False)
    assert [(phrase.text, phrase.score) for phrase in words.phrases] == [("red", 0.5)]
    assert (words.phrases[0].chance, words.rests_on) == (None, "3 pictures, no held-out photos")
    assert data.words_summary == "None of the 2 neurons behind these mistakes has a certain word."
    assert data.words_summary not in data.verdict


def test_words_carry_their_evidence_and_are_counted_only_where_they_are_certain() -> None:
    made = _explained()
    assert made.explanation is not None
    neurons = made.explanation.neurons(6)
    n_held_out = 45
    certain = {neurons[0]: "red", neurons[1]: "grass", neurons[4]: "grass"}
    made.descriptions = Descriptions(
        (
            UnitDescription(
                unit, (certain.get(unit, "sky"), "b"), (0.9, 0.8), (0.7, 0.6), (0.5, 0.4),
                (0.1, 0.2), ("sky", "b"), ((1, "sky"), (-1, "b")), 0.75, unit in certain, "a note",
                n_images=90, n_held_out=n_held_out,
            )
            for unit in range(16)
        ),
        "90 photos",
    )  # fmt: skip
    data = _filled(made)

    assert data.words_rest_on == "90 photos"
    assert [words.neuron for words in data.words] == list(range(16))
    words = data.words[neurons[0]]
    assert words.is_certain
    evidence = [(p.text, p.score, p.average_precision, p.chance) for p in words.phrases]
    assert evidence == [("red", 0.7, 0.5, 0.1), ("b", 0.6, 0.4, 0.2)]
    assert (words.combination, words.combination_correlation) == ("sky - b", 0.75)
    assert (words.could_be, words.note) == (("sky", "b"), "a note")
    assert data.words_summary == (
        "2 of the 6 neurons behind these mistakes answer to “grass”, 1 to “red”; 3 have no "
        "certain word."
    )
    assert data.verdict.endswith(data.words_summary)
    # Neurons that were looked at beside those behind the mistakes do not count.
    made.visualize([neurons[0], *(n for n in range(16) if n not in neurons)][:2], **QUICK)
    n_blamed = len(set(made.explanation.neurons()) & set(made.illusions.neurons))
    assert f"1 of the {n_blamed} neuron" in _filled(made).words_summary


def test_cards_show_the_strongest_photos_the_mistakes_and_the_weights() -> None:
    made = _explained()
    found, part = made.explanation, made.data.inspected
    assert found is not None
    (card, *_) = _filled(made).neurons  # nothing was visualized: those blamed most

    assert card.neuron == found.neurons(1)[0]
    assert card.illusions == ()
    values = part.features.features[:, card.neuron]
    expected = values.sort(descending=True).values[: len(card.top_photos)]
    assert [photo.activation for photo in card.top_photos] == expected.tolist()
    mistakes = set(part.names(found.mistakes))
    assert {photo.file for photo in card.saliency} <= mistakes
    assert len(card.saliency) == min(6, len(mistakes))
    weights = {item.class_index: item.weight for item in card.weights}
    column = made.head.weight[:, card.neuron].tolist()
    assert weights == dict(enumerate(column))
    assert [item.weight for item in card.weights] == sorted(column, reverse=True)


def test_a_mask_that_hides_nothing_is_no_finding() -> None:
    made = _explained()
    assert made.explanation is not None
    neurons = made.explanation.neurons(2)
    illusions = made.visualize(neurons, **QUICK)
    masks = torch.ones(len(illusions), 1, SIZE, SIZE)
    masks[2:, :, : SIZE // 2] = 0.5  # those of the second neuron
    made.illusions = replace(illusions, masks=masks)
    everywhere, partly = _filled(made).neurons

    assert everywhere.core_relevance is None
    assert all(picture.masked is None for picture in everywhere.illusions)
    assert partly.core_relevance is not None
    assert torch.equal(partly.illusions[0].masked, illusions.images[2] * masks[2])


def test_illusions_without_classes_or_of_an_inner_layer_are_left_out() -> None:
    made = _explained()
    made.visualize([1, 2], (), **QUICK)
    data = _filled(made)
    assert all(card.illusions == () and card.core_relevance is None for card in data.neurons)

    inner = session(layer="backbone.0")
    inner.load(photos())
    inner.explain()
    inner.visualize([0], (0,), **QUICK)
    assert all(card.illusions == () for card in _filled(inner).neurons)


@pytest.mark.parametrize("with_test", [False, True])
def test_an_edit_is_shown_as_the_comparison_says(with_test: bool) -> None:
    torch.manual_seed(0)
    made = session(CountedNet())
    made.load(photos(), test=photos(60, seed=5) if with_test else None)
    made.explain()
    assert _filled(made).edit is None
    other = copy.deepcopy(made.head)
    torch.nn.init.normal_(other.weight, std=0.5)
    target = made.worst_classes()[0].index
    made.last_edit = compare_heads(made.head, other, made.data.validation.features, {target: [0]})
    found, shown = made.compare(), _filled(made).edit
    assert shown is not None

    assert shown.overall.before == found.edit.before.accuracy
    assert shown.overall.after == found.edit.after.accuracy
    assert shown.overall.n_photos == len(found.before)
    assert (shown.n_corrected, shown.n_broken) == (
        len(found.rows("corrected")),
        len(found.rows("broken")),
    )
    outcomes = [photo.outcome for photo in shown.photos]
    assert outcomes == sorted(outcomes, key=["broken", "corrected", "still wrong"].index)
    assert outcomes.count("broken") == shown.n_broken
    assert outcomes.count("corrected") == min(shown.n_corrected, 24)
    assert shown.n_still_wrong == len(found.rows("still wrong"))
    for photo in shown.photos:
        assert photo.picture.shape == (3, SIZE, SIZE)
    assert shown.photos
    assert shown.verdict is made.last_edit.verdict
    assert shown.is_kept == made.last_edit.is_kept


def test_every_broken_photo_is_shown_first_and_the_others_are_counted(tmp_path: Path) -> None:
    """Of 450 photos more than 24 are corrected, and more than 24 broken."""
    made = session(CountedNet())
    made.load(photos(), test=photos(450, seed=5))
    made.explain()
    # Classes 0 and 1 change places: what was right is broken, and much of what was wrong corrected.
    other = copy.deepcopy(made.head)
    with torch.no_grad():
        other.weight[[0, 1]], other.bias[[0, 1]] = made.head.weight[[1, 0]], made.head.bias[[1, 0]]
    edit = compare_heads(made.head, other, made.data.validation.features, {0: [0]})
    made.last_edit = edit.judge(made.data.test.features)
    shown = _filled(made).edit
    assert shown is not None
    assert shown.n_broken > 24
    outcomes = [photo.outcome for photo in shown.photos]
    n_corrected = min(shown.n_corrected, 24)
    assert outcomes[: shown.n_broken] == ["broken"] * shown.n_broken
    assert outcomes[shown.n_broken :][:n_corrected] == ["corrected"] * n_corrected
    assert shown.verdict.decision == "do not keep"
    page = made.report(tmp_path / "report.html").read_text("utf-8")
    edited = page[page.index('id="edit"') :]
    assert edited.count('data-f="broken"') == shown.n_broken == shown.verdict.n_broken
    assert shown.n_corrected > 24
    assert f"{shown.n_broken} broken; {shown.n_corrected} corrected, showing 24" in edited
    assert 'class="photos" id="change-grid"' in edited  # nothing is folded away
    assert escape(shown.verdict.sentence) in page


def test_the_numbers_of_the_gallery_are_the_true_ones() -> None:
    made = _explained()
    other = copy.deepcopy(made.head)
    torch.nn.init.zeros_(other.weight)
    made.last_edit = compare_heads(made.head, other, made.data.validation.features, {0: [0]})
    data = _filled(made)
    assert data.edit is not None
    many = replace(data, edit=replace(data.edit, n_broken=3, n_corrected=37, n_still_wrong=0))
    shown = [photo for photo in data.edit.photos if photo.outcome == "broken"][:3]
    picture = replace(shown[0], label=shown[0].after, before=shown[0].label)
    photos_shown = (*shown, *[picture] * 24)
    many = replace(many, edit=replace(many.edit, photos=photos_shown))
    assert page_values_of(many).counts == "3 broken; 37 corrected, showing 24; 0 still wrong"


def test_the_head_of_the_report_says_how_many_mistakes_are_explained() -> None:
    made = _explained()
    found, features = made.explanation, made.data.inspected.features
    assert found is not None
    data, n_wrong = made.data, len(features.mistakes(found.target))
    counts = {
        role: len(getattr(data, role).features.mistakes(found.target))
        for role in ("validation", "test", "train")
    }
    others = ", ".join(f"{n} for {role}" for role, n in counts.items()).replace(" ", " are ", 1)
    words = f"{len(found.mistakes)} of its mistakes are explained; of the others, {others}."
    assert len(found.mistakes) + sum(counts.values()) == n_wrong
    assert words in _filled(made).verdict
    assert dict(_filled(made).facts)["roles"] == data.roles()
    with_test = session()
    with_test.load(photos(), test=photos(30, seed=5))
    with_test.explain()
    assert " for test" not in _filled(with_test).verdict


class _Grouped(Dataset[Any]):
    """The photos of three classes, each with one of the groups in turn."""

    def __init__(self, group_names: tuple[str, ...], n: int = 90, seed: int = 1) -> None:
        self.images, self.labels = photos(n, seed=seed)
        self.group_names = group_names

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.images[index], int(self.labels[index]), index // 3 % len(self.group_names)


def test_groups_are_counted_before_and_after_an_edit(tmp_path: Path) -> None:
    made = session()
    made.load(_Grouped(("wood", "<b>stone")), test=_Grouped(("<b>stone", "wood"), 60, 5))
    target = made.explain().target
    made.edit(method="equation8", n_epochs=1)
    data, features = _filled(made), made.data.inspected.features

    for group in data.groups:
        rows = features.groups == ("wood", "<b>stone").index(group.name)
        of_class = rows & (features.labels == target)
        assert (group.n_photos, group.n_of_class) == (int(rows.sum()), int(of_class.sum()))
        assert group.n_correct == int(features.is_correct[rows].sum())
        assert group.n_correct_of_class == int(features.is_correct[of_class].sum())
    low, high = sorted(data.groups, key=lambda one: one.class_accuracy)
    assert data.verdict.endswith(
        f"By group: {low.n_correct_of_class} of {low.n_of_class} in \u201c{low.name}\u201d, "
        f"{high.n_correct_of_class} of {high.n_of_class} in \u201c{high.name}\u201d."
    )
    assert {mistake.group for mistake in data.mistakes} <= {"wood", "<b>stone"}

    # In the test photos the names came in the other order.
    found, edit = made.compare(), data.edit
    assert edit is not None
    of_stone = torch.arange(60) // 3 % 2 == 0
    for changes, chosen in (
        (edit.groups, of_stone.new_ones(60)),
        (edit.groups_of_class, found.before.labels == target),
    ):
        stone = next(change for change in changes if change.name == "<b>stone")
        rows = of_stone[found.before.indices] & chosen
        assert stone.n_photos == int(rows.sum())
        assert stone.before == pytest.approx(float(found.before.is_correct[rows].float().mean()))
        assert stone.after == pytest.approx(float(found.after.is_correct[rows].float().mean()))
    page = made.report(tmp_path / "report.html").read_text("utf-8")
    assert page.count("before and after, by group</caption>") == 2
    assert "of the class" in page
    assert "&lt;b&gt;stone" in page
    assert "<b>stone" not in page


def test_groups_within_classes_have_one_column(tmp_path: Path) -> None:
    data = _Grouped(("wood",))
    rows = [(image, label, label) for image, label, _ in (data[i] for i in range(90))]
    made = loaded(data=rows)
    made.explain()
    made.edit(method="equation8", n_epochs=1)
    shown = _filled(made)
    assert [group.name for group in shown.groups] == ["group 0", "group 1", "group 2"]
    assert shown.edit is not None
    assert shown.edit.groups_of_class == ()
    assert "By group" not in shown.verdict
    page = made.report(tmp_path / "report.html").read_text("utf-8")
    assert "of the class" not in page
    assert page.count("by group</caption>") == 2
    worst = min(shown.groups, key=lambda group: group.accuracy)
    with pytest.raises(ValueError, match="expected no more right photos than photos"):
        check_data(replace(shown, groups=(replace(worst, n_correct=worst.n_photos + 1),)))
    with pytest.raises(ValueError, match="expected at least one photo"):
        check_data(replace(shown, groups=(GroupResult("sand", 0, 0, 0, 0),)))


def test_what_the_preflight_warns_of_stands_in_the_report() -> None:
    made = _explained()
    assert _filled(made).cautions == ()
    images, labels = photos()
    wrong = loaded(data=(images, (labels + 1) % 3))
    wrong.explain()
    assert _filled(wrong).cautions == wrong.preflight(clock=None).warnings
    assert any("labels look permuted" in text for text in _filled(wrong).cautions)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("/home/me/own work/model.py:net", "model.py:net"),
        ("hf:/home/me/tuned", "hf:tuned"),
        ("hf:microsoft/resnet-50", "hf:microsoft/resnet-50"),
        ("timm:hf-hub:org/name", "timm:hf-hub:org/name"),
        ("torchvision:resnet50", "torchvision:resnet50"),
    ],
)
def test_a_report_names_no_folder_of_the_user(spec: str, shown: str) -> None:
    made = _explained()
    made.model = replace(made.model, spec=spec, weights="as given")
    assert dict(_filled(made).facts)["model"] == f"{shown}, as given"


def test_nothing_to_show_is_the_grey_photo() -> None:
    image = torch.rand(3, 6, 9)
    for heat in (torch.zeros(2, 3), -torch.ones(2, 3)):
        grey = overlay(image, heat)
        torch.testing.assert_close(grey, image.mean(0, keepdim=True).expand(3, -1, -1))


def test_it_is_brightest_where_the_map_is_largest_whatever_its_scale() -> None:
    heat = torch.zeros(4, 4)
    heat[0, 3] = 1.0
    image = torch.zeros(3, 16, 16)
    found = overlay(image, heat)
    assert torch.allclose(found, overlay(image, heat * 1e-3), atol=1e-4)
    row, column = divmod(int(found.sum(0).argmax()), 16)
    assert row < 4
    assert column >= 12
    assert found[:, 10:, :6].abs().max() == 0
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
