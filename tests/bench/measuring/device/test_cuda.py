"""Questions to a card, by torch and by its driver's tool, with recorded answers."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

from bench.measuring.device import available_devices, cuda, device_named, first_card
from bench.measuring.device.cuda import Cuda

MIB = 2**20


class Torch:
    """Torch's functions about one card, and what was asked of them."""

    def __init__(self, name="H100", capability=(9, 0), **properties):
        self.properties = SimpleNamespace(uuid="aa-bb", total_memory=2**30, **properties)
        self.get_device_name = lambda place: name
        self.get_device_properties = lambda place: self.properties
        self.get_device_capability = lambda place: capability
        self.allocated, self.peak, self.state = 10, 2**20, torch.zeros(1)

    def synchronize(self, place):
        pass

    def memory_allocated(self, place):
        return self.allocated

    def reset_peak_memory_stats(self, place):
        self.peak = self.allocated

    def max_memory_allocated(self, place):
        return self.peak

    def get_rng_state(self, place):
        return self.state

    def set_rng_state(self, state, place):
        self.state = state


@pytest.fixture
def card(monkeypatch):
    """`card(**of Torch)`: the first card."""

    def make(**changes):
        monkeypatch.setattr(Cuda, "api", Torch(**changes))
        return device_named("cuda")

    return make


@pytest.fixture
def tool(monkeypatch):
    """`tool(text, code)`: what the driver's tool answers; returns the words that it was given."""

    def answer(text, code=0):
        asked = []

        def run(words, **_):
            asked.append(words)
            if isinstance(text, Exception):
                raise text
            return subprocess.CompletedProcess(words, code, stdout=text)

        monkeypatch.setattr(cuda.subprocess, "run", run)
        return asked

    return answer


def test_a_card_without_a_number_is_the_first():
    assert device_named("cuda") == device_named("cuda:0") != device_named("cuda:1")


def test_clocks_power_and_temperature_are_read_of_the_card_with_this_uuid(card, tool):
    asked = tool("1980, 2619, 351.27, 700.00, 41\n")
    assert card().readings() == {
        "sm_clock_mhz": 1980.0,
        "memory_clock_mhz": 2619.0,
        "power_w": 351.27,
        "power_cap_w": 700.0,
        "temperature_c": 41.0,
    }
    assert "--id=GPU-aa-bb" in asked[0]


def test_what_a_card_does_not_tell_is_left_out(card, tool):
    tool("1980, [N/A], [N/A], [N/A], 41\n")
    assert card().readings() == {"sm_clock_mhz": 1980.0, "temperature_c": 41.0}


@pytest.mark.parametrize("text", ["", OSError("none"), subprocess.TimeoutExpired("tool", 10)])
def test_a_tool_that_fails_is_missing_or_hangs_gives_nothing(card, tool, text):
    tool(text, code=9)
    assert card().readings() == {} and card().driver is None


def test_the_driver_is_the_first_line_of_its_tool(card, tool):
    tool("580.1\n580.1\n")
    assert card().driver == "580.1"


def test_a_part_of_a_card_is_named_and_has_no_power_of_its_own(card, tool, monkeypatch):
    asked = tool("580.1\n")
    part = card(name="H100 MIG 1g.10gb")  # of which the tool knows no UUID
    monkeypatch.setattr(cuda, "_meter", lambda uuid: lambda: 1)
    assert part.title == "H100 MIG 1g.10gb" and part.identity == "aa-bb"
    assert part.readings() == {} and part.energy_j(lambda: None) is None and not asked
    assert part.driver == "580.1" and not any(word.startswith("--id") for word in asked[0])


def test_energy_is_the_meters_rise_over_calls_of_a_second(card, monkeypatch):
    now, calls = [0.0], []

    def time_calls(self, call, count):
        for _ in range(count):
            call()
        now[0] += 0.01 * count
        return 0.01 * count

    monkeypatch.setattr(Cuda, "time_calls", time_calls)
    monkeypatch.setattr(cuda, "now_s", lambda: now[0])
    meters = {"GPU-aa-bb": lambda: 300_000 * now[0]}
    monkeypatch.setattr(cuda, "_meter", meters.get)
    assert card().energy_j(lambda: calls.append(1)) == pytest.approx(3.0)
    assert 100 <= len(calls) - 1 <= 105


