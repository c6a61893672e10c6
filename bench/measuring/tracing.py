"""Traces of decoders in Transformers: one input, served in several ways."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from bench.measuring.shipped import Refused, first_line

LARGEST = 30_000_000
"""Parameters beyond which a configuration is not tiny."""

_SIZES = {
    64: "hidden_size intermediate_size n_embd n_inner d_model ffn_dim decoder_ffn_dim emb_dim "
    "encoder_ffn_dim word_embed_proj_dim embedding_size lru_width ffn_hidden_size "
    "expert_ffn_hidden_size",
    4: "num_hidden_layers num_attention_heads num_experts num_local_experts n_routed_experts "
    "n_layer n_head n_heads n_layers num_layers num_heads decoder_layers decoder_attention_heads "
    "encoder_attention_heads encoder_layers linear_num_value_heads linear_num_heads",
    2: "num_key_value_heads num_experts_per_tok num_experts_per_token "
    "linear_num_key_heads eos_token_id",
    16: "head_dim kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim index_topk "
    "sliding_window linear_key_head_dim linear_value_head_dim linear_head_dim mamba_d_head "
    "mamba_head_dim",
    8: "mamba_n_heads mamba_d_state mamba_num_heads ssm_state_size state_size rotary_dim "
    "hidden_size_per_layer_input",
    1: "n_group num_expert_group topk_group n_shared_experts first_k_dense_replace bos_token_id",
    32: "moe_intermediate_size q_lora_rank shared_expert_intermediate_size index_head_dim "
    "index_n_heads",
    128: "vocab_size mamba_d_ssm vocab_size_per_layer_input",
    0: "pad_token_id num_kv_shared_layers",
}
SMALL = {name: size for size, names in _SIZES.items() for name in names.split()} | {
    "is_decoder": True,
    "initializer_range": 0.1,
    "init_std": 0.1,
}
"""Values in place of a configuration's own, where it has the field. Weights are larger than its
own, with which a context would change the logits of a tiny model little."""

_HYBRID = {"layer_types": ["linear_attention", "full_attention"] * 2}
OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": _HYBRID,
    "bamba": {"attn_layer_indices": [1, 3]},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": _HYBRID,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": _HYBRID,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip
"""Fields of single model types: four layers of both kinds, and sizes that belong together."""


def tiny_fields(name: str) -> dict[str, Any]:
    """The fields of a model type that make it tiny, those of its parts included.

    Raises:
        Refused: Transformers cannot make its default configuration.
    """
    from transformers import CONFIG_MAPPING

    def small(default: Any) -> dict[str, Any]:
        own = default.to_dict()
        fields = {key: value for key, value in SMALL.items() if key in own}
        if "kv_lora_rank" in own and "num_key_value_heads" in own:
            # Latent attention expands its latents to a key for each query head.
            fields["num_key_value_heads"] = fields["num_attention_heads"]
        parts = {key: getattr(default, key, None) for key in default.sub_configs}
        return fields | {key: small(part) for key, part in parts.items() if part is not None}

    try:
        return small(CONFIG_MAPPING[name]()) | OWN.get(name, {})
    except Exception as error:
        raise Refused(first_line(error.__cause__ or error)) from error


def tiny_model(name: str, fields: dict[str, Any], seed: int) -> nn.Module:
    """A model type with these fields in float32, with random weights.

    Raises:
        Refused: Transformers cannot build it, or it has more than `LARGEST` parameters.
    """
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    def build() -> Any:
        more = {"dtype": torch.float32, "experts_implementation": "eager"}
        return AutoModelForCausalLM.from_config(config, **more)

    try:
        config = CONFIG_MAPPING[name](**fields)
        with torch.device("meta"):
            count = sum(p.numel() for p in build().parameters())
        if count > LARGEST:
            raise Refused(f"{count:,} parameters are left of its default sizes")
        torch.manual_seed(seed)
        model: nn.Module = build().eval()
    except Refused:
        raise
    except Exception as error:
        raise Refused(first_line(error.__cause__ or error)) from error
    return model


def drawn(count: int, seed: int) -> Tensor:
    """Three rows of tokens, (3, count)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 128, (count, 3), generator=generator).T.contiguous()


def part(
    model: Any, tokens: Tensor, count: int, cache: Any = None, mask: Tensor | None = None
) -> Any:
    """Output for the last tokens of those so far, the model called as `generate` calls it."""
    more: dict[str, Any] = {} if mask is None else {"attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        seen = torch.ones_like(tokens) if mask is None else mask
        more["position_ids"] = (seen.cumsum(1) - 1).masked_fill(seen == 0, 0)
    inputs = model.prepare_inputs_for_generation(
        tokens,
        next_sequence_length=count,
        cache=cache,
        is_first_iteration=cache is None or count > 1,
        use_cache=True,
        **more,
    )
    if "logits_to_keep" in inputs:  # those of all tokens, which generate need not have
        inputs["logits_to_keep"] = 0
    out = model(**inputs, return_dict=True)
    if out.get("cache") is None:
        raise ValueError("its output has no cache")
    return out


def continued(model: Any, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row whose tokens from the cut on are a second part."""
    row = tokens[:1]
    first = part(model, row[:, :cut], cut)
    last = part(model, row, row.shape[1] - cut, first.cache)
    return torch.cat([first.logits, last.logits], 1)


def stepwise(model: Any, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row whose tokens from the cut on come one by one."""
    out = part(model, tokens[:1, :cut], cut)
    parts = [out.logits]
    for end in range(cut + 1, tokens.shape[1] + 1):
        out = part(model, tokens[:1, :end], 1, out.cache)
        parts.append(out.logits)
    return torch.cat(parts, 1)


def batched(model: Any, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row among three."""
    return part(model, tokens, tokens.shape[1]).logits[:1]  # type: ignore[no-any-return]


def padded(model: Any, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row with seven masked tokens on its left."""
    row = torch.cat([torch.zeros_like(tokens[:1, :1]).expand(1, 7), tokens[:1]], 1)
    mask = (torch.arange(row.shape[1]) >= 7).long()[None]
    out = part(model, row, row.shape[1], mask=mask)
    return out.logits[:, 7:]  # type: ignore[no-any-return]


def rolled_back(model: Any, tokens: Tensor, cut: int) -> Tensor:
    """Logits of a row, after two tokens of another row were read at the cut and taken back."""
    row = tokens[:1]
    first = part(model, row[:, :cut], cut)
    if not first.cache.is_croppable:
        raise ValueError("its cache says that it cannot be cropped")
    first.cache.activate_past_recording()
    other = torch.cat([row[:, :cut], tokens[1:2, :2]], 1)
    cache = part(model, other, 2, first.cache).cache
    cache.crop(-2)
    last = part(model, row, row.shape[1] - cut, cache)
    return torch.cat([first.logits, last.logits], 1)


TRACES = {
    "continue": continued,
    "step by step": stepwise,
    "batch of 3": batched,
    "left padding": padded,
    "rollback": rolled_back,
}
"""Ways to serve an input, by their names."""


def change(trace: str, model: Any, tokens: Tensor, cut: int) -> float:
    """Largest change of the logits against one pass without cache, over the largest logit."""
    whole = model(input_ids=tokens[:1], use_cache=False).logits
    other = TRACES[trace](model, tokens, cut)
    if other.shape != whole.shape:
        raise ValueError(f"logits have shape {tuple(other.shape)}, not {tuple(whole.shape)}")
    return float((other - whole).abs().max() / whole.abs().max())
