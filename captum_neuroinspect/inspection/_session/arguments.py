"""What a session's arguments mean: models, decision layers, classes, neurons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from operator import index
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._class_names import as_names, find_class, folded, shortened
from captum_neuroinspect._fingerprint import tensor_fingerprint
from captum_neuroinspect._head import check_head, find_head
from captum_neuroinspect._modules import as_layer, captured_input, device_of, frozen, module_name
from captum_neuroinspect.inspection._models.recipe import Preprocess
from captum_neuroinspect.inspection.models import LoadedModel, load_model


def loaded_model(
    model: nn.Module | LoadedModel | str,
    preprocess: Preprocess | None,
    class_names: Iterable[str] | None,
    image_size: int | None,
) -> LoadedModel:
    """A model, however it was given, with how photos become its input."""
    if preprocess is not None and not callable(preprocess):
        raise TypeError(f"preprocess is {type(preprocess).__name__}, expected a function of images")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}, expected at least 1 pixel")
    names = None if class_names is None else as_names(class_names)
    if isinstance(model, str):
        model = load_model(model)
    if isinstance(model, LoadedModel):
        _check_no_other_order(names, model.class_names)
        return replace(
            model if image_size is None else _at_size(model, image_size),
            preprocess=preprocess or model.preprocess,
            class_names=names or model.class_names,
        )
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {type(model).__name__}, expected an nn.Module, a LoadedModel or a text"
        )
    size = image_size or 224
    first = nn.Identity() if preprocess is None else preprocess
    name = type(model).__name__
    return LoadedModel(model, first, size, size, "bilinear", names, name, "as given")


def head_of(model: LoadedModel, head: nn.Linear | str | None) -> nn.Linear:
    """The decision layer that was given, named or, else, found.

    Raises:
        TypeError: when it is not linear.
        ValueError: when it is not in the model, or none is found.
    """
    if isinstance(head, str):
        return check_head(as_layer(model.model, head, "head"))
    if head is not None:
        module_name(model.model, check_head(head))
        return head
    return find_head(model.model, model.preprocess(_example(model)))


def check_names(names: tuple[str, ...] | None, head: nn.Linear) -> None:
    """Refuse names that are not one for each class of the decision layer."""
    n_classes = n_classes_of(head)
    if names is not None and len(names) != n_classes:
        raise ValueError(
            f"class_names are {len(names)} ({shortened(names)}), expected {n_classes}: "
            "one for each output of the decision layer, in their order"
        )


def n_classes_of(head: nn.Linear) -> int:
    """How many classes a decision layer tells apart; one output decides between two."""
    return max(head.out_features, 2)


def model_key(model: LoadedModel, head: nn.Linear) -> dict[str, object]:
    """What results depend on beside the weights' values, for caches.

    Names alone say little of functions: what the preprocessing makes of a picture is
    part of the key, and, roughly, what the model makes of that, as its ``forward`` may
    have been rewritten. Roughly, because its last digits depend on the number of threads.
    """
    first = model.preprocess
    with frozen(model.model), torch.no_grad(), captured_input(head) as captured:
        given: Any = first(_example(model))
        model.model(given)
        features = captured.value.float()
    answer = f"{float(features.abs().mean()):.4g} {float(features.std(unbiased=False)):.4g}"
    size = [model.image_size, model.resize_size, model.interpolation]
    made = tensor_fingerprint(given) if isinstance(given, Tensor) else ""
    return {**model.key(), "size": size, "preprocessed": made, "answer": answer}


def class_index(given: int | str, names: tuple[str, ...] | None, n_classes: int) -> int:
    """A class by its name (as :func:`find_class`), or its number, which may be a text too.

    Raises:
        TypeError: when it is neither.
        ValueError: when there is no such class, or two have the name.
    """
    if isinstance(given, str):
        found = None if names is None else find_class(given, names)
        if found is not None:
            return found
        if not given.isdecimal():
            known = "there are no class names"
            if names is not None:
                known = f"expected one of {shortened(names, 12)}, or a number"
            raise ValueError(f"class {given!r} is unknown: {known}")
    number = int(given) if isinstance(given, str) else _whole("a class", given)
    if not 0 <= number < n_classes:
        raise ValueError(f"class {given} is out of range: there are {n_classes} classes")
    return number


def unit_indices(neurons: Any) -> list[int]:
    """One neuron or several, as numbers.

    Raises:
        TypeError: for something that is no whole number.
        ValueError: when there are none.
    """
    if isinstance(neurons, str):
        raise TypeError(f"neurons={neurons!r}, expected whole numbers such as [12, 40]")
    if isinstance(neurons, Tensor):
        neurons = neurons.tolist()
    found = list(neurons) if isinstance(neurons, Iterable) else [neurons]
    if not found:
        raise ValueError("neurons is empty: expected at least one")
    return [_whole("a neuron", neuron) for neuron in found]


def layer_name(model: nn.Module, layer: nn.Module | str | None) -> str | None:
    """The dotted name of a layer, for caches.

    Raises:
        ValueError: when it is not in the model.
    """
    return None if layer is None else module_name(model, as_layer(model, layer))


def _whole(what: str, value: Any) -> int:
    # bool is an int to Python, not to a reader.
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} is {value!r}, expected a whole number")
    return index(value)


def _check_no_other_order(names: tuple[str, ...] | None, own: tuple[str, ...] | None) -> None:
    """Names may be put in place of the model's, but not at other classes."""
    if names is None or own is None:
        return
    given, known = [folded(name) for name in names], [folded(name) for name in own]
    if given != known and sorted(given) == sorted(known):
        raise ValueError(
            f"class_names are {shortened(names)}, but the model has these names in another order, "
            f"{shortened(own)}: leave class_names= out, or replace(loaded, class_names=...) when "
            "the model's are wrong"
        )


def _at_size(model: LoadedModel, image_size: int) -> LoadedModel:
    # The same share of the photo is cropped away.
    resize_size = round(model.resize_size * image_size / model.image_size)
    return replace(model, image_size=image_size, resize_size=max(image_size, resize_size))


def _example(model: LoadedModel) -> Tensor:
    """A picture of noise, the same each time, drawn beside the caller's random numbers."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, model.image_size, model.image_size, generator=generator)
    return picture.to(device_of(model.model))
