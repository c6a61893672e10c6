"""A timing has its device for itself, and whoever waits comes next."""

import errno
import os
from unittest.mock import Mock

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.device import KINDS
from bench.measuring.sharing import devices
from bench.measuring.sharing.devices import DeviceLock
from tests.fake_device import FakeDevice

FOLDER = devices._folder
"""As it is outside of tests, which have folders of their own."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_folder", lambda: tmp_path)
    monkeypatch.setitem(KINDS, "cuda", FakeDevice)


def test_a_timing_takes_its_device_alone_and_no_other():
    first, second = DeviceLock("cpu", shared=False), DeviceLock("cpu", shared=False)
    assert first.try_take() and not second.try_take()
    assert DeviceLock("cuda:0", shared=False).try_take()
    first.release()
    assert second.try_take()


def test_nobody_else_may_open_what_is_locked(tmp_path):
    assert DeviceLock("cpu", shared=False).try_take()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_trainings_share_a_device_and_a_timing_waits_for_all_of_them():
    one, another = DeviceLock("cpu", shared=True), DeviceLock("cpu", shared=True)
    timing = DeviceLock("cpu", shared=False)
    assert one.try_take() and another.try_take()
    one.release()
    assert not timing.try_take()
    another.release()
    assert timing.try_take()


def test_who_waits_goes_before_those_who_come_later():
    training, timing = DeviceLock("cpu", shared=True), DeviceLock("cpu", shared=False)
    late = DeviceLock("cpu", shared=True)
    assert training.try_take() and not timing.try_take()
    assert not late.try_take(), "trainings without an end would keep every timing away"
    training.release()
    assert timing.try_take()


def test_who_leaves_the_line_keeps_nobody():
    training, timing = DeviceLock("cpu", shared=True), DeviceLock("cpu", shared=False)
    assert training.try_take() and not timing.try_take()
    timing.release()
    assert DeviceLock("cpu", shared=True).try_take()


def test_trainings_of_another_store_keep_no_timing_away(tmp_path):
    training = DeviceLock("cpu", shared=True, store=tmp_path / "one")
    assert training.try_take()
    assert not DeviceLock("cpu", shared=False, store=tmp_path / "one").try_take()
    assert DeviceLock("cpu", shared=False, store=tmp_path / "another").try_take()
    assert DeviceLock("cpu", shared=False).try_take()


@pytest.fixture
def said(monkeypatch, capsys):
    """What is said of locks, with nothing said before."""
    devices._say_unlocked.cache_clear()
    return lambda: capsys.readouterr().err


def test_without_a_folder_for_locks_all_go_on_and_it_is_said(monkeypatch, said):
    def refuse(name):
        raise ConfigError(f"/tmp/{name} belongs to another user")

    monkeypatch.setattr(devices, "shared_folder", refuse)
    monkeypatch.setattr(devices, "_folder", FOLDER.__wrapped__)
    one, other = DeviceLock("cpu", shared=False), DeviceLock("cpu", shared=False)
    assert one.try_take() and other.try_take()
    one.release()
    assert said().count("belongs to another user, so devices are not locked.") == 1


def test_a_lock_that_is_a_link_is_not_followed(tmp_path, said):
    lock = DeviceLock("cpu", shared=False)
    lock._path.with_suffix(".turn").symlink_to(tmp_path / "mine")
    assert lock.try_take()
    assert not (tmp_path / "mine").exists() and "cannot be locked" in said()


def test_a_file_system_without_locks_keeps_nobody_waiting(monkeypatch, said):
    monkeypatch.setattr(
        devices.fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))
    )
    assert DeviceLock("cpu", shared=False).try_take()
    assert "No locks available" in said()
