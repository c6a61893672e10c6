from typing import Any

import pytest
import torch
from torch import nn

from attentions import replace_attention, replaced_attention
from tests.attentions.integrations.replacing import encoder, padding, tokens


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masks", ["none", "padding", "causal", "both"])
def test_softmax_in_an_encoder_changes_nothing(training, batch_first, masks):
    model = encoder(batch_first=batch_first).train(training)
    hidden = padding() if masks in ("padding", "both") else None
    later = nn.Transformer.generate_square_subsequent_mask(7).isinf()
    mask = later if masks in ("causal", "both") else None
    x = tokens() if batch_first else tokens().transpose(0, 1)
    expected = model(x, mask=mask, src_key_padding_mask=hidden)
    out = replace_attention(model, "softmax")(x, mask=mask, src_key_padding_mask=hidden)
    if not batch_first:
        expected, out = expected.transpose(0, 1), out.transpose(0, 1)
    seen = ~padding() if hidden is not None else torch.ones(3, 7, dtype=torch.bool)
    torch.testing.assert_close(out[seen], expected[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hidden", [None, padding()], ids=["all", "padding"])
def test_no_fast_path_goes_past_the_mechanism(hidden):
    model = encoder().eval()
    before = model(tokens(), src_key_padding_mask=hidden)
    replace_attention(model, "linear")
    calls: list[str] = []
    for name in ("layers.0.self_attn", "layers.1.self_attn"):
        swapped = model.get_submodule(name)
        mix = swapped.mix
        swapped.mix = lambda *a, n=name, m=mix: (calls.append(n), m(*a))[1]
    with torch.no_grad():
        after = model(tokens(), src_key_padding_mask=hidden)
    assert calls == ["layers.0.self_attn", "layers.1.self_attn"]
    assert not torch.allclose(before[0], after[0], atol=1e-3)


def test_padding_is_as_good_as_removed():
    model = replace_attention(encoder(norm_first=True).eval(), "linear")
    out = model(tokens(), src_key_padding_mask=padding())
    torch.testing.assert_close(out[1:2, :5], model(tokens()[1:2, :5]))


def test_a_decoder_takes_a_causal_and_a_crossing_mechanism():
    torch.manual_seed(0)
    model: Any = nn.Transformer(16, 2, 1, 1, 32, dropout=0.0, batch_first=True).eval()
    replace_attention(model, "lightning", where="decoder.*.self_attn", causal=True)
    replace_attention(model, "linear", where="decoder.*.multihead_attn")
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    target = tokens()[:, :5]
    out = model(tokens(), target, tgt_mask=mask)
    changed = target.clone()
    changed[:, -1] += 1
    torch.testing.assert_close(model(tokens(), changed, tgt_mask=mask)[:, :-1], out[:, :-1])


def test_keys_and_values_of_other_widths_are_projected():
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(16, 2, kdim=6, vdim=10)
    q, k, v = torch.randn(4, 3, 16), torch.randn(5, 3, 6), torch.randn(5, 3, 10)
    expected = attention(q, k, v)[0]
    out, weights = replaced_attention(attention, "softmax")(q, k, v)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    assert weights is None


def test_a_mask_for_each_head_is_taken_by_softmax():
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    hidden = torch.rand(6, 7, 7, generator=torch.Generator().manual_seed(0)) > 0.7
    hidden[..., 0] = False
    x, swapped = tokens(), replaced_attention(attention, "softmax")
    for masks in ({}, {"key_padding_mask": padding()}):
        expected = attention(x, x, x, attn_mask=hidden, **masks)[0]
        out = swapped(x, x, x, attn_mask=hidden, **masks)[0]
        torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_a_causal_call_needs_its_mask_and_is_served_by_either_form() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    x, later = tokens(), nn.Transformer.generate_square_subsequent_mask(7)
    call = {"attn_mask": later, "is_causal": True, "need_weights": False}
    expected = attention(x, x, x, **call)[0]
    for causal in (False, True):
        swapped = replaced_attention(attention, "softmax", causal=causal)
        torch.testing.assert_close(swapped(x, x, x, **call)[0], expected, atol=1e-5, rtol=1e-5)
        with pytest.raises(ValueError, match="is_causal=True says what attn_mask is; give that"):
            swapped(x, x, x, is_causal=True)
    with pytest.raises(ValueError, match="it hides later keys, and this call does not"):
        swapped(x, x, x)
