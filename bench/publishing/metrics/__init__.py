"""Named numbers of a record: what is concluded from what was observed. Needs numpy, no torch.

>>> from bench.publishing.metrics import find_metric
>>> find_metric("latency_s").better
'lower'
"""

from __future__ import annotations

from bench.publishing.metrics.registry import (
    Metric,
    evaluate,
    find_metric,
    metric_names,
    register_metric,
)

__all__ = ["Metric", "evaluate", "find_metric", "metric_names", "register_metric"]
