"""Every mechanism of ours, built small."""

from attentions import (
    Attention,
    AttentionLayer,
    Geometry,
    attention_class,
    attention_names,
    build_attention,
)
from attentions.capabilities import PUBLISHED

NAMES = [
    n
    for n in attention_names()
    if not attention_class(n).capabilities.requires and attention_class(n).family != PUBLISHED
]
CLAIMS = {name: attention_class(name).capabilities for name in NAMES}
N, H, D = 16, 2, 8


def geometry(name: str, **changes: object) -> Geometry:
    sizes = {"num_heads": H, "head_dim": D, "seq_len": N} | changes
    return Geometry(causal=not CLAIMS[name].bidirectional, **sizes)


def build(name: str, **settings: object) -> Attention | AttentionLayer:
    agents = {"num_agents": 4} if name.startswith("agent") else {}
    return build_attention(name, geometry(name), **agents | settings)


def by(name: str) -> str:
    """Who refuses: a layer, or the core in it."""
    return f"(?:{name}|{name.removesuffix('_layer')})"
