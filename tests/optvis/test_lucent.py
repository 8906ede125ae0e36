"""Our parts and Lucent's, in every pairing, in Lucent's own renderer."""

from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from helpers import left_unchanged
from lucent.modelzoo import inceptionv1
from lucent.optvis import objectives, param, transform
from lucent.optvis.render import hook_model, render_vis
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet
from torch.nn import functional as F

from captum_neuroinspect.encoders import class_embeddings
from captum_neuroinspect.optvis import (
    GuidedModel,
    IllusionOptions,
    channel_noise,
    class_conditional,
    clean_hooks,
    clip_illusion,
    illusion_image,
    maco_image,
    random_affine,
    render_illusions,
    unit_mean,
)


class DenseEncoder(FakeEncoder):
    """Looks at every place: with a stride, what one jitter gains the next one loses."""

    def __init__(self) -> None:
        super().__init__()
        self.network.stride = (1, 1)


TEXT = class_embeddings(DenseEncoder(), CLASS_NAMES)
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LARGE = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
HEAD = "softmax2_pre_activation_matmul"  # of Lucent's InceptionV1


def _value(model, objective, images=IMAGES) -> torch.Tensor:
    """An objective of images that are already the model's input, as Lucent computes it."""
    with clean_hooks(model), torch.no_grad():
        read = hook_model(model, lambda: images)
        model(images)
        return objectives.as_objective(objective)(read)


def _assert_falls(model, objective, param_f, transforms=list, *, lr=0.05, size=32, prepare=None):
    """After a few steps of ``render_vis`` the objective under these transforms is lower.

    ``prepare`` is what Lucent does for this model when it is left to preprocess.
    """
    params, image_f = param_f()
    first = image_f().detach()
    with left_unchanged(model), clean_hooks(model):
        (last,) = render_vis(
            model,
            objective,
            lambda: (params, image_f),
            lambda p: torch.optim.Adam(p, lr=lr),
            transforms(),
            thresholds=(3 if size == 224 else 6,),
            preprocess=prepare is not None,
            fixed_image_size=size,
            progress=False,
            show_image=False,
        )
    draws = partial(_transformed, transforms, prepare or torch.nn.Identity(), size)
    before, after = (_mean_value(model, objective, draws(x)) for x in (first, image_f().detach()))
    assert after < before
    assert last.shape == (*first.shape[:1], *first.shape[2:], 3)


def _transformed(transforms, prepare, size, images):
    """Two draws of what the model sees, the same draws for every picture."""
    np.random.seed(1)  # Lucent's transforms draw from it
    chosen = transforms()
    chain = transform.compose(transform.standard_transforms if chosen is None else chosen)
    return [F.interpolate(prepare(chain(images)), size, mode="bilinear") for _ in range(2)]


def _mean_value(model, objective, draws):
    return sum(_value(model, objective, images) for images in draws) / len(draws)


@pytest.fixture(autouse=True)
def _seeded_numpy():
    np.random.seed(0)


@pytest.fixture(scope="module")
def tiny():
    return GuidedModel(TinyNet(), DenseEncoder(), example=IMAGES, layers=["conv", "norm"])


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None, num_classes=4).eval()


@pytest.fixture(scope="module")
def guided_resnet(resnet):
    return GuidedModel(resnet, DenseEncoder(), example=IMAGES, layers=["layer2.1.conv2"])


@pytest.fixture(scope="module")
def inception():
    torch.manual_seed(0)
    return inceptionv1(pretrained=False).eval()


@pytest.fixture(scope="module")
def guided_inception(inception):
    """Its head is followed by a softmax, and its preprocessing is an argument here."""
    head, prepare = inception.get_submodule(HEAD), transform.preprocess_inceptionv1()
    return GuidedModel(inception, DenseEncoder(), head, prepare, LARGE, layers=["mixed4a"])


