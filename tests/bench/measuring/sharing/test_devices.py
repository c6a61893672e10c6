"""A timing has its device for itself, and whoever waits comes next."""

import errno
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from bench.core.cli.errors import ConfigError
from bench.measuring.device import KINDS
from bench.measuring.sharing import devices
from bench.measuring.sharing.devices import DeviceLock, alone_on
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


def test_a_card_is_one_device_whatever_number_a_process_knows_it_by(monkeypatch):
    monkeypatch.setattr(FakeDevice, "identity", property(lambda device: "the same card"))
    assert DeviceLock("cuda:0", shared=False).try_take()
    assert not DeviceLock("cuda:1", shared=False).try_take()


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


def test_trainings_of_another_store_keep_no_timing_away(tmp_path, monkeypatch):
    training = DeviceLock("cpu", shared=True, store=tmp_path / "one")
    assert training.try_take()
    monkeypatch.chdir(tmp_path)  # however the folder is named
    assert not DeviceLock("cpu", shared=False, store=Path("one")).try_take()
    assert not DeviceLock("cpu", shared=False, store=tmp_path / "one").try_take()
    assert DeviceLock("cpu", shared=False, store=tmp_path / "another").try_take()
    assert DeviceLock("cpu", shared=False).try_take()


def test_a_timing_of_a_sweep_is_alone_among_its_own_trainings_and_all_timings(tmp_path):
    for is_training in (True, False):
        own = tmp_path if is_training else None
        first = DeviceLock("cpu", shared=is_training, store=own)
        assert first.try_take()
        said = []
        with alone_on("cpu", lambda seconds, it=first: it.release(), said.append, store=tmp_path):
            assert said == ["waiting for cpu, where something else is measured"]
            late = DeviceLock("cpu", shared=is_training, store=own)
            assert not late.try_take()
        assert late.try_take(), "it was kept"
        late.release()


@pytest.fixture
def said(monkeypatch, capsys):
    """Notes about locks, with none printed before."""
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


def test_a_file_system_without_locks_keeps_nobody_waiting(monkeypatch, said):
    monkeypatch.setattr(
        devices.fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)))
    )
    assert DeviceLock("cpu", shared=False).try_take()
    assert "No locks available" in said()
