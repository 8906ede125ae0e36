"""Options check themselves, mean the same everywhere, and are what a result records."""

from dataclasses import FrozenInstanceError, replace
from functools import partial

import pytest
import torch
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet

from captum_neuroinspect.optvis import (
    Guidance,
    IllusionOptions,
    Illusions,
    illusion_image,
    illusion_transforms,
    render_illusions,
)
from captum_neuroinspect.optvis.illusion_options import RenderSettings

FAST = {"neurons": [0, 3], "classes": 1, "size": 16, "n_steps": 4, "progress": False}


def test_the_paper_is_its_gamma_learning_rate_spectrum_and_masks():
    paper = render_illusions(TinyNet(), **FAST, options="paper")
    literal = IllusionOptions(
        IllusionOptions.of("paper").guidance,
        **{"lr": 9e-3, "contrast": 0, "published": True, "masked_by": "activation"},
    )
    same = render_illusions(TinyNet(), **FAST, gamma=0.5, options=literal)
    usual = render_illusions(TinyNet(), **FAST)
    assert paper.images.equal(same.images)
    assert paper.maps.equal(same.maps)
    assert paper.settings == same.settings
    assert not paper.images.equal(usual.images)
    assert (usual.settings["gamma"], usual.settings["options"]["lr"]) == (0.25, 0.08)
    own = render_illusions(TinyNet(), **FAST, gamma=0.1, options="paper")
    assert own.settings["gamma"] == 0.1


def test_the_published_first_image_is_the_formula_of_the_authors_code():
    still = {"transforms": [], "n_steps": 1, "size": (12, 20), "progress": False}
    kept = IllusionOptions(
        published=True, contrast=0, optimizer=lambda params: torch.optim.SGD(params, lr=0.0)
    )
    found = render_illusions(TinyNet(), [0], seed=3, options=kept, **still).images
    # Without a decay the spectrum is the noise alone, of standard deviation 0.001.
    (noise,), _ = illusion_image((12, 20), decay_power=0, sd=0.001, seed=3)
    noise = torch.view_as_complex(noise.detach().double())
    # Frequencies for a spacing of sqrt(1/2), squared and to the power .75; a floor of 1/(side d).
    spacing = 0.5**0.5
    y, x = torch.fft.fftfreq(12, spacing), torch.fft.rfftfreq(20, spacing)
    powers = (y[:, None].double() ** 2 + x.double() ** 2) ** 0.75
    scale = 1 / powers.clamp_min(1 / (20 * spacing))
    logits = torch.fft.irfft2(noise * scale, s=(12, 20), norm="ortho")
    basis = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]]).double()
    basis = basis / basis.norm(dim=0).max()
    expected = torch.einsum("ncij,dc->ndij", logits, basis).sigmoid()
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=1e-5)


def test_the_published_transforms_shrink_further():
    def images(**arguments):
        return render_illusions(TinyNet(), **FAST, **arguments).images

    options = IllusionOptions(published=True)
    published = partial(illusion_transforms, scale=(0.6, 1.2))
    assert images(options=options).equal(images(options=options, transforms=published))
    usual = images(options=options, transforms=illusion_transforms)
    assert not images(options=options).equal(usual)


def test_the_paper_has_32_different_templates():
    templates = IllusionOptions.of("paper").guidance.templates
    assert len(set(templates)) == 32


@pytest.mark.parametrize(("options", "expected"), [("paper", 450), (None, 150)])
def test_steps_by_default(options, expected):
    assert RenderSettings.of(16, None, None, 0, options).n_steps == expected


def test_a_larger_decay_power_makes_smoother_illusions():
    def roughness(decay_power):
        options = IllusionOptions(decay_power=decay_power)
        images = render_illusions(TinyNet(), **FAST, options=options).images
        return images.diff(dim=-1).std() / images.std()

    assert roughness(2.0) < roughness(1.0) < roughness(0.0)


def test_the_result_records_the_options_and_its_file_keeps_them(tmp_path):
    guidance = Guidance(templates=["a {}"], negative=["a dot"], encoder_every=2)
    options = IllusionOptions(guidance, init=torch.rand(3, 16, 16), snapshots=[1, 4], coarse=0.5)
    guided = {"encoder": FakeEncoder(), "class_names": CLASS_NAMES}
    found = render_illusions(TinyNet(), **FAST, **guided, options=options)
    loaded = Illusions.load(found.save(tmp_path / "x.safetensors")).settings["options"]
    assert loaded.pop("guidance") == {
        "templates": ["a {}"],
        "prompts": None,
        "negative": ["a dot"],
        "negative_weight": 4.0,
        "eps": 0.05,
        "encoder_every": 2,
    }
    assert loaded == {
        "token": "mean",
        "channels": 3,
        "init": "images",
        "lr": 0.08,
        "optimizer": None,
        "batch_size": 8,
        "precision": "float32",
        "coarse": 0.5,
        "masked_by": "before_rectifier",
        "contrast": 0.2,
        "decay_power": 1.2,
        "published": False,
        "snapshots": [1, 4],
    }


def test_options_do_not_change():
    texts = ["a dot"]
    guidance = Guidance(negative=texts)
    texts.append("a line")
    assert guidance == Guidance(negative=("a dot",))
    with pytest.raises(FrozenInstanceError):
        guidance.eps = 1.0
    with pytest.raises(FrozenInstanceError):
        IllusionOptions().lr = 1.0
    assert replace(IllusionOptions(coarse=0.5), lr=0.1).coarse == 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Guidance(templates="a {}"), TypeError, "templates='a {}' is one string"),
        (lambda: Guidance(templates=["a cat"]), ValueError, "templates holds 'a cat'"),
        (lambda: Guidance(templates=[]), ValueError, "templates is empty"),
        (lambda: Guidance(prompts=[]), ValueError, "prompts is empty"),
        (lambda: Guidance(negative=None), TypeError, "negative=None, expected a list"),
        (lambda: IllusionOptions(snapshots=3), TypeError, "snapshots=3, expected a list"),
        (lambda: IllusionOptions({}), TypeError, "guidance is dict, expected a Guidance"),
        (lambda: IllusionOptions(token="last"), ValueError, "token='last'"),
        (lambda: IllusionOptions.of("papers"), ValueError, "options='papers', expected Illusion"),
        (lambda: IllusionOptions.of({"lr": 1}), TypeError, "options is dict, expected Illusion"),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()
