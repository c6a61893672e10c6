"""Bytes of keys, values and states per user, of models in Transformers and of rows."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import floor
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from bench.core.cell import DTYPES
from bench.core.cli.entries import AttentionEntry, read_attention_entries
from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.format import quantity, with_unit
from bench.core.grouping import grouped
from bench.core.progress import Part
from bench.core.settings import (
    BeforeValidator,
    Bytes,
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Settings,
    Some,
    Word,
    chosen,
)
from bench.measuring.plan import checked_hyperparameters
from bench.measuring.states import layer_bytes
from bench.publishing.document import Bullets, Column, Command, Document, Row, Table, Text, words
from bench.studies.session import Session

EVERY = "all"
"""Name that stands for every decoder of the installed Transformers."""

PARTS = ("keys and values", "states", "convolution tails", "indexer", "other")
"""Columns of a table, by what a tensor of a cache holds."""

_STEP = 128
"""Tokens between two measured lengths; a multiple of every block that a cache compresses."""

_Dtype = Annotated[str, Word(lambda: DTYPES)]


class Memory(Settings):
    """Bytes that one user's context takes in memory: keys, values, states, convolution tails.

    Shipped models are built without weights and run on tensors without values, so that sizes are
    those of the cache that Transformers allocates. Rows are layers of this library.
    """

    model: Some[Name] = ()
    """Model types of Transformers such as qwen3_next, with their default sizes; folders or files of
    a config.json of yours; or all.
    """
    attention: Annotated[
        tuple[AttentionEntry, ...],
        Group("attention"),
        BeforeValidator(lambda given: tuple(read_attention_entries(given))),
    ] = chosen(())
    """Rows, each as the only mechanism of num_layers layers."""
    context: Many[Annotated[int, Interval(ge=1, le=2**40)]] = (8192, 131_072)
    """Tokens that a user has read and written."""
    dtype: _Dtype = "bfloat16"
    """Of weights and activations, and so of keys and values."""
    state_dtype: _Dtype | None = None
    """Of the states of shipped models; null for what the model keeps them in."""
    users: Annotated[int, Interval(ge=1)] = 1
    """Users at the same time."""
    memory: Bytes | None = None
    """Memory for caches, as 24GiB: how many users it has room for."""
    num_layers: Annotated[int, Interval(ge=1)] = 32
    """Layers of a row."""
    num_heads: Annotated[int, Interval(ge=1)] = 16
    """Heads of a row's layer."""
    num_kv_heads: Annotated[int, Interval(ge=1)] | None = None
    """Heads of its keys and values; null for as many as num_heads."""
    head_dim: Annotated[int, Interval(ge=1)] = 128
    """Width of a head."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""
    docs: Folder = Path("${out}")
    """Folder for memory.md and memory.csv, e.g. docs/results."""
    out: Folder = Path("results/memory")


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A tensor of a cache, after a context.

    Attributes:
        layer: index of its layer.
        kind: of the layer, in words.
        part: one of `PARTS`.
        num_bytes: its size.
        growth_bytes: bytes that the next token adds, on average.
    """

    layer: int
    kind: str
    part: str
    num_bytes: int
    growth_bytes: float


@dataclass(frozen=True, kw_only=True)
class Usage:
    """A user's memory in one model or row at one context.

    Attributes:
        name: of the model or row.
        context: tokens.
        leaves: tensors of the cache; those of a row have one part, ``states``.
        weights_bytes: bytes of all weights; None for a row.
    """

    name: str
    context: int
    leaves: tuple[Leaf, ...]
    weights_bytes: int | None = None

    @property
    def num_bytes(self) -> int:
        """Bytes of one user."""
        return sum(leaf.num_bytes for leaf in self.leaves)

    @property
    def growth_bytes(self) -> float:
        """Bytes per further token."""
        return sum(leaf.growth_bytes for leaf in self.leaves)


class Refused(Exception):
    """A model whose cache cannot be sized, and why."""


