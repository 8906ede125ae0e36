"""What a unit does in the decision layer: which classes lose probability when it is zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_neuroinspect._core.blocks import all_finite
from captum_neuroinspect._core.checks import check_at_least, check_whole
from captum_neuroinspect._core.head import check_head, head_tensors
from captum_neuroinspect._core.modules import as_indices, check_indices
from captum_neuroinspect._core.ratios import LINKS, Link, log_probabilities, n_classes_of
from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.describe.ablation_effect import AblationEffect, ClassEffect
from captum_neuroinspect.describe.unit_description import Descriptions

__all__ = ["AblationEffects", "ablation_effects"]

_MOST_SUMS = 2**24  # units times classes whose sums are held at a time: 128 MB each of float64
_MOST_LOGITS = 2**22  # photos times classes at a time: 16 MB, some of them beside each other
_NOTHING = 1e-6  # a change of a probability that is rounding


class AblationEffects(list[AblationEffect]):
    """Effects of several units, in the order in which they were asked for."""

    def of(self, unit: int) -> AblationEffect:
        """The effects of one unit.

        Raises:
            KeyError: when it was not asked for.
        """
        for effect in self:
            if effect.unit == unit:
                return effect
        raise KeyError(f"unit={unit} was not zeroed, expected one of {[e.unit for e in self]}")

    def beside(self, descriptions: Descriptions) -> Descriptions:
        """The descriptions with the effects of the same units as their ``ablation``.

        Examples::

            >>> from captum_neuroinspect.describe import UnitDescription, Descriptions
            >>> effects = AblationEffects([AblationEffect(3, (), (), 9)])
            >>> described = effects.beside(Descriptions([UnitDescription(3)]))
            >>> described.of(3).ablation.n_photos
            9
        """
        unit2effect = {effect.unit: effect for effect in self}
        found = (replace(d, ablation=unit2effect.get(d.unit, d.ablation)) for d in descriptions)
        return Descriptions(found, descriptions.rests_on)

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary a unit and class, ready for ``pandas.DataFrame``."""
        return [
            {
                "unit": effect.unit,
                "effect": word,
                "rank": rank,
                "class": one.class_name,
                "change": one.change,
                "ratio": one.ratio,
                "n_photos": effect.n_photos,
            }
            for effect in self
            for word, classes in (("loses", effect.losing), ("gains", effect.gaining))
            for rank, one in enumerate(classes, start=1)
        ]

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        rows = (
            (e.unit, ", ".join(map(str, e.losing)), ", ".join(map(str, e.gaining))) for e in self
        )
        columns = ("unit that is zero", "classes that lose", "classes that gain")
        return html_table(columns, rows, "Probability, mean over the photos")


