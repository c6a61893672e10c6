"""What came out of a cell. The halves of the harness meet here and in `cell`; imports no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Required

from annotated_types import Interval, Len
from typing_extensions import TypedDict

from bench.app.limits import (
    MAX_LINE_BYTES,
    Amount,
    Count,
    Digest,
    Duration,
    Flops,
    Instant,
    Name,
    Number,
    Plain,
    Seconds,
    Share,
    Size,
    Text,
    check_shape,
    checked,
    like,
    one_of,
    parsed,
)
from bench.app.texts import make_visible
from bench.cell import Cell, KernelWorkload
from bench.machine.facts import EnvironmentFacts

SCHEMA_VERSION = 2
"""Raised when a field changes; the reader of the old form is kept.

2: `Speed` says which entry its reference is, which process took each sample, and what else was
timed in the same rounds. Before that the reference was softmax, and there was one process.
"""

METHOD_VERSION = 2
"""Raised when a change of the harness can move a number; numbers are not compared across it.

2: `forward` is timed instead of a checked call, and workers set no wait policy for threads.
"""


REFERENCE = "softmax"
"""The mechanism, and the label, that rows are compared with unless `reference` says otherwise."""


MAX_SAMPLES = 10_000_000
"""Of one record; a sweep takes a million rounds in each process at most."""

Samples = Annotated[tuple[Seconds, ...], Len(0, MAX_SAMPLES)]
Numbers = Annotated[tuple[Count, ...], Len(0, MAX_SAMPLES)]
TokenCount = Annotated[str, like(r"[1-9]\d{0,9}", "a number of tokens")]


class Status(StrEnum):
    """How a planned cell ended. Nothing else can happen to one."""

    OK = "ok"
    SKIPPED = "skipped"
    OUT_OF_MEMORY = "out_of_memory"
    INCORRECT = "incorrect"
    DIVERGED = "diverged"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What was observed of a kernel cell.

    Attributes:
        latency_s: seconds per call, one entry per sample.
        rounds: the round in which each sample was taken.
        processes: the process in which each sample was taken; empty where there was one.
        rounds_key: the same for all that were timed in the same rounds.
        reference: label of the entry that this one is compared with.
        reference_key: the key of its cell.
        reference_latency_s: the reference's samples of the same rounds; empty if it did not run.
        reference_rounds: the round of each of them.
        calls_per_sample: calls inside one sample, averaged by division; of the first process.
        calls_per_set: how often one sample uses the same inputs, at most; 1 is never twice. None if
            that is not known.
        warmup_s: calls before the rounds, kept apart; of all processes.
        first_call_s: the first call in a fresh worker.
        order_seed: seeds the order of members in each round.
        stop_reason: ``precise`` if the interval met its target, ``budget`` or ``rounds`` if not.
        flops: what the mathematics of this mode needs; None if the mechanism has no formula.
        executed_flops: what this implementation does, by its formula.
        counted_flops: what torch's counter saw, with the CPU mapping it lacks.
        fvcore_flops: fvcore's multiply-adds times two, forward only.
        fvcore_unsupported: operators that fvcore did not count, with their number.
        elementwise_elements: elements written by operators that no counter prices.
        num_operators: operators dispatched in one call.
        peak_memory_bytes: allocation peak of one call above its inputs; None if not measurable.
        peak_rss_bytes: growth of the process's resident size at the peak of one call; None on an
            accelerator, where the system does not tell, and below `memory.MIN_RSS_BYTES`.
        saved_for_backward_bytes: kept by autograd between forward and backward.
        num_parameters: learnable values of what was timed.
        tokens_per_call: queries of a call over the batch, padding apart.
        max_error, rms_error: against the float64 oracle, relative to its largest value and norm.
        oracle: what the output was checked against: ``softmax``, ``reference``, or ``itself`` for a
            mechanism without a slow form.
        checked_len: sequence length at which it was; None if that is not known.
        checked_share: share of the query rows that were compared there.
        is_view: whether the output shares memory with an input.
        leaks_future: whether later keys and values change earlier outputs of a causal form.
        flops_off: counted FLOPs over those of the formula, where the two contradict each other.
        is_foreign: whether a plugin brought the mechanism.
        cpu_per_wall: CPU time over wall time of a one-thread member's samples; None where neither
            is known.
        compile_s: what the compiler took; None where nothing is compiled.
        state_bytes: what the past takes at this context length, in modes that keep a state.
        load: foreign load while the rounds ran, see `bench.measure.load.between`; of several
            processes, in the one with the most.
        is_noisy: whether that was too much, and stayed so when the block was timed again.
    """

    latency_s: Annotated[Samples, Len(1)]
    rounds: Numbers
    processes: Numbers = ()
    rounds_key: Text = ""
    reference: Name = REFERENCE
    reference_key: Digest = ""
    reference_latency_s: Samples = ()
    reference_rounds: Numbers = ()
    calls_per_sample: Size = 1
    calls_per_set: Size | None = None
    warmup_s: Annotated[tuple[Duration, ...], Len(0, MAX_SAMPLES)] = ()
    first_call_s: Duration | None = None
    order_seed: Count = 0
    stop_reason: Annotated[str, one_of("", "precise", "budget", "rounds", "interrupted")] = ""
    flops: Flops | None = None
    executed_flops: Flops | None = None
    counted_flops: Flops | None = None
    fvcore_flops: Flops | None = None
    fvcore_unsupported: Annotated[dict[Text, Count], Len(0, 1000)] = field(default_factory=dict)
    elementwise_elements: Count | None = None
    num_operators: Count | None = None
    peak_memory_bytes: Count | None = None
    peak_rss_bytes: Count | None = None
    saved_for_backward_bytes: Count | None = None
    num_parameters: Count | None = None
    tokens_per_call: Count = 0
    max_error: Amount | None = None
    rms_error: Amount | None = None
    oracle: Annotated[str, one_of("", "softmax", "reference", "itself")] = ""
    checked_len: Size | None = None
    checked_share: Share = 1.0
    is_view: bool = False
    leaks_future: bool = False
    flops_off: Amount | None = None
    is_foreign: bool = False
    cpu_per_wall: Amount | None = None
    compile_s: Duration | None = None
    state_bytes: Count | None = None
    load: Annotated[dict[Text, Number], Len(0, 100)] = field(default_factory=dict)
    is_noisy: bool = False

    @property
    def contradiction(self) -> str | None:
        """What in it cannot be true together, as a sentence; None if all can."""
        if len(self.latency_s) != len(self.rounds):
            return f"latency_s has {len(self.latency_s)} samples and {len(self.rounds)} rounds"
        if self.processes and len(self.processes) != len(self.rounds):
            return f"latency_s has {len(self.rounds)} samples of {len(self.processes)} processes"
        num_beside = len(self.reference_latency_s)
        if num_beside != len(self.reference_rounds):
            rounds = len(self.reference_rounds)
            return f"reference_latency_s has {num_beside} samples and {rounds} rounds"
        return None


