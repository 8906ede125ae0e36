from __future__ import annotations

import copy

import pytest
import torch
from helpers import Boom, ConvNet, assert_same_set, feature_set, left_unchanged, linear
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from captum_neuroinspect import FeatureSet, collect_features, find_head
from captum_neuroinspect._core.files import write_atomically
from captum_neuroinspect._core.fingerprint import head_fingerprint

N_CLASSES = 4


# --- find_head -----------------------------------------------------------------------


def _torchvision(name):
    from torchvision import models

    if name == "VisionTransformer":
        vit = models.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=N_CLASSES)
        return vit, vit.heads.head
    if name == "SwinTransformer":
        swin = models.SwinTransformer([4, 4], 12, [2], [1], [4, 4], num_classes=N_CLASSES)
        return swin, swin.head
    if name == "ConvNeXt":
        blocks = [models.convnext.CNBlockConfig(8, None, 2)]
        convnext = models.ConvNeXt(blocks, num_classes=N_CLASSES)
        return convnext, convnext.classifier[-1]
    model = models.get_model(name, weights=None, num_classes=N_CLASSES)
    return model, model.fc if name == "resnet18" else model.classifier[-1]


def _timm(name):
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=N_CLASSES)
    return model, model.get_classifier()


def _hugging_face(name):
    import transformers

    small = {
        "ViT": dict(
            image_size=32,
            patch_size=8,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        ),
        "ResNet": dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
        "ConvNext": dict(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
    }
    config = getattr(transformers, f"{name}Config")(num_labels=N_CLASSES, **small[name])
    model = getattr(transformers, f"{name}ForImageClassification")(config)
    return model, model.classifier[-1] if name == "ResNet" else model.classifier


@pytest.mark.parametrize(
    ("make", "name", "size"),
    [
        (_torchvision, "resnet18", 32),
        (_torchvision, "mobilenet_v3_small", 32),
        (_torchvision, "ConvNeXt", 32),
        (_torchvision, "VisionTransformer", 32),
        (_torchvision, "SwinTransformer", 32),
        (_timm, "test_resnet", 32),
        (_timm, "test_vit", 160),
        (_timm, "test_convnext", 32),
        (_hugging_face, "ViT", 32),
        (_hugging_face, "ResNet", 32),
        (_hugging_face, "ConvNext", 32),
    ],
)
def test_find_head_real_architectures(make, name, size):
    model, expected = make(name)
    with left_unchanged(model):
        assert find_head(model, torch.rand(1, 3, size, size)) is expected


class Wrapped(nn.Module):
    """A classifier whose returned value is made by ``after`` from the head's output."""

    def __init__(self, after) -> None:
        super().__init__()
        self.distractor = nn.Linear(8, 3)
        self.head = nn.Linear(8, 3)
        self.after = after

    def forward(self, inputs):
        features = inputs.flatten(1)
        self.distractor(features)
        return self.after(self.head(features))


class Output(dict):
    """Like Hugging Face's ``ModelOutput``: a dictionary whose keys are attributes."""

    def __getattr__(self, name):
        return self[name]


@pytest.mark.parametrize(
    "after",
    [
        lambda logits: logits,
        lambda logits: {"logits": logits},
        lambda logits: Output(loss=None, logits=logits),
        lambda logits: (logits, torch.zeros(1)),
    ],
    ids=["tensor", "dict", "attribute", "tuple"],
)
def test_find_head_is_what_computes_the_output_not_its_namesake(after):
    """A distractor of the same shape and on the same input has other values."""
    model = Wrapped(after)
    assert find_head(model, torch.rand(2, 8)) is model.head


def test_find_head_ran_last_of_equals():
    """Of two layers with the same output the later one makes the model's."""
    model = nn.Sequential(nn.Linear(4, 3), linear(torch.eye(3)))
    assert find_head(model, torch.rand(1, 4)) is model[1]


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (lambda logits: logits.softmax(1), "something changes its output"),
        (lambda logits: 2 * logits, "something changes its output"),
        (lambda logits: logits.mul_(2), "something changes its output"),
        (lambda logits: logits[:, :2], "must be an nn.Linear on features"),
        (lambda logits: logits * torch.nan, "logits of Wrapped are NaN"),
    ],
    ids=["softmax", "scaled", "scaled in place", "cut", "nan"],
)
def test_find_head_refuses_changed_logits(after, message):
    model = Wrapped(after)
    with left_unchanged(model), pytest.raises(ValueError, match=message):
        find_head(model, torch.rand(2, 8))


