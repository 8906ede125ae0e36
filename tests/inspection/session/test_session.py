"""The session: each step is the standalone function's, and nothing is done twice or left behind."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ConvNet, assert_same_set, left_unchanged
from PIL import Image
from session_examples import (
    NAMES,
    QUICK,
    SIZE,
    CountedNet,
    assert_same_illusions,
    loaded,
    photos,
    session,
    write_photos,
)
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset
from torchvision.datasets import ImageFolder

from captum_neuroinspect import collect_features
from captum_neuroinspect.analysis import explain_mistakes, mistakes_about, top_photos
from captum_neuroinspect.attr import NeuronCounterfactual, neuron_importance, rank_neurons
from captum_neuroinspect.edit import edit_head, mend
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.models import load_model
from captum_neuroinspect.optvis import IllusionOptions, render_illusions
from captum_neuroinspect.photos import Photos

HOSTILE = ("<script>alert(1)</script>", "\"'><img src=x>", "a & b")


# Each step is the standalone function's


def test_load_is_collect_features() -> None:
    net, data = CountedNet(), photos()
    made = session(net)
    expected = collect_features(net, data, progress=False, class_names=NAMES)
    assert_same_set(made.load(data), expected)


def test_errors_are_counts() -> None:
    made = loaded()
    features = made.data.inspected.features
    pairs = list(zip(features.labels.tolist(), features.predictions.tolist(), strict=True))
    for row in made.worst_classes():
        assert row.n_samples == sum(label == row.index for label, _ in pairs)
        assert row.n_wrong == sum(label == row.index != found for label, found in pairs)
    for pair in made.confusions():
        assert pair.n_samples == pairs.count((pair.label, pair.predicted))
    assert {pair.label for pair in made.confusions(target="coat")} == {2}


def test_explain_is_counterfactuals_ranked_against_what_is_right() -> None:
    made = loaded(data=photos(240))
    found = made.explain("coat", "bread")
    train = made.data.train.features
    mistakes = made.data.deployment.features.mistakes(2, 1)
    w = NeuronCounterfactual(made.head, made.head).attribute_features(mistakes.features, 2)
    assert_same_set(found.mistakes, mistakes)
    assert torch.equal(found.w, w)
    least = (2 if len(mistakes) >= 4 else 1) / len(mistakes)
    k = min(20, w.shape[1])
    importance = neuron_importance(made.head, train, 2)
    expected = rank_neurons(w, k, least, features=mistakes, reference=train, importance=importance)
    assert found.ranking == expected
    assert made.explanation is found


def test_explain_with_the_papers_options_needs_no_contrast() -> None:
    made = loaded(data=photos(240))
    found = made.explain("coat", options="paper")
    features = made.data.deployment.features
    expected = explain_mistakes(made.head, features, target=2, options="paper")
    assert found.ranking == expected.ranking
    assert torch.equal(found.w, expected.w)
    with pytest.raises(ValueError, match="options='published', expected 'paper' or None"):
        made.explain("coat", options="published")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected no slices"):
        made.explain("coat", options="paper", slices=2)


def test_a_head_given_second_is_not_taken_for_preprocessing() -> None:
    net = CountedNet()
    for second in (net.head, net.backbone, nn.Linear(16, 3)):
        with pytest.raises(TypeError, match="the decision layer is given as head="):
            NeuroInspect(net, second)
    assert net.n_images == 0


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_visualize_is_render_illusions_however_it_is_cut(batch_size: int) -> None:
    made, cut = session(seed=5), IllusionOptions(batch_size=batch_size)
    found = made.visualize([3, 1], ["coat", 0], options=cut, **QUICK)
    pairs = [3, 3, 1, 1], [2, 0, 2, 0]
    options: dict[str, Any] = {"seed": 5, "progress": False, **QUICK}
    assert_same_illusions(found, render_illusions(made.model.model, *pairs, options=cut, **options))
    assert found.class_names == ("coat", "apple", "coat", "apple")
    # Torch adds up in another order in other batches.
    together = render_illusions(made.model.model, *pairs, **options)
    torch.testing.assert_close(found.images, together.images, rtol=0, atol=1e-5)
    assert found.settings["n_rolled_back"] == [0] * 4


def test_visualize_takes_what_render_illusions_takes() -> None:
    made, net = session(), CountedNet()
    init = torch.rand(3, 3, SIZE, SIZE)
    given = IllusionOptions(init=init, batch_size=2)
    options: dict[str, Any] = {"seed": 7, "gamma": 0.2, "options": given, **QUICK}
    found = made.visualize([0, 1, 2], [1], **options)
    expected = render_illusions(net, [0, 1, 2], 1, progress=False, **options)
    assert_same_illusions(found, expected)


def test_visualize_shows_the_blamed_neurons_where_they_were_missed() -> None:
    made = loaded(data=photos(240))
    found = made.explain("coat")
    illusions = made.visualize(**QUICK)
    neurons = [n for n in found.neurons(6) for _ in range(2)]
    assert illusions.neurons == tuple(neurons)
    usual = made.confusions(target=2)[0].predicted
    assert illusions.classes == (2, usual) * 6
    made.explain("coat", "apple")
    assert made.visualize(**QUICK).classes == (2, 0) * 6


def test_visualize_alone_and_in_an_inner_layer() -> None:
    net = CountedNet()
    alone = session(net).visualize([2], (), **QUICK)
    assert alone.classes is None
    assert_same_illusions(alone, render_illusions(net, [2], progress=False, **QUICK))
    layers: list[Any] = ["backbone.0", net.backbone[0]]
    inner, again = (session(net, layer=layer).visualize([2], [1], **QUICK) for layer in layers)
    expected = render_illusions(net, [2], [1], layer="backbone.0", progress=False, **QUICK)
    assert_same_illusions(inner, expected)
    assert_same_illusions(again, expected)
    assert not torch.equal(inner.images, alone.images)


def test_top_photos() -> None:
    made = loaded()
    found, expected = made.top_photos(3, k=4), top_photos(made.data.inspected.features, 3, k=4)
    assert found.neurons == expected.neurons
    assert torch.equal(found.indices, expected.indices)
    assert made.top_photos(torch.tensor([3, 5])).neurons == (3, 5)  # type: ignore[arg-type]


def test_edits_are_mend_and_edit_head() -> None:
    made = session()
    made.load(photos(240), test=photos(60, seed=4))
    train, met, validation = (
        getattr(made.data, role).features for role in ("train", "deployment", "validation")
    )
    by_hand = mend(made.head, train, validation, met, target=0, neurons=[8, 4])
    found = made.edit("apple", [8, 4])
    assert not by_hand.is_original
    assert torch.equal(found.head.weight, by_hand.head.weight)
    blamed = list(made.explain("coat").neurons(6))
    wrong = mistakes_about(met, 2)
    by_hand = edit_head(
        made.head, train, validation, target=2, neurons=blamed, mistakes=wrong, seed=0
    )
    made.explain("apple")
    found = made.edit("coat", method="equation8")  # though another class was explained last
    assert found.neurons == tuple(blamed)
    assert torch.equal(found.head.weight, by_hand.head.weight)
    assert not torch.equal(found.head.weight, made.head.weight)


def test_compare_judges_by_hand() -> None:
    test = photos(30, seed=4)
    made = session()
    made.load(photos(), test=test)
    edit = made.edit("apple")
    found = made.compare()
    judged = collect_features(made.model.model, test, progress=False)
    with edit.applied(made.model.model) as edited:
        after = collect_features(edited, test, progress=False)
    assert found.edit.before.accuracy == judged.accuracy()
    assert found.edit.after.accuracy == pytest.approx(after.accuracy())
    assert torch.equal(found.after.predictions, after.predictions)
    corrected = (~judged.is_correct & after.is_correct).nonzero().flatten()
    assert torch.equal(found.rows("corrected"), corrected)


# What is kept apart


def test_held_out_photos_are_never_explained_and_test_photos_never_teach() -> None:
    edits = []
    for seed in (4, 5):
        made = session()
        made.load(photos(240), test=photos(30, seed=seed))
        held = set(made.data.held_out.features.indices.tolist())
        for name in NAMES:
            assert not held & set(made.explain(name).mistakes.indices.tolist())
        edits.append([made.edit("apple"), made.edit("coat", method="equation8")])
    for one, other in zip(*edits, strict=True):
        assert torch.equal(one.head.weight, other.head.weight)
        assert torch.equal(one.head.bias, other.head.bias)


def test_held_out_is_a_share_of_each_class_that_the_seed_draws() -> None:
    made, again, other = (
        one.data.held_out.features for one in (loaded(), loaded(), loaded(seed=1))
    )
    assert torch.equal(made.indices, again.indices)
    assert not torch.equal(made.indices, other.indices)
    few = session()
    few.load(photos(), held_out=0.2)
    assert few.data.held_out.features.labels.bincount().tolist() == [6, 6, 6]


def test_training_photos_are_the_contrast() -> None:
    train = photos(60, seed=8)
    made = session()
    made.load(photos(), train=train)
    found = made.explain("coat")
    reference = collect_features(made.model.model, train, progress=False)
    least = (2 if len(found.w) >= 4 else 1) / len(found.w)
    expected = rank_neurons(
        found.w,
        min(20, found.w.shape[1]),
        least,
        features=found.mistakes,
        reference=reference,
        importance=neuron_importance(made.head, reference, found.target),
    )
    assert found.ranking == expected


# Steps in any order


def test_a_report_shows_what_was_done_without_explaining_first(tmp_path: Path) -> None:
    made = loaded()
    made.visualize([8, 4], ["apple"], **QUICK)
    made.edit("apple")
    made.report(tmp_path / "report.html")
    assert made.explanation is not None
    assert made.explanation.target == 0
    assert made.illusions is not None
    assert made.last_edit is not None
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Inspection of apple" in page


def test_another_class_is_another_story() -> None:
    made = loaded(data=photos(240))
    made.explain("apple")
    made.visualize([8], ["apple"], **QUICK)
    made.edit("apple")
    made.explain("apple", "coat")
    assert made.illusions is not None
    made.explain("coat")
    assert made.illusions is None
    assert made.last_edit is None
    made.load(photos(60))
    assert made.explanation is None


def test_the_worst_class_is_one_with_mistakes_that_can_be_explained() -> None:
    """All mistakes on the worst class may happen to be held out."""
    made = loaded()
    worst = made.worst_classes()[0].index
    held = made.data.held_out.features
    of_others = made.data.inspected.features
    keep = of_others.is_correct | (of_others.labels != worst)
    keep |= torch.isin(of_others.indices, held.indices)
    rows = of_others.indices[keep]
    images, labels = photos()
    again = session()
    again.load((images, labels))
    met = again.data.deployment
    right = met.features.subset(torch.isin(met.features.indices, rows))
    object.__setattr__(again.data, "deployment", replace(met, features=right))
    assert again.worst_classes()[0].index == worst
    assert again.explain().target != worst


# Words


class Colours:
    """Embeds images by their mean colour, and texts by the colours they name."""

    network = nn.Identity()
    n_calls = 0

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        self.n_calls += 1
        return nn.functional.normalize(images.mean((2, 3)) + 1e-3, dim=1)

    def encode_text(self, texts: Any) -> torch.Tensor:
        words = ("red", "green", "blue")
        found = [[1e-3 + text.count(word) for word in words] for text in texts]
        return nn.functional.normalize(torch.tensor(found), dim=1)


def test_an_encoder_guides_and_is_part_of_the_question(tmp_path: Path) -> None:
    class Other(Colours):
        def encode_text(self, texts: Any) -> torch.Tensor:
            return super().encode_text(texts).flip(1)

    Other.__name__ = "Colours"
    names = ("red", "green", "blue")
    images = []
    for encoder in (None, Colours(), Other()):
        made = session(encoder=encoder, class_names=names, work=tmp_path)
        images.append(made.visualize([3], [0], **{**QUICK, "n_steps": 4}).images)
        expected = render_illusions(
            made.model.model, [3], [0], encoder=encoder, class_names=names, progress=False,
            **{**QUICK, "n_steps": 4},
        )  # fmt: skip
        assert torch.equal(images[-1], expected.images)
    assert not torch.equal(images[0], images[1])
    assert not torch.equal(images[1], images[2])
    made = session(encoder=Colours(), class_names=None)
    with pytest.raises(ValueError, match="class_names"):
        made.visualize([3], [0], **QUICK)


# Forms of models and data


def test_forms_of_data(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos")
    images, labels = Photos.of(folder, image_size=SIZE).images(range(90)), photos()[1].sort().values
    data = TensorDataset(images, labels)
    found = [
        loaded(data=form).data.inspected.features
        for form in (
            folder,
            str(folder),
            (images, labels),
            data,
            DataLoader(data, batch_size=7),
            ImageFolder(str(folder)),
            Photos.of(data, image_size=SIZE, class_names=NAMES),
        )
    ]
    for other in found[1:]:
        assert torch.equal(other.features, found[0].features)
        assert torch.equal(other.labels, found[0].labels)


def test_names_come_from_the_folder_and_order_from_the_model(tmp_path: Path) -> None:
    folder = write_photos(tmp_path)
    made = session(class_names=None)
    made.load(folder)
    assert made.explain("coat").target == 2
    turned = session(class_names=("coat", "apple", "bread"))
    turned.load(folder)
    assert turned.explain("coat").target == 0
    assert turned.data.inspected.features.labels[-1] == 0


def test_a_dataset_is_read_for_its_name_once(tmp_path: Path) -> None:
    class Counting(TensorDataset):
        n_read = 0

        def __getitem__(self, index: int) -> Any:
            self.n_read += 1
            return super().__getitem__(index)

    data = Counting(*photos())
    made = session(work=tmp_path)
    made.load(data)
    made.explain("coat")
    n_read = data.n_read
    made.report(tmp_path / "report.html")
    assert data.n_read - n_read < 90 + 200  # the pictures that are shown, not all for each neuron


def test_heads_by_name_and_found(tmp_path: Path) -> None:
    net = CountedNet()
    wrapped = nn.Sequential(net, nn.Softmax(1))
    with pytest.raises(ValueError, match="no linear decision layer found"):
        session(wrapped)
    for head in ("0.head", net.head):
        assert session(wrapped, head=head).head is net.head
    assert session(net).head is net.head


def test_a_text_is_a_model_and_a_loaded_model_takes_another_size() -> None:
    loaded_one = load_model("torchvision:resnet18", weights="random", n_classes=3)
    made = NeuroInspect(loaded_one, image_size=32, class_names=NAMES, progress=False)
    assert (made.model.image_size, made.model.resize_size) == (32, 37)
    assert loaded_one.image_size == 224
    assert made.head.out_features == 3


@pytest.mark.filterwarnings("ignore:every epoch was worse")
def test_a_transformer_goes_the_whole_way(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=3, img_size=32, patch_size=8, embed_dim=12, depth=2, num_heads=2,
    ).eval()  # fmt: skip
    made = session(net, image_size=32)
    made.load(photos(90))
    made.explain()
    made.visualize([0, 5], n_steps=1, size=32)
    made.edit(neurons=[0, 5], method="equation8", n_epochs=2)
    page = made.report(tmp_path / "report.html").read_text("utf-8")
    assert "data:image" in page


# Notebooks


def test_nothing_from_outside_becomes_markup() -> None:
    made = loaded(class_names=HOSTILE)
    made.explain(HOSTILE[2])
    edit = made.edit(HOSTILE[0])
    results: list[Any] = [
        made.worst_classes(),
        made.confusions(),
        made.explanation,
        made.explain(HOSTILE[2], HOSTILE[1]),
        edit,
        made.compare(edit),
    ]
    for result in results:
        text = result._repr_html_()
        assert "<script" not in text, type(result)
        assert "<img src=x" not in text, type(result)
        assert "a & b" not in text, type(result)
    together = "".join(result._repr_html_() for result in results)
    assert "&lt;script&gt;" in together


# Errors


def test_steps_before_load() -> None:
    made = session()
    steps = [
        made.worst_classes, made.confusions, made.explain, made.visualize, made.top_photos,
        made.edit, lambda: made.report("report.html"),
    ]  # fmt: skip
    for step in steps:
        with pytest.raises(RuntimeError, match=r"no photos are loaded: call load\(data\) first"):
            step()
    with pytest.raises(RuntimeError, match="nothing was edited"):
        made.compare()
    assert repr(made).startswith("NeuroInspect(CountedNet, nothing loaded")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model": 3}, TypeError, "model is int, expected an nn.Module"),
        ({"model": "resnet50"}, ValueError, "resnet50"),
        ({"preprocess": 3}, TypeError, "preprocess is int"),
        ({"class_names": ["a"]}, ValueError, "class_names are 1 .*expected 3"),
        ({"class_names": "abc"}, TypeError, "one text, expected a list"),
        ({"image_size": 0}, ValueError, "image_size=0"),
        ({"head": "nothing"}, ValueError, "head='nothing' is not in"),
        ({"head": "backbone.0"}, TypeError, "head is Conv2d"),
        ({"head": nn.Linear(16, 3)}, ValueError, "not a submodule"),
        ({"layer": "nothing"}, ValueError, "layer='nothing' is not in"),
        ({"layer": nn.ReLU()}, ValueError, "not a submodule"),
        ({"encoder": 3}, TypeError, "encoder is 3"),
        ({"encoder": "clip"}, ValueError, "encoder='clip'"),
    ],
)
def test_bad_sessions(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    options = {"model": CountedNet(), **options}
    with pytest.raises(kind, match=message):
        session(options.pop("model"), **options)


@pytest.mark.parametrize(
    ("data", "options", "kind", "message"),
    [
        (None, {"held_out": 0}, ValueError, "held_out=0"),
        (None, {"held_out": 1.0}, ValueError, "held_out=1.0"),
        (None, {"held_out": float("nan")}, ValueError, "held_out=nan"),
        (None, {"held_out": "half"}, TypeError, "held_out is 'half'"),
        (3, {}, TypeError, "data is int, expected a folder"),
        ("/no/such/folder", {}, FileNotFoundError, "no such folder"),
        (photos(3), {}, ValueError, "data has 3 photos"),
        ((photos()[0], photos()[1] + 5), {}, ValueError, "label 5"),
        ((photos()[0], 1 - torch.eye(3)[photos()[1]]), {}, ValueError, "multi-hot labels"),
        ((photos()[0] * 255, photos()[1]), {}, ValueError, "expected 0..1"),
        (
            None,
            {"test": (photos(seed=2)[0], 1 - torch.eye(3)[photos()[1]])},
            ValueError,
            "test has multi",
        ),
    ],
)
def test_bad_data(data: Any, options: dict[str, Any], kind: type[Exception], message: str) -> None:
    net = CountedNet()
    made = session(net)
    with left_unchanged(net), pytest.raises(kind, match=message):
        made.load(photos() if data is None else data, **options)
    with pytest.raises(RuntimeError, match="no photos are loaded"):
        made.explain()


def test_wrong_number_of_classes_in_the_data(tmp_path: Path) -> None:
    write_photos(tmp_path, ("a", "b", "c"))
    (tmp_path / "d").mkdir()
    write_photos(tmp_path / "d", ("x", "x", "x"), n=2)
    with pytest.raises(ValueError, match=r"data has 4 classes .*the model 3, .* give class_names"):
        session(class_names=None).load(tmp_path)
    with pytest.raises(ValueError, match="no class of the model is called a, b, c, d"):
        session().load(tmp_path)


def test_bad_steps() -> None:
    made = loaded()
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: made.explain("dog"), ValueError, "class 'dog' is unknown: expected one of apple"),
        (lambda: made.explain(3), ValueError, "class 3 is out of range"),
        (lambda: made.explain(-1), ValueError, "class -1 is out of range"),
        (lambda: made.explain(1.5), TypeError, "a class is 1.5"),
        (lambda: made.explain(True), TypeError, "a class is True"),
        (lambda: made.explain(0, 0), ValueError, "none of the .* is wrong taken for 'apple'"),
        (lambda: made.visualize([]), ValueError, "neurons is empty"),
        (lambda: made.visualize("12"), TypeError, "neurons='12'"),
        (lambda: made.visualize([1.5]), TypeError, "a neuron is 1.5"),
        (lambda: made.visualize([99], [0], **QUICK), ValueError, "neuron=99 is out of range"),
        (lambda: made.visualize([1], ["dog"]), ValueError, "class 'dog' is unknown"),
        (lambda: made.visualize([1], [0], options="slow"), ValueError, "options='slow'"),
        (lambda: made.visualize([1], [0], layer="backbone"), TypeError, "layer is the session's"),
        (lambda: made.visualize([1], [0], n_steps=0), ValueError, "n_steps"),
        (lambda: made.visualize([1], [0], stepps=0), TypeError, "stepps"),
        (lambda: made.top_photos([1], k=0), ValueError, "k=0"),
        (
            lambda: made.edit(method="magic"),
            ValueError,
            "method='magic', expected one of mend, equation8, remove_cue",
        ),
        (lambda: made.edit("dog"), ValueError, "class 'dog' is unknown"),
        (lambda: made.edit("coat", [99]), ValueError, "neuron=99"),
        (lambda: made.edit("coat", []), ValueError, "neurons is empty"),
        (lambda: made.compare(), RuntimeError, "nothing was edited"),
        (lambda: made.worst_classes(0), ValueError, "n=0"),
        (lambda: made.report("."), IsADirectoryError, "is a folder, expected a file"),
    ]
    for step, kind, message in cases:
        with pytest.raises(kind, match=message):
            step()
    with pytest.raises(ValueError, match="the explanation is about the decision layer's inputs"):
        loaded(layer="backbone.0").visualize(**QUICK)


def test_no_mistakes() -> None:
    net = CountedNet()
    images, _ = photos()
    labels = net.eval()(images).argmax(1)
    made = loaded(net, (images, labels))
    with pytest.raises(ValueError, match="is wrong, expected at least one mistake"):
        made.explain()
    assert len(made.confusions()) == 0


def test_one_output_decides_between_two_classes(tmp_path: Path) -> None:
    net = ConvNet(1)
    made = NeuroInspect(net, class_names=("no", "yes"), image_size=SIZE, progress=False)
    images, _ = photos()
    made.load((images, torch.arange(90) % 2))
    assert sum(row.n_samples for row in made.worst_classes()) == 90
    with pytest.raises(ValueError, match="class 2 is out of range: there are 2 classes"):
        made.explain(2)
    with pytest.raises(ValueError, match="head has a single output, expected one a class"):
        made.explain()


# Which class a photo is


_SHADES = itertools.count()


def _solid(folder: Path, **colours: int) -> Path:
    """Class name -> which of the three colours its photos have; no two photos are the same."""
    for name, colour in colours.items():
        (folder / name).mkdir(parents=True)
        for number in range(4):
            shade = next(_SHADES)
            rgb = [shade % 50, shade // 50 % 50]
            rgb.insert(colour, 255)
            Image.new("RGB", (SIZE, SIZE), tuple(rgb)).save(folder / name / f"{number}.png")
    return folder


def _eye(**options: Any) -> NeuroInspect:
    """Output k answers to colour k: never wrong where labels are right."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False))
    net[2].weight.data = 10 * torch.eye(3)
    return NeuroInspect(net.eval(), image_size=SIZE, progress=False, **options)


