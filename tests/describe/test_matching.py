from __future__ import annotations

import pytest
import torch
from colour_encoder import WORDS, ColourEncoder, plain

from captum_neuroinspect.describe import UnitDescription, describe_neurons
from captum_neuroinspect.describe.matching import contrasted
from captum_neuroinspect.encoders import ImageTextEncoder

_PHRASES = tuple(WORDS)


def _scores(description: UnitDescription) -> dict[str, float]:
    return dict(zip(description.phrases, description.scores, strict=True))


def _greenish() -> torch.Tensor:
    return plain(0.3, 0.4, 0.3)


def _reddish() -> torch.Tensor:
    return plain(0.4, 0.3, 0.3)


def test_encoder_of_the_tests_satisfies_the_protocol():
    assert isinstance(ColourEncoder(), ImageTextEncoder)


def test_one_neuron_gets_plain_cosines_best_first():
    # The mean of (0.6, 0.8, 0) and (0, 1, 0) is (0.3, 0.9, 0), of length sqrt(0.9).
    evidence = {4: [plain(0.6, 0.8, 0.0), plain(0.0, 1.0, 0.0)]}
    (found,) = describe_neurons(evidence, ColourEncoder(), phrases=_PHRASES)
    length = 0.9**0.5
    assert (found.unit, found.n_images) == (4, 2)
    assert found.phrases == ("green", "picture", "red", "blue")
    expected = (0.9 / length, 1.2 / length / 3**0.5, 0.3 / length, 0.0)
    assert found.scores == pytest.approx(expected, abs=1e-6)


def test_each_image_counts_the_same_however_bright_it_is():
    evidence = {0: [plain(1.0, 0.0, 0.0), plain(0.0, 0.1, 0.0)]}
    (found,) = describe_neurons(evidence, ColourEncoder(), phrases=["red", "green"])
    assert found.scores == pytest.approx((0.5**0.5, 0.5**0.5))


def test_half_of_what_the_other_neurons_have_is_taken_off():
    evidence = {
        1: [plain(0.6, 0.8, 0.0)],
        2: [plain(1.0, 0.0, 0.0)],
        3: [plain(0.0, 0.0, 1.0)],
    }
    found = describe_neurons(evidence, ColourEncoder(), phrases=("red", "green", "blue"))
    # Mean cosines of neurons 2 and 3: red 0.5, green 0, blue 0.5.
    assert _scores(found.of(1)) == pytest.approx({"green": 0.8, "red": 0.35, "blue": -0.25})
    # Of 1 and 3: red 0.3, green 0.4, blue 0.5.
    assert _scores(found.of(2)) == pytest.approx({"red": 0.85, "green": -0.2, "blue": -0.25})


def test_background_is_taken_off_whole_and_replaces_the_other_neurons():
    evidence = {1: [plain(0.6, 0.8, 0.0)], 2: [plain(1.0, 0.0, 0.0)]}
    background = torch.stack([plain(1.0, 0.0, 0.0), plain(0.0, 0.6, 0.8)])
    found = describe_neurons(
        evidence, ColourEncoder(), phrases=("red", "green", "blue"), background=background
    )
    # Mean cosines of the background: red 0.5, green 0.3, blue 0.4.
    assert _scores(found.of(1)) == pytest.approx({"green": 0.5, "red": 0.1, "blue": -0.4})
    assert _scores(found.of(2)) == pytest.approx({"red": 0.5, "green": -0.3, "blue": -0.4})


def test_background_may_be_embedded_already():
    evidence = {1: [plain(0.6, 0.8, 0.0)], 2: [_reddish()]}
    images, encoder = torch.rand(3, 3, 5, 5), ColourEncoder()
    one, other = (
        describe_neurons(evidence, encoder, phrases=_PHRASES, background=background)
        for background in (images, 7 * encoder.encode_image(images))
    )
    assert one.rows() == [
        {**row, "score": pytest.approx(row["score"], abs=1e-6)} for row in other.rows()
    ]


