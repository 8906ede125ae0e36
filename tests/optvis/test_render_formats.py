"""Images are channels last for networks that take them so, and contiguous for the others."""

import pytest
import torch
from helpers import left_unchanged
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet, render
from torch import nn

from captum_neuroinspect import NeuroInspect, collect_features, neuron_saliency

FAST = {"size": 16, "n_steps": 3, "progress": False}


class Viewing(nn.Module):
    """Flattens its maps with ``view``, as self-written networks do."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(4))
        self.hidden, self.out = nn.Linear(6 * 9, 8), nn.Linear(8, 4)

    def forward(self, images):
        maps = self.body(images)
        return self.out(self.hidden(maps.view(len(images), -1)).relu())


class OnPixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(3 * 256, 8), nn.Linear(8, 4)

    def forward(self, images):
        return self.out(self.hidden(images.view(len(images), -1)).relu())


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(-1).view(ctx.shape)


class ViewingBackwards(TinyNet):
    def forward(self, x):
        return super().forward(_Backward.apply(x))


class ViewingEncoder(FakeEncoder):
    def encode_image(self, images):
        return super().encode_image(images.view(len(images), -1).view(images.shape))


@pytest.mark.parametrize("make", [Viewing, OnPixels, ViewingBackwards])
@pytest.mark.parametrize(
    "options", [{}, {"layer": 0}, {"transforms": []}, {"precision": "bfloat16"}]
)
@pytest.mark.parametrize("pairs", [[1], [1, 2]])
def test_networks_that_flatten_by_view_are_rendered(make, options, pairs):
    torch.manual_seed(0)
    model = make()
    if "layer" in options:
        options = {"layer": next(iter(dict(model.named_children())))}
    with left_unchanged(model):
        found = render(model, pairs, pairs, **options, **FAST)
    assert found.images.shape == (len(pairs), 3, 16, 16)
    assert found.images.std() > 0.01


def test_a_view_network_is_read_in_every_step_of_a_session(tmp_path):
    torch.manual_seed(0)
    model, labels = Viewing(), torch.arange(40) % 4
    session = NeuroInspect(model, image_size=16, progress=False)
    session.load((torch.rand(40, 3, 16, 16), labels))
    neurons = session.explain().neurons(2)
    session.visualize(neurons, n_steps=2, size=16)
    assert session.report(tmp_path / "report.html").is_file()


def test_pixels_of_a_permuted_loader_are_read_by_a_view_network():
    model = OnPixels()
    images = torch.rand(6, 16, 16, 3).permute(0, 3, 1, 2)
    found = collect_features(model, (images, torch.arange(6) % 4), progress=False)
    torch.testing.assert_close(found.logits, model(images.contiguous()).detach())
    assert neuron_saliency(model, "hidden", images.contiguous(), [1]).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_that_flattens_by_view(channels):
    model = TinyNet() if channels == 3 else nn.Sequential(nn.Conv2d(1, 3, 1), TinyNet())
    options = {"encoder": ViewingEncoder(), "class_names": CLASS_NAMES, "channels": channels}
    found = render(model, [0, 1], [1, 2], **options, **FAST)
    usual = render(model, [0, 1], [1, 2], **options | {"encoder": FakeEncoder()}, **FAST)
    torch.testing.assert_close(found.images, usual.images, atol=1e-4, rtol=1e-3)


def _formats(model, **options):
    seen = []
    hook = model.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    render(model, [0, 1], [1, 2], **options, **FAST)
    hook.remove()
    # The last two passes score the images as they are, and make their masks.
    return seen[-5:]


@pytest.mark.parametrize("options", [{}, {"coarse": 1.0}, {"transforms": []}])
def test_convolutions_get_channels_last(options):
    assert _formats(TinyNet(), **options) == [True, True, True, False, False]


def test_networks_that_do_not_take_them_get_contiguous_images():
    assert not any(_formats(Viewing()))
