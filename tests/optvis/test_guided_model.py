import pytest
import torch
from helpers import Boom, left_unchanged
from optvis_nets import N_FEATURES, FakeEncoder, TinyNet
from torch import nn

from captum_neuroinspect.optvis import GuidedModel

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def _layers(guided: GuidedModel, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What Lucent's hooks would read."""
    seen = {}
    for name, module in guided.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    seen["output"] = guided(images)
    return seen


def test_shows_features_logits_and_embedding_of_one_image():
    model, encoder = TinyNet().eval(), FakeEncoder()
    preprocess = lambda images: 2 * images - 1  # noqa: E731
    guided = GuidedModel(model, encoder, model.fc, preprocess, IMAGES)
    seen = _layers(guided, IMAGES)
    torch.testing.assert_close(seen["logits"], model(preprocess(IMAGES)))
    torch.testing.assert_close(model.fc(seen["features"]), seen["logits"])
    torch.testing.assert_close(seen["embedding"], encoder.encode_image(IMAGES))
    assert seen["output"].equal(seen["logits"])
    assert list(guided.named_children())[-1][0] == "logits", "Lucent's 'labels' is the last layer"


def test_finds_the_head_and_works_in_eval_mode():
    model = TinyNet().train()
    guided = GuidedModel(model, FakeEncoder(), example=IMAGES)
    with left_unchanged(model):
        alone, together = guided(IMAGES[:1]), guided(IMAGES)
    torch.testing.assert_close(alone[0], together[0])


def test_the_encoder_gets_0_to_1_only():
    guided = GuidedModel(TinyNet(), FakeEncoder(), example=IMAGES)
    seen = _layers(guided, 3 * IMAGES - 1)  # the fake encoder refuses others
    torch.testing.assert_close(
        seen["embedding"], FakeEncoder().encode_image((3 * IMAGES - 1).clamp(0, 1))
    )


def test_gradients_reach_the_image_and_nothing_else():
    model, encoder = TinyNet(), FakeEncoder()
    guided = GuidedModel(model, encoder, example=IMAGES)
    images = IMAGES.clone().requires_grad_()
    with left_unchanged(model), left_unchanged(encoder.network):
        seen = _layers(guided, images)
        (seen["features"].sum() + seen["embedding"].sum()).backward()
    assert images.grad.abs().sum() > 0


def test_networks_are_out_of_reach_of_lucents_hooks():
    guided = GuidedModel(TinyNet(), FakeEncoder(), example=IMAGES)
    assert [name for name, _ in guided.named_modules() if name] == [
        "features",
        "embedding",
        "logits",
    ]


def test_render_vis_leaves_the_networks_without_hooks():
    from lucent.optvis.render import render_vis

    from captum_neuroinspect.optvis import clip_illusion, illusion_image

    model, encoder = TinyNet(), FakeEncoder()
    guided = GuidedModel(model, encoder, example=IMAGES)
    with left_unchanged(model), left_unchanged(encoder.network):
        render_vis(
            guided,
            clip_illusion("features", 0, 0, torch.ones(5)),
            lambda: illusion_image(16),
            transforms=[],
            thresholds=(2,),
            preprocess=False,
            fixed_image_size=16,
            progress=False,
            show_image=False,
        )


def test_inner_layers():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), TinyHead())
    guided = GuidedModel(model, FakeEncoder(), example=IMAGES, layers=["0.0", "0.1"])
    seen = _layers(guided, IMAGES)
    torch.testing.assert_close(seen["0_0"], model[0][0](IMAGES))
    torch.testing.assert_close(seen["0_1"], model[0](IMAGES))


class TinyHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, maps):
        return self.fc(maps.mean((2, 3)))


@pytest.mark.parametrize("culprit", ["model", "encoder"])
def test_is_clean_after_an_exception(culprit):
    model, encoder = TinyNet().train(), FakeEncoder()
    guided = GuidedModel(model, encoder, example=IMAGES)
    failing = model.norm if culprit == "model" else encoder.network

    def boom(*_):
        raise Boom

    failing.register_forward_pre_hook(boom)
    with left_unchanged(model), left_unchanged(encoder.network), pytest.raises(Boom):
        guided(IMAGES)


def test_bad_values():
    model = TinyNet()
    with pytest.raises(TypeError, match=r"head is Conv2d, expected nn\.Linear"):
        GuidedModel(model, FakeEncoder(), model.conv, example=IMAGES)
    with pytest.raises(ValueError, match="Linear is not a submodule of this TinyNet"):
        GuidedModel(model, FakeEncoder(), nn.Linear(N_FEATURES, 4), example=IMAGES)
    with pytest.raises(ValueError, match="layer='nowhere' is not in TinyNet"):
        GuidedModel(model, FakeEncoder(), example=IMAGES, layers=["nowhere"])
    clashing = nn.Sequential()
    clashing.add_module("features", nn.Conv2d(3, 4, 3))
    clashing.add_module("rest", TinyHead())
    with pytest.raises(ValueError, match="layers has 'features'"):
        GuidedModel(clashing, FakeEncoder(), example=IMAGES, layers=["features"])
