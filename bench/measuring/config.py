"""Typed settings of a sweep, read from the composed configuration. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from bench.core.cell import (
    CACHES,
    COMPILERS,
    DTYPES,
    MAX_IMAGE_SIZE,
    MAX_THREADS,
    MODES,
    TOKEN_FILTERS,
)
from bench.core.cli.command import read_yaml
from bench.core.cli.entries import TaskEntry, read_tasks
from bench.core.cli.errors import ConfigError, check_known, did_you_mean
from bench.core.cli.limits import Share, Size
from bench.core.places import CONF
from bench.core.presets import RatePreset, read_presets
from bench.core.record import REFERENCE
from bench.core.rows import row_labels
from bench.core.settings import (
    AfterValidator,
    BeforeValidator,
    Budget,
    Field,
    Folder,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
    Word,
    as_tuple,
    model_validator,
    section_as,
)
from bench.measuring.device import KINDS, is_device_name
from bench.measuring.measure.stopping import Stopping
from bench.measuring.worker.launch import ALLOCATORS

SCOPES = ("core", "layer", "model")


def _device(name: str) -> str:
    if not is_device_name(name):
        hint = did_you_mean(name, ("auto", *KINDS))
        raise ConfigError(f"device={name} is not known. {hint}")
    return name


MAX_SHARDS = 10_000


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Part `index` of `count` of a plan, counted from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def _shard(value: Any) -> Shard:
    parts = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", value) if isinstance(value, str) else None
    if parts is None or not 1 <= int(parts[1]) <= int(parts[2]) <= MAX_SHARDS:
        raise ValueError(
            "it takes a part of so many, from 1/4 to 4/4 for four machines; "
            f"{MAX_SHARDS:,} parts at most"
        )
    return Shard(index=int(parts[1]), count=int(parts[2]))


Seconds = Annotated[float, Interval(ge=0.1, le=7 * 86_400)]
"""Seconds to wait for a worker, one week at most."""
Keep = Annotated[float, Interval(ge=0.001, le=1)]
"""Share of tokens to keep; below a thousandth no image would have a token left."""
Dtype = Annotated[str, Word(lambda: DTYPES)]
Device = Annotated[str, AfterValidator(_device)]
Mode = Annotated[str, Word(lambda: MODES)]
Scope = Annotated[str, Word(lambda: SCOPES)]
Cache = Annotated[str, Word(lambda: CACHES)]
Compiler = Annotated[str, Word(lambda: COMPILERS)]
Filter = Annotated[str, Word(lambda: ("none", *TOKEN_FILTERS))]
Filters = Annotated[Some[Filter], AfterValidator(lambda n: tuple(x for x in n if x != "none"))]
Shares = Annotated[Some[Share], AfterValidator(lambda shares: shares or (0.0,))]


class Axes(Settings):
    """The values of each axis, in the order in which they were given."""

    seq_len: Some[Size]
    batch_size: Many[Size]
    num_heads: Many[Size]
    num_kv_heads: Many[Size | None] = (None,)
    key_len: Many[Size | None] = (None,)
    padding: Shares = (0.0,)
    ragged: Shares = (0.0,)
    head_dim: Many[Size]
    dtype: Many[Dtype]
    device: Many[Device]
    mode: Many[Mode]
    causal: Many[bool]
    scope: Many[Scope]
    model: Some[Name] = ()
    image_size: Some[Annotated[int, Interval(ge=1, le=MAX_IMAGE_SIZE)]] = ()
    cache: Many[Cache]
    compile: Many[Compiler]
    num_threads: Many[Annotated[int, Interval(ge=1, le=MAX_THREADS)]]
    seed: Many[Seed]

    @model_validator(mode="before")
    @classmethod
    def _without_models(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Empty the axes `model` and `image_size`, which have defaults, if no model is measured."""
        has_models = "model" in as_tuple(given.get("scope"))
        return given if has_models else given | {"model": (), "image_size": ()}


class RunConfig(Settings):
    """How workers are run."""

    timeout_s: Seconds
    """Longest silence of a worker before it counts as hung."""
    task_timeout_s: Seconds
    """Longest training run."""
    allocator: Annotated[str, Word(lambda: ALLOCATORS)]
    """See `bench.measuring.worker.launch.ALLOCATORS`."""


class References(Settings):
    """References of the rows: the entry that each is compared with."""

    usual: str = REFERENCE
    """Label of the entry that rows are compared with if nothing else is said."""
    of: dict[str, str] = Field(default_factory=dict)
    """Label of another one, by the row's label."""

    def label_for(self, entry: str) -> str:
        """The label of a row's reference."""
        return self.of.get(entry, self.usual)


def _references(given: Any) -> References:
    """One label for all rows, or a mapping from rows to theirs; the names are checked by `plan`."""
    if given is None or isinstance(given, References):
        return given or References()
    if isinstance(given, str):
        return References(usual=given)
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise ValueError(
            "it takes the label of an entry, or a mapping from rows to theirs, e.g. "
            "reference={nala: linear}"
        )
    found = {str(row): label for row, label in given.items()}
    if itself := next((row for row, label in found.items() if row == label), None):
        raise ValueError(
            f"reference compares {itself} with itself. Name another entry, or leave {itself} out."
        )
    return References(of=found)


def _tasks(given: Any) -> tuple[TaskEntry, ...]:
    return tuple(read_tasks(given or {}))


