"""Golden files: what the authors' own code gave for stored inputs.

A folder holds ``<mechanism>/<case>.json`` with ``<case>.safetensors`` beside it. Nothing here knows
our mechanisms.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

DTYPES = ("float64", "float32")
_ENDINGS = (".json", ".safetensors")
_MALFORMED = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)


class DamagedGolden(Exception):
    """A file is missing, unreadable or contradicts itself; the message says which one and how."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Contents of a case's JSON.

    Attributes:
        mechanism, case: the folder and the file name, which together name the case.
        shapes, dtypes: of every stored tensor. ``in.*`` are inputs, ``w.*`` weights, ``cot`` the
            cotangent; all others are results, ``grad.x`` being d sum(out * cot) / dx.
        bounds: dtype -> result -> the largest absolute error that is allowed.
        hyper: the official hyperparameters, by their official names; without those that are null.
        settings: our hyperparameters, by our names, if the file has them.
        nonfinite: results that hold NaN or infinity, and in how many entries if that is stated;
            None if the file does not list them.
        entry: the official class or function.
        tags: such as ``core``, ``module``, ``causal``, ``cross``, ``mask``.
    """

    mechanism: str
    case: str
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    bounds: dict[str, dict[str, float]]
    hyper: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    nonfinite: Mapping[str, int | None] | None = None
    entry: str = ""
    tags: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """Folder and case, such as ``linear_elu/full_b2h2n49d16``."""
        return f"{self.mechanism}/{self.case}"

    @property
    def results(self) -> tuple[str, ...]:
        """The stored tensors that were computed, sorted."""
        return tuple(
            sorted(n for n in self.shapes if n != "cot" and n[:3] != "in." and n[:2] != "w.")
        )


@dataclass(frozen=True, kw_only=True)
class Golden:
    """One case: its header and its tensors."""

    header: Header
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class GoldenFolder:
    """The cases of one folder.

    Raises:
        ValueError: there is no such folder, or no case in it.
    """

    path: Path

    def __post_init__(self) -> None:
        if not os.path.isdir(self.path):
            raise ValueError(f"golden={self.path} is not a folder; give one of golden files.")
        if not any(self.path.glob("*/*.safetensors")):
            raise ValueError(
                f"golden={self.path} holds no golden file; <mechanism>/<case>.json with a "
                f"<case>.safetensors beside it is expected.{self._where_they_are()}"
            )

    def _where_they_are(self) -> str:
        """Suggest the folder that was probably meant, if goldens are one level above or below."""
        meant = [self.path.resolve().parent] if any(self.path.glob("*.safetensors")) else []
        below = sorted({file.parent.parent for file in self.path.glob("*/*/*.safetensors")})
        return "".join(f" Did you mean golden={folder}?" for folder in (meant + below)[:1])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every case that has one of its two files, as folder/case, sorted."""
        files = [file.relative_to(self.path) for file in self.path.glob("*/*")]
        cases = {f.with_suffix("").as_posix() for f in files if f.suffix in _ENDINGS}
        return tuple(sorted(cases))

    def header(self, name: str) -> Header:
        """Parse a case's JSON.

        Raises:
            DamagedGolden: it is missing, or is not a golden's header.
        """
        try:
            header = _parse_header(json.loads(self._bytes_of(f"{name}.json")))
        except (*_MALFORMED, RecursionError) as error:
            raise DamagedGolden(f"{name}.json is not a golden's header: {error!r}") from error
        if header.name != name:
            raise DamagedGolden(f"{name}.json says that it is {header.name}")
        return header

    def read(self, header: Header) -> Golden:
        """Read a case's tensors.

        Raises:
            DamagedGolden: the file is missing or cannot be parsed; a tensor's name, shape or dtype
                is not what the header says; a result holds no real numbers, or none at all; or it
                is not finite in more or fewer entries than the header says.
        """
        name = f"{header.name}.safetensors"
        try:
            tensors = parse_safetensors(self._bytes_of(name))
        except (SafetensorError, KeyError, ValueError) as error:
            raise DamagedGolden(f"{name} cannot be parsed: {error}") from error
        if tensors.keys() != header.shapes.keys():
            odd = ", ".join(sorted(tensors.keys() ^ header.shapes.keys()))
            raise DamagedGolden(f"{name} and its header do not name the same tensors: {odd}")
        for key, tensor in tensors.items():
            found = (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            stated = (header.shapes[key], header.dtypes[key])
            if found != stated:
                raise DamagedGolden(f"{name}: {key} is {found}, its header says {stated}")
        for key in header.results:
            _check_finite(header, key, tensors[key])
        return Golden(header=header, tensors=tensors)

    def _bytes_of(self, name: str) -> bytes:
        path = self.path / name
        try:
            if path.exists() and not path.is_file():  # a pipe would wait for ever
                raise DamagedGolden(f"{name} is not a file")
            return path.read_bytes()
        except FileNotFoundError as error:
            raise DamagedGolden(f"{name} is missing") from error
        except OSError as error:
            raise DamagedGolden(f"{name} cannot be read: {error.strerror}") from error


def _check_finite(header: Header, key: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity that the header does not list: nothing would be compared there."""
    file = f"{header.name}.safetensors"
    if not tensor.is_floating_point():
        raise DamagedGolden(f"{file}: {key} is {header.dtypes[key]}; a result is a float")
    if not tensor.numel():
        raise DamagedGolden(f"{file}: {key} is of shape {tuple(tensor.shape)}, which holds nothing")
    bad = int((~tensor.double().isfinite()).sum())
    stated = bad if header.nonfinite is None else header.nonfinite.get(key, 0)
    if stated not in (bad, None):
        said = f"its header says {stated}" if stated else "which its header does not say"
        raise DamagedGolden(
            f"{file}: {key} is not finite in {bad} of {tensor.numel()} entries, {said}"
        )


def _nonfinite(said: Any) -> dict[str, int | None] | None:
    """Result -> entries that are not finite: a number, one of each kind, or None in a mere list."""
    if not isinstance(said, Mapping):
        return None if said is None else dict.fromkeys(said)
    return {
        name: sum(count.values()) if isinstance(count, Mapping) else int(count)
        for name, count in said.items()
    }


def _parse_header(said: dict[str, Any]) -> Header:
    tensors = said["tensors"]
    if isinstance(tags := said.get("tags") or (), str):
        raise ValueError(f"its tags are {tags!r}; a list is needed")
    bounds = {
        dtype: {str(name): float(bound) for name, bound in said["bounds"][dtype].items()}
        for dtype in DTYPES
    }
    header = Header(
        mechanism=said["mechanism"],
        case=said["case"],
        shapes={name: tuple(tensor["shape"]) for name, tensor in tensors.items()},
        dtypes={name: tensor["dtype"] for name, tensor in tensors.items()},
        bounds=bounds,
        hyper={key: x for key, x in dict(said.get("hyper") or {}).items() if x is not None},
        settings=dict(said.get("settings") or {}),
        nonfinite=_nonfinite(said.get("nonfinite_in_file")),
        entry=str(said.get("entry") or ""),
        tags=frozenset(tags),
    )
    if not {"cot", "out"} <= header.shapes.keys():
        raise ValueError("it lists no tensors cot and out")
    if (cot := header.shapes["cot"]) != (out := header.shapes["out"]):
        raise ValueError(f"its cot is of shape {cot}, its out of {out}; they are alike")
    if not any(name.startswith("in.") for name in header.shapes):
        raise ValueError("it lists no input, a tensor whose name begins with in.")
    for dtype in DTYPES:
        if not all(0 <= bound < math.inf for bound in bounds[dtype].values()):
            raise ValueError(f"a {dtype} bound is negative or not finite")
        unbound = set(header.results) - bounds[dtype].keys()
        if unbound:
            raise ValueError(f"it states no {dtype} bound for {', '.join(sorted(unbound))}")
    return header
