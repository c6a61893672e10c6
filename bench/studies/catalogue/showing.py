"""`attnbench show NAME`: all that is known of one mechanism, on a page.

The words are the class's docstring, the claims its capabilities, costs its own formulas; what has
been tested of it lies in the folder of results. Torch is imported late, so that help and a
misspelt name are answered at once.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attentions.capabilities import FAMILIES
from attentions.catalogue import CatalogueEntry
from bench.core.cli.choices import own_rows
from bench.core.cli.errors import OF_YOUR_OWN, ConfigError, did_you_mean
from bench.core.cli.foreign import foreign_code, told
from bench.core.cli.limits import MAX_SIZE
from bench.core.cli.streams import console
from bench.core.cli.values import folder_of, run_words, words_and_options
from bench.core.format import with_unit
from bench.core.proofs import BadgeStatus, Proofs, read_proofs
from bench.core.rows import rows_of
from bench.publishing.metrics.roofline import least_bytes
from bench.studies.catalogue.listing import everything, in_words, names_in

if TYPE_CHECKING:
    from bench.studies.catalogue.costs import Needs

USAGE = """attnbench show NAME [seq_len=N,…] [plugins=MODULE,…] [--config-dir DIR] [out=DIR]
  NAME: a mechanism, as attnbench list shows it
  seq_len: lengths at which to say what a call needs; nothing is measured
  plugins: modules of your own, in which it may be
  --config-dir: the folder of your own rows, in which attention/ is
  out: the folder where badges and verify.json lie (results)"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Mechanism to show, modules and rows to search besides this project's, and results.

    Attributes:
        seq_len: sequence lengths for which to print its costs.
    """

    name: str
    seq_len: tuple[int, ...] = ()
    plugins: tuple[str, ...] = ()
    config_dir: Path | None = None
    out: Path = Path("results")


def main(argv: list[str] | None = None) -> int:
    """Print the page; returns the exit code."""
    return run_words(_print_page, argv, USAGE)


def _print_page(words: list[str]) -> int:
    request = read_request(words)
    entry = find(request.name, request.plugins)
    from bench.measuring.plugins import import_plugins

    import_plugins(request.plugins)
    proofs = read_proofs(request.out).get(entry.name, Proofs())
    show(entry, proofs, console(), request)
    return 0


def read_request(words: list[str]) -> Request:
    """Read a name, plugins and folders off the command line.

    Raises:
        ConfigError: no name or several, a word that is not an option, or rows that are not there or
            cannot be read.
    """
    words = re.sub(r"--config-dir\n", "--config-dir=", "\n".join(words)).splitlines()
    names, options = words_and_options(words, ("seq_len", "plugins", "--config-dir", "out"), USAGE)
    rows = Path(options["--config-dir"]) if "--config-dir" in options else None
    if rows and not os.path.isdir(rows / "attention"):
        raise ConfigError(f"--config-dir {rows}: {rows / 'attention'} is not a folder.")
    if rows:
        own_rows(rows)  # refuses a file that cannot be read
    if len(names) != 1:
        given = ", ".join(names) or "none"
        raise ConfigError(f"show takes one mechanism; {given} was given. Usage: {USAGE}")
    return Request(
        name=names[0],
        seq_len=_lengths(options.get("seq_len", "")),
        plugins=names_in(options.get("plugins", "")),
        config_dir=rows,
        out=folder_of(options, "out", "results"),
    )


def _lengths(given: str) -> tuple[int, ...]:
    words = names_in(given)
    for word in words:
        if not re.fullmatch(r"\d{1,10}", word) or not 1 <= int(word) <= MAX_SIZE:
            raise ConfigError(
                f"seq_len is {word!r}; it takes a whole number from 1 to {MAX_SIZE}, or several."
            )
    return tuple(map(int, words))


def find(name: str, plugins: tuple[str, ...] = ()) -> CatalogueEntry:
    """Look a mechanism up, among those of plugins too.

    Raises:
        ConfigError: there is none of this name; the nearest are named.
    """
    known = {entry.name: entry for entry in everything(plugins)}
    if name not in known:
        row = next((key for key in known if name in rows_of(key)), None)
        hint = f"{did_you_mean(name, known)} {OF_YOUR_OWN}"
        if row:
            hint = f"It is a row of {row}: attnbench show {row}."
        raise ConfigError(f"No mechanism is named {name!r}. {hint}")
    return known[name]


def show(entry: CatalogueEntry, proofs: Proofs, to: Console, request: Request) -> None:
    """Print the page, section by section."""
    said = entry.description
    to.print(Text.assemble((entry.name, "bold"), f"  {entry.title}"))
    _facts(entry, to, request.config_dir)
    _heading("Formula", to)
    _say(said.summary, to)
    for block in said.body:
        to.print()
        indent = "    " if block.is_formula else ""
        _say("\n".join(indent + line for line in block.text.splitlines()), to)
    if entry.defaults:
        _heading("Hyperparameters", to)
        to.print(_hyperparameters(entry))
    _heading("Cost", to)
    _say(cost_line(entry.name), to)
    if request.seq_len:
        _print_needs(entry.name, request.seq_len, to)
    _heading("Tested", to)
    for line in tested_lines(entry, proofs):
        _say(line, to)
    for title, items in (("Hazards", said.hazards), ("Differences", said.differences)):
        if items:
            _heading(title, to)
            for item in items:
                _say(f"- {item}", to)
    _heading("Commands", to)
    for command in commands(entry, request.plugins, request.config_dir):
        to.print(command, markup=False, highlight=False, soft_wrap=True)


def _say(text: str, to: Console) -> None:
    to.print(_plain(text), markup=False, highlight=False)


def _plain(text: str) -> str:
    """Text without the double backquotes around code."""
    return text.replace("``", "")


def _heading(title: str, to: Console) -> None:
    to.print(Text(f"\n{title}", style="bold"))


def _facts(entry: CatalogueEntry, to: Console, config_dir: Path | None) -> None:
    facts = {
        "source": entry.source,
        "family": f"{entry.family}: {FAMILIES[entry.family]}",
        "kind": "layer, (B, N, C) -> (B, N, C)" if entry.is_layer else "core, on heads",
        "claims": in_words(entry.capabilities),
        "rows": ", ".join(rows_of(entry.name, config_dir)),
    }
    for name, text in facts.items():
        _say(f"  {name:<7} {text}", to)


def _hyperparameters(entry: CatalogueEntry) -> Table:
    rows = Table("name", "default", "meaning", box=None, padding=(0, 2))
    for name, default in entry.defaults.items():
        meaning = entry.description.arguments.get(name, "")
        rows.add_row(name, Text(default or "needed"), Text(_plain(meaning)))
    return rows


def cost_line(name: str) -> str:
    """FLOPs of one call, in a sentence.

    If a plugin has no formula, or raises in it, the sentence gives the error.
    """
    from bench.studies.catalogue.costs import (
        BATCH_SIZE,
        HEAD_DIM,
        NUM_HEADS,
        SEQ_LEN,
        forward_flops,
    )

    try:
        with foreign_code():
            flops = forward_flops(name)
    except Exception as error:  # it may be a plugin's, and the rest of the page is still wanted
        return f"cannot be worked out: {told(error)}"
    shape = f"B={BATCH_SIZE}, H={NUM_HEADS}, D={HEAD_DIM}, N={SEQ_LEN}"
    return f"{flops / 1e9:.3g} GFLOP for one forward call at {shape}, by its formula"


def _print_needs(name: str, lengths: tuple[int, ...], to: Console) -> None:
    """Print the needs of one call at each length, by formulas and a dry run without values."""
    from bench.studies.catalogue.costs import BATCH_SIZE, HEAD_DIM, NUM_HEADS, needs

    found: list[Needs] = []
    refused = []
    for seq_len in lengths:
        try:
            with foreign_code():
                found.append(needs(name, seq_len))
        except Exception as error:  # as in `cost_line`
            refused.append(f"{seq_len:,}: {told(error)}")
    if found:
        dtype = found[0].workload.dtype
        shape = f"B={BATCH_SIZE}, H={NUM_HEADS}, D={HEAD_DIM}, {dtype}"
        _say(f"\none forward call at {shape}, estimated without measuring:", to)
        to.print(_needs_table(found))
    for line in refused:
        _say(line, to)


def _needs_table(found: list[Needs]) -> Table:
    rows = [
        {
            "seq_len": f"{each.workload.seq_len:,}",
            "FLOPs": with_unit("flops", each.flops),
            "bytes moved, at least": with_unit(
                "moved_bytes",
                least_bytes(each.workload, each.num_parameters, 0, each.num_gate_values),
            ),
            "state while decoding": with_unit("state_bytes", each.state_bytes),
            "parameters": f"{each.num_parameters:,}",
            "peak memory": with_unit("peak_bytes", each.peak_bytes),
        }
        for each in found
    ]
    table = Table(box=None, padding=(0, 2))
    kept = [title for title in rows[0] if any(row[title] for row in rows)]
    for title in kept:
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(*(row[title] for title in kept))
    return table


def tested_lines(entry: CatalogueEntry, proofs: Proofs) -> Iterator[str]:
    """Goldens and badges, with reasons of failures and of what was not tested."""
    yield from proofs.words(entry.module)
    for status in BadgeStatus:
        claims = [badge for badge in proofs.badges.values() if badge.status is status]
        if not claims:
            continue
        words = str(status).replace("_", " ")
        yield f"{words}: {', '.join(badge.claim for badge in claims)}"
        yield from (f"  {badge.claim}: {badge.reason}" for badge in claims if badge.reason)


def commands(
    entry: CatalogueEntry, plugins: tuple[str, ...] = (), config_dir: Path | None = None
) -> Iterator[str]:
    """Command lines that measure and prove it, with the modules and the rows of plugins."""
    only = f"attention=[{entry.name}]"
    scope = ["scope=layer"] if entry.is_layer else []
    causal = [] if entry.capabilities.bidirectional else ["causal=true"]
    both = f"attention=[softmax,{entry.name}]" if entry.name != "softmax" else only
    task = ["task=[]"]
    if plugins:
        folder = ["--config-dir", str(config_dir)] if config_dir else []
        row = [*folder, f"plugins=[{','.join(plugins)}]"]
        yield _command("sweep", *row, both, "seq_len=[1024,4096]", *scope, *causal, *task)
        yield _command("verify", *row, "conformance=true", only)
        return
    yield _command("sweep", both, "seq_len=[1024,4096]", *scope, *causal, *task)
    yield _command("verify", only)
    yield _command("verify", "conformance=true", only)
    yield _command("verify", "flops=true", only)


def _command(name: str, *words: str) -> str:
    # Brackets are patterns to zsh, and shlex would quote a word for its "=" or ",", too.
    quoted = [w if re.fullmatch(r"[\w=.,/-]+", w) else shlex.quote(w) for w in words]
    return " ".join(["attnbench", name, *quoted])


if __name__ == "__main__":
    sys.exit(main())
