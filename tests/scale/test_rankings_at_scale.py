"""Rankings over parts are those of one process over all features."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scale_examples import CLASSES, bytes_of, write_net, write_shards
from torch import nn

pytest.importorskip("pyarrow")

from captum_neuroinspect import NeuronCounterfactual, NeuronRanking, Reference, rank_neurons
from captum_neuroinspect.attr import Counterfactual
from captum_neuroinspect.models import load_model
from captum_neuroinspect.scale import (
    FeatureParts,
    MistakesToRank,
    ScaleOptions,
    collect_features_at_scale,
    rank_at_scale,
    reference_at_scale,
)

HERE = ScaleOptions(n_workers=0, part_size=12, batch_size=4, progress=False)


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> tuple[FeatureParts, nn.Linear]:
    place = tmp_path_factory.mktemp("scale")
    spec, source = write_net(place), write_shards(place / "shards", 47)
    features = collect_features_at_scale(
        spec, source, place / "out", class_names=CLASSES, options=HERE
    )
    return features, load_model(spec).model.head


def _in_parts(features: FeatureParts, head: nn.Linear) -> list[Counterfactual]:
    """The changes of each part's mistakes, as they are solved there."""
    found = []
    for part in features:
        mistakes = part.features.mistakes()
        method = NeuronCounterfactual(head, head)
        found.append(
            method.attribute_features(mistakes.features, mistakes.labels, return_details=True)
        )
    return found