def test_find_head_refuses_a_convolution():
    from torchvision.models import squeezenet1_0

    model = squeezenet1_0(weights=None, num_classes=N_CLASSES)
    with pytest.raises(ValueError, match=r"no linear decision layer found in SqueezeNet: .* conv"):
        find_head(model, torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("after", [str, lambda logits: None, lambda logits: {"scores": logits}])
def test_find_head_refuses_a_model_without_logits(after):
    model = Wrapped(after)
    with left_unchanged(model), pytest.raises(TypeError, match="expected a tensor of logits"):
        find_head(model, torch.rand(2, 8))


# --- collect_features ----------------------------------------------------------------


def _pictures(n=10):
    return torch.rand(n, 3, 8, 8), torch.arange(n) % N_CLASSES


def _reference_plain_loop(model, images):
    """Features and logits, one picture at a time, by calling the two parts by name."""
    copy = ConvNet(N_CLASSES).eval()
    copy.load_state_dict(model.state_dict())
    with torch.no_grad():
        features = torch.cat([copy.backbone(image[None]) for image in images])
        return features, copy.head(features)


class Rows(Dataset):
    """Items made by ``item`` from (image, label); has class names."""

    classes = ("cat", "dog", "eel", "fox")

    def __init__(self, item, n=10) -> None:
        self.images, self.labels = _pictures(n)
        self.item = item

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.item(self.images[index], int(self.labels[index]))


class Stream(IterableDataset):
    def __init__(self, n) -> None:
        self.n = n

    def __iter__(self):
        yield from zip(*_pictures(self.n), strict=True)


def _sources():
    images, labels = _pictures()
    pair = (images, labels)
    return {
        "tensors": pair,
        "tensors, list of labels": (images, labels.tolist()),
        "dataset": TensorDataset(*pair),
        "list": list(zip(images, labels.tolist(), strict=True)),
        "loader": DataLoader(TensorDataset(*pair), batch_size=3),
        "dictionaries": [
            {"pixel_values": image, "labels": label} for image, label in zip(*pair, strict=True)
        ],
        "numpy": [(image.numpy(), label.numpy()) for image, label in zip(*pair, strict=True)],
    }


@pytest.mark.parametrize("source", list(_sources()))
def test_collect_features_equals_a_plain_loop(source):
    model = ConvNet(N_CLASSES)
    torch.manual_seed(1)
    data = _sources()[source]
    torch.manual_seed(1)
    images, labels = _pictures()
    features, logits = _reference_plain_loop(model, images)
    collected = collect_features(model, data, batch_size=4, progress=False)
    torch.testing.assert_close(collected.features, features)
    torch.testing.assert_close(collected.logits, logits)
    assert torch.equal(collected.labels, labels)
    assert torch.equal(collected.indices, torch.arange(10))
    assert collected.groups is None
    assert collected.class_names is None
    assert collected.features.device.type == "cpu"
    assert not collected.features.requires_grad


def test_collect_features_groups_are_kept():
    images, labels = _pictures()
    groups = torch.arange(10) % 3
    collected = collect_features(
        ConvNet(N_CLASSES), TensorDataset(images, labels, groups), batch_size=4, progress=False
    )
    assert torch.equal(collected.groups, groups)


def test_collect_features_streams():
    collected = collect_features(ConvNet(N_CLASSES), Stream(5), batch_size=2, progress=False)
    assert len(collected) == 5


@pytest.mark.parametrize("as_loader", [False, True])
def test_collect_features_takes_class_names_from_the_data(as_loader):
    data = Rows(lambda image, label: (image, label))
    source = DataLoader(data, batch_size=4) if as_loader else data
    collected = collect_features(ConvNet(N_CLASSES), source, progress=False)
    assert collected.class_names == Rows.classes
    assert collected.class_name(2) == "eel"


def test_collect_features_brings_labels_to_the_order_of_the_names_given():
    data = Rows(lambda image, label: (image, label))
    model = ConvNet(N_CLASSES)
    own = collect_features(model, data, progress=False)
    names = ["Fox", "eel", "dog", "cat"]
    turned = collect_features(model, Subset(data, range(len(data))), class_names=names,
                              progress=False)  # fmt: skip
    assert turned.class_names == tuple(names)
    assert torch.equal(turned.labels, 3 - own.labels)
    with pytest.raises(ValueError, match=r"no class of the model is called cat, dog, eel, fox"):
        collect_features(model, data, class_names=list("abcd"), progress=False)
    renamed = collect_features(
        model, DataLoader(data), class_names=list("abcd"), by_position=True, progress=False
    )
    assert renamed.class_names == tuple("abcd")
    assert torch.equal(renamed.labels, own.labels)


def test_labels_that_do_not_fit_the_names_of_their_own_data():
    data = Rows(lambda image, label: (image, label))
    data.classes = ["cat", "dog"]
    with pytest.raises(ValueError, match=r"label 2, but the data names only 2 classes, cat, dog"):
        collect_features(ConvNet(N_CLASSES), data, class_names=["cat", "dog", "e", "f"],
                         progress=False)  # fmt: skip


def test_one_hot_labels_are_class_indices():
    images, labels = _pictures()
    model = ConvNet(N_CLASSES)
    expected = collect_features(model, (images, labels), progress=False)
    rows = nn.functional.one_hot(labels, N_CLASSES)
    for data in ((images, rows), DataLoader(TensorDataset(images, rows.float()), batch_size=3)):
        with pytest.warns(UserWarning, match=r"exactly one 1 in each row \(one-hot\)"):
            found = collect_features(model, data, progress=False)
        assert torch.equal(found.labels, expected.labels)
        assert found.accuracy() == expected.accuracy()
    rows[0, :2] = 1  # a single row with two classes: they are multi-hot
    assert collect_features(model, (images, rows), progress=False).is_multi_hot


def test_class_indices_in_a_column():
    images, labels = _pictures()
    found = collect_features(ConvNet(N_CLASSES), (images, labels[:, None]), progress=False)
    assert torch.equal(found.labels, labels)


@pytest.mark.parametrize(
    ("rest", "error", "message"),
    [
        (("cat",), TypeError, "item 3: the label is the text 'cat', expected a class number"),
        ((-1,), ValueError, "item 3: the label is -1, expected 0 or more"),
        ((None,), TypeError, "item 3: the label is None, expected a class number"),
        ((0.5,), TypeError, "item 3: the label is 0.5, expected a class number"),
        ((1, "a/b.jpg"), TypeError, "item 3: the third entry is the text 'a/b.jpg', expected a g"),
        ((1, torch.tensor([1, 0])), TypeError, r"item 3: the third entry is a Tensor of shape \("),
        ((1, -1), ValueError, "item 3: the group is -1"),
        ((1, 0.5), TypeError, "item 3: the group is 0.5, expected a whole number"),
    ],
)
def test_an_item_that_is_no_sample_is_named(rest, error, message):
    good = (1,) if len(rest) == 1 else (1, 0)
    data = [(torch.rand(3, 8, 8), *(rest if i == 3 else good)) for i in range(5)]
    with pytest.raises(error, match=message):
        collect_features(ConvNet(N_CLASSES), data, batch_size=2, progress=False)


def test_items_of_a_users_loader_are_named_too():
    model = ConvNet(N_CLASSES)
    texts = [(torch.rand(3, 8, 8), "cat") for _ in range(3)]
    metadata = [(torch.rand(3, 8, 8), 0, torch.tensor([1, 2, 3])) for _ in range(3)]
    labels = [(torch.rand(3, 8, 8), -(i == 2)) for i in range(4)]
    for data, error, message in (
        (texts, TypeError, "item 0: the label is the text 'cat'"),
        (metadata, TypeError, r"item 0: the third entry is a Tensor of shape \(3,\)"),
        (labels, ValueError, "item 2: the label is -1"),
    ):
        with pytest.raises(error, match=message):
            collect_features(model, DataLoader(data, batch_size=2), progress=False)


def test_synonyms_and_numbers_become_texts():
    data = Rows(lambda image, label: (image, label))
    data.classes = [("tench", "Tinca tinca"), "goldfish", 7, b"ray"]
    found = collect_features(ConvNet(N_CLASSES), data, progress=False)
    assert found.class_names == ("tench, Tinca tinca", "goldfish", "7", "ray")
    assert FeatureSet.__name__ in repr(found)


def test_collect_features_unwraps_hugging_face():
    model, head = _hugging_face("ViT")
    images, labels = torch.rand(3, 3, 32, 32), torch.tensor([0, 1, 2])
    collected = collect_features(model, (images, labels), batch_size=2, progress=False)
    with torch.no_grad():
        expected = model.eval()(images).logits
    torch.testing.assert_close(collected.logits, expected)
    torch.testing.assert_close(collected.features @ head.weight.T + head.bias, expected)


def test_collect_features_head_given_is_not_searched(monkeypatch):
    def never(*_):
        raise Boom

    monkeypatch.setattr("captum_neuroinspect.features.find_head", never)
    model = ConvNet(N_CLASSES)
    collected = collect_features(model, _pictures(), model.head, progress=False)
    torch.testing.assert_close(model.head(collected.features).detach(), collected.logits)


def test_collect_features_runs_in_eval_mode_and_leaves_the_model_as_it_was():
    """Partly in training mode, partly frozen: each flag comes back by itself."""
    model = ConvNet(N_CLASSES).train()
    model.backbone[1].eval()
    model.backbone[0].weight.requires_grad_(False)
    seen, weights = [], list(model.parameters())
    watch = model.backbone[5].register_forward_hook(
        lambda module, *_: seen.append(
            (module.training, torch.is_grad_enabled(), any(p.requires_grad for p in weights))
        )
    )
    with left_unchanged(model):
        collect_features(model, _pictures(), progress=False)
    watch.remove()
    assert set(seen) == {(False, False, False)}


def test_collect_features_model_unchanged_after_an_exception():
    """The third batch of the loader fails, with hooks set and the model frozen."""

    def fails_late(image, label):
        if label == 3:
            raise Boom
        return image, label

    model = ConvNet(N_CLASSES).train()
    with left_unchanged(model), pytest.raises(Boom):
        collect_features(model, Rows(fails_late), batch_size=1, progress=False)


def test_collect_features_model_unchanged_after_its_own_exception():
    class Fails(nn.Module):
        calls = 0

        def forward(self, x):
            Fails.calls += 1
            if Fails.calls > 2:
                raise Boom
            return x

    model = ConvNet(N_CLASSES).train()
    model.backbone.append(Fails())
    with left_unchanged(model), pytest.raises(Boom):
        collect_features(model, _pictures(), batch_size=2, progress=False)


def test_collect_features_progress_is_shown(capsys):
    collect_features(ConvNet(N_CLASSES), _pictures(4), batch_size=2)
    assert "features: 100%" in capsys.readouterr().err


def _with(index, value):
    images, labels = _pictures()
    images = images.clone()
    images[index, 0, 0, 0] = value
    return images, labels


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((_pictures()[0], torch.arange(10)), ValueError, "label=4 is out of range: expected 0..3"),
        ((_pictures()[0], torch.arange(10) - 1), ValueError, "item 0: the label is -1"),
        ((_pictures()[0], torch.rand(10)), TypeError, "item 0: the label is"),
        ((_pictures()[0], torch.eye(10).long()), ValueError, r"shape \(4, 10\), expected class"),
        (_with(5, torch.nan), ValueError, "images: sample 1 of batch 1 has NaN"),
        (_with(0, torch.inf), ValueError, "images: sample 0 of batch 0 has NaN or infinite"),
        ((torch.empty(0, 3, 8, 8), torch.empty(0).long()), ValueError, "data is empty"),
        ([], ValueError, "data is empty"),
        (Stream(0), ValueError, "data is empty"),
        (DataLoader(Rows(None, 0)), ValueError, "data is empty"),
        ((_pictures()[0], torch.zeros(3).long()), ValueError, r"lengths \[10, 3\]"),
        ((_pictures()[0],), TypeError, "data has 1 tensors"),
        (3, TypeError, "data is int, expected a DataLoader, a Dataset or"),
        (Rows(lambda image, label: image), TypeError, "a batch is Tensor, expected"),
        (Rows(lambda image, label: {"pixel_values": image}), TypeError, "a batch is tuple"),
        (Rows(lambda image, label: (image, label, 0, 0)), TypeError, "a batch is list"),
    ],
)
def test_collect_features_refuses(data, error, message):
    model = ConvNet(N_CLASSES).train()
    with left_unchanged(model), pytest.raises(error, match=message):
        collect_features(model, data, batch_size=4, progress=False)


