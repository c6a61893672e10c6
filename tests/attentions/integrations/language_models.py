"""Small untrained models of transformers, and what they are asked."""

import inspect
import os
from typing import Any

import pytest
import torch
from torch import Tensor

os.environ["HF_HUB_OFFLINE"] = "1"
transformers: Any = pytest.importorskip(
    "transformers", reason="needs transformers: pip install 'attnbench[transformers]'"
)
# Tests import these from here: without transformers they are skipped before they ask for them.
from attentions import huggingface as huggingface  # noqa: E402
from attentions.huggingface import PREFIX as PREFIX  # noqa: E402
from attentions.huggingface import RecurrentCache as RecurrentCache  # noqa: E402
from attentions.huggingface import attach as attach  # noqa: E402
from attentions.integrations.transformers.forward import (  # noqa: E402
    AttentionFunction as AttentionFunction,
)

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


def qwen3_next(num_layers: int) -> Any:
    """Three layers of the model's own recurrence, and then one of attention."""
    torch.manual_seed(0)
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"]
    narrow = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "moe_intermediate_size": 16}
    heads = {"linear_num_value_heads": 2, "linear_num_key_heads": 1, "num_key_value_heads": 1}
    settings = {"num_hidden_layers": num_layers, "layer_types": kinds[:num_layers], "head_dim": 8}
    config = transformers.Qwen3NextConfig(
        **SIZES | settings | narrow | heads, num_experts=2, num_experts_per_tok=1
    )
    return transformers.Qwen3NextForCausalLM(config).eval()


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


def mistral(window: int) -> Any:
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=window)
    return transformers.MistralForCausalLM(config).eval()


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


def cache_argument() -> str:
    """The keyword for a cache that a model is given; Transformers has renamed it."""
    named = inspect.signature(transformers.LlamaModel.forward).parameters
    return "cache" if "cache" in named else "past_key_values"


def generate(model: Any, *, cache: RecurrentCache | None = None, **settings: Any) -> Any:
    """Ten tokens, the likeliest each time, with their logits."""
    if cache is not None:
        settings[cache_argument()] = cache
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