def study(asked: Memory, session: Session) -> int:
    """Size every model and row at every context; 2 if none can be."""
    if not asked.model and not asked.attention:
        raise ConfigError(
            "Nothing to size. Name models, e.g. model=[qwen3_next,llama] or model=all, or rows, "
            "e.g. attention=[softmax,gla]."
        )
    found: list[Usage] = []
    models = [Part(name=name) for name in _model_names(asked.model)]
    with session.each(models, "model", goes_on=False) as todo:
        for part in todo:
            try:
                found += usages(config_of(part.name), part.name, asked)
            except Refused as error:
                session.note(f"{part.name} is left out: {error}")
    for row in asked.attention:
        try:
            found += [_row_usage(row, tokens, asked) for tokens in asked.context]
        except (ValueError, TypeError, ImportError) as error:
            session.note(f"{row.label} is left out: {error}")
    if not found:
        return 2
    document = document_of(found, asked, session)
    session.publish(document, asked.docs / "memory.md")
    session.write(document, asked.docs / "memory.csv")
    return 0


# --- rows ----------------------------------------------------------------------------------------


def _row_usage(row: AttentionEntry, tokens: int, asked: Memory) -> Usage:
    """Usage of `num_layers` layers of a row.

    Raises:
        ValueError: the row keeps no state, or cannot be built.
    """
    from attentions import Geometry

    settings, dtype = checked_hyperparameters(row), getattr(torch, asked.dtype)
    sizes: list[int] = []
    for length in (tokens, tokens + _STEP):
        geometry = Geometry(
            num_heads=asked.num_heads,
            head_dim=asked.head_dim,
            num_kv_heads=asked.num_kv_heads or asked.num_heads,
            seq_len=length,
            causal=True,
        )
        size = layer_bytes(geometry, row.mechanism, settings, length, dtype=dtype)
        if size is None:
            raise ValueError(f"{row.mechanism} has no causal form with a state.")
        sizes.append(size)
    whole, growth = sizes[0], (sizes[1] - sizes[0]) / _STEP
    layers = (
        Leaf(layer=i, kind=row.mechanism, part="states", num_bytes=whole, growth_bytes=growth)
        for i in range(asked.num_layers)
    )
    return Usage(name=row.label, context=tokens, leaves=tuple(layers))


# --- models --------------------------------------------------------------------------------------


def _decoders() -> list[str]:
    """Model types of Transformers that predict the next token.

    Raises:
        ConfigError: Transformers is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError(
            "model=... needs Transformers, which is not installed. Install it with "
            "pip install 'attnbench[transformers]', or name rows: attention=[softmax,gla]."
        )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _model_names(given: Sequence[str]) -> list[str]:
    """The models that are named, with `EVERY` replaced by all of them.

    Raises:
        ConfigError: a name is neither a model type nor a path.
    """
    if not given:
        return []
    known = _decoders()
    for name in given:
        if name not in known and name != EVERY and not Path(name).exists():
            raise ConfigError(
                f"model={name} is neither a decoder of the installed Transformers nor a path. "
                f"{did_you_mean(name, known)}"
            )
    return known if EVERY in given else list(given)


def config_of(name: str) -> Any:
    """The configuration of a model type, with its default sizes, or of a path.

    Raises:
        Refused: Transformers cannot make it.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    try:
        if Path(name).exists():
            return AutoConfig.from_pretrained(name, local_files_only=True)
        return CONFIG_MAPPING[name]()
    except Exception as error:
        raise Refused(f"its configuration cannot be made: {_first_line(error)}") from error


def usages(config: Any, name: str, asked: Memory) -> list[Usage]:
    """A model's usage at each context.

    Raises:
        Refused: the model cannot be built or run without values, it returns no cache, or its cache
            grows otherwise than by the same number of bytes for each `_STEP` tokens.
    """
    dtype = getattr(torch, asked.dtype)
    own = getattr(torch, asked.state_dtype) if asked.state_dtype else None
    with _quiet(), torch.device("meta"), torch.no_grad():
        model = _model(config, dtype)
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        made = [
            Usage(
                name=name,
                context=tokens,
                leaves=tuple(_leaves(model, tokens, own)),
                weights_bytes=weights,
            )
            for tokens in asked.context
        ]
    return made


