"""Count pairs of mixers that are in the same order alone and in hybrids with softmax layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from bench.core.cli.errors import ConfigError
from bench.core.format import join_names, quantity
from bench.core.grouping import grouped
from bench.core.observed import CONTROLS
from bench.core.record import REFERENCE, Record
from bench.core.settings import (
    Budget,
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Rows,
    Seed,
    Settings,
    Some,
)
from bench.core.store import latest, read_records
from bench.measuring.config import SweepConfig, training_config
from bench.publishing.accuracy import chosen, head_norm_words, origin
from bench.publishing.charts.plain import Curves, chart_of
from bench.publishing.charts.write import write_illustrated
from bench.publishing.document import (
    Block,
    Bullets,
    Chart,
    Column,
    Command,
    Document,
    Heading,
    Prose,
    Table,
    Text,
    Value,
    words,
)
from bench.publishing.leaderboard import Leaderboard, build_leaderboard
from bench.publishing.metrics.ranks import Pair, decided
from bench.publishing.scores import Score, TaskScores
from bench.publishing.searched import at_best_rate
from bench.publishing.tables import machine_words
from bench.publishing.task_tables import score_row
from bench.publishing.templates import prose
from bench.studies.rates.tuned import trainable, trainer, tuned
from bench.studies.session import Session

LAYERS = "softmax_layers"
"""The task setting that says how many blocks are softmax."""


class Hybrids(Settings):
    """Train mixers alone and beside softmax layers, and count the pairs that keep their order."""

    attention: Rows
    task: Annotated[dict[str, Any], Group("task")]
    softmax_layers: Many[Annotated[int, Interval(ge=0, le=1000)]]
    seed: Many[Seed]
    budget: Budget | None
    plugins: Some[Name]
    out: Folder

    def training(self, composed: Mapping[str, Any]) -> SweepConfig:
        """A sweep of the mixers alone, softmax among them.

        Raises:
            ConfigError: no task, one without its number of layers, or more softmax layers than
                that.
        """
        # The YAML also has settings for tasks that are not chosen.
        tasks = {label: own for label, own in self.task.items() if "task" in own}
        if not tasks:
            raise ConfigError("No task is chosen. Say task=[word_problem], for example.")
        for label, settings in tasks.items():
            num_layers = settings.get("num_layers")
            if type(num_layers) is not int:
                raise ConfigError(
                    f"task.{label}.num_layers is {num_layers!r}; hybrids needs a whole number. Say "
                    f"task.{label}.num_layers=4, for example."
                )
            if too_many := [n for n in self.softmax_layers if n > num_layers]:
                raise ConfigError(
                    f"softmax_layers is {too_many[0]} and task.{label}.num_layers is {num_layers}; "
                    f"from 0 to {num_layers} of the layers can be softmax."
                )
        alone = {label: own | {LAYERS: 0} for label, own in tasks.items()}
        rows = {REFERENCE: {"mechanism": REFERENCE}} | dict(composed["attention"])
        return training_config(rows, alone, self.out, seed=self.seed, plugins=self.plugins)


def study(asked: Hybrids, session: Session) -> None:
    """Train task by task, as far as the budget goes, and write the page of what is there."""
    config = asked.training(session.composed)
    # All of them are planned first: a task that cannot be made is refused before hours of others.
    plans = [(task, trainable(config.but(task=(task,)), session)) for task in config.task]
    with trainer(config, session, asked.budget) as train:
        for task, alone in plans:
            arms = tuned(alone, asked.seed, train, looks_further=False).values()
            mixers = [arm for arm in arms if arm.name != REFERENCE]
            for count in sorted(set(asked.softmax_layers) - {0, task.settings["num_layers"]}):
                label = f"{task.label} {LAYERS}={count}"
                at_count = {LAYERS: count}  # at the rate that a mixer has alone
                train([m.changed(s, label, **at_count) for s in asked.seed for m in mixers])
    records = read_records(asked.out, missing_ok=True)
    if not records:
        session.say("Nothing was trained.")
        return
    board = board_of(records)
    document = document_of(board, records, session.command("budget"))
    session.publish(document, asked.out / "hybrids.md")


# --- orders of pairs ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The scores on one task, by the number of softmax layers.

    Attributes:
        label: of the task.
        num_layers: layers of each model, softmax or not.
        at: scores by the number of softmax layers; those of the softmax row are at 0.
    """

    label: str
    num_layers: int
    at: Mapping[int, TaskScores]

    def mixers(self, count: int) -> dict[str, Score]:
        """Rows with `count` softmax layers by name, without the softmax row and controls."""
        scores = self.at[count].scores
        return {s.entry: s for s in scores if s.entry != REFERENCE and not s.is_control}

    def rows(self) -> Iterator[tuple[int, Score]]:
        """Every row with its number of softmax layers, which for the softmax row is all."""
        for count, task in sorted(self.at.items()):
            yield from ((count, s) for s in task.scores if s.entry != REFERENCE)
        yield from ((self.num_layers, s) for s in self.at[0].scores if s.entry == REFERENCE)


