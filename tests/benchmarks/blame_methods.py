"""Ways to name the neurons behind mistakes: the paper's, ours, and what Captum offers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from blame_cases import Case
from captum.attr import (
    LayerActivation,
    LayerConductance,
    LayerDeepLift,
    LayerGradientXActivation,
    LayerIntegratedGradients,
)
from torch import Tensor, nn

from captum_neuroinspect import NeuronCounterfactual, rank_neurons
from captum_neuroinspect.attr import ElasticNet, NeuronRanking, Reference

Method = Callable[[Case], list[int]]  # a case -> neurons, the most to blame first


def methods() -> dict[str, Method]:
    """By name; the default of the library stands first."""
    return {
        "ours: default (contrast with correct samples)": ours(),
        "ours: effect=0.25 for all": ours(effect=0.25),
        "ours: only surprise (effect=0)": ours(effect=0.0),
        "ours: only effect (effect=1)": ours(effect=1.0),
        "ours: default, counterfactual by FISTA": ours(solver="fista"),
        "paper: SGD, top-5 votes": paper(feasible=False),
        "paper, feasible": paper(),
        "paper, feasible, summed magnitude": paper(by="magnitude"),
        "FISTA, summed magnitude": paper(by="magnitude", solver="fista"),
        "FISTA, norms as in the text": paper(by="magnitude", solver="fista", scaling="paper"),
        "Captum: LayerActivation difference": activation_difference,
        "Captum: GradientXActivation, predicted": captum(gradient_x_activation, margin=False),
        "Captum: GradientXActivation, margin": captum(gradient_x_activation),
        "Captum: Conductance, margin": captum(conductance),
        "Captum: IntegratedGradients, margin": captum(integrated_gradients(usual=False)),
        "Captum: IntegratedGradients, margin, usual": captum(integrated_gradients(usual=True)),
        "Captum: DeepLift, margin, usual": captum(deep_lift),
    }


def ours(effect: float | None = None, solver: str = "sgd") -> Method:
    def inner(case: Case) -> list[int]:
        reference = Reference.of(case.correct, effect=effect)
        ranking = rank_neurons(
            counterfactuals(case, None, solver), features=case.mistakes, reference=reference
        )
        return merged(ranking, "magnitude")

    return inner


def paper(
    feasible: bool | None = None, by: str = "precision", solver: str = "sgd", scaling: str = "code"
) -> Method:
    def inner(case: Case) -> list[int]:
        w = counterfactuals(case, feasible, solver, scaling)
        return merged(rank_neurons(w, by=by, min_precision=0.0), by)

    return inner


def counterfactuals(
    case: Case, feasible: bool | None, solver: str, scaling: str = "code"
) -> Tensor:
    method = NeuronCounterfactual(
        case.head, case.head, solver=solver, penalty=ElasticNet(scaling=scaling)
    )
    return method.attribute_features(
        case.mistakes.features, case.mistakes.labels, feasible=feasible
    )


def merged(ranking: NeuronRanking, by: str) -> list[int]:
    """One list of all neurons, by what the lists themselves are ordered by."""
    rows = sorted(ranking.rows(), key=lambda r: (-r[by], -r["magnitude"], r["neuron"]))
    return [row["neuron"] for row in rows]


def activation_difference(case: Case) -> list[int]:
    """Mean activation of the mistakes against that of correct samples of the same classes."""
    model, layer = split_head(case.head)
    activation = LayerActivation(model, layer).attribute(case.mistakes.features)
    return by_size(activation - usual_level(case))


def captum(attribute: Callable[..., Tensor], margin: bool = True) -> Method:
    """Attributions to the predicted class (minus those to the right one), mean over mistakes."""

    def inner(case: Case) -> list[int]:
        scores = attribute(case, case.mistakes.predictions)
        if margin:
            scores = scores - attribute(case, case.mistakes.labels)
        return by_size(scores)

    return inner


def gradient_x_activation(case: Case, target: Tensor) -> Tensor:
    model, layer = split_head(case.head)
    return LayerGradientXActivation(model, layer).attribute(case.mistakes.features, target)


def conductance(case: Case, target: Tensor) -> Tensor:
    model, layer = split_head(case.head)
    return LayerConductance(model, layer).attribute(
        case.mistakes.features, target=target, n_steps=10
    )


def integrated_gradients(usual: bool) -> Callable[[Case, Tensor], Tensor]:
    def inner(case: Case, target: Tensor) -> Tensor:
        model, layer = split_head(case.head)
        baselines = usual_level(case) if usual else torch.zeros_like(case.mistakes.features)
        return LayerIntegratedGradients(model, layer).attribute(
            case.mistakes.features, baselines, target=target, n_steps=10
        )

    return inner


def deep_lift(case: Case, target: Tensor) -> Tensor:
    model, layer = split_head(case.head)
    return LayerDeepLift(model, layer).attribute(
        case.mistakes.features, usual_level(case), target=target
    )


def usual_level(case: Case) -> Tensor:
    """``(N, F)`` mean of the correct samples of each mistake's class."""
    return Reference.of(case.correct).level[case.mistakes.labels]


def split_head(head: nn.Linear) -> tuple[nn.Module, nn.Module]:
    model = nn.Sequential(nn.Identity(), head)
    return model, model[0]


def by_size(scores: Tensor) -> list[int]:
    return scores.detach().mean(0).abs().argsort(descending=True, stable=True).tolist()
