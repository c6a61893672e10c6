"""Gates of an engine's core: found by the data in its capabilities, never by trying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ..base import Attention
from ..capabilities import Gate
from ..maths.recurrences.gates import ERASED, token_gate
from ..maths.shared_heads import for_every_query_head


class TakesGates(Attention):
    """A core that takes the gates which its capabilities name, in that order.

    `forward` and `step` of an engine take ``**gates``; `register_attention` gives them signatures
    that name the claimed ones, so that a misspelt gate is refused.

    Attributes:
        own_gates: further gates, behind those, which no call gives and `learned_gates` always does:
            a fixed decay, or one that follows from the keys.
    """

    own_gates: Mapping[str, Gate] = {}

    def learned_gates(self, k: Tensor) -> Mapping[str, Tensor]:
        """Gates of a call that gives none: name -> of every token, or one value for all of them.

        Args:
            k: keys of the call, (B, H_kv, N, D), from which a gate may follow.

        Returns:
            Tensors of the gate's whole shape, such as (B, H, N), or without batch and tokens, (H,)
            or (H, D).
        """
        return {}

    def _gates(
        self,
        q: Tensor,
        k: Tensor,
        key_mask: Tensor | None,
        given: Mapping[str, Tensor | None],
    ) -> list[Tensor]:
        """Every gate as the formula takes it: wide, a finite log decay, and 0 at hidden tokens.

        One of (B, H, N) that never changes may be (1, H, 1).

        Raises:
            ValueError: a gate of another shape, or one that these hyperparameters do not take.
        """
        unknown = [
            name for name, gate in given.items() if gate is not None and name not in self.gates
        ]
        if unknown:
            raise ValueError(
                f"{self.name}: {unknown[0]} was given; with these hyperparameters it takes "
                f"{', '.join(self.gates) or 'no gate'}."
            )
        wanted = {**self.gates, **self.own_gates}
        absent = [name for name in wanted if given.get(name) is None]
        learned = self.learned_gates(k) if absent else {}
        found = []
        for name, gate in wanted.items():
            num_tokens = (q if gate.query else k).shape[2]
            sizes = self._sizes(gate, q.shape[0], num_tokens)
            x = _for_all_heads(given.get(name), gate.shape, sizes)
            x = (
                _of_all_tokens(learned, name, sizes, self.name)
                if x is None
                else token_gate(self.name, name, x, sizes)
            )
            x = x.clamp(min=ERASED) if gate.is_log_decay else x
            found.append(x if gate.query else _hidden(x, gate.shape, key_mask))
        return found


def by_token(mechanism: str, gates: Mapping[str, Gate]) -> None:
    """Raise a TypeError unless gates can be given to a formula token by token, of all heads."""
    for name, gate in gates.items():
        if gate.shape[:3] not in ("bhn", "bon"):
            raise TypeError(
                f"{mechanism}: its gate {name} is declared as {gate.shape!r}; axes that begin with "
                "bhn are needed, or with bon if all heads share one."
            )


def _for_all_heads(x: Tensor | None, shape: str, sizes: Sequence[int]) -> Tensor | None:
    """A gate with its axis of one head for all, which a call may leave out."""
    if not isinstance(x, Tensor) or "o" not in shape or x.dim() != len(shape) - 1:
        return x
    whole = x.unsqueeze(shape.index("o"))
    return whole if tuple(whole.shape) == tuple(sizes) else x  # a refusal names what was given


def _of_all_tokens(
    learned: Mapping[str, Tensor], name: str, sizes: tuple[int, ...], mechanism: str
) -> Tensor:
    """A learned gate with axes for batch and tokens: (1, H, 1), or (1, H, N, ...) of a wide one."""
    if name not in learned:
        raise ValueError(
            f"{mechanism}: {name} is not given, and it has none of its own; a floating-point "
            f"tensor of shape {sizes} is needed."
        )
    given = x = learned[name]
    if x.dim() == len(sizes):
        x = for_every_query_head(x, sizes[1])
        if all(n in (1, size) for n, size in zip(x.shape, sizes, strict=True)):
            return x
    if x.dim() == len(sizes) - 2 and tuple(x.shape) == (sizes[1], *sizes[3:]):
        tokens = sizes[2] if len(sizes) > 3 else 1
        return x.unsqueeze(1)[None].expand(1, x.shape[0], tokens, *x.shape[1:])
    raise ValueError(
        f"{mechanism}: learned_gates returns {name} of shape {tuple(given.shape)}; {sizes} is "
        f"needed, or {(sizes[1], *sizes[3:])} for one value that all tokens share."
    )


def _hidden(gate: Tensor, shape: str, key_mask: Tensor | None) -> Tensor:
    """Zero where a key is hidden, so that nothing is forgotten or written there."""
    if key_mask is None:
        return gate
    sizes = dict(zip("bn", key_mask.shape, strict=True))
    hidden = ~key_mask.reshape([sizes.get(axis, 1) for axis in shape])
    return gate.new_zeros(()).where(hidden, gate)
