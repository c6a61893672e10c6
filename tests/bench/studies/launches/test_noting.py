"""Launches of small kernels whose numbers are known, compiled for real: `make test-kernels`."""

import importlib.util
import os
import subprocess
import sys

import pytest

from bench.studies.launches.command import Launches, calls_of, cards, kernels_path, listed

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton: make test-kernels"
)

HERE = "tests.bench.studies.launches.small_kernels"


def launches_of(*names, card="a100", configs="first", **sizes):
    asked = Launches(launches=tuple(f"{HERE}:{name}" for name in names), **sizes)
    calls = calls_of(asked.but(attention=()))
    return list(listed(calls, cards()[card], configs, kernels_path()))


def test_grids_warps_and_matrix_instructions_are_those_that_the_source_asks_for():
    doubled, multiplied = launches_of("double", "product", seq_len=(64,), num_heads=1)
    (launch,) = doubled["launches"]
    assert launch["grid"] == [64 * 64 // 256, 1, 1]
    assert (launch["warps"], launch["shared_bytes"], launch["spilled_bytes"]) == (2, 0, 0)
    assert (launch["matrix"], launch["refused"]) == ({}, "")
    assert 8 <= launch["registers"] <= 40
    assert doubled["temporary_bytes"] == 0  # an output is none
    (launch,) = multiplied["launches"]
    # One warp, and an instruction of compute capability 8.0 multiplies 16 x 16 by 16 x 8.
    assert launch["matrix"] == {"HMMA": (64 // 16) * (64 // 16) * (64 // 8)}
    assert doubled["versions"].keys() >= {"triton", "ptxas", "torch"}


def test_every_configuration_of_a_tuned_kernel_is_noted_as_one_launch():
    (found,) = launches_of("product", configs="all")
    assert [x["launch"] for x in found["launches"]] == [1, 1]
    assert [x["warps"] for x in found["launches"]] == [1, 4]
    one, four = (x["matrix"]["HMMA"] for x in found["launches"])
    assert one == 4 * four  # which share the product


def test_a_launch_that_the_card_refuses_says_why_and_a_dead_process_costs_one_call():
    wide, dead, doubled = launches_of("too_wide", "dies", "double", seq_len=(64,))
    assert wide["launches"][0]["refused"] == "grid y 70,000 > 65,535"
    assert dead["error"].startswith("its process ended with 7")
    assert "error" not in doubled


def test_launches_that_are_watched_are_noted_as_those_that_are_not_made():
    """On a driver that makes none: what it says of each kernel is what the binary says."""
    code = f"""
import torch
from bench.studies.launches.command import cards
from bench.studies.launches.noting import Noted, pretend, watch
noted = [Noted(cards()["a100"])]
pretend(noted[0].card, noted, False)
watch(noted, False)
from {HERE} import double
double(torch.zeros(1, 1, 64, 64), None, None)
made, seen = noted[0].launches
for one in (made, seen):
    del one["launch"], one["matrix"]
assert made == seen, (made, seen)
"""
    env = os.environ | {"PYTHONPATH": kernels_path()}
    env.pop("TRITON_INTERPRET", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
