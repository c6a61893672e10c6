"""Token filters: who is kept and where, what a kept part gives, and what cannot be filtered."""

import pytest
import torch

from bench.core.cell import TOKEN_FILTERS
from bench.measuring.tasks import token_filter as module
from bench.measuring.tasks.base import Batch, Split, build_task
from bench.measuring.tasks.model import build_model
from bench.measuring.tasks.token_filter import attention_rate, filtered_scores, kept_tokens
from bench.measuring.tasks.watching import watched

SMALL = {"embed_dim": 16, "num_heads": 2, "num_test_examples": 24, "batch_size": 16}


def clock():
    clock.now += 0.5
    return clock.now


clock.now = 0.0


def built(mechanism="softmax", task="canvas", **settings):
    task = build_task(task, SMALL | settings)
    return build_model(task, mechanism, {}, 0).eval(), task


def test_the_best_are_kept_in_their_order_and_where_answers_are_read_always():
    scores = torch.tensor([[0.0, 5.0, 1.0, 4.0, 3.0]])
    plain = Batch(inputs=torch.zeros(1, 5, 1), targets=torch.zeros(1))
    assert kept_tokens(scores, plain, 0.4).tolist() == [[1, 3]]
    at_first = Batch(
        inputs=torch.zeros(1, 5, 1),
        targets=torch.zeros(1, 1),
        positions=torch.zeros(1, 1, dtype=torch.long),
    )
    assert kept_tokens(scores, at_first, 0.5).tolist() == [[0, 1, 3]]
    assert kept_tokens(scores, at_first, 0.01).tolist() == [[0, 1]]
    assert kept_tokens(scores, at_first, 1.0).tolist() == [[0, 1, 2, 3, 4]]


def test_all_tokens_kept_are_the_whole_model_and_kept_ones_stay_at_their_places():
    model, task = built()
    batch = task.test(4).batch
    everything = torch.arange(37).expand(4, -1)
    whole = model(batch.inputs, batch.positions)
    torch.testing.assert_close(model(batch.inputs, batch.positions, everything), whole)
    kept = torch.tensor([[0, 5, 30]]).expand(4, -1)
    with torch.no_grad():
        few = model(batch.inputs, batch.positions, kept)
        model.places[1:5, :3] += 1.0  # of those that were dropped
        torch.testing.assert_close(model(batch.inputs, batch.positions, kept), few)
        model.places[30, :3] += 1.0
        assert not torch.allclose(model(batch.inputs, batch.positions, kept), few)


def test_a_rate_is_how_often_a_token_gets_more_than_its_share(monkeypatch):
    monkeypatch.setattr(module, "NUM_CALIBRATION", 16)
    model, task = built("uniform")
    assert not attention_rate(model, task).any()  # all get the same
    model, task = built()
    rate = attention_rate(model, task)
    assert rate.shape == (37,) and 0 < rate.mean() < 1
    assert torch.equal(rate, attention_rate(model, task))
    batch = next(task.validation())
    with watched(model) as seen:
        model(batch.inputs, batch.positions)
    received = seen.weights[0].mean(dim=1).mean(dim=1)  # in the first of two layers
    torch.testing.assert_close(rate, (received > 1 / 37).float().mean(dim=0))


def test_the_time_of_a_filtered_model_holds_the_choice_of_its_tokens(monkeypatch):
    model, task = built()
    score_of, choose, asked = module._score_of, module.kept_tokens, []

    def slow_score_of(*of):
        score = score_of(*of)

        def slowly(batch, places):
            asked.append((places.start, places.stop))
            clock.now += 2.0
            return score(batch, places)

        return slowly

    def choose_slowly(*of):
        clock.now += 1.0
        return choose(*of)

    monkeypatch.setattr(module, "_score_of", slow_score_of)
    monkeypatch.setattr(module, "kept_tokens", choose_slowly)
    (row,) = filtered_scores(model, task, ("patch_contrast",), (0.5,), clock)
    assert row["latency_s"] == [2.0 + 1.0 + 0.5] * 15
    assert row["unfiltered_latency_s"] == [0.5] * 15
    assert asked[:2] == [(0, 16), (16, 24)]  # places in the test set


def test_every_filter_is_scored_at_every_share_against_the_whole_model():
    model, task = built(num_digits=2)
    rows = filtered_scores(model, task, TOKEN_FILTERS, (0.25, 1.0), clock)
    assert [(row["filter"], row["keep"]) for row in rows] == [
        (name, keep) for name in TOKEN_FILTERS for keep in (0.25, 1.0)
    ]
    (batch,) = [Batch.join(list(task.batches(Split.TEST, 0)))]
    whole = task.score(model(batch.inputs, batch.positions), batch)
    for row in rows:
        assert row["num_tokens"] == (10 if row["keep"] == 0.25 else 37)
        assert row["keep"] < 1 or row["accuracy"] == pytest.approx(whole)
        assert row["latency_s"] == row["unfiltered_latency_s"] == [0.5] * 15
    assert rows[0]["flops"] < 0.3 * rows[1]["flops"]


def test_an_oracle_keeps_the_whole_object_and_contrast_is_no_brightness():
    model, task = built()
    _, batch = task.batches(Split.TEST, 0)
    kept = kept_tokens(
        module._score_of("object_rate", model, task)(batch, slice(16, 24)), batch, 4 / 36
    )
    assert kept.shape[1] == 5
    assert task.objects()[16:].gather(1, kept).sum(dim=1).tolist() == [4] * 8
    batch.inputs.zero_()
    batch.inputs[:, 3], batch.inputs[:, 7, ::2] = 5.0, 1.0
    contrast = module._score_of("patch_contrast", model, task)(batch, slice(16, 24))
    assert contrast.argmax(dim=1).tolist() == [7] * 8
