"""One session over a model and its photos: find mistakes, explain, visualize, edit, compare."""

from __future__ import annotations

import json
import tempfile
import time
import weakref
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from captum_neuroinspect._core.checks import check_whole
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.files import partial_folder
from captum_neuroinspect._core.fingerprint import (
    backbone_fingerprint,
    head_fingerprint,
    text_fingerprint,
)
from captum_neuroinspect._core.modules import as_indices, check_indices, device_of
from captum_neuroinspect._core.texts import check_texts
from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.analysis.class_errors import (
    Confusions,
    WorstClasses,
    confusions,
    worst_classes,
)
from captum_neuroinspect.analysis.comparison import Comparison, compare_judged, compare_photos
from captum_neuroinspect.analysis.explanation import Explanation, check_outputs, explain_mistakes
from captum_neuroinspect.analysis.top_photos import TopPhotos, top_photos
from captum_neuroinspect.attr.slices import NSlices
from captum_neuroinspect.encoders.by_name import LazyEncoder, find_encoder
from captum_neuroinspect.inspection.cache.render_in_parts import render_in_parts, rendering_plan
from captum_neuroinspect.inspection.cache.work_folder import WorkFolder
from captum_neuroinspect.inspection.data.parts import InspectionData, load_inspection_data
from captum_neuroinspect.inspection.session.arguments import (
    check_names,
    class_index,
    head_if_any,
    layer_name,
    loaded_model,
    model_key,
    n_classes_of,
    sized_like,
    unit_indices,
)
from captum_neuroinspect.inspection.session.evidence import (
    EvidenceSource,
    counterfactuals_of,
    kept_preprocessing_check,
    neuron_evidence,
)
from captum_neuroinspect.inspection.session.fitting import METHODS, Fitting, Method
from captum_neuroinspect.models.load import LoadedModel

if TYPE_CHECKING:
    from captum_neuroinspect.analysis.activations import Reduction
    from captum_neuroinspect.attr import Direction
    from captum_neuroinspect.describe import Descriptions, FoundUnits
    from captum_neuroinspect.edit import HeadEdit
    from captum_neuroinspect.encoders import ImageTextEncoder
    from captum_neuroinspect.inspection.preflight_checks.preflight import Preflight
    from captum_neuroinspect.inspection.preflight_checks.preprocessing import PreprocessingCheck
    from captum_neuroinspect.inspection.preflight_checks.rendering import Clock
    from captum_neuroinspect.inspection.report.findings import Findings
    from captum_neuroinspect.inspection.session.descriptions import FoundNeuron, WordSource
    from captum_neuroinspect.models._recipe import Preprocess
    from captum_neuroinspect.optvis import Illusions
    from captum_neuroinspect.optvis.illusion_options import Options
    from captum_neuroinspect.photos.photos import OnError

__all__ = ["NeuroInspect"]

_N_NEURONS = 6
_N_MENDED = 50  # as `mend` has it
_FEWEST_RIGHT = 2
_OF_SESSION = ("head", "layer", "preprocess", "encoder", "class_names")


