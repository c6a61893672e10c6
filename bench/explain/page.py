"""The page: how it was made, tables, pictures, and what we take open texts to mean."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.app.files import write_whole
from bench.core.document import escape
from bench.explain.config import ExplainConfig
from bench.explain.running import Row
from bench.explain.scores import NUM_SHARES
from bench.explain.table import basis, by_method, csv_text, tables
from bench.machine import environment
from bench.measure.clock import utc_now
from bench.publish.charts.plain import Curves, chart_of
from bench.publish.charts.spec import Chart
from bench.publish.charts.write import write_pictures
from bench.publish.format import format_duration
from bench.publish.machine import machine_in_words
from bench.publish.markdown import table_lines

PAGE = "explain.md"

_HOW_TO_READ = f"""\
- **Pointing**: how often the most relevant patch lies on the digit whose class is explained; with
  two digits, a method that ignores the class reaches at most 0.5. **Mass**: the share of relevance
  on that digit. **Own of both**: of the relevance on either digit, the share on the one that is
  explained; 0.5 for a method that ignores the class. **Insertion** and **deletion**: the model's
  probability of the class while patches are added to a blank canvas, or removed from the full one,
  most relevant first; the mean over {NUM_SHARES} shares from none to all.
- Arrows show which direction is better. `random` assigns random relevance, as a lower bound.
- Numbers are means over models (seeds) and over the classes shown in each image. Differences are
  taken image by image on the same model; if the interval contains 0, the two methods cannot be
  told apart.
- Every class shown is explained, whether the model predicts it or not. Accuracy is that of the
  models on these images."""

_OPEN = """\
`rollout` (Abnar and Zuidema, 2020) multiplies the layers' attention, averaged over heads, each
with half of the identity added. `attention_gradient_rollout` takes the positive part of attention
times its gradient instead (Chefer et al., 2021, put into rollout's frame). Negative weights, which
linear attention can have, count as 0.

`decision_aware` (Jo, Jang and Park, 2026) is implemented from summaries, since neither its code nor
its full text was available. These numbers are those of our reading, not of the paper: each layer's
attention is multiplied by that layer's own prior, a token's activation times its gradient, summed
over channels; relevance is read where the model reads its answer. One choice is a setting:"""

_IDENTITIES = {
    "after_prior": "half of the identity is added after attention was multiplied by the prior",
    "before_prior": "half of the identity is added first, and is multiplied by the prior too",
}


def write_files(
    config: ExplainConfig,
    rows: Sequence[Row],
    notes: Sequence[str],
    wall_s: float,
) -> list[Path]:
    """``explain.md`` with its pictures in a folder of its name, and ``explain.csv``.

    Args:
        config: what was asked for.
        rows: what was found.
        notes: sentences on what is missing.
        wall_s: of the whole command.

    Raises:
        ConfigError: a file cannot be written.
    """
    folder = config.docs / Path(PAGE).stem
    pictures, note = write_pictures(_charts(config, rows), folder)
    shown = [f"![{title}]({folder.name}/{file.name})" for title, file in pictures]
    notes = [*notes, note] if note else notes
    blocks = [
        "# Explanations, scored",
        _origin(wall_s),
        textwrap.indent(config.command, "    "),
        "  \n".join(map(escape, [basis(config, rows), *notes])),
        *(
            block
            for table in tables(config, rows)
            for block in (f"**{escape(table.title)}**", table_lines(table))
        ),
        *shown,
        "## How to read this",
        _HOW_TO_READ,
        "## What the papers leave open, and our reading",
        _OPEN,
        _identity(config),
    ]
    return [
        write_whole(config.docs / PAGE, "\n\n".join(blocks) + "\n"),
        *(file for _, file in pictures),
        write_whole(config.out / "explain.csv", csv_text(config, rows)),
    ]


def _origin(wall_s: float) -> str:
    here = environment.current(("cpu",), "default", {})
    return (
        f"{escape(machine_in_words(here.to_dict()))}, commit {(here.commit or 'unknown')[:7]}, "
        f"{utc_now()[:10]}, {format_duration(wall_s)} of wall time (without the training of models "
        "that were stored already), by"
    )


def _identity(config: ExplainConfig) -> str:
    others = [f"`{other}`" for other in _IDENTITIES if other != config.identity]
    words = _IDENTITIES[config.identity]
    return f"- `identity={config.identity}`: {words}. Alternative: {', '.join(others)}."


def _charts(config: ExplainConfig, rows: Sequence[Row]) -> Iterator[Chart]:
    """The curves whose area is the insertion score, a chart for each entry."""
    for entry, methods in by_method(config, rows):
        lines = {
            method: [
                [step / (NUM_SHARES - 1), sum(points) / len(points)]
                for step, points in enumerate(zip(*(r.inserted for r in own), strict=True))
            ]
            for method, own in methods.items()
        }
        curves = Curves(
            title=f"Insertion of patches: {entry}",
            x="share of patches shown, most relevant first",
            y="probability of the class that is explained",
            lines=lines,
            is_log=False,
        )
        yield chart_of(f"insertion-{entry}", curves)