@pytest.mark.parametrize("as_mapping", [False, True])
def test_collect_features_refuses_photos_without_a_transform(as_mapping):
    from PIL import Image

    photo = Image.new("RGB", (8, 8))
    item = {"pixel_values": photo, "labels": 0} if as_mapping else (photo, 0)
    with pytest.raises(TypeError, match="an image is Image, expected a tensor: give the Dataset"):
        collect_features(ConvNet(N_CLASSES), [item], progress=False)


def test_collect_features_refuses_features_that_are_not_finite():
    model = ConvNet(N_CLASSES)
    with torch.no_grad():
        model.backbone[0].bias[0] = torch.nan
    with left_unchanged(model), pytest.raises(ValueError, match="logits of ConvNet are NaN"):
        collect_features(model, _pictures(), progress=False)
    with pytest.raises(ValueError, match="features: sample 0 of batch 0 has NaN"):
        collect_features(model, _pictures(), model.head, progress=False)


def test_collect_features_refuses_a_head_that_is_not_linear():
    model = ConvNet(N_CLASSES)
    with pytest.raises(TypeError, match=r"head is Conv2d, expected nn\.Linear"):
        collect_features(model, _pictures(), model.backbone[0], progress=False)


def test_collect_features_refuses_a_head_of_another_model():
    model = ConvNet(N_CLASSES)
    with left_unchanged(model), pytest.raises(RuntimeError, match="layer was not run"):
        collect_features(model, _pictures(), nn.Linear(16, N_CLASSES), progress=False)


