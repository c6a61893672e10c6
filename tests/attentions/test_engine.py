"""The engine against the plain forms: what is proven of those holds for it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attentions import Geometry, _engine_tiles, build_attention
from attentions._engine import applies, attention_by_tiles
from attentions._engine_elu import EluPlusOne
from attentions._engine_kernel import Kernel
from attentions._engine_maps import FeatureMap

H, D, E = 2, 8, 6
FORMS = {
    "linear": ("linear", {}, False),
    "linear-causal": ("linear", {}, True),
    "nala": ("nala", {}, False),
    "nala-rope": ("nala", {"rope": True}, False),
    "nala-powers": ("nala", {"lam": 1.0, "tau": 1.0, "key_power": 1.0}, False),
    "nala_cosine": ("nala_cosine", {}, False),
    "nala_cosine-paper": ("nala_cosine", {"alpha": 1.0, "key_power": 2.0}, False),
    "flatten": ("flatten", {}, False),
    "flatten-head": ("flatten", {"norm_over": "head", "focusing_factor": 4.5}, False),
    "performer": ("performer", {}, False),
    "performer-relu": ("performer", {"kernel": "relu"}, False),
    "performer-relu-causal": ("performer", {"kernel": "relu"}, True),
    "polaformer": ("polaformer", {}, False),
    "efficient": ("efficient", {}, False),
    "cosformer": ("cosformer", {}, False),
    "cosformer-causal": ("cosformer", {}, True),
}
every_form = pytest.mark.parametrize("form", FORMS)
bidirectional = pytest.mark.parametrize(
    "form", [f for f, (*_, causal) in FORMS.items() if not causal]
)


def both(form, seq_len, *, num_heads=H, value_dim=E, dtype=torch.float64):
    """A mechanism as the engine computes it, and its plain form with the same learned values."""
    name, settings, causal = FORMS[form]
    geometry = Geometry(
        num_heads=num_heads, head_dim=D, seq_len=seq_len, value_dim=value_dim, causal=causal
    )
    tiled, plain = (
        build_attention(name, geometry, implementation=implementation, **settings)
        for implementation in ("auto", "plain")
    )
    with torch.no_grad():
        for parameter in tiled.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    plain.load_state_dict(tiled.state_dict())
    return tiled.to(dtype), plain.to(dtype)


def tensors(*lengths, batch_size=2, num_heads=H, dtype=torch.float64, value_dim=E):
    sizes = zip(lengths, (D, D, value_dim), strict=True)
    return [
        torch.randn(batch_size, num_heads, n, d, dtype=dtype).requires_grad_() for n, d in sizes
    ]


def gradients(core, inputs, cotangent):
    out = core(*inputs)
    wanted = [*inputs, *core.parameters()]
    return out, torch.autograd.grad(out, wanted, cotangent.to(out.dtype))


def assert_same(form, inputs, seq_len, **geometry):
    """Outputs and gradients of the engine and of the plain form, in float64."""
    tiled, plain = both(form, seq_len, **geometry)
    assert applies(*inputs)
    cotangent = torch.randn(*inputs[0].shape[:3], inputs[2].shape[-1])
    (out, got), (expected, want) = (gradients(core, inputs, cotangent) for core in (tiled, plain))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-11)
    for a, b in zip(got, want, strict=True):
        scale = max(1.0, b.abs().max().item())
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10 * scale)


@every_form
@pytest.mark.parametrize("seq_len", [1, 64, 300, 1024, 1500, 2100])
def test_tiles_and_chunks_change_nothing(form, seq_len):
    assert_same(form, tensors(*[seq_len] * 3), seq_len)


@every_form
def test_whose_elementary_functions_they_are_changes_nothing(form, functions):
    assert_same(form, tensors(*[300] * 3), 300)


@bidirectional
@pytest.mark.parametrize(("num_queries", "num_keys"), [(3, 1200), (1200, 5)])
def test_keys_may_be_many_more_or_fewer_than_queries(form, num_queries, num_keys):
    if form == "nala-rope":
        pytest.skip("as many keys as queries")
    inputs = tensors(num_queries, num_keys, num_keys)
    assert_same(form, inputs, max(num_queries, num_keys))


@every_form
@pytest.mark.parametrize(("batch_size", "num_heads"), [(5, 1), (1, 5), (70, 3)])
def test_rows_and_heads_may_be_few_or_many(form, batch_size, num_heads):
    inputs = tensors(20, 20, 20, batch_size=batch_size, num_heads=num_heads)
    assert_same(form, inputs, 20, num_heads=num_heads)


@pytest.fixture(params=["spin", "sleep"])
def waiting(request, monkeypatch):
    """Threads that spin between operators, as they come, or sleep."""
    monkeypatch.setattr(
        "attentions._engine_threads._POLICY", "PASSIVE" if request.param == "sleep" else ""
    )
    return request.param


@every_form
@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_compute_the_same(form, threads, waiting):
    torch.set_num_threads(threads)
    for num_heads, seq_len in ((5, 70), (1, 2500)):
        inputs = tensors(*[seq_len] * 3, batch_size=1, num_heads=num_heads)
        assert_same(form, inputs, seq_len, num_heads=num_heads)
    assert torch.get_num_threads() == threads


@every_form
def test_tokens_may_lie_before_heads_in_memory_and_the_output_then_does_so_too(form):
    inputs = [tokens_first(x.detach()).requires_grad_() for x in tensors(*[1100] * 3)]
    assert_same(form, inputs, 1100)
    assert both(form, 1100)[0](*inputs).transpose(1, 2).is_contiguous()


def tokens_first(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


@every_form
def test_the_same_tensor_may_be_query_key_and_value(form):
    tiled, plain = both(form, 90, value_dim=D)
    x = torch.randn(2, H, 90, D, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(2, H, 90, D, dtype=torch.float64)
    got, want = (torch.autograd.grad(core(x, x, x), x, cotangent)[0] for core in (tiled, plain))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@every_form
def test_a_gradient_that_is_one_number_repeated_is_taken(form):
    tiled, plain = both(form, 90)
    inputs = tensors(90, 90, 90)
    found = (torch.autograd.grad(core(*inputs).sum(), inputs) for core in (tiled, plain))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@every_form
def test_gradients_of_gradients_come_from_the_plain_form(form):
    tiled, plain = both(form, 12, value_dim=D)
    inputs = tensors(12, 12, 12, batch_size=1, value_dim=D)
    wanted = [*inputs, *tiled.parameters()], [*inputs, *plain.parameters()]
    squares = []
    for core, leaves in zip((tiled, plain), wanted, strict=True):
        first = torch.autograd.grad(core(*inputs).square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(
            sum(g.square().sum() for g in first), leaves, allow_unused=True, materialize_grads=True
        )
        squares.append(second)
    for got, want in zip(*squares, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8 * float(want.abs().max() + 1))


@every_form
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_tensors_are_computed_in_float32_tile_by_tile(form, dtype):
    tiled, plain = both(form, 1300, dtype=torch.float32)
    inputs = [x.detach().to(dtype).requires_grad_() for x in tensors(*[1300] * 3, batch_size=1)]
    cotangent = torch.randn(1, H, 1300, E)
    (out, got), (expected, want) = (gradients(core, inputs, cotangent) for core in (tiled, plain))
    assert out.dtype == dtype
    rounding = torch.finfo(dtype).eps
    for a, b in zip((out, *got), (expected, *want), strict=True):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= 2 * rounding * b.abs().max()


def test_a_gradient_beyond_float16_stops_at_its_largest_number():
    core = build_attention("nala", Geometry(num_heads=1, head_dim=D, seq_len=4))
    q, k, v = (1e-6 * torch.randn(1, 1, 4, D) for _ in range(3))
    q, k, v = (x.half().requires_grad_() for x in (q, 1e6 * k, 1e10 * v))
    for gradient in torch.autograd.grad(core(q, k, v), (q, k, v), torch.ones(1, 1, 4, D).half()):
        assert gradient.isfinite().all()


@every_form
def test_under_autocast_nothing_is_computed_in_half(form):
    tiled, _ = both(form, 600, dtype=torch.float32)
    inputs = [x.detach().float().requires_grad_() for x in tensors(600, 600, 600)]
    expected = tiled(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        out = tiled(*inputs)
        found = torch.autograd.grad(out.sum(), inputs)
    assert torch.equal(out, expected)
    again = torch.autograd.grad(expected.sum(), inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))


@every_form
def test_only_inputs_and_sums_are_kept_for_the_backward_pass(form):
    tiled, _ = both(form, 1024, value_dim=D, dtype=torch.float32)
    inputs = [x.detach().float().requires_grad_() for x in tensors(*[1024] * 3, value_dim=D)]
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        tiled(*inputs)
    own = {x.untyped_storage().data_ptr() for x in (*inputs, *tiled.parameters())}
    extra = sum(size for address, size in kept.items() if address not in own)
    assert extra <= inputs[0].numel() * 4 / 4


class Operators(TorchDispatchMode):
    """Names of the operators that this thread has called."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_whoever_watches_operators_sees_all_of_them_also_with_several_threads(
    waiting, wide_vectors
):
    with_one = 4 if _engine_tiles.onednn_outruns_mkl() else 2  # heads one by one, or in pairs
    # Three heads in two tiles and the fourth in two; two heads for each thread.
    expected = {"spin": 4, "sleep": 2}
    core = build_attention("nala", Geometry(num_heads=4, head_dim=64, seq_len=1024))
    q, k, v = torch.randn(3, 1, 4, 1024, 64).unbind()
    counts = []
    for threads, num_tiles in ((1, with_one), (3, expected[waiting])):
        torch.set_num_threads(threads)
        with FlopCounterMode(display=False) as counter, Operators() as operators:
            core(q, k, v)
        counts.append(counter.get_total_flops())
        logarithms = [name for name in operators.seen if name.startswith("aten.log")]
        assert len(logarithms) == num_tiles
    assert counts[0] == counts[1]


