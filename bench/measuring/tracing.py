"""Traces of decoders in Transformers: one input, served in several ways."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from bench.measuring.shipped import Refused, first_line

LARGEST = 30_000_000
"""Parameters beyond which a configuration is not tiny."""

SMALL: dict[str, Any] = dict.fromkeys(
    "hidden_size intermediate_size n_embd d_model ffn_dim decoder_ffn_dim encoder_ffn_dim "
    "word_embed_proj_dim".split(), 64
) | dict.fromkeys(
    "num_hidden_layers num_attention_heads num_experts num_local_experts n_routed_experts n_layer "
    "n_head decoder_layers decoder_attention_heads encoder_attention_heads "
    "linear_num_value_heads".split(), 4
) | dict.fromkeys(
    "num_key_value_heads num_experts_per_tok num_experts_per_token index_n_heads encoder_layers "
    "linear_num_key_heads eos_token_id".split(), 2
) | dict.fromkeys(
    "head_dim kv_lora_rank qk_nope_head_dim v_head_dim index_topk index_head_dim sliding_window "
    "linear_key_head_dim linear_value_head_dim mamba_d_head mamba_head_dim".split(), 16
) | dict.fromkeys(
    "qk_rope_head_dim mamba_n_heads mamba_d_state mamba_num_heads ssm_state_size state_size "
    "hidden_size_per_layer_input".split(), 8
) | dict.fromkeys(
    "n_group topk_group n_shared_experts first_k_dense_replace bos_token_id".split(), 1
) | dict.fromkeys(
    "moe_intermediate_size q_lora_rank shared_expert_intermediate_size".split(), 32
) | dict.fromkeys(
    "vocab_size mamba_d_ssm vocab_size_per_layer_input".split(), 128
) | {"pad_token_id": 0, "num_kv_shared_layers": 0}  # fmt: skip
"""Sizes in place of a configuration's own, where it has the field."""


def tiny_config(name: str) -> Any:
    """The default configuration of a model type with the sizes of `SMALL`.

    Raises:
        Refused: Transformers cannot make it.
    """
    from transformers import CONFIG_MAPPING

    try:
        default = CONFIG_MAPPING[name]()
        return CONFIG_MAPPING[name](**{k: v for k, v in SMALL.items() if hasattr(default, k)})
    except Exception as error:
        raise Refused(first_line(error)) from error


def tiny_model(config: Any, seed: int) -> nn.Module:
    """The model of a configuration in float32, with random weights.

    Raises:
        Refused: Transformers cannot build it, or it has more than `LARGEST` parameters.
    """
    from transformers import AutoModelForCausalLM

    more = {"attn_implementation": "eager", "experts_implementation": "eager"}

    def build() -> Any:
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **more)

    try:
        with torch.device("meta"):
            count = sum(p.numel() for p in build().parameters())
        if count > LARGEST:
            raise Refused(f"{count:,} parameters are left of its default sizes")
        torch.manual_seed(seed)
        model: nn.Module = build().eval()
    except Refused:
        raise
    except Exception as error:
        raise Refused(first_line(error)) from error
    return model


def cache_of(out: Any) -> dict[str, Any]:
    """The cache that a model returned, as the argument under which it takes it."""
    for name in ("past_key_values", "cache_params"):
        if getattr(out, name, None) is not None:
            return {name: out[name], "use_cache": True}
    raise ValueError("its output has no cache")


def drawn(count: int, seed: int) -> Tensor:
    """Three rows of tokens, (3, count)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 128, (count, 3), generator=generator).T.contiguous()


def continued(model: nn.Module, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row whose tokens from the cut on are a second part."""
    first = model(input_ids=tokens[:1, :cut], use_cache=True)
    last = model(input_ids=tokens[:1, cut:], **cache_of(first))
    return torch.cat([first.logits, last.logits], 1)


def stepwise(model: nn.Module, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row whose tokens from the cut on come one by one."""
    out = model(input_ids=tokens[:1, :cut], use_cache=True)
    parts = [out.logits]
    for one in tokens[:1, cut:].split(1, 1):
        out = model(input_ids=one, **cache_of(out))
        parts.append(out.logits)
    return torch.cat(parts, 1)


def batched(model: nn.Module, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row among three."""
    return model(input_ids=tokens, use_cache=False).logits[:1]  # type: ignore[no-any-return]


def padded(model: nn.Module, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row with seven masked tokens on its left."""
    row = torch.cat([torch.zeros_like(tokens[:1, :1]).expand(1, 7), tokens[:1]], 1)
    mask = (torch.arange(row.shape[1]) >= 7).long()[None]
    more: dict[str, Any] = {"attention_mask": mask, "use_cache": False}
    if "position_ids" in inspect.signature(model.forward).parameters:
        more["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    out = model(input_ids=row, **more)
    return out.logits[:, 7:]  # type: ignore[no-any-return]


def rolled_back(model: nn.Module, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row, after a token of another row was read at the cut and taken back."""
    first = model(input_ids=tokens[:1, :cut], use_cache=True)
    (cache,) = (one for one in cache_of(first).values() if one is not True)
    if not hasattr(cache, "crop"):
        raise ValueError("its cache offers no crop")
    if hasattr(cache, "activate_past_recording"):
        cache.activate_past_recording()
    more = cache_of(model(input_ids=tokens[1:2, cut : cut + 1], **cache_of(first)))
    cache.crop(-1)
    last = model(input_ids=tokens[:1, cut:], **more)
    return torch.cat([first.logits, last.logits], 1)


TRACES = {
    "continue": continued,
    "step by step": stepwise,
    "batch of 3": batched,
    "left padding": padded,
    "rollback": rolled_back,
}
"""Ways to serve an input, by their names."""


def change(trace: str, model: nn.Module, tokens: Tensor, cut: int) -> float:
    """Largest change of the logits against one pass without cache, over the largest logit."""
    whole = model(input_ids=tokens[:1], use_cache=False).logits
    other = TRACES[trace](model, tokens, cut)
    return float((other - whole).abs().max() / whole.abs().max())
