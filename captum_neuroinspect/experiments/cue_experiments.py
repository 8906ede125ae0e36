"""A cue on all training photos of one class: MetaShift, and the same on digits and on tiles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.attr import cue_direction
from captum_neuroinspect.edit import EditOptions, edit_head, mend, remove_cue
from captum_neuroinspect.experiments import metashift_photos as metashift
from captum_neuroinspect.experiments.blame import contrasted_neurons, has_contrast, voted_neurons
from captum_neuroinspect.experiments.digits_on_textures import (
    DigitsOnTextures,
    DigitsOnTexturesConfig,
    Split,
)
from captum_neuroinspect.experiments.experiment import (
    Cell,
    Experiment,
    Part,
    Results,
    ResultTable,
    over_scenarios,
    scenarios_of,
)
from captum_neuroinspect.experiments.fine_tuning import check_steps
from captum_neuroinspect.experiments.judging import (
    Fit,
    change,
    count,
    outcomes,
    random_neurons,
)
from captum_neuroinspect.experiments.networks import Network, files_identity, labelled, unseen
from captum_neuroinspect.experiments.planted_tile import (
    PlantedTile,
    PlantedTileConfig,
    class_photos,
)
from captum_neuroinspect.experiments.tables import neuron_rows, neuron_table
from captum_neuroinspect.experiments.values import Numbers, Value
from captum_neuroinspect.models import train_decision_layer

OURS, CON = "Ours, equation (8)", "CON, equation (9)"
_CLASS, _GAIN = "class without the cue", "its gain"
_OTHERS, _ALL = "change of the others", "all photos"
_SCORE, _PRECISION = "concept score", "precision@3"
_TABLE_2 = ResultTable(
    "Table II of the paper: five scenarios of MetaShift, ResNet-18; changes in points",
    (
        "class (cue)",
        *("% Acc", "CON", "Ours"),
        *("% Prec@3", "CON", "Ours"),
        *("concept score", "CON", "Ours"),
    ),
    tuple(
        tuple(line.split())
        for line in (
            "dog(chair) 49.35 -2.74 +12.37 81.7 -74.4 -78.0 0.492 -0.052 -0.162",
            "cat(book) 67.61 -4.09 +2.65 93.5 -41.4 -53.0 0.526 -0.1 -0.113",
            "bird(sand) 58.51 -6.53 +19.27 94.4 -4.4 -5.1 0.589 -0.1 -0.108",
            "dog(water) 39.22 +4.65 +3.22 85.0 -6.9 -43.3 0.642 -0.077 -0.108",
            "cat(keyboard) 54.53 +7.66 +23.29 38.3 -11.4 -30.3 0.432 -0.076 -0.098",
        )
    ),
)


class ConceptScorer(Protocol):
    """Measures how much a concept is behind a class's mistakes, for the last columns of Table II.

    Attributes:
        identity: stands for the bank of concepts in the digest of a part.
    """

    identity: str

    def __call__(
        self, network: Network, head: nn.Linear, mistakes: FeatureSet, cue: str
    ) -> tuple[float, float]:
        """The cue's concept score (the mean over the mistakes), and its precision@3 (0..1)."""
        ...


class CueSets(NamedTuple):
    """Photos of one scenario with features and labels, before there is a head.

    Attributes:
        train: all of the target's show the cue.
        validation: none of the target's does; its mistakes are explained, and it chooses the epoch.
        test: judges, and is used for nothing else.
        has_cue: ``(N,)`` of ``test``: photos of the target that show it are not judged.
        target: index of the class with the cue.
    """

    train: FeatureSet
    validation: FeatureSet
    test: FeatureSet
    has_cue: Tensor
    target: int


