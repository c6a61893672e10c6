"""From the composed configuration to typed values, or a ConfigError naming the key. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from bench.app.errors import ConfigError, did_you_mean
from bench.app.values import Values, text, whole
from bench.measure.stopping import Stopping
from bench.record import REFERENCE
from bench.worker.launch import ALLOCATORS

DTYPES = ("float32", "bfloat16", "float16", "float64")
MODES = ("forward", "backward", "forward_backward", "train_step", "prefill", "decode")
SCOPES = ("core", "layer", "model")
CACHES = ("warm", "cold")
COMPILERS = ("eager", "inductor")
_MAX_SIZE = 2**31 - 1
"""Of one dimension: beyond it torch's kernels leave the 32 bits in which many of them count."""
NUM_THREADS = whole(low=1, high=1024)
"""Threads: no more than any machine of today has cores; many more would end this one."""
_MAX_SEED = 2**32 - 1
"""As NumPy has it; torch would take more."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AttentionEntry:
    """A leaderboard row: a mechanism and the hyperparameters that are set for it."""

    label: str
    mechanism: str
    hyperparameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TaskEntry:
    """A column of accuracies: a task and its settings."""

    label: str
    task: str
    settings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axes:
    """The values of each axis, in the order in which they were given."""

    seq_len: tuple[int, ...]
    batch_size: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_kv_heads: tuple[int | None, ...]
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
class SweepConfig:
    """Everything that `bench.sweep` was asked for."""

    attention: tuple[AttentionEntry, ...]
    reference: References
    task: tuple[TaskEntry, ...]
    axes: Axes
    max_seq_len: dict[str, int]
    plugins: tuple[str, ...]
    out: Path
    dry_run: bool
    force: bool
    require_ok: bool
    measure: Stopping
    run: RunConfig


def read_sweep_config(config: dict[str, Any]) -> SweepConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    attention = tuple(read_attention_entries(config.get("attention")))
    if not attention:
        raise ConfigError(
            "attention is empty. Name one entry or more, e.g. attention=[softmax,nala]."
        )
    axes = _read_axes(config)
    tasks = tuple(_read_tasks(config.get("task") or {}))
    if axes.scope == ("model",):
        _refuse_beside_models(axes, config.get("given", ()), tasks)
        tasks = ()
    if not axes.seq_len and not tasks and "model" not in axes.scope:
        raise ConfigError(
            "The plan is empty: seq_len=[] plans no kernel cells and task=[] no tasks."
        )
    limits = _mapping(config, "max_seq_len")
    known = {entry.label for entry in attention}
    return SweepConfig(
        attention=attention,
        reference=_read_references(config.get("reference")),
        task=tasks,
        axes=axes,
        max_seq_len={
            label: _number(f"max_seq_len.{label}", limit, int, low=1)
            for label, limit in limits.items()
            if label in known
        },
        plugins=read_names(config, "plugins"),
        out=Path(one(config, "out", str)),
        dry_run=one(config, "dry_run", bool),
        force=one(config, "force", bool),
        require_ok=one(config, "require_ok", bool),
        measure=_read_measure(_mapping(config, "measure")),
        run=_read_run(_mapping(config, "run")),
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


def read_attention_entries(given: Any) -> list[AttentionEntry]:
    """Entries as composed from conf/attention, by label."""
    if given is None:
        return []
    entries = []
    for label, settings in _items("attention", given):
        rest = dict(settings)
        mechanism = rest.pop("mechanism", None)
        if not isinstance(mechanism, str):
            raise ConfigError(
                f"attention entry {label!r} names no mechanism. Write `mechanism: NAME` "
                f"under `{label}:` in its YAML."
            )
        entries.append(AttentionEntry(label=label, mechanism=mechanism, hyperparameters=rest))
    return entries


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
    return References(of={str(row): label for row, label in given.items()})


def _read_tasks(given: Any) -> list[TaskEntry]:
    entries = []
    for label, settings in _items("task", given):
        rest = dict(settings)
        task = rest.pop("task", None)
        if not isinstance(task, str):
            raise ConfigError(
                f"task entry {label!r} names no task. Write `task: <registered name>` under "
                f"`{label}:` in its YAML."
            )
        entries.append(TaskEntry(label=label, task=task, settings=rest))
    return entries


def _items(key: str, given: Any) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(given, dict) or not all(isinstance(v, dict) for v in given.values()):
        raise ConfigError(
            f"{key} is {given!r}; entries are chosen by name, e.g. {key}=[NAME], from conf/{key}/."
        )
    return [(str(label), settings) for label, settings in given.items()]


def _read_axes(config: dict[str, Any]) -> Axes:
    def sizes(name: str) -> tuple[int, ...]:
        return tuple(
            _number(name, value, int, low=1, high=_MAX_SIZE) for value in axis(config, name)
        )

    def words(name: str, allowed: Sequence[str]) -> tuple[str, ...]:
        return tuple(_word(name, value, allowed) for value in axis(config, name))

    def names(name: str) -> tuple[str, ...]:
        return tuple(_of_type(name, value, str) for value in axis(config, name))

    has_models = "model" in axis(config, "scope")
    return Axes(
        seq_len=sizes("seq_len"),
        batch_size=sizes("batch_size"),
        num_heads=sizes("num_heads"),
        num_kv_heads=sizes("num_kv_heads") if config.get("num_kv_heads") is not None else (None,),
        head_dim=sizes("head_dim"),
        dtype=words("dtype", DTYPES),
        device=Values(config).some("device", torch_device),
        mode=words("mode", MODES),
        causal=tuple(_of_type("causal", value, bool) for value in axis(config, "causal")),
        scope=words("scope", SCOPES),
        # Only the sweep's configuration has these two, and they say nothing at another scope.
        model=names("model") if has_models else (),
        image_size=sizes("image_size") if has_models else (),
        cache=words("cache", CACHES),
        compile=words("compile", COMPILERS),
        num_threads=Values(config).some("num_threads", NUM_THREADS),
        seed=tuple(
            _number("seed", value, int, low=0, high=_MAX_SEED) for value in axis(config, "seed")
        ),
    )


def axis(config: dict[str, Any], name: str) -> list[Any]:
    """An axis's values, each once; one value counts as a list of one."""
    given = config.get(name)
    values = given if isinstance(given, list) else [given]
    if not values and name != "seq_len":
        raise ConfigError(f"{name}=[] leaves nothing to measure. Give one value or more.")
    if None in values:
        raise ConfigError(f"{name} has no value. Give one value or a list, e.g. {name}=[...].")
    return list(dict.fromkeys(str(v) if isinstance(v, (list, dict)) else v for v in values))


