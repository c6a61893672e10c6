import gc

import pytest

from bench.measuring.costs.estimate import expected_s, needed_bytes
from bench.measuring.device import device_named
from bench.measuring.measure.stopping import Stopping
from bench.measuring.models.subject import ModelSubject, forward_flops, model_on_meta
from tests.bench.measuring.models.cells import cell, own


def test_flops_of_a_model_are_those_of_its_products_counted_by_hand():
    tokens, channels = 16, 16
    patches = 2 * tokens * channels * 3 * 8 * 8
    projections = 4 * 2 * tokens * channels * channels
    attention = 2 * 2 * tokens * tokens * channels
    head = 2 * channels * 5
    each = patches + projections + attention + head
    assert forward_flops(model_on_meta(cell()), cell().model) == 2 * each


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_the_estimate_is_what_the_allocator_sees_of_a_call_and_of_its_weights(mode):
    one = cell("linear", model="nalaformer_xt", mode=mode, image_size=64)
    subject = ModelSubject(one)
    subject.call()
    gc.collect()
    weights = 4 * sum(p.numel() for p in [*subject.module.parameters(), *subject.module.buffers()])
    seen = weights + device_named("cpu").profile(subject.call).peak_bytes
    assert 0.8 * seen < needed_bytes(one) < 1.25 * seen


@pytest.fixture
def seen(monkeypatch):
    """The image sizes at which a model's work is counted."""
    seen = []

    def forward_flops_of(module, workload):
        seen.append(workload.image_size)
        return forward_flops(module, workload)

    monkeypatch.setattr("bench.measuring.costs.estimate.forward_flops", forward_flops_of)
    monkeypatch.setattr("bench.measuring.costs.estimate._FLOPS", {})
    return seen


def test_a_plan_of_large_images_counts_no_more_than_one_of_small_ones(seen):
    stopping = Stopping(min_rounds=100, budget_s=0.0)
    names = ["softmax", "linear", "nala", "uniform"]
    large = [cell(name, model="deit_tiny", image_size=448) for name in names]
    expected = [expected_s(one, stopping) for one in large]
    assert seen == [128, 224]
    for one, seconds in zip(large, expected, strict=True):
        known = forward_flops(model_on_meta(one), one.model)
        assert seconds == pytest.approx(120 * known / 2e10, rel=0.15)


def test_a_model_that_looks_at_values_has_no_count_and_no_estimate():
    one = cell(model=own("sees_values"))
    assert forward_flops(model_on_meta(one), one.model) is None
    assert needed_bytes(one) is None
    assert forward_flops(ModelSubject(cell()).module.to("meta"), cell().model) is not None
