"""Which class a name is: the one place that decides, whatever the names come from."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_neuroinspect._core.texts import shown

LABEL_KEYS = ("label", "labels", "fine_label")  # of items, and columns of Hugging Face
_N_SHOWN = 8  # names in a message


class UnknownClassError(ValueError):
    """A class of the photos is none of the model's."""


@dataclass(frozen=True)
class ClassMatch:
    """What the numbers of a data set's labels mean to a model.

    Attributes:
        given: the data's own names, in the order of its labels, or ``None``.
        names: the classes' names in the order of the model's outputs, or ``None``.
        to_class: the model's class of each of the data's labels; -1 where no photo has
            it. ``None``: the labels are the model's class numbers already.
        by_position: whether names that differ were taken in their order.
        synonyms: ``given`` with several names a class where the data has them.
    """

    given: tuple[str, ...] | None = None
    names: tuple[str, ...] | None = None
    to_class: tuple[int, ...] | None = None
    by_position: bool = False
    synonyms: tuple[Any, ...] | None = None

    @classmethod
    def own(cls, names: Iterable[Any]) -> ClassMatch:
        """The names of the data alone."""
        synonyms = tuple(names)
        texts = as_names(synonyms, "classes")
        return cls(texts, texts, tuple(range(len(texts))), synonyms=synonyms)

    @property
    def is_identity(self) -> bool:
        """Whether names and numbers are the model's own."""
        return self.given is None or self.given == self.names

    def onto(
        self,
        names: tuple[str, ...] | None,
        what: str = "data",
        *,
        by_position: bool = False,
        unused: Collection[int] = (),
        where: Sequence[str] = (),
    ) -> ClassMatch:
        """The same labels, brought to the order of these names.

        Raises:
            ValueError: as :func:`match_names`.
        """
        if names is None:
            return self
        if self.names is None:
            return replace(self, names=names)
        given = self.names if self.names != self.given else self.synonyms or self.names
        step = match_names(given, names, what, by_position=by_position, unused=unused, where=where)
        old = self.to_class or range(len(self.names))
        dealt = by_position and not _are_one_list(given, names)
        return ClassMatch(
            self.given or self.names,
            names,
            tuple(step[i] if i >= 0 else -1 for i in old),
            self.by_position or dealt,
        )

    def label(self, label: int | Tensor) -> int | Tensor:
        """A class index, or a multi-hot row, as the model counts.

        Raises:
            ValueError: when the data has no such class.
        """
        if self.to_class is None:
            return label
        if isinstance(label, Tensor):
            return self.rows(label.unsqueeze(0)).squeeze(0)
        if not 0 <= label < len(self.to_class):
            n_names = len(self.given or self.to_class)
            raise ValueError(
                f"label {label}, but the data names only {n_names} classes, {shortened(self.given)}"
            )
        return self.to_class[label]

    def rows(self, labels: Tensor) -> Tensor:
        """Labels ``(N,)`` or multi-hot ``(N, C)`` as the model counts."""
        if self.to_class is None or (labels.ndim == 2 and labels.shape[1] == 1):
            return labels
        if labels.ndim == 1:
            return torch.tensor([self.label(n) for n in labels.tolist()], dtype=torch.int64)
        if labels.shape[1] != len(self.to_class):
            raise ValueError(
                f"multi-hot labels have {labels.shape[1]} columns, but the data names "
                f"{len(self.to_class)} classes, {shortened(self.given)}"
            )
        n_classes = len(self.names or self.to_class)
        moved = labels.new_zeros(len(labels), n_classes)
        moved[:, list(self.to_class)] = labels
        return moved


