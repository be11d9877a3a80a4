"""Figures of an artefact beside its float model, and the user's own metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qcompiler import metrics
from qcompiler.cli import METRIC_NAMES
from qcompiler.errors import UsageError
from qcompiler.evaluation import evaluate
from qcompiler.named_metrics import NAMED, Pair, embeddings

RANDOM = np.random.default_rng(0)
REFERENCE = [[RANDOM.normal(size=(2, 5)).astype(np.float32)] for _ in range(4)]
VALUE = [[a + RANDOM.normal(size=a.shape).astype(np.float32) * 0.3 for a in sample] for sample in REFERENCE]
PAIRS = [Pair(value, reference) for value, reference in zip(VALUE, REFERENCE, strict=True)]


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
    perfect = evaluate([Pair(r, r) for r in REFERENCE], name)
    assert perfect.value == perfect.float_value


def test_selection_leaves_out_what_it_drops():
    def first_row(outputs):
        return [a[:1] for a in outputs]

    spoiled = [
        Pair([np.concatenate([p.got[0][:1], p.got[0][1:] + 99])], p.expected, first_row) for p in PAIRS
    ]
    assert evaluate(spoiled).sqnr_db == pytest.approx(
        evaluate([Pair(p.got, p.expected, first_row) for p in PAIRS]).sqnr_db
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
    pairs = [Pair([np.array(3)], [np.array(3)]), Pair([np.array(4)], [np.array(5)])]
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


# -- metrics of language models, encoders and classifiers ------------------------------------------------------


def language_pairs(seed=0, vocabulary=11, keep=None):
    random = np.random.default_rng(seed)
    pairs = []
    for tokens in (5, 7):
        ids = random.integers(0, vocabulary, (2, tokens))
        expected = random.normal(size=(2, tokens, vocabulary)).astype(np.float32)
        got = expected + random.normal(size=expected.shape).astype(np.float32)
        mask = None if keep is None else np.arange(tokens)[None] < np.array([[tokens], [keep]])
        pairs.append(Pair([got], [expected], inputs={"input_ids": ids}, keep=mask))
    return pairs


@pytest.mark.parametrize("keep", [None, 3])
def test_perplexity_is_that_of_torch(keep):
    pairs = language_pairs(keep=keep)
    losses = []
    for pair in pairs:
        for row, ids in enumerate(pair.inputs["input_ids"]):
            count = len(ids) if pair.keep is None else int(pair.keep[row].sum())
            logits = torch.from_numpy(pair.got[0][row, : count - 1]).double()
            losses += torch.nn.functional.cross_entropy(logits, torch.from_numpy(ids[1:count]), reduction="none").tolist()
    found = evaluate(pairs, "perplexity")
    assert found.value == pytest.approx(np.exp(np.mean(losses)), rel=1e-9)
    assert found.value != found.float_value
    assert not found.asked[0].higher_is_better


def test_perplexity_needs_logits_of_the_tokens():
    for inputs, message in (
        ({}, "inputs are none"),
        ({"input_ids": np.zeros((2, 3), np.int64)}, r"input_ids \[2, 3\]"),
        ({"attention_mask": np.ones((2, 5), np.int64)}, "needs token ids"),
        ({"input_ids": np.full((2, 5), 30522)}, "has token 30522, the first output has 11 .* embedding_cosine"),
    ):
        pair = language_pairs()[0]
        with pytest.raises(UsageError, match=message):
            evaluate([Pair(pair.got, pair.expected, inputs=inputs)], "perplexity")
    one = np.zeros((1, 1, 11), np.float32)
    with pytest.raises(UsageError, match="at least two tokens"):
        evaluate([Pair([one], [one], inputs={"ids": np.zeros((1, 1), np.int64)})], "perplexity")


def test_kl_is_that_of_torch():
    pairs = language_pairs()
    p, q = (torch.cat([torch.from_numpy(a.reshape(-1, 11)).double() for a in arrays]) for arrays in (
        [pair.expected[0] for pair in pairs], [pair.got[0] for pair in pairs],
    ))  # fmt: skip
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")
    found = evaluate(pairs, "kl")
    assert found.value == pytest.approx(float(expected), rel=1e-9)
    assert (found.float_value, found.asked[0].higher_is_better) == (0.0, False)
    shifted = [Pair([p.expected[0] + 3], p.expected) for p in pairs]
    assert evaluate(shifted, "kl").value == pytest.approx(0, abs=1e-12)  # logits are known up to a constant


def test_kl_of_logits_that_leave_float_range_behind():
    extreme = np.array([[1e30, 0.0], [-1e30, 1e4]])
    assert evaluate([Pair([extreme], [extreme])], "kl").value == 0


def test_embeddings_leave_padding_out():
    hidden = RANDOM.normal(size=(2, 4, 8))
    keep = np.array([[True] * 4, [True, True, False, False]])
    found = embeddings(hidden, keep)
    expected = hidden[1, :2].mean(0)
    np.testing.assert_allclose(found[1], expected / np.linalg.norm(expected))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(embeddings(hidden[:, 0], None) * np.linalg.norm(hidden[:, 0], axis=1)[:, None], hidden[:, 0])
    with pytest.raises(UsageError, match="has 4 axes"):
        embeddings(np.zeros((1, 2, 3, 4)), None)


def test_embedding_metrics():
    hidden = RANDOM.normal(size=(6, 3, 16)).astype(np.float32)
    scaled = [Pair([hidden[i : i + 2] * 3], [hidden[i : i + 2]]) for i in (0, 2, 4)]
    found = evaluate(scaled, ["embedding_cosine", "spearman"])
    assert [m.value for m in found.asked] == pytest.approx([1, 1])
    reversed_ = [Pair([hidden[::-1]], [hidden])]
    found = evaluate(reversed_, ["embedding_cosine", "spearman"])
    assert found.asked[0].value < 0.9 and found.asked[1].value < 0.9
    with pytest.raises(UsageError, match="at least 3, got 2"):
        evaluate(scaled[:1], "spearman")


def test_top1_counts_labels():
    logits = np.eye(4, dtype=np.float32)
    pair = Pair([logits], [logits[[0, 1, 3, 2]]], labels=np.array([0, 1, 2, 0]))
    found = evaluate([pair], "top1")
    assert (found.value, found.float_value) == (0.75, 0.5)
    for labels, message in (
        (None, "add an array `labels`"),
        (np.array([0]), "4 rows and 1 labels"),
        (np.array([0, 1, 2, 4]), r"labels lie in 0..3, got 0..4"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate([Pair([logits], [logits], labels=labels)], "top1")


def test_several_metrics_keep_their_order_and_come_once():
    found = evaluate(PAIRS, ["kl", "sqnr", "kl"])
    assert [m.name for m in found.asked] == ["kl", "sqnr"]
    assert (found.metric, found.value) == ("kl", found.asked[0].value)
    assert found.asked[1].value == found.sqnr_db


def test_the_command_line_lists_every_metric():
    assert METRIC_NAMES == ", ".join(NAMED)
