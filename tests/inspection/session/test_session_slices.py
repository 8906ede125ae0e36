"""Slices through the session: explained, edited and reported one by one."""

from __future__ import annotations

import pytest
import torch
from session_examples import QUICK, loaded, photos

from captum_neuroinspect.attr import cue_direction
from captum_neuroinspect.edit import remove_cue
from captum_neuroinspect.inspection.report.fill import report_data


@pytest.fixture(scope="module")
def session():
    return loaded()


def _target(session) -> int:
    return int(session.data.deployment.features.mistakes().labels.mode().values)


def test_without_slices_all_is_as_before(session):
    target = _target(session)
    plain = session.explain(target)
    identity = session.report_identity
    one = session.explain(target, slices=1)
    assert plain.slices is None
    assert len(one.slices) == 1
    assert plain.ranking == one.ranking
    assert plain.neurons() == one.neurons()
    assert session.report_identity == identity
    assert report_data(session.findings(), "run").slices == ()


def test_two_slices_share_the_mistakes_and_take_turns(session):
    found = session.explain(_target(session), slices=2)
    parts = found.of_slices()
    assert len(parts) == 2
    indices = torch.cat([part.mistakes.indices for part in parts])
    assert indices.sort().values.tolist() == sorted(found.mistakes.indices.tolist())
    assert found.neurons(1) == parts[0].neurons(1)
    assert set(found.neurons(4)) <= set(parts[0].neurons(4)) | set(parts[1].neurons(4))
    assert len(set(found.neurons())) == len(found.neurons())
    assert "2 slices, as asked" in str(found)
    assert "slice 2" in str(found)


def test_a_report_of_slices_is_another_than_without(session):
    target = _target(session)
    names = set()
    for slices in (None, 2, 3):
        session.explain(target, slices=slices)
        names.add(session.report_identity)
    assert len(names) == 3


def test_the_report_has_each_slice_with_its_photos_and_neurons(session):
    found = session.explain(_target(session), slices=2)
    session.visualize(found.neurons(4), **QUICK)
    data = report_data(session.findings(), "run")
    assert data.slices_reason == "2 slices, as asked"
    for part, shown in zip(found.of_slices(), data.slices, strict=True):
        assert shown.n_mistakes == len(part.mistakes)
        photos = session.data.inspected.photos
        names = {photos.name(i) for i in part.mistakes.indices.tolist()}
        assert {m.file for m in shown.mistakes} <= names
        assert shown.ranking[0].neuron == part.rows()[0]["neuron"]
        assert str(part.neurons(1)[0]) in shown.sentence


def test_an_edit_of_a_slice_takes_its_neurons(session):
    found = session.explain(_target(session), slices=2)
    edit = session.edit(slice=2, method="equation8", n_epochs=1)
    assert edit.neurons == found.of_slices()[1].neurons(6)


def test_the_cue_of_a_slice_is_located_by_its_mistakes():
    session = loaded(data=photos(240))
    parts = session.explain(_target(session), slices=2).of_slices()
    train, validation = session.data.train.features, session.data.validation.features
    for place, part in enumerate(parts, start=1):
        cue = cue_direction(part.mistakes, train)
        target = part.target
        expected = remove_cue(session.head, train, validation, target=target, cue=cue)
        edit = session.edit(slice=place, method="remove_cue", keep_anyway=True)
        fitted = session.data.is_cross_fitted(target)
        assert fitted or torch.equal(edit.head.weight, expected.head.weight)
        assert edit.method.n_located == len(part.mistakes)


def test_a_slice_that_is_not_there_is_refused(session):
    target = _target(session)
    session.explain(target, slices=2)
    with pytest.raises(ValueError, match=r"slice=3, expected 1\.\.2"):
        session.edit(slice=3)
    with pytest.raises(ValueError, match="neurons and slice are both given"):
        session.edit(neurons=[1], slice=1)
    for place in (True, 1.0, "1"):
        with pytest.raises(TypeError, match="expected a whole number"):
            session.edit(slice=place)
    with pytest.raises(ValueError, match=r"slice=1 is of class"):
        session.edit((target + 1) % 3, slice=1)
