"""Checkpoints: a killed run resumes bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.cli.files import write_whole

State = dict[str, Any]
"""Tensors, numbers and words, nested; nothing that would have to be run to be read."""


class CheckpointRefused(Exception):
    """The file is of another configuration, or cannot be read; the message says how to go on."""


@dataclass(frozen=True)
class Checkpoint:
    """A file, and what a run must be to go on from it.

    Attributes:
        of: the key of the cell.
        source: a hash of the code; a file that other code wrote is begun anew.
    """

    path: Path
    of: str
    source: str = ""

    def save(self, state: State) -> None:
        """Replace the file as a whole: whoever is killed meanwhile leaves the one before.

        Raises:
            ConfigError: it cannot be written.
        """
        content = BytesIO()
        torch.save({"of": self.of, "source": self.source, "state": state}, content)
        write_whole(self.path, content.getvalue())

    def load(self, device: torch.device) -> State | None:
        """Load a checkpoint; None if there is none, or one of other code.

        Raises:
            CheckpointRefused: it is of another configuration, or no checkpoint.
        """
        try:
            content = torch.load(self.path, map_location=device, weights_only=True)
            of, source, state = (content[name] for name in ("of", "source", "state"))
        except FileNotFoundError:
            return None
        except Exception as error:  # torch raises of many kinds for what is no checkpoint
            raise CheckpointRefused(
                f"{self.path} cannot be read as a checkpoint ({type(error).__name__}). Delete it, "
                "and the run starts from its first step."
            ) from error
        if of != self.of:
            raise CheckpointRefused(
                f"{self.path} is a checkpoint of another configuration, {of}, and this one is "
                f"{self.of}. Delete it, or choose another folder by out=."
            )
        return dict(state) if source == self.source else None


def model_state(model: nn.Module) -> State:
    """Parameters, all buffers, and the numbers that modules keep beside them.

    Such as how often a projection was drawn: not part of a state dict, but of what comes next.
    """
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in _tensors(model).items()},
        "numbers": {
            f"{path}.{name}": value
            for path, module in model.named_modules()
            for name, value in vars(module).items()
            if isinstance(value, (bool, int, float))
        },
    }


@torch.no_grad()
def restore_model(model: nn.Module, state: State) -> None:
    """The inverse of `model_state`, in place."""
    for name, tensor in _tensors(model).items():
        tensor.copy_(state["tensors"][name])
    modules = dict(model.named_modules())
    for place, value in state["numbers"].items():
        path, _, name = place.rpartition(".")
        setattr(modules[path], name, value)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())