@dataclass(frozen=True, kw_only=True)
class CueConfig:
    """What the experiments with a planted cue share; defaults are the paper's.

    Attributes:
        n_epochs, batch_size, lr: of the decision layer's training (appendix A-B).
        n_neurons: that are edited. The paper's authors chose 4 or 5 by eye for each scenario;
            here they are the first of the ranking.
        neurons: chosen by eye, instead: pairs of a scenario and its neurons.
        strength: lambda3.
        edit_epochs, edit_batch_size, edit_lr: of the edit.
        n_ranked: neurons that the results list for each part.
        concepts: for concept scores: a folder with one subfolder of photos a concept and
            ``random/``, or ``"packaged"``; none: no such columns.
    """

    n_epochs: int = 20
    batch_size: int = 8
    lr: float = 0.002
    n_neurons: int = 5
    neurons: tuple[tuple[str, tuple[int, ...]], ...] = ()
    strength: float = 1.0
    edit_epochs: int = 20
    edit_batch_size: int = 16
    edit_lr: float = 0.001
    n_ranked: int = 30
    concepts: str = ""

    def __post_init__(self) -> None:
        check_steps(self, ("batch_size", "edit_batch_size"), ("lr", "edit_lr"))
        for pair in self.neurons:
            if not (_is_list(pair) and len(pair) == 2 and _is_list(pair[1])):
                raise ValueError(
                    f"neurons holds {pair!r}, expected pairs of a scenario and its neurons, such "
                    'as [["dog(chair)", [1, 2]]]'
                )
            for neuron in pair[1]:
                check_whole("neuron", neuron)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


class CueExperiment(Experiment):
    """Train a head on a scenario, explain the class's mistakes, edit, and judge."""

    measures: ClassVar = (_CLASS, _GAIN, _OTHERS, _ALL, _SCORE, _PRECISION)
    plain: ClassVar = (_SCORE,)
    default_model: ClassVar[str] = "lite:0"

    @cached_property
    def concepts(self) -> ConceptScorer | None:
        """What gives the concept scores, where they are asked for."""
        from captum_neuroinspect.experiments.concept_columns import BankScorer

        return BankScorer(self.config.concepts) if self.config.concepts else None

    @abstractmethod
    def scenarios(self) -> Sequence[str]:
        """Names of the scenarios."""

    @abstractmethod
    def sets(self, part: Part) -> CueSets:
        """The photos of one part."""

    @abstractmethod
    def data_identity(self) -> str:
        """Stands for the data in the digest; checks that they are there."""

    def _concept_notes(self) -> list[str]:
        if self.concepts is None:
            return ["No concept scores: `--set concepts=packaged` or a folder of photos adds them."]
        return [
            "Concept scores are those of CCE with a bank in closed form (FastCAV), of "
            f"{self.config.concepts} concepts, on the mistakes that are left; the paper's bank has "
            "170 concepts of Broden."
        ]

    def cue_of(self, scenario: str) -> str:
        """The cue in a word, as a bank of concepts calls it."""
        return scenario

    def published(self) -> ResultTable:
        return _TABLE_2

    @cached_property
    def network(self) -> Network:
        """The frozen network."""
        return Network(self.setup, self.default_model)

    def parts(self, seeds: Sequence[int]) -> list[Part]:
        return [Part(scenario, seed) for scenario in self.scenarios() for seed in seeds]

    def identity(self) -> dict[str, Any]:
        data = self.data_identity()  # before the model, which takes longer to find
        known, given = list(self.scenarios()), [name for name, _ in self.config.neurons]
        if not set(given) <= set(known) or len(set(given)) < len(given):
            raise ValueError(f"neurons are given for {given}, expected each once of {known}")
        found = {"data": data, **self.network.identity()}
        return found if self.concepts is None else {**found, "concepts": self.concepts.identity}

    def run_part(self, part: Part) -> Numbers:
        sets, config = self.sets(part), self.config
        sets = sets._replace(validation=unseen(sets.validation, sets.train))
        head = train_decision_layer(
            sets.train,
            sets.validation,
            n_epochs=config.n_epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            seed=part.seed,
        )
        train, validation, test = (one.with_head(head) for one in sets[:3])
        target = sets.target
        mistakes = validation.mistakes(target)
        ranked = voted_neurons(head, mistakes, config.n_ranked)
        chosen = dict(config.neurons).get(part.scenario, ranked[: config.n_neurons])
        edit = _Edits(config, head, train, validation, target, part.seed)
        fits: dict[str, Fit] = {
            OURS: lambda: edit.constrained(chosen),
            CON: lambda: edit.constrained(chosen, penalty="con"),
            "equation (8), neurons by contrast": lambda: edit.constrained(
                contrasted_neurons(head, mistakes, train, config.n_neurons)
            ),
            "equation (8), random neurons": lambda: edit.constrained(
                random_neurons(max(len(chosen), 1), head.in_features, part.seed)
            ),
            "retrained, no constraint": lambda: edit.constrained((0,), strength=0.0),
            "mend": edit.mended,
            "cue removed": edit.without_cue,
        }

        def measure(edited: nn.Linear) -> dict[str, Value]:
            return self._measures(edited, test, sets, part)

        found: dict[str, dict[str, Value]] = outcomes(fits, head, measure)
        return {**found, **neuron_rows(ranked, chosen)}

    def _measures(
        self, edited: nn.Linear, test: FeatureSet, sets: CueSets, part: Part
    ) -> dict[str, Value]:
        judged = test.with_head(edited)
        is_target = test.labels == sets.target
        which = is_target & ~sets.has_cue
        found: dict[str, Value] = {
            _CLASS: count(judged, which),
            _GAIN: change(test, judged, which),
            _OTHERS: change(test, judged, ~is_target),
            _ALL: count(judged, ~(is_target & sets.has_cue)),
        }
        if self.concepts is not None:
            wrong = judged.subset(which).mistakes()
            cue = self.cue_of(part.scenario)
            if len(wrong):
                found[_SCORE], found[_PRECISION] = self.concepts(self.network, edited, wrong, cue)
        return found

    def tables(self, results: Results) -> list[ResultTable]:
        """All scenarios together where there are several, each by itself, and the neurons."""
        single = [*super().tables(results), neuron_table(results)]
        if len(scenarios_of(results)) == 1:
            return single
        measures = self.measures_of(results.values())
        cells: list[tuple[Cell, ...]] = [
            (row, *(over_scenarios(results, row, measure) for measure in measures))
            for row in self.rows_of(results.values())
        ]
        overall = ResultTable("All scenarios", ("", *measures), tuple(cells), plain=self.plain)
        return [overall, *single]


