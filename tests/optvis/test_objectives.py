import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from lucent.optvis.objectives import Objective, wrap_objective
from lucent.optvis.objectives import channel as lucent_channel

from captum_neuroinspect.optvis import class_conditional, clip_illusion, unit_mean


@pytest.fixture
def layers():
    """Lucent's view of two images: features, logits and embeddings by name."""
    return {
        "features": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "logits": torch.tensor([[0.0, 6.0], [-2.0, 0.0]]),
        "embedding": torch.tensor([[3.0, 4.0], [1.0, 0.0]]),
    }


TEXTS = torch.tensor([[2.0, 0.0], [1.0, 1.0]])


def test_hand_computed_values(layers):
    read = layers.__getitem__
    assert unit_mean("features", 0)(read) == -2
    assert unit_mean("features", [1, 0])(read) == -2.5
    assert unit_mean("features", 1, batch=1)(read) == -4
    # -(1 + 0.25 * 6) and -(3 + 0.25 * 0), their mean
    assert class_conditional("features", 0, 1, logits="logits")(read) == -2.75
    assert class_conditional("features", 0, 1, gamma=0.5, logits="logits", batch=0)(read) == -4
    # Cosines with (2, 0) are 0.6 and 1; so -(0.65) * 2.5 and -(1.05) * 3.
    found = clip_illusion("features", 0, 1, TEXTS[0])(read)
    torch.testing.assert_close(found, torch.tensor(-(0.65 * 2.5 + 1.05 * 3) / 2))


def test_channels_are_means_over_positions_or_tokens():
    maps = torch.arange(16.0).view(2, 2, 2, 2)  # channel means 1.5, 5.5; 9.5, 13.5
    tokens = maps.flatten(2).transpose(1, 2)
    for output in (maps, tokens):
        assert unit_mean("layer", 1)({"layer": output}.get) == -9.5
        assert unit_mean("layer", [1, 0])({"layer": output}.get) == -7.5
    # Lucent's channel is the same on maps; on tokens it would read a token.
    assert lucent_channel("layer", 1)({"layer": maps}.get) == -9.5


def test_one_token():
    tokens = torch.arange(12.0).view(2, 3, 2)  # of image 1: (6, 7), (8, 9), (10, 11)
    layers = {"layer": tokens, "logits": torch.tensor([[1.0, 0.0], [1.0, 0.0]])}
    assert unit_mean("layer", 1, batch=1)(layers.get) == -9
    assert unit_mean("layer", 1, batch=1, token="cls")(layers.get) == -7
    assert unit_mean("layer", 1, batch=1, token=-1)(layers.get) == -11
    assert unit_mean("layer", [0, 1], token=1)(layers.get) == -(2 + 9) / 2
    found = class_conditional("layer", 0, 0, gamma=0.5, logits="logits", token="cls")
    assert found(layers.get) == -(0 + 6) / 2 - 0.5
    layers["embedding"] = torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    illusion = clip_illusion("layer", 1, 0, torch.tensor([1.0, 0.0]), eps=0.0, token=2)
    torch.testing.assert_close(illusion(layers.get), torch.tensor(-0.6 * ((5 + 11) / 2 + 0.25)))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 2), (2, 4, 3)])
def test_directions_are_weighted_sums(shape):
    output = torch.arange(math.prod(shape)).float().view(shape)
    channel_dim = 2 if len(shape) == 3 else 1
    means = output.movedim(channel_dim, 1).flatten(2).mean(2) if len(shape) > 2 else output
    rows = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    layers = {"layer": output, "logits": torch.tensor([[1.0, 4.0], [2.0, 0.0]])}
    torch.testing.assert_close(unit_mean("layer", rows[0])(layers.get), -(means @ rows[0]).mean())
    each = (means * rows).sum(1)
    torch.testing.assert_close(unit_mean("layer", rows)(layers.get), -each.mean())
    torch.testing.assert_close(unit_mean("layer", rows, batch=1)(layers.get), -each[1])
    found = class_conditional("layer", rows.double(), [1, 0], logits="logits")(layers.get)
    torch.testing.assert_close(found, -(each + 0.25 * torch.tensor([4.0, 2.0])).mean())
    unit = unit_mean("layer", torch.eye(3)[2])(layers.get)
    torch.testing.assert_close(unit, unit_mean("layer", 2)(layers.get))


