from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_neuroinspect.models import load_model

HEAD = "from torch import nn\n\ndef head(n):\n    return nn.Linear(3, n)\n"
CALL = "\n\ndef make(n_classes=3):\n    return head(n_classes)\n"


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    "files",
    [
        {"pkg/__init__.py": "", "pkg/blocks.py": HEAD, "pkg/net.py": "from .blocks import head"},
        {"pkg/blocks.py": HEAD, "pkg/net.py": "from .blocks import head"},
        {"pkg/__init__.py": HEAD, "pkg/net.py": "from . import head"},
        {
            "pkg/__init__.py": "from . import net", "pkg/blocks.py": HEAD,
            "pkg/net.py": "from .blocks import head",
        },
        {
            "pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/blocks.py": HEAD,
            "pkg/sub/net.py": "from ..blocks import head",
        },
        {
            "pkg/__init__.py": "", "pkg/blocks.py": HEAD,
            "pkg/net.py": "from pkg.blocks import head",
        },
        {
            "pkg/__init__.py": "", "pkg/deep/__init__.py": "", "pkg/deep/blocks.py": HEAD,
            "pkg/net.py": "from .deep.blocks import head",
        },
    ],
)  # fmt: skip
def test_packages_with_relative_imports(
    tmp_path: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"  # of its own each time, as `pkg` may be remembered
    net = next(name for name in files if name.endswith("net.py"))
    _write(root, {**files, net: files[net] + CALL})
    path = list(sys.path)
    loaded = load_model(f"{root / net}:make", weights="random", n_classes=5)
    assert isinstance(loaded.model, nn.Linear)
    assert loaded.model.out_features == 5
    assert sys.path == path
    for name in [name for name in sys.modules if name == "pkg" or name.startswith("pkg.")]:
        monkeypatch.delitem(sys.modules, name)


def test_a_package_that_changed_is_run_again(tmp_path: Path) -> None:
    files = {"pkg/blocks.py": HEAD, "pkg/net.py": "from .blocks import head" + CALL}
    _write(tmp_path, files)
    spec = f"{tmp_path / 'pkg' / 'net.py'}:make"
    assert load_model(spec).model.in_features == 3
    _write(tmp_path, {"pkg/blocks.py": HEAD.replace("Linear(3,", "Linear(12345,")})
    assert load_model(spec).model.in_features == 12345


def test_an_import_from_above_the_package_says_what_to_do(tmp_path: Path) -> None:
    _write(tmp_path, {"blocks.py": HEAD, "pkg/net.py": "from ..blocks import head" + CALL})
    with pytest.raises(ValueError, match=r"imports from above .*pkg, which has no __init__\.py"):
        load_model(f"{tmp_path / 'pkg' / 'net.py'}:make")


def test_a_neighbour_that_is_missing_is_named(tmp_path: Path) -> None:
    _write(tmp_path, {"pkg/net.py": "from .gone import head" + CALL})
    with pytest.raises(ImportError, match="gone"):
        load_model(f"{tmp_path / 'pkg' / 'net.py'}:make")


def test_nobody_knows_the_size_of_a_file(tmp_path: Path) -> None:
    _write(tmp_path, {"net.py": HEAD + CALL})
    spec = f"{tmp_path / 'net.py'}:make"
    assert load_model(spec).sized_by == "nobody"
    made = load_model(spec, image_size=32, resize="squash")
    assert (made.sized_by, made.view.said) == ("user", "squashed to 32 x 32 pixels")
    assert torch.equal(made.preprocess(torch.ones(1)), torch.ones(1))
