"""Every registered mechanism is put through what it claims; a new name is picked up by itself."""

import copy
import inspect
import itertools
import weakref

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import attentions
from attentions.base import Attention, CallShape

B, H, D, E = 2, 3, 8, 6
SEQ_LEN = 12  # a grid of 3 x 4
LONG = 300  # two whole chunks of 128 and a part
FAR = 700  # more than a sparse mechanism sees of it
HALVES = (torch.bfloat16, torch.float16)

NAMES = attentions.attention_names()
CLAIMS = {name: attentions.attention_class(name).capabilities for name in NAMES}
CORES = [name for name in NAMES if issubclass(attentions.attention_class(name), Attention)]
FORMS = [
    pytest.param(name, causal, id=f"{name}-causal" if causal else name)
    for name in NAMES
    for causal in (False, True)
    if (CLAIMS[name].causal if causal else CLAIMS[name].bidirectional)
]
every_form = pytest.mark.parametrize(("name", "causal"), FORMS)


def forms(claim):
    """The forms of the cores for which ``claim(capabilities, causal)`` holds."""
    chosen = [p for p in FORMS if p.values[0] in CORES and claim(CLAIMS[p.values[0]], p.values[1])]
    return pytest.mark.parametrize(("name", "causal"), chosen)


def names(claim, among=CORES):
    return pytest.mark.parametrize("name", [n for n in among if claim(CLAIMS[n])])


def build(name, causal=None, *, seq_len=SEQ_LEN, dtype=torch.float32, head_dim=D, value_dim=E):
    """A mechanism whose learned values have moved away from where they start.

    In its bidirectional form if it has one and none is asked for.
    """
    if causal is None:
        causal = not CLAIMS[name].bidirectional
    geometry = attentions.Geometry(
        num_heads=H,
        head_dim=head_dim,
        seq_len=seq_len,
        value_dim=value_dim if name in CORES else head_dim,
        causal=causal,
    )
    mechanism = attentions.build_attention(name, geometry)
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return mechanism.to(dtype)


def trains(name):
    return "cpu" in CLAIMS[name].backward_devices


def inputs(mechanism, *, dtype=torch.float32, batch_size=B, key_len=None, requires_grad=False):
    if requires_grad and not trains(mechanism.name):
        pytest.skip("no backward pass on a processor")
    g = mechanism.geometry
    if mechanism.name not in CORES:
        tensors = (torch.randn(batch_size, g.seq_len, g.embed_dim),)
    else:
        key_len = key_len or g.seq_len
        tensors = (
            torch.randn(batch_size, g.num_heads, g.seq_len, g.head_dim),
            torch.randn(batch_size, g.num_heads, key_len, g.head_dim),
            torch.randn(batch_size, g.num_heads, key_len, g.value_dim),
        )
    return tuple(x.to(dtype).requires_grad_(requires_grad) for x in tensors)


def gradients(out, tensors):
    """With respect to each tensor that the output depends on."""
    torch.manual_seed(1)
    cotangent = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    return [
        g for g in torch.autograd.grad(out, tensors, cotangent, allow_unused=True) if g is not None
    ]


@every_form
def test_shape_and_dtype_are_kept_in_every_claimed_dtype(name, causal):
    for dtype in (getattr(torch, d) for d in CLAIMS[name].dtypes):
        mechanism = build(name, causal, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype)
        out = mechanism(*tensors)
        width = E if name in CORES else H * D
        assert out.shape == (*tensors[0].shape[:-1], width)
        assert out.dtype == dtype
        assert out.isfinite().all()


@every_form
def test_inputs_are_not_modified_and_the_output_is_not_one_of_them(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism)
    before = [x.clone() for x in tensors]
    mechanism(*tensors).fill_(7.0)
    assert all(torch.equal(x, y) for x, y in zip(tensors, before, strict=True))


@every_form
def test_batch_rows_are_independent(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism, batch_size=3)
    out = mechanism(*tensors)
    changed = [x.clone() for x in tensors]
    for x in changed:
        x[1] = 3 * torch.randn_like(x[1])
    again = mechanism(*changed)
    assert torch.equal(again[0], out[0])
    assert torch.equal(again[2], out[2])
    assert not torch.equal(again[1], out[1])


