"""Record outputs of any callable or module as a golden file, which `files` reads.

The rules are those of the files in attentions/testing/golden: inputs, weights and cotangent are
float32 values; results are computed in float64 from exactly those values; the error of the same
code in float32 says how far off ours may be in float32.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

FLOAT64_BOUND = 1e-9
"""Tolerance, relative to the largest value of a result: sums in another order differ by far less, a
wrong formula by far more.
"""
FLOAT32_BOUND = 1e-6
"""Smallest float32 bound, relative to the largest value of a result: a few roundings of float32."""
FLOAT32_SLACK = 10.0
"""Ours may be this many times as far off as the recorded code is itself in float32."""
_STORED = (
    "inputs (in.*), weights (w.*) and cotangent (cot) are float32 values; results were computed in "
    "float64 from exactly those values; grad.X = d sum(out * cot) / dX"
)


class CannotRecord(ValueError):
    """A case is there already, or cannot be recorded; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to record.

    Attributes:
        mechanism: the folder that it goes to: our name, or one that `FORMS` has.
        case: the name of the file.
        call: a function or module that takes `inputs` by keyword and returns one tensor.
        inputs: the arguments that get a gradient: q, k, v of (B, H, N, D), or x of (B, N, C).
        stored: tensors that `call` holds already and ours needs, such as ``mask``, ``key_mask``, or
            a weight of a function. A module's own weights are taken from it.
        settings: our hyperparameters, by our names.
        hyper: theirs, by their names, for `FORMS` and for readers.
        tags: such as ``causal``.
        entry, source: the class or function, and the repository and commit that it is from.
        seed: of the cotangent.
    """

    mechanism: str
    case: str
    call: Callable[..., Tensor]
    inputs: Mapping[str, Tensor]
    stored: Mapping[str, Tensor] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    hyper: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    entry: str = ""
    source: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Folder and case."""
        return f"{self.mechanism}/{self.case}"


def record(case: Case, folder: Path) -> Path:
    """Run a case and write its two files.

    Returns:
        The JSON that was written.

    Raises:
        CannotRecord: the case is there already or cannot be recorded, see `golden_of`, or a file
            cannot be written.
    """
    path = folder / f"{case.name}.json"
    if path.exists():
        raise CannotRecord(f"{path} is there already. Remove it, or choose another case.")
    header, data = golden_of(case)
    try:
        text = json.dumps(header, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise CannotRecord(
            f"{case.name}: its settings or hyper cannot be JSON: {error}."
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in ((path.with_suffix(".safetensors"), data), (path, text.encode())):
        try:
            unfinished = file.with_name(f"{file.name}.unfinished")
            unfinished.write_bytes(content)
            os.replace(unfinished, file)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            raise CannotRecord(f"{file} cannot be written: {error.strerror}.") from error
    return path


def golden_of(case: Case) -> tuple[dict[str, Any], bytes]:
    """Run a case in both precisions; returns what its JSON says and the bytes of its tensors.

    Raises:
        CannotRecord: it has no inputs, or its call does not return one tensor in the precision of
            its inputs that depends on one of them.
    """
    if not case.inputs:
        raise CannotRecord(f"{case.name} has no inputs: name at least one tensor.")
    kept = _kept(case)
    shape = _run(case, kept, torch.float64, None)["out"].shape
    cot = torch.randn(shape, generator=torch.Generator().manual_seed(case.seed))
    results = _run(case, kept, torch.float64, cot)
    own = _errors(_run(case, kept, torch.float32, cot), results)
    tensors = {**kept, "cot": cot, **results}
    # Copied, since a file may not hold two results in one memory, such as the gradients of a sum.
    copies = {n: t.clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    data = save(copies)
    return _header(case, tensors, results, own), data


def _kept(case: Case) -> dict[str, Tensor]:
    """Inputs and weights as they are stored: floats as float32."""
    weights = dict(case.stored)
    if isinstance(case.call, nn.Module):
        weights |= dict(case.call.named_parameters()) | dict(case.call.named_buffers())
    named = {f"in.{key}": value for key, value in case.inputs.items()}
    named |= {f"w.{key}": value for key, value in weights.items()}
    return {
        key: (value.float() if value.is_floating_point() else value).detach().clone()
        for key, value in named.items()
    }


def _run(
    case: Case, kept: dict[str, Tensor], dtype: torch.dtype, cot: Tensor | None
) -> dict[str, Tensor]:
    """The output in a precision and, given a cotangent, the gradients of all inputs."""
    call = case.call
    if isinstance(call, nn.Module):
        # Through float32 first: what is stored must be what is computed with.
        call = copy.deepcopy(call).float().to(dtype).eval()
    inputs = {
        key: kept[f"in.{key}"].to(dtype, copy=True).requires_grad_()
        if kept[f"in.{key}"].is_floating_point()
        else kept[f"in.{key}"]
        for key in case.inputs
    }
    out = call(**inputs)
    if not isinstance(out, Tensor):
        raise CannotRecord(f"{case.name}: its call returns {type(out).__name__}; one tensor it is.")
    if out.dtype != dtype:
        raise CannotRecord(
            f"{case.name}: its call returns {out.dtype} for inputs of {dtype}. Let it compute in "
            "the precision of its inputs."
        )
    if not out.requires_grad:
        raise CannotRecord(
            f"{case.name}: its output depends on no input, so that it has no gradient."
        )
    results = {"out": out.detach()}
    if cot is not None:
        leaves = {key: value for key, value in inputs.items() if value.requires_grad}
        grads = torch.autograd.grad(
            (out * cot.to(out.dtype)).sum(),
            list(leaves.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        results |= {f"grad.{key}": grad for key, grad in zip(leaves, grads, strict=True)}
    return results


def _errors(float32: dict[str, Tensor], float64: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Largest error of float32 where both are finite, and largest value, of each result."""
    errors = {}
    for name, exact in float64.items():
        difference = (float32[name].double() - exact).abs()
        errors[name] = {
            "max_abs": _largest(difference),
            "scale": _largest(exact.double().abs()),
        }
    return errors


def _largest(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0


def _header(
    case: Case,
    tensors: dict[str, Tensor],
    results: dict[str, Tensor],
    own: dict[str, dict[str, float]],
) -> dict[str, Any]:
    bounds = {
        "float64": {name: FLOAT64_BOUND * own[name]["scale"] for name in sorted(results)},
        "float32": {
            name: max(FLOAT32_SLACK * own[name]["max_abs"], FLOAT32_BOUND * own[name]["scale"])
            for name in sorted(results)
        },
    }
    bad = {name: int((~value.isfinite()).sum()) for name, value in results.items()}
    return {
        "mechanism": case.mechanism,
        "case": case.case,
        "seed": case.seed,
        "file": f"{case.case}.safetensors",
        "tensors": {
            name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            for name, value in tensors.items()
        },
        "stored": _STORED,
        "official_float32_vs_float64": own,
        "nonfinite_in_file": {name: count for name, count in bad.items() if count},
        "source": case.source,
        "entry": case.entry,
        "tags": list(case.tags),
        "hyper": dict(case.hyper),
        "settings": dict(case.settings),
        "bounds": bounds,
    }