def test_background_takes_the_first_place_from_a_word_that_is_near_everything():
    evidence = {1: [_reddish()], 2: [_greenish()], 3: [plain(0.3, 0.3, 0.4)]}
    alone = [
        describe_neurons({neuron: images}, ColourEncoder(), phrases=_PHRASES)[0].phrases[0]
        for neuron, images in evidence.items()
    ]
    assert alone == ["picture"] * 3
    found = describe_neurons(
        evidence, ColourEncoder(), phrases=_PHRASES, background=torch.full((2, 3, 4, 4), 0.5)
    )
    assert [description.phrases[0] for description in found] == ["red", "green", "blue"]


def test_other_neurons_do_so_too_where_images_differ_enough():
    evidence = {1: [plain(0.7, 0.3, 0.3)], 2: [plain(0.3, 0.7, 0.3)]}
    for neuron, images in evidence.items():
        (alone,) = describe_neurons({neuron: images}, ColourEncoder(), phrases=_PHRASES)
        assert alone.phrases[0] == "picture"
    found = describe_neurons(evidence, ColourEncoder(), phrases=_PHRASES)
    assert [description.phrases[0] for description in found] == ["red", "green"]


def test_neurons_that_show_the_same_keep_their_word():
    evidence = {neuron: [plain(0.9, 0.1, 0.0)] for neuron in (1, 2, 3)}
    found = describe_neurons(evidence, ColourEncoder(), phrases=("blue", "green", "red"))
    assert {description.phrases[0] for description in found} == {"red"}


def test_contrasted_is_the_literal_loop():
    means, texts, background = (
        torch.nn.functional.normalize(torch.randn(n, 5), dim=1) for n in (4, 6, 3)
    )
    alone, against = contrasted(means, texts), contrasted(means, texts, background)
    for j, mean in enumerate(means):
        for p, text in enumerate(texts):
            others = [float(means[k] @ text) for k in range(len(means)) if k != j]
            usual = [float(row @ text) for row in background]
            assert float(alone[j, p]) == pytest.approx(float(mean @ text) - sum(others) / 6)
            assert float(against[j, p]) == pytest.approx(
                float(mean @ text) - sum(usual) / 3, abs=1e-6
            )


def test_images_of_different_sizes_share_only_fitting_batches():
    sizes = [(4, 4), (8, 6), (4, 4), (4, 4), (8, 6)]
    images = [torch.rand(3, *size) for size in sizes]
    encoder = ColourEncoder()
    describe_neurons({1: images[:2], 2: images[2:]}, encoder, phrases=["red"], batch_size=2)
    assert encoder.shapes == [(2, 3, 4, 4), (1, 3, 4, 4), (2, 3, 8, 6)]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_are_single_images(batch_size):
    sizes = [(4, 4), (8, 6), (4, 4), (5, 5), (8, 6), (4, 4)]
    evidence = {n: [torch.rand(3, *size) for size in sizes[2 * n :]] for n in range(3)}
    found = describe_neurons(evidence, ColourEncoder(), phrases=_PHRASES, batch_size=batch_size)
    means = {
        n: torch.nn.functional.normalize(
            torch.cat([ColourEncoder().encode_image(image[None]) for image in images]).mean(0),
            dim=0,
        )
        for n, images in evidence.items()
    }
    texts = ColourEncoder().encode_text(_PHRASES)
    expected = contrasted(torch.stack(list(means.values())), texts)
    for description, row in zip(found, expected, strict=True):
        reference = dict(zip(_PHRASES, row.tolist(), strict=True))
        assert _scores(description) == pytest.approx(reference, abs=1e-5)


def test_a_tensor_is_a_list_of_images_and_neurons_keep_their_order():
    images = torch.rand(3, 3, 4, 4)
    listed, stacked = (
        describe_neurons({9: one, 2: images[:1]}, ColourEncoder(), phrases=_PHRASES)
        for one in (list(images), images)
    )
    assert listed == stacked
    assert [(d.unit, d.n_images) for d in stacked] == [(9, 3), (2, 1)]


def test_equal_scores_keep_the_order_of_the_phrases():
    (found,) = describe_neurons(
        {0: [plain(1.0, 0.0, 0.0)]}, ColourEncoder(), phrases=["blue", "green"], class_names=["red"]
    )
    assert found.phrases == ("red", "blue", "green")


