"""`attnbench report`: tables, charts and W&B runs from records alone. Needs no torch."""

from __future__ import annotations

import sys
from typing import Any, Literal

from rich.console import Console

from bench.core.calibration import with_calibration
from bench.core.cli.command import run_app
from bench.core.cli.errors import ConfigError
from bench.core.format import quantity
from bench.core.proofs import with_verified
from bench.core.settings import Folder, Name, Settings, Some
from bench.core.store import StoreContents, read_store
from bench.publishing.config import read_publish_config, refuse_unknown
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.page.assemble import write_page
from bench.publishing.page.serve import serve
from bench.publishing.page.site import build_site
from bench.publishing.publish import publish, write_latex
from bench.publishing.sinks import make_for
from bench.publishing.terminal import print_files, print_leaderboard, print_versus


class Instead(Settings):
    """Options that replace the usual report."""

    versus: Some[Name] = ()
    serve: bool = False
    site: Folder | None = None
    format: Literal["latex"] | None = None


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("report", report, argv)


def report(config: dict[str, Any]) -> int:
    """Read every record under ``out``, print the leaderboard and write all outputs.

    With ``serve`` write the page, and serve its folder on loopback until Ctrl-C. With ``site``
    write a folder of pages for static hosting, with ``wandb.make`` W&B's workspace or report, with
    ``versus`` print when one row beats another, with ``format=latex`` write the tables for LaTeX:
    each of these instead of all else.

    Lines that hold no record are named and left out. The exit code is then 2, unless a crash in the
    middle of a write is all that there was.

    Raises:
        ConfigError: a key is wrong, there are no records, or a file cannot be read or written.
    """
    wanted, instead = read_publish_config(config), Instead.read(config)
    if wanted.wandb.replay and wanted.wandb.mode == "disabled":  # as it is in conf/report.yaml
        wanted = wanted.but(wandb=wanted.wandb.but(mode=None))
    pair = instead.versus
    if pair and len(pair) != 2:
        raise ConfigError(f"versus takes two rows, as versus=[nala,softmax]; it has {len(pair)}.")
    kinds = {"versus": pair, "serve": instead.serve, "wandb.make": wanted.wandb.make}
    kinds |= {"site": instead.site, "format": instead.format}
    if len(given := [key for key, value in kinds.items() if value]) > 1:
        raise ConfigError(
            f"{' and '.join(given)} are given, and each replaces the usual report. Give one."
        )
    contents = read_store(wanted.out)
    records = with_verified(with_calibration(contents.records, wanted.out), wanted.out)
    refuse_unknown(wanted.controls, records)
    if instead.serve:
        page = write_page(build_leaderboard(records, wanted.controls), records, wanted)
        serve(page, print, is_terminal=sys.stdout.isatty())
        return _ended(contents)
    console = Console(markup=False)
    if pair:
        one, other = pair
        print_versus(records, one, other, console)
        return _ended(contents)
    if wanted.wandb.make:
        file, notes = make_for(records, wanted)
        print_files((file,), tuple(notes), console)
        return _ended(contents)
    if site := instead.site:
        files = build_site(records, wanted, site)
        took = f"It shows {quantity(len(records), 'record')} of the store {wanted.out}."
        print_files(files[:1], (took,), console)
        return _ended(contents)
    if instead.format == "latex":
        print_files((write_latex(records, wanted),), (), console)
        return _ended(contents)
    published = publish(records, wanted)
    print_leaderboard(published.board, wanted, console)
    console.print()
    print_files(published.files, published.notes, console)
    return _ended(contents)


def _ended(contents: StoreContents) -> int:
    """Name on stderr the lines that were left out; returns the exit code."""
    for words in contents.describe():
        print(words, file=sys.stderr)
    return 2 if contents.is_damaged else 0


if __name__ == "__main__":
    raise SystemExit(main())
