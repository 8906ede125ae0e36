"""Normalisations that a network was trained with are found, and right ones are left alone."""

from __future__ import annotations

import pytest
import torch
from helpers import Boom, left_unchanged
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from captum_neuroinspect.inspection.preflight_checks.preflight import (
    PreprocessingCheck,
    check_preprocessing,
)

IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _images(n: int = 32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    colours = torch.rand(n, 3, 1, 1, generator=rng)
    return (colours + 0.25 * torch.randn(n, 3, 12, 12, generator=rng)).clamp(0, 1)


class Taught(nn.Module):
    """Two convolutions; BatchNorm knows inputs as ``seen`` makes them. Labels are its answers."""

    def __init__(self, seen) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6, momentum=None)
        self.head = nn.Linear(6, 4)
        with torch.no_grad():
            self.train()(seen(_images(200, seed=5)))
            self.head.weight.mul_(8)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.norm(self.first(images)).relu().mean((2, 3)))


def _looked(net: nn.Module, preprocess=None, labels: Tensor | None = None) -> PreprocessingCheck:
    images = _images()
    # Labels that have nothing to do with the photos, unless there are better ones.
    labels = torch.arange(len(images)) % 4 if labels is None else labels
    return check_preprocessing(net, images, labels, preprocess)


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (IMAGENET, "ImageNet's mean and standard deviation"),
        (HALVES, "values in -1..1"),
        (lambda x: 255 * x, "values in 0..255"),
    ],
)
def test_what_a_network_was_taught_with_is_found_when_it_is_missing(seen, name: str) -> None:
    found = _looked(Taught(seen))
    assert not found.is_given
    assert found.better == name
    assert found.evidence == f"the first BatchNorm finds what it was trained on with {name}"
    assert _looked(Taught(seen), seen).better is None


def test_a_normalisation_too_many_is_found() -> None:
    net = Taught(nn.Identity())
    assert _looked(net).better is None
    found = _looked(net, IMAGENET)
    assert found.is_given
    assert found.better == "no normalisation (pixels in 0..1)"


def test_photos_that_are_recognised_are_evidence_without_a_batch_norm() -> None:
    # Without a bias it tells colours apart around grey, and only there.
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4, bias=False))
    images = _images()
    with torch.no_grad():
        right = net(IMAGENET(images)).argmax(1)
        n_now = int((net(images).argmax(1) == right).sum())
    assert n_now < 24
    found = _looked(net, labels=right)
    assert found.better == "ImageNet's mean and standard deviation"
    assert found.evidence.endswith(f"32 instead of {n_now} of 32 photos are recognised")
    assert _looked(net, IMAGENET, labels=right).better is None


@pytest.mark.parametrize("seed", range(6))
def test_an_untrained_network_gives_no_hint(seed: int) -> None:
    """Neither BatchNorms that saw nothing nor chance among labels are evidence."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    )  # fmt: skip
    assert _looked(net, labels=torch.randint(4, (32,))).better is None


def test_values_are_those_of_the_photos_and_of_what_the_model_sees() -> None:
    net, images = Taught(HALVES), _images()
    found = check_preprocessing(net, images, torch.zeros(32, dtype=torch.long), HALVES)
    assert found.pixels == (float(images.min()), float(images.max()))
    assert found.seen == pytest.approx((2 * found.pixels[0] - 1, 2 * found.pixels[1] - 1))
    assert found.spread == pytest.approx(float(images.std()), rel=1e-3)
    assert not found.is_flat
    dark = check_preprocessing(net, images / 255, torch.zeros(32, dtype=torch.long), HALVES)
    assert dark.is_flat


class Counted(Taught):
    n = 0

    def forward(self, images: Tensor) -> Tensor:
        self.n += 1
        return super().forward(images)


def test_nothing_is_run_when_nothing_is_compared() -> None:
    net, images = Counted(HALVES), _images()
    net.n = 0
    found = check_preprocessing(net, images, torch.zeros(32), None, compare=False)
    assert net.n == 0
    assert found.better is None


def test_the_model_is_as_before_also_after_an_error() -> None:
    net = Taught(IMAGENET).train()
    net.norm.eval()
    with left_unchanged(net):
        _looked(net)

    def broken(images: Tensor) -> Tensor:
        raise Boom

    with left_unchanged(net), pytest.raises(Boom):
        _looked(net, broken)


def test_bad_arguments() -> None:
    net = Taught(IMAGENET)
    with pytest.raises(ValueError, match="2 images and 3 labels, expected one label"):
        check_preprocessing(net, _images(2), torch.zeros(3))
    with pytest.raises(ValueError, match="0 images and 0 labels"):
        check_preprocessing(net, _images(2)[:0], torch.zeros(0))


class _TwoAnswers(nn.Module):
    """The first answer is always wrong, the second always right, for photos as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.other, self.head = nn.Linear(3, 2), nn.Linear(3, 2)
        with torch.no_grad():
            for layer, sign in ((self.other, -1.0), (self.head, 1.0)):
                layer.weight.copy_(sign * torch.tensor([[-9.0, 0, 0], [9.0, 0, 0]]))
                layer.bias.copy_(sign * torch.tensor([4.5, -4.5]))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        means = images.mean((2, 3))
        return self.other(means), self.head(means)


def test_a_head_that_is_given_is_the_one_that_counts() -> None:
    labels = torch.arange(32) % 2
    images = (0.1 + 0.8 * labels.float())[:, None, None, None].expand(-1, 3, 4, 4)
    images = (images + torch.linspace(0, 0.05, 4)).clamp(0, 1)
    model = _TwoAnswers().eval()
    found = check_preprocessing(model, images, labels, head=model.head)
    assert found.better is None  # all are right as they are
