"""What a session holds: the model, the photos, the folder, and what was found so far."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from captum_neuroinspect._core.files import partial_folder
from captum_neuroinspect._core.fingerprint import backbone_fingerprint, head_fingerprint
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.analysis.class_errors import worst_classes
from captum_neuroinspect.analysis.explanation import Explanation, check_outputs, explain_mistakes
from captum_neuroinspect.encoders.by_name import LazyEncoder, find_encoder
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.data.parts import Material
from captum_neuroinspect.inspection.session.arguments import (
    check_names,
    class_index,
    head_if_any,
    layer_name,
    loaded_model,
    model_key,
    n_classes_of,
    sized_like,
)
from captum_neuroinspect.inspection.session.evidence import Source, counterfactuals_of
from captum_neuroinspect.inspection.session.pixels import kept_preprocessing_check
from captum_neuroinspect.models.load import LoadedModel

if TYPE_CHECKING:
    from captum_neuroinspect.describe import Descriptions
    from captum_neuroinspect.edit import HeadEdit
    from captum_neuroinspect.encoders import ImageTextEncoder
    from captum_neuroinspect.inspection.preflight_checks.preprocessing import PreprocessingCheck
    from captum_neuroinspect.models._recipe import Preprocess
    from captum_neuroinspect.optvis import Illusions

_FEWEST_RIGHT = 2


class SessionState:
    """The part of ``NeuroInspect`` that its steps read; arguments are documented there.

    Attributes:
        model: with its preprocessing.
        layer: whose units are visualized, or ``None``.
        work: the folder.
        seed: of everything drawn.
        fresh: whether what is kept is computed again.
        progress: whether bars are shown.
        explanation: the last one, or ``None``.
        illusions: those visualized last, or ``None``.
        descriptions: the last words, or ``None``.
        last_edit: the last edit, or ``None``.
    """

    @undisturbed()
    def __init__(
        self,
        model: nn.Module | LoadedModel | str,
        preprocess: Preprocess | None = None,
        class_names: Iterable[str] | None = None,
        encoder: ImageTextEncoder | str | None = None,
        head: nn.Linear | str | None = None,
        layer: nn.Module | str | None = None,
        *,
        image_size: int | None = None,
        resize: int | str | None = None,
        work: str | PathLike[str] | WorkFolder | None = None,
        seed: int = 0,
        fresh: bool = False,
        progress: bool = True,
    ) -> None:
        self.model = loaded_model(model, preprocess, class_names, image_size, resize)
        layer_name(self.model.model, layer)  # refuses one of another model
        self._head, self._no_head = head_if_any(self.model, head, layer)
        check_names(self.model.class_names, self._n_classes)
        self.layer, self.seed, self.fresh, self.progress = layer, seed, fresh, progress
        self._encoder = find_encoder(encoder, device_of(self.model.model))
        self.work = self._folder(work)
        self._material: Material | None = None
        self._checked: PreprocessingCheck | None = None  # of these photos
        self.explanation: Explanation | None = None
        self.illusions: Illusions | None = None
        self.descriptions: Descriptions | None = None
        self.last_edit: HeadEdit | None = None

    def __repr__(self) -> str:
        data = "nothing loaded" if self._material is None else repr(self.material.inspected.photos)
        return f"NeuroInspect({self.model.spec}, {data}, work={str(self.work.path)!r})"

    @property
    def head(self) -> nn.Linear:
        """The decision layer.

        Raises:
            RuntimeError: when the model has none, and a ``layer`` was given to look at.
        """
        if self._head is None:
            raise RuntimeError(
                "only visualize(neurons, classes) works without a decision layer, which this "
                f"model has not: {self._no_head}"
            )
        return self._head

    @property
    def encoder(self) -> LazyEncoder | None:
        """The image-text encoder by its name, loaded when it is needed."""
        return self._encoder

    @property
    def material(self) -> Material:
        """The photos and their features.

        Raises:
            RuntimeError: before :meth:`load`.
        """
        if self._material is None:
            raise RuntimeError("no photos are loaded: call load(data) first")
        return self._material

    @property
    def source(self) -> Source:
        """Model and work folder, for what is computed beside the steps."""
        return Source(self.model, self.head, self.work, self._source_key, self.fresh)

    @property
    def _source_key(self) -> dict[str, object]:
        return {
            "backbone": backbone_fingerprint(self.model.model, self._head),
            "head": None if self._head is None else head_fingerprint(self._head),
            **self._key,
        }

    def _folder(self, work: str | PathLike[str] | WorkFolder | None) -> WorkFolder:
        if isinstance(work, WorkFolder):
            return work
        if work is not None:
            return WorkFolder(work)
        stack = ExitStack()
        # Private, as the place is everybody's.
        folder = stack.enter_context(partial_folder(Path(tempfile.gettempdir()), mode=0o700))
        weakref.finalize(self, stack.close)
        return WorkFolder(folder)

    @cached_property
    def _key(self) -> dict[str, object]:
        return model_key(self.model, self._head)

    @cached_property
    def _n_classes(self) -> int:
        return n_classes_of(self.model, self._head)

    def _see_as_given(self, data: Any) -> None:
        """Take the size of tensors, where nobody said at which the model looks at photos."""
        self.model = sized_like(self.model, data)
        self.__dict__.pop("_key", None)  # it depends on the size

    def _explain(self, target: int, predicted: int | None = None) -> Explanation:
        met, reference = self.material.deployment.features, self.material.train.features
        check_outputs(self.head)
        n_right = int(reference.is_correct.sum())
        if n_right < _FEWEST_RIGHT:
            raise ValueError(
                f"the head gets {n_right} of {len(reference)} train photos right, "
                f"expected at least {_FEWEST_RIGHT} to contrast mistakes with: give more photos, "
                "or train="
            )
        w = None
        if met.is_mistake(target, predicted).any():
            mistakes = met.mistakes(target, predicted)
            w = counterfactuals_of(self.source, self.material.inspected, mistakes, target)
            del mistakes  # `explain_mistakes` makes them again: of many classes two are too many
        return explain_mistakes(self.head, met, reference, target=target, predicted=predicted, w=w)

    def _pixels_check(self, is_doubtful: bool) -> PreprocessingCheck:
        """Whether the model sees what it was trained on, from a few photos; kept."""
        if self._checked is None:
            # A library's own preprocessing is only doubted where the results are doubtful.
            compare = is_doubtful or isinstance(self.model.preprocess, nn.Identity)
            part = self.material.inspected
            self._checked = kept_preprocessing_check(self.source, part, compare=compare)
        return self._checked

    def _worst(self) -> int:
        met = self.material.deployment.features
        wrong = set(met.labels[met.is_mistake()].tolist())
        order = [row.index for row in worst_classes(self.material.inspected.features, None)]
        return next((index for index in order if index in wrong), order[0])

    def _class(self, given: int | str) -> int:
        return class_index(given, self._names(), self._n_classes)

    def _names(self) -> tuple[str, ...] | None:
        known = None if self._material is None else self._material.inspected.features.class_names
        return known or self.model.class_names
