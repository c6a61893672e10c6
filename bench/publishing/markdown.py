"""The leaderboard as a Markdown page, and its tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.publishing.conclusions import sentences
from bench.publishing.document import Block, Document, Heading, escape, pipe_table
from bench.publishing.growth import growth_sections
from bench.publishing.leaderboard import Leaderboard
from bench.publishing.tables import (
    Section,
    holes_table,
    machine_words,
    model_sections,
    speed_sections,
    summary_words,
)
from bench.publishing.task_tables import task_sections
from bench.publishing.threads import thread_sections

_HOW_TO_READ = """\
- **Speed-up** is the reference's time divided by the entry's: the median over rounds in which both
  were timed, with a 95 % bootstrap interval. Above 1 is faster. The reference is softmax unless the
  heading or the column `over` names another; it is never compiled. The interval is missing if there
  were fewer than 6 such rounds, or fewer than 6 processes if several shared them.
- **Rank** orders entries by speed-up at one shape. `2-4` means that a comparison round by round
  cannot tell the row from those in places 2 to 4. Controls are not ranked: they mix nothing, or mix
  all tokens equally, to show what the other numbers are worth. Entries with different references
  are not ranked.
- **Overtakes**: the sequence length from which a row is faster than its reference, interpolated
  between measured lengths, with a 95 % bootstrap interval; `below` and `beyond` mean that it lies
  outside the measured lengths. By FLOPs: where the formula needs fewer; the last column explains
  the difference. **Time ~ N^**: the exponent of a power law fitted to these times. A time after `~`
  is predicted by a fit of a + b N + c N², not measured, and not ranked.
- **Threads**: the time on one thread divided by the time on several, in the same rounds.
- **Compiled** rows end in `inductor`; compile time is the first call's time minus the second's.
- **Latency** is the median over all samples. Compare entries by speed-up instead: there, load on
  the machine cancels.
- **Marks** are warnings about a row, the worst first. `leaks the future`: later keys and values
  change earlier outputs of a causal form. `FLOPs 2x off`: torch's counter saw twice what the
  formula gives. Rows with one of these two get no rank. `output is a view of an input`: little was
  computed. `checked against itself`: there is no reference implementation, so the oracle was the
  same code in float64. `checked at N of M tokens` or `in x % of rows`: the check covered only that.
  `own threads`: it used more CPU time than one thread can. `claims untested`: a plugin, whose
  claims `make test` does not test. `noisy`: other programs kept the machine busy, even when the
  rounds were repeated; trust the interval less. `timed in other rounds`: compare its speed-up with
  those of other rows, not its latency.
- **Peak memory** is the peak of one call's allocations on top of its inputs; **saved for backward**
  is what autograd keeps between the passes.
- **Compute** is what the formula needs: 2 FLOPs per multiply-add, elementwise work not counted.
- **Roofline fraction** is the shortest time in which this machine could do the call, at the peak
  rates that `python -m bench.calibrate` measured, divided by the latency; `compute` or `memory` is
  the limit. `uniform` and `none` do not read all of their inputs.
- **Whole models**: an entry's row is the model with its attention replaced by that entry;
  `original` is the unchanged model. Speed-up is over the same model with softmax. **Compute** is
  counted by torch on meta tensors.
- **RMS error** is the distance from a float64 oracle, relative to the oracle's norm.
- **Accuracy** is that of one small model in which only the mechanism changes. With n examples, an
  accuracy p has a standard error of about sqrt(p (1 - p) / n); smaller differences mean nothing.
  With several seeds it is their mean with a 95 % interval; a single seed gets no rank.
  `not settled`: accuracy still improved at the last step, so the final value is unknown.
- **Steps to 90 %**: updates until 90 % of the validation answers were right, tested 20 times per
  run. **Learning rate**: `searched` on validation examples for this row, or `shared`.
- No table mixes machines, devices, dtypes, scopes, models or shapes. If a cell has several records,
  the newest counts. `table.csv` has all numbers and more columns; `records/` has the raw samples.
"""


def leaderboard_page(
    board: Leaderboard,
    columns: Sequence[str],
    pictures: Sequence[tuple[str, str]] = (),
    model_columns: Sequence[str] = (),
    diagnostics: Sequence[Section] = (),
) -> str:
    """The whole page.

    Args:
        board: what to show.
        columns: metrics of the speed tables.
        pictures: title and path, relative to the page, of each chart.
        model_columns: metrics of the tables of whole models; empty for the same ones.
        diagnostics: of what `bench.diagnose` left.
    """
    blocks = ["# Leaderboard of attention mechanisms"]
    if said := sentences(board):
        blocks.append("\n".join(f"- {escape(sentence)}" for sentence in said))
    blocks += [f"Measured on {words}." for words in map(escape, machine_words(board))]
    blocks.append(summary_words(board))
    chapters = [*_chapters(board, columns, model_columns), ("Diagnostics", diagnostics)]
    for title, sections in chapters:
        blocks += [f"## {title}"] if sections else []
        blocks += section_blocks(sections)
    if pictures:
        blocks.append("## Charts")
        blocks += [f"![{escape(title)}]({path})" for title, path in pictures]
    if board.holes:
        holes = holes_table(board)
        blocks += [f"## {holes.title}", pipe_table(holes)]
    blocks += ["## How to read this", _HOW_TO_READ]
    return "\n\n".join(blocks)


def leaderboard_tables(
    board: Leaderboard, columns: Sequence[str], model_columns: Sequence[str] = ()
) -> Document:
    """Headings and tables of the page; arguments as of `leaderboard_page`."""
    blocks: list[Block] = []
    for title, sections in _chapters(board, columns, model_columns):
        for section in sections:
            blocks += [Heading(f"{title}: {section.title}"), *section.tables]
    measured = ", ".join(machine_words(board))
    return Document(f"Leaderboard of attention mechanisms, measured on {measured}", blocks)


def _chapters(
    board: Leaderboard, columns: Sequence[str], model_columns: Sequence[str]
) -> list[tuple[str, Sequence[Section]]]:
    return [
        ("Speed and memory", speed_sections(board, columns)),
        ("Growth with the sequence length", growth_sections(board)),
        ("Threads", thread_sections(board)),
        ("Whole models", model_sections(board, model_columns or columns)),
        ("Task accuracy", task_sections(board)),
    ]


def section_blocks(sections: Sequence[Section], level: int = 3) -> Iterator[str]:
    """Headings of a level, notes and tables."""
    for section in sections:
        yield f"{'#' * level} {escape(section.title)}"
        notes = [*section.notes, *section.fine_print]
        if notes:
            yield "  \n".join(map(escape, notes))
        for table in section.tables:
            yield f"**{escape(table.title)}**"
            yield pipe_table(table)
