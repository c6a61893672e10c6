"""Malformed command lines: a message and exit code 2, unless the value is allowed after all."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from bench import completion, fsck, merge, sweep, validate
from bench.core.cli.command import CONF, run_app
from bench.core.rows import settings_of
from bench.core.settings import Settings
from bench.measuring.config import read_sweep_config
from bench.publishing.config import read_publish_config
from bench.report import Instead
from bench.studies.advise.evidence import Advise
from bench.studies.catalogue import listing, new, showing
from bench.studies.ceilings import Calibrate
from bench.studies.convert.study import Convert
from bench.studies.diagnostics.study import Diagnose
from bench.studies.explain.study import Explain
from bench.studies.gate.command import read_gate_config
from bench.studies.hybrids import Hybrids
from bench.studies.launches.study import Launches
from bench.studies.memory import Memory
from bench.studies.rates import search
from bench.studies.reproduce.settings import Reproduce
from bench.studies.roots import root_of
from bench.studies.selftest.study import Selftest, sweep_of
from bench.studies.text.study import Text
from bench.studies.traces import Traces
from bench.studies.verify.settings import Verify
from tests.torture.trial import ROOT, Trial, here

Main = Callable[[list[str]], int]

DRY = ("attention=[softmax]", "task=[]", "seq_len=32", "dry_run=true", "rates=shared")
"""A small plan that is not measured; the word under test follows it."""


MODELS: dict[str, type[Settings]] = {
    "advise": Advise,
    "calibrate": Calibrate,
    "convert": Convert,
    "diagnose": Diagnose,
    "explain": Explain,
    "launches": Launches,
    "memory": Memory,
    "traces": Traces,
    "reproduce": Reproduce,
    "text": Text,
    "verify": Verify,
}
"""Commands that are defined by a model of settings instead of a YAML."""

OF_SWEEP: dict[str, type[Settings]] = {"rates": search.Own}
"""Commands that take the keys of a sweep, and those of these models."""


def _only_read(command: str, read: Callable[[dict[str, Any]], Any]) -> Main:
    """A command that reads its configuration and does nothing else."""
    root = root_of(MODELS[command]) if command in MODELS else None

    def main(words: list[str]) -> int:
        return run_app(command, lambda config: 0 * bool(read(config)), words, root=root)

    return main


def _checked(model: type[Settings]) -> Callable[[dict[str, Any]], None]:
    """A reader of a study's settings, and of those of its training runs."""

    def read(composed: dict[str, Any]) -> None:
        asked = model.read(composed)
        if hasattr(asked, "training"):
            asked.training(composed)

    return read


def _beside_a_sweep(own: type[Settings]) -> Main:
    def read(composed: dict[str, Any], given: Any) -> int:
        own.read(given)
        return 0 * bool(read_sweep_config(composed))

    return lambda words: search.main(words, read)


COMMANDS: dict[str, tuple[Main, tuple[str, ...]]] = {
    "sweep": (sweep.main, DRY),
    "report": (_only_read("report", lambda c: (read_publish_config(c), Instead.read(c))), ()),
    "regress": (_only_read("regress", read_gate_config), ("attention=[softmax]", "task=[]")),
    "selftest": (
        _only_read("selftest", lambda c: (Selftest.read(c), sweep_of(c))),
        ("attention=[softmax]",),
    ),
    "hybrids": (_only_read("hybrids", _checked(Hybrids)), ()),
    **{name: (_only_read(name, _checked(model)), ()) for name, model in MODELS.items()},
    "text": (_only_read("text", _checked(Text)), (f"root={ROOT / 'CHANGELOG.md'}",)),
    **{name: (_beside_a_sweep(own), ()) for name, own in OF_SWEEP.items()},
}

NUMBERS = ("-1", "0", "1e999", "-1e999", "nan", ".inf", "1e-400", "9" * 30, "0.1", "1_0", "0x1")
WORDS = ("abc", "''", "'", '"', "a b", "=", "a=b", "#", "?", "é", "\udc80", "\x1b[2J", "x" * 200)
PATHS = ("../..", "/proc/nope/x", "/dev/null", "/dev/null/x", "~nobody/x", "a/../../b", ".", "//")
SHAPES = ("null", "true", "[]", "{}", "[[1]]", "[null]", "[1,1]", "[a,b]", "{a:1}", "{a:{b:[]}}")
OPEN = ("[", "]", "{", "[1,", "{a:", "[1,2", "'abc", "a,b,c", "1,2", 400 * "[" + 400 * "]", ",")
REFERENCES = ("${oc.env:HOME}", "${nope}", "${.}", "${", "${oc.decode:'['}", "${out}", "$(ls)")
FOREIGN = ("!!python/object/apply:os.getcwd", "!!python/name:os.system", "&a", "*a", "<<", "|")
VALUES = NUMBERS + WORDS + PATHS + SHAPES + OPEN + REFERENCES + FOREIGN