def _model(config: Any, dtype: torch.dtype) -> nn.Module:
    from transformers import AutoModelForCausalLM

    # Experts one after the other read which tokens are theirs, and there are no values to read.
    for more in ({"experts_implementation": "batched_mm"}, {}):
        try:
            build = partial(AutoModelForCausalLM.from_config, attn_implementation="eager")
            model: nn.Module = build(config, dtype=dtype, **more)
        except Exception as error:
            reason = _first_line(error)
        else:
            return model.eval()
    raise Refused(f"it cannot be built: {reason}")


def _leaves(model: nn.Module, tokens: int, dtype: torch.dtype | None) -> Iterator[Leaf]:
    """Tensors of a model's cache after `tokens`; states in `dtype`, or as the model keeps them.

    Beyond a few blocks of `_STEP` tokens they are extrapolated, from lengths that lie whole blocks
    apart, so that what is kept of an unfinished block is the same.
    """
    first = tokens if tokens <= 4 * _STEP else 2 * _STEP + tokens % _STEP
    caches = [_cache(model, first + i * _STEP) for i in range(3 if tokens > first else 2)]
    for place, one in caches[0].items():
        sizes = [cache[place].tensor.numel() for cache in caches if place in cache]
        # A window keeps one token less than it is wide: the next token is within it, too.
        limit = one.window - 1 if one.window else first + len(caches) * _STEP + tokens
        blocks = [min(first + i * _STEP, limit) - min(first, limit) for i in range(len(caches))]
        each = (sizes[1] - sizes[0]) / blocks[1] if blocks[1] else sizes[0] / min(first, limit)
        if sizes != [sizes[0] + block * each for block in blocks]:
            raise Refused(f"{place} of its cache does not grow evenly: {sizes} elements")
        count = sizes[0] + (min(tokens, limit) - min(first, limit)) * each
        growth = each if tokens < limit else 0
        own_item = one.tensor.element_size()
        item = dtype.itemsize if dtype is not None and one.part == "states" else own_item
        yield Leaf(
            layer=one.layer,
            kind=one.kind,
            part=one.part,
            num_bytes=round(count * item),
            growth_bytes=growth * item,
        )


@dataclass(frozen=True, kw_only=True)
class _Kept:
    layer: int
    kind: str
    part: str
    window: int
    tensor: Tensor


def _cache(model: nn.Module, tokens: int) -> dict[str, _Kept]:
    """The tensors that a model keeps of so many tokens, by their place in its cache."""
    try:
        out: Any = model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    except Exception as error:
        raise Refused(f"it cannot be run without values: {_first_line(error)}") from error
    cache = getattr(out, "past_key_values", None)
    cache = getattr(out, "cache_params", None) if cache is None else cache
    return kept_of(cache, model.config)


def kept_of(cache: Any, config: Any) -> dict[str, _Kept]:
    """The tensors of a cache by their place, such as ``layers.3.keys``.

    Raises:
        Refused: there are none.
    """
    kinds = getattr(config.get_text_config(decoder=True), "layer_types", None) or ()
    layers = getattr(cache, "layers", ())
    found: dict[str, _Kept] = {}
    for place, tensor in _tensors(cache):
        _, index, *rest = [*place.split("."), "", ""]
        layer = int(index) if index.isdigit() else 0
        own = layers[layer] if place.startswith("layers.") else cache
        kind = kinds[layer] if layer < len(kinds) else _KINDS.get(type(own).__name__, "layer")
        window = getattr(own, "sliding_window", 0) if rest[0] in ("keys", "values") else 0
        found[place] = _Kept(
            layer=layer,
            kind=kind.replace("_", " "),
            part=_part(place),
            window=int(window or 0),
            tensor=tensor,
        )
    if not found:
        raise Refused("its output has no cache")
    return found


_KINDS = {
    "DynamicLayer": "full attention",
    "DynamicSlidingWindowLayer": "sliding attention",
    "LinearAttentionLayer": "linear attention",
    "LinearAttentionAndFullAttentionLayer": "linear and full attention",
}
"""Kinds of layers whose configuration does not name them, by the class of their cache."""

