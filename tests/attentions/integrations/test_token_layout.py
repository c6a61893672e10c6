import pytest

from attentions import build_attention
from attentions.integrations.token_layout import TokenLayout, placed


def test_a_grid_alone_says_how_many_tokens_there_are():
    geometry = placed(TokenLayout(grid=(3, 4)), "nala", num_heads=2, head_dim=4)
    assert geometry.grid == (3, 4)


def test_an_unknown_length_is_refused_only_to_those_who_ask():
    geometry = placed(TokenLayout(), "linformer", num_heads=2, head_dim=4)
    assert geometry.embed_dim == 8
    build_attention("linear", geometry)
    with pytest.raises(ValueError, match="number of tokens is not known here; give it as seq_len="):
        build_attention("linformer", geometry)


def test_tokens_before_the_grid_leave_no_grid_for_all():
    layout = TokenLayout(seq_len=13, grid=(3, 4), num_prefix_tokens=1)
    geometry = placed(layout, "nala", num_heads=2, head_dim=4)
    assert geometry.seq_len == 13
    with pytest.raises(ValueError, match="a token stands before it; build the model without"):
        _ = geometry.grid


def test_a_grid_that_is_not_known_is_not_guessed_from_the_length():
    geometry = placed(TokenLayout(seq_len=12), "nala", num_heads=2, head_dim=4)
    with pytest.raises(ValueError, match=r"grid=\(rows, columns\)"):
        _ = geometry.grid
