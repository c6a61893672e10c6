"""`python -m bench.verify`: prove mechanisms against their authors' numbers, or what they claim.

The command alone: what it was asked for, which cases it takes, what it shows and writes. `goldens`
reads the files, `golden_map` knows the names, `proof` compares; ``flops=true`` is for `flops`,
``conformance=true`` for `conformance`, ``numerics=true`` for `numerics`.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import bench
from attentions import attention_class, attention_names
from bench.app import run_app
from bench.badges import Badge, BadgeStatus, append_badges, badges_folder
from bench.config import one, read_attention_entries, read_names
from bench.conformance import table as badge_table
from bench.conformance.check import Untestable
from bench.conformance.forms import forms_of
from bench.conformance.run import badges_of
from bench.environment import mechanism_source
from bench.errors import ConfigError, did_you_mean
from bench.flops import table as flop_table
from bench.flops.proof import FlopProof, FlopVerdict, prove_flops
from bench.golden_map import form_of, mechanisms_of
from bench.goldens import DamagedGolden, GoldenFolder
from bench.measure.clock import now_s, utc_stamp
from bench.numerics import page as numerics_page
from bench.numerics import store as numerics
from bench.numerics.measure import findings_of
from bench.numerics.official import PLACES, beside_theirs
from bench.progress import format_duration
from bench.proof import Proof, Verdict, prove
from bench.publish.files import write_whole

PUBLIC_GOLDENS = Path("tests/golden")
_STYLES = {Verdict.PASSED: "green", Verdict.FAILED: "bold red", Verdict.NOT_COVERED: "dim"}
_WIDTH_WITHOUT_TERMINAL = 120
_WIDTH_OF_FLOPS = 190
_WIDTH_OF_BADGES = 160
_OTHER_PROOFS = ("flops", "conformance", "numerics")
"""What is proven instead of outputs, each by a key of its own."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Everything that `bench.verify` was asked for.

    Attributes:
        golden: the folder of golden files.
        attention: registered names to prove; empty for all.
        out: the JSON file that gets the rows.
        plugins: modules to import before names are looked up.
        flops: whether to prove FLOP formulas, and not outputs.
        conformance: whether to test what is claimed, and not outputs.
        numerics: whether to measure errors of narrow dtypes, and not outputs.
        run: names the file that badges go to.
    """

    golden: Path
    attention: tuple[str, ...]
    out: Path
    plugins: tuple[str, ...] = ()
    flops: bool = False
    conformance: bool = False
    numerics: bool = False
    run: str = "verify"


def read_verify_config(config: dict[str, Any]) -> VerifyConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    given = config.get("golden")
    entries = read_attention_entries(config.get("attention"))
    others = {key: one({key: False} | config, key, bool) for key in _OTHER_PROOFS}
    wanted = [f"{key}=true" for key, is_wanted in others.items() if is_wanted]
    if len(wanted) > 1:
        raise ConfigError(f"{' and '.join(wanted)} are commands of their own: give one of them.")
    if given is None:
        golden = PUBLIC_GOLDENS if wanted else _public_goldens()
    else:
        golden = Path(one(config, "golden", str))
    return VerifyConfig(
        golden=golden,
        attention=tuple(dict.fromkeys(entry.mechanism for entry in entries)),
        out=Path(one(config, "out", str)),
        plugins=read_names(config, "plugins"),
        **others,
        run=str(config.get("sweep_id") or utc_stamp()).replace("/", "-"),
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


def run_conformance(config: VerifyConfig, console: Console) -> int:
    """Test what mechanisms claim, show, keep badges; returns the exit code.

    A mechanism's badges are on the disk before the next one is tested, so Ctrl-C loses none.
    """
    out = config.out.parent
    check_writable(badges_folder(out) / config.run)
    check_names(config)
    torch.set_num_threads(1)
    names = config.attention or attention_names()
    tested: dict[str, tuple[Badge, ...]] = {}

    def test(name: str) -> str:
        badges = badges_of(name, mechanism_source(name, config.plugins))
        append_badges(out, config.run, name, badges)
        tested[name] = badges
        return badge_table.summary(badges)

    try:
        _one_by_one(names, test, console)
    finally:
        _show_badges(tested, badges_folder(out) / f"{config.run}.jsonl", console)
    failed = any(b.status is BadgeStatus.FAILED for badges in tested.values() for b in badges)
    return int(failed)


def _one_by_one(names: Sequence[str], work: Callable[[str], str], console: Console) -> None:
    """Do the work for each name, with a line for how it ended and the time left."""
    started = now_s()
    with console.status("") as status:
        for number, name in enumerate(names, start=1):
            left = _left(started, number - 1, len(names))
            status.update(f"{name}, {number} of {len(names)}, {left} left")
            ending = work(name)
            left = _left(started, number, len(names))
            line = f"[{number}/{len(names)}] {name}: {ending} ({left} left)"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _left(started: float, num_done: int, num_all: int) -> str:
    if not num_done:
        return "?"
    return format_duration((now_s() - started) / num_done * (num_all - num_done))


def _show_badges(tested: dict[str, tuple[Badge, ...]], path: Path, console: Console) -> None:
    if not tested:
        return
    console.print(badge_table.table(tested))
    for line in badge_table.reasons(tested):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    everything = [badge for badges in tested.values() for badge in badges]
    line = f"{badge_table.summary(everything)}; badges in {path}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def run_numerics(config: VerifyConfig, console: Console) -> int:
    """Measure narrow dtypes, keep what was seen, write the page from all that is kept.

    Returns:
        1 if an output or a gradient is not finite on an input that no dtype overflows, else 0.
    """
    out = config.out.parent
    page = numerics_page.path_of(out)
    check_writable(numerics.folder_of(out) / "all")
    check_writable(page)
    check_names(config)
    torch.set_num_threads(1)
    broken: list[str] = []

    def keep(name: str, lines: Sequence[Any]) -> None:
        write_whole(numerics.file_of(out, name), numerics.text_of(lines))

    def measure(name: str) -> str:
        if name == numerics.OFFICIAL:
            keep(name, [beside_theirs(place) for place in PLACES])
            return f"{len(PLACES)} places"
        try:
            source = mechanism_source(name, config.plugins)
            found = [findings_of(form, source) for form in forms_of(name)]
        except Untestable as why:
            return f"not measured: {why}"
        keep(name, found)
        wrong = [line for each in found for line in each.failures]
        broken.extend(wrong)
        return "; ".join(wrong) or "finite everywhere"

    _one_by_one((*(config.attention or attention_names()), numerics.OFFICIAL), measure, console)
    write_whole(page, numerics_page.page_of(numerics.read_findings(out)))
    line = f"{len(broken)} not finite; findings in {numerics.folder_of(out)}, page in {page}"
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(bool(broken))


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
    if config.conformance:
        return run_conformance(config, _console(_WIDTH_OF_BADGES))
    if config.numerics:
        return run_numerics(config, _console(_WIDTH_WITHOUT_TERMINAL))
    return run(config, _console(_WIDTH_WITHOUT_TERMINAL))


if __name__ == "__main__":
    sys.exit(main())
