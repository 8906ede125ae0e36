"""The last columns of Table II: concept scores and precision@3 of the cue, from a bank."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect.concepts import (
    PACKAGED_CONCEPTS,
    ConceptBank,
    ConceptPhotos,
    collect_concepts,
    concept_counterfactual,
    fit_concepts,
    packaged_concepts,
)
from captum_neuroinspect.experiments._photos import folders_of_photos
from captum_neuroinspect.experiments.networks import Network, files_identity

PACKAGED = "packaged"
# What the experiments call a cue, and the packaged concepts.
_OTHER_NAMES = {"tile": "chequers"}
_K = 3


class BankScorer:
    """Scores of CCE with a bank that is fitted once, on the backbone that stays as it is.

    Args:
        concepts: folder with one subfolder of photos a concept and ``random/``, or ``"packaged"``:
            textures, colours and patterns that install as a package.

    Raises:
        FileNotFoundError: when there is no such folder.
        ValueError: for a folder with fewer than two subfolders of photos.
    """

    def __init__(self, concepts: str) -> None:
        self._folder = None if concepts == PACKAGED else Path(concepts).expanduser()
        self._bank: ConceptBank | None = None
        if self._folder is None:
            self.identity = f"packaged concepts: {', '.join(PACKAGED_CONCEPTS)}"
            return
        if not self._folder.is_dir():
            raise FileNotFoundError(
                f"concepts={concepts!r} does not exist, expected a folder with one subfolder of "
                f"photos a concept and random/, or {PACKAGED!r}"
            )
        found = folders_of_photos(self._folder)
        if len(found) < 2:
            raise ValueError(f"concepts={concepts!r} has fewer than two subfolders of photos")
        paths = [path for some in found.values() for path in some]
        self.identity = files_identity(paths, self._folder)

    def __call__(
        self, network: Network, head: nn.Linear, mistakes: FeatureSet, cue: str
    ) -> tuple[float, float]:
        """The cue's mean concept score over the mistakes, and its precision@3.

        NaN, which stands in no table, for a cue that is not in the bank.
        """
        bank = self._of(network)
        name = cue if cue in bank.names else _OTHER_NAMES.get(cue, cue)
        if name not in bank.names:
            return math.nan, math.nan
        found = concept_counterfactual(bank, mistakes, head)
        return found.score(name), found.precision_at(_K, name)

    def _of(self, network: Network) -> ConceptBank:
        if self._bank is None:
            view = network.loaded.view
            photos = (
                packaged_concepts(size=network.image_size)
                if self._folder is None
                else ConceptPhotos.of_folder(self._folder, view=view)
            )
            features = collect_concepts(network.loaded.on_pixels(), photos, progress=False)
            self._bank = fit_concepts(features)
        return self._bank
