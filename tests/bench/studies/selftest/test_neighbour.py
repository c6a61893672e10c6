import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.studies.selftest.neighbour import neighbour
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[4]


def children(of):
    return {child for child in psutil.Process(of).children(recursive=True) if child.is_running()}


def test_the_load_works_within_its_block_and_is_gone_afterwards():
    before = children(os.getpid())
    with neighbour() as number:
        process = psutil.Process(number)
        assert children(os.getpid()) - before == {process}
        begun = sum(process.cpu_times()[:2])
        wait_until(lambda: sum(process.cpu_times()[:2]) > begun + 0.05)
    assert not process.is_running()
    with pytest.raises(KeyError), neighbour():
        raise KeyError
    assert children(os.getpid()) == before


def test_the_load_does_not_outlive_a_process_that_is_killed():
    code = (
        "from bench.studies.selftest.neighbour import neighbour\n"
        "with neighbour() as number: print(number, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    load = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    wait_until(lambda: not load.is_running() or load.status() == psutil.STATUS_ZOMBIE)