@pytest.mark.parametrize("name", CORES)
def test_heads_are_independent_exactly_if_claimed(name):
    mechanism = build(name)
    q, k, v = inputs(mechanism)
    out = mechanism(q, k, v)
    changed = [x.clone() for x in (q, k, v)]
    for x in changed[:2]:
        x[:, 0] *= 2
    changed[2][:, 0] += 1
    again = mechanism(*changed)
    assert not torch.equal(again[:, 0], out[:, 0])
    assert torch.equal(again[:, 1:], out[:, 1:]) == CLAIMS[name].heads_independent


@every_form
def test_strides_do_not_matter(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism)
    strided = [x.transpose(-3, -2).contiguous().transpose(-3, -2) for x in tensors]
    torch.testing.assert_close(mechanism(*strided), mechanism(*tensors))


def adversaries(x, which):
    """(name, tensor) pairs of inputs that are hard on powers, norms and exponentials."""
    unit = x / x.norm(dim=-1, keepdim=True)
    first_zero = x.clone()
    first_zero[..., 0, :] = 0
    yield f"first {which} zero", first_zero
    yield f"all {which} zero", torch.zeros_like(x)
    yield f"all {which} negative", -x.abs()
    yield f"all {which} of norm 1e-20", unit * 1e-20
    yield f"all {which} of norm 1e-6", unit * 1e-6
    yield f"all {which} of norm 50", unit * 50


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_outputs_and_gradients_are_finite_on_adversarial_inputs(name, causal, dtype):
    mechanism = build(name, causal)
    plain = inputs(mechanism)
    cases = {"plain": plain}
    for place, which in enumerate(("queries", "keys") if name in CORES else ("tokens",)):
        for case, hard in adversaries(plain[place], which):
            cases[case] = (*plain[:place], hard, *plain[place + 1 :])
    if name in CORES:
        pairs = zip(adversaries(plain[0], "q"), adversaries(plain[1], "k"), strict=True)
        for (case_q, q), (case_k, k) in pairs:
            cases[f"{case_q}, {case_k}"] = (q, k, plain[2])
    mechanism = mechanism.to(dtype)
    for case, tensors in cases.items():
        tensors = [x.to(dtype).requires_grad_(trains(name)) for x in tensors]
        out = mechanism(*tensors)
        assert out.isfinite().all(), case
        if not trains(name):
            continue
        learned = [p for p in mechanism.parameters() if p.requires_grad]
        for gradient in gradients(out, [*tensors, *learned]):
            assert gradient.isfinite().all(), case


def without(x, kept, dim):
    return x.index_select(dim, kept.nonzero()[:, 0])


@forms(lambda can, causal: "padding" in can.masks)
def test_hidden_keys_are_as_good_as_removed(name, causal):
    mechanism = build(name, causal, seq_len=LONG)
    q, k, v = inputs(mechanism)
    key_mask = torch.rand(B, LONG) < 0.7
    # What is hidden may be anything.
    hidden = ~key_mask[:, None, :, None]
    out = mechanism(q, k.masked_fill(hidden, 60.0), v.masked_fill(hidden, 1e4), key_mask=key_mask)
    for row, kept in enumerate(key_mask):
        fewer_k, fewer_v = (without(x[row : row + 1], kept, 2) for x in (k, v))
        if causal:  # as many queries as keys: the hidden tokens' queries go too
            fewer_q, seen = without(q[row : row + 1], kept, 2), without(out[row : row + 1], kept, 2)
        else:
            fewer_q, seen = q[row : row + 1], out[row : row + 1]
        expected = mechanism(fewer_q, fewer_k, fewer_v)
        scale = max(1.0, expected.abs().max().item())  # an output that is a sum has a large one
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5 * scale)


@forms(lambda can, causal: "padding" in can.masks)
def test_a_query_whose_keys_are_all_hidden_gets_zeros_and_finite_gradients(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism, requires_grad=True)
    key_mask = torch.ones(B, SEQ_LEN, dtype=torch.bool)
    key_mask[0] = False
    out = mechanism(*tensors, key_mask=key_mask)
    assert out[0].eq(0).all()
    assert out[1].ne(0).any()
    assert all(g.isfinite().all() for g in gradients(out, tensors))


