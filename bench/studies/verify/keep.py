"""``keep=true``, which `make proofs` calls: prove what changed since ``results/proofs.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attentions import attention_names
from bench.core.cli.files import write_whole
from bench.core.format import quantity
from bench.core.progress import Part
from bench.core.proofs import STORED, Badge, BadgeStatus, line_of, stored_proofs
from bench.measuring.machine.environment import mechanism_syntax
from bench.studies.conformance import table as badge_table
from bench.studies.conformance.run import badges_of
from bench.studies.golden.proof import Proof, ProofStatus
from bench.studies.session import Session
from bench.studies.verify.outputs import reasons, summary, verify
from bench.studies.verify.settings import Verify


def run_keep(asked: Verify, session: Session, stored: Path = STORED) -> int:
    """Prove mechanisms one by one; each that holds is on the disk before the next is proven.

    Returns:
        1 if a mechanism failed, whose line then stays as it was; else 0.

    Raises:
        ConfigError: the stored file cannot be read or written.
    """
    known = stored_proofs(stored)
    changed = [
        name
        for name in asked.mechanisms
        if asked.force or name not in known or known[name].source != mechanism_syntax(name)
    ]
    failed: list[str] = []
    with session.each([Part(name=name) for name in changed], "mechanism") as todo:
        for part in todo:
            cases, badges = _proven(asked, part.name)
            part.outcome = f"{summary(cases)}; {badge_table.summary(badges)}"
            if wrong := _failures(part.name, cases, badges):
                part.outcome, failed = f"FAILED, not kept; {part.outcome}", [*failed, *wrong]
            else:
                _keep(stored, part.name, cases, badges)
    for line in failed:
        session.say(line)
    unchanged = quantity(len(asked.mechanisms) - len(changed), "mechanism")
    session.say(f"{unchanged} unchanged since {stored}; force=true proves these as well")
    return int(bool(failed))


def _proven(asked: Verify, name: str) -> tuple[list[Proof], tuple[Badge, ...]]:
    own = verify(asked.model_copy(update={"attention": (name,)}))
    return [case for case in own if case.mechanism == name], badges_of(name, mechanism_syntax(name))


def _failures(name: str, cases: Sequence[Proof], badges: Sequence[Badge]) -> list[str]:
    wrong = [case for case in cases if case.status is ProofStatus.FAILED]
    broken = [badge for badge in badges if badge.status is BadgeStatus.FAILED]
    return [*reasons(wrong), *badge_table.reasons({name: broken})]


def _keep(stored: Path, name: str, cases: Sequence[Proof], badges: Sequence[Badge]) -> None:
    """Replace a mechanism's line; lines of mechanisms that there are no longer are left out."""
    compared = sum(case.status is not ProofStatus.NOT_COVERED for case in cases)
    goldens = (compared, compared) if compared else None
    lines = stored.read_text("utf-8").splitlines() if stored.exists() else []
    kept = {json.loads(line)["mechanism"]: line for line in lines}
    kept[name] = line_of(name, {badge.claim: badge for badge in badges}, goldens)
    there = sorted(kept.keys() & {*attention_names()})
    write_whole(stored, "".join(f"{kept[each]}\n" for each in there))