def as_names(names: Iterable[Any], what: str = "class_names") -> tuple[str, ...]:
    """Names of classes as texts: synonyms are joined, numbers are written out.

    Args:
        names: in the order of the classes; also number -> name or name -> number.
        what: the argument's name in errors.

    Raises:
        TypeError: for one text, or a set, which has no order.
        ValueError: for none, or a mapping whose numbers are not 0, 1, 2, ...

    Examples::

        >>> as_names([("tench", "Tinca tinca"), 7])
        ('tench, Tinca tinca', '7')
        >>> as_names({1: "dog", 0: "cat"}), as_names({"dog": 1, "cat": 0})
        (('cat', 'dog'), ('cat', 'dog'))
    """
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what}={names!r} is one text, expected a list of names")
    if isinstance(names, (set, frozenset)):
        raise TypeError(f"{what} is a set, which has no order: expected a list of names")
    ordered = _in_order(names, what) if isinstance(names, Mapping) else list(names)
    if not ordered:
        raise ValueError(f"{what} is empty, expected one name for each class")
    return tuple(map(_text, ordered))


def are_placeholders(names: Iterable[str]) -> bool:
    """Whether these are what transformers fills in for names that were never given.

    Examples::

        >>> are_placeholders(["LABEL_0", "LABEL_1"]), are_placeholders(["LABEL_0", "cat"])
        (True, False)
    """
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)


def names_of(data: Any) -> ClassMatch:
    """The class names that a data set carries, also behind wrappers.

    Looked for in ``classes`` (torchvision), ``class_to_idx``, ``categories``, the
    ``ClassLabel`` among ``features`` (Hugging Face), in what a ``DataLoader``,
    ``Subset`` or wrapper calls ``dataset``, or a ``ConcatDataset`` ``datasets``, and in
    the ``Dataset`` that another wrapper keeps. A ``target_transform`` moves the names with
    the labels; one that gives other numbers than 0, 1, 2, ... leaves labels without names.

    Raises:
        ValueError: when parts of one data set have different names.
    """
    names = raw_names_of(data)
    return ClassMatch() if names is None else ClassMatch.own(names)


def raw_names_of(data: Any) -> Sequence[Any] | None:
    """:func:`names_of` with synonyms as the data set has them."""
    own = _own_names(data)
    own = _inner_names(data) if own is None else own
    transform = getattr(data, "target_transform", None)
    return own if own is None or transform is None else _renumbered(own, transform)


def match_names(
    given: Sequence[Any],
    names: Sequence[str],
    what: str = "data",
    *,
    by_position: bool = False,
    unused: Collection[int] = (),
    where: Sequence[str] = (),
) -> tuple[int, ...]:
    """Which class each given name is: exactly, else but for case, separators and Unicode form.

    Args:
        given: the data's names; a tuple lists synonyms.
        names: one for each class, in the model's order.
        what: has these names, in errors.
        by_position: take both lists in their order instead.
        unused: which of ``given`` no photo has, and may therefore be unknown (-1).
        where: in the data each of ``given`` is, for errors.

    Raises:
        ValueError: for a name that no class has, or two; for two names of one class; by
            position: for lists of different lengths.

    Examples::

        >>> match_names(["T-Shirt", "coat"], ["Coat", "dress", "t shirt"])
        (2, 0)
    """
    if by_position:
        if len(given) != len(names):
            raise ValueError(
                f"by_position=True, but {what} has {len(given)} classes and the model {len(names)}"
            )
        return tuple(range(len(given)))
    # In one and the same list even a name that two classes have is known by its place.
    finder, is_one_list = _Finder(names), _are_one_list(given, names)
    unused = set(unused)
    found = [
        _used(finder, one, what, i in unused, i if is_one_list else None)
        for i, one in enumerate(given)
    ]
    unknown = [i for i, one in enumerate(found) if one is None and i not in unused]
    if unknown:
        first = f" ({where[unknown[0]]})" if where else ""
        missing = [_text(given[i]) for i in unknown]
        raise UnknownClassError(_unknown(missing, given, names, what + first))
    _check_once(given, names, found, what, unused)
    return tuple(-1 if one is None else one for one in found)


def find_class(name: str, names: Sequence[str]) -> int | None:
    """The class of a name, or ``None``.

    Raises:
        ValueError: when two classes have it.
    """
    return _Finder(names).find(name)


