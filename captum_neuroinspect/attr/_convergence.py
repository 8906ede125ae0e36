"""What is said of changes that are not what was asked for."""

from __future__ import annotations

import warnings

from captum_neuroinspect.attr.elastic_net import Counterfactual


def check_and_warn(found: Counterfactual, stacklevel: int) -> None:
    """Count the samples that did not converge, in one warning.

    Args:
        found: of all samples of a call.
        stacklevel: of the warning, as seen from here.

    Raises:
        RuntimeError: when a change is not finite.
    """
    n_bad = int((~found.w.flatten(1).isfinite().all(1)).sum())
    if n_bad:
        raise RuntimeError(
            f"the changes of {n_bad} of {len(found)} sample(s) became NaN or infinite on the way: "
            "take smaller steps, as SGD(lr=0.001), or features of common size"
        )
    asked = ~found.already_correct
    parts = [
        (
            found.ran_out & ~found.converged,
            "did not reach their class before the solver ran out of steps (give a solver with a "
            "larger max_steps, or SGD with a larger lr; some classes cannot be reached)",
        ),
        (
            found.ran_out & found.converged,
            "reached their class but not the minimum (give FISTA with a larger max_steps or "
            "tolerance; behind a ReLU, SGD)",
        ),
        (
            asked & ~found.ran_out & ~found.converged,
            "are at a minimum that does not reach their class (give an ElasticNet with smaller l1 "
            "and l2; some classes cannot be reached)",
        ),
    ]
    counts = [(int(rows.sum()), words) for rows, words in parts]
    n_open = sum(n for n, _ in counts)
    if n_open:
        warnings.warn(
            f"{n_open} of {int(asked.sum())} samples that were wrong did not converge: "
            + "; ".join(f"{n} {words}" for n, words in counts if n)
            + ". Which ones: return_details=True",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
