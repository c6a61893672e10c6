"""Messages of a worker, checked on arrival: a mechanism may have written anything."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Len
from typing_extensions import TypedDict

from bench.core.cli.limits import Count, Name, Text, read_json
from bench.core.cli.texts import LIMITS

Message = dict[str, Any]

MAX_MEMBERS = 10_000
"""Largest number of samples in one round."""


class NoMessage(Exception):
    """A message of a worker that is invalid; holds the reason."""

    def __init__(self, why: str) -> None:
        super().__init__(f"invalid message from the worker: {why}")


class _Said(TypedDict, total=False):
    """Type of each key of a message; the last four come with the last message, see `Outcome`."""

    __pydantic_config__ = {"extra": "forbid"}  # type: ignore[misc]  # noqa: RUF012

    step: Name
    waits: bool
    asked: Count
    refused: Text
    round: Annotated[list[float], Len(1, MAX_MEMBERS)]
    ratio: float
    progress: tuple[Name, Count, Count, float, float | None]
    status: Name
    reason: Annotated[str, Len(0, LIMITS["reason"])] | None
    detail: Annotated[str, Len(0, LIMITS["detail"])] | None
    result: dict[str, Any] | None


def message_from(line: bytes) -> Message:
    """Parse a line into a message.

    Raises:
        NoMessage: the line is not a valid message.
    """
    try:
        message: Message = read_json(_Said, line)
    except ValueError as error:
        raise NoMessage(str(error)) from None
    missing = sorted({"status", "reason", "detail", "result"} - message.keys())
    if missing and len(missing) < 4:
        raise NoMessage(f"{missing[0]} is missing")
    return message