@undisturbed()
def ablation_effects(
    head: nn.Linear,
    features: Tensor,
    units: int | Sequence[int] | Tensor | None = None,
    *,
    class_names: Sequence[str] | None = None,
    n_classes: int = 3,
    link: Link = "softmax",
    progress: bool = False,
) -> AblationEffects:
    r"""Zero one unit after the other, and see which classes lose and gain probability.

    .. math:: \Delta_{jc} = mean_z \; [p_c(z \odot m_j) - p_c(z)], \quad
              \log r_{jc} = mean_z \; [\log p_c(z) - \log p_c(z \odot m_j)]

    with :math:`p = softmax(Wz + b)` and :math:`m_j` the mask that zeroes unit j by itself. It says
    what the decision layer makes of the unit on these photos, not what makes the unit active.

    Time grows with photos x classes x units. Memory beside the features and the head: a copy of the
    head, two sums of float64 for each unit and class, of at most 16.8 million pairs at a time (268
    MB; units that do not fit wait for the next pass), and blocks of logits of 16 to 32 MB: below
    1 GiB with 21,843 classes and 1,280 units (``tests/benchmarks/describe_ablation.py``).

    Args:
        head: the decision layer, F features to C classes.
        features: ``(N, F)`` on N photos, such as the ``features`` of a set. Best on photos that the
            units are described by: of the class in question, or of all.
        units: which of the F features; ``None``: all.
        class_names: one a class.
        n_classes: how many that lose and that gain are told, at most.
        link: ``"sigmoid"`` for a head whose outputs are decisions of their own.
        progress: show a bar.

    Raises:
        TypeError: for a head that is not linear, features that are no tensor, or units that are
            no whole numbers.
        ValueError: for features that do not fit the head, features or weights that are not finite
            or whose logits are not, a head of one output without a sigmoid, no photos, a unit out
            of range or twice, another number of names, or ``n_classes`` below 1.

    Examples::

        >>> head = nn.Linear(2, 2, bias=False)
        >>> _ = head.weight.data.copy_(torch.eye(2))
        >>> effects = ablation_effects(head, torch.tensor([[2.0, 0.0]]), class_names=["cat", "dog"])
        >>> print(effects.of(0))
        unit 0 zero: cat (-38 points) lose, dog (+38 points) gain
        >>> print(effects.of(1))
        unit 1 zero: no class lose, no class gain
    """
    weight, bias = head_tensors(check_head(head))
    values = _checked_features(features, head.in_features)
    chosen = _checked_units(units, head.in_features)
    if link not in LINKS:
        raise ValueError(f"link={link!r}, expected one of {LINKS}")
    check_whole("n_classes", n_classes)
    check_at_least("n_classes", n_classes, 1)
    if head.out_features == 1 and link == "softmax":
        raise ValueError(
            "the head has one output, whose softmax is always 1: expected link='sigmoid'"
        )
    if not (bool(weight.isfinite().all()) and bool(bias.isfinite().all())):
        raise ValueError("the head has NaN or infinite weights")
    n = n_classes_of(head.out_features, link)
    names = _names(class_names, n)
    found = AblationEffects()
    n_all = len(chosen) * len(values)
    with tqdm(desc="units x photos", total=n_all, disable=not progress) as bar:
        for part in chosen.split(max(1, _MOST_SUMS // n)):
            changes, log_ratios = _means(weight, bias, values, part, n, link, bar)
            if not bool(changes.isfinite().all()):
                raise ValueError("logits overflow: expected smaller features or weights")
            for unit, change, log_ratio in zip(part.tolist(), changes, log_ratios, strict=True):
                losing, gaining = (
                    tuple(
                        ClassEffect(c, names[c], float(change[c]), float(log_ratio[c].exp()))
                        for c in _first(sign * change, n_classes)
                    )
                    for sign in (-1, 1)
                )
                found.append(AblationEffect(unit, losing, gaining, len(values)))
    return found


def _means(
    weight: Tensor,
    bias: Tensor,
    features: Tensor,
    units: Tensor,
    n_classes: int,
    link: Link,
    bar: tqdm[None],
) -> tuple[Tensor, Tensor]:
    """Change and log ratio ``(K, C)``, means over the photos."""
    changes = torch.zeros(len(units), n_classes, dtype=torch.float64)
    log_ratios = torch.zeros_like(changes)
    for part in features.split(max(1, _MOST_LOGITS // len(weight))):
        logits = part @ weight.T + bias
        whole = log_probabilities(logits, link)
        chances = whole.exp()
        for row, unit in enumerate(units.tolist()):
            without = log_probabilities(logits - part[:, unit, None] * weight[:, unit], link)
            log_ratios[row] += (whole - without).double().sum(0)
            changes[row] += (without.exp() - chances).double().sum(0)
            bar.update(len(part))
    return changes.div_(len(features)), log_ratios.div_(len(features))


def _first(values: Tensor, n: int) -> list[int]:
    """The classes of the largest values, of those above rounding."""
    order = values.sort(descending=True, stable=True).indices[:n].tolist()
    return [c for c in order if float(values[c]) > _NOTHING]


def _checked_features(features: Tensor, n_features: int) -> Tensor:
    if not isinstance(features, Tensor):
        raise TypeError(f"features is a {type(features).__name__}, expected a tensor (N, F)")
    if features.ndim != 2 or features.shape[1] != n_features or not len(features):
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected (N, {n_features}), N >= 1"
        )
    features = features.detach().to("cpu", torch.float32)
    if not all_finite(features):
        raise ValueError("features has NaN or infinite values")
    return features


def _checked_units(units: int | Sequence[int] | Tensor | None, n_features: int) -> Tensor:
    if units is None:
        return torch.arange(n_features)
    chosen = as_indices("units", units)
    check_indices("unit", chosen, n_features, f"the head takes {n_features} features")
    if not len(chosen) or len(chosen.unique()) < len(chosen):
        raise ValueError(f"units={chosen.tolist()}, expected at least one, and each once")
    return chosen


def _names(class_names: Sequence[str] | None, n_classes: int) -> list[str]:
    if class_names is None:
        return [f"class {c}" for c in range(n_classes)]
    names = check_texts("class_names", class_names)
    if len(names) != n_classes:
        raise ValueError(f"class_names has {len(names)} names, expected {n_classes}")
    return names
