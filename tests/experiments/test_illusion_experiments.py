"""The paper's illusions, small: each runs, goes on where it was, and counts what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from captum_neuroinspect.experiments import Setup, illusion_draws, run_experiment
from captum_neuroinspect.experiments.experiment import Part
from captum_neuroinspect.experiments.human_proxy import FV, GUIDED, NO_CLIP, HumanProxyExperiment
from captum_neuroinspect.experiments.illusion_draws import (
    GROUP,
    Draw,
    draw_pairs,
    rendered,
    strongest_pairs,
)
from captum_neuroinspect.experiments.illusion_experiment import PictureRow, numbers_of, pooled
from captum_neuroinspect.experiments.illusion_networks import (
    tiny_colours,
    tiny_network,
    tiny_networks,
)
from captum_neuroinspect.experiments.running import ExperimentRun, make_experiment
from captum_neuroinspect.experiments.values import Count
from captum_neuroinspect.optvis import Illusions

NAMES = (
    *("human-proxy", "iterations", "gamma"),
    *("concepts-in-a-neuron", "neuron-labels", "out-of-domain"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ExperimentRun]:
    """Every experiment that a test asked for, once."""

    class Runs(dict[str, ExperimentRun]):
        def __missing__(self, name: str) -> ExperimentRun:
            setup = Setup(tmp_path_factory.mktemp(name))
            self[name] = run_experiment(name, setup, seeds=(0, 1), quick=True)
            return self[name]

    return Runs()


def numbers(run: ExperimentRun, row: str, measure: str) -> list[float]:
    found = [one[row][measure] for one in run.results.values() if row in one]
    return [value.value if isinstance(value, Count) else float(value) for value in found]


@pytest.mark.parametrize("name", NAMES)
def test_runs_offline_and_goes_on_where_it_was(name: str, runs, monkeypatch) -> None:
    run = runs[name]
    out = run.experiment.setup.out
    before = [(out / f"results.{end}").read_bytes() for end in ("md", "json", "png")]
    monkeypatch.setattr(
        "captum_neuroinspect.experiments.illusion_draws.render_illusions",
        lambda *_, **__: pytest.fail("rendered again"),
    )
    again = run_experiment(name, Setup(out), seeds=(0, 1), quick=True)
    assert again.n_reused == len(again.results) >= 2
    assert before == [(out / f"results.{end}").read_bytes() for end in ("md", "json", "png")]
    assert "the numbers mean nothing" in before[0].decode()
    assert json.loads(before[1])["experiment"] == name


def test_a_lost_part_is_made_of_the_pictures_that_are_there(runs, monkeypatch) -> None:
    run = runs["gamma"]
    out = run.experiment.setup.out
    lost = sorted((out / "parts").glob("*.json"))[0]
    before = json.loads(lost.read_text())["numbers"]
    lost.unlink()
    monkeypatch.setattr(
        "captum_neuroinspect.experiments.illusion_draws.render_illusions",
        lambda *_, **__: pytest.fail("rendered again"),
    )
    run_experiment("gamma", Setup(out), seeds=(0, 1), quick=True)
    assert json.loads(lost.read_text())["numbers"] == before


def test_who_guided_does_not_judge(runs) -> None:
    for found in runs["human-proxy"].results.values():
        assert "Lite2 sees the class" in found[FV]
        assert "Lite2 sees the class" in found[NO_CLIP]
        assert not [measure for measure in found[GUIDED] if measure.startswith("Lite2")]


def test_each_pair_is_chosen_once_by_the_largest_probability(runs) -> None:
    experiment = runs["human-proxy"].experiment
    assert isinstance(experiment, HumanProxyExperiment)
    for part, found in runs["human-proxy"].results.items():
        rows = experiment.picture_rows(part)
        judge = tiny_network(1)
        sure = []
        for row in rows:
            with torch.no_grad():
                logits = judge(experiment.rendered(part, row).images)
            sure.append(logits.softmax(1)[range(len(logits)), row.draw.classes])
        best = torch.stack(sure).argmax(0)
        counts = [Count(int((best == place).sum()), len(best)) for place in range(3)]
        assert [found[row.title]["Lite1 chooses it"] for row in rows] == counts


def test_the_class_is_seen_more_often_with_its_terms(runs) -> None:
    """The networks of one layer agree on colours, so that what is added must show."""
    run = runs["human-proxy"]
    alone, guided = (sum(numbers(run, row, "Lite1 sees the class")) for row in (FV, GUIDED))
    assert guided > alone
    low, high = (numbers(runs["gamma"], f"gamma {g}", "logit") for g in ("0.1", "1"))
    assert all(more > less for less, more in zip(low, high, strict=True))
    few, many = (numbers(runs["iterations"], f"{n} steps", "logit") for n in (4, 12))
    assert all(more > less for less, more in zip(few, many, strict=True))


def test_choices_two_by_two_have_the_exact_sign_test(runs) -> None:
    run = runs["human-proxy"]
    n = {
        row: sum(found[row]["Lite1 chooses it"].right for found in run.results.values())
        for row in (FV, NO_CLIP, GUIDED)
    }
    table = run.experiment.tables(run.results)[-1]
    assert [row[1] for row in table.rows] == [
        f"{n[GUIDED]} : {n[NO_CLIP]}",
        f"{n[GUIDED]} : {n[FV]}",
        f"{n[NO_CLIP]} : {n[FV]}",
    ]


def test_labels_of_colours_are_right_more_often_than_soft_wpmi(runs) -> None:
    run = runs["neuron-labels"]
    ours, theirs = (
        sum(numbers(run, row, "first right")) for row in ("describe_units", "soft WPMI")
    )
    assert ours > theirs
    words = {row[1]: row[2] for row in run.experiment.tables(run.results)[1].rows}
    assert all(name in told for name, told in words.items())


def test_pairs_are_neurons_that_speak_for_their_class() -> None:
    head = tiny_network(0)[-1]  # type: ignore[index]
    draw = draw_pairs(head, 3 * GROUP, seed=4)
    for start in range(0, 3 * GROUP, GROUP):
        (label,) = set(draw.classes[start : start + GROUP])
        best = head.weight[label].topk(20).indices.tolist()
        mine = draw.neurons[start : start + GROUP]
        assert len(set(mine)) == GROUP
        assert set(mine) <= set(best)
    one = strongest_pairs(head, 6, seed=4)
    assert sorted(one.classes) == list(range(6))
    assert one.neurons == [int(head.weight[label].argmax()) for label in one.classes]


def test_tiny_networks_agree_on_colours_and_differ_in_neurons() -> None:
    colours = torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=torch.float32
    )
    for seed in range(3):
        logits = tiny_network(seed)(colours[:, :, None, None].expand(6, 3, 4, 4))
        assert logits.argmax(1).tolist() == list(range(len(tiny_colours())))
    first, second = (tiny_network(seed)[0].weight for seed in (0, 1))  # type: ignore[index]
    assert not torch.allclose(first, second)


def test_numbers_of_pictures_are_those_of_the_definition() -> None:
    networks = tiny_networks(Setup(Path()))
    images = torch.rand(4, 3, 16, 16)
    activations = torch.tensor([1.0, 2.0, 3.0, 4.0])
    made = Illusions(
        images, None, activations, activations + 1, None, (0, 1, 2, 3), (0, 0, 1, 1),
        settings={"cpu_seconds": 6.0},
    )  # fmt: skip
    row = PictureRow("x", Draw(0, [0, 1, 2, 3], [0, 0, 1, 1]))
    found = numbers_of(networks, row, made)
    assert found["seconds"] == 1.5
    assert found["logit"] == 3.5
    expected = (activations / networks.natural[:4]).mean().item()
    assert found["activation"] == pytest.approx(expected, rel=1e-6)
    seen = tiny_network(1)(images).argmax(1) == torch.tensor([0, 0, 1, 1])
    assert found["Lite1 sees the class"] == Count(int(seen.sum()), 4)
    assert "Lite1 tells the neuron" not in found


def test_shares_of_seeds_are_pooled_with_wilsons_interval() -> None:
    # Of 9 of 10: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.96.
    assert pooled([Count(4, 5), Count(5, 5)]) == "9 of 10, 90% (60% to 98%)"


def test_a_folder_of_photos_takes_the_place_of_the_digits(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        for i in range(6):
            place = tmp_path / "photos" / name / f"{i}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (300, 260), (40 * i, 200 * number, 9)).save(place)
    setup = Setup(tmp_path / "out", data=tmp_path / "photos")
    settings = {"n_classes": 2, "n_steps": 2, "n_photos": 3}
    run = run_experiment("out-of-domain", setup, seeds=[0], quick=True, settings=settings)
    (part,) = run.results
    assert part == Part("photos", 0)
    assert run.experiment.networks.class_names == ("cat", "dog")  # type: ignore[attr-defined]
    (tmp_path / "photos" / "dog").rename(tmp_path / "dog")
    with pytest.raises(ValueError, match="fewer than two classes"):
        run_experiment("out-of-domain", setup, seeds=[0], quick=True, settings=settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gamma", {"gammas": [2.0]}, r"gammas=\(2.0,\), expected"),
        ("gamma", {"options": "mine"}, "options='mine', expected 'paper' or 'package'"),
        ("gamma", {"networks": "huge"}, "networks='huge', expected 'real' or 'tiny'"),
        ("iterations", {"steps": []}, r"steps=\(\), expected"),
        ("human-proxy", {"n_questions": 0}, "n_questions=0, expected 1 or more"),
        ("concepts-in-a-neuron", {"neurons": [-1]}, r"neurons=\(-1,\), expected"),
        ("neuron-labels", {"share": 0}, "share=0.0, expected a share"),
        ("neuron-labels", {"n_photos": 900}, "the network sees no class in so many"),
        ("out-of-domain", {"n_steps": -1}, "n_steps=-1, expected 0 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, message, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        run_experiment(name, Setup(tmp_path), seeds=[0], quick=True, settings=settings)


def test_the_papers_settings_are_the_defaults(tmp_path: Path) -> None:
    config = make_experiment("iterations", Setup(tmp_path)).config
    assert (config.steps, config.options, config.size) == ((300, 400, 500, 650), "paper", 224)
    assert make_experiment("human-proxy", Setup(tmp_path)).config.n_questions == 20


def test_an_interrupt_keeps_what_is_finished_and_a_damaged_file_is_made_again(
    tmp_path: Path, monkeypatch
) -> None:
    model, draw = tiny_network(0), Draw(0, list(range(10)), [0] * 10)
    kept = {"size": 32, "n_steps": 2}
    expected = rendered(model, draw, None, "x", **kept)
    at_work = illusion_draws.render_illusions
    calls = []

    def stopped_in_the_second(*arguments, **named):
        calls.append(named["seed"])
        found = at_work(*arguments, **named)
        if len(calls) == 2:
            found = replace(found, settings=found.settings | {"interrupted": {"step": 1}})
        return found

    monkeypatch.setattr(illusion_draws, "render_illusions", stopped_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        rendered(model, draw, tmp_path, "x", **kept)
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["x-0-0.safetensors"]
    assert rendered(model, draw, tmp_path, "x", **kept).images.equal(expected.images)
    assert calls == [0, 8, 8]
    (tmp_path / "x-0-0.safetensors").write_bytes(b"cut off")
    assert rendered(model, draw, tmp_path, "x", **kept).images.equal(expected.images)
    assert calls == [0, 8, 8, 0]
    with pytest.raises(ValueError, match="has n_steps=2, expected 3"):
        rendered(model, draw, tmp_path, "x", **{**kept, "n_steps": 3})


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))\n"
    )
    setup = Setup(tmp_path / "out", model=f"{tmp_path / 'net.py'}:net")
    with pytest.raises(ValueError, match=r"has 4 classes, expected ImageNet's 1000"):
        run_experiment("gamma", setup, seeds=[0])
