"""A recurrence over a state per head: a mechanism says how one token changes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..base import CallShape
from ..checks import positive
from ..maths.heads import by_few_heads
from ..maths.pairs.masks import hide_keys
from ..maths.recurrences.delta_rule import unit_length
from ..maths.recurrences.transition import (
    Transition,
    Transitions,
    parts_of,
    run_token_by_token,
    run_transitions,
)
from ..maths.shared_heads import for_every_query_head
from ..precision import wide_dtype, widen, within_range, without_autocast
from ..steps import map_tensors
from .counted import counted_flops
from .gates import TakesGates, by_token


class StateCore(TakesGates):
    """A state that each token changes, and out_t = S_t^T q_t, from S_0 = 0.

    A mechanism names its gates in the capabilities and says how a token changes the state: by a
    `Transition`, if that is diagonal plus rank one, or by `update`. This one forgets by a share
    per token, and is whole: forward in chunks, `init_state` and `step`, padding masks, half dtypes,
    grouped heads, a reference and FLOPs are the engine's.

    >>> import torch
    >>> from attentions import Capabilities, Gate, Geometry, StateCore, Transition
    >>> from attentions import register_attention
    >>> @register_attention(
    ...     "fading_example",
    ...     title="A fading memory",
    ...     source="an example",
    ...     capabilities=Capabilities(
    ...         bidirectional=False,
    ...         causal=True,
    ...         recurrent=True,
    ...         masks=frozenset({"padding"}),
    ...         gates={"log_decay": Gate("bhn", high=0)},
    ...         position_free=False,
    ...     ),
    ... )
    ... class Fading(StateCore):
    ...     def learned_gates(self, k):
    ...         return {"log_decay": k.new_full((self.geometry.num_heads,), -0.1)}
    ...
    ...     def transition(self, k, v, log_decay):
    ...         return Transition(k, v, log_decay)
    >>> core = Fading(Geometry(num_heads=2, head_dim=4, seq_len=6, causal=True))
    >>> q, k, v = torch.randn(3, 1, 2, 6, 4)
    >>> core(q, k, v, log_decay=-torch.rand(1, 2, 6)).shape
    torch.Size([1, 2, 6, 4])

    With `update` alone tokens are taken one by one: correct, and some ten times slower than
    `chunks`. A state of several tensors is a named tuple, with its own `init_state`, `update` and
    `read`: tensors (B, H, ...), or (B, 1, ...) if heads share one, and numbers; where tokens change
    those, a ``key_mask`` is refused.
    Hidden tokens neither write to the state nor decay it, as if they were removed: their keys and
    gates are 0, or where that would not do they are left out one by one. Grouped queries get copies
    of keys and values a few heads at a time.

    Attributes:
        transition: how tokens change the state, from keys, (B, H, N, D), values, (B, H, N, E), and
            gates in their order, (B, H, N, 1) or (B, H, N, ...); a gate that never changes may be
            (1, H, 1, 1). `head_weights` follow the gates, here and in the others. Several
            transitions take their turns at each token. None if the state is of another kind.
        update: the state after one token, from the state, (B, H, D, E), its key, (B, H, 1, D), its
            value, (B, H, 1, E), and its gates, (B, H, 1, 1) or (B, H, 1, ...): by the transition,
            unless a mechanism defines it.
        chunks: a faster form for many tokens where there is no transition: q, k, v, gates and a
            state -> (B, H, N, E) and the state after them. Gates of (B, H, N) come as they are.
        scale: factor of the queries.
        normalise_queries: whether queries are divided by their length, q / sqrt(|q|^2 + 1e-6).
        normalise_keys: the same for keys.
        reads_first: whether a token reads the state before it writes to it, by `one_token`.
        skips_hidden: whether zero keys and gates do not make a token as good as removed. With a
            ``key_mask`` tokens are then taken one by one, and hidden ones leave the state alone.
    """

    transition: Callable[..., Transitions] | None = None
    chunks: Callable[..., tuple[Tensor, Any]] | None = None
    scale: float = 1.0
    normalise_queries: bool = False
    normalise_keys: bool = False
    reads_first: bool = False
    skips_hidden: bool = False
    shares_heads: bool = True

    def prepare(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys as the recurrence takes them, but for ``scale``."""
        q = unit_length(q) if self.normalise_queries else q
        return q, unit_length(k) if self.normalise_keys else k

    def _updated(self, state: Any, k: Tensor, v: Tensor, *gates: Tensor) -> Any:
        found = self._transitions(k, v, *gates)
        if isinstance(found, Transition):
            return found.applied_to(state)
        for part in found:
            state = part.applied_to(state)
        return state

    update: Callable[..., Any] = _updated

    def _transitions(self, k: Tensor, v: Tensor, *gates: Tensor) -> Transitions:
        if self.transition is None:
            raise TypeError(f"{self.name}: a StateCore needs a method transition or update.")
        return self.transition(k, v, *gates)

    def read(self, q: Tensor, state: Any, *gates: Tensor) -> Tensor:
        """The output of one token, (B, H, 1, E), from its query and the state after it."""
        out: Tensor = q @ state
        return out

    def one_token(
        self, q: Tensor, k: Tensor, v: Tensor, state: Any, *gates: Tensor
    ) -> tuple[Tensor, Any]:
        """The output of a token and the state after it: an update and a read, in this order."""
        state = self.update(state, k, v, *gates)
        return self.read(q, state, *gates), state

    def head_weights(self) -> tuple[Tensor, ...]:
        """Learned numbers of each head, (H,) or (H, ...), that `update` and `read` take."""
        return ()

    def checked_scale(self, given: float | None) -> float:
        """A factor of the queries, head_dim^(-1/2) unless given.

        Raises:
            ValueError: it is not a finite number above 0.
        """
        default = float(self.geometry.head_dim**-0.5)
        return default if given is None else positive(self.name, "scale", given)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        key_mask: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Tensor:
        """(B, H, N, D), (B, H_kv, N, D), (B, H_kv, N, E) -> (B, H, N, E)."""
        if not self.capabilities.recurrent:
            raise TypeError(
                f"{self.name}: its capabilities do not say recurrent=True, which a StateCore needs."
            )
        with without_autocast(q.device.type):
            inputs = self._inputs(q, k, v, key_mask, gates)
            empty = self.init_state(len(q), dtype=q.dtype, device=q.device)
            self._refuse_odd_state(empty)
            out = from_empty(self._run(key_mask), inputs, empty)
            return within_range(out, q.dtype)

    def _run(
        self, key_mask: Tensor | None, *, one: bool = False
    ) -> Callable[..., tuple[Tensor, Any]]:
        """The fastest form for such tokens: from q, k, v, gates and a state."""
        if self.skips_hidden and key_mask is not None:
            return partial(self._one_by_one, kept=key_mask)
        if one or (self.chunks is None and self.transition is None):
            return self._one_by_one
        return self.chunks or self._by_transitions

    def _by_transitions(
        self, q: Tensor, k: Tensor, v: Tensor, *rest: Tensor
    ) -> tuple[Tensor, Tensor]:
        *gates, state = rest
        return run_transitions(q, self._of_all_tokens(q, k, v, gates), state)

    def _of_all_tokens(
        self, q: Tensor, k: Tensor, v: Tensor, gates: Sequence[Tensor]
    ) -> Transitions:
        """Log decays stay as wide as they are: sums of them are."""
        decays = [gate.is_log_decay for gate in (*self.gates.values(), *self.own_gates.values())]
        rows = itertools.zip_longest(_columns(gates), decays)
        return self._transitions(k, v, *(x if wide else x.to(q.dtype) for x, wide in rows))

    def _refuse_odd_state(self, empty: Any) -> None:
        """Raise a TypeError for what cannot be taken a few heads at a time."""
        heads = self.geometry.num_heads
        for x in _tensors(empty):
            if x.dim() < 2 or x.shape[1] not in (1, heads):
                raise TypeError(
                    f"{self.name}: init_state returns a tensor of shape {tuple(x.shape)}; "
                    f"(B, {heads}, ...) is needed, or (B, 1, ...) for all heads."
                )

    def init_state(self, batch_size: int, *, dtype: torch.dtype, device: torch.device) -> Any:
        """Zeros, (B, H, D, E); float32 for half inputs, as thousands of terms are added to it."""
        g = self.geometry
        sizes = (batch_size, g.num_heads, g.head_dim, g.value_dim)
        return torch.zeros(sizes, dtype=wide_dtype(dtype), device=device)

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
        """The next T tokens: (B, H, T, D), (B, H, T, D), (B, H, T, E), state."""
        with without_autocast(q.device.type):
            inputs = self._inputs(q, k, v, key_mask, gates)
            run = self._run(key_mask, one=q.shape[2] == 1)
            out, state = run(*inputs, state)
            return within_range(out, q.dtype), state

    def _inputs(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_mask: Tensor | None,
        gates: Mapping[str, Tensor | None],
    ) -> list[Tensor]:
        """Inputs of the recurrence beside a state."""
        by_token(self.name, {**self.gates, **self.own_gates})
        q, k, v = widen(q), widen(k), widen(v)
        found = self._gates(q, k, key_mask, gates)
        q, k = self.prepare(q, k)
        num_heads = q.shape[1]
        heads = [
            gate if gate.shape[1] == num_heads else gate.expand(-1, num_heads, *gate.shape[2:])
            for gate in found
        ]
        heads += [widen(x).to(q.dtype)[None, :, None] for x in self.head_weights()]
        return [q * self.scale, hide_keys(self.name, k, key_mask), v, *heads]

    def _one_by_one(
        self, q: Tensor, k: Tensor, v: Tensor, *rest: Any, kept: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        *gates, state = rest
        rows = [row.to(q.dtype) for row in _columns(gates)]
        tokens: Iterable[Sequence[Tensor]] = [(q, k, v, *rows)]
        if q.shape[2] > 1:
            rows = [row.expand(-1, -1, q.shape[2], *row.shape[3:]) for row in rows]
            tokens = zip(*(x.split(1, dim=2) for x in (q, k, v, *rows)), strict=True)
        outputs = []
        for t, (q_t, k_t, v_t, *gates_t) in enumerate(tokens):
            if kept is None:
                out, state = self.one_token(q_t, k_t, v_t, state, *gates_t)
            else:
                out, state = self._unless_hidden(kept[:, t], q_t, k_t, v_t, state, *gates_t)
            outputs.append(out)
        sizes = (*q.shape[:2], 1, v.shape[-1])
        if outputs[0].shape != sizes:
            raise TypeError(
                f"{self.name}: a token's output is of shape {tuple(outputs[0].shape)}; (B, H, 1, "
                f"E) is needed, {sizes}."
            )
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)), state

    def _unless_hidden(
        self, kept: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Any, *gates: Tensor
    ) -> tuple[Tensor, Any]:
        """`one_token` where it is kept, (B,); elsewhere a read of the state, which stays."""
        before = self.clone_state(state)  # which an update may overwrite
        if self.reads_first:
            out, after = self.one_token(q, k, v, state, *gates)
            out = _chosen(kept, out, self.read(q, before, *gates))
        else:
            after = self.update(state, k, v, *gates)
        if _like(after, itertools.repeat(None)) != _like(before, itertools.repeat(None)):
            raise TypeError(
                f"{self.name}: a token changes a number in its state, which is one for all rows; "
                "under a key_mask a tensor is needed, such as (B, 1, 1, 1)."
            )
        after = _chosen(kept, after, before)
        return (out if self.reads_first else self.read(q, after, *gates)), after

    def reference(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor | None:
        """Token by token; None where `forward` does no more than that.

        It proves the chunked form, not the recurrence: `transition`, or `update`, is the same.
        """
        if self.chunks is None and self.transition is None:
            return None
        q, k, v, *rest = self._inputs(q, k, v, None, gates)
        k, v = (for_every_query_head(x, q.shape[1]) for x in (k, v))
        state = self.init_state(len(q), dtype=q.dtype, device=q.device)
        if self.transition is None:
            return self._one_by_one(q, k, v, *rest, state)[0]
        return run_token_by_token(q, self._of_all_tokens(q, k, v, rest), state)

    def flops(self, shape: CallShape) -> int:
        """Writes to the state and reads of it, token by token. Gates scale: they add none."""
        products = 1 + (1 if self.transition is None else self._products_of_a_token())
        return 2 * products * shape.num_tokens * shape.head_dim * shape.value_dim

    def _products_of_a_token(self) -> int:
        g, gates = self.geometry, {**self.gates, **self.own_gates}
        sizes: list[tuple[int, ...]] = [(1, g.num_heads, 1, n) for n in (g.head_dim, g.value_dim)]
        sizes += [self._sizes(gate, 1, 1) for gate in gates.values()]
        sizes += [(1, x.shape[0], 1, *x.shape[1:]) for x in self.head_weights()]
        k, v, *rest = (torch.empty(size, device="meta") for size in sizes)
        parts = parts_of(self._transitions(k, v, *_columns(rest)))
        return sum(part.num_products() for part in parts)

    def executed_flops(self, shape: CallShape) -> int:
        """As torch's counter sees it in short dry runs."""
        return counted_flops(self, shape)


def from_empty(
    recurrence: Callable[..., tuple[Tensor, Any]], inputs: Sequence[Tensor], empty: Any
) -> Tensor:
    """Outputs of a recurrence over q, k, v and gates that begins with an empty state."""
    last = len(inputs)

    def outputs(*some: Tensor) -> Tensor:
        return recurrence(*some[:last], _like(empty, some[last:]))[0]

    return by_few_heads(outputs, *inputs, *_tensors(empty), num_columns=inputs[0].shape[-1])


def _columns(gates: Sequence[Tensor]) -> list[Tensor]:
    """Gates with an axis for channels, (B, H, N, 1) where they have none."""
    return [gate.unsqueeze(-1) if gate.dim() == 3 else gate for gate in gates]


def _tensors(state: Any) -> list[Tensor]:
    """The tensors of a state, also of a tuple within it."""
    if isinstance(state, tuple):
        return [x for part in state for x in _tensors(part)]
    return [state] if isinstance(state, Tensor) else []


def _like(state: Any, tensors: Iterable[Tensor | None]) -> Any:
    """A state with these in place of its tensors."""
    given: Any = iter(tensors)
    return map_tensors(state, lambda _: next(given))


def _chosen(kept: Tensor, after: Any, before: Any) -> Any:
    """The first of two states in rows that are kept, (B,), and the second elsewhere."""
    pairs = zip(_tensors(after), _tensors(before), strict=True)
    parts = [new.where(kept.view(-1, *(1,) * (new.dim() - 1)), old) for new, old in pairs]
    return _like(before, parts)
