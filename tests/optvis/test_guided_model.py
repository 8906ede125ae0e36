import pytest
import torch
import torchvision
from helpers import Boom, left_unchanged
from lucent.optvis import objectives
from lucent.optvis.render import render_vis
from optvis_nets import N_FEATURES, FakeEncoder, TinyNet
from torch import nn
from torch.nn import functional as F

from captum_neuroinspect.optvis import GuidedModel, clip_illusion, illusion_image, unit_mean

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def _layers(guided: GuidedModel, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What Lucent's hooks would read."""
    seen = {}
    for name, module in guided.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    seen["output"] = guided(images)
    return seen


def _render(guided, objective, transforms):
    render_vis(
        guided,
        objective,
        lambda: illusion_image(16, batch=2),
        transforms=transforms,
        thresholds=(3,),
        preprocess=False,
        fixed_image_size=16,
        progress=False,
        show_image=False,
    )


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
    model, encoder = TinyNet(), FakeEncoder()
    guided = GuidedModel(model, encoder, example=IMAGES)
    with left_unchanged(model), left_unchanged(encoder.network):
        _render(guided, clip_illusion("features", 0, 0, torch.ones(5)), [])


def test_inner_layers():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), TinyHead())
    guided = GuidedModel(model, FakeEncoder(), example=IMAGES, layers=["0.0", "0.1"])
    seen = _layers(guided, IMAGES)
    torch.testing.assert_close(seen["0_0"], model[0][0](IMAGES))
    torch.testing.assert_close(seen["0_1"], model[0](IMAGES))


def test_both_networks_see_the_transformed_image():
    encoder, transformed, shown, classified = FakeEncoder(), [], [], []
    guided = GuidedModel(
        TinyNet(), encoder, preprocess=lambda x: classified.append(x) or x, example=IMAGES
    )
    classified.clear()
    encoder.network.register_forward_pre_hook(lambda _, args: shown.append(args[0]))

    def transform(images):  # another one in each step
        transformed.append(images.flip(3) / (1 + len(shown)) + 0.1)
        return transformed[-1]

    def objective(layers):
        # Lucent's "input", which an objective must not give to an encoder.
        assert not torch.allclose(layers("input"), shown[-1], atol=0.01)
        return clip_illusion("features", 0, 0, torch.ones(5))(layers)

    _render(guided, objective, [transform])
    assert len(shown) == len(classified) == len(transformed) == 3
    for i in range(3):
        torch.testing.assert_close(shown[i], transformed[i])
        torch.testing.assert_close(classified[i], transformed[i])


def test_the_encoder_gets_images_on_its_own_device():
    class Elsewhere:
        network = nn.Linear(1, 1, device="meta")

        def encode_image(self, images):
            assert images.device.type == "meta"
            return torch.ones(len(images), 5)

    guided = GuidedModel(TinyNet(), Elsewhere(), example=IMAGES)
    assert _layers(guided, IMAGES)["embedding"].equal(torch.ones(2, 5))


def test_a_layer_is_read_before_an_operation_in_place():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), TinyHead())
    guided = GuidedModel(model, FakeEncoder(), example=IMAGES, layers=["0"])
    found = _layers(guided, IMAGES)["0"]
    assert found.min() < 0
    torch.testing.assert_close(found, model[0](IMAGES))


def test_channels_are_second_for_lucent():
    model = torchvision.models.SwinTransformer([4, 4], 12, [1, 1], [2, 2], [4, 4], num_classes=4)
    model.eval()
    images = torch.rand(2, 3, 32, 40)
    guided = GuidedModel(
        model, FakeEncoder(), example=images, layers=["features.0.0", "features.0", "features.1"]
    )
    found = _layers(guided, images)
    first = model.features[0](images)
    assert first.shape == (2, 8, 10, 12)
    torch.testing.assert_close(found["features_0_0"], model.features[0][0](images))
    torch.testing.assert_close(found["features_0"], first.movedim(3, 1))
    torch.testing.assert_close(found["features_1"], model.features[:2](images).movedim(3, 1))
    values = {name: value for name, value in found.items() if name != "output"}
    expected = -model.features[:2](images)[..., 5].mean()
    torch.testing.assert_close(unit_mean("features_1", 5)(values.get), expected)
    torch.testing.assert_close(objectives.channel("features_1", 5)(values.get), expected)


def test_logits_of_a_model_that_ends_in_a_softmax():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), TinyHead(), nn.Softmax(1))
    with pytest.raises(ValueError, match="a softmax"):
        GuidedModel(model, FakeEncoder(), example=IMAGES)
    seen = _layers(GuidedModel(model, FakeEncoder(), model[1].fc, example=IMAGES), IMAGES)
    torch.testing.assert_close(seen["logits"], model[:2](IMAGES))
    torch.testing.assert_close(F.softmax(seen["output"], 1), model(IMAGES))


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
    wide = nn.Sequential(nn.Flatten(), nn.Linear(768, 4), nn.Linear(4, 2))
    with pytest.raises(
        ValueError, match=r"head='1' is not .* \(2, 4\) is not the model's output \(2, 2\)"
    ):
        GuidedModel(wide, FakeEncoder(), wide[1], example=IMAGES)
    with pytest.raises(TypeError, match="layers='0', expected a sequence"):
        GuidedModel(wide, FakeEncoder(), example=IMAGES, layers="0")


@pytest.mark.parametrize("taken", ["features", "input", "labels", "logits", "_reader"])
def test_names_that_would_mean_two_things(taken):
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, 4, 3))
    model.add_module(taken, nn.ReLU())
    model.add_module("rest", TinyHead())
    with pytest.raises(ValueError, match=f"layers has '{taken}', which is taken"):
        GuidedModel(model, FakeEncoder(), example=IMAGES, layers=[taken])


def test_names_that_lucent_would_confuse():
    model = nn.Sequential()
    model.add_module("a_b", nn.Sequential())
    model.a_b.add_module("c", nn.Conv2d(3, 4, 3))
    model.add_module("a", nn.Sequential())
    model.a.add_module("b_c", nn.ReLU())
    model.add_module("rest", TinyHead())
    for name, expected in {"a_b.c": model.a_b(IMAGES), "a.b_c": model[:2](IMAGES)}.items():
        guided = GuidedModel(model, FakeEncoder(), example=IMAGES, layers=[name])
        torch.testing.assert_close(_layers(guided, IMAGES)["a_b_c"], expected)
    for layers in (["a_b.c", "a.b_c"], ["a.b_c", "a.b_c"]):
        with pytest.raises(ValueError, match="layers has 'a_b_c', which is taken"):
            GuidedModel(model, FakeEncoder(), example=IMAGES, layers=layers)
