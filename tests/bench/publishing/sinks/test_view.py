from __future__ import annotations

from pathlib import Path

from bench.core.record import Status
from bench.publishing.sinks.view import run_config, run_id, view_of
from tests import records as made
from tests.bench.publishing.sweeps import config, small_sweep


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced() -> None:
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"