@forms(lambda can, causal: "dense" in can.masks)
def test_a_dense_mask_hides_pairs_one_by_one(name, causal):
    mechanism, free = build(name, causal), build(name)
    q, k, v = inputs(mechanism)
    mask = torch.rand(B, 1, SEQ_LEN, SEQ_LEN) < 0.5
    key_mask = torch.rand(B, SEQ_LEN) < 0.8
    mask[0, 0, 3] = False
    out = mechanism(q, k, v, mask=mask, key_mask=key_mask)
    visible = mask[:, 0] & key_mask[:, None]
    if causal:
        visible = visible.tril()
    for row, i in itertools.product(range(B), range(SEQ_LEN)):
        kept = visible[row, i]
        fewer = (without(x[row : row + 1], kept, 2) for x in (k, v))
        expected = torch.zeros(1, H, 1, E)
        if kept.any():
            expected = free(q[row : row + 1, :, i : i + 1], *fewer)
        torch.testing.assert_close(out[row : row + 1, :, i : i + 1], expected)


@forms(lambda can, causal: "dense" in can.masks)
def test_a_row_that_a_dense_mask_blanks_has_finite_gradients(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism, requires_grad=True)
    mask = torch.ones(SEQ_LEN, SEQ_LEN, dtype=torch.bool)
    mask[5] = False
    out = mechanism(*tensors, mask=mask)
    assert out[:, :, 5].eq(0).all()
    assert all(g.isfinite().all() for g in gradients(out, tensors))


@names(lambda can: "padding" in can.masks)
def test_a_key_mask_of_another_shape_or_dtype_is_refused(name):
    mechanism = build(name)
    tensors = inputs(mechanism)
    for wrong in (torch.ones(B, SEQ_LEN), torch.ones(B, SEQ_LEN + 1, dtype=torch.bool)):
        with pytest.raises(ValueError, match="key_mask is"):
            mechanism(*tensors, key_mask=wrong)


@names(lambda can: "dense" in can.masks)
def test_a_dense_mask_of_another_shape_or_dtype_is_refused(name):
    mechanism = build(name)
    tensors = inputs(mechanism)
    for wrong in (torch.ones(SEQ_LEN, SEQ_LEN), torch.ones(SEQ_LEN, 5, dtype=torch.bool)):
        with pytest.raises(ValueError, match="mask is"):
            mechanism(*tensors, mask=wrong)


@pytest.mark.parametrize("name", NAMES)
def test_forward_takes_the_claimed_masks_and_gates_and_no_others(name):
    claims = CLAIMS[name]
    taken = inspect.signature(attentions.attention_class(name).forward).parameters.values()
    keywords = {p.name for p in taken if p.kind is p.KEYWORD_ONLY}
    masks = {"padding": "key_mask", "dense": "mask"}
    assert keywords == {masks[m] for m in claims.masks} | set(claims.gates)


@forms(lambda can, causal: causal)
def test_the_future_changes_no_bit_of_the_past(name, causal):
    mechanism = build(name, causal, seq_len=LONG)
    tensors = inputs(mechanism)
    out = mechanism(*tensors)
    for now in (0, 60, 127, 128, 255, 298):
        changed = [x.clone() for x in tensors]
        for x in changed:
            x[:, :, now + 1 :] = 1e4 * torch.randn_like(x[:, :, now + 1 :])
        again = mechanism(*changed)
        assert torch.equal(again[:, :, : now + 1], out[:, :, : now + 1]), now
        assert not torch.equal(again, out)


@forms(lambda can, causal: causal)
def test_the_future_sends_no_gradient_to_the_past(name, causal):
    mechanism = build(name, causal, seq_len=LONG)
    tensors = inputs(mechanism, requires_grad=True)
    now = 140
    for gradient in gradients(mechanism(*tensors)[:, :, : now + 1], tensors):
        assert gradient[:, :, now + 1 :].eq(0).all()
        assert gradient[:, :, : now + 1].ne(0).any()


@forms(lambda can, causal: causal)
def test_a_causal_form_refuses_more_keys_than_queries(name, causal):
    mechanism = build(name, causal)
    with pytest.raises(ValueError, match=f"{name}: {SEQ_LEN} queries and 5 keys"):
        mechanism(*inputs(mechanism, key_len=5))


@pytest.mark.parametrize("name", NAMES)
def test_a_form_that_is_not_claimed_cannot_be_built(name):
    for causal in (False, True):
        if not (CLAIMS[name].causal if causal else CLAIMS[name].bidirectional):
            with pytest.raises(ValueError, match=f"{name} "):
                build(name, causal)