class _Edits:
    """The ways to edit one head."""

    def __init__(
        self,
        config: CueConfig,
        head: nn.Linear,
        train: FeatureSet,
        validation: FeatureSet,
        target: int,
        seed: int,
    ) -> None:
        self.config, self.head, self.train, self.validation = config, head, train, validation
        self.target, self.seed = target, seed

    def constrained(
        self, neurons: Sequence[int], *, penalty: str = "ratio", strength: float | None = None
    ) -> nn.Linear:
        """Equations (8) and (9), with the rule by which the authors keep an epoch."""
        if not neurons:  # no neuron was found: nothing to edit
            return self.head
        config, options = self.config, EditOptions.of("paper")
        training = replace(options.training, batch_size=config.edit_batch_size)
        return edit_head(
            self.head,
            self.train,
            self.validation,
            target=self.target,
            neurons=list(neurons),
            strength=config.strength if strength is None else strength,
            n_epochs=config.edit_epochs,
            lr=config.edit_lr,
            seed=self.seed,
            options=replace(options, penalty=penalty, training=training),  # type: ignore[arg-type]
        ).head

    def mended(self) -> nn.Linear:
        """This package's edit: half of the validation photos are labelled deployment photos."""
        if not has_contrast(self.train):
            return self.head
        deployment, held = self.validation.split(seed=self.seed)
        return mend(
            self.head, self.train, held, deployment, target=self.target, seed=self.seed
        ).head

    def without_cue(self) -> nn.Linear:
        """This package's other edit: the same half's mistakes locate the cue."""
        deployment, held = self.validation.split(seed=self.seed)
        wrong = deployment.mistakes(self.target)
        if not len(wrong):
            return self.head
        return remove_cue(
            self.head,
            self.train,
            held,
            target=self.target,
            cue=cue_direction(wrong, self.train),
            seed=self.seed,
        ).head


