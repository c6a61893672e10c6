"""`PairCore`: a mechanism that gives weights from scores gets all else."""

import doctest
from types import MappingProxyType

import pytest
import torch

from attentions import Capabilities, Gate, Geometry, PairCore, register_attention, registry
from tests.attentions.calls import built, in_steps

CAN = Capabilities(causal=True, cross=True, recurrent=True, masks=frozenset({"padding", "dense"}))


class Logistic(PairCore):
    tile = 16

    def weights(self, scores):
        return scores.sigmoid()


class Overwriting(Logistic):
    def weights(self, scores):
        return scores.sigmoid_()


class WithSlope(Logistic):
    def slope(self, weights):
        return weights * (1 - weights)


def enter(cls):
    return register_attention("mine", title="-", source="-", capabilities=CAN)(cls)


def geometry(causal, kv_heads=4):
    sizes = {"num_heads": 4, "head_dim": 8, "value_dim": 6, "seq_len": 50}
    return Geometry(**sizes, num_kv_heads=kv_heads, causal=causal)


def inputs(kv_heads=4):
    torch.manual_seed(0)
    widths = ((4, 8), (kv_heads, 8), (kv_heads, 6))
    return [
        torch.randn(2, heads, 50, width, dtype=torch.double, requires_grad=True)
        for heads, width in widths
    ]


