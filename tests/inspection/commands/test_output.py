from __future__ import annotations

import errno
import json
import os
import warnings

import pytest
import typer

from captum_neuroinspect.inspection.commands._output import (
    FAILED,
    INTERRUPTED,
    finish,
    safely,
    say_traceback,
)


def _end_of(error: BaseException, debug: bool = False) -> int:
    with pytest.raises(typer.Exit) as caught, safely(debug):
        raise error
    return int(caught.value.exit_code)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("n=0, expected 1"), "Error: n=0, expected 1\n"),
        (ValueError(), "Error: ValueError\n"),
        (RuntimeError("short\n\nC++ trace:\nframe 1"), "Error: short\n"),
        (RuntimeError("short\nException raised from f at g.cpp"), "Error: short\n"),
        (FileNotFoundError(errno.ENOENT, os.strerror(2), "a.json"),
         "Error: No such file or directory: 'a.json'\n"),
        (ImportError("pip install timm"), "Error: pip install timm\n"),
        (ValueError("caf\udce9"), "Error: caf\\udce9\n"),
        (ValueError("no \x1b[2J\x07\nError: forged\r\x9b1m\u202e"),
         "Error: no \\x1b[2J\\x07\\nError: forged\\r\\x9b1m\\u202e\n"),
    ],
)  # fmt: skip
def test_errors_become_a_sentence(capsys, error: BaseException, text: str) -> None:
    assert _end_of(error) == FAILED == 1
    assert capsys.readouterr().err == text


def test_an_interrupt_is_no_error(capsys) -> None:
    assert _end_of(KeyboardInterrupt()) == INTERRUPTED == 130
    assert capsys.readouterr().err == "Interrupted. The same command goes on from here.\n"


def test_with_debug_errors_come_through() -> None:
    for error in (ValueError("x"), ZeroDivisionError("x")):
        with pytest.raises(type(error)), safely(debug=True):
            raise error


def test_an_exit_keeps_its_code() -> None:
    for debug in (False, True):
        with pytest.raises(typer.Exit) as caught, safely(debug):
            raise typer.Exit(3)
        assert caught.value.exit_code == 3


def test_warnings_are_a_line_each_and_only_inside(capsys) -> None:
    before = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        with safely(debug=False):
            warnings.warn("be careful", UserWarning, stacklevel=1)
        assert warnings.showwarning is shown
    assert capsys.readouterr().err == "Warning: be careful\n"
    assert warnings.showwarning is before


def test_names_do_not_steer_the_terminal(capsys) -> None:
    name = "cat\x1b]0;owned\x07\x1b[2J\u2066\x85"
    with safely(debug=False), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"{name}\nError: forged", stacklevel=1)
    finish({"name": name}, f"class\n{name}", as_json=False)
    finish({"name": name}, "", as_json=True)
    try:
        raise ValueError(name)
    except ValueError as error:
        say_traceback(error)
    out, err = capsys.readouterr()
    assert all(letter.isprintable() or letter == "\n" for letter in out + err)
    assert out.startswith("class\ncat\\x1b]0;owned\\x07")
    assert "\nError: forged" not in err
    assert "test_output.py" in err


def test_results(capsys) -> None:
    finish({"name": "caf\udce9 ü"}, "table", as_json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == {"name": "caf\udce9 ü"}
    assert out.isascii()
    finish({}, "a \udce9 folder", as_json=False)
    assert capsys.readouterr().out == "a \\udce9 folder\n"


def test_an_interrupt_that_an_import_wraps_is_one(capsys) -> None:
    """Compiled modules say "initialization failed" when Ctrl-C comes while they are loaded."""
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    assert _end_of(error) == INTERRUPTED
    assert capsys.readouterr().err == "Interrupted. The same command goes on from here.\n"
    assert _end_of(ImportError("initialization failed")) == FAILED
