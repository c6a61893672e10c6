"""All misdeeds of `tests.cheats` in one sweep: each ends as it must, and nobody else notices."""

import io
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from bench.core.record import Record, Status
from bench.measuring.worker.roofs import Roofs
from bench.publishing.config import PublishConfig, WandbConfig
from bench.publishing.publish import publish
from bench.publishing.terminal import print_leaderboard
from tests.bench.measuring.test_config import BASE
from tests.bench.measuring.test_run import QUICK, run
from tests.cheats import at_import, neighbours  # noqa: F401  # which register more misdeeds
from tests.cheats.commands import ended
from tests.cheats.misdeeds import MISDEEDS, child_of

pytestmark = pytest.mark.xdist_group("cheats")  # which share their sweeps

NEIGHBOURS = ("linear", "softmax")
LEFT_OUT = ("burns_core",)
"""On a busy machine its thread gets too little of a core to be seen."""
REPRESENTATIVES = (
    *("zeros_beyond_1024", "right_at_first", "changes_inputs", "sets_threads", "freezes_clock"),
    *("starts_child", "long_last_words", "leaks_future", "replaces_at_import", "rests_when_timed"),
)
"""Some of each kind: the others are among the slow tests."""
FIRST = [m for m in MISDEEDS if m.name in REPRESENTATIVES]
OTHERS = [m for m in MISDEEDS if m.name not in (*REPRESENTATIVES, *LEFT_OUT)]


def swept(workers, misdeeds):
    # Enough rounds for what goes wrong at the 13th call.
    measure = QUICK | {"min_rounds": 12, "max_rounds": 12}
    records = {}
    for shape in {repr(m.shape): m.shape for m in misdeeds}.values():
        names = [*(m.name for m in misdeeds if m.shape == shape), *NEIGHBOURS]
        found = run(workers, names, roofs=Roofs(), run=BASE["run"], measure=measure, **shape)
        records = found | records
    return records


@pytest.fixture(scope="module")
def records(workers):
    return swept(workers, FIRST)


@pytest.fixture(scope="module")
def other_records(workers):
    return swept(workers, OTHERS)


@pytest.mark.parametrize("misdeed", FIRST, ids=lambda m: m.name)
def test_a_misdeed_ends_as_it_must(records, misdeed):
    record = records[misdeed.name]
    assert misdeed.fault(record) is None, f"{record.status}: {record.reason}"


@pytest.mark.slow
@pytest.mark.parametrize("misdeed", OTHERS, ids=lambda m: m.name)
def test_each_other_misdeed_ends_as_it_must(other_records, misdeed):
    record = other_records[misdeed.name]
    assert misdeed.fault(record) is None, f"{record.status}: {record.reason}"


@pytest.mark.slow
def test_each_command_goes_on_or_says_why_not(tmp_path):
    assert [case.words for case in ended(tmp_path) if not case.told] == []


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_its_neighbours_are_measured_beside_their_reference(records, name):
    assert records[name].status is Status.OK, records[name].reason
    assert len(records[name].result.reference_latency_s) == len(records[name].result.latency_s)


def test_no_child_process_is_left(workers, records):
    commands = [process.info["cmdline"] for process in psutil.process_iter(["cmdline"])]
    assert child_of(workers._process.pid) not in commands


def test_every_record_can_be_read_printed_and_exported_again(records, tmp_path):
    all_of_them = list(records.values())
    lines = [record.to_json() for record in all_of_them]
    assert max(map(len, lines)) < 60_000
    assert [Record.from_json(line) for line in lines] == all_of_them
    config = PublishConfig(
        out=tmp_path,
        metrics=("latency_s",),
        columns=("latency_s",),
        charts=False,
        wandb=WandbConfig(mode="disabled"),
    )
    published = publish(all_of_them, config)
    assert "\x1b" not in Path(tmp_path, "leaderboard.md").read_text()
    print_leaderboard(published.board, config, Console(file=io.StringIO(), width=100))


def test_the_page_shows_every_misdeed():
    page = Path(__file__).parents[2].joinpath("docs", "methodology", "timing.md").read_text()
    assert [m.words for m in MISDEEDS if f"| {m.words} | `" not in page] == []
