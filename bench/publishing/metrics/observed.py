"""Metrics that a record holds already, under the names of their fields."""

from __future__ import annotations

from bench.core.record import Record, Speed
from bench.core.statistics import Value
from bench.publishing.metrics.registry import register_metric

_LOWER = {
    "first_call_s": "Seconds of the first call in a fresh process: what a user waits for once.",
    "compile_s": "Seconds that the compiler took; None where nothing is compiled.",
    "max_error": "Largest difference, relative to the oracle's largest value.",
    "rms_error": "Norm of the difference, relative to the oracle's norm.",
    "peak_memory_bytes": "Allocation peak of one call, above its inputs.",
    "peak_rss_bytes": "Growth of resident memory in one call, a check on the allocation peak.",
    "saved_for_backward_bytes": "What autograd keeps between forward and backward.",
    "state_bytes": "What the past takes at this context length, in modes that keep a state.",
    "executed_flops": "FLOPs that this implementation executes, by its formula.",
    "counted_flops": "FLOPs that torch's counter saw.",
    "fvcore_flops": "FLOPs of the forward pass that fvcore saw: its multiply-adds, doubled.",
    "elementwise_elements": "Elements written by operators that no FLOP counter prices.",
    "num_operators": "Operators dispatched in one call.",
    "energy_per_call_j": "Energy of one call by the card's own meter; None on a CPU.",
    "num_parameters": "Learnable values of what was timed, or of the whole model of a task.",
    "steps_to_90": "Parameter updates until 90 % of the validation answers were right.",
}
_NEITHER = {
    "is_noisy": "Whether others kept the machine too busy, also when it was timed again.",
    "chance": "What guessing scores on the same examples.",
    "num_examples": "Unseen examples, or answers, that were scored.",
    "train_s": "Seconds of training; runs may share the machine, so not a timing to compare.",
    "num_steps": "Parameter updates until the run ended.",
    "collapsed": "Whether nearly all key features lay at its mechanism's floor; None without one.",
}


def _register(name: str, better: str | None, meaning: str) -> None:
    def observed(record: Record) -> Value:
        return getattr(record.result, name, None)

    observed.__doc__ = meaning
    register_metric(name, better=better)(observed)


for _name, _meaning in _LOWER.items():
    _register(_name, "lower", _meaning)
for _name, _meaning in _NEITHER.items():
    _register(_name, None, _meaning)


@register_metric("foreign_cores", better="lower")
def foreign_cores(record: Record) -> float | None:
    """Cores kept busy by others while the rounds ran."""
    return record.result.load.get("foreign_cores") if isinstance(record.result, Speed) else None


@register_metric("power_cap_w")
def power_cap_w(record: Record) -> float | None:
    """Power that the card was limited to while the rounds ran; None on a CPU."""
    return record.result.load.get("power_cap_w_after") if isinstance(record.result, Speed) else None
