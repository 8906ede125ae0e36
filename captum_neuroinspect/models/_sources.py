"""Where models come from: torchvision, timm, Hugging Face, pip's weights, a user's file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from torch import Tensor, nn

from captum_neuroinspect.models._hugging_face import HuggingFace
from captum_neuroinspect.models._libraries import Lite, Timm, Torchvision
from captum_neuroinspect.models._python_file import FileSource
from captum_neuroinspect.models._recipe import Built

_KINDS = "'torchvision:NAME', 'timm:NAME', 'hf:NAME_OR_FOLDER', 'lite:0', or 'file.py:function'"


class Source(Protocol):
    """What can build one architecture."""

    def build(self, n_classes: int | None) -> Built:
        """With random weights; ``None``: as many classes as the architecture has by itself."""

    def pretrained(self, weights: str) -> Built:
        """With weights of the library, by their name."""

    def adapt(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        """Bring what was built to the parts that a checkpoint's tensors have."""


def find_source(spec: str) -> Source:
    """Read a spec such as ``"torchvision:resnet50"``.

    Raises:
        TypeError: when it is no string.
        ValueError: when its form or the name in it is unknown.
        ImportError: when its library is missing; says how to install it.
    """
    if not isinstance(spec, str):
        raise TypeError(f"spec is {type(spec).__name__}, expected a string: {_KINDS}")
    in_file = re.fullmatch(r"(.+\.py):(\w+)", spec)
    if in_file:
        return FileSource(in_file[1], in_file[2])
    kind, _, name = spec.partition(":")
    sources: dict[str, Callable[[str], Source]] = {
        "torchvision": Torchvision,
        "timm": Timm,
        "hf": HuggingFace,
        "lite": Lite,
    }
    if kind not in sources or not name:
        raise ValueError(f"spec={spec!r}, expected {_KINDS}{_meant(spec)}")
    return sources[kind](name)


def _meant(name: str) -> str:
    """The spec of a model that was named without its library."""
    for library, source in (("torchvision", Torchvision), ("timm", Timm)):
        with suppress(ImportError, ValueError):
            source(name)
            return f"; did you mean {library}:{name}?"
    return ""
