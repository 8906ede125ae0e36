from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import ConvNet, left_unchanged
from torch import Tensor, nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect.analysis import class_representatives, core_relevance
from captum_neuroinspect.optvis import Illusions


def _illusions(n: int = 4, size: int = 12) -> Illusions:
    masks = (torch.rand(n, 1, size, size) > 0.5).float() * 0.5 + 0.5
    return Illusions(
        torch.rand(n, 3, size, size),
        masks,
        torch.rand(n),
        None,
        None,
        neurons=tuple(range(n)),
        classes=tuple(i % 4 for i in range(n)),
    )


def _set(model: ConvNet, n: int = 40) -> FeatureSet:
    with torch.no_grad():
        features = model.backbone.eval()(torch.rand(n, 3, 12, 12))
        logits = model.head(features)
    # The labels are what it says, but for some.
    labels = logits.argmax(1)
    labels[::5] = (labels[::5] + 1) % 4
    return FeatureSet(features, logits, labels)


def _reference(model: ConvNet, illusions: Illusions, features: FeatureSet) -> Tensor:
    scores = []
    for image, mask, c in zip(illusions.images, illusions.masks, illusions.classes, strict=True):
        rows = (features.labels == c) & (features.logits.argmax(1) == c)
        mean = features.features[rows].double().mean(0)
        with torch.no_grad():
            values = [model.backbone(x[None])[0].double() for x in (image * mask, image)]
        cosines = [v @ mean / v.norm() / mean.norm() for v in values]
        scores.append(cosines[0] - cosines[1])
    return torch.stack(scores).float()


def test_it_is_the_difference_of_the_two_cosines() -> None:
    model = ConvNet().eval()
    features, illusions = _set(model), _illusions(9)
    rows = features.correct().labels.unique().tolist()
    illusions = replace(illusions, classes=tuple(rows[i % len(rows)] for i in range(9)))
    with left_unchanged(model):
        scores = core_relevance(model, model.head, illusions, features)
    torch.testing.assert_close(scores, _reference(model, illusions, features))
    assert scores.abs().max() <= 1


def test_a_mask_that_changes_nothing_gives_zero() -> None:
    model = ConvNet().eval()
    illusions = _illusions()
    illusions = replace(illusions, masks=torch.ones_like(illusions.masks), classes=(0,) * 4)
    features = FeatureSet(torch.rand(2, 16), torch.eye(2, 4), torch.tensor([0, 1]))
    assert core_relevance(model, model.head, illusions, features).tolist() == [0] * 4


class Colours(nn.Module):
    """The features are the mean colours."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3)))


def test_low_is_a_concept_beside_the_class() -> None:
    """The class is red; one neuron's part of the picture is red, the other's is green."""
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0, :, :4] = 1
    image[:, 1, :, 4:] = 1
    left = torch.full((1, 1, 8, 8), 0.1)
    left[..., :4] = 1
    illusions = Illusions(
        image.repeat(2, 1, 1, 1),
        torch.cat([left, left.flip(3)]),
        torch.zeros(2),
        None,
        None,
        neurons=(0, 1),
        classes=(0, 0),
    )
    features = FeatureSet(torch.tensor([[1.0, 0, 0]]), torch.tensor([[1.0, 0]]), torch.tensor([0]))
    model = Colours()
    core, beside = core_relevance(model, model.head, illusions, features).tolist()
    assert core > 0.2
    assert beside < -0.2
    # Inverted colours: now the other one is left of the class.
    inverted = core_relevance(model, model.head, illusions, features, lambda x: 1 - x)
    assert not torch.allclose(inverted, torch.tensor([core, beside]))


def test_the_authors_ratio_is_their_formula_written_out() -> None:
    """Masks from a quarter of a standard deviation, black beside; 20 nearest of 24 classes."""
    rng = torch.Generator().manual_seed(3)
    model = ConvNet(24).eval()
    labels = torch.arange(72) % 24
    z = torch.rand(72, 16, generator=rng)
    features = FeatureSet(z, torch.rand(72, 24, generator=rng), labels)
    maps = torch.rand(4, 12, 12, generator=rng)
    illusions = replace(_illusions(4), maps=maps, classes=(0, 3, 9, 23))
    found = core_relevance(model, model.head, illusions, features, score="ratio")
    means = [z[labels == c].double().mean(0) for c in range(24)]
    for score, image, one, c in zip(found, illusions.images, maps, illusions.classes, strict=True):
        mask = ((one - one.mean()) / one.std(correction=0) >= 0.25).float()
        with torch.no_grad():
            masked, whole = (model.backbone(x[None])[0].double() for x in (image * mask, image))
        before, after = (
            [float(v @ mean / v.norm() / mean.norm()) for mean in means] for v in (whole, masked)
        )
        nearest = sorted(range(24), key=lambda k: -before[k])[:20]
        beside = sum(after[k] / before[k] for k in nearest) / 20
        assert float(score) == pytest.approx(after[c] / before[c] / beside, rel=1e-4)


def test_the_authors_ratio_knows_classes_without_samples() -> None:
    model = ConvNet().eval()
    values = torch.rand(4, 16)
    features = FeatureSet(values, torch.eye(4), torch.tensor([0, 1, 1, 0]))
    illusions = replace(_illusions(2), maps=torch.rand(2, 12, 12), classes=(0, 3))
    scores = core_relevance(model, model.head, illusions, features, score="ratio")
    assert scores.isnan().tolist() == [False, True]
    with pytest.raises(RuntimeError, match="these illusions have no maps"):
        core_relevance(model, model.head, _illusions(2), features, score="ratio")
    with pytest.raises(ValueError, match="score='quotient', expected one of"):
        core_relevance(model, model.head, illusions, features, score="quotient")  # type: ignore[arg-type]


def test_a_class_without_a_right_sample_gives_nan() -> None:
    values = torch.rand(2, 16)
    features = FeatureSet(values, torch.eye(4)[:2], torch.tensor([0, 0]))
    assert class_representatives(features)[1:].isnan().all()
    torch.testing.assert_close(class_representatives(features)[0], values[0])
    model = ConvNet()
    scores = core_relevance(model, model.head, _illusions(2), features)
    assert scores.isnan().tolist() == [False, True]


def test_bad_arguments() -> None:
    model, illusions = ConvNet(), _illusions()
    features = FeatureSet(torch.rand(2, 16), torch.rand(2, 4), torch.tensor([0, 1]))
    with pytest.raises(TypeError, match="head is Sequential"):
        core_relevance(model, model.backbone, illusions, features)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="illusions have no masks"):
        core_relevance(model, model.head, replace(illusions, masks=None), features)
    with pytest.raises(ValueError, match="illusions have no classes"):
        core_relevance(model, model.head, replace(illusions, classes=None), features)
    with pytest.raises(ValueError, match="class=9 is out of range"):
        core_relevance(model, model.head, replace(illusions, classes=(9,) * 4), features)
    few = FeatureSet(torch.rand(2, 5), torch.rand(2, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="features are 5 a sample, the head takes 16"):
        core_relevance(model, model.head, illusions, few)
