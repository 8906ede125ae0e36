"""Models from libraries, files and checkpoints, with their preprocessing of photos."""

from captum_neuroinspect.models.load import LoadedModel, load_model
from captum_neuroinspect.models.new_head import replace_layer, train_decision_layer
from captum_neuroinspect.models.saving import SavedModel, save_model
from captum_neuroinspect.models.weights import (
    SentenceEncoder,
    imagenet_class_names,
    load_efficientnet_lite,
    load_minilm,
)

__all__ = [
    "LoadedModel",
    "SavedModel",
    "SentenceEncoder",
    "imagenet_class_names",
    "load_efficientnet_lite",
    "load_minilm",
    "load_model",
    "replace_layer",
    "save_model",
    "train_decision_layer",
]
