from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from attentions import Geometry
from attentions.testing.flops import PAIRS
from attentions.testing.slow_forms import (
    callable_sample,
    last_step,
    make_sample,
    pair_by_pair,
    query_by_query,
    token_by_token,
    without_zeros,
    work_of,
)
from tests.attentions.testing import formula_mechanisms as made

Q, K, V = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)
HEADS = 2 * 3


def pairs(kind, *, causal=True):
    return callable_sample(kind, replace(PAIRS, causal=causal, grid=(0, 0)))


class Leaking(made.Explicit):
    """Its causal form is not what its other form gives for the tokens so far."""

    def forward(self, q, k, v):
        out = super().forward(q, k, v)
        return out + 1e-2 * v.mean() if self.geometry.causal else out


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


def test_query_by_query_each_query_meets_the_keys_up_to_its_own():
    form = query_by_query(pairs(made.Explicit))
    assert form.flops == 2 * (24 * 25 // 2) * (16 + 8) and form.is_decisive


def test_a_slow_form_with_another_output_does_not_count():
    assert query_by_query(pairs(Leaking)) is None
    assert pair_by_pair(pairs(Leaking)) is None


def test_pairs_are_seen_by_what_the_outputs_depend_on():
    geometry = Geometry(num_heads=1, head_dim=4, seq_len=70)
    form = pair_by_pair(make_sample(type("Narrow", (made.Window,), {"reach": 2}), geometry))
    assert form.flops == 2 * (70 * 5 - 2 * (2 + 1)) * (4 + 4) and form.is_decisive


def test_pairs_that_depend_on_the_data_have_to_be_found_first():
    form = pair_by_pair(pairs(Largest, causal=False))
    assert form.flops == 2 * (24 * 24 * 16 + 24 * 3 * 8)
    assert not form.is_decisive


def test_what_is_no_softmax_has_no_pairs():
    assert pair_by_pair(pairs(made.Recurrence)) is None


def test_a_recurrence_is_decisive_and_a_growing_cache_is_none():
    form = token_by_token(pairs(made.Recurrence))
    assert form.flops == 4 * 24 * 16 * 8 and form.is_decisive
    assert token_by_token(pairs(Cached)) is None


def test_the_last_step_is_counted_without_those_before_it():
    assert work_of(last_step(pairs(Cached))).flops == 2 * 24 * (16 + 8)


def test_a_product_with_a_zero_is_left_out_of_those_without():
    sample = pairs(made.Explicit)
    all_scored_half_mixed = 2 * (24 * 24 * 16 + (24 * 25 // 2) * 8)
    assert without_zeros(sample).flops == all_scored_half_mixed < work_of(sample.call).flops


@pytest.mark.parametrize(
    ("call", "flops", "nonzero"),
    [
        (lambda: functional.scaled_dot_product_attention(Q, K, V), 5 * 7 * 8, 5 * 7 * 8),
        (
            lambda: functional.scaled_dot_product_attention(Q, Q, Q, is_causal=True),
            5 * 5 * 8,
            5 * 6 // 2 * 8,
        ),
        (
            lambda: functional.scaled_dot_product_attention(
                Q, K, V, attn_mask=torch.arange(7).lt(4).expand(5, 7)
            ),
            5 * 7 * 8,
            5 * 4 * 8,
        ),
        (lambda: functional.scaled_dot_product_attention(Q, K, 0 * V), 5 * 7 * 8, 5 * 7 * 4),
        (lambda: Q @ functional.pad(K, (0, 0, 0, 3)).mT, 5 * 10 * 4, 5 * 7 * 4),
    ],
)
def test_what_masks_hide_and_what_is_padded_is_left_out(call, flops, nonzero):
    work = work_of(call, count_zeros=True)
    assert (work.flops, work.nonzero_flops) == (2 * HEADS * flops, 2 * HEADS * nonzero)
