"""Models in half and double precision: pixels and results are float32, the model is its own."""

import pytest
import torch
from helpers import ConvNet, left_unchanged
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet, render
from torch import nn
from torchvision.transforms.v2 import Normalize

from captum_neuroinspect import NeuroInspect
from captum_neuroinspect._core.modules import as_input, dtype_of
from captum_neuroinspect.optvis import GuidedModel

DTYPES = [torch.bfloat16, torch.float16, torch.float64]
FAST = {"size": 16, "n_steps": 4, "progress": False}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"layer": "conv"}, {"layer": "fc"}, {"coarse": 0.5}])
def test_illusions_of_a_model_in_another_dtype(dtype, options):
    plain, model = TinyNet().eval(), TinyNet().eval().to(dtype)
    with left_unchanged(model):
        found = render(model, [0, 3], [1, 2], **options, **FAST)
    usual = render(plain, [0, 3], [1, 2], **options, **FAST)
    for name in ("images", "activations", "logits", "masks", "maps"):
        value, other = getattr(found, name), getattr(usual, name)
        assert (value is None) == (other is None), name
        assert value is None or value.dtype == torch.float32, name
    assert found.settings["maps_are"] == usual.settings["maps_are"]
    with torch.no_grad():
        logits = model(found.images.to(dtype)).float()[range(2), [1, 2]]
    torch.testing.assert_close(found.logits, logits, rtol=0.05, atol=0.05)
    # They excite the neuron of the model as it was in float32 about as much as its own.
    torch.testing.assert_close(found.activations, usual.activations, rtol=0.2, atol=0.05)


@pytest.mark.parametrize("dtype", DTYPES)
def test_normalisation_stays_in_float32(dtype):
    """Rounded before it is normalised, a pixel would lose digits twice."""
    seen = []

    def preprocess(images):
        seen.append(images.dtype)
        return Normalize([0.5] * 3, [0.1] * 3)(images)

    model = TinyNet().to(dtype)
    render(model, [0], [1], preprocess=preprocess, **FAST)
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_session_over_a_model_in_another_dtype(dtype, tmp_path):
    torch.manual_seed(0)
    model = ConvNet().eval().to(dtype)
    seen = []

    def preprocess(images):
        seen.append(images.dtype)
        return images

    images, labels = torch.rand(96, 3, 16, 16), torch.arange(96) % 4
    session = NeuroInspect(model, preprocess, image_size=16, progress=False)
    with left_unchanged(model):
        features = session.load((images, labels))
        session.visualize(session.explain().neurons(2), n_steps=2, size=16)
        session.edit()
        assert session.report(tmp_path / "report.html").is_file()
    assert set(seen) == {torch.float32}
    assert features.logits.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(features.logits, model(images.to(dtype)).float())
    assert session.last_edit.head.weight.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_guided_models_of_other_dtypes(dtype):
    guided = GuidedModel(TinyNet().to(dtype), FakeEncoder(), example=torch.rand(2, 3, 16, 16))
    assert guided(torch.rand(2, 3, 16, 16)).shape == (2, len(CLASS_NAMES))


def test_the_dtype_of_the_first_layer_counts():
    """Some models keep a scale or a position in float32 beside weights in half precision."""

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.conv = nn.Conv2d(3, 4, 3).half()

    assert dtype_of(Mixed()) == torch.float16
    assert dtype_of(nn.Sequential(nn.Flatten(), nn.Embedding(3, 2).double())) == torch.float64
    assert dtype_of(nn.Flatten()) is None
    assert as_input(nn.Flatten(), torch.zeros(1).double()).dtype == torch.float64
    assert as_input(Mixed(), torch.zeros(1, dtype=torch.uint8)).dtype == torch.uint8
    assert as_input(Mixed(), "words") == "words"


def test_float64_by_default(monkeypatch):
    torch.set_default_dtype(torch.float64)
    try:
        found = render(TinyNet().float(), [0], [1], **FAST)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.images.isfinite().all()