OBJECTIVES = {
    "unit": lambda n, c, t, **o: unit_mean("features", n, **o),
    "class_conditional": lambda n, c, t, **o: class_conditional(
        "features", n, c, logits="logits", **o
    ),
    "clip_illusion": lambda n, c, t, **o: clip_illusion("features", n, c, t, **o),
}
every_objective = pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES.keys())


@every_objective
@pytest.mark.parametrize(
    ("neurons", "classes"), [([0, 1], [1, 0]), ([1, 0], [0, 1]), ([1, 1], [1, 1])]
)
def test_a_batch_of_pairs_is_the_mean_of_singles(make, neurons, classes, layers):
    """Equations (2)-(4) hold for each image: no (N, 1) against (N,) anywhere."""
    together = make(neurons, classes, TEXTS)(layers.__getitem__)
    singles = []
    for i in range(2):
        alone = {name: value[i : i + 1] for name, value in layers.items()}
        singles.append(make(neurons[i], classes[i], TEXTS[i])(alone.__getitem__))
        for index in (i, np.int64(i)):
            chosen = make(neurons, classes, TEXTS, batch=index)(layers.__getitem__)
            torch.testing.assert_close(chosen, singles[i])
        ones = make([neurons[i]], [classes[i]], TEXTS[i : i + 1], batch=i)
        torch.testing.assert_close(ones(layers.__getitem__), singles[i])
    torch.testing.assert_close(together, torch.stack(singles).mean())


@every_objective
def test_images_do_not_mix(make, layers):
    for value in layers.values():
        value.requires_grad_()
    make([0, 1], [1, 0], TEXTS, batch=0)(layers.__getitem__).backward()
    for name, value in layers.items():
        if value.grad is not None:
            assert value.grad[0].any(), name
            assert not value.grad[1].any(), name


@every_objective
def test_arithmetic_with_lucents_objectives(make, layers):
    ours, theirs = make(1, 0, TEXTS[0]), lucent_channel("features", 0)
    a, b = ours(layers.__getitem__), theirs(layers.__getitem__)
    expected = {
        ours + theirs: a + b,
        ours - 0.5 * theirs: a - 0.5 * b,
        theirs - ours: b - a,
        -ours: -a,
        (2 * ours + 1) / 4: (2 * a + 1) / 4,
        Objective.sum([ours, theirs, ours]): 2 * a + b,
        sum([ours, theirs]): a + b,
    }
    for objective, value in expected.items():
        torch.testing.assert_close(objective(layers.__getitem__), value)


@every_objective
@pytest.mark.parametrize("device", ["meta"])  # stands for an accelerator: it refuses to mix
def test_stays_on_the_device_of_the_layers(make, device, layers):
    there = {name: value.to(device).requires_grad_() for name, value in layers.items()}
    value = make([0, 1], [1, 0], TEXTS.to(device), batch=None)(there.__getitem__)
    value.backward()
    assert value.device.type == there["features"].grad.device.type == device


def test_low_precision(layers):
    half = {name: value.bfloat16() for name, value in layers.items()}
    found = clip_illusion("features", 0, 1, TEXTS[0])(half.__getitem__)
    torch.testing.assert_close(found.float(), torch.tensor(-2.3875), atol=0.02, rtol=0)


