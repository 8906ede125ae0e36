"""What Lite1 and Lite2 answer of an illusion that they took no part in."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from captum_neuroinspect.encoders import LabelSpaceEncoder, class_embeddings
from captum_neuroinspect.experiments.illusion_draws import Draw
from captum_neuroinspect.experiments.illusion_judges import IllusionJudge, resized, shown
from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos, folder_photos
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite, load_minilm

LITE2_SIZE = 260  # pixels that it was trained at
# What is asked of an image, in the order of the table. Lite2 does not judge what it guided.
OF_LITE1 = ("top-1", "top-5", "similarity", "neuron identified")
OF_LITE2 = ("Lite2's top-1",)
HARDER = ("of 21 near", "neuron of ten")
HARDER_LITE2 = ("Lite2: of 21 near", "Lite2: neuron identified", "Lite2: neuron of ten")
QUESTIONS = (*OF_LITE1, *OF_LITE2, *HARDER, *HARDER_LITE2)


def natural_features(folder: Path | None, kept: Path | None) -> list[Tensor]:
    """What Lite0, Lite1 and Lite2 find in natural photos, read from a file or written to it."""
    if kept is not None and kept.exists():
        return list(torch.load(kept, weights_only=True))
    photos = crops_of_packaged_photos()
    if folder is not None:
        photos = torch.cat([photos, folder_photos(folder)[0]])
    features = [shown(load_efficientnet_lite(n), photos).features for n in range(3)]
    if kept is not None:
        torch.save(features, kept)
    return features


class Jury:
    """Lite1 judges everything, Lite2 what it did not guide.

    Args:
        photos: features of the same photos, of Lite0, Lite1 and Lite2.
        head: of Lite0.
        size: pixels at which Lite1 sees images, or ``None`` for their own.
    """

    def __init__(self, photos: list[Tensor], head: nn.Linear, size: int | None = None) -> None:
        ours, *theirs = photos
        sizes = (size, LITE2_SIZE)
        self.judges = [
            IllusionJudge(load_efficientnet_lite(n), ours, seen, head, sizes[n - 1])
            for n, seen in enumerate(theirs, 1)
        ]
        self.names = imagenet_class_names()
        self.encoder = LabelSpaceEncoder(self.judges[0].network, self.names, load_minilm())
        self.natural = ours.topk(10, dim=0).values.mean(0)

    def __call__(self, draw: Draw, images: Tensor, is_guided: bool = False) -> dict[str, Tensor]:
        """For each image, by question: whether it is so, or a number."""
        first, second = self.judges
        found = first(draw, images)
        answers = {"top-1": found["top-1"], "top-5": found["top-5"]}
        answers["similarity"] = self.similarities(draw, resized(images, first.size))
        answers |= {"neuron identified": found["neuron"], "of 21 near": found["near"]}
        answers["neuron of ten"] = found["ten"]
        if not is_guided:
            found = second(draw, images)
            answers |= {"Lite2's top-1": found["top-1"], "Lite2: of 21 near": found["near"]}
            answers |= {
                "Lite2: neuron identified": found["neuron"],
                "Lite2: neuron of ten": found["ten"],
            }
        return answers

    def similarities(self, draw: Draw, images: Tensor) -> Tensor:
        with torch.no_grad():
            image = torch.cat([self.encoder.encode_image(part) for part in images.split(8)])
            text = class_embeddings(self.encoder, [self.names[c] for c in draw.classes])
        return (image * text).sum(1)
