"""Pareto fronts of a task's scores against costs: rows that are not behind any cheaper row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.core.cell import KernelWorkload
from bench.core.record import Record
from bench.core.statistics import Value
from bench.publishing.document import Table, text_table
from bench.publishing.leaderboard import Leaderboard, Ranking
from bench.publishing.metrics import find_metric
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.metrics.ranks import Ranks
from bench.publishing.scores import TaskScores
from bench.publishing.tables import direction_words

COSTS = {
    "latency_s": "latency",
    "peak_memory_bytes": "peak memory",
    "state_bytes": "state",
    "flops": "compute",
}
"""Metrics that serve as costs of a front, with their words."""


@dataclass(frozen=True, kw_only=True)
class Front:
    """Pareto front of one task against one cost.

    Attributes:
        ranking: where the cost was measured; None for the state that the task's models keep.
        metric: the cost, one of `COSTS`.
        names: rows on the front, cheapest first.
        tied: those of them that cannot be told apart from a cheaper row.
        points: cost and score, in its unit, of every row that has both and is ranked.
    """

    task: TaskScores
    ranking: Ranking | None
    metric: str
    names: tuple[str, ...]
    tied: tuple[str, ...]
    points: dict[str, tuple[float, float]]

    @property
    def clear(self) -> tuple[str, ...]:
        """Rows on the front of which every cheaper row is behind."""
        return tuple(name for name in self.names if name not in self.tied)


def fronts(board: Leaderboard) -> tuple[Front, ...]:
    """Fronts of tasks against costs that at least two of their ranked rows have.

    A task without ranks, such as one with a single seed, has none. Scores are combined with costs
    of the same device: see `cost_ranking`.
    """
    found = (_front(task, metric, board) for task in board.tasks for metric in COSTS)
    return tuple(front for front in found if front is not None)


def _front(task: TaskScores, metric: str, board: Leaderboard) -> Front | None:
    ranks = task.ranks
    if ranks is None:
        return None
    scores = {score.entry: score for score in task.scores if score.entry in ranks.names}
    ranking = cost_ranking(task, board, scores, metric)
    costs: dict[str, Value] = {}
    if ranking is not None:
        costs = {s.entry: _cost(s.record, metric) for s in ranking.standings}
    elif metric == "state_bytes":
        costs = {name: score.state_bytes for name, score in scores.items()}
    points = {
        name: (float(cost), score.in_unit(score.centre))
        for name, score in scores.items()
        if (cost := costs.get(name)) is not None and score.centre is not None
    }
    if len(points) < 2:
        return None
    names, tied = pareto_front({name: cost for name, (cost, _) in points.items()}, ranks)
    return Front(task=task, ranking=ranking, metric=metric, names=names, tied=tied, points=points)


def cost_ranking(
    task: TaskScores,
    board: Leaderboard,
    entries: Iterable[str],
    metric: str = "latency_s",
) -> Ranking | None:
    """The ranking whose costs a task's scores are shown against; None without a row of `entries`.

    Rankings must be of the same device, and causal as the task is. One of the machine that trained
    is chosen, if there is any, as costs of two machines may differ; then the one with most of the
    entries, in the same dtype, without optional axes, of mode ``forward``, and of the longest
    length, in this order.
    """
    wanted = set(entries)

    def known(ranking: Ranking) -> set[str]:
        costs = {s.entry for s in ranking.standings if _cost(s.record, metric) is not None}
        return costs & wanted

    def fitness(ranking: Ranking) -> tuple[object, ...]:
        shape = ranking.setting.workload
        assert isinstance(shape, KernelWorkload)
        is_alike = (
            shape.dtype == task.dtype,
            not ranking.setting.extras,
            shape.mode == "forward",
        )
        count = len(known(ranking))
        is_here = count > 0 and ranking.setting.machine == task.machine
        return (is_here, count, *is_alike, ranking.size)

    same_place = [
        ranking
        for ranking in board.rankings
        if isinstance(shape := ranking.setting.workload, KernelWorkload)
        and shape.causal == task.causal
        and ranking.setting.device == task.device
    ]
    best = max(same_place, key=fitness, default=None)
    return best if best is not None and known(best) else None


def _cost(record: Record, metric: str) -> Value:
    return find_metric(metric).of(record) if may_be_ranked(record) else None


def pareto_front(
    costs: Mapping[str, float], ranks: Ranks
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rows that are not behind any cheaper or equally cheap row, and those of them that are tied.

    Costs are taken as measured. Scores differ where their comparison settles it, so chance alone
    takes no row off the front. A row is tied if it cannot be told apart from one that is cheaper.

    Args:
        costs: by name, each of which has a rank.
        ranks: of the scores.

    Returns:
        Both cheapest first; rows of one cost are in the order of their ranks.
    """
    order = sorted(costs, key=lambda name: (costs[name], ranks.names.index(name)))
    front = tuple(
        name
        for name in order
        if not any(costs[c] <= costs[name] and ranks.is_behind(name, c) for c in order)
    )
    tied = (
        name
        for name in front
        if any(costs[c] < costs[name] and not ranks.is_behind(c, name) for c in order)
    )
    return front, tuple(tied)


def front_tables(task: TaskScores, every_front: Sequence[Front]) -> Iterator[Table]:
    """The table of a task's fronts, if it has any."""
    rows = [
        (COSTS[front.metric], _where_words(front), ", ".join(front.clear), ", ".join(front.tied))
        for front in every_front
        if front.task is task
    ]
    if rows:
        yield text_table(
            title="Pareto fronts: rows that are not behind any cheaper one, cheapest first",
            header=("cost", "measured at", "ahead of all cheaper rows", "tied with a cheaper row"),
            rows=tuple(rows),
            num_words=4,
        )


def _where_words(front: Front) -> str:
    if front.ranking is None:
        return "this task"
    shape = front.ranking.setting.workload
    words = [f"{front.ranking.size:,} tokens", shape.dtype, shape.mode.replace("_", " ")]
    words += [direction_words(shape)]
    return ", ".join(words)
