"""What an entry of conf/paper is: a cell, a claim or a contradiction. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is described."""

    CELL = "cell"
    CLAIM = "claim"
    CONTRADICTION = "contradiction"


class Read(StrEnum):
    """How a published value was obtained."""

    TABLE = "table"
    PLOT = "plot"
    TRANSCRIPTION = "transcription"
    TEXT = "text"


@dataclass(frozen=True, kw_only=True)
class Code:
    """The code that a protocol follows.

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

    @property
    def words(self) -> str:
        """As ``github.com/athms/mad-lab at 69d09e29 (2024-05-02)``."""
        place = f"{self.repository.removeprefix('https://')} at {self.commit[:8]} ({self.date})"
        return f"{place}: {self.reason}" if self.reason else place


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a paper trains, as settings of a task of ours.

    Attributes:
        name: of the protocol; cells of several papers may share it, and then share its runs.
        task: an entry of conf/task.
        settings: what differs from that entry.
        variants: further settings; the score is the mean over them.
        grid: settings to search; the best of them counts, on the test set, as papers do.
        steps_per_epoch: to say how far a run has come; None where the source counts no epochs.
        cost_s: of softmax on two cores, as a guess.
        code: what is followed, at the paper's date.
        deviations: what is not as published.
    """

    name: str
    task: str
    settings: dict[str, Any]
    variants: tuple[dict[str, Any], ...] = ({},)
    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    steps_per_epoch: int | None = None
    cost_s: float
    code: Code | None = None
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaperCell:
    """One published number.

    Attributes:
        id: what ``cell=`` takes.
        paper: authors, year, where to read it.
        where: table or figure.
        what: row and column.
        attention: entry of conf/attention that is the row; empty if nothing here is.
        hyperparameters: what differs from that entry.
        protocol: how it is trained; None if it is not.
        by: a registered function that measures it instead of training; empty for none.
        settings: of that function.
        published: the value, a share.
        tolerance: how far off still counts as the same.
        read: how the value was obtained.
        not_comparable: why it cannot be compared; empty if it can.
        cost_s: on two cores, as a guess.
        deviations: what is not as published, beside those of the protocol.
    """

    id: str
    paper: str
    where: str
    what: str
    published: float
    tolerance: float
    read: Read
    cost_s: float
    attention: str = ""
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol | None = None
    by: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    not_comparable: str = ""
    deviations: tuple[str, ...] = ()
    kind: Kind = Kind.CELL


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence of a paper that a function of `bench.reproduce.claims` tests.

    Attributes:
        sentence: in our words, as close to the paper's as is short.
        by: the function's registered name; the id unless given.
        refuted_by: the result that would refute it; without one it gets no verdict.
        settings: what the function takes.
    """

    id: str
    paper: str
    where: str
    sentence: str
    by: str
    cost_s: float
    refuted_by: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    kind: Kind = Kind.CLAIM


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Published values of one thing that disagree.

    Attributes:
        paper: one of the sources.
        what: the thing.
        values: (source, value) as printed, cells of `of` among them.
        of: ids of those that are described as cells.
        note: what may explain it.
    """

    id: str
    paper: str
    what: str
    values: tuple[tuple[str, str], ...]
    of: tuple[str, ...] = ()
    note: str = ""
    kind: Kind = Kind.CONTRADICTION


Described = PaperCell | Claim | Contradiction


def criterion_of(entry: Claim | PaperCell) -> str:
    """Digest of all that a measured finding rests on, so that a later change of it shows."""
    content: dict[str, Any] = {"by": entry.by, "settings": entry.settings}
    if isinstance(entry, Claim):
        content |= {"sentence": entry.sentence, "refuted_by": entry.refuted_by}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
