import torch

from attentions.maths.recurrences.channel_decay import channel_decayed_attention
from tests.attentions.maths.recurrences.token_by_token import token_by_token


def test_what_a_token_hardly_forgets_is_not_rounded_token_by_token():
    """exp(-1e-7) is 1 - 1.2e-7 in float32: 2,048 of them would be off by 4e-5."""
    q, k, v = torch.ones(3, 1, 1, 2048, 1)
    steps, state = torch.full((1, 1, 2048, 1), -1e-7), torch.full((1, 1, 1, 1), 1e4)
    out, _ = channel_decayed_attention(q, k, v, steps, state)
    expected, _ = token_by_token(*(x.double() for x in (q, k, v, steps, state)))
    torch.testing.assert_close(out.double(), expected, rtol=4e-6, atol=0)