@forms(lambda can, causal: causal and can.recurrent)
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_steps_equal_the_causal_forward_however_the_prompt_is_split(name, causal, dtype):
    mechanism = build(name, causal, seq_len=LONG, dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype)
    expected = mechanism(*tensors)
    rtol, atol = (1.3e-6, 1e-5) if dtype == torch.float32 else (2e-2, 2e-3)
    # Sums that nothing divides are large, and their rounding with them.
    tolerance = {"rtol": rtol, "atol": atol * max(1.0, expected.abs().max().item())}
    for lengths in ([LONG], [1, LONG - 1], [140, 1, 1, 158], [LONG - 3, 1, 1, 1]):
        state = mechanism.init_state(B, dtype=dtype, device=torch.device("cpu"))
        outputs = []
        for part in zip(*(x.split(lengths, dim=2) for x in tensors), strict=True):
            out, state = mechanism.step(*part, state)
            outputs.append(out)
        assert all(out.dtype == dtype for out in outputs)
        torch.testing.assert_close(torch.cat(outputs, dim=2), expected, **tolerance)


@forms(lambda can, causal: causal and can.recurrent)
def test_token_by_token_equals_the_causal_forward(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism)
    state = mechanism.init_state(B, dtype=torch.float32, device=torch.device("cpu"))
    outputs = []
    for i in range(SEQ_LEN):
        before = state
        out, state = mechanism.step(*(x[:, :, i : i + 1] for x in tensors), state)
        outputs.append(out)
        kept = mechanism.step(*(x[:, :, i : i + 1] for x in tensors), before)[0]
        assert torch.equal(kept, out), "a step changed the state that it was given"
    torch.testing.assert_close(torch.cat(outputs, dim=2), mechanism(*tensors))


@names(lambda can: not can.recurrent)
def test_a_mechanism_without_a_recurrent_form_says_so(name):
    mechanism = build(name)
    with pytest.raises(TypeError, match="no recurrent form"):
        mechanism.init_state(B, dtype=torch.float32, device=torch.device("cpu"))


@forms(lambda can, causal: can.exact)
def test_an_exact_mechanism_is_softmax_attention(name, causal):
    for dtype in (getattr(torch, d) for d in CLAIMS[name].dtypes):
        mechanism = build(name, causal, dtype=dtype)
        tensors = inputs(mechanism, dtype=dtype)
        exact = functional.scaled_dot_product_attention(
            *(x.double() for x in tensors), is_causal=causal
        )
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3}.get(
            dtype, 2e-2
        )
        assert (mechanism(*tensors) - exact).abs().max() < tolerance * exact.abs().max()


@names(lambda can: not can.exact)
def test_a_mechanism_that_is_not_exact_is_another_function(name):
    mechanism = build(name, seq_len=FAR)
    q, k, v = inputs(mechanism)
    assert not torch.allclose(
        mechanism(q, k, v), functional.scaled_dot_product_attention(q, k, v), atol=1e-3
    )


@names(lambda can: can.cross)
def test_keys_may_be_more_or_fewer_than_queries(name):
    mechanism = build(name, dtype=torch.float64)
    for key_len in (1, 5, 40):
        tensors = inputs(mechanism, dtype=torch.float64, key_len=key_len)
        torch.testing.assert_close(mechanism(*tensors), mechanism.reference(*tensors))


@names(lambda can: not can.cross)
def test_a_mechanism_without_cross_attention_refuses_other_lengths(name):
    mechanism = build(name)
    with pytest.raises(ValueError, match=f"{name}: {SEQ_LEN} queries and 5 keys"):
        mechanism(*inputs(mechanism, key_len=5))


@names(lambda can: can.needs_grid, among=NAMES)
def test_a_mechanism_on_a_grid_refuses_another_number_of_tokens(name):
    mechanism = build(name)
    tensors = inputs(build(name, seq_len=SEQ_LEN + 1))
    with pytest.raises(ValueError, match=f"{name}: {SEQ_LEN + 1} tokens .* 3x4 needs {SEQ_LEN}"):
        mechanism(*tensors)