def test_collect_features_refuses_a_head_on_a_map():
    """A linear layer on every position has no single feature vector per picture."""
    model = nn.Sequential(nn.Flatten(2), nn.Linear(64, N_CLASSES), nn.Flatten())
    with pytest.raises(ValueError, match=r"head's input has shape \(2, 3, 64\) for 2 images"):
        collect_features(model, _pictures(2), model[1], progress=False)


def test_collect_features_refuses_class_names_before_the_second_batch():
    """Names of another data set must not cost a pass over all pictures first."""
    read = []
    data = Rows(lambda image, label: read.append(label) or (image, label))
    data.classes = None
    with pytest.raises(ValueError, match=r"2 class_names \(a, b\) for a head with 4 classes"):
        collect_features(
            ConvNet(N_CLASSES), data, batch_size=2, class_names=["a", "b"], progress=False
        )
    assert len(read) == 2


def test_collect_features_refuses_an_empty_batch_size():
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        collect_features(ConvNet(N_CLASSES), _pictures(), batch_size=0)


# --- FeatureSet ----------------------------------------------------------------------


@pytest.fixture
def six():
    """Six samples; logits are chosen so that predictions are 0 1 1 2 2 0."""
    predictions = torch.tensor([0, 1, 1, 2, 2, 0])
    return FeatureSet(
        features=torch.arange(12.0).view(6, 2),
        logits=torch.eye(3)[predictions],
        labels=torch.tensor([0, 0, 1, 1, 1, 0]),
        groups=torch.tensor([0, 0, 1, 1, 3, 3]),
        class_names=("ant", "bee", "cow"),
    )


