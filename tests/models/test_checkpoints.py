from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from captum_neuroinspect.models import load_model
from captum_neuroinspect.models._checkpoints import (
    Checkpoint,
    fill,
    split_weights,
    weights_for,
)

NET = """
from torch import nn

def net(n_classes=4):
    head = nn.Linear(24, n_classes)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), head)
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return f"{tmp_path / 'net.py'}:net"


def _net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(24, 4))


def _named(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in model.state_dict().items()}


def _same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "_orig_mod.", "net.", "backbone.encoder.", "model._orig_mod.module."],
)
@pytest.mark.parametrize("place", [(), ("state_dict",), ("net",), ("checkpoint", "weights")])
def test_any_prefix_and_any_place(
    spec: str, tmp_path: Path, prefix: str, place: tuple[str, ...]
) -> None:
    trained, path = _net(), tmp_path / "w.pt"
    content: Any = _named(prefix, trained)
    for key in reversed(place):
        content = {key: content, "epoch": 3, "best": torch.tensor(0.5), "optimizer": {"state": {}}}
    torch.save(content, path)
    assert _same(load_model(spec, weights=path).model, trained)


@pytest.mark.parametrize(
    "extra",
    [
        {"criterion.weight": torch.ones(5)},
        {"loss.pos_weight": torch.ones(1), "train_acc.correct": torch.ones(1)},
    ],
)
def test_tensors_outside_the_model_are_left_out_and_named(
    spec: str, tmp_path: Path, extra: dict[str, Tensor]
) -> None:
    trained, path = _net(), tmp_path / "w.ckpt"
    torch.save({"state_dict": {**_named("model.", trained), **extra}}, path)
    with pytest.warns(UserWarning, match=rf"left out.* {next(iter(extra))}") as said:
        loaded = load_model(spec, weights=path)
    assert len(said) == 1
    assert _same(loaded.model, trained)


def test_one_tensor_too_many_is_named_alone(spec: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({**_named("", _net()), "criterion.weight": torch.ones(5)}, path)
    with pytest.raises(ValueError, match=r"everything fits but criterion\.weight") as error:
        load_model(spec, weights=path)
    assert "missing" not in str(error.value)


def test_a_deeper_network_is_no_shallow_one(tmp_path: Path) -> None:
    """Every name of the one is in the other, with the same shape."""
    from torchvision.models import resnet34

    torch.save(resnet34(num_classes=3).state_dict(), tmp_path / "deep.pt")
    with pytest.raises(ValueError, match=r"everything fits but layer1\.2\.conv1\.weight"):
        load_model("torchvision:resnet18", weights=tmp_path / "deep.pt")


def test_what_is_missing_and_what_lies_beside_it(spec: str, tmp_path: Path) -> None:
    state = _named("body.", _net())
    state["head.weight"] = state.pop("body.3.weight")
    torch.save(state, tmp_path / "w.pt")
    message = r"1 missing \(3\.weight\).*outside 'body\.' the file has head\.weight"
    with pytest.raises(ValueError, match=message):
        load_model(spec, weights=tmp_path / "w.pt")


def test_counters_of_torch_and_of_profilers_do_not_matter(spec: str, tmp_path: Path) -> None:
    trained = _net()
    state = {n: t for n, t in _named("module.", trained).items() if "batches" not in n}
    state |= {"module.0.total_ops": torch.zeros(1), "module.total_params": torch.zeros(1)}
    torch.save({**state, "n_averaged": torch.tensor(3)}, tmp_path / "w.pt")
    assert _same(load_model(spec, weights=tmp_path / "w.pt").model, trained)


# Several sets of weights


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        (("state_dict", "state_dict_ema"), ("", "")),  # timm
        (("model", "model_ema"), ("", "module.")),  # torchvision's references
        (("state_dict", "state_dict"), ("model.", "model_ema.")),
        (("state_dict", "state_dict"), ("student.", "teacher.")),
        (("model", "ema_state_dict"), ("module.", "")),
    ],
)
def test_an_average_beside_the_weights(
    spec: str, tmp_path: Path, layout: tuple[str, str], names: tuple[str, str]
) -> None:
    raw, average, path = _net(0), _net(1), tmp_path / "last.pth"
    content: dict[str, Any] = {"epoch": 9}
    for place, prefix, model in zip(layout, names, (raw, average), strict=True):
        content.setdefault(place, {}).update(_named(prefix, model))
    torch.save(content, path)
    with pytest.warns(UserWarning, match=r"are taken; to take others give .*::NAME") as said:
        assert _same(load_model(spec, weights=path).model, raw)
    assert len(said) == 1
    other = "teacher" if "teacher." in names else "ema"
    for given in (other, other.upper()):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = load_model(spec, weights=f"{path}::{given}")
        assert _same(loaded.model, average)
    assert loaded.weights.startswith("checkpoint last.pth (")
    with pytest.raises(ValueError, match=r"last\.pth holds the weights '.*expected one of these"):
        load_model(spec, weights=f"{path}::nothing")


def test_several_networks_are_not_guessed_at(spec: str, tmp_path: Path) -> None:
    path = tmp_path / "two.pt"
    save_file(
        {**_named("left.", _net(0)), **_named("right.", _net(1))}, path.with_suffix(".safetensors")
    )
    with pytest.raises(ValueError, match=r"holds 2 sets of weights .*\('left', 'right'\)"):
        load_model(spec, weights=path.with_suffix(".safetensors"))
    chosen = load_model(spec, weights=f"{path.with_suffix('.safetensors')}::right")
    assert _same(chosen.model, _net(1))


def test_a_file_may_have_colons_in_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a::b.pt"
    path.write_bytes(b"")
    assert split_weights(str(path)) == (path, None)
    assert split_weights(path) == (path, None)
    assert split_weights(f"{path}::ema") == (path, "ema")
    with pytest.raises(FileNotFoundError, match=r"gone\.pt': no such file"):
        load_model("torchvision:resnet18", weights=tmp_path / "gone.pt")
    with pytest.raises(FileNotFoundError, match=r"gone\.pt': no such file"):
        load_model("torchvision:resnet18", weights=f"{tmp_path}/gone.pt::ema")


# Numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(
    spec: str, tmp_path: Path, dtype: torch.dtype
) -> None:
    trained = _net().to(dtype)
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    loaded = load_model(spec, weights=tmp_path / "w.pt")
    assert all(p.dtype == torch.float32 for p in loaded.model.parameters())
    assert torch.equal(loaded.model[3].weight, trained[3].weight.float())  # type: ignore[index]
    name = str(dtype).removeprefix("torch.")
    assert loaded.weights == f"checkpoint w.pt, {name} as float32"


@pytest.mark.filterwarnings("ignore:.*(nested|quantize|Sparse|TypedStorage)")
@pytest.mark.parametrize(
    "odd",
    [
        lambda t: t.to_sparse(),
        lambda t: t.to("meta"),
        lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
        lambda t: torch.nested.nested_tensor([t[0, 0], t[0, 0, :1]]),
        lambda t: t.to(torch.complex64),
        lambda t: (100 * t).to(torch.int8),
    ],
)
def test_tensors_that_are_no_plain_weights_are_named(
    spec: str, tmp_path: Path, odd: Callable[[Tensor], Tensor]
) -> None:
    path, state = tmp_path / "odd.pt", _net().state_dict()
    torch.save({**state, "0.weight": odd(state["0.weight"])}, path)
    with pytest.raises(ValueError, match=r"odd\.pt has tensors that are sparse.*\(0\.weight\)"):
        load_model(spec, weights=path)


def test_what_training_scripts_keep_beside_the_weights(spec: str, tmp_path: Path) -> None:
    trained = _net()
    kept = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "n": np.int64(3)}
    torch.save({"state_dict": trained.state_dict(), **kept}, tmp_path / "w.pt")
    if torch.__version__ >= "2.6":
        assert _same(load_model(spec, weights=tmp_path / "w.pt").model, trained)


class Tied(nn.Module):
    """One tensor under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.other = self.one


