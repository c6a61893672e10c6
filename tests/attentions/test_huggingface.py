from __future__ import annotations

import copy
import inspect
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

os.environ["HF_HUB_OFFLINE"] = "1"
transformers: Any = pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'attnbench[transformers]'"
)
from attentions import huggingface  # noqa: E402
from attentions.huggingface import PREFIX, RecurrentCache, attach  # noqa: E402

VOCAB = 40
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
NUM_NEW = 10


def llama(**settings: Any) -> Any:
    """Two layers with two query heads to each head of keys and values."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, **settings)
    return transformers.LlamaForCausalLM(config).eval()


def gpt2(**settings: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, **settings
    )
    return transformers.GPT2LMHeadModel(config).eval()


def bert() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZES, attention_probs_dropout_prob=0.0)
    return transformers.BertModel(config).eval()


def ids(length: int = 9) -> Tensor:
    return torch.randint(1, VOCAB, (2, length), generator=torch.Generator().manual_seed(1))


def padding(*, left: bool) -> Tensor:
    kept = torch.ones(2, 9, dtype=torch.long)
    kept[1, slice(0, 3) if left else slice(6, 9)] = 0
    return kept


def with_mechanism(model: Any, mechanism: str) -> Any:
    model.set_attn_implementation(PREFIX + mechanism)
    return model


def generate(model: Any, *, cache: RecurrentCache | None = None, **settings: Any) -> Any:
    """Ten tokens, the likeliest each time, with their logits."""
    if cache is not None:
        named = inspect.signature(transformers.LlamaModel.forward).parameters
        settings["cache" if "cache" in named else "past_key_values"] = cache
    return model.generate(
        settings.pop("input_ids", ids()),
        max_new_tokens=NUM_NEW,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
        **settings,
    )


def assert_same(one: Any, other: Any) -> None:
    assert torch.equal(one.sequences, other.sequences)
    logits, others = torch.stack(one.logits), torch.stack(other.logits)
    torch.testing.assert_close(logits, others, atol=1e-5, rtol=1e-5)


# --- the same as the original


@pytest.mark.parametrize("build", [llama, gpt2])
@pytest.mark.parametrize("original", ["sdpa", "eager"])
@pytest.mark.parametrize("is_padded", [False, True])
def test_softmax_is_the_original(build: Any, original: str, is_padded: bool) -> None:
    model = build()
    mask = padding(left=True) if is_padded else None
    model.set_attn_implementation(original)
    expected = model(ids(), attention_mask=mask).logits
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).logits
    seen = torch.ones(2, 9, dtype=torch.bool) if mask is None else mask.bool()
    torch.testing.assert_close(out[seen], expected[seen], atol=1e-5, rtol=1e-5)


def test_softmax_is_the_original_in_an_encoder_with_padding() -> None:
    model, mask = bert(), padding(left=False)
    expected = model(ids(), attention_mask=mask).last_hidden_state
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).last_hidden_state
    torch.testing.assert_close(out[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-5)


def test_softmax_is_the_original_in_an_encoder_and_its_decoder() -> None:
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


def test_a_sliding_window_is_kept_by_softmax_and_refused_by_linear() -> None:
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4)
    model = transformers.MistralForCausalLM(config).eval()
    expected = model(ids()).logits
    out = with_mechanism(model, "softmax")(ids()).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="linear at MistralAttention 0: the call gives a mask"):
        with_mechanism(model, "linear")(ids())
    assert model(ids(4)).logits.isfinite().all()  # the window hides nothing yet


def test_packed_texts_are_kept_apart_by_softmax_and_refused_by_linear() -> None:
    model = llama()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    call = {"input_ids": ids()[:1], "position_ids": positions, "use_cache": False}
    expected = model(**call).logits
    out = with_mechanism(model, "softmax")(**call).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="a mask over pairs"):
        with_mechanism(model, "linear")(**call)


def test_a_prefix_that_sees_itself_is_kept_by_softmax_and_refused_by_linear() -> None:
    model = gpt2()
    mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
    mask[..., :4, :4] = True
    expected = model(ids(), attention_mask=mask).logits
    out = with_mechanism(model, "softmax")(ids(), attention_mask=mask).logits
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="it hides later keys, and this call does not"):
        with_mechanism(model, "linear")(ids(), attention_mask=mask)


def test_left_padding_is_as_good_as_removed() -> None:
    model = with_mechanism(gpt2(), "linear")
    together = generate(model, attention_mask=padding(left=True))
    alone = generate(model, input_ids=ids()[1:, 3:])
    assert torch.equal(together.sequences[1, 3:], alone.sequences[0])


# --- decoding


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "performer", "taylor", "topk"])
def test_keys_and_values_in_the_cache_give_the_same_tokens(mechanism: str) -> None:
    model = with_mechanism(llama(), mechanism)
    assert_same(generate(model), generate(model, use_cache=False))


@pytest.mark.parametrize("mechanism", ["linear", "cosformer", "lightning", "retnet", "performer"])
def test_a_recurrent_state_gives_the_same_tokens(mechanism: str) -> None:
    model = with_mechanism(llama(), mechanism)
    assert_same(generate(model, cache=RecurrentCache()), generate(model, use_cache=False))


def test_a_window_keeps_its_own_state() -> None:
    model = attach(llama(), "sliding_window", window=4)
    assert_same(generate(model, cache=RecurrentCache()), generate(model, use_cache=False))


def test_a_recurrent_state_does_not_grow() -> None:
    model, cache = with_mechanism(gpt2(), "linear"), RecurrentCache()
    generate(model, cache=cache)
    assert cache.get_seq_length() == 9 + NUM_NEW - 1
    state: Any = cache.layers[0].state
    assert sum(part.numel() for part in state) == 2 * 4 * (8 * 8 + 8)


@pytest.mark.parametrize("mechanism", ["linear", "retnet"])
def test_beams_take_their_state_with_them(mechanism: str) -> None:
    model = with_mechanism(gpt2(), mechanism)
    beams = generate(model, cache=RecurrentCache(), num_beams=3)
    expected = generate(model, use_cache=False, num_beams=3)
    assert torch.equal(beams.sequences, expected.sequences)


@pytest.mark.parametrize(
    ("mechanism", "mend"),
    [("lightning", "pass a RecurrentCache"), ("block_sparse", "use_cache=False")],
)
def test_a_mechanism_that_cannot_use_cached_keys_says_what_to_do(mechanism: str, mend: str) -> None:
    with pytest.raises(ValueError, match=f"cannot go on from cached keys and values; {mend}"):
        generate(with_mechanism(gpt2(), mechanism))


@pytest.mark.parametrize(
    ("mechanism", "message"),
    [("sigmoid", "no recurrent form"), ("softmax", "leave them to the model's own cache")],
)
def test_a_mechanism_without_a_small_state_refuses_the_cache(mechanism: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(with_mechanism(gpt2(), mechanism), cache=RecurrentCache())


def mistral(window: int) -> Any:
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=window)
    return transformers.MistralForCausalLM(config).eval()


def test_a_state_takes_in_a_models_window_until_it_hides_something() -> None:
    model = with_mechanism(mistral(window=32), "linear")
    assert_same(generate(model, cache=RecurrentCache()), generate(model, use_cache=False))
    model = with_mechanism(mistral(window=12), "linear")
    with pytest.raises(ValueError, match="hidden by padding or a window"):
        generate(model, cache=RecurrentCache())


def test_padding_is_refused_where_a_state_would_take_it_in() -> None:
    model = with_mechanism(gpt2(), "linear")
    with pytest.raises(ValueError, match="decode texts of one length together"):
        generate(model, cache=RecurrentCache(), attention_mask=padding(left=True))


def test_a_static_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="use a dynamic cache, or use_cache=False"):
        generate(with_mechanism(gpt2(), "linear"), cache_implementation="static")


def test_a_recurrent_cache_under_another_attention_is_noticed() -> None:
    with pytest.raises(ValueError, match="never reached a recurrent mechanism"):
        generate(gpt2(), cache=RecurrentCache())


# --- attached cores


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "hedgehog"])
def test_a_model_learns(mechanism: str) -> None:
    model = attach(llama(), mechanism).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(10):
        loss = model(ids(), labels=ids()).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_attached_parameters_are_in_the_state_dict_and_used_while_decoding() -> None:
    model = attach(llama(), "hedgehog")
    names = [name for name in model.state_dict() if "attnbench_core" in name]
    assert len(names) >= 2
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "attnbench_core" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    expected = generate(model, use_cache=False)
    assert_same(generate(model), expected)
    assert_same(generate(model, cache=RecurrentCache()), expected)


def test_hyperparameters_reach_the_mechanism_and_the_printed_model() -> None:
    model = attach(bert(), "flatten", focusing_factor=2)
    assert "flatten, focusing_factor=2, norm_over='all_heads'" in str(model)
    out = model(ids(), attention_mask=padding(left=False)).last_hidden_state
    assert out.isfinite().all()


def test_attaching_again_replaces_the_core_and_a_failure_keeps_it() -> None:
    model = attach(bert(), "flatten")
    expected = model(ids()).last_hidden_state
    with pytest.raises(TypeError, match="takes no hyperparameter 'alph'"):
        attach(model, "polaformer", alph=4)
    assert torch.equal(model(ids()).last_hidden_state, expected)
    assert "attnbench_core" not in " ".join(attach(model, "linear").state_dict())


def test_attaching_keeps_the_mode_of_each_module() -> None:
    model = bert().train()
    model.encoder.layer[0].eval()
    attach(model, "flatten")
    assert model.training and not model.encoder.layer[0].training


def test_a_model_of_images_needs_an_example() -> None:
    config = transformers.ViTConfig(
        **{k: v for k, v in SIZES.items() if k not in ("vocab_size", "max_position_embeddings")},
        image_size=16,
        patch_size=8,
    )
    model = transformers.ViTModel(config).eval()
    with pytest.raises(ValueError, match=r"inputs=\{'pixel_values': \.\.\.\}"):
        attach(model, "flatten")
    example = {"pixel_values": torch.zeros(1, 3, 16, 16)}
    assert attach(model, "flatten", inputs=example)(**example).last_hidden_state.shape == (1, 5, 32)


def test_a_copied_model_has_its_own_parameters() -> None:
    model = attach(bert(), "flatten")
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.encoder.layer[0].attention.self.attnbench_core.scale.add_(1)
    assert not torch.equal(twin(ids()).last_hidden_state, model(ids()).last_hidden_state)


# --- refusals


def test_parameters_that_no_optimiser_would_see_are_refused() -> None:
    with pytest.raises(ValueError, match=r"huggingface.attach\(model, 'flatten'\)"):
        with_mechanism(bert(), "flatten")(ids())


@pytest.mark.parametrize(
    ("build", "mechanism", "message"),
    [
        (gpt2, "nala", "nala at GPT2Attention 0: this attention hides later tokens"),
        (bert, "lightning", "lightning at BertSelfAttention 0: this attention sees all tokens"),
    ],
)
def test_the_wrong_direction_is_refused(build: Any, mechanism: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_mechanism(build(), mechanism)(ids())


def test_a_mask_is_refused_where_none_is_taken() -> None:
    with pytest.raises(ValueError, match="cosformer takes none"):
        with_mechanism(bert(), "cosformer")(ids(), attention_mask=padding(left=False))


def test_dropout_of_weights_is_refused_while_training() -> None:
    model = with_mechanism(gpt2(attn_pdrop=0.1), "linear").train()
    with pytest.raises(ValueError, match=r"drops 0\.1 of its weights"):
        model(ids())


def test_what_a_mechanism_does_not_offer_is_refused() -> None:
    torch.manual_seed(0)
    config = transformers.Gemma2Config(**SIZES, num_key_value_heads=2, head_dim=8)
    model = with_mechanism(transformers.Gemma2ForCausalLM(config).eval(), "softmax")
    with pytest.raises(ValueError, match="asks its attention for softcap"):
        model(ids())


@pytest.mark.parametrize("mechanism", ["nala_layer", "gla"])
def test_layers_and_gated_mechanisms_are_not_offered(mechanism: str) -> None:
    assert PREFIX + mechanism not in huggingface.implementations()
    with pytest.raises(ValueError, match="cannot stand inside the model's attention"):
        attach(bert(), mechanism)


def test_importing_without_transformers_names_the_extra() -> None:
    code = "import sys; sys.modules['transformers'] = None; import attentions.huggingface"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'attnbench[transformers]'" in ended.stderr


def test_what_is_no_model_of_transformers_is_refused() -> None:
    with pytest.raises(ValueError, match="model is of type Linear; one of transformers is needed"):
        attach(torch.nn.Linear(2, 2), "linear")


@pytest.mark.parametrize("inputs", [5, "ids", [1]])
def test_an_example_of_a_call_is_given_by_name(inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"inputs is of type .*; a call's keyword arguments"):
        attach(bert(), "linear", inputs=inputs)


@pytest.mark.parametrize("family", ["Bloom", "MPNet"])
def test_a_model_that_asks_no_interface_is_refused(family: str) -> None:
    """It would go on as it is, under the mechanism's name and without its causal mask."""
    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    build = getattr(transformers, f"{family}Model")._from_config
    model = build(config, attn_implementation=PREFIX + "linear")
    with pytest.raises(ValueError, match=f"{family}Config belongs to a model that computes its"):
        model(ids())


def test_positions_that_are_learned_as_a_bias_are_refused_although_they_start_at_zero() -> None:
    sizes = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = transformers.BeitConfig(
        **sizes, image_size=32, patch_size=16, use_relative_position_bias=True
    )
    model = with_mechanism(transformers.BeitModel(config).eval(), "linear")
    with pytest.raises(ValueError, match="what is added to the scores is learned"):
        model(torch.zeros(1, 3, 32, 32))
