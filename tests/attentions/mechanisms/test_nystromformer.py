from functools import partial

import pytest
import torch
from torch.nn import functional

from tests.attentions.calls import built

build = partial(built, "nystromformer", seq_len=12, value_dim=3)


def test_the_batchs_largest_sum_is_that_of_the_authors_code(qkv):
    q, k, v = qkv(2, 2, 12, 4, value_dim=3)
    tensors = (torch.cat((q[:1], 5 * q[1:])), torch.cat((k[:1], 5 * k[1:])), v)
    of_batch, of_head = (
        build(num_landmarks=4, pinv_iters=2, pinv_init=init) for init in ("batch", "head")
    )
    torch.testing.assert_close(of_batch(*tensors), of_batch.reference(*tensors))
    alone = tuple(x[:1] for x in tensors)
    assert torch.equal(of_head(*alone), of_head(*tensors)[:1])
    assert not torch.allclose(of_batch(*alone), of_batch(*tensors)[:1], atol=1e-3)


@pytest.mark.parametrize(
    ("seq_len", "count"), [(1, 1), (2, 1), (3, 2), (12, 6), (128, 64), (130, 44)]
)
def test_segments_have_two_tokens_or_more_and_the_last_what_is_left(seq_len, count, qkv):
    core, tensors = build(seq_len=seq_len), qkv(1, 2, seq_len, 4, value_dim=3)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))
    length = core._segment_len(seq_len)
    assert length >= 2 and -(-seq_len // length) == count <= 64


@pytest.mark.parametrize("size", [1, 3, 33])
def test_a_convolution_along_the_tokens_is_added(size, qkv):
    tensors = qkv(2, 2, 12, 4, value_dim=3)
    core = build(num_landmarks=4, conv_kernel_size=size)
    added = (core(*tensors) - build(num_landmarks=4)(*tensors)).detach()
    taps, v = core.conv.weight.detach()[:, :, :, 0], tensors[2]
    for channel in range(3):
        local = functional.conv1d(v[..., channel], taps, padding=size // 2, groups=2)
        torch.testing.assert_close(added[..., channel], local)
    torch.testing.assert_close(core(*tensors), core.reference(*tensors))
