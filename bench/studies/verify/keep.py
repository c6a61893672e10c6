"""``keep=true``, which `make proofs` calls: the proofs that come with the code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attentions import attention_names
from attentions.testing.authors.proof import Proof, ProofStatus
from bench.core.cli.files import write_whole
from bench.core.proofs import STORED as STORED
from bench.core.proofs import Badge, line_of, stored_proofs
from bench.measuring.machine.environment import mechanism_syntax


def changed(stored: Path, names: Sequence[str], *, is_forced: bool) -> list[str]:
    """Mechanisms whose source is not the one that was proven last; all if it `is_forced`."""
    known = stored_proofs(stored)
    return [
        name
        for name in names
        if is_forced or name not in known or known[name].source != mechanism_syntax(name)
    ]


def keep(stored: Path, name: str, cases: Sequence[Proof], badges: Sequence[Badge]) -> None:
    """Replace a mechanism's line; lines of mechanisms that there are no longer are left out."""
    compared = sum(case.status is not ProofStatus.NOT_COVERED for case in cases)
    goldens = (compared, compared) if compared else None
    lines = stored.read_text("utf-8").splitlines() if stored.exists() else []
    kept = {json.loads(line)["mechanism"]: line for line in lines}
    kept[name] = line_of(name, {badge.claim: badge for badge in badges}, goldens)
    there = sorted(kept.keys() & {*attention_names()})
    write_whole(stored, "".join(f"{kept[each]}\n" for each in there))
