"""How far the gate can be trusted on this machine, and what other tools would have said there.

The gate compares this tree with itself, as it is and slowed down by known amounts, idle and beside
a busy neighbour; two other tools do the same with the same time. All that was observed is one line
of JSON each under ``results/selftest``; ``docs/selftest.md`` follows from these lines alone.
"""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    from bench.selftest.command import main as run

    return run(argv)
