"""From the composed configuration to typed values, or a ConfigError naming the key. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.app.entries import AttentionEntry, TaskEntry, chosen_rows, read_tasks
from bench.app.errors import ConfigError, did_you_mean
from bench.app.limits import MAX_SIZE
from bench.app.values import Reader, Values, flag, number, text, time_span, whole, word
from bench.cell import (
    CACHES,
    COMPILERS,
    DTYPES,
    MAX_IMAGE_SIZE,
    MAX_SEED,
    MAX_THREADS,
    MODES,
    TOKEN_FILTERS,
)
from bench.core.presets import RatePreset, read_presets
from bench.core.rows import row_labels
from bench.measure.stopping import Stopping
from bench.record import REFERENCE
from bench.worker.launch import ALLOCATORS

SCOPES = ("core", "layer", "model")
SIZE = whole(low=1, high=MAX_SIZE)
SHARE = number(low=0.0, high=1.0)
NUM_THREADS = whole(low=1, high=MAX_THREADS)
IMAGE_SIZE = whole(low=1, high=MAX_IMAGE_SIZE)
ROUNDS = whole(low=1, high=1_000_000)
SECONDS = number(low=0.1, high=7 * 86_400)
"""To wait for a worker: no week-long silence is work."""
SEED = whole(low=0, high=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of each axis, in the order in which they were given."""

    seq_len: tuple[int, ...]
    batch_size: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_kv_heads: tuple[int | None, ...]
    key_len: tuple[int | None, ...]
    padding: tuple[float, ...]
    ragged: tuple[float, ...]
    head_dim: tuple[int, ...]
    dtype: tuple[str, ...]
    device: tuple[str, ...]
    mode: tuple[str, ...]
    causal: tuple[bool, ...]
    scope: tuple[str, ...]
    model: tuple[str, ...]
    image_size: tuple[int, ...]
    cache: tuple[str, ...]
    compile: tuple[str, ...]
    num_threads: tuple[int, ...]
    seed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How workers are run.

    Attributes:
        timeout_s: longest silence of a worker before it counts as hung.
        task_timeout_s: longest training run.
        allocator: see `bench.worker.launch.ALLOCATORS`.
    """

    timeout_s: float
    task_timeout_s: float
    allocator: str


@dataclass(frozen=True, kw_only=True)
class References:
    """What each row is compared with.

    Attributes:
        usual: label of the entry that rows are compared with if nothing else is said.
        of: label of another one, by the row's label.
    """

    usual: str = REFERENCE
    of: dict[str, str] = field(default_factory=dict)

    def label_for(self, entry: str) -> str:
        """The label of a row's reference."""
        return self.of.get(entry, self.usual)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of `count` parts of a plan, from 1."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Everything that `bench.sweep` was asked for.

    Attributes:
        task_only: labels of entries that are trained and not timed.
        speed_only: labels of entries that are timed and not trained.
        token_filter: that are tried on each trained model; the whole model is scored besides.
        token_keep: shares of tokens that each of them keeps.
        only: ``stale`` or ``failed`` cells, or both, see `bench.todo.only_these`.
        retry: how often a cell is tried again that may have failed for outside reasons.
        budget_s: for the whole command; None for no limit.
        shard: the part of the plan that is measured here; None for all of it.
    """

    attention: tuple[AttentionEntry, ...]
    reference: References
    task: tuple[TaskEntry, ...]
    task_only: tuple[str, ...] = ()
    speed_only: tuple[str, ...] = ()
    rates: tuple[RatePreset, ...]
    axes: Axes
    max_seq_len: dict[str, int]
    token_filter: tuple[str, ...] = ()
    token_keep: tuple[float, ...] = ()
    plugins: tuple[str, ...]
    out: Path
    dry_run: bool
    force: bool
    only: tuple[str, ...] = ()
    retry: int = 0
    budget_s: float | None = None
    shard: Shard | None = None
    require_ok: bool
    measure: Stopping
    run: RunConfig

    def without(self, labels: Sequence[str]) -> SweepConfig:
        """The same sweep, but for some entries."""
        return replace(self, attention=tuple(e for e in self.attention if e.label not in labels))


def read_sweep_config(config: Mapping[str, Any]) -> SweepConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    attention = chosen_rows(config)
    axes = _read_axes(values)
    tasks = tuple(read_tasks(config.get("task") or {}))
    given = config.get("given", ())
    if "model" not in axes.scope:
        _refuse_without_models(given)
    if axes.scope == ("model",):
        _refuse_beside_models(axes, given, tasks)
        tasks = ()
    if not axes.seq_len and not tasks and "model" not in axes.scope:
        raise ConfigError(
            "The plan is empty: seq_len=[] plans no kernel cells and task=[] no tasks."
        )
    limits = values.section("max_seq_len")
    labels = [entry.label for entry in attention if entry.label in limits.given]
    return SweepConfig(
        attention=attention,
        reference=_read_references(config.get("reference")),
        task=tasks,
        task_only=values.some("task_only", _row(attention), or_none=True),
        speed_only=values.some("speed_only", _row(attention), or_none=True),
        rates=read_presets(config.get("rates")),
        axes=axes,
        max_seq_len={label: limits.one(label, SIZE) for label in labels},
        token_filter=_read_filters(values, given, tasks),
        token_keep=values.some("token_keep", read_keep, or_none=True),
        plugins=values.some("plugins", text, or_none=True),
        out=Path(values.one("out", text)),
        dry_run=values.one("dry_run", flag),
        force=values.one("force", flag),
        only=_read_only(values),
        retry=values.optional("retry", whole(low=0, high=100)) or 0,
        budget_s=values.optional("budget", time_span),
        shard=values.optional("shard", read_shard),
        require_ok=values.one("require_ok", flag),
        measure=_read_measure(values.section("measure", Stopping.__dataclass_fields__)),
        run=_read_run(values.section("run", RunConfig.__dataclass_fields__)),
    )


def _read_filters(
    values: Values, given: Sequence[str], tasks: Sequence[TaskEntry]
) -> tuple[str, ...]:
    names = values.some("token_filter", word(("none", *TOKEN_FILTERS)), or_none=True)
    found = tuple(name for name in names if name != "none")
    if found and not tasks:
        raise ConfigError(
            "token_filter needs a task to train on, e.g. task=[canvas,fashion_mnist]."
        )
    if found and not values.some("token_keep", read_keep, or_none=True):
        raise ConfigError("token_keep is empty beside token_filter. Give a share, e.g. 0.5.")
    if "token_keep" in given and not found:
        raise ConfigError(
            "token_keep says how much a filter keeps, and none is chosen. Add one, e.g. "
            "token_filter=[none,attention_rate,random]."
        )
    return found


def read_keep(name: str, value: Any) -> float:
    """A share of tokens to keep, up to 1; of less than a thousandth no image has a token left."""
    share = number(low=-math.inf)(name, value)
    if not 0.001 <= share <= 1:
        raise ConfigError(f"{name} is {value}; a share from 0.001 to 1 is needed.")
    return share


def _read_only(values: Values) -> tuple[str, ...]:
    only = values.some("only", word(("stale", "failed")), or_none=True)
    is_forced = values.one("force", flag)
    if only and is_forced:
        raise ConfigError(
            f"only={','.join(only)} beside force=true: the one measures some cells, the other all. "
            "Drop one."
        )
    return only


def _row(entries: Sequence[AttentionEntry]) -> Reader[str]:
    """The label of an entry, or of one that could be."""
    labels = {*(entry.label for entry in entries), *row_labels()}

    def read(name: str, value: Any) -> str:
        label = text(name, value)
        if label not in labels:
            hint = did_you_mean(label, labels)
            raise ConfigError(f"{name} names {label!r}, and no entry is called that. {hint}")
        return label

    return read


def _refuse_without_models(given: Sequence[str]) -> None:
    for key in ("model", "image_size"):
        if key in given:
            raise ConfigError(
                f"{key} is of whole models, which this scope leaves out. Add scope=model."
            )


def _refuse_beside_models(axes: Axes, given: Sequence[str], tasks: Sequence[TaskEntry]) -> None:
    """Refuse what has no meaning where nothing but whole models is measured.

    Tasks that only the defaults name are left out without a word.
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