def test_feature_set_measures_by_hand(six):
    assert len(six) == 6
    assert six.n_classes == 3
    assert six.predictions.tolist() == [0, 1, 1, 2, 2, 0]
    assert six.is_correct.tolist() == [True, False, True, False, False, True]
    assert six.accuracy() == 0.5
    torch.testing.assert_close(
        six.class_accuracy(), torch.tensor([2 / 3, 1 / 3, torch.nan]), equal_nan=True
    )
    torch.testing.assert_close(
        six.group_accuracy(), torch.tensor([0.5, 0.5, torch.nan, 0.5]), equal_nan=True
    )
    assert six.confusion().toarray().tolist() == [[2, 1, 0], [0, 1, 2], [0, 0, 0]]
    assert "6 samples, 2 features, 3 classes, accuracy 0.500" in repr(six)


def test_feature_set_mistakes_by_hand(six):
    assert six.mistakes().indices.tolist() == [1, 3, 4]
    assert six.mistakes(target=1).indices.tolist() == [3, 4]
    assert six.mistakes(predicted=1).indices.tolist() == [1]
    assert six.mistakes(target=1, predicted=0).indices.tolist() == []
    assert six.correct().indices.tolist() == [0, 2, 5]
    assert six.correct(target=0).indices.tolist() == [0, 5]


def test_feature_set_subsets_keep_their_way_back(six):
    """The indices of a subset of a subset point into the data, not into the subset."""
    again = six.mistakes().subset(torch.tensor([2, 0]))
    assert again.indices.tolist() == [4, 1]
    assert torch.equal(again.features, six.features[[4, 1]])
    assert again.groups.tolist() == [3, 0]


def test_feature_set_without_samples(six):
    nothing = six.mistakes(target=2)
    assert len(nothing) == 0
    assert nothing.features.shape == (0, 2)
    assert nothing.accuracy() != nothing.accuracy()  # NaN
    assert nothing.class_accuracy().isnan().all()