def test_a_tensor_of_two_names_may_be_kept_once() -> None:
    trained, model = Tied(), Tied()
    state = {n: t for n, t in trained.state_dict().items() if n.startswith("one")}
    checkpoint = Checkpoint(Path("w.safetensors"), {"": state})
    fill(model, weights_for(checkpoint, model), checkpoint.path, "tied")
    assert _same(model, trained)


@pytest.mark.parametrize("share", [0.02, 0.25, 0.5, 0.75, 0.9, 0.99])
def test_a_cut_off_file_is_named(spec: str, tmp_path: Path, share: float) -> None:
    torch.save(_net().state_dict(), tmp_path / "whole.pt")
    raw = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(ValueError, match=r"cut\.pt (cannot be read|holds Python objects)"):
        load_model(spec, weights=tmp_path / "cut.pt")


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04" + bytes(2000), b"noise" * 400])
def test_what_torch_says_of_a_bad_file_is_not_cut_in_a_sentence(
    spec: str, tmp_path: Path, raw: bytes
) -> None:
    (tmp_path / "bad.pt").write_bytes(raw)
    with pytest.raises(ValueError, match=r"bad\.pt ") as caught:
        load_model(spec, weights=tmp_path / "bad.pt")
    assert "If you are seeing" not in str(caught.value)
    assert ": )" not in str(caught.value)


