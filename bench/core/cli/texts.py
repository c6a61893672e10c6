"""Texts of foreign code, such as the message of an exception, made safe to store and print."""

from __future__ import annotations

LIMITS = {"reason": 1000, "detail": 20_000}
"""Largest number of characters of a sentence for a table, and of a traceback or last output."""


def visible(text: str, limit: int) -> str:
    r"""The text within a bound, every character of it printable; newlines and tabs stay.

    Characters that would control a terminal, be invisible or fail to be encoded become Python's
    escapes. The middle of a text that is too long is left out.

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
    """Whether every character is printable, or a newline or a tab."""
    return text.isprintable() or all(c.isprintable() or c in "\n\t" for c in text)


def make_visible(ending: object) -> None:
    """Make the reason and the detail of a frozen dataclass `visible`, in its ``__post_init__``."""
    for name, limit in LIMITS.items():
        text = getattr(ending, name)
        if text is not None:
            object.__setattr__(ending, name, visible(text, limit))


def said_by(error: BaseException) -> str:
    """Text of an exception; empty if its ``__str__`` raises."""
    try:
        return str(error)
    except BaseException:  # foreign code, which may raise anything here as well
        return ""


def _escaped(text: str) -> str:
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )
