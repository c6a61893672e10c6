"""Settings of `bench.reproduce`. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from bench.core.places import CHECKOUT
from bench.core.settings import (
    AfterValidator,
    Budget,
    Folder,
    Many,
    Name,
    Seed,
    Settings,
    Some,
    model_validator,
)

KEPT = Path("results/reproductions")
"""Stored results that are in git, from the root of a checkout."""


def _holds_papers(path: Path) -> Path:
    if path.suffix == ".py" and path.is_file():
        return path
    if not any(path.glob("*.py")):
        raise ValueError(
            f"papers={path} is neither a Python file nor a folder of such files; "
            "docs/adding-a-paper.md shows one."
        )
    return path


class Reproduce(Settings):
    """Train published cells and test published sentences of papers.

    Without overrides: list the papers' entries, with their stored results.
    """

    cell: Some[Name] = ()
    """Ids of cells or claims to run and judge, one or a list."""
    kind: Literal["cell", "claim", "contradiction"] | None = None
    """List only these."""
    find: Name | None = None
    """List only entries with this word in paper or id, e.g. zoology."""
    seed: Many[Seed] = (0,)
    """Seed of training runs, or a list: a verdict needs [0,1,2]; the first searches the grid."""
    force: bool = False
    """Train and measure again what is stored."""
    power: Name | None = None
    """Seeds to tell two entries apart, e.g. 'nala > flatten by 0.5 on tile_recall'."""
    budget: Budget | None = None
    """Per cell: stop training after this time, e.g. 10m; the same command resumes."""
    until: Literal["decided"] | None = None
    """For claims that compare trained arms: add seeds at looks fixed beforehand until the claim is
    decided or the budget is spent.
    """
    papers: Annotated[Folder, AfterValidator(_holds_papers)] | None = None
    """A Python file that describes a paper of your own, or a folder of such files."""
    page: bool = False
    """Copy what `out` has into `keep`, and write docs/reproductions.md from `keep`."""
    check: bool = False
    """Like page, but write nothing: exit with 1 if the page is out of date."""
    docs: Folder | None = None
    """The folder of that page; null: this checkout's docs/."""
    keep: Folder = KEPT
    """Stored results that are in git; only page=true writes to them."""
    out: Folder = Path("results/reproduce")
    """Where new records and findings go; both folders are read."""

    @property
    def kept(self) -> Path:
        """`keep`; outside of a checkout, unless it is given, the folder of the code that runs."""
        return CHECKOUT / KEPT if self.keep == KEPT and not KEPT.is_dir() else self.keep

    @property
    def stores(self) -> tuple[Path, Path]:
        """Folders whose records and findings are read."""
        return self.kept, self.out

    @model_validator(mode="after")
    def _can_be_decided(self) -> Reproduce:
        if self.until and not self.cell:
            raise ValueError(f"until={self.until} takes a claim to decide: cell=ID.")
        if self.until and self.budget is None:
            raise ValueError(
                f"until={self.until} adds seeds to a claim, which may take hours. Say for how long "
                "at most, such as budget=2h; the same command goes on."
            )
        return self
