"""`python -m tests.torture [PART …] [PART=COUNT …] [seed=N]`: all parts, or those that are named.

The seed defaults to digits of the commit. Results go to results/torture/ and, after a whole run,
into docs/reliability.md. Exits with 1 if there is a fault, or if trials are missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.files import write_whole
from bench.core.clock import utc_now, utc_stamp
from bench.core.format import format_duration
from bench.measuring.machine.environment import current
from tests.page_parts import with_part
from tests.torture.disks import disks
from tests.torture.kills import kills, studies
from tests.torture.links import links
from tests.torture.mechanisms import mechanisms
from tests.torture.overrides import overrides
from tests.torture.parallel import parallel
from tests.torture.stores import stores
from tests.torture.trial import ROOT, Part, Trial

PARTS: dict[str, tuple[Part, int]] = {
    "overrides": (overrides, 1000),
    "stores": (stores, 500),
    "links": (links, 400),
    "mechanisms": (mechanisms, 65),
    "parallel": (parallel, 24),
    "disks": (disks, 36),
    "studies": (studies, 24),
    "kills": (kills, 150),
}
"""Parts, each with its number of trials in a whole run."""

WORDS = {
    "overrides": "malformed words on command lines",
    "stores": "damaged stores",
    "links": "links, pipes and devices in stores",
    "mechanisms": "misbehaving mechanisms",
    "parallel": "sweeps, eight at a time into one store",
    "disks": "full disks",
    "studies": "SIGKILLs of convert, text and hybrids",
    "kills": "SIGKILLs at random instants",
}

BUDGET_S = 3600.0
"""Seconds after which no trial begins; a part that then lacks trials is not met."""

RESULTS = ROOT / "results" / "torture"
PAGE = ROOT / "docs" / "reliability.md"


@dataclass(kw_only=True)
class Came:
    """Results of a part.

    Attributes:
        wanted: requested number of trials.
        ends: number of trials by what was done.
        faults: descriptions, one per trial that had a fault.
        wall_s: seconds that the trials took.
    """

    wanted: int
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def num_trials(self) -> int:
        """Number of trials that were made."""
        return self.ends.total()

    @property
    def is_met(self) -> bool:
        """Whether all trials were made, and none had a fault."""
        return not self.faults and self.num_trials >= self.wanted


def torture(
    wanted: dict[str, int], seed: int, say: Callable[[str], None], until_s: float
) -> dict[str, Came]:
    """Make all trials, part by part, until Ctrl-C.

    Args:
        wanted: number of trials, by part.
        seed: of the draws of each part.
        say: called with a line of progress after each trial.
        until_s: reading of `time.monotonic` after which no trial begins.
    """
    came: dict[str, Came] = {}
    with suppress(KeyboardInterrupt):  # the trials made until then are reported
        for name, count in wanted.items():
            part, began = came.setdefault(name, Came(wanted=count)), time.monotonic()
            with tempfile.TemporaryDirectory(prefix="attnbench-torture-") as folder:
                for trial in PARTS[name][0](count, Random(f"{seed} {name}"), Path(folder)):
                    _count(part, trial)
                    part.wall_s = round(time.monotonic() - began, 1)
                    say(_progress(name, part))
                    if time.monotonic() > until_s:
                        break
    return came


def _count(part: Came, trial: Trial) -> None:
    part.ends[trial.what] += 1
    if trial.fault:
        part.faults.append(f"{trial.what}: {trial.fault}")


def _progress(name: str, part: Came) -> str:
    left_s = part.wall_s / part.num_trials * max(0, part.wanted - part.num_trials)
    return (
        f"{name} {part.num_trials}/{part.wanted}, {len(part.faults)} faults, "
        f"about {format_duration(left_s)} left"
    )


def asked(words: Sequence[str]) -> tuple[dict[str, int], int | None]:
    """The number of trials of each part, and the seed; None if none is given.

    Raises:
        ConfigError: an unknown word, or a count that is not a whole number.
    """
    wanted: dict[str, int] = {}
    seed = None
    for word in words:
        name, given, number = word.partition("=")
        if name not in PARTS and name != "seed":
            raise ConfigError(f"{word}: {did_you_mean(name, [*PARTS, 'seed'])}")
        if given and not number.isdecimal():
            raise ConfigError(f"{word}: {name} takes a whole number.")
        if name == "seed":
            seed = int(number or 0)
        else:
            wanted[name] = int(number) if given else PARTS[name][1]
    return wanted or {name: count for name, (_, count) in PARTS.items()}, seed


def is_whole(came: dict[str, Came]) -> bool:
    """Whether every part has been run, with as many trials as a whole run has."""
    return all(name in came and came[name].wanted >= count for name, (_, count) in PARTS.items())


def table(came: dict[str, dict[str, Any]]) -> str:
    """Results of a run as a table in Markdown."""
    lines = ["| attack | trials | faults | time |", "|---|--:|--:|--:|"]
    for name, part in came.items():
        trials, faults = sum(part["ends"].values()), len(part["faults"])
        took = format_duration(part["wall_s"])
        lines.append(f"| {WORDS[name]} | {trials:,} | {faults:,} | {took} |")
    return "\n".join(lines)


def page_text(page: str, result: dict[str, Any]) -> str:
    """The page with the results of a run in place of those before."""
    line = (
        f"Measured {result['started_at'][:10]} at commit {result['commit'][:7]} with seed "
        f"{result['seed']}, on {result['num_cores']} cores of a {result['processor']}:"
    )
    return with_part(page, "torture", f"{line}\n\n{table(result['parts'])}")


def main(words: Sequence[str]) -> int:
    """Run the requested parts and store the results; returns the exit code."""
    try:
        wanted, seed = asked(words)
    except ConfigError as error:
        return print_error(error)
    started_at, here = utc_now(), current((), "retain", {}).to_dict()
    seed = int(here["commit"][:8], 16) if seed is None else seed
    is_seen = sys.stderr.isatty()

    def say(line: str) -> None:
        print(f"\r{line}\x1b[K" if is_seen else line, end="" if is_seen else "\n", file=sys.stderr)

    came = torture(wanted, seed, say, time.monotonic() + BUDGET_S)
    parts = {name: vars(part) | {"ends": dict(part.ends)} for name, part in came.items()}
    facts = {key: here.get(key) for key in ("commit", "is_dirty", "processor", "num_cores")}
    result = {"started_at": started_at, "seed": seed} | facts | {"parts": parts}
    file = write_whole(RESULTS / f"{utc_stamp()}.json", json.dumps(result, indent=1) + "\n")
    if is_whole(came):
        write_whole(PAGE, page_text(PAGE.read_text(), result))
    print(f"\n{table(parts)}\n\nWrote {file}")
    for name, part in came.items():
        for fault in part.faults:
            print(f"\n{name}: {fault[:3000]}")
    return 0 if all(part.is_met for part in came.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