def board_of(records: Sequence[Record]) -> Leaderboard:
    """Leaderboard of the training runs, with each row at its best learning rate."""
    trained = latest(chosen(records, ()))
    return build_leaderboard(at_best_rate(trained), CONTROLS, within_budget=True)


def mixed(board: Leaderboard) -> list[Mixed]:
    """Tasks on which mixers were trained alone, with their hybrids."""
    found: dict[str, tuple[str, int, dict[int, TaskScores]]] = {}
    for task in board.tasks:
        settings = task.named_settings
        if "num_layers" not in settings:  # of a sweep, which has a default for it
            continue
        count = settings.pop(LAYERS, 0)
        label = task.label.partition(" ")[0]
        about = json.dumps([label, task.place, settings], sort_keys=True)
        found.setdefault(about, (label, settings["num_layers"], {}))[2][count] = task
    return [Mixed(label=a, num_layers=n, at=at) for a, n, at in found.values() if 0 in at]


@dataclass(frozen=True, kw_only=True)
class Orders:
    """Order of each pair of mixers on one task, alone and with `count` softmax layers.

    1, -1 or 0, as in `decided`.
    """

    label: str
    count: int
    alone: Mapping[Pair, int]
    hybrid: Mapping[Pair, int]

    def both(self, sign: int) -> list[Pair]:
        """Pairs that are decided in both: in the same order (1), or in the reversed one (-1)."""
        return [pair for pair, order in self.alone.items() if order * self.hybrid[pair] == sign]

    def row(self) -> dict[str, Value]:
        """Counts, for a table."""
        decided_alone, decided_hybrid = (
            sum(map(abs, orders.values())) for orders in (self.alone, self.hybrid)
        )
        return {
            "task": self.label,
            "count": self.count,
            "pairs": len(self.alone),
            "alone": decided_alone,
            "hybrid": decided_hybrid,
            "same": len(self.both(1)),
            "reversed": len(self.both(-1)),
        }


def orders(task: Mixed) -> Iterator[Orders]:
    """Orders at each number of softmax layers, of rows that may be ranked there and alone."""
    less = bool(task.at[0].unit)
    for count in sorted(task.at.keys() - {0}):
        alone, hybrid = task.mixers(0), task.mixers(count)
        names = [
            name
            for name in alone.keys() & hybrid.keys()
            if alone[name].may_be_ranked and hybrid[name].may_be_ranked
        ]
        signs = [
            decided({name: rows[name].runs for name in names}, less_is_better=less)
            for rows in (alone, hybrid)
        ]
        yield Orders(label=task.label, count=count, alone=signs[0], hybrid=signs[1])


# --- the page -----------------------------------------------------------------------------------


def write_page(
    store: Path, page: Path, command: str, tasks: Sequence[str] = (), notes: Sequence[str] = ()
) -> list[Path]:
    """Write the page of a store and its pictures; returns their paths. Training is not needed.

    Raises:
        ConfigError: nothing was trained there, or a file cannot be written.
    """
    records = chosen(read_records(store), tasks)
    board = board_of(records)
    return write_illustrated(document_of(board, records, command, notes), page)


def document_of(
    board: Leaderboard,
    records: Sequence[Record],
    command: str,
    notes: Sequence[str] = (),
) -> Document:
    """The page: counts of pairs, then the scores that they follow from; notes below the command."""
    tasks = mixed(board)
    counted = [each for task in tasks for each in orders(task)]
    blocks: list[Block] = [
        Text([origin(latest(records), machine_words(board), board.commits)]),
        Command(command),
        *([Text(notes)] if notes else []),
        Prose(prose(__file__, "how_to_read")),
        Text([_pairs_words(counted)]),
        Bullets([*_facts(counted)]),
        _table_of_orders(counted),
        Bullets([*_reversed_words(counted)]),
        *charts(board),
    ]
    for task in tasks:
        blocks += [Heading(f"{task.label} · {quantity(task.num_layers, 'layer')}"), _table(task)]
        norm = head_norm_words(task.at[0].named_settings) if task.at[0].causal else []
        blocks.append(Text([*norm, f"Settings: {task.at[0].settings}"]))
    return Document("Hybrids: does the order of mixers hold beside softmax layers?", blocks)


