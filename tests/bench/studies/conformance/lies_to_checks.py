"""Outputs that are spoilt in one place only, each with the check that sees it and its words.

As in `lies`: (mechanism, output, q, k, v, masks) -> another output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bench.studies.conformance.forms import FAR, LONG, MEDIUM, SEQ_LEN
from tests.bench.studies.conformance.lies import changes, only_at, sends

HALF = (torch.float16, torch.bfloat16)
SPOILS: list[Any] = []


def shows(check: str, words: str) -> Callable[..., Any]:
    """Enter what follows as a lie that a check finds in these words."""

    def enter(spoil: Callable[..., Any]) -> Callable[..., Any]:
        SPOILS.append(pytest.param(check, words, spoil, id=spoil.__name__))
        return spoil

    return enter


@shows("a_hidden_token_sees_what_was_kept_before_it", "the output of a hidden token")
def hidden_queries_get_zeros(self, out, q, k, v, masks):
    is_hidden = self.geometry.causal and "key_mask" in masks
    return out * masks["key_mask"][:, None, :, None] if is_hidden else out


@shows("a_hidden_token_sees_what_was_kept_before_it", "before which all keys are hidden is not")
def what_sees_nothing_gets_ones(self, out, q, k, v, masks):
    if "key_mask" not in masks:
        return out
    return torch.where(masks["key_mask"].cumsum(-1)[:, None, :, None] == 0, 1.0, out)


@shows("hidden_keys_are_as_good_as_removed", "the mask is modified")
def the_mask_is_inverted(_, out, q, k, v, masks):
    masks.get("key_mask", torch.ones(1, dtype=torch.bool)).logical_not_()
    return out


@shows("hidden_keys_are_as_good_as_removed", "hidden keys in float32 of shape (1, 3, 131, 6)")
def hidden_keys_of_the_middle_show_in_long_inputs(_, out, q, k, v, masks):
    mask = masks.get("key_mask")
    if mask is None or len(mask) < 3 or mask.shape[1] <= SEQ_LEN:
        return out
    return out * (1 + 1e-3 * only_at(2, out, 0))


@shows("hidden_keys_may_be_others_than_the_queries", "the output with hidden keys of 40")
def masks_show_where_keys_are_not_the_queries(_, out, q, k, v, masks):
    return out * 1.01 if "key_mask" in masks and k.shape[-2] != q.shape[-2] else out


@shows("hidden_keys_get_no_gradient", "no key gets a gradient")
def under_a_mask_nothing_gets_a_gradient(_, out, q, k, v, masks):
    return changes(out, q, torch.zeros_like) if "key_mask" in masks else out


def sees_any(masks):
    mask = masks.get("key_mask", torch.ones(1, 1, dtype=torch.bool))
    return mask.any(-1)[:, None, None, None]


@shows("a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients", "hidden is not zero")
def who_sees_nothing_gets_the_mean(_, out, q, k, v, masks):
    return torch.where(sees_any(masks), out, v.mean(-2, keepdim=True))


@shows("a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients", "are kept is zero")
def one_row_that_sees_nothing_blanks_all(_, out, q, k, v, masks):
    return out * sees_any(masks).all()


@shows("a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients", "is not finite")
def who_sees_nothing_gives_nan_in_half(_, out, q, k, v, masks):
    if out.dtype not in HALF or sees_any(masks).all():
        return out
    return sends(out, v, lambda g: g * torch.nan)


@shows("a_dense_mask_hides_pairs_one_by_one", "the mask is modified")
def the_dense_mask_is_inverted(_, out, q, k, v, masks):
    masks["mask"].logical_not_()
    return out


@shows("a_dense_mask_hides_pairs_one_by_one", "the output of query 64 in row 0")
def the_second_chunk_shows_hidden_pairs(_, out, q, k, v, masks):
    is_long = "mask" in masks and q.shape[-2] > 64
    return out * (1 + 1e-3 * only_at(64, out, -2)) if is_long else out


@shows("a_row_that_a_dense_mask_blanks_has_finite_gradients", "that sees nothing is not zero")
def a_blank_row_gets_ones(_, out, q, k, v, masks):
    return torch.where(masks["mask"].any(-1, keepdim=True), out, 1.0)


@shows("a_row_that_a_dense_mask_blanks_has_finite_gradients", "hidden from all gets a gradient")
def a_key_that_none_sees_gets_a_gradient(_, out, q, k, v, masks):
    return sends(out, k, lambda _: ~masks["mask"].any(-2)[:, None] * torch.ones_like(k))


@shows("a_row_that_a_dense_mask_blanks_has_finite_gradients", "a gradient is not finite")
def a_blank_row_gives_nan_in_bfloat16(_, out, q, k, v, masks):
    return sends(out, v, lambda g: g * torch.nan) if out.dtype == torch.bfloat16 else out


@shows("the_future_changes_no_bit_of_the_past", "of 12 tokens in bfloat16")
def the_future_shows_in_bfloat16(self, out, q, k, v, masks):
    is_seen = self.geometry.causal and out.dtype == torch.bfloat16
    return out + 0.1 * v.mean(-2, keepdim=True) if is_seen else out


@shows("the_future_changes_no_bit_of_the_past", "of 700 tokens in float32, those after 511")
def a_distant_chunk_sees_the_next(_, out, q, k, v, masks):
    if v.shape[-2] != FAR:
        return out
    return out + 1e-6 * only_at(511, out, -2) * v[..., 512:513, :]


@shows("the_future_changes_no_bit_of_the_past", "of 300 tokens in float32, those after 298")
def the_last_but_one_sees_the_last(_, out, q, k, v, masks):
    if v.shape[-2] != LONG:
        return out
    return out + 1e-6 * only_at(LONG - 2, out, -2) * v[..., -1:, :]


@shows("the_future_changes_no_bit_of_the_past", "another input gives the same output")
def nothing_shows_at_all(self, out, q, k, v, masks):
    return 0 * out


@shows("the_future_sends_no_gradient_to_the_past", "outputs up to 1 send no gradient at all")
def nothing_gets_a_gradient(_, out, q, k, v, masks):
    return changes(out, q, torch.zeros_like)


@shows("an_exact_mechanism_is_softmax_attention", "the output in float16")
def float16_is_another_function(_, out, q, k, v, masks):
    return out * 1.01 if out.dtype == torch.float16 else out


@shows("an_exact_mechanism_stays_so_where_others_part", "700 tokens in float32")
def many_keys_are_another_function(_, out, q, k, v, masks):
    return out * 1.001 if k.shape[-2] == FAR else out


@shows("an_exact_mechanism_stays_so_where_others_part", "queries of norm 50.0 in float32")
def sharp_queries_are_another_function(_, out, q, k, v, masks):
    return torch.where(q.norm(dim=-1, keepdim=True) > 40, 1.001 * out, out)


@shows(
    "outputs_and_gradients_equal_the_reference_in_float64",
    "the output in float64 of shape (2, 3, 1",
)
def one_token_is_another_function(_, out, q, k, v, masks):
    return out * 1.000001 if q.shape[-2] == 1 else out


@shows(
    "outputs_and_gradients_equal_the_reference_in_float64", "output in float64 of shape (2, 3, 300"
)
def three_chunks_are_another_function(_, out, q, k, v, masks):
    return out * 1.000001 if q.shape[-2] == LONG else out


@shows(
    "outputs_and_gradients_equal_the_reference_in_float64", "gradient 0 of the output in float64"
)
def queries_get_another_gradient(_, out, q, k, v, masks):
    return sends(out, q, lambda _: torch.full_like(q, 1e-6))


@shows("gradients_are_the_same_however_they_are_asked_for", "taken twice differs")
def each_gradient_is_larger(_, out, q, k, v, masks):
    turns = itertools.count(1)
    return changes(out, q, lambda g: g * next(turns))


@shows("gradients_are_the_same_however_they_are_asked_for", "of a cotangent without strides")
def a_cotangent_without_strides_is_lost(_, out, q, k, v, masks):
    return changes(out, q, lambda g: g * (max(g.stride()) > 0))


@shows("gradients_are_the_same_however_they_are_asked_for", "input 1 alone gets no gradient")
def keys_alone_get_no_gradient(_, out, q, k, v, masks):
    return out.detach() if not (q.requires_grad or v.requires_grad) else out


@shows("narrow_dtypes_lose_no_more_than_their_own_rounding", "the output in float16")
def float16_loses_more(_, out, q, k, v, masks):
    return out * 1.01 if out.dtype == torch.float16 else out


@shows("narrow_dtypes_lose_no_more_than_their_own_rounding", "gradient 1 of the output in bfloat16")
def bfloat16_loses_a_gradient(_, out, q, k, v, masks):
    return sends(out, k, lambda _: torch.ones_like(k)) if out.dtype == torch.bfloat16 else out


@shows("outputs_and_gradients_are_finite_on_hard_inputs", "is not finite on norm 1000")
def long_queries_overflow(_, out, q, k, v, masks):
    is_long = out.dtype == torch.bfloat16 and q.norm(dim=-1).max() > 500
    return out * torch.inf if is_long else out


@shows("outputs_and_gradients_are_finite_on_hard_inputs", "not finite on all keys zero")
def keys_of_zero_give_nan(_, out, q, k, v, masks):
    return out if k.any() else sends(out, k, lambda _: torch.full_like(k, torch.nan))


@shows("keys_may_be_more_or_fewer_than_queries", "1 keys give 1 outputs")
def fewer_keys_give_fewer_outputs(_, out, q, k, v, masks):
    return out[..., : k.shape[-2], :]


@shows("keys_may_be_more_or_fewer_than_queries", "the output of 1 keys in float64")
def one_key_is_another_function(_, out, q, k, v, masks):
    return out * 1.01 if k.shape[-2] == 1 else out


@shows("keys_may_be_more_or_fewer_than_queries", "the output of 40 keys in float32")
def more_keys_lose_more_in_float32(_, out, q, k, v, masks):
    return out * 1.001 if k.shape[-2] > q.shape[-2] and out.dtype == torch.float32 else out


@shows("shape_and_dtype_are_kept_in_every_claimed_dtype", "not (2, 3, 12, 6)")
def a_channel_is_lost(_, out, q, k, v, masks):
    return out[..., 1:]


@shows("shape_and_dtype_are_kept_in_every_claimed_dtype", "torch.bfloat16: not finite")
def bfloat16_is_not_finite(_, out, q, k, v, masks):
    return out / (out.dtype != torch.bfloat16)


@shows("inputs_are_not_modified_and_the_output_is_not_one_of_them", "a gradient is modified")
def backward_writes_into_its_gradient(_, out, q, k, v, masks):
    return changes(out, q, lambda g: g.mul_(2))


@shows("inputs_are_not_modified_and_the_output_is_not_one_of_them", "an input was modified")
def the_output_is_a_view_of_the_values(_, out, q, k, v, masks):
    return v.view_as(v)


@shows("inputs_are_not_modified_and_the_output_is_not_one_of_them", "an input was modified")
def long_queries_are_written_into(_, out, q, k, v, masks):
    if q.shape[-2] == MEDIUM:
        q.data.mul_(2)
    return out


@shows("any_shape_gives_what_the_slow_form_gives", "the output shares an input's memory")
def one_token_gets_its_own_value(_, out, q, k, v, masks):
    return v.view_as(v) if v.shape[-2] == 1 else out


@shows("any_shape_gives_what_the_slow_form_gives", "a gradient is not finite")
def wide_heads_give_nan(_, out, q, k, v, masks):
    return sends(out, v, lambda g: g * torch.nan) if q.shape[-1] == 96 else out


@shows("fewer_tokens_than_it_was_built_for_give_what_the_slow_form_gives", "without saying 12")
def fewer_tokens_are_refused_without_a_number(self, out, q, k, v, masks):
    if q.shape[-2] < self.geometry.seq_len:
        raise ValueError("Too few tokens.")
    return out


@shows("shared_heads_of_keys_give_what_the_slow_form_gives", "the output of shared heads")
def four_heads_are_another_function(_, out, q, k, v, masks):
    return out * 1.001 if q.shape[1] == 4 else out


@shows("shared_heads_of_keys_give_what_the_slow_form_gives", "4 heads of queries give 2")
def shared_heads_give_an_output_each(_, out, q, k, v, masks):
    return out[:, :2] if q.shape[1] == 4 else out


@shows("shapes_can_be_followed_on_the_meta_device", "the output is on cpu")
def meta_tensors_become_real(_, out, q, k, v, masks):
    return torch.zeros(out.shape)


@shows("shapes_can_be_followed_on_the_meta_device", "on a CPU (2, 3, 300, 6)")
def meta_tensors_lose_a_token(_, out, q, k, v, masks):
    return out[..., 1:, :] if out.is_meta else out


@shows("the_same_seed_gives_the_same_mechanism_and_output", "a second call differs")
def each_call_gives_more(self, out, q, k, v, masks):
    self.calls = 1 + getattr(self, "calls", 0)
    return out * self.calls


TURNS = itertools.count(1)


@shows("the_same_seed_gives_the_same_mechanism_and_output", "another output or gradient")
def each_mechanism_has_larger_gradients(_, out, q, k, v, masks):
    return changes(out, q, lambda g: g * next(TURNS))


@shows("seeds_are_left_to_the_caller", "a call moves torch's generator")
def long_calls_roll_dice(_, out, q, k, v, masks):
    return out + 0 * torch.rand(1) if q.shape[-2] == LONG else out


@shows("it_runs_under_autocast", "the output under autocast")
def what_is_half_already_is_another_function(_, out, q, k, v, masks):
    return out * 1.5 if torch.is_autocast_enabled("cpu") and q.dtype in HALF else out


@shows("batch_rows_are_independent", "other rows change row 4")
def long_rows_see_the_first(_, out, q, k, v, masks):
    return out + 1e-3 * only_at(4, out, 0) * out[:1] if q.shape[-2] == MEDIUM else out


@shows("a_batch_of_one_row_gives_what_the_row_gives_among_others", "the output of rows alone")
def a_row_alone_is_another_function(_, out, q, k, v, masks):
    return out * 1.001 if len(out) == 1 else out


@shows("one_sends_no_gradient_to_others", "head 0 sends a gradient to others")
def heads_share_gradients(_, out, q, k, v, masks):
    return sends(out, v, lambda g: 1e-3 * g.mean(1, keepdim=True).expand_as(g).contiguous())


@shows("order_does_not_matter_to_a_position_free_mechanism", "the output of another order")
def long_inputs_have_places(_, out, q, k, v, masks):
    places = torch.linspace(1, 1.1, out.shape[-2], dtype=out.dtype)[:, None]
    return out * places if q.shape[-2] == MEDIUM else out
