from functools import partial

import torch
from torch.nn import functional

from tests.attentions.calls import built

build = partial(built, "deltanet", True, seq_len=9, value_dim=3)


def test_lengths_count_only_where_they_are_not_taken_out(qkv):
    q, k, v = qkv(1, 2, 9, 4, value_dim=3)
    unit_q, unit_k = (functional.normalize(x, dim=-1) for x in (q, k))
    as_they_come = build(normalise_keys=False)(unit_q, unit_k, v)
    both = build(normalise_queries=True)
    torch.testing.assert_close(both(q, k, v), as_they_come, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both(7 * q, 7 * k, v), as_they_come, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both.reference(q, k, v), both(q, k, v))
    torch.testing.assert_close(build()(7 * q, k, v), 7 * build()(q, k, v))
