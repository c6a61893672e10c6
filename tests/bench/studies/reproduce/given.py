"""A cell of two variants and two rates, and records of it."""

from typing import Any

from bench.core.cell import Cell, TaskWorkload
from bench.core.record import Quality, Record, Status
from bench.studies.reproduce.described import Code, PaperCell, Protocol
from bench.studies.reproduce.runs import Run, row_of, runs_of

PROTOCOL = Protocol(
    name="p",
    task="recall",
    settings={"num_steps": 7},
    variants=({"vocab_size": 16}, {"vocab_size": 32}),
    grid={"learning_rate": (0.001, 0.01)},
    cost_s=1.0,
    code=Code(repository="none", commit="unknown", date="2020-01-01", reason="none was published"),
)
CELL = PaperCell(
    id="c",
    paper="Nobody, 2020",
    where="Table 1",
    what="softmax",
    published=0.5,
    tolerance=0.02,
    obtained="table",
    attention="softmax",
    protocol=PROTOCOL,
)


def record(run: Run, accuracy: float = 0.5, seed: int = 0, **settings: Any) -> Record:
    row, task = row_of(CELL), run.task | settings
    work = TaskWorkload(label=run.label, task=task.pop("task"), settings=task, seed=seed)
    cell = Cell(
        entry="softmax",
        mechanism=row.pop("mechanism"),
        hyperparameters=row,
        device="cpu",
        num_threads=1,
        workload=work,
    )
    result = Quality(accuracy=accuracy, chance=0.1, guess="", num_examples=10_000, num_parameters=1)
    return Record(cell=cell, status=Status.OK, result=result)


RUNS = runs_of(PROTOCOL)
