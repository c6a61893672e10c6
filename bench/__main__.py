"""`python -m bench COMMAND …` and the console script `attnbench`: names the commands, no more."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.streams import exit_code, make_streams_unbreakable

GROUPS = {
    "Measure": {
        "sweep": "measure mechanisms over shapes and tasks, publish the table",
        "smoke": "a sweep of seconds, to see that everything works here",
        "rates": "search the learning rates of rows, for sweeps to train at",
        "convert": "replace layers of a trained softmax model, and see what survives",
        "text": "compare language models of bytes, and predict a larger one",
        "calibrate": "measure this machine's peak rates, for sweeps to use",
        "launches": "list the GPU kernels that operators launch, without a GPU",
    },
    "Read": {
        "report": "write tables, charts and the W&B run again, from the records",
        "advise": "say which mechanism meets your needs, from stored records",
        "list": "show the mechanisms, what they can do and what is proven",
        "show": "show all that is known of one mechanism",
        "memory": "size keys, values and states per user, in shipped models and rows",
        "traces": "compare answers of shipped models from a cache with one pass",
        "explain": "explain a trained model's answers by several methods, scored",
        "diagnose": "show what attention weights look like: entropy, rank, errors",
    },
    "Judge": {
        "regress": "say whether a tree is slower, or takes more, than another",
        "verify": "prove mechanisms against their authors' numbers",
        "reproduce": "train a paper's cell or test its sentence, and judge",
        "hybrids": "compare mixers alone with the same beside softmax layers",
        "selftest": "measure how often the regression gate is wrong here",
    },
    "Keep": {
        "validate": "say whether results may be published, line by line",
        "merge": "copy the records of several folders into one",
        "fsck": "find what is damaged in a folder of records, and put it aside",
        "new": "write the files of a new mechanism, to be filled in",
        "completion": "print a script that completes these words in bash or zsh",
    },
}
"""Commands and what each does, by the title of their group."""

COMMANDS = {name: f"bench.{name}" for group in GROUPS.values() for name in group}
COMMANDS["smoke"] = COMMANDS["sweep"]
"""Module of each command."""

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
        for group, commands in GROUPS.items():
            print(f"\n{group}:")
            for command, words in commands.items():
                print(f"  {command:<10} {words}")
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
    try:
        module = importlib.import_module(COMMANDS[name])
    except UnicodeDecodeError as error:  # Python reads the entry points of all packages, or of none
        from attentions.plugins import installed

        installed()  # names the package
        return print_error(ConfigError(f"The entry points of a package cannot be read: {error}."))
    preset = ["experiment=smoke"] if name == "smoke" else []
    sys.argv[1:] = [*preset, *sys.argv[2:]]
    code: int = module.main()
    return code


def _version() -> str:
    try:
        return version("attnbench")
    except PackageNotFoundError:
        return "from a folder that is not installed"


if __name__ == "__main__":
    sys.exit(main())
