"""`python -m tests.cheats [NAME …]`: each misdeed, its end, and the ratio of `linear` beside it.

Each misdeed is swept with `linear` and softmax in its block. Without a NAME, commands are run where
a package, a variable or a limit would stop them. The cost of checking shared state is
printed as well. Exits with 1 if a misdeed does not end as it must.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench.core.record import Record, Status
from bench.measuring.device import device_named
from bench.measuring.measure import attributes
from bench.measuring.measure.state import SETTINGS, Watch
from bench.measuring.worker.launch import WorkerServer
from bench.measuring.worker.roofs import Roofs
from bench.publishing.metrics.marks import marks
from bench.publishing.metrics.speedup import speedup
from tests.bench.measuring.test_config import BASE
from tests.bench.measuring.test_run import run
from tests.cheats import at_import, neighbours  # noqa: F401  # which register more misdeeds
from tests.cheats.commands import ended
from tests.cheats.misdeeds import MISDEEDS, SHAPE, Misdeed

NEIGHBOURS = ["linear", "softmax"]
MEASURE = BASE["measure"] | {"budget_s": 0.5, "min_rounds": 15, "max_rounds": 400}
WIDTH = 90
EVERYWHERE = ("claims untested", "noisy")
"""Marks that any plugin's row has, or any row of a busy machine."""


def ratio(record: Record | None) -> str:
    """Softmax's time over this entry's, with its interval."""
    found = speedup(record) if record is not None else None
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.median:.2f}"
    return f"{found.median:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _short(told: str) -> str:
    return (told if len(told) <= WIDTH else f"{told[:WIDTH]}…").replace("|", "\\|")


def end(misdeed: Misdeed, record: Record) -> str:
    """The end of a misdeed's cell in words, and how it differs from the required one."""
    fault = misdeed.fault(record)
    told = _short(record.reason or "; ".join(m for m in marks(record) if m not in EVERYWHERE))
    words = f"`{record.status}`" + (f": {told}" if told else "")
    return words if fault is None else f"**not met** ({fault}) {words}"


def cost_of_looks() -> str:
    """Sentences on the time of a check after each turn, here, where all mechanisms are loaded."""
    attributes.watch_loaded()
    watch = Watch(threads=True)
    watch.begin("it")
    clock, samples = device_named("cpu"), []
    for _ in range(200):
        samples.append(1e6 * clock.time_calls(lambda: watch.change("it"), 5) / 5)
    num_attributes = sum(len(owner.names) for owner in attributes._owners)
    return (
        f"The look after each turn takes {median(samples):.0f} µs here, {min(samples):.0f} µs at "
        f"best, for {num_attributes:,} attributes and {len(SETTINGS) - 1} other settings. It lies "
        "outside of samples, which last a millisecond or more."
    )


def main(names: list[str]) -> int:
    """Print a table in Markdown, line by line; returns the exit code."""
    chosen = [m for m in MISDEEDS if not names or m.name in names]
    are_met = []
    with WorkerServer() as server:
        alone = run(server, NEIGHBOURS, run=BASE["run"], measure=MEASURE, **SHAPE)
        print("| what the mechanism does | what becomes of it | its ratio | ratio of `linear` |")
        print("|---|---|---|---|")
        print(f"| (none is there) | | | {ratio(alone['linear'])} |", flush=True)
        for one in chosen:
            with_roofs = {"roofs": Roofs(), "run": BASE["run"], "measure": MEASURE}
            records = run(server, [one.name, *NEIGHBOURS], **with_roofs, **one.shape)
            own, linear = records[one.name], records["linear"]
            is_lost = linear.status is not Status.OK
            beside = f"**lost**: {linear.reason}" if is_lost else ratio(linear)
            print(f"| {one.words} | {end(one, own)} | {ratio(own)} | {beside} |", flush=True)
            are_met.append(not is_lost and one.fault(own) is None)
    with TemporaryDirectory() as folder:
        for case in () if names else ended(Path(folder)):
            told = f"said: {_short(case.told)}" if case.told else "**not met**"
            print(f"| {case.words} | {told} | | {ratio(case.linear)} |", flush=True)
            are_met.append(bool(case.told))
    print(f"\n{cost_of_looks()}")
    print(f"{sum(are_met)} of {len(are_met)} end as they must.")
    return int(not all(are_met))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
