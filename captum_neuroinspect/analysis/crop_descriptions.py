"""Words for units by the parts of photos in which they are active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from captum_neuroinspect._core.modules import as_indices
from captum_neuroinspect.analysis.top_photos import crops
from captum_neuroinspect.describe import (
    ConceptScores,
    DescribeOptions,
    Descriptions,
    SeenPhotos,
    describe_units,
)
from captum_neuroinspect.encoders.protocol import ImageTextEncoder
from captum_neuroinspect.optvis.units.reader import Preprocess

__all__ = ["describe_crops"]


def describe_crops(
    model: nn.Module,
    images: Tensor,
    activations: Tensor,
    units: Sequence[int],
    encoder: ImageTextEncoder | None = None,
    *,
    phrases: Sequence[str] | None = None,
    layer: nn.Module | str | None = None,
    head: nn.Linear | None = None,
    preprocess: Preprocess | None = None,
    options: DescribeOptions | None = None,
    together: Sequence[int] | Tensor | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> Descriptions:
    """Name units by what the part of each photo shows in which they are active (:func:`crops`).

    :func:`~captum_neuroinspect.describe.describe_units` with scores of crops in place of whole
    photos. What a unit answers to often fills a small part of a photo, and the scores of the whole
    photo hardly tell it: of units that looked at a quarter of a photo 61 % got a right phrase among
    five by crops, 32 % by whole photos (``docs/measurements/crops.md``). Stripes all over a photo
    were told by whole photos only.

    For few units: every photo is cut, measured and embedded for each of them. Beside the photos one
    unit's crops are held, and the scores of all units.

    Args:
        model: the classifier.
        images: ``(N, 3, H, W)`` in 0..1, some hundreds, at a resolution worth cutting.
        activations: ``(N, K)`` of these units, by
            :func:`~captum_neuroinspect.collect_features` or :func:`collect_activations`.
        units: the K units' numbers in their layer.
        encoder: scores phrases; ``None``: only colours, light, sharpness and patterns are said.
        phrases: what may be said by the encoder; ``None`` for the built-in word list.
        layer: whose outputs the units are; ``None``: the inputs of the decision layer.
        head: the decision layer, for ``layer=None``; found when not given.
        preprocess: from images to the model's input.
        options: as for :func:`describe_units`.
        together: groups of photos, as for :func:`describe_units`.
        batch_size: crops of one size that are embedded at a time.
        progress: show bars.

    Raises:
        TypeError: for images, activations or units of another kind.
        ValueError: for units that have no place in the image, activations of other photos or of
            another number of units, and what :func:`crops` and :func:`describe_units` refuse.

    Examples::

        >>> import torch
        >>> pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Linear(4, 2))
        >>> photos = torch.rand(20, 3, 16, 16)
        >>> values = model[:3](photos).detach()[:, [2]]
        >>> [one.unit for one in describe_crops(model, photos, values, [2])]
        [2]
    """
    numbers = as_indices("units", units).tolist()
    if not isinstance(activations, Tensor):
        raise TypeError(f"activations is a {type(activations).__name__}, expected a tensor")
    expected = (len(images), len(numbers))
    if tuple(activations.shape) != expected or not numbers:
        raise ValueError(
            f"activations has shape {tuple(activations.shape)}, expected {expected}: a column for "
            "each of the units, at least one, and a row for each photo"
        )

    def parts() -> Iterator[Tensor]:
        for unit in numbers:
            found = crops(model, images, unit, preprocess=preprocess, layer=layer, head=head)
            if found.maps is None:
                raise ValueError(
                    f"unit {unit} has no place in the image, so there is nothing to cut: describe "
                    "it by whole photos with describe_units"
                )
            yield from found.images

    seen = SeenPhotos.of(
        parts(),
        encoder,
        batch_size=batch_size,
        progress=progress,
        n_images=len(images) * len(numbers),
    )
    concepts = seen.concepts(encoder, phrases=phrases, progress=progress)
    found: list[Descriptions] = [
        describe_units(
            activations[:, [k]],
            ConceptScores(scores, concepts.phrases),
            units=[unit],
            options=options,
            together=together,
        )
        for k, (unit, scores) in enumerate(
            zip(numbers, concepts.scores.split(len(images)), strict=True)
        )
    ]
    # The number that it begins with counts the crops of all units.
    _, said = seen.rests_on(concepts, None, type(encoder).__name__).split(" photos", 1)
    rests_on = f"the active part of {len(images):,} photos{said}"
    return Descriptions((one for described in found for one in described), rests_on)
