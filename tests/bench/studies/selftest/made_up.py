"""A self-test's configuration, and trials that were never made."""

from pathlib import Path

from omegaconf import OmegaConf

from bench.studies.gate.rows import LATENCY, GateRow, GateVerdict
from bench.studies.selftest.page import GATE, Origin, Trial
from bench.studies.selftest.study import Selftest, sweep_of
from tests.records import ENVIRONMENT

CONF = Path(__file__).resolve().parents[4] / "conf" / "selftest.yaml"
ENTRIES = {"attention": {name: {"mechanism": name} for name in ("softmax", "linear")}}


def composed(**changes):
    """conf/selftest.yaml as Hydra hands it over, with other values for some keys."""
    config = OmegaConf.to_container(OmegaConf.load(CONF))
    config.pop("defaults"), config.pop("hydra")
    for name, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(config[name], dict)
        config[name] = config[name] | value if is_section else value
    return config | ENTRIES


def config(**changes):
    return Selftest.read(composed(**changes))


def sweep(**changes):
    return sweep_of(composed(**changes))


def origin():
    effort = {"threshold": 0.03, "num_forks": 6, "fork_s": 0.2, "budget_s": 4.0}
    return Origin(
        command="python -m bench.selftest budget=10m",
        environment=ENVIRONMENT,
        method_version=1,
        settings={
            "attention": ["softmax", "linear"],
            "seq_len": [64, 128, 256],
            "effort": effort,
            "side_s": 0.6,
            "rival_threshold": 0.05,
            "cells_per_process": 5,
        },
        started_at="2031-05-06T07:08:09Z",
    )


def trial(verdict=GateVerdict.SAME, *, tool=GATE, is_loaded=False, percent=0, ratio=1.0, busy=1.0):
    row = GateRow(
        entry="linear",
        mechanism="linear",
        cell="linear seq_len=64 float32 forward cpu",
        key="0" * 16,
        channel=LATENCY,
        verdict=verdict,
        ratio=ratio,
        low=ratio - 0.01 if tool == GATE else None,
        high=ratio + 0.01 if tool == GATE else None,
    )
    return Trial(
        tool=tool, is_loaded=is_loaded, percent=percent, wall_s=2.5, busy_cores=busy, row=row
    )
