"""What an inspection found, as values: all that a report is filled from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.analysis.comparison import Comparison
from captum_neuroinspect.analysis.explanation import Explanation
from captum_neuroinspect.analysis.top_photos import TopPhotos
from captum_neuroinspect.attr import Direction
from captum_neuroinspect.inspection.data.parts import InspectionData
from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight
from captum_neuroinspect.photos.view import View

if TYPE_CHECKING:
    from captum_neuroinspect.describe import Descriptions
    from captum_neuroinspect.optvis import Illusions


@dataclass(frozen=True, eq=False)
class NeuronEvidence:
    """What stands on the cards of J neurons beside their illusions and words.

    Attributes:
        neurons: J inputs of the decision layer, in the order of their cards.
        top: the k photos that excite each of them most.
        boxes: ``(J, k, 4)`` the region of each photo that does: left, top, right, bottom.
        mistakes: M mistakes, the first of the explanation's.
        saliency: ``(M, J, h, w)`` where each mistake excites each neuron.
        core_relevance: of each illusion; ``None`` where it has none. Empty without illusions.
    """

    neurons: tuple[int, ...]
    top: TopPhotos
    boxes: Tensor
    mistakes: FeatureSet
    saliency: Tensor
    core_relevance: tuple[float | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Findings:
    """All that one inspection has found by now.

    Attributes:
        spec: names the model.
        weights: names its weights.
        view: how it looks at photos.
        is_named: whether the model has class names of its own.
        head_weight: ``(C, F)`` of the decision layer.
        data: the photos and their features, by role.
        explanation: of the mistakes on the inspected class.
        preflight: what may make the results wrong.
        evidence: for the cards; ``None``: no neuron has one.
        illusions: of inputs of the decision layer, if any were made.
        cue: what the mistakes lack, as one direction, where it can be located.
        descriptions: words for neurons, if there are any.
        comparison: the edit on the photos that judge it, if there is one.
        encoder: name of the image-text encoder, if there is one.
        seed: of everything drawn.
        digest: names model, photos and mistakes.
    """

    spec: str
    weights: str
    view: View
    is_named: bool
    head_weight: Tensor
    data: InspectionData
    explanation: Explanation
    preflight: Preflight
    evidence: NeuronEvidence | None = None
    illusions: Illusions | None = None
    cue: Direction | None = None
    descriptions: Descriptions | None = None
    comparison: Comparison | None = None
    encoder: str | None = None
    seed: int = 0
    digest: str = ""