# --- where it applies ----------------------------------------------------------------------------


def test_it_applies_to_ordinary_tensors_on_the_processor_only():
    q, k, v = torch.randn(3, 1, 2, 5, 4).unbind()
    assert applies(q, k, v)
    assert applies(torch.nn.Parameter(q), k, v)
    assert not applies(q.to("meta"), k.to("meta"), v.to("meta"))
    assert not applies(q.double(), k, v)
    assert applies(q.half(), k, v.bfloat16())
    assert not applies(q.long(), k.long(), v.long())
    assert not applies(q, k, v[:, :, :4])
    assert not applies(q, k[:, :1], v[:, :1])
    assert not applies(q, k[..., :3], v)
    assert not applies(q[:, :, :0], k, v)
    assert not applies(q, k, v, torch.ones(2, 1, 4, dtype=torch.float64))


@every_form
def test_a_compiler_a_transform_and_forward_differentiation_get_the_plain_form(form):
    tiled, plain = both(form, 12, value_dim=D, dtype=torch.float32)
    q, k, v = (x.detach().float() for x in tensors(12, 12, 12, value_dim=D))
    expected = plain(q, k, v)
    torch._dynamo.reset()  # all mechanisms share one `__call__`, of which a few versions are kept
    compiled = torch.compile(tiled, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v), expected)
    one_row = torch.func.vmap(lambda *row: tiled(*(x[None] for x in row))[0])
    torch.testing.assert_close(one_row(q, k, v), expected, rtol=1e-4, atol=1e-5)
    tangents = [torch.randn_like(x) for x in (q, k, v)]
    (_, got), (_, want) = (
        torch.func.jvp(lambda *xs, core=core: core(*xs), (q, k, v), tuple(tangents))
        for core in (tiled, plain)
    )
    torch.testing.assert_close(got, want)


