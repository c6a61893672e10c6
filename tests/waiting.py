"""Wait for what must happen sooner or later, instead of asserting how long it takes."""

import time


def wait_until(holds, patience_s=30.0):
    ends = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < ends, "it never happened"
        time.sleep(0.02)
