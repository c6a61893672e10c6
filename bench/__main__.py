"""`python -m bench COMMAND …` and the console script `attnbench`: names the commands, no more."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.streams import exit_code, make_streams_unbreakable

COMMANDS = {
    "sweep": ("bench.sweep", "measure mechanisms over shapes and tasks, publish the table"),
    "smoke": ("bench.sweep", "a sweep of seconds, to see that everything works here"),
    "report": ("bench.report", "write the tables, charts and W&B run again from the records"),
    "validate": ("bench.validate", "say whether results may be published, line by line"),
    "merge": ("bench.merge", "take the records of several folders over into one"),
    "fsck": ("bench.fsck", "find what is damaged in a folder of records, and put it aside"),
    "regress": ("bench.regress", "say whether a tree is slower, or takes more, than another"),
    "verify": ("bench.verify", "prove mechanisms against their authors' numbers"),
    "rates": ("bench.rates", "search the learning rates of rows, for sweeps to train at"),
    "race": ("bench.race", "make the best table of tasks that a time buys, budget=10m"),
    "reproduce": (
        "bench.reproduce",
        "train a paper's cell or test its sentence, and judge",
    ),
    "advise": ("bench.advise", "say which mechanism fulfils some needs, by what is stored"),
    "convert": (
        "bench.convert",
        "exchange a trained softmax model's layers, and see what survives",
    ),
    "text": ("bench.text", "compare language models of bytes, and predict a larger one"),
    "hybrids": ("bench.hybrids", "compare mixers alone with the same beside softmax layers"),
    "explain": (
        "bench.explain",
        "explain a trained model's answers by several methods, scored",
    ),
    "diagnose": ("bench.diagnose", "show what attention weights look like: entropy, rank, errors"),
    "selftest": (
        "bench.selftest",
        "measure how far the regression gate can be trusted here",
    ),
    "calibrate": ("bench.calibrate", "measure what this machine can do at best, for sweeps to use"),
    "launches": ("bench.launches", "list the GPU kernels that operators launch, without a GPU"),
    "list": ("bench.list", "show the mechanisms, what they can do and what is proven"),
    "show": ("bench.show", "show all that is known of one mechanism"),
    "new": ("bench.new", "write the files of a new mechanism, to be filled in"),
    "completion": ("bench.completion", "print what makes a shell complete these words"),
}
GROUPS = {
    "Measure": (
        "sweep",
        "smoke",
        "race",
        "rates",
        "convert",
        "text",
        "calibrate",
        "launches",
    ),
    "Read": ("report", "advise", "list", "show", "explain", "diagnose"),
    "Judge": ("regress", "verify", "reproduce", "hybrids", "selftest"),
    "Keep": ("validate", "merge", "fsck", "new", "completion"),
}
START = """\
usage: attnbench COMMAND [KEY=VALUE ...]

To begin:
  attnbench smoke                                             does it work here? seconds
  attnbench list                                              which mechanisms there are
  attnbench sweep 'attention=[softmax,nala]' 'seq_len=[256,1024]' 'task=[]'
  attnbench report serve=true                                 look at the tables
attnbench COMMAND --help shows the keys of a command. Quote words with brackets."""


def main() -> int:
    """Run the command that the first word names."""
    make_streams_unbreakable()
    try:
        return exit_code(_run())
    except KeyboardInterrupt:  # while a command is imported; each catches its own
        return 130


def _run() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in {"-h", "--help", "help"}:
        print(START)
        for group, commands in _grouped().items():
            print(f"\n{group}:")
            for command in commands:
                print(f"  {command:<10} {COMMANDS[command][1]}")
        return 0
    if name == "--version":
        print(f"attnbench {_version()}")
        return 0
    if name not in COMMANDS:
        hint = did_you_mean(name, COMMANDS)
        print(f"ConfigError: {name!r} is not a command. {hint}", file=sys.stderr)
        return 2
    try:
        here = os.getcwd()
    except OSError as error:
        return print_error(
            ConfigError(f"The current folder is gone: {error.strerror}. Enter another.")
        )
    if here not in sys.path and "" not in sys.path:
        # Under `python -m` the current folder, where a user's plugins lie, is in sys.path; under
        # a console script the script's own folder is there instead.
        sys.path.append(here)
    module = importlib.import_module(COMMANDS[name][0])
    words = ["experiment=smoke"] if name == "smoke" else []
    sys.argv[1:] = [*words, *sys.argv[2:]]
    code: int = module.main()
    return code


def _grouped() -> dict[str, list[str]]:
    """Commands by the title of their group; those in no group come last, under More."""
    named = {command for commands in GROUPS.values() for command in commands}
    more = {"More": [command for command in COMMANDS if command not in named]}
    return {group: [*commands] for group, commands in (GROUPS | more).items() if commands}


def _version() -> str:
    try:
        return version("attnbench")
    except PackageNotFoundError:
        return "from a folder that is not installed"


if __name__ == "__main__":
    sys.exit(main())
