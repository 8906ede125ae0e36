"""Saved models: they load where the old checkpoint did, and are there only if they are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ConvNet, left_unchanged
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from captum_neuroinspect.models import load_model, saving
from captum_neuroinspect.models.saving import original_checkpoint, save_model

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
STATES = ("state_dict", "model")


class Aliased(nn.Module):
    """A module under two names, and two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.features = nn.Sequential(self.stem, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(self.one(self.features(x)).relu()))


def _net(make: Any = ConvNet, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return make().eval()


def _edited(net: Any) -> Any:
    """The same with another head."""
    with torch.no_grad():
        net.head.weight.add_(torch.randn(net.head.weight.shape))
    return net


def _unwrapped(content: Any) -> dict[str, Tensor]:
    for key in STATES:
        content = content.get(key, content)
    return content


def _read(path: Path) -> Any:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("make", [ConvNet, Aliased])
def test_without_an_original_all_names_are_there(make, suffix, tmp_path):
    net = _net(make)
    with left_unchanged(net):
        saved = save_model(net, tmp_path / f"new{suffix}", example=IMAGES)
    assert saved.n_tensors == len(net.state_dict())
    other = _net(make, seed=1)
    other.load_state_dict(_read(saved.path), strict=True)
    assert torch.equal(other(IMAGES), net(IMAGES))
    assert "tensors in float32; read again and compared" in str(saved)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "net.backbone."])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_the_old_names_dtype_and_place_are_kept(suffix, prefix, key, tmp_path):
    net = _net(Aliased)
    state = {f"{prefix}{name}": value.half() for name, value in net.state_dict().items()}
    state |= {"loss.weight": torch.ones(3)}
    beside = {"epoch": 3, "classes": ["a", "b", "c"], "optimizer": {"0": torch.zeros(2)}}
    torch.save(state if key is None else {key: state, **beside}, tmp_path / "old.pth")
    net = _edited(_net(Aliased))
    with left_unchanged(net):
        saved = save_model(
            net, tmp_path / f"new{suffix}", like=tmp_path / "old.pth", example=IMAGES
        )
    found = _read(saved.path)
    if key is not None and suffix == ".pth":
        assert {name: found[name] for name in found if name != key} == {
            "epoch": 3,
            "classes": ["a", "b", "c"],
        }, "what is plain stays, the state of the training goes"
        found = found[key]
    assert found.keys() == state.keys()
    assert torch.equal(found["loss.weight"], torch.ones(3))
    assert {value.dtype for name, value in found.items() if name != "loss.weight"} == {
        torch.float16
    }
    assert torch.equal(found[f"{prefix}head.weight"], net.head.weight.half())
    assert "in float16 and float32, named and rounded as in old.pth" in str(saved)


def test_a_name_that_the_old_file_lacks_stays_away(tmp_path):
    """What safetensors writes of shared tensors has one name of each."""
    net = _net(Aliased)
    state = {name: t for name, t in net.state_dict().items() if not name.startswith("features")}
    del state["two.weight"]
    save_file(state, tmp_path / "old.safetensors", metadata={"format": "pt", "note": "kept"})
    saved = save_model(
        _edited(net), tmp_path / "new.safetensors", like=tmp_path / "old.safetensors",
        example=IMAGES,
    )  # fmt: skip
    assert load_file(saved.path).keys() == state.keys()
    with safe_open(saved.path, "pt") as file:
        assert file.metadata() == {"format": "pt", "note": "kept"}
    other = _net(Aliased, seed=1)
    other.load_state_dict(load_file(saved.path), strict=False)
    assert torch.equal(other(IMAGES), net(IMAGES))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("used", ["raw", "averaged"])
