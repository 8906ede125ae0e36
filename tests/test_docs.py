"""The Python blocks of docs/inspecting-your-photos.md run in order, on a few small photos."""

from pathlib import Path

import pytest
import torch
from helpers import SmallEncoder, python_blocks
from torchvision.transforms.v2.functional import to_pil_image

PAGE = Path(__file__).parent.parent / "docs" / "inspecting-your-photos.md"

# What a test must not wait for, against what it does instead.
_REPLACEMENTS = {
    'encoder="label-space"': "encoder=small_encoder",
    "n_steps=256": "n_steps=1, size=32, progress=False",
    'load_model("lite:0")': 'load_model("lite:0", image_size=64)',
    'weights="clothing.safetensors")': 'weights="clothing.safetensors", image_size=64)',
    "torch.rand(1, 3, 224, 224)": "torch.rand(1, 3, 64, 64)",
}


def _write_photos(folder: Path) -> None:
    """Noise with random labels, so that each class has mistakes."""
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "validation", "test"):
        for name in ("outwear", "shirt"):
            (folder / split / name).mkdir(parents=True)
            for i in range(24):
                picture = to_pil_image(torch.rand(3, 64, 64, generator=generator))
                picture.save(folder / split / name / f"{i}.png")


@pytest.mark.filterwarnings("ignore:the original head is returned")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"small_encoder": SmallEncoder()}

    for block in python_blocks(PAGE, _REPLACEMENTS):
        exec(compile(block, str(PAGE), "exec"), names)

    assert (tmp_path / "clothing.safetensors").is_file()
    assert "Inspection of outwear" in (tmp_path / "run" / "report.html").read_text("utf-8")
