"""Transformers with our mechanisms inside: softmax is the original, what cannot be is refused."""

import pytest
import torch

from tests.attentions.integrations.language_models import (
    PREFIX,
    SIZES,
    VOCAB,
    AttentionFunction,
    bert,
    gpt2,
    huggingface,
    ids,
    llama,
    mistral,
    padding,
    transformers,
    with_mechanism,
)


@pytest.mark.parametrize("build", [llama, gpt2])
@pytest.mark.parametrize("original", ["sdpa", "eager"])
@pytest.mark.parametrize("is_padded", [False, True])
def test_softmax_is_the_original(build, original, is_padded):
    model = build()
    mask = padding(left=True) if is_padded else None
    model.set_attn_implementation(original)
    expected = model(ids(), attention_mask=mask).logits
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).logits
    seen = torch.ones(2, 9, dtype=torch.bool) if mask is None else mask.bool()
    torch.testing.assert_close(out[seen], expected[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"scale_attn_weights": False}, {"scale_attn_by_inverse_layer_idx": True}]
)
def test_scores_are_scaled_as_the_model_says(settings):
    model = gpt2(initializer_range=0.3, **settings)  # large enough weights that the scale matters
    expected = model(ids()).logits
    out = with_mechanism(model, "softmax")(ids()).logits
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    usual = with_mechanism(gpt2(initializer_range=0.3), "softmax")(ids()).logits
    assert (usual - expected).abs().max() > 0.1


def test_softmax_is_the_original_in_an_encoder_with_padding():
    model, mask = bert(), padding(left=False)
    expected = model(ids(), attention_mask=mask).last_hidden_state
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).last_hidden_state
    torch.testing.assert_close(out[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)


def test_softmax_is_the_original_in_an_encoder_and_its_decoder():
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=VOCAB,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
    )
    model = transformers.BartForConditionalGeneration(config).eval()
    call = {
        "input_ids": ids(),
        "attention_mask": padding(left=False),
        "decoder_input_ids": ids(5),
    }
    expected = model(**call).logits
    torch.testing.assert_close(
        with_mechanism(model, "softmax")(**call).logits, expected, atol=1e-5, rtol=1e-5
    )


def test_a_sliding_window_is_kept_by_softmax_and_refused_by_linear():
    model = mistral(window=4)
    expected = model(ids()).logits
    out = with_mechanism(model, "softmax")(ids()).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="linear at MistralAttention 0: the call gives a mask"):
        with_mechanism(model, "linear")(ids())
    assert model(ids(4)).logits.isfinite().all()  # the window hides nothing yet


def test_packed_texts_are_kept_apart_by_softmax_and_refused_by_linear():
    model = llama()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    call = {"input_ids": ids()[:1], "position_ids": positions, "use_cache": False}
    expected = model(**call).logits
    out = with_mechanism(model, "softmax")(**call).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="a mask over pairs"):
        with_mechanism(model, "linear")(**call)


def test_a_prefix_that_sees_itself_is_kept_by_softmax_and_refused_by_linear():
    model = gpt2()
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    mask[..., :4, :4] = True
    expected = model(ids(), attention_mask=mask).logits
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="it hides later keys, and this call does not"):
        with_mechanism(model, "linear")(ids(), attention_mask=mask)


# --- refusals


@pytest.mark.parametrize(
    ("build", "mechanism", "message"),
    [
        (gpt2, "nala", "nala at GPT2Attention 0: this attention hides later tokens"),
        (bert, "lightning", "lightning at BertSelfAttention 0: this attention sees all tokens"),
    ],
)
def test_the_wrong_direction_is_refused(build, mechanism, message):
    with pytest.raises(ValueError, match=message):
        with_mechanism(build(), mechanism)(ids())


def test_what_a_mechanism_does_not_offer_is_refused():
    torch.manual_seed(0)
    config = transformers.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8)
    model = with_mechanism(transformers.Gemma2ForCausalLM(config).eval(), "softmax")
    with pytest.raises(ValueError, match="asks its attention for softcap"):
        model(ids())
    tensors = torch.randn(3, 1, 2, 5, 4)
    with pytest.raises(ValueError, match="asks its attention for s_aux, position_bias"):
        AttentionFunction("softmax")(
            torch.nn.Module(), *tensors, None, s_aux=torch.zeros(1), position_bias=tensors
        )


@pytest.mark.parametrize("family", ["Bloom", "MPNet"])
def test_a_model_that_asks_no_interface_is_refused(family):
    """It would go on as it is, under the mechanism's name and without its causal mask."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    build = getattr(transformers, f"{family}Model")._from_config
    model = build(config, attn_implementation=PREFIX + "linear")
    with pytest.raises(ValueError, match=f"{family}Config belongs to a model that computes its"):
        model(ids())
    with pytest.raises(ValueError, match=rf"{family}Model computes its attention by itself, in "):
        huggingface.attach(model, "linear")


def test_a_built_model_tells_whether_it_ignores_the_attention_function():
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 1}
    config = transformers.DebertaV2Config(**sizes, num_attention_heads=2)
    said = huggingface.check(transformers.DebertaV2Model(config))
    assert said is not None and "DisentangledSelfAttention" in said
    for model in (llama(), bert(), gpt2(), mistral(window=4)):
        assert huggingface.check(model) is None
    assert huggingface.check(huggingface.attach(bert(), "flatten")) is None
