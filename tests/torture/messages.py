"""Damaged messages of workers, and damaged leases: each is read, or refused with a message."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from bench.core.record import Status
from bench.measuring.measure.stopping import Stopping
from bench.measuring.sharing import leases as sharing
from bench.measuring.worker.block import RoundsListener
from bench.measuring.worker.jobs import WorkerHung
from bench.measuring.worker.messages import NoMessage, message_from
from bench.measuring.worker.outcome import Outcome
from bench.measuring.worker.results import RoundsResult
from tests.bench.measuring.worker.fakes import cell, found
from tests.mutations import VALUES, places_in
from tests.torture.trial import Trial

_ROUNDS = Outcome(status=Status.OK, result=found()).to_message()
_FAILED = Outcome(status=Status.ERROR, reason="why", detail="a traceback").to_message()
_STEPS: tuple[dict[str, Any], ...] = (
    {"step": "rounds", "waits": True},
    {"step": "build softmax", "asked": 1},
    {"round": [1e-6, 2e-6]},
    {"progress": ["train", 1, 10, 0.5, None]},
)


def messages(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` messages, with a value replaced, left out or cut short."""
    for _ in range(count):
        line = _damaged(draw.choice((_ROUNDS, _ROUNDS, _FAILED, *_STEPS)), draw)
        try:
            yield Trial(what=_heard(line))
        except Exception as error:  # any exception is a fault
            yield Trial(what="not survived", fault=f"{line[:300]!r}: {error!r}")


def _heard(line: bytes) -> str:
    """The outcome of a message from rounds of two members."""
    heard = RoundsListener([cell(1), cell(2)], Stopping(), 60.0)
    try:
        heard({"round": [0.5, 0.5]})
        message = message_from(line)
        if "status" not in message:
            heard(message)
            return "taken for a step"
    except (NoMessage, WorkerHung):
        return "refused"
    outcome = heard.validated(Outcome.from_message(message, RoundsResult, 1.0))
    json.dumps(outcome.to_message(), allow_nan=False)
    return f"an end: {outcome.status}"


def damaged_leases(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` damaged leases; the work of one that is untouched for a minute must be free."""
    flat = {"host": "elsewhere", "pid": os.getpid(), "what": "softmax"}
    for number in range(count):
        out = folder / str(number)
        sharing.leases_folder(out).mkdir(parents=True)
        file = sharing.leases_folder(out) / "block"
        file.write_bytes(_damaged(flat, draw))
        age_s = draw.choice((0, 61, 1e6, -61, -1e9))
        os.utime(file, (time.time() - age_s,) * 2)
        try:
            yield Trial(what="read" if age_s else "waited for", fault=_taken(out, file, age_s))
        except Exception as error:  # any exception is a fault
            yield Trial(what="not survived", fault=repr(error))


def _taken(out: Path, file: Path, age_s: float) -> str:
    content = file.read_bytes()[:300]
    with sharing.Leases(out) as leases:
        others = list(leases.others())
        if any("\x1b" in holder.what + holder.host for _, holder in others):
            return f"a terminal would obey: {content!r}"
        is_free = leases.acquire("block")
        if age_s and not is_free:
            return f"waits for nobody: {content!r}"
    return ""


def _damaged(value: dict[str, Any], draw: Random) -> bytes:
    """A value as JSON with one or two values changed, or as bytes that are no JSON."""
    flat = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 2))):
        parent, name = draw.choice(list(places_in(flat)))
        if draw.random() < 0.8:
            parent[name] = copy.deepcopy(draw.choice(VALUES))
        else:
            del parent[name]
        if not flat:
            break
    line = json.dumps(flat).encode()
    at = draw.randrange(len(line) + 1)
    junk = draw.choice((b"", b"", b"", b"", line[:at], b"\xff" + line, b"[" * 100_000, b""))
    return junk or line
