"""Ways to start, to steer and to look on: what `render_illusions` can be told."""

from functools import partial

import pytest
import torch
from helpers import left_unchanged
from lucent.optvis import param
from lucent.optvis.transform import standard_transforms as lucent_transforms
from optvis_nets import CLASS_NAMES, N_FEATURES, FakeEncoder, TinyNet, render
from torch import nn
from torch.nn import functional as F

from captum_neuroinspect.optvis import (
    activation_mask,
    illusion_image,
    illusion_transforms,
    maco_image,
    random_affine,
    spectrum_magnitude,
)
from captum_neuroinspect.optvis.units.image_targets import Directions

FAST = {"size": 16, "n_steps": 4, "progress": False}
STILL = {"size": 16, "n_steps": 1, "lr": 1e-12, "progress": False}
GUIDED = {"classes": 1, "encoder": FakeEncoder(), "class_names": CLASS_NAMES}
PHOTOS = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
DIRECTIONS = torch.randn(3, N_FEATURES, generator=torch.Generator().manual_seed(2))


def _units(model, images):
    with torch.no_grad():
        return model.eval().norm(model.conv(images)).relu()


# Snapshots


def test_snapshots_are_the_images_on_their_way():
    found = render(TinyNet(), [0, 1, 2], **FAST, snapshots=(1, 3, 4), batch_size=2)
    plain = render(TinyNet(), [0, 1, 2], **FAST, batch_size=2)
    assert found.snapshots.shape == (3, 3, 3, 16, 16)
    assert found.snapshot_steps == (1, 3, 4)
    assert found.images.equal(plain.images), "looking changes nothing"
    assert found.snapshots[2].equal(found.images)
    assert (found.snapshots[0] - found.snapshots[1]).abs().amax((1, 2, 3)).gt(1e-3).all()
    assert plain.snapshots is None
    assert plain.snapshot_steps == ()


# Starting images


def test_it_starts_from_a_given_image():
    init = PHOTOS[:3]
    each = render(TinyNet(), [0, 1, 2], init=init, **STILL, batch_size=2)
    torch.testing.assert_close(each.images, init, atol=0.5 / 255, rtol=0)
    one = render(TinyNet(), [0, 1, 2], init=init[1], **STILL, batch_size=2)
    torch.testing.assert_close(one.images, init[[1, 1, 1]], atol=0.5 / 255, rtol=0)
    assert one.settings["options"]["init"] == "images"


def test_a_start_is_improved_on():
    goal = {"neurons": [0, 3], "classes": 1, "init": PHOTOS[0]}
    before = render(TinyNet(), **goal, **STILL)
    after = render(TinyNet(), **goal, **{**FAST, "n_steps": 40})
    value = [found.activations + 0.25 * found.logits for found in (before, after)]
    assert value[1].gt(value[0]).all()


# Parameterizations


def pixels(size, batch, *, seed, device):
    """Like Lucent's pixel image: no frequencies, seeded for each image."""
    generators = [torch.Generator().manual_seed(seed + i) for i in range(batch)]
    values = torch.stack([torch.randn(3, *size, generator=g) for g in generators])
    params = [(0.1 * values).to(device).requires_grad_()]
    return params, params[0].sigmoid


PARAMS = {
    "maco": "maco",
    "photos": partial(maco_image, magnitude=spectrum_magnitude(PHOTOS)),
    "pixels": pixels,
    "fft": lambda size, batch, **options: illusion_image(size, batch, sd=0.1, **options),
}
each_param = pytest.mark.parametrize("param", PARAMS.values(), ids=PARAMS.keys())


@each_param
def test_other_parameterizations_work_in_any_batch(param):
    found, apart = (
        render(TinyNet(), [0, 3, 5], 1, param=param, **FAST, batch_size=n) for n in (3, 1)
    )
    torch.testing.assert_close(found.images, apart.images, atol=1e-3, rtol=1e-3)
    assert found.images.min() >= 0
    assert found.images.max() <= 1


@each_param
def test_other_parameterizations_please_the_neuron(param):
    before = render(TinyNet(), [0, 3, 5], param=param, **STILL)
    after = render(TinyNet(), [0, 3, 5], param=param, **{**FAST, "n_steps": 40})
    assert after.activations.gt(before.activations).all()


