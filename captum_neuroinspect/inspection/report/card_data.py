"""The part of a report's data that shows one neuron."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

Picture = Image.Image | Tensor


@dataclass(frozen=True, eq=False)
class IllusionPicture:
    """What a neuron looks for in a class.

    Attributes:
        class_index: the class.
        picture: the illusion.
        masked: the same with the regions dimmed that leave the neuron quiet.
        activation: of the neuron on it.
        logit: of the class on it.
        similarity: of the picture and the class's name, for a second network.
    """

    class_index: int
    picture: Picture
    masked: Picture | None = None
    activation: float | None = None
    logit: float | None = None
    similarity: float | None = None


@dataclass(frozen=True, eq=False)
class TopPhoto:
    """A photo that excites a neuron much.

    Attributes:
        picture: the whole photo.
        file: its name.
        label: its class.
        activation: of the neuron.
        crop: the part that excites it.
    """

    picture: Picture
    file: str
    label: int
    activation: float
    crop: Picture | None = None


@dataclass(frozen=True, eq=False)
class SaliencyPicture:
    """Where in a mistake the neuron gets its activation from.

    Attributes:
        overlay: the photo with the saliency drawn over it.
        file: its name.
        label: the right class.
        predicted: what the model says.
        picture: the photo without the overlay, to compare.
    """

    overlay: Picture
    file: str
    label: int
    predicted: int
    picture: Picture | None = None


@dataclass(frozen=True, eq=False)
class Phrase:
    """Words for what a neuron looks for, and how well they fit (larger is better)."""

    text: str
    score: float


@dataclass(frozen=True, eq=False)
class ClassWeight:
    """The decision layer's weight from a neuron to a class."""

    class_index: int
    weight: float


@dataclass(frozen=True, eq=False)
class NeuronCard:
    """All that is shown of one neuron; its kind and score stand in the ranking.

    Attributes:
        neuron: index of the feature.
        illusions: one a class, the right class first.
        top_photos: most exciting first.
        saliency: on mistakes.
        phrases: best first.
        weights: to the classes of interest, in the order to show.
        core_relevance: similarity to the class of the illusion's unmasked part less that of
            the whole; well below 0: probably not core to the class. None where unknown.
    """

    neuron: int
    illusions: tuple[IllusionPicture, ...] = ()
    top_photos: tuple[TopPhoto, ...] = ()
    saliency: tuple[SaliencyPicture, ...] = ()
    phrases: tuple[Phrase, ...] = ()
    weights: tuple[ClassWeight, ...] = ()
    core_relevance: float | None = None
