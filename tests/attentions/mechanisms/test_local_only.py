from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, "local_only", grid=(3, 4), value_dim=3)


def by_hand(core, v, grid):
    """Tap by tap around each token; what lies beyond the edge counts as zero."""
    (rows, columns), reach = grid, core.kernel_size // 2
    weight = core.conv.weight.detach().reshape(2, 3, -1, core.kernel_size)
    down = range(-reach, reach + 1) if core.dims == 2 else [0]
    out = torch.zeros_like(v)
    for h, token, channel in torch.cartesian_prod(
        torch.arange(2), torch.arange(v.shape[2]), torch.arange(3)
    ).tolist():
        row, column = divmod(token, columns)
        out[:, h, token, channel] = core.conv.bias[3 * h + channel].detach()
        for i, d in enumerate(down):
            for j, r in enumerate(range(-reach, reach + 1)):
                if 0 <= row + d < rows and 0 <= column + r < columns:
                    value = v[:, h, (row + d) * columns + column + r, channel]
                    out[:, h, token, channel] += weight[h, channel, i, j] * value
    return out


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(("dims", "grid"), [(2, (3, 4)), (1, (1, 12))])
def test_each_channel_has_a_kernel_of_its_own(kernel_size, dims, grid, qkv):
    q, k, v = qkv(2, 2, 12, 4, value_dim=3)
    core = build(dims=dims, kernel_size=kernel_size)
    expected = by_hand(core, v, grid)
    torch.testing.assert_close(core(q, k, v).detach(), expected)
    torch.testing.assert_close(core.reference(q, k, v).detach(), expected)
