"""`python -m bench.verify`: prove mechanisms against their authors' numbers, and FLOP formulas.

The command alone: what it was asked for, which cases it takes, what it shows and writes. `goldens`
reads the files, `golden_map` knows the names, `proof` compares; ``flops=true`` is for `flops`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import bench
from attentions import attention_class, attention_names
from bench.app import run_app
from bench.config import one, read_attention_entries, read_names
from bench.errors import ConfigError, did_you_mean
from bench.flops import table as flop_table
from bench.flops.proof import FlopProof, FlopVerdict, prove_flops
from bench.golden_map import form_of, mechanisms_of
from bench.goldens import DamagedGolden, GoldenFolder
from bench.proof import Proof, Verdict, prove
from bench.publish.files import write_whole

PUBLIC_GOLDENS = Path("tests/golden")
_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.NOT_COVERED: "dim"}
_WIDTH_WITHOUT_TERMINAL = 120
_WIDTH_OF_FLOPS = 190


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Everything that `bench.verify` was asked for.

    Attributes:
        golden: the folder of golden files.
        attention: registered names to prove; empty for all.
        out: the JSON file that gets the rows.
        plugins: modules to import before names are looked up.
        flops: whether to prove FLOP formulas, and not outputs.
    """

    golden: Path
    attention: tuple[str, ...]
    out: Path
    plugins: tuple[str, ...] = ()
    flops: bool = False


def read_verify_config(config: dict[str, Any]) -> VerifyConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    given = config.get("golden")
    entries = read_attention_entries(config.get("attention"))
    flops = one({"flops": False} | config, "flops", bool)
    if given is None:
        golden = PUBLIC_GOLDENS if flops else _public_goldens()
    else:
        golden = Path(one(config, "golden", str))
    return VerifyConfig(
        golden=golden,
        attention=tuple(dict.fromkeys(entry.mechanism for entry in entries)),
        out=Path(one(config, "out", str)),
        plugins=read_names(config, "plugins"),
        flops=flops,
    )


def _public_goldens() -> Path:
    """Find this project's own, beside the package in a checkout, else below the current folder."""
    beside = Path(bench.__file__).resolve().parent.parent / PUBLIC_GOLDENS
    for folder in (beside, PUBLIC_GOLDENS):
        if folder.is_dir():
            return folder
    raise ConfigError(
        f"There are no golden files at {beside} or {PUBLIC_GOLDENS}: an installed package brings "
        "none. Say golden=DIR, e.g. the tests/golden of a checkout."
    )


def _published() -> dict[str, str]:
    """Checksums of this project's own goldens, if they are at hand."""
    try:
        return GoldenFolder(_public_goldens()).checksums
    except ConfigError:
        return {}


def verify(config: VerifyConfig) -> Iterator[Proof]:
    """One proof per golden case, in the order of their names; lists that are damaged come first.

    Raises:
        ConfigError: an unknown mechanism, a plugin that cannot be imported, no goldens.
    """
    check_names(config)
    folder, wanted = GoldenFolder(config.golden, _published()), frozenset(config.attention)
    for name, damage in folder.damaged_lists.items():
        yield Proof(golden=name, mechanism=None, case=name, status=Verdict.FAILED, reason=damage)
    for name in folder.names:
        proof = _prove_case(folder, name, wanted)
        if proof is not None:
            yield proof


def check_names(config: VerifyConfig) -> None:
    """Import the plug-ins and look up the names.

    Raises:
        ConfigError: an unknown mechanism, a plugin that cannot be imported.
    """
    _import_plugins(config.plugins)
    known = attention_names()
    for name in config.attention:
        if name not in known:
            raise ConfigError(f"attention={name} is not registered. {did_you_mean(name, known)}")


def _import_plugins(plugins: tuple[str, ...]) -> None:
    for plugin in plugins:
        try:
            importlib.import_module(plugin)
        except ImportError as error:
            raise ConfigError(
                f"plugins: {plugin} cannot be imported ({error}). Name a module on PYTHONPATH."
            ) from error


def _prove_case(folder: GoldenFolder, name: str, wanted: frozenset[str]) -> Proof | None:
    """Prove one case; None if it is about another mechanism than those wanted."""
    official, _, case = name.partition("/")
    about = mechanisms_of(official) & set(attention_names())
    if wanted and not about & wanted:
        return None
    # Until the header is read, a folder that several forms share says nothing about which one.
    mechanism = next(iter(about)) if len(about) == 1 else None
    try:
        header = folder.header(name)
        form = form_of(header)
        mechanism = form.mechanism if form.mechanism in attention_names() else None
        if wanted and mechanism not in wanted:
            return None
        golden = folder.read(header)
    except DamagedGolden as error:
        return Proof(
            golden=name, mechanism=mechanism, case=case, status=Verdict.FAILED, reason=str(error)
        )
    return prove(golden, form)


