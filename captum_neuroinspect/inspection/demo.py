"""The demo's photos and model, as a user would have them, and what its inspection finds.

Handwritten digits stand on photos of textures. In training the digit 4 stands on grass, and the
other digits seldom do, so that the decision layer learns grass in place of the digit.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from captum_neuroinspect._core.files import write_text
from captum_neuroinspect.experiments.digits_on_textures import (
    CUE,
    DigitsOnTextures,
    DigitsOnTexturesConfig,
    Split,
)
from captum_neuroinspect.features import FeatureSet, collect_features, find_head
from captum_neuroinspect.inspection import NeuroInspect
from captum_neuroinspect.models import (
    load_model,
    replace_layer,
    save_model,
    train_decision_layer,
)
from captum_neuroinspect.photos import Photos

BACKBONE = "lite:0"
RESIZE = "crop"  # the photos have the model's size already
GROUPS = ("not on grass", "on grass")
N_NEURONS = 6
_N_TOP_PHOTOS = 6
_CLEAR = 0.8  # share of these that show grass, where a third of all photos do
# By the name in the table: `validation` chooses the epoch of the decision layer's training.
_SPLITS: dict[str, Split] = {
    "train": "train",
    "validation": "validation",
    "deployment": "deployment",
    "test": "test",
}
_TABLE, _MODEL = "photos.csv", "model.safetensors"


class Digits(NamedTuple):
    """What `neuroinspect inspect` takes: a table with labels and groups, and a checkpoint.

    Attributes:
        table: CSV file with the columns path, label, group and split.
        model: checkpoint of EfficientNet-Lite0 with the new decision layer.
        class_names: in the order of its outputs.
        target: the class whose training photos stand on grass.
    """

    table: Path
    model: Path
    class_names: tuple[str, ...]
    target: str

    def split(self, name: str) -> str:
        """The table's rows of a split, as `--data` takes them."""
        return f"{self.table}:{name}"


def make_digits(
    folder: Path,
    config: DigitsOnTexturesConfig,
    *,
    fresh: bool = False,
    progress: bool = True,
) -> Digits:
    """Write photos, their table and a model with a new decision layer into a folder.

    What an earlier call finished there is left as it is.

    Args:
        folder: of these settings alone.
        config: what the photos are made of; its seed draws the decision layer too.
        fresh: make everything again.
        progress: show progress bars.

    Raises:
        ImportError: when the packages of the ``demo`` extra are missing.
        OSError: when the folder cannot be written to.
    """
    names = tuple(f"digit {digit}" for digit in config.digits)
    target = f"digit {config.target}"
    made = Digits(folder / _TABLE, folder / _MODEL, names, target)
    # The checkpoint is written last: with it everything is there.
    if fresh:
        made.model.unlink(missing_ok=True)
    if not made.model.is_file():
        _write_photos(made.table, config)
        _train(made, config.seed, progress)
    return made


def finding(session: NeuroInspect) -> dict[str, Any]:
    """What was found, as ``result.json`` keeps it; ``sentence`` is for people.

    Accuracies are counted on the photos that judged the edit: right, and of how many.
    """
    found, edit = session.explanation, session.last_edit
    assert found is not None
    assert edit is not None
    compared, features = session.compare(), session.data.inspected.features
    neurons = found.neurons(N_NEURONS)
    groups = features.groups
    assert groups is not None
    top = session.top_photos(neurons, _N_TOP_PHOTOS)
    on_grass = groups == GROUPS.index("on grass")
    words = {d.unit: d for d in session.descriptions or ()}
    kinds = {row["neuron"]: row["kind"] for row in found.rows()}
    record: dict[str, Any] = {
        "seed": session.seed,
        "target": features.class_name(found.target),
        "taken_for": features.class_name(found.confused),
        "n_explained": len(found.mistakes),
        "neurons": [
            {
                "neuron": neuron,
                "kind": kinds[neuron],
                "phrases": list(words[neuron].phrases) if neuron in words else [],
                "is_certain": neuron in words and words[neuron].is_certain,
                "top_photos_on_grass": int(on_grass[rows].sum()),
                "top_photos": len(rows),
            }
            for neuron, rows in zip(neurons, top.rows, strict=True)
        ],
        "share_on_grass": float(on_grass.float().mean()),
        "edited_neurons": list(edit.targets[found.target]),
        "before": _counts(compared.before, found.target),
        "after": _counts(compared.after, found.target),
        "is_kept": edit.is_kept,
        "verdict": edit.verdict.as_dict(),
    }
    return {"sentence": _sentence(record), **record}


