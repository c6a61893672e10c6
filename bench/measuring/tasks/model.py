"""The one backbone of all tasks; only the mechanism inside its blocks changes.

It turns a core's queries and keys where positions are rotary, and projects gates from the tokens:
with gates that are learned and fixed, a gated mechanism would be another one.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cli.entries import LAYERS
from bench.core.record import REFERENCE
from bench.measuring.tasks.base import Recipe, Task, seeded
from bench.measuring.token_gates import gate_maps


class Block(nn.Module):
    """Pre-norm: a short convolution and the mechanism, then any MLP, each added to the tokens."""

    def __init__(self, recipe: Recipe, mixer: nn.Module, *, causal: bool = False) -> None:
        super().__init__()
        width, hidden = recipe.embed_dim, recipe.mlp_width
        self.norm1 = nn.LayerNorm(width)
        self.conv = _convolution(recipe, causal=causal)
        self.mixer = mixer
        self.mlp = None
        if hidden:
            self.norm2 = nn.LayerNorm(width)
            up, down = nn.Linear(width, hidden), nn.Linear(hidden, width)
            self.mlp = nn.Sequential(up, nn.GELU(), down)

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C); or (B, A, C), if only the tokens at `positions` (B, A) go on."""
        near = self.conv(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        near = near[:, : x.shape[1]]
        x = x + self.mixer(near.contiguous())  # a mechanism may rely on a sequence's usual strides
        if positions is not None:
            x = x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return x if self.mlp is None else x + self.mlp(self.norm2(x))


def _convolution(recipe: Recipe, *, causal: bool) -> nn.Module:
    """(B, C, N) -> (B, C, N), or longer if causal: what follows N sees the future."""
    if recipe.conv_width <= 1:
        return nn.Identity()
    conv = nn.Conv1d(
        recipe.embed_dim,
        recipe.embed_dim,
        recipe.conv_width,
        padding=recipe.conv_width - 1 if causal else recipe.conv_width // 2,
        groups=recipe.embed_dim,
        bias=False,  # the projections that follow have one
    )
    # Unit variance in, unit variance out. With torch's default, a third of it, queries and keys
    # start so small that training sits on a plateau for a time that depends on the seed.
    nn.init.normal_(conv.weight, std=recipe.conv_width**-0.5)
    return conv


class Backbone(nn.Module):
    """Embedding, positions if they are learned, blocks, final norm and head."""

    def __init__(self, task: Task, mixers: Sequence[nn.Module]) -> None:
        super().__init__()
        width, std = task.recipe.embed_dim, task.recipe.position_std
        self.width = width
        self.embedding = task.embedding(width)
        self.places = None
        if task.recipe.position == "learned":
            self.places = nn.Parameter(torch.randn(task.seq_len, width) * std)
        self.blocks = nn.ModuleList(
            Block(task.recipe, mixer, causal=task.causal) for mixer in mixers
        )
        self.norm = nn.LayerNorm(width)
        self.head = task.head(width)
        if task.answers_are_tokens:
            assert isinstance(self.embedding, nn.Embedding)
            assert isinstance(self.head, nn.Linear)
            self.head.weight = self.embedding.weight
        task.initialise(self)

    @property
    def mixer(self) -> nn.Module:
        """Mixer of the first block."""
        return self.blocks[0].mixer  # type: ignore[return-value]

    @property
    def mixers(self) -> list[nn.Module]:
        """Mixer of each block, in order."""
        return [block.mixer for block in self.blocks]  # type: ignore[misc]

    def forward(
        self, inputs: Tensor, positions: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """A batch's inputs -> logits, (B, A, classes) at `positions` (B, A), else (B, classes).

        Of tokens that know their places, only those at `kept` (B, n) go on, if that is given;
        `positions` then counts among these.
        """
        x: Tensor = self.embedding(inputs)
        if x.shape[-1] != self.width:
            raise ValueError(
                f"the task's embedding gives tokens of width {x.shape[-1]}; embed_dim is "
                f"{self.width}"
            )
        if self.places is not None:
            x = x + self.places[: inputs.shape[1]]
        if kept is not None:
            x = x.gather(1, kept.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        *early, last = self.blocks
        for block in early:
            x = block(x)
        # Past the last mixing tokens are on their own: only those that answer are needed.
        x = self.norm(last(x, positions))
        return self.head(x.mean(dim=1) if positions is None else x)  # type: ignore[no-any-return]


def projected_gates(model: Backbone) -> tuple[str, ...]:
    """Gates that the backbone projects for its mechanism beside queries, keys and values."""
    return model.mixer.names if isinstance(model.mixer, Gated) else ()


def build_model(
    task: Task,
    mechanism: str,
    hyperparameters: dict[str, Any],
    seed: int,
    library: ModuleType | None = None,
) -> Backbone:
    """The task's backbone around a mechanism, of this source tree or of another one's `library`.

    Under one seed, all weights outside the mechanism start with the same values, whichever
    mechanism it is and whatever it draws for itself. A core that takes gates gets them projected
    from its tokens, see `Gated`; a mechanism that owns its projections has its own.

    Raises:
        ValueError: the mechanism cannot be built for the task's geometry.
        TypeError: a hyperparameter that it does not take.
    """
    named = hyperparameters.get(LAYERS, [(mechanism, hyperparameters)])
    mixers = []
    for layer, is_softmax in enumerate(task.recipe.is_softmax):
        name, own = (REFERENCE, {}) if is_softmax else named[layer % len(named)]
        mixers.append(build_mixer(task, name, own, seed, layer, library))
    with seeded(seed, "backbone"):
        model = Backbone(task, mixers)
    if task.recipe.linear_std:
        draw_linear_maps(model, task.recipe.linear_std, seed)
    return model


@torch.no_grad()
def draw_linear_maps(model: Backbone, std: float, seed: int) -> None:
    """Draw the weights of all linear maps anew, from streams of their own, and zero their biases.

    A head that shares the embedding's weights is left as it is.
    """
    shared = model.embedding.weight if isinstance(model.embedding, nn.Embedding) else None
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight is not shared:
            place = name.replace(".mixer.layer.", ".mixer.")  # as without the gates around it
            with seeded(seed, f"linear {place}"):
                nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def norm_heads(core: Any) -> None:
    """Divide each head's output of a core by its root mean square, times a learned scale.

    As the output norms of RetNet, GLA and DeltaNet; one scale per channel, shared by the heads.
    """
    core.head_norm = nn.RMSNorm(core.geometry.value_dim, eps=1e-5)
    core.register_forward_hook(_normed)


def _normed(core: Any, _: object, mixed: Tensor) -> Tensor:
    return core.head_norm(mixed)  # type: ignore[no-any-return]


def build_mixer(
    task: Task,
    mechanism: str,
    hyperparameters: dict[str, Any],
    seed: int = 0,
    layer: int = 0,
    library: ModuleType | None = None,
) -> nn.Module:
    """The mechanism of one block, with its projections, and gates if it takes any.

    Raises:
        ValueError, TypeError: as of `build_model`.
    """
    attentions: Any = library or importlib.import_module("attentions")
    with seeded(seed, f"mechanism {layer}"):
        mixer: nn.Module = attentions.build_layer(mechanism, task.geometry, **hyperparameters)
    if not isinstance(mixer, attentions.MultiHeadAttention):
        if task.recipe.position == "rope":
            raise ValueError(f"{mechanism} {NO_ROPE}")
        return mixer
    whole: Any = mixer
    with seeded(seed, f"projections {layer}"):
        whole.qkv.reset_parameters()
        whole.proj.reset_parameters()
    if task.recipe.position == "rope":
        turn_heads(whole.core)
    if task.recipe.head_norm:
        norm_heads(whole.core)
    if whole.core.capabilities.gates:
        with seeded(seed, f"gates {layer}"):
            return Gated(whole)
    return whole  # type: ignore[no-any-return]


NO_ROPE = "owns its projections, so position=rope cannot turn its queries and keys."
"""Why a layer cannot be trained with rotary positions, after its name."""
BASE = 10_000.0
"""Su et al., 2021, arXiv:2104.09864: pair i of D / 2 turns by BASE^(-2 i / D) per token."""


def turn_heads(core: Any) -> None:
    """Let a core of an even head_dim get queries and keys that are turned by their place.

    What a mechanism does with them comes after, also where it makes features of them. Tokens of an
    image are counted row by row.
    """
    core.register_forward_pre_hook(_turn)


def _turn(core: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    q, k, *rest = inputs
    return (rotate(q), rotate(k), *rest)


def rotate(x: Tensor) -> Tensor:
    """Turn adjacent channels by an angle that grows with the token, (..., N, D) -> (..., N, D)."""
    num_tokens, dim = x.shape[-2:]
    # Angles in float64: their rounding would grow with the position.
    token = torch.arange(num_tokens, dtype=torch.float64, device=x.device)
    pair = torch.arange(0, dim, 2, dtype=torch.float64, device=x.device) / dim
    angle = token[:, None] * BASE**-pair  # (N, D / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    one, other = x[..., ::2], x[..., 1::2]
    return torch.stack((one * cos - other * sin, one * sin + other * cos), dim=-1).flatten(-2)


class Gated(nn.Module):
    """A layer around a core that takes gates: (B, N, C) -> (B, N, C).

    A gate has the shape and the range that the core declares:

        low + (high - low) sigmoid(W x)                        a share, as in DeltaNet's layer
        log_decay = -exp(log_rate) softplus(W x + step_bias)   per head, as in Mamba-2's
        log_decay = log sigmoid(W_2 W_1 x + b) / temperature   per channel, or of a core that has
                                                               a temperature, as in GLA's
        W x / ||W x||                                          a vector of unit length
        W x                                                    one without a range

    Where a core has an auxiliary loss, its gates are projected from detached tokens: that loss
    trains the maps, and nothing else of the model.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.gates = gate_maps(layer.core, layer.geometry.embed_dim)
        self.auxiliary: Tensor | None = None
        self.has_auxiliary = getattr(layer.core.capabilities, "auxiliary_loss", False)
        if self.has_auxiliary:  # a hook sees queries and keys as the core does, turned by places
            layer.core.register_forward_hook(self._hear, with_kwargs=True)

    def _hear(self, core: Any, tensors: Any, gates: dict[str, Tensor], _: object) -> None:
        if self.training and torch.is_grad_enabled():
            self.auxiliary = core.auxiliary_loss(*tensors, **gates)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the gates projected for the core."""
        return tuple(self.gates)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        tokens = x.detach() if self.has_auxiliary else x
        given = {name: gate(tokens) for name, gate in self.gates.items()}
        return self.layer(x, **given)  # type: ignore[no-any-return]


def auxiliary_loss(model: nn.Module) -> Tensor | None:
    """The sum of what the cores of the last training call add to its loss; None if nothing.

    It is forgotten once it was asked for.
    """
    losses = []
    for module in model.modules():
        if isinstance(module, Gated) and module.auxiliary is not None:
            losses.append(module.auxiliary)
            module.auxiliary = None
    return torch.stack(losses).sum() if losses else None
