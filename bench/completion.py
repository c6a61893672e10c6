"""`attnbench completion bash|zsh`: print what makes a shell complete commands, keys and names.

What can be completed is read off the ``--help`` of each command, so there is no list to keep.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from bench.core.cli.errors import ConfigError, did_you_mean
from bench.core.cli.values import run_words

SHELLS = ("bash", "zsh")
USAGE = """attnbench completion SHELL
  SHELL: bash or zsh. Once and for all, for bash:
    attnbench completion bash > ~/.local/share/bash-completion/completions/attnbench
  and for zsh, in a folder of $fpath:
    attnbench completion zsh > ~/.zfunc/_attnbench"""

_KEY = re.compile(r"^  ([a-z]\w*)[:=]", re.MULTILINE)
_NAMES = re.compile(r"^  (\w+): ([\w, \n-]+?)(?=;|\n  \w|\s*\Z)", re.MULTILINE)
_CHOICES = "Choices by name"

SCRIPT = Path(__file__).with_suffix(".bash")
"""The script, with COMMANDS and CASES to be filled in."""


def main(argv: list[str] | None = None) -> int:
    """Print the script for a shell."""
    return run_words(_print, argv, USAGE)


def _print(words: list[str]) -> int:
    print(script(words))
    return 0


def script(words: Sequence[str]) -> str:
    """The script for the shell that the words name.

    Raises:
        ConfigError: they name none.
    """
    if len(words) != 1 or words[0] not in SHELLS:
        hint = did_you_mean(words[0] if words else "", SHELLS)
        raise ConfigError(f"completion takes one word, the shell. {hint}\n{USAGE}")
    from bench.__main__ import COMMANDS

    helps = {name: _help_of(module) for name, module in COMMANDS.items()}
    cases = "\n".join(line for name, text in helps.items() for line in _cases(name, text))
    empty = SCRIPT.read_text("utf-8")
    filled = empty.replace("COMMANDS", " ".join(COMMANDS)).replace("CASES", cases)
    if words[0] == "bash":
        return filled.strip("\n")
    # bashcompinit gives zsh the `compgen` and `complete` that the script calls.
    return f"#compdef attnbench\nautoload -U +X bashcompinit && bashcompinit\n{filled}".strip("\n")


def _help_of(module: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module(module).main(["--help"])
    return printed.getvalue()


def _cases(command: str, text: str) -> list[str]:
    """Branches of the script for a command: the choices of each key, then the keys themselves."""
    keys, _, choices = text.partition(_CHOICES)
    named = {key: re.findall(r"[\w-]+", names) for key, names in _NAMES.findall(choices)}
    words = dict.fromkeys([*_KEY.findall(keys), *named])
    lines = [
        f"    {command}:{key}) names={shlex.quote(' '.join(v))} ;;" for key, v in named.items()
    ]
    return [*lines, f"    {command}:) names={shlex.quote(' '.join(words))} ;;"]


if __name__ == "__main__":
    raise SystemExit(main())
