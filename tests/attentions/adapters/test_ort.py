"""Rows of ONNX Runtime's operator against ours in float64, with states cut anywhere."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attentions import Geometry, build_attention
from attentions.adapters import ort

pytest.importorskip("onnxruntime")
NAMES = [row.name for row in ort.OPERATORS]


def pair(name, **sizes):
    geometry = Geometry(causal=True, **sizes)
    return build_attention(name.removesuffix("_ort"), geometry), build_attention(name, geometry)


def drawn_gates(core, batch_size, num_tokens):
    """Weak and strong decays, down to -20, and one token that forgets everything."""
    found = {}
    for name in core.gates:
        x = torch.rand(core.gate_shape(name, batch_size, num_tokens))
        found[name] = x if name == "beta" else -20 * x**4
    if "log_decay" in found:
        found["log_decay"][:, :, num_tokens // 2] = -1e4
        found["log_decay"][:, :1, num_tokens // 3] = -torch.inf
    return found


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=30)
@given(
    sizes=st.tuples(*(st.integers(1, n) for n in (2, 3, 70, 9, 9))),
    cuts=st.sets(st.integers(1, 69), max_size=4),
)
@torch.no_grad()
def test_a_row_gives_what_ours_gives_in_float64_however_the_tokens_are_cut(name, sizes, cuts):
    batch_size, num_heads, num_tokens, head_dim, value_dim = sizes
    ours, theirs = pair(
        name, num_heads=num_heads, head_dim=head_dim, value_dim=value_dim, seq_len=num_tokens
    )
    shape = batch_size, num_heads, num_tokens
    q, k = torch.randn(2, *shape, head_dim)
    tokens = {"q": q, "k": k, "v": torch.randn(*shape, value_dim)}
    tokens |= drawn_gates(ours, batch_size, num_tokens)
    out = theirs(**tokens)
    wide = ours.double()(**{key: x.double() for key, x in tokens.items()})
    torch.testing.assert_close(out.double(), wide, rtol=1e-4, atol=1e-5 * float(wide.abs().max()))
    state = theirs.init_state(batch_size, dtype=q.dtype, device=q.device)
    ends = sorted({cut for cut in cuts if cut < num_tokens} | {num_tokens})
    pieces = []
    for start, end in zip([0, *ends], ends, strict=False):
        part = {key: x[:, :, start:end] for key, x in tokens.items()}
        piece, state = theirs.step(state=state, **part)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces, dim=2), out)


def test_gradients_and_float64_are_refused_in_words():
    ours, theirs = pair("kda_ort", num_heads=2, head_dim=4, seq_len=5)
    q, k, v = torch.randn(3, 1, 2, 5, 4)
    with pytest.raises(ValueError, match=r"requires a gradient.*no_grad\(\), or train with kda"):
        theirs(q.requires_grad_(), k, v)
    with pytest.raises(ValueError, match="float64"), torch.no_grad():
        theirs(q.double(), k.double(), v.double())
    theirs.load_state_dict(ours.state_dict())
    assert not theirs(q.detach(), k, v).requires_grad, "its learned gates are constants"
