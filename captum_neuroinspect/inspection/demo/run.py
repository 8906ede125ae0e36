"""The main job on real weights: from mistakes to neurons, pictures and a mended head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.head import find_head
from captum_neuroinspect.analysis.explanation import mistakes_about
from captum_neuroinspect.attr import NeuronCounterfactual, NeuronRanking, rank_neurons
from captum_neuroinspect.edit import Verdict
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.features import collect_features
from captum_neuroinspect.inspection.demo.data import SIZE, DemoData, digits_data, folder_data
from captum_neuroinspect.inspection.demo.edits import Candidate, best_of, choose, try_edits
from captum_neuroinspect.models.new_head import replace_layer, train_decision_layer
from captum_neuroinspect.models.weights import load_efficientnet_lite
from captum_neuroinspect.optvis import IllusionOptions, Illusions, render_illusions

N_NEURONS = 6
N_TOP_PHOTOS = 6
# Smaller than the photos: three quarters of the time, and what a neuron looks for still shows.
_ILLUSION_SIZE = 192
# With fewer mistakes than this the training set's mistakes of the class join in.
_MIN_MISTAKES = 8


@dataclass(frozen=True, eq=False)
class DemoResult:
    """Everything that the demo found; the report and ``result.json`` are made from it.

    Attributes:
        data: the photos.
        seed: what drew everything.
        sets: features of each split, judged by the trained head.
        target: class that is mended.
        confused: class that most of its explained mistakes were taken for.
        explained: mistakes that were explained (half of those in the field).
        from_training: how many more mistakes were taken from the training set.
        held: photos that chose the edit; not explained.
        ranking: the neurons behind the mistakes.
        neurons: the neurons that are shown.
        illusions: for each shown neuron the target's, then the confused class's.
        top_photos: ``(n_neurons, k)`` positions in the test set.
        candidates: the edits that were tried.
        chosen: the edit that the held-out photos chose, or ``None``.
    """

    data: DemoData
    seed: int
    sets: dict[str, FeatureSet]
    target: int
    confused: int
    explained: FeatureSet
    from_training: int
    held: FeatureSet
    ranking: NeuronRanking
    neurons: tuple[int, ...]
    illusions: Illusions
    top_photos: Tensor
    candidates: list[Candidate]
    chosen: Candidate | None

    @property
    def best(self) -> Candidate:
        """The chosen edit, or the best of those tried when none was worth choosing."""
        return self.chosen or best_of(self.candidates)

    @property
    def verdict(self) -> Verdict:
        """On that edit, by the test photos."""
        return self.best.edit.judge(self.sets["test"]).verdict


def run_demo(
    folder: str | Path | None = None,
    *,
    seed: int = 0,
    n_steps: int = 120,
    progress: bool = True,
) -> DemoResult:
    """Inspect EfficientNet-Lite0 with a new decision layer, find what misleads it, mend it.

    Args:
        folder: photos in ``train/``, ``validation/`` and ``test/``, one subfolder a
            class; digits on textures when not given.
        seed: draws data, head, illusions and edits; the same seed, the same numbers.
        n_steps: optimisation steps of the illusions.
        progress: show progress bars.

    Raises:
        ValueError: when the folder is not as expected, or the class makes no mistakes.
        ImportError: when the packages of the ``demo`` extra are missing.
    """
    data = digits_data(seed) if folder is None else folder_data(folder)
    model, head, sets = _model_and_features(data, seed, progress)
    target = _worst_class(sets["validation"]) if data.target is None else data.target
    shown, held = sets["deployment"].split(0.5, seed=seed, together=data.units)
    explained, from_training = _mistakes_to_explain(shown, sets["train"], target)
    ranking = _rank(head, explained, sets["train"], target)
    neurons = _neurons_to_show(ranking)
    confused = int(explained.predictions.bincount().argmax())
    candidates = try_edits(
        head,
        sets["train"],
        held,
        mistakes_about(shown, target),
        target=target,
        neurons=_neurons_to_edit(ranking),
        seed=seed,
    )
    return DemoResult(
        data=data,
        seed=seed,
        sets=sets,
        target=target,
        confused=confused,
        explained=explained.subset(torch.arange(len(explained) - from_training)),
        from_training=from_training,
        held=held,
        ranking=ranking,
        neurons=neurons,
        illusions=_illusions(model, neurons, (target, confused), data, seed, n_steps, progress),
        top_photos=sets["test"].features[:, list(neurons)].topk(N_TOP_PHOTOS, dim=0).indices.T,
        candidates=candidates,
        chosen=choose(candidates),
    )


def _model_and_features(
    data: DemoData, seed: int, progress: bool
) -> tuple[nn.Module, nn.Linear, dict[str, FeatureSet]]:
    """Lite0, its new decision layer for these classes, and its features of each split."""
    model = load_efficientnet_lite(0)
    old = find_head(model, torch.rand(1, 3, SIZE, SIZE))
    new = nn.Linear(old.in_features, len(data.class_names))
    replace_layer(model, old, new)
    sets: dict[str, FeatureSet] = {}
    for name, photos in data.sets.items():
        if name == "deployment" and data.field_is_validation:
            continue
        collected = collect_features(
            model, photos, new, class_names=data.class_names, progress=progress
        )
        sets[name] = replace(collected, groups=data.groups.get(name))
    sets.setdefault("deployment", sets["validation"])
    head = train_decision_layer(sets["train"], sets["validation"], seed=seed)
    new.load_state_dict(head.state_dict())
    return model, new, {name: features.with_head(new) for name, features in sets.items()}


def _worst_class(validation: FeatureSet) -> int:
    # A class without validation photos has no accuracy: it can't be called the worst.
    return int(validation.class_accuracy().nan_to_num(2.0).argmin())


def _mistakes_to_explain(
    shown: FeatureSet, train: FeatureSet, target: int
) -> tuple[FeatureSet, int]:
    mistakes = shown.mistakes(target)
    extra = train.mistakes(target)
    if len(mistakes) >= _MIN_MISTAKES or not len(extra):
        if not len(mistakes):
            name = shown.class_name(target)
            raise ValueError(f"the model makes no mistakes on {name}: nothing to explain")
        return mistakes, 0
    both: dict[str, Any] = {
        name: torch.cat([getattr(mistakes, name), getattr(extra, name)])
        for name in ("features", "logits", "labels", "indices")
    }
    return FeatureSet(**both, class_names=shown.class_names), len(extra)


def _rank(head: nn.Linear, mistakes: FeatureSet, train: FeatureSet, target: int) -> NeuronRanking:
    """Contrast the mistakes with training photos that the head gets right."""
    w = NeuronCounterfactual(head, head).attribute_features(mistakes.features, target)
    return rank_neurons(w, features=mistakes, reference=train)


def _neurons_to_edit(ranking: NeuronRanking) -> tuple[int, ...]:
    # What the class leans on and misses in its mistakes is the false correlation.
    return ranking.insufficient.neurons or ranking.excessive.neurons


def _neurons_to_show(ranking: NeuronRanking) -> tuple[int, ...]:
    return (ranking.insufficient.neurons + ranking.excessive.neurons)[:N_NEURONS]


def _illusions(
    model: nn.Module,
    neurons: tuple[int, ...],
    classes: tuple[int, int],
    data: DemoData,
    seed: int,
    n_steps: int,
    progress: bool,
) -> Illusions:
    return render_illusions(
        model,
        [neuron for neuron in neurons for _ in classes],
        list(classes) * len(neurons),
        encoder=LabelSpaceEncoder.pretrained(image_size=_ILLUSION_SIZE).softened(),
        class_names=data.class_names,
        size=_ILLUSION_SIZE,
        n_steps=n_steps,
        seed=seed,
        options=IllusionOptions(batch_size=2 * len(neurons), precision=_fast_precision()),
        progress=progress,
    )


def _fast_precision() -> Literal["float32", "bfloat16"]:
    """Choose bfloat16 where the processor has matrix units for it.

    By what the machine is, not by a stopwatch: it always gives the same pictures.
    Without such units bfloat16 convolutions are slower than float32 ones.
    """
    has_matrix_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if has_matrix_units() else "float32"
