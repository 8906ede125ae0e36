"""The networks of an experiment with illusions: inspected, guide and judges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.fingerprint import backbone_fingerprint
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect._core.modules import device_of
from captum_neuroinspect.encoders import ImageTextEncoder, LabelSpaceEncoder
from captum_neuroinspect.experiments.experiment import Setup
from captum_neuroinspect.experiments.illusion_judges import IllusionJudge, resized, shown
from captum_neuroinspect.experiments.networks import load_network
from captum_neuroinspect.experiments.packaged_photos import crops_of_packaged_photos
from captum_neuroinspect.features import FeatureSet, find_head
from captum_neuroinspect.models import imagenet_class_names, load_model

TINY, REAL = "tiny", "real"
_DEFAULT = "lite:0"
_SIDES = {1: 240, 2: 260}  # pixels that Lite1 and Lite2 were trained at
_COLOURS = {  # of the tiny networks' classes, as directions from grey
    "red": (1, -1, -1),
    "green": (-1, 1, -1),
    "blue": (-1, -1, 1),
    "yellow": (1, 1, -1),
    "purple": (1, -1, 1),
    "cyan": (-1, 1, 1),
}
_N_TINY = 24  # features of a tiny network
_N_TINY_PHOTOS = 40
_N_STRONGEST = 10  # photos that say how strongly a neuron answers to photos


@dataclass(frozen=True, eq=False)
class NamedJudge:
    """A network that says what it sees in illusions.

    Attributes:
        name: as the tables call it.
        network: it; takes images in 0..1.
        size: pixels at which it looks, or ``None`` for those of the images.
        is_guide: whether it guides illusions: then it does not judge those that it guided.
        of_neurons: makes the judge of neurons, which takes features of all photos, when it is
            asked for.
    """

    name: str
    network: nn.Module
    size: int | None
    is_guide: bool
    of_neurons: Callable[[], IllusionJudge]

    def look(self, images: Tensor) -> FeatureSet:
        """What it finds in images ``(N, 3, H, W)``."""
        return shown(self.network, resized(images, self.size))

    @cached_property
    def judge(self) -> IllusionJudge:
        """What tells neurons."""
        return self.of_neurons()


@dataclass(frozen=True, eq=False)
class IllusionNetworks:
    """A network whose neurons are shown, and who takes part.

    Attributes:
        name: of the inspected network.
        model: it; takes images in 0..1.
        head: its decision layer.
        class_names: of its outputs.
        guide: the encoder of CLIP-Illusion.
        judges: who took no part, and the guide's network.
        natural: ``(F,)`` mean of each neuron's ten strongest activations on photos.
        photos: ``(N, 3, H, W)`` these photos.
        remark: a sentence for the page.
    """

    name: str
    model: nn.Module
    head: nn.Linear
    class_names: tuple[str, ...]
    guide: ImageTextEncoder
    judges: tuple[NamedJudge, ...]
    natural: Tensor
    photos: Tensor
    remark: str = ""

    def identity(self) -> dict[str, Any]:
        """For the digest of a part: all that can change a number."""
        networks = {one.name: backbone_fingerprint(one.network) for one in self.judges}
        return {
            "model": self.name,
            "network": backbone_fingerprint(self.model),
            "judges": networks,
            "guide": backbone_fingerprint(self.guide.network),
        }


def illusion_networks(setup: Setup, which: str, size: int) -> IllusionNetworks:
    """The networks of an experiment.

    Args:
        setup: whose model is inspected, by default EfficientNet-Lite0.
        which: ``"real"``: Lite2 with MiniLM guides, Lite1 judges, and Lite2 what it did not
            guide. ``"tiny"``: networks of one layer that know six colours.
        size: pixels a side of the illusions, and of what the guide sees.

    Raises:
        ImportError: when a package with weights is missing; says how to install it.
        ValueError: for another ``which``, or a model whose classes are not ImageNet's 1,000.
    """
    if which == TINY:
        return tiny_networks(setup)
    if which != REAL:
        raise ValueError(f"networks={which!r}, expected {REAL!r} or {TINY!r}")
    return _real_networks(setup, size)


def named_judge(
    name: str,
    network: nn.Module,
    size: int | None,
    is_guide: bool,
    head: nn.Linear,
    ours: Tensor,
    theirs: Callable[[], Tensor],
) -> NamedJudge:
    """A judge that knows how the inspected network's units and its own answer to photos.

    Args:
        name: as the tables call it.
        network: it.
        size: pixels at which it looks, or ``None``.
        is_guide: whether it guides.
        head: of the inspected network.
        ours: features ``(N, F)`` of the inspected network for the photos.
        theirs: gives those of ``network``, when they are needed.
    """
    return NamedJudge(
        name,
        network,
        size,
        is_guide,
        lambda: IllusionJudge(network, ours, theirs(), head, size),
    )


def strongest(features: Tensor) -> Tensor:
    """Mean of each neuron's ten strongest activations ``(N, F)`` on photos: ``(F,)``."""
    return features.topk(min(_N_STRONGEST, len(features)), dim=0).values.mean(0)


