import torch

from attentions import Geometry
from bench.costs.multiply_adds import count_multiply_adds
from bench.costs.sample import PAIRS, SMALL, callable_sample, long_sample, make_sample
from bench.costs.slow_forms import last_step, query_by_query, readings, seen_pairs, token_by_token
from tests.bench.costs import mechanisms as made


def pairs(kind, *, causal=True, **sizes):
    return callable_sample(kind, PAIRS, causal=causal, **sizes)


class Leaking(made.Explicit):
    """Its causal form is not what its other form gives for the tokens so far."""

    def forward(self, q, k, v):
        out = super().forward(q, k, v)
        return out + 1e-3 * v.mean() if self.geometry.causal else out


class Forgetful(made.Recurrence):
    """Its step is another function than its forward."""

    def step(self, q, k, v, state):
        out, state = super().step(q, k, v, state)
        return out, 0.9 * state


class Cached(made.Recurrence):
    """Keeps its keys and values instead of their sum."""

    def init_state(self, batch_size, *, dtype, device):
        widths = self.geometry.head_dim, self.geometry.value_dim
        return tuple(torch.zeros(batch_size, 1, 0, width, dtype=dtype) for width in widths)

    def step(self, q, k, v, state):
        keys, values = (torch.cat(part, dim=-2) for part in zip(state, (k, v), strict=True))
        return q @ keys.transpose(-2, -1) @ values, (keys, values)


class Largest(made.Explicit):
    """Softmax over the three keys of the largest scores."""

    def forward(self, q, k, v):
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        least = scores.topk(3, dim=-1).values[..., -1:]
        return scores.masked_fill(scores < least, -torch.inf).softmax(dim=-1) @ v


def test_a_sample_is_the_same_each_time():
    one, other = (make_sample(made.Projected, SMALL, 2) for _ in range(2))
    assert torch.equal(one.call(), other.call())
    assert one.shape.query_len == 12 and one.shape.batch_size == 2


def test_a_long_sample_on_meta_tensors_has_shapes_only():
    sample = long_sample(made.Explicit, 65_536, causal=True).to("meta")
    assert sample.call().device.type == "meta" and sample.shape.causal
    assert sample.shape.key_len == 65_536


def test_a_copy_in_another_dtype_leaves_the_sample_alone():
    sample = make_sample(made.Projected, SMALL, 1)
    assert sample.to(torch.float32).call().dtype is torch.float32
    assert sample.call().dtype is torch.float64


def test_query_by_query_each_query_meets_the_keys_up_to_its_own():
    (form,) = query_by_query(pairs(made.Explicit))
    assert form.flops == 2 * (24 * 25 // 2) * (16 + 8) and form.is_decisive


def test_query_by_query_decides_nothing_where_the_bidirectional_form_wastes_work():
    less = made.off_by(made.Explicit, 0.9, "flops")
    assert not query_by_query(pairs(less))[0].is_decisive


def test_a_slow_form_with_another_output_does_not_count():
    assert query_by_query(pairs(Leaking)) == []
    assert seen_pairs(pairs(Leaking)) == []
    assert token_by_token(pairs(Forgetful)) == []


def test_pairs_are_seen_by_what_the_outputs_hang_on():
    geometry = Geometry(num_heads=1, head_dim=4, seq_len=70)
    narrow = make_sample(type("Narrow", (made.Window,), {"reach": 2}), geometry, 1)
    (form,) = seen_pairs(narrow)
    assert form.flops == 2 * (70 * 5 - 2 * (2 + 1)) * (4 + 4) and form.is_decisive


def test_pairs_that_hang_on_the_data_have_to_be_found_first():
    (form,) = seen_pairs(pairs(Largest, causal=False))
    assert form.flops == 2 * (24 * 24 * 16 + 24 * 3 * 8)
    assert not form.is_decisive


def test_what_is_no_softmax_has_no_pairs():
    assert seen_pairs(pairs(made.Recurrence)) == []


def test_a_recurrence_is_decisive_and_a_growing_cache_is_not():
    products, with_sums = token_by_token(pairs(made.Recurrence))
    assert products.flops == 0 and with_sums.flops == 2 * 24 * 2 * 16 * 8
    assert with_sums.is_decisive
    (cached,) = token_by_token(pairs(Cached))
    assert cached.flops == 2 * (24 * 25 // 2) * (16 + 8) and not cached.is_decisive


def test_the_last_step_is_counted_without_those_before_it():
    seen = count_multiply_adds(last_step(pairs(Cached)))
    assert seen.products == 24 * (16 + 8)
    assert [form.flops for form in readings(seen, is_decisive=True)] == [2 * 24 * 24]
