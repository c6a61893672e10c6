"""The exception for a user's mistake, and how it is worded."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from functools import cache

from bench.core.cli.texts import visible


class ConfigError(Exception):
    """A request that cannot be carried out; raised before anything is measured.

    The message says what happened, what was expected and how to mend it. Commands print it
    without a traceback and exit with 2.
    """


def print_error(error: Exception) -> int:
    """Print a user's mistake to stderr, escaped as it may quote foreign text; gives exit code 2."""
    sys.stdout.flush()
    print(f"ConfigError: {visible(str(error), MAX_MESSAGE)}", file=sys.stderr)
    return 2


@cache
def say_once(words: str) -> None:
    """Print a warning to stderr, the first time only; escaped as `print_error` does."""
    print(visible(words, MAX_MESSAGE), file=sys.stderr)


MAX_MESSAGE = 20_000
"""Largest number of characters of a message that are printed."""

OF_YOUR_OWN = "One of your own is found with plugins=[MODULE]."
"""Ends a message about a name that nothing is registered under."""


def check_known(name: str, known: Iterable[str], words: str, mend: str = "") -> None:
    """Refuse a name that is not known; the message lists the nearest ones.

    `words` say so in a sentence, and `mend` ends the message.

    Raises:
        ConfigError: `known` lacks the name.
    """
    if name not in (names := [*known]):
        raise ConfigError(" ".join(filter(None, (words, did_you_mean(name, names), mend))))


def did_you_mean(
    word: str, known: Iterable[str], listed: Iterable[str] | None = None, section: str = ""
) -> str:
    """Suggest the nearest known words, and list all of them if they are few or none is near.

    With `listed`, these are listed instead. A `section`, such as ``attention.kda.``, is put before
    each word, and then all are listed.
    """
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    near = [name for name in near if _likeness(word, name) == _likeness(word, near[0])]
    near = [f"{section}{name}" for name in near]
    question = f"Did you mean {' or '.join(near)}?" if near else ""
    if near and len(names) > _FEW and not section:
        return question
    names = [f"{section}{name}" for name in sorted(names if listed is None else listed)]
    all_of_them = f"Known: {', '.join(names)}." if names else "None are known."
    return f"{question} {all_of_them}" if near else all_of_them


def _likeness(word: str, name: str) -> float:
    return difflib.SequenceMatcher(None, name, word).ratio()


_FEW = 6
