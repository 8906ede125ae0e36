"""Large heads: a few rows fitted by a sample, and decisions made block by block."""

import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_neuroinspect import FeatureSet, HeadEdit
from captum_neuroinspect._core.head import head_tensors
from captum_neuroinspect.edit import _few_rows, _outcomes, judged, mend, run_controls
from captum_neuroinspect.edit._few_rows import FewRows
from captum_neuroinspect.edit._mend_fit import Weighted, anchored_fit, moved_samples
from captum_neuroinspect.edit._outcomes import outcome, with_logits_of
from captum_neuroinspect.edit.evaluation import evaluate
from captum_neuroinspect.edit.head_diff import changed_rows

N_FEATURES, TARGET, CUE = 48, 3, 40


def world(n_classes=60, seed=0):
    """Random prototypes; the target's row leans on a cue that its training samples carry."""
    rng = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(n_classes, N_FEATURES, generator=rng)
    head = nn.Linear(N_FEATURES, n_classes).requires_grad_(False)
    head.weight.copy_(0.5 * prototypes)
    head.weight[TARGET] *= 0.3
    head.weight[TARGET, CUE] += 1.5
    head.bias.zero_()

    def sample(n, n_target, in_use):
        labels = torch.randint(n_classes, (n,), generator=rng)
        labels[:n_target] = TARGET
        z = 0.5 + 0.9 * prototypes[labels] + torch.randn(n, N_FEATURES, generator=rng)
        cue = (torch.rand(n, generator=rng) < 0.2) & (labels != TARGET)
        z = z.relu()
        z[:, CUE] += 3.0 * (cue if in_use else labels == TARGET)
        return FeatureSet(z, torch.zeros(n, n_classes), labels).with_head(head)

    sets = [sample(n, 20, use) for n, use in ((400, False), (150, False), (200, True), (300, True))]
    return head, *sets


@pytest.fixture
def large(monkeypatch):
    """Small heads and few samples as if they were large."""
    monkeypatch.setattr(_outcomes, "LARGEST_WHOLE", 10)
    monkeypatch.setattr(_outcomes, "_BLOCK_NUMBERS", 60 * 7)


def test_rows_that_are_not_fitted_stay_bit_by_bit():
    head, train, validation, met, test = world()
    edit = mend(head, train, validation, met, target=TARGET, max_classes=12, max_cost=1.0)
    differ = (edit.head.weight != head.weight).any(1)
    assert differ[TARGET]
    assert differ.sum() <= 12
    assert edit.method.n_fitted_classes == 12
    assert "fitted on 12 of 60 classes" in edit.summary()
    own = test.subset(test.labels == TARGET)
    assert own.with_head(edit.head).accuracy() > own.accuracy() + 0.2


def test_heads_of_a_thousand_classes_are_fitted_as_a_whole():
    head, train, validation, met, _ = world()
    edits = [
        mend(head, train, validation, met, target=TARGET, max_cost=1.0, max_classes=limit)
        for limit in (None, 60, 1000)
    ]
    assert all(edit.head.weight.equal(edits[0].head.weight) for edit in edits)
    assert all(edit.method.n_fitted_classes is None for edit in edits)
    assert "fitted on" not in edits[0].summary()


def test_a_head_of_more_classes_is_fitted_in_few_rows():
    head, train, validation, met, _ = world(n_classes=1001)
    edit = mend(head, train, validation, met, target=TARGET, max_cost=1.0)
    assert edit.method.n_fitted_classes == 200
    assert (edit.head.weight != head.weight).any(1).sum() <= 200


@pytest.mark.parametrize("wrong", [1, 0, -3])
def test_too_few_classes(wrong):
    head, train, validation, met, _ = world()
    with pytest.raises(ValueError, match=f"max_classes={wrong}, expected at least 2"):
        mend(head, train, validation, met, target=TARGET, max_classes=wrong)


