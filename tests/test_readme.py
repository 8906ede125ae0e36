"""The README's Python blocks run in order, on a small network and without a download."""

from pathlib import Path

import pytest
import torch
import torchvision
from helpers import SmallEncoder, python_blocks

from captum_neuroinspect import FeatureSet, collect_features
from captum_neuroinspect.experiments.decision_layer import train_decision_layer

README = Path(__file__).parent.parent / "README.md"

# What a test must not do (download, wait for 450 steps) against what it does instead.
_REPLACEMENTS = {
    'torchvision.models.resnet18(weights="DEFAULT").eval()': "small_model",
    "LabelSpaceEncoder.pretrained().softened()": "small_encoder",
    'torchvision.models.ResNet18_Weights.DEFAULT.meta["categories"]': (
        "[f'thing {i}' for i in range(8)]"
    ),
    "preprocess=normalize,\n)": "preprocess=normalize, size=64, n_steps=2,\n)",
    "GuidedModel(model, encoder, preprocess=normalize)": (
        "GuidedModel(model, encoder, preprocess=normalize, example=photos[:2])"
    ),
    "illusion_image(224)": "illusion_image(64)",
    "show_image=False,": "show_image=False, thresholds=(2,), fixed_image_size=64,",
}


@pytest.fixture
def names() -> dict[str, object]:
    """What the README takes for granted: photos, labels, and a model that errs on some."""
    torch.manual_seed(0)
    photos, labels = torch.rand(40, 3, 32, 32), torch.arange(40) % 8
    model = torchvision.models.resnet18(num_classes=8).eval()
    found = collect_features(model, (photos, labels), progress=False)
    head = train_decision_layer(found, found, n_epochs=60, lr=0.05)
    model.fc.load_state_dict(head.state_dict())
    right: FeatureSet = found.with_head(head)
    assert right.accuracy() > 0.8
    wrong = labels == 5
    labels = torch.where(wrong & (torch.arange(40) % 16 > 8), 3, labels)
    return {"photos": photos, "labels": labels, "small_model": model,
            "small_encoder": SmallEncoder()}  # fmt: skip


def test_readme_blocks_run(
    names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for block in python_blocks(README, _REPLACEMENTS):
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "illusions.png").stat().st_size > 0
    assert (tmp_path / "edit.safetensors").stat().st_size > 0


def test_readme_has_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert 'pip install ".[demo]" && neuroinspect demo' in text
    assert 'pip install ".[test]" && pytest' in text
