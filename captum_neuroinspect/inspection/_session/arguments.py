"""What a session's arguments mean: models, decision layers, classes, neurons."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from operator import index
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._fingerprint import tensor_fingerprint
from captum_neuroinspect._head import check_head, find_head
from captum_neuroinspect._input_fit import told_what_fits
from captum_neuroinspect._modules import as_layer, captured_input, device_of, frozen, module_name
from captum_neuroinspect.inspection._models.recipe import Preprocess, SizedBy, Wanted
from captum_neuroinspect.inspection._photos.view import View
from captum_neuroinspect.inspection.models import LoadedModel, load_model
from captum_neuroinspect.inspection.photos import Photos


def loaded_model(
    model: nn.Module | LoadedModel | str,
    preprocess: Preprocess | None,
    class_names: Iterable[str] | None,
    image_size: int | None,
    resize: int | str | None = None,
) -> LoadedModel:
    """A model, however it was given, with how photos become its input."""
    if preprocess is not None and not callable(preprocess):
        raise TypeError(f"preprocess is {type(preprocess).__name__}, expected a function of images")
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}, expected at least 1 pixel")
    names = _names(class_names)
    wanted = Wanted(image_size, resize)
    if isinstance(model, str):
        model, wanted = load_model(model, image_size=image_size, resize=resize), Wanted()
    if isinstance(model, LoadedModel):
        return replace(
            model,
            view=wanted.applied_to(model.view),
            preprocess=preprocess or model.preprocess,
            class_names=names or model.class_names,
            sized_by=model.sized_by if image_size is None else "user",
        )
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {type(model).__name__}, expected an nn.Module, a LoadedModel or a text"
        )
    view = View.of(image_size or 224, resize)
    first = nn.Identity() if preprocess is None else preprocess
    sized_by: SizedBy = "nobody" if image_size is None else "user"
    return LoadedModel(model, first, view, names, type(model).__name__, "as given", sized_by)


def sized_like(model: LoadedModel, data: Any) -> LoadedModel:
    """A model that nobody gave a size looks at tensors as they are.

    The first item that can be read tells their size.
    """
    if model.sized_by != "nobody" or isinstance(data, (str, PathLike)):
        return model
    if isinstance(data, Photos):
        return replace(model, view=data.view)
    size = None
    with suppress(ValueError):  # what is wrong with the data is said when they are read
        size = Photos.of(data).tensor_size()
    if size is None:
        return model
    return replace(model, view=View.of(size, model.view.resizing.mode, model.interpolation))


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
    with told_what_fits(model.model, 3, model.view.size):
        return find_head(model.model, model.preprocess(_example(model)))


def check_names(names: tuple[str, ...] | None, head: nn.Linear) -> None:
    """Refuse names that are not one for each class of the decision layer."""
    n_classes = n_classes_of(head)
    if names is not None and len(names) != n_classes:
        raise ValueError(
            f"class_names are {len(names)} ({', '.join(names[:5])}, ...), expected {n_classes}: "
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
        with told_what_fits(model.model, 3, model.view.size):
            model.model(given)
        features = captured.value.float()
    answer = f"{float(features.abs().mean()):.4g} {float(features.std(unbiased=False)):.4g}"
    made = tensor_fingerprint(given) if isinstance(given, Tensor) else ""
    return {**model.key(), "size": repr(model.view), "preprocessed": made, "answer": answer}


def class_index(given: int | str, names: tuple[str, ...] | None, n_classes: int) -> int:
    """A class by its name, or by its number, which may be a text too.

    Raises:
        TypeError: when it is neither.
        ValueError: when there is no such class.
    """
    if isinstance(given, str):
        if names is not None and given in names:
            return names.index(given)
        if not given.isdecimal():
            known = "there are no class names" if names is None else _listed(names)
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


def _names(class_names: Iterable[str] | None) -> tuple[str, ...] | None:
    if isinstance(class_names, str):
        raise TypeError(f"class_names={class_names!r} is one text, expected a list of names")
    return None if class_names is None else tuple(map(str, class_names))


def _example(model: LoadedModel) -> Tensor:
    """A picture of noise, the same each time, drawn beside the caller's random numbers."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, *model.view.size, generator=generator)
    return picture.to(device_of(model.model))


def _listed(names: tuple[str, ...], n: int = 12) -> str:
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return f"expected one of {', '.join(names[:n])}{more}, or a number"
