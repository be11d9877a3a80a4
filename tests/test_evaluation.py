"""Figures of an artefact beside its float model, and the user's own metrics."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler import metrics
from qcompiler.errors import UsageError
from qcompiler.evaluation import evaluate

RANDOM = np.random.default_rng(0)
REFERENCE = [[RANDOM.normal(size=(2, 5)).astype(np.float32)] for _ in range(4)]
VALUE = [[a + RANDOM.normal(size=a.shape).astype(np.float32) * 0.3 for a in sample] for sample in REFERENCE]
PAIRS = [(value, reference, list) for value, reference in zip(VALUE, REFERENCE, strict=True)]


def test_figures_are_those_of_all_samples_together():
    found = evaluate(PAIRS)
    value, reference = np.concatenate([v[0] for v in VALUE]), np.concatenate([r[0] for r in REFERENCE])
    assert found.samples == 4
    assert found.sqnr_db == pytest.approx(metrics.sqnr(reference, value))
    assert found.agreement == pytest.approx(metrics.agreement(reference, value))
    assert found.cosine == pytest.approx(
        np.mean([metrics.cosine(r[0], v[0]) for v, r in zip(VALUE, REFERENCE, strict=True)])
    )
    assert found.value is None


@pytest.mark.parametrize("name", ["sqnr", "cosine", "agreement"])
def test_named_metrics(name):
    found = evaluate(PAIRS, name)
    figures = {"sqnr": found.sqnr_db, "cosine": found.cosine, "agreement": found.agreement}
    assert (found.metric, found.value) == (name, figures[name])
    perfect = evaluate([(r, r, list) for r in REFERENCE], name)
    assert perfect.value == perfect.float_value


def test_selection_leaves_out_what_it_drops():
    def first_row(outputs):
        return [a[:1] for a in outputs]

    spoiled = [([np.concatenate([v[0][:1], v[0][1:] + 99])], r, first_row) for v, r, _ in PAIRS]
    assert evaluate(spoiled).sqnr_db == pytest.approx(
        evaluate([(v, r, first_row) for v, r, _ in PAIRS]).sqnr_db
    )


def test_callables_of_one_or_two_arguments():
    def mean(outputs):
        return np.mean([o[0].mean() for o in outputs])

    def distance(outputs, references):
        return max(np.abs(a[0] - b[0]).max() for a, b in zip(outputs, references, strict=True))

    found = evaluate(PAIRS, mean)
    assert found.metric == "mean"
    assert found.value == pytest.approx(mean(VALUE))
    assert found.float_value == pytest.approx(mean(REFERENCE))
    found = evaluate(PAIRS, distance)
    assert found.float_value == 0
    assert found.value > 0


def test_integer_and_scalar_outputs():
    pairs = [([np.array(3)], [np.array(3)], list), ([np.array(4)], [np.array(5)], list)]
    found = evaluate(pairs)
    assert found.agreement is None
    assert found.sqnr_db == pytest.approx(10 * np.log10(34))
    with pytest.raises(UsageError, match="more than one element"):
        evaluate(pairs, "agreement")


def test_bad_metrics():
    with pytest.raises(UsageError, match="Did you mean 'cosine'?"):
        evaluate(PAIRS, "cosin")
    with pytest.raises(UsageError, match="raised ValueError"):
        evaluate(PAIRS, lambda outputs: float("word"))
    with pytest.raises(UsageError, match="no sample"):
        evaluate([])