def explicit(q, k, v, kept):
    k, v = (x.repeat_interleave(4 // x.shape[1], 1) for x in (k, v))
    return ((q @ k.mT / 8**0.5).sigmoid() * kept) @ v


def test_the_example_of_the_docstring_runs():
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(PairCore, "PairCore"):
        assert runner.run(test).attempted and not runner.failures


@pytest.mark.parametrize("cls", [Logistic, Overwriting, WithSlope])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_outputs_gradients_and_steps_are_those_of_all_pairs(cls, causal, kv_heads):
    enter(cls)
    q, k, v = inputs(kv_heads)
    core = registry.build_attention("mine", geometry(causal, kv_heads))
    kept = torch.ones(50, 50).tril() if causal else torch.ones(50, 50)
    out, expected = core(q, k, v), explicit(q, k, v, kept)
    torch.testing.assert_close(out, expected)
    cotangent = torch.randn_like(out)
    ours, theirs = (torch.autograd.grad(x, (q, k, v), cotangent) for x in (out, expected))
    torch.testing.assert_close(ours, theirs)
    if not causal:
        return
    out, state = in_steps(core, [x.detach() for x in (q, k, v)], (20, 1, 29))
    torch.testing.assert_close(out, expected)
    with pytest.raises(ValueError, match="a state for 50 tokens holds 50, and 50 more"):
        core.step(q, k, v, state)


class Fixed(PairCore):
    """Softmax with a decay that is not a gate."""

    softmax = True

    def log_decay(self):
        return -torch.arange(1.0, 5.0)[:, None] / 4


class OwnDecay(PairCore):
    softmax = True
    own_gates = MappingProxyType({"g": Gate("bhn", high=0)})

    def learned_gates(self, k):
        return {"g": -torch.arange(1.0, 5.0) / 4}

    def log_decay(self, g):
        return g


@pytest.mark.parametrize("cls", [Fixed, OwnDecay])
def test_a_decay_that_no_call_gives_is_remembered_by_the_state(cls):
    core, (q, k, v) = enter(cls)(geometry(True)), inputs()
    places = torch.arange(50)
    past = places[:, None] - places
    scores = q @ k.mT / 8**0.5 - past * torch.arange(1.0, 5.0).double()[:, None, None] / 4
    expected = scores.masked_fill(past < 0, -torch.inf).softmax(-1) @ v
    torch.testing.assert_close(core(q, k, v), expected)
    with torch.no_grad():
        out, _ = in_steps(core, (q, k, v), (20, 1, 29))
    torch.testing.assert_close(out, expected)
    with pytest.raises(TypeError, match="log_decay has no bidirectional form"):
        cls(geometry(False))(q, k, v)


@pytest.mark.parametrize("tile", [8, 256])
def test_what_erases_all_before_it_costs_later_pairs_no_digits(tile):
    core = built("fox", True, seq_len=60)
    core.tile = tile
    tensors, decay = torch.randn(3, 1, 2, 60, 4).unbind(), -torch.rand(1, 2, 60) / 100
    decay[:, :, :20] = -1e4
    exact = core(*(x.double() for x in tensors), log_decay=decay.double())
    torch.testing.assert_close(core(*tensors, log_decay=decay).double(), exact, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["fox", "softmax_sinks"])
def test_a_window_does_not_count_hidden_tokens(name):
    core = built(name, True, stir=0.3, seq_len=12, window=3)
    tensors = torch.randn(3, 2, 2, 12, 4, dtype=torch.double)
    key_mask = torch.ones(2, 12, dtype=torch.bool)
    key_mask[0, [0, 4, 5, 6, 9]] = key_mask[1, 7:] = False
    out = core(*tensors, key_mask=key_mask)
    for row, kept in enumerate(key_mask):
        expected = core(*(x[row : row + 1, :, kept] for x in tensors))
        torch.testing.assert_close(out[row : row + 1, :, kept], expected)
    assert not out[0, :, 0].any()


class Learned(Logistic):
    def __init__(self, geometry):
        super().__init__(geometry)
        self.bias = torch.nn.Parameter(torch.randn(4, dtype=torch.double))

    def weights(self, scores):
        return (scores + self.bias[:, None, None]).sigmoid()


class LearnedWithSlope(Learned):
    def slope(self, weights):
        return weights * (1 - weights)


@pytest.mark.parametrize("cls", [Learned, LearnedWithSlope])
def test_what_weights_learn_gets_gradients(cls):
    q, k, v = inputs()
    core = enter(cls)(geometry(True))
    expected = ((q @ k.mT / 8**0.5 + core.bias[:, None, None]).sigmoid().tril() @ v).square().sum()
    tensors = (q, k, v, core.bias)
    found = torch.autograd.grad(core(q, k, v).square().sum(), tensors)
    torch.testing.assert_close(found, torch.autograd.grad(expected, tensors))


@pytest.mark.parametrize("cls", [Logistic, Learned, LearnedWithSlope])
def test_compiled_code_gives_the_gradients_of_eager_code(cls):
    tensors, core = inputs(), enter(cls)(geometry(True))
    compiled = torch.compile(core, backend="aot_eager", fullgraph=True)
    wanted = [*tensors, *core.parameters()]
    found, expected = (
        torch.autograd.grad(call(*tensors).square().sum(), wanted) for call in (compiled, core)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["sigmoid", "fox", "topk", "moba"])
def test_a_transform_of_something_else_leaves_tiles_as_they_are(name):
    settings = {"topk": {"k": 3}, "moba": {"block_size": 2, "top_k": 2}}.get(name, {})
    core, factors = built(name, True, seq_len=11, **settings), torch.tensor([1.0, 2.0]).double()
    core.tile = 2
    tensors = torch.randn(3, 2, 2, 11, 4, dtype=torch.double).unbind()
    mapped = torch.func.vmap(lambda factor: factor * core(*tensors))(factors)
    torch.testing.assert_close(mapped, factors[:, None, None, None, None] * core(*tensors))


SETTINGS = {"nsa": {"block_size": 4, "num_blocks": 3, "window": 3}, "topk": {"k": 3}}


@pytest.mark.parametrize("name", ["softmax_chunked", "sigmoid", "softmax_sinks", "nsa", "topk"])
def test_transforms_and_gradients_of_gradients_write_out_all_pairs(name):
    core = built(name, True, stir=0.3, seq_len=11, num_kv_heads=1, **SETTINGS.get(name, {}))
    tensors = torch.randn(2, 1, 2, 11, 4, dtype=torch.double).unbind()
    keys = [x[:, :1] for x in torch.randn(2, 1, 2, 11, 4, dtype=torch.double).unbind()]
    q, k, v = tensors[0], *keys
    each = torch.stack((q, -q))
    mapped = torch.func.vmap(core, in_dims=(0, None, None))(each, k, v)
    torch.testing.assert_close(mapped, torch.stack([core(one, k, v) for one in each]))
    step, tangents = 1e-6, tuple(map(torch.randn_like, (q, k, v)))
    _, slope = torch.func.jvp(core, (q, k, v), tangents)
    pairs = list(zip((q, k, v), tangents, strict=True))
    ends = [core(*(x + s * t for x, t in pairs)) for s in (step, -step)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-6)

    def penalty(*given):  # whose cotangent, of ones, needs no gradient
        return torch.autograd.grad(core(*given).sum(), given[0], create_graph=True)[0]

    given = [x.clone().requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(penalty, given, fast_mode=True)


@pytest.mark.parametrize("name", ["softmax_chunked", "sigmoid", "topk"])
def test_gradients_of_gradients_of_one_tensor_in_three_places_are_counted_once(name):
    core = built(name, seq_len=9, **SETTINGS.get(name, {}))
    x, found = torch.randn(1, 2, 9, 4).double().requires_grad_(), []
    for mixed in (core, core.reference):
        (first,) = torch.autograd.grad(mixed(x, x, x).square().sum(), x, create_graph=True)
        found += [first, *torch.autograd.grad(first.square().sum(), x)]
    torch.testing.assert_close(found[:2], found[2:])