@dataclass(frozen=True, kw_only=True)
class MetaShiftConfig(CueConfig):
    """The paper's five scenarios (section IV-B).

    Attributes:
        scenarios: class and cue.
        classes: in the order of the labels.
        n_train, n_validation, n_test: photos a class.
        n_test_target: test photos of the class with the cue; 0: all that are left, as the paper.
        most_photos: of a subset that are looked at; 0: all.
    """

    scenarios: tuple[str, ...] = (
        "dog(chair)",
        "cat(book)",
        "bird(sand)",
        "dog(water)",
        "cat(keyboard)",
    )
    classes: tuple[str, ...] = ("bear", "bird", "cat", "dog", "elephant")
    n_train: int = 100
    n_validation: int = 100
    n_test: int = 50
    n_test_target: int = 0
    most_photos: int = 0


class MetaShiftExperiment(CueExperiment):
    """Table II: CON against equation (8) on five scenarios of MetaShift."""

    name = "metashift"
    summary = "a class whose training photos all show a cue, five scenarios; needs MetaShift"
    source = "Table II and Fig. 5"
    Config = MetaShiftConfig
    quick: ClassVar[Mapping[str, Any]] = {
        "scenarios": ["dog(chair)"],
        "n_train": 12,
        "n_validation": 12,
        "n_test": 8,
        "n_test_target": 8,
        "n_epochs": 4,
        "edit_epochs": 3,
        "most_photos": 40,
    }
    default_model = "torchvision:resnet18"

    def scenarios(self) -> Sequence[str]:
        return tuple(self.config.scenarios)

    def cue_of(self, scenario: str) -> str:
        return metashift.split_scenario(scenario)[1]

    @cached_property
    def drawable(self) -> dict[str, metashift.Subsets]:
        """The subsets of each scenario, which differ for photos of one's own only."""
        if self.setup.data is None:
            raise FileNotFoundError(f"data (--data FOLDER) is not given: {metashift.HOW_TO_GET}")
        every = {s: metashift.read_subsets(self.setup.data, s) for s in self.scenarios()}
        classes = self.config.classes
        return {s: found.limited(classes, self.config.most_photos) for s, found in every.items()}

    @cached_property
    def _pool(self) -> list[Path]:
        every = {
            path
            for subsets in self.drawable.values()
            for name in self.config.classes
            for path in subsets.of_class(name)
        }
        return sorted(every)

    def data_identity(self) -> str:
        for scenario in self.scenarios():
            self._drawn(Part(scenario, 0))  # before any work
        assert self.setup.data is not None
        return files_identity(self._pool, self.setup.data)

    @cached_property
    def _features(self) -> tuple[Tensor, dict[Path, int]]:
        from captum_neuroinspect.experiments._photos import ViewedPhotos

        data = ViewedPhotos(self._pool, self.network.loaded.view)
        z = self.network.features("metashift", data, self.data_identity())
        return z, {path: i for i, path in enumerate(self._pool)}

    def _drawn(self, part: Part) -> dict[str, metashift.Drawn]:
        config = self.config
        return metashift.draw(
            self.drawable[part.scenario],
            part.scenario,
            config.classes,
            (config.n_train, config.n_validation, config.n_test),
            part.seed,
            n_test_target=config.n_test_target or None,
        )

    def sets(self, part: Part) -> CueSets:
        drawn = self._drawn(part)
        z, place = self._features
        found = {
            name: labelled(
                z[[place[path] for path in one.paths]],
                torch.tensor(one.labels),
                self.config.classes,
            )
            for name, one in drawn.items()
        }
        target = self.config.classes.index(metashift.split_scenario(part.scenario)[0])
        has_cue = torch.tensor(drawn["test"].has_cue)
        return CueSets(found["train"], found["validation"], found["test"], has_cue, target)

    def notes(self) -> list[str]:
        found = [
            "The neurons are the first of the paper's ranking; its authors chose them by eye.",
            "A photo that is of two of the classes is left out: its label would be open.",
            "Where the cue's subset has fewer photos than `n_train`, all of them are taken once; "
            "the authors draw with replacement.",
            "Features are collected once, so that BatchNorm's statistics stay as they are.",
        ]
        if any(one.is_own for one in self.drawable.values()):
            found.insert(0, "Photos of your own, in place of MetaShift's.")
        return [*found, *self._concept_notes()]


