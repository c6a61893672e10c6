"""The leaderboard as a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.publish.conclusions import sentences
from bench.publish.growth import growth_sections
from bench.publish.leaderboard import Leaderboard
from bench.publish.tables import (
    Section,
    Table,
    holes_table,
    machine_words,
    model_sections,
    speed_sections,
    summary_words,
)
from bench.publish.task_tables import task_sections
from bench.publish.threads import thread_sections

_HOW_TO_READ = """\
- **Speed-up** is the reference's time divided by the entry's, the median over rounds in which both
  were timed, with its 95 % bootstrap interval; above 1 is faster. The reference is softmax unless
  the heading or the column `over` names another, and is never compiled. Without an interval there
  were fewer than 6 such rounds, or fewer than 6 processes where several shared them.
- **Rank** orders entries by speed-up at one shape. `2-4` says that the row can be told apart, round
  by round, neither from the one in place 2 nor from the one in place 4. Controls mix nothing, or
  everything alike: they show what the other numbers are worth, and are not ranked. Entries with
  different references are not ranked.
- **Overtakes**: from that sequence length on a row is faster than its reference, interpolated
  between the lengths that were measured, with a 95 % bootstrap interval; `below` and `beyond` are
  an open end of it. By FLOPs it is where the mathematics needs fewer, and the last column says why
  the two differ. **Time ~ N^**: the exponent of the power law nearest to the times between these
  lengths. A time after `~` is predicted by a fit of a + b N + c N², not measured, and not ranked.
- **Threads**: the time with one thread divided by the time with more, in the same rounds.
- **Compiled** rows end in `inductor`; compile time is what their first call took beyond the second.
- **Latency** is the median over all samples; compare entries by speed-up, in which what slows the
  machine cancels, and not by latency.
- **Marks** say what to know of a row before its numbers, the worst first. `leaks the future`: later
  keys and values change earlier outputs of its causal form. `FLOPs 2x off`: torch's counter saw
  twice what its formula gives. Rows with either of them have no rank. `output is a view of an
  input`: little was computed. `checked against itself`: it has no slow form, so its own in float64
  was the oracle. `checked at N of M tokens` or `in x % of rows`: the check covered no more than
  that. `own threads`: it used more CPU time than its one thread can. `claims untested`: a plugin,
  whose claims `make test` does not test. `noisy`: other programs kept the machine busy while the
  rounds ran, also when they were repeated, so trust the interval less. `timed in other rounds`:
  compare its speed-up with those of other rows, and not its latency.
- **Peak memory** is the allocation peak of one call above its inputs; **saved for backward** is
  what autograd keeps between the passes.
- **Compute** is what the mathematics needs, 2 FLOPs per multiply-add, elementwise work not counted.
- **Roofline fraction** is the least time in which this machine could do the call, by its fastest
  products and copies as `python -m bench.calibrate` measured them, over the latency; `compute` or
  `memory` is the side that sets it. `uniform` and `none` read less than all of their inputs.
- **Whole models**: an entry's row is the model with that entry in the place of its attention, and
  `original` the model as it is. Its speed-up is over the same model with softmax in that place.
  **Compute** is what torch's counter sees of it on tensors without values.
- **RMS error** is the distance from a float64 oracle, relative to the oracle's norm.
- **Accuracy** is of one small model in which only the mechanism changes. With n examples, an
  accuracy p has a standard error of about sqrt(p (1 - p) / n): smaller differences say nothing.
  Over seeds it is their mean, with a 95 % interval; one seed is one draw and has no rank.
  `not settled`: it improved until the last of its steps, so nothing is known of where it ends.
- **Steps to 90 %**: after how many updates so many validation answers were right, looked at 20
  times in a run. **Learning rate**: `searched` on validation examples for this row, or `shared`.
- No table mixes machines, devices, dtypes, scopes, models or shapes, and of several records of a
  cell the newest counts. All numbers, and many more, are in `table.csv`; what was observed is in
  `records/`.
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
    blocks += _chapter("Speed and memory", speed_sections(board, columns))
    blocks += _chapter("Growth with the sequence length", growth_sections(board))
    blocks += _chapter("Threads", thread_sections(board))
    blocks += _chapter("Whole models", model_sections(board, model_columns or columns))
    blocks += _chapter("Task accuracy", task_sections(board))
    blocks += _chapter("Diagnostics", diagnostics)
    if pictures:
        blocks.append("## Charts")
        blocks += [f"![{escape(title)}]({path})" for title, path in pictures]
    if board.holes:
        holes = holes_table(board)
        blocks += [f"## {holes.title}", table_lines(holes)]
    blocks += ["## How to read this", _HOW_TO_READ]
    return "\n\n".join(blocks)


def _chapter(title: str, sections: Sequence[Section]) -> Iterator[str]:
    if sections:
        yield f"## {title}"
    yield from section_blocks(sections)


def section_blocks(sections: Sequence[Section], level: int = 3) -> Iterator[str]:
    """Headings of a level, notes and tables."""
    for section in sections:
        yield f"{'#' * level} {escape(section.title)}"
        notes = [*section.notes, *section.fine_print]
        if notes:
            yield "  \n".join(map(escape, notes))
        for table in section.tables:
            yield f"**{escape(table.title)}**"
            yield table_lines(table)


def table_lines(table: Table) -> str:
    """A pipe table, padded so that it also reads well as text."""
    rows = [[escape(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(table.header))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < table.num_text else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * width if i < table.num_text else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])


_MARKUP = re.compile(
    r"""[\\`*<|]                    # code, emphasis, HTML, the border of a cell
      | (?<![^\W_])_ | _(?![^\W_])  # emphasis too, but not within softmax_explicit
      | \](?=[(\[])                # a link, but not the interval [1.79, 1.88]
    """,
    re.VERBOSE,
)


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line and in one cell."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))
