from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, random_split

from captum_neuroinspect._core.class_names import (
    ClassMatch,
    as_names,
    by_position_note,
    find_class,
    folded,
    match_names,
    names_of,
)

WORDS = ("ant", "Bee", "sea gull", "T-Shirt", "süß", "İstanbul", "straße", "crane", "7", "x_y")


def _respelled(name: str, way: int) -> str:
    ways = (
        name,
        name.upper(),
        unicodedata.normalize("NFD", name),
        name.replace(" ", "_").replace("-", " "),
        name.casefold().replace("_", "-"),
        f" {name}",
    )
    return ways[way]


@settings(max_examples=60, deadline=None)
@given(st.permutations(WORDS), st.integers(1, len(WORDS)), st.data())
def test_a_name_is_the_same_class_however_it_is_spelled(order, n, data) -> None:
    """Whatever order, subset and spelling the data have, names decide."""
    chosen = data.draw(st.permutations(WORDS))[:n]
    ways = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    respelled = [_respelled(name, way) for name, way in zip(chosen, ways, strict=True)]
    found = match_names(respelled, order)
    assert [order[i] for i in found] == list(chosen)


def test_exact_names_come_first() -> None:
    """ImageNet has both: a dog and a jacket."""
    names = ["cardigan", "pug", "Cardigan"]
    assert match_names(["Cardigan", "pug", "cardigan"], names) == (2, 1, 0)
    assert find_class("Cardigan", names) == 2
    with pytest.raises(ValueError, match=r"'CARDIGAN' is ambiguous: classes 0 and 2 of the model"):
        find_class("CARDIGAN", names)
    with pytest.raises(ValueError, match="'CARDIGAN' is ambiguous"):
        match_names(["CARDIGAN"], names)
    assert find_class("cat", names) is None


def test_a_name_that_two_classes_have() -> None:
    names = ["crane", "cat", "crane"]
    with pytest.raises(ValueError, match=r"'crane' is ambiguous: classes 0 and 2"):
        match_names(["cat", "crane"], names)
    # The very same list has the very same order.
    assert match_names(["Crane", "cat", "crane"], names) == (0, 1, 2)


def test_two_names_of_one_class() -> None:
    with pytest.raises(ValueError, match=r"'t-shirt' and 'T_SHIRT' of train are the same class.*1"):
        match_names(["t-shirt", "coat", "T_SHIRT"], ["coat", "T-Shirt"], "train")


def test_names_that_are_unknown_list_both_sides() -> None:
    message = (
        r"called emu, yak \('emu' is nearest to 'Emus'\): data has the classes cat, emu, yak; the "
        r"model has cat, Emus, bird\. Rename .* by_position=True"
    )
    with pytest.raises(ValueError, match=message):
        match_names(["cat", "emu", "yak"], ["cat", "Emus", "bird"])
    many = [f"n{i:05}" for i in range(1000)]
    with pytest.raises(ValueError, match=r"n00007, \.\.\. \(1000 in all\)") as said:
        match_names(many, [f"word {i}" for i in range(1000)])
    assert len(str(said.value)) < 700


def test_by_position_needs_as_many() -> None:
    assert match_names(["x", "y"], ["a", "b"], by_position=True) == (0, 1)
    with pytest.raises(ValueError, match="by_position=True, but data has 1 classes and the model"):
        match_names(["x"], ["a", "b"], by_position=True)


def test_classes_without_photos_may_be_unknown() -> None:
    assert match_names(["notes", "b"], ["a", "b"], unused=[0]) == (-1, 1)
    assert match_names(["B", "b"], ["a", "b"], unused=[0]) == (1, 1)


def test_synonyms() -> None:
    imagenet = [("tench", "Tinca tinca"), ("crane",), ("cock", "rooster"), ("crane",)]
    assert match_names(imagenet, ["tench", "crane", "rooster", "crane"]) == (0, 1, 2, 3)
    assert match_names(imagenet[:1], ["x", "tench, Tinca tinca"]) == (1,)
    assert match_names([imagenet[2]], ["x", "y", "Rooster"]) == (2,)
    with pytest.raises(ValueError, match=r"synonyms 'cock, rooster' of data are classes 0 and 1"):
        match_names([imagenet[2]], ["cock", "rooster", "z"])
    with pytest.raises(ValueError, match="'crane' is ambiguous"):
        match_names(imagenet, ["crane", "tench", "crane", "cock"])


def test_names_become_texts() -> None:
    assert as_names([("a", "b"), 3, b"c", "d"]) == ("a, b", "3", "c", "d")
    assert as_names({"1": "b", "0": "a"}) == as_names({"b": 1, "a": 0}) == ("a", "b")
    assert as_names({"3": 0, "7": 1}) == ("3", "7")  # a class_to_idx of digits
    assert as_names({"cock": 0, "rooster": 0, "hen": 1}) == ("cock, rooster", "hen")
    for bad, error, message in (
        ("abc", TypeError, "class_names='abc' is one text"),
        ({"a", "b"}, TypeError, "is a set, which has no order"),
        ([], ValueError, "class_names is empty"),
        ({1: "a", 2: "b"}, ValueError, r"has the numbers 1, 2, expected each of 0\.\.1"),
        ({0: "a", 5: "b"}, ValueError, r"has the numbers 0, 5, expected"),
        ({"x": "a"}, TypeError, "class_names has 'x' for a class"),
    ):
        with pytest.raises(error, match=message):
            as_names(bad)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=12))
