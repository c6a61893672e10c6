"""The page of what was found, with its chart. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from bench.core.cli.files import write_whole
from bench.core.finding import sentences as finding_sentences
from bench.core.format import format_duration
from bench.core.numbers import Line, Origin
from bench.publishing.charts.spec import Chart
from bench.publishing.charts.write import write_charts
from bench.publishing.diagnostics import left_out_words, sections
from bench.publishing.markdown import section_blocks

PAGE = "diagnostics.md"
_HOW_TO_READ = """\
Weights are the matrix by which a mechanism mixes values: its output for v = identity, exact for
mechanisms linear in v. The two halves of PolaFormer count as heads. Numbers are means over heads,
rows and examples, in float64; ± is half of a 95 % interval over two or more seeds.

- **entropy**: that of a row's shares |w| / sum |w|, divided by ln N: 0 if one key has all the
  weight, 1 if all keys have the same. **PSE**: the same in nats, as in the NaLaFormer paper, if no
  weight is negative.
- **rank correlation**: Spearman's rho of entropy and query norm over tokens. It mixes the effects
  of norm and direction; the **sweep** sets all queries to one norm and keeps their directions, so
  it shows the effect of the norm alone.
- **effective rank**: exp of the entropy of the singular values' shares. **distance**: mean |i - j|
  in tokens. **sink mass**: the share of the key that gets the most. **row sum**: 1 if the output is
  a mean. **condition**: sum |w| / |sum w|, the median over rows, of the sum that a
  normaliser divides by; 1 if nothing cancels. **at floor**: the share of key features within 1 % of
  the floor that is added to them, for mechanisms that have one.
- **error to softmax**: ||W - softmax|| / ||softmax|| on the same queries and keys; **KL** of W's
  shares to softmax's in nats, if no weight is negative.
- **gradient**: root mean square over the elements of q, k or v, for a unit-normal gradient of the
  output.
- **rounding error**: the largest error divided by the largest output, compared with float64 on the
  same rounded inputs. Without a number: not finite, or the mechanism does not support the dtype.
- **drop-in regret**: how much score a trained softmax model loses when the mechanism replaces its
  attention and all other parameters are kept, before and after some steps of fine-tuning at a tenth
  of the task's learning rate. Negative means that it gained. Softmax itself is the baseline."""


def write_page(
    lines: Sequence[Line], origin: Origin, wall_s: float, chart: Chart | None, out: Path
) -> list[Path]:
    """The page, and the chart in a folder of its name; returns the files.

    Raises:
        ConfigError: a file cannot be written.
    """
    drawn = [] if chart is None else [chart]
    folder = out / Path(PAGE).stem
    files, note = write_charts(drawn, folder)
    blocks = [
        "# What attention weights look like",
        f"{origin.machine}, {format_duration(wall_s)} of wall time, by",
        textwrap.indent(origin.command, "    "),
        "\n".join(origin.settings),
    ]
    blocks += [
        f"![{chart.title}]({folder.name}/{chart.name}.svg)"
        for chart in drawn
        if folder / f"{chart.name}.svg" in files
    ]
    blocks += ["\n".join(f"- {words}" for words in finding_sentences(lines))]
    blocks += [note] if note else []
    blocks += list(section_blocks(sections(lines), level=2))
    if left_out := left_out_words(lines):
        blocks += ["## Left out", "\n".join(f"- {words}" for words in left_out)]
    blocks += ["## How to read this", _HOW_TO_READ]
    return [write_whole(out / PAGE, "\n\n".join(blocks) + "\n"), *files]
