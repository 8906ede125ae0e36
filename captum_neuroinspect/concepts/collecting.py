"""Features of concept photos, through the network whose features are to be read."""

from __future__ import annotations

from os import PathLike
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from captum_neuroinspect.concepts.concept_features import ConceptFeatures
from captum_neuroinspect.concepts.concept_photos import ConceptPhotos, Images
from captum_neuroinspect.features import collect_features


def collect_concepts(
    model: nn.Module,
    photos: ConceptPhotos | str | PathLike[str],
    head: nn.Linear | None = None,
    *,
    batch_size: int | None = None,
    progress: bool = True,
) -> ConceptFeatures:
    """Features of concept photos at the input of the decision layer.

    Each set of photos runs once, also where it is the counterpart of several concepts. The bank is
    of the backbone: it holds as long as only the decision layer changes.

    Args:
        model: a classifier, as :func:`collect_features` takes it.
        photos: concept photos; or a folder, as :meth:`ConceptPhotos.of_folder` reads it.
        head: the decision layer; found by itself when not given.
        batch_size: images a pass; ``None``: 8 on a CPU, else 64.
        progress: show a bar.

    Raises:
        OSError: when there is no such folder.
        TypeError: for photos of another kind, or a head that is not linear.
        ValueError: for a folder or photos that cannot be used, fewer than four photos in a set, or
            no linear head.

    Examples::

        >>> import torch
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
        >>> red, others = torch.rand(5, 3, 2, 2), torch.rand(4, 3, 2, 2)
        >>> photos = ConceptPhotos(("red",), (red,), (others,))
        >>> collect_concepts(model, photos, progress=False).shown[0].shape
        torch.Size([5, 4])
    """
    if isinstance(photos, (str, PathLike)):
        photos = ConceptPhotos.of_folder(photos)
    if not isinstance(photos, ConceptPhotos):
        raise TypeError(f"photos is {type(photos).__name__}, expected ConceptPhotos or a folder")
    known: dict[int, Tensor] = {}
    sets = {id(images): images for images in (*photos.shown, *photos.counterparts)}
    n_photos = sum(map(len, sets.values()))
    with tqdm(total=n_photos, desc="concepts", disable=not progress, unit="photo") as bar:
        for key, images in sets.items():
            found = collect_features(
                model, _Unlabelled(images), head, batch_size=batch_size, progress=False
            )
            known[key] = found.features
            bar.update(len(images))
    return ConceptFeatures(
        photos.names,
        tuple(known[id(images)] for images in photos.shown),
        tuple(known[id(images)] for images in photos.counterparts),
        found.backbone_fingerprint,
    )


class _Unlabelled(Dataset[Any]):
    """Images with a label that nothing reads: concepts are no classes."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], 0
