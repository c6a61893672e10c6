"""Golden files: what the authors' own code gave for stored inputs, read and checked for damage.

A folder holds ``<mechanism>/<case>.json`` with ``<case>.safetensors`` beside it, and may hold an
``index.json`` that lists the cases and a ``SHA256SUMS`` as `sha256sum` writes it. Nothing here
knows our mechanisms.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from bench.app.errors import ConfigError

DTYPES = ("float64", "float32")
INDEX, CHECKSUMS = "index.json", "SHA256SUMS"


class DamagedGolden(Exception):
    """A file is missing, changed or unreadable; the message says which one and how it shows."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a case's JSON says.

    Attributes:
        mechanism, case: the folder and the file name, by which the case goes.
        num_bytes: the size of the safetensors file.
        shapes, dtypes: of every stored tensor. ``in.*`` are inputs, ``w.*`` weights, ``cot`` the
            cotangent; all others are results, ``grad.x`` being d sum(out * cot) / dx.
        bounds: dtype -> result -> the largest absolute error that is allowed.
        hyper: the official hyperparameters, by their official names.
        settings: our hyperparameters, by our names, where whoever made the file knew them.
        nonfinite: results that hold NaN or infinity, where the file says so of all; else None.
        entry: the official class or function.
        tags: such as ``core``, ``module``, ``causal``, ``cross``, ``mask``.
    """

    mechanism: str
    case: str
    num_bytes: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    bounds: dict[str, dict[str, float]]
    hyper: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    nonfinite: frozenset[str] | None = None
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
    """One case: its header and its tensors, found undamaged."""

    header: Header
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class GoldenFolder:
    """The cases of one folder.

    Attributes:
        published: checksums of goldens that the folder may hold copies of. They count where it
            has none of its own: if one file of a case is the published one, so must be the other.

    Raises:
        ConfigError: there is no such folder, or no case in it.
    """

    path: Path
    published: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise ConfigError(
                f"golden={self.path} is not a folder; give one that holds golden files."
            )
        listed = self.checksums or self._indexed or self.damaged_lists
        if not listed and not any(self.path.glob("*/*.safetensors")):
            raise ConfigError(
                f"golden={self.path} holds no golden file; <mechanism>/<case>.json with a "
                f"<case>.safetensors beside it is expected.{self._where_they_are()}"
            )

    def _where_they_are(self) -> str:
        """Name the folder that was probably meant, where goldens lie one step away."""
        meant = [self.path.resolve().parent] if any(self.path.glob("*.safetensors")) else []
        below = sorted({file.parent.parent for file in self.path.glob("*/*/*.safetensors")})
        return "".join(f" Did you mean golden={folder}?" for folder in (meant + below)[:1])

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every case that a file, the index or the checksums speak of, as folder/case, sorted."""
        files = [p.relative_to(self.path).as_posix() for p in self.path.glob("*/*")]
        spoken_of = {*files, *self.checksums, *self._indexed}
        endings = (".json", ".safetensors")
        cases = {
            n.rpartition(".")[0] for n in spoken_of if n.endswith(endings) and n.count("/") == 1
        }
        return tuple(sorted(cases))

    @cached_property
    def checksums(self) -> dict[str, str]:
        """File -> SHA-256, as the folder's own list says; empty without a list that can be read."""
        try:
            return self._read_checksums()
        except DamagedGolden:  # told by `damaged_lists`; the sizes and shapes are still checked
            return {}

    @cached_property
    def damaged_lists(self) -> dict[str, str]:
        """Name and damage of the folder's own two lists, if they show any."""
        damage = {}
        for name, read in ((INDEX, self._read_index), (CHECKSUMS, self._read_checksums)):
            try:
                read()
                if (self.path / name).exists() or name in self.checksums:
                    self._bytes_of(name)
            except DamagedGolden as error:
                damage[name] = str(error)
        return damage

    def header(self, name: str) -> Header:
        """Parse a case's JSON; its checksum is looked at by `read`.

        Raises:
            DamagedGolden: it is missing, or is not a golden's header.
        """
        path = self.path / f"{name}.json"
        if not path.is_file():
            raise DamagedGolden(f"{name}.json is missing")
        try:
            header = _parse_header(json.loads(path.read_bytes()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedGolden(f"{name}.json is not a golden's header: {error!r}") from error
        if header.name != name:
            raise DamagedGolden(f"{name}.json says that it is {header.name}")
        return header

    def read(self, header: Header) -> Golden:
        """Read a case's tensors, and check both of its files.

        Raises:
            DamagedGolden: a checksum, the size, or a tensor's name, shape or dtype differs from
                what was written down; a result is not finite and the header does not say so; or the
                file cannot be parsed.
        """
        name = f"{header.name}.safetensors"
        said, data = self._bytes_of(f"{header.name}.json"), self._bytes_of(name)
        if len(data) != header.num_bytes:
            raise DamagedGolden(f"{name} has {len(data)} bytes, its header says {header.num_bytes}")
        try:
            tensors = parse_safetensors(data)
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
        if not self.checksums:
            self._compare_with_published({f"{header.name}.json": said, name: data})
        return Golden(header=header, tensors=tensors)

    def _compare_with_published(self, files: dict[str, bytes]) -> None:
        same = {
            name: hashlib.sha256(data).hexdigest() == self.published.get(name)
            for name, data in files.items()
        }
        changed = [name for name, is_same in same.items() if not is_same]
        if len(changed) == 1:
            raise DamagedGolden(f"{changed[0]} was changed: it is not the one that was published")

    def _bytes_of(self, name: str) -> bytes:
        path = self.path / name
        if not path.is_file():
            raise DamagedGolden(f"{name} is missing")
        data = path.read_bytes()
        if self.checksums and name != CHECKSUMS:
            if name not in self.checksums:
                raise DamagedGolden(f"{name} is not listed in {CHECKSUMS}")
            if hashlib.sha256(data).hexdigest() != self.checksums[name]:
                raise DamagedGolden(
                    f"{name} was changed: its SHA-256 is not the one in {CHECKSUMS}"
                )
        return data

    @cached_property
    def _indexed(self) -> tuple[str, ...]:
        try:
            return self._read_index()
        except DamagedGolden:  # told by `damaged_lists`
            return ()

    def _read_checksums(self) -> dict[str, str]:
        path = self.path / CHECKSUMS
        sums: dict[str, str] = {}
        if not path.exists():
            return sums
        try:
            for line in path.read_text().splitlines():
                digest, name = line.split(maxsplit=1)
                if len(bytes.fromhex(digest)) != hashlib.sha256().digest_size:
                    raise ValueError(f"{digest} is no SHA-256")
                sums[name.removeprefix("*").removeprefix("./")] = digest.lower()
        except ValueError as error:
            raise DamagedGolden(f"{CHECKSUMS} cannot be parsed: {error}") from error
        return sums

    def _read_index(self) -> tuple[str, ...]:
        path = self.path / INDEX
        if not path.exists():
            return ()
        try:
            cases = json.loads(path.read_bytes())["cases"]
            listed = tuple(f"{case['mechanism']}/{case['case']}.json" for case in cases)
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedGolden(
                f"{INDEX} cannot be parsed: {error!r}; a list 'cases' is expected, each with "
                "mechanism and case"
            ) from error
        elsewhere = [name for name in listed if name.count("/") != 1]
        if elsewhere:  # nobody would look for it there, and it would be missed by nobody
            raise DamagedGolden(
                f"{INDEX} lists {elsewhere[0]}; cases are at <mechanism>/<case>.json"
            )
        return listed


def _check_finite(header: Header, key: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity that nobody wrote down: nothing would be compared there."""
    if header.nonfinite is None or key in header.nonfinite or bool(tensor.isfinite().all()):
        return
    bad = int((~tensor.isfinite()).sum())
    raise DamagedGolden(
        f"{header.name}.safetensors: {key} is not finite in {bad} of {tensor.numel()} entries, "
        "which its header does not say"
    )


def _parse_header(said: dict[str, Any]) -> Header:
    tensors, nonfinite = said["tensors"], said.get("nonfinite_in_file")
    bounds = {
        dtype: {str(name): float(bound) for name, bound in said["bounds"][dtype].items()}
        for dtype in DTYPES
    }
    header = Header(
        mechanism=said["mechanism"],
        case=said["case"],
        num_bytes=said["bytes"],
        shapes={name: tuple(tensor["shape"]) for name, tensor in tensors.items()},
        dtypes={name: tensor["dtype"] for name, tensor in tensors.items()},
        bounds=bounds,
        hyper=dict(said.get("hyper") or {}),
        settings=dict(said.get("settings") or {}),
        nonfinite=None if nonfinite is None else frozenset(nonfinite),
        entry=str(said.get("entry") or ""),
        tags=frozenset(said.get("tags") or ()),
    )
    if not {"cot", "out"} <= header.shapes.keys():
        raise ValueError("it lists no tensors cot and out")
    if not any(name.startswith("in.") for name in header.shapes):
        raise ValueError("it lists no input, a tensor whose name begins with in.")
    for dtype in DTYPES:
        if not all(0 <= bound < math.inf for bound in bounds[dtype].values()):
            raise ValueError(f"a {dtype} bound is negative or not finite")
        unbound = set(header.results) - bounds[dtype].keys()
        if unbound:
            raise ValueError(f"it states no {dtype} bound for {', '.join(sorted(unbound))}")
    return header
