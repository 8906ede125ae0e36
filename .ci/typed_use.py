"""What a user's own strict project sees of our types: `mypy --strict` checks this file."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from captum_neuroinspect import (
    FeatureSet,
    HeadEdit,
    Illusions,
    NeuroInspect,
    NeuronCounterfactual,
    NeuronRanking,
    Verdict,
    collect_features,
    edit_head,
    find_head,
    mend,
    rank_neurons,
    render_illusions,
)
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.optvis import IllusionOptions
from captum_neuroinspect.photos import Photos


def rank(model: nn.Module, folder: Path) -> tuple[nn.Linear, FeatureSet, NeuronRanking]:
    photos = Photos.of(folder)
    images: Tensor = photos.images(range(len(photos)))
    head: nn.Linear = find_head(model, images[:1])
    features: FeatureSet = collect_features(model, (images, photos.labels))
    mistakes = features.mistakes(0)
    changes: Tensor = NeuronCounterfactual(model, head).attribute_features(
        mistakes.features, mistakes.labels
    )
    return head, features, rank_neurons(changes, features=mistakes, reference=features)


def edit(head: nn.Linear, features: FeatureSet) -> tuple[HeadEdit, Verdict]:
    train, validation = features.split(0.5)
    made: HeadEdit = edit_head(head, train, validation, target=0, neurons=[1, 2])
    also: HeadEdit = mend(head, train, validation, validation, target=0)
    return made, also.verdict


def show(model: nn.Module) -> Illusions:
    encoder = LabelSpaceEncoder.pretrained()
    options = IllusionOptions(batch_size=2)
    return render_illusions(model, [1], [0], encoder=encoder, options=options)


def inspect(model: nn.Module, folder: Path) -> Path:
    session = NeuroInspect(model, work=folder / "work")
    session.load(folder)
    session.explain(0)
    return session.report(folder / "report.html")
