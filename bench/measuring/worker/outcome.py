"""Outcomes of jobs, as both sides of the socket use them, and exceptions that set a status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic

from bench.core.cli.texts import make_visible, said_by
from bench.core.record import Status
from bench.measuring.worker.messages import NoMessage
from bench.measuring.worker.results import R, result_from


class JobFailed(Exception):
    """Ends a job with a given status, and a reason for the table."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def refuse(change: str | None) -> None:
    """Fail a job whose member has changed state that others share; None lets it go on.

    Raises:
        JobFailed: with `change` as its reason.
    """
    if change is not None:
        raise JobFailed(Status.ERROR, change)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[R]):
    """How a job ended, before it becomes a record.

    Attributes:
        reason: a sentence for the table; None exactly if the status is ``ok``. Reason and detail
            are truncated here, so that no long text passes the socket.
        detail: a traceback or the end of a worker's output, if any.
        result: present exactly if the status is ``ok``.
        wall_s: seconds from the request to the end, by the parent's clock.
    """

    status: Status
    reason: str | None = None
    detail: str | None = None
    result: R | None = None
    wall_s: float = 0.0

    def __post_init__(self) -> None:
        make_visible(self)

    @property
    def is_ok(self) -> bool:
        """Whether there is a result."""
        return self.status is Status.OK

    @property
    def found(self) -> R:
        """The result of a job whose status is ``ok``."""
        assert self.result is not None, self.reason
        return self.result

    @property
    def measured_s(self) -> float:
        """Seconds that were measured; 0 without a result."""
        return 0.0 if self.result is None else self.result.measured_s

    def to_message(self) -> dict[str, Any]:
        """The last message of a worker."""
        return {
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "result": None if self.result is None else asdict(self.result),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any], kind: type[R], wall_s: float) -> Outcome[R]:
        """The inverse of `to_message`; an invalid message gives the status ``crashed``."""
        flat = message["result"]
        try:
            status = Status(message["status"])
            result = None if flat is None else result_from(kind, flat)
            is_ok = status is Status.OK
            if is_ok != (result is not None) or is_ok != (message["reason"] is None):
                raise ValueError(f"{status} does not fit its result or its reason")
        except ValueError as error:
            return Outcome(status=Status.CRASHED, reason=str(NoMessage(str(error))), wall_s=wall_s)
        return Outcome(
            status=status,
            reason=message["reason"],
            detail=message["detail"],
            result=result,
            wall_s=wall_s,
        )


def first_line(error: BaseException) -> str:
    """First line of an error's text, 300 characters at most; its type if it has no text."""
    lines = said_by(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