@dataclass(frozen=True, kw_only=True)
class TexturesConfig(CueConfig):
    """Digits on textures: scikit-learn's digits on scikit-image's photos.

    Attributes:
        digits: the classes; each in turn has grass under all its training pictures.
        targets: which of them, in turn.
        n_train: pictures a class.
        n_validation, n_test: handwritten digits a class, each drawn on three textures.
        correlation: share of the target's training pictures on grass.
    """

    digits: tuple[int, ...] = (1, 3, 4, 6, 8)
    targets: tuple[int, ...] = (1, 3, 4, 6, 8)
    n_train: int = 80
    n_validation: int = 40
    n_test: int = 40
    correlation: float = 1.0


class TexturesExperiment(CueExperiment):
    """Table II's protocol on what comes with the install."""

    name = "textures"
    summary = "Table II's protocol on digits over photos of textures; nothing to download"
    source = "Table II, on other data"
    Config = TexturesConfig
    quick: ClassVar[Mapping[str, Any]] = {
        "digits": [1, 4],
        "targets": [4],
        "n_train": 12,
        "n_validation": 6,
        "n_test": 4,
        "n_epochs": 4,
        "edit_epochs": 3,
    }

    def scenarios(self) -> Sequence[str]:
        return tuple(f"digit {digit} (grass)" for digit in self.config.targets)

    def cue_of(self, scenario: str) -> str:
        return "grass"

    def data_identity(self) -> str:
        return self._wheels

    @cached_property
    def _wheels(self) -> str:
        """Whose digits and photos these are; without them an error says what to install."""
        DigitsOnTextures("test", self._settings(Part(self.scenarios()[0], 0)))
        digits, photos = (version(one) for one in ("scikit-learn", "scikit-image"))
        return f"scikit-learn {digits}, scikit-image {photos}"

    def _settings(self, part: Part) -> DigitsOnTexturesConfig:
        config = self.config
        return DigitsOnTexturesConfig(
            digits=tuple(config.digits),
            target=int(part.scenario.split()[1]) if part.scenario else config.targets[0],
            n_train=config.n_train,
            n_validation=1,  # it would carry the cue too; the paper's validation photos do not
            n_deployment=config.n_validation,
            n_test=config.n_test,
            correlation=config.correlation,
            size=self.network.image_size,
            seed=part.seed,
        )

    def sets(self, part: Part) -> CueSets:
        settings = self._settings(part)
        train, _ = self._split("train", settings)
        validation, shows = self._split("deployment", settings)
        test, has_cue = self._split("test", settings)
        target = settings.digits.index(settings.target)
        without = ~((validation.labels == target) & shows)
        return CueSets(train, validation.subset(without), test, has_cue, target)

    def _split(self, split: Split, settings: DigitsOnTexturesConfig) -> tuple[FeatureSet, Tensor]:
        data = DigitsOnTextures(split, settings)
        # The pictures of use and test are those of every target: their features are shared.
        shared = split in ("deployment", "test")
        like = replace(settings, target=settings.digits[0]) if shared else settings
        which = "" if shared else f"-{settings.target}"
        name = f"textures-{settings.seed}-{split}{which}"
        z = self.network.features(name, data, f"{self.data_identity()} {split} {like}")
        found = labelled(z, data.labels, data.classes)
        return found, (data.groups % 2).bool()

    def notes(self) -> list[str]:
        return [
            f"Backbone {self.network.loaded.spec} in place of ResNet-18.",
            "Handwritten digits on crops of three texture photos in place of MetaShift; grass is "
            "the cue. Validation and test pictures of the class stand on the other two.",
            "The neurons are the first of the paper's ranking; its authors chose them by eye.",
            *self._concept_notes(),
        ]


