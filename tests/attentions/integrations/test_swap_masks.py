import pytest
import torch

from attentions import Geometry, build_attention
from attentions.integrations.swap_masks import from_additive, mix

B, H, N, D = 2, 2, 5, 4


def core(name, *, causal=False):
    return build_attention(name, Geometry(num_heads=H, head_dim=D, seq_len=N, causal=causal))


def qkv(key_len=N):
    torch.manual_seed(0)
    return torch.randn(B, H, N, D), torch.randn(B, H, key_len, D), torch.randn(B, H, key_len, D)


def causal_pairs():
    return torch.ones(N, N, dtype=torch.bool).tril()


def last_hidden():
    keys = torch.ones(B, N, dtype=torch.bool)
    keys[1, -2:] = False
    return keys


@pytest.mark.parametrize("built_causal", [True, False])
def test_a_causal_call_is_the_same_however_softmax_is_built(built_causal):
    expected = core("softmax", causal=True)(*qkv())
    out = mix(core("softmax", causal=built_causal), *qkv(), keep=None, is_causal=True, place="here")
    torch.testing.assert_close(out, expected)
    keys = last_hidden()
    given = {"keep": keys[:, None, None], "is_causal": True, "place": "here"}
    out = mix(core("softmax", causal=built_causal), *qkv(), **given)
    torch.testing.assert_close(out, core("softmax", causal=True)(*qkv(), key_mask=keys))


@pytest.mark.parametrize("mask", [causal_pairs(), causal_pairs().expand(B, H, N, N)])
def test_a_mask_over_pairs_that_is_causal_is_recognised(mask):
    causal = core("linear", causal=True)
    out = mix(causal, *qkv(), keep=mask, is_causal=False, place="here")
    assert torch.equal(out, causal(*qkv()))


def test_a_causal_mask_with_padding_in_it_is_recognised():
    causal, keys = core("linear", causal=True), last_hidden()
    keep = causal_pairs() & keys[:, None, None, :]
    out = mix(causal, *qkv(), keep=keep, is_causal=False, place="here")
    expected = causal(*qkv(), key_mask=keys)
    # The last query sees only what is not hidden for all, so padding behind is told from its row.
    torch.testing.assert_close(out, expected)


def test_keys_that_are_hidden_from_one_head_alone_are_no_padding():
    keep = torch.ones(B, H, 1, N, dtype=torch.bool)
    keep[:, 1, :, -2:] = False
    out = mix(core("softmax"), *qkv(), keep=keep, is_causal=False, place="here")
    torch.testing.assert_close(out, core("softmax")(*qkv(), mask=keep))
    with pytest.raises(ValueError, match="only one that hides keys from all queries"):
        mix(core("linear"), *qkv(), keep=keep, is_causal=False, place="here")


def test_a_query_without_later_keys_is_served_by_either_form():
    q, k, v = qkv()
    first = [x[:, :, :1] for x in (q, k, v)]
    out = mix(core("linear", causal=True), *first, keep=None, is_causal=False, place="here")
    torch.testing.assert_close(out, first[2])
    for name in ("linear", "softmax"):  # with a mask over pairs and without
        last = mix(core(name), q[:, :, -1:], k, v, keep=None, is_causal=True, place="here")
        torch.testing.assert_close(last, core(name, causal=True)(q, k, v)[:, :, -1:])


def test_padding_written_out_over_pairs_is_recognised_as_padding():
    keys = last_hidden()
    keep = keys[:, None, None, :].expand(B, 1, N, N)
    out = mix(core("linear"), *qkv(), keep=keep, is_causal=False, place="here")
    assert torch.equal(out, core("linear")(*qkv(), key_mask=keys))


def one_later_key():
    keep = causal_pairs()
    keep[0, 1] = True
    return keep


@pytest.mark.parametrize(
    ("name", "causal", "keep", "is_causal", "said"),
    [
        ("linear", True, one_later_key(), False, "linear at here: it hides later keys, and this"),
        ("linear", True, None, False, "do without causal=True"),
        ("linear", False, None, True, "the call is causal; build it so, with causal=True"),
        ("flatten", False, None, True, "the call is causal; it has no such form"),
        ("linear", False, torch.eye(N).bool(), False, "only one that hides keys from all queries"),
        ("cosformer", False, last_hidden()[:, None, None], False, "a mask; cosformer takes none"),
    ],
)
def test_a_call_that_a_core_cannot_serve_is_refused(name, causal, keep, is_causal, said):
    with pytest.raises(ValueError, match=said):
        mix(core(name, causal=causal), *qkv(), keep=keep, is_causal=is_causal, place="here")


def test_cross_attention_is_refused_where_lengths_must_agree():
    with pytest.raises(ValueError, match=r"5 queries and 7 keys .* by where="):
        mix(core("linformer"), *qkv(7), keep=None, is_causal=False, place="here")
    with pytest.raises(ValueError, match="does not say which key is the first query's own"):
        mix(core("softmax"), *qkv(7), keep=None, is_causal=True, place="here")


def test_an_additive_mask_hides_where_it_is_lowest():
    lowest = torch.finfo(torch.float32).min
    assert from_additive(torch.tensor([0.0, -torch.inf, lowest]), place="here").tolist() == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("bias", [-1.0, -1e5])
def test_an_additive_mask_that_is_a_bias_is_refused(bias):
    with pytest.raises(ValueError, match="here: the mask adds numbers other than 0 and -inf"):
        from_additive(torch.tensor([0.0, bias]), place="here")
