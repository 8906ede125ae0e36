"""What Lucent's users write works in our renderer, and means what it means there."""

from functools import partial

import pytest
import torch
import torchvision
from helpers import left_unchanged
from lucent.optvis import objectives, param, transform
from torch import Tensor, nn

from captum_neuroinspect import render_illusions
from captum_neuroinspect.optvis import IllusionOptions, unit_mean

channel = objectives.channel
STILL = IllusionOptions(lr=1e-12)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=4).eval()


def render(network, neurons, classes=None, **options):
    options = {"size": 32, "n_steps": 2, "progress": False, **options}
    with left_unchanged(network):
        return render_illusions(network, neurons, classes, **options)


def _outputs(network, images, layer):
    """What a layer gives, by a hook of our own."""
    kept = []
    module = network.get_submodule(layer)
    hook = module.register_forward_hook(lambda _, __, output: kept.append(output.clone()))
    with torch.no_grad():
        network(images)
    hook.remove()
    return kept[-1]  # of its last call, as Lucent reads it


SAME = {
    "underscores": {"neurons": [3], "layer": "layer4_1_conv2"},
    "layer:channel": {"neurons": "layer4_1_conv2:3"},
    "a list": {"neurons": ["layer4.1.conv2:3"]},
}


@pytest.mark.parametrize("asked", SAME.values(), ids=SAME.keys())
def test_names_of_layers(asked, network):
    found = render(network, **asked)
    assert found.images.equal(render(network, [3], layer="layer4.1.conv2").images)


LAYER = "layer4_1_conv2"
SAME_QUESTION = {
    "Lucent's objective": channel(LAYER, 3),
    "ours": unit_mean(LAYER, 3),
    "a function": lambda model: -model(LAYER)[:, 3].mean(),
}


@pytest.mark.parametrize("objective", SAME_QUESTION.values(), ids=SAME_QUESTION.keys())
def test_the_same_question_gives_the_same_picture(objective, network):
    wanted = render(network, f"{LAYER}:3").images
    assert render(network, objective).images.equal(wanted)


def test_the_closed_rectifier_of_an_objective_lets_the_gradient_pass():
    """As that of the same channel by its number, while other channels are open."""
    torch.manual_seed(0)
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    closed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Linear(4, 2))
    with torch.no_grad():
        closed[0].bias[3] = -2
    wanted = render(closed, [3], 0, layer="1", gamma=0.5)
    assert render(closed, unit_mean("1", 3), 0, gamma=0.5).images.equal(wanted.images)


CAPTIONS = {
    channel(LAYER, 3): "Channel [layer4_1_conv2, 3]",
    channel(LAYER, 3) + channel(LAYER, 1): "Sum(Channel [layer4_1_conv2, 3] + Chann…",
    SAME_QUESTION["a function"]: "objective 0",
}


@pytest.mark.parametrize(("objective", "caption"), CAPTIONS.items(), ids=CAPTIONS.values())
def test_captions_say_what_an_objective_is(objective, caption, network):
    found = render(network, objective)
    assert found.captions()[0].split("\n")[0] == caption


def test_captions_keep_the_names_of_chosen_rows(network):
    found = render(network, ["layer4_1_conv2:3", "layer3_1_conv2:1"])
    assert found.captions()[1].startswith("layer3_1_conv2:1")
    assert found[1:].captions() == found.captions()[1:]


def test_a_name_of_two_layers_is_refused():
    layers = nn.ModuleDict({"a_b": nn.ModuleDict({"c": nn.ReLU()})})
    layers["a"] = nn.ModuleDict({"b_c": nn.ReLU()})
    with pytest.raises(ValueError, match=r"'a_b_c' means a_b.c and a.b_c"):
        render_illusions(layers, [0], layer="a_b_c", size=8)


def _mean(network, images, layer, n_channel):
    return _outputs(network, images, layer)[:, n_channel].flatten(1).mean(1)


