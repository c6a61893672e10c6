import itertools

import pytest
import torch

from attentions.maths.pairs.tiles import Tiling


def tiles(tiling):
    return [(rows, columns) for rows in tiling.rows() for columns in tiling.columns(rows)]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize(
    ("query_len", "key_len", "causal"), [(7, 10, False), (20, 3, False), (9, 9, True)]
)
def test_every_pair_that_may_be_seen_is_in_one_tile(size, query_len, key_len, causal):
    tiling = Tiling(query_len=query_len, key_len=key_len, size=size, causal=causal)
    allowed = torch.rand(query_len, key_len) < 0.7
    seen = torch.zeros(query_len, key_len, dtype=torch.long)
    for rows, columns in tiles(tiling):
        hidden = tiling.hidden(rows, columns, allowed, torch.device("cpu"))
        assert max(rows.stop - rows.start, columns.stop - columns.start) <= size
        seen[rows, columns] += ~hidden
    assert torch.equal(seen, (allowed.tril() if causal else allowed).long())


def test_tiles_of_later_keys_only_are_left_out():
    tiling = Tiling(query_len=9, key_len=9, size=3, causal=True)
    assert [(r.start, c.start) for r, c in tiles(tiling)] == [
        (0, 0), (3, 0), (3, 3), (6, 0), (6, 3), (6, 6),
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 5), (2, 1, 1, 5), (1, 3, 4, 1)])
def test_a_mask_is_cut_only_where_it_does_not_broadcast(shape):
    tiling = Tiling(query_len=4, key_len=5, size=2, causal=False)
    allowed = torch.rand(shape) < 0.5
    full = allowed.expand(2, 3, 4, 5)
    for rows, columns in itertools.product(tiling.rows(), tiling.columns(slice(0, 4))):
        hidden = tiling.hidden(rows, columns, allowed, torch.device("cpu"))
        size = (2, 3, rows.stop - rows.start, columns.stop - columns.start)
        assert torch.equal(hidden.expand(size), ~full[:, :, rows, columns])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 3, 4, 20])
def test_a_window_reaches_to_both_sides_unless_causal(window, causal):
    tiling = Tiling(query_len=9, key_len=9, size=2, causal=causal, window=window)
    seen = torch.zeros(9, 9, dtype=torch.bool)
    for rows in tiling.rows():
        for columns in tiling.columns(rows):
            hidden = tiling.hidden(rows, columns, None, torch.device("cpu"))
            seen[rows, columns] = True if hidden is None else ~hidden
    before = torch.arange(9)[:, None] - torch.arange(9)
    expected = before.abs() < window
    assert torch.equal(seen, expected & (before >= 0) if causal else expected)