def test_folding_is_done_after_one_time(name: str) -> None:
    once = folded(name)
    assert folded(once) == once


class Named(Dataset[Any]):
    def __init__(self, classes: Any = None, **others: Any) -> None:
        if classes is not None:
            self.classes = classes
        vars(self).update(others)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(3, 4, 4), index % 2


def _class_label(*names: str) -> Any:
    return type("ClassLabel", (), {"names": list(names)})()


class Wrapper(Named):
    """As people write them around a data set, to add a transform."""


def test_names_are_found_behind_wrappers() -> None:
    data = Named(["b", "a"])
    for wrapped in (
        data,
        Subset(data, [1]),
        random_split(data, [1, 3])[1],
        DataLoader(Subset(Subset(data, [0, 1]), [1])),
        ConcatDataset([data, Subset(data, [0]), Named()]),
        Wrapper(dataset=Subset(data, [2])),
        Named(class_to_idx={"a": 1, "b": 0}),
        Named(["a", "b"], class_to_idx={"a": 1, "b": 0}),  # class_to_idx makes the labels
        Named(categories=["b", "a"]),
        Subset(Named(features={"label": _class_label("b", "a")}), [0]),
        # Another column has classes too.
        Named(features={"source": _class_label("web", "cam"), "label": _class_label("b", "a")}),
        Wrapper(subset=Subset(data, [2]), transform=str),  # under a name of the user's own
    ):
        assert names_of(wrapped).names == ("b", "a"), wrapped
    assert names_of(Wrapper(["c"], dataset=data)).names == ("c",)
    two = Wrapper(first=data, second=Named(["c"]))  # whose labels are these?
    for nameless in (Named(), Named(10), Named({"a", "b"}), Wrapper(dataset=Named()), [1, 2], two):
        assert names_of(nameless) == ClassMatch()


def test_a_target_transform_moves_the_names_with_the_labels() -> None:
    """Label n of the data is called what the transform made n of."""
    order = [2, 0, 3, 1]
    one_hot = torch.eye(4)
    for transform in (order.__getitem__, lambda label: one_hot[order[label]]):
        data = Named(["a", "b", "c", "d"], target_transform=transform)
        for wrapped in (data, Subset(data, [1]), Wrapper(kept=data)):
            names = names_of(wrapped).names
            assert names is not None
            assert [names[order[i]] for i in range(4)] == ["a", "b", "c", "d"]
    # Of another list of classes, or fewer of them: the names say nothing about these numbers.
    for other in ([207, 5, 340, 1], [0, 0, 1, 1], [1, 2, 3, 4]):
        data = Named(["a", "b", "c", "d"], target_transform=other.__getitem__)
        assert names_of(Subset(data, [0])) == ClassMatch()
    by_name = Named(["a", "b"], target_transform={"a": 1, "b": 0}.__getitem__)
    assert names_of(by_name) == ClassMatch()


def test_data_sets_of_different_classes_cannot_be_joined() -> None:
    joined = ConcatDataset([Named(["a", "b"]), Named(["a", "c"])])
    with pytest.raises(ValueError, match="different classes, a, b and a, c"):
        names_of(joined)


def test_labels_move_with_their_names() -> None:
    match = ClassMatch.own(["c", "a"]).onto(("a", "b", "c"))
    assert [match.label(i) for i in (0, 1)] == [2, 0]
    assert match.rows(torch.tensor([1, 0, 1])).tolist() == [0, 2, 0]
    rows = torch.tensor([[1, 0], [1, 1]])
    assert match.rows(rows).tolist() == [[0, 0, 1], [1, 0, 1]]
    label = match.label(rows[1])
    assert isinstance(label, torch.Tensor)
    assert label.tolist() == [1, 0, 1]
    for bad in (2, -1):
        with pytest.raises(ValueError, match=f"label {bad}, but the data names only 2 classes"):
            match.label(bad)
    with pytest.raises(ValueError, match="3 columns, but the data names 2"):
        match.rows(torch.zeros(1, 3))


def test_two_steps_are_one() -> None:
    steps = ClassMatch.own(["c", "a"]).onto(("a", "c")).onto(("A", "b", "C"))
    assert steps.to_class == (2, 0)
    assert steps.given == ("c", "a")
    assert not steps.by_position
    assert not steps.is_identity
    assert ClassMatch.own(["x", "y"]).onto(("a", "b"), by_position=True).by_position
    # The same names need no order by position.
    assert not ClassMatch.own(["A", "b"]).onto(("a", "b"), by_position=True).by_position
    assert ClassMatch().onto(("a", "b")) == ClassMatch(None, ("a", "b"))


def test_a_note_on_names_steers_no_terminal() -> None:
    note = by_position_note("data", ["cat\x1b[2J", "dog\nError: no"])
    assert note.isprintable()
