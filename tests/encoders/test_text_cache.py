from __future__ import annotations

import pytest
import torch

from captum_neuroinspect.encoders._text_cache import TextCache


def test_each_text_is_encoded_once():
    calls: list[list[str]] = []

    def encode(texts: list[str]) -> torch.Tensor:
        calls.append(list(texts))
        return torch.tensor([[float(len(text)), 0.0] for text in texts]).requires_grad_()

    cache = TextCache(encode)
    first = cache(["ab", "c", "ab"])
    second = cache(["d", "c"])
    assert calls == [["ab", "c"], ["d"]]
    assert first.shape == (3, 2)
    assert torch.equal(second[1], first[1])
    assert not first.requires_grad


def test_rows_belong_to_their_texts():
    angle = {"a": 0.0, "b": 1.0, "c": 2.0}
    cache = TextCache(
        lambda texts: torch.stack([3 * torch.tensor([angle[text], 1.0]).double() for text in texts])
    )
    cache(["c", "a"])
    rows = cache(["a", "b", "c"])
    torch.testing.assert_close(rows[:, 0] / rows[:, 1], torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    assert rows.dtype == torch.float32


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        ([[1.0, 0.0]], TypeError, "returned list, expected a tensor"),
        (torch.ones(2), ValueError, r"shape \(2,\) for 2 texts, expected \(2, D\)"),
        (torch.ones(1, 4), ValueError, r"shape \(1, 4\) for 2 texts"),
    ],
)
def test_a_wrong_encoder_is_named(result, error, message):
    with pytest.raises(error, match=message):
        TextCache(lambda texts: result)(["a", "b"])


@pytest.mark.parametrize(
    ("texts", "error"), [("cat", TypeError), (["cat", None], TypeError), ([], ValueError)]
)
def test_bad_texts(texts, error):
    with pytest.raises(error, match="texts"):
        TextCache(lambda texts: torch.ones(len(texts), 2))(texts)
