import os
import tempfile

import psutil
import pytest

from bench.selftest import children
from bench.worker.jobs import Interrupt, Interrupted
from tests.waiting import wait_until


def run(code, *, timeout_s=60.0, interrupt=None):
    with tempfile.TemporaryFile() as log:
        words = ["-c", code]
        asked = interrupt or Interrupt()
        found = children.run(words, {"ATTNBENCH_X": "7"}, log, timeout_s=timeout_s, interrupt=asked)
        return found, children.last_words(log)


def test_a_child_finds_what_this_process_finds_and_its_words_are_kept():
    code = "import bench, os; print('seen', os.environ['ATTNBENCH_X']); raise SystemExit(3)"
    assert run(code) == (3, "seen 7")


def test_a_child_that_takes_too_long_is_killed_with_its_own_children():
    mark = f"grandchild of {os.getpid()}"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)', '{mark}'])\n"
        "time.sleep(1000)"
    )
    with pytest.raises(RuntimeError, match=r"took over 1 s"):
        run(code, timeout_s=1.0)
    wait_until(lambda: not any(mark in cmdline(p) for p in psutil.process_iter()))


def cmdline(process):
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def test_ctrl_c_ends_a_child():
    interrupt = Interrupt()
    interrupt.is_asked = True
    with pytest.raises(Interrupted):
        run("import time; time.sleep(1000)", interrupt=interrupt)
