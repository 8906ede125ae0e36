"""What a session's report shows, against the session's own results."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from markupsafe import escape
from session_examples import NAMES, QUICK, SIZE, CountedNet, loaded, photos, session

from captum_neuroinspect.describe import Descriptions, NeuronDescription
from captum_neuroinspect.edit import compare_heads
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.inspection.report._checks import check_data
from captum_neuroinspect.inspection.report._view import view_of
from captum_neuroinspect.inspection.report.data import ReportData
from captum_neuroinspect.inspection.report.fill import report_data


def _explained() -> NeuroInspect:
    made = loaded()
    made.explain()
    return made


def _filled(made: NeuroInspect) -> ReportData:
    data = report_data(made, "run")
    check_data(data)
    return data


def test_accuracies_and_confusions_are_counted() -> None:
    made = _explained()
    features = made.material.inspected.features
    data = _filled(made)

    for index, result in enumerate(data.classes):
        rows = features.labels == index
        assert result.name == NAMES[index]
        assert result.n_photos == int(rows.sum())
        assert result.n_correct == int((features.predictions[rows] == index).sum())
    n_confused = sum(pair.n_photos for pair in data.confusions)
    assert n_confused == len(features.mistakes())
    assert all(pair.label != pair.predicted for pair in data.confusions)


def test_probabilities_in_blocks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = _explained()
    found = made.explanation
    assert found is not None
    wrong = made.material.inspected.features.mistakes(found.target)
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
    monkeypatch.setattr(type(illusions), "masked", counted)
    monkeypatch.setattr("captum_neuroinspect.inspection.report.fill_cards._core", lambda *_: {})
    cards = {card.neuron: card for card in report_data(made, "run").neurons}
    assert len(calls) == 1
    for i, neuron in enumerate(illusions.neurons):
        pictures = {p.class_index: p for p in cards[neuron].illusions}
        shown = pictures[illusions.classes[i]]  # type: ignore[index]
        assert torch.equal(shown.picture, illusions.images[i])  # type: ignore[arg-type]
        assert shown.masked is None or torch.equal(shown.masked, expected[i])  # type: ignore[arg-type]


def test_mistakes_are_the_classes_own_with_the_explained_ones_first() -> None:
    made = _explained()
    found, part = made.explanation, made.material.inspected
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


def test_cards_show_what_was_visualized_and_described() -> None:
    made = _explained()
    assert made.explanation is not None
    neurons = made.explanation.neurons(2)
    illusions = made.visualize(neurons, **QUICK)
    made.descriptions = Descriptions([NeuronDescription(neurons[0], ("red",), (0.5,), 3)])
    data = _filled(made)

    assert [card.neuron for card in data.neurons] == list(neurons)
    first = data.neurons[0]
    assert [picture.class_index for picture in first.illusions] == list(illusions.classes or ())[:2]
    assert torch.equal(first.illusions[1].picture, illusions.images[1])
    assert torch.equal(first.illusions[1].masked, illusions.masked()[1])
    assert first.illusions[1].activation == float(illusions.activations[1])
    assert [(phrase.text, phrase.score) for phrase in first.phrases] == [("red", 0.5)]
    assert data.neurons[1].phrases == ()


def test_cards_show_the_strongest_photos_the_mistakes_and_the_weights() -> None:
    made = _explained()
    found, part = made.explanation, made.material.inspected
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
    made.last_edit = compare_heads(
        made.head, other, made.material.validation.features, {target: [0]}
    )
    found, shown = made.compare(), _filled(made).edit
    assert shown is not None

    assert shown.overall.before == found.edit.before.accuracy
    assert shown.overall.after == found.edit.after.accuracy
    assert shown.overall.n_photos == len(found.before)
    assert (shown.n_mended, shown.n_broken) == (
        len(found.rows("mended")),
        len(found.rows("broken")),
    )
    outcomes = [photo.outcome for photo in shown.photos]
    assert outcomes == sorted(outcomes, key=["broken", "mended", "still wrong"].index)
    assert outcomes.count("broken") == shown.n_broken
    assert outcomes.count("mended") == min(shown.n_mended, 24)
    assert shown.n_still_wrong == len(found.rows("still wrong"))
    for photo in shown.photos:
        assert photo.picture.shape == (3, SIZE, SIZE)
    assert shown.photos
    assert shown.verdict is made.last_edit.verdict
    assert shown.is_kept == made.last_edit.is_kept


def test_every_broken_photo_is_shown_first_and_the_others_are_counted(tmp_path: Path) -> None:
    """Of 450 photos more than 24 are mended, and more than 24 broken."""
    made = session(CountedNet())
    made.load(photos(), test=photos(450, seed=5))
    made.explain()
    # Classes 0 and 1 change places: what was right is broken, and much of what was wrong mended.
    other = copy.deepcopy(made.head)
    with torch.no_grad():
        other.weight[[0, 1]], other.bias[[0, 1]] = made.head.weight[[1, 0]], made.head.bias[[1, 0]]
    edit = compare_heads(made.head, other, made.material.validation.features, {0: [0]})
    made.last_edit = edit.judge(made.material.test.features)
    shown = _filled(made).edit
    assert shown is not None
    assert shown.n_broken > 24
    outcomes = [photo.outcome for photo in shown.photos]
    n_mended = min(shown.n_mended, 24)
    assert outcomes[: shown.n_broken] == ["broken"] * shown.n_broken
    assert outcomes[shown.n_broken :][:n_mended] == ["mended"] * n_mended
    assert shown.verdict.decision == "do not keep"
    page = made.report(tmp_path / "report.html").read_text("utf-8")
    edited = page[page.index('id="edit"') :]
    assert edited.count('data-f="broken"') == shown.n_broken == shown.verdict.n_broken
    assert shown.n_mended > 24
    assert f"{shown.n_broken} broken; {shown.n_mended} mended, showing 24" in edited
    assert 'class="photos" id="change-grid"' in edited  # nothing is folded away
    assert escape(shown.verdict.sentence) in page


def test_the_numbers_of_the_gallery_are_the_true_ones() -> None:
    made = _explained()
    other = copy.deepcopy(made.head)
    torch.nn.init.zeros_(other.weight)
    made.last_edit = compare_heads(made.head, other, made.material.validation.features, {0: [0]})
    data = _filled(made)
    assert data.edit is not None
    many = replace(data, edit=replace(data.edit, n_broken=3, n_mended=37, n_still_wrong=0))
    shown = [photo for photo in data.edit.photos if photo.outcome == "broken"][:3]
    picture = replace(shown[0], label=shown[0].after, before=shown[0].label)
    photos_shown = (*shown, *[picture] * 24)
    many = replace(many, edit=replace(many.edit, photos=photos_shown))
    assert view_of(many).counts == "3 broken; 37 mended, showing 24; 0 still wrong"


def test_the_head_of_the_report_says_how_many_mistakes_are_explained() -> None:
    made = _explained()
    found, features = made.explanation, made.material.inspected.features
    assert found is not None
    material, n_wrong = made.material, len(features.mistakes(found.target))
    n_held = len(material.held_out.features.mistakes(found.target))
    n_training = len(material.train.features.mistakes(found.target))
    words = (
        f"{len(found.mistakes)} of its mistakes are explained, {n_held} held out to choose and "
        "judge an edit"
    )
    assert len(found.mistakes) + n_held + n_training == n_wrong
    assert words in _filled(made).verdict
    assert dict(_filled(made).facts)["roles"] == material.roles()
    with_test = session()
    with_test.load(photos(), test=photos(30, seed=5))
    with_test.explain()
    assert "held out to choose an edit" in _filled(with_test).verdict


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
