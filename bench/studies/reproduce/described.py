"""Entries of a paper: cells, claims and contradictions. No torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, ClassVar, Literal, get_args

from bench.core.format import format_duration

MINUTE_S, HOUR_S = 60.0, 3600.0
Obtained = Literal["table", "plot", "transcription", "text"]
"""How a published value was obtained."""


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code that a protocol follows, as of the paper's date.

    Attributes:
        repository: its address; ``none`` where none was published.
        commit: hexadecimal digits; ``unknown`` where none can be named.
        date: of the commit, or of the paper where no commit is known; ISO 8601.
        reason: why that commit, or why none; empty only if the commit is known.
    """

    repository: str
    commit: str
    date: str
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a commit without a name or a reason.

        Raises:
            ValueError: says what is needed.
        """
        date.fromisoformat(self.date)
        is_known = re.fullmatch("[0-9a-f]{7,40}", self.commit) is not None
        if not self.repository or not (is_known or (self.commit == "unknown" and self.reason)):
            raise ValueError(
                f"commit is {self.commit!r}; its hexadecimal digits, or unknown and a reason, "
                "are needed."
            )

    def __str__(self) -> str:
        """As ``github.com/athms/mad-lab at 69d09e29 (2024-05-02)``."""
        place = f"{self.repository.removeprefix('https://')} at {self.commit[:8]} ({self.date})"
        return f"{place}: {self.reason}" if self.reason else place


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a paper trains, as settings of a task of ours.

    Attributes:
        name: cells of several papers may share a protocol, and then share its runs.
        task: an entry of conf/task.
        cost_s: seconds of softmax on two cores, as a guess.
        settings: hyperparameters that differ from that entry.
        variants: further settings; the score is the mean over them.
        grid: settings to search; the best of them counts, on the test set, as papers do.
        steps_per_epoch: to say how far a run has come; None where the source counts no epochs.
        deviations: from the publication.
    """

    name: str
    task: str
    cost_s: float
    code: Code
    settings: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Mapping[str, Any]] = ({},)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    deviations: tuple[str, ...] = ()

    def like(
        self,
        name: str,
        *,
        cost_s: float,
        settings: Mapping[str, Any] | None = None,
        deviations: tuple[str, ...] = (),
        **changes: Any,
    ) -> Protocol:
        """A protocol with other settings, and with deviations of its own besides."""
        return replace(
            self,
            name=name,
            cost_s=cost_s,
            settings={**self.settings, **(settings or {})},
            deviations=(*self.deviations, *deviations),
            **changes,
        )


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Fields of every kind of entry.

    Attributes:
        id: identifier that ``cell=`` takes.
        paper: authors, year, where to read it; that of `Paper` if empty.
        cost_s: seconds on two cores without a protocol, as a guess; 0 where nothing is run.
    """

    kind: ClassVar[str]
    id: str
    paper: str = ""
    cost_s: float = 0.0

    @property
    def printed_value(self) -> str:
        """Value as printed in the paper, in percent; empty for a sentence."""
        return ""

    @property
    def expected_s(self) -> float:
        """Seconds on two cores, as a guess; 0 where nothing is run."""
        return self.cost_s

    @property
    def cost(self) -> str:
        """The guess in words; empty where nothing is run."""
        if not self.expected_s:
            return ""
        return format_duration(self.expected_s).replace(" 0 s", "").replace(" 0 min", "")


@dataclass(frozen=True, kw_only=True)
class PaperCell(_Entry):
    """One published number.

    Attributes:
        where: table or figure.
        what: row and column.
        published: the value, a share.
        tolerance: how far off still counts as the same, a share.
        obtained: how the value was obtained.
        attention: label of our row; empty if nothing here is.
        hyperparameters: those that differ from that row's.
        protocol: how it is trained; None if it is not.
        cost_factor: its cost in units of that of the protocol, which is softmax's.
        by: registered function that measures it instead of training; empty for none.
        settings: of that function.
        not_comparable: why it cannot be compared; empty if it can.
        deviations: from the publication, beside those of the protocol.
    """

    kind = "cell"
    where: str
    what: str
    published: float
    tolerance: float
    obtained: Obtained
    attention: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    protocol: Protocol | None = None
    cost_factor: float = 1.0
    by: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    not_comparable: str = ""
    deviations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a percentage where a share is meant, and an unknown origin.

        Raises:
            ValueError: says which field is wrong.
        """
        if not (0 <= self.published <= 1 and 0 < self.tolerance < 1):
            raise ValueError(
                f"{self.id}: published is {self.published} and tolerance {self.tolerance}; "
                "both are shares, such as 0.991 and 0.02."
            )
        if self.obtained not in get_args(Obtained):
            known = ", ".join(get_args(Obtained))
            raise ValueError(f"{self.id}: obtained is {self.obtained!r}; it is one of {known}.")

    @property
    def printed_value(self) -> str:
        """Value as printed in the paper, in percent."""
        return f"{100 * self.published:.4g}"

    @property
    def expected_s(self) -> float:
        """Seconds on two cores, as a guess; 0 where nothing is run."""
        if self.not_comparable:
            return 0.0
        return self.protocol.cost_s * self.cost_factor if self.protocol else self.cost_s