_NAMES = {
    "indexer": "indexer",
    "conv": "convolution tails",
    "recurrent": "states",
    "rnn": "states",
    "ssm": "states",
    "linear_cache": "states",
    "keys": "keys and values",
    "values": "keys and values",
    "kv": "keys and values",
    "gate": "keys and values",
}
"""What a tensor holds, by a part of its name; the first that fits."""


def _part(place: str) -> str:
    return next((part for name, part in _NAMES.items() if name in place), "other")


def _tensors(kept: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of numbers with a fraction that an object holds, with the names of their places."""
    if isinstance(kept, Tensor):
        if kept.is_floating_point():
            yield place.lstrip("."), kept
    elif isinstance(kept, dict):
        for name, one in kept.items():
            yield from _tensors(one, f"{place}.{name}")
    elif isinstance(kept, (list, tuple)):
        for i, one in enumerate(kept):
            yield from _tensors(one, f"{place}.{i}")
    elif type(kept).__module__.startswith("transformers.") and hasattr(kept, "__dict__"):
        yield from _tensors({k: v for k, v in vars(kept).items() if k != "config"}, place)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Transformers says about missing kernels: nothing is computed here."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(50)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:160] or type(error).__name__


# --- the page ------------------------------------------------------------------------------------


def document_of(found: Sequence[Usage], asked: Memory, session: Session) -> Document:
    """A row for each model and context, and the layers of each model at the longest one."""
    parts = [p for p in PARTS if any(leaf.part == p for one in found for leaf in one.leaves)]
    columns = [words("model"), Column("context", "tokens", digits=",.0f")]
    columns += [_size(part) for part in parts]
    columns += [_size("total", "each user"), _size("growth", "each further token")]
    if asked.users > 1:
        columns.append(_size("users", quantity(asked.users, "user")))
    if asked.memory:
        columns.append(Column("room", f"users in {asked.memory / 2**30:g} GiB", digits=",.0f"))
    else:
        columns.append(Column("room", "users per GiB", digits=",.2f"))
    columns.append(_size("weights"))
    table = Table(columns=columns, rows=[_row(one, parts, asked) for one in found])
    longest = [one for one in found if one.context == max(asked.context) and one.weights_bytes]
    of_layers = [_of_layers(one, parts) for one in longest] if len(longest) <= 8 else []
    version = importlib.import_module("transformers").__version__ if longest else ""
    source = [f"Caches as Transformers {version} allocates them."] if version else []
    state = f", states in {asked.state_dtype}" if asked.state_dtype else ""
    beside = ["The memory for users is what the weights leave."] if asked.memory else []
    return Document(
        "Memory per user",
        [
            Text([*source, f"Weights and activations in {asked.dtype}{state}.", *beside]),
            Command(session.command("docs")),
            table,
            *of_layers,
            Bullets(session.notes),
        ],
    )


def _size(key: str, title: str = "") -> Column:
    return Column(key, title, digits=lambda value: with_unit("size_bytes", value) if value else "")


def _row(one: Usage, parts: Sequence[str], asked: Memory) -> Row:
    room = (asked.memory or 2**30) / one.num_bytes if one.num_bytes else None
    sizes = {part: sum(x.num_bytes for x in one.leaves if x.part == part) for part in parts}
    return {
        "model": one.name,
        "context": one.context,
        **sizes,
        "total": one.num_bytes,
        "growth": one.growth_bytes,
        "users": asked.users * one.num_bytes,
        "room": room and (floor(room) if asked.memory else room),
        "weights": one.weights_bytes,
    }


def _of_layers(one: Usage, parts: Sequence[str]) -> Table:
    """Bytes of each kind of layer, all layers of it together."""
    rows: list[Row] = []
    for kind, own in grouped(one.leaves, lambda leaf: leaf.kind).items():
        sizes = {part: sum(x.num_bytes for x in own if x.part == part) for part in parts}
        growth = sum(leaf.growth_bytes for leaf in own)
        count = len({leaf.layer for leaf in own})
        rows.append({"kind": kind, "layers": count, **sizes, "growth": growth})
    columns = [words("kind", "layers of"), Column("layers", "number", digits=".0f")]
    columns += [*map(_size, parts), _size("growth", "each further token")]
    title = f"{one.name} at {one.context:,} tokens"
    return Table(title=title, columns=columns, rows=rows)
