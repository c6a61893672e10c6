"""Made-up data of a self-test, written as the command writes it."""

from pathlib import Path

from omegaconf import OmegaConf

from bench.machine.environment import Environment
from bench.selftest.config import read_selftest_config
from bench.selftest.data import Journal, new_session, newest_run
from tests.records import ENVIRONMENT, kernel_cell

CONF = Path(__file__).resolve().parents[3] / "conf" / "selftest.yaml"
ENTRIES = {"attention": {name: {"mechanism": name} for name in ("softmax", "linear")}}
HERE = Environment(**ENVIRONMENT)
COMMAND = "python -m bench.selftest"
CELLS = [kernel_cell("linear")]


def composed(**changes):
    """conf/selftest.yaml as Hydra hands it over, with other values for some keys."""
    config = OmegaConf.to_container(OmegaConf.load(CONF))
    config.pop("defaults"), config.pop("hydra")
    for name, value in changes.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    return config | ENTRIES


def config(**changes):
    return read_selftest_config(composed(**changes))


def gate_line(index=0, verdict="SAME", *, is_loaded=False, ratio=1.0, width=0.01, **more):
    part = "power" if "repeat_every" in more else "alarms"
    return {
        "part": part,
        "is_loaded": is_loaded,
        "index": index,
        "wall_s": 2.5,
        "busy_cores": 2.0 if is_loaded else 1.0,
        "cell": "linear 64",
        "verdict": verdict,
        "median": ratio,
        "low": ratio - width,
        "high": ratio + width,
        "forks": [ratio] * 6,
    } | more


def rival_line(index=0, tool="torch_timer", *, is_loaded=False, base=(1.0,), **current):
    times = {name.removeprefix("every_"): list(values) for name, values in current.items()}
    return {
        "part": "rivals",
        "is_loaded": is_loaded,
        "index": index,
        "tool": tool,
        "wall_s": 9.0,
        "busy_cores": 1.0,
        "cells": ["linear 64"] * len(base),
        "base_s": list(base),
        "current_s": times,
    }


def precision_line(index=0, *, is_loaded=False, width=0.002):
    cell = {"cell": "linear 256", "median": 2.0, "low": 2 - width, "high": 2 + width}
    return {
        "part": "precision",
        "is_loaded": is_loaded,
        "index": index,
        "wall_s": 25.0,
        "busy_cores": 1.0,
        "seq_len": 256,
        "cells": [cell | {"num_rounds": 900}],
    }


def overhead_line(index=0, *, sweep_s=2.0):
    steps = {"fork": 0.1, "build": 0.05, "first call": 0.1, "oracle": 0.3, "memory": 0.2}
    return {
        "part": "overhead",
        "is_loaded": False,
        "index": index,
        "wall_s": 12.0,
        "busy_cores": 1.0,
        "num_cells": 10,
        "sweep_s": sweep_s,
        "steps_s": steps | {"flops": 0.1, "rounds": 1.0},
        "command_s": 8.0,
    }


def write_run(out, lines, **changes):
    """A run with these lines, read back from the disk."""
    journal = Journal(out, new_session(HERE, config(**changes).settings, CELLS, COMMAND))
    for line in lines:
        journal.append(line)
    return newest_run(out)
