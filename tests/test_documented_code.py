"""The code of README and docs runs as it is printed, from top to bottom.

Nothing in a block is replaced. What a test must not do (download) or wait for (hundreds of
optimisation steps, thousands of words) is stood in for in the functions that the blocks call.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from helpers import SmallEncoder
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image
from typer.main import get_command
from typer.testing import CliRunner

from captum_neuroinspect import FeatureSet, LabelSpaceEncoder, collect_features
from captum_neuroinspect.inspection.commands.cli import app
from captum_neuroinspect.models import load_model, train_decision_layer
from captum_neuroinspect.photos import Photos

ROOT = Path(__file__).parent.parent
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "inspecting-your-photos.md"
WORDS = ROOT / "docs" / "words-for-units.md"
CONCEPTS = ROOT / "docs" / "concepts.md"
EXPORT = ROOT / "docs" / "export.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]


class SoftEncoder(SmallEncoder):
    """An encoder in three numbers, where the printed code loads two networks."""

    def softened(self) -> SoftEncoder:
        return self


def _id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each block of code."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield found[1], found[2]


def _run(page: Path, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the Python of a page from top to bottom, and return its names."""
    names = dict(given or {})
    for language, block in _blocks(page):
        if language == "python":
            exec(compile(block, str(page), "exec"), names)
    return names


def _commands(block: str) -> list[list[str]]:
    """The arguments of each `neuroinspect` in a block for the shell."""
    lines = block.replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("neuroinspect ")]


def _run_commands(page: Path, *, most: int = 9, skip: Sequence[str] = ()) -> list[str]:
    """What the first commands of a page print; a selection is ticked before it is asked for."""
    blocks = [block for language, block in _blocks(page) if language == "bash"]
    asked = [one for block in blocks for one in _commands(block) if one and one[0] not in skip]
    printed = []
    for words in asked[:most]:
        arguments = [os.path.expanduser(word) for word in words]  # as a shell does
        if "--selection" in arguments:
            _tick(Path("run/report.html"), Path(arguments[arguments.index("--selection") + 1]))
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        printed.append(done.stdout)
    return printed


def _write_noise(folder: Path, names: list[str], n: int, seed: int = 0) -> None:
    """Pictures that have nothing to do with their class, so that there are mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(n):
            picture = torch.rand(3, 8, 8, generator=generator)
            to_pil_image(picture).resize((64, 64)).save(folder / name / f"{i}.png")


def _standing_in(function: Callable[..., Any], most: int = 4, **fixed: Any) -> Callable[..., Any]:
    """The same function with fewer steps and smaller pictures."""

    def called(*args: Any, **options: Any) -> Any:
        n_steps = min(options.get("n_steps", most), most)
        return function(*args, **{**options, "n_steps": n_steps, "progress": False, **fixed})

    return called


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fewer steps, and an encoder that is there at once."""
    from captum_neuroinspect import optvis
    from captum_neuroinspect.inspection.cache import render_in_parts as rendering

    quick = _standing_in(optvis.render_illusions, size=32)
    monkeypatch.setattr(optvis, "render_illusions", quick)
    monkeypatch.setattr(rendering, "render_illusions", quick)
    monkeypatch.setattr(LabelSpaceEncoder, "pretrained", staticmethod(SoftEncoder))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))  # no OpenCLIP, which would be preferred
    monkeypatch.chdir(tmp_path)


def _fitted(folder: Path) -> dict[str, Tensor]:
    """A ResNet-18 that no one trained but its head, which misses half of one class."""
    network = torchvision.models.resnet18()
    normalize = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    photos = Photos.of(folder, class_names=NAMES)
    found = collect_features(
        nn.Sequential(normalize, network), photos.dataset(), network.fc, progress=False
    )
    labels = found.labels.clone()
    missed = (labels == labels.max()).nonzero().flatten()
    labels[missed[::2]] = labels.min()
    taught = type(found)(found.features, found.logits, labels)
    head = train_decision_layer(taught, taught, n_epochs=60, lr=0.05)
    network.fc.load_state_dict(head.state_dict())
    return network.state_dict()


