"""Where a record was measured, in one line. Timings of two machines never share a table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bench.core.record import Record
from bench.publishing.naming import commit_label, commits_in_words


def describe_machine(record: Record) -> str:
    """The machine that a record was measured on, in words."""
    return machine_in_words(record.environment, record.cell.device)


def machine_in_words(facts: Mapping[str, Any], device: str = "cpu") -> str:
    """Device, processor, cores, memory and torch, as far as an environment has them.

    For example ``AMD EPYC, 2 cores, 23 GiB, torch 2.13.0``; no host and no user is named.
    """
    parts = [str(facts.get("processor") or "processor unknown")]
    if ":" in device:  # a card, by its number
        parts.insert(0, str(facts.get("devices", {}).get(device, device)))
    if facts.get("num_cores"):
        parts.append(f"{facts['num_cores']} cores")
    if facts.get("memory_bytes"):
        parts.append(f"{facts['memory_bytes'] / 2**30:.0f} GiB")
    torch = facts.get("versions", {}).get("torch")
    if torch:
        parts.append(f"torch {torch}")
    if facts.get("allocator"):
        parts.append(f"{facts['allocator']} allocator")
    return ", ".join(parts)


def commit_of(record: Record) -> str:
    """Short commit of the code that measured, ``*`` for uncommitted changes; empty if unknown."""
    facts = record.environment
    return commit_label(facts.get("commit"), facts.get("is_dirty"))


def provenance(records: Iterable[Record]) -> str:
    """Provenance of numbers: machine, torch, commit and date, without repetition.

    For example ``AMD EPYC, 2 cores, 23 GiB, torch 2.13.0 · commit 87c5e87 · 2026-11-28``.
    """
    known = list(records)
    machines = sorted({re.sub(r"\((R|TM)\)", "", describe_machine(r)) for r in known})
    days = sorted({record.started_at[:10] for record in known})
    commits = commits_in_words(map(commit_of, known))
    when = " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))
    return " · ".join(["; ".join(machines), commits, when])
