"""Compute the numbers of the test vectors: ``python -m attentions.testing.vectors.make``.

Each ``<family>.json`` says what its cases are. Inputs are random float32 values; results are what
the mechanisms give for them in float64, token by token. A file of numbers that exists is kept:
numbers of a version do not change. SHA256SUMS lists the files, for ``sha256sum --check``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ...geometry import Geometry
from ...registry import build_attention

FOLDER = Path(__file__).resolve().parent
CPU = torch.device("cpu")


def families() -> Iterator[dict[str, Any]]:
    """Contents of each family's JSON."""
    for file in sorted(FOLDER.glob("*.json")):
        if file.name != "schema.json":
            yield json.loads(file.read_text("utf-8"))


def inputs(case: Mapping[str, Any]) -> dict[str, Tensor]:
    """Random float32 tensors of a case, by the letters of their shapes, and its edits of them."""
    generator = torch.Generator().manual_seed(case["seed"])
    drawn = {}
    for name, letters in case["inputs"].items():
        x = torch.randn([case["sizes"][letter] for letter in letters], generator=generator)
        drawn[name] = {"log_decay": -x.abs() / 2, "beta": x.sigmoid()}.get(name, x)
    for edit in case["edits"]:
        x = drawn[edit["tensor"]]
        part = x[:, :, edit["tokens"]] if "tokens" in edit else x
        part = part.round() if edit.get("round") else part
        part = part * edit.get("times", 1.0) + edit.get("plus", 0.0)
        if "value" in edit:
            part = torch.tensor([*map(float, edit["value"])]).expand_as(part)
        x[(slice(None), slice(None), edit["tokens"]) if "tokens" in edit else ...] = part
    return drawn


def results(
    case: Mapping[str, Any], x: Mapping[str, Tensor], dtype: torch.dtype, *, by_token: bool
) -> dict[str, Tensor]:
    """Results of a case by our mechanism, named as in `formulas.replay`."""
    core = _core(case)
    x = {name: tensor.to(dtype) for name, tensor in x.items()}
    if "sinks" in x:
        (sinks,) = core.parameters()
        sinks.data = x.pop("sinks")
    states: list[Any] = []
    found: dict[str, Tensor] = {}
    for i, part in enumerate(case["trace"]):
        (first, last), after = part["tokens"], part["after"]
        size = 1 if by_token else last - first
        state = _empty(core, case, dtype) if after is None else core.clone_state(states[after])
        outputs = []
        for t in range(first, last, size):
            some = {name: tensor[:, :, t : t + size] for name, tensor in x.items()}
            out, state = core.step(some.pop("q"), some.pop("k"), some.pop("v"), state, **some)
            outputs.append(out)
        states.append(core.clone_state(state))
        found[f"out.{i}"] = torch.cat(outputs, dim=2)
        for name in case["state"]:
            found[f"state.{i}.{name}"] = (
                state if isinstance(state, Tensor) else getattr(state, name)
            )
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def _core(case: Mapping[str, Any]) -> Any:
    """Our mechanism, causal, at the sizes of a case."""
    size, settings = case["sizes"], dict(case["settings"])
    if "beta" in case["inputs"]:
        settings["negative_eigenvalues"] = True  # beta up to 2
    if "index_q" in case["inputs"]:
        settings |= {"index_heads": size["G"], "index_dim": size["W"]}
    keys, values = size[case["inputs"]["k"][1]], size[case["inputs"]["v"][1]]
    geometry = Geometry(
        num_heads=size["H"],
        num_kv_heads=keys if keys < size["H"] else 0,
        num_value_heads=values if values > size["H"] else 0,
        head_dim=size["D"],
        value_dim=size["E"],
        seq_len=size["N"],
        causal=True,
    )
    return build_attention(case["mechanism"], geometry, **settings)


def _empty(core: Any, case: Mapping[str, Any], dtype: torch.dtype) -> Any:
    """The state before the first token."""
    return core.init_state(case["sizes"]["B"], dtype=dtype, device=CPU)


def main() -> None:
    """Write the numbers that are missing, and the digests of all."""
    for family in families():
        file = FOLDER / f"{family['family']}.safetensors"
        if file.exists():
            continue
        tensors: dict[str, Tensor] = {}
        for name, case in family["cases"].items():
            x = inputs(case)
            found = {f"in.{key}": value for key, value in x.items()}
            found |= results(case, x, torch.float64, by_token=True)
            tensors |= {f"{name}/{key}": value.contiguous() for key, value in found.items()}
        file.write_bytes(save(tensors, metadata={"version": family["version"]}))
    files = sorted(FOLDER.glob("*.safetensors"))
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (FOLDER / "SHA256SUMS").write_text("".join(sums), "utf-8")


if __name__ == "__main__":
    main()
