"""Image-text encoders, with which the other stages compare images and texts."""

from captum_neuroinspect.encoders.by_name import find_encoder
from captum_neuroinspect.encoders.label_space_encoder import LabelSpaceEncoder
from captum_neuroinspect.encoders.open_clip_encoder import OpenCLIPEncoder
from captum_neuroinspect.encoders.prompts import (
    DEFAULT_TEMPLATES,
    class_embeddings,
    clip_templates,
)
from captum_neuroinspect.encoders.protocol import ImageTextEncoder

__all__ = [
    "DEFAULT_TEMPLATES",
    "ImageTextEncoder",
    "LabelSpaceEncoder",
    "OpenCLIPEncoder",
    "class_embeddings",
    "clip_templates",
    "find_encoder",
]
