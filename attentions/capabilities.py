"""Capabilities of a mechanism, as data; without torch, so that a catalogue can be shown early."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DTYPES = ("float32", "bfloat16", "float16", "float64")

FAMILIES = {
    "exact": "every query meets every key, and each pair has a weight of its own",
    "kernel": "a weight is a product of features, so keys and values are summed up first",
    "low_rank": "queries and keys meet by way of a few landmarks",
    "sparse": "a query meets some of the keys only",
    "recurrent": "a state of fixed size that decays, or is corrected, token by token",
    "convolution": "kernels along the tokens, and gates; no token is compared with another",
    "published": "the authors' own operators, to compare ours with; listed only when asked for",
    "control": "no attention: what a table would show without any",
    "other": "what was registered without a family",
}
"""Family -> what its mechanisms have in common, in the order of tables and pages."""

_WORDS = ("masks", "scopes", "dtypes", "devices", "backward_devices", "requires", "exports")
"""Capabilities that are some words."""

PUBLISHED = "published"
"""The family that lists and pages leave out unless asked for it, and whose results need not be
finite."""


ACTIVATIONS = {
    "": "by its range",
    "step": "-exp(log_rate) softplus(n + step_bias), as in Mamba-2",
    "dt": "the same, and the values are multiplied by its softplus, the step",
    "step_size": "softplus(n + step_bias), Mamba-2's step alone",
    "rate": "-softplus(n) times the gate named step, as in Mamba-3",
    "logsigmoid": "log sigmoid(n), divided by the core's temperature if it has one",
    "exp": "-exp(n), as in RWKV-6",
    "fading": "-exp(-1/2) sigmoid(n), as in RWKV-7",
    "forgotten": "1 - exp(log_decay): as much is written as is forgotten",
    "key": "not projected: it follows from the key, by the core's `learned_gates`",
}
"""Activation of a gate -> its formula."""


@dataclass(frozen=True)
class Gate:
    """A further input of every token, such as a decay: its shape, its range, its length.

    >>> Gate("bhn", low=0, high=1).is_log_decay, Gate("bhnd", high=0).is_log_decay
    (False, True)

    Attributes:
        shape: axes by letter: b (batch), h (query heads), n (tokens), d and e (channels of keys and
            of values), o (one for all heads; a call may leave the axis out). Any other letter is an
            axis whose size the core says: its ``gate_axes``.
        low: the least value.
        high: the greatest value.
        unit: whether vectors along the last axis have length 1.
        query: whether it belongs to tokens as queries: there are as many as queries, and none is
            hidden. Any other gate is 0 where ``key_mask`` hides its token.
        activation: how a layer makes it of the numbers n that it projects from a token, one of
            `ACTIVATIONS`; "" is by range: a sigmoid between two bounds, a softplus above or below
            one, n without any, and n / |n| for a unit vector.
        start: learned numbers that are added to n, at first spread evenly over the channels of all
            heads from the first number to the second.
    """

    shape: str = "bhn"
    low: float = -math.inf
    high: float = math.inf
    unit: bool = False
    query: bool = False
    activation: str = ""
    start: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Refuse a shape without tokens, an empty range, and an unknown activation."""
        if self.shape.count("n") != 1 or self.shape[:1] != "b":
            raise ValueError(f"Gate: shape is {self.shape!r}; b first and one n are needed.")
        if not self.low < self.high:
            raise ValueError(f"Gate: low is {self.low}, high {self.high}; low < high is needed.")
        if self.activation not in ACTIVATIONS:
            known = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"Gate: activation is {self.activation!r}; one of {known} is needed.")

    @property
    def is_log_decay(self) -> bool:
        """True for the logarithm of a share: 0 forgets nothing, minus infinity all."""
        return self.low == -math.inf and self.high == 0


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """Claims of a mechanism. Each one that is made switches a conformance test on.

    >>> Capabilities(causal=True, masks=frozenset({"padding"})).cross
    False

    Claims hold for the default hyperparameters. A setting that narrows them, such as a position
    encoding switched on, refuses with a ValueError what it can no longer do.

    Attributes:
        bidirectional: every query may see every key.
        causal: built with ``Geometry(causal=True)``, query i sees keys 0..i and nothing later.
        cross: the number of keys may differ from the number of queries (N != M).
        recurrent: offers ``init_state`` and ``step``, equal to the causal ``forward``. The state is
            a sum of constant size, or a cache with room for ``Geometry.seq_len`` tokens.
        masks: accepted masks, of ``"padding"`` (``key_mask``, (B, M) bool, True keeps the key)
            and ``"dense"`` (``mask``, broadcastable to (B, H, N, M) bool, True keeps the pair). A
            query whose keys are all hidden gets zeros.
        gates: further inputs of every token, such as a decay, passed by keyword: name -> `Gate`.
            Those of a core that is built are its ``gates``: a hyperparameter may change a range.
        needs_grid: tokens lie on a 2-D grid, row by row; N must be its area.
        position_free: permuting keys and values together changes nothing, and permuting the
            queries permutes the outputs. Only meaningful without ``causal``.
        heads_independent: the output of one head depends on that head's inputs only. Only
            meaningful for a core.
        grouped_heads: query heads that share a head of keys do something together, so that keys
            copied for all of them would give another function. `build_attention` then gives the
            core the geometry as it is. Any core can be given fewer heads of keys without it.
        queries_write: what a token leaves behind for later ones depends on its query too.
        memory_layout: strides that the mechanism likes best, ``"bhnd"`` or ``"bnhd"``. The shape
            is (B, H, N, D) either way.
        exact: computes softmax attention itself, not another function.
        scopes: where it can be timed: a core runs as ``core`` and inside a ``layer``, a mechanism
            that owns its projections only as ``layer``.
        dtypes: names of the torch dtypes it accepts.
        devices: device types it runs on.
        backward_devices: those of them on which gradients can be taken.
        requires: optional packages, imported in ``__init__`` and not at the top of the file.
        true_gradients: gradients are those of the output that comes out. Not so where the authors
            hold a term constant that the output depends on, and so do we.
        auxiliary_loss: some gates get no gradient from the output, and the core's method of this
            name, called as its ``forward``, gives a loss that trains them.
        compiles: ``torch.compile(fullgraph=True)`` takes it, as one graph of a fixed shape.
        exports: its forms, of ``"bidirectional"`` and ``"causal"``, that ``torch.export`` takes
            with a dynamic number of tokens. A form that loops over chunks is not among them: its
            loop is unrolled for one number.
    """

    bidirectional: bool = True
    causal: bool = False
    cross: bool = False
    recurrent: bool = False
    masks: frozenset[str] = frozenset()
    gates: Mapping[str, Gate] = field(default_factory=dict, hash=False)
    needs_grid: bool = False
    position_free: bool = True
    heads_independent: bool = True
    grouped_heads: bool = False
    queries_write: bool = False
    memory_layout: str = "bhnd"
    exact: bool = False
    scopes: tuple[str, ...] = ("core", "layer")
    dtypes: tuple[str, ...] = DTYPES
    devices: tuple[str, ...] = ("cpu", "cuda")
    backward_devices: tuple[str, ...] = ("cpu", "cuda")
    requires: tuple[str, ...] = ()
    true_gradients: bool = True
    auxiliary_loss: bool = False
    compiles: bool = True
    exports: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse gates without their shapes, such as a list of names, and what is not text."""
        for name in _WORDS:
            words = getattr(self, name)
            if isinstance(words, str) or not isinstance(words, Collection):
                raise TypeError(
                    f'Capabilities: {name} is {words!r}; some words are needed, such as ("cpu",).'
                )
        if odd := [name for name in self.requires if not str(name).isidentifier()]:
            raise ValueError(
                f'Capabilities: requires names {odd[0]!r}; a package is needed, such as "fla".'
            )
        gates: Any = self.gates
        is_mapping = isinstance(gates, Mapping)
        if not (is_mapping and all(isinstance(gate, Gate) for gate in gates.values())):
            raise TypeError(
                f"Capabilities: gates is {self.gates!r}; a mapping of names to Gate is needed, "
                'such as {"log_decay": Gate("bhn", high=0)}.'
            )

    @property
    def packs(self) -> bool:
        """Takes ``cu_seqlens``: what may be masked or stepped knows no fixed number of tokens."""
        return "core" in self.scopes and (self.recurrent or "dense" in self.masks)

    @property
    def claims(self) -> tuple[str, ...]:
        """In words, what goes beyond mapping queries, keys and values of one length."""
        said = [
            (self.exact, "exact"),
            (not self.bidirectional, "causal only"),
            (self.causal and self.bidirectional, "causal"),
            (self.recurrent, "recurrent"),
            (self.cross, "cross"),
            (bool(self.masks), f"{' and '.join(sorted(self.masks))} masks"),
            (self.packs, "packed sequences"),
            (bool(self.gates), f"gates: {', '.join(self.gates)}"),
            (self.needs_grid, "needs a grid"),
            (not self.position_free, "knows positions"),
            ("core" in self.scopes and not self.heads_independent, "mixes heads"),
            (self.dtypes != DTYPES, f"{', '.join(self.dtypes)} only"),
            (len(self.devices) == 1, f"{self.devices[0]} only"),
            (bool(self.requires), f"needs {', '.join(self.requires)}"),
        ]
        return tuple(words for holds, words in said if holds)


RECURRENT = Capabilities(
    bidirectional=False,
    causal=True,
    recurrent=True,
    masks=frozenset({"padding"}),
    position_free=False,
)
"""Claims of a recurrence over tokens, a core that is causal only."""
RECURRENT_LAYER = Capabilities(
    bidirectional=False,
    causal=True,
    recurrent=True,
    masks=frozenset({"padding"}),
    position_free=False,
    heads_independent=False,
    scopes=("layer",),
)
"""Claims of a layer around such a core."""
GRID_LAYER = Capabilities(
    needs_grid=True, position_free=False, heads_independent=False, scopes=("layer",)
)
"""Claims of a layer for tokens on a grid, as those that convolve them."""


def published_capabilities(ours: Capabilities, memory_layout: str | None = None) -> Capabilities:
    """Claims of the authors' operators: those of ours, but bidirectional, plain and wide.

    >>> published_capabilities(Capabilities(causal=True, cross=True)).claims
    ('cross', 'float32, float64 only')
    """
    return replace(
        ours,
        causal=False,
        recurrent=False,
        masks=frozenset(),
        exports=frozenset(),
        dtypes=("float32", "float64"),
        memory_layout=memory_layout or ours.memory_layout,
    )