def test_the_same_seed_gives_the_same_head():
    head, train, validation, met, _ = world()
    one, other = (
        mend(head, train, validation, met, target=TARGET, max_classes=9, max_cost=1.0, seed=4)
        for _ in range(2)
    )
    assert one.head.weight.equal(other.head.weight)


# What the fit minimises


@pytest.mark.parametrize("n_neurons", [0, 3])
def test_the_others_are_in_the_loss_as_they_are(n_neurons):
    """The gradient of the full cross entropy, written out, vanishes in the fitted rows."""
    head, train, _, met, _ = world()
    neurons = torch.tensor([CUE, 2, 7])[:n_neurons]
    few = FewRows(head, train, TARGET, 3.0, 8, 0)
    new = few.fitted(met, neurons, anchor=0.1)
    samples = moved_samples(train, met, TARGET, neurons, 3.0)
    (weight, bias), (old, _) = head_tensors(new), head_tensors(head)
    shares = (samples.weights / samples.weights.sum())[:, None]
    surplus = (samples.features @ weight.T + bias).softmax(1) - F.one_hot(samples.labels, 60)
    slope = (surplus * shares).T @ samples.features + 0.1 * (weight - old)
    fitted = (weight != old).any(1)
    assert fitted.sum() == 8
    assert slope[fitted].abs().max() < 1e-4
    assert slope[~fitted].abs().max() > 1e-3


def test_all_rows_by_all_samples_are_the_whole_fit():
    head, train, _, met, _ = world()
    neurons = torch.tensor([CUE, 5])
    few = FewRows(head, train, TARGET, 3.0, 60, 0).fitted(met, neurons, anchor=0.1)
    samples = moved_samples(train, met, TARGET, neurons, 3.0)
    whole, _ = anchored_fit(samples, *head_tensors(head), anchor=0.1)
    torch.testing.assert_close(few.weight.detach(), whole, atol=2e-3, rtol=0)


def test_a_sample_stands_for_the_rest(monkeypatch):
    head, train, _, met, _ = world()
    monkeypatch.setattr(_few_rows, "_MOST_SAMPLES", 30)
    few = FewRows(head, train, TARGET, 3.0, 8, 0)
    classes = few._classes(met, torch.zeros(60))
    counts = few._stands_for(train, classes)
    mine = train.labels == TARGET
    assert (counts[mine] == 1).all()
    others = ~torch.isin(train.labels, classes)
    assert (counts[others] > 0).sum() == 30
    assert counts[others].sum() == pytest.approx(int(others.sum()))
    # Weights of a part stay what they are with all samples.
    ones = torch.ones(len(met))
    drawn = moved_samples(train, met, TARGET, torch.tensor([CUE]), 3.0, stands_for=(counts, ones))
    whole = moved_samples(train, met, TARGET, torch.tensor([CUE]), 3.0)
    assert float(drawn.weights.sum()) == pytest.approx(float(whole.weights.sum()))
    assert len(drawn.labels) < len(whole.labels)


def test_classes_that_are_confused_with_the_target_come_first():
    head, train, _, met, _ = world()
    few = FewRows(head, train, TARGET, 3.0, 4, 0)
    taken = torch.cat(
        [met.predictions[met.labels == TARGET], met.labels[met.predictions == TARGET]]
    )
    taken = taken[taken != TARGET]
    found = few._classes(met, torch.zeros(60)).tolist()
    assert TARGET in found
    assert len(found) == 4
    assert set(found) - {TARGET} <= set(taken.tolist())


def test_the_class_that_stays_is_one_logit():
    z = torch.tensor([[1.0], [2.0]])
    samples = Weighted(z, torch.tensor([0, 1]), torch.ones(2))
    weight, bias = anchored_fit(
        samples, torch.zeros(1, 1), torch.zeros(1), anchor=1.0, others=torch.tensor([0.0, 1.0])
    )
    chance = (z @ weight.T + bias)[:, 0].sub(torch.tensor([0.0, 1.0])).sigmoid()
    surplus = chance - torch.tensor([1.0, 0.0])
    assert abs(float((surplus * z[:, 0]).mean() + weight)) < 1e-4


