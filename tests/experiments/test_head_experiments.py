"""Each experiment on a small archive laid out as the real one, from photos to the page."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_archives import write_flowers, write_food, write_metashift, write_waterbirds
from torchvision.datasets import Flowers102
from toy_experiments import setup, write_classes

from captum_neuroinspect.experiments import (
    Count,
    ExperimentRun,
    Part,
    Setup,
    run_experiment,
    worst_class,
)
from captum_neuroinspect.experiments.running import make_experiment


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Written once for all tests of this module."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            made[name] = _write(name, place)
        return made[name]

    return of


def _write(name: str, place: Path) -> Path:
    if name == "waterbirds":
        write_waterbirds(place / "waterbird_complete95_forest2water2")
    elif name == "tiles":
        write_classes(place, ("cat", "dog", "owl"), 30)
    elif name == "clothing":
        for first, (split, n) in enumerate((("train", 10), ("val", 6), ("test", 5))):
            write_classes(place / split, ("hat", "shoe", "sock"), n, 100 * first)
    else:
        {"metashift": write_metashift, "flowers102": write_flowers, "food101": write_food}[name](
            place
        )
    return place


@pytest.fixture(autouse=True)
def hashes_of_small_files(archive: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares the two files of labels with the published hashes."""
    folder = archive("flowers102") / "flowers-102"
    small = {
        key: (name, hashlib.md5((folder / name).read_bytes()).hexdigest() if key != "image" else "")
        for key, (name, _) in Flowers102._file_dict.items()
    }
    monkeypatch.setattr(Flowers102, "_file_dict", small)
    checked = tuple(
        replace(one, md5=md5 or one.md5)
        for one, (_, md5) in zip(worst_class.FLOWERS, small.values(), strict=True)
    )
    monkeypatch.setattr(worst_class, "FLOWERS", checked)


def _run(
    name: str,
    out: Path,
    data: Path | None,
    *,
    settings: dict[str, Any] | None = None,
    model: str = "torchvision:resnet18",
) -> ExperimentRun:
    given = setup(out, data, model=model)
    return run_experiment(name, given, seeds=(0,), quick=True, settings=settings)


