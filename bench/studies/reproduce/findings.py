"""Findings of claims' functions, kept in ``<folder>/findings/<id>.json``. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Len

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.limits import Amount, Count, Number, Rate, Rule, Text, from_json
from bench.core.cli.texts import is_visible
from bench.core.format import quantity
from bench.publishing.charts.plain import Curves
from bench.publishing.naming import commit_label, commits_in_words
from bench.studies.reproduce.verdicts import PaperVerdict

_ROUNDING = 1e-12

SHARE = "share of right answers"
"""Unit of findings whose rows are scores of arms."""


@dataclass(frozen=True, kw_only=True)
class FindingRow:
    """One line of a finding's numbers.

    Attributes:
        name: what was measured.
        value: the number, in `Finding.unit`.
        low, high: its 95 % interval over seeds; None where it is exact.
        rate: learning rate of the trained arm; None where nothing was trained, or several were.
        rate_chosen: how that rate was chosen, such as ``searched``.
        steps: parameter updates, as ``300 to 390 of 600``.
        ended: how each run ended, as ``plateau 2, maximum 1``.
        num_seeds: of training; None where nothing was trained.
    """

    name: Text
    value: Number
    low: Number | None = None
    high: Number | None = None
    rate: Rate | None = None
    rate_chosen: Text = ""
    steps: Text = ""
    ended: Text = ""
    num_seeds: Count | None = None

    @property
    def num_unsettled(self) -> int:
        """Number of seeds that were still improving when their steps were spent."""
        found = re.search(r"\bmaximum (\d+)", self.ended)
        return int(found[1]) if found else 0

    @property
    def training(self) -> str:
        """As ``rate 0.003 (searched), 390 of 600 steps, ended by plateau 3, 3 seeds``, or empty."""
        parts = (
            "" if self.rate is None else f"rate {self.rate:g} ({self.rate_chosen})",
            f"{self.steps} steps" * bool(self.steps),
            f"ended by {self.ended}" * bool(self.ended),
            "" if self.num_seeds is None else quantity(self.num_seeds, "seed"),
        )
        return ", ".join(part for part in parts if part)

    @property
    def number(self) -> str:
        """The value with four significant digits; 0 for what is no more than a rounding error."""
        return _number(self.value)

    @property
    def interval(self) -> str:
        """As ``-0.005 to -0.001``; empty where it is exact."""
        if self.low is None or self.high is None:
            return ""
        return f"{_number(self.low)} to {_number(self.high)}"

    def __str__(self) -> str:
        """As ``nala, norms 2 to 4: -0.003 (-0.005 to -0.001); rate 0.003 (searched), 3 seeds``."""
        words = f"{self.name}: {self.number}{f' ({self.interval})' * bool(self.interval)}"
        return f"{words}; {self.training}" if self.training else words


def _number(value: float) -> str:
    return "0" if abs(value) < _ROUNDING else f"{value:.4g}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Finding of a claim's function.

    Attributes:
        verdict: holds, does not hold, or holds where.
        words: the sentence that says so, with its numbers and their range.
        rows: the numbers.
        unit: of the numbers, in words.
        curves: what a figure shows; None for none.
        value, low, high: the one number that a published one is compared with; None for none.
        seconds: wall time, with that of runs which an earlier command stored.
        measured_at: UTC, ISO 8601.
        processor: of the machine, or of those of its runs.
        commit: of the checkout, with ``*`` for uncommitted changes.
        trained_commits: of the runs that it rests on, in the same form; empty without training.
        criterion: digest of the entry that was judged, as `criterion_of` gives it; empty in
            findings from before it was kept.
        training_version: of the runs that it rests on.
        looks: planned numbers of seeds of a sequential study; empty for any other.
    """

    verdict: PaperVerdict
    words: Annotated[str, Len(0, 20_000), Rule(is_visible, "printable")]
    rows: tuple[FindingRow, ...] = ()
    unit: Text = ""
    curves: Curves | None = None
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    seconds: Amount = 0.0
    measured_at: Text = ""
    processor: Text = ""
    commit: Text = ""
    trained_commits: tuple[Text, ...] = ()
    criterion: Text = ""
    training_version: int = 1
    looks: tuple[Count, ...] = ()

    @property
    def origin(self) -> str:
        """As ``measured 2026-11-28 at commit 1a2b3c4 on Intel(R) Xeon(R)``."""
        return f"measured {self.measured_at[:10]} at {self.commits} on {self.processor}"

    @property
    def commits(self) -> str:
        """As ``commits 1a2b3c4, 2b3c4d5``: those of its runs, or of the code that measured."""
        kept = self.trained_commits or (self.commit,)
        return commits_in_words(commit_label(c.rstrip("*"), c.endswith("*")) for c in kept)


def finding_file(out: Path, name: str) -> Path:
    """File of a claim's finding."""
    return out / "findings" / f"{name}.json"


def write_finding(out: Path, name: str, finding: Finding) -> Path:
    """Store a finding, in place of an earlier one of the same id; returns the file.

    Raises:
        ConfigError: one of its numbers is not finite.
    """
    try:
        content = json.dumps(asdict(finding), indent=1, allow_nan=False) + "\n"
    except ValueError as error:
        raise ConfigError(
            f"{name}: a number of its finding is not finite, so that nothing was stored. Choose "
            "less extreme settings in its entry."
        ) from error
    return write_whole(finding_file(out, name), content, inside=out)


def read_finding(out: Path, name: str) -> Finding | None:
    """Read the stored finding; None if there is none.

    Raises:
        ConfigError: the file does not hold a finding.
    """
    file = finding_file(out, name)
    if not file.exists():
        return None
    try:
        found: Finding = from_json((Finding,), file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} does not hold a finding ({error!r}). Delete it.") from error
    return found


def newest_finding(stores: Sequence[Path], name: str) -> Finding | None:
    """The finding that was measured last among those of several folders; None if none has one."""
    found = [finding for store in stores if (finding := read_finding(store, name)) is not None]
    return max(found, key=lambda finding: finding.measured_at, default=None)
