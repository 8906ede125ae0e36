"""What importing the package costs, and that all public names are there."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import captum_neuroinspect

HEAVY = ("lucent", "open_clip", "matplotlib", "transformers", "torchvision", "sklearn", "skimage")


def _in_a_fresh_python(code):
    root = Path(captum_neuroinspect.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    return run.stdout


def _heavy_modules_after(statement):
    code = f"{statement}\nimport sys\nprint(*(m for m in {HEAVY} if m in sys.modules))"
    return _in_a_fresh_python(code).split()


def test_import_is_lazy():
    """Not even torch is loaded before a name is used."""
    statement = "import captum_neuroinspect, sys; assert 'torch' not in sys.modules"
    assert _heavy_modules_after(statement) == []


def test_import_of_features_and_edit_is_light():
    """Nor do these load Captum, which itself imports matplotlib."""
    names = "FeatureSet, HeadEdit, collect_features, edit_head, find_head, probability_ratio"
    assert _heavy_modules_after(f"from captum_neuroinspect import {names}") == []


def test_import_of_attr_adds_only_what_captum_loads():
    loaded = _heavy_modules_after("from captum_neuroinspect import NeuronCounterfactual")
    assert set(loaded) <= {"matplotlib"}


def _modules_after(statement):
    return set(_in_a_fresh_python(f"{statement}\nimport sys\nprint(*sys.modules)").split())


def test_import_loads_a_handful_of_modules():
    """What an import costs is what it loads: its own version, and of others only Python's."""
    loaded = _modules_after("import captum_neuroinspect") - _modules_after("pass")
    own = {m for m in loaded if m.startswith("captum_neuroinspect")}
    core = {f"captum_neuroinspect._core{part}" for part in ("", ".lazy", ".version")}
    assert own == {"captum_neuroinspect", *core}
    others = {m.split(".")[0] for m in loaded} - {"captum_neuroinspect"}
    assert others <= set(sys.stdlib_module_names)
    assert len(loaded) < 60  # how many of Python's are loaded already depends on the environment


def test_attr_loads_nothing_but_its_own_modules_beside_captum():
    alone = _modules_after("import captum.attr, captum.log, tqdm, safetensors.torch, json")
    added = _modules_after("import captum_neuroinspect.attr") - alone
    others = {m for m in added if not m.startswith("captum_neuroinspect")}
    assert {m.split(".")[0] for m in others} <= set(sys.stdlib_module_names) | {"torch"}
    assert not [m for m in added if ".optvis" in m or ".edit" in m or ".inspection" in m]


@pytest.mark.parametrize("name", captum_neuroinspect.__all__)
def test_public_names_resolve(name):
    value = getattr(captum_neuroinspect, name)
    assert value.__name__ == name
    assert value.__doc__
    assert name in dir(captum_neuroinspect)


@pytest.mark.parametrize("folder", ["attr", "edit", "encoders", "optvis"])
def test_public_names_of_folders_resolve(folder):
    module = importlib.import_module(f"captum_neuroinspect.{folder}")
    assert module.__all__
    assert all(getattr(module, name) is not None for name in module.__all__)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        captum_neuroinspect.nothing  # noqa: B018
