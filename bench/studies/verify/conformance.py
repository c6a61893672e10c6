"""``conformance=true``: what mechanisms claim, kept as badges."""

from __future__ import annotations

from pathlib import Path

import torch

from bench.core.cli.files import check_writable
from bench.core.proofs import Badge, BadgeStatus, append_badges, badges_folder
from bench.measuring.machine.environment import mechanism_source
from bench.studies.conformance import table as badge_table
from bench.studies.conformance.run import badges_of
from bench.studies.session import Session
from bench.studies.verify.settings import Verify


def run_conformance(asked: Verify, session: Session) -> int:
    """Test what mechanisms claim, show, keep badges; returns the exit code.

    A mechanism's badges are on the disk before the next one is tested, so Ctrl-C loses none.
    """
    out = asked.out.parent
    run = session.sweep_id.replace("/", "-")  # names the file that badges go to
    check_writable(badges_folder(out))
    torch.set_num_threads(1)
    tested: dict[str, tuple[Badge, ...]] = {}

    def test(name: str) -> str:
        badges = badges_of(name, mechanism_source(name, asked.plugins))
        append_badges(out, run, name, badges)
        tested[name] = badges
        return badge_table.summary(badges)

    session.one_by_one(asked.mechanisms, "mechanism", test)
    _show_badges(tested, badges_folder(out) / f"{run}.jsonl", session)
    failed = any(b.status is BadgeStatus.FAILED for badges in tested.values() for b in badges)
    return int(failed)


def _show_badges(tested: dict[str, tuple[Badge, ...]], path: Path, session: Session) -> None:
    if not tested:
        return
    session.console.print(badge_table.table(tested))
    for line in badge_table.reasons(tested):
        session.say(line)
    everything = [badge for badges in tested.values() for badge in badges]
    line = f"{badge_table.summary(everything)}; badges in {path}"
    session.say(line)