def by_position_note(what: str, names: Sequence[str]) -> str:
    """The warning when the model's names are unknown."""
    order = ", ".join(f"{i} {shown(name)}" for i, name in enumerate(names[:_N_SHOWN]))
    more = ", ..." if len(names) > _N_SHOWN else ""
    return (
        f"the model has no class names, so that the classes of {what} are taken in their order "
        f"({order}{more}): give class_names= (--class-names) if its outputs have another"
    )


def shortened(names: Sequence[Any] | None, n: int = _N_SHOWN) -> str:
    """The first few of many names."""
    names = [shown(_text(name)) for name in names or ()]
    more = f", ... ({len(names)} in all)" if len(names) > n else ""
    return ", ".join(names[:n]) + more


def folded(name: str) -> str:
    """A name without what people write in different ways: case, separators, Unicode form.

    Examples::

        >>> folded("T-Shirt"), folded("t_shirt ")
        ('t shirt', 't shirt')
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return re.sub(r"[\s_\-]+", " ", plain).strip()


class _Finder:
    """The classes by name, from the strictest way of comparing to the loosest."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._levels: list[tuple[Callable[[str], str], dict[str, list[int]]]] = []
        for key in (str, lambda name: unicodedata.normalize("NFC", name), folded):
            classes: dict[str, list[int]] = defaultdict(list)
            for index, name in enumerate(names):
                classes[key(name)].append(index)
            self._levels.append((key, classes))

    def find(self, name: str, place: int | None = None) -> int | None:
        for key, classes in self._levels:
            found = classes.get(key(name), ())
            if len(found) > 1 and place in found:
                return place
            if len(found) > 1:
                numbers = " and ".join(map(str, found))
                raise ValueError(
                    f"the class name {name!r} is ambiguous: classes {numbers} of the model have "
                    "it; give them different names with class_names=, or use the number"
                )
            if found:
                return found[0]
        return None

    def find_any(self, given: Any, what: str, place: int | None) -> int | None:
        """By the whole text, else by a synonym."""
        whole = self.find(_text(given), place)
        if whole is not None or not isinstance(given, (tuple, list)):
            return whole
        classes = {self.find(_text(synonym), place) for synonym in given} - {None}
        if len(classes) > 1:
            numbers = " and ".join(str(n) for n in sorted(n for n in classes if n is not None))
            raise ValueError(f"the synonyms {_text(given)!r} of {what} are classes {numbers}")
        return next(iter(classes), None)


def _used(finder: _Finder, given: Any, what: str, is_unused: bool, place: int | None) -> int | None:
    try:
        return finder.find_any(given, what, place)
    except ValueError:
        if is_unused:
            return None
        raise


def _check_once(
    given: Sequence[Any],
    names: Sequence[str],
    found: Sequence[int | None],
    what: str,
    unused: Collection[int],
) -> None:
    counts = Counter(n for i, n in enumerate(found) if i not in unused)
    for index, count in counts.items():
        if count > 1 and index is not None:
            both = [repr(_text(given[i])) for i, n in enumerate(found) if n == index]
            raise ValueError(
                f"{' and '.join(both)} of {what} are the same class of the model, {index} "
                f"({names[index]}): expected one name a class"
            )


def _unknown(unknown: Sequence[str], given: Sequence[Any], names: Sequence[str], what: str) -> str:
    fold = {folded(name): name for name in names}
    nearest = []
    for name in unknown[:3]:
        close = get_close_matches(folded(name), list(fold), n=1)
        nearest += [f"{name!r} is nearest to {fold[close[0]]!r}"] if close else []
    hint = f" ({'; '.join(nearest)})" if nearest else ""
    return (
        f"no class of the model is called {shortened(unknown, 4)}{hint}: {what} has the classes "
        f"{shortened(given)}; the model has {shortened(names)}. Rename them, give class_names= "
        "(--class-names) in the order of the model's outputs, or, if both lists have the same "
        "order, by_position=True (--by-position)"
    )


def _are_one_list(given: Sequence[Any], names: Sequence[Any]) -> bool:
    """Whether two lists are the same but for spelling; a name may occur twice in both."""
    pairs = zip(given, names, strict=False)
    return len(given) == len(names) and all(_agree(a, b) for a, b in pairs)


