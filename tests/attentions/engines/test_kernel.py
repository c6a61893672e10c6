"""The tiled code path, the plain formula and the written-out references give the same."""

import copy

import pytest
import torch

from attentions import Geometry, build_attention
from attentions.engines import kernel
from tests.attentions.engines.drawn import D, E, H, gradients, tensors

pytestmark = pytest.mark.usefixtures("small_tiles")

FORMS = {
    "linear": ("linear", {}, False),
    "linear-causal": ("linear", {}, True),
    "nala": ("nala", {}, False),
    "nala-rope": ("nala", {"rope": True}, False),
    "nala-powers": ("nala", {"lam": 1.0, "tau": 1.0, "key_power": 1.0}, False),
    "nala_cosine": ("nala_cosine", {}, False),
    "nala_cosine-paper": ("nala_cosine", {"alpha": 1.0, "key_power": 2.0}, False),
    "efficient": ("efficient", {}, False),
    "cosformer": ("cosformer", {}, False),
    "cosformer-causal": ("cosformer", {}, True),
    "hedgehog": ("hedgehog", {}, False),
    "dpfp": ("dpfp", {"nu": 3}, False),
    "rfa": ("rfa", {}, False),
    "rfa-causal": ("rfa", {}, True),
    "performer": ("performer", {}, False),
    "performer-relu": ("performer", {"kernel": "relu"}, False),
    "performer-relu-causal": ("performer", {"kernel": "relu"}, True),
    "flatten": ("flatten", {}, False),
    "flatten-head": ("flatten", {"norm_over": "head", "focusing_factor": 4.5}, False),
    "polaformer": ("polaformer", {}, False),
    "taylor": ("taylor", {}, False),
    "taylor-causal": ("taylor", {}, True),
    "linear_unnormalised": ("linear_unnormalised", {}, False),
    "linear_unnormalised-causal": ("linear_unnormalised", {}, True),
}
SIZES = (1, 16, 17, 64, 65, 150)
"""Around a chunk and a tile of `small_tiles`, and several of each."""
KINDS = (
    *("linear", "linear-causal", "rfa-causal", "linear_unnormalised-causal", "nala-rope"),
    *("performer", "flatten", "efficient", "polaformer"),
)
"""Every way through the tiles: plain, in chunks, with a rotation or with a largest key, with
joint heads, and with sums that are changed before they are read."""
TRACED = ("linear", "linear-causal", "nala-rope", "performer", "polaformer")
every_way = pytest.mark.parametrize("form", KINDS)


def forms_with(name, values, for_others):
    """Every form: those of `KINDS` with all values, the others with fewer."""
    pairs = [(f, value) for f in FORMS for value in (values if f in KINDS else for_others)]
    return pytest.mark.parametrize(("form", name), pairs)


def build(form, seq_len, *, num_heads=H, value_dim=E, dtype=torch.float64):
    """A mechanism whose learned values are not those it starts with."""
    name, settings, is_causal = FORMS[form]
    geometry = Geometry(
        num_heads=num_heads, head_dim=D, seq_len=seq_len, value_dim=value_dim, causal=is_causal
    )
    core = build_attention(name, geometry, **settings).to(dtype)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return core


def assert_same(core, inputs, plainly):
    """Outputs and gradients by tiles, by the formula, and of the reference."""
    assert kernel._is_tiled(*inputs)
    outs = core(*inputs), plainly(core, *inputs), core.reference(*inputs)
    cotangent = torch.randn_like(outs[0])
    for out in outs[1:]:
        torch.testing.assert_close(outs[0], out, rtol=1e-9, atol=1e-10)
    found = [gradients(out, core, inputs, cotangent) for out in outs[:2]]
    for got, want in zip(*found, strict=True):
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9 * scale)


@forms_with("seq_len", SIZES, for_others=(17, 150))
def test_tiles_and_chunks_change_nothing(form, seq_len, plainly):
    assert_same(build(form, seq_len), tensors(*[seq_len] * 3), plainly)


@forms_with("dtype", [torch.bfloat16, torch.float16], for_others=[torch.bfloat16])
def test_half_tensors_are_computed_in_float32_tile_by_tile(form, dtype, plainly):
    core = build(form, 100, dtype=torch.float32)
    inputs = [x.detach().to(dtype).requires_grad_() for x in tensors(*[100] * 3, batch_size=1)]
    outs = core(*inputs), plainly(core, *inputs)
    cotangent = torch.randn_like(outs[0])
    found = [(out, *gradients(out, core, inputs, cotangent)) for out in outs]
    for got, want in zip(*found, strict=True):
        assert got.dtype == want.dtype
        assert (got - want).abs().max() <= 2 * torch.finfo(dtype).eps * want.abs().max()


@every_way
def test_only_inputs_and_sums_are_kept_for_the_backward_pass(form):
    core = build(form, 1024, value_dim=D, dtype=torch.float32)
    if core.geometry.causal:
        pytest.skip("keeps sums before each tile")
    inputs = [x.detach().float().requires_grad_() for x in tensors(*[1024] * 3, value_dim=D)]
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        core(*inputs)
    own = {x.untyped_storage().data_ptr() for x in (*inputs, *core.parameters())}
    extra = sum(size for address, size in kept.items() if address not in own)
    assert extra <= inputs[0].numel() * 4 / 4


@pytest.mark.parametrize("form", TRACED)
def test_a_compiler_a_transform_and_forward_differentiation_get_the_formula(form, plainly):
    core = build(form, 12, dtype=torch.float32)
    mapped, pushed = (copy.deepcopy(core) for _ in range(2))  # whose first call is a transform's
    q, k, v = (x.detach().float() for x in tensors(12, 12, 12))
    expected = plainly(core, q, k, v)
    torch._dynamo.reset()  # all mechanisms share one `__call__`, of which a few versions are kept
    compiled = torch.compile(core, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v), expected)
    one_row = torch.func.vmap(lambda *row: mapped(*(x[None] for x in row))[0])
    torch.testing.assert_close(one_row(q, k, v), expected, rtol=1e-4, atol=1e-5)
    tangents = tuple(torch.randn_like(x) for x in (q, k, v))
    _, got = torch.func.jvp(pushed, (q, k, v), tangents)
    wide = [tuple(x.double() for x in side) for side in ((q, k, v), tangents)]
    _, want = torch.func.jvp(core.double(), *wide)
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


@every_way
def test_a_transform_of_something_else_leaves_gradients_as_they_are(form):
    core = build(form, 12, dtype=torch.float32)
    q, k, v = (x.detach().float().requires_grad_() for x in tensors(12, 12, 12))
    expected = torch.autograd.grad(core(q, k, v).sum(), (q, k, v))
    factors = torch.ones(2, requires_grad=True)
    by_vmap = torch.func.vmap(lambda x: x * core(q, k, v).sum())(factors).mean()
    torch.testing.assert_close(torch.autograd.grad(by_vmap, (q, k, v)), expected)
    slope = torch.func.grad(lambda x: x * core(q, k, v).sum())(torch.ones(()))
    torch.testing.assert_close(torch.autograd.grad(slope, (q, k, v)), expected)
