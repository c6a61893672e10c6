"""Lies about outputs of softmax attention, and what each makes a check say."""

import itertools

import torch
from torch import Tensor

from attentions.testing.forms import FAR, LONG, MEDIUM, SEQ_LEN
from tests.attentions.testing.lies import (
    Call,
    Spoil,
    at,
    changes,
    given,
    leaks,
    lost,
    off,
    ones,
    only_at,
    turned,
    within,
)

HALF = (torch.float16, torch.bfloat16)
TURNS = itertools.count(1)


def is_under_autocast(c: Call) -> bool:
    return torch.is_autocast_enabled("cpu")


def hidden_keys_show_in_the_middle(c: Call) -> Tensor:
    is_long = "key_mask" in c.masks and len(c.k) > 2 and c.k.shape[-2] > SEQ_LEN
    return c.out * (1 + 1e-3 * only_at(2, c.out, 0)) if is_long else c.out


def the_second_chunk_shows_hidden_pairs(c: Call) -> Tensor:
    is_long = "mask" in c.masks and c.q.shape[-2] > 64
    return c.out * (1 + 1e-3 * only_at(64, c.out, -2)) if is_long else c.out


def a_mask_is_inverted(name: str) -> Spoil:
    def spoil(c: Call) -> Tensor:
        c.masks[name].logical_not_()
        return c.out

    return spoil


def the_same_buffer(c: Call) -> Tensor:
    kept = c.module.__dict__.setdefault("kept", torch.empty_like(c.out))
    return kept.copy_(c.out)


def writes_into_the_keys(c: Call) -> Tensor:
    def write(gradient: Tensor) -> Tensor:
        c.k.data.mul_(1.000001)
        return gradient

    return changes(c.out, c.q, write)


def long_queries_are_written_into(c: Call) -> Tensor:
    if c.q.shape[-2] == MEDIUM:
        c.q.data.mul_(2)
    return c.out


def one_row_in_the_middle_sees_the_first(c: Call) -> Tensor:
    is_short = c.q.shape[-2] == SEQ_LEN
    return c.out + is_short * 1e-3 * only_at(2, c.out, 0) * c.out[:1]


def long_rows_see_the_first(c: Call) -> Tensor:
    is_long = c.q.shape[-2] == MEDIUM
    return c.out + is_long * 1e-3 * only_at(4, c.out, 0) * c.out[:1]


def places_show(length: int) -> Spoil:
    def spoil(c: Call) -> Tensor:
        places = torch.linspace(1, 1.1, c.out.shape[-2], dtype=c.out.dtype)[:, None]
        return c.out * places if c.q.shape[-2] == length else c.out

    return spoil


def each_gradient_is_larger(c: Call) -> Tensor:
    turns = itertools.count(1)
    return changes(c.out, c.q, lambda g: g * next(turns))


def each_call_gives_more(c: Call) -> Tensor:
    c.module.calls = 1 + getattr(c.module, "calls", 0)
    return c.out * c.module.calls


def a_number_is_kept(c: Call) -> Tensor:
    if not hasattr(c.module, "secret"):
        c.module.secret = torch.rand(1).item()
    return c.out + c.module.secret


def a_tensor_is_kept(c: Call) -> Tensor:
    if not hasattr(c.module, "kept"):
        c.module.kept = torch.ones((), dtype=c.out.dtype)
    return c.out * c.module.kept


def a_call_seeds_again(c: Call) -> Tensor:
    torch.manual_seed(0)
    return c.out


def autocast_refuses_what_is_half_already(c: Call) -> Tensor:
    if is_under_autocast(c) and c.q.dtype == torch.bfloat16:
        raise RuntimeError("expected scalar type Float but found BFloat16")
    return c.out


def fewer_tokens_are_refused_without_a_number(c: Call) -> Tensor:
    if c.q.shape[-2] < c.module.geometry.seq_len:
        raise ValueError("Too few tokens.")
    return c.out


def the_graph_breaks(c: Call) -> Tensor:
    torch._dynamo.graph_break()
    return c.out


