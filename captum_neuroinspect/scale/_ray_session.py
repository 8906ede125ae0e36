"""Ray, started for one piece of work and bound to this machine, or a cluster that runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from captum_neuroinspect._core.optional import SCALE, optional
from captum_neuroinspect.scale.options import ScaleOptions

_LOOPBACK = "127.0.0.1"
# The one switch by which Ray's servers listen on the loopback interface only: without it Ray
# turns a local `_node_ip_address` into the machine's address in the network, and listens on all.
_ONLY_LOCAL = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def ray_session(options: ScaleOptions) -> Iterator[Any]:
    """The module ``ray``, connected; what was started here is stopped after the block.

    A Ray that the caller has started is used as it is.

    Raises:
        ImportError: when Ray is missing; says how to install it.
        RuntimeError: when a local Ray would listen to the network.
    """
    kept = os.environ.get(_ONLY_LOCAL)
    if options.address is None:
        os.environ.setdefault(_ONLY_LOCAL, "0")
    try:
        ray = optional("ray", SCALE)
        optional("ray.data", SCALE)
        if ray.is_initialized():
            yield ray
            return
        _start(ray, options)
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        if kept is None:
            os.environ.pop(_ONLY_LOCAL, None)


def _start(ray: Any, options: ScaleOptions) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if options.address is not None:
        ray.init(address=options.address, **quiet)
        return
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None:  # Ray was imported before the environment said so
        constants.ENABLE_RAY_CLUSTER = False  # type: ignore[attr-defined]
    ray.init(
        num_cpus=max(1, round(options.n_workers * options.cpus)) + 1,  # one reads the list
        num_gpus=None if not options.gpus else -(-options.n_workers * options.gpus // 1),
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
