from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import assert_same_set, left_unchanged
from session_examples import SIZE, CountedNet, photos

from captum_neuroinspect import collect_features
from captum_neuroinspect.inspection._session.arguments import loaded_model, model_key
from captum_neuroinspect.inspection._session.material import Material, load_material
from captum_neuroinspect.inspection.workfolder import WorkFolder


def _load(folder: Path, data: Any = None, train: Any = None, test: Any = None, **options: Any):
    net = options.pop("net", None) or CountedNet()
    model = loaded_model(net, None, None, SIZE)
    defaults = {"on_error": "raise", "seed": 0, "fresh": False, "progress": False}
    options = {"held_out": 0.5, **defaults, **options}
    key, work = model_key(model, net.head), WorkFolder(folder)
    given = photos() if data is None else data
    return load_material(model, net.head, given, train, test, key=key, work=work, **options)


def test_parts_are_what_collect_features_gives(tmp_path: Path) -> None:
    net, sets = CountedNet(), [photos(30, seed=seed) for seed in (1, 2, 3)]
    state = torch.random.get_rng_state()
    with left_unchanged(net):
        found = _load(tmp_path, *sets, net=net)
    assert torch.equal(torch.random.get_rng_state(), state)
    for part, data in zip((found.inspected, found.train, found.test), sets, strict=True):
        assert_same_set(part.features, collect_features(net, data, progress=False))
    assert found.reference is found.train.features
    assert found.judge is found.test


def test_every_photo_is_shown_or_held_out(tmp_path: Path) -> None:
    found: Material = _load(tmp_path, held_out=0.3)
    shown, held = found.shown.indices.tolist(), found.held.indices.tolist()
    assert sorted(shown + held) == list(range(90))
    assert found.held.labels.bincount().tolist() == [9, 9, 9]
    assert found.reference is found.shown
    assert found.judge.features is found.held
    assert found.judge.photos is found.inspected.photos


def test_rows_lead_back_to_their_photos(tmp_path: Path) -> None:
    found = _load(tmp_path)
    images, _ = photos()
    part = found.inspected
    assert torch.equal(part.images(found.held), images[found.held.indices])
    assert part.names(found.held) == [str(i) for i in found.held.indices.tolist()]


def test_all_arguments_are_looked_at_before_the_backbone_runs(tmp_path: Path) -> None:
    net = CountedNet()
    bad: list[tuple[dict[str, Any], Any, str]] = [
        ({"test": 3}, TypeError, "data is int"),
        ({"train": "/no/such"}, FileNotFoundError, "no such folder"),
        ({"held_out": 2}, ValueError, "held_out=2, expected a share between 0 and 1"),
        ({"held_out": None}, TypeError, "held_out is None"),
    ]
    for options, kind, message in bad:
        with pytest.raises(kind, match=message):
            _load(tmp_path, net=net, **options)
    assert net.n_images <= len(bad)  # the pass that names the model
