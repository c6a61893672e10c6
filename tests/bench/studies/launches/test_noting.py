"""Launches of small kernels whose numbers are known, compiled for real: `make test-kernels`."""

import importlib.util

import pytest

from bench.core.cli.errors import ConfigError
from bench.studies.launches.study import Launches, calls_of, cards, kernels_path, listed

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in ("triton", "fla")),
    reason="needs Triton and flash-linear-attention: make test-kernels",
)

HERE = "tests.bench.studies.launches.small_kernels"


def launches_of(*names, card="a100", **settings):
    asked = Launches(launches=tuple(f"{HERE}:{name}" for name in names), **settings)
    calls = calls_of(asked.but(attention=()))
    return list(listed(calls, cards()[card], kernels_path()))


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
    (found,) = launches_of("product", configs=("all",))
    assert [x["launch"] for x in found["launches"]] == [1, 1]
    assert [x["warps"] for x in found["launches"]] == [1, 4]
    one, four = (x["matrix"]["HMMA"] for x in found["launches"])
    assert one == 4 * four  # which share the product


def test_a_launch_that_the_card_refuses_says_why_and_a_dead_process_costs_one_call():
    wide, dead, doubled = launches_of("too_wide", "dies", "double", seq_len=(64,))
    assert wide["launches"][0]["refused"] == "grid y 70,000 > 65,535"
    assert dead["error"].startswith("its process ended with 7")
    assert "error" not in doubled


def test_what_is_no_operator_is_a_mistake_and_what_raises_is_an_answer():
    with pytest.raises(ConfigError, match="BLOCK is not a function"):
        launches_of("double", "BLOCK")
    with pytest.raises(ConfigError, match="has no attribute 'treble'"):
        launches_of("treble")
    (found,) = launches_of("raises", seq_len=(64,))
    assert found["error"] == "ValueError: not today" and len(found["launches"]) == 1


def test_the_launches_of_gla_and_gated_deltanet_are_those_that_are_known():
    rows = {name: {"mechanism": name} for name in ("gla_fla", "gated_deltanet_fla", "nsa_fla")}
    calls = calls_of(Launches.read({"attention": rows, "mode": "forward_backward"}))
    found = {x["entry"]: x for x in listed(calls, cards()["h100"], kernels_path())}
    assert not [x["error"] for x in found.values() if "error" in x]
    phases = {name: [one["phase"] for one in x["launches"]] for name, x in found.items()}
    forward = {name: phase.count("forward") for name, phase in phases.items()}
    assert (forward["gla_fla"], forward["gated_deltanet_fla"]) == (5, 7)
    assert len(phases["gla_fla"]) == 11
    assert "flash-attn" in {one["kernel"] for one in found["nsa_fla"]["launches"]}
