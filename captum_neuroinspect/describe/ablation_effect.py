"""The classes that one unit raises and lowers, as a record."""

from __future__ import annotations

from dataclasses import dataclass

from captum_neuroinspect._core.texts import shown


@dataclass(frozen=True)
class ClassEffect:
    """What zeroing one unit does to one class, over the photos.

    Attributes:
        class_index: the class.
        class_name: its name; the index in words where no names were given.
        change: mean over the photos of the probability without the unit less that with it.
        ratio: geometric mean over the photos of the probability with the unit over that without
            it: the ratio r of equation (7). Above 1: the unit raises the class.
    """

    class_index: int
    class_name: str
    change: float
    ratio: float

    def __str__(self) -> str:
        return f"{shown(self.class_name)} ({100 * self.change:+.2g} points)"


@dataclass(frozen=True)
class AblationEffect:
    """The classes that zeroing a unit moves most.

    Attributes:
        unit: index of the feature.
        losing: classes whose probability falls, largest loss first.
        gaining: classes whose probability rises, largest gain first.
        n_photos: over how many the means are.
    """

    unit: int
    losing: tuple[ClassEffect, ...]
    gaining: tuple[ClassEffect, ...]
    n_photos: int

    def __str__(self) -> str:
        lost, gained = (", ".join(map(str, part)) for part in (self.losing, self.gaining))
        return f"unit {self.unit} zero: {lost or 'no class'} lose, {gained or 'no class'} gain"