def _read_references(given: Any) -> References:
    """One label for all rows, or a mapping from rows to theirs; the names are checked by `plan`."""
    if given is None:
        return References()
    if isinstance(given, str):
        return References(usual=given)
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise ConfigError(
            f"reference is {given!r}; it takes the label of an entry, or a mapping from rows to "
            "theirs, e.g. reference={nala: linear}."
        )
    found = {str(row): label for row, label in given.items()}
    if itself := next((row for row, label in found.items() if row == label), None):
        raise ConfigError(
            f"reference compares {itself} with itself. Name another entry, or leave {itself} out."
        )
    return References(of=found)


def _read_axes(values: Values) -> Axes:
    has_models = "model" in values.some("scope", text)
    has_kv_heads = values.given.get("num_kv_heads") is not None
    has_key_len = values.given.get("key_len") is not None
    return Axes(
        seq_len=values.some("seq_len", SIZE, or_none=True),
        batch_size=values.some("batch_size", SIZE),
        num_heads=values.some("num_heads", SIZE),
        num_kv_heads=values.some("num_kv_heads", SIZE) if has_kv_heads else (None,),
        key_len=values.some("key_len", SIZE) if has_key_len else (None,),
        padding=values.some("padding", SHARE, or_none=True) or (0.0,),
        ragged=values.some("ragged", SHARE, or_none=True) or (0.0,),
        head_dim=values.some("head_dim", SIZE),
        dtype=values.some("dtype", word(DTYPES)),
        device=values.some("device", torch_device),
        mode=values.some("mode", word(MODES)),
        causal=values.some("causal", flag),
        scope=values.some("scope", word(SCOPES)),
        # Only the sweep's configuration has these two, and they say nothing at another scope.
        model=values.some("model", text) if has_models else (),
        image_size=values.some("image_size", IMAGE_SIZE) if has_models else (),
        cache=values.some("cache", word(CACHES)),
        compile=values.some("compile", word(COMPILERS)),
        num_threads=values.some("num_threads", NUM_THREADS),
        seed=values.some("seed", SEED),
    )


