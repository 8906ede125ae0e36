import pytest
import torch
import torchvision
from optvis_nets import CLASS_NAMES, FakeEncoder, TinyNet

from captum_neuroinspect.encoders import class_embeddings
from captum_neuroinspect.optvis import (
    GuidedModel,
    channel_noise,
    class_conditional,
    clip_illusion,
    illusion_image,
    neuron,
    random_affine,
)

TEXT = class_embeddings(FakeEncoder(), CLASS_NAMES)


def _lucent_image():
    from lucent.optvis import param

    return param.image(32, batch=2)


def _our_image():
    return illusion_image(32, batch=2)


def _losses(model, objective, param_f=_our_image, transforms=(), n_steps=6, **options):
    """The objective in each of Lucent's steps, and its images."""
    from lucent.optvis.render import render_vis

    seen = []

    def recorded(activations):
        loss = objective(activations)
        seen.append(loss.item())
        return loss

    images = render_vis(
        model,
        recorded,
        param_f,
        transforms=list(transforms),
        thresholds=(n_steps,),
        fixed_image_size=32,
        progress=False,
        show_image=False,
        **options,
    )
    assert images[0].shape == (2, 32, 32, 3)
    return seen


def _resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18(weights=None, num_classes=4).eval()


OBJECTIVES = {
    "neuron": lambda: neuron("layer2_1_conv2", 3),
    "class": lambda: class_conditional("layer2_1_conv2", 3, 1),
    "sum": lambda: 2 * neuron("layer1_0_conv1", 5, batch=0) + class_conditional("avgpool", 7, 2),
    "one per image": lambda: class_conditional("layer2_1_conv2", [3, 4], [1, 0], logits="fc"),
}


@pytest.mark.parametrize("make", OBJECTIVES.values(), ids=OBJECTIVES.keys())
@pytest.mark.parametrize("param_f", [_our_image, _lucent_image])
def test_falls_in_lucents_renderer_on_a_torchvision_model(make, param_f):
    losses = _losses(_resnet(), make(), param_f)
    assert losses[5] < losses[0]


@pytest.mark.parametrize("param_f", [_our_image, _lucent_image])
def test_clip_illusion_falls_on_a_guided_model(param_f):
    model = GuidedModel(TinyNet().eval(), FakeEncoder(), example=torch.rand(2, 3, 32, 32))
    losses = _losses(model, clip_illusion("features", 2, 1, TEXT[1]), param_f, preprocess=False)
    assert losses[5] < losses[0]


def test_our_transforms_in_lucents_renderer():
    model = GuidedModel(TinyNet().eval(), FakeEncoder(), example=torch.rand(2, 3, 32, 32))
    ours = [random_affine(), channel_noise(0.05)]
    objective = clip_illusion("features", 2, 1, TEXT[1])
    losses = _losses(model, objective, transforms=ours, n_steps=60, preprocess=False)
    assert sum(losses[-10:]) < sum(losses[:10])


@pytest.fixture
def layers():
    """Lucent's view of two images: features, logits and embeddings by name."""
    return {
        "features": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "logits": torch.tensor([[0.0, 6.0], [-2.0, 0.0]]),
        "embedding": torch.tensor([[3.0, 4.0], [1.0, 0.0]]),
    }


def test_hand_computed_values(layers):
    read = layers.__getitem__
    assert neuron("features", 0)(read) == -2
    assert neuron("features", [1, 0])(read) == -2.5
    assert neuron("features", 1, batch=1)(read) == -4
    # -(1 + 0.5 * 6) and -(3 + 0.5 * 0), their mean
    assert class_conditional("features", 0, 1, logits="logits")(read) == -3.5
    assert class_conditional("features", 0, 1, gamma=0.25, logits="logits", batch=0)(read) == -2.5
    # Cosines with (2, 0) are 0.6 and 1; so -(0.65) * 4 and -(1.05) * 3.
    found = clip_illusion("features", 0, 1, torch.tensor([2.0, 0.0]))(read)
    torch.testing.assert_close(found, torch.tensor(-(0.65 * 4 + 1.05 * 3) / 2))


def test_images_do_not_mix(layers):
    leaves = {name: value.requires_grad_() for name, value in layers.items()}
    first = clip_illusion("features", 0, 1, torch.tensor([2.0, 1.0]), batch=0)
    first(leaves.__getitem__).backward()
    for leaf in leaves.values():
        assert leaf.grad[0].any()
        assert not leaf.grad[1].any()


def test_one_text_per_image(layers):
    texts = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    found = clip_illusion("features", 0, 1, texts, gamma=0, eps=0)(layers.__getitem__)
    torch.testing.assert_close(found, torch.tensor(-(1 * 1 + 0 * 3) / 2))


def test_lucent_knows_their_names():
    objective = clip_illusion("features", 0, 1, torch.zeros(2)) + neuron("features", 3)
    assert objective.name == "clip_illusion, neuron"


def test_bad_values(layers):
    with pytest.raises(ValueError, match="gamma=2"):
        class_conditional("features", 0, 1, gamma=2, logits="logits")(layers.__getitem__)
    with pytest.raises(ValueError, match=r"neurons has shape \(3,\)"):
        neuron("features", [0, 1, 0])(layers.__getitem__)
