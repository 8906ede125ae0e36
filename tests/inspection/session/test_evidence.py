from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import left_unchanged
from session_examples import SIZE, CountedNet, loaded, photos

from captum_neuroinspect.analysis import core_relevance, crops
from captum_neuroinspect.analysis.top_photos import cut
from captum_neuroinspect.attr import NeuronCounterfactual, neuron_saliency
from captum_neuroinspect.inspection.session.evidence import (
    boxes_of,
    core_relevance_of,
    counterfactuals_of,
    saliency_of,
)


@pytest.fixture
def made() -> Any:
    return loaded()


def _never(*_, **__) -> None:
    pytest.fail("again")


def test_counterfactuals_are_kept(made, monkeypatch) -> None:
    part = made.data.inspected
    wrong = made.data.deployment.features.mistakes(2)
    w = counterfactuals_of(made.source, part, wrong, 2).w
    assert torch.equal(
        w, NeuronCounterfactual(made.head, made.head).attribute_features(wrong.features, 2)
    )
    monkeypatch.setattr(NeuronCounterfactual, "attribute_features", _never)
    assert torch.equal(counterfactuals_of(made.source, part, wrong, 2).w, w)
    with pytest.raises(pytest.fail.Exception):
        counterfactuals_of(made.source, part, wrong.subset(torch.arange(1)), 2)


def test_boxes_and_crops(made) -> None:
    part = made.data.inspected
    top, boxes = boxes_of(made.source, part, [4, 9], n_photos=3)
    assert boxes.shape == (2, 3, 4)
    for row, neuron in enumerate((4, 9)):
        images = photos()[0][top.indices[row]]
        expected = crops(made.model.model, images, neuron, head=made.head)
        assert torch.equal(boxes[row], expected.boxes)
        for image, box, crop in zip(images, boxes[row], expected.images, strict=True):
            assert torch.equal(cut(image, box), crop)


def test_saliency_is_of_each_neuron_on_each_mistake_and_kept_one_by_one(made) -> None:
    net, part = made.model.model, made.data.inspected
    wrong = made.data.deployment.features.mistakes()
    with left_unchanged(net):
        chosen, maps = saliency_of(made.source, part, wrong, [4, 9])
    assert chosen.indices.tolist() == wrong.indices.tolist()
    images = photos()[0][wrong.indices]
    for place, neuron in enumerate((4, 9)):
        by_hand = neuron_saliency(net, made.head, images, [neuron], "gradcam").squeeze(2)
        torch.testing.assert_close(maps[:, place], by_hand[:, 0].clamp(min=0))
    n_before = net.n_images
    _, again = saliency_of(made.source, part, wrong, [9, 4])
    assert torch.equal(again, maps.flip(1))
    assert net.n_images <= n_before
    saliency_of(made.source, part, wrong, [9, 5])
    assert net.n_images > n_before


def test_core_relevance(made) -> None:
    found = made.visualize([4, 9], [0, 2], n_steps=1, size=SIZE)
    train = made.data.train
    scores = core_relevance_of(made.source, found, train)
    expected = core_relevance(made.model.model, made.head, found, train.features)
    assert scores == expected.tolist()
    alone = made.visualize([4, 9], (), n_steps=1, size=SIZE)
    assert core_relevance_of(made.source, alone, train) == [None, None]
    elsewhere = ~torch.isin(train.features.labels, torch.tensor([0, 2]))
    nobody = replace(train, features=train.features.subset(elsewhere))
    assert core_relevance_of(made.source, found, nobody) == [None] * 4


def test_another_model_has_other_evidence(tmp_path) -> None:
    one = loaded(work=tmp_path)
    net = CountedNet()
    net.backbone[0].weight.data *= 1.1
    other = loaded(net, work=tmp_path)
    wrong = one.data.deployment.features.mistakes()
    n_before = net.n_images
    part = one.data.inspected
    first, second = (saliency_of(s.source, part, wrong, [4])[1] for s in (one, other))
    assert net.n_images > n_before
    assert not torch.equal(first, second)
