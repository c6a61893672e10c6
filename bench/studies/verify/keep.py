"""`python -m bench.studies.verify.keep`: keep the proofs of results/ in ``proofs.jsonl``.

Only proofs of the source as it is now are kept, so nothing is claimed that was not run on it. Lines
of other mechanisms stay, and are shown as of an earlier state once their source has changed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.values import run_words
from bench.core.format import quantity
from bench.core.proofs import STORED, line_of, read_badges, read_goldens, stored_proofs
from bench.measuring.machine.environment import mechanism_source

USAGE = "python -m bench.studies.verify.keep [FOLDER]: has badges/ and verify.json; or results"


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_words(_keep, argv, USAGE)


def _keep(words: list[str]) -> int:
    out = Path(words[0] if words else "results")
    kept = keep(out, STORED)
    print(f"{quantity(len(kept), 'mechanism')} in {STORED}")
    return 0


def keep(out: Path, stored: Path) -> list[str]:
    """Replace the stored lines of all mechanisms that were tested as they are now.

    Golden cases that were not compared again are kept, if those stored are of the same source.

    Raises:
        ConfigError: nothing in `out` is of the present source, or a file cannot be read or written.
    """
    from attentions import attention_names

    known = set(attention_names())
    sources = {name: mechanism_source(name, ()) for name in known}
    goldens, before = read_goldens(out / "verify.json"), stored_proofs(stored)

    def cases(name: str) -> tuple[int, int] | None:
        own, kept = goldens.get(name), before.get(name)
        if own and own.source == sources[name]:
            return own.passed, own.compared
        return kept.goldens if kept and kept.source == sources[name] else None

    fresh = {
        name: line_of(name, badges, cases(name))
        for name, badges in read_badges(out).items()
        if name in known and all(badge.source == sources[name] for badge in badges.values())
    }
    if not fresh:
        raise ConfigError(
            f"{out} holds no proofs of the present source. Run attnbench verify and "
            "attnbench verify conformance=true first."
        )
    lines = stored.read_text("utf-8").splitlines() if stored.exists() else []
    kept = {json.loads(line)["mechanism"]: line for line in lines}
    merged = {name: line for name, line in kept.items() if name in known} | fresh
    write_whole(stored, "".join(f"{merged[name]}\n" for name in sorted(merged)))
    return sorted(fresh)


if __name__ == "__main__":
    sys.exit(main())
