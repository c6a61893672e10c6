"""Who changes what all share is told by name; who leaves it alone is told nothing."""

import functools
import os
import signal
import sys
import threading
import time
import traceback

import pytest
import torch
from torch.overrides import BaseTorchFunctionMode
from torch.utils._python_dispatch import BaseTorchDispatchMode, is_in_torch_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode

from attentions.mechanisms.linear import Linear
from bench.measuring.measure import state
from bench.measuring.measure.state import Watch, restore, snapshot


@pytest.fixture(autouse=True)
def left_as_it_was():
    before = snapshot()
    yield
    restore(before)
    assert snapshot() == before


def patch_the_clock():
    time.perf_counter_ns = lambda: 0


def enter_inference_mode():
    kept.append(torch.inference_mode())
    kept[-1].__enter__()


kept = []
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
    "autocast on cpu from False to True": lambda: torch.autocast("cpu").__enter__(),
    "autocast on cuda from False to True": lambda: torch.set_autocast_enabled("cuda", True),
    "the inference mode from False to True": enter_inference_mode,
    "anomaly detection from False to True": lambda: torch.set_anomaly_enabled(True),
    "the kernels that SDPA may take": lambda: torch.backends.cuda.enable_flash_sdp(False),
    "whether a profiler runs": lambda: sys.setprofile(lambda *words: None),
    "functions of the module time": patch_the_clock,
    "interval timers": lambda: signal.setitimer(signal.ITIMER_PROF, 1000.0),
    "torch.nn.functional.softplus": lambda: setattr(torch.nn.functional, "softplus", None),
    "torch.matmul": lambda: delattr(torch, "matmul"),
    "torch.Tensor.matmul": lambda: setattr(torch.Tensor, "matmul", torch.matmul),
    "attentions.mechanisms.linear.Linear.parameters": lambda: setattr(Linear, "parameters", None),
    "attentions.mechanisms.linear.Linear.forward": lambda: setattr(Linear, "forward", None),
}


def alone(test):
    """The test in a fork, which has no thread that another test may have left computing."""

    @functools.wraps(test)
    def forked(*args, **kwargs):
        pid = os.fork()
        if pid == 0:
            try:
                test(*args, **kwargs)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return forked


@pytest.fixture
def watch():
    return watching()


def watching():
    watch = Watch(threads=True)
    watch.begin("a")
    watch.begin("b")
    return watch


@pytest.mark.parametrize("words", CHANGES)
@alone
def test_a_change_is_named_and_can_be_put_back(watch, words):
    before = snapshot()
    assert watch.change("a") is None
    CHANGES[words]()
    assert watch.change("a").startswith("a changed ") and words in watch.change("a")
    restore(before)
    assert watch.change("a") is None


@alone
def test_members_with_other_numbers_of_threads_are_each_held_to_their_own(watch):
    torch.set_num_threads(3)
    watch.begin("b")
    assert watch.change("b") is None
    assert "the number of threads" in watch.change("a")


@pytest.mark.parametrize("mode", [FlopCounterMode, BaseTorchFunctionMode, BaseTorchDispatchMode])
@alone
def test_a_mode_of_torch_that_is_left_on_is_seen_and_ended(watch, mode):
    before = snapshot()
    mode().__enter__()
    mode().__enter__()
    assert watch.change("a") == "a changed the default device, or another mode of torch"
    restore(before)
    assert watch.change("a") is None and not is_in_torch_dispatch_mode()


@alone
def test_what_torch_loads_lazily_and_replaces_itself_is_no_change(watch):
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    torch.loaded_just_now = torch.nn.functional.loaded_just_now = None
    Linear.a_cache_of_its_own = {}
    assert watch.change("a") is None


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


@alone
def test_a_thread_that_computes_between_calls_is_named_and_one_that_waits_is_not():
    watch = watching()
    blind = Watch(threads=False)
    blind.begin("a")
    end = run_in_a_thread(wait)
    assert watch.change("a") is None and watch.last_change() is None
    end()
    assert watch.change("b") is None
    end = run_in_a_thread(burn)
    assert watch.change("a") == "a left a thread running that computes between its calls"
    assert blind.change("a") is None and blind.last_change() is None
    end()
    assert watch.last_change() is None


def test_a_thread_that_begins_to_compute_later_is_found_at_the_last_look(watch, monkeypatch):
    busy = iter([False, True])
    monkeypatch.setattr(state, "computes_meanwhile", lambda: next(busy))
    end = run_in_a_thread(wait)
    assert watch.change("b") is None, "it has started and does nothing"
    assert watch.change("a") is None, "no second nap for the same threads"
    assert watch.last_change().startswith("b left a thread")
    end()