class Filtered(TypedDict, total=False):
    """A trained model that saw a part of its tokens, without fine-tuning.

    With `reason`, a sentence, where the mechanism cannot be filtered so; else with the rest:
    `num_tokens` that were kept; `flops` of all blocks for one example; seconds of a batch's
    forward, with the choice of tokens, and of the whole model's, in rounds of one after the other.
    """

    filter: Required[Name]
    keep: Required[Share]
    reason: Text
    num_tokens: Size
    accuracy: Amount
    flops: Count
    latency_s: Annotated[list[Seconds], Len(0, 1000)]
    unfiltered_latency_s: Annotated[list[Seconds], Len(0, 1000)]


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was observed of a task cell.

    Attributes:
        accuracy: the score on unseen examples, between 0 and 1; or in `unit`, less being better.
        chance: what the stated guess scores.
        guess: the rule of that guess, in words.
        num_examples: unseen examples, or answers, that were scored.
        num_parameters: of the whole model.
        losses: training loss, evenly spaced over the run.
        train_s: wall time of training; not a timing to compare, since runs may share the machine.
        unit: what the score counts, such as ``bits per byte``; empty for a share of right answers.
        gates: what the backbone's layer projects from the tokens for the mechanism, beside queries,
            keys and values; empty for one that takes no gates, or owns its projections.
        collapsed: whether, in any layer, nearly all features of the keys of a test batch lay at the
            floor that the mechanism adds to them; None for a mechanism without one.
        causal: whether a token saw only those before it; None in records from before this was kept.
        leaks_future: whether, in a causal task, later tokens change what the first layer's
            mechanism gave before.
        ended: ``ceiling`` or ``plateau`` of a run that settled; ``maximum`` of one that still
            improved when its steps were spent; empty in records from before this was looked at.
        num_steps: parameter updates until then.
        steps_to_90: after which 90 % of the validation answers were right for the first time.
        validation_steps, validation: the score on validation examples, and after which steps.
        plateaus: scores at which models halt that learned a part of the task, by what they learned.
        longer: scores on test examples longer than those trained on, by their number of tokens.
        filtered: what the same model does with fewer tokens, one for each filter and share kept.
        state_bytes: what all layers keep of one example to continue it, of a causal task.
        flops: of all blocks for one example, forward, by formula.
        matched: the size that was set so that this model costs what the others do, and its value;
            empty where none was.
    """

    accuracy: Amount
    chance: Amount
    guess: Text
    num_examples: Size
    num_parameters: Count
    losses: Annotated[tuple[Number, ...], Len(0, MAX_SAMPLES)] = ()
    train_s: Duration | None = None
    unit: Text = ""
    gates: Annotated[tuple[Name, ...], Len(0, 100)] = ()
    collapsed: bool | None = None
    causal: bool | None = None
    leaks_future: bool = False
    ended: Annotated[str, one_of("", "ceiling", "plateau", "maximum")] = ""
    num_steps: Count | None = None
    steps_to_90: Count | None = None
    validation_steps: Numbers = ()
    validation: Annotated[tuple[Amount, ...], Len(0, MAX_SAMPLES)] = ()
    plateaus: Annotated[dict[Text, Amount], Len(0, 100)] = field(default_factory=dict)
    longer: Annotated[dict[TokenCount, Amount], Len(0, 100)] = field(default_factory=dict)
    filtered: Annotated[tuple[Filtered, ...], Len(0, 1000)] = ()
    state_bytes: Count | None = None
    flops: Count | None = None
    matched: Text = ""

    @property
    def contradiction(self) -> str | None:
        """What in it cannot be true together, as a sentence; None if all can."""
        if len(self.validation) != len(self.validation_steps):
            steps = len(self.validation_steps)
            return f"validation has {len(self.validation)} scores at {steps} steps"
        scores = [self.accuracy, self.chance, *self.validation]
        scores += [*self.plateaus.values(), *self.longer.values()]
        scores += [row["accuracy"] for row in self.filtered if "accuracy" in row]
        if not self.unit and max(scores) > 1:
            return f"a share of right answers is {max(scores)!r}; it is 1 at most"
        return None

    @property
    def has_settled(self) -> bool:
        """Whether more steps would hardly have changed the score; taken on trust if unknown."""
        return self.ended != "maximum"


Result = Speed | Quality


@dataclass(frozen=True, kw_only=True)
class Record:
    """One planned cell and how it ended.

    Attributes:
        result: present exactly when the status is ``ok``.
        reason: present exactly when it is not: a sentence for the table.
        detail: the text of a traceback or a worker's last words, if there were any; like `reason`
            it is made printable, and is bounded, whatever it was made of.
        environment: machine, versions and commit, as `Environment.to_dict` gives them.
        freshness: with what it was measured; see `bench.machine.environment.freshness`.
        started_at: UTC, ISO 8601.
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

    def __post_init__(self) -> None:
        make_visible(self)
        is_ok = self.status is Status.OK
        if is_ok != (self.result is not None) or is_ok != (self.reason is None):
            raise ValueError(
                f"A record of status {self.status} has result={self.result is not None} and "
                f"reason={self.reason!r}; ok has a result and no reason, every other a reason only."
            )

    def to_json(self) -> str:
        """One line; it ends with a digest of what stands before it."""
        cell = self.cell.to_dict()
        result: dict[str, Any] | None = None
        if self.result is not None:
            kind = "speed" if isinstance(self.result, Speed) else "quality"
            result = {"kind": kind} | asdict(self.result)
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
    """A result whose rounds are the objects that the ones before it have.

    A block has one set of rounds, as a sweep has one environment: apart, they are half of a store.
    """
    return replace(
        speed,
        rounds=_same_rounds(speed.rounds),
        reference_rounds=_same_rounds(speed.reference_rounds),
        reference_latency_s=_same_samples(speed.reference_latency_s),
    )


@lru_cache(maxsize=64)
def _environment(text: str) -> dict[str, Any]:
    """An environment that may be one, checked once: all records of a sweep have the same."""
    environment: dict[str, Any] = json.loads(text)
    check_shape(_WithEnvironment, {"environment": environment})
    check_shape(EnvironmentFacts, environment)
    return environment


@lru_cache(maxsize=256)
def _same_rounds(rounds: tuple[int, ...]) -> tuple[int, ...]:
    return rounds


@lru_cache(maxsize=256)
def _same_samples(samples: tuple[float, ...]) -> tuple[float, ...]:
    return samples


class _WithEnvironment(TypedDict):
    environment: Plain


class NewerSchema(ValueError):
    """A line that is no damage: a newer attnbench wrote it."""


def _with_digest(text: str) -> str:
    """A line, from all of it but its last field and its end."""
    return f'{text},"digest":"{hashlib.sha256(text.encode()).hexdigest()[:16]}"}}'


def unfit(result: Result) -> str | None:
    """Why no record can hold a result, as a sentence; None if one can."""
    try:
        checked(type(result), {f.name: getattr(result, f.name) for f in fields(result)})
    except ValueError as error:
        return str(error)
    return result.contradiction


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
