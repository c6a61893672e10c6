"""A mechanism in one of its forms, causal or bidirectional, built for a check, and its inputs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters.extras import EXTRAS
from ..base import Attention
from ..capabilities import PUBLISHED, Capabilities, Gate
from ..geometry import Geometry
from ..registry import attention_class, build_attention

BATCH_SIZE, NUM_HEADS, HEAD_DIM, VALUE_DIM = 2, 3, 8, 6
SEQ_LEN = 12
"""A grid of 3 x 4."""
MEDIUM = 131
"""A whole chunk of 128 and a part."""
LONG = 300
"""Two whole chunks of 128 and a part."""
FAR = 700
"""More tokens than a sparse mechanism attends to."""
CPU = torch.device("cpu")
_PERTURBATION = 0.3
_LEAST_SHARE = 0.05
SETTINGS: dict[str, dict[str, Any]] = {
    "nystromformer_published": {"num_landmarks": 4},
    "dsa": {"top_k": 16, "index_dim": 4},
    "nsa": {"block_size": 8, "num_blocks": 4, "window": 20},
    "moba": {"block_size": 16, "top_k": 3},
}
"""Settings for mechanisms whose defaults do not suit so few tokens: landmarks must divide their
number, and a sparse mechanism would attend to all of them.
"""


Gates = dict[str, Tensor]


class Untestable(Exception):
    """A claim cannot be tested here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """A registered mechanism, causal or bidirectional.

    Attributes:
        name: as registered.
        causal: whether query i sees keys 0..i only.
        settings: hyperparameters in place of the defaults.
    """

    name: str
    causal: bool
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Such as ``linear`` or ``linear-causal``."""
        return f"{self.name}-causal" if self.causal else self.name

    @property
    def can(self) -> Capabilities:
        """Capabilities that the mechanism claims."""
        return attention_class(self.name).capabilities

    @property
    def is_published(self) -> bool:
        """True for the authors' own operators, which need not be finite on hard inputs."""
        return attention_class(self.name).family == PUBLISHED

    @property
    def is_core(self) -> bool:
        """True if it mixes heads that are already projected."""
        return issubclass(attention_class(self.name), Attention)

    @property
    def is_first(self) -> bool:
        """True for the form that stands for the mechanism where one is enough."""
        return self.causal != self.can.bidirectional

    @property
    def keywords(self) -> set[str]:
        """The keyword-only arguments of ``forward`` but numbers: masks and gates."""
        taken = inspect.signature(attention_class(self.name).forward).parameters.values()
        own = [p for p in taken if p.kind is p.KEYWORD_ONLY]
        return {p.name for p in own if "float" not in str(p.annotation)}


def forms_of(name: str, settings: Mapping[str, Any] | None = None) -> tuple[Form, ...]:
    """The forms that a mechanism claims, the bidirectional one first."""
    can = attention_class(name).capabilities
    claimed = ((False, can.bidirectional), (True, can.causal))
    own = settings or {}
    return tuple(
        Form(name=name, causal=causal, settings=own) for causal, is_claimed in claimed if is_claimed
    )