class SweepConfig(Settings):
    """Everything that `bench.sweep` was asked for."""

    attention: Rows
    reference: Annotated[References, BeforeValidator(_references)] = References()
    task: Annotated[tuple[TaskEntry, ...], BeforeValidator(_tasks)] = ()
    task_only: Some[Name] = ()
    """Labels of entries that are trained and not timed."""
    speed_only: Some[Name] = ()
    """Labels of entries that are timed and not trained."""
    rates: Annotated[tuple[RatePreset, ...], BeforeValidator(read_presets)] = ()
    axes: Axes
    max_seq_len: dict[str, Size] = Field(default_factory=dict)
    """Longest sequence, by the label of an entry."""
    token_filter: Filters = ()
    """Filters that are tried on each trained model; the whole model is scored besides."""
    token_keep: Some[Keep] = ()
    """Shares of tokens that each of them keeps."""
    plugins: Some[Name] = ()
    out: Folder
    dry_run: bool = False
    force: bool = False
    only: Some[Literal["stale", "failed"]] = ()
    """Cells to measure and no others, see `bench.measuring.todo.only_these`."""
    retry: Annotated[int, Interval(ge=0, le=100)] = 0
    """How often a cell is tried again that may have failed for outside reasons."""
    budget_s: Budget | None = Field(default=None, alias="budget")
    """Seconds for the whole command; None for no limit."""
    shard: Annotated[Shard, BeforeValidator(_shard)] | None = None
    """The part of the plan that is measured here; None for all of it."""
    require_ok: bool = False
    timings: bool = False
    measure: Annotated[Stopping, BeforeValidator(lambda it: section_as(Stopping, it, "measure"))]
    run: RunConfig

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        labels = {*(entry.label for entry in self.attention), *row_labels()}
        labels |= {self.reference.usual, *self.reference.of.values()}  # which become rows
        for key in ("task_only", "speed_only", "max_seq_len"):
            for label in getattr(self, key):
                words = f"{key} names {label!r}, and no entry is called that."
                check_known(label, labels, words)
        if self.token_filter and not self.token_keep:
            raise ValueError("token_keep is empty beside token_filter. Give a share, e.g. 0.5.")
        if self.only and self.force:
            raise ValueError(
                f"only={','.join(self.only)} beside force=true: the one measures some cells, the "
                "other all. Drop one."
            )
        if self.measure.max_rounds < self.measure.min_rounds:
            raise ValueError(
                f"measure.max_rounds={self.measure.max_rounds} is below "
                f"measure.min_rounds={self.measure.min_rounds}. Raise the one or lower the other."
            )
        return self

    def without(self, labels: Sequence[str]) -> SweepConfig:
        """The same sweep without some entries."""
        return self.but(attention=tuple(e for e in self.attention if e.label not in labels))


def read_sweep_config(config: Mapping[str, Any]) -> SweepConfig:
    """Read the settings of a sweep and check them, alone and beside each other.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    axes = Axes.read(config)
    found = SweepConfig.read({"out": None, **config, "axes": axes})
    given = config.get("given", ())
    if "model" not in axes.scope:
        _refuse_without_models(given)
    elif empty := next((key for key in ("model", "image_size") if not getattr(axes, key)), None):
        raise ConfigError(f"{empty}=[] is empty. Give one value or more.")
    if axes.scope == ("model",):
        _refuse_beside_models(axes, given, found.task)
        found = found.but(task=())
    if not axes.seq_len and not found.task and "model" not in axes.scope:
        raise ConfigError(
            "The plan is empty: seq_len=[] plans no kernel cells and task=[] no tasks."
        )
    if found.token_filter and not found.task:
        raise ConfigError(
            "token_filter needs a task to train on, e.g. task=[canvas,fashion_mnist]."
        )
    if "token_keep" in given and not found.token_filter:
        raise ConfigError(
            "token_keep says how much a filter keeps, and none is chosen. Add one, e.g. "
            "token_filter=[none,attention_rate,random]."
        )
    return found


def training_config(
    attention: Mapping[str, Any], task: Mapping[str, Any], out: Path, **changes: Any
) -> SweepConfig:
    """A sweep over training runs alone, each at its own rate.

    `changes` are further keys of `bench.sweep`, which override those of conf/sweep.yaml; `task` may
    be empty if they give `seq_len`.

    Raises:
        ConfigError: a key that a sweep does not have, or a value that it does not take.
    """
    usual = read_yaml(CONF / "sweep.yaml") | {"rates": None, "seq_len": []}
    for key in changes:
        check_known(key, usual, f"{key} is not a key.")
    given = {"attention": dict(attention), "task": dict(task), "out": str(out)}
    return read_sweep_config(usual | given | changes)


def _refuse_without_models(given: Sequence[str]) -> None:
    for key in ("model", "image_size"):
        if key in given:
            raise ConfigError(
                f"{key} is of whole models, which this scope leaves out. Add scope=model."
            )


def _refuse_beside_models(axes: Axes, given: Sequence[str], tasks: Sequence[TaskEntry]) -> None:
    """Refuse settings that do not apply where only whole models are measured.

    Tasks that only the defaults name are dropped silently by the caller.
    """
    if tasks and any(key.partition(".")[0] == "task" for key in given):
        raise ConfigError(
            f"task names {tasks[0].label} beside scope=model: a task trains a small model of its "
            "own, and no model of the axis. Drop task, or add a scope: scope=[core,model]."
        )
    if True in axes.causal:
        raise ConfigError(
            "causal=true beside scope=model: the tokens of an image have no order. Drop one."
        )
    for name, usual in {"key_len": None, "padding": 0.0, "ragged": 0.0}.items():
        if set(getattr(axes, name)) != {usual}:
            raise ConfigError(
                f"{name} beside scope=model: a model sees all tokens of its images. Drop one."
            )
