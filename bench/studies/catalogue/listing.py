"""`attnbench list`: what mechanisms there are, what they can do, and what has been proven of them.

Reads source and results as text. Neither torch nor Hydra is imported, so the answer is there at
once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from attentions.capabilities import FAMILIES, PUBLISHED, Capabilities
from attentions.catalogue import CatalogueEntry, catalogue, module_catalogue, plugin_catalogue
from bench.core.cli.errors import ConfigError, check_known, did_you_mean
from bench.core.cli.streams import console
from bench.core.cli.values import flag_of, folder_of, run_words, words_and_options
from bench.core.proofs import Proofs, read_proofs
from bench.core.rows import ON_REQUEST

USAGE = """attnbench list [family=NAME,…] [causal=BOOL] [recurrent=BOOL] [needs_grid=BOOL]
               [all=BOOL] [plugins=MODULE,…] [out=DIR]
  Alone it prints the names by family; with a filter, all=true or plugins, a row per mechanism.
  family: any of {families}; all but {published} unless given
  causal, recurrent, needs_grid: true for those that claim it, false for the others
  all: true for those too that are shown only when asked for, such as other packages' versions
  plugins: modules of your own, with mechanisms to show as well
  out: the folder with your own proofs, verify.json and badges/ (results)""".format(
    families=", ".join(FAMILIES), published=PUBLISHED
)
CLAIMS = ("causal", "recurrent", "needs_grid")
_OPTIONS = ("family", *CLAIMS, "all", "plugins", "out")


@dataclass(frozen=True, kw_only=True)
class Query:
    """Filters of a listing.

    Attributes:
        families: those to show; empty for all but the authors' own operators.
        claims: capability -> whether it must be claimed, or must not.
        all: whether to show those too that are listed only on request.
        plugins: modules whose mechanisms are shown as well.
        out: the folder of results.
    """

    families: frozenset[str] = frozenset()
    claims: dict[str, bool] = field(default_factory=dict)
    all: bool = False
    plugins: tuple[str, ...] = ()
    out: Path = Path("results")

    def admits(self, entry: CatalogueEntry) -> bool:
        """Whether a mechanism passes the filters."""
        usual = FAMILIES.keys() if self.all else FAMILIES.keys() - {PUBLISHED}
        if entry.family not in (self.families or usual):
            return False
        if entry.name in ON_REQUEST and not self.all:
            return False
        return all(getattr(entry.capabilities, name) is want for name, want in self.claims.items())


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    return run_words(_print_list, argv, USAGE)


def _print_list(words: list[str]) -> int:
    query = read_query(words)
    proofs = read_proofs(query.out)
    found = [entry for entry in everything(query.plugins) if query.admits(entry)]
    if not found:
        print("No mechanism is all of this. Leave a filter out; attnbench list alone filters none.")
        return 0
    if query == Query(out=query.out):
        for family in FAMILIES:
            if names := [entry.name for entry in found if entry.family == family]:
                print(f"{family}: {', '.join(names)}")
        print("\nRows with claims, sources and proofs: attnbench list family=NAME, or all=true.")
        return 0
    console().print(table(tuple(found), proofs))
    if said := legend(tuple(found), proofs):
        console().print(said, highlight=False, markup=False)
    return 0


def everything(plugins: tuple[str, ...] = ()) -> tuple[CatalogueEntry, ...]:
    """Every mechanism of this package, then those of plugins: installed ones, and those named.

    Errors of installed ones are printed to stderr.

    Raises:
        ConfigError: a plugin that is named cannot be read, or brings no mechanism.
    """
    entries, problems = plugin_catalogue()
    for problem in problems:
        print(problem, file=sys.stderr)
    named = [entry for module in plugins for entry in _of_module(module) if entry not in entries]
    return (*catalogue(), *entries, *named)


def _of_module(module: str) -> tuple[CatalogueEntry, ...]:
    try:
        found = module_catalogue(module)
    except Exception as error:  # a foreign file, which may be anything
        raise ConfigError(
            f"plugins names {module!r}, which cannot be read: {type(error).__name__}: {error}. It "
            "must be importable by that name, e.g. from the current folder or PYTHONPATH."
        ) from error
    if not found:
        raise ConfigError(
            f"plugins names {module!r}, in which no class stands under @register_attention."
        )
    return found


def names_in(value: str) -> tuple[str, ...]:
    """The names of a list as a command line has it: ``[a,b]``, or ``a,b``; none of no text."""
    return tuple(name.strip() for name in value.strip("[]").split(",")) if value else ()


def read_query(words: list[str]) -> Query:
    """Read filters and the folder of results off the command line.

    Raises:
        ConfigError: a word that is not an option, or a value that it cannot have.
    """
    plain, options = words_and_options(words, _OPTIONS, USAGE)
    if plain:
        hint = did_you_mean(plain[0], _OPTIONS)
        raise ConfigError(f"{plain[0]} is not known. {hint} Usage: {USAGE}")
    families = names_in(options.get("family", ""))
    for name in families:
        check_known(name, FAMILIES, f"family={options['family']}: there is no family {name!r}.")
    return Query(
        families=frozenset(families),
        claims={key: flag_of(options, key) for key in CLAIMS if key in options},
        all=flag_of(options, "all"),
        plugins=names_in(options.get("plugins", "")),
        out=folder_of(options, "out", "results"),
    )


def table(entries: tuple[CatalogueEntry, ...], proofs: dict[str, Proofs]) -> Table:
    """One row per mechanism."""
    header = ("name", "title", "family", "kind", "can", "source", "serving", "goldens", "claims")
    rows = Table(*header, show_lines=True)
    for column in (0, 2, 3, 6, 7, 8):
        rows.columns[column].no_wrap = True
    for entry in entries:
        proven = proofs.get(entry.name, Proofs())
        old_goldens = "*" * proven.has_stale_goldens(entry.module)
        old_badges = "*" * proven.is_stale(entry.module)
        cells = (
            entry.name,
            entry.title,
            entry.family,
            "layer" if entry.is_layer else "core",
            in_words(entry.capabilities),
            entry.source,
            "{}/{}".format(*proven.serving) + old_badges if proven.serving[1] else "-",
            f"{proven.goldens[0]}/{proven.goldens[1]}{old_goldens}" if proven.goldens else "-",
            "{}/{}".format(*proven.claims) + old_badges if proven.badges else "-",
        )
        rows.add_row(*map(escape, cells))
    return rows


def legend(entries: tuple[CatalogueEntry, ...], proofs: dict[str, Proofs]) -> str:
    """Where stored proofs come from, and what a star means; empty if there are neither."""
    shown = [(e, proofs[e.name]) for e in entries if e.name in proofs]
    stored = {proven.stored for _, proven in shown} - {""}
    words = [f"Stored with the code: {'; '.join(sorted(stored))}."] if stored else []
    if any(p.is_stale(e.module) or p.has_stale_goldens(e.module) for e, p in shown):
        words.append("* of an earlier state of its source; attnbench verify tests it again.")
    return " ".join(words)


def in_words(can: Capabilities) -> str:
    """Say what a mechanism claims beyond mapping queries, keys and values of one length."""
    return ", ".join(can.claims) or "bidirectional"


if __name__ == "__main__":
    sys.exit(main())