def test_no_more_phrases_than_asked_for_or_known():
    for n_phrases, n_found in ((1, 1), (3, 3), (50, 4)):
        (found,) = describe_neurons(
            {0: [_reddish()]}, ColourEncoder(), phrases=_PHRASES, n_phrases=n_phrases
        )
        assert len(found.phrases) == len(found.scores) == n_found


def test_class_names_may_be_said_too_but_not_twice():
    (found,) = describe_neurons(
        {0: [_reddish()]}, ColourEncoder(), phrases=["red", "green"], class_names=["Red", "other"]
    )
    assert sorted(found.phrases) == ["Red", "green", "other"]


def test_words_are_the_built_in_ones_unless_given():
    evidence = {0: [plain(1.0, 0.0, 0.0)]}
    (found,) = describe_neurons(evidence, ColourEncoder(), class_names=["scarlet thing"])
    assert found.phrases[0] == "red"


def test_texts_go_to_the_encoder_in_parts_with_every_template():
    encoder = ColourEncoder()
    phrases = [f"word{number}" for number in range(300)]
    templates = ("one {}", "two {}")
    describe_neurons({0: [_reddish()]}, encoder, phrases=phrases, templates=templates)
    assert encoder.n_texts == [512, 88]


def test_progress_shows_bars_only_when_wanted(capsys):
    for progress in (False, True):
        describe_neurons({0: [_reddish()]}, ColourEncoder(), phrases=["red"], progress=progress)
        assert ("phrases" in capsys.readouterr().err) == progress


def test_nothing_keeps_a_gradient_of_the_evidence():
    image = _reddish().requires_grad_()
    (found,) = describe_neurons({0: [image]}, ColourEncoder(), phrases=["red"])
    assert isinstance(found.scores[0], float)
    assert image.grad is None


_ONE = {3: [plain(0.5, 0.5, 0.5)]}


@pytest.mark.parametrize(
    ("evidence", "options", "error", "match"),
    [
        ({}, {}, ValueError, "evidence is empty"),
        ({3: []}, {}, ValueError, "evidence of neuron 3 is empty, expected at least one image"),
        ({3: torch.rand(3, 4, 4)}, {}, ValueError, r"evidence of neuron 3.* shape \(1, 4, 4\)"),
        ({3: [torch.rand(1, 4, 4)]}, {}, ValueError, r"evidence of neuron 3.* \(1, 1, 4, 4\)"),
        ({3: [255 * torch.ones(3, 4, 4)]}, {}, ValueError, "evidence of neuron 3.* 255"),
        ({3: [torch.full((3, 4, 4), float("nan"))]}, {}, ValueError, "neuron 3.* NaN"),
        ({3: [torch.ones(3, 4, 4).byte()]}, {}, TypeError, "neuron 3.* torch.uint8"),
        ({3: ["crop.png"]}, {}, TypeError, "evidence of neuron 3.* str"),
        (_ONE, {"phrases": []}, ValueError, "phrases is empty"),
        (_ONE, {"phrases": "red"}, TypeError, "phrases='red' is one string"),
        (_ONE, {"class_names": "red"}, TypeError, "class_names='red' is one string"),
        (_ONE, {"class_names": [3]}, TypeError, "class_names holds 3"),
        (_ONE, {"templates": ["a photo"]}, ValueError, "templates holds 'a photo'"),
        (_ONE, {"n_phrases": 0}, ValueError, "n_phrases=0, expected at least 1"),
        (_ONE, {"batch_size": 0}, ValueError, "batch_size=0, expected at least 1"),
        (_ONE, {"background": torch.rand(3, 4, 4)}, ValueError, r"background.* \(3, 4, 4\)"),
        (_ONE, {"background": torch.rand(0, 3)}, ValueError, r"background.* \(0, 3\)"),
        (_ONE, {"background": torch.rand(2, 5)}, ValueError, "background has 5 numbers"),
        (_ONE, {"background": [1]}, TypeError, "background is a list"),
        (_ONE, {"background": torch.rand(2, 1, 4, 4)}, ValueError, "background.* shape"),
    ],
)
def test_refuses_what_it_cannot_describe(evidence, options, error, match):
    with pytest.raises(error, match=match):
        describe_neurons(evidence, ColourEncoder(), **{"phrases": ["red"], **options})
