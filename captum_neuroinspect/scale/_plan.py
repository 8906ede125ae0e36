"""What was asked for, kept beside the work: another call has to ask for the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_neuroinspect._core.files import read_text, write_text

PLAN = "plan.json"
FORMAT = 1  # of plans, parts and indices; those without a number have this one
# What a call does not give, but finds: that it is different has its cause in files.
_FOUND = {
    "fingerprint": "the model's weights",
    "preprocessing": "the model's preprocessing",
    "model_file": "the Python file of the model",
    "encoder_fingerprint": "the encoder's weights",
    "files": "the files of photos",
}
_FOLLOW = ("pairs", "n_photos")  # from what else differs
_PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".pickle")


def begun(out: Path, plan: Mapping[str, object]) -> bool:
    """Whether the work was begun before.

    Raises:
        ValueError: when it was begun with another plan; says what differs. Also when the plan
            there is damaged.
    """
    path = out / PLAN
    if not path.exists():
        return False
    before, now = read_plan(out), json.loads(json.dumps(plan))
    check_format(before, path)
    differs = [name for name in now if before.get(name) != now[name]]
    differs = [name for name in differs if name not in _FOLLOW] or differs
    given = [name for name in differs if name not in _FOUND]
    if differs and not given:
        told = [_FOUND[name] for name in differs if name in before]
        since = f"{' and '.join(told)} were changed since {out} was begun"
        by = f"{out} was begun by another version of captum_neuroinspect"
        raise ValueError(f"{since if told else by}: give another folder")
    if given:
        raise ValueError(
            f"{out} was begun with other {', '.join(given)}: give another folder, or the same "
            "arguments"
        )
    return True


def read_plan(out: Path) -> dict[str, Any]:
    """What was asked for.

    Raises:
        OSError: when nothing was begun there.
        ValueError: when it is damaged.
    """
    path = out / PLAN
    try:
        plan = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if not isinstance(plan, dict):
        raise ValueError(f"{path} is damaged: it is no record")
    return plan


def begin(out: Path, plan: Mapping[str, object]) -> None:
    """Write the plan, or compare it with the one that is there.

    Raises:
        ValueError: as :func:`begun`.
    """
    if not begun(out, plan):
        write_text(out / PLAN, json.dumps({"format": FORMAT, **plan}, indent=1) + "\n")


def check_format(record: Mapping[str, object], path: Path) -> None:
    """Refuse what a newer version wrote, whatever else is in it.

    Raises:
        ValueError: says what to do; also for what is no record.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{path} is damaged: it is no record")
    found = record.get("format", FORMAT)
    if found != FORMAT:
        raise ValueError(
            f"{path} has format {found!r}, and this version reads {FORMAT}: update "
            "captum_neuroinspect, or give another folder"
        )


def refuse_pickled(weights: str | Path | None) -> None:
    """Weights from outside are safetensors: what is pickled may run code in every worker.

    Raises:
        ValueError: for a file with a suffix of pickles.
    """
    if weights is not None and Path(weights).suffix.lower() in _PICKLES:
        raise ValueError(f"weights={str(weights)!r} is a pickled file, expected .safetensors")
