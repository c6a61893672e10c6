"""Texts that foreign code wrote, such as the words of an exception: fit to be kept and printed."""

from __future__ import annotations

LIMITS = {"reason": 1000, "detail": 20_000}
"""Characters of a sentence for a table, and of a traceback or what a process said last."""


def visible(text: str, limit: int) -> str:
    r"""The text within a bound, every character of it printable; lines and tabs stay.

    What would change a terminal, hide, or not be encoded is written as Python writes it. Of a text
    that is too long its middle is left out.

    >>> visible("\x1b[31mred\x00", 80)
    '\\x1b[31mred\\x00'
    """
    escaped = _escaped(text[: limit + 1])
    if len(text) <= limit and len(escaped) <= limit:
        return escaped
    middle = f" … {len(text):,} characters … "
    head = (limit - len(middle)) // 2
    tail = limit - len(middle) - head
    return escaped[:head] + middle + _escaped(text[-limit:])[-tail:]


def is_visible(text: str) -> bool:
    """Whether every character of it can be printed as it is, lines and tabs apart."""
    return text.isprintable() or all(c.isprintable() or c in "\n\t" for c in text)


def make_visible(ending: object) -> None:
    """Bound the reason and the detail of a frozen dataclass, in its ``__post_init__``."""
    for name, limit in LIMITS.items():
        text = getattr(ending, name)
        if text is not None:
            object.__setattr__(ending, name, visible(text, limit))


def said_by(error: BaseException) -> str:
    """Text of an exception; empty if it cannot even be asked."""
    try:
        return str(error)
    except BaseException:  # foreign code, which may raise anything here as well
        return ""


def _escaped(text: str) -> str:
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
