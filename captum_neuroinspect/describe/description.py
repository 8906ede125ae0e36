"""The descriptions of neurons, and how they are displayed."""

from __future__ import annotations

from dataclasses import dataclass

from captum_neuroinspect._core.tables import html_table
from captum_neuroinspect._core.texts import shown


@dataclass(frozen=True)
class NeuronDescription:
    """The phrases nearest to one neuron's evidence; the two tuples run in parallel.

    Attributes:
        neuron: index of the feature.
        phrases: best first.
        scores: of the phrases, see :func:`describe_neurons`.
        n_images: how many images the description rests on.
    """

    neuron: int
    phrases: tuple[str, ...]
    scores: tuple[float, ...]
    n_images: int

    def __str__(self) -> str:
        return f"neuron {self.neuron}: {self.text()}"

    def text(self) -> str:
        """The phrases with their scores in one line.

        Examples::

            >>> NeuronDescription(3, ("grass", "lawn"), (0.312, 0.2), 9).text()
            'grass (0.31), lawn (0.20)'
        """
        pairs = zip(self.phrases, self.scores, strict=True)
        return ", ".join(f"{shown(phrase)} ({score:.2f})" for phrase, score in pairs)


class Descriptions(list[NeuronDescription]):
    """Descriptions of several neurons, in the order in which they were asked for.

    Examples::

        >>> described = Descriptions([NeuronDescription(7, ("grass",), (0.25,), 9)])
        >>> described.of(7).phrases, described.rows()[0]["score"]
        (('grass',), 0.25)
    """

    def of(self, neuron: int) -> NeuronDescription:
        """The description of one neuron.

        Raises:
            KeyError: when the neuron was not described.
        """
        for description in self:
            if description.neuron == neuron:
                return description
        described = [description.neuron for description in self]
        raise KeyError(f"neuron={neuron} was not described, expected one of {described}")

    def rows(self) -> list[dict[str, str | int | float]]:
        """One dictionary a neuron and phrase, ready for ``pandas.DataFrame``."""
        return [
            {"neuron": d.neuron, "rank": rank, "phrase": p, "score": s, "n_images": d.n_images}
            for d in self
            for rank, (p, s) in enumerate(zip(d.phrases, d.scores, strict=True), start=1)
        ]

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    def _repr_html_(self) -> str:
        return html_table(
            ["neuron", "nearest phrases (score)", "images"],
            [(d.neuron, d.text(), d.n_images) for d in self],
        )