def test_the_name_of_a_parameterization_is_kept():
    names = [
        render(TinyNet(), 0, param=param, **STILL).settings["param"]
        for param in ("fft", *PARAMS.values())
    ]
    assert names == ["fft", "maco", "maco_image", "pixels", "<lambda>"]


LUCENTS = {
    "fft": lambda: param.image(16, batch=2),
    "pixels": lambda: param.image(16, batch=2, fft=False),
    "ours": lambda: illusion_image(16, batch=2),
    "a partial": partial(param.image, 16, batch=2),
}


@pytest.mark.parametrize("param_f", LUCENTS.values(), ids=LUCENTS.keys())
@pytest.mark.parametrize("transforms", [None, [], lucent_transforms], ids=["ours", "none", "their"])
def test_lucents_param_f(param_f, transforms):
    options = {"param": param_f, "transforms": transforms}
    goal = {"model": TinyNet(), "neurons": [0, 3, 5, 1], "batch_size": 2, **options}
    state, seeded = torch.get_rng_state(), {**STILL, "seed": 7}
    before = render(**goal, **STILL)
    if transforms is not lucent_transforms:  # which draw from global generators
        assert render(**goal, **STILL).images.equal(before.images)
        assert torch.get_rng_state().equal(state)
    if param_f is not LUCENTS["ours"]:
        assert not render(**goal, **seeded).images.equal(before.images)
        assert not before.images[:2].equal(before.images[2:])
    after = render(**goal, **{**FAST, "n_steps": 40})
    assert (after.images - before.images).abs().amax((1, 2, 3)).gt(1e-3).all()
    if transforms == []:  # else it is the mean over moved images that grows
        assert after.activations.gt(before.activations).all()


def test_lucents_network_as_an_image():
    goal = {"neurons": 3, "param": lambda: param.cppn(16)}
    before = render(TinyNet(), **goal, **STILL)
    after = render(TinyNet(), **goal, **{**FAST, "n_steps": 40}, lr=0.005)
    assert after.activations.gt(before.activations).all()


def test_parameters_that_images_share():
    def shared(size, batch, *, seed, device):
        values = torch.zeros(3, *size).requires_grad_()
        return [values], lambda: values.sigmoid().expand(batch, -1, -1, -1)

    found = render(TinyNet(), [0, 1], param=shared, **FAST)
    assert found.images[0].equal(found.images[1])
    assert found.images.ne(0.5).any()


# Directions


@pytest.mark.parametrize("bias", [0.0, -30.0], ids=["open", "silent"])
@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_direction_of_one_unit_is_that_unit(layer, bias):
    options = {"layer": layer, **FAST, "n_steps": 8}
    units = render(TinyNet(bias), [4, 1], [0, 2], **options)
    rows = render(TinyNet(bias), torch.eye(N_FEATURES)[[4, 1]], [0, 2], **options)
    torch.testing.assert_close(rows.images, units.images, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(rows.activations, units.activations, atol=1e-4, rtol=1e-4)
    assert rows.neurons == (0, 1)
    assert rows.classes == (0, 2)
    assert rows.settings["neurons_are"] == f"directions in {units.settings['neurons_are']}"


def test_numbers_and_masks_of_directions():
    model = TinyNet()
    found = render(model, DIRECTIONS, **FAST, masked_by="activation")
    maps = torch.einsum("nchw,nc->nhw", _units(model, found.images), DIRECTIONS)
    torch.testing.assert_close(found.activations, maps.mean((1, 2)), atol=1e-5, rtol=1e-4)
    assert found.masks.equal(activation_mask(maps, 16))


def test_one_direction_in_several_classes():
    one, pair = DIRECTIONS[0], DIRECTIONS[[0, 0]]
    found = render(TinyNet(), one, [0, 2], **FAST)
    expected = render(TinyNet(), pair, [0, 2], **FAST)
    assert found.images.equal(expected.images)
    assert (found.neurons, found.classes) == ((0, 0), (0, 2))
    assert len(render(TinyNet(), one, **FAST)) == 1


def test_directions_of_numpy():
    found = render(TinyNet(), DIRECTIONS.double().numpy(), **FAST)
    assert found.images.equal(render(TinyNet(), DIRECTIONS, **FAST).images)


def test_directions_in_any_batch_and_as_float64():
    together = render(TinyNet(), DIRECTIONS.double(), 1, **FAST)
    apart = render(TinyNet(), DIRECTIONS, 1, **FAST, batch_size=1)
    torch.testing.assert_close(together.images, apart.images, atol=1e-4, rtol=1e-4)
    first = render(TinyNet(), DIRECTIONS, **STILL)
    last = render(TinyNet(), DIRECTIONS, **{**FAST, "n_steps": 40})
    assert last.activations.gt(first.activations).all()


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 2)
        self.block = nn.Identity()

    def forward(self, x):
        return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def test_directions_among_tokens():
    model, directions = Tokens(), torch.eye(5) - 0.5
    found = render(model, directions, layer="block", **FAST)
    with torch.no_grad():
        expected = (model.patches(found.images).mean((2, 3)) * directions).sum(1)
    torch.testing.assert_close(found.activations, expected, atol=1e-5, rtol=1e-4)


