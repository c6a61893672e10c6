"""The command: list what is described, or run what is asked for and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.app.command import run_app
from bench.app.errors import ConfigError
from bench.app.files import check_writable
from bench.app.values import Values, duration, flag, text, word
from bench.config import SEED
from bench.looks import Looks
from bench.publish.format import format_duration
from bench.reproduce.page import write_page
from bench.reproduce.papers import (
    FOLDER,
    Claim,
    Contradiction,
    Described,
    Kind,
    PaperCell,
    read_papers,
)
from bench.reproduce.power import print_power
from bench.reproduce.stored import judgement, keep_all, read_all
from bench.reproduce.table import in_words, print_list, printed_value
from bench.reproduce.verdicts import Judgement, Verdict

DEAR_S = 30 * 60.0
"""What costs more is run only with a budget, so that nobody starts hours by an id."""

DECIDED = "decided"
"""The one value of `until`: seeds are added until a claim is decided."""

_WIDTH_WITHOUT_TERMINAL = 200
_CONTRADICTS = (Verdict.DIFFERS, Verdict.DISAGREES, Verdict.DOES_NOT_HOLD)


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Everything that `bench.reproduce` was asked for; the YAML says what each key means."""

    cell: tuple[str, ...]
    kind: str | None
    find: str | None
    seed: tuple[int, ...]
    force: bool
    power: str | None
    budget_s: float | None
    until: str | None
    papers: Path | None
    page: bool
    check: bool
    docs: Path | None
    keep: Path
    out: Path

    @property
    def stores(self) -> tuple[Path, Path]:
        """Folders whose records and findings are read."""
        return self.keep, self.out


