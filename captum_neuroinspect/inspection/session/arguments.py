"""What a session's arguments mean: models, decision layers, classes, neurons."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from operator import index
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.class_names import as_names, find_class, folded, shortened
from captum_neuroinspect._core.fingerprint import tensor_fingerprint
from captum_neuroinspect._core.head import check_head, find_head
from captum_neuroinspect._core.head_watch import check_belongs
from captum_neuroinspect._core.input_fit import told_what_fits
from captum_neuroinspect._core.modules import (
    as_input,
    as_layer,
    captured_input,
    device_of,
    frozen,
    logits_of,
    module_name,
)
from captum_neuroinspect.models._recipe import Preprocess, SizedBy, Wanted
from captum_neuroinspect.models.load import LoadedModel, load_model
from captum_neuroinspect.photos.photos import Photos
from captum_neuroinspect.photos.view import View


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
    _check_is_no_head(model, preprocess)
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size={image_size}, expected at least 1 pixel")
    names = None if class_names is None else as_names(class_names)
    wanted = Wanted(image_size, resize)
    if isinstance(model, str):
        model, wanted = load_model(model, image_size=image_size, resize=resize), Wanted()
    if isinstance(model, LoadedModel):
        _check_no_other_order(names, model.class_names)
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


def _check_is_no_head(model: nn.Module | LoadedModel | str, preprocess: Preprocess | None) -> None:
    """Refuse a decision layer in the place of the preprocessing, which is second by position."""
    module = model.model if isinstance(model, LoadedModel) else model
    is_inside = isinstance(module, nn.Module) and any(
        preprocess is inner for inner in module.modules()
    )
    if isinstance(preprocess, nn.Linear) or is_inside:
        raise TypeError(
            f"preprocess is {type(preprocess).__name__}, a layer, expected a function of images: "
            "the decision layer is given as head="
        )


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
        ValueError: when it is not in the model or does not decide, or none is found.
    """
    if isinstance(head, str):
        head = check_head(as_layer(model.model, head, "head"))
    example = model.preprocess(example_of(model))
    with told_what_fits(model.model, 3, model.view.size):
        if head is None:
            return find_head(model.model, example)
        return check_belongs(model.model, head, example)


def head_if_any(
    model: LoadedModel, head: nn.Linear | str | None, layer: nn.Module | str | None
) -> tuple[nn.Linear | None, str]:
    """The decision layer, or why there is none, which a layer to look at allows.

    Raises:
        TypeError, ValueError: as :func:`head_of`.
    """
    try:
        return head_of(model, head), ""
    except ValueError as error:
        if head is not None or layer is None:
            raise
        return None, str(error)


def check_names(names: tuple[str, ...] | None, n_classes: int) -> None:
    """Refuse names that are not one for each class of the model."""
    if names is not None and len(names) != n_classes:
        raise ValueError(
            f"class_names are {len(names)} ({shortened(names)}), expected {n_classes}: "
            "one for each output of the decision layer, in their order"
        )


def n_classes_of(model: LoadedModel, head: nn.Linear | None) -> int:
    """How many classes a model tells apart; one output decides between two."""
    if head is not None:
        return max(head.out_features, 2)
    given = as_input(model.model, model.preprocess(example_of(model)))
    with frozen(model.model), torch.no_grad():
        return max(logits_of(model.model(given)).shape[-1], 2)


def model_key(model: LoadedModel, head: nn.Linear | None) -> dict[str, object]:
    """What results depend on beside the weights' values, for caches.

    Names alone say little of functions: what the preprocessing makes of a picture is
    part of the key, and, roughly, what the model makes of that, as its ``forward`` may
    have been rewritten. Roughly, because its last digits depend on the number of threads.
    """
    first = model.preprocess
    with frozen(model.model), torch.no_grad(), ExitStack() as stack:
        captured = None if head is None else stack.enter_context(captured_input(head))
        given: Any = first(example_of(model))
        with told_what_fits(model.model, 3, model.view.size):
            output = model.model(as_input(model.model, given))
        features = (logits_of(output) if captured is None else captured.value).float()
    answer = f"{float(features.abs().mean()):.4g} {float(features.std(unbiased=False)):.4g}"
    made = tensor_fingerprint(given) if isinstance(given, Tensor) else ""
    return {**model.key(), "size": repr(model.view), "preprocessed": made, "answer": answer}


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


def example_of(model: LoadedModel) -> Tensor:
    """A picture of noise, the same each time, drawn beside the caller's random numbers."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, *model.view.size, generator=generator)
    return picture.to(device_of(model.model))
