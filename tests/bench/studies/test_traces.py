"""`attnbench traces` tells decoders whose answers depend on how they are served."""

import runpy
from math import nan
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import traces
from bench.measuring import tracing
from bench.studies.traces import Trace, script, verdict

transformers = pytest.importorskip("transformers")


def test_a_correct_decoder_agrees_in_every_trace(tmp_path: Path) -> None:
    asked = ["model=llama", "tokens=12", f"out={tmp_path}"]
    assert traces.main(asked) == 0
    page = (tmp_path / "traces.md").read_text()
    assert "1 of these give the logits of one pass" in page and "None differs." in page
    assert not (tmp_path / "scripts").exists()


def test_a_decoder_whose_cache_is_wrong_differs_where_it_is_read() -> None:
    fields = tracing.tiny_fields("llama")
    model: Any = tracing.tiny_model("llama", fields, 0).double()
    attention = model.model.layers[1].self_attn
    plain = attention.forward

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        cache = kwargs["cache"]
        if cache is not None and cache.get_seq_length(1):
            cache.layers[1].keys.zero_()
        return plain(*args, **kwargs)

    attention.forward = forgetful
    tokens = tracing.drawn(12, 0)
    with torch.no_grad():
        found = {trace: tracing.change(trace, model, tokens, 7) for trace in tracing.TRACES}
    differs = {trace for trace, value in found.items() if verdict(value, value) == "differs"}
    assert differs == {"continue", "step by step", "rollback"}


@pytest.mark.parametrize(
    "single, double, said",
    [
        (1e-6, 1e-16, "agrees"),
        (1e-3, 1e-7, "rounding"),
        (1e-3, 1e-3, "differs"),
        (nan, 1e-3, "refused: logits are not finite"),
        (nan, nan, "refused: logits are not finite"),
        (1e-6, nan, "agrees"),
        (1e-3, nan, "refused: logits in float64 are not finite"),
    ],
)
def test_where_float64_is_not_finite_float32_alone_counts(
    single: float, double: float, said: str
) -> None:
    assert verdict(single, double) == said


def test_the_script_of_a_difference_needs_transformers_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Trace(model="mamba", version="5", tokens=12, seed=0, verdicts={})
    text = script(one, "continue", 6, 3)
    assert "bench" not in text
    (tmp_path / "shows.py").write_text(text)
    runpy.run_path(str(tmp_path / "shows.py"))
    assert float(capsys.readouterr().out.split(":")[-1]) > 1e-4


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("model=qwen3_nxt", "Did you mean qwen3_next"),
        ("model=[]", "model=all"),
        ("model=/", "is not a decoder"),
        ("tokens=3", "4 or more"),
    ],
)
def test_bad_input_ends_with_a_sentence(
    asked: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert traces.main([asked, f"out={tmp_path}"]) == 2
    assert sentence in capsys.readouterr().err
