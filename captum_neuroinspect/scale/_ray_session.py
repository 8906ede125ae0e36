"""Ray, started for one piece of work and bound to this machine, or a cluster that runs."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from captum_neuroinspect._core.optional import SCALE, optional
from captum_neuroinspect.scale.options import ScaleOptions

_LOOPBACK = "127.0.0.1"
_ENVIRONMENT = {
    # The one switch by which Ray's servers listen on the loopback interface only: without it Ray
    # turns a local `_node_ip_address` into the machine's address in the network, and listens on
    # all. The processes that it starts read it too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is told to anyone
}


@contextmanager
def ray_session(options: ScaleOptions) -> Iterator[Any]:
    """The module ``ray``, connected; what was started here is stopped after the block.

    A Ray that the caller has started is used as it is.

    Raises:
        ImportError: when Ray is missing; says how to install it.
        RuntimeError: when a local Ray would listen to the network.
    """
    with _environment(options.address is None):
        ray = optional("ray", SCALE)
        optional("ray.data", SCALE)
        if ray.is_initialized():
            yield ray
            return
        with _only_local(options.address is None):
            _start(ray, options)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _environment(is_local: bool) -> Iterator[None]:
    """Ray's settings of a local start; what the user has set himself stays."""
    added = [name for name in _ENVIRONMENT if is_local and name not in os.environ]
    os.environ.update((name, _ENVIRONMENT[name]) for name in added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _only_local(is_local: bool) -> Iterator[None]:
    """The same switch where Ray was imported before the environment said so."""
    constants: Any = sys.modules.get("ray._private.ray_constants")
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if not is_local or before is None:
        yield
        return
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _start(ray: Any, options: ScaleOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address is not None:
        ray.init(address=options.address, **quiet)
        return
    with _told_when_it_fails():
        ray.init(
            # One of its own: without this word Ray joins what another program has started here.
            address="local",
            num_cpus=math.ceil(options.n_workers * options.cpus) + 1,  # one hands out the parts
            num_gpus=math.ceil(options.n_workers * options.gpus) or None,
            include_dashboard=False,
            _node_ip_address=_LOOPBACK,
            **quiet,
        )
    found = ray.util.get_node_ip_address()
    if found != _LOOPBACK:
        ray.shutdown()
        raise RuntimeError(
            f"Ray listens on {found} and not on {_LOOPBACK}: start it yourself and give address="
        )


@contextmanager
def _told_when_it_fails() -> Iterator[None]:
    """On a busy machine Ray's own processes may be too late, which it says as a bare Exception."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"Ray could not be started here: {error}") from error
