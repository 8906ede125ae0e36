"""Feature visualization of neurons in a class: Lucent-native parts and a renderer.

Names are loaded when they are used, so that importing this package does not
import Lucent (only the objectives need it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_neuroinspect._core.lazy import lazy_names

if TYPE_CHECKING:
    from captum_neuroinspect.optvis.guided_model import GuidedModel
    from captum_neuroinspect.optvis.hooks import clean_hooks
    from captum_neuroinspect.optvis.illusion_options import Guidance, IllusionOptions
    from captum_neuroinspect.optvis.illusions import Illusions
    from captum_neuroinspect.optvis.loss import illusion_loss
    from captum_neuroinspect.optvis.maco import maco_image, spectrum_magnitude
    from captum_neuroinspect.optvis.mask import activation_mask
    from captum_neuroinspect.optvis.objectives import class_conditional, clip_illusion, unit_mean
    from captum_neuroinspect.optvis.pairing import classes_of_neurons, neurons_of_classes
    from captum_neuroinspect.optvis.param import illusion_image
    from captum_neuroinspect.optvis.redirected_rectifiers import RedirectedRectifiers
    from captum_neuroinspect.optvis.render import render_illusions
    from captum_neuroinspect.optvis.transform import (
        channel_noise,
        illusion_transforms,
        random_affine,
    )

_MODULE_OF = {
    "Guidance": "illusion_options",
    "GuidedModel": "guided_model",
    "IllusionOptions": "illusion_options",
    "Illusions": "illusions",
    "RedirectedRectifiers": "redirected_rectifiers",
    "activation_mask": "mask",
    "channel_noise": "transform",
    "class_conditional": "objectives",
    "classes_of_neurons": "pairing",
    "clean_hooks": "hooks",
    "clip_illusion": "objectives",
    "illusion_image": "param",
    "illusion_loss": "loss",
    "illusion_transforms": "transform",
    "maco_image": "maco",
    "neurons_of_classes": "pairing",
    "random_affine": "transform",
    "render_illusions": "render",
    "spectrum_magnitude": "maco",
    "unit_mean": "objectives",
    "with_contrast": "contrast",
}

__all__ = [
    "Guidance",
    "GuidedModel",
    "IllusionOptions",
    "Illusions",
    "RedirectedRectifiers",
    "activation_mask",
    "channel_noise",
    "class_conditional",
    "classes_of_neurons",
    "clean_hooks",
    "clip_illusion",
    "illusion_image",
    "illusion_loss",
    "illusion_transforms",
    "maco_image",
    "neurons_of_classes",
    "random_affine",
    "render_illusions",
    "spectrum_magnitude",
    "unit_mean",
    "with_contrast",
]


__getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