def _agree(one: Any, other: Any) -> bool:
    if folded(_text(one)) == folded(_text(other)):
        return True
    return isinstance(one, (tuple, list)) and folded(_text(other)) in {
        folded(_text(synonym)) for synonym in one
    }


def _text(name: Any) -> str:
    if isinstance(name, (tuple, list)):
        return ", ".join(map(_text, name))
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _in_order(names: Mapping[Any, Any], what: str) -> list[Any]:
    """The names of number -> name, or of name -> number, where several are synonyms."""
    by_name = all(isinstance(value, int) for value in names.values())
    found: dict[int, list[Any]] = defaultdict(list)
    for key, value in names.items():
        number, name = (value, key) if by_name else (key, value)
        try:
            found[int(number)].append(name)
        except (TypeError, ValueError):
            raise TypeError(f"{what} has {number!r} for a class, expected its number") from None
    numbers = sorted(found)
    if numbers != list(range(len(found))):
        raise ValueError(
            f"{what} has the numbers {shortened(numbers)}, expected each of 0..{len(found) - 1}"
        )
    return [tuple(found[n]) if len(found[n]) > 1 else found[n][0] for n in numbers]


def _own_names(data: Any) -> Sequence[Any] | None:
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):
        usual = (features[key] for key in LABEL_KEYS if key in features)
        labels = [f for f in (*usual, *features.values()) if type(f).__name__ == "ClassLabel"]
        return next((list(f.names) for f in labels if f.names), None)
    names, numbers = getattr(data, "classes", None), getattr(data, "class_to_idx", None)
    if names is None:
        names = getattr(data, "categories", None)
    if isinstance(names, Mapping):
        return _in_order(names, "classes")
    has_order = isinstance(names, Iterable) and not isinstance(names, (str, set, frozenset))
    names = list(names or ()) if has_order else []
    if isinstance(numbers, Mapping) and numbers:
        return _by_number(names, numbers)
    return names or None


def _inner_names(data: Any) -> Sequence[Any] | None:
    parts = getattr(data, "datasets", None)
    if isinstance(parts, (list, tuple)) and not isinstance(data, Mapping):
        return _common_names(parts)
    inner = getattr(data, "dataset", None)
    if inner is None and isinstance(data, Dataset):
        # A wrapper that people write themselves may call it as it likes.
        kept = [v for v in vars(data).values() if isinstance(v, Dataset) and v is not data]
        inner = kept[0] if len(kept) == 1 else None
    return None if inner is None or inner is data else raw_names_of(inner)


def _renumbered(names: Sequence[Any], transform: Callable[[int], Any]) -> Sequence[Any] | None:
    """The names in the order of the labels that come out; ``None``: these are other numbers."""
    try:
        made = [torch.as_tensor(transform(label)) for label in range(len(names))]
    except Exception:  # whatever the user's function says of a plain number
        return None
    numbers = [int(one.argmax()) if one.numel() > 1 else int(one) for one in made]
    if sorted(numbers) != list(range(len(names))):
        return None
    return [names[numbers.index(label)] for label in range(len(names))]


def _by_number(names: list[Any], numbers: Mapping[Any, Any]) -> Sequence[Any]:
    """``class_to_idx`` makes the labels: ``classes`` may have another order."""
    agrees = all(numbers.get(name, i) == i for i, name in enumerate(names) if _is_key(name))
    return names if names and agrees else _in_order(numbers, "class_to_idx")


def _is_key(name: Any) -> bool:
    return isinstance(name, (str, int))


def _common_names(parts: Sequence[Any]) -> Sequence[Any] | None:
    known = [names for names in map(raw_names_of, parts) if names is not None]
    for names in known[1:]:
        if as_names(names) != as_names(known[0]):
            raise ValueError(
                f"the data sets that are joined have different classes, {shortened(known[0])} and "
                f"{shortened(names)}: their labels do not mean the same; give one of them"
            )
    return known[0] if known else None
