"""Whether to keep an edit: the rule, and the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from captum_neuroinspect._core.checks import check_between
from captum_neuroinspect._core.kinds import as_plain, from_plain
from captum_neuroinspect._core.shares import FEW
from captum_neuroinspect.edit._verdict_text import (
    about_neurons,
    loss_text,
    p_text,
    verdict_as_html,
)
from captum_neuroinspect.edit.controls import Control
from captum_neuroinspect.edit.judged import Estimate, Paired, mcnemar, n_photos

Decision = Literal["keep", "do not keep", "cannot tell"]

_LEVEL = 0.05  # of the tests
_FEWEST_LOST = 2  # photos of a class, net: one says nothing about it


@dataclass(frozen=True)
class ClassChange:
    """What happened to the samples of one class.

    Attributes:
        index: of the class.
        name: of it.
        before: accuracy of the original head, 0..1.
        after: of the edited one.
        n_judged: samples of the class.
        n_corrected: how many of them were wrong and are right.
        n_broken: how many were right and are wrong.
    """

    index: int
    name: str
    before: float
    after: float
    n_judged: int
    n_corrected: int
    n_broken: int

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def n_right(self) -> tuple[int, int]:
        """How many were right before, and are after."""
        before = round(self.before * self.n_judged)
        return before, before + self.n_corrected - self.n_broken


@dataclass(frozen=True)
class Verdict:
    """Whether to keep an edit, and why; made by :func:`verdict_on`.

    Attributes:
        decision: ``"keep"``, ``"do not keep"`` or ``"cannot tell"``.
        sentence: the decision, its reason and the largest loss, for people.
        n_judged: samples that it rests on.
        n_corrected: of them, wrong before and right after.
        n_broken: of them, right before and wrong after.
        p_value: of the exact McNemar test, two-sided; ``None`` where nothing was judged.
        target_gain: change of the accuracy on the edited classes, ``None`` where they have
            no sample.
        others_change: of the accuracy on all other classes together, ``None`` where they have
            no sample.
        overall_change: of the accuracy on all samples; ``None`` where nothing was judged.
        max_cost: by how much ``others_change`` was allowed to fall, ``None`` without a cap.
        worst_class: the class with the largest change for the worse, or ``None`` where no
            class lost.
        controls: the same fit without neurons and with random ones, on the same samples.
        neurons_matter: ``True`` where the chosen neurons do better than every control and
            beyond chance, ``False`` where a control does as well, ``None`` where the
            difference is within chance or there are no controls.
        rests_on: which samples judged.
        is_original: whether the fit gave the original head back, so that there is nothing to keep.
    """

    decision: Decision
    sentence: str
    n_judged: int = 0
    n_corrected: int = 0
    n_broken: int = 0
    p_value: float | None = None
    target_gain: Estimate | None = None
    others_change: Estimate | None = None
    overall_change: Estimate | None = None
    max_cost: float | None = None
    worst_class: ClassChange | None = None
    controls: tuple[Control, ...] = ()
    neurons_matter: bool | None = None
    rests_on: str = "no photos"
    is_original: bool = False

    @property
    def about_neurons(self) -> str:
        """One sentence on what the neurons add to the same fit; empty without controls."""
        return about_neurons(self)

    def as_dict(self) -> dict[str, Any]:
        """Dictionaries, lists, numbers and texts, for JSON."""
        return as_plain(self) | {"about_neurons": self.about_neurons}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Verdict:
        """What :meth:`as_dict` gave."""
        fields = {name: value for name, value in record.items() if name != "about_neurons"}
        verdict: Verdict = from_plain(fields, cls)
        return verdict

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return verdict_as_html(self)


# What an edit has before anything judged it.
UNJUDGED = Verdict(
    "cannot tell",
    "Cannot tell whether to keep this edit: no photos judged it that it was neither fitted to nor "
    "chosen by. With such photos, edit.judge(features) decides.",
)

MULTI_HOT = Verdict(
    "cannot tell",
    "Cannot tell whether to keep this edit: photos have many labels each, and the test of "
    "corrected against broken takes photos with one.",
)


def verdict_on(
    judged: Paired,
    targets: Iterable[int],
    *,
    class_names: Sequence[str] | None = None,
    controls: Iterable[Control] = (),
    rests_on: str | None = None,
    is_original: bool = False,
    max_cost: float | None = None,
) -> Verdict:
    """Decide whether to keep an edit, by samples that were used for nothing else.

    *Keep* it where at least 20 samples judge, clearly more are corrected than broken (exact McNemar
    test, two-sided p < 0.05), the edited class gains, and no class loses more than chance allows
    (the same test on its own samples, one-sided p < 0.05) or half and more of what was right in
    it, at least two samples; *do not keep* it where as many or more are broken than corrected, the
    class does not gain, or a class loses more than chance allows; otherwise, and with fewer
    samples, one *cannot tell*.

    A loss counts sooner than a gain: five broken and none corrected in one class are a loss, six
    corrected and none broken a gain. An edit that does nothing but chance is kept in at most 2.5 %
    of cases.

    Args:
        judged: samples that the edit was neither fitted to nor chosen by. They are taken at
            your word; :meth:`HeadEdit.judge` leaves out those that were.
        targets: the classes that were edited.
        class_names: one name a class.
        controls: the same fit without the neurons, on the same samples: :func:`run_controls`.
        rests_on: says which samples these are.
        is_original: the fit gave the original head back: there is nothing to keep.
        max_cost: cap on the cost, 0..1: an edit that takes more than this from the accuracy of
            all other classes together is not kept, whatever the target gains.

    Raises:
        ValueError: for a ``max_cost`` outside 0..1.

    Examples::

        >>> labels = torch.arange(40) % 2
        >>> before, after = labels == 1, torch.arange(40) < 30
        >>> found = verdict_on(Paired(labels, before, after), [0])
        >>> found.decision, found.n_corrected, found.n_broken
        ('do not keep', 15, 5)
        >>> found.worst_class.before, found.worst_class.after
        (1.0, 0.75)
    """
    if max_cost is not None:
        check_between("max_cost", max_cost, 0, 1)
    edited = sorted({int(target) for target in targets})
    of_targets = judged.of_classes(edited)
    of_others = judged.of_classes(set(judged.labels.tolist()) - set(edited))
    changes = _class_changes(judged, class_names)
    worst = next((one for one in changes if one.change < 0), None)
    who = _name(edited[0], class_names) if len(edited) == 1 else "the edited classes"
    decision, reason, named = _decided(judged, of_targets, changes, who)
    if decision == "keep" and (cost := _excess(of_others, max_cost)):
        decision, reason = "do not keep", f"{cost}, although {reason}"
    controls = tuple(controls)
    # Where photos took turns, the heads that judged them may be others.
    n_changed = judged.n_corrected + judged.n_broken
    is_original = is_original and len(judged) > 0 and not n_changed
    if is_original:
        decision, reason = "do not keep", "the fit gave no other head than the original"
    return Verdict(
        decision,
        f"{decision.capitalize()}: {reason}{'' if is_original else _largest_loss(changes, named)}.",
        n_judged=len(judged),
        n_corrected=judged.n_corrected,
        n_broken=judged.n_broken,
        p_value=mcnemar(judged.n_corrected, judged.n_broken) if len(judged) else None,
        target_gain=of_targets.change if len(of_targets) else None,
        others_change=of_others.change if len(of_others) else None,
        overall_change=judged.change if len(judged) else None,
        max_cost=max_cost,
        worst_class=worst,
        controls=controls,
        neurons_matter=None if is_original else _matter(judged, of_targets, controls),
        rests_on=rests_on or f"{n_photos(len(judged))} that were used for nothing else",
        is_original=is_original,
    )


def _class_changes(judged: Paired, names: Sequence[str] | None) -> list[ClassChange]:
    """Of the classes that are there, the largest loss first."""
    corrected, broken = ~judged.was_right & judged.is_right, judged.was_right & ~judged.is_right
    rows = (torch.ones_like(corrected), judged.was_right, judged.is_right, corrected, broken)
    counts = [torch.bincount(judged.labels[row]) for row in rows]
    size = max((len(one) for one in counts), default=0)
    table = torch.stack([torch.cat([one, one.new_zeros(size - len(one))]) for one in counts], 1)
    found = [
        ClassChange(
            index,
            names[index] if names else f"class {index}",
            n_before / n,
            n_after / n,
            n,
            n_corrected,
            n_broken,
        )
        for index, (n, n_before, n_after, n_corrected, n_broken) in enumerate(table.tolist())
        if n
    ]
    return sorted(found, key=lambda one: (one.change, -one.n_judged, one.index))


def _decided(
    judged: Paired, of_targets: Paired, changes: list[ClassChange], who: str
) -> tuple[Decision, str, ClassChange | None]:
    """The rule: a decision, its reason, and the class that the reason is about."""
    n_corrected, n_broken = judged.n_corrected, judged.n_broken
    counts = f"of {n_photos(len(judged))} {n_corrected} are corrected and {n_broken} broken"
    p_value = mcnemar(n_corrected, n_broken)
    tested = f"{counts} ({p_text(p_value)})"
    if len(judged) < FEW:
        return "cannot tell", _too_few(judged, counts), None
    if not n_corrected and not n_broken:
        return "do not keep", f"none of {n_photos(len(judged))} is corrected, and none broken", None
    if n_broken >= n_corrected:
        return "do not keep", tested, None
    loser = next(filter(_loses, changes), None)
    if loser is not None:
        loss = f"'{loser.name}' loses more than chance allows, {loss_text(loser)}"
        return "do not keep", f"{loss}, although {tested}", loser
    if not len(of_targets):
        return "cannot tell", f"no photo of {who} judges it; {counts}", None
    if of_targets.n_corrected <= of_targets.n_broken:
        own = f"{of_targets.n_corrected} corrected, {of_targets.n_broken} broken"
        reason = f"no gain for {who} ({own}), although {tested}"
        return "do not keep", reason, None
    if p_value >= _LEVEL:
        return "cannot tell", f"{counts}, a difference within chance ({p_text(p_value)})", None
    lost = next(filter(_may_be_lost, changes), None)
    if lost is not None:
        return "cannot tell", f"{_lost_text(lost)}, although {tested}", lost
    gain = f"a gain of {100 * of_targets.change.value:.1f} points for {who}"
    return "keep", f"{tested}, with {gain}", None


def _excess(of_others: Paired, max_cost: float | None) -> str | None:
    """What the other classes lose, where that is more than the cap."""
    if max_cost is None or not len(of_others):
        return None
    n_lost = of_others.n_broken - of_others.n_corrected
    if n_lost <= max_cost * len(of_others) + 1e-6:  # a cost of exactly the cap may round up
        return None
    cost = 100 * n_lost / len(of_others)
    return f"the other classes lose {cost:.1f} points, more than max_cost={max_cost:g}"


def _name(index: int, names: Sequence[str] | None) -> str:
    return f"'{names[index] if names else f'class {index}'}'"


def _too_few(judged: Paired, counts: str) -> str:
    if not len(judged):
        return "no photos judged it that it was neither fitted to nor chosen by"
    return f"fewer than {FEW} photos judge it; {counts}"


def _loses(one: ClassChange) -> bool:
    if one.n_broken <= one.n_corrected:
        return False
    return mcnemar(one.n_corrected, one.n_broken, "less") < _LEVEL


def _may_be_lost(one: ClassChange) -> bool:
    """Half of what was right in a class, or more: of many photos :func:`_loses` says so too."""
    was, now = one.n_right
    return was - now >= _FEWEST_LOST and 2 * now <= was


def _lost_text(one: ClassChange) -> str:
    was, now = one.n_right
    counts = f"{was} right before and {now} after of {n_photos(one.n_judged)}"
    return f"'{one.name}' may be lost, {counts}, too few to tell"


def _largest_loss(changes: list[ClassChange], named: ClassChange | None) -> str:
    """The end of the sentence, unless the reason has it already."""
    if not changes or named is changes[0]:
        return ""
    if changes[0].change >= 0:
        return "; no class loses"
    return f"; the largest loss is that of '{changes[0].name}', {loss_text(changes[0])}"


def _matter(judged: Paired, of_targets: Paired, controls: tuple[Control, ...]) -> bool | None:
    if not controls:
        return None
    gain = of_targets.change.value if len(of_targets) else 0.0
    mine = judged.n_corrected - judged.n_broken, gain
    if any(control.score >= mine for control in controls):
        return False
    return True if all(control.p_value < _LEVEL for control in controls) else None