class NeuroInspect:
    """The debugger: it finds the neurons behind mistakes, and edits the head as you decide.

    Every step returns what the standalone function returns, shows itself in a notebook,
    and can be left out. What takes long (features, counterfactuals, illusions, saliency)
    is kept in the ``work`` folder, by the values of the weights, the data and the
    settings: a second session goes on where the first ended, or was interrupted.

    Args:
        model: a classifier (an ``nn.Module`` that returns logits, on its device), what
            :func:`load_model` gives, or a text for it, such as ``"torchvision:resnet50"``.
        preprocess: from images ``(N, 3, H, W)`` in 0..1 to the model's input; ``None``: the
            model normalises by itself, or was loaded with its own.
        class_names: in the order of the model's outputs; else those of the model or data.
        encoder: looks at illusions beside the model and finds words: an image-text
            encoder, or a text for :func:`find_encoder`; ``None``: neither.
        head: the decision layer or its dotted name; found when not given.
        layer: whose units :meth:`visualize` shows; ``None``: inputs of the decision layer,
            of which all other steps speak. Of a model without one, such as one that averages
            heads, only ``visualize(neurons, classes)`` works, with a layer.
        image_size: height and width in pixels at which photos are looked at. ``None``: as
            the model says; where it does not, tensors at their own size and photos at 224.
        resize: how photos are brought there, where that is not as the model's library
            does: ``"squash"``, or ``"crop"`` (the shorter side, then the centre), with or
            without a number of pixels before the centre is cropped (``"crop 256"``).
        work: folder that keeps what was computed; ``None``: only during this session.
        seed: of the held-out share, illusions and edits.
        fresh: compute again what the folder keeps.
        progress: show progress bars.

    Attributes:
        model: with its preprocessing; ``layer``, ``work`` (the folder), ``seed``, ``fresh`` and
            ``progress`` are those that were given.
        explanation: the last one, or ``None``.
        illusions: those visualized last, or ``None``.
        descriptions: words for all neurons, by the last :meth:`describe`, or ``None``.
        last_edit: the last edit, or ``None``.

    Raises:
        TypeError: for a model, head or encoder of another kind.
        ValueError: when no decision layer is found, the model does not decide by the one that
            is given, or names do not fit it.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> net = nn.Sequential(
        ...     nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
        ... )
        >>> session = NeuroInspect(net, image_size=16, progress=False)
        >>> features = session.load((torch.rand(60, 3, 16, 16), torch.arange(60) % 3))
        >>> worst = session.worst_classes()[0]
        >>> explanation = session.explain(worst.index)
        >>> illusions = session.visualize(explanation.neurons(2), n_steps=2, size=16)
        >>> len(illusions)  # each in the class that was missed and in the one it was taken for
        4
    """

    @undisturbed()
    def __init__(
        self,
        model: nn.Module | LoadedModel | str,
        preprocess: Preprocess | None = None,
        class_names: Iterable[str] | None = None,
        encoder: ImageTextEncoder | str | None = None,
        head: nn.Linear | str | None = None,
        layer: nn.Module | str | None = None,
        *,
        image_size: int | None = None,
        resize: int | str | None = None,
        work: str | PathLike[str] | WorkFolder | None = None,
        seed: int = 0,
        fresh: bool = False,
        progress: bool = True,
    ) -> None:
        self.model = loaded_model(model, preprocess, class_names, image_size, resize)
        layer_name(self.model.model, layer)  # refuses one of another model
        self._head, self._no_head = head_if_any(self.model, head, layer)
        check_names(self.model.class_names, self._n_classes)
        self.layer, self.seed, self.fresh, self.progress = layer, seed, fresh, progress
        self._encoder = find_encoder(encoder, device_of(self.model.model))
        self.work = self._folder(work)
        self._data: InspectionData | None = None
        self._checked: PreprocessingCheck | None = None  # of these photos
        self.explanation: Explanation | None = None
        self.illusions: Illusions | None = None
        self.descriptions: Descriptions | None = None
        self.last_edit: HeadEdit | None = None

    def __repr__(self) -> str:
        data = "nothing loaded" if self._data is None else repr(self.data.inspected.photos)
        return f"NeuroInspect({self.model.spec}, {data}, work={str(self.work.path)!r})"

    @property
    def head(self) -> nn.Linear:
        """The decision layer.

        Raises:
            RuntimeError: when the model has none, and a ``layer`` was given to look at.
        """
        if self._head is None:
            raise RuntimeError(
                "only visualize(neurons, classes) works without a decision layer, and this model "
                f"has none: {self._no_head}"
            )
        return self._head

    @property
    def encoder(self) -> LazyEncoder | None:
        """The image-text encoder by its name, loaded when it is needed."""
        return self._encoder

    @property
    def data(self) -> InspectionData:
        """The photos and their features.

        Raises:
            RuntimeError: before :meth:`load`.
        """
        if self._data is None:
            raise RuntimeError("no photos are loaded: call load(data) first")
        return self._data

    @property
    def source(self) -> EvidenceSource:
        """Model and work folder, for what is computed beside the steps."""
        return EvidenceSource(self.model, self.head, self.work, self._source_key, self.fresh)

    @property
    def edit_identity(self) -> str:
        """Names the head, the class and every photo that teaches, chooses or judges an edit.

        What was made of one session is not taken for another's.
        """
        return _digest(self._identity())

    @property
    def report_identity(self) -> str:
        """Names what a report is about: model, photos and the mistakes that are explained.

        A tick in a report is about these; an edit leaves it as it is.
        """
        found = self._explained()
        parts = [part.mistakes.indices.tolist() for part in found.of_slices()]
        # One slice is the report as it is without slices.
        return _digest([*self._identity(), found.predicted, *(parts if len(parts) > 1 else ())])

    @undisturbed()
    def load(
        self,
        data: Any,
        *,
        train: Any = None,
        test: Any = None,
        held_out: float = 0.5,
        on_error: OnError = "raise",
        by_position: bool = False,
    ) -> FeatureSet:
        """Run the model over photos, once, and assign the four roles.

        No photo has two of them. *Train*: the contrast for mistakes, and what an edit keeps
        to; *deployment*: their mistakes are explained, and may teach; *validation*: chooses;
        *test*: judges. Each role has its share of each class, of its mistakes and of what is
        right. A photo that is in two sets, by its content, is left out of ``test`` or
        ``train``, with a warning; copies within ``data`` have the same role. Where fewer than
        twenty test photos of ``data`` are of a class, all held-out photos judge its edit by
        :func:`cross_fit`. ``data.roles()`` says how many photos have each role.

        Args:
            data: the labelled photos that it is about, in any form that
                :meth:`Photos.of` takes: a folder with a subfolder a class, a ``Dataset``,
                a ``DataLoader``, a Hugging Face dataset, tensors. Best photos that the
                model was not trained on.
            train: photos that the head was trained on, or some of them: the contrast
                for its mistakes, and what an edit keeps to. ``None``: photos of ``data``.
            test: photos that judge an edit and serve for nothing else. ``None``: photos
                of ``data``.
            held_out: share of ``data`` that is not explained: half of it for validation,
                half for test, or all for validation with ``test``. The other photos are
                for deployment, or with ``train=None`` half of them for train.
            on_error: what happens to photos that cannot be read: an error, or ``"skip"``:
                ``data.inspected.photos.skipped`` lists those of ``data``.
            by_position: take the classes of the photos in their order (folders: sorted) as
                the model's, whatever they are called. Otherwise they are found by name:
                among the model's names, or, when it has none, those of ``data``.

        Returns:
            The features of all of ``data``.

        Raises:
            TypeError, ValueError, FileNotFoundError: as :meth:`Photos.of`; when classes
                do not fit the model, or ``data``, ``train`` and ``test`` each other; when a
                set has only photos of another one, or a role gets none.

        Warns:
            UserWarning: when photos are left out, or a photo is there under two labels; when
                the photos have class names and the model has none, so that their order is
                all there is.
        """
        self._see_as_given(data)
        self._data = load_inspection_data(
            self.model,
            self.head,
            data,
            train,
            test,
            key=self._key,
            work=self.work,
            held_out=held_out,
            on_error=on_error,
            by_position=by_position,
            seed=self.seed,
            fresh=self.fresh,
            progress=self.progress,
        )
        self.explanation = self.illusions = self.descriptions = self.last_edit = None
        self._checked = None
        return self.data.inspected.features

    def worst_classes(self, n: int | None = 10) -> WorstClasses:
        """:func:`worst_classes` of the photos."""
        return worst_classes(self.data.inspected.features, n)

    def confusions(self, n: int | None = 10, *, target: int | str | None = None) -> Confusions:
        """:func:`confusions` of the photos."""
        features = self.data.inspected.features
        return confusions(features, n, target=None if target is None else self._class(target))

    @undisturbed()
    def preflight(
        self,
        target: int | str | None = None,
        predicted: int | str | None = None,
        *,
        n_neurons: int = _N_NEURONS,
        guided: bool = True,
        options: Options = None,
        clock: Clock | None = time.perf_counter,
        **arguments: Any,
    ) -> Preflight:
        """What may make every later result wrong, and what is to be done: :func:`preflight`.

        Looks at the accuracy and the confusions, and at a few photos as the model sees them;
        where nothing normalises them or the accuracy is that of guessing, it tries the usual
        normalisations on these photos. Two steps of the illusions that are not kept yet say
        how long they take.

        Args:
            target: the class to inspect; ``None``: that which was explained last, or else the
                one that :meth:`explain` would take.
            predicted: only mistakes that were taken for this class are explained.
            n_neurons: that will be visualized, each in two classes.
            guided: as in :meth:`visualize`.
            options: as in :meth:`visualize`.
            clock: seconds from any start; ``None``: no step is timed.
            **arguments: of :meth:`visualize`, which change how long it takes.

        Raises:
            ValueError: for an unknown class, or an argument that :meth:`visualize` refuses.
            RuntimeError: before :meth:`load`.
            KeyboardInterrupt: when it was interrupted.
        """
        from captum_neuroinspect.inspection.preflight_checks.preflight import preflight

        data = self.data
        if target is not None:
            index = self._class(target)
        else:
            index = self._worst() if self.explanation is None else self.explanation.target
        place = None if predicted is None else self._class(predicted)
        if n_neurons < 1:
            raise ValueError(f"n_neurons={n_neurons}, expected at least 1")
        found = preflight(
            data.inspected.features,
            data.deployment.features,
            data.validation.features,
            # Test photos that were given are not among those inspected.
            None if "test" in data.given else data.test.features,
            target=index,
            predicted=place,
        )
        pixels = self._pixels_check(is_doubtful=found.guessing.is_blind)
        plan = None
        if found.mistakes is not None and found.mistakes.n_explained and self.layer is None:
            neurons = self._explain(index, place).neurons(n_neurons)
            places = self._places(index, place)
            if neurons:
                pairs, given = self._rendering(neurons, places, guided, options, arguments)
                plan = rendering_plan(self.work, self.model.model, pairs, clock=clock, **given)
        return replace(found, preprocessing=pixels, rendering=plan)

    @undisturbed()
    def explain(
        self,
        target: int | str | None = None,
        predicted: int | str | None = None,
        *,
        slices: NSlices | None = None,
        options: Literal["paper"] | None = None,
    ) -> Explanation:
        """The neurons behind the mistakes on a class: :func:`explain_mistakes`.

        Args:
            target: the class that is missed, by index or name; ``None``: the worst of those
                with mistakes that are not held out.
            predicted: only mistakes that were taken for this class.
            slices: part the mistakes by their causes, :func:`slice_mistakes`, and give each slice
                its own neurons and its own section in the report: ``"auto"``, or in so many
                slices; ``None``: do not.
            options: ``"paper"``: what the paper's authors publish, votes without a contrast with
                train photos. It is computed anew each time.

        Raises:
            ImportError: for slices, when scikit-learn is not installed.
            ValueError: for an unknown class or one without mistakes to explain, more slices
                than mistakes that differ, other ``options``, or ``"paper"`` with slices.
        """
        index = self._worst() if target is None else self._class(target)
        place = None if predicted is None else self._class(predicted)
        found = self._explain(index, place, slices, options)
        if self.explanation is not None and self.explanation.target != index:
            self.illusions = None
        if self.last_edit is not None and index not in self.last_edit.targets:
            self.last_edit = None
        self.explanation = found
        return found

    @undisturbed()
    def visualize(
        self,
        neurons: Sequence[int] | None = None,
        classes: Sequence[int | str] | None = None,
        *,
        guided: bool = True,
        options: Options = None,
        **arguments: Any,
    ) -> Illusions:
        """What neurons respond to in classes: :func:`render_illusions`, batch by batch.

        Args:
            neurons: which; ``None``: the first six of the explanation.
            classes: each neuron in each of them; ``None``: the class that was missed and
                the one that most of its mistakes were taken for; ``()``: neurons alone.
            guided: let the session's encoder look at the images too, if there is one.
            options: :class:`~captum_neuroinspect.optvis.IllusionOptions` or ``"paper"``, as in
                :func:`render_illusions`; ``batch_size`` pairs are kept together.
            **arguments: of :func:`render_illusions`, such as ``size`` and ``n_steps``. With
                functions among them, such as ``transforms``, nothing is kept.

        Returns:
            Illusions, neuron by neuron, in the order of the classes.

        Raises:
            TypeError: for an argument that is the session's, such as ``layer``.
            ValueError: as :func:`render_illusions`, for an unknown class, or for no neurons
                with an inner layer, of which the explanation does not speak.
            KeyboardInterrupt: when it was interrupted; finished batches are kept.
        """
        pairs, given = self._rendering(neurons, classes, guided, options, arguments)
        self.illusions = render_in_parts(self.work, self.model.model, pairs, **given)
        return self.illusions

    @undisturbed()
    def describe(
        self,
        neurons: Sequence[int] | None = None,
        *,
        phrases: Sequence[str] | None = None,
        n_phrases: int = 5,
        ablation: bool = True,
        together: Tensor | Sequence[int] | None = None,
    ) -> Descriptions:
        """Words for neurons, from all of the photos: :func:`describe_units`.

        Concepts are attributes measured on the pixels, the classes and groups of the photos, and,
        with an encoder, phrases and the names of other classes. Half of the photos choose the
        words, half judge them; of few photos little is certain. All neurons are described at
        once: :attr:`descriptions` has them, and a report can be searched for them. Illusions
        choose no words: they were made in a class.

        Args:
            neurons: inputs of the decision layer; ``None``: those that were visualized, or
                else the first six of the explanation.
            phrases: what the encoder may say; ``None``: the built-in :func:`word_list`.
            n_phrases: for each neuron, at most.
            ablation: tell also which classes lose probability without each of ``neurons``, in the
                mean over the photos: :func:`ablation_effects`. Its time grows with neurons x
                classes x photos.
            together: a whole number for each photo of ``data``; photos with the same one, such as
                crops of one picture, do not confirm each other: :func:`describe_units`.

        Returns:
            Those of ``neurons``; ``rests_on`` says how many photos and which concepts.

        Raises:
            TypeError: for phrases that are no strings.
            ValueError: for fewer than 20 photos, a neuron that there is not, phrases without an
                encoder, no phrases, or another number of values in ``together`` than photos.
            RuntimeError: before :meth:`load`.
        """
        self._check_scored(phrases)
        # An inner layer's illusions are of other units than the decision layer's inputs.
        made = self.illusions if self.layer is None else None
        if neurons is None and made is not None:
            neurons = list(dict.fromkeys(made.neurons))
        words, wanted = self._words(phrases, together), self._neurons(neurons)
        n = self.head.in_features
        check_indices("neuron", as_indices("neurons", wanted), n, f"{n} features")
        described = words.descriptions(n_phrases, self.seed)
        if ablation:
            described = words.with_ablation(described, wanted)
        self.descriptions = described
        return described.only(wanted)

    @undisturbed()
    def describe_layer(
        self,
        layer: nn.Module | str,
        units: Sequence[int] | None = None,
        *,
        reduce: Reduction = "mean",
        phrases: Sequence[str] | None = None,
        n_phrases: int = 5,
        together: Tensor | Sequence[int] | None = None,
    ) -> Descriptions:
        """Words for the units of any layer: its outputs, as :func:`collect_activations` reads them.

        The concepts and the photos are those of :meth:`describe`. The report does not show them.

        Args:
            layer: a module of the model, or its dotted name.
            units: which of its units; ``None``: all.
            reduce: what stands for a unit with positions: the ``"mean"`` over them or the
                ``"max"``, which tells what fills a small part of a photo.
            phrases: what the encoder may say; ``None``: the built-in :func:`word_list`.
            n_phrases: for each unit, at most.
            together: as in :meth:`describe`.

        Raises:
            TypeError, ValueError, RuntimeError: as :func:`collect_activations` and
                :meth:`describe`.
        """
        self._check_scored(phrases)
        words, place = self._words(phrases, together), layer_name(self.model.model, layer)
        assert place is not None
        if units is not None:  # refused before all photos are looked at
            n = words.n_units(place)
            check_indices("unit", as_indices("units", unit_indices(units)), n, f"{n} units")
        activations = words.activations(place, reduce)
        wanted = range(activations.shape[1]) if units is None else unit_indices(units)
        # All of them: a unit that equals an earlier one is told as such.
        return words.described(activations, n_phrases, self.seed).only(wanted)

    @undisturbed()
    def find_units(
        self,
        phrase: str,
        *,
        layer: nn.Module | str | None = None,
        reduce: Reduction = "mean",
    ) -> FoundUnits[FoundNeuron]:
        """Which neurons answer to a phrase, best first: :func:`find_units` on all of the photos.

        Args:
            phrase: an attribute, a class or a group of the photos; or whatever the encoder is to
                score on them, in its list of words or not.
            layer: look among the outputs of this layer; ``None``: among the inputs of the decision
                layer.
            reduce: as in :meth:`describe_layer`.

        Returns:
            All of them. ``blame_rank`` and ``blame_kind`` say which inputs of the decision layer
            are behind the mistakes that were explained last.

        Raises:
            TypeError: when it is no text.
            ValueError: when it is empty, is no attribute, class or group and there is no
                encoder, there are fewer than 20 photos, or there is no such layer.
            RuntimeError: before :meth:`load`.
        """
        words, place = self._words(None), layer_name(self.model.model, layer)
        if place is None:
            return words.found(phrase, self.explanation, self.seed)
        return words.found_in(words.activations(place, reduce), phrase, self.seed)

    def top_photos(self, neurons: Sequence[int] | None = None, k: int = 9) -> TopPhotos:
        """The photos that activate neurons most.

        See :func:`~captum_neuroinspect.analysis.top_photos`.
        """
        return top_photos(self.data.inspected.features, self._neurons(neurons), k)

    def cue(self, target: int | str | None = None) -> Direction:
        """What a class's deployment mistakes lack, as one direction: :func:`cue_direction`.

        ``top_photos(features, session.cue())`` shows the photos that have most of it,
        :func:`render_illusions` what it looks like, and ``edit(method="remove_cue")`` removes it.

        Args:
            target: the class; ``None``: the one that was explained last.

        Raises:
            ValueError: when it has no deployment mistakes, or no train photos.
        """
        index = self._explained().target if target is None else self._class(target)
        fitting = Fitting("remove_cue", self.head, self.data, index, {})
        return fitting.cue(self.data.train.features, self.data.deployment.features)

    @undisturbed()
    def edit(
        self,
        target: int | str | None = None,
        neurons: Sequence[int] | None = None,
        *,
        method: Method = "mend",
        slice: int | None = None,
        keep_anyway: bool = False,
        **options: Any,
    ) -> HeadEdit:
        """Change the decision layer so that a class is recognised more often, and judge that.

        Deployment photos teach it, train photos are what it keeps to, validation photos choose,
        and test photos judge: the edit's ``verdict`` is "keep", "do not keep" or "cannot tell"
        (:func:`verdict_on` has the rule), beside the same fit without neurons and with random
        ones. ``head`` is the edited layer in any case. Unless the verdict is "keep", the edit's
        ``is_kept`` is ``False``: then ``edit.apply_(session.model.model)`` leaves the original
        in the model, which stays as it is until then.

        Args:
            target: the class; ``None``: the one that was explained last.
            neurons: whose influence is weakened, such as those that you picked. ``None``:
                those behind its mistakes.
            method: ``"mend"``: :func:`mend`, which had the best mean accuracy in the
                measurements; ``"equation8"``: :func:`edit_head`, the paper's; ``"remove_cue"``:
                :func:`remove_cue`, which trains on no deployment photo: without ``neurons`` the
                :meth:`cue` is removed, with them what they tell of the class.
            slice: take the neurons behind this slice of :attr:`explanation`, by its number in
                print and report, from 1, in place of ``neurons``; with ``"remove_cue"`` the cue
                that its mistakes locate.
            keep_anyway: keep the edit whatever the verdict is.
            **options: of that function.

        Raises:
            TypeError: for a slice that is no whole number.
            ValueError: for an unknown class or method, neurons and a slice together, a slice that
                the explanation of the class does not have, or as that function.
        """
        if method not in METHODS:
            raise ValueError(f"method={method!r}, expected one of {', '.join(METHODS)}")
        index = self._explained().target if target is None else self._class(target)
        picked = None if neurons is None else unit_indices(neurons)
        located = None
        if slice is not None and method == "remove_cue":
            located = self._slice(index, slice, neurons).mistakes
        elif slice is not None:
            n = _N_NEURONS if method == "equation8" else options.get("n_neurons", _N_MENDED)
            picked = self._of_slice(index, slice, neurons, n)
        if picked is None and method == "equation8":
            picked = self._behind(index)
        options = {"seed": self.seed, **options}
        fitting = Fitting(method, self.head, self.data, index, options, located)
        self.last_edit = fitting.edit(picked, keep_anyway=keep_anyway)
        return self.last_edit

    @undisturbed()
    def compare(self, edit: HeadEdit | None = None) -> Comparison:
        """An edit on the photos that judge it, and the photos whose result changed.

        The photos that judged an edit of :meth:`edit`; for one that was made elsewhere the test
        photos.

        Args:
            edit: ``None``: the last one.

        Raises:
            RuntimeError: when there is none.
        """
        edit = self.last_edit if edit is None else edit
        if edit is None:
            raise RuntimeError("nothing was edited: call edit() first, or give an edit")
        if edit.judged is not None:
            return compare_judged(edit)
        return compare_photos(edit, self.data.test.features)

    @undisturbed()
    def findings(self) -> Findings:
        """All that was found so far, as values: what :meth:`report` shows.

        Raises:
            ValueError: when there are no mistakes to explain.
        """
        from captum_neuroinspect.inspection.report.findings import Findings

        found, model = self._explained(), self.model
        # An inner layer's illusions are of other units than the decision layer's inputs.
        illusions = self.illusions if self.layer is None else None
        return Findings(
            spec=model.spec,
            weights=model.weights,
            view=model.view,
            is_named=model.class_names is not None,
            head_weight=self.head.weight.detach(),
            data=self.data,
            explanation=found,
            # Without a clock: the same data give the same page.
            preflight=self.preflight(found.target, found.predicted, clock=None),
            evidence=neuron_evidence(self.source, self.data, found, illusions),
            illusions=illusions,
            cue=self._cue_of(found),
            descriptions=self.descriptions,
            comparison=None if self.last_edit is None else self.compare(),
            encoder=None if self.encoder is None else self.encoder.name,
            seed=self.seed,
            digest=self.report_identity,
        )

    @undisturbed()
    def report(
        self,
        path: str | PathLike[str],
        *,
        run: str | None = None,
        command: Sequence[str] = (),
        inspection: str = "",
    ) -> Path:
        """Write what was found so far as one HTML file.

        A page above 30 MB has its pictures in a folder beside it, such as ``report_files``.
        Mistakes are explained if they were not; illusions, words and an edit are there
        when :meth:`visualize`, :meth:`describe` and :meth:`edit` were called.

        Args:
            path: of the file.
            run: name that a selection made in the report carries; else the file's folder.
            command: the words of a shell command that takes up the selection, shown beside
                its download. The word after ``--run`` becomes the folder that the page lies
                in when that has the name ``run``.
            inspection: a name that the page carries, to tell which run's it is.

        Raises:
            ValueError: when there are no mistakes to explain.
            OSError: when the file cannot be written, as its path is a folder.
        """
        # Imported here: they take a while, and only those who report need them.
        from captum_neuroinspect.inspection.report.fill import report_data
        from captum_neuroinspect.inspection.report.write import write_report

        path = Path(path).expanduser()
        if path.is_dir():
            raise IsADirectoryError(f"path={str(path)!r} is a folder, expected a file.html")
        name = run or path.resolve().parent.name
        return write_report(report_data(self.findings(), name, tuple(command), inspection), path)

    @undisturbed()
    def export(
        self, folder: str | PathLike[str], *, table: str = "csv", fiftyone: bool = False
    ) -> list[Path]:
        """Write what was found so far for other tools, as tables and heat maps.

        ``predictions`` of all photos, ``blame`` of the neurons, ``slices`` of the mistakes,
        ``words`` (after :meth:`describe`), and ``heat_maps``, a table with a folder of pictures.
        Names of photos are relative to the data; in CSV no text is a formula.

        Args:
            folder: made if need be; files of these names in it are replaced.
            table: ``"csv"`` or ``"parquet"``.
            fiftyone: also the folder ``fiftyone``, which holds a copy of the inspected photos:
                :func:`~captum_neuroinspect.export.to_fiftyone`.

        Returns:
            The tables, and the folder for FiftyOne.

        Raises:
            ImportError: for Parquet, when pyarrow is not installed.
            ValueError: when there are no mistakes to explain, labels are multi-hot, or for another
                kind of table.
            OSError: when a file cannot be written.
        """
        from captum_neuroinspect.inspection.session.exporting import check_format, export_found

        check_format(table)
        found = self._explained()
        # An inner layer's illusions are of other units than the decision layer's inputs.
        illusions = self.illusions if self.layer is None else None
        return export_found(
            Path(folder).expanduser(),
            self.data,
            found,
            neuron_evidence(self.source, self.data, found, illusions),
            self.descriptions or (),
            table=table,
            fiftyone=fiftyone,
            progress=self.progress,
        )

    def _rendering(
        self,
        neurons: Sequence[int] | None,
        classes: Sequence[int | str] | None,
        guided: bool,
        options: Options,
        arguments: dict[str, Any],
    ) -> tuple[list[tuple[int, int | None]], dict[str, Any]]:
        """The pairs of :meth:`visualize`, and the arguments of :func:`render_in_parts`."""
        for name in _OF_SESSION:
            if name in arguments:
                raise TypeError(f"{name} is the session's: give it to NeuroInspect({name}=...)")
        if neurons is None and self.layer is not None:
            raise ValueError("neurons=None: the explanation is about the decision layer's inputs")
        chosen = self._neurons(neurons)
        places = self._classes(classes) or [None]
        lazy = self._encoder.guide if self._encoder and guided and None not in places else None
        key = {"layer": layer_name(self.model.model, self.layer), "encoder": lazy and lazy.key}
        names = self._names()
        if None not in places and names is not None and len(names) == self._n_classes:
            arguments["class_names"] = names
        if lazy is not None:
            arguments["encoder"] = lazy
        given = {
            "key": {**self._source_key, **key},
            "options": options,
            "fresh": self.fresh,
            "head": self.head if self.layer is None else None,
            "layer": self.layer,
            "preprocess": self.model.preprocess,
            **{"seed": self.seed, "progress": self.progress, **arguments},
        }
        return [(neuron, place) for neuron in chosen for place in places], given

    def _cue_of(self, found: Explanation) -> Direction | None:
        """The cue of the explained class, where one can be located."""
        has_train = bool(self.data.train.features.of_class(found.target).any())
        has_mistakes = len(self.data.deployment.features.mistakes(found.target)) > 0
        return self.cue(found.target) if has_train and has_mistakes else None

    def _explained(self) -> Explanation:
        if self.explanation is not None:
            return self.explanation
        edited = self.last_edit.targets if self.last_edit is not None else ()
        return self.explain(next(iter(edited), None))

    def _behind(self, target: int) -> list[int]:
        """The neurons behind the mistakes on a class, whether or not it was explained."""
        found = self.explanation
        if found is None or found.target != target:
            found = self._explain(target)
        return list(found.neurons(_N_NEURONS))

    def _of_slice(
        self, target: int, place: int, neurons: Sequence[int] | None, n_neurons: int
    ) -> list[int]:
        """The neurons behind one slice."""
        return list(self._slice(target, place, neurons).neurons(n_neurons))

    def _slice(self, target: int, place: int, neurons: Sequence[int] | None) -> Explanation:
        """One slice of what was explained, by its number."""
        if neurons is not None:
            raise ValueError("neurons and slice are both given, expected one of them")
        check_whole("slice", place)
        found = self._explained()
        if found.target != target:
            raise ValueError(
                f"slice={place} is of class {found.target}, which was explained last, and "
                f"target={target}: call explain({target}, slices='auto') first"
            )
        parts = found.of_slices()
        if not 1 <= place <= len(parts):
            raise ValueError(
                f"slice={place}, expected 1..{len(parts)}: the mistakes are in so many slices"
            )
        return parts[place - 1]

    def _check_scored(self, phrases: Sequence[str] | None) -> None:
        if phrases is not None and self._encoder is None:
            raise ValueError(
                "phrases are given and encoder=None, expected an encoder that scores them, such "
                "as NeuroInspect(..., encoder='label-space'), which downloads nothing"
            )

    def _words(
        self, phrases: Sequence[str] | None, together: Tensor | Sequence[int] | None = None
    ) -> WordSource:
        # Imported here: it takes a while, and only those who want words need it.
        from captum_neuroinspect.inspection.session.descriptions import WordSource

        given = None if phrases is None else tuple(check_texts("phrases", phrases))
        names = self._names() or ()
        part = self.data.inspected
        source = self.source
        return WordSource.of(source, part, self._encoder, names, given, together, self.progress)

    def _neurons(self, neurons: Sequence[int] | None) -> list[int]:
        if neurons is not None:
            return unit_indices(neurons)
        return list(self._explained().neurons(_N_NEURONS))

    def _classes(self, classes: Sequence[int | str] | None) -> list[int | None]:
        if isinstance(classes, (int, str)):
            return [self._class(classes)]
        if classes is not None:
            return [self._class(one) for one in classes]
        return [*self._places(self._explained().target, self._explained().predicted)]

    def _places(self, target: int, predicted: int | None) -> list[int]:
        """The class that was missed, and the one that it was taken for, or most often was."""
        if predicted is None:
            predicted = self.confusions(1, target=target)[0].predicted
        return [target, predicted]

    def _identity(self) -> list[Any]:
        data = self.data
        parts = [data.train, data.deployment, data.validation, data.test]
        photos = [[part.fingerprint, part.features.indices.tolist()] for part in parts]
        return [self.source.key, photos, self._explained().target]

    @property
    def _source_key(self) -> dict[str, object]:
        return {
            "backbone": backbone_fingerprint(self.model.model, self._head),
            "head": None if self._head is None else head_fingerprint(self._head),
            **self._key,
        }

    def _folder(self, work: str | PathLike[str] | WorkFolder | None) -> WorkFolder:
        if isinstance(work, WorkFolder):
            return work
        if work is not None:
            return WorkFolder(work)
        stack = ExitStack()
        # Private, as the place is everybody's.
        folder = stack.enter_context(partial_folder(Path(tempfile.gettempdir()), mode=0o700))
        weakref.finalize(self, stack.close)
        return WorkFolder(folder)

    @cached_property
    def _key(self) -> dict[str, object]:
        return model_key(self.model, self._head)

    @cached_property
    def _n_classes(self) -> int:
        return n_classes_of(self.model, self._head)

    def _see_as_given(self, data: Any) -> None:
        """Take the size of tensors, where the model's own size is unknown."""
        self.model = sized_like(self.model, data)
        self.__dict__.pop("_key", None)  # it depends on the size

    def _explain(
        self,
        target: int,
        predicted: int | None = None,
        slices: NSlices | None = None,
        options: Literal["paper"] | None = None,
    ) -> Explanation:
        deployment, train = self.data.deployment.features, self.data.train.features
        check_outputs(self.head)
        if options is not None:
            return explain_mistakes(
                self.head,
                deployment,
                target=target,
                predicted=predicted,
                options=options,
                slices=slices,
            )
        n_right = int(train.is_correct.sum())
        if n_right < _FEWEST_RIGHT:
            raise ValueError(
                f"the head gets {n_right} of {len(train)} train photos right, "
                f"expected at least {_FEWEST_RIGHT} to contrast mistakes with: give more photos, "
                "or train="
            )
        w = None
        if deployment.is_mistake(target, predicted).any():
            mistakes = deployment.mistakes(target, predicted)
            w = counterfactuals_of(self.source, self.data.inspected, mistakes, target)
            del mistakes  # `explain_mistakes` makes them again: of many classes two are too many
        return explain_mistakes(
            self.head,
            deployment,
            train,
            target=target,
            predicted=predicted,
            w=w,
            slices=slices,
            seed=self.seed,
        )

    def _pixels_check(self, is_doubtful: bool) -> PreprocessingCheck:
        """Whether the model sees what it was trained on, from a few photos; kept."""
        if self._checked is None:
            # A library's own preprocessing is only doubted where the results are doubtful.
            compare = is_doubtful or isinstance(self.model.preprocess, nn.Identity)
            part = self.data.inspected
            self._checked = kept_preprocessing_check(self.source, part, compare=compare)
        return self._checked

    def _worst(self) -> int:
        deployment = self.data.deployment.features
        wrong = set(deployment.labels[deployment.is_mistake()].tolist())
        order = [row.index for row in worst_classes(self.data.inspected.features, None)]
        return next((index for index in order if index in wrong), order[0])

    def _class(self, given: int | str) -> int:
        return class_index(given, self._names(), self._n_classes)

    def _names(self) -> tuple[str, ...] | None:
        known = None if self._data is None else self._data.inspected.features.class_names
        return known or self.model.class_names


def _digest(record: list[Any]) -> str:
    return text_fingerprint(json.dumps(record))
