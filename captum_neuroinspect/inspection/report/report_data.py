"""What an inspection report shows, as plain data: the contract with whoever fills it in.

Pictures are PIL images or ``(C, H, W)`` tensors in 0..1; all else is numbers and strings.
Classes are indices into :attr:`ReportData.classes`. What is missing is left at its
default, and the page leaves it out. :func:`write_report` checks the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import Image
from torch import Tensor

from captum_neuroinspect.edit.verdict import Verdict

Picture = Image.Image | Tensor
Kind = Literal["insufficient", "excessive", "both"]


@dataclass(frozen=True, eq=False)
class ClassResult:
    """How the model does on the photos of one class.

    Attributes:
        name: the class's name.
        n_photos: judged photos with this label; 0 if there are none.
        n_correct: how many of them are recognised.
    """

    name: str
    n_photos: int
    n_correct: int

    @property
    def accuracy(self) -> float | None:
        return self.n_correct / self.n_photos if self.n_photos else None


@dataclass(frozen=True, eq=False)
class GroupResult:
    """How the model does on the photos of one group, and on those of the inspected class in it.

    Attributes:
        name: the group's name ("on grass").
        n_photos: photos of the group.
        n_correct: how many of them are recognised.
        n_of_class: photos of the group that are of the inspected class.
        n_correct_of_class: how many of these are recognised.
    """

    name: str
    n_photos: int
    n_correct: int
    n_of_class: int
    n_correct_of_class: int

    @property
    def accuracy(self) -> float:
        return self.n_correct / self.n_photos

    @property
    def class_accuracy(self) -> float | None:
        return self.n_correct_of_class / self.n_of_class if self.n_of_class else None


@dataclass(frozen=True, eq=False)
class ConfusedPair:
    """How many photos of one class are taken for another.

    Attributes:
        label: the right class.
        predicted: another class.
        n_photos: how many, at least 1; pairs that never happen are left out.
    """

    label: int
    predicted: int
    n_photos: int


@dataclass(frozen=True, eq=False)
class Mistake:
    """A photo that the model gets wrong.

    Attributes:
        picture: the photo.
        file: its name, or what else identifies it.
        label: the right class.
        predicted: what the model says.
        probability: of the predicted class, 0..1.
        label_probability: of the right class, 0..1.
        group: the photo's group ("on grass").
    """

    picture: Picture
    file: str
    label: int
    predicted: int
    probability: float
    label_probability: float | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class RankedNeuron:
    """A line of the ranking; each neuron has at most one.

    Attributes:
        neuron: index of the feature.
        kind: ``"insufficient"`` (too quiet), ``"excessive"`` (active where it should not
            be) or ``"both"``.
        rank: place in the list of its kind, from 1.
        score: what the list is ordered by, larger is worse.
        precision: share of the explained mistakes (0..1) that have the neuron among
            their strongest.
        n_mistakes: the same as a number of mistakes.
        importance: the true class's probability with the neuron over that without it, at the
            mean of the class's right samples; None where unknown.
    """

    neuron: int
    kind: Kind
    rank: int
    score: float
    precision: float
    n_mistakes: int
    importance: float | None = None


@dataclass(frozen=True, eq=False)
class MistakeSlice:
    """Mistakes that have a cause in common.

    Attributes:
        sentence: what they have in common.
        n_mistakes: how many there are.
        mistakes: photos of some of them, to show.
        ranking: the neurons behind these mistakes, in the order to show.
    """

    sentence: str
    n_mistakes: int
    mistakes: tuple[Mistake, ...] = ()
    ranking: tuple[RankedNeuron, ...] = ()


@dataclass(frozen=True, eq=False)
class IllusionPicture:
    """What a neuron looks for in a class.

    Attributes:
        class_index: the class.
        picture: the illusion; ``None`` where it failed.
        masked: the same with the regions dimmed that leave the neuron quiet.
        activation: of the neuron on it.
        logit: of the class on it.
        similarity: of the picture and the class's name, for a second network.
        remark: why one of the pictures is missing.
    """

    class_index: int
    picture: Picture | None
    masked: Picture | None = None
    activation: float | None = None
    logit: float | None = None
    similarity: float | None = None
    remark: str = ""


@dataclass(frozen=True, eq=False)
class TopPhoto:
    """A photo that excites a neuron much.

    Attributes:
        picture: the whole photo.
        file: its name.
        label: its class.
        activation: of the neuron.
        crop: the part that excites it.
    """

    picture: Picture
    file: str
    label: int
    activation: float
    crop: Picture | None = None


@dataclass(frozen=True, eq=False)
class SaliencyPicture:
    """Where in a mistake the neuron gets its activation from.

    Attributes:
        overlay: the photo with the saliency drawn over it; ``None`` where it is alike
            everywhere.
        file: its name.
        label: the right class.
        predicted: what the model says.
        picture: the photo without the overlay, to compare.
    """

    overlay: Picture | None
    file: str
    label: int
    predicted: int
    picture: Picture | None = None


@dataclass(frozen=True, eq=False)
class Phrase:
    """Words for what a neuron answers to.

    Attributes:
        text: the words.
        score: their correlation with the neuron on photos that did not choose them; without such
            photos the score that chose them.
        average_precision: in 0..1, of finding the photos that show it by the neuron; None without
            such photos.
        chance: what a neuron that tells nothing reaches there.
    """

    text: str
    score: float
    average_precision: float | None = None
    chance: float | None = None


@dataclass(frozen=True, eq=False)
class NeuronWords:
    """What is said of a neuron, and the evidence.

    Attributes:
        neuron: index of the feature.
        phrases: best first.
        is_certain: whether the first phrase stands; all others are guesses.
        could_be: phrases that came first on resampled photos.
        combination: of several phrases, such as "grass - sky"; or empty.
        combination_correlation: with the neuron; None without one.
        rests_on: how many photos.
        note: why nothing is said, or that it equals another neuron.
        losing: classes whose probability falls when the neuron is zero, in the mean over the
            photos; the change is in -1..1.
        gaining: classes whose probability rises then.
    """

    neuron: int
    phrases: tuple[Phrase, ...] = ()
    is_certain: bool = False
    could_be: tuple[str, ...] = ()
    combination: str = ""
    combination_correlation: float | None = None
    rests_on: str = ""
    note: str = ""
    losing: tuple[tuple[str, float], ...] = ()
    gaining: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, eq=False)
class ClassWeight:
    """The decision layer's weight from a neuron to a class."""

    class_index: int
    weight: float


