"""An error as one sentence and an exit code instead of a traceback."""

from __future__ import annotations

import json
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from captum_neuroinspect._core.texts import shown

FAILED = 1
INTERRUPTED = 130  # 128 + SIGINT, as shells count


@contextmanager
def safely(debug: bool) -> Iterator[None]:
    """Turn errors into ``Error: ...`` on stderr; with ``debug`` let them through."""
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            yield
        except KeyboardInterrupt:
            say_interrupted()
            raise typer.Exit(INTERRUPTED) from None
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            if was_interrupted(error):
                say_interrupted()
                raise typer.Exit(INTERRUPTED) from None
            if debug or isinstance(error, typer.Exit):
                raise
            _say(f"Error: {_sentence(error)}", typer.colors.RED)
            raise typer.Exit(FAILED) from None
        except Exception as error:
            if debug:
                raise
            _say(
                f"Error: {type(error).__name__}: {_sentence(error)}. This should not happen: "
                "run again with --debug, and report it with the traceback",
                typer.colors.RED,
            )
            raise typer.Exit(FAILED) from None


@contextmanager
def names_option(option: str, path: Path) -> Iterator[None]:
    """Say which option named a file that cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{option}={str(path)!r}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{option}: {_sentence(error)}") from None


def finish(record: Mapping[str, Any], lines: str, *, as_json: bool) -> None:
    """Say the result: for programs on stdout as JSON, or for people."""
    if as_json:
        typer.echo(json.dumps(record, indent=2, allow_nan=False))
    else:
        say(lines)


def say(text: str) -> None:
    """Print for people; what a terminal would obey or cannot show is escaped."""
    text = shown(text, lines=True)
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def caution(text: str) -> None:
    """Say on stderr what may make the result wrong."""
    _say(f"Warning: {text}", typer.colors.YELLOW)


def complain(text: str) -> None:
    """Say an error on stderr where more is to be said before the command ends."""
    _say(f"Error: {text}", typer.colors.RED)


def was_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt is behind it: compiled modules that are being imported wrap it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def say_interrupted() -> None:
    """Say on stderr what became of the work."""
    _say("Interrupted. The same command goes on from here.", typer.colors.YELLOW)


def say_traceback(error: BaseException) -> None:
    """What ``--debug`` shows: names of files and folders are in its message too."""
    lines = "".join(traceback.format_exception(error))
    typer.echo(shown(lines, lines=True), err=True)


def _sentence(error: BaseException) -> str:
    # Torch adds a C++ trace below its first line.
    text = str(error).strip().split("\n\n")[0].split("\nException raised from")[0]
    return re.sub(r"^\[Errno \d+\] ", "", text) or type(error).__name__


def _show_warning(message: Warning | str, *args: object) -> None:
    del args
    caution(str(message))


def _say(text: str, colour: str) -> None:
    sys.stdout.flush()
    typer.secho(shown(text), fg=colour, err=True)