def test_feature_set_with_head_rejudges(six):
    judged = six.with_head(linear([[0, 0], [1, 0], [0, 0]], [5.0, 0, 0]))
    assert judged.logits.tolist()[1] == [5, 2, 0]
    assert judged.predictions.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(judged.indices, six.indices)
    with pytest.raises(ValueError, match="head takes 3 features, this set has 2"):
        six.with_head(nn.Linear(3, 3))
    with pytest.raises(TypeError, match="head is Identity"):
        six.with_head(nn.Identity())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": torch.tensor([0, 3])}, ValueError, "label=3 is out of range: expected 0..2"),
        ({"labels": torch.tensor([0, -1])}, ValueError, "label=-1 is out of range"),
        ({"labels": torch.rand(2)}, TypeError, "labels has dtype torch.float32"),
        ({"labels": torch.zeros(3).long()}, ValueError, "lengths differ"),
        ({"groups": torch.zeros(3).long()}, ValueError, "lengths differ"),
        ({"groups": torch.tensor([0, -1])}, ValueError, "group=-1, expected 0 or more"),
        ({"group_names": ("a",)}, ValueError, "1 group_names, but groups=None"),
        (
            {"groups": torch.tensor([0, 1]), "group_names": ("a",)},
            ValueError,
            r"group=1 is out of range: expected 0..0 \(1 group_names\)",
        ),
        ({"features": torch.zeros(2)}, ValueError, r"expected \(N, F\), \(N, C\) and \(N,\)"),
        ({"features": torch.tensor([[torch.nan], [0]])}, ValueError, "features have NaN"),
        ({"features": torch.zeros(2, 1).long()}, TypeError, "features have dtype torch.int64"),
        ({"logits": torch.full((2, 3), torch.nan)}, ValueError, "logits have NaN"),
        ({"logits": torch.zeros(2, 0)}, ValueError, r"logits \(2, 0\) have no class"),
        ({"class_names": ("a", "b")}, ValueError, "2 class_names for 3 classes"),
    ],
)
def test_feature_set_refuses(change, error, message):
    good = {
        "features": torch.zeros(2, 1),
        "logits": torch.zeros(2, 3),
        "labels": torch.zeros(2).long(),
    }
    FeatureSet(**good)
    with pytest.raises(error, match=message):
        FeatureSet(**{**good, **change})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.mistakes(target=3), "target=3 is out of range"),
        (lambda s: s.mistakes(target=-1), "target=-1 is out of range"),
        (lambda s: s.mistakes(predicted=9), "predicted=9 is out of range"),
        (lambda s: s.correct(target=3), "target=3 is out of range"),
        (lambda s: s.split(0), "fraction=0, expected a number between 0 and 1"),
        (lambda s: s.split(1.0), "fraction=1.0"),
        (lambda s: s.split(together=torch.zeros(5)), "together has 5 entries, expected 6"),
    ],
)
def test_feature_set_methods_refuse(six, call, message):
    with pytest.raises(ValueError, match=message):
        call(six)


def test_feature_set_group_accuracy_needs_groups():
    few = FeatureSet(torch.zeros(1, 1), torch.zeros(1, 2), torch.tensor([0]))
    with pytest.raises(ValueError, match="no groups"):
        few.group_accuracy()


# --- split ---------------------------------------------------------------------------


def _many(labels):
    return feature_set(nn.Linear(2, 3), torch.rand(len(labels), 2), labels)


def test_split_is_stratified_complete_and_disjoint():
    labels = torch.tensor([0] * 40 + [1] * 20 + [2] * 8)
    first, second = _many(labels).split(0.25, seed=3)
    assert torch.bincount(first.labels).tolist() == [10, 5, 2]
    assert torch.bincount(second.labels).tolist() == [30, 15, 6]
    assert sorted(first.indices.tolist() + second.indices.tolist()) == list(range(68))
    assert torch.equal(labels[first.indices], first.labels)


