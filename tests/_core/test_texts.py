from __future__ import annotations

import unicodedata

import pytest
import torch
from torch import nn

from captum_neuroinspect import FeatureSet
from captum_neuroinspect._core.texts import shown
from captum_neuroinspect.analysis import compare_photos, confusions, explain_mistakes, worst_classes
from captum_neuroinspect.describe import Descriptions, UnitDescription
from captum_neuroinspect.edit import compare_heads

EVIL = "cat\x1b]0;owned\x07\x1b[2J\nError: forged\r\u202egpj\u2028"


def test_no_letter_of_unicode_steers_a_terminal() -> None:
    every = "".join(map(chr, range(0x110000)))
    text = shown(every)
    assert not [c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert {c for c in text if unicodedata.category(c) == "Cf"} == {"\u200c", "\u200d"}
    assert shown(text) == text
    assert text.encode("utf-8")


@pytest.mark.parametrize("text", ["", "Füße 猫", "می‌خواهم", "👩‍🔬", "a\u00a0b", "C:\\new", "ציפור"])
def test_what_people_write_stays(text: str) -> None:
    assert shown(text) == text


def test_every_table_of_the_library_keeps_names_in_their_cells() -> None:
    torch.manual_seed(0)
    head = nn.Linear(6, 3)
    z = torch.rand(60, 6)
    names = (EVIL, "b", "c")
    features = FeatureSet(z, head(z).detach(), torch.arange(60) % 3, class_names=names)
    target = int(features.mistakes().labels[0])
    names = tuple(EVIL if i == target else names[i - 1] for i in range(3))
    features = FeatureSet(z, features.logits, features.labels, class_names=names)
    edit = compare_heads(head, nn.Linear(6, 3), features, {target: [0, 4]})
    described = Descriptions([UnitDescription(3, (EVIL,), (0.3,), n_images=9)], EVIL)
    found = explain_mistakes(head, features, target=target)
    objects = [
        *(worst_classes(features), confusions(features), edit, compare_photos(edit, features)),
        *(found, described),
    ]
    for one in [*objects, edit.summary()]:
        for text in (str(one), repr(one)):
            lines = text.splitlines()
            assert all(line.isprintable() for line in lines), text
            assert not [line for line in lines if line.startswith("Error")]
    for one in objects:
        page = one._repr_html_()
        assert "\u202e" not in page
        assert "\x1b" not in page
