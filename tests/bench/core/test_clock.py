import subprocess
import sys
import time
from datetime import UTC, datetime

from bench.core import clock as clocks
from bench.measuring.device import device_named


def test_a_clock_that_is_replaced_later_changes_no_measurement_and_is_seen(monkeypatch):
    before = clocks.time_functions()
    assert clocks.time_functions() == before
    for name in ("perf_counter", "perf_counter_ns", "process_time_ns", "sleep", "time"):
        with monkeypatch.context() as patch:
            patch.setattr(time, name, lambda: 0)
            assert clocks.time_functions() != before
            assert device_named("cpu").time_calls(lambda: None, 1) > 0
            assert clocks.now_s() > 0 and clocks.cpu_s() > 0


def test_dates_are_utc_to_the_millisecond_and_stamps_fit_a_file_name(monkeypatch):
    class Written(datetime):
        @classmethod
        def now(cls, tz=None):
            assert tz is UTC
            return cls(2031, 5, 6, 7, 8, 9, 123456, tzinfo=tz)

    monkeypatch.setattr(clocks, "datetime", Written)
    assert clocks.utc_now() == "2031-05-06T07:08:09.123+00:00"
    assert clocks.utc_stamp() == "20310506T070809"


def test_the_age_of_a_process_is_right_to_the_tenth_of_a_second():
    code = "from bench.core.clock import process_age_s; print(process_age_s())"
    began_s = clocks.now_s()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(said.stdout) < clocks.now_s() - began_s + 0.02