@pytest.mark.filterwarnings("ignore:every epoch was worse than the original head")
@pytest.mark.filterwarnings("ignore:train has samples of 4 of the head's 1000 classes")
def test_the_readme_runs(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from lucent.optvis import render

    _write_noise(tmp_path / "photos", NAMES[:4], n=10)
    state = _fitted(tmp_path / "photos")
    # What `weights=` would download.
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state
    )
    vis = render.render_vis

    def quick_vis(*args: Any, **options: Any) -> Any:
        return vis(*args, **options, thresholds=(2,), fixed_image_size=64, progress=False)

    monkeypatch.setattr(render, "render_vis", quick_vis)
    names = _run(README)

    assert "accuracy: " in capsys.readouterr().out
    assert names["target"] == 3
    assert names["features"].accuracy() > 0.7
    for name in ("saliency.png", "illusions.png", "edit.safetensors"):
        assert (tmp_path / name).stat().st_size > 0
    # Normalised once: what the model makes of the photos is what the network makes of them.
    photos, network = names["photos"], names["network"]
    assert 0 <= photos.min() <= photos.max() <= 1
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        expected = network((photos[:4] - mean) / std)
        torch.testing.assert_close(names["features"].logits[:4], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # a quarter of a minute
@pytest.mark.filterwarnings("ignore:the original head is returned")
def test_the_guide_runs_its_python_and_its_commands(stand_ins: None, tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "validation", "test")):
        _write_noise(tmp_path / "photos" / split, ["outwear", "shirt"], n=14, seed=seed)
    names: dict[str, Any] = {}
    printed: list[str] = []
    for language, block in _blocks(GUIDE):
        if language == "python":
            exec(compile(block, str(GUIDE), "exec"), names)
        for arguments in _commands(block) if language == "bash" else ():
            if arguments[0] == "edit":
                _tick(tmp_path / "run" / "report.html", tmp_path / "selection.json")
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, done.stderr
            printed.append(done.stdout)

    inspected, edited = printed
    assert "outwear: " in inspected or "shirt: " in inspected
    assert "for validation" in inspected
    assert f"neuroinspect edit --run {tmp_path / 'run'} --selection" in inspected
    assert "corrected" in edited
    assert (tmp_path / "edited.safetensors").is_file()
    assert "Inspection of outwear" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.slow  # a quarter of a minute
def test_words_for_units_run(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    _write_noise(tmp_path / "photos", NAMES[:4], n=10)
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state
    )
    names = _run(WORDS)
    found = names["found"]
    assert [one.unit for one in found] == list(range(512))
    assert "40 photos" in found.rests_on
    assert "4 labels of the data" in found.rests_on
    printed = capsys.readouterr().out
    assert printed.startswith("unit 3: ")
    assert "'watermark': " in printed
    assert len(names["table"]) > 512


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Photos of three classes, and the weights of a network that misses some of them."""
    folder = tmp_path_factory.mktemp("three") / "photos"
    _write_noise(folder, NAMES[:3], n=6)
    return folder, _fitted(folder)


@pytest.fixture
def with_three_classes(
    stand_ins: None,
    three_classes: tuple[Path, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They lie in `photos`, and are what a ResNet-18 has for weights."""
    folder, state = three_classes
    shutil.copytree(folder, tmp_path / "photos")
    monkeypatch.setattr(
        torchvision.models.ResNet18_Weights, "get_state_dict", lambda *_, **__: state
    )


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated")  # Captum reads its files with it
@pytest.mark.filterwarnings("ignore:train has samples of")
def test_concepts_run(with_three_classes: None, tmp_path: Path, capsys) -> None:
    _write_noise(tmp_path / "concepts", ["grass", "random", "water"], n=4, seed=1)
    names = _run(CONCEPTS)
    assert names["first"] in ("grass", "water")
    assert "ConceptChange(" in capsys.readouterr().out
    for name in ("bank.safetensors", "concept.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_export_runs(with_three_classes: None, tmp_path: Path) -> None:
    _run(EXPORT)
    for name in ("predictions.csv", "blame.parquet"):
        assert (tmp_path / name).stat().st_size > 0
    assert (tmp_path / "for_fiftyone" / "samples.json").is_file()


def test_the_ranking_of_the_first_stage_names_the_cue(stand_ins: None) -> None:
    names = _run(ROOT / "docs" / "which-neurons.md")
    assert names["ranking"].insufficient.neurons[0] == 5


def test_the_illusions_of_the_second_stage_are_drawn(stand_ins: None, tmp_path: Path) -> None:
    _run(ROOT / "docs" / "illusions.md")
    assert (tmp_path / "illusions.png").stat().st_size > 0


def test_the_edit_of_the_third_stage_is_kept(stand_ins: None) -> None:
    names = _run(ROOT / "docs" / "editing.md")
    assert names["edit"].verdict.decision == "keep"


def test_the_experiment_to_add_runs(stand_ins: None) -> None:
    names = _run(ROOT / "docs" / "experiments.md")
    experiment = names["CoinExperiment"].__new__(names["CoinExperiment"])
    experiment.config = names["CoinConfig"]()
    part = names["CoinExperiment"].parts(experiment, [0])[0]
    heads = experiment.run_part(part)["coin"]["heads"]
    assert 0 < heads.right < heads.of == 100


@pytest.mark.filterwarnings("ignore:every epoch was worse than the original head")
@pytest.mark.filterwarnings("ignore:the original head is returned")
def test_published_settings_and_controls_run(stand_ins: None) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 400, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(400, 5)
    )
    head, labels = model[-1], torch.arange(400) % 5
    features = torch.rand(400, 400) + torch.eye(5, 400)[labels]
    found = FeatureSet(features, head(features).detach(), labels)
    train, others = found.split(0.5)
    validation, rest = others.split(0.5)
    deployment, test = rest.split(0.5)
    mistakes = validation.mistakes(3)
    given = {
        "head": head, "model": model, "train": train, "validation": validation, "test": test,
        "deployment": deployment, "target": 3, "z": mistakes.features, "neurons": [7, 8],
        "classes": [3, 3], "encoder": SmallEncoder(), "names": [f"class {i}" for i in range(5)],
    }  # fmt: skip
    _run(ROOT / "docs" / "paper.md", given)
    assert _run(ROOT / "docs" / "verdict.md", given)["edit"].verdict.controls


