from typing import Any

import pytest
import torch

pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'attnbench[transformers]'"
)
from transformers.masking_utils import (
    and_masks,
    bidirectional_mask_function,
    causal_mask_function,
    sliding_window_overlay,
)

from attentions.integrations.transformers.masks import short_mask

SIZES: dict[str, Any] = {"batch_size": 2, "q_length": 4, "kv_length": 4}
PLAIN = [causal_mask_function, bidirectional_mask_function]


@pytest.mark.parametrize("plain", PLAIN)
def test_nothing_hidden_is_no_mask(plain):
    kept = torch.ones(2, 4, dtype=torch.long)
    assert short_mask(**SIZES, mask_function=plain) is None
    assert short_mask(**SIZES, mask_function=plain, attention_mask=kept) is None


@pytest.mark.parametrize("plain", PLAIN)
def test_padding_stays_padding(plain):
    kept = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]])
    mask = short_mask(**SIZES, mask_function=plain, attention_mask=kept)
    assert mask is not None and mask.dtype == torch.bool
    assert torch.equal(mask, kept.bool()[:, None, None, :])


def test_keys_that_a_cache_has_dropped_have_dropped_their_padding():
    kept = torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1]])
    later = SIZES | {"q_offset": 2, "kv_offset": 2}
    mask = short_mask(**later, attention_mask=kept)
    assert mask is not None and torch.equal(mask[:, 0, 0], kept[:, 2:].bool())
    assert short_mask(**later, attention_mask=kept[:1]) is None


def test_a_window_is_written_out():
    window = and_masks(causal_mask_function, sliding_window_overlay(2))
    mask = short_mask(**SIZES, mask_function=window)
    assert mask[0, 0].tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_one_query_after_its_past_needs_no_mask():
    assert short_mask(batch_size=1, q_length=1, kv_length=5, q_offset=4) is None


def test_keys_of_tokens_that_do_not_exist_yet_are_refused():
    with pytest.raises(ValueError, match="8 keys were given for 5 tokens"):
        short_mask(batch_size=1, q_length=1, kv_length=8, q_offset=4)
    with pytest.raises(ValueError, match="a static cache"):
        short_mask(batch_size=1, q_length=1, kv_length=4, q_offset=4, kv_offset=2)


def test_padding_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a value for each of 4 tokens"):
        short_mask(**SIZES, attention_mask=torch.ones(2, 3))
