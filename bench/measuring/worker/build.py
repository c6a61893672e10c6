"""Jobs that need a plugin's cell without its call: why it is refused, and what memory it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.core.cell import Cell, KernelWorkload, TaskWorkload
from bench.core.cli.texts import LIMITS, visible
from bench.measuring.worker.channel import Channel
from bench.measuring.worker.request import Request
from bench.measuring.worker.results import BuildResult, EstimateResult

if TYPE_CHECKING:
    from torch import nn


def build(request: Request, channel: Channel) -> BuildResult:
    """Build cells on meta; sends ``asked=index`` before each, ``refused=reason`` after a refusal.

    Raises:
        BaseException: whatever a constructor raises at an ordinary shape as well.
    """
    for index, flat in enumerate(request["cells"]):
        cell = Cell.from_dict(flat)
        channel.send(step=f"build {cell.entry}", asked=index)
        if reason := why_unbuildable(cell):
            build_ordinary(cell)
            channel.send(refused=visible(reason, LIMITS["reason"]))
    return BuildResult(measured_s=0.0)


def estimate(request: Request, channel: Channel) -> EstimateResult:
    """Bytes that a cell is expected to need; None if a dry run cannot tell."""
    from bench.measuring.costs.estimate import needed_bytes

    channel.send(step="dry run")
    needed = needed_bytes(Cell.from_dict(request["cell"]))
    return EstimateResult(needed_bytes=needed, measured_s=0.0)


def why_unbuildable(cell: Cell) -> str | None:
    """Why a constructor refuses a cell's shape; None if it does not. Allocates nothing."""
    import torch

    import attentions
    from bench.measuring.building import geometry_of
    from bench.measuring.models.support import why_no_such_model
    from bench.measuring.tasks.base import build_task, task_to_plan
    from bench.measuring.tasks.match import CannotMatch, matched

    if cell.is_model:
        return why_no_such_model(cell)
    try:
        if isinstance(cell.workload, TaskWorkload):
            if task_to_plan(cell.workload.task, cell.workload.settings) is None:
                return None
            cell, _ = matched(cell)
            geometry = build_task(cell.task.task, cell.task.settings).geometry
        else:
            geometry = geometry_of(cell.kernel)
        with torch.device("meta"):
            module = attentions.build_attention(cell.mechanism, geometry, **cell.hyperparameters)
            if not cell.is_task and cell.kernel.key_len is not None:
                _call_across(module, cell.kernel)
    except CannotMatch as error:
        return str(error)
    except (ValueError, TypeError, ImportError) as error:
        return f"{cell.mechanism} cannot be built: {error}"
    return None


def _call_across(module: nn.Module, workload: KernelWorkload) -> None:
    """Call a mechanism on meta with another number of keys than of queries.

    Raises:
        ValueError: the mechanism refuses these numbers.
    """
    import torch

    from bench.measuring import inputs

    tensors = inputs.make(workload, seed=0, dtype=torch.float32, device=torch.device("meta"))
    try:
        with torch.no_grad():
            module(*tensors[:-1])
    except ValueError:
        raise
    except Exception:  # meta tensors may not be supported; the trial runs on real ones
        return


def build_ordinary(cell: Cell) -> None:
    """Build a mechanism for an ordinary shape; raises only for bad hyperparameters.

    Raises:
        ValueError, TypeError: the hyperparameters are bad.
    """
    import attentions

    can = attentions.attention_class(cell.mechanism).capabilities
    geometry = attentions.Geometry(
        num_heads=4, head_dim=64, seq_len=256, causal=not can.bidirectional
    )
    try:
        attentions.build_attention(cell.mechanism, geometry, **cell.hyperparameters)
    except ImportError:
        return  # a missing package is a reason to skip, not a mistake
