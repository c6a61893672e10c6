"""README.md holds the numbers of the files that it names: `python -m tools.readme_numbers`.

A comment before a paragraph, list or table of README says where its numbers come from. `--write`
puts the files' current numbers into README, with the digits that README shows. Words stay as they
are, so read what was changed. Pages of docs/ may have such comments too; what has none is not tied
there. Four kinds of comment:

``<!-- numbers``, then lines as in tools/readme_sources.py, then ``-->``: the block's numbers, in
order.

``<!-- table FILE | HEADINGS | CONDITIONS -->``: the table is that of the file, with the columns
README has, marks among them if there are any; with conditions, it has only the rows that fulfil
them.

``<!-- join FILE``, then ``README's column | HEADINGS | column`` a line, then ``-->``: one column of
each of several tables, by entry; a star stands for the mark `not settled`.

``<!-- quote FILE | BEGINNING -->``: the line of the file that begins so, as a quotation.

A number is written in digits, or in words from three on. Code, targets of links, years of papers
and arXiv numbers are none. What is neither measured nor counted stands in `CONSTANTS`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import zip_longest

from bench.publishing.document import markdown_table
from tools.readme_sources import (
    DECIMAL,
    MARKS,
    ROOT,
    SourceError,
    Value,
    lookup,
    markdown_tables,
    table_of,
    text_of,
)

README = "README.md"
COMMAND = "python -m tools.readme_numbers --write"
WIDTH = 130

CONSTANTS = (
    "Python 3.11 to 3.13",
    "batch 1, 4 heads of 64",
    "4,096 tokens",
    "1,024 tokens",
    "95 % interval",
    "contains 1,",
    "2 per multiply-add",
)
"""Versions, shapes and definitions: at most 30, each as README says it."""

_NO_NUMBERS = (r"`[^`]*`", r"\]\([^)]*\)", r"arXiv:\d{4}\.\d{5}", r"et al\., \d{4}")
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_DIGITS = _SMALL.split(" ", 10)[1:10]
WORDS = [
    *_SMALL.split(),
    *(word for ten in _TENS.split() for word in (ten, *(f"{ten}-{one}" for one in _DIGITS))),
]
_TOKEN = re.compile(
    rf"""\b\d{{4}}-\d\d-\d\d\b                     # a date
      | \b(?=[a-f]*\d)[0-9a-f]{{7,40}}\b           # a commit
      | (?:(?<=[\s(\[])[+-])?(?<![\w.]){DECIMAL}   # a number; not one in a name
      | \b(?:{"|".join(reversed(WORDS[3:]))})\b""",
    re.VERBOSE | re.IGNORECASE,
)
_COMMENT = re.compile(r"<!-- (numbers|table|join|quote)\s(.*?)-->\n", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A paragraph, list or table of README, with what the comment before it says.

    Attributes:
        start: where the text begins in README, in characters.
    """

    start: int
    text: str
    kind: str
    ties: str

    @property
    def tokens(self) -> list[re.Match[str]]:
        """Its numbers; those of a paragraph that have to be tied."""
        return list(_TOKEN.finditer(_masked(self.text) if self.kind == "numbers" else self.text))


def blocks(readme: str) -> Iterator[Block]:
    """The blocks of README, code left out."""
    readme = re.sub(r"^```.*?^```$", _blank, readme, flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"(?:^[^\n]*\S[^\n]*\n?)+", readme, re.MULTILINE):
        if found[0].startswith("    "):
            continue
        comment = _COMMENT.match(found[0])
        start = comment.end() if comment else 0
        kind, ties = (comment[1], comment[2].strip()) if comment else ("numbers", "")
        yield Block(found.start() + start, found[0][start:], kind, ties)


def current(block: Block) -> str:
    """The text of a block with the numbers that the files have now.

    Raises:
        SourceError: a number is tied to nothing, or a comment leads nowhere.
    """
    return _KINDS[block.kind](block)


def problems(readme: str, name: str = README) -> list[str]:
    """A line for each block of README, or of another page, that does not hold what its files say.

    Args:
        readme: the text.
        name: the page's path; of all but README, what has no comment is tied to nothing.
    """
    found = []
    for block in blocks(readme):
        if name != README and not block.ties:
            continue
        line = readme.count("\n", 0, block.start) + 1
        try:
            wanted = current(block)
        except SourceError as error:
            found.append(f"{name}:{line}: {error}")
            continue
        if wanted != block.text:
            have, want = block.text.splitlines(), wanted.splitlines()
            pairs = zip_longest(have, want, fillvalue="")
            place, (old, new) = next(
                (i, pair) for i, pair in enumerate(pairs) if len(set(pair)) > 1
            )
            told = f"by its file {old!r} is {new!r}. Run: {COMMAND}"
            found.append(f"{name}:{line + place}: {told}")
    return found


def written(readme: str) -> str:
    """README with the current numbers; blocks in which a number is tied to nothing stay."""
    for block in reversed(list(blocks(readme))):
        if not block.ties:
            continue
        try:
            text = current(block)
        except SourceError:
            continue  # `problems` tells it
        readme = readme[: block.start] + text + readme[block.start + len(block.text) :]
    return readme


def in_digits_of(shown: str, value: Value) -> str:
    """A value as README writes it: in words, or with as many decimals as it shows now."""
    if isinstance(value, str):
        return value
    if shown.lower() in WORDS:
        word = WORDS[int(value)] if 0 <= value < len(WORDS) else f"{value:,}"
        return word.capitalize() if shown[0].isupper() else word
    decimals = len(shown.partition(".")[2])
    rounded = value.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    return f"{rounded:{'+' if shown[0] in '+-' else ''},}"


def _numbers(block: Block) -> str:
    values = [value for tie in block.ties.splitlines() for value in lookup(tie)]
    tokens = block.tokens
    if len(values) != len(tokens):
        shown = ", ".join(token[0] for token in tokens)
        raise SourceError(
            f"{len(tokens)} numbers here ({shown}) are to be tied to files, and the comment above "
            f"has {len(values)}: tools/readme_numbers.py describes it"
        )
    text = block.text
    for token, value in reversed(list(zip(tokens, values, strict=True))):
        text = text[: token.start()] + in_digits_of(token[0], value) + text[token.end() :]
    return text


def _whole_table(block: Block) -> str:
    ties = block.ties if block.ties.count(" | ") == 2 else f"{block.ties} | *"
    path, where, conditions = _fields(ties, 3)
    shown = markdown_tables(block.text)[0]
    source = table_of(path, where, shown.header)
    if MARKS in source.header and MARKS not in shown.header:
        raise SourceError(f"the table of {path} has {MARKS}, and this one has no column of them")
    kept = source.rows_where(conditions)
    rows = [[source.cell(row, name) for name in shown.header] for row in kept]
    return _drawn(shown.header, rows, shown.num_text)


def _join(block: Block) -> str:
    path, *lines = block.ties.splitlines()
    shown = markdown_tables(block.text)[0]
    columns: dict[str, dict[str, str]] = {}
    for line in lines:
        name, where, column = _fields(line, 3)
        table = table_of(path, where, ("entry", column))
        columns[name] = {
            table.cell(row, "entry"): table.cell(row, column)
            + "*" * ("not settled" in table.cell(row, MARKS))
            for row in table.rows
        }
    if shown.header[1:] != tuple(columns):
        raise SourceError(f"the table's columns are not those of its comment, {list(columns)}")
    entries = dict.fromkeys(entry for column in columns.values() for entry in column)
    ordered = sorted(entries, key=lambda entry: entry.endswith("(control)"))
    rows = [[entry, *(column.get(entry, "") for column in columns.values())] for entry in ordered]
    return _drawn(shown.header, rows, shown.num_text)


def _quote(block: Block) -> str:
    path, beginning = _fields(block.ties, 2)
    lines = [line.removeprefix("- ") for line in text_of(path).splitlines()]
    found = [line for line in lines if line.startswith(beginning)]
    if len(found) != 1:
        raise SourceError(f"{len(found)} lines of {path} begin with {beginning!r}, not one")
    wrapped = textwrap.wrap(found[0], WIDTH - 2, break_on_hyphens=False)
    return "".join(f"> {line}\n" for line in wrapped)


_KINDS: dict[str, Callable[[Block], str]] = {
    "numbers": _numbers,
    "table": _whole_table,
    "join": _join,
    "quote": _quote,
}


def _drawn(header: Sequence[str], rows: Sequence[Sequence[str]], num_text: int) -> str:
    align = "l" * num_text + "r" * (len(header) - num_text)
    return markdown_table(header, rows, align, is_padded=True) + "\n"


def _fields(tie: str, number: int) -> list[str]:
    fields = tie.strip().split(" | ")
    if len(fields) != number:
        raise SourceError(f"{tie!r} is not {number} fields with ' | ' between them")
    return fields


def _masked(text: str) -> str:
    constants = [r"\s+".join(map(re.escape, phrase.split())) for phrase in CONSTANTS]
    for pattern in (*_NO_NUMBERS, *constants):
        text = re.sub(pattern, _blank, text)
    return text


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def pages() -> list[str]:
    """Paths of README and of the pages of docs/ that have comments of this kind."""
    found = (path for path in sorted(ROOT.glob("docs/*.md")) if _COMMENT.search(path.read_text()))
    return [README, *(str(path.relative_to(ROOT)) for path in found)]


def main(argv: Sequence[str]) -> int:
    """Check all pages, or with ``--write`` bring them up to date; 1 if something is wrong."""
    told: list[str] = []
    for name in pages():
        path = ROOT / name
        if argv == ["--write"]:
            path.write_text(written(path.read_text()))
        told += problems(path.read_text(), name)
    print("\n".join(told) or "README.md and docs/ hold the numbers of their files.")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
