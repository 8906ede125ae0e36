import subprocess
import sys

import pytest

from captum_neuroinspect import optvis


@pytest.mark.parametrize("name", optvis.__all__)
def test_public_names(name):
    assert getattr(optvis, name).__name__ == name or name in {
        "unit_mean",
        "class_conditional",
        "clip_illusion",
    }
    assert name in dir(optvis)


def test_unknown_names():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        optvis.nothing  # noqa: B018


def test_importing_and_using_it_loads_nothing_heavy():
    heavy = ["lucent", "kornia", "open_clip", "matplotlib", "transformers"]
    code = (
        "import sys; from captum_neuroinspect import optvis\n"
        "optvis.render_illusions, optvis.random_affine\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
