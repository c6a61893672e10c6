import pytest
import torch

from attentions import Geometry, build_attention
from tests.attentions.calls import in_steps

CPU = torch.device("cpu")
CACHED = ["softmax", "softmax_explicit", "softmax_chunked"]


def build(name="softmax", *, causal=True, seq_len=12, num_heads=6, num_kv_heads=6):
    geometry = Geometry(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=8,
        value_dim=4,
        seq_len=seq_len,
        causal=causal,
    )
    return build_attention(name, geometry)


def inputs(num_kv_heads=6, *, seq_len=12, dtype=torch.float64):
    q = torch.randn(2, 6, seq_len, 8, dtype=dtype)
    k = torch.randn(2, num_kv_heads, seq_len, 8, dtype=dtype)
    return q, k, torch.randn(2, num_kv_heads, seq_len, 4, dtype=dtype)


def tokens(tensors, which):
    return tuple(x[:, :, which] for x in tensors)


@pytest.mark.parametrize("name", [*CACHED, "sliding_window"])
@pytest.mark.parametrize(("num_kv_heads", "lengths"), [(1, [1] * 12), (2, [5, 1, 1, 5])], ids=str)
def test_steps_equal_the_whole_with_any_number_of_shared_heads(name, num_kv_heads, lengths):
    core, tensors = build(name, num_kv_heads=num_kv_heads), inputs(num_kv_heads)
    torch.testing.assert_close(in_steps(core, tensors, lengths)[0], core(*tensors))


@pytest.mark.parametrize("name", CACHED)
def test_the_cache_is_filled_where_it_is_and_what_is_there_stays(name):
    core, tensors = build(name), inputs()
    state = core.init_state(2, dtype=torch.float64, device=CPU)
    place = (state.k.data_ptr(), state.v.data_ptr())
    for lengths in (slice(0, 7), slice(7, 8), slice(8, 12)):
        kept = state.k[:, :, : state.length].clone()
        _, after = core.step(*tokens(tensors, lengths), state)
        assert torch.equal(kept, state.k[:, :, : state.length])
        state = after
        assert (state.k.data_ptr(), state.v.data_ptr()) == place
    assert torch.equal(state.k, tensors[1]) and torch.equal(state.v, tensors[2])


def test_what_stands_behind_the_filled_part_is_not_looked_at():
    core, tensors = build(), inputs()
    state = core.init_state(2, dtype=torch.float64, device=CPU)
    state.k.fill_(torch.nan), state.v.fill_(torch.nan)
    _, state = core.step(*tokens(tensors, slice(0, 7)), state)
    out, _ = core.step(*tokens(tensors, slice(7, 8)), state)
    torch.testing.assert_close(out, core(*tensors)[:, :, 7:8])


@pytest.mark.parametrize("name", CACHED)
def test_a_token_more_than_there_is_room_for_is_refused_with_the_length_that_is_needed(name):
    core, tensors = build(name), inputs()
    _, state = core.step(*tensors, core.init_state(2, dtype=torch.float64, device=CPU))
    message = f"{name}: a state for 12 tokens holds 12, and 1 more were given; .* seq_len 13"
    with pytest.raises(ValueError, match=message):
        core.step(*tokens(tensors, slice(0, 1)), state)
