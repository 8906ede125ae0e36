"""Report data from seeded random pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_neuroinspect.edit import Control, Paired, Verdict, verdict_on
from captum_neuroinspect.inspection.report.report_data import (
    Change,
    ChangedPhoto,
    ClassMapping,
    ClassResult,
    ClassWeight,
    ConfusedPair,
    CueCard,
    EditResult,
    IllusionPicture,
    Kind,
    Mistake,
    MistakeSlice,
    NeuronCard,
    NeuronWords,
    Phrase,
    RankedNeuron,
    ReportData,
    SaliencyPicture,
    TopPhoto,
)

_CLASSES = ("heron", "crane", "stork", "ibis", "flamingo", "egret")
_KINDS: tuple[Kind, ...] = ("insufficient", "excessive", "both")
_PHRASES = ("reeds at the water's edge", "a long thin neck", "letters on a sign", "wet feathers")


class Pictures:
    """Blurred noise: it compresses as photos do."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)

    def __call__(self, height: int = 64, width: int = 64) -> Tensor:
        coarse = torch.rand((1, 3, height // 8, width // 8), generator=self.rng)
        fine = torch.rand((3, height, width), generator=self.rng)
        blurred = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        return (0.85 * blurred + 0.15 * fine).clamp(0, 1)

    def choose(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.rng))


def example_data(
    n_neurons: int = 4, n_mistakes: int = 12, side: int = 64, names: tuple[str, ...] = _CLASSES
) -> ReportData:
    """A whole report: every part is there."""
    pictures = Pictures()
    return ReportData(
        title=f"Why {names[0]} goes wrong",
        verdict=f"The model takes {names[0]} for {names[1]} where it stands in reeds.",
        run="run-1",
        target=0,
        classes=_classes(names),
        facts=(("model", "EfficientNet-Lite0"), ("data", "birds, 1,200 photos"), ("seed", "7")),
        mappings=(ClassMapping("test photos", ((names[0].upper(), 0, 40),)),),
        confusions=(ConfusedPair(0, 1, 25), ConfusedPair(0, 2, 10), ConfusedPair(3, 0, 4)),
        mistakes=tuple(_mistake(pictures, i, side, len(names)) for i in range(n_mistakes)),
        slices=tuple(_slice(pictures, i, side, names) for i in (0, 1)),
        slices_reason="2 slices: a gap lies between them, which evenly spread mistakes seldom have",
        ranking=tuple(_blamed(i) for i in range(n_neurons + 3)),
        n_explained=40,
        neurons=tuple(_card(pictures, i, side, len(names)) for i in range(n_neurons)),
        words=tuple(_words(i) for i in range(n_neurons + 60)),
        words_summary=f"2 of the {n_neurons} neurons behind these mistakes answer to “reeds”.",
        words_rest_on="1,200 photos, half of them held out; 22 attributes of the pixels",
        cue=_cue(pictures, side),
        edit=_edit(pictures, names, side),
    )


def _cue(pictures: Pictures, side: int) -> CueCard:
    most, least = (
        tuple(TopPhoto(pictures(side, side), f"{end}_{n}.jpg", n, sign * (2.0 - n)) for n in (0, 1))
        for end, sign in (("reeds", 1), ("sand", -1))
    )
    return CueCard(40, 5.25, most, least, (neuron_at(0), neuron_at(1)))


def neuron_at(position: int) -> int:
    """The neurons of the example, in the order of the ranking; not in that of their numbers."""
    return (position * 37 + 11) % 1280


def _classes(names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    results = [ClassResult(name, 200, 180 - 7 * (i % 20)) for i, name in enumerate(names)]
    results[0] = ClassResult(names[0], 120, 85)
    return tuple(results)


def _mistake(pictures: Pictures, i: int, side: int, n_classes: int) -> Mistake:
    predicted = 1 if i % 3 else 1 + pictures.choose(n_classes - 1)
    picture = pictures(side, side if i % 4 else side * 3 // 4)
    group = ("in reeds", "in flight")[i % 2]
    return Mistake(picture, f"IMG_{4000 + i}.jpg", 0, predicted, 0.95 - 0.002 * i, 0.03, group)


def _slice(pictures: Pictures, place: int, side: int, names: tuple[str, ...]) -> MistakeSlice:
    """The neurons of the ranking in turn; the second slice has photos of all its mistakes."""
    n_mistakes = (28, 3)[place]
    return MistakeSlice(
        f"{n_mistakes - 1} of {n_mistakes} are taken for {names[1]}.",
        n_mistakes,
        tuple(_mistake(pictures, 10 * place + i, side, len(names)) for i in range(3)),
        tuple(_blamed(i) for i in range(place, 4, 2)),
    )


def _blamed(i: int) -> RankedNeuron:
    kind = _KINDS[i % 2] if i < 6 else "both"
    n_mistakes = 4 + i * 21 % 36
    share, importance = n_mistakes / 40, None if i == 5 else 0.9 + 0.07 * (i % 7)
    neuron, rank, score = neuron_at(i), i // 2 + 1, 9.0 / (i + 1)
    return RankedNeuron(neuron, kind, rank, score, share, n_mistakes, importance)


def _card(pictures: Pictures, i: int, side: int, n_classes: int) -> NeuronCard:
    neuron = neuron_at(i)
    weights = [0.31 - 0.11 * c for c in range(n_classes)]
    return NeuronCard(
        neuron=neuron,
        illusions=tuple(
            IllusionPicture(c, pictures(side, side), pictures(side, side), 3.2 + c, 11.0, 0.27)
            for c in (0, 1)
        ),
        top_photos=tuple(
            TopPhoto(pictures(side, side), f"top_{neuron}_{n}.jpg", n % 3, 4.0 - n / 3, pictures())
            for n in range(6)
        ),
        saliency=tuple(
            SaliencyPicture(pictures(side, side), f"IMG_{4000 + n}.jpg", 0, 1, pictures(side, side))
            for n in range(3)
        ),
        weights=tuple(ClassWeight(c, weight) for c, weight in enumerate(weights)),
        core_relevance=(1.03, 0.79, 0.93, None)[i % 4],
    )


def _words(i: int) -> NeuronWords:
    """Of the cards' neurons, and sixty others: every other one is certain, one says nothing."""
    rests_on = "1,200 photos, 600 of them held out"
    if i == 5:
        return NeuronWords(neuron_at(i), rests_on=rests_on, note="the same on all photos")
    phrases = _PHRASES[i % 2 :]
    return NeuronWords(
        neuron_at(i),
        tuple(Phrase(text, 0.6 - 0.1 * n - 0.001 * i, 0.4, 0.05) for n, text in enumerate(phrases)),
        is_certain=i % 2 == 0,
        could_be=phrases[: 1 + i % 3],
        combination=f"{phrases[0]} - {phrases[1]}",
        combination_correlation=0.71,
        rests_on=rests_on,
        losing=(("reed warbler", -0.031), ("<b>b</b>", -0.002)),
        gaining=(("bittern", 0.012),),
    )


def _edit(pictures: Pictures, names: tuple[str, ...], side: int) -> EditResult:
    sides = ((0, 1, 0), (0, 2, 0), (1, 1, 0), (0, 1, 2))  # label, before, after
    return EditResult(
        verdict=_verdict(names),
        is_kept=True,
        overall=Change("all photos", 0.812, 0.834, 1120),
        classes=(Change(names[0], 0.708, 0.85, 120), Change(names[1], 0.865, 0.85, 200)),
        groups=(Change("in reeds", 0.41, 0.77, 60), Change("in flight", None, None, 0)),
        calibration=Change("calibration error", 0.061, 0.044),
        settings=(("scope", "row"), ("lambda3", "10")),
        neurons=tuple(neuron_at(i) for i in range(4)),
        photos=tuple(
            ChangedPhoto(pictures(side, side), f"IMG_{5000 + i}.jpg", *sides[i % 4])
            for i in range(8)
        ),
        n_corrected=31,
        n_broken=2,
        n_still_wrong=5,
    )


def _verdict(names: tuple[str, ...]) -> Verdict:
    """31 corrected and 2 broken of 1,120."""
    labels = torch.arange(1120) % len(names)
    mine, others = (labels == 0).nonzero().flatten(), (labels == 1).nonzero().flatten()
    before, after = torch.ones(1120, dtype=torch.bool), torch.ones(1120, dtype=torch.bool)
    before[mine[:31]] = False
    after[others[:2]] = False
    controls = (
        Control("without neurons", 0.05, 0.01, 15, 4, 0.001),
        Control("with 4 random neurons", 0.06, 0.0112, 16.2, 3.6, 0.002, n_draws=5),
    )
    return verdict_on(Paired(labels, before, after), [0], class_names=names, controls=controls)