def test_maps_that_are_worked_out_later_are_asked_for_the_directions_once():
    maps, directions, asked = torch.randn(3, 40, 4, 5), torch.randn(3, 40), []

    def later(wanted):
        asked.append(wanted)
        return torch.einsum("nchw,nc->nhw", maps, wanted)

    found = Directions(directions).maps(later)
    torch.testing.assert_close(found, torch.einsum("nchw,nc->nhw", maps, directions))
    assert len(asked) == 1


# Negative prompts


def _cosines(images, text):
    with torch.no_grad():
        return FakeEncoder().encode_image(images) @ FakeEncoder().encode_text([text])[0]


class Sharp(FakeEncoder):
    """Sees only how an image differs from grey, so that images differ for it."""

    def encode_image(self, images):
        embedding = self.network(images).mean((2, 3)) - self.network(images * 0 + 0.5).mean((2, 3))
        return F.normalize(embedding, dim=-1)


@pytest.mark.parametrize("class_index", [2, 3])
def test_negative_prompts_are_kept_out(class_index):
    goal = {"neurons": [0, 3, 5], "encoder": Sharp(), "class_names": CLASS_NAMES, **FAST}
    # What the steps make: they do not see the contrast of finished pictures.
    goal |= {"classes": class_index, "n_steps": 40, "contrast": 0}

    def likeness(illusions, text):
        with torch.no_grad():
            embedding = Sharp().encode_image(illusions.images)
        return embedding @ Sharp().encode_text([text])[0]

    free = render(TinyNet(), **goal)
    # A text that the images are like, as it happens.
    text = max(map(str, range(10, 40)), key=lambda text: likeness(free, text).mean())
    assert likeness(free, text).mean() > 0.3
    held = render(TinyNet(), **goal, negative=[text])
    assert likeness(held, text).mean() < likeness(free, text).mean() - 0.1
    reported = torch.tensor(held.settings["negative_similarities"])
    torch.testing.assert_close(reported, likeness(held, text))
    assert held.settings["options"]["guidance"]["negative"] == [text]


def test_only_the_most_similar_prompt_counts_and_weight_0_none():
    goal = {"neurons": [0, 3], **GUIDED, **FAST}
    free = render(TinyNet(), **goal)
    off = render(TinyNet(), **goal, negative=["a", "b"], negative_weight=0)
    torch.testing.assert_close(off.images, free.images)
    cosines = torch.stack([_cosines(off.images, text) for text in ("a", "b")])
    largest = torch.tensor(off.settings["negative_similarities"])
    torch.testing.assert_close(largest, cosines.amax(0))


# Free prompts


def test_a_prompt_of_each_image_stands_for_the_names_of_classes():
    prompts = ["a red dot", "a watermark", "a red dot"]
    goal = {"neurons": [0, 3, 5], "encoder": Sharp(), **FAST}
    found = render(TinyNet(), classes=[1, 1, 2], prompts=prompts, **goal)
    names = ["", "a red dot", "", ""]
    first = render(TinyNet(), 0, 1, encoder=Sharp(), class_names=names, templates=["{}"], **FAST)
    torch.testing.assert_close(found.images[:1], first.images)
    embeddings = Sharp().encode_text(prompts)
    with torch.no_grad():
        expected = (Sharp().encode_image(found.images) * embeddings).sum(1)
    torch.testing.assert_close(found.similarities, expected)
    assert found.settings["options"]["guidance"]["prompts"] == prompts
    assert found.class_names is None


