"""A short use of the installed package, wherever it is installed: `python .ci/smoke.py PLACE`.

PLACE is the folder that the package has to be imported from, so that it is not the checkout.
"""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

import captum_neuroinspect


def main(place: Path) -> None:
    """Import everything, then inspect, edit and report with the command."""
    found = Path(captum_neuroinspect.__file__).resolve()
    assert place.resolve() in found.parents, f"{found} was imported, expected one in {place}"
    assert captum_neuroinspect.__version__ == version("captum-neuroinspect")
    _import_all()
    with tempfile.TemporaryDirectory() as folder:
        photos = _photos(Path(folder) / "photos")
        model = _model(Path(folder) / "model.py")
        run = Path(folder) / "run"
        said = _command("--version")
        assert said.split() == ["captum-neuroinspect", captum_neuroinspect.__version__], said
        _command("inspect", "--model", f"{model}:net", "--data", photos, "--out", run,
                 "--image-size", 16, "--steps", 2, "--encoder", "none", "--quiet")  # fmt: skip
        _command("edit", "--run", run, "--method", "equation8", "--quiet")
        page = (run / "report.html").read_text(encoding="utf-8")
        assert "</html>" in page
        assert captum_neuroinspect.__version__ in page
        _command("clean", run, "--yes")
        assert not list((run / "work").rglob("*.safetensors"))
        assert (run / "report.html").exists()


def _import_all() -> None:
    """Every module that has public names, and each of these names."""
    for module in pkgutil.walk_packages(captum_neuroinspect.__path__, "captum_neuroinspect."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            face = importlib.import_module(module.name)
            for name in getattr(face, "__all__", ()):
                getattr(face, name)
    for name in captum_neuroinspect.__all__:
        getattr(captum_neuroinspect, name)


def _photos(folder: Path) -> Path:
    """Squares of two colours that overlap, so that some are taken for the other class."""
    rng = np.random.default_rng(0)
    for number in range(80):
        name = ("blue", "red")[number % 2]
        pixels = rng.integers(0, 120, (16, 16, 3))
        pixels[..., 0 if name == "red" else 2] += rng.integers(0, 60)
        path = folder / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype("uint8")).save(path)
    return folder


def _model(path: Path) -> Path:
    path.write_text(
        "import torch\n"
        "from torch import nn\n\n"
        "def net(n_classes=2):\n"
        "    torch.manual_seed(0)\n"
        "    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), "
        "nn.Flatten())\n"
        "    return nn.Sequential(body, nn.Linear(8, n_classes)).eval()\n",
        encoding="utf-8",
    )
    return path


def _command(*words: object) -> str:
    # The script that the wheel installed, beside the Python that runs.
    command = [str(Path(sys.executable).with_name("neuroinspect")), *map(str, words)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tempfile.gettempdir())
    assert run.returncode == 0, f"{' '.join(command)}\n{run.stdout}{run.stderr}"
    return run.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
