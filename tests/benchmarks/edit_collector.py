"""Features of EfficientNet-Lite0, kept in a folder, so that a second run need not wait."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_neuroinspect import FeatureSet, collect_features
from captum_neuroinspect.experiments.planted_tile import PlantedTile, PlantedTileConfig
from captum_neuroinspect.models import load_efficientnet_lite

N_IMAGENET_CLASSES = 1000


class _Unnamed(Dataset[Any]):
    """Data without the names of its classes, which are not among the network's."""

    def __init__(self, data: Dataset[Any]) -> None:
        self._data = (data,)  # the names of a data set kept as such would be found

    def __len__(self) -> int:
        return len(self._data[0])  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self._data[0][index]


class Collector:
    """Features of EfficientNet-Lite0, from the cache folder where it has them."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self.sets: dict[str, FeatureSet] = {}
        self.photos: dict[str, Tensor] = {}
        if cache is not None:
            cache.mkdir(parents=True, exist_ok=True)
            if self._table.exists():
                self.photos = load_file(self._table)

    @cached_property
    def model(self) -> nn.Module:
        return load_efficientnet_lite(0)

    @property
    def _table(self) -> Path:
        return Path() if self.cache is None else self.cache / "photos.safetensors"

    def collect(self, data: Dataset[Any]) -> FeatureSet:
        # The network's own classes: the data's are five for a thousand outputs.
        names = map(str, range(N_IMAGENET_CLASSES))
        return collect_features(self.model, _Unnamed(data), class_names=names)

    def named(self, name: str, data: Dataset[Any]) -> Tensor:
        """Features (N, 1280) of a data set; ``name`` must stand for its pixels."""
        path = None if self.cache is None else self.cache / f"{name}.safetensors"
        if name not in self.sets:
            is_known = path is not None and path.exists()
            self.sets[name] = FeatureSet.load(path) if is_known else self.collect(data)
            if path is not None and not is_known:
                self.sets[name].save(path)
        return self.sets[name].features

    def tiled(self, sets: list[PlantedTile]) -> list[Tensor]:
        """Features (N, 1280) of each set; a picture that is in several runs once."""
        config = sets[0].config
        pictures = {
            f"{path} {path.stat().st_size} {config.size} {config.tile * tile}": (path, tile)
            for data in sets
            for path, tile in zip(data.paths, data.has_tile.tolist(), strict=True)
        }
        missing = {key: picture for key, picture in pictures.items() if key not in self.photos}
        if missing:
            features = self.collect(_Pictures(list(missing.values()), config)).features
            self.photos |= dict(zip(missing, features.unbind(), strict=True))
            if self.cache is not None:
                save_file(self.photos, self._table)
        keys = {picture: key for key, picture in pictures.items()}
        return [
            torch.stack(
                [self.photos[keys[p]] for p in zip(d.paths, d.has_tile.tolist(), strict=True)]
            )
            for d in sets
        ]


class _Pictures(PlantedTile):
    """Chosen photos, each with or without the tile."""

    def __init__(self, pictures: list[tuple[Path, bool]], config: PlantedTileConfig) -> None:
        self.config, self.with_groups = config, False
        self.paths = tuple(path for path, _ in pictures)
        self.has_tile = torch.tensor([tile for _, tile in pictures])
        self.labels = torch.zeros(len(pictures), dtype=torch.int64)
