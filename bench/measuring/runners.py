"""Callables that a timed call runs: a module's `forward` and `step`, eager or compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cell import Cell
from bench.core.cli.temporary import workers_folder
from bench.measuring.device import device_named

_MAX_COMPILED = 64
"""Number of compiled variants of one function; beyond it dynamo runs the function uncompiled."""


def compiled_folder(cell: Cell) -> Path:
    """Folder of inductor's kernels for a compiled cell."""
    return workers_folder() / "inductor" / cell.key


@cache
def _prepare_compiler() -> None:
    """Let inductor probe what is the same for all cells, such as the vector instructions.

    It compiles small programs for that, again for each empty folder of kernels: they would be most
    of the compile time of a small cell.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(workers_folder() / "inductor" / "machine")
    torch.compile(lambda x: x.exp() + 1)(torch.ones(64))


class CheckedOnce:
    """A module's `forward` and `step`; the first call checks its inputs, as a user's calls do."""

    def __init__(self, module: nn.Module) -> None:
        self._module: Any = module
        self._run: Callable[..., Any] = self._first
        self._forward = module.forward
        self._step: Any = self._first_step
        self._unchecked_step = _unchecked_step(module)

    def __call__(self, *tensors: Tensor, **keywords: Tensor) -> Any:
        """Run `forward`."""
        run, self._run = self._run, self._forward
        return run(*tensors, **keywords)

    def step(self, *tokens_and_state: Any, **gates: Tensor) -> Any:
        """Run `step`."""
        step, self._step = self._step, self._unchecked_step
        return step(*tokens_and_state, **gates)

    def _first(self, *tensors: Tensor, **keywords: Tensor) -> Tensor:
        return _tensor(self._module(*tensors, **keywords))

    def _first_step(self, *tokens_and_state: Any, **gates: Tensor) -> tuple[Tensor, Any]:
        found = self._module.step(*tokens_and_state, **gates)
        if not isinstance(found, tuple) or len(found) != 2:
            kind = type(found).__name__
            raise TypeError(
                f"its step gives a value of type {kind}; an output and a state are expected"
            )
        return _tensor(found[0]), found[1]


def _tensor(found: Any) -> Tensor:
    if not isinstance(found, Tensor):
        kind = type(found).__name__
        raise TypeError(f"it gives a value of type {kind}; a tensor is expected")
    return found


def _unchecked_step(module: Any) -> Callable[..., Any] | None:
    """A core's `step` without the checks of its inputs; a layer's as it is."""
    step: Any = getattr(module, "step", None)
    inner = getattr(step, "__wrapped__", None)
    return step if inner is None else partial(inner, module)


class Compiled:
    """A module's `forward` and `step` compiled by inductor; `forward` in one graph if it claims so.

    Each cell has a folder of kernels, so that no trial profits from another's kernels, and the
    rounds of a block reuse what its trials compiled.
    """

    def __init__(self, module: nn.Module, cell: Cell) -> None:
        if device_named(cell.device).shares_cores:
            _prepare_compiler()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(compiled_folder(cell))
        torch._dynamo.config.recompile_limit = _MAX_COMPILED
        core: Any = getattr(module, "core", module)
        is_whole = hasattr(core, "capabilities") and core.capabilities.compiles
        stepper: Any = module
        self._forward = torch.compile(module.forward, dynamic=False, fullgraph=is_whole)
        self.step = torch.compile(stepper.step, dynamic=False) if hasattr(module, "step") else None

    def __call__(self, *tensors: Tensor, **keywords: Tensor) -> Any:
        """Run `forward`."""
        return self._forward(*tensors, **keywords)
