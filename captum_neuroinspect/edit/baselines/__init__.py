"""Other ways to edit a decision layer, behind one interface, to compare with."""

from captum_neuroinspect.edit.baselines.baseline import Baseline, with_mistakes
from captum_neuroinspect.edit.baselines.coefficient_norm import CoefficientNorm
from captum_neuroinspect.edit.baselines.con import CON
from captum_neuroinspect.edit.baselines.concept_erasure import ConceptErasure, leace
from captum_neuroinspect.edit.baselines.deep_feature_reweighting import DeepFeatureReweighting
from captum_neuroinspect.edit.baselines.focal import FocalLoss, focal_loss
from captum_neuroinspect.edit.baselines.head_training import Budget
from captum_neuroinspect.edit.baselines.held_out_finetuning import (
    AutomaticFeatureReweighting,
    ClassBalancedFinetuning,
    SelectiveFinetuning,
)
from captum_neuroinspect.edit.baselines.reweighting import (
    ClassWeighting,
    JustTrainTwice,
    class_weights,
)
from captum_neuroinspect.edit.baselines.simple import Retraining, Unchanged, Zeroing
from captum_neuroinspect.edit.baselines.spurious_direction import (
    SpuriousDirectionRemoval,
    without_spurious_direction,
)

__all__ = [
    "CON",
    "AutomaticFeatureReweighting",
    "Baseline",
    "Budget",
    "ClassBalancedFinetuning",
    "ClassWeighting",
    "CoefficientNorm",
    "ConceptErasure",
    "DeepFeatureReweighting",
    "FocalLoss",
    "JustTrainTwice",
    "Retraining",
    "SelectiveFinetuning",
    "SpuriousDirectionRemoval",
    "Unchanged",
    "Zeroing",
    "class_weights",
    "focal_loss",
    "leace",
    "with_mistakes",
    "without_spurious_direction",
]
