"""Ceilings at a glance: one look for each place, again after a busy one, none where it is known."""

from dataclasses import replace

from bench.core.record import Status
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import CEILING, CeilingResult
from bench.measuring.worker.roofs import Roofs
from tests.records import kernel_cell, model_cell


def result(rate, *, is_noisy=False):
    return CeilingResult(
        flops_per_s=rate,
        product=(1, 1, 1),
        library="mm",
        library_flops_per_s=(("mm", rate),),
        bytes_per_s=((1000, 2 * rate),),
        is_noisy=is_noisy,
        measured_s=0.1,
    )


class FakeJobs:
    """Answers with written results; None is a job that fails."""

    def __init__(self, *found):
        self.found = list(found)
        self.asked = []

    def do(self, job, **request):
        assert job is CEILING and request.pop("at_a_glance")
        self.asked.append(tuple(request.values()))
        found = self.found.pop(0)
        if found is None:
            return Outcome(status=Status.ERROR, reason="no")
        return Outcome(status=Status.OK, result=found)


CELL = kernel_cell("linear")


def test_each_dtype_is_looked_at_once_with_one_thread():
    jobs, roofs = FakeJobs(result(1.0), result(2.0)), Roofs()
    two = replace(CELL, num_threads=2)
    wide = replace(CELL, workload=replace(CELL.kernel, dtype="float64"))
    others = [model_cell("nala"), replace(CELL, device="cuda:0")]
    roofs.look(jobs, others)
    assert jobs.asked == []
    for _ in range(2):
        roofs.look(jobs, [CELL, CELL, two, wide, *others])
    assert jobs.asked == [("cpu", "float32", 1), ("cpu", "float64", 1)]
    assert roofs.of(CELL)["flops_per_s"] == 1.0
    assert roofs.of(wide)["flops_per_s"] == 2.0
    assert [roofs.of(cell) for cell in others] == [None, None]


def test_several_threads_may_do_so_many_times_as_much():
    jobs, roofs = FakeJobs(result(3.0)), Roofs()
    roofs.look(jobs, [replace(CELL, num_threads=2)])
    ceiling = {"flops_per_s": 6.0, "bytes_per_s": [[1000, 12.0]], "is_noisy": False}
    assert roofs.of(replace(CELL, num_threads=2)) == ceiling


def test_a_busy_machine_is_looked_at_again_and_the_best_is_kept():
    jobs = FakeJobs(result(3.0, is_noisy=True), result(2.0, is_noisy=True), result(4.0), None)
    roofs, seen = Roofs(), []
    for _ in range(4):
        roofs.look(jobs, [CELL])
        seen.append((roofs.of(CELL)["flops_per_s"], roofs.of(CELL)["is_noisy"]))
    assert seen == [(3.0, True), (3.0, True), (4.0, False), (4.0, False)]
    assert len(jobs.asked) == 3
