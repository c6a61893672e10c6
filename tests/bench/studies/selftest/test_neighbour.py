import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.studies.selftest.neighbour import Neighbour
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[4]


def children(of):
    return {child for child in psutil.Process(of).children(recursive=True) if child.is_running()}


def test_the_load_works_while_it_is_on_and_is_gone_when_it_is_off():
    before = children(os.getpid())
    with Neighbour() as neighbour:
        assert not neighbour.is_busy
        neighbour.switch(True)
        (process,) = children(os.getpid()) - before
        begun = sum(process.cpu_times()[:2])
        wait_until(lambda: sum(process.cpu_times()[:2]) > begun + 0.05)
        neighbour.switch(True)  # once is enough
        assert children(os.getpid()) - before == {process}
        neighbour.switch(False)
        assert not process.is_running() and not neighbour.is_busy
        neighbour.switch(True)
    assert children(os.getpid()) == before


def test_an_error_ends_the_load():
    before = children(os.getpid())
    with pytest.raises(KeyError), Neighbour() as neighbour:
        neighbour.switch(True)
        raise KeyError
    assert children(os.getpid()) == before


def test_the_load_does_not_outlive_a_process_that_is_killed():
    code = (
        "from bench.studies.selftest.neighbour import Neighbour\n"
        "n = Neighbour(); n.switch(True); print(n._process.pid, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    load = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not load.is_running() or load.status() == psutil.STATUS_ZOMBIE)