def exit_code(proofs: Sequence[Proof]) -> int:
    """1 if any case failed, else 0."""
    return int(any(proof.status is Verdict.FAILED for proof in proofs))


# --- showing and writing -------------------------------------------------------------------------


def summary(proofs: Sequence[Proof]) -> str:
    """Such as ``79 passed, 0 failed, 47 not covered``."""
    count = {status: sum(p.status is status for p in proofs) for status in Verdict}
    return ", ".join(f"{count[status]} {status.replace('_', ' ')}" for status in Verdict)


def table(proofs: Sequence[Proof]) -> Table:
    """One row per case."""
    rows = Table("golden", "mechanism", "status", "error / bound", "dtype")
    for proof in proofs:
        status = f"[{_STYLES[proof.status]}]{proof.status.replace('_', ' ')}"
        rows.add_row(proof.golden, proof.mechanism or "-", status, _numbers(proof), proof.dtype)
    return rows


def _numbers(proof: Proof) -> str:
    if proof.bound is None:
        return "-"
    error = "not finite" if proof.error is None else f"{proof.error:.2g}"
    return f"{error} / {proof.bound:.2g}"


def reasons(proofs: Sequence[Proof]) -> list[str]:
    """Give a line per failure, then one per reason for which cases of a folder are not covered."""
    failed = [f"FAILED {p.golden}: {p.reason}" for p in proofs if p.status is Verdict.FAILED]
    alike = Counter(
        (proof.golden.partition("/")[0], proof.reason)
        for proof in proofs
        if proof.status is Verdict.NOT_COVERED
    )
    return failed + [
        f"not covered: {count} of {folder}: {reason}" for (folder, reason), count in alike.items()
    ]


def write_rows(path: Path, proofs: Sequence[Proof] | Sequence[FlopProof]) -> None:
    """Write the rows as JSON.

    Raises:
        ConfigError: `path` cannot be written.
    """
    rows = [asdict(proof) for proof in proofs]
    write_whole(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def check_writable(path: Path) -> None:
    """Make the folder of `path`, so that what cannot be written is refused before the proofs.

    Raises:
        ConfigError: it cannot be made or written to, or `path` is a folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error.strerror) from error
    if path.is_dir():
        raise _unwritable(path, "it is a folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unwritable(path, f"no permission in {path.parent}")


def _unwritable(path: Path, why: str | None) -> ConfigError:
    return ConfigError(f"out={path} cannot be written: {why}. Name a file, e.g. out=verify.json.")


def run(config: VerifyConfig, console: Console) -> int:
    """Prove, show, write; returns the exit code."""
    check_writable(config.out)
    torch.set_num_threads(1)  # the cases are so small that threads would only wait for each other
    proofs = list(verify(config))
    console.print(table(proofs))
    for line in reasons(proofs):
        console.print(line, markup=False, highlight=False)
    unproven = set(config.attention) - {proof.mechanism for proof in proofs}
    if unproven:
        console.print(f"No golden file is about: {', '.join(sorted(unproven))}", highlight=False)
    write_rows(config.out, proofs)
    line = f"{summary(proofs)}; rows in {config.out}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return exit_code(proofs)


def run_flops(config: VerifyConfig, console: Console) -> int:
    """Prove the FLOP formulas, show, write beside the rows of outputs; returns the exit code."""
    out = config.out.with_stem(f"{config.out.stem}-flops")
    check_writable(out)
    check_names(config)
    torch.set_num_threads(1)
    proofs: list[FlopProof] = []
    with console.status("") as status:
        for name in config.attention or attention_names():
            status.update(f"counting the FLOPs of {name}")
            proofs += prove_flops(attention_class(name))
    console.print(flop_table.table(proofs))
    for line in flop_table.reasons(proofs):
        console.print(line, markup=False, highlight=False)
    write_rows(out, proofs)
    line = f"{flop_table.summary(proofs)}; rows in {out}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))


def _console(width: int) -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=width)


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_app("verify", command, argv, out_is_file=True)


def command(composed: dict[str, Any]) -> int:
    """Prove what was asked for; returns the exit code."""
    config = read_verify_config(composed)
    if config.flops:
        return run_flops(config, _console(_WIDTH_OF_FLOPS))
    return run(config, _console(_WIDTH_WITHOUT_TERMINAL))


if __name__ == "__main__":
    sys.exit(main())
