"""What an encoder reads from illusions: the class that they were asked for, or the neuron."""

from __future__ import annotations

import pytest
import torch
from colour_encoder import ColourEncoder
from torch import Tensor, nn

from captum_neuroinspect import describe_neurons, render_illusions
from captum_neuroinspect.optvis import Illusions

COLOURS = ("red", "green", "blue")
NEURONS, CLASS = [0, 2], 1  # neurons of red and blue, in the class green


class Colours(nn.Module):
    """Neuron j answers to colour j; class j answers to it much more, by other neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)
        self.head = nn.Linear(6, 3)
        colours = 1.5 * torch.eye(3) - 0.5
        with torch.no_grad():
            self.conv.weight.copy_(torch.cat([0.3 * colours, colours])[:, :, None, None])
            self.conv.bias.fill_(0.5)
            self.head.weight.copy_(torch.cat([torch.zeros(3, 3), 4 * torch.eye(3)], 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(images).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Colours:
    return Colours().eval()


def rendered(model: Colours, classes: int | None, encoder: ColourEncoder | None) -> Illusions:
    return render_illusions(
        *(model, NEURONS, classes),
        encoder=encoder,
        class_names=COLOURS,
        size=12,
        n_steps=30,
        gamma=None if classes is None else 1.0,
        progress=False,
    )


def first_words(made: Illusions, background: Tensor | None = None) -> list[str]:
    pictures = {neuron: image[None] for neuron, image in zip(NEURONS, made.images, strict=True)}
    found = describe_neurons(pictures, ColourEncoder(), phrases=COLOURS, background=background)
    return [one.phrases[0] for one in found]


def test_the_class_is_read_back_from_illusions_that_its_word_guided(model: Colours) -> None:
    made = rendered(model, CLASS, ColourEncoder())
    blank = torch.full((1, 3, 12, 12), 0.5)
    assert first_words(made, blank) == ["green", "green"]


def test_the_class_is_gone_when_its_other_illusions_are_the_background(model: Colours) -> None:
    made = rendered(model, CLASS, ColourEncoder())
    assert first_words(made, made.images) == ["red", "blue"]


def test_illusions_without_class_and_encoder_say_the_neuron(model: Colours) -> None:
    blank = torch.full((1, 3, 12, 12), 0.5)
    assert first_words(rendered(model, None, None), blank) == ["red", "blue"]
