"""Networks, photos and encoders for the GPU benchmark; nothing is downloaded."""

from __future__ import annotations

import gc
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.transforms.v2 import Normalize

from captum_neuroinspect import FeatureSet, OpenCLIPEncoder, collect_features
from captum_neuroinspect.models.weights import load_efficientnet_lite

NAMES = ("ant", "bee", "cat", "dog")
_TINY_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class Setup:
    """What is run where.

    Attributes:
        device: that is compared with the CPU.
        quick: tiny sizes, to try the script.
        size: pixels.
    """

    device: torch.device
    quick: bool
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", 32 if self.quick else 224)

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """For the device to do what it was told."""
        if self.is_cuda:
            torch.cuda.synchronize()


@contextmanager
def tf32(matmul: bool, cudnn: bool) -> Iterator[None]:
    """Where float32 may be rounded to ten bits; PyTorch's default is (False, True)."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@cache
def _lite0() -> tuple[nn.Module, str]:
    try:
        return load_efficientnet_lite(0), "EfficientNet-Lite0"
    except ImportError:
        import timm

        torch.manual_seed(0)
        network = timm.create_model("efficientnet_lite0", pretrained=False)
        normalize = Normalize([0.498] * 3, [0.502] * 3)
        return nn.Sequential(normalize, network).eval(), "EfficientNet-Lite0 (random)"


def lite0(device: torch.device | str = "cpu") -> nn.Module:
    return deepcopy(_lite0()[0]).to(device)


def lite0_name() -> str:
    return _lite0()[1]


@cache
def _resnet50() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet50().eval()


def resnet50(device: torch.device | str = "cpu") -> nn.Module:
    return deepcopy(_resnet50()).to(device)


@contextmanager
def random_clip(setup: Setup) -> Iterator[Callable[[torch.device | str], OpenCLIPEncoder]]:
    """OpenCLIP's ViT-B-32 with random weights, by the way that weights of one's own are loaded."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    if setup.quick:
        config, network = _TINY_CLIP, open_clip.CLIP(**_TINY_CLIP)
    else:
        config = open_clip.get_model_config("ViT-B-32")
        network = open_clip.create_model("ViT-B-32", pretrained=None)
    look = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps({"model_cfg": config, "preprocess_cfg": look})
        Path(folder, "open_clip_config.json").write_text(text)
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(state, Path(folder, "open_clip_model.safetensors"))
        del network, state
        gc.collect()
        yield lambda device: OpenCLIPEncoder(f"local-dir:{folder}", None, device=device)


def smooth_photos(n: int, size: int, seed: int = 0) -> Tensor:
    """Blobs of colour with some grain, ``(n, 3, size, size)`` in 0..1."""
    with torch.device("cpu"):
        rng = torch.Generator().manual_seed(seed)
        blobs = F.interpolate(torch.rand(n, 3, 7, 7, generator=rng), (size, size), mode="bicubic")
        return (blobs + 0.1 * torch.randn(n, 3, size, size, generator=rng)).clamp(0, 1)


class SmallNet(nn.Module):
    """BatchNorm, dropout and a head that was fitted: often right and often wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5),
        )  # fmt: skip
        self.head = nn.Linear(32, len(NAMES))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


def class_photos(n: int, size: int = 32, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noisy pictures whose class is, a little, their colour."""
    with torch.device("cpu"):  # whatever a check has made the default
        rng = torch.Generator().manual_seed(seed)
        labels = torch.arange(n) % len(NAMES)
        colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])[labels]
        shade = torch.randn(n, 3, 1, 1, generator=rng) * 0.1
        grain = torch.rand(n, 3, size, size, generator=rng) * 0.3
        return (0.3 + 0.16 * colours[:, :, None, None] + shade + grain).clamp(0, 1), labels


@cache
def _small() -> SmallNet:
    torch.manual_seed(0)
    net = SmallNet()
    photos, labels = class_photos(200, seed=9)
    net.train()(photos)  # gives BatchNorm its statistics
    with torch.no_grad():
        z = net.eval().backbone(photos)
        z1 = torch.cat([z, torch.ones(len(z), 1)], 1)
        gram = z1.T @ z1 + 0.1 * torch.eye(z1.shape[1])
        fitted = torch.linalg.solve(gram, z1.T @ F.one_hot(labels, len(NAMES)).float())
        net.head.weight.copy_(6 * fitted[:-1].T)
        net.head.bias.copy_(6 * fitted[-1])
    return net


def small_net(device: torch.device | str = "cpu") -> SmallNet:
    return deepcopy(_small()).to(device)


@cache
def small_sets() -> tuple[FeatureSet, ...]:
    """Train, validation, met and test features of the small network, made on the CPU."""
    data = collect_features(small_net(), class_photos(800), class_names=NAMES, progress=False)
    train, rest = data.split(0.5)
    validation, rest = rest.split(0.34)
    met, test = rest.split(0.5)
    return train, validation, met, test


def letters(texts: Sequence[str]) -> Tensor:
    """A text encoder: a random vector for each text, the same on each machine."""
    seeds = [sum(i * b for i, b in enumerate(text.encode(), 1)) for text in texts]
    with torch.device("cpu"):
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(s)) for s in seeds]
        return F.normalize(torch.stack(rows), dim=-1)


def difference(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value of ``other``."""
    one, other = (t.detach().to("cpu", torch.float64) for t in (one, other))
    if one.shape != other.shape:
        raise ValueError(f"shapes {tuple(one.shape)} and {tuple(other.shape)}")
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-300))