def test_one_prompt_for_all_and_no_classes():
    goal = {"neurons": [0, 3], "encoder": FakeEncoder(), **FAST}
    one = render(TinyNet(), prompts="a dot", **goal)
    each = render(TinyNet(), prompts=["a dot", "a dot"], **goal)
    assert one.images.equal(each.images)
    assert one.logits is None is one.classes
    torch.testing.assert_close(one.similarities, _cosines(one.images, "a dot"))


def test_each_prompt_is_embedded_once():
    class Counting(FakeEncoder):
        def encode_text(self, texts):
            asked.append(list(texts))
            return super().encode_text(texts)

    asked: list[list[str]] = []
    goal = {"neurons": [0, 1, 2], "encoder": Counting(), **FAST}
    render(TinyNet(), prompts=["b", "a", "b"], **goal, batch_size=2)
    assert asked == [["b", "a"]]


# Sizes and channels


class Grey(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("param", ["fft", "maco"])
def test_any_number_of_channels(channels, param):
    model = Grey(channels)
    with left_unchanged(model):
        found = render(model, [0, 1], 1, channels=channels, param=param, **FAST, snapshots=[2])
    assert found.images.shape == (2, channels, 16, 16)
    assert found.settings["options"]["channels"] == channels


def test_an_encoder_sees_one_channel_as_grey():
    found = render(Grey(1), 0, 1, channels=1, **FAST, **_guide(2))
    grey = found.images.expand(-1, 3, -1, -1)
    text = "a bee"
    torch.testing.assert_close(found.similarities, _cosines(grey, text))


def _guide(n_classes):
    names = CLASS_NAMES[:n_classes]
    return {"encoder": FakeEncoder(), "class_names": names, "templates": ["a {}"]}


@pytest.mark.parametrize("size", [1, 2, (1, 9), (7, 2), (33, 20)])
@pytest.mark.parametrize("param", ["fft", "maco"])
def test_any_size(size, param):
    found = render(TinyNet(), [0, 1], size=size, n_steps=2, param=param, progress=False)
    assert found.images.isfinite().all()
    assert found.images.shape[2:] == (size if isinstance(size, tuple) else (size, size))


# Bad arguments

BAD = [
    ({"snapshots": [0]}, ValueError, r"snapshots=\(0,\), expected rising steps from 1"),
    ({"snapshots": [5]}, ValueError, r"snapshots=\(5,\), expected rising steps in 1..4"),
    ({"snapshots": [2, 2]}, ValueError, r"snapshots=\(2, 2\)"),
    ({"snapshots": [3, 1]}, ValueError, "rising"),
    ({"snapshots": [1.5]}, TypeError, r"snapshots=1\.5, expected a whole number"),
    ({"snapshots": [True]}, TypeError, "snapshots=True"),
    (
        {"init": PHOTOS[0, :, :8]},
        ValueError,
        r"init has shape \(3, 8, 16\), expected \(3, 16, 16\)",
    ),
    ({"init": PHOTOS[:2]}, ValueError, r"expected \(3, 16, 16\) or \(1, 3, 16, 16\)"),
    ({"init": PHOTOS[0] * 255}, ValueError, "init has values .* expected 0..1"),
    ({"init": PHOTOS[0] * float("nan")}, ValueError, "init has values nan"),
    ({"init": PHOTOS[0].to(torch.uint8)}, TypeError, "init is torch.uint8"),
    ({"init": PHOTOS[0].numpy()}, TypeError, "init is ndarray, expected a floating point tensor"),
    ({"init": PHOTOS[0].tolist()}, TypeError, "init is list"),
    ({"init": PHOTOS[0], "param": "maco"}, ValueError, "only param='fft' can start"),
    ({"param": "cppn"}, ValueError, r"param='cppn', expected one of \['fft', 'maco'\]"),
    ({"param": 3}, TypeError, "param is int, expected a name or a function"),
    ({"param": lambda *_, **__: ([], None)}, TypeError, "cannot be optimised"),
    (
        {"param": lambda *_, **__: ([torch.zeros(1)], None)},
        TypeError,
        "expected a list of leaf tensors",
    ),
    (
        {"param": lambda size, batch, **_: illusion_image(8, batch)},
        ValueError,
        r"param gave images of shape \(1, 3, 8, 8\), expected \(1, 3, 16, 16\)",
    ),
    ({"neurons": torch.ones(2, 5)}, ValueError, r"directions of shape \(2, 5\), expected \(N, 6\)"),
    ({"neurons": torch.zeros(1, 6)}, ValueError, "direction 0 is zero or not finite"),
    ({"neurons": torch.eye(6) / 0}, ValueError, "direction 0 is zero or not finite"),
    ({"neurons": torch.ones(0, 6)}, ValueError, "neurons is empty"),
    ({"neurons": torch.ones(5)}, ValueError, r"directions of shape \(1, 5\), expected \(N, 6\)"),
    ({"neurons": [0.5] * 6}, TypeError, "neurons has dtype torch.float32"),
    ({"neurons": torch.ones(1, 2, 6)}, TypeError, "neurons has dtype torch.float32"),
    ({"neurons": torch.eye(6), "classes": [0, 1]}, ValueError, "neurons has 6 values and classes"),
    ({"negative": ["a dot"]}, ValueError, "encoder=None: only an encoder reads prompts"),
    ({"negative": "a dot", **GUIDED}, TypeError, "negative='a dot' is one string"),
    ({"prompts": "a dot"}, ValueError, "prompts='a dot', but encoder=None"),
    ({"prompts": ["a", "b"], **GUIDED}, ValueError, "2 prompts, expected 1: one for each image"),
    ({"prompts": [3], **GUIDED}, TypeError, "prompts holds 3"),
    ({"negative": [3], **GUIDED}, TypeError, "negative holds 3"),
    ({"negative_weight": -1.0}, ValueError, r"negative_weight=-1\.0, expected at least 0"),
    ({"channels": 0}, ValueError, "channels=0, expected at least 1"),
    ({"channels": 1.0}, TypeError, r"channels=1\.0"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_values_are_refused_before_a_step(arguments, error, message, monkeypatch):
    monkeypatch.setattr("captum_neuroinspect.optvis._rendering.batches.Optimisation", None)
    model = TinyNet()
    with left_unchanged(model), pytest.raises(error, match=message):
        render(model, **{"neurons": 0, **FAST, **arguments})


# Transforms


def test_the_default_transforms_are_the_public_ones():
    plain = render(TinyNet(), [0, 1, 2], **FAST)
    given = render(TinyNet(), [0, 1, 2], transforms=illusion_transforms, **FAST)
    assert plain.images.equal(given.images)
    assert plain.settings["transforms"] == "illusion_transforms"


def test_transforms_are_called_in_turn_in_each_step_of_each_batch():
    calls = []

    def first(images):
        calls.append(("first", len(images)))
        return images

    def second(images):
        calls.append(("second", len(images)))
        return images

    render(TinyNet(), [0, 1, 2], **{**FAST, "n_steps": 2}, batch_size=2, transforms=[first, second])
    assert calls == [("first", 2), ("second", 2)] * 2 + [("first", 1), ("second", 1)] * 2


def test_made_transforms_get_the_seeds_of_their_images():
    seen = []

    def make(seeds, n_steps):
        seen.append((list(seeds), n_steps))
        return [random_affine(seed=seeds)]

    together = render(TinyNet(), [0, 1, 2], **FAST, seed=5, transforms=make)
    apart = render(TinyNet(), [0, 1, 2], **FAST, seed=5, transforms=make, batch_size=2)
    assert seen == [([5, 6, 7], 4), ([5, 6], 4), ([7], 4)]
    torch.testing.assert_close(together.images, apart.images, atol=1e-5, rtol=0)


def test_lucents_transforms_move_our_images():
    found = render(TinyNet(), [0, 1], **{**FAST, "size": 40}, transforms=lucent_transforms)
    still = render(TinyNet(), [0, 1], **{**FAST, "size": 40}, transforms=[])
    assert found.images.shape == (2, 3, 40, 40)
    assert not found.images.equal(still.images)
    assert "jitter" in found.settings["transforms"]


def test_networks_see_images_of_the_size_asked_for():
    """A vision transformer takes one size only; Lucent's transforms pad and scale."""
    seen = []

    def pads(images):
        return F.pad(images, [3, 3, 0, 0])

    model = TinyNet()
    model.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[2:])))
    options = {"size": (16, 20), "n_steps": 2, "progress": False}
    render(model, 0, **options, transforms=[pads])
    render(model, 0, **options, transforms=lambda seeds, n_steps: [pads])
    assert set(seen) == {(16, 20)}


@pytest.mark.parametrize("transforms", [3, ["jitter"]])
def test_transforms_that_are_none(transforms):
    with pytest.raises(TypeError, match="transforms="):
        render(TinyNet(), [0], **FAST, transforms=transforms)