def chunks_are_counted(c: Call) -> Tensor:
    return torch.cat([part.clone() for part in c.out.split(1, dim=-2)], dim=-2)


def is_blind(c: Call) -> Tensor:
    """True for the rows of a batch whose keys are all hidden, (B, 1, 1, 1)."""
    return c.hidden.all(2, keepdim=True)


LIES: dict[str, list[tuple[str, Spoil]]] = {
    "a_hidden_token_sees_what_was_kept_before_it": [
        ("the output of a hidden token", lambda c: c.out * ~c.hidden if c.is_causal else c.out),
        (
            "before which all keys are hidden is not",
            lambda c: torch.where(c.hidden.cummin(2).values, 1.0, c.out) if c.masks else c.out,
        ),
    ],
    "hidden_keys_are_as_good_as_removed": [
        ("the mask is modified", lambda c: a_mask_is_inverted("key_mask")(c) if c.masks else c.out),
        ("hidden keys in float32 of shape (1, 3, 131, 6)", hidden_keys_show_in_the_middle),
        (
            "the output with hidden keys in float32",
            lambda c: torch.where(c.hidden[:, :, :1], 1.01 * c.out, c.out),
        ),
    ],
    "hidden_keys_may_be_others_than_the_queries": [
        (
            "the output with hidden keys of 40",
            off(lambda c: c.masks and c.k.shape[-2] != c.q.shape[-2]),
        )
    ],
    "hidden_keys_get_no_gradient": [
        ("no key gets a gradient", turned(torch.zeros_like, lambda c: c.masks)),
    ],
    "a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients": [
        (
            "hidden is not zero",
            lambda c: torch.where(is_blind(c), 1.0, c.out),
        ),
        ("are kept is zero", lambda c: c.out * ~is_blind(c).any()),
        ("is not finite", given("v", lost, lambda c: within(*HALF)(c) and is_blind(c).any())),
    ],
    "a_dense_mask_hides_pairs_one_by_one": [
        ("the mask is modified", a_mask_is_inverted("mask")),
        ("the output of query 64 in row 0", the_second_chunk_shows_hidden_pairs),
    ],
    "a_row_that_a_dense_mask_blanks_has_finite_gradients": [
        (
            "that sees nothing is not zero",
            lambda c: torch.where(c.masks["mask"].any(-1, keepdim=True), c.out, 1.0),
        ),
        (
            "hidden from all gets a gradient",
            given("k", lambda c, _: ~c.masks["mask"].any(-2)[:, None] * torch.ones_like(c.k)),
        ),
        ("a gradient is not finite", given("v", lost, within(torch.bfloat16))),
    ],
    "the_future_changes_no_bit_of_the_past": [
        (
            "leaks the future: of 12 tokens in float32, those after 0 change",
            lambda c: c.out + 1e-6 * c.v.mean(-2, keepdim=True),
        ),
        (
            "of 12 tokens in bfloat16",
            lambda c: c.out + 0.1 * (c.out.dtype in HALF) * c.v.mean(-2, keepdim=True),
        ),
        ("of 300 tokens in float32, those after 63", leaks(63, LONG)),
        ("of 700 tokens in float32, those after 511", leaks(511, FAR)),
        ("of 300 tokens in float32, those after 298", leaks(LONG - 2, LONG)),
        ("another input gives the same output", lambda c: 0 * c.out),
    ],
    "the_future_sends_no_gradient_to_the_past": [
        ("outputs up to 1 send no gradient at all", turned(torch.zeros_like)),
        (
            "of 300 tokens, outputs up to 63 send a gradient",
            given(
                "v",
                lambda _, g: 1e-6 * only_at(64, g, -2) * g[..., 63:64, :],
                lambda c: c.is_causal and c.v.shape[-2] == LONG,
            ),
        ),
    ],
    "an_exact_mechanism_is_softmax_attention": [
        ("the output in float16", off(within(torch.float16), 1.01))
    ],
    "an_exact_mechanism_stays_so_where_others_part": [
        ("700 tokens in float32", off(at(FAR))),
        (
            "queries of norm 50.0 in float32",
            lambda c: torch.where(c.q.norm(dim=-1, keepdim=True) > 40, 1.001 * c.out, c.out),
        ),
    ],
    "outputs_and_gradients_equal_the_reference_in_float64": [
        ("in float64 of shape (2, 3, 1, 6)", off(at(1), 1.000001)),
        ("in float64 of shape (2, 3, 300, 6)", off(at(LONG), 1.000001)),
        (
            "gradient 0 of the output in float64",
            given("q", lambda c, _: torch.full_like(c.q, 1e-6)),
        ),
    ],
    "gradients_equal_finite_differences": [
        ("acobian", lambda c: 0.5 * c.out + 0.5 * c.out.detach())
    ],
    "gradients_of_long_inputs_equal_finite_differences": [
        ("the slope is", given("k", ones, at(LONG)))
    ],
    "gradients_are_the_same_however_they_are_asked_for": [
        ("taken twice differs", each_gradient_is_larger),
        ("gradient 0 of other strides", turned(lambda g: g if g.is_contiguous() else 1.1 * g)),
        ("of a cotangent without strides", turned(lambda g: g * (max(g.stride()) > 0))),
        (
            "gradient 0 of input 1 alone",
            lambda c: c.out if c.q.requires_grad else changes(c.out, c.k, lambda g: 1.1 * g),
        ),
        (
            "input 1 alone gets no gradient",
            lambda c: c.out if c.q.requires_grad or c.v.requires_grad else c.out.detach(),
        ),
    ],
    "narrow_dtypes_lose_no_more_than_their_own_rounding": [
        ("the output in float16", off(within(torch.float16), 1.01)),
        (
            "the output in float32 of shape (2, 3, 131",
            off(lambda c: c.out.dtype == torch.float32 and c.k.shape[-2] > 64),
        ),
        *(
            (f"gradient 1 of the output in {name}", given("k", ones, within(dtype)))
            for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))
        ),
    ],
    "outputs_and_gradients_are_finite_on_hard_inputs": [
        (
            "is not finite on norm 1000",
            off(
                lambda c: c.out.dtype == torch.bfloat16 and c.q.norm(dim=-1).max() > 500, torch.inf
            ),
        ),
        (
            "not finite on all keys zero",
            given("k", lambda c, _: torch.full_like(c.k, torch.nan), lambda c: not c.k.any()),
        ),
    ],
    "keys_may_be_more_or_fewer_than_queries": [
        ("1 keys give 1 outputs", lambda c: c.out[..., : c.k.shape[-2], :]),
        ("the output of 1 keys in float64", off(at(1))),
        (
            "the output of 40 keys in float64 of shape (2, 3, 1,",
            off(lambda c: c.q.shape[-2] == 1 < c.k.shape[-2]),
        ),
        (
            "gradient 1 of the output of",
            given("k", lambda c, _: c.k.detach(), lambda c: c.q.shape[-2] != c.k.shape[-2]),
        ),
        (
            "the output of 40 keys in float32",
            off(lambda c: c.k.shape[-2] > c.q.shape[-2] and c.out.dtype == torch.float32),
        ),
    ],
    "shape_and_dtype_are_kept_in_every_claimed_dtype": [
        ("not (2, 3, 12, 6)", lambda c: c.out[..., 1:]),
        ("inputs give torch.float64", lambda c: c.out.double()),
        ("torch.bfloat16: not finite", lambda c: c.out / (c.out.dtype != torch.bfloat16)),
    ],
    "inputs_are_not_modified_and_the_output_is_not_one_of_them": [
        ("a gradient is modified", turned(lambda g: g.mul_(2))),
        ("an input was modified", lambda c: c.v.view_as(c.v)),
        ("an input was modified", long_queries_are_written_into),
        ("an input was modified", writes_into_the_keys),
    ],
    "a_later_call_leaves_earlier_outputs_alone": [("a second call overwrites", the_same_buffer)],
    "strides_do_not_matter": [
        (
            "the output of other strides",
            off(lambda c: c.out.dtype == torch.bfloat16 and not c.q.is_contiguous(), 1.05),
        )
    ],
    "any_shape_gives_what_the_slow_form_gives": [
        (
            "the output shares an input's memory",
            lambda c: c.v.view_as(c.v) if c.v.shape[-2] == 1 else c.out,
        ),
        ("of shape (1, 3, 61, 20)", off(at(61))),
        ("of shape (2, 2, 20, 24)", off(lambda c: c.q.shape[-1] > 64)),
        ("a gradient is not finite", given("v", lost, lambda c: c.q.shape[-1] == 96)),
    ],
    "shapes_that_are_drawn_give_what_the_slow_form_gives": [
        ("the output in float64", off(lambda c: True))
    ],
    "fewer_tokens_than_it_was_built_for_give_what_the_slow_form_gives": [
        ("without saying 12", fewer_tokens_are_refused_without_a_number),
        (
            "the output of 12 of 300 tokens",
            off(lambda c: c.q.shape[-2] < c.module.geometry.seq_len),
        ),
    ],
    "shared_heads_of_keys_give_what_the_slow_form_gives": [
        ("the output of shared heads", off(lambda c: c.q.shape[1] == 4)),
        ("4 heads of queries give 2", lambda c: c.out[:, :2]),
    ],
    "shapes_can_be_followed_on_the_meta_device": [
        ("the output is on cpu", lambda c: torch.zeros(c.out.shape)),
        ("on a CPU (2, 3, 300, 6)", lambda c: c.out[..., 1:, :] if c.out.is_meta else c.out),
        ("meta", lambda c: c.out if float(c.out.sum()) < 1e30 else -c.out),
    ],
    "the_state_dict_carries_everything_over": [("the outputs still differ", a_number_is_kept)],
    "a_call_under_inference_mode_leaves_training_possible": [("nference", a_tensor_is_kept)],
    "the_same_seed_gives_the_same_mechanism_and_output": [
        ("a second call differs", each_call_gives_more),
        ("another output or gradient", turned(lambda g: g * next(TURNS))),
    ],
    "seeds_are_left_to_the_caller": [
        ("a call moves torch's generator", a_call_seeds_again),
        (
            "a call moves torch's generator",
            lambda c: c.out + 0 * torch.rand(1) if c.q.shape[-2] == LONG else c.out,
        ),
    ],
    "it_runs_under_autocast": [
        (
            "the output under autocast",
            off(lambda c: is_under_autocast(c) and c.q.dtype in HALF, 1.5),
        ),
        ("of the largest gradient", turned(torch.zeros_like, is_under_autocast)),
        ("expected scalar type Float", autocast_refuses_what_is_half_already),
    ],
    "compile_takes_it_as_one_graph": [("graph_break", the_graph_breaks)],
    "export_takes_it_with_a_dynamic_number_of_tokens": [("", chunks_are_counted)],
    "batch_rows_are_independent": [
        ("other rows change row 2", one_row_in_the_middle_sees_the_first),
        ("other rows change row 4", long_rows_see_the_first),
    ],
    "a_batch_of_one_row_gives_what_the_row_gives_among_others": [
        ("the output of rows alone", off(lambda c: len(c.out) == 1))
    ],
    "one_sends_no_gradient_to_others": [
        (
            f"{what} 0 sends a gradient to others",
            given("v", lambda _, g, dim=dim: 1e-3 * g.mean(dim, keepdim=True).expand_as(g).clone()),
        )
        for what, dim in (("row", 0), ("head", 1))
    ],
    "heads_are_independent_exactly_if_claimed": [
        ("heads are not independent", lambda c: c.out + only_at(0, c.out, 1) * c.out[:, -1:]),
        (
            "heads are not independent",
            lambda c: c.out + 1e-3 * c.is_causal * c.out.mean(1, keepdim=True),
        ),
    ],
    "order_does_not_matter_to_a_position_free_mechanism": [
        ("the output of another order", places_show(length)) for length in (SEQ_LEN, MEDIUM)
    ],
}
"""Check -> its words, and the lie about an output of softmax attention that makes it say them."""
