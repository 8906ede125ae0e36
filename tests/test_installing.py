"""What an install brings along: nothing that changes a user's own packages, and known licences."""

from __future__ import annotations

from importlib.metadata import requires, version

import pytest
from licences import PACKAGE, PERMISSIVE, installed_by, licence_of
from packaging.requirements import Requirement

from captum_neuroinspect import __version__

LUCENT_ONLY = {"torch-lucent", "kornia", "ipython", "pytest", "coverage", "coveralls"}


pytestmark = pytest.mark.skipif(
    version(PACKAGE) != __version__, reason="what is installed is another version than what runs"
)


@pytest.mark.parametrize("extra", ["", "demo", "describe", "tables", "llm"])
def test_only_the_extras_with_lucent_bring_its_old_kornia(extra: str) -> None:
    assert not LUCENT_ONLY & set(installed_by(extra))
    if not extra:
        assert LUCENT_ONLY <= set(installed_by("lucent"))  # else the test would see nothing


def test_no_version_of_torch_kornia_or_numpy_is_pinned() -> None:
    """Lower bounds alone: what a user has stays, if it is not older."""
    found = {one.name: one for one in map(Requirement, requires(PACKAGE) or ()) if not one.marker}
    assert "kornia" not in found
    for name in ("torch", "torchvision", "numpy", "scipy", "pillow"):
        assert {one.operator for one in found[name].specifier} <= {">="}


def test_the_licences_of_the_demo_and_of_lucent_are_permissive() -> None:
    """Its table in docs/licences.md says what each of them asks for."""
    installed = installed_by("demo") | installed_by("lucent")
    licences = {name: licence_of(one) for name, one in installed.items()}
    others = {name: kind for name, kind in licences.items() if kind not in PERMISSIVE}
    # They come with torch's build for NVIDIA's processors; its build for CPUs has none of them.
    assert all(name.startswith(("nvidia-", "cuda-")) for name in others), others
    assert set(others.values()) <= {"NVIDIA"}
