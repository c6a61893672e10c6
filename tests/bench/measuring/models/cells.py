"""Cells of a tiny model."""

from pathlib import Path
from typing import Any

from bench.core.cell import ORIGINAL, Cell, ModelWorkload

FACTORY = Path(__file__).with_name("factory.py")


def own(function: str = "build") -> str:
    """A function of the factory, as the `model` axis names it."""
    return f"{FACTORY}:{function}"


def cell(mechanism: str = ORIGINAL, **changes: Any) -> Cell:
    """A model's cell; keyword arguments change fields of its workload."""
    shape: dict[str, Any] = {"model": own(), "image_size": 32, "batch_size": 2}
    shape |= {"dtype": "float32", "mode": "forward"} | changes
    return Cell(
        entry=mechanism,
        mechanism=mechanism,
        hyperparameters={},
        device="cpu",
        num_threads=1,
        workload=ModelWorkload(**shape),
    )