def test_names_and_descriptions():
    ours = clip_illusion("features", 2, 1, torch.zeros(512), batch=0)
    assert ours.name == "clip_illusion"
    assert ours.description == (
        "Clip_Illusion [features, 2, 1, ..., 0.25, 0.05, logits, embedding, 0, mean]"
    )
    assert class_conditional("fc", [1, 2], 3).description == (
        "Class_Conditional [fc, [1, 2], 3, 0.25, labels, None, mean]"
    )
    both = Objective.sum([ours, unit_mean("fc", 3), lucent_channel("conv", 1)])
    assert both.name == (ours + unit_mean("fc", 3) + lucent_channel("conv", 1)).name
    assert both.name == "clip_illusion, unit_mean, channel"
    assert both.description.endswith("Unit_Mean [fc, 3, None, mean] +\nChannel [conv, 1, None])")


def test_with_an_objective_of_the_users(layers):
    @wrap_objective()
    def deepdream(layer):
        return lambda model: -(model(layer) ** 2).mean()

    both = unit_mean("features", 0) + deepdream("features")
    assert both(layers.__getitem__) == -2 - 7.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: unit_mean("features", [0, 1, 0]), ValueError, "n_channel has 3 values"),
        (lambda: unit_mean("features", [0, 1], batch=2), ValueError, "batch=2, expected the index"),
        (lambda: unit_mean("features", 0, batch=-1), ValueError, "batch=-1, expected at least 0"),
        (lambda: unit_mean("features", 0, batch=0.5), TypeError, r"batch=0\.5, expected a whole"),
        (
            lambda: unit_mean("features", 0, token=0),
            ValueError,
            r"token=0, .* expected tokens \(N",
        ),
        (
            lambda: unit_mean("features", 0, token="last"),
            ValueError,
            "token='last', expected",
        ),
        (lambda: unit_mean("features", 2), ValueError, "n_channel=2 is out of range"),
        (lambda: unit_mean("features", -1), ValueError, "n_channel=-1 is out of range"),
        (
            lambda: unit_mean("features", torch.ones(3)),
            ValueError,
            "n_channel has 3 weights",
        ),
        (lambda: unit_mean("features", torch.ones(3, 2)), ValueError, "n_channel has 3 values"),
        (lambda: unit_mean("features", [0.5, 1.0]), TypeError, "n_channel has dtype"),
        (lambda: _class(0, torch.ones(2)), TypeError, "class_index has dtype"),
        (lambda: unit_mean("features", 0.5), TypeError, "n_channel has dtype"),
        (lambda: unit_mean("embedding", []), ValueError, "n_channel has 0 values"),
        (lambda: _class(0, [0, 1, 1]), ValueError, "class_index has 3 values"),
        (lambda: _class(0, 7), ValueError, "class_index=7 is out of range"),
        (lambda: _class(0, 0, gamma=2), ValueError, "gamma=2"),
        (lambda: _clip(torch.ones(3)), ValueError, r"shape \(3,\), expected \(2,\)"),
        (lambda: _clip(torch.ones(1)), ValueError, r"shape \(1,\), expected \(2,\)"),
        (lambda: _clip(torch.ones(3, 2)), ValueError, "text_embedding has 3 values"),
    ],
)
def test_bad_values(make, error, message, layers):
    with pytest.raises(error, match=message):
        make()(layers.__getitem__)


def _class(*arguments, **options):
    return class_conditional("features", *arguments, logits="logits", **options)


def _clip(text):
    return clip_illusion("features", 0, 0, text)


def test_importing_our_parts_chooses_no_device():
    """Lucent's transforms do; so ours load none of its modules that ask for a GPU."""
    code = (
        "import torch\n"
        "def ask(*_): raise SystemExit('asked for a device')\n"
        "torch.cuda.is_available = torch.cuda.device_count = torch.cuda.current_device = ask\n"
        "from captum_neuroinspect import optvis\n"
        "from captum_neuroinspect.optvis import hooks\n"
        "for name in optvis.__all__: getattr(optvis, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