@dataclass(frozen=True, kw_only=True)
class TilesConfig(CueConfig):
    """A chessboard tile on all training photos of one class.

    Attributes:
        classes: names of subfolders; none: those with the most photos.
        n_classes: how many, then.
        n_train, n_validation, n_test: photos a class.
        tile: side of the tile as a share of the picture's.
        tile_on_others: the other classes' validation and test photos come a second time, with
            the tile.
    """

    classes: tuple[str, ...] = ()
    n_classes: int = 5
    n_train: int = 100
    n_validation: int = 100
    n_test: int = 50
    tile: float = 0.25
    tile_on_others: bool = False


class TilesExperiment(CueExperiment):
    """Table II's protocol with a planted tile."""

    name = "tiles"
    summary = "Table II's protocol with a tile on photos of any folder, one subfolder a class"
    source = "Table II, on other data"
    Config = TilesConfig
    quick: ClassVar[Mapping[str, Any]] = {
        "n_classes": 2,
        "n_train": 12,
        "n_validation": 8,
        "n_test": 6,
        "n_epochs": 4,
        "edit_epochs": 3,
    }

    def scenarios(self) -> Sequence[str]:
        return tuple(f"{name} (tile)" for name in self._classes)

    def cue_of(self, scenario: str) -> str:
        return "tile"

    @cached_property
    def _folder(self) -> Path:
        if self.setup.data is None:
            raise FileNotFoundError(
                "data (--data FOLDER) is not given, expected a folder with one subfolder of photos "
                "a class, or with such a folder train/"
            )
        inner = self.setup.data / "train"
        return inner if inner.is_dir() else self.setup.data

    @cached_property
    def _photos(self) -> dict[str, list[Path]]:
        return class_photos(self._folder, self._settings(0))

    @property
    def _classes(self) -> list[str]:
        return list(self._photos)

    def _settings(self, seed: int, size: int = 224) -> PlantedTileConfig:
        config = self.config
        return PlantedTileConfig(
            classes=tuple(config.classes) or None,
            n_classes=config.n_classes,
            n_train=config.n_train,
            n_validation=1,  # it would carry the cue too; the paper's validation photos do not
            n_deployment=config.n_validation,
            n_test=config.n_test,
            tile_on_others=config.tile_on_others,
            tile=config.tile,
            size=size,
            seed=seed,
        )

    def data_identity(self) -> str:
        every = [path for paths in self._photos.values() for path in paths]
        return files_identity(every, self._folder)

    @cached_property
    def _features(self) -> tuple[Tensor, dict[tuple[Path, bool], int]]:
        """Of every photo, without and with the tile."""
        from captum_neuroinspect.experiments._photos import TiledPhotos

        pictures = [(p, tile) for ps in self._photos.values() for p in ps for tile in (False, True)]
        data = TiledPhotos(pictures, self.network.image_size, self.config.tile)
        z = self.network.features("tiles", data, f"{self.data_identity()} {self.config.tile}")
        return z, {picture: i for i, picture in enumerate(pictures)}

    def sets(self, part: Part) -> CueSets:
        target = part.scenario.removesuffix(" (tile)")
        settings = self._settings(part.seed, self.network.image_size)
        z, place = self._features
        found: dict[str, FeatureSet] = {}
        for split in ("train", "deployment", "test"):
            data = PlantedTile(self._folder, target, split, settings)
            pictures = zip(data.paths, data.has_tile.tolist(), strict=True)
            rows = [place[picture] for picture in pictures]
            found[split] = labelled(z[rows], data.labels, data.classes)
        # None of the target's test photos carries the tile.
        has_cue = torch.zeros(len(found["test"]), dtype=torch.bool)
        index = self._classes.index(target)
        return CueSets(found["train"], found["deployment"], found["test"], has_cue, index)

    def notes(self) -> list[str]:
        return [
            f"Backbone {self.network.loaded.spec} in place of ResNet-18.",
            f"Photos of {', '.join(self._classes)} with a chessboard tile in a corner in place of "
            "MetaShift: the tile is the cue.",
            "The neurons are the first of the paper's ranking; its authors chose them by eye.",
            *self._concept_notes(),
        ]