# torchvision's auxiliary heads


@pytest.mark.parametrize("has_aux", [True, False])
def test_googlenet_and_inception_as_fine_tuned(tmp_path: Path, has_aux: bool) -> None:
    from torchvision.models import googlenet

    options = {"init_weights": False, "transform_input": True, "aux_logits": has_aux}
    trained = googlenet(weights=None, num_classes=5, **options).eval()
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 2.0)  # or a random network forgets its input
    torch.save(trained.state_dict(), tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=r"googlenet is taken with transform_input=True"):
        loaded = load_model("torchvision:googlenet", weights=tmp_path / "w.pt")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(images), trained(images))
    assert set(loaded.model.state_dict()) == set(trained.state_dict())
    random = load_model("torchvision:googlenet", weights="random", n_classes=3).model
    assert not random.transform_input  # as torchvision makes it


def test_half_precision_folders_of_hugging_face(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=3
    )
    made = transformers.ResNetForImageClassification(config).bfloat16()
    made.save_pretrained(tmp_path)
    transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    loaded = load_model(f"hf:{tmp_path}")
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.weights.endswith(", stored in bfloat16, computed in float32")
    assert loaded.on_pixels()(torch.rand(1, 3, 32, 32)).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("kept", "names"),
    [
        (
            {"classes": ["b", "a", "c", "d"], "class_to_idx": {"a": 0, "b": 1, "c": 2, "d": 3}},
            "abcd",
        ),
        ({"idx_to_class": {3: "d", 2: "c", 1: "b", 0: "a"}}, "abcd"),
        ({"id2label": {n: f"LABEL_{n}" for n in range(4)}}, None),
        ({"id2label": {n: f"LABEL_{n}" for n in range(4)}, "idx_to_class": list("abcd")}, "abcd"),
    ],
)
def test_class_names_are_those_that_made_the_labels(
    spec: str, tmp_path: Path, kept: dict[str, Any], names: str | None
) -> None:
    torch.save({"state_dict": _net().state_dict(), **kept}, tmp_path / "named.pt")
    loaded = load_model(spec, weights=tmp_path / "named.pt")
    assert loaded.class_names == (None if names is None else tuple(names))