OBJECTIVES = {
    "channel": (channel("layer3", 3), lambda a, _: a),
    "sum": (channel("layer3", 3) + channel("layer4", 5), lambda a, b: a + b),
    "negative": (channel("layer3", 3) - 2 * channel("layer4", 5), lambda a, b: a - 2 * b),
    "Objective.sum": (
        objectives.Objective.sum([channel("layer3", 3), channel("layer4", 5)]),
        lambda a, b: a + b,
    ),
    "a function": (lambda model: -model("layer3")[:, 3].mean(), lambda a, _: a),
}


@pytest.mark.parametrize(("objective", "value"), OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_activation_is_what_an_objective_minimises(objective, value, network):
    found = render(network, [objective, "layer4:7"], classes=[1, 2])
    a = _mean(network, found.images, "layer3", slice(3, 4))
    b = _mean(network, found.images, "layer4", slice(5, 6))
    other = _mean(network, found.images, "layer4", slice(7, 8))
    expected = [value(a, b)[0], other[1]]
    torch.testing.assert_close(found.activations, torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert found.masks.shape == (2, 1, 32, 32)
    alone = render(network, objective, classes=1)
    torch.testing.assert_close(found.images[:1], alone.images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("layer", ["bn1", "layer4_1_bn2", "layer4_1_relu", "layer4_1"])
def test_a_layer_that_shares_its_output_with_others_has_masks(layer, network):
    # What an in-place ReLU or a block around it gives is the very same tensor.
    found = render(network, [channel(layer, 3), channel(layer, 5)], classes=1)
    maps = _outputs(network, found.images, layer.replace("_", "."))[[0, 1], [3, 5]]
    expected = maps.flatten(1).mean(1)
    torch.testing.assert_close(found.activations, expected, atol=1e-4, rtol=1e-4)
    assert found.masks.shape == (2, 1, 32, 32)


def test_an_objective_of_labels_is_a_class(network):
    found = render(network, "labels:2", n_steps=3)
    with torch.no_grad():
        torch.testing.assert_close(found.activations, network(found.images)[:, 2])


TIED = {
    "batch=": (channel("layer4", 3, batch=0) + channel("layer4", 4, batch=1), 2, 2),
    "diversity": (channel("layer4", 3) - 10 * objectives.diversity("layer3"), 3, 3),
    "interpolate": (objectives.channel_interpolate("layer4", 3, "layer4", 4), 4, 4),
    "as many as needed": (channel("layer4", 3, batch=2), None, 3),
}


@pytest.mark.parametrize(("objective", "n_given", "n_images"), TIED.values(), ids=TIED.keys())
def test_objectives_of_several_images(objective, n_given, n_images, network):
    given = {} if n_given is None else {"param": lambda: param.image(32, batch=n_given)}
    before = render(network, objective, **given, options=STILL)
    after = render(network, objective, **given, n_steps=6, transforms=[])
    assert len(after) == n_images
    assert after.activations.unique().numel() == 1
    assert after.activations[0] > before.activations[0]


PARAMS = {
    "image": param.image,
    "pixels": partial(param.image, fft=False),
    "cppn": param.cppn,
    "fft_image": param.fft_image,
    "one image": lambda: param.image(32),
}


@pytest.mark.parametrize("param_f", PARAMS.values(), ids=PARAMS.keys())
def test_images_of_one_do_not_notice_their_batch(param_f, network):
    together, apart = (
        render(network, [1, 2, 3], param=param_f, options=IllusionOptions(batch_size=n))
        for n in (3, 2)
    )
    assert together.images.shape == (3, 3, 32, 32)
    torch.testing.assert_close(together.images, apart.images, atol=1e-4, rtol=0)


def test_several_images_of_one_neuron(network):
    found = render(network, 7, [1], param=lambda: param.image(32, batch=3))
    assert (found.neurons, found.classes) == ((7, 7, 7), (1, 1, 1))
    assert not found.images[0].equal(found.images[1])


def test_networks_see_small_images_enlarged_as_in_lucent(network):
    seen = []
    hook = network.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[2:]))
    found = render_illusions(
        network, "layer4:7", param=lambda: param.image(48), n_steps=1, progress=False
    )
    hook.remove()
    assert found.images.shape == found.masks.expand(-1, 3, -1, -1).shape == (1, 3, 48, 48)
    assert set(seen) == {(224, 224)}


NORMALISED = {
    "preprocess": {"transforms": [], "preprocess": transform.normalize()},
    "True": {"transforms": [], "preprocess": True},
    "in the list": {"transforms": [transform.normalize()], "preprocess": False},
    "composed": {"transforms": transform.compose([transform.normalize()])},
    "torchvision": {
        "transforms": torchvision.transforms.Compose(
            [torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
        )
    },
}


@pytest.mark.parametrize("options", NORMALISED.values(), ids=NORMALISED.keys())
def test_normalisation_among_transforms_is_preprocessing(options, network):
    found, other = render(network, [3], **options), render(network, [3], **NORMALISED["True"])
    torch.testing.assert_close(found.images, other.images, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.activations, other.activations)


def test_compose_alone_is_its_list(network):
    def darker(images):
        return images * 0.9

    def shifted(images):
        return images.roll(3, -1)

    both = [darker, shifted]
    composed = [transform.compose(both), [transform.compose(both)], both]
    images = [render(network, [3], transforms=one).images for one in composed]
    assert images[0].equal(images[1])
    assert images[0].equal(images[2])


def test_an_optimizer_of_ones_own(network):
    options = IllusionOptions(optimizer=lambda params: torch.optim.SGD(params, lr=2.0))
    found = render(network, [3], transforms=[], options=options, n_steps=1)
    start = render(network, [3], transforms=[], options=STILL, n_steps=1)
    assert not found.images.equal(start.images)
    assert found.activations > start.activations
    assert found.settings["options"]["optimizer"] == "given"


BAD = {
    "optimizer": ({"options": IllusionOptions(optimizer=torch.optim.LBFGS)}, "LBFGS"),
    "no optimizer": ({"options": IllusionOptions(optimizer=list)}, "optimizer gave list"),
    "normalises": ({"transforms": [lambda x: 255 * x - 117]}, "transforms gave values from"),
    "drops images": ({"transforms": [lambda x: x[:0]]}, "transforms gave shape"),
    "no images": ({"transforms": [lambda x: None]}, "transforms gave NoneType"),
    "detached": ({"transforms": [Tensor.detach]}, "images without a gradient"),
    "fixed": (
        {"param": lambda: (param.image(32)[0], lambda: torch.rand(1, 3, 32, 32))},
        "do not depend on its parameters",
    ),
    "preprocess": ({"preprocess": "imagenet"}, "preprocess='imagenet', expected a function"),
    "a name of a class": ({"classes": "cat"}, "classes='cat', expected whole numbers"),
    "both": ({"transforms": [transform.normalize()], "preprocess": True}, "expected one of them"),
    "raw values": ({"param": lambda: param.pixel_image((1, 3, 32, 32))}, "to_valid_rgb"),
    "too many": ({"neurons": [1, 2, 3], "param": lambda: param.image(32, batch=2)}, "expected 3"),
    "no channel": ({"neurons": "layer4"}, "expected 'layer:channel'"),
    "mixed": ({"neurons": ["layer4:3", 4]}, "mixes objectives and 4"),
    "with a layer": ({"neurons": "layer4:3", "layer": "layer4"}, "expected layer=None"),
    "unknown layer": ({"neurons": channel("layer9", 3)}, "'layer9' is not in ResNet"),
    "unknown channel": ({"neurons": channel("layer4", 900)}, "index 900 is out of bounds"),
    "of other layers": ({"neurons": ["layer4:900", "layer3:2"]}, "neuron=900 of layer4"),
    "tied in a list": ({"neurons": [channel("layer4", 3, batch=1)] * 2}, "several images at once"),
    "too few": (
        {"neurons": channel("layer4", 3, batch=4), "param": lambda: param.image(32, batch=2)},
        "speaks of 5 images, but there are 2",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_meant_is_refused(arguments, message, network):
    with pytest.raises((TypeError, ValueError), match=message):
        render(network, **{"neurons": [1], **arguments})
