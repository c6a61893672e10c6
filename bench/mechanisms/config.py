"""What the comparison was asked for, checked; see conf/mechanisms.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.app.errors import ConfigError, did_you_mean
from bench.config import DTYPES, AttentionEntry, axis, one, read_attention_entries, read_number
from bench.worker.launch import ALLOCATORS

MODES = ("forward", "forward_backward")


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long something is timed.

    Attributes:
        min_rounds: taken whatever they cost, and, where calls are short, so many processes; with
            fewer than six there is no interval.
        max_rounds: never exceeded.
        budget_s: seconds of rounds per member.
        min_sample_s: a sample repeats the call until it lasts this long.
        softmax_s: seconds of softmax attention, above which it is timed in fewer rounds than
            `min_rounds`, in two at least.
    """

    min_rounds: int
    max_rounds: int
    budget_s: float
    min_sample_s: float
    softmax_s: float


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all calls share."""

    batch_size: int
    num_heads: int
    head_dim: int
    dtype: str


@dataclass(frozen=True, kw_only=True)
class MechanismsConfig:
    """Everything that `bench.mechanisms` was asked for.

    Attributes:
        report: write the page from what is stored, and measure nothing.
        fresh: measure again what is stored.
        again: measure again, of what is stored, the units whose words hold these; None for none.
        max_minutes: no measurement begins that is expected to end later.
        results: the folder above ``mechanisms``, where calibrations are.
    """

    attention: tuple[AttentionEntry, ...]
    shape: Shape
    seq_len: tuple[int, ...]
    mode: tuple[str, ...]
    causal: tuple[bool, ...]
    num_threads: tuple[int, ...]
    allocator: tuple[str, ...]
    effort: Effort
    report: bool
    fresh: bool
    again: str | None
    max_minutes: float
    timeout_s: float
    results: Path
    page: Path

    @property
    def out(self) -> Path:
        """Where the data is."""
        return self.results / "mechanisms"

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what a number means: measurements that differ in it do not mix."""
        names = ("attention", "shape", "seq_len", "mode", "causal", "num_threads", "allocator")
        everything = asdict(self)
        return {name: everything[name] for name in (*names, "effort")}


def read_mechanisms_config(config: Mapping[str, Any]) -> MechanismsConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    given = dict(config)
    entries = tuple(read_attention_entries(given.get("attention")))
    if not entries:
        raise ConfigError("attention is empty. Name one entry or more, e.g. attention=[nala].")
    return MechanismsConfig(
        attention=entries,
        shape=Shape(
            batch_size=_count("batch_size", given.get("batch_size")),
            num_heads=_count("num_heads", given.get("num_heads")),
            head_dim=_count("head_dim", given.get("head_dim")),
            dtype=_word("dtype", given.get("dtype"), DTYPES),
        ),
        seq_len=tuple(sorted(_count("seq_len", value) for value in _values(given, "seq_len"))),
        mode=tuple(_word("mode", value, MODES) for value in _values(given, "mode")),
        causal=tuple(_flag("causal", value) for value in _values(given, "causal")),
        num_threads=tuple(_count("num_threads", v) for v in _values(given, "num_threads")),
        allocator=tuple(
            _word("allocator", value, tuple(ALLOCATORS)) for value in _values(given, "allocator")
        ),
        effort=_effort(given.get("effort")),
        report=one(given, "report", bool),
        fresh=one(given, "fresh", bool),
        again=None if given.get("again") is None else one(given, "again", str),
        max_minutes=read_number("max_minutes", given.get("max_minutes"), low=0.0),
        timeout_s=read_number("timeout_s", given.get("timeout_s"), low=0.1),
        results=Path(one(given, "out", str)),
        page=Path(one(given, "page", str)),
    )


def _effort(given: Any) -> Effort:
    if not isinstance(given, dict):
        raise ConfigError(f"effort is {given!r}; it has keys of its own, e.g. effort.KEY=VALUE.")
    effort = Effort(
        min_rounds=_count("effort.min_rounds", given.get("min_rounds")),
        max_rounds=_count("effort.max_rounds", given.get("max_rounds")),
        budget_s=read_number("effort.budget_s", given.get("budget_s"), low=0.0),
        min_sample_s=read_number("effort.min_sample_s", given.get("min_sample_s"), low=0.0),
        softmax_s=read_number("effort.softmax_s", given.get("softmax_s"), low=0.0),
    )
    if effort.max_rounds < effort.min_rounds:
        raise ConfigError(
            f"effort.max_rounds={effort.max_rounds} is below "
            f"effort.min_rounds={effort.min_rounds}. Raise the one or lower the other."
        )
    return effort


def _values(config: dict[str, Any], name: str) -> list[Any]:
    values = axis(config, name)
    if not values:
        raise ConfigError(f"{name}=[] leaves nothing to measure. Give one value or more.")
    return values


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} is {value!r}; it takes a whole number of 1 or more.")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; it takes true or false, or both in a list.")
    return value


def _word(name: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise ConfigError(f"{name}={value} is not known. {did_you_mean(str(value), known)}")
    return str(value)