def _assert_equal(found: NeuronRanking, expected: NeuronRanking) -> None:
    """Neurons, their order and their votes are equal; sums in float32 are less exact."""
    for name in ("insufficient", "excessive", "both"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.neurons == other.neurons
        assert one.precision == other.precision
        assert one.magnitude == pytest.approx(other.magnitude, rel=1e-6)
    for name in ("n_mistakes", "k", "n_right", "n_unfinished", "effect"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize("by", ["precision", "magnitude", "mean"])
def test_the_ranking_is_that_of_the_same_changes(collected, tmp_path: Path, by: str) -> None:
    features, head = collected
    changes = torch.cat([one.w for one in _in_parts(features, head)])
    _assert_equal(
        rank_at_scale(features, head, tmp_path / "ranking", by=by, options=HERE),
        rank_neurons(changes, by=by),
    )


def test_the_ranking_is_that_of_all_features_at_once(collected, tmp_path: Path) -> None:
    features, head = collected
    mistakes = features.together().mistakes()
    method = NeuronCounterfactual(head, head)
    whole = method.attribute_features(mistakes.features, mistakes.labels, return_details=True)
    found = rank_at_scale(features, head, tmp_path / "ranking", options=HERE)
    _assert_equal(found, rank_neurons(whole))


def test_a_reference_contrasts_as_in_one_process(collected, tmp_path: Path) -> None:
    features, head = collected
    whole = features.together()
    reference = Reference.of(whole, effect=0.25)
    changes = torch.cat([one.w for one in _in_parts(features, head)])
    found = rank_at_scale(features, head, tmp_path / "ranking", reference=reference, options=HERE)
    _assert_equal(found, rank_neurons(changes, features=whole.mistakes(), reference=reference))


@pytest.mark.parametrize("by", [None, "precision", "magnitude"])
def test_the_same_features_as_reference_give_what_one_process_ranks(
    collected, tmp_path: Path, by: str | None
) -> None:
    """Level, spread and the weight of the effect are measured over all parts."""
    features, head = collected
    whole = features.together()
    changes = torch.cat([one.w for one in _in_parts(features, head)])
    found = rank_at_scale(
        features, head, tmp_path / "ranking", reference=features, by=by, options=HERE
    )
    expected = rank_neurons(changes, features=whole.mistakes(), reference=whole, by=by)
    assert found.effect == pytest.approx(expected.effect, rel=1e-12)
    _assert_equal(replace(found, effect=None), replace(expected, effect=None))


def test_a_reference_of_parts_is_that_of_all_features(collected, tmp_path: Path) -> None:
    features, _ = collected
    found = reference_at_scale(features, tmp_path / "a", effect=0.5, options=HERE)
    expected = Reference.of(features.together(), effect=0.5)
    torch.testing.assert_close(found.level, expected.level, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.spread, expected.spread, rtol=1e-6, atol=1e-6)
    assert found.effect == 0.5
    place = features.folder.parent
    others = collect_features_at_scale(
        f"{place / 'net.py'}:net", place / "shards", tmp_path / "out", class_names=CLASSES,
        options=replace(HERE, part_size=20),
    )  # fmt: skip
    again = reference_at_scale(others, tmp_path / "b", effect=0.5, options=HERE)
    assert torch.equal(again.level, found.level)
    assert torch.equal(again.spread, found.spread)
    with pytest.raises(ValueError, match="effect=2, expected"):
        reference_at_scale(features, tmp_path / "c", effect=2, options=HERE)
    assert not (tmp_path / "c").exists()


def test_the_partition_joins_to_the_same_votes(collected, tmp_path: Path) -> None:
    """The same photos in other parts."""
    features, head = collected
    place = features.folder.parent
    others = collect_features_at_scale(
        f"{place / 'net.py'}:net", place / "shards", tmp_path / "out", class_names=CLASSES,
        options=replace(HERE, part_size=20),
    )  # fmt: skip
    _assert_equal(
        rank_at_scale(features, head, tmp_path / "a", options=HERE),
        rank_at_scale(others, head, tmp_path / "b", options=HERE),
    )


def test_some_mistakes(collected, tmp_path: Path) -> None:
    features, head = collected
    mistakes = features.together().mistakes(1, 0)
    which = MistakesToRank(1, 0, k=3, solver="fista")
    found = rank_at_scale(features, head, tmp_path / "ranking", mistakes=which, options=HERE)
    assert (found.n_mistakes + found.n_unfinished, found.k) == (len(mistakes), 3)


def test_a_restart_goes_on_and_gives_the_same_bytes(collected, tmp_path: Path) -> None:
    features, head = collected
    out = tmp_path / "ranking"
    first = rank_at_scale(features, head, out, options=HERE)
    before = bytes_of(out)
    (out / "parts" / "part-000001.json").unlink()
    (out / "parts" / "part-000002.safetensors").write_bytes(b"half")
    assert rank_at_scale(features, head, out, options=HERE) == first
    assert bytes_of(out) == before
    assert rank_at_scale(features, head, tmp_path / "again", options=HERE) == first
    assert bytes_of(tmp_path / "again") == before


def test_a_restart_with_a_reference_goes_on_from_its_stages(collected, tmp_path: Path) -> None:
    features, head = collected
    out = tmp_path / "ranking"
    first = rank_at_scale(features, head, out, reference=features, options=HERE)
    before = bytes_of(out)
    solved = (out / "changes" / "parts" / "part-000000.safetensors").stat().st_mtime_ns
    (out / "changes" / "parts" / "part-000001.json").unlink()
    (out / "reference" / "parts" / "part-000000.json").unlink()
    (out / "parts" / "part-000002.safetensors").write_bytes(b"half")
    assert rank_at_scale(features, head, out, reference=features, options=HERE) == first
    assert bytes_of(out) == before
    kept = (out / "changes" / "parts" / "part-000000.safetensors").stat().st_mtime_ns
    assert kept == solved


def test_unfinished_changes_are_counted_without_a_warning(collected, tmp_path: Path) -> None:
    from captum_neuroinspect.attr import SGD

    features, head = collected
    which = MistakesToRank(solver=SGD(max_steps=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rank_at_scale(features, head, tmp_path / "r", mistakes=which, options=HERE)
    assert found.n_unfinished > 0
    assert found.n_mistakes > 0


def test_what_cannot_be_ranked_is_refused(collected, tmp_path: Path) -> None:
    features, head = collected
    out = tmp_path / "ranking"
    with pytest.raises(ValueError, match="not the decision layer that gave"):
        rank_at_scale(features, nn.Linear(32, 3), out, options=HERE)
    narrow = Reference(torch.zeros(1, 5), torch.ones(5))
    with pytest.raises(ValueError, match="reference has 5 features, the head takes 32"):
        rank_at_scale(features, head, out, reference=narrow, options=HERE)
    with pytest.raises(ValueError, match="by='votes', expected"):
        rank_at_scale(features, head, out, by="votes", options=HERE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"k=33, expected 1\.\.32"):
        rank_at_scale(features, head, out, mistakes=MistakesToRank(k=33), options=HERE)
    assert not out.exists()
    rank_at_scale(features, head, out, options=HERE)
    with pytest.raises(ValueError, match="begun with other target"):
        rank_at_scale(features, head, out, mistakes=MistakesToRank(0), options=HERE)
