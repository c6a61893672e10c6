"""The one backbone of all tasks; only the mechanism inside its blocks changes.

Around a core stands `attentions.MultiHeadAttention`, which projects its gates from the tokens: with
gates that are learned and fixed, a gated mechanism would be another one.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from attentions import MultiHeadAttention
from attentions.maths.recurrences.projected import ProjectedGates
from bench.core.cli.entries import LAYERS
from bench.core.record import REFERENCE
from bench.measuring.tasks.base import Recipe, Task, seeded


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
    return tuple(getattr(model.mixer, "gates", None) or ())


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
    from its tokens; a mechanism that owns its projections has its own.

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
            with seeded(seed, f"linear {name}"):
                nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


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
    recipe = task.recipe
    with seeded(seed, f"mechanism {layer}"):
        core: Any = attentions.build_attention(mechanism, task.geometry, **hyperparameters)
    if core.capabilities.scopes == ("layer",):
        if recipe.position == "rope":
            raise ValueError(f"{mechanism} {NO_ROPE}")
        return core  # type: ignore[no-any-return]
    whole = MultiHeadAttention(
        core,
        gates="tokens",
        head_norm="rms" if recipe.head_norm else "none",
        rope=recipe.position == "rope",
    )
    with seeded(seed, f"projections {layer}"):
        whole.qkv.reset_parameters()
        whole.proj.reset_parameters()
    if whole.gates is not None:
        with seeded(seed, f"gates {layer}"):
            whole.gates = ProjectedGates(core, task.geometry.embed_dim)
    return whole


NO_ROPE = "owns its projections, so position=rope cannot turn its queries and keys."
"""Why a layer cannot be trained with rotary positions, after its name."""


def auxiliary_loss(model: nn.Module) -> Tensor | None:
    """The sum of what the cores of the last training call add to its loss; None if nothing.

    It is forgotten once it was asked for.
    """
    losses = []
    for module in model.modules():
        if isinstance(module, MultiHeadAttention) and module.auxiliary is not None:
            losses.append(module.auxiliary)
            module.auxiliary = None
    return torch.stack(losses).sum() if losses else None
