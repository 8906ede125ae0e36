"""Cheaper steps: an encoder that looks now and then, and small images at first."""

import pytest
import torch
from helpers import left_unchanged
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet, render
from torch import nn

from captum_neuroinspect.optvis import illusion_loss
from captum_neuroinspect.optvis._rendering.cheaper_steps import SparseGuidance, halved
from captum_neuroinspect.optvis._rendering.scores import Scores

PAIRS = {"neurons": [0, 3, 5], "classes": [1, 0, 3]}
GUIDED = {"encoder": FakeEncoder(), "class_names": CLASS_NAMES}
FAST = {"size": 16, "progress": False}


class Counting(FakeEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.n_gradients = 0

    def encode_image(self, images):
        self.n_gradients += images.requires_grad
        return super().encode_image(images)


@pytest.mark.parametrize(("every", "expected"), [(1, 7), (2, 4), (3, 3), (100, 1)])
def test_encoder_looks_in_every_so_many_steps(every, expected):
    encoder = Counting()
    with left_unchanged(encoder.network):
        render(
            TinyNet(),
            **PAIRS,
            encoder=encoder,
            class_names=CLASS_NAMES,
            n_steps=7,
            encoder_every=every,
            **FAST,
        )
    assert encoder.n_gradients == 1 + expected, "one tries the order of memory"


def _sizes(model, **options):
    sizes = []
    hook = model.register_forward_pre_hook(
        lambda _, args: sizes.append(args[0].shape[-1]) if args[0].requires_grad else None
    )
    render(model, **PAIRS, **FAST, **options)
    hook.remove()
    return sizes[1:]  # the first tries the order of memory


@pytest.mark.parametrize(("coarse", "n_small"), [(0.0, 0), (0.5, 5), (0.25, 3), (1.0, 10)])
def test_coarse_steps_show_half_the_size(coarse, n_small):
    sizes = _sizes(TinyNet(), n_steps=10, coarse=coarse)
    assert sizes == [8] * n_small + [16] * (10 - n_small)


def test_halved_takes_means_of_four_pixels():
    images = torch.arange(12.0).view(1, 1, 3, 4)
    # Rows of two pixels at the odd edge count as they are.
    expected = torch.tensor([[[[2.5, 4.5], [8.5, 10.5]]]])
    torch.testing.assert_close(halved(images), expected)


@pytest.mark.parametrize("options", [{"encoder_every": 3}, {"coarse": 0.5}])
@pytest.mark.parametrize("guided", [{}, GUIDED], ids=["class", "guided"])
def test_cheap_steps_do_not_depend_on_the_batch_and_still_please(options, guided):
    run = {"n_steps": 40, "contrast": 0, **PAIRS, **guided, **FAST, **options}
    together = render(TinyNet(), batch_size=3, **run)
    apart = render(TinyNet(), batch_size=1, **run)
    torch.testing.assert_close(together.images, apart.images, atol=1e-4, rtol=1e-3)
    first = render(TinyNet(), **{**run, "n_steps": 1, "lr": 1e-9})
    before, after = (
        illusion_loss(found.activations, found.logits, found.similarities)
        for found in (first, together)
    )
    assert (after < before).all()
    kept = together.settings["options"]
    assert kept["guidance"]["encoder_every"] == options.get("encoder_every", 1)
    assert kept["coarse"] == options.get("coarse", 0.0)


class _Scorer:
    """Stands in for a PairScorer: similarity is a parameter, activation another."""

    negative = None

    def __init__(self, similarity):
        self.encoder, self.similarity = object(), similarity

    def __call__(self, images, redirected=None):
        return Scores(images.sum((1, 2, 3)), None, self.similarity)


def test_skipped_steps_multiply_the_gradient_but_not_the_value():
    similarity = torch.tensor([0.25, 0.5], requires_grad=True)
    guidance = SparseGuidance(2, 3, torch.device("cpu"))
    rows, silent = slice(0, 2), torch.zeros(2, dtype=torch.bool)
    scores = guidance.scores(_Scorer(similarity), torch.ones(2, 1, 1, 1), silent, rows, step=3)
    torch.testing.assert_close(scores.similarity.detach(), similarity.detach())
    (gradient,) = torch.autograd.grad(scores.similarity.sum(), similarity)
    assert gradient.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encoder_every": 0}, ValueError, "encoder_every=0"),
        ({"encoder_every": 1.5}, TypeError, "encoder_every"),
        ({"coarse": 1.5}, ValueError, "coarse=1.5"),
        ({"coarse": -0.1}, ValueError, "coarse=-0.1"),
    ],
)
def test_cheap_steps_refuse(options, error, message):
    with pytest.raises(error, match=message):
        render(TinyNet(), **PAIRS, n_steps=2, **FAST, **options)


def test_coarse_refuses_a_model_of_one_size():
    net = nn.Sequential(nn.Conv2d(3, 2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(98, 4))
    with left_unchanged(net), pytest.raises(ValueError, match="does not take images at half"):
        render(net, neurons=0, classes=[1], n_steps=2, coarse=0.5, **FAST)
