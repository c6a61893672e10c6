"""Mechanisms by the CPU operator ``LinearAttention`` of ONNX Runtime, a row for each."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..base import CallShape, Geometry
from ..engines.state import StateCore
from ..foreign import OrtOperator
from ..mechanisms import deltanet, gated_deltanet, gla, head_decay, kda
from ..precision import within_range, without_autocast
from .entries import enter
from .extras import load

_DOMAIN = "com.microsoft"
_GATES = {"log_decay": "decay", "beta": "beta"}
"""Our gates, and the operator's inputs, in its order."""


@cache
def session(rule: str, gates: frozenset[str], num_threads: int) -> Any:
    """A graph of the operator alone, for any batch, length and width; one for all modules."""
    onnx, runtime = (importlib.import_module(name) for name in ("onnx", "onnxruntime"))
    inputs = ["query", "key", "value", "past"]
    inputs += [theirs if ours in gates else "" for ours, theirs in _GATES.items()]
    outputs = ["output", "present"]
    # Heads are given as rows of the batch, which is how our tensors lie: nothing is copied.
    sizes = {"q_num_heads": 1, "kv_num_heads": 1}
    node = onnx.helper.make_node(
        *("LinearAttention", inputs, outputs), domain=_DOMAIN, update_rule=rule, scale=1.0, **sizes
    )
    given, found = (
        [onnx.helper.make_tensor_value_info(x, onnx.TensorProto.FLOAT, None) for x in names if x]
        for names in (inputs, outputs)
    )
    graph = onnx.helper.make_graph([node], rule, given, found)
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(_DOMAIN, 1)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    # Threads that wait by spinning would hold the cores that torch's next call needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return runtime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class ByOrt(StateCore):
    """A recurrence of ours whose tokens all go through the operator; its first base.

    It takes tensors of float32 where they lie, and as many threads as torch has.

    Attributes:
        operator: what it calls.
        shares_heads: False, since heads are rows of the operator's batch.
    """

    operator: ClassVar[OrtOperator]
    shares_heads: bool = False

    def __init__(self, geometry: Geometry, **given: Any) -> None:
        super().__init__(geometry, **given)
        load(self.name, "onnxruntime", "InferenceSession")
        load(self.name, "onnx", "helper")

    def chunks(self, q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        """All tokens by one call; on meta tensors, by the formula of ours."""
        if q.is_meta:
            return self._by_transitions(q, k, v, *rest)
        *gates, state = rest
        batch_size, num_heads, num_tokens, _ = q.shape
        feeds = {"query": q, "key": k, "value": v}
        for name, gate in zip(self.gates, gates, strict=True):
            feeds[_GATES[name]] = gate.expand(*q.shape[:3], *gate.shape[3:])
        size = batch_size * num_heads
        rows = {name: x.reshape(size, num_tokens, -1) for name, x in feeds.items()}
        rows["past"] = state.reshape(size, 1, *state.shape[2:])
        arrays = {name: x.detach().contiguous().numpy() for name, x in rows.items()}
        run = session(self.operator.rule, frozenset(self.gates), torch.get_num_threads())
        out, after = map(torch.from_numpy, run.run(None, arrays))
        return out.view(v.shape), after.view(state.shape)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Tensor:
        """(B, H, N, D), (B, H, N, D), (B, H, N, E) -> (B, H, N, E), all heads at once."""
        state = self.init_state(len(q), dtype=q.dtype, device=q.device)
        return self._computed(q, k, v, key_mask, gates, state)[0]

    def step(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        state: Any,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> tuple[Tensor, Any]:
        """The next T tokens, one as well: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        return self._computed(q, k, v, key_mask, gates, state)

    def _computed(
        self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, gates: Any, state: Any
    ) -> tuple[Tensor, Any]:
        given, ours = (q, k, v, *gates.values()), self.operator.ours.name
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given):
            raise ValueError(
                f"{self.name}: an input requires a gradient, and the operator gives none; call it "
                f"under torch.no_grad(), or train with {ours}, which computes the same."
            )
        if q.device.type not in ("cpu", "meta"):
            raise ValueError(
                f"{self.name}: inputs are on {q.device}, and the operator runs on a CPU; {ours} "
                "runs on any device."
            )
        with without_autocast(q.device.type):
            out, state = self.chunks(*self._inputs(q, k, v, key_mask, gates), state)
            return within_range(out, q.dtype), state

    def executed_flops(self, shape: CallShape) -> int:
        """FLOPs of the formula: those that the operator executes are not seen."""
        return self.flops(shape)


OPERATORS = (
    OrtOperator("deltanet_ort", deltanet.DeltaNet, "delta"),
    OrtOperator("gated_deltanet_ort", gated_deltanet.GatedDeltaNet, "gated_delta"),
    OrtOperator("kda_ort", kda.Kda, "gated_delta"),
    OrtOperator("gla_ort", gla.Gla, "gated"),
    OrtOperator("simple_gla_ort", head_decay.SimpleGla, "gated"),
)
"""The recurrences of ours that the operator of version 1.32 computes."""

for _row in OPERATORS:
    globals()[f"{_row.ours.__name__}Ort"] = enter(_row, ByOrt, __name__)
