"""How a large piece of work is cut and spread over processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScaleOptions:
    """Where the work runs, and in which pieces.

    Features depend on ``batch_size`` and ``n_threads`` in their last bits, and on nothing else
    here.

    Attributes:
        n_workers: processes, each with its own model. 0: this process, without Ray.
        part_size: photos a part, a multiple of ``batch_size``. A part is what is written at
            once, and what is done again after a fault.
        batch_size: photos a forward pass; the last and unreadable ones are filled with black,
            so that each photo is seen in a batch of one shape and at one place in it.
        n_threads: of torch, in each process.
        cpus: that Ray counts for a worker.
        gpus: the same; fractions share one, such as 0.5.
        address: of a running Ray cluster, or ``"auto"``. None: Ray is started on this machine
            for the work alone, without a dashboard, and binds to the loopback interface only.
        progress: show a progress bar.

    Raises:
        ValueError: for sizes below 1, negative numbers, or parts that are no whole batches.
    """

    n_workers: int = 1
    part_size: int = 1024
    batch_size: int = 8
    n_threads: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("n_workers", 0), ("part_size", 1), ("batch_size", 1), ("n_threads", 1),
            ("cpus", 0), ("gpus", 0),
        ):  # fmt: skip
            if not getattr(self, name) >= least:
                raise ValueError(f"{name}={getattr(self, name)}, expected at least {least}")
        if self.part_size % self.batch_size:
            raise ValueError(
                f"part_size={self.part_size} and batch_size={self.batch_size}, expected a part of "
                "whole batches"
            )
