"""A timing has its device for itself, and whoever waits comes next."""

import pytest

from bench.sharing import devices
from bench.sharing.devices import DeviceLock


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "_folder", lambda: tmp_path)
    monkeypatch.setattr(devices, "_identity", lambda device: device)


def test_a_timing_takes_its_device_alone_and_no_other():
    first, second = DeviceLock("cpu", shared=False), DeviceLock("cpu", shared=False)
    assert first.try_take() and not second.try_take()
    assert DeviceLock("cuda:0", shared=False).try_take()
    first.release()
    assert second.try_take()


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
