"""All batches of a rendering, up to the end or an interrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from captum_neuroinspect.optvis._rendering.memory import Portions
from captum_neuroinspect.optvis._rendering.optimise import Optimisation
from captum_neuroinspect.optvis._rendering.scores import (
    FULL_PRECISION,
    PairScorer,
    Scores,
    joined,
)
from captum_neuroinspect.optvis._rendering.starts import Starts, Transforms, resized
from captum_neuroinspect.optvis.illusion_options import RenderSettings


@dataclass(frozen=True, eq=False)
class RenderedBatch:
    """What is kept of a batch, on the CPU.

    Attributes:
        images: ``(N, C, H, W)``, 0..1.
        maps: ``(N, h, w)``, where the neurons are active, or ``None``.
        scores: of the images as they are, without transforms, in full precision.
        snapshots: ``(N, C, H, W)`` for each step asked for.
        n_rolled_back: for each image the steps that it sat out, int64 ``(N,)``.
        n_steps: steps done.
        is_interrupted: whether the user did not wait for the end.
    """

    images: Tensor
    maps: Tensor | None
    scores: Scores
    snapshots: list[Tensor]
    n_rolled_back: Tensor
    n_steps: int
    is_interrupted: bool


@dataclass
class Rendering:
    """What came out of all batches.

    Attributes:
        batches: in order; at least one.
        n_together: images that went through the networks together at the end.
        is_interrupted: whether some pairs are missing or not done.
    """

    batches: list[RenderedBatch] = field(default_factory=list)
    n_together: int = 0
    is_interrupted: bool = False

    def images(self) -> Tensor:
        return torch.cat([batch.images for batch in self.batches]).contiguous()

    def maps(self) -> Tensor | None:
        return joined([batch.maps for batch in self.batches])

    def scores(self) -> Scores:
        return Scores.joined([batch.scores for batch in self.batches])

    def n_rolled_back(self) -> list[int]:
        return [n for batch in self.batches for n in batch.n_rolled_back.tolist()]

    def snapshots(self) -> Tensor | None:
        """All images after each step asked for, ``(S, N, C, H, W)``."""
        steps = zip(*(batch.snapshots for batch in self.batches), strict=True)
        parts = [torch.cat(parts) for parts in steps]
        return torch.stack(parts) if parts else None


def render_batches(
    scorer: PairScorer,
    starts: Starts,
    transforms: Transforms,
    settings: RenderSettings,
    device: torch.device,
    progress: bool,
) -> Rendering:
    """Render all pairs, batch by batch.

    Args:
        scorer: of all pairs.
        starts: the first images.
        transforms: moves the images in each step.
        settings: the numbers of the rendering.
        device: where the images are optimised.
        progress: show a progress bar.

    Raises:
        KeyboardInterrupt: when no batch had done a step when it came.
    """
    batch_size = settings.options.batch_size
    result, portions = Rendering(), Portions(batch_size)
    batches = [
        slice(start, min(start + batch_size, len(scorer)))
        for start in range(0, len(scorer), batch_size)
    ]
    n_steps = len(batches) * settings.n_steps
    with tqdm(desc="illusions", total=n_steps, disable=not progress) as bar:
        try:
            for rows in batches:
                params, image_f = starts.batch(rows, device)
                moves = transforms.of(settings.seeds(rows), settings.n_steps)
                run = Optimisation(
                    params,
                    image_f,
                    moves,
                    scorer.rows(rows),
                    settings,
                    portions,
                    starts.finished,
                )
                result.batches.append(_finish(run, bar.update))
                if result.batches[-1].is_interrupted:
                    break
        except KeyboardInterrupt:
            if not result.batches:
                raise
            result.is_interrupted = True
    result.is_interrupted |= result.batches[-1].is_interrupted
    result.n_together = portions.size
    return result


def _finish(run: Optimisation, on_step: Callable[[], object]) -> RenderedBatch:
    """Do the steps and score the clean images; a first interrupt only ends the steps."""
    try:
        run.run(on_step)
        return _kept(run, is_interrupted=False)
    except KeyboardInterrupt:
        if run.n_done == 0:
            raise
        return _kept(run, is_interrupted=True)


def _kept(run: Optimisation, is_interrupted: bool) -> RenderedBatch:
    images = run.images()
    shown = resized(images, run.settings.size)
    parts = run.portions.run(len(images), lambda rows: _scored(run.scorer.rows(rows), shown[rows]))
    scores, maps = zip(*parts, strict=True)
    all_maps = joined(maps)
    # An interrupted image has not reached its later snapshots; it stands in for them.
    missing = len(run.settings.options.snapshots) - len(run.snapshots)
    return RenderedBatch(
        images=images.cpu(),
        maps=None if all_maps is None else all_maps.float().cpu(),
        scores=Scores.joined(scores).cpu(),
        snapshots=[*run.snapshots, *[images.cpu()] * missing],
        n_rolled_back=run.n_rolled_back.cpu(),
        n_steps=run.n_done,
        is_interrupted=is_interrupted,
    )


def _scored(scorer: PairScorer, images: Tensor) -> tuple[Scores, Tensor | None]:
    """Scores and maps ``(N, h, w)`` of clean images, in full precision."""
    images = images.contiguous()  # a parametrization may give them in any order
    with torch.no_grad():
        scores, reading = replace(scorer, low_precision=FULL_PRECISION).with_reading(images)
    return scores, None if reading.maps is None else scorer.targets.maps(reading.maps)
