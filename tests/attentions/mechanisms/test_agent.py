from functools import partial

import pytest
import torch

from tests.attentions.calls import built

build = partial(built, value_dim=3, stir=0.5)


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (7, 7), (10, 15)])
def test_agents_may_be_more_than_tokens_and_patches_may_overlap(grid, qkv):
    core = build("agent", grid=grid)
    tensors = qkv(1, 2, grid[0] * grid[1], 4, value_dim=3)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))