@dataclass(frozen=True, kw_only=True)
class Claim(_Entry):
    """A sentence of a paper, which a registered function tests.

    Attributes:
        where: its place in the paper.
        sentence: in our words, as close to the paper's as is short.
        refuted_by: the result that would refute it; without one it gets no verdict.
        by: the function's registered name; the id if empty.
        settings: of the function.
        not_tested: the paper's condition and the stand-in for it, after "not tested": no result
            then decides.
        beside: task and settings of stored runs to show beside the finding, which has others.
    """

    kind = "claim"
    where: str
    sentence: str
    refuted_by: str
    by: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    not_tested: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> Sequence[int] | None:
        """Seeds of the arms that it trains; None for one that only measures."""
        return self.settings.get("seeds")


@dataclass(frozen=True, kw_only=True)
class Contradiction(_Entry):
    """Published values of one thing that disagree; `paper` is one of the sources.

    Attributes:
        what: the thing.
        values: as printed, by source; cells of `of` among them.
        of: ids of those that are described as cells.
        note: possible explanation.
    """

    kind = "contradiction"
    what: str
    values: Mapping[str, float]
    of: tuple[str, ...] = ()
    note: str = ""

    @property
    def printed_value(self) -> str:
        """All values as printed."""
        return ", ".join(map(str, self.values.values()))


Described = PaperCell | Claim | Contradiction


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Entries of a paper.

    Attributes:
        title: authors, year, where to read it.
    """

    title: str
    entries: Sequence[Described]


def row_of_cells(
    id: str,
    title: str,
    columns: Mapping[str, Protocol | None],
    values: Sequence[float],
    *,
    tolerance: float,
    percent: bool = True,
    **shared: Any,
) -> list[PaperCell]:
    """Cells of a row of a printed table, which is a model; their ids are ``ID-COLUMN``.

    Args:
        id: common beginning of the ids.
        title: of the row.
        columns: how each is trained, by name; None if it is not.
        values: as printed, one for each column.
        tolerance: as printed.
        percent: whether values and tolerance are in percent; they are shares otherwise.
        shared: further fields of all of them.

    Raises:
        ValueError: there are more or fewer values than columns.
    """
    unit = 100 if percent else 1
    return [
        PaperCell(
            id=f"{id}-{column}",
            what=f"{title}, {column}",
            published=value / unit,
            tolerance=tolerance / unit,
            protocol=protocol,
            **shared,
        )
        for (column, protocol), value in zip(columns.items(), values, strict=True)
    ]


def criterion_of(entry: Claim | PaperCell) -> str:
    """Digest of an entry's function, settings and wording, so that a later change shows."""
    content: dict[str, Any] = {"by": entry.by, "settings": entry.settings}
    if isinstance(entry, Claim):
        content |= {"by": entry.by or entry.id}
        content |= {"sentence": entry.sentence, "refuted_by": entry.refuted_by}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
