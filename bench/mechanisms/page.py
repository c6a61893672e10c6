"""docs/speed.md: the findings as a page, with machine and command beside the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import fill
from typing import Any

from bench.mechanisms.ceilings import ceilings_sheet
from bench.mechanisms.crossovers import Crossover
from bench.mechanisms.data import Measured
from bench.mechanisms.findings import Row, failures_of
from bench.mechanisms.forms import NO_OTHER_FORM
from bench.mechanisms.measuring import wants_confirmation
from bench.mechanisms.sheets import Sheet, sheets_of, slower_sheet
from bench.publish.markdown import escape

_WIDTH = 100


def page_of(measured: Measured, rows: Sequence[Row], crossovers: Sequence[Crossover]) -> str:
    """The whole page, from what is stored alone."""
    caption = caption_of(measured)
    blocks = ["# Speed of the mechanisms", *map(_paragraph, _INTRODUCTION), caption]
    slower = slower_sheet(rows)
    blocks.append("## Slower than published code, or than with one thread")
    blocks += [_table(slower), caption] if slower.rows else [_NOWHERE]
    blocks += ["## Tables", *map(_paragraph, _HOW_TO_READ)]
    if any("rounds" in line and "confirmed_from" not in line for line in measured.lines):
        blocks.append(_paragraph(_UNCONFIRMED))
    if any(wants_confirmation(line) for line in measured.lines):
        blocks.append(_paragraph(_NOT_YET))
    in_turns = all(line.get("build_in_turns") for line in measured.lines if "rounds" in line)
    blocks.append(_paragraph(_IN_TURNS if in_turns else _ONE_ORDER))
    for sheet in all_sheets(measured, rows, crossovers):
        blocks += [f"### {escape(sheet.title)}", _table(sheet), caption]
    failures = failures_of(measured)
    if failures:
        blocks += ["## Not measured", "\n".join(f"- {escape(words)}" for words in failures)]
    blocks += ["## Mechanisms with one form", _paragraph(_ONE_FORM)]
    reasons = tuple(NO_OTHER_FORM.items())
    blocks.append(_table(Sheet(title="", header=("mechanism", "why"), rows=reasons), words=True))
    return "\n\n".join(blocks) + "\n"


def all_sheets(
    measured: Measured, rows: Sequence[Row], crossovers: Sequence[Crossover]
) -> tuple[Sheet, ...]:
    """The findings, and the rates that their floors stand on."""
    rates = ceilings_sheet(measured)
    return (*sheets_of(rows, crossovers), *((rates,) if rates.rows else ()))


def caption_of(measured: Measured) -> str:
    """Machine, commit and command, to stand beside every number."""
    session = measured.session
    facts = next(iter(session.environments.values()))
    shape = session.settings["shape"]
    size = ", ".join(
        f"{name}={shape[name]}" for name in ("batch_size", "num_heads", "head_dim", "dtype")
    )
    return (
        f"*{escape(_machine(facts))}; {size}; method {session.method_version}; "
        f"commit {_commit(facts)}; {session.started_at[:10]}; `{session.command}`; "
        f"{escape(str(measured.path))}*"
    )


def _machine(facts: dict[str, Any]) -> str:
    versions = facts["versions"]
    return (
        f"{facts['processor']}, {facts['num_cores']} cores, "
        f"{facts['memory_bytes'] / 2**30:.0f} GiB, Python {versions['python']}, "
        f"torch {versions['torch']}"
    )


def _commit(facts: dict[str, Any]) -> str:
    if facts["commit"] is None:
        return "unknown"
    return f"{facts['commit'][:12]}{' with uncommitted changes' if facts['is_dirty'] else ''}"


def _paragraph(text: str) -> str:
    """Lines of one width; ``report=true`` and other words are not broken."""
    return fill(text, _WIDTH, break_on_hyphens=False, break_long_words=False)


def _table(sheet: Sheet, *, words: bool = False) -> str:
    """Markdown; but for the first column, numbers are set to the right and words to the left."""
    rule = ("---", *("---" if words else "--:" for _ in sheet.header[1:]))
    return "\n".join(_lines((sheet.header, rule, *sheet.rows)))


def _lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(escape(cell) for cell in row)} |"


_NOWHERE = "Nowhere, by the whole interval of a ratio, among the places below."

_INTRODUCTION = (
    "A mechanism that is slow because of this project would be a libel on its authors. So each "
    "entry is timed beside the operators of published code, written here as "
    "`implementation=official` and proven by the same golden files as our form. The command below "
    "the tables measures; every number follows from the JSON file named beside it, and the same "
    "command with `report=true` writes this page and the CSV file beside that one again. "
    "`again=WORDS` measures a part again, such as "
    "`\"again='forms core N=256 forward 1 thread'\"`.",
    "Our form and the other run once in each round, in random order, in a process that nothing "
    "else runs in. A ratio is our time over the other's within a round, the median over rounds, "
    "with its interval of 95 %: below 1, ours is faster. Where a round is short, it shows how the "
    "memory of a process happens to lie. So there are six processes, one after the other, each "
    "with rounds of its own; the ratio is then that of medians within a process, the median over "
    "processes, and its interval is their whole range. Operators written for tokens first get "
    "inputs that lie so: no copy is charged to them. Causal forms are compared with our own plain "
    "form in whole chunks, since no published code for them is plain torch. `flatten_layer core` "
    "is what that layer does between its projections: focused attention, and a depthwise "
    "convolution of v.",
    "Beside softmax attention, which takes long, all our forms share the rounds of one process.",
    "With more threads nothing may take longer than with one. So our forms are timed a third "
    "time, in processes of their own as well: with several threads beside themselves with one. "
    "Before each sample, outside of its time, torch is told its number of threads. This is done "
    "for as many threads as the machine has cores.",
)

_HOW_TO_READ = (
    "`!` says that the whole interval is above 1: our form is slower than what it is compared "
    "with, and the command ends with code 1. Of two equal forms six processes all say so once in "
    "64 times, by chance, and here are hundreds of ratios. So what is found slower is measured "
    "in six processes more after all else, when what disturbed the machine may be over, and `!` "
    "says that both six did, each on their own; the ratio is that of all of them. `~` says that "
    "other programs kept the machine busy meanwhile. A ratio without an interval is of fewer "
    "than six rounds, as long calls of softmax are. `default` is the C library's allocator as it "
    "comes, `retain` keeps freed memory. Entries that own their projections are timed with them, "
    "as layers, beside softmax with projections. A gap is what was not measured.",
    "The floor is the least time that operators need here: the products, and then one pass over "
    "inputs and output, at the rates of `python -m bench.calibrate` (and the same with "
    "`run.allocator=default`), which are the last table. It knows of no exponential and no power, "
    "so 100 % cannot be reached. Without a calibration there is no such table.",
    "The rate of products is that of the fastest library. Torch carries two for its CPU: "
    "`torch.mm` is MKL's, which keeps float32 to AVX2 on processors that are not Intel's, and "
    "oneDNN's uses AVX-512 on all that have it. Where MKL keeps to AVX2, our forms go by oneDNN if "
    "they can, and published operators by `torch.mm`; but AMD's family 25 computes AVX-512 in "
    "halves, and there only wide matrices gain by oneDNN. In parentheses stands "
    "the fraction of a floor at the rate of `torch.mm` alone: what was left to gain for a program "
    "that has no other product. Above 100 our form takes less than that.",
    "A crossover lies on straight lines between the logarithms of measured lengths and ratios; "
    "the shortest length stands for itself and all below. Bytes kept for backward are those of "
    "our form.",
)

_UNCONFIRMED = (
    "The numbers of this page are of before that: what is marked `!` here was measured once, and "
    "some of it is chance."
)

_NOT_YET = (
    "The command was stopped before all of that: some of what is marked `!` here was measured once."
)

_IN_TURNS = (
    "Whichever form is built first has its tensors first in memory, which can matter by some "
    "percent where calls are short. So the two take turns at it, from one process to the next."
)
_ONE_ORDER = (
    "Whichever form is built first has its tensors first in memory, which can matter by some "
    "percent where calls are short. In some of what this page is of that was always our form, or "
    "the one with several threads."
)

_ONE_FORM = (
    "These have no other form to be compared with, and no switch: their operators are the "
    "published ones, or there is no published code in plain torch that does the same work."
)