def tiny_network(seed: int) -> nn.Module:
    """One layer of random colour detectors, and a decision layer for six colours.

    The networks of two seeds have other detectors, and agree on what a colour is: so one can
    judge what was made for another, in milliseconds.

    Args:
        seed: draws the detectors.

    Returns:
        Images ``(N, 3, H, W)`` in 0..1 become logits ``(N, 6)``, from 24 features.

    Examples::

        >>> red = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None].expand(1, 3, 8, 8)
        >>> [list(tiny_colours())[int(tiny_network(seed)(red).argmax())] for seed in range(3)]
        ['red', 'red', 'red']
    """
    rng = torch.Generator().manual_seed(seed)
    directions = nn.functional.normalize(torch.randn(_N_TINY, 3, generator=rng), dim=1)
    colours = torch.tensor(list(_COLOURS.values())).float()
    detectors = nn.utils.skip_init(nn.Conv2d, 3, _N_TINY, 1)
    head = nn.utils.skip_init(nn.Linear, _N_TINY, len(_COLOURS))
    detectors.weight.data = directions[:, :, None, None]
    detectors.bias.data = -directions.sum(1) / 2  # grey answers nothing
    # Each row has the direction of its colour's features, so that no other is nearer to them.
    head.weight.data = nn.functional.normalize((colours @ directions.T).relu(), dim=1)
    head.bias.data = torch.zeros(len(_COLOURS))
    layers = (detectors, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def tiny_colours() -> tuple[str, ...]:
    """The classes of :func:`tiny_network`, in the order of its outputs."""
    return tuple(_COLOURS)


def tiny_photos() -> Tensor:
    """Forty pictures of two random colours each, ``(40, 3, 16, 16)``."""
    rng = torch.Generator().manual_seed(0)
    colours = torch.rand(_N_TINY_PHOTOS, 3, 1, 2, generator=rng)
    return nn.functional.interpolate(colours, (16, 16), mode="nearest")


def tiny_networks(setup: Setup) -> IllusionNetworks:
    """Networks of one layer: what ``--quick`` takes, whose numbers mean nothing."""
    del setup
    model, photos = tiny_network(0), tiny_photos()
    head = model[-1]  # type: ignore[index]
    names = tiny_colours()

    def embed(texts: list[str]) -> Tensor:
        return torch.tensor([[float(name in text) for name in names] for text in texts])

    guide = LabelSpaceEncoder(tiny_network(2), names, embed)
    ours = shown(model, photos).features

    def judge(name: str, network: nn.Module, is_guide: bool) -> NamedJudge:
        def theirs() -> Tensor:
            return shown(network, photos).features

        return named_judge(name, network, None, is_guide, head, ours, theirs)

    judges = judge("Lite1", tiny_network(1), False), judge("Lite2", guide.network, True)
    return IllusionNetworks(
        *("networks of one layer", model, head, names, guide, judges, strongest(ours), photos),
        "Networks of one layer that know six colours stand for all: the numbers mean nothing.",
    )


def _real_networks(setup: Setup, size: int) -> IllusionNetworks:
    loaded = load_network(setup, _DEFAULT)
    model, names = loaded.on_pixels(), imagenet_class_names()
    device = device_of(model)
    head = find_head(model, torch.rand(1, 3, size, size, device=device))
    if head.out_features != len(names):
        raise ValueError(
            f"model={loaded.spec!r} has {head.out_features} classes, expected ImageNet's "
            f"{len(names)}: the networks that judge know these"
        )
    photos = crops_of_packaged_photos()
    guide = LabelSpaceEncoder.pretrained(image_size=size).softened()
    guide.network.to(device)
    ours = _kept_features(setup, model, photos)

    def judge(number: int, network: nn.Module, is_guide: bool) -> NamedJudge:
        def theirs() -> Tensor:
            return _kept_features(setup, network, photos)

        return named_judge(f"Lite{number}", network, _SIDES[number], is_guide, head, ours, theirs)

    first = load_model("lite:1", device=device).on_pixels()
    judges = judge(1, first, False), judge(2, guide.network, True)
    return IllusionNetworks(
        *(loaded.spec, model, head, tuple(names), guide, judges, strongest(ours), photos)
    )


def _kept_features(setup: Setup, network: nn.Module, photos: Tensor) -> Tensor:
    """Features of the packaged photos, from a file where an earlier run left them."""
    path = setup.kept / f"photos-{backbone_fingerprint(network)}.safetensors"
    if path.exists():
        try:
            return read_kept(path, "features")[0]["features"]
        except ValueError:  # damaged: computed again
            path.unlink()
    found = shown(network, photos).features
    write_kept(path, "features", {"features": found}, {})
    return found
