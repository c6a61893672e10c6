"""A lab that trains nothing: scores are given."""

import io
from typing import Any

import pytest
from rich.console import Console

from bench.core.comparison import Runs
from bench.core.record import Quality
from bench.studies.rates.tuned import Arm, TaskRow
from bench.studies.reproduce.claims.registry import Lab
from bench.studies.session import Session
from tests.bench.studies.reproduce.given import RUNS, record


class GivenLab(Lab):
    """Arms have the scores that a function of the row's name and the settings gives."""

    def given(self, scores):
        object.__setattr__(self, "_scores", scores)
        return self

    def tuned(self, rows: Any, task: str, settings: Any, seeds: Any, plugins: Any = ()) -> Any:
        found = {name: self._scores(name, settings)[: len(seeds)] for name in rows}
        return {name: given_arm(name, own) for name, own in found.items()}


def seeded(scores):
    """Runs of rows that keep nothing but their scores, in the order of the seeds."""
    return {name: Runs(scores=dict(enumerate(own))) for name, own in scores.items()}


def given_arm(name, scores, **more):
    """An arm that was searched and has learned, whose runs have these scores."""
    runs = {
        seed: Quality(
            accuracy=score,
            chance=0.02,
            guess="",
            num_examples=1024,
            num_parameters=1,
            ended="plateau",
            num_steps=300,
            validation_steps=(300,),
            validation=(score,),
        )
        for seed, score in enumerate(scores)
    }
    usual: dict[str, Any] = {"rate": 0.003, "tried": ((0.003, 0.9),), "is_at_edge": False}
    return Arm(
        row=TaskRow(cell=record(RUNS[0]).cell, rates=(0.003,)),
        name=name,
        runs=runs,
        seeds=tuple(runs),
        num_steps=600,
        **usual | more,
    )


@pytest.fixture
def lab(tmp_path):
    return GivenLab(quiet("sweep"), tmp_path)


def quiet(sweep_id):
    """A session that says everything to a buffer."""
    session = Session("reproduce", {"sweep_id": sweep_id})
    session.console = Console(file=io.StringIO(), width=200)
    return session
