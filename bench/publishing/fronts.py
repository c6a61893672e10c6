"""Pareto fronts of a task's scores against costs: rows that no other row beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.core.cell import KernelWorkload
from bench.core.record import Record
from bench.core.statistics import Value
from bench.publishing.leaderboard import Leaderboard, Ranking
from bench.publishing.metrics import find_metric
from bench.publishing.metrics.marks import may_be_ranked
from bench.publishing.scores import TaskScores

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
        points: cost and score of every row that has both and may be ranked, without controls.
    """

    task: TaskScores
    ranking: Ranking | None
    metric: str
    names: tuple[str, ...]
    points: dict[str, tuple[float, float]]


def fronts(board: Leaderboard) -> tuple[Front, ...]:
    """Fronts of tasks against costs that at least two of their rows have.

    Scores are combined only with costs of the same machine and device.
    """
    found = (_front(task, metric, board) for task in board.tasks for metric in COSTS)
    return tuple(front for front in found if front is not None)


def _front(task: TaskScores, metric: str, board: Leaderboard) -> Front | None:
    scores = {
        score.entry: score
        for score in task.scores
        if score.accuracy is not None and score.may_be_ranked and not score.is_control
    }
    ranking = cost_ranking(task, board, scores, metric)
    costs: dict[str, Value] = {}
    if ranking is not None:
        costs = {s.entry: _cost(s.record, metric) for s in ranking.standings}
    elif metric == "state_bytes":
        costs = {name: score.state_bytes for name, score in scores.items()}
    sign = -1.0 if task.unit else 1.0
    points = {
        name: (float(cost), sign * score.accuracy)
        for name, score in scores.items()
        if (cost := costs.get(name)) is not None and score.accuracy is not None
    }
    if len(points) < 2:
        return None
    return Front(
        task=task,
        ranking=ranking,
        metric=metric,
        names=pareto_front(points),
        points={name: (cost, sign * score) for name, (cost, score) in points.items()},
    )


def cost_ranking(
    task: TaskScores,
    board: Leaderboard,
    entries: Iterable[str],
    metric: str = "latency_s",
) -> Ranking | None:
    """The ranking whose costs a task's scores are shown against; None without a row of `entries`.

    Rankings must be of the same machine and device, and causal as the task is. The one with most
    of the entries is chosen; of several, one in the same dtype, without optional axes, of mode
    ``forward``, and of the longest length, in this order.
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
        return (len(known(ranking)), *is_alike, ranking.size)

    same_place = [
        ranking
        for ranking in board.rankings
        if isinstance(shape := ranking.setting.workload, KernelWorkload)
        and shape.causal == task.causal
        and (ranking.setting.machine, ranking.setting.device) == (task.machine, task.device)
    ]
    best = max(same_place, key=fitness, default=None)
    return best if best is not None and known(best) else None


def _cost(record: Record, metric: str) -> Value:
    return find_metric(metric).of(record) if may_be_ranked(record) else None


def pareto_front(points: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Names of the points that no other one beats, cheapest first.

    A point is beaten by one that costs no more, scores no less, and is better in at least one.

    Args:
        points: cost and score by name; a lower cost and a higher score are better.

    >>> pareto_front({"cheap": (1, 0.5), "good": (3, 0.9), "worse": (4, 0.8)})
    ('cheap', 'good')
    """
    front: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1], name)):
        cost, score = points[name]
        best = points[front[-1]] if front else None
        # Of equal points none beats another.
        if best is None or score > best[1] or (cost, score) == best:
            front.append(name)
    return tuple(front)
