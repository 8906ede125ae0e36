"""Vectors of concepts: the closed form by hand, classifiers through Captum's protocol."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace

import pytest
import torch
from captum.concept import Classifier, DefaultClassifier
from concept_examples import around, small_bank, three_concepts

from captum_neuroinspect.concepts import ConceptBank, ConceptFeatures, fit_concepts


def test_the_closed_form_is_the_mean_less_the_mean_of_all() -> None:
    shown, absent = around([3.0, 1.0], n=4), around([0.0, 0.0], n=40, seed=1)
    # So few photos judge that the rest is known: one of each side.
    bank = fit_concepts(ConceptFeatures(("c",), (shown,), (absent,)), held_out=0.02)
    found = set()
    for i in range(4):
        for j in range(40):
            a = torch.cat([shown[:i], shown[i + 1 :]]).double()
            b = torch.cat([absent[:j], absent[j + 1 :]]).double()
            mean = torch.cat([a, b]).mean(0)
            vector = a.mean(0) - mean
            unit = vector / vector.norm()
            if torch.allclose(unit.float(), bank.vectors[0], atol=1e-6):
                margins = torch.cat([a, b]) @ unit - unit @ mean
                expected = [-unit @ mean, margins.max(), margins.min()]
                expected += [margins[margins > 0].mean(), margins[margins < 0].mean()]
                values = [bank.intercepts, bank.highest, bank.lowest]
                values += [bank.mean_shown, bank.mean_absent]
                torch.testing.assert_close(torch.cat(values).double(), torch.stack(expected))
                found.add((i, j))
    assert len(found) == 1


def test_the_vector_points_to_the_concept_and_the_accuracy_is_of_held_out_photos() -> None:
    bank = small_bank()
    expected = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-(0.8**0.5), 0, 0.2**0.5]])
    assert ((bank.vectors * expected).sum(1) > 0.98).all()
    assert bank.accuracy.tolist() == [1.0, 1.0, 1.0]
    assert bank.n_photos.tolist() == [12, 12, 12]
    same = around([0.0, 0.0, 0.0], n=400)
    other = around([0.0, 0.0, 0.0], n=400, seed=5)
    by_chance = fit_concepts(ConceptFeatures(("nothing",), (same,), (other,)))
    assert 0.35 < float(by_chance.accuracy[0]) < 0.65


def test_captums_classifier_finds_the_same_directions_and_leaves_chance_alone() -> None:
    random.seed(3)
    expected = random.Random(3).random()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it keeps its data in memory
        trained = fit_concepts(three_concepts(), classifier=DefaultClassifier)
        again = fit_concepts(three_concepts(), classifier=DefaultClassifier)
    assert random.random() == expected
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(trained.vectors, again.vectors)
    assert ((trained.vectors * small_bank().vectors).sum(1) > 0.9).all()
    assert trained.method == "DefaultClassifier"
    assert trained.accuracy.tolist() == [1.0, 1.0, 1.0]


class _Odd(Classifier):
    def __init__(self) -> None:
        pass

    def train_and_eval(self, dataloader, **kwargs):
        return None

    def weights(self):
        return torch.zeros(3, 3)

    def classes(self):
        return [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"features": 1}, TypeError, "features is int"),
        ({"held_out": 1.0}, ValueError, "held_out=1.0"),
        ({"seed": 0.5}, TypeError, "seed=0.5"),
        ({"classifier": _Odd}, ValueError, r"_Odd gave weights \(3, 3\)"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        fit_concepts(**{"features": three_concepts(), **arguments})


def test_photos_that_equal_their_counterparts_have_no_direction() -> None:
    same = torch.ones(5, 2)
    with pytest.raises(ValueError, match="'c': photos that show it and counterparts have the same"):
        fit_concepts(ConceptFeatures(("c",), (same,), (same,)))


@pytest.mark.parametrize(
    ("names", "shown", "absent", "error", "message"),
    [
        ((), (), (), ValueError, "names is empty"),
        (("a", "a"), 2, 2, ValueError, "has 'a' twice"),
        (("a",), 2, 1, ValueError, "1 names, 2 sets"),
        (("a",), (torch.ones(3, 2),), 1, ValueError, "shown of 'a' has 3 photos"),
        (("a",), (torch.ones(5, 2).long(),), 1, TypeError, "shown of 'a' is torch.int64"),
        (("a",), 1, (torch.ones(5, 3),), ValueError, "counterparts of 'a' has shape"),
        (("a",), (torch.full((5, 2), torch.nan),), 1, ValueError, "shown of 'a' has NaN"),
    ],
)
def test_bad_features_are_named(names, shown, absent, error, message) -> None:
    sets = [(torch.rand(5, 2),) * n if isinstance(n, int) else n for n in (shown, absent)]
    with pytest.raises(error, match=message):
        ConceptFeatures(names, *sets)


def test_a_bank_is_kept_and_read_again(tmp_path) -> None:
    bank = replace(small_bank(), backbone_fingerprint="ab12")
    path = bank.save(tmp_path / "bank.safetensors")
    again = ConceptBank.load(path)
    assert (again.names, again.method) == (bank.names, "FastCAV")
    assert again.backbone_fingerprint == again.subset(["water"]).backbone_fingerprint == "ab12"
    features = torch.rand(4, 3)
    assert torch.equal(again.margins(features), bank.margins(features))
    torch.testing.assert_close(bank.margins(features), features @ bank.vectors.T + bank.intercepts)
    (tmp_path / "other").write_bytes(b"no bank")
    with pytest.raises(ValueError, match="cannot be read as ConceptBank"):
        ConceptBank.load(tmp_path / "other")


def test_parts_of_a_bank() -> None:
    bank = small_bank()
    part = bank.subset(["brick", "grass"])
    assert part.names == ("brick", "grass")
    assert torch.equal(part.vectors, bank.vectors[[2, 0]])
    with pytest.raises(ValueError, match="'sky' is not among the bank's: grass, water, brick"):
        bank.subset(["sky"])
    with pytest.raises(ValueError, match=r"expected \(N, 3\) as the bank was fitted to"):
        bank.margins(torch.rand(4, 2))
    assert "<th style='text-align:left'>grass</th><td>100%</td><td>12</td>" in bank._repr_html_()


def test_a_direction_steps_from_what_does_not_show_it_to_what_does() -> None:
    bank = small_bank()
    direction = bank.direction("water")
    features = torch.rand(6, 3)
    moved = direction.placed(features, direction.positions(features) + 1)
    by = bank.margins(moved)[:, 1] - bank.margins(features)[:, 1]
    step = bank.mean_shown[1] - bank.mean_absent[1]
    torch.testing.assert_close(by, step.expand(6))
    torch.testing.assert_close(moved - features, (step * bank.vectors[1]).expand(6, 3))


def test_a_bank_of_other_values_is_refused() -> None:
    bank = small_bank()
    fields = {name: getattr(bank, name) for name in bank.__dataclass_fields__}
    for changed, message in (
        ({"vectors": 2 * bank.vectors}, "not of length 1"),
        ({"highest": -bank.highest}, "margins of 'grass' are in"),
        ({"accuracy": bank.accuracy[:2]}, r"accuracy has shape \(2,\)"),
        ({"intercepts": bank.intercepts * torch.nan}, "intercepts has NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            ConceptBank(**{**fields, **changed})
    with pytest.raises(TypeError, match="lowest is list"):
        ConceptBank(**{**fields, "lowest": [1.0]})
