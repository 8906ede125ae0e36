"""Classifiers of transformers, from the Hub or from a folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from captum_neuroinspect._core.class_names import are_placeholders, as_names
from captum_neuroinspect._core.optional import optional
from captum_neuroinspect.models._checkpoints import listed
from captum_neuroinspect.models._measured import recipe_of
from captum_neuroinspect.models._recipe import Built, Recipe
from captum_neuroinspect.models._shared import (
    DEFAULT,
    no_progress_bar,
    reading_folder,
    told_what_to_do,
)
from captum_neuroinspect.models._transforms import HuggingFaceTransform, TimmTransform

_OF_PHOTOS = ("preprocessor_config.json", "processor_config.json")
# Left open, transformers would ask on the terminal, and run the code after a "y".
_NO_CODE = {"trust_remote_code": False}


class HuggingFace:
    """A model that ``AutoModelForImageClassification`` knows, on the Hub or in a folder."""

    def __init__(self, name: str) -> None:
        self._transformers = optional("transformers", "transformers")
        # The Hub's names have one slash at most: what looks like a path is one.
        if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
            raise FileNotFoundError(f"spec='hf:{name}': there is no such folder")
        self._name = str(Path(name).expanduser()) if name.startswith("~") else name

    def build(self, n_classes: int | None) -> Built:
        t, options = self._transformers, {} if n_classes is None else {"num_labels": n_classes}
        with self._told_what_to_do(), self._reading(), self._own_code_refused():
            config = t.AutoConfig.from_pretrained(self._name, **_NO_CODE, **options)
            model = t.AutoModelForImageClassification.from_config(config, **_NO_CODE)
        names = self._class_names(config)
        return Built(model, self._recipe(), "random", config.num_labels, names)

    def pretrained(self, weights: str) -> Built:
        if weights != DEFAULT:
            raise ValueError(
                f"weights={weights!r}, expected a file or {DEFAULT!r}: hf: has one set"
            )
        factory = self._transformers.AutoModelForImageClassification
        quietly = no_progress_bar(self._transformers)
        with self._told_what_to_do(), self._reading(), self._own_code_refused(), quietly:
            options = {"output_loading_info": True, **_NO_CODE}
            model, report = factory.from_pretrained(self._name, **options)
        new = sorted(report["missing_keys"])
        if new:  # transformers would draw them at random, with a mere warning
            raise ValueError(
                f"hf:{self._name} has no weights for {listed(new)}: expected a model that was "
                "trained for image classification"
            )
        names = self._class_names(model.config)
        stored = {str(p.dtype).removeprefix("torch.") for p in model.parameters()} - {"float32"}
        cast = f", stored in {listed(sorted(stored))}, computed in float32" if stored else ""
        weights = f"transformers {self._name}{cast}"
        return Built(model.float(), self._recipe(), weights, model.config.num_labels, names)

    def _class_names(self, config: Any) -> tuple[str, ...] | None:
        try:
            return _label_names(config)
        except (TypeError, ValueError) as error:
            warnings.warn(
                f"the class names of hf:{self._name} are left out ({error}): give class_names= "
                "(--class-names) in the order of the model's outputs",
                stacklevel=2,
            )
            return None

    def adapt(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Nothing: it has no parts that may be missing."""

    def _recipe(self) -> partial[Recipe]:
        folder = Path(self._name)
        is_there = any((folder / name).is_file() for name in _OF_PHOTOS)
        try:
            with self._reading() if is_there else nullcontext(), self._own_code_refused():
                factory = self._transformers.AutoImageProcessor
                processor = factory.from_pretrained(self._name, **_NO_CODE)
        except OSError as error:
            raise ValueError(
                f"hf:{self._name} has no preprocessor_config.json, so it is unknown how its photos "
                "were normalised: save the image processor of its training into the folder "
                "(processor.save_pretrained(folder))"
            ) from error
        config = getattr(processor, "data_config", None)  # of timm's models in transformers
        transform = HuggingFaceTransform(processor) if config is None else TimmTransform.of(config)
        return partial(recipe_of, transform, f"hf:{self._name}")

    def _reading(self) -> AbstractContextManager[None]:
        return reading_folder(f"hf:{self._name}", Path(self._name))

    @contextmanager
    def _own_code_refused(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "trust_remote_code" not in str(error):
                raise
            raise ValueError(
                f"hf:{self._name} comes with Python code of its own, which is not run: where you "
                "trust it, load the model in your own Python file and give FILE.py:FUNCTION"
            ) from None

    def _told_what_to_do(self) -> Any:
        step = f"run `hf download {self._name}`"
        return told_what_to_do(f"hf:{self._name}", step, "hf:FOLDER with a copy of its files")


def _label_names(config: Any) -> tuple[str, ...] | None:
    """The class names of a configuration; those that were never given are ``LABEL_0`` ...

    Raises:
        ValueError: when ``id2label`` does not number the classes from 0.
    """
    # Many fill in one of the two only.
    for names in (config.id2label, config.label2id):
        found = as_names(names, "id2label") if names else ()
        if found and not are_placeholders(found):
            return found
    return None
