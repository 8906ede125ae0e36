"""A concept's direction stands wherever a direction may: pictures, words, edits, photos."""

from __future__ import annotations

import pytest
import torch
from concept_examples import around, small_bank
from helpers import ConvNet, feature_set, linear, nudged

from captum_neuroinspect import render_illusions
from captum_neuroinspect.analysis import top_photos
from captum_neuroinspect.concepts import (
    ConceptFeatures,
    concept_counterfactual,
    fit_concepts,
)
from captum_neuroinspect.describe import ConceptScores, describe_units
from captum_neuroinspect.edit import remove_cue


def test_an_illusion_of_a_concept_raises_its_margin() -> None:
    torch.manual_seed(0)
    model = ConvNet().eval()
    plain = torch.rand(12, 3, 16, 16)
    with torch.no_grad():
        features = [
            model.backbone(images)
            for images in (plain * torch.tensor([1.0, 0, 0])[:, None, None], plain)
        ]
    bank = fit_concepts(ConceptFeatures(("red",), (features[0],), (features[1],)))
    found = render_illusions(
        model, [bank.direction("red")], [0], size=16, n_steps=12, progress=False, gamma=0.0
    )
    with torch.no_grad():
        shown = bank.margins(model.backbone(found.images))
        start = bank.margins(model.backbone(torch.full((1, 3, 16, 16), 0.5)))
    assert float(shown[0, 0]) > float(start[0, 0])


def test_words_and_photos_go_by_the_position_along_a_concept() -> None:
    bank = small_bank()
    chance = torch.Generator().manual_seed(0)
    features = torch.randn(60, 3, generator=chance) * 3
    direction = bank.direction("water")
    scores = ConceptScores(features.clone(), ("grass", "water", "brick"))
    described = describe_units(direction.positions(features)[:, None], scores)
    assert described[0].phrases[0] == "water"
    data = feature_set(linear(torch.eye(3)), features, torch.zeros(60).long())
    best = top_photos(data, direction, k=1).indices.flatten()
    assert int(best[0]) == int(bank.margins(features)[:, 1].argmax())


def test_an_edit_removes_a_concept() -> None:
    """After it the class no longer lacks grass: the score falls."""
    bank = small_bank()
    # Class 1 always stands on grass in training, and has a mark of its own.
    ones, zeros = around([4.0, 0.5, 1.5], n=40), around([0.0, 0.0, 0.0], n=40, seed=1)
    head = linear([[0.0, 0.0, 0.0], [2.0, 0.0, 0.2]], [4.0, 0.0])
    z, labels = torch.cat([ones, zeros]), torch.arange(80) // 40
    train = feature_set(head, z, 1 - labels)
    validation = nudged(train)
    edit = remove_cue(head, train, validation, target=1, cue=bank.direction("grass"))
    by_grass = [
        float(h.weight.detach()[1] @ bank.vectors[0] - h.weight.detach()[0] @ bank.vectors[0])
        for h in (head, edit.head)
    ]
    assert abs(by_grass[1]) < 0.2 * by_grass[0]
    missed = feature_set(head, around([0.0, 0.5, 1.5], n=6, seed=3), torch.ones(6).long())
    assert not missed.is_correct.any()
    before = concept_counterfactual(bank, missed, head)
    after = concept_counterfactual(bank, missed.with_head(edit.head), edit.head)
    assert before.ranked(1)[0][0] == "grass"
    assert after.score("grass") < 0.5 * before.score("grass")


def test_a_direction_of_another_space_is_refused() -> None:
    direction = small_bank().direction("grass")
    data = feature_set(linear(torch.eye(4)), torch.rand(5, 4), torch.zeros(5).long())
    with pytest.raises(ValueError, match="3"):
        top_photos(data, direction)
