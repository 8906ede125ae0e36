"""``neuroinspect atlas``: pictures of all neurons, with a page to browse them by."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from captum_neuroinspect.inspection.commands import _shared_options as options
from captum_neuroinspect.inspection.commands._output import finish, safely

if TYPE_CHECKING:
    from captum_neuroinspect.scale import IllusionAtlas

_STDERR = 2
_MOST = 1_000_000  # no layer has so many neurons


def atlas(
    model: options.Model,
    weights: Annotated[
        str | None,
        typer.Option(
            help="The library's name of weights, or a safetensors file. Default: the library's own."
        ),
    ] = None,
    neurons: Annotated[
        str, typer.Option(help="'all', or numbers and ranges such as 0-99,120,140-159.")
    ] = "all",
    classes_per_neuron: Annotated[
        int, typer.Option(min=1, help="Each neuron in so many classes of its largest weights.")
    ] = 1,
    steps: Annotated[int, typer.Option(min=1, help="Optimisation steps of the pictures.")] = 60,
    size: Annotated[int, typer.Option(min=8, help="Pixels a side of the pictures.")] = 128,
    gamma: Annotated[float, typer.Option(min=0, max=1, help="Weight of the class.")] = 0.25,
    encoder: Annotated[
        str, typer.Option(help="Guides the pictures: as in `inspect`; needs class names.")
    ] = "none",
    words: Annotated[
        Path | None,
        typer.Option(
            parser=options.user_path,
            metavar="FILE",
            help="Phrases to search by: the descriptions.csv of `neuroinspect describe`.",
        ),
    ] = None,
    seed: options.Seed = 0,
    batch: Annotated[
        int, typer.Option(min=1, help="Pictures that are made together, each time as many.")
    ] = 8,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes of Ray (extra scale). 0: this one, without Ray.")
    ] = 0,
    gpus: Annotated[
        float, typer.Option(min=0, help="GPUs of a worker; workers can share one, such as 0.5.")
    ] = 0.0,
    address: Annotated[
        str | None,
        typer.Option(
            help="A Ray cluster that runs, or 'auto'. Default: Ray on this machine, for this alone."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(parser=options.user_path, metavar="FOLDER", help="Folder of the atlas alone."),
    ] = Path("neuroinspect-atlas"),
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress bar; print nothing unless it fails.")
    ] = False,
    as_json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Make pictures of all neurons of the decision layer, and a page to browse them by.

    OUT/index.html opens from the disk and from any web server, also while the atlas grows. The
    same command goes on where it was stopped. Finished, the folder has the same bytes on each
    run; what happened when is in OUT.log beside it.
    """
    with safely(debug):
        chosen = numbers_and_ranges(neurons)
        from captum_neuroinspect.scale import AtlasSettings, ScaleOptions, render_atlas

        settings = AtlasSettings(
            chosen, classes_per_neuron, steps, size, gamma, encoder, seed, pairs_per_batch=batch
        )
        where = ScaleOptions(workers, gpus=gpus, address=address, progress=not quiet)
        with _logged(out.with_name(f"{out.name}.log"), into_file=workers > 0) as log:
            log.info("begin: %s", " ".join(sys.argv[1:]))
            found = render_atlas(
                model, out, weights=weights, words=words, settings=settings, options=where
            )
            log.info("done: %d pictures", len(found))
        page = out / "index.html"
        if as_json or not quiet:
            finish(_record(found, page), _text(found, page), as_json=as_json)


def numbers_and_ranges(text: str) -> tuple[int, ...] | None:
    """What ``--neurons`` means; None: all.

    Raises:
        ValueError: for something else than ``all`` or numbers and rising ranges, or a number that
            is named twice.

    Examples::

        >>> numbers_and_ranges("3,7-9")
        (3, 7, 8, 9)
        >>> numbers_and_ranges("all")
    """
    if text.strip().lower() == "all":
        return None
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last >= _MOST:
            raise ValueError(f"--neurons={text!r}, expected numbers below {_MOST:,}")
        if first > last:
            raise ValueError(
                f"--neurons={text!r}, expected 'all', or numbers and rising ranges such as "
                "0-99,120,140-159"
            )
        found += range(first, last + 1)
    if len(set(found)) < len(found):
        raise ValueError(f"--neurons={text!r} names a neuron twice")
    return tuple(found)


@contextmanager
def _logged(path: Path, *, into_file: bool) -> Iterator[logging.Logger]:
    """A log with times; Ray's own processes write there too, in place of the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.Logger("neuroinspect.atlas", logging.INFO)
    log.addHandler(handler)
    try:
        if not into_file:
            yield log
            return
        with _stderr_into(path):
            yield log
    except BaseException as error:
        log.info("ended: %s", type(error).__name__)
        raise
    finally:
        handler.close()


@contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """What C++ code and child processes write to stderr goes into a file; Python's own stays.

    Ray tells there of workers that it starts again, at a level that no option of its own turns off.
    """
    kept, before = os.dup(_STDERR), sys.stderr
    own: Any = os.fdopen(os.dup(_STDERR), "w", encoding=before.encoding or "utf-8", buffering=1)
    try:
        is_real = before.fileno() == _STDERR
    except (OSError, ValueError, AttributeError):  # a test's, or a notebook's
        is_real = False
    with path.open("ab") as file:
        os.dup2(file.fileno(), _STDERR)
    if is_real:
        sys.stderr = own
    try:
        yield
    finally:
        sys.stderr = before
        os.dup2(kept, _STDERR)
        os.close(kept)
        own.close()


def _record(found: IllusionAtlas, page: Path) -> dict[str, Any]:
    return {"page": str(page), "n_pictures": len(found), "top_1": found.top_1}


def _text(found: IllusionAtlas, page: Path) -> str:
    return (
        f"{len(found):,} pictures; the model takes {found.top_1:.0%} of them for their class\n"
        f"Open {page}"
    )
