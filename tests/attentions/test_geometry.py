import pytest

from attentions.geometry import CallShape, Geometry, most_square_grid
from tests.refusals import refused


@pytest.mark.parametrize(
    ("seq_len", "grid"), [(1, (1, 1)), (7, (1, 7)), (12, (3, 4)), (49, (7, 7)), (1024, (32, 32))]
)
def test_the_grid_is_the_most_square_one_unless_given(seq_len, grid):
    assert most_square_grid(seq_len) == grid
    assert Geometry(num_heads=2, head_dim=4, seq_len=seq_len).grid == grid


def test_values_are_as_wide_as_keys_unless_given():
    assert Geometry(num_heads=2, head_dim=4, seq_len=12).value_dim == 4
    assert Geometry(num_heads=2, head_dim=4, seq_len=12, value_dim=6).value_dim == 6
    assert Geometry(num_heads=2, head_dim=4, seq_len=12).embed_dim == 8


@pytest.mark.parametrize("name", ["num_heads", "head_dim", "seq_len", "value_dim"])
@pytest.mark.parametrize("value", [-1, 2.0, True, "4"])
def test_a_size_that_is_no_whole_number_above_zero_is_refused_by_name(name, value):
    sizes = {"num_heads": 2, "head_dim": 4, "seq_len": 12} | {name: value}
    with pytest.raises(ValueError, match=f"Geometry.{name} is {value!r}; a whole number of 1"):
        Geometry(**sizes)


@pytest.mark.parametrize("grid", [(3, 5), (-3, -4), (0, 12), (12, 0), (3.0, 4.0), (12,), (1, 3, 4)])
def test_a_grid_without_a_cell_for_each_token_is_refused(grid):
    given = "x".join(map(str, grid))
    with pytest.raises(ValueError, match=f"Geometry.grid is {given};.* seq_len, 12"):
        Geometry(num_heads=2, head_dim=4, seq_len=12, grid=grid)


def test_a_call_shape_counts_pairs_and_tokens():
    shape = CallShape(batch_size=2, num_heads=3, query_len=5, key_len=7, head_dim=4, value_dim=4)
    assert (shape.num_pairs, shape.num_tokens, shape.num_keys) == (2 * 3 * 35, 30, 42)


def test_a_causal_call_shape_counts_visible_pairs_only():
    shape = CallShape(
        batch_size=1, num_heads=2, query_len=4, key_len=4, head_dim=4, value_dim=4, causal=True
    )
    assert shape.num_pairs == 2 * (1 + 2 + 3 + 4)


def test_heads_that_cannot_be_shared_evenly_are_refused():
    assert Geometry(num_heads=4, head_dim=4, seq_len=4, num_kv_heads=2).num_kv_heads == 2
    for heads in (3, 8):
        with refused(rf"Geometry.num_kv_heads is {heads}; a divisor of num_heads, 4, is needed"):
            Geometry(num_heads=4, head_dim=4, seq_len=4, num_kv_heads=heads)
