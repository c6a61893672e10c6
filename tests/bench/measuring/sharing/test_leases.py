"""A unit of work has one holder at a time, and a dead one does not keep it."""

import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack

import psutil
import pytest

from bench.measuring.sharing import leases as module
from bench.measuring.sharing.leases import Leases, leases_folder
from tests.waiting import wait_until

ACQUIRE_AND_WAIT = """
import sys, time
from pathlib import Path
from bench.measuring.sharing.leases import Leases
with Leases(Path(sys.argv[1])) as leases:
    print(leases.acquire("block", "softmax at 1024"), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the block."""
    words = [sys.executable, "-c", ACQUIRE_AND_WAIT, str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def forged(out, name, **changes):
    """A lease of somebody else."""
    leases_folder(out).mkdir(parents=True, exist_ok=True)
    file = leases_folder(out) / name
    file.write_text(json.dumps({"host": "elsewhere", "pid": os.getpid()} | changes))
    return file


def test_work_is_held_until_it_is_released_and_nothing_is_left_behind(tmp_path):
    open_before = psutil.Process().num_fds()
    with Leases(tmp_path) as one, Leases(tmp_path) as another:
        assert one.acquire("block") and not another.acquire("block")
        assert another.acquire("other block")
        one.release("block")
        assert another.acquire("block")
    assert not leases_folder(tmp_path).exists()
    assert psutil.Process().num_fds() == open_before


def test_of_many_sweeps_that_try_at_once_one_takes_over_what_a_dead_one_held(tmp_path):
    barrier = threading.Barrier(16)
    with ExitStack() as stack:
        sweeps = [stack.enter_context(Leases(tmp_path)) for _ in range(16)]
        for number in range(50):
            name, taken = f"block {number}", []
            os.utime(forged(tmp_path, name), (0, 0))

            def attempt(leases, name=name, taken=taken):
                barrier.wait()
                taken.append(leases.acquire(name))

            threads = [threading.Thread(target=attempt, args=(leases,)) for leases in sweeps]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(taken) == [False] * 15 + [True]


def test_a_holder_on_this_host_is_seen_dead_at_once(tmp_path, other):
    with Leases(tmp_path) as leases:
        assert not leases.acquire("block")
        ((name, holder),) = leases.others()
        assert name == "block" and holder.pid == other.pid and holder.what == "softmax at 1024"
        other.kill()
        other.wait()
        assert list(leases.others()) == []
        assert leases.acquire("block")


@pytest.mark.parametrize("sign", [1, -1], ids=["past", "future"])
def test_any_other_holder_is_dead_if_its_lease_was_not_touched_for_a_minute(
    tmp_path, monkeypatch, sign
):
    now = forged(tmp_path, "block").stat().st_mtime
    with Leases(tmp_path) as leases:
        monkeypatch.setattr(module, "unix_s", lambda: now + sign * 59)
        assert not leases.acquire("block")
        assert [holder.host for _, holder in leases.others()] == ["elsewhere"]
        monkeypatch.setattr(module, "unix_s", lambda: now + sign * 61)
        assert leases.acquire("block")


def test_all_that_is_held_is_touched(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "TOUCH_EVERY_S", 0.01)
    with Leases(tmp_path) as leases:
        files = [leases_folder(tmp_path) / name for name in ("block 1", "block 2")]
        for file in files:
            leases.acquire(file.name)
            os.utime(file, (0, 0))
        wait_until(lambda: all(file.stat().st_mtime for file in files), 60)


def test_a_folder_that_another_sweep_has_removed_is_made_again(tmp_path):
    with Leases(tmp_path) as leases:
        leases_folder(tmp_path).rmdir()
        assert leases.acquire("block")


def test_a_sweep_that_lost_its_lease_while_it_was_stopped_leaves_the_new_holders_alone(tmp_path):
    with Leases(tmp_path) as leases:
        leases.acquire("block")
        os.utime(leases_folder(tmp_path) / "block", (0, 0))
        with Leases(tmp_path) as another:
            assert another.acquire("block")
            leases.release("block")
            assert not leases.acquire("block")