def one(config: dict[str, Any], name: str, kind: type[T]) -> T:
    """A key that takes one value."""
    return _of_type(name, config.get(name), kind)


def read_names(config: dict[str, Any], name: str) -> tuple[str, ...]:
    """A key that takes a list of names, or one."""
    given = config.get(name)
    values = given if isinstance(given, list) else [] if given is None else [given]
    return tuple(_of_type(name, value, str) for value in values)


def _read_measure(given: dict[str, Any]) -> Stopping:
    _refuse_unknown("measure", given, [f.name for f in fields(Stopping)])
    stopping = Stopping(
        target_half_width=_number(
            "measure.target_half_width", given.get("target_half_width"), float, low=0.0
        ),
        budget_s=_number("measure.budget_s", given.get("budget_s"), float, low=0.0),
        min_rounds=_number("measure.min_rounds", given.get("min_rounds"), int, low=1),
        max_rounds=_number("measure.max_rounds", given.get("max_rounds"), int, low=1),
        min_sample_s=_number("measure.min_sample_s", given.get("min_sample_s"), float, low=0.0),
        num_processes=_number(
            "measure.num_processes", given.get("num_processes", 1), int, low=1, high=1000
        ),
    )
    if stopping.max_rounds < stopping.min_rounds:
        raise ConfigError(
            f"measure.max_rounds={stopping.max_rounds} is below "
            f"measure.min_rounds={stopping.min_rounds}. Raise the one or lower the other."
        )
    return stopping


def _read_run(given: dict[str, Any]) -> RunConfig:
    _refuse_unknown("run", given, [f.name for f in fields(RunConfig)])
    return RunConfig(
        timeout_s=_number("run.timeout_s", given.get("timeout_s"), float, low=0.1),
        task_timeout_s=_number("run.task_timeout_s", given.get("task_timeout_s"), float, low=0.1),
        allocator=_word("run.allocator", given.get("allocator"), tuple(ALLOCATORS)),
    )


def _mapping(config: dict[str, Any], name: str) -> dict[str, Any]:
    given = config.get(name)
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError(f"{name} is {given!r}; it has keys of its own, e.g. {name}.KEY=VALUE.")
    return given


def _refuse_unknown(section: str, given: dict[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{section}.{name} is not a key. {did_you_mean(name, known)}")


def _of_type(name: str, value: Any, kind: type[T]) -> T:
    if isinstance(value, list):
        raise ConfigError(f"{name} is the list {value}; it takes one value.")
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        kinds = {bool: "true or false", str: "a name", int: "a whole number", float: "a number"}
        raise ConfigError(f"{name} is {value!r}; it takes {kinds[kind]}.")
    return value


def _number(name: str, value: Any, kind: type[T], *, low: Any, high: Any = None) -> T:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    number = _of_type(name, float(value) if kind is float and is_whole else value, kind)
    if not number >= low:  # NaN fails as well
        raise ConfigError(f"{name} is {value!r}; it must be {low} or more.")
    if high is not None and number > high:
        bound = f"{high:g}" if isinstance(high, float) else high
        raise ConfigError(f"{name} is {value!r}; it must be {bound} or less.")
    return number


def read_number(name: str, value: Any, *, low: float, high: float = float("inf")) -> float:
    """A key that takes a number within bounds."""
    return _number(name, value, float, low=low, high=high)


def _word(name: str, value: Any, allowed: Sequence[str]) -> str:
    word = _of_type(name, value, str)
    if word not in allowed:
        raise ConfigError(f"{name}={word} is not known. {did_you_mean(word, allowed)}")
    return word


def torch_device(name: str, value: Any) -> str:
    """A torch device, or ``auto``."""
    found = text(name, value)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", found):
        hint = did_you_mean(found, ("auto", "cpu", "cuda", "cuda:0", "cuda:1"))
        raise ConfigError(f"{name}={found} is not known. {hint}")
    return found
