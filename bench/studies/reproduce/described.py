"""Entries of conf/paper: a cell, a claim or a contradiction. No torch."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

from annotated_types import Len

from bench.core.cli.limits import Amount
from bench.core.settings import (
    BeforeValidator,
    Field,
    Name,
    Settings,
    Some,
    Span,
    as_tuple,
    model_validator,
)


class Read(StrEnum):
    """How a published value was obtained."""

    TABLE = "table"
    PLOT = "plot"
    TRANSCRIPTION = "transcription"
    TEXT = "text"


def _words(value: Any) -> Any:
    """Text of a value: YAML reads an unquoted commit of digits, or a date, as another type."""
    return "" if value is None else str(value)


def _pairs(value: Any) -> Any:
    return tuple((str(k), str(v)) for k, v in value.items()) if isinstance(value, dict) else value


_Words = Annotated[str, BeforeValidator(_words)]
_Pairs = Annotated[tuple[tuple[str, str], ...], BeforeValidator(_pairs)]
_Dicts = Annotated[tuple[dict[str, Any], ...], BeforeValidator(as_tuple), Len(1)]
_Values = Annotated[tuple[Any, ...], BeforeValidator(as_tuple), Len(1)]
Obtained = Annotated[Read, Field(strict=False)]


class Protocol(Settings):
    """How a paper trains, as settings of a task of ours."""

    name: Name
    """Name of the protocol; cells of several papers may share it, and then share its runs."""
    task: Name
    """An entry of conf/task."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Hyperparameters that differ from that entry."""
    variants: _Dicts = ({},)
    """Further settings; the score is the mean over them."""
    grid: dict[str, _Values] = Field(default_factory=dict)
    """Settings to search; the best of them counts, on the test set, as papers do."""
    steps_per_epoch: int | None = None
    """To say how far a run has come; None where the source counts no epochs."""
    cost_s: Span = Field(alias="cost")
    """Seconds of softmax on two cores, as a guess."""
    repository: _Words = ""
    """Address of the code that is followed; ``none`` where none was published."""
    commit: _Words = ""
    """Hexadecimal digits; ``unknown`` where none can be named."""
    date: _Words = ""
    """Date of the commit, or of the paper where no commit is known; ISO 8601."""
    code_reason: _Words = ""
    """Why that commit, or why none; empty only if the commit is known."""
    deviations: Some[Name] = ()
    """Deviations from the publication."""

    @model_validator(mode="after")
    def _names_its_code(self) -> Self:
        is_named = self.repository and self.commit and re.fullmatch(_DATE, self.date)
        if not is_named:
            raise ValueError(
                f"{self.name}: repository={self.repository}, commit={self.commit}, date="
                f"{self.date}: a protocol names all three of the code that it follows, the date as "
                f"2024-05-02. {_UNKNOWN}"
            )
        is_known = re.fullmatch(r"[0-9a-f]{7,40}", self.commit) is not None
        if not is_known and (self.commit != "unknown" or not self.code_reason):
            raise ValueError(
                f"{self.name}: commit={self.commit} is no commit of hexadecimal digits. {_UNKNOWN}"
            )
        return self

    @property
    def code(self) -> str:
        """The code that is followed, as ``github.com/athms/mad-lab at 69d09e29 (2024-05-02)``."""
        place = f"{self.repository.removeprefix('https://')} at {self.commit[:8]} ({self.date})"
        return f"{place}: {self.code_reason}" if self.code_reason else place


_DATE = r"\d{4}-\d\d-\d\d"
_UNKNOWN = "Where the commit cannot be known write commit: unknown and code_reason: why."


class _Entry(Settings):
    """Keys of every kind of entry."""

    kind: ClassVar[str]
    id: Name
    """Identifier that ``cell=`` takes."""
    paper: Name
    """Authors, year, where to read it."""


class PaperCell(_Entry):
    """One published number."""

    kind = "cell"
    where: Name
    """Table or figure."""
    what: Name
    """Row and column."""
    attention: str = ""
    """Label of our row; empty if nothing here is."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Hyperparameters that differ from that entry."""
    protocol: Protocol | None = None
    """How it is trained; None if it is not."""
    by: str = ""
    """A registered function that measures it instead of training; empty for none."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of that function."""
    printed: Amount = Field(alias="published")
    """The value as printed."""
    printed_tolerance: Amount = Field(alias="tolerance")
    """How far off still counts as the same, as the value is printed."""
    percent: bool = False
    """Whether these two are in per cent; they are shares otherwise."""
    obtained: Obtained = Field(alias="read")
    """How the value was obtained."""
    not_comparable: str = ""
    """Why it cannot be compared; empty if it can."""
    cost_s: Span = Field(default=0.0, alias="cost")
    """Seconds on two cores, as a guess."""
    deviations: Some[Name] = ()
    """Deviations from the publication, beside those of the protocol."""

    @property
    def published(self) -> float:
        """The value, a share."""
        return self.printed / 100 if self.percent else self.printed

    @property
    def tolerance(self) -> float:
        """How far off still counts as the same, a share."""
        return self.printed_tolerance / 100 if self.percent else self.printed_tolerance


class Claim(_Entry):
    """A sentence of a paper that a function of `bench.studies.reproduce.claims` tests."""

    kind = "claim"
    where: Name
    sentence: Name
    """The sentence in our words, as close to the paper's as is short."""
    by: Name
    """The function's registered name; the id unless given."""
    refuted_by: str = ""
    """The result that would refute it; without one it gets no verdict."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the function."""
    not_tested: str = ""
    """The paper's condition and the stand-in for it, after "not tested": no result then decides."""
    beside: dict[str, Any] = Field(default_factory=dict)
    """Task and settings of stored runs to show beside the finding, which has others."""
    cost_s: Span = Field(alias="cost")
    """Seconds on two cores, as a guess."""

    @property
    def seeds(self) -> Sequence[int] | None:
        """Seeds of the arms that it trains; None for one that only measures."""
        return self.settings.get("seeds")


class Contradiction(_Entry):
    """Published values of one thing that disagree; `paper` is one of the sources."""

    kind = "contradiction"
    what: Name
    """The thing."""
    values: _Pairs = ()
    """(source, value) as printed, cells of `of` among them."""
    of: Some[Name] = ()
    """Ids of those that are described as cells."""
    note: str = ""
    """Possible explanation."""


Described = PaperCell | Claim | Contradiction


def criterion_of(entry: Claim | PaperCell) -> str:
    """Digest of an entry's function, settings and wording, so that a later change shows."""
    content: dict[str, Any] = {"by": entry.by, "settings": entry.settings}
    if isinstance(entry, Claim):
        content |= {"sentence": entry.sentence, "refuted_by": entry.refuted_by}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
