from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from attentions import Geometry, build_attention

NAMES = ("softmax", "softmax_explicit")
both = pytest.mark.parametrize("name", NAMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", ["full", "cross", "causal", "key_mask", "mask", "masked_causal"])
def test_softmax_is_torchs_function_to_the_bit(case, dtype):
    torch.manual_seed(0)
    length, causal = 33, "causal" in case
    keys = 21 if case == "cross" else length
    shapes = ((2, 3, length, 16), (2, 3, keys, 16), (2, 3, keys, 16))
    ours = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    given, allowed = {}, None
    if "mask" in case:
        seen = torch.rand(2, keys) > 0.3 if case == "key_mask" else torch.rand(length, keys) > 0.3
        seen[0] = False  # a query, or a sequence, whose keys are all hidden
        given = {"key_mask" if case == "key_mask" else "mask": seen}
        allowed = seen[:, None, None] if case == "key_mask" else seen
        allowed = allowed.tril() if causal else allowed
    core = build_attention(
        "softmax", Geometry(num_heads=3, head_dim=16, seq_len=length, causal=causal)
    )
    out = core(*ours, **given)
    is_causal = causal and allowed is None
    expected = functional.scaled_dot_product_attention(*theirs, allowed, is_causal=is_causal)
    assert torch.equal(out, expected)
    if allowed is not None:
        assert out[0, :, 0].eq(0).all()
    cotangent = torch.randn(out.shape).to(dtype)
    gradients = torch.autograd.grad(out, ours, cotangent)
    for got, want in zip(gradients, torch.autograd.grad(expected, theirs, cotangent), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_the_explicit_form_rounds_half_inputs_only_once(causal, dtype, qkv):
    q, k, v = (x.to(dtype) for x in qkv(1, 2, 33, 16))
    q, k = 20 * q, 20 * k  # scores of thousands
    core = build_attention(
        "softmax_explicit", Geometry(num_heads=2, head_dim=16, seq_len=33, causal=causal)
    )
    expected = core.reference(q.double(), k.double(), v.double())
    error = (core(q, k, v).double() - expected).abs().max() / expected.abs().max()
    assert error < torch.finfo(dtype).eps


@both
def test_scores_of_float16_do_not_overflow(name):
    core = build_attention(name, Geometry(num_heads=1, head_dim=64, seq_len=4))
    q = torch.full((1, 1, 4, 64), 60.0, dtype=torch.float16)  # q . k is 230400, over sqrt(D) 28800
    assert core(q, q, q).isfinite().all()


class _Copies(TorchDispatchMode):
    """Operators that write as many elements as keys written out for every query head have."""

    def __init__(self, size):
        super().__init__()
        self.size, self.found = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        is_attention = "scaled_dot_product" in str(func)
        is_new = isinstance(out, torch.Tensor) and not func.is_view
        if is_new and not is_attention and out.numel() >= self.size and out.shape[-2:] == (40, 16):
            self.found.append(str(func))
        return out


GROUPED = Geometry(num_heads=8, num_kv_heads=2, head_dim=16, seq_len=40)


def grouped(case, dtype=torch.float32, **settings):
    """A core for shared heads, one for own heads, and what they are called with."""
    causal = "causal" in case or case == "prefill"
    torch.manual_seed(0)
    q = torch.randn(2, 8, 40, 16).to(dtype)
    k, v = torch.randn(2, 2, 2, 40, 16).to(dtype)
    given = {}
    if "padding" in case:
        given = {"key_mask": torch.arange(40) < torch.tensor([[31], [40]])}
    if "dense" in case:
        given = {"mask": torch.rand(2, 8, 40, 40) > 0.3}
    shared = build_attention("softmax", replace(GROUPED, causal=causal), **settings)
    own = build_attention("softmax", replace(GROUPED, num_kv_heads=8, causal=causal), **settings)
    return shared, own, (q, k, v), given


def written_out(*tensors):
    """Every head of keys or values, once for each of its four query heads."""
    return [x.repeat_interleave(4, dim=1) for x in tensors]


CASES = ["full", "causal", "padding", "dense", "causal padding", "causal dense"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("backend", ["auto", "math", "flash"])
def test_shared_heads_give_what_copies_of_them_give_to_the_bit(case, dtype, backend):
    shared, own, (q, k, v), given = grouped(case, dtype, backend=backend)
    assert torch.equal(shared(q, k, v, **given), own(q, *written_out(k, v), **given))


@pytest.mark.parametrize("case", CASES)
def test_no_copy_of_shared_heads_is_made_forward_and_backward(case):
    shared, own, tensors, given = grouped(case)
    ours = [x.clone().requires_grad_() for x in tensors]
    cotangent = torch.randn(2, 8, 40, 16)
    with _Copies(2 * 8 * 40 * 16) as seen:
        gradients = torch.autograd.grad(shared(*ours, **given), ours, cotangent)
    assert seen.found == []
    theirs = [x.clone().requires_grad_() for x in tensors]
    out = own(theirs[0], *written_out(*theirs[1:]), **given)
    for one, other in zip(gradients, torch.autograd.grad(out, theirs, cotangent), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("num_kv_heads", [2, 8], ids=["by its geometry", "by its cache alone"])
def test_a_first_prompt_copies_no_shared_heads(num_kv_heads):
    _, own, (q, k, v), _ = grouped("prefill")
    geometry = replace(GROUPED, num_kv_heads=num_kv_heads, causal=True)
    core = build_attention("softmax", geometry)
    fewer = {"num_kv_heads": 2} if num_kv_heads == 8 else {}
    state = core.init_state(2, dtype=q.dtype, device=q.device, **fewer)
    with _Copies(2 * 8 * 40 * 16) as seen:
        out, state = core.step(q, k, v, state)
    assert seen.found == [] and torch.equal(state.k, k)
    assert torch.equal(out, own(q, *written_out(k, v)))