@pytest.mark.parametrize(
    "name", ["metashift", "textures", "tiles", "waterbirds", "flowers102", "food101", "clothing"]
)
def test_quick_runs_from_photos_to_the_page(
    name: str, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    data = None if name == "textures" else archive(name)
    settings = {"most_photos": 0} if name == "metashift" else {}
    run = _run(name, tmp_path, data, settings=settings)
    assert all((tmp_path / f"results.{kind}").stat().st_size for kind in ("md", "json", "png"))
    for numbers in run.results.values():
        rows = {row: values for row, values in numbers.items() if len(values) > 2}
        assert len(rows) >= 7
        shares = [v for values in rows.values() for v in values.values() if isinstance(v, Count)]
        assert shares
        assert all(0 <= one.right <= one.of for one in shares)
        assert all(0 < one.of for one in shares)
    page = run.page.read_text()
    assert "## The paper's numbers" in page
    assert "## What differs from the paper" in page
    again = _run(name, tmp_path, data, settings=settings)
    assert again.n_reused == len(again.results)
    assert again.page.read_text() == page


def test_gains_are_differences_of_the_shares(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    run = _run("tiles", tmp_path, archive("tiles"))
    assert {part.scenario for part in run.results} == {"cat (tile)", "dog (tile)"}
    for numbers in run.results.values():
        before = numbers["before"]["class without the cue"]
        for row, values in numbers.items():
            if "its gain" in values:
                share, gain = values["class without the cue"], values["its gain"]
                assert share.right - before.right == gain.gained - gain.lost, row
                assert gain.of == share.of


def test_neurons_of_ones_own_are_edited(archive: Callable[[str], Path], tmp_path: Path) -> None:
    run = _run("clothing", tmp_path, archive("clothing"), settings={"neurons": [3, 4]})
    (numbers,) = run.results.values()
    assert list(numbers["edited"]) == ["3", "4"]
    cues = [["cat (tile)", [7]]]
    run = _run("tiles", tmp_path, archive("tiles"), settings={"neurons": cues})
    edited = {part.scenario: list(numbers["edited"]) for part, numbers in run.results.items()}
    assert edited["cat (tile)"] == ["7"]
    assert edited["dog (tile)"] != ["7"]


@pytest.mark.parametrize("where", [pytest.param("packaged", marks=pytest.mark.slow), "folder"])
def test_concept_scores_are_columns_where_a_bank_is_given(
    archive: Callable[[str], Path], tmp_path: Path, where: str
) -> None:
    # Untrained, so that there are mistakes.
    settings = {"lr": 1e-9, "n_epochs": 1, "classes": ["cat", "dog"]}
    concepts = where
    if where == "folder":
        concepts = str(write_classes(tmp_path / "concepts", ("tile", "grass", "random"), 6))
    plain = _run("tiles", tmp_path / "out", archive("tiles"), settings=settings)
    without = [values for numbers in plain.results.values() for values in numbers.values()]
    assert not any("concept score" in values for values in without)
    run = _run(
        "tiles", tmp_path / "out", archive("tiles"), settings=settings | {"concepts": concepts}
    )
    assert run.n_reused == 0
    for numbers in run.results.values():
        scored = [values for values in numbers.values() if "concept score" in values]
        assert scored
        for values in scored:
            assert math.isfinite(values["concept score"])
            assert 0 <= values["precision@3"] <= 1
    assert "In %, but concept score" in run.page.read_text()


def test_a_bank_that_is_not_there_is_told(archive: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="concepts='nowhere' does not exist"):
        _run("tiles", tmp_path, archive("tiles"), settings={"concepts": "nowhere"})


def test_a_network_that_is_trained_goes_on_after_an_interrupt(
    archive: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from captum_neuroinspect.experiments import fine_tuning

    # Twelve photos: the last batch would have one, and BatchNorm no spread.
    settings = {"trains": "network", "n_epochs": 3, "most_photos": 4, "batch_size": 11}
    data, small = archive("clothing"), "torchvision:shufflenet_v2_x0_5"
    whole = _run("clothing", tmp_path / "whole", data, settings=settings, model=small)
    save, n_saved = fine_tuning._save_state, []

    def interrupted(*arguments: Any) -> None:
        save(*arguments)
        n_saved.append(1)
        if len(n_saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "_save_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run("clothing", tmp_path / "torn", data, settings=settings, model=small)
    torn = _run("clothing", tmp_path / "torn", data, settings=settings, model=small)
    assert len(n_saved) == 3
    assert torn.results == whole.results
    assert not list((tmp_path / "torn/kept").glob("*.state"))
    for name in ("results.json", "results.md", "results.png"):
        assert (tmp_path / "torn" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_food_takes_validation_photos_from_training(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    config = worst_class.FoodConfig(share=0.25)
    food = worst_class.FoodExperiment(config, setup(tmp_path, archive("food101")))
    given = food.given()
    first, second = (food.dealt(given, seed) for seed in (0, 1))
    assert [len(first[name].paths) for name in first] == [27, 9, 12]
    assert not set(first["train"].paths) & set(first["validation"].paths)
    assert {*first["train"].paths, *first["validation"].paths} == set(given["train"].paths)
    assert [first["validation"].labels.count(i) for i in range(3)] == [3, 3, 3]
    assert first["validation"] != second["validation"]
    for path, label in zip(first["train"].paths, first["train"].labels, strict=True):
        assert path.parent.name == food.class_names[label]


def test_redrawn_splits_keep_their_sizes(archive: Callable[[str], Path], tmp_path: Path) -> None:
    config = worst_class.FolderConfig(redraw=True)
    folder = worst_class.FolderExperiment(config, setup(tmp_path, archive("clothing")))
    given = folder.given()
    drawn = folder.dealt(given, 3)
    for name, one in drawn.items():
        assert sorted(one.labels) == sorted(given[name].labels)
        for path, label in zip(one.paths, one.labels, strict=True):
            assert path.parent.name == folder.class_names[label]
    every = [path for one in drawn.values() for path in one.paths]
    assert len(set(every)) == len(every)


def test_flowers_come_in_their_own_splits(archive: Callable[[str], Path], tmp_path: Path) -> None:
    flowers = worst_class.FlowersExperiment(
        worst_class.FlowersConfig(), setup(tmp_path, archive("flowers102"))
    )
    given = flowers.given()
    assert [len(one.paths) for one in given.values()] == [24, 16, 16]
    assert set(given["test"].labels) == {0, 1, 2, 3}
    assert flowers.class_names[3] == "sweet pea"


def test_defaults_are_the_papers() -> None:
    from captum_neuroinspect.experiments import find_experiment

    metashift = find_experiment("metashift").Config()
    assert (metashift.lr, metashift.batch_size, metashift.n_epochs) == (0.002, 8, 20)
    assert (metashift.strength, metashift.edit_lr, metashift.edit_batch_size) == (1.0, 0.001, 16)
    birds = find_experiment("waterbirds").Config()
    assert (birds.strength, birds.ratio, birds.edit_epochs) == (0.001, 1.0, 20)
    assert birds.edit_weight_decay == 0.0001
    flowers, food = (find_experiment(name).Config() for name in ("flowers102", "food101"))
    assert (flowers.ratio, food.ratio) == (1.003, 1.02)
    for one in (flowers, food):
        assert (one.strength, one.batch_size, one.lr, one.n_epochs) == (0.01, 128, 0.002, 20)
        assert (one.edit_lr, one.edit_patience, one.n_neurons, one.n_ranked) == (0.001, 5, 3, 30)
    assert food.share == 0.15


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("metashift", "expected \\(1\\) the published data: full-candidate-subsets.pkl"),
        ("tiles", "expected a folder with one subfolder of photos a class"),
        ("waterbirds", "Waterbirds is not in .*download https://nlp.stanford.edu"),
        ("flowers102", "Flowers102 is not in .*102flowers.tgz.*md5"),
        ("food101", "Food101 is not in .*food-101.tar.gz"),
        ("clothing", "expected a folder with train/, validation/ and test/"),
    ],
)
def test_without_data_it_is_said_what_to_get(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=said):
        _run(name, tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_data_that_are_not_whole_are_told(archive: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(archive("food101"), tmp_path / "food")
    (tmp_path / "food/food-101/images/sushi/101.jpg").unlink()
    with pytest.raises(ValueError, match=r"1 of 36 photos are missing, such as .*101.jpg"):
        _run("food101", tmp_path, tmp_path / "food")
    shutil.copytree(archive("clothing"), tmp_path / "clothes")
    shutil.move(tmp_path / "clothes/test", tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="has no test/"):
        _run("clothing", tmp_path, tmp_path / "clothes")
    with pytest.raises(ValueError, match="trains='all', expected 'network' or 'head'"):
        _run("clothing", tmp_path, archive("clothing"), settings={"trains": "all"})


def test_the_papers_network_says_what_to_do_without_a_network(
    archive: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def offline(*arguments: object, **options: object) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(RuntimeError, match="weights of torchvision:resnet18 are not on this"):
        run_experiment(
            "metashift",
            replace(setup(tmp_path, archive("metashift")), weights=None, model=None),
            quick=True,
            settings={"most_photos": 0},
        )


def test_other_photos_are_other_parts(archive: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(archive("clothing"), tmp_path / "data")
    _run("clothing", tmp_path / "out", tmp_path / "data")
    (tmp_path / "data/train/hat/0.jpg").write_bytes(
        (tmp_path / "data/train/hat/0.jpg").read_bytes() + b"\0"
    )
    assert _run("clothing", tmp_path / "out", tmp_path / "data").n_reused == 0
    identity = json.loads((tmp_path / "out/results.json").read_text())["made_with"]
    assert identity["weights"] == "random"
    assert not math.isnan(len(identity["data"]))


def test_random_weights_are_the_same_in_each_run(
    archive: Callable[[str], Path], tmp_path: Path
) -> None:
    """Else no part of an earlier run would ever be found again."""
    first = _run("clothing", tmp_path / "out", archive("clothing"))
    torch.rand(3)  # whatever was drawn before
    assert _run("clothing", tmp_path / "out", archive("clothing")).n_reused == len(first.results)


def test_one_scenario_stands_in_one_table_and_several_in_a_mean_too(tmp_path: Path) -> None:
    experiment = make_experiment("textures", Setup(tmp_path), quick=True)
    numbers = {
        "before": {"all photos": Count(5, 10)},
        "neurons": {"1": 7.0},
        "edited": {"7": 7.0},
    }
    one = {Part("digit 4 (grass)", seed): numbers for seed in (0, 1)}
    titles = [table.title for table in experiment.tables(one)]
    assert titles == ["digit 4 (grass)", "Neurons"]
    titles = [table.title for table in experiment.tables({**one, Part("digit 1", 0): numbers})]
    assert titles == ["All scenarios", "digit 4 (grass)", "digit 1", "Neurons"]
