"""Render many illusions part by part, so that an interrupt costs one part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.fingerprint import tensor_fingerprint
from captum_neuroinspect.encoders.by_name import LazyEncoder
from captum_neuroinspect.inspection.preflight_checks.rendering import (
    Clock,
    RenderingPlan,
    seconds_of,
)
from captum_neuroinspect.optvis import IllusionOptions, Illusions, render_illusions
from captum_neuroinspect.optvis.illusion_options import Options, default_steps

if TYPE_CHECKING:
    from captum_neuroinspect.inspection.cache.work_folder import WorkFolder

Pair = tuple[int, int | None]
# What the caller names in the key, as it is no plain data.
_NAMED = ("head", "layer", "preprocess", "encoder")
# What has to do with the number of steps, and with how they are watched.
_OF_LENGTH = ("n_steps", "transforms", "progress")


def render_in_parts(
    work: WorkFolder,
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    key: Mapping[str, Any],
    seed: int,
    options: Options = None,
    fresh: bool = False,
    **arguments: Any,
) -> Illusions:
    """``render_illusions`` that keeps every finished batch.

    After an interrupt the same call goes on behind the last finished batch; the numbers are
    those of one call, as image i is drawn by ``seed + i`` and images never mix.

    Args:
        work: where they are kept.
        model: the classifier.
        pairs: (neuron, class) of each image; ``None`` in all for the neurons alone.
        key: what names model, head, layer, preprocessing and encoder.
        seed: of the first image.
        options: of :func:`render_illusions`; a part has ``batch_size`` pairs.
        fresh: render again what is there.
        **arguments: of :func:`render_illusions`. With one that has no name, such as a
            function for ``transforms``, nothing is kept.

    Raises:
        TypeError: for options of another kind.
        ValueError: for no pairs.
        KeyboardInterrupt: when it was interrupted; finished batches are kept.
    """
    parts = []
    for part in _parts_of(pairs, key, seed, options, arguments):
        make = partial(_part, model, part.pairs, **part.arguments)
        made = make() if part.key is None else work.illusions(part.key, make, fresh=fresh)
        parts.append(made)
    return _joined(parts)


def rendering_plan(
    work: WorkFolder,
    model: nn.Module,
    pairs: Sequence[Pair],
    *,
    key: Mapping[str, Any],
    seed: int,
    options: Options = None,
    fresh: bool = False,
    clock: Clock | None = None,
    **arguments: Any,
) -> RenderingPlan:
    """What :func:`render_in_parts` would render with these arguments, and how long it takes.

    Args:
        work: as there, like all that is not named here.
        model: as there.
        pairs: as there.
        key: as there.
        seed: as there.
        options: as there.
        fresh: as there.
        clock: seconds from any start, to time two steps of the first batch that is not kept;
            ``None``: nothing is rendered.
        **arguments: as there.

    Raises:
        TypeError: as that function.
        ValueError: as that function.
        KeyboardInterrupt: when it was interrupted.
    """
    parts = list(_parts_of(pairs, key, seed, options, arguments))
    missing = [part for part in parts if fresh or not _is_kept(work, part)]
    n_missing = sum(len(part.pairs) for part in missing)
    n_steps = arguments.get("n_steps")
    n_steps = default_steps(options) if n_steps is None else n_steps
    seconds = None
    if missing and clock is not None:
        first = missing[0]
        fixed = {n: v for n, v in first.arguments.items() if n not in _OF_LENGTH}
        # Four fine steps, none of which is kept.
        every_step = replace(IllusionOptions.of(fixed["options"]), snapshots=(), coarse=0.0)
        fixed["options"] = every_step
        render = partial(_part, model, first.pairs, **fixed)
        seconds = seconds_of(n_missing, n_steps, len(first.pairs), render, clock)
    return RenderingPlan(len(pairs), len(pairs) - n_missing, n_steps, seconds)


@dataclass(frozen=True, eq=False)
class _PartPlan:
    """Pairs that are rendered together, with all arguments; ``key`` is ``None`` if not kept."""

    pairs: list[Pair]
    arguments: dict[str, Any]
    key: dict[str, Any] | None


def _parts_of(
    pairs: Sequence[Pair],
    key: Mapping[str, Any],
    seed: int,
    options: Options,
    arguments: dict[str, Any],
) -> Iterator[_PartPlan]:
    if not pairs:
        raise ValueError("pairs is empty: expected at least one neuron")
    checked = IllusionOptions.of(options)
    batch_size = checked.batch_size
    for start in range(0, len(pairs), batch_size):
        chosen, first = list(pairs[start : start + batch_size]), seed + start
        own = _of_rows(checked, start, len(chosen), len(pairs))
        # The text as it is: it also says what gamma is.
        given = options if isinstance(options, str) else own
        named = _key_of(arguments) if own.optimizer is None else None
        part_key = None
        if named is not None:
            named |= {"paper": isinstance(options, str), "options": _options_key(own)}
            part_key = {**key, "arguments": named, "pairs": chosen, "seed": first}
        own_arguments = {**arguments, "seed": first, "options": given}
        yield _PartPlan(chosen, own_arguments, part_key)


def _is_kept(work: WorkFolder, part: _PartPlan) -> bool:
    return part.key is not None and work.has("illusions", part.key)


def _part(model: nn.Module, pairs: list[Pair], **arguments: Any) -> Illusions:
    neurons, classes = zip(*pairs, strict=True)
    encoder = arguments.get("encoder")
    if isinstance(encoder, LazyEncoder):  # loaded now that something has to be rendered
        arguments["encoder"] = encoder.encoder
    found = render_illusions(model, neurons, None if None in classes else classes, **arguments)
    if found.settings["interrupted"] is not None:
        # A half-finished batch would be taken for a finished one the next time.
        raise KeyboardInterrupt
    return found


def _of_rows(options: IllusionOptions, start: int, n: int, n_pairs: int) -> IllusionOptions:
    """The options for some pairs: images to start from and prompts may be one for each."""
    init, prompts = options.init, options.guidance.prompts
    rows = slice(start, start + n)
    if isinstance(init, Tensor) and init.ndim == 4 and len(init) == n_pairs:
        options = replace(options, init=init[rows])
    if isinstance(prompts, tuple) and len(prompts) == n_pairs:
        options = replace(options, guidance=replace(options.guidance, prompts=prompts[rows]))
    return options


def _key_of(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """What names the arguments; ``None`` when one has no name."""
    plain = {n: _plain(v) for n, v in arguments.items() if n not in (*_NAMED, "progress")}
    return None if _Unnamed in plain.values() else plain


def _options_key(options: IllusionOptions) -> dict[str, Any]:
    """What names the options; another number of pairs a part gives the same images."""
    init = options.init
    # Something that is no tensor is refused before anything is kept.
    images = tensor_fingerprint(init) if isinstance(init, Tensor) else repr(init)
    return {n: v for n, v in options.record().items() if n != "batch_size"} | {"init": images}


class _Unnamed:
    """Stands for what cannot be part of a key."""


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tensor_fingerprint(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        found = [_plain(item) for item in value]
        return _Unnamed if _Unnamed in found else found
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    return value if is_plain else _Unnamed


def _joined(parts: list[Illusions]) -> Illusions:
    if len(parts) == 1:
        return parts[0]

    def values(name: str) -> list[Any]:
        return [getattr(part, name) for part in parts]

    def tensor(name: str, dim: int = 0) -> Tensor | None:
        found = values(name)
        return None if any(part is None for part in found) else torch.cat(found, dim)

    def row(name: str) -> tuple[Any, ...] | None:
        found = values(name)
        return None if any(part is None for part in found) else sum(found, ())

    names = ("images", "masks", "maps", "activations", "logits", "similarities")
    together: dict[str, Any] = {name: tensor(name) for name in names}
    together |= {name: row(name) for name in ("neurons", "classes", "class_names")}
    settings = dict(parts[0].settings)
    for name in ("n_rolled_back", "negative_similarities"):  # one number an image
        if name in settings:
            settings[name] = [n for part in parts for n in part.settings[name]]
    guidance = settings["options"]["guidance"]
    if isinstance(guidance["prompts"], list):
        all_of = [p for part in parts for p in part.settings["options"]["guidance"]["prompts"]]
        settings["options"] = settings["options"] | {"guidance": guidance | {"prompts": all_of}}
    return replace(parts[0], **together, snapshots=tensor("snapshots", 1), settings=settings)
