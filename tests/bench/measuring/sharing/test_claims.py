"""A piece of work has one owner at a time, and a dead one does not keep it."""

import hashlib
import json
import os
import subprocess
import sys
import threading

import pytest

from bench.core.clock import now_s, sleep_s
from bench.core.store import StoreError
from bench.measuring.sharing import claims as module
from bench.measuring.sharing.claims import Claims, claims_folder

CLAIM_AND_WAIT = """
import sys, time
from pathlib import Path
from bench.measuring.sharing.claims import Claims
with Claims(Path(sys.argv[1])) as claims:
    print(claims.take("block", "softmax at 1024"), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the block."""
    words = [sys.executable, "-c", CLAIM_AND_WAIT, str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def forged(out, name, **changes):
    """A claim of somebody else."""
    claims_folder(out).mkdir(parents=True, exist_ok=True)
    flat = module.asdict(module._me()) | {"host": "elsewhere"} | changes
    file = claims_folder(out) / name
    file.write_text(json.dumps(flat))
    return file


def test_work_is_held_until_it_is_released_and_nothing_is_left_behind(tmp_path):
    with Claims(tmp_path) as one, Claims(tmp_path) as another:
        assert one.take("block") and not another.take("block")
        assert another.take("other block")
        one.release("block")
        assert another.take("block")
    assert not claims_folder(tmp_path).exists()


def test_of_many_who_try_at_once_one_gets_it(tmp_path):
    forged(tmp_path, "block", host=module._host(), pid=2**22 + 1)  # a dead one's, to be taken over
    with Claims(tmp_path) as claims:
        taken = []
        barrier = threading.Barrier(16)

        def attempt():
            barrier.wait()
            taken.append(claims.take("block"))

        threads = [threading.Thread(target=attempt) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == [False] * 15 + [True]


def test_an_owner_on_this_host_is_seen_dead_at_once_even_before_its_parent_has_noticed(
    tmp_path, other
):
    with Claims(tmp_path) as claims:
        assert not claims.take("block")
        ((name, owner),) = claims.others()
        assert name == "block" and owner.pid == other.pid and owner.what == "softmax at 1024"
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and still a zombie
        assert list(claims.others()) == []
        assert claims.take("block")


def test_a_process_that_has_got_the_number_of_a_dead_owner_is_not_taken_for_it(tmp_path):
    forged(tmp_path, "block", host=module._host(), started=1e9)
    with Claims(tmp_path) as claims:
        assert claims.take("block")


def test_an_owner_elsewhere_is_dead_after_a_minute_without_a_heartbeat(tmp_path, monkeypatch):
    file = forged(tmp_path, "block")
    now = file.stat().st_mtime
    with Claims(tmp_path) as claims:
        monkeypatch.setattr(module, "unix_s", lambda: now + 59)
        assert not claims.take("block")
        assert [owner.host for _, owner in claims.others()] == ["elsewhere"]
        monkeypatch.setattr(module, "unix_s", lambda: now + 61)
        assert claims.take("block")


def test_a_claim_without_words_yet_is_alive(tmp_path):
    forged(tmp_path, "block").write_text("")
    with Claims(tmp_path) as claims:
        assert not claims.take("block") and list(claims.others()) == []


def test_a_heartbeat_touches_what_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    with Claims(tmp_path) as claims:
        claims.take("block")
        file = claims_folder(tmp_path) / "block"
        os.utime(file, (0, 0))
        ends_s = now_s() + 60
        while file.stat().st_mtime == 0 and now_s() < ends_s:
            sleep_s(0.01)
        assert file.stat().st_mtime > 0


def test_a_sweep_that_lost_its_claim_while_it_was_stopped_leaves_the_new_owners_alone(tmp_path):
    with Claims(tmp_path) as claims:
        claims.take("block")
        (claims_folder(tmp_path) / "block").unlink()
        file = forged(tmp_path, "block")
        claims.release("block")
        assert file.exists()


def test_whoever_moves_a_living_claim_away_by_mistake_puts_it_back(tmp_path):
    file = forged(tmp_path, "block", host=module._host(), started=1e9)
    dead = module._look(file)
    file.unlink()
    alive = forged(tmp_path, "block").read_text()  # somebody was faster
    module._bury(file, dead)
    assert file.read_text() == alive and list(claims_folder(tmp_path).iterdir()) == [file]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="claim"), Claims(tmp_path / "out"):
        pass


def test_the_work_of_each_machine_is_counted_this_one_first(tmp_path):
    forged(tmp_path, "block 1", pid=1, done=4, failed=1)
    forged(tmp_path, "block 2", pid=1, done=5, failed=1)  # the same sweep, later
    forged(tmp_path, "block 3", pid=2, done=2)
    with Claims(tmp_path) as claims:
        claims.done = 3
        expected = {"done": 7, "failed": 1, "running": 3}
        assert claims.by_machine() == {
            module._host(): {"done": 3, "failed": 0},
            "elsewhere": expected,
        }
        claims.take("block 4")
        assert claims.by_machine()[module._host()] == {"done": 3, "failed": 0, "running": 1}
        assert list(claims.by_machine()) == [module._host(), "elsewhere"]


def test_a_claim_that_was_touched_in_the_future_is_dead_as_well(tmp_path, monkeypatch):
    file = forged(tmp_path, "block")
    monkeypatch.setattr(module, "unix_s", lambda: file.stat().st_mtime - 61)
    with Claims(tmp_path) as claims:
        assert claims.take("block")


def test_a_process_of_another_container_under_this_hosts_name_is_not_looked_for_here(tmp_path):
    forged(tmp_path, "block", host=module._host(), pids="pid:[1]", pid=2**22 + 1)
    with Claims(tmp_path) as claims:
        assert not claims.take("block")


@pytest.mark.parametrize(("age_s", "is_over"), [(1.0, False), (61.0, True)])
def test_who_digs_a_grave_is_left_to_it_for_a_minute(tmp_path, monkeypatch, age_s, is_over):
    file = forged(tmp_path, "block", host=module._host(), started=1e9)
    dead = module._look(file)
    digest = hashlib.sha256(f"{dead.text} {dead.touched}".encode()).hexdigest()
    grave = file.with_name(f".block.{digest[:16]}")
    grave.touch()
    monkeypatch.setattr(module, "unix_s", lambda: grave.stat().st_mtime + age_s)
    module._bury(file, dead)
    assert file.exists() and grave.exists() is not is_over