@bidirectional
def test_shapes_that_do_not_fit_together_are_refused_as_ever(form):
    tiled, _ = both(form, 12, dtype=torch.float32)
    q, k, v = (x.detach().float() for x in tensors(12, 12, 12))
    for wrong in ((q, k, v[:, :, :5]), (q, k[..., :5], v)):
        with pytest.raises((RuntimeError, ValueError)):
            tiled(*wrong)


class Undifferentiated(FeatureMap):
    """Elu + 1 as anyone would write it: the engine asks autograd."""

    def features(self, x, tokens, *weights):
        return (torch.nn.functional.elu(x) + 1,)


def test_without_a_derivative_of_its_own_a_map_is_differentiated_by_autograd():
    inputs = tensors(300, 300, 300)
    cotangent = torch.randn(2, H, 300, E, dtype=torch.float64)
    results = []
    for features in (EluPlusOne(), Undifferentiated()):
        kernel = Kernel(queries=features, keys=features, num_features=D, eps=1e-6)
        out = attention_by_tiles(kernel, *inputs, plain=lambda *xs: xs[0])
        results.append([out, *torch.autograd.grad(out, inputs, cotangent)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("eps", [None, 1e-6])
@pytest.mark.parametrize("seq_len", [5, 2100])
@pytest.mark.parametrize("joint_heads", [1, H])
def test_the_output_may_be_added_to_a_tensor_in_its_place(eps, seq_len, joint_heads):
    features = EluPlusOne()
    kernel = Kernel(
        queries=features, keys=features, num_features=D, eps=eps, joint_heads=joint_heads
    )
    q, k, v = (x.detach() for x in tensors(*[seq_len] * 3))
    alone = attention_by_tiles(kernel, q, k, v, plain=lambda *xs: xs[0])
    onto = torch.randn_like(alone)
    expected = onto + alone
    out = attention_by_tiles(kernel, q, k, v, plain=lambda *xs: xs[0], onto=onto)
    assert out.data_ptr() == onto.data_ptr()
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("causal", [False, True])
def test_a_sum_with_the_output_has_gradients_and_may_be_causal(causal):
    features = EluPlusOne()
    kernel = Kernel(queries=features, keys=features, num_features=D, eps=1e-6, causal=causal)
    inputs, plain = tensors(5, 5, 5), lambda *xs: xs[0]
    alone = attention_by_tiles(kernel, *inputs, plain=plain)
    onto = torch.randn_like(alone)
    out = attention_by_tiles(kernel, *inputs, plain=plain, onto=onto.clone())
    torch.testing.assert_close(out, onto + alone)
    expected = torch.autograd.grad(alone.sum(), inputs)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), inputs), expected)
    with torch.no_grad():
        found = attention_by_tiles(kernel, *inputs, plain=plain, onto=onto.clone())
    torch.testing.assert_close(found, onto + alone)


def test_a_peak_that_rises_late_scales_down_what_came_before():
    core = build_attention(
        "performer", Geometry(num_heads=1, head_dim=D, value_dim=E, seq_len=3000)
    ).double()
    q, k, v = (x.detach() for x in tensors(3000, 3000, 3000, batch_size=1, num_heads=1))
    k = k * torch.linspace(0.1, 4, 3000, dtype=torch.float64)[:, None]
    torch.testing.assert_close(core(q, k, v), core._plain(q, k, v))
    torch.testing.assert_close(core(q, k.flip(2), v), core._plain(q, k.flip(2), v))