FLAGS = (
    "--config-name=nope",
    "--config-dir=/proc/nope",
    "--config-dir=/dev/null",
    "--nope",
    "--package=a.b",
    "--cfg=nope",
    "hydra.run.dir=/proc/nope",
    "hydra/launcher=nope",
    "hydra.job.chdir=[]",
    "",
    "=",
    "=1",
    "seq_len",
    "+",
    "~",
    "@",
    "a@b=c",
    "...=1",
    "[1]",
    "--",
)


@functools.cache
def keys(command: str) -> tuple[str, ...]:
    """Every key of a command, and the groups that it composes."""
    if command in MODELS:
        root = dict(root_of(MODELS[command]).content)
    else:
        file = "sweep" if command in OF_SWEEP else command
        root = yaml.safe_load((CONF / f"{file}.yaml").read_text())
    found = [*OF_SWEEP[command].model_fields] if command in OF_SWEEP else []
    for choice in root.pop("defaults"):
        for group in choice if isinstance(choice, dict) else ():
            if (CONF / group).is_dir():
                found += [group, *(key for file in _of_group(group) for key in _flat(file))]
    root.pop("hydra", None)  # Hydra checks its own keys
    return (*found, *_flat(root))


def _of_group(group: str) -> Iterator[dict[str, Any]]:
    """Content that the files of a group add to a configuration."""
    if group == "attention":
        yield {group: {"softmax": settings_of("softmax")}}
    elif group == "publish":
        yield yaml.safe_load((CONF / group / "default.yaml").read_text())


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in content.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")


WORD_COMMANDS: dict[str, tuple[Main, str]] = {
    "completion": (completion.main, "shell"),
    "fsck": (fsck.main, "dry_run"),
    "validate": (validate.main, ""),
    "merge": (merge.main, "out"),
    "new": (new.main, "title"),
    "list": (listing.main, "family"),
    "show": (showing.main, "seq_len"),
}
"""Commands without YAML, each with an option of its own."""


def malformed_words(command: str, draw: Random) -> list[str]:
    """Words for one of `WORD_COMMANDS`, most of them malformed."""
    option = draw.choice((WORD_COMMANDS[command][1], "plugins", "out", "nope"))
    values = [value for value in VALUES if "/" not in value and value != "abc"]
    words = [draw.choice(values) for _ in range(draw.choice((0, 1, 1, 2)))]
    return words + [f"{option}={draw.choice(values)}"] * draw.choice((0, 1))


def malformed(command: str, draw: Random) -> str:
    """One word of a command line, most often one that must be refused."""
    if draw.random() < 0.1:
        return draw.choice(FLAGS)
    key, value = draw.choice(keys(command)), draw.choice(VALUES)
    if draw.random() < 0.2:
        key = _misspelt(key, draw)
    before = draw.choices(("", "+", "++", "~"), (7, 1, 1, 1))[0]
    return f"{before}{key}={value}"


def _misspelt(key: str, draw: Random) -> str:
    at = draw.randrange(len(key))
    return draw.choice(
        (
            key[:at] + key[at + 1 :],
            key[:at] + key[at] + key[at:],
            f"{key}.x",
            f"x.{key}",
            f"{key}@a",
        )
    )


def overrides(count: int, draw: Random, folder: Path) -> Iterator[Trial]:
    """`count` command lines with a word that does not belong there."""
    names = list(COMMANDS)
    for _ in range(count):
        command = draw.choices(names, [len(names), *[1] * (len(names) - 1)])[0]
        main, words = COMMANDS[command]
        word = malformed(command, draw)
        if draw.random() < 0.2:
            command = draw.choice(list(WORD_COMMANDS))
            main, words = WORD_COMMANDS[command][0], malformed_words(command, draw)
            word = words.pop() if words else ""
        ended = here(main, [*words, word], folder)
        fault = ended.fault(0, 2)
        if not fault and ended.code == 2 and not ended.said.strip():
            fault = "nothing was said"
        if not fault and "\x1b" in ended.said:
            fault = f"a terminal would obey: {ended.said!r}"
        if not fault and (left := list(folder.iterdir())):
            fault = f"files are left: {left}"
            for path in left:
                path.rename(folder.with_name(f"{folder.name}-{path.name}"))
        line = " ".join([*words, word])[:300]
        said = f"bench.{command} {line!r}: {fault}" if fault else ""
        yield Trial(what="refused" if ended.code == 2 else "taken", fault=said)
