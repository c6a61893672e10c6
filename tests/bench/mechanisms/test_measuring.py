"""What becomes a unit's line, with jobs that measure nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from bench.measure.stopping import Stopping
from bench.mechanisms.measuring import confirmed, confirming, measured, wants_confirmation
from bench.mechanisms.units import FORMS, SAVED, SOFTMAX, Unit, id_of
from bench.record import Status
from bench.worker.jobs import Jobs, Outcome
from tests.bench.mechanisms.runs import place
from tests.records import kernel_cell

SMALL = {"seq_len": 8, "batch_size": 1, "num_heads": 2, "head_dim": 4}


class WrittenJobs:
    """Answers with written rounds, and notes after which of them it may stop."""

    def __init__(
        self, status: Status = Status.OK, our_seconds: Callable[[int], float] = lambda _: 0.1
    ) -> None:
        self.our_seconds = our_seconds  # by the number of the process
        self.num_processes = 0
        self.outcome = Outcome(
            status=status,
            reason=None if status is Status.OK else "killed by SIGSEGV",
            values={"is_noisy": True},
        )
        self.may_stop_after: list[bool] = []
        self.entries: list[str] = []
        self.built_first: list[str] = []
        self.asked: dict[str, Any] = {}

    def do(
        self,
        job: str,
        *,
        hear: Callable[[dict[str, Any]], None],
        may_stop: Callable[[], bool],
        **asked: Any,
    ) -> Outcome:
        self.asked = asked
        hear({"step": "warm-up"})
        self.entries = [cell["entry"] for cell in asked["cells"]]
        self.built_first.append(self.entries[0])
        for number in range(1, 4):
            self.hear_round(hear, number * 1.23456789 * self.our_seconds(self.num_processes))
            self.may_stop_after.append(may_stop())
        self.num_processes += 1
        calls = {"linear": 3, "softmax": 1}
        self.outcome.values["calls_per_sample"] = [calls[entry] for entry in self.entries]
        return self.outcome

    def hear_round(self, hear: Callable[[dict[str, Any]], None], our_seconds: float) -> None:
        """In the order in which the members were asked for."""
        seconds = {"linear": our_seconds, "softmax": 2.0}
        hear({"round": [seconds[entry] for entry in self.entries]})


class ManyRounds(WrittenJobs):
    """Enough of them for an interval from one process."""

    def do(self, job: str, *, hear: Callable[[dict[str, Any]], None], **asked: Any) -> Outcome:
        self.entries = [cell["entry"] for cell in asked["cells"]]
        for _ in range(3):
            self.hear_round(hear, 9.0)
        return super().do(job, hear=hear, **asked)


def unit(part: str = FORMS, mode: str = "forward") -> Unit:
    cells = tuple(kernel_cell(name, mode=mode, **SMALL) for name in ("linear", "softmax"))
    stopping = Stopping(min_rounds=2)
    return Unit(part=part, place=place(mode=mode), cells=cells, stopping=stopping, expected_s=1.0)


def line_of(asked: Unit, jobs: WrittenJobs) -> dict[str, Any]:
    return measured(asked, cast(Jobs, jobs))


def test_a_line_holds_every_round_and_what_the_worker_told_of_it() -> None:
    jobs = WrittenJobs()
    line = line_of(unit(), jobs)
    assert line["reason"] is None and line["members"] == ["linear", "softmax"]
    assert line["rounds"] == [[0.123457, 2.0], [0.246914, 2.0], [0.37037, 2.0]]
    assert (line["calls_per_sample"], line["is_noisy"]) == ([[3, 1]], True)
    assert [cell["entry"] for cell in jobs.asked["cells"]] == line["members"]
    assert jobs.asked["reference"] is None and jobs.asked["stopping"]["min_rounds"] == 2


def test_it_may_be_stopped_as_soon_as_there_are_rounds_enough() -> None:
    jobs = WrittenJobs()
    line_of(unit(), jobs)
    assert jobs.may_stop_after == [False, True, True]


def test_several_processes_are_told_apart_and_none_of_them_is_cut_short() -> None:
    jobs = WrittenJobs()
    line = line_of(replace(unit(), num_processes=2), jobs)
    assert len(line["rounds"]) == 6 and line["processes"] == [0, 0, 0, 1, 1, 1]
    assert line["calls_per_sample"] == [[3, 1], [3, 1]]
    assert (
        line["rounds"][:3]
        == line["rounds"][3:]
        == [[0.123457, 2.0], [0.246914, 2.0], [0.37037, 2.0]]
    )
    assert jobs.built_first == ["linear", "softmax"], "they take turns"
    assert not any(jobs.may_stop_after)


def again(asked: Unit, jobs: WrittenJobs, line: dict[str, Any]) -> dict[str, Any]:
    return confirmed(confirming(asked), cast(Jobs, jobs), line)


def test_what_is_found_slower_is_measured_in_six_processes_more() -> None:
    jobs = WrittenJobs(our_seconds=lambda number: 9.0 if number < 6 else 0.1)
    asked = replace(unit(), num_processes=6)
    first = line_of(asked, jobs)
    assert (jobs.num_processes, wants_confirmation(first)) == (6, True)
    line = again(asked, jobs, first)
    assert (jobs.num_processes, line["confirmed_from"]) == (12, 6)
    assert not wants_confirmation(line) and line["wall_s"] >= first["wall_s"]
    assert sorted(set(line["processes"])) == list(range(12))
    assert len(line["rounds"]) == len(line["processes"]) == 36
    assert len(line["calls_per_sample"]) == 12 and len(line["flops"]) == 2


def test_a_single_process_is_not_believed_either() -> None:
    few = line_of(unit(), WrittenJobs(our_seconds=lambda _: 9.0))
    assert not wants_confirmation(few), "three rounds have no interval"
    jobs = ManyRounds(our_seconds=lambda _: 9.0)
    first = line_of(unit(), jobs)
    line = again(unit(), jobs, first)
    assert (jobs.num_processes, line["confirmed_from"]) == (7, 1)
    assert not wants_confirmation(line), "once is enough, whatever it found"
    assert confirming(unit()).expected_s == 6 * unit().expected_s


def test_what_is_not_slower_and_softmax_are_measured_once() -> None:
    jobs = WrittenJobs(our_seconds=lambda number: 9.0 if number else 0.1)
    assert not wants_confirmation(line_of(replace(unit(), num_processes=6), jobs))
    jobs = WrittenJobs(our_seconds=lambda _: 9.0)
    assert not wants_confirmation(line_of(replace(unit(SOFTMAX), num_processes=6), jobs))


def test_a_process_that_dies_while_confirming_fails_the_unit() -> None:
    class Dying(WrittenJobs):
        def do(self, *args: Any, **kwargs: Any) -> Outcome:
            outcome = super().do(*args, **kwargs)
            return WrittenJobs(Status.CRASHED).outcome if self.num_processes > 6 else outcome

    jobs = Dying(our_seconds=lambda _: 9.0)
    asked = replace(unit(), num_processes=6)
    line = again(asked, jobs, line_of(asked, jobs))
    assert id_of(line) == id_of(asked.to_dict())
    assert line["reason"] == "crashed: killed by SIGSEGV" and "rounds" not in line


def test_flops_are_of_the_mode_that_was_timed() -> None:
    forward = line_of(unit(), WrittenJobs())["flops"]
    assert forward[1] == 2 * 2 * (2 * 8 * 8 * 4)  # two products of two heads
    both = line_of(unit(mode="forward_backward"), WrittenJobs())["flops"]
    assert both == [3 * flops for flops in forward]


def test_a_unit_that_failed_has_a_reason_and_no_rounds() -> None:
    line = line_of(unit(), WrittenJobs(Status.CRASHED))
    assert line["reason"] == "crashed: killed by SIGSEGV" and "rounds" not in line


def test_bytes_kept_for_backward_are_counted_without_a_worker() -> None:
    line = line_of(unit(SAVED, "forward_backward"), WrittenJobs())
    assert "rounds" not in line and len(line["saved_bytes"]) == 2
    assert all(kept >= 3 * 2 * 8 * 4 * 4 for kept in line["saved_bytes"])  # q, k and v at least
