"""The network of an experiment, and its features of photos, kept in blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from captum_neuroinspect._core.exclusive import generators_forked
from captum_neuroinspect._core.feature_set import FeatureSet
from captum_neuroinspect._core.fingerprint import backbone_fingerprint, text_fingerprint
from captum_neuroinspect._core.kept_file import read_kept, write_kept
from captum_neuroinspect.experiments.experiment import Setup
from captum_neuroinspect.features import collect_features
from captum_neuroinspect.models import LoadedModel, load_model

_BLOCK = 512  # photos in a file: so many are computed again after an interrupt
_N_DIGITS = 16
_RANDOM_CLASSES = 1000  # of a network with random weights; its decision layer is not used
_N_WORKERS = 4
_BATCH = 64


class Pictures(Dataset[Any]):
    """Images of a data set, chosen by position, with 0 for a label.

    The network's own classes are not those of the data.
    """

    def __init__(self, data: Dataset[Any], positions: Sequence[int]) -> None:
        self._data = (data,)  # the names of a data set kept as such would be found
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._data[0][self._positions[index]][0], 0


class Network:
    """A network with what it makes of photos.

    Args:
        setup: names the model, its weights and the folder of what is kept.
        default: the experiment's own model.
        loaded: instead of these, a network that was trained here.

    Raises:
        RuntimeError: when its weights cannot be downloaded; says what to do.
        ValueError: for an unknown model, weights or device.
    """

    def __init__(self, setup: Setup, default: str, loaded: LoadedModel | None = None) -> None:
        self._setup = setup
        self.loaded = load_network(setup, default) if loaded is None else loaded

    @property
    def image_size(self) -> int:
        """Pixels a side of its images."""
        return min(self.loaded.view.size)

    @cached_property
    def fingerprint(self) -> str:
        """Of its values, and of how photos become its input."""
        values = backbone_fingerprint(self.loaded.model)
        text = f"{values} {self.loaded.key()} {self.loaded.view}"
        return text_fingerprint(text)

    def identity(self) -> dict[str, Any]:
        """For the digest of a part."""
        return {
            "model": self.loaded.spec,
            "weights": self.loaded.weights,
            "network": self.fingerprint,
            "image_size": list(self.loaded.view.size),
        }

    def features(self, name: str, data: Dataset[Any], identity: str) -> Tensor:
        """Inputs of the decision layer, ``(N, F)``, from the kept blocks where they are there.

        Args:
            name: begins the names of the files.
            data: images in 0..1 of the network's size come first in its items.
            identity: stands for the pixels.
        """
        n = len(data)  # type: ignore[arg-type]
        text = f"{self.fingerprint} {identity} {n}"
        digest = text_fingerprint(text)
        blocks = []
        with tqdm(total=n, desc=f"features: {name}", disable=not self._setup.progress) as bar:
            for start in range(0, n, _BLOCK):
                rows = range(start, min(start + _BLOCK, n))
                path = self._setup.kept / f"{name}-{digest}-{start}.safetensors"
                blocks.append(self._block(path, Pictures(data, rows)))
                bar.update(len(rows))
        return torch.cat(blocks)

    def _block(self, path: Path, pictures: Pictures) -> Tensor:
        if path.exists():
            try:
                return read_kept(path, "features")[0]["features"]
            except ValueError:  # damaged: computed again
                path.unlink()
        model = self.loaded.on_pixels()
        found = collect_features(model, _loader(pictures, model), progress=False).features
        write_kept(path, "features", {"features": found}, {})
        return found


def load_network(setup: Setup, default: str) -> LoadedModel:
    """The model that the setup names, or the experiment's own."""
    n_classes = _RANDOM_CLASSES if setup.weights == "random" else None
    # Random weights are the same in each run: else nothing that was kept would fit the next one.
    with generators_forked():
        torch.manual_seed(0)
        return load_model(
            setup.model or default,
            weights=setup.weights,
            n_classes=n_classes,
            device=setup.device,
            image_size=setup.image_size,
        )


def labelled(
    features: Tensor,
    labels: Tensor,
    class_names: Iterable[str],
    groups: Tensor | None = None,
    *,
    head: nn.Linear | None = None,
) -> FeatureSet:
    """A set whose logits are those of ``head``, or zeros before there is one."""
    names = tuple(class_names)
    logits = torch.zeros(len(features), len(names))
    data = FeatureSet(features, logits, labels, groups=groups, class_names=names)
    return data if head is None else data.with_head(head)


def unseen(validation: FeatureSet, train: FeatureSet) -> FeatureSet:
    """Validation photos without those that are training photos too.

    Raises:
        ValueError: when none is left.
    """
    rest = validation.without(train)
    if not len(rest):
        raise ValueError(f"all {len(validation)} validation photos are training photos too")
    return rest


def files_identity(paths: Iterable[Path], root: Path) -> str:
    """A short name for files by where they are below ``root`` and their sizes.

    Examples::

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("1")
        ...     before = files_identity([Path(folder, "a.txt")], Path(folder))
        ...     _ = Path(folder, "a.txt").write_text("11")
        ...     before == files_identity([Path(folder, "a.txt")], Path(folder))
        False
    """
    digest = hashlib.sha256()
    for path in paths:
        name = path.relative_to(root).as_posix()
        digest.update(f"{name} {path.stat().st_size}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:_N_DIGITS]


def _loader(pictures: Pictures, model: nn.Module) -> Any:
    place = next((one.device for one in model.parameters()), torch.device("cpu"))
    if place.type == "cpu":
        return pictures
    workers = min(_N_WORKERS, os.cpu_count() or 1)
    return DataLoader(pictures, batch_size=_BATCH, num_workers=workers)
