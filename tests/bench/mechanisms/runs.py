"""Configurations and stored measurements with written numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.mechanisms.data import Line, Measured, Session
from bench.mechanisms.units import FORMS, SAVED, SOFTMAX, THREADS, Place
from tests.records import ENVIRONMENT

ROUNDS = (1.0, 2.0, 1.0, 4.0, 1.0, 1.0, 1.0)
"""How slow the machine was in each round."""


def composed(**changes: Any) -> dict[str, Any]:
    """What Hydra would compose, for two entries."""
    given = {
        "attention": {"nala": {"mechanism": "nala"}, "linear": {"mechanism": "linear"}},
        "seq_len": [256, 64],
        "batch_size": 1,
        "num_heads": 2,
        "head_dim": 8,
        "dtype": "float32",
        "mode": ["forward", "forward_backward"],
        "causal": [False, True],
        "num_threads": [1, 2],
        "allocator": ["default", "retain"],
        "out": "results",
        "page": "docs/speed.md",
        "report": False,
        "fresh": False,
        "again": None,
        "max_minutes": 30,
        "timeout_s": 60,
        "effort": {
            "min_rounds": 6,
            "max_rounds": 9,
            "budget_s": 0.1,
            "min_sample_s": 0.001,
            "softmax_s": 20,
        },
    }
    return given | changes


def place(**changes: Any) -> Place:
    """Forward at 256 tokens."""
    usual: dict[str, Any] = {
        "scope": "core",
        "causal": False,
        "seq_len": 256,
        "mode": "forward",
        "num_threads": 1,
        "allocator": "retain",
    }
    return Place(**(usual | changes))


def line(part: str, times: dict[str, float], at: Place, **changes: Any) -> Line:
    """A unit whose members took so many seconds times the round's own factor."""
    found: Line = {
        "part": part,
        "place": asdict(at),
        "members": list(times),
        "reason": None,
        "wall_s": 1.0,
        "rounds": [[seconds * slow for seconds in times.values()] for slow in ROUNDS],
        "processes": [0 for _ in ROUNDS],
        "confirmed_from": None,
        "build_in_turns": True,
        "flops": [10_000 for _ in times],
        "num_parameters": [0 for _ in times],
        "calls_per_sample": [1 for _ in times],
        "is_noisy": False,
    }
    return found | changes


def pair_lines(at: Place, nala: float, official: float, softmax: float) -> list[Line]:
    """Both units of a place."""
    return [
        line(FORMS, {"nala": nala, "nala official": official}, at),
        line(SOFTMAX, {"nala": nala, "softmax": softmax}, at),
    ]


def threads_line(at: Place, many: float, one: float) -> Line:
    """Nala with the place's threads beside itself with one."""
    return line(THREADS, {"nala": many, "nala 1 thread": one}, at)


def saved_line(at: Place, num_bytes: int) -> Line:
    """What nala keeps for backward."""
    return {
        "part": SAVED,
        "place": asdict(at),
        "members": ["nala"],
        "reason": None,
        "wall_s": 1.0,
        "saved_bytes": [num_bytes],
    }


def measured(*lines: Line, **facts: Any) -> Measured:
    """A file's content."""
    shape = {"batch_size": 1, "num_heads": 4, "head_dim": 64, "dtype": "float32"}
    environment = ENVIRONMENT | facts
    session = Session(
        identity="0" * 16,
        environments={name: environment | {"allocator": name} for name in ("default", "retain")},
        settings={"shape": shape},
        command="python -m bench.mechanisms",
        started_at="2031-05-06T07:08:09+00:00",
    )
    return Measured(
        path=Path("results/mechanisms/mechanisms.json"), session=session, lines=[*lines]
    )
