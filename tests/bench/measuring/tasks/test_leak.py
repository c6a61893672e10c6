"""A causal task's model tells a mechanism that sees the future from one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from attentions import Attention, Capabilities, registry
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.leak import leaks_future
from bench.measuring.tasks.model import build_model


def test_an_example_of_one_token_has_no_future() -> None:
    task = build_task("bytes", {"context_len": 1})
    assert not leaks_future(build_model(task, "softmax", {}, 0), task)


@pytest.mark.parametrize("mechanism", ["softmax", "linear", "gated_deltanet", "sliding_window"])
def test_what_hides_the_future_does_not_leak(mechanism: str) -> None:
    task = build_task("recall", {"causal": True})
    assert not leaks_future(build_model(task, mechanism, {}, 0), task)


@pytest.mark.parametrize("causal", [True, False])
def test_a_mean_over_all_tokens_leaks_where_a_token_may_not_see_them(
    causal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.attention_names()
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    can = Capabilities(causal=True)

    @registry.register_attention("mean", title="mean", source="-", capabilities=can)
    class Mean(Attention):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return v + 1e-3 * v.mean(dim=-2, keepdim=True)

        def flops(self, shape: Any) -> int:
            return 0

    task = build_task("recall", {"causal": causal})
    assert leaks_future(build_model(task, "mean", {}, 0), task) is causal