def _pairs_words(counted: Sequence[Orders]) -> str:
    """Numbers of distinct pairs, each counted once however many softmax layers it has."""
    every = {(each.label, pair) for each in counted for pair in each.alone}
    same, reverse = (
        {(each.label, pair) for each in counted for pair in each.both(sign)} for sign in (1, -1)
    )
    return (
        f"{quantity(len(same | reverse), 'pair')} decided both alone and in a hybrid, of "
        f"{len(every)} over all tasks: {len(same)} of the same order, {len(reverse)} of the "
        "reversed one. A pair counts once on a task, with however many softmax layers."
    )


def _facts(counted: Sequence[Orders]) -> Iterator[str]:
    """Per task, the mixer that is in every pair of the same order, if there is one."""
    for label, own in grouped(counted, lambda each: each.label).items():
        ahead = {
            (pair if each.alone[pair] > 0 else pair[::-1]) for each in own for pair in each.both(1)
        }
        for place, relation in ((0, "ahead of"), (1, "behind")):
            one = {pair[place] for pair in ahead}
            if len(ahead) > 1 and len(one) == 1:
                others = join_names(sorted(pair[1 - place] for pair in ahead))
                count = quantity(len(ahead), "pair")
                yield f"The {count} on {label} are one fact: {one.pop()} is {relation} {others}."


_COUNT = Column("count", "softmax layers", digits=".0f")


def _table_of_orders(counted: Sequence[Orders]) -> Table:
    names = {
        "pairs": "pairs",
        "alone": "decided alone",
        "hybrid": "decided in the hybrid",
        "same": "both, the same order",
        "reversed": "both, reversed",
    }
    columns = [Column(key, title, digits=".0f") for key, title in names.items()]
    return Table(columns=(words("task"), _COUNT, *columns), rows=[each.row() for each in counted])


def _reversed_words(counted: Sequence[Orders]) -> Iterator[str]:
    for each in counted:
        for first, second in each.both(-1):
            ahead = first if each.alone[first, second] > 0 else second
            behind = second if ahead == first else first
            yield (
                f"Reversed on {each.label} with {quantity(each.count, 'softmax layer')}: {ahead} "
                f"is better alone, {behind} in the hybrid."
            )


def _table(task: Mixed) -> Table:
    score = task.at[0].unit or "accuracy (%)"
    shown = (score, "each seed", "solved to", "learning rate")
    rows: list[dict[str, Value]] = []
    for count, each in task.rows():
        own = score_row(each, task.at[0 if each.entry == REFERENCE else count])
        cells = {key: own[key] for key in (*shown, "seeds") if key in own}
        marks = "; ".join(each.marks)
        rows.append({"mixer": each.entry, "count": count, **cells, "marks": marks})
    columns = [Column(key) for key in (*shown, "seeds") if any(row.get(key) for row in rows)]
    return Table(columns=(words("mixer"), _COUNT, *columns, words("marks")), rows=rows)


def charts(board: Leaderboard) -> list[Chart]:
    """A picture for each task: scores against the number of softmax layers."""
    return [
        chart_of(
            f"hybrids-{task.label}",
            Curves(
                title=f"{task.label}: {task.num_layers} layers, some of them softmax",
                x="Softmax layers",
                y=task.at[0].unit or "Accuracy (%)",
                lines={name: [*points] for name, points in _lines(task)},
                is_log=False,
            ),
        )
        for task in mixed(board)
        if len(task.at) > 1
    ]


def _lines(task: Mixed) -> Iterator[tuple[str, list[list[float]]]]:
    """Points of each mixer; all end where every layer is softmax, if that was trained."""
    scale = 1.0 if task.at[0].unit else 100.0
    points: dict[str, list[list[float]]] = {}
    for count, score in task.rows():
        if score.centre is not None:
            points.setdefault(score.entry, []).append([count, scale * score.centre])
    for name in task.mixers(0):
        yield name, [*points.get(name, ()), *points.get(REFERENCE, ())]
