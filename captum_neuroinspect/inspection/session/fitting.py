"""One way to make an edit, with the chosen neurons, with others or with none, and its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import nn

from captum_neuroinspect.analysis.explanation import mistakes_about
from captum_neuroinspect.attr import Direction, cue_direction
from captum_neuroinspect.inspection.data.parts import InspectionData

if TYPE_CHECKING:
    from captum_neuroinspect._core.feature_set import FeatureSet
    from captum_neuroinspect.edit import Control, HeadEdit

Method = Literal["mend", "equation8", "remove_cue"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class Fitting:
    """What an edit and its controls share.

    Attributes:
        method: ``"mend"``, ``"equation8"`` or ``"remove_cue"``.
        head: the decision layer.
        data: the photos and their roles.
        target: the class to edit.
        options: of the method's function.
        located: mistakes that locate a cue; ``None``: all of the class in deployment.
    """

    method: Method
    head: nn.Linear
    data: InspectionData
    target: int
    options: Mapping[str, Any]
    located: FeatureSet | None = None

    def edit(self, neurons: Sequence[int] | None, *, keep_anyway: bool) -> HeadEdit:
        """The edit with its verdict and controls, and whether it is kept."""
        edit = self._made(neurons)
        edit = edit.with_verdict(self._controls(edit, neurons))
        return replace(
            edit,
            remarks={**edit.remarks, "roles": self.data.roles()},
            is_kept=(keep_anyway or edit.verdict.decision == "keep") and not edit.is_original,
        )

    def _controls(self, edit: HeadEdit, neurons: Sequence[int] | None) -> tuple[Control, ...]:
        from captum_neuroinspect.edit import run_controls, run_direction_controls

        seed = self.options["seed"]
        if self.method == "remove_cue" and not neurons:
            return run_direction_controls(
                lambda drawn: self._made(None, drawn=drawn), edit, seed=seed
            )
        return run_controls(
            lambda others: self._control(edit, others),
            edit,
            seed=seed,
            without=self.method != "remove_cue",  # of what nothing is removed, nothing comes
        )

    def fit(
        self,
        train: FeatureSet,
        deployment: FeatureSet,
        validation: FeatureSet,
        neurons: Sequence[int] | None,
        *,
        drawn: int | None = None,
        **options: Any,
    ) -> HeadEdit:
        """A head made from these photos, with these neurons or what the method finds.

        ``drawn``: the seed of a random direction that is removed in place of the cue's.
        """
        from captum_neuroinspect.edit import edit_head, mend, remove_cue

        options = {"target": self.target, **self.options, **options}
        if self.method == "mend":
            return mend(self.head, train, validation, deployment, neurons=neurons, **options)
        if self.method == "remove_cue":
            cue: list[int] | Direction
            cue = list(neurons) if neurons else self.cue(train, deployment)
            if drawn is not None and isinstance(cue, Direction):
                cue = cue.drawn(drawn)
            return remove_cue(self.head, train, validation, cue=cue, **options)
        assert neurons is not None
        about = mistakes_about(deployment, self.target)
        return edit_head(
            self.head, train, validation, neurons=list(neurons), mistakes=about, **options
        )

    def cue(self, train: FeatureSet, deployment: FeatureSet) -> Direction:
        """What the deployment mistakes on the class lack, against its train photos.

        Raises:
            ValueError: when there are no such mistakes, or no train photos of the class.
        """
        mistakes = deployment.mistakes(self.target)
        if self.located is not None:
            mistakes = mistakes.subset(torch.isin(mistakes.indices, self.located.indices))
        if not len(mistakes):
            name = deployment.class_name(self.target)
            raise ValueError(f"no deployment photo of {name!r} is mistaken: nothing locates a cue")
        return cue_direction(mistakes, train)

    def _made(self, neurons: Sequence[int] | None, **options: Any) -> HeadEdit:
        """Made and judged by photos of the four roles."""
        return self.data.edited(
            lambda train, deployment, validation, chosen: self.fit(
                train, deployment, validation, chosen, **options
            ),
            self.target,
            neurons,
        )

    def _control(self, edit: HeadEdit, neurons: Sequence[int]) -> HeadEdit:
        """The same fit with other neurons than an edit has; without any for an empty list."""
        if neurons:
            return self._made(neurons)
        from captum_neuroinspect.edit import ConstraintRecord

        if self.method == "mend":
            return self._made(None, n_neurons=0)
        # Plain retraining. It knows no neurons, so that their coefficients alone cannot be it.
        assert isinstance(edit.method, ConstraintRecord)
        scope = edit.method.settings.scope
        scope = "class" if scope == "neurons" else scope
        return self._made(edit.neurons, strength=0.0, scope=scope)
