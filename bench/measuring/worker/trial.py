"""Trial of one member alone: correctness, memory, FLOPs and energy."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.core.cell import Cell, ModelWorkload
from bench.core.clock import now_s
from bench.measuring.device import device_named
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.outcome import refuse
from bench.measuring.worker.request import Request, library_at
from bench.measuring.worker.results import TrialResult

if TYPE_CHECKING:
    from bench.measuring.measure.flops import FvcoreCount
    from bench.measuring.subject import Subject


_NUM_LEAKING, _LEAKING_S = 4, 1.0
"""Number of calls in the check for leaks, and the most seconds that they may take together."""


def trial(request: Request, channel: Channel) -> TrialResult:
    """Build one member, call it, check it against its oracle, and measure memory and FLOPs.

    Raises:
        Incorrect: its output or its gradients are wrong.
        JobFailed: it has changed state that members of a block share.
    """
    import torch

    from bench.measuring.building import is_foreign
    from bench.measuring.measure import flops, memory
    from bench.measuring.measure.state import Watch
    from bench.measuring.models.oracle import check
    from bench.measuring.models.subject import subject_of
    from bench.measuring.oracle.checking import keep, refuse_uninitialised
    from bench.measuring.runners import compiled_folder
    from bench.measuring.worker.fresh import fresh_speedup

    cell = Cell.from_dict(request["cell"])
    library = library_at(request.get("root"))
    w = cell.timed
    device = device_named(cell.device)
    torch.set_num_threads(cell.num_threads)

    channel.send(step="build")
    shutil.rmtree(compiled_folder(cell), ignore_errors=True)  # the time to compile is measured
    watch = Watch(threads=cell.num_threads == 1 and device.shares_cores)
    watch.begin(cell.entry)
    subject = subject_of(cell, library)
    channel.send(step="first call")
    first_call_s = device.time_calls(subject.call, 1)
    refuse(watch.change(cell.entry))
    compile_s = None
    if w.compile == "inductor":
        compile_s = max(0.0, first_call_s - device.time_calls(subject.call, 1))
    channel.send(step="calls beside the reference")
    fresh = fresh_speedup(subject, request.get("reference"), first_call_s)
    channel.send(step="oracle")
    checked = check(subject)
    if checked.expected is not None:
        keep(cell, checked.expected)
    refuse_uninitialised(subject)
    subject.prepare()

    started = now_s()
    channel.send(step="memory")
    profile = device.profile(subject.call)
    peak_rss = device.resident_peak_bytes(subject.call)
    channel.send(step="leaks")
    num_calls = max(1, min(_NUM_LEAKING, int(_LEAKING_S / max(first_call_s, 1e-6))))
    leaked = device.leaked_bytes(subject.call, num_calls)
    saved = 0
    if w.has_backward:
        first = subject.sets[0]
        saved = memory.saved_for_backward_bytes(lambda: subject.forward(first), subject.parameters)
    channel.send(step="flops")
    if w.compile != "eager":
        subject.eager_call()  # makes its graph or state, so that the count leaves them out
    counts = flops.count(subject.eager_call)
    channel.send(step="energy")
    energy_j = device.energy_j(subject.call)
    measured_s = now_s() - started + first_call_s

    fvcore = _by_fvcore(subject)
    num_gate_values = 0
    if not cell.is_model:
        _, gates = subject.arguments(subject.sets[0])
        num_gate_values = sum(gate.numel() for gate in gates.values())
    num_parameters = sum(p.numel() for p in subject.parameters)
    flops_off = None if cell.is_model else _flops_off(subject)
    useful, executed, num_tokens = _work(subject)
    refuse(watch.change(cell.entry) or watch.last_change())
    return TrialResult(
        first_call_s=first_call_s,
        compile_s=compile_s,
        fresh_speedup=fresh,
        max_error=checked.max_error,
        rms_error=checked.rms_error,
        oracle=checked.oracle,
        checked_len=checked.checked_len,
        checked_share=checked.checked_share,
        is_view=checked.is_view,
        leaks_future=checked.leaks_future,
        flops_off=flops_off,
        is_foreign=is_foreign(cell),
        peak_memory_bytes=profile.peak_bytes,
        peak_rss_bytes=peak_rss,
        leaked_bytes=leaked,
        saved_for_backward_bytes=saved,
        state_bytes=subject.state_bytes(),
        kept_share=_kept_share(subject),
        flops=useful,
        executed_flops=executed,
        tokens_per_call=num_tokens,
        counted_flops=counts.counted_flops,
        elementwise_elements=counts.elementwise_elements,
        num_operators=counts.num_operators,
        fvcore_flops=fvcore.flops,
        fvcore_unsupported=fvcore.unsupported,
        num_parameters=num_parameters,
        num_gate_values=num_gate_values,
        sdpa_kernel=profile.sdpa_kernel,
        energy_per_call_j=energy_j,
        measured_s=measured_s,
    )


def _by_fvcore(subject: Subject) -> FvcoreCount:
    """Count of a forward pass by fvcore; of a model by one image, as if it were evaluated."""
    from bench.measuring.measure.flops import FvcoreCount, count_with_fvcore

    if subject.cell.timed.mode == "decode":
        return FvcoreCount(flops=None)
    given, gates = subject.arguments(subject.sets[0])
    if not subject.cell.is_model:
        return count_with_fvcore(subject.module, given, gates | subject.keywords)
    seen = count_with_fvcore(subject.module.eval(), tuple(x[:1] for x in given))
    total = None if seen.flops is None else subject.cell.model.batch_size * seen.flops
    return replace(seen, flops=total)


def _kept_share(subject: Subject) -> float | None:
    """Share of pairs that a call keeps; of a decode step, that of the last query."""
    from bench.measuring.measure.kept import kept_share

    if subject.cell.is_model:
        return None
    call = partial(subject.run, subject.module, subject.sets[0])
    return kept_share(subject.module, call, last=subject.cell.timed.mode == "decode")


def _work(subject: Subject) -> tuple[int | None, int | None, int]:
    """Useful FLOPs, executed FLOPs and tokens of a call; of a model, counted FLOPs alone.

    A model is moved to meta, and loses its values.
    """
    from bench.measuring.costs.estimate import flops_of
    from bench.measuring.models.subject import forward_flops

    w = subject.cell.timed
    if isinstance(w, ModelWorkload):
        counted = forward_flops(subject.module.to("meta"), w)
        return None if counted is None else w.flops_factor * counted, None, 0
    useful, executed = flops_of(subject.module, w)
    return w.flops_factor * useful, w.flops_factor * executed, w.num_tokens


def _flops_off(subject: Subject) -> float | None:
    """Counted FLOPs over those of a formula that a counter or a slow form refutes; None if none.

    A decode step is counted at a wide state: at a narrow one, the overhead of a chunk would show.
    """
    from attentions.testing.flops import contradiction, prove_form
    from attentions.testing.slow_forms import work_of
    from bench.measuring.building import is_foreign
    from bench.measuring.costs.estimate import flops_of

    w = subject.cell.kernel
    if w.mode != "decode":
        # Without its mask, which formulas do not count, and which may select another code path.
        given, gates = subject.arguments(subject.sets[0])
        call = partial(subject.module, *given, **gates)
        bare = replace(w, padding=0.0, ragged=0.0)
        off = contradiction(*flops_of(subject.module, bare), work_of(call))
        if off is not None or not is_foreign(subject.cell):  # tests prove ours
            return off
    core: Any = getattr(subject.module, "core", subject.module)
    form = "decode" if w.mode == "decode" else "causal" if w.causal else "bidirectional"
    proof = prove_form(type(core), form, at_a_glance=True)
    return proof.times_off
