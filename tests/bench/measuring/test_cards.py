"""A sweep's way over cards, on some that are none: plan, worker, rounds, memory, generators."""

import tempfile
from dataclasses import replace
from types import SimpleNamespace

import pytest

from attentions import attention_class
from bench.core.record import Record, Status
from bench.measuring import device as door
from bench.measuring.config import read_sweep_config
from bench.measuring.costs.estimate import needed_bytes, why_too_large
from bench.measuring.machine import environment
from bench.measuring.measure.state import restore, snapshot
from bench.measuring.plan import plan
from bench.measuring.run import Runner
from bench.measuring.worker.answer import answer
from bench.measuring.worker.jobs import Interrupt, Jobs
from bench.publishing.machine import describe_machine
from tests.bench.measuring.test_config import BASE
from tests.bench.measuring.worker.fakes import Channel, cell, take_rounds
from tests.fake_device import FakeDevice, WallMps

CELL = replace(cell(), mechanism="softmax", device="cuda:0")
SAY = SimpleNamespace(say=lambda words: None, announce=lambda words: None)


@pytest.fixture
def cards(monkeypatch, tmp_path):
    """`cards(**attributes)`: cards of that kind, with a memory, a stream and a log of their own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = snapshot()

    def make(**attributes):
        kind = type("Card", (FakeDevice,), {"log": []} | attributes)
        monkeypatch.setitem(door.KINDS, "cuda", kind)
        return kind

    yield make
    restore(before)


def planned(**changes):
    own = {"attention": {"softmax": {"mechanism": "softmax"}}, "task": {}, "seq_len": 64}
    return plan(read_sweep_config(BASE | own | changes))


def test_auto_plans_for_every_card_in_dtypes_that_it_computes_in(cards):
    cards(lacks=("bfloat16",))
    found = planned(device="auto", dtype=["float32", "bfloat16"])
    reasons = {(p.cell.device, p.cell.kernel.dtype): p.unsupported for p in found}
    assert len(reasons) == 6
    left_out = {place: why for place, why in reasons.items() if why}
    assert set(left_out) == {("cuda:0", "bfloat16"), ("cuda:1", "bfloat16")}
    assert left_out["cuda:1", "bfloat16"].startswith("cuda:1 does not compute in bfloat16: ")


def test_a_cell_that_a_card_has_no_memory_for_is_not_tried(cards):
    cards(total_bytes=2**20)
    (one,) = planned(device="cuda", seq_len=4096)
    words = why_too_large(one.cell, needed_bytes(one.cell))
    assert words.endswith("GiB are free on cuda:0.")


def test_a_trial_takes_memory_energy_and_the_kernel_from_the_card(cards):
    cards(call_bytes=2**21, kept_bytes=2**10)
    outcome = answer({"job": "trial", "cell": CELL.to_dict()}, Channel())
    found = outcome.found
    assert found.first_call_s == 0.25
    assert (found.peak_memory_bytes, found.peak_rss_bytes) == (2**21, None)
    assert found.leaked_bytes == 2**10
    assert found.energy_per_call_j == 2.0
    assert found.sdpa_kernel == "flash"


def test_rounds_have_the_cards_clock_and_its_readings(cards):
    kind = cards()
    answer({"job": "probe", "cell": CELL.to_dict()}, Channel())
    sent, result = take_rounds(CELL, num_rounds=3)
    assert [message["round"] for message in sent if "round" in message] == [[0.25]] * 3
    assert result.load["power_w_before"] == result.load["power_w_after"] == 100.0
    assert result.load["power_cap_w_after"] == 350.0
    assert result.cpu_per_wall == (None,) and result.wrong == (None,)
    assert kind.log == ["readings"] * 2
    cold = replace(CELL, workload=replace(CELL.kernel, cache="cold"))
    answer({"job": "probe", "cell": cold.to_dict()}, Channel())
    take_rounds(cold, num_rounds=3)
    assert kind.log.count("synchronize") == 3, "a flush has ended before a call begins"


def measured(devices, out, workers):
    """Records of linear attention on some devices, and how long their workers were busy."""
    config = {"device": devices, "plugins": ["tests.fake_cards"], "out": out}
    own = {"attention": {"linear": {"mechanism": "linear"}}, "task": {}, "seq_len": 64}
    quick = {"measure": BASE["measure"] | {"budget_s": 0.02, "max_rounds": 8}}
    with pytest.MonkeyPatch.context() as patch, Interrupt() as asked:
        patch.setitem(door.KINDS, "cuda", FakeDevice)  # as it was, after the plugin
        patch.setitem(door.KINDS, "mps", WallMps)
        asked_for = read_sweep_config(BASE | own | config | quick)
        cells = plan(asked_for, workers)
        here = environment.current(tuple(devices), "retain", workers.environment())
        jobs = Jobs(workers, 60.0, asked)
        return list(Runner(asked_for, here, jobs, SAY, "test").run(cells)), jobs.busy_s


def test_two_cards_are_measured_by_workers_of_their_own(tmp_path, workers):
    found, busy_s = measured(["cuda:0", "cuda:1"], tmp_path, workers)
    assert busy_s > 0
    assert {(r.cell.device, r.status) for r in found} == {
        ("cuda:0", Status.OK),
        ("cuda:1", Status.OK),
    }
    for record in found:
        assert record.environment["devices"]["cuda:1"] == "Fake 9000"
        assert record.environment["hardware"]["cuda_driver"] == "1.0"
        assert record.result.energy_per_call_j == 2.0 and record.result.sdpa_kernel is None
        assert record.result.peak_rss_bytes is None and record.result.load["power_w_after"] == 100.0


def test_a_class_and_a_claim_are_all_that_a_new_kind_of_device_needs(
    tmp_path, workers, monkeypatch
):
    for name in ("linear", "softmax"):
        kind = attention_class(name)
        can = replace(kind.capabilities, devices=("cpu", "cuda", "mps"))
        monkeypatch.setattr(kind, "capabilities", can)
    (record,), _ = measured(["mps:0"], tmp_path, workers)
    assert (record.cell.device, record.status) == ("mps:0", Status.OK), record.reason
    assert record.result.reference_latency_s and record.result.energy_per_call_j == 2.0
    assert Record.from_json(record.to_json()) == record
    assert describe_machine(record).startswith("Fake 9000, ")