def read_reproduce_config(config: dict[str, Any]) -> ReproduceConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    values = Values(config)
    papers, docs = values.optional("papers", text), values.optional("docs", text)
    if papers and not Path(papers).is_dir():
        raise ConfigError(f"papers={papers} is not a folder. Name one that holds YAML files.")
    budget_s = values.optional("budget", duration)
    if budget_s == 0:
        raise ConfigError("budget is 0; a time such as 90s, 10m or 1h is needed.")
    cell = values.some("cell", text, or_none=True)
    until = values.optional("until", word((DECIDED,)))
    if until and not cell:
        raise ConfigError(f"until={until} takes a claim to decide: cell=ID.")
    if until and budget_s is None:
        raise ConfigError(
            f"until={until} adds seeds to a claim, which may take hours. Say for how long at most, "
            "such as budget=2h; the same command goes on."
        )
    return ReproduceConfig(
        cell=cell,
        kind=values.optional("kind", word(tuple(Kind))),
        find=values.optional("find", text),
        seed=values.some("seed", SEED),
        force=values.one("force", flag),
        power=values.optional("power", text),
        budget_s=budget_s,
        until=until,
        papers=Path(papers) if papers else None,
        page=values.one("page", flag),
        check=values.one("check", flag),
        docs=Path(docs) if docs else None,
        keep=Path(values.one("keep", text)),
        out=Path(values.one("out", text)),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_app("reproduce", command, argv)


def command(composed: dict[str, Any]) -> int:
    """Do what was asked for; returns the exit code."""
    config = read_reproduce_config(composed)
    papers = read_papers((FOLDER, *([config.papers] if config.papers else [])))
    console = _console()
    if config.power:
        return print_power(config.power, config.stores, console)
    if config.page or config.check:
        if not config.check:
            _keep_all(config, console)
        return write_page(papers, config.keep, config.docs, is_check=config.check)
    if not config.cell:
        shown = [entry for entry in papers.entries.values() if _is_wanted(entry, config)]
        if not shown:
            raise ConfigError(f"Nothing described matches kind={config.kind} find={config.find}.")
        print_list(console, shown, read_all(config.stores), config.stores)
        return 0
    check_writable(config.out)
    entries = [papers.find(name) for name in config.cell]
    for entry in entries:
        _refuse(entry, config)
        if config.until and not _compares_arms(entry):
            able = ", ".join(one.id for one in papers.entries.values() if _compares_arms(one))
            raise ConfigError(
                f"until={config.until} adds seeds of training, and cell={entry.id} is no claim "
                f"that compares trained arms. These are: {able}."
            )
    worst = 0
    for entry in entries:
        code = _run(entry, config, composed["sweep_id"], console)
        if code == 130:
            return code
        worst = max(worst, code)
    return worst


def _keep_all(config: ReproduceConfig, console: Console) -> None:
    """Copy what `out` has and `keep` lacks into `keep`, which is in git; each file is named."""
    if config.out.resolve() == config.keep.resolve():
        return
    check_writable(config.keep)
    for file in keep_all(config.out, config.keep):
        console.print(f"kept {file}", markup=False, highlight=False, soft_wrap=True)


def _is_wanted(entry: Described, config: ReproduceConfig) -> bool:
    if config.kind is not None and entry.kind != config.kind:
        return False
    return config.find is None or config.find.lower() in f"{entry.paper} {entry.id}".lower()


def _compares_arms(entry: Described) -> bool:
    """Tell claims whose function trains arms, under the `seeds` of its settings."""
    return isinstance(entry, Claim) and "seeds" in entry.settings


def _refuse(entry: Described, config: ReproduceConfig) -> None:
    """Say of what cannot be run as asked why, before anything is."""
    if isinstance(entry, Contradiction):
        cells = f"cell={entry.of[0]}" if entry.of else "kind=cell"
        raise ConfigError(
            f"cell={entry.id} is a contradiction between published values ({printed_value(entry)})"
            f" and is not run. Try one of its cells, e.g. {cells}."
        )
    is_trained = isinstance(entry, PaperCell) and not entry.not_comparable
    if is_trained and entry.cost_s > DEAR_S and config.budget_s is None:
        raise ConfigError(
            f"cell={entry.id} costs about {format_duration(entry.cost_s)} on two cores. Say "
            "budget=20m to see how far it gets, or a larger one; the same command goes on."
        )


def _run(entry: Described, config: ReproduceConfig, sweep_id: str, console: Console) -> int:
    # Torch is imported with what trains, so that a list is there at once.
    from bench.reproduce.running import Setup, run_cell, run_function

    print_entry(console, entry)
    setup = Setup(
        keep=config.keep,
        out=config.out,
        sweep_id=sweep_id,
        console=console,
        is_forced=config.force,
    )
    found: Judgement | None = None
    if isinstance(entry, PaperCell) and entry.not_comparable:
        found = judgement(entry, (), config.stores)
    elif isinstance(entry, Claim) or (isinstance(entry, PaperCell) and entry.by):
        looks, budget_s = (Looks(), config.budget_s) if config.until else (None, None)
        found = run_function(entry, setup, looks, budget_s)
    elif isinstance(entry, PaperCell):
        found = run_cell(entry, setup, config.seed, config.budget_s)
    if found is None:
        console.print("Stopped. The same command goes on from here.")
        return 130
    console.print(in_words(found), markup=False, highlight=False, soft_wrap=True)
    return int(found.verdict in _CONTRADICTS)


def print_entry(console: Console, entry: Described) -> None:
    """What is about to be run, where it stands, and how it differs from what was published."""
    lines: Sequence[str] = ()
    if isinstance(entry, Claim):
        refuted = f"refuted by: {entry.refuted_by}" if entry.refuted_by else "refuted by: not said"
        lines = (f"{entry.paper}, {entry.where}: {entry.sentence}", refuted)
    elif isinstance(entry, PaperCell):
        protocol = entry.protocol.deviations if entry.protocol else ()
        code = entry.protocol.code if entry.protocol else None
        lines = (
            f"{entry.paper}, {entry.where}: {entry.what}",
            f"published {printed_value(entry)} ({entry.obtained}), "
            f"the same within {100 * entry.tolerance:g}",
            *((f"follows {code}",) if code else ()),
            *(f"- {line}" for line in (*protocol, *entry.deviations)),
        )
    for line in (entry.id, *lines):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)
