"""How fast our forms of the mechanisms are beside the operators of published code.

Each entry is timed in the same rounds as its other form, and again in those of softmax attention.
What was observed is ``results/mechanisms/mechanisms.json``; the table beside it and
``docs/speed.md`` follow from that file alone.
"""

from __future__ import annotations


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    from bench.mechanisms.command import main as run

    return run(argv)
