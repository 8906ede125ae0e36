from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_neuroinspect.encoders import DEFAULT_TEMPLATES, class_embeddings, clip_templates

_VECTORS = {
    "a cat": [2.0, 0.0],
    "no cat": [0.0, 1.0],
    "a dog": [0.0, 5.0],
    "no dog": [0.0, 0.5],
}


class _TextEncoder:
    """Looks vectors up, and keeps each call."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors
        self.calls: list[list[str]] = []

    def __call__(self, texts: list[str]) -> Tensor:
        self.calls.append(list(texts))
        return torch.tensor([self.vectors[text] for text in texts])


def test_mean_of_normalised_prompts_in_one_call():
    encode = _TextEncoder(_VECTORS)
    embeddings = class_embeddings(encode, ["cat", "dog"], ["a {}", "no {}"])
    # cat: the mean of (1, 0) and (0, 1); its length 2 and 1 before do not count.
    torch.testing.assert_close(embeddings, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))
    assert encode.calls == [["a cat", "no cat", "a dog", "no dog"]]


def test_default_templates_are_distinct_sentences_with_a_place():
    assert len(set(DEFAULT_TEMPLATES)) == len(DEFAULT_TEMPLATES) >= 3
    assert all(template.count("{}") == 1 for template in DEFAULT_TEMPLATES)


def test_names_and_templates_may_contain_braces():
    texts: list[str] = []

    def encode(prompts: list[str]) -> Tensor:
        texts.extend(prompts)
        return torch.ones(len(prompts), 2)

    class_embeddings(encode, ["set {1}"], ["{a} {}"])
    assert texts == ["{a} set {1}"]


def test_an_encoder_that_is_a_module_serves():
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Identity()

        def encode_image(self, images: Tensor) -> Tensor:
            return images

        def encode_text(self, texts: list[str]) -> Tensor:
            return torch.tensor([[float(len(text)), 1.0] for text in texts])

    expected = F.normalize(torch.tensor([[3.0, 1.0], [5.0, 1.0]]), dim=-1)
    torch.testing.assert_close(class_embeddings(Encoder(), ["cat", "horse"], ["{}"]), expected)


@pytest.mark.parametrize(
    ("names", "templates", "error", "message"),
    [
        ([], ["{}"], ValueError, "class_names is empty"),
        (["cat"], [], ValueError, "templates is empty"),
        (["cat"], ["a {}", "a cat"], ValueError, "'a cat'.*where the name goes"),
        ("cat", ["{}"], TypeError, "class_names='cat' is one string"),
        (["cat"], "{}", TypeError, "templates='{}' is one string"),
        (["cat", 7], ["{}"], TypeError, r"class_names holds 7 \(int\)"),
    ],
)
def test_bad_arguments(names, templates, error, message):
    with pytest.raises(error, match=message):
        class_embeddings(_TextEncoder({}), names, templates)


def test_clip_templates_are_templates():
    templates = clip_templates()
    assert len(set(templates)) == 80
    assert all(template.count("{}") == 1 for template in templates)

    def letters(texts):
        return torch.tensor([[text.count(c) for c in "abcdefgh"] for text in texts]).float()

    rows = F.normalize(letters([t.replace("{}", "hen") for t in templates]), dim=1)
    expected = F.normalize(rows.mean(0), dim=0)
    torch.testing.assert_close(class_embeddings(letters, ["hen"], templates)[0], expected)
