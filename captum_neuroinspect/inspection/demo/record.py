"""Every number of a demo run as plain data: ``result.json`` and the report read it."""

from __future__ import annotations

import math
from typing import Any

import torch

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.edit import ConstraintRecord, Evaluation
from captum_neuroinspect.inspection.demo.edits import MAX_COST, Candidate
from captum_neuroinspect.inspection.demo.run import DemoResult

Record = dict[str, Any]


def as_record(result: DemoResult) -> Record:
    """Turn a result into dictionaries, lists, strings and numbers; NaN becomes ``None``."""
    name = result.data.class_names.__getitem__
    record = {
        "data": _data(result),
        "seed": result.seed,
        "target": {"index": result.target, "name": name(result.target)},
        "confused": {"index": result.confused, "name": name(result.confused)},
        "accuracy": {split: _accuracy(features) for split, features in result.sets.items()},
        "mistakes": _mistakes(result),
        "ranking": {
            "n_mistakes": result.ranking.n_mistakes,
            "k": result.ranking.k,
            "rows": result.ranking.rows(),
        },
        "neurons": [_neuron(result, i) for i in range(len(result.neurons))],
        "edits": [_edit(result, candidate) for candidate in result.candidates],
        "max_cost": MAX_COST,
        "judgement": _judgement(result),
    }
    return _without_nan(record)


def _data(result: DemoResult) -> Record:
    return {
        "name": result.data.name,
        "classes": list(result.data.class_names),
        "groups": result.data.group_names and list(result.data.group_names),
        "sizes": {split: len(features) for split, features in result.sets.items()},
        "field_is_validation": result.data.field_is_validation,
        "n_held": len(result.held),
    }


def _accuracy(features: FeatureSet) -> Record:
    return {
        "overall": features.accuracy(),
        "classes": features.class_accuracy().tolist(),
        "groups": None if features.groups is None else features.group_accuracy().tolist(),
    }


def _mistakes(result: DemoResult) -> Record:
    split = result.explained
    rows = zip(split.indices.tolist(), split.predictions.tolist(), strict=True)
    return {
        "from_field": len(split),
        "from_training": result.from_training,
        "photos": [
            {
                "index": i,
                "predicted": result.data.class_names[p],
                "group": _group(result, "field", i),
            }
            for i, p in rows
        ],
    }


def _neuron(result: DemoResult, position: int) -> Record:
    neuron, illusions, test = result.neurons[position], result.illusions, result.sets["test"]
    weights = result.candidates[0].edit.original.weight[:, neuron]
    photos = result.top_photos[position].tolist()
    return {
        "neuron": neuron,
        "kind": "insufficient" if neuron in result.ranking.insufficient.neurons else "excessive",
        "weights": weights.tolist(),
        "illusions": [
            {
                "class": result.data.class_names[c],
                "activation": float(illusions.activations[i]),
                "active_all_over": illusions.masks is None or bool(illusions.masks[i].min() == 1),
                "logit": None if illusions.logits is None else float(illusions.logits[i]),
                "similarity": (
                    None if illusions.similarities is None else float(illusions.similarities[i])
                ),
            }
            for i, c in ((2 * position, result.target), (2 * position + 1, result.confused))
        ],
        "mean_activation": float(test.features[:, neuron].mean()),
        "photos": [
            {
                "index": i,
                "label": result.data.class_names[test.labels[i]],
                "activation": float(test.features[i, neuron]),
                "group": _group(result, "test", i),
            }
            for i in photos
        ],
    }


def _group(result: DemoResult, split: str, index: int) -> str | None:
    groups, names = result.data.groups.get(split), result.data.group_names
    return None if groups is None or names is None else names[int(groups[index])]


def _edit(result: DemoResult, candidate: Candidate) -> Record:
    recipe, edit = candidate.recipe, candidate.edit
    before, after = edit.evaluate(result.sets["test"])
    assert isinstance(edit.method, ConstraintRecord)
    return {
        "name": recipe.name,
        "n_neurons": len(edit.neurons),
        "neurons": list(edit.neurons),
        "strength": recipe.strength,
        "scope": recipe.scope,
        "with_mistakes": recipe.with_mistakes,
        "is_comparison": recipe.is_comparison,
        "is_chosen": candidate is result.chosen,
        "is_best": candidate is result.best,
        "best_epoch": edit.method.best_epoch,
        "held_out": {
            "target_gain": candidate.target_gain,
            "others_gain": candidate.others_gain,
            "overall_gain": candidate.overall_gain,
        },
        "test": {
            "before": _evaluation(before),
            "after": _evaluation(after),
            "target_before": before.class_accuracy[result.target],
            "target_after": after.class_accuracy[result.target],
            "others_before": _others(result, edit.original),
            "others_after": _others(result, edit.head),
            "weakest_group_before": _weakest_group(result, before),
            "weakest_group_after": _weakest_group(result, after),
        },
    }


def _others(result: DemoResult, head: torch.nn.Linear) -> float:
    judged = result.sets["test"].with_head(head)
    return judged.subset(judged.labels != result.target).accuracy()


def _weakest_group(result: DemoResult, evaluation: Evaluation) -> float | None:
    group = weakest_target_group(result)
    if group is None or evaluation.group_accuracy is None:
        return None
    return evaluation.group_accuracy[group]


def weakest_target_group(result: DemoResult) -> int | None:
    """The target's group that the original head gets wrong most: the target off its cue."""
    test = result.sets["test"]
    if test.groups is None:
        return None
    mine = test.groups[test.labels == result.target].unique()
    return int(mine[test.group_accuracy()[mine].argmin()])


def _evaluation(evaluation: Evaluation) -> Record:
    groups = evaluation.group_accuracy
    return {
        "overall": evaluation.accuracy,
        "classes": list(evaluation.class_accuracy),
        "groups": None if groups is None else list(groups),
        "ratios": list(evaluation.ratios),
    }


def _judgement(result: DemoResult) -> Record:
    """What the chosen edit, or the best of those tried, does on the test photos."""
    test, edit = result.sets["test"], result.best.edit
    after = test.with_head(edit.head)
    group = weakest_target_group(result)
    names = result.data.group_names
    return {
        "n_photos": len(test),
        "mended": int((~test.is_correct & after.is_correct).sum()),
        "broken": int((test.is_correct & ~after.is_correct).sum()),
        "verdict": result.verdict.as_dict(),
        "weakest_group": None if group is None or names is None else names[group],
        "class_counts": torch.bincount(test.labels, minlength=test.n_classes).tolist(),
        "group_counts": None if test.groups is None else test.groups.bincount().tolist(),
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
