"""The sizes that `attnbench memory` prints are those of caches that models allocate."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import memory
from bench.measuring.shipped import kept_of
from bench.studies.memory import Memory, usages

transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
EXPERTS = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}

KINDS: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "gpt_oss": SMALL | {"sliding_window": 40, "num_local_experts": 2, "num_experts_per_tok": 1},
    "qwen3_next": SMALL
    | EXPERTS
    | {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
    },
    "mamba": SMALL | {"state_size": 4, "num_hidden_layers": 1},
    "mamba2": SMALL | {"num_heads": 8, "head_dim": 8, "state_size": 4, "n_groups": 2},
    "falcon_h1": SMALL | {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_state": 8},
    "lfm2": SMALL | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "minimax": SMALL | {"layer_types": ["linear_attention", "full_attention"]},
}
"""A small configuration for each kind of layer."""


@pytest.mark.parametrize("name", KINDS)
def test_the_cache_of_a_model_that_runs_has_the_predicted_bytes(name: str) -> None:
    config = transformers.CONFIG_MAPPING[name](**KINDS[name])
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    asked = Memory(model=(name,), context=(37, 700), dtype="float32")
    predicted = usages(config, name, asked)
    for usage in predicted:
        with torch.no_grad():
            out = model(torch.zeros(1, usage.context, dtype=torch.long), use_cache=True)
        kept = kept_of(out.past_key_values, config)
        assert usage.num_bytes == sum(one.tensor.nbytes for one in kept.values())


def test_a_row_grows_by_its_keys_and_values_and_a_state_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["attention=[softmax,gla]", "context=1024", "dtype=float32", "num_layers=2"]
    assert memory.main([*command, "num_heads=2", "head_dim=8", f"out={tmp_path}"]) == 0
    keys, state = (tmp_path / "memory.csv").read_text().splitlines()[1:]
    assert keys.split(",") == ["softmax", "1024", "262144", "262144", "256.0", "4096.0", ""]
    assert state.split(",")[4] == "0.0"


def test_a_model_of_ones_own_is_read_from_its_config(tmp_path: Path) -> None:
    config = {"model_type": "llama", **SMALL}
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    assert memory.main([f"model={tmp_path}", "context=10", "dtype=float32", f"out={out}"]) == 0
    assert ",10,2560," in (out / "memory.csv").read_text()


def test_bad_input_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main(["model=qwen3_nxt"]) == 2
    assert "Did you mean qwen3_next" in capsys.readouterr().err
    assert memory.main(["model=llama", "memory=24"]) == 2
    assert "24GiB" in capsys.readouterr().err