@every_form
@pytest.mark.parametrize("seq_len", [1, SEQ_LEN, LONG])
def test_outputs_and_gradients_equal_the_reference_in_float64(name, causal, seq_len):
    mechanism = build(name, causal, seq_len=seq_len, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True)
    out, expected = mechanism(*tensors), mechanism.reference(*tensors)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-10)
    learned = list(mechanism.parameters())
    pairs = zip(
        gradients(out, [*tensors, *learned]), gradients(expected, [*tensors, *learned]), strict=True
    )
    for got, want in pairs:
        scale = max(1.0, want.abs().max().item())
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-9 * scale)


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES], ids=str)
def test_narrow_dtypes_lose_no_more_than_their_own_rounding(name, causal, dtype):
    tolerance = {torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    mechanism = build(name, causal, dtype=dtype)
    tensors = inputs(mechanism, dtype=dtype)
    wide = copy.deepcopy(mechanism).double()
    expected = wide(*(x.double() for x in tensors))
    assert (mechanism(*tensors) - expected).abs().max() < tolerance * expected.abs().max()


CPU_SDPA = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, out_shape=None, **__: sdpa_flop_count(q, k, v)
    )
}


def counted_flops(mechanism, tensors):
    """What torch's counter sees, with the fused CPU kernel that it does not know."""
    with FlopCounterMode(display=False, custom_mapping=CPU_SDPA) as counter, torch.no_grad():
        mechanism(*tensors)
    return counter.get_total_flops()


SHAPES = [
    (1, 12, 4, 4),
    (2, 64, 8, 6),
    (3, 300, 16, 16),
]  # batch_size, seq_len, head_dim, value_dim


def shaped(name, causal, shape):
    batch_size, seq_len, head_dim, value_dim = shape
    mechanism = build(name, causal, seq_len=seq_len, head_dim=head_dim, value_dim=value_dim)
    call = CallShape(
        batch_size=batch_size,
        num_heads=H,
        query_len=seq_len,
        key_len=seq_len,
        head_dim=head_dim,
        value_dim=mechanism.geometry.value_dim,
        causal=causal,
    )
    return mechanism, inputs(mechanism, batch_size=batch_size), call


@names(lambda can: can.bidirectional, among=NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_flops_equal_torchs_counter(name, shape):
    mechanism, tensors, call = shaped(name, False, shape)
    counted = counted_flops(mechanism, tensors)
    assert mechanism.executed_flops(call) == pytest.approx(counted, rel=0.01)
    assert mechanism.flops(call) <= mechanism.executed_flops(call)


@names(lambda can: can.bidirectional)
def test_flops_equal_torchs_counter_for_other_numbers_of_keys(name):
    if not CLAIMS[name].cross:
        pytest.skip("as many keys as queries")
    mechanism = build(name)
    call = CallShape(
        batch_size=B, num_heads=H, query_len=SEQ_LEN, key_len=40, head_dim=D, value_dim=E
    )
    counted = counted_flops(mechanism, inputs(mechanism, key_len=40))
    assert mechanism.executed_flops(call) == counted
    assert mechanism.flops(call) <= counted


@names(lambda can: can.bidirectional, among=NAMES)
def test_flops_of_a_layer_equal_torchs_counter(name):
    geometry = attentions.Geometry(num_heads=H, head_dim=D, seq_len=SEQ_LEN)
    layer = attentions.build_layer(name, geometry)
    call = CallShape(
        batch_size=B, num_heads=H, query_len=SEQ_LEN, key_len=SEQ_LEN, head_dim=D, value_dim=D
    )
    counted = counted_flops(layer, (torch.randn(B, SEQ_LEN, H * D),))
    assert layer.executed_flops(call) == pytest.approx(counted, rel=0.01)


@forms(lambda can, causal: causal)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_causal_form_executes_what_it_says_and_needs_no_more(name, causal, shape):
    mechanism, tensors, call = shaped(name, True, shape)
    counted = counted_flops(mechanism, tensors)
    assert mechanism.flops(call) <= mechanism.executed_flops(call)
    if name == "softmax":  # the counter takes a fused causal kernel for a full one
        assert mechanism.executed_flops(call) <= counted
    else:
        assert mechanism.executed_flops(call) == pytest.approx(counted, rel=0.01)


class LiveElements(TorchDispatchMode):
    """The most bytes alive at once in tensors that operators returned, those of ``known`` aside."""

    def __init__(self, known):
        super().__init__()
        self.known = {x.untyped_storage()._cdata for x in known}
        self.alive, self.total, self.peak = {}, 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, torch.Tensor):
                self.see(x.untyped_storage())
        return out

    def see(self, storage):
        key = storage._cdata
        if key in self.known or key in self.alive:
            return
        self.alive[key] = storage.nbytes()
        self.total += self.alive[key]
        self.peak = max(self.peak, self.total)
        weakref.finalize(storage, self.forget, key)

    def forget(self, key):
        self.total -= self.alive.pop(key)


