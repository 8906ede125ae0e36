"""One way to make an edit, with the chosen neurons, with others or with none, and its verdict."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from captum_neuroinspect.inspection._session.material import Material
from captum_neuroinspect.inspection.explaining import mistakes_about

if TYPE_CHECKING:
    from captum_neuroinspect._feature_set import FeatureSet
    from captum_neuroinspect.edit import HeadEdit

Method = Literal["mend", "equation8"]

_NO_TEST = (
    "Cannot tell whether to keep this edit: all photos have taught or chosen it. Test photos that "
    "serve for nothing else (load(test=...), or --test) tell."
)


@dataclass(frozen=True, eq=False)
class Fitting:
    """What an edit and its controls share.

    Attributes:
        method: ``"mend"`` or ``"equation8"``.
        head: the decision layer.
        material: the photos and their roles.
        target: the class to mend.
        options: of the method's function.
    """

    method: Method
    head: nn.Linear
    material: Material
    target: int
    options: Mapping[str, Any]

    def fit(self, neurons: Sequence[int] | None, **options: Any) -> HeadEdit:
        """The edit with these neurons; ``None``: those that ``mend`` finds."""
        from captum_neuroinspect.edit import edit_head, mend

        head, train, held = self.head, self.material.reference, self.material.held
        shown = self.material.shown
        options = {"target": self.target, **self.options, **options}
        if self.method == "mend":
            return mend(head, train, held, shown, neurons=neurons, **options)
        assert neurons is not None
        about = mistakes_about(shown, self.target)
        return edit_head(head, train, held, neurons=list(neurons), mistakes=about, **options)

    def control(self, edit: HeadEdit, neurons: Sequence[int]) -> HeadEdit:
        """The same fit with other neurons than an edit has; without any for an empty list."""
        if neurons:
            return self.fit(neurons)
        if self.method == "mend":
            return self.fit(None, n_neurons=0)
        # Plain retraining. It knows no neurons, so that their coefficients alone cannot be it.
        scope = "class" if edit.scope == "neurons" else edit.scope
        return self.fit(edit.neurons, strength=0.0, scope=scope)

    def judged(self, edit: HeadEdit, *, keep_anyway: bool) -> HeadEdit:
        """The edit with its verdict and controls, and whether it is kept."""
        from captum_neuroinspect.edit import run_controls

        test = self.material.test
        if test is None:
            edit = replace(edit, verdict=replace(edit.verdict, sentence=_NO_TEST))
        else:
            features = untouched_by(edit, test.features)
            found = run_controls(
                lambda neurons: self.control(edit, neurons),
                edit,
                features,
                seed=self.options["seed"],
            )
            edit = edit.judge(features, controls=found)
        return replace(edit, is_kept=keep_anyway or edit.verdict.decision == "keep")


def untouched_by(edit: HeadEdit, features: FeatureSet) -> FeatureSet:
    """Test photos that the edit has not seen; says so where it has seen some.

    Warns:
        UserWarning: when photos are left out.
    """
    untouched = edit.untouched(features)
    if n_left := len(features) - len(untouched):
        warnings.warn(
            f"{n_left} of {len(features)} test photos are left out of the verdict: the model sees "
            "the same in photos that the edit was fitted to or chosen by",
            stacklevel=4,
        )
    return untouched
