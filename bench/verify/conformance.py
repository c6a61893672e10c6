"""``conformance=true``: what mechanisms claim, kept as badges."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console

from attentions import attention_names
from bench.conformance import table as badge_table
from bench.conformance.run import badges_of
from bench.core.badges import Badge, BadgeStatus, append_badges, badges_folder
from bench.machine.environment import mechanism_source
from bench.progress import one_by_one
from bench.verify.config import VerifyConfig, check_names
from bench.verify.files import check_writable


def run_conformance(config: VerifyConfig, console: Console) -> int:
    """Test what mechanisms claim, show, keep badges; returns the exit code.

    A mechanism's badges are on the disk before the next one is tested, so Ctrl-C loses none.
    """
    out = config.out.parent
    check_writable(badges_folder(out) / config.run)
    check_names(config)
    torch.set_num_threads(1)
    names = config.attention or attention_names()
    tested: dict[str, tuple[Badge, ...]] = {}

    def test(name: str) -> str:
        badges = badges_of(name, mechanism_source(name, config.plugins))
        append_badges(out, config.run, name, badges)
        tested[name] = badges
        return badge_table.summary(badges)

    try:
        one_by_one(names, test, console)
    finally:
        _show_badges(tested, badges_folder(out) / f"{config.run}.jsonl", console)
    failed = any(b.status is BadgeStatus.FAILED for badges in tested.values() for b in badges)
    return int(failed)


def _show_badges(tested: dict[str, tuple[Badge, ...]], path: Path, console: Console) -> None:
    if not tested:
        return
    console.print(badge_table.table(tested))
    for line in badge_table.reasons(tested):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    everything = [badge for badges in tested.values() for badge in badges]
    line = f"{badge_table.summary(everything)}; badges in {path}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