@every_form
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward_backward"])
def test_extra_elements_is_near_what_is_alive_at_the_peak(name, causal, backward):
    if backward and not trains(name):
        pytest.skip("no backward pass on a processor")
    mechanism, tensors, call = shaped(name, causal, (1, 256, 32, 32))
    tensors = [x.requires_grad_(backward) for x in tensors]
    out_elements = tensors[-1].numel()
    cotangent = torch.randn(tensors[-1].shape)
    known = [*tensors, *mechanism.parameters(), *mechanism.buffers(), cotangent]
    with LiveElements(known) as live, torch.set_grad_enabled(backward):
        out = mechanism(*tensors)
        if backward:
            out.backward(cotangent)
            out_elements += sum(x.numel() for x in tensors)
    observed = max(0, live.peak // 4 - out_elements)
    estimate = mechanism.extra_elements(call, backward=backward)
    one_input = tensors[0].numel()
    assert observed <= 1.4 * estimate + one_input
    assert estimate <= 2.1 * observed + one_input


@every_form
def test_shapes_can_be_followed_on_the_meta_device(name, causal):
    mechanism = build(name, causal, seq_len=LONG)
    tensors = inputs(mechanism)
    shape = mechanism(*tensors).shape
    out = mechanism.to("meta")(*(x.to("meta") for x in tensors))
    assert out.device.type == "meta"
    assert out.shape == shape


@every_form
def test_the_state_dict_carries_everything_over(name, causal):
    mechanism, other = build(name, causal), build(name, causal)
    tensors = inputs(mechanism)
    if list(mechanism.parameters()):
        assert not torch.equal(other(*tensors), mechanism(*tensors))
    other.load_state_dict(mechanism.state_dict())
    assert torch.equal(other(*tensors), mechanism(*tensors))


@every_form
def test_the_same_seed_gives_the_same_mechanism_and_output(name, causal):
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        mechanism = build(name, causal)
        outputs += [mechanism(*inputs(mechanism))]
    assert torch.equal(*outputs)


@every_form
def test_a_copy_is_as_good_as_the_original(name, causal):
    mechanism = build(name, causal)
    tensors = inputs(mechanism)
    assert torch.equal(copy.deepcopy(mechanism)(*tensors), mechanism(*tensors))


@every_form
def test_a_call_under_inference_mode_leaves_training_possible(name, causal):
    mechanism = build(name, causal)
    with torch.inference_mode():
        mechanism(*inputs(mechanism))
    tensors = inputs(mechanism, requires_grad=True)
    assert gradients(mechanism(*tensors), tensors)


@names(lambda can: can.position_free and can.bidirectional)
def test_order_does_not_matter_to_a_position_free_mechanism(name):
    mechanism = build(name, dtype=torch.float64)
    q, k, v = inputs(mechanism, dtype=torch.float64)
    out = mechanism(q, k, v)
    queries, keys = torch.randperm(SEQ_LEN), torch.randperm(SEQ_LEN)
    again = mechanism(q[:, :, queries], k[:, :, keys], v[:, :, keys])
    torch.testing.assert_close(again, out[:, :, queries])


@names(lambda can: not can.position_free, among=NAMES)
def test_order_matters_to_a_mechanism_that_is_not_position_free(name):
    mechanism = build(name, seq_len=FAR, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64)
    axis, order = tensors[0].dim() - 2, torch.randperm(FAR)
    out = mechanism(*tensors)
    if name in CORES:  # keys and values permuted together
        q, *rest = tensors
        again = mechanism(q, *(x.index_select(axis, order) for x in rest))
    else:
        again = mechanism(*(x.index_select(axis, order) for x in tensors))
        out = out.index_select(axis, order)
    assert not torch.allclose(again, out)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_form
def test_a_cuda_device_gives_what_the_processor_gives(name, causal):
    mechanism = build(name, causal, seq_len=LONG, dtype=torch.float64)
    tensors = inputs(mechanism, dtype=torch.float64, requires_grad=True)
    expected = mechanism(*tensors)
    there = [x.detach().cuda().requires_grad_() for x in tensors]
    out = copy.deepcopy(mechanism).cuda()(*there)
    torch.testing.assert_close(out.cpu(), expected)
    pairs = zip(gradients(out.cpu(), there), gradients(expected, tensors), strict=True)
    for got, want in pairs:
        torch.testing.assert_close(got.cpu(), want)