def build(
    form: Form,
    *,
    num_heads: int = NUM_HEADS,
    seq_len: int = SEQ_LEN,
    head_dim: int = HEAD_DIM,
    value_dim: int = VALUE_DIM,
    num_kv_heads: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Build a mechanism, with its parameters moved away from their initial values.

    Raises:
        Untestable: a package is missing, this dtype or the CPU is not claimed, or published code
            refuses the geometry.
        ValueError: it refuses the geometry.
    """
    if set(form.can.requires) & set(EXTRAS) and not form.can.recurrent:
        package = form.can.requires[0]
        raise Untestable(f"is the code of {package}, and only its adapter is ours")
    if "cpu" not in form.can.devices:
        raise Untestable(f"runs on {', '.join(form.can.devices)} only")
    if name_of(dtype) not in form.can.dtypes:
        raise Untestable(f"does not claim {name_of(dtype)}")
    geometry = Geometry(
        num_heads=num_heads,
        head_dim=head_dim,
        seq_len=seq_len,
        value_dim=value_dim if form.is_core else head_dim,
        causal=form.causal,
        num_kv_heads=num_kv_heads,
    )
    try:
        mechanism = build_attention(
            form.name, geometry, **{**SETTINGS.get(form.name, {}), **form.settings}
        )
    except ImportError as error:
        raise Untestable(str(error)) from error
    except ValueError as error:
        if form.is_published:
            raise Untestable(f"refused: {error}") from error
        raise
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.add_(_PERTURBATION * torch.randn_like(parameter))
    return mechanism.to(dtype)


def inputs(
    mechanism: Any,
    *,
    dtype: torch.dtype = torch.float32,
    batch_size: int = BATCH_SIZE,
    key_len: int | None = None,
    requires_grad: bool = False,
) -> tuple[Tensor, ...]:
    """Unit-normal ``(q, k, v)``, or ``(x,)`` of a layer, in the sizes of its geometry.

    Raises:
        Untestable: gradients are wanted, and it has none on a CPU.
    """
    if requires_grad:
        needs_gradients(mechanism)
    g = mechanism.geometry
    if not isinstance(mechanism, Attention):
        sizes: list[tuple[int, ...]] = [(batch_size, g.seq_len, g.embed_dim)]
    else:
        keys = g.seq_len if key_len is None else key_len
        sizes = [
            (batch_size, g.num_heads, g.seq_len, g.head_dim),
            (batch_size, g.num_kv_heads, keys, g.head_dim),
            (batch_size, g.num_kv_heads, keys, g.value_dim),
        ]
    return tuple(torch.randn(size).to(dtype).requires_grad_(requires_grad) for size in sizes)


def gates_of(mechanism: Any, tensors: tuple[Tensor, ...]) -> Gates:
    """Random gates of the shape and in the range that a mechanism declares."""
    q, k = tensors[:2]
    return {
        name: _drawn(
            gate,
            mechanism.gate_shape(name, len(q), (q if gate.query else k).shape[2]),
            q.dtype,
        )
        for name, gate in mechanism.gates.items()
    }


def _drawn(gate: Gate, sizes: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if gate.unit:
        return functional.normalize(torch.randn(sizes, dtype=dtype), dim=-1)
    share = torch.rand(sizes, dtype=dtype).clamp(min=_LEAST_SHARE)
    if gate.is_log_decay:
        return share.log() / 4
    if math.isfinite(gate.low) and math.isfinite(gate.high):
        return gate.low + (gate.high - gate.low) * share
    if math.isfinite(gate.low):
        return gate.low - share.log()
    return gate.high + share.log() if math.isfinite(gate.high) else torch.randn(sizes, dtype=dtype)


def has_gradients(mechanism: Any) -> bool:
    """True if it claims gradients on a CPU."""
    return "cpu" in mechanism.capabilities.backward_devices


def needs_gradients(mechanism: Any) -> None:
    """Raise `Untestable` unless it claims gradients on a CPU."""
    if not has_gradients(mechanism):
        where = ", ".join(mechanism.capabilities.backward_devices) or "no device"
        raise Untestable(f"gradients are claimed on {where} only")


def gradients(
    out: Tensor,
    tensors: Sequence[Tensor],
    cotangent: Tensor | None = None,
    *,
    retain_graph: bool = False,
    of_all: bool = False,
) -> list[Tensor]:
    """Gradients for each tensor that `out` depends on; with a seeded cotangent if None is given.

    With ``of_all``, the other tensors have gradients of zero; without it, none.
    """
    if cotangent is None:
        torch.manual_seed(1)
        cotangent = torch.randn(out.shape, dtype=torch.float64).to(out.dtype)
    found = torch.autograd.grad(
        out,
        tensors,
        cotangent,
        allow_unused=True,
        retain_graph=retain_graph,
        materialize_grads=of_all,
    )
    return [gradient for gradient in found if gradient is not None]


def name_of(dtype: torch.dtype) -> str:
    """Name of a dtype in capabilities, such as ``float32``."""
    return str(dtype).removeprefix("torch.")


def dtypes_of(form: Form) -> list[torch.dtype]:
    """The dtypes that a mechanism claims."""
    return [getattr(torch, name) for name in form.can.dtypes]
