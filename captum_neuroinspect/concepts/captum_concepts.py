"""To and from ``captum.concept``: the only module that imports it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from captum.concept import CAV, Classifier, Concept
from torch import Tensor
from torch.utils.data import DataLoader

from captum_neuroinspect._core.undisturbed import undisturbed
from captum_neuroinspect.concepts.concept_bank import ConceptBank
from captum_neuroinspect.concepts.concept_features import ConceptFeatures, split_rows
from captum_neuroinspect.concepts.concept_photos import ConceptPhotos
from captum_neuroinspect.concepts.fitting import of_vector

_COUNTERPARTS = "counterparts"


class FastCAV(Classifier):
    r"""The closed form for Captum's TCAV: ``TCAV(model, layer, classifier=FastCAV())``.

    The weights of a class are :math:`\mu_c - \mu`, the mean of its features less that of all
    (Schmalwasser et al., 2025). No passes over the data, no settings.

    Args:
        seed: draws which samples are held out for the accuracy.

    Examples::

        >>> from torch.utils.data import TensorDataset
        >>> z = torch.tensor([[0.0], [0.0], [4.0], [4.0]] * 3)
        >>> labels = torch.tensor([0, 0, 1, 1] * 3)
        >>> fast = FastCAV()
        >>> fast.train_and_eval(DataLoader(TensorDataset(z, labels), batch_size=12))
        {'accs': tensor(1.)}
        >>> fast.classes(), fast.weights().shape
        ([0, 1], torch.Size([2, 1]))
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._weights: Tensor | None = None
        self._classes: list[int] = []

    @undisturbed()
    def train_and_eval(
        self, dataloader: DataLoader[Any], test_split_ratio: float = 0.33, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Fit to part of the features and judge on the rest, as Captum's own does.

        Args:
            dataloader: batches of features ``(B, F)`` and labels ``(B,)``.
            test_split_ratio: the share that judges.
            kwargs: nothing; they are in the protocol.

        Raises:
            ValueError: when there are fewer than two classes, or two samples of each.
        """
        parts = [(x.flatten(1).double().cpu(), y.cpu()) for x, y in dataloader]
        features, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        self._classes = labels.unique().tolist()
        counts = [int((labels == c).sum()) for c in self._classes]
        if len(counts) < 2 or min(counts) < 2:
            raise ValueError(
                f"{counts} samples of the classes {self._classes}, expected two classes or more "
                "with two samples or more"
            )
        fits = torch.zeros(len(labels), dtype=torch.bool)
        for c in self._classes:
            mine = (labels == c).nonzero()[:, 0]
            fits[mine[split_rows(len(mine), test_split_ratio, self.seed)[0]]] = True
        mean = features[fits].mean(0)
        weights = (
            torch.stack([features[fits & (labels == c)].mean(0) for c in self._classes]) - mean
        )
        said = torch.tensor(self._classes)[((features[~fits] - mean) @ weights.T).argmax(1)]
        self._weights = weights.float()
        return {"accs": (said == labels[~fits]).float().mean()}

    def weights(self) -> Tensor:
        """``(C, F)``, one row a class.

        Raises:
            RuntimeError: before :meth:`train_and_eval`.
        """
        if self._weights is None:
            raise RuntimeError("FastCAV has no weights yet: call train_and_eval first")
        return self._weights

    def classes(self) -> list[int]:
        """The labels, in the order of the rows."""
        return self._classes


def experimental_sets(photos: ConceptPhotos, *, batch_size: int = 8) -> list[list[Concept]]:
    """Concept photos as TCAV takes them: each concept beside its counterparts.

    Args:
        photos: concept photos; the same counterparts of several concepts are one ``Concept``.
        batch_size: images a pass.

    Examples::

        >>> photos = ConceptPhotos(("red",), (torch.rand(5, 3, 8, 8),), (torch.rand(4, 3, 8, 8),))
        >>> experimental_sets(photos)
        [[Concept(0, 'red'), Concept(1, 'counterparts')]]
    """
    others: dict[int, Concept] = {}
    sets = []
    for number, (name, shown, absent) in enumerate(
        zip(photos.names, photos.shown, photos.counterparts, strict=True)
    ):
        if id(absent) not in others:
            others[id(absent)] = Concept(
                len(photos) + len(others), _COUNTERPARTS, _loader(absent, batch_size)
            )
        sets.append([Concept(number, name, _loader(shown, batch_size)), others[id(absent)]])
    return sets


def _loader(images: Any, batch_size: int) -> DataLoader[Any]:
    return DataLoader(images, batch_size=batch_size, generator=torch.Generator())


def save_cavs(
    bank: ConceptBank, layer: str, save_path: str | Path, *, model_id: str = "default_model_id"
) -> list[list[Concept]]:
    """Put a bank's vectors where Captum's TCAV looks for CAVs, so that it trains none.

    Then ``TCAV(model, layer, model_id=..., save_path=...).interpret(inputs, sets, target=...)``
    scores with these vectors; with the decision layer as ``layer`` it takes
    ``attribute_to_layer_input=True``.

    Args:
        bank: of that layer's features.
        layer: its name in the model.
        save_path: a folder for Captum's files, without CAVs of the same model.
        model_id: a name for the model: a folder in it.

    Returns:
        The sets to interpret with: of each concept it and its counterparts, without photos.

    Raises:
        TypeError: for another kind of bank.
        ValueError: for a ``model_id`` that is not the name of a folder.
        OSError: when the folder cannot be written.
    """
    if not isinstance(bank, ConceptBank):
        raise TypeError(f"bank is {type(bank).__name__}, expected a ConceptBank")
    if not model_id or Path(model_id).name != model_id:
        raise ValueError(f"model_id={model_id!r}, expected the name of a folder")
    CAV.create_cav_dir_if_missing(str(save_path), model_id)
    counterparts = Concept(len(bank), _COUNTERPARTS, None)
    sets = []
    for number, name in enumerate(bank.names):
        pair = [Concept(number, name, None), counterparts]
        stats = {
            "weights": torch.stack([bank.vectors[number], -bank.vectors[number]]),
            "classes": [number, len(bank)],
            "accs": bank.accuracy[number],
        }
        CAV(pair, layer, stats, str(save_path), model_id).save()
        sets.append(pair)
    return sets


@undisturbed()
def bank_from_cavs(
    cavs: Mapping[str, Mapping[str, CAV]] | Iterable[CAV], layer: str, features: ConceptFeatures
) -> ConceptBank:
    """A bank of the CAVs that Captum's TCAV trained, as ``tcav.compute_cavs`` returns them.

    CAVs have no boundary: it is put halfway between the mean projections of photos that show the
    concept and of counterparts. The accuracy is Captum's, where it kept one.

    Args:
        cavs: by concepts and layer, or one after the other.
        layer: the name of the layer whose CAVs are meant.
        features: of that layer; the names tell which CAV is meant.

    Raises:
        TypeError: for features of another kind.
        ValueError: when a concept has no CAV of this layer, two, or one of another length.
    """
    if not isinstance(features, ConceptFeatures):
        raise TypeError(f"features is {type(features).__name__}, expected ConceptFeatures")
    found = _by_name(cavs, layer)
    rows = []
    for name, shown, absent in zip(
        features.names, features.shown, features.counterparts, strict=True
    ):
        if name not in found:
            raise ValueError(f"there is no CAV of {name!r} for layer {layer!r} among {[*found]}")
        vector, accuracy = found[name]
        if vector.shape != shown.shape[1:]:
            raise ValueError(
                f"the CAV of {name!r} has {vector.numel()} values, the features {shown.shape[1]}"
            )
        shown, absent = shown.double(), absent.double()
        intercept = -vector @ (shown.mean(0) + absent.mean(0)) / 2
        row = of_vector(vector, intercept, shown, absent, shown, absent)
        rows.append(row | {"n_photos": torch.tensor(len(shown))} | accuracy)
    columns = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
    return ConceptBank(
        names=features.names,
        method="Captum's CAV",
        backbone_fingerprint=features.backbone_fingerprint,
        **columns,
    )


def _by_name(
    cavs: Mapping[str, Mapping[str, CAV]] | Iterable[CAV], layer: str
) -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """Weights and accuracy of each concept that is the first of its set."""
    given: Iterable[Any] = cavs
    if isinstance(cavs, Mapping):
        given = [of_layers[layer] for of_layers in cavs.values() if layer in of_layers]
    found: dict[str, tuple[Tensor, dict[str, Tensor]]] = {}
    for cav in given:
        if cav.layer != layer or not cav.stats:
            continue
        first = cav.concepts[0]
        if first.name in found:
            raise ValueError(f"there are two CAVs of {first.name!r} for layer {layer!r}")
        row = [int(c) for c in cav.stats["classes"]].index(int(first.id))
        vector = torch.as_tensor(cav.stats["weights"])[row].detach().cpu().double()
        accuracy = cav.stats.get("accs")
        kept = {} if accuracy is None else {"accuracy": torch.as_tensor(accuracy).double().cpu()}
        found[first.name] = vector, kept
    return found