# The fake encoder's cosine is positive for classes 0 and 3.
OURS = {
    "unit": lambda: unit_mean("features", 3),
    "class_conditional": lambda: class_conditional("features", 3, 0, logits="logits"),
    "clip_illusion": lambda: clip_illusion("features", 3, 0, TEXT[0]),
    "one pair per image": lambda: clip_illusion("features", [3, 4], [0, 3], TEXT[[0, 3]]),
}
THEIRS = {
    "channel": lambda: objectives.channel("norm", 3),
    "labels": lambda: "labels:1",
    "neuron": lambda: objectives.neuron("norm", 3),
    "direction": lambda: objectives.direction("norm", torch.arange(6.0) - 2),
    "channel_weight": lambda: objectives.channel_weight("norm", torch.arange(6.0) - 2),
    "diversity": lambda: -objectives.diversity("norm"),  # Lucent has it subtracted
    "deepdream": lambda: lambda model: -model("conv").square().mean(),
}
PARAMS = {
    "ours": lambda: illusion_image(32, batch=2),
    "maco": lambda: maco_image(32, batch=2),
    "fft": lambda: param.image(32, batch=2),
    "pixel": lambda: param.image(32, batch=2, fft=False),
}
TRANSFORMS = {
    "none": list,
    "ours": lambda: [random_affine(10, 0.1, (0.9, 1.1)), channel_noise(0.02)],
    "jitter": lambda: [transform.jitter(4)],
    "random_scale": lambda: [transform.random_scale([0.9, 1.0, 1.1])],
    "random_rotate": lambda: [transform.random_rotate([-5, 0, 5])],
    "standard": lambda: None,
    "mixed": lambda: [transform.pad(2), random_affine(5, 0.05, (1, 1)), transform.jitter(2)],
}


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@pytest.mark.parametrize("param_f", PARAMS.values(), ids=PARAMS.keys())
@pytest.mark.parametrize("make", list(OURS.values())[:3], ids=list(OURS)[:3])
def test_our_objectives_fall(make, param_f, transforms, tiny):
    _assert_falls(tiny, make(), param_f, transforms)


@pytest.mark.parametrize("transforms", TRANSFORMS.values(), ids=TRANSFORMS.keys())
@pytest.mark.parametrize("make", THEIRS.values(), ids=THEIRS.keys())
def test_lucents_objectives_fall_on_our_images(make, transforms, tiny):
    _assert_falls(tiny, make(), PARAMS["ours"], transforms)


@pytest.mark.parametrize("make", list(OURS.values())[:3], ids=list(OURS)[:3])
def test_cppn(make, tiny):
    """Lucent's network as the image: one image, and its parameters are an iterator."""
    _assert_falls(tiny, make(), lambda: param.cppn(32), TRANSFORMS["jitter"], lr=0.005)


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS.keys())
@pytest.mark.parametrize("theirs", THEIRS.values(), ids=THEIRS.keys())
def test_sums_of_ours_and_theirs(ours, theirs, tiny):
    ours, theirs = ours(), objectives.as_objective(theirs())
    if not isinstance(theirs, objectives.Objective):  # Lucent takes bare functions as well
        theirs = objectives.Objective(theirs, "deepdream")
    a, b = _value(tiny, ours), _value(tiny, theirs)
    for both, expected in {
        ours + theirs: a + b,
        2 * theirs - ours / 4: 2 * b - a / 4,
        objectives.Objective.sum([ours, theirs, ours + 1]): 2 * a + b + 1,
    }.items():
        torch.testing.assert_close(_value(tiny, both), expected)


@pytest.mark.parametrize("param_f", PARAMS.values(), ids=PARAMS.keys())
def test_a_mixture_falls(param_f, tiny):
    parts = [2 * OURS["one pair per image"](), objectives.channel("norm", 3) / 2]
    mixture = objectives.Objective.sum(parts)
    _assert_falls(tiny, mixture - 0.1 * objectives.diversity("norm"), param_f)


