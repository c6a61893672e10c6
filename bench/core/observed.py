"""Observations of a cell: a speed, or a quality. Types and bounds; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated

from annotated_types import Len

from bench.core.cli.limits import (
    Amount,
    Count,
    Digest,
    Duration,
    Flops,
    Name,
    Number,
    Seconds,
    Share,
    Size,
    Text,
    checked,
    like,
    one_of,
)
from bench.core.facts import NOTHING_LEFT, Ceiling, Filtered, level_of, why_no_filter

REFERENCE = "softmax"
"""The mechanism, and the label, that rows are compared with unless `reference` says otherwise."""

CONTROLS = ("uniform", "none")
"""Mechanisms that show what a score is worth: they may stay at chance, and are never ranked."""

MAX_SAMPLES = 10_000_000
"""Largest number of samples in a record; a sweep takes a million rounds in each process at most."""

SOLVED = 0.9
"""Share of right answers from which a task, or a length of its examples, is solved."""

Samples = Annotated[tuple[Seconds, ...], Len(0, MAX_SAMPLES)]
Numbers = Annotated[tuple[Count, ...], Len(0, MAX_SAMPLES)]
Packed = Annotated[
    str, Len(0, 2**24), like(r"[A-Za-z0-9+/]*={0,2}", "base64 of a compressed sequence")
]
Oracle = Annotated[str, one_of("", "softmax", "reference", "itself")]
TokenCount = Annotated[str, like(r"[1-9]\d{0,9}", "a number of tokens")]


@dataclass(frozen=True)
class Meaning:
    """Description of an observed number that has a column of its own.

    Attributes:
        words: a sentence; the unit is in the field's name.
        better: ``lower``, or None where neither direction is better.
    """

    words: str
    better: str | None = None


def lower(words: str) -> Meaning:
    """Meaning of a number of which less is better."""
    return Meaning(words, "lower")


_KEPT = Meaning("Pairs that a sparse mechanism attends to, over those that it may see.")
_PARAMETERS = lower("Learnable values of what was timed, or of the whole model of a task.")
_STATE = lower("What the past takes at this context length, in modes that keep a state.")


@dataclass(frozen=True, kw_only=True, slots=True)
class CallFacts:
    """Observations of one call outside of the rounds. Fields with a `Meaning` are described there.

    A worker sends these; a new one is a field here and a value in `bench.measuring.worker.trial`.

    Attributes:
        flops, executed_flops: of this mode; None if the mechanism has no formula.
        counted_flops: includes the CPU's fused attention, which torch's counter lacks.
        fvcore_unsupported: operators that fvcore did not count, with their number.
        peak_memory_bytes: None if not measurable.
        peak_rss_bytes: None on an accelerator, and where the system does not report it. Older
            records have it only from 30 MiB of `peak_memory_bytes` on.
        leaked_bytes: what the process keeps of each call; None where the system does not report it.
        tokens_per_call: queries of a call over the batch, without padding.
        max_error, rms_error: of the output against the float64 oracle.
        oracle: what the output was checked against: ``softmax``, ``reference``, or ``itself`` for a
            mechanism without a slow form.
        checked_len: sequence length of that check; None if not known.
        checked_share: share of the query rows that were compared there.
        is_view: whether the output shares memory with an input.
        leaks_future: whether later keys and values change earlier outputs of a causal form.
        flops_off: counted FLOPs over those of the formula, where the two contradict each other.
        is_foreign: whether the mechanism comes from a plugin.
        kept_share: pairs that a sparse mechanism attended to, over those that it may see; of the
            last query in mode ``decode``. None for others.
        fresh_speedup: its speed-up in the trial's process, before anything larger ran there; None
            if not timed, see `bench.measuring.worker.fresh`.
        sdpa_kernel: implementations that `scaled_dot_product_attention` chose in one call, such as
            ``flash``; None where it is not called, and in older records.
        energy_per_call_j: energy of one call in joules by the card's own meter, idle power
            included; None on a CPU and for a card without a meter.
    """

    first_call_s: Annotated[
        Duration | None,
        lower("Seconds of the first call in a fresh process: what a user waits for once."),
    ] = None
    flops: Annotated[
        Flops | None,
        lower(
            "FLOPs that the mathematics of one call needs, two per multiply-add; no elementwise "
            "work."
        ),
    ] = None
    executed_flops: Annotated[
        Flops | None, lower("FLOPs that this implementation executes, by its formula.")
    ] = None
    counted_flops: Annotated[Flops | None, lower("FLOPs that torch's counter saw.")] = None
    fvcore_flops: Annotated[
        Flops | None,
        lower("FLOPs of the forward pass that fvcore saw: its multiply-adds, doubled."),
    ] = None
    fvcore_unsupported: Annotated[dict[Text, Count], Len(0, 1000)] = field(default_factory=dict)
    elementwise_elements: Annotated[
        Count | None, lower("Elements written by operators that no FLOP counter prices.")
    ] = None
    num_operators: Annotated[Count | None, lower("Operators dispatched in one call.")] = None
    peak_memory_bytes: Annotated[
        Count | None, lower("Allocation peak of one call, above its inputs.")
    ] = None
    peak_rss_bytes: Annotated[
        Count | None,
        lower("Growth of resident memory in one call, a check on the allocation peak."),
    ] = None
    leaked_bytes: Count | None = None
    saved_for_backward_bytes: Annotated[
        Count | None, lower("What autograd keeps between forward and backward.")
    ] = None
    num_parameters: Annotated[Count | None, _PARAMETERS] = None
    num_gate_values: Count | None = None
    tokens_per_call: Count = 0
    max_error: Annotated[
        Amount | None, lower("Largest difference, relative to the oracle's largest value.")
    ] = None
    rms_error: Annotated[
        Amount | None, lower("Norm of the difference, relative to the oracle's norm.")
    ] = None
    oracle: Oracle = ""
    checked_len: Size | None = None
    checked_share: Share = 1.0
    is_view: bool = False
    leaks_future: bool = False
    flops_off: Amount | None = None
    is_foreign: bool = False
    compile_s: Annotated[
        Duration | None, lower("Seconds that the compiler took; None where nothing is compiled.")
    ] = None
    state_bytes: Annotated[Count | None, _STATE] = None
    kept_share: Annotated[Share | None, _KEPT] = None
    sdpa_kernel: Text | None = None
    fresh_speedup: Amount | None = None
    energy_per_call_j: Annotated[
        Amount | None, lower("Energy of one call by the card's own meter; None on a CPU.")
    ] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed(CallFacts):
    """Observations of a timed cell.

    Attributes:
        latency_s: seconds per call, one entry per sample.
        rounds: the round in which each sample was taken.
        processes: the process in which each sample was taken; empty where there was one.
        rounds_key: equal for all entries that were timed in the same rounds.
        reference: label of the entry that this one is compared with.
        reference_key: key of that entry's cell.
        reference_latency_s: the reference's samples of the same rounds; empty if it did not run.
        reference_rounds: the round of each of them.
        calls_per_sample: calls in one sample, whose time is divided by it; of the first process.
        calls_per_set: largest number of calls of one sample on the same inputs; None if not known.
        warmup_s: seconds of each call before the rounds, in all processes.
        order_seed: seeds the order of members in each round.
        stop_reason: ``precise`` if the interval met its target, else what ended the rounds:
            ``budget``, ``rounds`` or ``interrupted``.
        cpu_per_wall: CPU time over wall time of a one-thread member's samples; None on an
            accelerator and with several threads.
        load: foreign load while the rounds ran, see `bench.measuring.measure.load.between`; with
            several processes, that of the most disturbed one.
        is_noisy: whether that was too much, and stayed so when the block was timed again.
        ceiling: best rates of the device just before these rounds, from some products and copies;
            None if not measured, as where a calibration has them.
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
    order_seed: Count = 0
    stop_reason: Annotated[str, one_of("", "precise", "budget", "rounds", "interrupted")] = ""
    cpu_per_wall: Amount | None = None
    load: Annotated[dict[Text, Number], Len(0, 100)] = field(default_factory=dict)
    is_noisy: Annotated[
        bool, Meaning("Whether others kept the machine too busy, also when it was timed again.")
    ] = False
    ceiling: Ceiling | None = None

    @property
    def paired(self) -> tuple[Samples, Numbers, Samples, Numbers, Numbers]:
        """Arguments of `bench.core.statistics.paired_ratio` for it and its reference."""
        own, reference = self.latency_s, self.reference_latency_s
        return own, self.rounds, reference, self.reference_rounds, self.processes

    @property
    def contradiction(self) -> str | None:
        """First contradiction between its fields, as a sentence; None if there is none."""
        if len(self.latency_s) != len(self.rounds):
            return f"latency_s has {len(self.latency_s)} samples and {len(self.rounds)} rounds"
        if self.processes and len(self.processes) != len(self.rounds):
            return f"latency_s has {len(self.rounds)} samples of {len(self.processes)} processes"
        num_beside = len(self.reference_latency_s)
        if num_beside != len(self.reference_rounds):
            rounds = len(self.reference_rounds)
            return f"reference_latency_s has {num_beside} samples and {rounds} rounds"
        return None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Observations of a task cell.

    Attributes:
        accuracy: the score on unseen examples: between 0 and 1, or in `unit`, where less is better.
        guess: the rule whose score is `chance`, in words.
        losses: training loss, evenly spaced over the run.
        train_s: wall time of training, resumed or not; not to compare: runs may share the machine.
        unit: what the score counts, such as ``bits per byte``; empty for a share of right answers.
        gates: what the backbone's layer projects from the tokens for the mechanism, besides
            queries, keys and values; empty for one without gates, or with its own projections.
        collapsed: whether, in any layer, nearly all features of the keys of a test batch lay at the
            floor that the mechanism adds to them; None for a mechanism without one.
        causal: whether a token saw only itself and earlier ones; None in older records.
        leaks_future: whether, in a causal task, later tokens change earlier outputs of a layer's
            mechanism.
        ended: ``ceiling`` or ``plateau`` if the run settled; ``maximum`` if it was still improving
            after its last step; empty in older records.
        num_steps: parameter updates until then.
        validation_steps, validation: steps after which validation examples were scored, and scores.
        validation_error: half of the 95 % interval of the last of these scores, over the validation
            examples.
        train_accuracy: the score at the end on `bench.measuring.tasks.train.NUM_TRAINED` examples
            of the training set, the same ones for all mechanisms.
        score_error: standard error of `accuracy` over the test examples; answers that belong
            together, such as those of one example, are one cluster.
        answers: which test answers were right, in the order of the test set: bits packed into
            bytes, compressed by zlib, in base64; empty where answers are not right or wrong.
        answers_per_cluster: consecutive answers that form a cluster; None where that differs.
        window_losses: for a score with a unit, the mean loss of each test example in that unit, as
            float16, compressed by zlib, in base64.
        rungs: number of test examples and number of their answers, by rung, in the order of the
            test set; empty for a task without rungs.
        rung_of: the unit of a rung, such as ``pairs``.
        test_set: a digest of the test examples and their answers.
        plateaus: scores of models that learned only a part of the task, by what they learned.
        longer: scores on test examples longer than those trained on, by their number of tokens.
        filtered: the same model on fewer tokens, once for each filter and share kept.
        kept_share: pairs that sparse layers attended to, over those that they may see; None for
            others.
        state_bytes: what all layers keep of one example to continue it, in a causal task.
        flops: of all blocks for one example, forward, by formula.
        matched: the size that was adjusted so that this model costs as much as the others, and its
            value; empty if none was.
    """

    accuracy: Amount
    chance: Annotated[Amount, Meaning("What guessing scores on the same examples.")]
    guess: Text
    num_examples: Annotated[Size, Meaning("Unseen examples, or answers, that were scored.")]
    num_parameters: Annotated[Count, _PARAMETERS]
    losses: Annotated[tuple[Number, ...], Len(0, MAX_SAMPLES)] = ()
    train_s: Annotated[
        Duration | None,
        Meaning("Seconds of training; runs may share the machine, so not a timing to compare."),
    ] = None
    unit: Text = ""
    gates: Annotated[tuple[Name, ...], Len(0, 100)] = ()
    collapsed: Annotated[
        bool | None,
        Meaning("Whether nearly all key features lay at its mechanism's floor; None without one."),
    ] = None
    causal: bool | None = None
    leaks_future: bool = False
    ended: Annotated[str, one_of("", "ceiling", "plateau", "maximum")] = ""
    num_steps: Annotated[Count | None, Meaning("Parameter updates until the run ended.")] = None
    steps_to_90: Annotated[
        Count | None, lower("Parameter updates until 90 % of the validation answers were right.")
    ] = None
    validation_steps: Numbers = ()
    validation: Annotated[tuple[Amount, ...], Len(0, MAX_SAMPLES)] = ()
    validation_error: Amount | None = None
    train_accuracy: Amount | None = None
    score_error: Amount | None = None
    answers: Packed = ""
    answers_per_cluster: Size | None = None
    window_losses: Packed = ""
    rungs: Annotated[dict[TokenCount, Annotated[list[Size], Len(2, 2)]], Len(0, 100)] = field(
        default_factory=dict
    )
    rung_of: Text = ""
    test_set: Digest = ""
    plateaus: Annotated[dict[Text, Amount], Len(0, 100)] = field(default_factory=dict)
    longer: Annotated[dict[TokenCount, Amount], Len(0, 100)] = field(default_factory=dict)
    filtered: Annotated[tuple[Filtered, ...], Len(0, 1000)] = ()
    kept_share: Annotated[Share | None, _KEPT] = None
    state_bytes: Annotated[Count | None, _STATE] = None
    flops: Count | None = None
    matched: Text = ""

    @property
    def contradiction(self) -> str | None:
        """First contradiction between its fields, as a sentence; None if there is none."""
        if len(self.validation) != len(self.validation_steps):
            steps = len(self.validation_steps)
            return f"validation has {len(self.validation)} scores at {steps} steps"
        scores = [self.accuracy, self.chance, *self.validation, self.train_accuracy or 0.0]
        scores += [*self.plateaus.values(), *self.longer.values()]
        scores += [row["accuracy"] for row in self.filtered if "accuracy" in row]
        if not self.unit and max(scores) > 1:
            return f"a share of right answers is {max(scores)!r}; it is 1 at most"
        if wrong := next(filter(None, map(why_no_filter, self.filtered)), None):
            return wrong
        if self.rungs and sum(answers for _, answers in self.rungs.values()) != self.num_examples:
            return f"the answers of all rungs are not num_examples={self.num_examples}"
        if any(answers % examples for examples, answers in self.rungs.values()):
            return "examples of a rung have different numbers of answers"
        return self._why_unreadable() if self.answers or self.window_losses else None

    def _why_unreadable(self) -> str | None:
        """Why answers or losses cannot be unpacked, as a sentence; None if they can."""
        from bench.core.answers import losses_of_examples, right_answers

        try:
            if self.answers:
                right_answers(self.answers, self.num_examples)
            if self.window_losses:
                losses_of_examples(self.window_losses, self.num_examples)
        except ValueError as error:
            return str(error).rstrip(".")
        return None

    @property
    def has_settled(self) -> bool:
        """Whether more steps would hardly have changed the score; true if unknown."""
        return self.ended != "maximum"

    @property
    def stuck_at(self) -> str:
        """The level near which a run is stuck, in words; empty for a run that is not.

        It is stuck if its last validation score lies at the highest of chance and the scores of
        partial solutions, or below: see `level_of`. Scores with a unit have no levels, nor has a
        ladder: what it holds is its score, however little.
        """
        if self.unit or self.rungs or not self.validation:
            return ""
        levels = {"chance": self.chance} | self.plateaus
        return level_of(self.validation[-1], levels, self.validation_error or 0.0)

    @property
    def is_solved(self) -> bool:
        """Whether `SOLVED` or more of the answers are right; false for a score with a unit."""
        return not self.unit and self.accuracy >= SOLVED

    @property
    def has_failed(self) -> bool:
        """Whether a run is stuck, or its score nearer to the highest of these levels than to 1."""
        levels = [level for level in (self.chance, *self.plateaus.values()) if level < NOTHING_LEFT]
        is_low = self.accuracy <= (1 + max(levels, default=0.0)) / 2
        return not (self.unit or self.rungs) and (is_low or bool(self.stuck_at))


Result = Speed | Quality


def unfit(result: Result) -> str | None:
    """Why no record can hold a result, as a sentence; None if one can."""
    try:
        checked(type(result), {f.name: getattr(result, f.name) for f in fields(result)})
    except ValueError as error:
        return str(error)
    return result.contradiction