def test_working_offline_runs(stand_ins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenCLIP reads from a folder is tested with the encoder."""
    import captum_neuroinspect

    asked = []
    monkeypatch.setattr(captum_neuroinspect, "OpenCLIPEncoder", asked.append)
    _run(ROOT / "docs" / "offline.md")
    assert asked == ["local-dir:vit-b-32"]


@pytest.mark.slow  # half a minute
def test_many_photos_run(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """In this process: Ray has tests of its own."""
    pytest.importorskip("pyarrow")
    from captum_neuroinspect import scale

    options = scale.ScaleOptions
    monkeypatch.setattr(scale, "ScaleOptions", lambda **given: options(**{**given, "n_workers": 0}))
    settings = scale.AtlasSettings
    monkeypatch.setattr(
        scale, "AtlasSettings", lambda **given: settings(**{**given, "n_steps": 2, "size": 32})
    )
    _write_noise(tmp_path / "noise", ["tench"], n=24)
    # Half of them stand under what the network takes them for, so that some are right.
    loaded = load_model("lite:0")
    photos = Photos.of(tmp_path / "noise", view=loaded.view, class_names=loaded.class_names)
    seen = collect_features(loaded.model, photos.dataset(loaded.preprocess), progress=False)
    for i, predicted in enumerate(seen.predictions.tolist()):
        name = NAMES[predicted] if i % 2 else "tench"
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "noise" / "tench" / f"{i}.png").rename(tmp_path / "photos" / name / f"{i}.png")
    assert _run(ROOT / "docs" / "scale.md")["features"].n_photos == 24
    assert "rank" in capsys.readouterr().out


def _tick(report: Path, selection: Path) -> None:
    """What the page's download gives for its first two cards and a note."""
    text = report.read_text("utf-8")
    found = re.search(r'id="report-data">(.*?)</script>', text)
    assert found
    block = json.loads(found[1])
    record = {name: block[name] for name in ("run", "target")}
    neurons = [entry["neuron"] for entry in block["neurons"][:2]]
    selection.write_text(json.dumps({"format": 1, **record, "neurons": neurons, "note": "noise"}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the original head is returned")
def test_the_commands_of_the_readme_run(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the demo, which has tests of its own."""
    for seed, part in enumerate(("train", "validation", "test")):
        _write_noise(tmp_path / "photos" / part, ["outwear", "shirt"], n=12, seed=seed)
    (tmp_path / "Downloads").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.save(torchvision.models.resnet50(num_classes=2).state_dict(), "mine.pth")
    inspected, edited = _run_commands(README, skip=["demo"])
    assert "accuracy" in inspected
    assert "corrected" in edited


@pytest.mark.slow
def test_the_commands_for_words_run(
    stand_ins: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the last, which goes on from an inspection."""
    _write_noise(tmp_path / "photos", ["some"], n=24)
    state = torchvision.models.resnet50().state_dict()
    monkeypatch.setattr(
        torchvision.models.ResNet50_Weights, "get_state_dict", lambda *_, **__: state
    )
    assert len(_run_commands(WORDS, most=3)) == 3
    assert (tmp_path / "words" / "descriptions.json").is_file()


@pytest.mark.slow
def test_the_commands_for_experiments_run(stand_ins: None, tmp_path: Path) -> None:
    listed, _ = _run_commands(ROOT / "docs" / "experiments.md", most=2)
    assert "textures" in listed
    assert (tmp_path / "textures" / "results.md").is_file()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_every_printed_command_is_understood(page: Path) -> None:
    """Also those that would run for minutes: their options exist and take these values."""
    group: Any = get_command(app)
    for language, block in _blocks(page):
        for name, *arguments in _commands(block) if language == "bash" else ():
            group.commands[name].make_context(name, list(arguments))


def test_the_readme_has_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert 'pip install ".[demo]" && neuroinspect demo' in text
    assert 'pip install ".[test]" && pytest' in text