def _read_measure(values: Values) -> Stopping:
    stopping = Stopping(
        target_half_width=values.one("target_half_width", number(low=0.0)),
        budget_s=values.one("budget_s", number(low=0.0, high=86_400)),
        min_rounds=values.one("min_rounds", ROUNDS),
        max_rounds=values.one("max_rounds", ROUNDS),
        min_sample_s=values.one("min_sample_s", number(low=0.0, high=60.0)),
        num_processes=values.optional("num_processes", whole(low=1, high=1000)) or 1,
    )
    if stopping.max_rounds < stopping.min_rounds:
        raise ConfigError(
            f"measure.max_rounds={stopping.max_rounds} is below "
            f"measure.min_rounds={stopping.min_rounds}. Raise the one or lower the other."
        )
    return stopping


def _read_run(values: Values) -> RunConfig:
    return RunConfig(
        timeout_s=values.one("timeout_s", SECONDS),
        task_timeout_s=values.one("task_timeout_s", SECONDS),
        allocator=values.one("allocator", word(ALLOCATORS)),
    )


def torch_device(name: str, value: Any) -> str:
    """A torch device, or ``auto``."""
    found = text(name, value)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", found):
        hint = did_you_mean(found, ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))
        raise ConfigError(f"{name}={found} is not known. {hint}")
    return found


MAX_SHARDS = 10_000


def read_shard(name: str, value: Any) -> Shard:
    """One of so many parts, as ``3/16``."""
    parts = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text(name, value))
    if parts is None or not 1 <= int(parts[1]) <= int(parts[2]) <= MAX_SHARDS:
        raise ConfigError(
            f"{name}={value} is none. It takes a part of so many, from 1/4 to 4/4 for four "
            f"machines; {MAX_SHARDS:,} parts at most."
        )
    return Shard(index=int(parts[1]), count=int(parts[2]))
