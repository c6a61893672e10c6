"""Where a record was measured, in one line. Timings of two machines never share a table."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.core.format import plural
from bench.core.places import CHECKOUT
from bench.core.record import Record


def describe_machine(record: Record) -> str:
    """The machine that a record was measured on, in words."""
    return machine_in_words(record.environment, record.cell.device)


def machine_in_words(facts: Mapping[str, Any], device: str = "cpu") -> str:
    """Device, processor, cores, memory and torch, as far as an environment has them.

    For example ``AMD EPYC, 2 cores, 23 GiB, torch 2.13.0``; no host and no user is named.
    """
    parts = [str(facts.get("processor") or "processor unknown")]
    if device != "cpu":
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
    return commit_words(record.environment)


def commit_words(facts: Mapping[str, Any], known: Collection[str] = ()) -> str:
    """Short commit; ``*`` after it for uncommitted changes, ``†`` if it is not in the history.

    Args:
        facts: with ``commit`` and ``is_dirty``, as an environment has them.
        known: commits in full, as `history` gives them; empty to leave ``†`` out.
    """
    commit = facts.get("commit") or ""
    is_lost = bool(commit and known) and commit not in known
    return commit[:7] + "*" * bool(facts.get("is_dirty")) + "†" * is_lost


@cache
def history(root: Path = CHECKOUT) -> frozenset[str]:
    """Commits of a checkout up to HEAD, in full; empty if it is not a whole repository.

    That is: a wheel, a shallow clone, or no git.
    """

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        # A folder below somebody else's repository has a history that is not its own.
        if not (root / ".git").exists() or "true" in git("rev-parse", "--is-shallow-repository"):
            return frozenset()
        return frozenset(git("rev-list", "HEAD").split())
    except (OSError, subprocess.CalledProcessError):
        return frozenset()


def provenance(records: Iterable[Record]) -> str:
    """Provenance of numbers: machine, torch, commit and date, without repetition.

    For example ``AMD EPYC, 2 cores, 23 GiB, torch 2.13.0 · commit 87c5e87 · 2026-11-28``.
    """
    known = list(records)
    machines = sorted({re.sub(r"\((R|TM)\)", "", describe_machine(r)) for r in known})
    commits = sorted({commit_of(record) for record in known} - {""})
    days = sorted({record.started_at[:10] for record in known})
    words = ["; ".join(machines)]
    if commits:
        words.append(f"{plural('commit', len(commits))} {', '.join(commits)}")
    return " · ".join([*words, " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))])
