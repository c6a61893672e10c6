"""The engine's products, by whichever library."""

import pytest
import torch

from attentions._engine_products import (
    backproject,
    meet,
    meet_again,
    project,
    read,
    read_into,
    spread,
)

E = 6


@pytest.mark.parametrize("num_heads", [1, 3])
@pytest.mark.parametrize("num_tokens", [7, 512, 576])
def test_products_are_products_whichever_library_takes_them(num_heads, num_tokens):
    parts = [torch.randn(num_heads, num_tokens, size) for size in (16, 10)]
    sums = [torch.randn(num_heads, E, size) for size in (16, 10)]
    columns = [torch.randn(num_heads, size, 1) for size in (16, 10)]
    values = torch.randn(num_heads, num_tokens, E)
    wide = {"rtol": 1e-4, "atol": 1e-4}
    expected = sum(phi @ s.mT for phi, s in zip(parts, sums, strict=True))
    torch.testing.assert_close(read(parts, sums), expected, **wide)
    out = torch.empty(num_heads, num_tokens, E)
    read_into(out, parts, sums)
    torch.testing.assert_close(out, expected, **wide)
    torch.testing.assert_close(spread(values, sums[0]), values @ sums[0], **wide)
    projected = sum(phi @ column for phi, column in zip(parts, columns, strict=True))
    torch.testing.assert_close(project(parts, columns), projected, **wide)
    share = projected
    torch.testing.assert_close(backproject(parts[0], share), parts[0].mT @ share, **wide)
    totals = [s.clone() for s in sums]
    meet_again(totals, values, parts)
    met = meet(values, parts)
    for total, before, alone, phi in zip(totals, sums, met, parts, strict=True):
        torch.testing.assert_close(alone, values.mT @ phi, **wide)
        torch.testing.assert_close(total, before + values.mT @ phi, **wide)