@dataclass(frozen=True, eq=False)
class NeuronCard:
    """All that is shown of one neuron; its kind and score stand in the ranking.

    Attributes:
        neuron: index of the feature.
        illusions: one a class, the right class first.
        top_photos: most exciting first.
        saliency: on mistakes.
        weights: to the classes of interest, in the order to show.
        core_relevance: what the neuron's part of the illusion keeps of the likeness to the class,
            against the classes beside it; below 1: maybe not core. None where unknown.
    """

    neuron: int
    illusions: tuple[IllusionPicture, ...] = ()
    top_photos: tuple[TopPhoto, ...] = ()
    saliency: tuple[SaliencyPicture, ...] = ()
    weights: tuple[ClassWeight, ...] = ()
    core_relevance: float | None = None


@dataclass(frozen=True, eq=False)
class CueCard:
    """What is shown of the one direction in which the mistakes differ from the class.

    Attributes:
        n_mistakes: that located it.
        raised: by how much a step, from the mistakes to the class's train photos, raises the
            logit of the class above the mean of the others.
        most: photos that lie farthest towards what was learned; ``activation`` is the position.
        least: photos that lie farthest the other way.
        neurons: that differ most in units of their spread.
    """

    n_mistakes: int
    raised: float
    most: tuple[TopPhoto, ...]
    least: tuple[TopPhoto, ...]
    neurons: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Change:
    """A share (0..1) before and after the edit.

    Attributes:
        name: of what: a class, a group, "all photos".
        before: with the original decision layer; None where there is nothing to judge.
        after: with the edited one.
        n_photos: how many were judged.
    """

    name: str
    before: float | None
    after: float | None
    n_photos: int | None = None


@dataclass(frozen=True, eq=False)
class ChangedPhoto:
    """A photo that the two decision layers judge differently.

    Attributes:
        picture: the photo.
        file: its name.
        label: the right class.
        before: what the original decision layer says.
        after: what the edited one says; another class than ``before``.
    """

    picture: Picture
    file: str
    label: int
    before: int
    after: int

    @property
    def outcome(self) -> Literal["corrected", "broken", "still wrong"]:
        if self.label == self.after:
            return "corrected"
        return "broken" if self.label == self.before else "still wrong"