# Decisions block by block


@pytest.mark.parametrize("origin", ["known", "unknown", "another"])
@pytest.mark.usefixtures("large")
def test_outcomes_are_those_of_all_logits(origin):
    head, train, *_ = world()
    rows = torch.tensor([1, TARGET, 30])
    shift = torch.randn(3, N_FEATURES, generator=torch.Generator().manual_seed(1)).double()
    other = changed_rows(head, rows, shift, torch.ones(3).double())
    if origin == "unknown":
        train = replace(train, head_fingerprint=None)
    if origin == "another":
        train = train.with_head(nn.Linear(N_FEATURES, 60))
    for one in (head, other):
        logits = train.features @ one.weight.T + one.bias
        found = outcome(train, one, head)
        assert torch.equal(found.is_correct, logits.argmax(1) == train.labels)
        torch.testing.assert_close(found.confidence, logits.softmax(1).amax(1))
        torch.testing.assert_close(_outcomes.logits_of(train, one, head), logits)


def test_an_evaluation_is_the_same_in_blocks(monkeypatch):
    head, _, _, met, _ = world()
    whole = evaluate(head, met, {TARGET: (CUE, 1)})
    monkeypatch.setattr(_outcomes, "LARGEST_WHOLE", 10)
    monkeypatch.setattr(_outcomes, "_BLOCK_NUMBERS", 60 * 7)
    blocks = evaluate(head, met, {TARGET: (CUE, 1)})
    assert blocks.calibration_error == pytest.approx(whole.calibration_error, abs=1e-6)
    of_classes = (torch.tensor(one.class_accuracy) for one in (blocks, whole))
    torch.testing.assert_close(*of_classes, rtol=0, atol=0, equal_nan=True)
    rest = {"calibration_error": 0.0, "class_accuracy": ()}
    assert replace(blocks, **rest) == replace(whole, **rest)


@pytest.mark.usefixtures("large")
def test_features_of_another_length():
    head, train, *_ = world()
    short = replace(train, features=train.features[:, 1:])
    with pytest.raises(ValueError, match="head takes 48 features, this set has 47"):
        outcome(replace(short, head_fingerprint=None), head)


@pytest.mark.usefixtures("large")
def test_logits_of_unknown_origin_are_tried():
    head, train, *_ = world()
    unnamed = replace(train, head_fingerprint=None)
    found = with_logits_of(unnamed, head)
    assert found.logits is unnamed.logits
    assert found.head_fingerprint == train.head_fingerprint
    wrong = replace(unnamed, logits=unnamed.logits + 1.0)
    torch.testing.assert_close(with_logits_of(wrong, head).logits, train.logits)


@pytest.mark.usefixtures("large")
def test_the_first_head_is_judged_by_the_logits_that_are_there():
    head, *_, test = world()
    found = judged.judged_by(head, head, test)
    assert found.before.logits.data_ptr() == test.logits.data_ptr()
    assert torch.equal(found.after.logits, test.logits)


@pytest.mark.usefixtures("large")
def test_the_whole_way_in_blocks(tmp_path):
    head, train, validation, met, test = world()

    def fit(neurons=None):
        some = {"neurons": list(neurons)} if neurons else {}
        some |= {} if neurons is None or neurons else {"n_neurons": 0}
        edit = mend(
            head, train, validation, met, target=TARGET, max_classes=12, max_cost=1.0, **some
        )
        return edit.judge(test)

    edit = fit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        edit = edit.with_verdict(run_controls(fit, edit, n_draws=2))
    after = test.with_head(edit.head)
    assert edit.verdict.n_corrected == int((~test.is_correct & after.is_correct).sum())
    assert edit.verdict.n_broken == int((test.is_correct & ~after.is_correct).sum())
    assert edit.after.accuracy == validation.with_head(edit.head).accuracy()
    loaded = HeadEdit.load(edit.save(tmp_path / "edit.safetensors"))
    assert loaded.summary() == edit.summary()
