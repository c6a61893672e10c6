"""Who changes what all share is told by name; who leaves it alone is told nothing."""

import threading
import time

import pytest
import torch

from bench.measure import state
from bench.measure.state import Guard, computes_meanwhile, look, put_back


@pytest.fixture(autouse=True)
def left_as_it_was():
    before = look()
    yield
    put_back(before)
    assert look() == before


def patch_the_clock():
    time.perf_counter_ns = lambda: 0


CHANGES = {
    "the number of threads from": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic algorithms from False to True": lambda: torch.use_deterministic_algorithms(True),
    "the default dtype from torch.float32 to torch.float64": lambda: torch.set_default_dtype(
        torch.float64
    ),
    "the default device": lambda: torch.set_default_device("cpu"),
    "flush-denormal from False to True": lambda: torch.set_flush_denormal(True),
    "the precision of float32 products from highest to medium": (
        lambda: torch.set_float32_matmul_precision("medium")
    ),
    "the grad mode from True to False": lambda: torch.set_grad_enabled(False),
    "autocast from False to True": lambda: torch.set_autocast_enabled(True),
    "anomaly detection from False to True": lambda: torch.set_anomaly_enabled(True),
    "the kernels that SDPA may take": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "functions of the module time": patch_the_clock,
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_is_named_and_can_be_put_back(words):
    before = look()
    guard = Guard(watch_threads=False)
    assert guard.change() is None
    CHANGES[words]()
    assert guard.change().startswith("changed ") and words in guard.change()
    put_back(before)
    assert guard.change() is None


def test_every_setting_that_can_be_put_back_is_changed_by_a_test():
    names = [setting.name for setting in state.SETTINGS if setting.put is not None]
    assert all(any(words.startswith(name[:12]) for words in CHANGES) for name in names)


def test_two_changes_are_both_named():
    guard = Guard(watch_threads=False)
    torch.set_flush_denormal(True)
    torch.set_grad_enabled(False)
    assert "flush-denormal from False to True, and the grad mode" in guard.change()


def run_in_a_thread(work):
    ends = threading.Event()
    thread = threading.Thread(target=work, args=(ends,), daemon=True)
    thread.start()

    def end():
        ends.set()
        thread.join()

    return end


def burn(ends):
    while not ends.is_set():
        sum(range(100))


def wait(ends):
    ends.wait()


def test_a_thread_that_computes_between_calls_is_named_and_one_that_waits_is_not():
    guard, blind = Guard(watch_threads=True), Guard(watch_threads=False)
    end = run_in_a_thread(wait)
    assert guard.change() is None and guard.change(is_last=True) is None
    end()
    end = run_in_a_thread(burn)
    assert "left a thread running" in guard.change(is_last=True)
    assert blind.change() is None
    end()
    assert guard.change(is_last=True) is None


def test_a_thread_that_begins_to_compute_later_is_found_at_the_last_look(monkeypatch):
    busy = iter([False, True])
    monkeypatch.setattr(state, "computes_meanwhile", lambda: next(busy))
    guard = Guard(watch_threads=True)
    end = run_in_a_thread(wait)
    assert guard.change() is None, "it has started and does nothing"
    assert guard.change() is None, "no second nap for the same threads"
    assert "left a thread" in guard.change(is_last=True)
    end()


def test_a_machine_that_is_busy_for_a_moment_is_no_thread_of_ours(monkeypatch):
    spent = iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(state, "cpu_s", lambda: next(spent))
    assert not computes_meanwhile(), "the second nap shows nothing"
