from __future__ import annotations

from pathlib import Path

import pytest
from session_examples import QUICK, loaded, write_model, write_photos

from captum_neuroinspect._core.without_paths import source_without_paths, without_paths
from captum_neuroinspect.models import load_model


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/net.py", "net.py"),
        ("as ~/nets/net.py made them", "as net.py made them"),
        ("openclip:/data/w.pt", "openclip:w.pt"),
        (r"(D:\nets\w.pt)", "(w.pt)"),
        ("hf:microsoft/resnet-50, transformers microsoft/resnet-50",) * 2,
        ("openclip:ViT-B-32/openai",) * 2,
        ("1/2 of 3 / 4",) * 2,
        ("https://example.org/a/b",) * 2,
    ],
)
def test_only_absolute_paths_lose_their_folders(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_specs_with_paths(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "my (old) nets"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_without_paths(f"{folder}/net.py:f") == ("net.py:f",)
    for spec in (f"hf:{folder}", "hf:~/my (old) nets"):
        assert source_without_paths(spec, f"transformers {folder}") == (
            "hf:my (old) nets",
            "transformers my (old) nets",
        )
    assert source_without_paths(f"timm:local-dir:{folder}") == ("timm:local-dir:my (old) nets",)


@pytest.mark.parametrize("name", ["plain", "with (a) space, and more"])
def test_no_folder_of_this_machine_is_in_a_report(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    model = load_model(f"{write_model(folder)}:net", device="cpu")
    made = loaded(model, write_photos(folder / "photos"), work=folder / "work")
    found = made.explain()
    made.visualize(found.neurons(1), **QUICK)
    made.edit(method="equation8")
    page = made.report(folder / "run" / "report.html").read_text("utf-8")
    assert "model.py:net, as model.py:net made them" in page
    assert tmp_path.name not in page
    assert str(tmp_path.parent) not in page
