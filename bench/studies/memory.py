"""Bytes of keys, values and states per user, of models in Transformers and of rows."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Annotated, Any

import torch

from bench.core.cell import DTYPES
from bench.core.cli.entries import AttentionEntry
from bench.core.cli.errors import ConfigError
from bench.core.format import quantity, with_unit
from bench.core.grouping import grouped
from bench.core.progress import Part
from bench.core.settings import (
    Bytes,
    Folder,
    Interval,
    Many,
    Name,
    Settings,
    Some,
    SomeRows,
    Word,
    rows,
)
from bench.measuring.plan import checked_hyperparameters
from bench.measuring.shipped import (
    STEP,
    Leaf,
    Refused,
    config_of,
    leaves_of,
    model_names,
    model_of,
    quiet,
)
from bench.measuring.states import layer_bytes
from bench.publishing.document import Bullets, Column, Command, Document, Row, Table, Text, words
from bench.studies.session import Session

PARTS = ("keys and values", "states", "convolution tails", "indexer", "other")
"""Columns of a table, by what a tensor of a cache holds."""

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
    attention: SomeRows = rows()
    """Rows, each as the only mechanism of num_layers layers."""
    context: Many[Annotated[int, Interval(ge=1, le=2**40)]] = (8192, 131_072)
    """Tokens that a user has read and written."""
    dtype: _Dtype = "bfloat16"
    """Dtype of weights and activations, and so of keys and values."""
    state_dtype: _Dtype | None = None
    """Dtype of the states of shipped models; null for what the model keeps them in."""
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


def study(asked: Memory, session: Session) -> int:
    """Size every model and row at every context; 2 if none can be."""
    if not asked.model and not asked.attention:
        raise ConfigError(
            "Nothing to size. Name models, e.g. model=[qwen3_next,llama] or model=all, or rows, "
            "e.g. attention=[softmax,gla]."
        )
    found: list[Usage] = []
    models = [Part(name=name) for name in model_names(asked.model)]
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
    for length in (tokens, tokens + STEP):
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
    whole, growth = sizes[0], (sizes[1] - sizes[0]) / STEP
    layers = (
        Leaf(layer=i, kind=row.mechanism, part="states", num_bytes=whole, growth_bytes=growth)
        for i in range(asked.num_layers)
    )
    return Usage(name=row.label, context=tokens, leaves=tuple(layers))


# --- models --------------------------------------------------------------------------------------


def usages(config: Any, name: str, asked: Memory) -> list[Usage]:
    """A model's usage at each context.

    Raises:
        Refused: the model cannot be built or run without values, it returns no cache, or its cache
            grows otherwise than by the same number of bytes for each `STEP` tokens.
    """
    dtype = getattr(torch, asked.dtype)
    own = getattr(torch, asked.state_dtype) if asked.state_dtype else None
    with quiet(), torch.device("meta"), torch.no_grad():
        model = model_of(config, dtype)
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        made = [
            Usage(
                name=name,
                context=tokens,
                leaves=tuple(leaves_of(model, tokens, own)),
                weights_bytes=weights,
            )
            for tokens in asked.context
        ]
    return made


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
    table = Table(
        title="Each user", columns=columns, rows=[_row(one, parts, asked) for one in found]
    )
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
