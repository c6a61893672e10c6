import gc

import pytest
import torch

from bench.measure import memory
from bench.models.facts import facts_of, forward_flops, model_on_meta
from bench.models.subject import ModelSubject
from tests.bench.models.cells import cell, own


def test_flops_of_a_model_are_those_of_its_products_counted_by_hand():
    tokens, channels = 16, 16
    patches = 2 * tokens * channels * 3 * 8 * 8
    projections = 4 * 2 * tokens * channels * channels
    attention = 2 * 2 * tokens * tokens * channels
    head = 2 * channels * 5
    each = patches + projections + attention + head
    assert facts_of(cell()).flops == 2 * each
    assert facts_of(cell(mode="forward_backward", batch_size=1)).flops == 3 * each


def test_nothing_is_allocated_for_a_model_that_is_only_looked_at():
    big = cell("linear", model="nalaformer_l", image_size=512, batch_size=4096)
    assert all(p.is_meta for p in model_on_meta(big).parameters())
    assert facts_of(big).needed_bytes > 2**36


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_the_estimate_is_what_the_allocator_sees_of_a_call_and_of_its_weights(mode):
    one = cell("linear", model="nalaformer_xt", mode=mode, image_size=64)
    subject = ModelSubject(one)
    subject.call()
    gc.collect()
    weights = 4 * sum(p.numel() for p in [*subject.module.parameters(), *subject.module.buffers()])
    seen = weights + memory.peak_memory_bytes(subject.call, torch.device("cpu"))
    assert 0.8 * seen < facts_of(one).needed_bytes < 1.25 * seen


def test_an_optimiser_keeps_two_more_copies_of_the_weights():
    step, backward = (facts_of(cell(mode=m)).needed_bytes for m in ("train_step", "backward"))
    weights = 4 * sum(p.numel() for p in model_on_meta(cell()).parameters())
    assert step == backward + 2 * weights


def test_a_model_that_looks_at_values_has_no_count_and_is_not_refused():
    facts = facts_of(cell(model=own("sees_values")))
    assert facts.flops is None and facts.needed_bytes > 0
    assert forward_flops(ModelSubject(cell()).module.to("meta"), cell().model) is not None
