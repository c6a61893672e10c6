"""Print the table of sizes that docs/architecture.md shows: `python tools/count.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType

import torch

import attentions

ROOT = Path(__file__).resolve().parent.parent
MACHINERY = ("attentions/kernel/*.py", "attentions/published/*.py", "attentions/precision.py")


def entered(mechanism: str) -> list[Path]:
    """Files of `attentions` whose functions one forward call of a mechanism runs."""
    geometry = attentions.Geometry(num_heads=2, head_dim=16, seq_len=64, causal=False)
    module = attentions.build_attention(mechanism, geometry)
    q, k, v = torch.randn(3, 1, 2, 64, 16)
    module(q, k, v)  # what is imported or built once is not part of a call
    files: set[Path] = set()

    def trace(frame: FrameType, event: str, _: object) -> None:
        files.add(Path(frame.f_code.co_filename))

    sys.setprofile(trace)
    module(q, k, v)
    sys.setprofile(None)
    return sorted(file for file in files if ROOT / "attentions" in file.parents)


def lines(files: Iterable[Path]) -> int:
    """Of all files together."""
    return sum(len(file.read_text().splitlines()) for file in files)


def below(folder: str, ending: str = "py") -> int:
    """Lines of a folder's files."""
    return lines((ROOT / folder).rglob(f"*.{ending}"))


def at_the_top(package: str) -> int:
    """Files of a package that lie in no room of it."""
    return sum(not file.name.startswith("__") for file in (ROOT / package).glob("*.py"))


def main() -> None:
    """Print the table."""
    nala = entered("nala")
    machinery = [file for pattern in MACHINERY for file in ROOT.glob(pattern)]
    halves = [f"{below(folder):,}" for folder in ("attentions", "bench", "tests")]
    rows = [
        ("files and lines that one `nala` call enters", f"{len(nala)}, {lines(nala):,}"),
        ("lines of kernel/, published/ and precision in attentions", f"{lines(machinery):,}"),
        (
            "lines of attentions / bench / tests / docs",
            " / ".join([*halves, f"{below('docs', 'md'):,}"]),
        ),
        (
            "files at the top of attentions / bench",
            f"{at_the_top('attentions')} / {at_the_top('bench')}",
        ),
    ]
    print("| | |\n|---|--:|")
    for words, number in rows:
        print(f"| {words} | {number} |")


if __name__ == "__main__":
    main()