def _hand_computed(model: torch.nn.Module, n_channel: int, class_index: int):
    """A, Z and S of a ResNet from its own parts."""
    with torch.no_grad():
        features = torch.nn.Sequential(*list(model.children())[:-1])(IMAGES).flatten(1)
        similarity = DenseEncoder().encode_image(IMAGES) @ TEXT[class_index]
        return features[:, n_channel], model.fc(features)[:, class_index], similarity


@pytest.mark.parametrize("layer", ["features", "avgpool"])
def test_hand_computed_values_on_a_resnet(layer, resnet, guided_resnet):
    a, z, s = _hand_computed(resnet, 7, 2)
    model, logits = (guided_resnet, "logits") if layer == "features" else (resnet, "fc")
    expected = {
        unit_mean(layer, 7): -a,
        class_conditional(layer, 7, 2, gamma=0.3, logits=logits): -(a + 0.3 * z),
        class_conditional(layer, 7, 2): -(a + 0.25 * z),  # a ResNet's "labels" are its logits
    }
    if layer == "features":
        clip = clip_illusion(layer, 7, 2, TEXT[2], gamma=0.3, eps=0.1)
        expected[clip] = -(s + 0.1) * (a + 0.3 * z)
    for objective, values in expected.items():
        torch.testing.assert_close(_value(model, objective), values.mean())


@pytest.mark.parametrize("param_f", PARAMS.values(), ids=PARAMS.keys())
def test_resnet(param_f, resnet, guided_resnet):
    first = 2 * unit_mean("layer1_0_conv1", 5, batch=0)
    both = first + class_conditional("layer2_1_conv2", [3, 4], [1, 0], logits="fc")
    _assert_falls(resnet, both, param_f, prepare=transform.normalize())
    inner = clip_illusion("layer2_1_conv2", 3, 0, TEXT[0]) + unit_mean("features", 9)
    _assert_falls(guided_resnet, inner, param_f, TRANSFORMS["ours"])


def test_labels_of_inception_are_probabilities(inception):
    images = 255 * LARGE - 117
    a, z = (_value(inception, objective, images) for objective in ("mixed4a:3", f"{HEAD}:1"))
    found = _value(inception, class_conditional("mixed4a", 3, 1, logits=HEAD), images)
    torch.testing.assert_close(found, a + 0.25 * z)
    by_label = _value(inception, class_conditional("mixed4a", 3, 1), images)
    assert 0 < -2 * (by_label - a) < 1


def test_inception(inception):
    prepare = transform.preprocess_inceptionv1()
    both = class_conditional("mixed4a", 3, 1, logits=HEAD) + objectives.channel("mixed3a", 5)
    _assert_falls(inception, both, lambda: illusion_image(64), size=224, prepare=prepare)


@pytest.mark.parametrize("layer", [None, "mixed4a"])
def test_inception_in_our_renderer(layer, inception):
    options = {"layer": layer, "size": 224, "progress": False}
    options |= {"head": inception.get_submodule(HEAD), "transforms": []}
    options |= {"preprocess": transform.preprocess_inceptionv1()}
    with left_unchanged(inception):
        still = IllusionOptions(lr=1e-12)
        first = render_illusions(inception, 3, 1, n_steps=1, **options, options=still)
        last = render_illusions(inception, 3, 1, n_steps=4, **options)
    prepared = options["preprocess"](last.images)
    torch.testing.assert_close(last.logits[0], _value(inception, f"{HEAD}:1", prepared).neg())
    value = [found.activations + 0.25 * found.logits for found in (first, last)]
    assert value[1] > value[0]
    assert last.masks.shape == (1, 1, 224, 224)


@pytest.mark.parametrize(
    ("image", "transforms"), [(illusion_image, "standard"), (param.image, "ours")]
)
def test_guided_inception(image, transforms, guided_inception):
    objective = clip_illusion("mixed4a", 3, 0, TEXT[0])
    mixture = objective + 0.5 * unit_mean("features", 3) + objectives.channel("logits", 0)
    _assert_falls(guided_inception, mixture, lambda: image(64), TRANSFORMS[transforms], size=224)