def test_a_meter_that_fails_in_the_end_tells_no_energy(card, monkeypatch):
    told, now = iter([300_000, -1]), iter([0.0, 0.5, 2.0])
    monkeypatch.setattr(Cuda, "time_calls", lambda self, call, count: 0.01 * count)
    monkeypatch.setattr(cuda, "now_s", lambda: next(now))
    monkeypatch.setattr(cuda, "_meter", lambda uuid: lambda: next(told))
    assert card().energy_j(lambda: None) is None


class Driver:
    """NVML, as ctypes gives it: its functions return codes, which are 0 where all is well."""

    def __init__(self, **codes):
        self.codes = {"init": 0, "handle": 0, "read": 0} | codes
        self.nvmlInit_v2 = lambda: self.codes["init"]
        self.asked = []

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):
        self.asked.append(uuid)
        return self.codes["handle"]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, value):
        value._obj.value = 7_000
        return self.codes["read"]


def test_a_meter_is_one_that_the_driver_can_read(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: driver)
    read = cuda._meter("GPU-aa-bb")
    assert read() == 7_000 and driver.asked == [b"GPU-aa-bb"]
    driver.codes["read"] = 15  # such as a card that was lost
    assert read() < 0
    for step in driver.codes:
        driver.codes = dict.fromkeys(driver.codes, 0) | {step: 3}
        assert cuda._meter("GPU-aa-bb") is None


def test_without_a_meter_no_energy_is_known_and_nothing_is_called(card):
    assert card().energy_j(pytest.fail) is None
    assert device_named("cpu").energy_j(pytest.fail) is None


def test_the_peak_of_a_call_is_the_allocators_and_what_it_keeps_is_leaked(card):
    device = card()

    def call():
        device.api.peak = max(device.api.peak, device.api.allocated + 64)
        device.api.allocated += 8

    assert device.profile(call).peak_bytes == 64
    assert device.leaked_bytes(call, 4) == 8
    assert device.leaked_bytes(lambda: setattr(device.api, "allocated", 0), 4) == 0


@pytest.mark.parametrize(("told", "size"), [(50 * MIB, 50), (0, 64)])
def test_a_card_has_the_one_cache_that_its_multiprocessors_share(card, told, size):
    assert card(L2_cache_size=told).cache_levels_bytes() == (size * MIB,)
    assert card().free_bytes() == 2**30


def test_a_card_has_a_stream_of_random_numbers_beside_the_cpus(card):
    device = card()
    before = device.stream_state()
    assert before.keys() == {"cpu", "cuda"}
    device.api.state, expected = torch.ones(1), torch.randn(1)
    device.restore_streams(before)
    assert float(device.api.state) == 0 and torch.randn(1) == expected
    on_card = SimpleNamespace(cpu=lambda: torch.full((1,), 3.0))  # as a checkpoint is loaded
    device.restore_streams(before | {"cuda": on_card})
    assert float(device.api.state) == 3


@pytest.mark.parametrize(("capability", "is_able"), [((7, 5), False), ((8, 0), True)])
def test_bfloat16_that_a_card_would_only_imitate_is_refused(card, monkeypatch, capability, is_able):
    asked = []
    monkeypatch.setattr(Cuda, "try_out", lambda device, dtype: asked.append(dtype))
    # Another number for each, as an answer is kept for the life of a process.
    card(capability=capability)
    reason = device_named(f"cuda:{capability[0]}").why_no_dtype("bfloat16")
    if is_able:
        assert reason is None and asked == ["bfloat16"]
        return
    assert "cuda:7 does not compute in bfloat16" in reason
    assert "compute capability is 7.5, and 8.0 is needed" in reason
    assert "It computes in float32, float16, float64." in reason


def test_an_older_capability_says_nothing_of_another_makers_cards(card, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.2")
    assert card(capability=(7, 5)).imitates("bfloat16") is None


def test_every_card_is_found_and_no_other_device_is_the_first(monkeypatch):
    monkeypatch.setattr(Cuda, "present", classmethod(lambda kind: ()))
    assert available_devices() == ("cpu",) and first_card() is None
    monkeypatch.setattr(Cuda, "present", classmethod(lambda kind: ("cuda:0", "cuda:1")))
    assert available_devices() == ("cpu", "cuda:0", "cuda:1")
    assert first_card() == device_named("cuda:0")
