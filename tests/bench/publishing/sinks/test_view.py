from __future__ import annotations

from bench.publishing.sinks.view import run_id


def test_a_run_id_is_the_sweeps_with_what_is_not_allowed_in_one_replaced() -> None:
    assert run_id("20310506-abc/1") == "20310506-abc-1"
    assert run_id("") == "sweep"
