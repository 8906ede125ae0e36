"""Words of a session rest on all of its photos; illusions choose none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import left_unchanged
from session_examples import NAMES, QUICK, loaded, photos
from torch import Tensor, nn

from captum_neuroinspect.analysis import collect_activations
from captum_neuroinspect.analysis.activations import Reduction
from captum_neuroinspect.describe import (
    DescribeOptions,
    SeenPhotos,
    ablation_effects,
    describe_units,
    find_units,
    phrase_scores,
)
from captum_neuroinspect.inspection import NeuroInspect

HOSTILE = ("<script>alert(1)</script>", "a\x1b[2J", "coat")
_PHRASES = ("crimson", "grassy", "sky")


class Colours:
    """A space of three numbers; a text is the colour that it begins to name."""

    network = nn.Identity()
    n_seen = 0

    def encode_image(self, images: Tensor) -> Tensor:
        self.n_seen += len(images)
        return nn.functional.normalize(images.mean((2, 3)) + 1e-3, dim=1)

    def encode_text(self, texts: Any) -> Tensor:
        words = (("crimson", "watermelon"), ("grassy",), ("sky",))
        found = [[1e-3 + sum(w in text for w in of_one) for of_one in words] for text in texts]
        return nn.functional.normalize(torch.tensor(found, dtype=torch.float32), dim=1)


def _with_groups() -> Any:
    images, labels = photos()
    return [(image, label, label % 2) for image, label in zip(images, labels.tolist(), strict=True)]


def test_words_are_those_of_describe_units_on_all_photos() -> None:
    made = loaded(encoder=Colours(), seed=3)
    images, features = photos()[0], made.data.inspected.features
    found = made.describe([4, 1], phrases=_PHRASES, ablation=False)
    seen = SeenPhotos.of(images[features.indices], Colours())
    concepts = seen.concepts(Colours(), features=features, phrases=_PHRASES)
    expected = describe_units(features.features, concepts, options=DescribeOptions(seed=3))
    assert found == expected.only([4, 1])
    assert made.descriptions == expected
    assert "rests on 90 photos" in str(found)
    assert "3 labels of the data, 3 phrases by Colours" in found.rests_on
    assert {(one.n_images, one.n_held_out) for one in found} == {(90, 45)}


def test_illusions_choose_which_neurons_but_no_words() -> None:
    made = loaded(encoder=Colours())
    assert [one.unit for one in made.describe(phrases=_PHRASES)] == list(made.explain().neurons(6))
    before = [one.phrases for one in made.descriptions or ()]
    made.visualize([5, 1], [0], guided=False, **QUICK)
    assert [one.unit for one in made.describe(phrases=_PHRASES)] == [5, 1]
    assert [one.phrases for one in made.descriptions or ()] == before


def test_descriptions_say_which_classes_need_the_neuron() -> None:
    made = loaded(encoder=Colours())
    found = made.describe([4, 1, 4], phrases=_PHRASES)
    features = made.data.inspected.features
    effects = ablation_effects(
        made.head, features.features, [4, 1], class_names=features.class_names
    )
    assert [one.ablation for one in found] == [effects.of(4), effects.of(1), effects.of(4)]
    others = [one for one in made.descriptions or () if one.unit not in (1, 4)]
    assert others
    assert not any(one.ablation for one in others)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_units_of_another_layer(tmp_path: Path, reduce: Reduction) -> None:
    made = loaded(encoder=Colours(), work=tmp_path)
    images, features = photos()[0], made.data.inspected.features
    with left_unchanged(made.model.model):
        found = made.describe_layer("backbone.0", [2, 0], reduce=reduce, phrases=_PHRASES)
    shown = images[features.indices]
    activations = collect_activations(
        made.model.model, shown, "backbone.0", reduce=reduce, preprocess=made.model.preprocess
    )
    seen = SeenPhotos.of(shown, Colours())
    concepts = seen.concepts(Colours(), features=features, phrases=_PHRASES)
    assert found == describe_units(activations, concepts).only([2, 0])
    assert made.descriptions is None
    again = loaded(encoder=Colours(), work=tmp_path)
    assert again.describe_layer("backbone.0", reduce=reduce, phrases=_PHRASES).only([2, 0]) == found
    with pytest.raises(ValueError, match="unit=99 is out of range"):
        made.describe_layer("backbone.0", [99])
    with pytest.raises(ValueError, match="nowhere"):
        made.describe_layer("nowhere")


def test_units_of_another_layer_by_a_phrase() -> None:
    made = loaded(encoder=Colours())
    features = made.data.inspected.features
    shown = photos()[0][features.indices]
    activations = collect_activations(
        made.model.model, shown, "backbone.0", reduce="max", preprocess=made.model.preprocess
    )
    found = made.find_units("crimson", layer="backbone.0", reduce="max")
    scores = phrase_scores(shown, Colours(), phrases=["crimson"]).scores[:, 0]
    expected = find_units(activations, scores, "crimson")
    assert [one.unit for one in found] == [one.unit for one in expected]
    assert [one.correlation for one in found] == [one.correlation for one in expected]
    assert not any(one.blame_rank for one in found)


def test_photos_that_belong_together_do_not_confirm_each_other() -> None:
    made = loaded(encoder=Colours())
    images, features = photos()[0], made.data.inspected.features
    together = torch.arange(90) // 3
    found = made.describe([4, 1], phrases=_PHRASES, ablation=False, together=together)
    seen = SeenPhotos.of(images[features.indices], Colours())
    concepts = seen.concepts(Colours(), features=features, phrases=_PHRASES)
    assert found == describe_units(features.features, concepts, together=together).only([4, 1])
    alone = made.describe([4, 1], phrases=_PHRASES, ablation=False)
    assert alone == describe_units(features.features, concepts).only([4, 1])
    with pytest.raises(ValueError, match="together has 89 values, expected 90"):
        made.describe([4], together=together[1:])
    with pytest.raises(TypeError, match="together"):
        made.describe_layer("backbone.0", together=together / 2)


def test_words_are_kept_and_stay_with_another_class(tmp_path: Path) -> None:
    def new(**options: Any) -> tuple[NeuroInspect, Colours]:
        encoder = Colours()
        return loaded(encoder=encoder, class_names=HOSTILE, work=tmp_path, **options), encoder

    made, first = new()
    found = made.describe([9, 3], phrases=_PHRASES, n_phrases=9999)
    assert first.n_seen >= 90
    assert "<script" not in found._repr_html_()
    assert "\x1b" not in str(found)
    again, second = new()
    assert again.describe([9, 3], phrases=_PHRASES, n_phrases=9999) == found
    assert second.n_seen <= 1  # which names the encoder
    again.describe([9], phrases=["other", "words"])
    again.find_units("anything")
    assert second.n_seen <= 1  # photos were looked at
    other, _ = new()
    other.explain(0)
    other.describe([1], phrases=_PHRASES)
    other.explain(1)
    assert other.descriptions is not None
    other.load(photos(60))
    assert other.descriptions is None
    fresh, fourth = new(fresh=True)
    fresh.describe([1], phrases=_PHRASES)
    assert fourth.n_seen >= 90


def test_an_interrupt_costs_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum_neuroinspect.inspection.session import descriptions

    class Interrupted(Colours):
        def encode_image(self, images: Tensor) -> Tensor:
            if self.n_seen >= 61:
                raise KeyboardInterrupt
            return super().encode_image(images)

    Interrupted.__name__ = "Colours"
    monkeypatch.setattr(descriptions, "_PHOTOS_AT_A_TIME", 30)
    with pytest.raises(KeyboardInterrupt):
        loaded(encoder=Interrupted(), work=tmp_path).describe([1], phrases=_PHRASES)
    encoder = Colours()
    loaded(encoder=encoder, work=tmp_path).describe([1], phrases=_PHRASES)
    assert encoder.n_seen <= 31


def test_without_an_encoder_attributes_labels_and_groups_are_said() -> None:
    made = loaded(data=_with_groups())
    found = made.describe([0, 1])
    assert "2 groups of the data, no phrases, as there is no encoder" in str(found)
    assert {phrase for one in made.descriptions or () for phrase in one.phrases} <= {
        *SeenPhotos.of(photos(2)[0]).concepts().phrases, *NAMES, "group 0", "group 1",
    }  # fmt: skip
    with pytest.raises(ValueError, match="phrases are given and encoder=None"):
        made.describe([0], phrases=["red"])
    with pytest.raises(ValueError, match=r"'watermelon' is no attribute, and no class .* text"):
        made.find_units("watermelon")


def test_neurons_are_found_by_phrase_and_crossed_with_blame() -> None:
    encoder = Colours()
    made = loaded(encoder=encoder)
    features, images = made.data.inspected.features, photos()[0]
    scores = phrase_scores(images[features.indices], Colours(), phrases=["watermelon"])
    plain = find_units(features.features, scores.of("watermelon"), "watermelon")
    found = made.find_units("watermelon")
    assert found.units == plain.units
    assert [one.correlation for one in found] == pytest.approx([d.correlation for d in plain])
    assert all(one.blame_rank is one.blame_kind is None for one in found)
    explained = made.explain()
    found = made.find_units("watermelon")
    ranks = {one.unit: one.blame_rank for one in found if one.blame_rank is not None}
    assert sorted(ranks, key=lambda unit: ranks[unit]) == list(explained.neurons())
    kinds = {row["neuron"]: row["kind"] for row in explained.rows()}
    assert {one.unit: one.blame_kind for one in found if one.blame_kind is not None} == kinds
    assert "scored by Colours" in found.rests_on
    assert "blame rank" in str(found)
    assert "measured on the pixels" in made.find_units(" Green ").rests_on
    assert "labelled in the data" in made.find_units("BREAD").rests_on


def test_refusals_have_their_cause() -> None:
    made = loaded(encoder=Colours())
    few = loaded(data=photos(18), encoder=Colours())
    for call, error, match in (
        (lambda: made.describe([]), ValueError, "neurons is empty"),
        (lambda: made.describe([5000]), ValueError, "neuron=5000 is out of range"),
        (lambda: made.describe([1], phrases=[]), ValueError, "phrases is empty"),
        (lambda: made.describe([1], phrases="red"), TypeError, "phrases='red' is one string"),
        (lambda: made.describe([1], n_phrases=0), ValueError, "n_phrases=0"),
        (lambda: made.find_units("  "), ValueError, "phrase is empty"),
        (lambda: made.find_units(3), TypeError, "phrase holds 3"),  # type: ignore[arg-type]
        (lambda: few.describe([1]), ValueError, "there are 18 photos, and words need at least 20"),
        (lambda: few.find_units("green"), ValueError, "18 photos, expected at least 20"),
    ):
        with pytest.raises(error, match=match):
            call()


def test_the_model_stays_as_it_was() -> None:
    made = loaded(encoder=Colours())
    with left_unchanged(made.model.model):
        made.describe([1], phrases=_PHRASES)
        made.find_units("crimson")