class TestClassNames:
    """Labels are the model's classes, by name, whatever form the photos have."""

    @pytest.mark.parametrize("form", ["folder", "dataset", "subset", "loader", "table", "photos"])
    def test_every_form_of_the_same_photos_is_right(self, tmp_path: Path, form: str) -> None:
        folder = _solid(tmp_path, **{"T-Shirt": 0, "dress": 1, "coat": 2})
        data: Any = ImageFolder(str(folder))
        if form == "table":
            rows = [f"{Path(p).relative_to(folder)},{data.classes[n]}" for p, n in data.samples]
            (folder / "all.csv").write_text("\n".join(["path,label", *rows]))
        data = {
            "folder": lambda: folder,
            "dataset": lambda: data,
            "subset": lambda: Subset(data, range(2, 12)),
            "loader": lambda: DataLoader(ConcatDataset([data]), batch_size=5, shuffle=True),
            "table": lambda: folder / "all.csv",
            "photos": lambda: Photos.of(folder, image_size=SIZE),
        }[form]()
        made = _eye(class_names=["t shirt", "Dress", "COAT"])
        assert made.load(data).accuracy() == 1
        found = made.data.inspected
        assert found.features.class_names == ("t shirt", "Dress", "COAT")
        if form == "folder":
            assert found.photos.name(0) == "T-Shirt/0.png"
            assert found.photos.label(0) == 0

    def test_train_and_test_have_the_classes_of_data(self, tmp_path: Path) -> None:
        data = _solid(tmp_path / "data", ant=0, bee=1, cat=2)
        few = ImageFolder(str(_solid(tmp_path / "few", Cat=2, Bee=1)))
        test = _solid(tmp_path / "test", ant=0, bee=1, cat=2)
        made = _eye()
        made.load(data, train=few, test=test)
        for part in (made.data.train, made.data.test):
            assert part is not None
            assert part.features.accuracy() == 1
            assert part.features.class_names == ("ant", "bee", "cat")
        other = _solid(tmp_path / "other", ant=0, bee=1, emu=2)
        with pytest.raises(ValueError, match=r"called emu.* train has the classes ant, bee, emu"):
            made.load(data, train=other)
        with pytest.raises(ValueError, match=r"called emu.* test has the classes ant, bee, emu"):
            made.load(few if len(few.classes) == 3 else data, test=ImageFolder(str(other)))
        made.load(data, train=other, by_position=True)
        assert made.data.train is not None
        assert made.data.train.features.accuracy() == 1

    def test_what_nobody_knows_is_said(self, tmp_path: Path) -> None:
        data = _solid(tmp_path, ant=0, bee=1, cat=2)
        message = r"has no class names, .* in their order \(0 ant, 1 bee, 2 cat\): give class_name"
        with pytest.warns(UserWarning, match=message):
            _eye().load(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _eye(class_names=["cat", "bee", "ant"]).load(data)
            _eye(class_names=["x", "y", "z"]).load(data, by_position=True)
            _eye().load(photos())

    def test_a_name_that_two_classes_have(self) -> None:
        made = loaded(class_names=("crane", "Cat", "crane"))
        with pytest.raises(ValueError, match=r"'crane' is ambiguous: classes 0 and 2"):
            made.explain("crane")
        assert made.explain(2).target == 2
        assert made.confusions(target="cat")

    def test_the_names_of_a_model_in_another_order(self, tmp_path: Path) -> None:
        named = replace(load_model("torchvision:resnet18", weights="random", n_classes=3),
                        class_names=("dog", "cat", "bird"))  # fmt: skip
        with pytest.raises(ValueError, match="the model has these names in another order, dog"):
            NeuroInspect(named, class_names=["bird", "cat", "dog"])
        assert NeuroInspect(named, class_names=["Hund", "Katze", "Vogel"])._names() is not None

    def test_the_report_shows_which_name_is_which(self, tmp_path: Path) -> None:
        data = _solid(tmp_path, **{"T-Shirt": 1, "dress": 1, "coat": 2})
        for name, colour in (("coat", 0), ("coat", 1), ("dress", 2)):  # some that are right
            _solid(tmp_path / name, **{f"more {colour}": colour})

        def page(**options: Any) -> str:
            made = _eye(class_names=options.pop("class_names"))
            made.load(data, **options)
            made.explain("coat" if "coat" in str(made._names()) else 2)
            return made.report(tmp_path / "report.html").read_text("utf-8")

        found = page(class_names=["coat", "t shirt", "Dress"])
        assert "Class names of the photos" in found
        assert "Found by name" in found
        dealt = page(class_names=["a", "b", "c"], by_position=True)
        assert "taken by position" in dealt
        assert "Class names of the photos" not in page(class_names=["T-Shirt", "coat", "dress"])