def _write_photos(table: Path, config: DigitsOnTexturesConfig) -> None:
    from PIL import Image

    lines = io.StringIO()
    rows = csv.writer(lines, lineterminator="\n")
    rows.writerow(("path", "label", "group", "split"))
    for name, split in _SPLITS.items():
        data = DigitsOnTextures(split, config)
        for i, (image, label, texture) in enumerate(
            zip(data.images, data.labels.tolist(), data.textures.tolist(), strict=True)
        ):
            place = Path(name) / f"{data.classes[label].replace(' ', '-')}-{i:03}.jpg"
            photo = Image.fromarray(image.permute(1, 2, 0).numpy())
            (table.parent / name).mkdir(parents=True, exist_ok=True)
            photo.save(table.parent / place, quality=95)
            rows.writerow((place.as_posix(), data.classes[label], GROUPS[texture == CUE], name))
    write_text(table, lines.getvalue())


def _train(made: Digits, seed: int, progress: bool) -> None:
    """Train a decision layer for the digits on the backbone's features, and save the model."""
    loaded = load_model(BACKBONE, resize=RESIZE)
    photos = {
        name: Photos.of(made.split(name), view=loaded.view, class_names=made.class_names)
        for name in ("train", "validation")
    }
    example = loaded.preprocess(photos["train"].images([0]))
    old = find_head(loaded.model, example)
    head = nn.Linear(old.in_features, len(made.class_names))
    model = replace_layer(loaded.model, old, head)
    train, validation = (
        collect_features(loaded.on_pixels(), one.dataset(), head, progress=progress)
        for one in photos.values()
    )
    head.load_state_dict(train_decision_layer(train, validation, seed=seed).state_dict())
    save_model(model, made.model, example=example)


def _counts(judged: FeatureSet, target: int) -> dict[str, Any]:
    """How many photos are right, and of how many: of all, and of the target in each group."""
    of_class = judged.of_class(target)
    found: dict[str, Any] = {"all photos": _count(judged.is_correct)}
    for group, name in enumerate(GROUPS):
        found[name] = _count(judged.is_correct[of_class & (judged.groups == group)])
    return found


def _count(right: Tensor) -> list[int]:
    return [int(right.sum()), len(right)]


def _sentence(record: dict[str, Any]) -> str:
    """The finding; it says grass only where the numbers do."""

    def right(when: str, group: str) -> str:
        return "{} of {}".format(*record[when][group])

    quiet = [neuron for neuron in record["neurons"] if neuron["kind"] == "insufficient"]
    n_grass, n = (sum(one[k] for one in quiet) for k in ("top_photos_on_grass", "top_photos"))
    on, off = (one[0] / one[1] for one in map(record["before"].get, ("on grass", "not on grass")))
    is_grass = on > off and n_grass >= _CLEAR * n > 0
    how = (
        "by grass"
        if is_grass
        else "less often than others, but not clearly because grass is missing"
    )
    return (
        f"The model recognises '{record['target']}' {how}: {right('before', 'on grass')} test "
        f"photos on grass and {right('before', 'not on grass')} not on grass are right, and of "
        f"the {n} photos that most activate the {len(quiet)} neurons too quiet in its mistakes "
        f"{n_grass} show grass ({100 * record['share_on_grass']:.0f} % of all photos do); with "
        f"the edited decision layer {right('after', 'on grass')} and "
        f"{right('after', 'not on grass')} are right, and the verdict is "
        f"'{record['verdict']['decision']}'."
    )
