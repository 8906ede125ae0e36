"""Parts are kept as they are done; a second run computes what is missing and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_experiments import ToyExperiment

from captum_neuroinspect.experiments import NAMES, Part, Setup, find_experiment, run_experiment
from captum_neuroinspect.experiments.experiment import ResultTable
from captum_neuroinspect.experiments.pages import markdown
from captum_neuroinspect.experiments.values import MeanWithInterval

PAGES = ("results.json", "results.md", "results.png")


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> type[ToyExperiment]:
    monkeypatch.setattr(
        "captum_neuroinspect.experiments.running.find_experiment", lambda name: ToyExperiment
    )
    monkeypatch.setattr(ToyExperiment, "computed", [])
    monkeypatch.setattr(ToyExperiment, "fails_at", None)
    return ToyExperiment


def _bytes(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in PAGES]


def test_an_interrupted_run_goes_on_and_ends_the_same(
    tmp_path: Path, toy: type[ToyExperiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment("toy", Setup(tmp_path / "whole"), seeds=(0, 1))
    toy.computed.clear()
    monkeypatch.setattr(toy, "fails_at", 3)
    with pytest.raises(KeyboardInterrupt):
        run_experiment("toy", Setup(tmp_path / "torn"), seeds=(0, 1))
    assert len(toy.computed) == 3
    assert not (tmp_path / "torn/results.md").exists()
    monkeypatch.setattr(toy, "fails_at", None)
    said: list[str] = []
    run = run_experiment("toy", Setup(tmp_path / "torn"), seeds=(0, 1), say=said.append)
    assert len(toy.computed) == 4
    assert said == ["3 of 4 parts are there from an earlier run"]
    assert run.n_reused == 3
    assert _bytes(tmp_path / "torn") == _bytes(tmp_path / "whole")


def test_more_seeds_compute_only_the_new_ones(tmp_path: Path, toy: type[ToyExperiment]) -> None:
    run_experiment("toy", Setup(tmp_path), seeds=(0,))
    toy.computed.clear()
    run_experiment("toy", Setup(tmp_path), seeds=(0, 5))
    assert {part.seed for part in toy.computed} == {5}


@pytest.mark.parametrize("changed", ["settings", "quick", "data"])
def test_other_settings_use_no_part(
    tmp_path: Path, toy: type[ToyExperiment], monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    run_experiment("toy", Setup(tmp_path), seeds=(0,))
    toy.computed.clear()
    if changed == "data":
        monkeypatch.setattr(toy, "data", "other")
    run = run_experiment(
        "toy",
        Setup(tmp_path),
        seeds=(0,),
        quick=changed == "quick",
        settings={"share": 0.25} if changed == "settings" else None,
    )
    assert len(toy.computed) == 2
    assert (run.n_reused, run.n_other) == (0, 2)
    assert "2 in the folder have other settings" in str(run)


def test_a_damaged_part_is_computed_again(tmp_path: Path, toy: type[ToyExperiment]) -> None:
    run_experiment("toy", Setup(tmp_path), seeds=(0,))
    part = next((tmp_path / "parts").glob("dog*"))
    for text in ("{", "[]", '{"numbers": {"a": {"b": "c"}}}'):
        part.write_text(text)
        toy.computed.clear()
        said: list[str] = []
        run_experiment("toy", Setup(tmp_path), seeds=(0,), say=said.append)
        assert toy.computed == [Part("dog(chair)", 0)]
        assert "cannot be read" in said[0]


@pytest.mark.parametrize("change", ["emptied", "number", "swapped"])
def test_a_part_that_was_changed_is_computed_again(
    change: str, tmp_path: Path, toy: type[ToyExperiment]
) -> None:
    before = run_experiment("toy", Setup(tmp_path), seeds=(0, 1)).results
    first, second = sorted((tmp_path / "parts").glob("dog*"))
    record = json.loads(first.read_text())
    if change == "emptied":
        record["numbers"] = {}
    elif change == "number":
        record["numbers"]["ours"]["right"][0] += 1
    else:
        record = json.loads(second.read_text())
    first.write_text(json.dumps(record))
    toy.computed.clear()
    said: list[str] = []
    run = run_experiment("toy", Setup(tmp_path), seeds=(0, 1), say=said.append)
    assert run.results == before
    assert len(toy.computed) == 1
    assert "its numbers are not those that were kept" in said[0]


def test_the_page_escapes_names_and_says_what_numbers_rest_on(tmp_path: Path) -> None:
    page = run_experiment("toy", Setup(tmp_path), seeds=(0, 1)).page.read_text()
    assert "a\\|b &lt;i>" in page
    assert "Student's t over 2 seeds" in page
    assert "judges 10 photos" in page
    assert "neurons" not in page
    assert "In %, but plain." in page
    assert "| 0.100 [0.100, 0.100] |" in page
    one = run_experiment("toy", Setup(tmp_path), seeds=(0,)).page.read_text()
    assert "bootstrap over the test photos" in one
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["parts"][0]["numbers"]["neurons"] == {"1": 1.0}
    assert record["made_with"]["config"]["n"] == 10


def test_an_interval_that_no_share_reaches_is_said_to_rest_on_too_few() -> None:
    def page(high: float, plain: tuple[str, ...] = (), basis: str = "t") -> str:
        cell = MeanWithInterval(0.7, 0.4, high, 3, 8, basis)
        return markdown(ResultTable("T", ("", "right"), (("ours", cell),), plain=plain))

    said = "An interval that goes beyond 100 % rests on too few"
    assert said in page(1.2)
    assert said not in page(1.0)
    assert said not in page(1.2, plain=("right",))
    assert page(1.2, plain=("right",)).endswith("over 3 seeds. Each seed judges 8 photos.")


def test_parts_of_another_version_are_not_used(
    tmp_path: Path, toy: type[ToyExperiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_experiment("toy", Setup(tmp_path), seeds=(0,))
    monkeypatch.setattr("captum_neuroinspect.experiments.running.__version__", "9.0.0")
    again = run_experiment("toy", Setup(tmp_path), seeds=(0,))
    assert (again.n_reused, again.n_other) == (0, len(first.results))


def test_a_small_version_says_so_on_its_page(tmp_path: Path) -> None:
    said = "Its numbers say nothing"
    assert said in run_experiment("toy", Setup(tmp_path), quick=True).page.read_text()
    assert said not in run_experiment("toy", Setup(tmp_path)).page.read_text()


def test_wrong_arguments_are_told_before_any_work(tmp_path: Path, toy: type[ToyExperiment]) -> None:
    def run(**arguments) -> None:
        run_experiment("toy", Setup(tmp_path), **arguments)

    for seeds in ((), (1, 1), (-1,)):
        with pytest.raises(ValueError, match="one or more different ones from 0"):
            run(seeds=seeds)
    with pytest.raises(TypeError, match=r"seed=1.5, expected a whole number"):
        run(seeds=(1.5,))
    with pytest.raises(ValueError, match="setting 'm' is unknown, expected one of n, share"):
        run(settings={"m": 1})
    with pytest.raises(TypeError, match="setting n='x' is a str, expected a int, such as 10"):
        run(settings={"n": "x"})
    with pytest.raises(ValueError, match="setting share=nan, expected a finite number"):
        run(settings={"share": float("nan")})
    assert not toy.computed
    assert not list(tmp_path.iterdir())


def test_every_experiment_is_found_with_a_line() -> None:
    for name in NAMES:
        kind = find_experiment(name)
        assert kind.name == name
        assert kind.summary
        assert kind.source
    with pytest.raises(ValueError, match="expected one of metashift, textures"):
        find_experiment("nope")
