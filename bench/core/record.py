"""Records: results of cells. Measuring writes them, publishing reads them; no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from bench.core.cell import Cell, KernelWorkload
from bench.core.cli.limits import (
    MAX_LINE_BYTES,
    Digest,
    Duration,
    Instant,
    Plain,
    Text,
    check_shape,
    checked,
    parsed,
)
from bench.core.cli.texts import make_visible
from bench.core.facts import EnvironmentFacts
from bench.core.facts import Filtered as Filtered
from bench.core.observed import REFERENCE as REFERENCE
from bench.core.observed import Quality as Quality
from bench.core.observed import Result as Result
from bench.core.observed import Speed as Speed
from bench.core.observed import unfit as unfit

SCHEMA_VERSION = 2
"""Raised when a field changes; the reader of the old form is kept.

2: `Speed` says which entry its reference is, which process took each sample, and what else was
timed in the same rounds. Before that the reference was softmax, and there was one process.
"""

METHOD_VERSION = 3
"""Raised when a change of the harness can move a number; numbers are not compared across it.

2: `forward` is timed instead of a checked call, and workers set no wait policy for threads.
3: mechanisms with gates are timed with them; softmax with num_kv_heads copies no keys.
"""


TRAINING_VERSION = 1
"""Raised when a change of examples, model, recipe or scoring can move a trained score.

A run of the same cell and version stays valid on any machine, whatever else has changed. Records
without this field are of version 1.

1: a plateau may end a run whose learning rate is still high, or one below a partial solution.
From 2 on it does not, see `bench.measuring.tasks.ending`.
"""


_LATER_FIELDS = (
    *("leaked_bytes", "ceiling", "kept_share", "sdpa_kernel", "energy_per_call_j"),
    *("num_gate_values", "fresh_speedup", "rungs", "rung_of"),
)
"""Fields that older lines lack; left out if None or empty: such lines are written as they were."""

_FIELDS_IN_ORDER = """
latency_s rounds processes rounds_key reference reference_key reference_latency_s reference_rounds
calls_per_sample calls_per_set warmup_s first_call_s order_seed stop_reason flops executed_flops
counted_flops fvcore_flops fvcore_unsupported elementwise_elements num_operators peak_memory_bytes
peak_rss_bytes leaked_bytes saved_for_backward_bytes num_parameters num_gate_values tokens_per_call
max_error rms_error oracle checked_len checked_share is_view leaks_future flops_off is_foreign
cpu_per_wall compile_s state_bytes kept_share load is_noisy ceiling sdpa_kernel fresh_speedup
energy_per_call_j
"""
"""Order of a timing's fields in a line: a digest is of the text, and a record that is written again
shall get the same."""


class Status(StrEnum):
    """How a planned cell ended; each ends in exactly one of these ways."""

    OK = "ok"
    SKIPPED = "skipped"
    OUT_OF_MEMORY = "out_of_memory"
    INCORRECT = "incorrect"
    DIVERGED = "diverged"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One planned cell and how it ended.

    Attributes:
        result: present exactly when the status is ``ok``.
        reason: present exactly when it is not: a sentence for the table.
        detail: text of a traceback or the worker's last output, if there is any; like `reason`,
            it is made printable and bounded in length.
        environment: machine, versions and commit, as `Environment.to_dict` gives them.
        freshness: hash of what it was measured with, as
            `bench.measuring.machine.environment.freshness` gives it.
        started_at: UTC, ISO 8601.
        training_version: `TRAINING_VERSION` of the run, for a cell that trains.
        cost_s: seconds this cell took, by kind of work: ``measured`` is the time inside timed
            calls, memory and FLOP passes or training; ``total`` is everything.
    """

    cell: Cell
    status: Status
    reason: str | None = None
    result: Result | None = None
    detail: str | None = None
    environment: Plain = field(default_factory=dict)
    freshness: Digest = ""
    started_at: Instant = ""
    cost_s: Annotated[dict[Text, Duration], Len(0, 100)] = field(default_factory=dict)
    sweep: Text = ""
    schema_version: Annotated[int, Interval(ge=1)] = SCHEMA_VERSION
    method_version: Annotated[int, Interval(ge=1, le=10_000)] = METHOD_VERSION
    training_version: Annotated[int, Interval(ge=1, le=10_000)] = 1

    def __post_init__(self) -> None:
        make_visible(self)
        is_ok = self.status is Status.OK
        if is_ok != (self.result is not None) or is_ok != (self.reason is None):
            raise ValueError(
                f"A record of status {self.status} has result={self.result is not None} and "
                f"reason={self.reason!r}; ok has a result and no reason, every other a reason only."
            )

    def to_json(self) -> str:
        """One line, which ends with a digest of everything before it."""
        cell = self.cell.to_dict()
        result: dict[str, Any] | None = None
        if self.result is not None:
            kind = "speed" if isinstance(self.result, Speed) else "quality"
            told = asdict(self.result)
            first = _FIELDS_IN_ORDER.split() if kind == "speed" else ()
            result = {"kind": kind} | {name: told[name] for name in dict.fromkeys([*first, *told])}
            for name in _LATER_FIELDS:
                if result.get(name, 0) in (None, "", {}):
                    del result[name]
        line = {
            "entry": cell.pop("entry"),
            "key": self.cell.key,
            "cell": cell,
            "status": str(self.status),
            "reason": self.reason,
            "result": result,
            "detail": self.detail,
            "environment": self.environment,
            "freshness": self.freshness,
            "started_at": self.started_at,
            "cost_s": self.cost_s,
            "sweep": self.sweep,
            "schema_version": self.schema_version,
            "method_version": self.method_version,
            "training_version": self.training_version,
        }
        text = json.dumps(line, separators=(",", ":"), allow_nan=False)[:-1]
        return _with_digest(text)

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """The inverse of `to_json`.

        Raises:
            NewerSchema: a newer attnbench wrote it.
            ValueError: not a record, or a field that is not what its annotation says.
        """
        if len(text) > MAX_LINE_BYTES:
            raise ValueError(f"it is longer than {MAX_LINE_BYTES:,} bytes")
        text = text.decode() if isinstance(text, bytes) else text
        line = parsed(text)
        if not isinstance(line, dict):
            raise ValueError("it is no JSON object")
        version = line.get("schema_version")
        if type(version) is int and version > SCHEMA_VERSION:
            raise NewerSchema(
                f"a newer attnbench wrote it: schema {version}, and this one reads up to "
                f"{SCHEMA_VERSION}; update attnbench"
            )
        for name in ("entry", "key", "cell", "status", "environment", "schema_version"):
            if name not in line:
                raise ValueError(f"{name} is missing")
        if not isinstance(line["cell"], dict):
            raise ValueError("cell is no JSON object")
        cell = Cell.from_dict(line["cell"] | {"entry": line["entry"]})
        if line["key"] != cell.key:
            raise ValueError(f"key is {ascii(line['key'])[:80]}, and {cell.key} that of its cell")
        status = Status(line["status"])
        result = _result_from(line.get("result"), cell)
        environment = _environment(json.dumps(line["environment"]))
        built = {"cell": cell, "status": status, "result": result, "environment": {}}
        record = checked(cls, line | built)
        if "digest" in line and text.rstrip() != _with_digest(text.rpartition(',"digest":')[0]):
            raise ValueError(
                "it was changed after it was written, as its digest says; take the digest out of "
                "the line if that is meant"
            )
        return replace(record, environment=environment)


