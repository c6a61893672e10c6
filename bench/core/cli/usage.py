"""Text of ``--help`` for a command: its keys with defaults and meanings."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WIDTH = 100
_LEFT_OUT = ("defaults:", "hydra:")
"""Blocks of a file that say how it is composed."""

_TO_BEGIN = {
    "sweep": """\
  attnbench sweep 'attention=[softmax,nala]' 'seq_len=[256,1024,4096]' 'task=[]'   speed
  attnbench sweep 'attention=[softmax,nala]' 'seq_len=[]' 'task=[recall]'          accuracy
  attnbench sweep experiment=suite budget=30m                                      a ready study
  attnbench sweep experiment=suite dry_run=true                                    its plan""",
    "report": """\
  attnbench report                              tables, charts and page of results/, written again
  attnbench report serve=true                   the page on localhost
  attnbench report 'versus=[nala,softmax]'      which is faster, and from which length on""",
    "regress": """\
  attnbench regress                             this commit and the one before, or main
  attnbench regress base=main 'attention=[nala]'""",
}
"""Examples for commands with long lists of keys: their most common uses."""

_KEYS = "publish"
"""A config group with one file, whose keys are keys of the command."""

_FLAGS = """\
  --multirun     run once per comma-separated value, e.g. seq_len=256,1024
  --cfg job      print the composed configuration and exit
  --config-dir D search the folders of D too
  --hydra-help   Hydra's own flags"""

_EXIT_CODES = (
    "Exit codes: 0 done, 1 a verdict, 2 bad input, 3 a bug in attnbench, 130 stopped by Ctrl-C."
)


@dataclass(frozen=True, kw_only=True)
class Root:
    """Source of a command's configuration: a YAML, or a model of settings.

    Attributes:
        content: as the YAML says it, with ``defaults`` and ``hydra``.
        keys: the keys, as they are set, with comments.
    """

    content: Mapping[str, Any]
    purpose: str
    keys: str


def usage(
    config_name: str,
    root: Root,
    conf: Path,
    choices: Mapping[str, Sequence[str]],
    chosen: Mapping[str, Sequence[str]],
) -> str:
    """The whole help text.

    `choices` are the names that exist in each config group, `chosen` those that the root chooses.
    """
    parts = [f"usage: attnbench {config_name} [KEY=VALUE ...] [FLAG ...]", root.purpose]
    if config_name in _TO_BEGIN:
        parts.append(f"To begin:\n{_TO_BEGIN[config_name]}")
    parts.append(f"Keys and their defaults; set a nested key as OUTER.INNER=VALUE:\n{root.keys}")
    if _KEYS in choices:
        parts.append(f"Keys of what is published:\n{parts_of(conf / _KEYS / 'default.yaml')[1]}")
    parts += [f"Flags:\n{_FLAGS}", _EXIT_CODES]
    named = [
        _choice(group, names, chosen[group]) for group, names in choices.items() if group != _KEYS
    ]
    if named:
        parts.append("Choices by name, one or a list:\n" + "\n".join(named))
    return "\n\n".join(parts)


def _choice(group: str, names: Sequence[str], chosen: Sequence[str]) -> str:
    default = f"; by default [{', '.join(chosen)}]" if chosen else ""
    words = f"{group}: {', '.join(sorted(names))}{default}"
    return textwrap.fill(words, WIDTH, initial_indent="  ", subsequent_indent="    ")


def parts_of(file: Path) -> tuple[str, str]:
    """A file's first comment, as words, and the lines that set keys, as they are written."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @")]
    head = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    keys = "\n".join(_keys(lines[len(head) :])).strip("\n")
    words = " ".join(line.lstrip("# ") for line in head)
    return textwrap.fill(words, WIDTH), textwrap.indent(keys, "  ")


def _keys(lines: Iterable[str]) -> Iterator[str]:
    """Lines without those blocks; a block lasts to the next line that is not indented."""
    is_left_out = False
    for line in lines:
        if not line.startswith((" ", "-")):
            is_left_out = line.startswith(_LEFT_OUT)
        if not is_left_out:
            yield line
