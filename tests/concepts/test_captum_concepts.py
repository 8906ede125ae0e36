"""Captum's TCAV with our classifier and our vectors, and its CAVs in our bank."""

from __future__ import annotations

import pytest
import torch
from captum.concept import TCAV
from concept_examples import small_bank, three_concepts
from helpers import ConvNet, left_unchanged
from torch.utils.data import DataLoader, TensorDataset

from captum_neuroinspect import collect_features
from captum_neuroinspect.concepts import (
    ConceptPhotos,
    FastCAV,
    bank_from_cavs,
    collect_concepts,
    experimental_sets,
    fit_concepts,
    save_cavs,
)

SIDE = 12


def photos(n: int = 10) -> ConceptPhotos:
    chance = torch.Generator().manual_seed(0)
    plain = torch.rand(n, 3, SIDE, SIDE, generator=chance)
    colours = torch.eye(3)[:2, :, None, None]
    shown = tuple(plain * colour * 0.9 for colour in colours)
    return ConceptPhotos(("red", "green"), shown, (plain, plain))


@pytest.fixture
def model() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet().eval()


def test_tcav_trains_with_the_closed_form_and_its_cavs_become_a_bank(model, tmp_path) -> None:
    data = photos()
    tcav = TCAV(
        model,
        "head",
        classifier=FastCAV(),
        attribute_to_layer_input=True,
        save_path=str(tmp_path),
    )
    cavs = tcav.compute_cavs(experimental_sets(data))
    features = collect_concepts(model, data, progress=False)
    bank = bank_from_cavs(cavs, "head", features)
    assert bank.names == ("red", "green")
    ours = fit_concepts(features)
    # Captum's activations are the features that we collect; only what is held out differs.
    assert ((bank.vectors * ours.vectors).sum(1) > 0.9).all()
    assert bank.accuracy.tolist() == pytest.approx(
        [float(cavs[key]["head"].stats["accs"]) for key in ("0-2", "1-2")]
    )
    with pytest.raises(ValueError, match=r"no CAV of 'red' for layer 'backbone\.0'"):
        bank_from_cavs(cavs, "backbone.0", features)


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated")  # Captum reads its files with it
def test_tcav_scores_with_the_vectors_of_the_bank(model, tmp_path) -> None:
    features = collect_concepts(model, photos(), progress=False)
    bank = fit_concepts(features)
    sets = save_cavs(bank, "head", tmp_path, model_id="net")
    tcav = TCAV(
        model,
        "head",
        model_id="net",
        classifier=FastCAV(),
        attribute_to_layer_input=True,
        save_path=str(tmp_path),
    )
    images = torch.rand(7, 3, SIDE, SIDE)
    scores = tcav.interpret(images, sets, target=2)
    # The gradient of a logit at the head's input is a row of its weight, for every image.
    slope = bank.vectors @ model.head.weight[2].detach()
    for number in range(2):
        found = scores[f"{number}-2"]["head"]
        torch.testing.assert_close(found["magnitude"][0], slope[number])
        assert found["sign_count"].tolist() == [float(slope[number] > 0), float(slope[number] < 0)]
    assert bank_from_cavs(tcav.cavs, "head", features).names == bank.names


def test_the_classifier_of_several_classes_is_the_means_less_the_mean() -> None:
    z = torch.rand(30, 4)
    labels = torch.arange(30) % 3 + 5
    fast = FastCAV()
    with pytest.raises(RuntimeError, match="train_and_eval first"):
        fast.weights()
    loader = DataLoader(TensorDataset(z, labels), batch_size=7)
    accuracy = fast.train_and_eval(loader, test_split_ratio=0.1)["accs"]
    assert fast.classes() == [5, 6, 7]
    # Classes of one size: what is added to one is taken from the others.
    torch.testing.assert_close(fast.weights().sum(0), torch.zeros(4), atol=1e-6, rtol=0)
    assert 0 <= float(accuracy) <= 1
    one_class = DataLoader(TensorDataset(z, torch.zeros(30)), batch_size=30)
    with pytest.raises(ValueError, match="expected two classes"):
        fast.train_and_eval(one_class)


def test_collecting_leaves_the_model_alone_and_runs_shared_counterparts_once(model) -> None:
    data = photos(5)
    model.train()
    n_images = 0

    def count(_, inputs):
        nonlocal n_images
        n_images += len(inputs[0])

    handle = model.backbone.register_forward_pre_hook(count)
    with left_unchanged(model):
        found = collect_concepts(model, data, model.head, progress=False)
    handle.remove()
    assert n_images == 15
    assert found.counterparts[0] is not None
    expected = collect_features(model, (data.shown[1], torch.zeros(5).long()), progress=False)
    torch.testing.assert_close(found.shown[1], expected.features)
    assert found.backbone_fingerprint == expected.backbone_fingerprint
    with pytest.raises(TypeError, match="photos is int"):
        collect_concepts(model, 3)


def test_captum_names_bad_arguments(tmp_path) -> None:
    with pytest.raises(TypeError, match="bank is int"):
        save_cavs(1, "head", tmp_path)
    with pytest.raises(ValueError, match=r"model_id='\.\./x'"):
        save_cavs(small_bank(), "head", tmp_path, model_id="../x")
    with pytest.raises(TypeError, match="features is int"):
        bank_from_cavs({}, "head", 1)
    with pytest.raises(ValueError, match="no CAV of 'grass'"):
        bank_from_cavs({}, "head", three_concepts())