def _sharing(speed: Speed) -> Speed:
    """A result that shares its rounds with equal ones read before.

    All members of a block have the same rounds: copies of them would take half of a store's memory.
    """
    return replace(
        speed,
        rounds=_same(int, speed.rounds),
        reference_rounds=_same(int, speed.reference_rounds),
        reference_latency_s=_same(float, speed.reference_latency_s),
    )


@lru_cache(maxsize=64)
def _environment(text: str) -> dict[str, Any]:
    """Parse and check an environment, once for all records of a sweep, which have the same."""
    environment: dict[str, Any] = json.loads(text)
    check_shape(_WithEnvironment, {"environment": environment})
    check_shape(EnvironmentFacts, environment)
    return environment


@lru_cache(maxsize=512)
def _same(kind: type, numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    """The first tuple of equal ones; `kind` is that of its numbers, as (1, 2) equals (1.0, 2.0)."""
    return numbers


class _WithEnvironment(TypedDict):
    environment: Plain


class NewerSchema(ValueError):
    """A line that is not damaged: a newer attnbench wrote it."""


def _with_digest(text: str) -> str:
    """Complete a line that lacks only its last field, the digest, and the closing brace."""
    return f'{text},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'


def _result_from(flat: Any, cell: Cell) -> Result | None:
    if flat is None:
        return None
    wanted = "quality" if cell.is_task else "speed"
    if not isinstance(flat, dict) or flat.get("kind") != wanted:
        raise ValueError(f"result is not of kind {wanted}, as its cell is")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}
    kind: type[Result] = Quality if cell.is_task else Speed
    result = checked(kind, values)
    workload = cell.workload
    wrong = workload.contradiction if isinstance(workload, KernelWorkload) else None
    if wrong := result.contradiction or wrong:
        raise ValueError(wrong)
    return _sharing(result) if isinstance(result, Speed) else result