def test_of_raw_and_averaged_weights_those_in_use_are_changed(nested, used, tmp_path):
    nets = {"raw": _net(), "averaged": _net(seed=1)}
    content: Any = {name: net.state_dict() for name, net in nets.items()}
    if not nested:
        content = {f"{n}.{key}": t for n, state in content.items() for key, t in state.items()}
    torch.save(content, tmp_path / "old.pth")
    net = _edited(nets[used])
    save_model(net, tmp_path / "new.pth", like=tmp_path / "old.pth", example=IMAGES)
    found = torch.load(tmp_path / "new.pth")
    mine = found[used]["head.weight"] if nested else found[f"{used}.head.weight"]
    assert torch.equal(mine, net.head.weight)
    if not nested:
        (other,) = {"raw", "averaged"} - {used}
        assert torch.equal(found[f"{other}.head.weight"], nets[other].head.weight)


def test_a_computed_weight_is_saved_by_its_parts(tmp_path):
    def make() -> ConvNet:
        net = ConvNet()
        net.head = parametrizations.weight_norm(net.head)
        return net

    net = _net(make)
    torch.save(net.state_dict(), tmp_path / "old.pth")
    with torch.no_grad():
        net.head.weight = torch.randn(4, 16)
    saved = save_model(net, tmp_path / "new.pth", like=tmp_path / "old.pth", example=IMAGES)
    other = _net(make, seed=1)
    other.load_state_dict(torch.load(saved.path), strict=True)
    assert torch.equal(other(IMAGES), net(IMAGES))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_a_wrapper_leaves_no_prefix(wrap, tmp_path):
    net = _net()
    saved = save_model(wrap(net), tmp_path / "new.pth", example=IMAGES)
    assert torch.load(saved.path).keys() == net.state_dict().keys()


def test_a_model_in_half_precision_and_nan(tmp_path):
    net = _net().bfloat16()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    saved = save_model(net, tmp_path / "new.safetensors", example=IMAGES)
    assert saved.dtypes == (torch.bfloat16,)


