from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attentions import Capabilities
from bench.conformance.check import Broken
from bench.conformance.gates import gates_of


class PerChannel:
    """Indexes its gate, unchecked, as a plugin may."""

    capabilities = Capabilities(gates=("decay",))

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Tensor:
        return v * gates["decay"][:, :, :, :1]


class Neither(PerChannel):
    def __call__(self, q: Tensor, k: Tensor, v: Tensor, **gates: Tensor) -> Any:
        raise RuntimeError("no gate fits")


def test_a_gate_per_channel_is_found_by_what_the_other_size_breaks() -> None:
    tensors = tuple(torch.zeros(3, 1, 2, 5, 4))
    assert gates_of(PerChannel(), tensors)["decay"].shape == (1, 2, 5, 4)


def test_a_gate_that_is_taken_in_no_size_fails_with_what_was_raised() -> None:
    with pytest.raises(Broken, match=r"nor as \(B, H, N, D\): RuntimeError: no gate fits"):
        gates_of(Neither(), tuple(torch.zeros(3, 1, 2, 5, 4)))