def test_split_is_drawn_by_its_seed_only():
    data = _many(torch.arange(60) % 3)
    drawn = [data.split(seed=seed)[0].indices.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    state = torch.get_rng_state()
    data.split()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_split_keeps_units_together(n_classes):
    """Also a unit (a patient) that has samples of several classes."""
    units = torch.arange(60) // 4
    labels = torch.arange(60) % n_classes
    first, second = _many(labels).split(0.4, seed=1, together=units)
    assert not set(units[first.indices].tolist()) & set(units[second.indices].tolist())
    assert len(first) + len(second) == 60
    assert len(first) == 0.4 * 60


def test_split_of_units_counts_units_in_each_class():
    """Units of one class each: class by class the share is kept."""
    units = torch.arange(40) // 2
    labels = (torch.arange(40) >= 24).long()
    first, _ = _many(labels).split(0.5, together=units)
    assert torch.bincount(first.labels).tolist() == [12, 8]


@pytest.mark.parametrize("seed", range(5))
def test_split_counts_units_that_came_with_another_class(seed):
    """Class 0 is in units 0..9, class 1 in units 5..14: half of each class's units."""
    units = torch.cat([torch.arange(10), torch.arange(5, 15)])
    labels = torch.tensor([0] * 10 + [1] * 10)
    first, second = _many(labels).split(0.5, seed=seed, together=units)
    assert torch.bincount(first.labels).tolist() == [5, 5]
    assert not set(units[first.indices].tolist()) & set(units[second.indices].tolist())


# --- files ---------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, torch.tensor([2, 0, 1])])
@pytest.mark.parametrize("class_names", [None, ("é", "b, c")])
def test_save_load_round_trip(tmp_path, groups, class_names):
    data = FeatureSet(
        torch.rand(3, 5),
        torch.rand(3, 2),
        torch.tensor([0, 1, 1]),
        groups=groups,
        class_names=class_names,
        indices=torch.tensor([7, 3, 11]),
        group_names=None if groups is None else ("snow", "grass", "sand"),
    )
    assert data.group_name(1) == ("group 1" if groups is None else "grass")
    path = data.save(tmp_path / "new folder" / "set.safetensors")
    assert_same_set(FeatureSet.load(path), data)


def test_save_load_tensors_that_share_memory(tmp_path):
    """The group of a sample may be its label, its features may be its logits."""
    features, labels = torch.rand(4, 3).T.contiguous().T, torch.tensor([0, 1, 1, 2])
    data = FeatureSet(features, features, labels, groups=labels).subset(torch.arange(4) > 0)
    assert_same_set(FeatureSet.load(data.save(tmp_path / "set")), data)
    whole = FeatureSet(features, features, labels, groups=labels)
    assert_same_set(FeatureSet.load(whole.save(tmp_path / "set")), whole)


def test_write_atomically_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "set.json"
    path.write_text("old")

    def fails(temporary):
        temporary.write_text("half")
        raise Boom

    with pytest.raises(Boom):
        write_atomically(path, fails)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_save_is_atomic(tmp_path, monkeypatch):
    data = _many([0, 1, 2])
    path = data.save(tmp_path / "set.safetensors")
    old = path.read_bytes()

    def fails(tensors, target, metadata):
        target.write_bytes(b"half")
        raise Boom

    monkeypatch.setattr("captum_neuroinspect._core.kept_file.save_file", fails)
    with pytest.raises(Boom):
        data.subset(torch.tensor([0])).save(path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_gives_the_usual_rights(tmp_path):
    path = write_atomically(tmp_path / "a.txt", lambda temporary: temporary.write_text("new"))
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644


# --- fingerprints --------------------------------------------------------------------


def test_collect_features_records_fingerprints():
    model, data = ConvNet(N_CLASSES), _pictures()
    first = collect_features(model, data, progress=False)
    again = collect_features(copy.deepcopy(model).train(), data, progress=False)
    names = ("head_fingerprint", "backbone_fingerprint")
    assert all(len(getattr(first, name)) == 16 for name in names)
    assert [getattr(first, name) for name in names] == [getattr(again, name) for name in names]
    with torch.no_grad():
        model.head.bias[0] += 1
    other = collect_features(model, data, progress=False)
    assert other.head_fingerprint != first.head_fingerprint
    assert other.backbone_fingerprint == first.backbone_fingerprint
    with torch.no_grad():
        model.backbone[1].running_mean[0] += 1
    moved = collect_features(model, data, progress=False)
    assert moved.head_fingerprint == other.head_fingerprint
    assert moved.backbone_fingerprint != first.backbone_fingerprint


class Normalized(nn.Module):
    """A network behind the mean of its pixels, as a wrapper keeps it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.network = network

    def forward(self, images):
        return self.network(images - self.mean)


def test_a_wrapper_that_normalises_has_the_same_backbone() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(144, 3)
    ).eval()
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    bare = collect_features(network, (images - 0.5, labels), progress=False)
    wrapped = collect_features(Normalized(network), (images, labels), progress=False)
    assert bare.backbone_fingerprint == wrapped.backbone_fingerprint
    network[1].running_mean += 1  # which is learned, though it is a buffer
    other = collect_features(network, (images, labels), progress=False)
    assert other.backbone_fingerprint != bare.backbone_fingerprint


def test_fingerprints_go_with_the_set(tmp_path):
    model = ConvNet(N_CLASSES)
    data = collect_features(model, _pictures(), progress=False)
    loaded = FeatureSet.load(data.save(tmp_path / "set"))
    for kept in (loaded, data.mistakes(), data.split()[0]):
        assert kept.head_fingerprint == data.head_fingerprint
        assert kept.backbone_fingerprint == data.backbone_fingerprint
    assert data.with_head(model.head).head_fingerprint == data.head_fingerprint
    judged = data.with_head(nn.Linear(16, N_CLASSES))
    assert judged.head_fingerprint != data.head_fingerprint
    assert judged.backbone_fingerprint == data.backbone_fingerprint


def test_files_without_fingerprints_load(tmp_path):
    old = _many([0, 1, 2])
    loaded = FeatureSet.load(old.save(tmp_path / "set"))
    assert loaded.head_fingerprint is None
    assert loaded.backbone_fingerprint is None


def test_head_fingerprint_names_values_not_things():
    head = nn.Linear(3, 2, bias=False)
    same = nn.Linear(3, 2)
    with torch.no_grad():
        same.weight.copy_(head.weight)
        same.bias.zero_()
    assert head_fingerprint(head) == head_fingerprint(same)
    assert head_fingerprint(head) != head_fingerprint(nn.Linear(3, 2))


# --- many labels a sample, or one output ---------------------------------------------


@pytest.fixture
def many():
    """Decisions  +-+ / -+- / ++-  against labels  101 / 011 / 100."""
    signs = torch.tensor([[1, -1, 1], [-1, 1, -1], [1, 1, -1]])
    labels = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 0, 0]])
    groups = torch.tensor([0, 1, 1])
    return FeatureSet(torch.arange(6.0).view(3, 2), signs.float(), labels, groups=groups)


def test_multi_hot_measures_by_hand(many):
    assert many.is_multi_hot
    assert many.n_classes == 3
    assert many.predictions.tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 0]]
    assert many.is_correct.tolist() == [[True] * 3, [True, True, False], [True, False, True]]
    assert many.accuracy() == pytest.approx(7 / 9)
    # Balanced: class 1 is found once of once, spared once of twice.
    assert many.class_accuracy().tolist() == pytest.approx([1.0, (1 + 0.5) / 2, (0.5 + 1) / 2])
    assert many.group_accuracy().tolist() == pytest.approx([1.0, 2 / 3])
    assert many.of_class(2).tolist() == [True, True, False]
    assert many.subset(torch.tensor([0, 2])).class_accuracy().isnan().tolist() == [
        True,
        True,
        False,
    ]
    with pytest.raises(ValueError, match="no confusion"):
        many.confusion()


def test_multi_hot_mistakes_by_hand(many):
    assert many.mistakes().indices.tolist() == [1, 2]
    assert many.mistakes(target=2).indices.tolist() == [1]
    assert many.mistakes(predicted=1).indices.tolist() == [2]
    assert many.mistakes(target=0).indices.tolist() == []
    assert many.correct().indices.tolist() == [0]
    assert many.correct(target=0).indices.tolist() == [0, 2]


def test_multi_hot_split_save_and_load(many, tmp_path):
    first, second = many.split(1 / 3)
    assert (len(first), len(second)) == (1, 2)
    assert_same_set(FeatureSet.load(many.save(tmp_path / "set")), many)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.uint8])
def test_multi_hot_labels_of_any_dtype(many, dtype):
    again = FeatureSet(many.features, many.logits, many.labels.to(dtype))
    assert torch.equal(again.labels, many.labels)
    assert again.labels.dtype == torch.int64


@pytest.mark.parametrize("column", [False, True])
def test_a_single_output_decides_between_two_classes(column):
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[-1.0], [2.0], [3.0], [-0.5]])
    data = FeatureSet(torch.zeros(4, 1), logits, labels[:, None] if column else labels)
    assert data.n_classes == 2
    assert data.predictions.tolist() == [0, 1, 1, 0]
    assert data.accuracy() == 0.5
    assert data.class_accuracy().tolist() == [0.5, 0.5]
    assert data.confusion().toarray().tolist() == [[1, 1], [1, 1]]
    assert data.mistakes(target=1).indices.tolist() == [3]
    with pytest.raises(ValueError, match=r"label=2 is out of range: expected 0..1"):
        FeatureSet(torch.zeros(1, 1), torch.zeros(1, 1), torch.tensor([2]))


def test_labels_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="other values than 0 and 1"):
        FeatureSet(torch.zeros(1, 1), torch.zeros(1, 2), torch.tensor([[0, 2]]))
    with pytest.raises(ValueError, match=r"labels \(1, 3\): expected .* multi-hot"):
        FeatureSet(torch.zeros(1, 1), torch.zeros(1, 2), torch.tensor([[0, 1, 1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_collect_features_takes_many_labels(dtype):
    images, labels = torch.rand(6, 3, 8, 8), torch.randint(0, 2, (6, N_CLASSES))
    model = ConvNet(N_CLASSES)
    with left_unchanged(model):
        data = collect_features(model, (images, labels.to(dtype)), progress=False)
    assert torch.equal(data.labels, labels)
    with pytest.raises(ValueError, match=r"labels have shape \(6, 2\), expected class indices"):
        collect_features(model, (images, labels[:, :2]), progress=False)


def test_collect_features_takes_a_single_output():
    images, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 2
    data = collect_features(ConvNet(1), (images, labels), class_names=["no", "yes"], progress=False)
    assert data.logits.shape == (6, 1)
    assert data.n_classes == 2
    assert data.class_name(1) == "yes"
    with pytest.raises(ValueError, match="label=2 is out of range"):
        collect_features(ConvNet(1), (images, labels * 2), progress=False)


def test_html_lists_the_worst_classes_first_and_escapes_their_names():
    logits = torch.eye(3)[torch.tensor([0, 0, 1, 2])]
    few = FeatureSet(logits, logits, torch.tensor([0, 1, 1, 2]), class_names=("<b>", "c", "d"))

    page = few._repr_html_()

    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert page.index(">c<") < page.index("&lt;b&gt;")
    assert "1 of 2 (95 %: 0.09 to 0.91)" in page
