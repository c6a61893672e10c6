"""Per-token gates of a core: their size, the maps that project them from tokens, values to time.

Training projects gates from a layer's tokens, and learns the maps (`bench.tasks.gates`). Timing has
no layer around a core, so it draws tokens and takes what the same maps make of them before any
training.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from attentions.maths.gates import SelectiveDecay

RANK = 16
"""Rows between the two maps of a gate per channel, as in the GLA paper."""
TEMPERATURE = 16.0
"""Slows a decay per channel, as in the GLA paper, where the core names none of its own."""

_FEW_TOKENS = 48
"""Tokens of the call by which a core is asked for a gate's size, where it takes so few."""
_WEIGHT_SEED, _TOKEN_SEED = 0, 600
_NUM_WINDOWS, _STEP = 4099, 1009
"""As `bench.inputs.renew` steps through one longer draw; here the steps are whole tokens."""

Size = tuple[int, ...]


class TokenGates:
    """The gates that a core takes, with the maps that draw values for them; there may be none.

    Args:
        sizes: per gate what a token has of it, (H,) or (H, D).
        core: says how slow a decay is, by its temperature, and how wide its tokens are.
    """

    def __init__(self, sizes: Mapping[str, Size], core: Any) -> None:
        self.sizes = dict(sizes)
        self.width: int = core.geometry.embed_dim if sizes else 0
        self._core = core
        self._known: nn.ModuleDict | None = None
        self._windows: dict[tuple[Any, ...], dict[str, Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The gates, in the order in which the core claims them."""
        return tuple(self.sizes)

    @property
    def _maps(self) -> nn.ModuleDict:
        """The maps as training starts with them, under a seed of their own, float32 on the CPU."""
        if self._known is None:
            with torch.random.fork_rng(devices=[]), torch.device("cpu"):
                torch.manual_seed(_WEIGHT_SEED)
                self._known = gate_maps(self.sizes, self._core, self.width)
        return self._known

    def shapes(self, batch_size: int, num_tokens: int) -> dict[str, Size]:
        """Each gate's, (B, H, N) or (B, H, N, D)."""
        return {
            name: (batch_size, size[0], num_tokens, *size[1:]) for name, size in self.sizes.items()
        }

    def draw(
        self,
        batch_size: int,
        num_tokens: int,
        *,
        seed: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> list[Tensor]:
        """Gates of random tokens, (B, H, N) or (B, H, N, D), with heads behind tokens in memory."""
        flat = self._of_tokens(batch_size * num_tokens, seed)
        return [
            x.to(device, dtype).unflatten(0, (batch_size, num_tokens)).transpose(1, 2)
            for x in flat.values()
        ]

    @torch.no_grad()
    def renew(self, name: str, gate: Tensor, number: int) -> None:
        """Give a gate the values of other tokens, where it lies, at the price of a copy.

        They are a window of one longer draw of tokens, which is kept for all gates of this size.

        Args:
            name: of the gate.
            gate: (B, H, N) or (B, H, N, D), of any strides.
            number: the same one gives the same values, of 4,099 different ones.
        """
        batch_size, num_tokens = gate.shape[0], gate.shape[2]
        count = batch_size * num_tokens
        key = count, gate.dtype, gate.device
        if key not in self._windows:
            drawn = self._of_tokens(count + _NUM_WINDOWS, _TOKEN_SEED)
            self._windows[key] = {at: x.to(gate.device, gate.dtype) for at, x in drawn.items()}
        start = number * _STEP % _NUM_WINDOWS
        window = self._windows[key][name][start : start + count]
        gate.copy_(window.unflatten(0, (batch_size, num_tokens)).transpose(1, 2))

    @torch.no_grad()
    def _of_tokens(self, count: int, seed: int) -> dict[str, Tensor]:
        """Each gate of so many unit-normal tokens, (tokens, H) or (tokens, H, D), float32."""
        if not self.sizes:
            return {}
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(1, count, self.width, generator=generator, device="cpu")
        return {name: of(x)[0].transpose(0, 1) for name, of in self._maps.items()}


def gates_of(core: Any, *, dtype: torch.dtype, device: torch.device) -> TokenGates:
    """The gates that a core takes; none of a layer, which makes its own.

    Args:
        core: the mechanism.
        dtype: of its inputs.
        device: where it is.

    Raises:
        ValueError: as `sizes_of`.
    """
    if not hasattr(core, "capabilities") or core.capabilities.scopes == ("layer",):
        return TokenGates({}, core)
    return TokenGates(sizes_of(core, dtype=dtype, device=device), core)


def sizes_of(core: Any, *, dtype: torch.dtype, device: torch.device) -> dict[str, Size]:
    """What a core takes of each gate per token, (H,) or (H, D). Asked by calling it.

    With all gates at once, as one may need the other. First a copy without values is asked, where
    that works; kernels that need some are asked where they run.

    Raises:
        ValueError: the core takes its gates in no combination of the two sizes.
    """
    names: tuple[str, ...] = core.capabilities.gates
    if not names:
        return {}
    g = core.geometry
    each: tuple[Size, ...] = ((g.num_heads,), (g.num_heads, g.head_dim))
    lengths = dict.fromkeys((min(g.seq_len, _FEW_TOKENS), g.seq_len))
    with torch.random.fork_rng(devices=[]):  # a form may draw, and calls to come draw as well
        for (form, where), length in itertools.product(_ways(core, device), lengths):
            for chosen in itertools.product(each, repeat=len(names)):
                sizes = dict(zip(names, chosen, strict=True))
                if _takes(form, g, sizes, length, dtype, where):
                    return sizes
    gates = f"gate{'s' * (len(names) > 1)} {' and '.join(names)}"
    raise ValueError(f"{core.name} takes the {gates} neither as (B, H, N) nor as (B, H, N, D).")


def _ways(core: Any, device: torch.device) -> Iterator[tuple[Callable[..., Any], torch.device]]:
    """Forms of a core that can be asked, and where: the quick ones first."""
    meta = torch.device("meta")
    try:
        bare = copy.deepcopy(core).to(meta)
        yield bare, meta
        yield bare.reference, meta
    except Exception:  # a plugin may hold what cannot be copied or moved
        pass
    yield core, device


@torch.no_grad()
def _takes(
    form: Callable[..., Any],
    g: Any,
    sizes: Mapping[str, Size],
    length: int,
    dtype: torch.dtype,
    device: torch.device,
) -> bool:
    """Whether a form gives an output of the right shape with gates of these sizes."""
    q, k, v = (
        torch.zeros(1, heads, length, width, dtype=dtype, device=device)
        for heads, width in (
            (g.num_heads, g.head_dim),
            (g.num_kv_heads, g.head_dim),
            (g.num_kv_heads, g.value_dim),
        )
    )
    given = {
        name: torch.zeros(1, size[0], length, *size[1:], dtype=dtype, device=device)
        for name, size in sizes.items()
    }
    try:
        out = form(q, k, v, **given)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a gate of the other size may break any line of a plugin
        return False
    wanted = (1, g.num_heads, length, g.value_dim)
    return isinstance(out, Tensor) and tuple(out.shape) == wanted


def gate_maps(sizes: Mapping[str, Size], core: Any, width: int) -> nn.ModuleDict:
    """For each gate the map that projects it from tokens of a width, (B, N, C)."""
    return nn.ModuleDict({name: _map(name, core, width, size) for name, size in sizes.items()})


def _map(name: str, core: Any, width: int, size: Size) -> nn.Module:
    if not name.startswith("log_"):
        return _Share(width, size)
    inner = getattr(core, "core", core)  # heads may be shared around it
    temperature = getattr(inner, "temperature", None)
    if temperature is None and len(size) == 1:
        return _StepDecay(width, size[0])
    return _SlowDecay(width, size, TEMPERATURE if temperature is None else temperature)


def _of_heads(x: Tensor, size: Size) -> Tensor:
    """(B, N, H * D) or (B, N, H) -> (B, H, N, D) or (B, H, N)."""
    by_head: Tensor = x.unflatten(-1, size).transpose(1, 2)
    return by_head


def _projection(width: int, size: Size) -> nn.Module:
    if len(size) == 1:
        return nn.Linear(width, size[0])
    heads, dim = size
    return nn.Sequential(nn.Linear(width, RANK, bias=False), nn.Linear(RANK, heads * dim))


class _Share(nn.Module):
    """A number between 0 and 1."""

    def __init__(self, width: int, size: Size) -> None:
        super().__init__()
        self.sizes = size
        self.project = _projection(width, size)

    def forward(self, x: Tensor) -> Tensor:
        return _of_heads(self.project(x), self.sizes).sigmoid()


class _SlowDecay(nn.Module):
    """The logarithm of one, divided by a temperature."""

    def __init__(self, width: int, size: Size, temperature: float) -> None:
        super().__init__()
        self.sizes, self.temperature = size, temperature
        self.project = _projection(width, size)

    def forward(self, x: Tensor) -> Tensor:
        return functional.logsigmoid(_of_heads(self.project(x), self.sizes)) / self.temperature


class _StepDecay(nn.Module):
    """Mamba-2's: a learned rate per head, times a step per token."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, num_heads, bias=False)
        self.decay = SelectiveDecay(num_heads)

    def forward(self, x: Tensor) -> Tensor:
        log_decay: Tensor = self.decay(self.project(x))[1]
        return log_decay
