"""A unit of work has one holder at a time, and a dead one does not keep it."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from socket import gethostname

import psutil
import pytest

from bench.core.clock import now_s, sleep_s
from bench.core.store import StoreError
from bench.measuring.sharing import leases as module
from bench.measuring.sharing.leases import Leases, leases_folder

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
    flat = module.asdict(module._me()) | {"host": "elsewhere"} | changes
    file = leases_folder(out) / name
    file.write_text(json.dumps(flat))
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


def test_of_many_who_try_at_once_one_gets_it(tmp_path):
    forged(tmp_path, "block", host=gethostname(), pid=2**22 + 1)  # a dead one's, to be taken over
    with Leases(tmp_path) as leases:
        taken = []
        barrier = threading.Barrier(16)

        def attempt():
            barrier.wait()
            taken.append(leases.acquire("block"))

        threads = [threading.Thread(target=attempt) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == [False] * 15 + [True]


def test_a_holder_on_this_host_is_seen_dead_at_once_even_before_its_parent_has_noticed(
    tmp_path, other
):
    with Leases(tmp_path) as leases:
        assert not leases.acquire("block")
        ((name, holder),) = leases.others()
        assert name == "block" and holder.pid == other.pid and holder.what == "softmax at 1024"
        os.utime(leases_folder(tmp_path) / "block", (0, 0))  # it may be suspended for an hour
        assert not leases.acquire("block")
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert list(leases.others()) == []
        assert leases.acquire("block")


@pytest.mark.parametrize(("apart_s", "is_another"), [(1.5, False), (3.0, True)])
def test_a_process_that_has_got_the_number_of_a_dead_holder_is_not_taken_for_it(
    tmp_path, apart_s, is_another
):
    # A start follows from the boot time, which moves when the clock is set.
    forged(tmp_path, "block", host=gethostname(), started=module._me().started - apart_s)
    with Leases(tmp_path) as leases:
        assert leases.acquire("block") is is_another


def test_a_holder_elsewhere_is_dead_after_a_minute_without_a_heartbeat(tmp_path, monkeypatch):
    file = forged(tmp_path, "block")
    now = file.stat().st_mtime
    with Leases(tmp_path) as leases:
        monkeypatch.setattr(module, "unix_s", lambda: now + 59)
        assert not leases.acquire("block")
        assert [holder.host for _, holder in leases.others()] == ["elsewhere"]
        monkeypatch.setattr(module, "unix_s", lambda: now + 61)
        assert leases.acquire("block")


def test_a_lease_without_words_yet_is_alive(tmp_path):
    forged(tmp_path, "block").write_text("")
    with Leases(tmp_path) as leases:
        assert not leases.acquire("block") and list(leases.others()) == []


def test_a_heartbeat_touches_all_that_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    with Leases(tmp_path) as leases:
        files = [leases_folder(tmp_path) / name for name in ("block 1", "block 2")]
        for file in files:
            leases.acquire(file.name)
            os.utime(file, (0, 0))
        ends_s = now_s() + 60
        while not all(file.stat().st_mtime for file in files) and now_s() < ends_s:
            sleep_s(0.01)
        assert all(file.stat().st_mtime for file in files)


def test_three_heartbeats_in_a_row_may_be_missed_where_clocks_are_half_a_minute_apart():
    assert module.DEAD_AFTER_S - 30 >= 3 * module.HEARTBEAT_S


def test_a_lease_that_another_user_may_alone_read_is_alive_while_it_is_touched(
    tmp_path, monkeypatch
):
    file = forged(tmp_path, "block")

    def refuse(root, path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module, "open_inside", refuse)
    with Leases(tmp_path) as leases:
        assert not leases.acquire("block") and list(leases.others()) == []
        os.utime(file, (0, 0))
        assert leases.acquire("block")


def full(*words, **more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_lease_that_cannot_be_written_is_said_and_holds_nothing(tmp_path, monkeypatch):
    with Leases(tmp_path) as leases, Leases(tmp_path) as another:
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "write", full)
            with pytest.raises(StoreError, match=r"the lease .*block: No space left"):
                leases.acquire("block")
        assert another.acquire("block")


def test_a_folder_that_another_sweep_has_removed_is_made_again(tmp_path, monkeypatch):
    with Leases(tmp_path) as leases:
        leases_folder(tmp_path).rmdir()
        with monkeypatch.context() as patch:
            patch.setattr(module, "folder_inside", full)
            with pytest.raises(StoreError, match=r"claims: No space left"):
                leases.acquire("block")
        assert leases.acquire("block")


def test_a_sweep_that_lost_its_lease_while_it_was_stopped_leaves_the_new_holders_alone(tmp_path):
    with Leases(tmp_path) as leases:
        leases.acquire("block")
        (leases_folder(tmp_path) / "block").unlink()
        file = forged(tmp_path, "block")
        leases.release("block")
        assert file.exists()


def test_whoever_moves_a_living_lease_away_by_mistake_puts_it_back(tmp_path):
    file = forged(tmp_path, "block", host=gethostname(), started=1e9)
    dead = module._look(file)
    file.unlink()
    alive = forged(tmp_path, "block").read_text()  # somebody was faster
    module._remove_expired(file, dead)
    assert file.read_text() == alive and list(leases_folder(tmp_path).iterdir()) == [file]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="the lease"), Leases(tmp_path / "out"):
        pass


def test_the_work_of_each_machine_is_counted_this_one_first(tmp_path):
    forged(tmp_path, "block 1", pid=1, done=4, failed=1)
    forged(tmp_path, "block 2", pid=1, done=5, failed=1)  # the same sweep, later
    forged(tmp_path, "block 3", pid=2, done=2)
    with Leases(tmp_path) as leases:
        leases.done = 3
        expected = {"done": 7, "failed": 1, "running": 3}
        assert leases.by_machine() == {
            gethostname(): {"done": 3, "failed": 0},
            "elsewhere": expected,
        }
        leases.acquire("block 4")
        assert module._look(leases_folder(tmp_path) / "block 4").holder.done == 3
        assert leases.by_machine()[gethostname()] == {"done": 3, "failed": 0, "running": 1}
        assert list(leases.by_machine()) == [gethostname(), "elsewhere"]


def test_a_lease_that_was_touched_in_the_future_is_dead_as_well(tmp_path, monkeypatch):
    file = forged(tmp_path, "block")
    monkeypatch.setattr(module, "unix_s", lambda: file.stat().st_mtime - 61)
    with Leases(tmp_path) as leases:
        assert leases.acquire("block")


def test_a_process_of_another_container_under_this_hosts_name_is_not_looked_for_here(tmp_path):
    forged(tmp_path, "block", host=gethostname(), pids="pid:[1]", pid=2**22 + 1)
    with Leases(tmp_path) as leases:
        assert not leases.acquire("block")


@pytest.mark.parametrize(("age_s", "is_over"), [(1.0, False), (61.0, True)])
def test_a_takeover_is_left_to_whoever_began_it_for_a_minute(tmp_path, monkeypatch, age_s, is_over):
    file = forged(tmp_path, "block", host=gethostname(), started=1e9)
    dead = module._look(file)
    digest = hashlib.sha256(f"{dead.text} {dead.touched}".encode()).hexdigest()
    grave = file.with_name(f".block.{digest[:16]}")
    grave.touch()
    monkeypatch.setattr(module, "unix_s", lambda: grave.stat().st_mtime + age_s)
    module._remove_expired(file, dead)
    assert file.exists() and grave.exists() is not is_over
