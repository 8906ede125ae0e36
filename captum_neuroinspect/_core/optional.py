"""Packages that not everybody has: imported when they are used, by their name and no other way."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

DESCRIBE = '"captum-neuroinspect[describe]"'
DEMO = '"captum-neuroinspect[demo]"'
LUCENT = '"captum-neuroinspect[lucent]"'
SCALE = '"captum-neuroinspect[scale]"'
TABLES = '"captum-neuroinspect[tables]"'


def optional(module: str, package: str = DEMO) -> ModuleType:
    """Import a module of a package that not everybody has, or say which command brings it.

    Args:
        module: its name, such as ``"sklearn.datasets"``.
        package: what ``pip install`` is to be given, in quotes where a shell needs them.

    Raises:
        ImportError: when it is missing, or cannot be imported: says why.

    Examples::

        >>> optional("json").loads("[1]")
        [1]
        >>> optional("no_such_module", "no-such-package")
        Traceback (most recent call last):
        ImportError: no_such_module could not be imported (No module named 'no_such_module'); \
it comes with `pip install no-such-package`
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} could not be imported ({error}); it comes with `pip install {package}`"
        ) from error
