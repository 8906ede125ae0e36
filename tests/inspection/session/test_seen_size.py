"""At which size a session looks at tensors."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms.v2.functional import to_pil_image

from captum_neuroinspect import NeuroInspect, collect_features
from captum_neuroinspect.models import load_model
from captum_neuroinspect.photos import Photos


class Stripes(nn.Module):
    """Tells narrow stripes from wide ones, which no resize leaves as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 2)
        self.fc.weight.data = torch.tensor([[40.0], [-40.0]])
        self.fc.bias.data = torch.tensor([-30.0, 30.0])

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))[:, None])


def _stripes(height: int, width: int, n: int = 20) -> tuple[Tensor, Tensor]:
    x = torch.arange(width)
    kinds = [(x % 2).float(), (x // 2 % 2).float()]
    labels = torch.arange(n) % 2
    images = torch.stack([kinds[i].expand(3, height, width) for i in labels])
    # No two are the same photo.
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return 0.9 * images + 0.05 * noise, labels


class Mappings(Dataset[Any]):
    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": self.images[index], "label": int(self.labels[index])}


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize(
    "form",
    [
        lambda images, labels: (images, labels),
        lambda images, labels: ((images * 255).to(torch.uint8), labels),
        lambda images, labels: TensorDataset(images, labels),
        lambda images, labels: DataLoader(TensorDataset(images, labels), batch_size=4),
        Mappings,
        lambda images, labels: Photos.of((images, labels), image_size=tuple(images.shape[-2:])),
    ],
)
def test_tensors_are_judged_at_the_size_given(form: Any, size: tuple[int, int]) -> None:
    images, labels = _stripes(*size)
    net = Stripes().eval()
    assert collect_features(net, (images, labels), progress=False).accuracy() == 1
    session = NeuroInspect(net, progress=False)
    assert session.load(form(images, labels)).accuracy() == 1
    assert session.model.view.size == size
    image = session.data.inspected.photos.image(3)
    torch.testing.assert_close(image, images[3], rtol=0, atol=1 / 255)
    # The next ones are judged at theirs.
    assert session.load(_stripes(48, 48)).accuracy() == 1
    assert session.model.image_size == 48


def test_photos_are_looked_at_in_224_pixels_where_nobody_says() -> None:
    images, labels = _stripes(30, 40, 8)
    pictures = [(to_pil_image(i), int(n)) for i, n in zip(images, labels, strict=True)]
    session = NeuroInspect(Stripes(), progress=False)
    session.load(pictures)
    assert session.model.image_size == 224


def test_enlarging_tensors_is_said_where_a_library_wants_more() -> None:
    loaded = load_model("torchvision:resnet18", weights="random", n_classes=2)
    session = NeuroInspect(loaded, progress=False)
    data = _stripes(32, 32, 8)
    with pytest.warns(UserWarning, match="tensors of 32 x 32 pixels are enlarged to 224 x 224"):
        session.load(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NeuroInspect(loaded, image_size=64, progress=False).load(data)  # as asked for
        NeuroInspect(loaded, image_size=32, progress=False).load(data)