@dataclass(frozen=True, eq=False)
class EditResult:
    """An edit of the decision layer and what it does.

    Attributes:
        verdict: whether to keep it, with the numbers and controls that this rests on.
        overall: accuracy over all judged photos.
        is_kept: whether the edited head is in use; else the original is.
        classes: accuracy by class, in the order to show.
        groups: accuracy by group.
        groups_of_class: the same of the edited classes' photos alone; empty where each group
            is of one class.
        calibration: calibration error, where smaller is better.
        settings: names and values, as texts.
        neurons: that were constrained.
        photos: of the photos that changed sides, all that are broken and some of the others.
        n_corrected: how many are corrected in all; None counts ``photos``.
        n_broken: how many it breaks in all; None counts ``photos``.
        n_still_wrong: how many are wrong in another way in all; None counts ``photos``.
        note: what the reader wrote about the choice of the neurons.
        notes: neurons, and what the reader wrote about them.
    """

    verdict: Verdict
    overall: Change
    is_kept: bool = False
    classes: tuple[Change, ...] = ()
    groups: tuple[Change, ...] = ()
    groups_of_class: tuple[Change, ...] = ()
    calibration: Change | None = None
    settings: tuple[tuple[str, str], ...] = ()
    neurons: tuple[int, ...] = ()
    photos: tuple[ChangedPhoto, ...] = ()
    n_corrected: int | None = None
    n_broken: int | None = None
    n_still_wrong: int | None = None
    note: str = ""
    notes: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, eq=False)
class ClassMapping:
    """Which class of the model each of the photos' own class names was taken for.

    Attributes:
        photos: which set they are of, such as "photos" or "train photos".
        rows: own name, class of the model, and how many photos.
        by_position: whether names that differ were taken in their order.
        is_plain: whether every name is its class's own, so that only numbers moved.
    """

    photos: str
    rows: tuple[tuple[str, int, int], ...]
    by_position: bool = False
    is_plain: bool = False


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything in a report.

    Attributes:
        title: of the page.
        verdict: what was found, in a sentence or two.
        run: name of the run; a downloaded selection carries it.
        target: the class that is inspected.
        classes: every class of the model, in its order.
        facts: names and values about model, data and seed, as texts.
        mappings: where the photos' class names are not the model's, which is which.
        groups: of the photos, where they are known.
        confusions: pairs of classes that are mixed up.
        mistakes: photos that go wrong.
        slices: the explained mistakes by their causes; empty where they are in one slice.
        slices_reason: why there are so many; empty where none were looked for.
        ranking: the neurons behind the mistakes, in the order to show.
        n_explained: number of mistakes that the ranking explains.
        neurons: a card for each neuron worth a look, in the order to show.
        words: of every neuron that was described.
        words_summary: what the neurons behind the mistakes answer to, in a sentence.
        words_rest_on: which photos and concepts all words rest on.
        cue: the direction that all neurons make together.
        edit: of the decision layer.
        cautions: what may make all of it wrong, a sentence or two each.
        command: the words of the shell command that takes up the selection; the word after
            ``--run`` becomes the folder that the page lies in when that has the name ``run``.
        digest: names model, photos and mistakes: ticks and selections belong to it. Empty:
            made from classes, mistakes and ranking.
        inspection: names the inspection that a run folder has; the page carries it.
    """

    title: str
    verdict: str
    run: str
    target: int
    classes: tuple[ClassResult, ...]
    facts: tuple[tuple[str, str], ...] = ()
    mappings: tuple[ClassMapping, ...] = ()
    groups: tuple[GroupResult, ...] = ()
    confusions: tuple[ConfusedPair, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    slices: tuple[MistakeSlice, ...] = ()
    slices_reason: str = ""
    ranking: tuple[RankedNeuron, ...] = ()
    n_explained: int | None = None
    neurons: tuple[NeuronCard, ...] = ()
    words: tuple[NeuronWords, ...] = ()
    words_summary: str = ""
    words_rest_on: str = ""
    cue: CueCard | None = None
    edit: EditResult | None = None
    cautions: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    digest: str = ""
    inspection: str = ""