def test_a_file_that_reads_otherwise_is_not_kept(tmp_path, monkeypatch):
    path = tmp_path / "new.pth"
    path.write_bytes(b"before")
    net, write = _net(), saving._write

    def damaged(change: Any) -> Any:
        def act(path: Path, tensors: dict[str, Tensor], original: Any) -> None:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
            change(tensors)
            write(path, tensors, original)

        return act

    for change, message in (
        (lambda t: t["head.weight"].view(-1)[0].add_(1), "has another 'head.weight'"),
        (lambda t: t.update({"head.bias": t["head.bias"].double()}), "has another 'head.bias'"),
        (lambda t: t.pop("head.bias"), "has other names than were written: 'head.bias'"),
    ):
        monkeypatch.setattr(saving, "_write", damaged(change))
        with left_unchanged(net), pytest.raises(RuntimeError, match=message):
            save_model(net, path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_logits_that_differ_are_not_kept(tmp_path):
    """A model whose answers depend on more than its weights: the file does not hold it."""
    net = _net()
    bias = iter([0.0, 1.0, 2.0])
    net.register_forward_hook(lambda _, __, output: output + next(bias))
    with pytest.raises(RuntimeError, match="gives other logits than the model: not kept"):
        save_model(net, tmp_path / "new.pth", example=IMAGES)
    assert not list(tmp_path.iterdir())


def test_rounding_that_changes_the_answers_is_said(tmp_path):
    """float8 or float16 that overflows is no copy of the model."""
    net = _net()
    state = {name: t.half() for name, t in net.state_dict().items()}
    torch.save(state, tmp_path / "old.pth")
    with torch.no_grad():
        net.head.weight.mul_(1e6)
    with left_unchanged(net), pytest.raises(RuntimeError, match="gives other logits"):
        save_model(net, tmp_path / "new.pth", like=tmp_path / "old.pth", example=IMAGES)


class Talking(ConvNet):
    def get_extra_state(self) -> dict[str, int]:
        return {"n": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        pass


def test_bad_arguments(tmp_path):
    net, old = _net(), tmp_path / "old.pth"
    torch.save(_net(Aliased).state_dict(), old)
    for call, error, message in (
        (lambda: save_model(net, "new.bin"), ValueError, r"path='new\.bin', expected a name end"),
        (lambda: save_model(net, tmp_path / "new.pth", like=old), ValueError, "no checkpoint of t"),
        (
            lambda: save_model(net, tmp_path / "new.pth", like=tmp_path / "none.pth"),
            FileNotFoundError,
            "no such file",
        ),
        (lambda: save_model(_net(Talking), tmp_path / "n.pth"), TypeError, "'_extra_state', which"),
    ):
        with pytest.raises(error, match=message):
            call()
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        save_model(net, tmp_path / "folder.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        save_model(net, tmp_path / "new.pth", like=tmp_path / "list.pth")


def test_the_file_that_a_model_came_from(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    assert original_checkpoint("torchvision:resnet18", weights) == weights
    assert original_checkpoint("torchvision:resnet18", str(weights)) == weights
    for spec in (f"hf:{tmp_path}", f"timm:local-dir:{tmp_path}"):
        assert original_checkpoint(spec, None) == weights
        assert original_checkpoint(spec, "DEFAULT") == weights
        assert original_checkpoint(spec, "random") is None
    assert original_checkpoint("timm:resnet18", "a1_in1k") is None


@pytest.fixture
def vit_folder(tmp_path: Path) -> Path:
    """A model of transformers, whose files have other names than its modules."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=8,
        patch_size=4,
        num_labels=3,
    )
    folder = tmp_path / "vit"
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["new.safetensors", "new.pth"])
def test_a_folder_of_transformers_keeps_the_names_of_its_file(
    vit_folder: Path, tmp_path: Path, name: str
) -> None:
    old = vit_folder / "model.safetensors"
    model = load_model(f"hf:{vit_folder}").model
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    save_model(model, tmp_path / name, like=old, example=IMAGES)
    before, after = load_file(old), _read(tmp_path / name)
    assert before.keys() == after.keys()
    changed = {key for key, tensor in before.items() if not torch.equal(tensor, after[key])}
    assert changed == {"classifier.weight"}


def test_a_file_of_transformers_is_read_by_the_names_it_has(
    vit_folder: Path, tmp_path: Path
) -> None:
    model = load_model(f"hf:{vit_folder}").model
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape))
    save_model(model, tmp_path / "new.safetensors", like=vit_folder / "model.safetensors")
    trained = {
        f"model.{name}": value for name, value in load_file(tmp_path / "new.safetensors").items()
    }
    torch.save({"state_dict": trained}, tmp_path / "wrapped.ckpt")
    for name in ("new.safetensors", "wrapped.ckpt"):
        loaded = load_model(f"hf:{vit_folder}", weights=tmp_path / name).model
        assert all(
            torch.equal(value, loaded.state_dict()[key])
            for key, value in model.state_dict().items()
        )


def test_other_sets_of_weights_are_left_out_and_said(tmp_path: Path) -> None:
    net, old = _net(), tmp_path / "old.pth"
    state = net.state_dict()
    average = {name: value + 1 for name, value in state.items()}
    beside = {"ema": {"weights": average}, "epoch": 3, "optimizer": {"state": average}}
    torch.save({"model": {"net": state, "other": average}, **beside}, old)
    saved = save_model(net, tmp_path / "new.pth", like=old)
    assert saved.left_out == ("model.other", "ema", "optimizer")
    assert set(torch.load(saved.path)) == {"model", "epoch"}
    words = "Of old.pth it leaves out 'model.other', 'ema', 'optimizer', which is of the old"
    assert words in str(saved)
    assert save_model(net, tmp_path / "plain.pth").left_out == ()
    torch.save(state | {"lr": 0.1}, old)
    assert save_model(net, tmp_path / "flat.pth", like=old).left_out == ()
    torch.save({**state, "ema": average}, old)
    assert save_model(net, tmp_path / "beside.pth", like=old).left_out == ("ema",)
