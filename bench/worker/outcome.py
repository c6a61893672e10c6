"""How a job ended: its last line, and what an exception says about it."""

from __future__ import annotations

from typing import Any

from bench.record import Status

Outcome = dict[str, Any]
"""The last line: a status, its reason and detail, and values if the status is ``ok``."""


def ok(**values: Any) -> Outcome:
    """The job was done, and this was observed."""
    return {"status": Status.OK, "reason": None, "detail": None, "values": values}


def failed(status: Status, reason: str, detail: str | None = None) -> Outcome:
    """The job was not done; `detail` is a traceback, if there is one."""
    return {"status": status, "reason": reason, "detail": detail, "values": {}}


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that memory ran out, in any of the ways in which torch says it."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text or "out of memory" in text or "bad_alloc" in text
    )


def first_line(error: Exception) -> str:
    """The first line of what it says, or its type if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
