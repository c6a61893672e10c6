"""Outputs and gradients against golden files: one case after the other, and the table of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text

from attentions import attention_names
from bench.core.cli.command import read_yaml
from bench.core.cli.files import write_whole
from bench.measuring.costs.proof import FlopProof
from bench.measuring.device import device_named
from bench.measuring.machine.environment import mechanism_syntax
from bench.measuring.plan import resolve_devices
from bench.studies.golden.build import is_published, published_form
from bench.studies.golden.files import DamagedGolden, GoldenFolder
from bench.studies.golden.map import Form, form_of, mechanisms_of
from bench.studies.golden.proof import Proof, ProofStatus, prove
from bench.studies.session import Session
from bench.studies.verify.settings import Verify

NOT_COVERED = "not_covered.yaml"
"""File beside the cases that lists those which may stay uncovered."""


_STYLES = {
    ProofStatus.PASSED: "green",
    ProofStatus.FAILED: "bold red",
    ProofStatus.NOT_COVERED: "dim",
}


def run(asked: Verify, session: Session) -> int:
    """Prove, show, write; returns the exit code."""
    proofs = list(verify(asked))
    said = reasons(proofs)
    if unproven := set(asked.attention) - {proof.mechanism for proof in proofs}:
        said.append(f"No golden file is about: {', '.join(sorted(unproven))}")
    write_rows(asked.out, [_with_source(proof) for proof in proofs])
    tell(session, table(proofs), said, f"{summary(proofs)}; rows in {asked.out}")
    gaps = unlisted(proofs, listed_gaps(asked.goldens)) if asked.strict else []
    for gap in gaps:
        session.say(f"NOT COVERED {gap}, and {NOT_COVERED} does not list it with this reason")
    return exit_code(proofs) or int(bool(gaps))


def listed_gaps(goldens: Path) -> dict[str, str]:
    """Case and mechanism -> the reason for which it may stay uncovered.

    Raises:
        ConfigError: the file cannot be read.
    """
    file = goldens / NOT_COVERED
    return read_yaml(file) if file.exists() else {}


def unlisted(proofs: Sequence[Proof], listed: Mapping[str, str]) -> list[str]:
    """Cases that are not covered, with the reason, except those listed with the same reason."""
    gaps = {
        f"{p.golden} {p.mechanism}": p.reason for p in proofs if p.status is ProofStatus.NOT_COVERED
    }
    return [f"{case}: {why}" for case, why in gaps.items() if listed.get(case) != why]


def _with_source(proof: Proof) -> Proof:
    if proof.mechanism is None:
        return proof
    return replace(proof, source=mechanism_syntax(proof.mechanism))


def verify(asked: Verify) -> Iterator[Proof]:
    """One proof per golden case, and one more of each operator of others that computes the same.

    In the order of their names.

    Raises:
        ConfigError: an unknown mechanism, a plugin that cannot be imported, no goldens, a device
            that is not there.
    """
    folder = GoldenFolder(asked.goldens)
    (device,) = resolve_devices((asked.device,))
    wanted = frozenset(asked.mechanisms if asked.attention else ())
    for name in folder.names:
        yield from _prove_case(folder, name, wanted, device_named(device).place)


def _prove_case(
    folder: GoldenFolder, name: str, wanted: frozenset[str], place: torch.device
) -> Iterator[Proof]:
    """Prove one case by each mechanism that it is about and that is wanted."""
    official, _, case = name.partition("/")
    ours = mechanisms_of(official) & set(attention_names())
    about = {form.mechanism for form in _with_others([Form(mechanism=name) for name in ours])}
    if wanted and not about & wanted:
        return
    # Until the header is read, the form is not known if the folder has several.
    mechanism = next(iter(ours)) if len(ours) == 1 else None
    try:
        header = folder.header(name)
        form = form_of(header)
        mechanism = form.mechanism if form.mechanism in attention_names() else None
        chosen = [f for f in _with_others([form]) if not wanted or f.mechanism in wanted]
        if not chosen:
            return
        golden = folder.read(header)
        on_device = {key: tensor.to(place) for key, tensor in golden.tensors.items()}
        golden = replace(golden, tensors=on_device)
    except DamagedGolden as error:
        yield Proof(
            golden=name,
            mechanism=mechanism,
            case=case,
            status=ProofStatus.FAILED,
            reason=str(error),
        )
        return
    yield from (prove(golden, each) for each in chosen)


def _with_others(forms: Sequence[Form]) -> list[Form]:
    """Each form, and after it those of the authors' operators and of a runtime's if there are."""
    rows = ((form, published_form(form), _ort_form(form)) for form in forms)
    return [form for row in rows for form in row if form is not None]


def _ort_form(form: Form) -> Form | None:
    name = f"{form.mechanism}_ort"
    is_there = form.reason is None and name in attention_names()
    return replace(form, mechanism=name) if is_there else None


def exit_code(proofs: Sequence[Proof]) -> int:
    """1 if any case failed, else 0."""
    return int(any(proof.status is ProofStatus.FAILED for proof in proofs))


def write_rows(path: Path, proofs: Sequence[Proof] | Sequence[FlopProof]) -> None:
    """Write the rows as JSON.

    Raises:
        ConfigError: `path` cannot be written.
    """
    rows = [asdict(proof) for proof in proofs]
    write_whole(path, json.dumps(rows, indent=1, allow_nan=False) + "\n")


def tell(session: Session, table: Table, reasons: Sequence[str], summary: str) -> None:
    """Print a table of proofs, lines with reasons, and the summary."""
    session.console.print(table)
    for line in (*reasons, summary):
        session.say(line)


# --- the table ------------------------------------------------------------------------------------


def summary(proofs: Sequence[Proof]) -> str:
    """Such as ``79 passed, 0 failed, 47 not covered``; the authors' operators are counted apart."""
    ours = [proof for proof in proofs if not is_published(proof.mechanism)]
    theirs = [proof for proof in proofs if is_published(proof.mechanism)]
    counts = [_counts(ours)] if ours or not theirs else []
    return "; ".join([*counts, *([f"published: {_counts(theirs)}"] if theirs else [])])


def _counts(proofs: Sequence[Proof]) -> str:
    count = {status: sum(p.status is status for p in proofs) for status in ProofStatus}
    return ", ".join(f"{count[status]} {status.replace('_', ' ')}" for status in ProofStatus)


def table(proofs: Sequence[Proof]) -> Table:
    """One row per case."""
    rows = Table("golden", "mechanism", "status", "error / bound", "dtype")
    for proof in proofs:
        status = Text(proof.status.replace("_", " "), style=_STYLES[proof.status])
        rows.add_row(proof.golden, proof.mechanism or "-", status, _numbers(proof), proof.dtype)
    return rows


def _numbers(proof: Proof) -> str:
    if proof.bound is None:
        return "-"
    error = "not finite" if proof.error is None else f"{proof.error:.2g}"
    return f"{error} / {proof.bound:.2g}"


def _named(proof: Proof) -> str:
    return f"{proof.golden}, {proof.mechanism}" if is_published(proof.mechanism) else proof.golden


def reasons(proofs: Sequence[Proof]) -> list[str]:
    """A line per failure, per pass that needs a word, and per reason for cases not covered."""
    failed = [f"FAILED {_named(p)}: {p.reason}" for p in proofs if p.status is ProofStatus.FAILED]
    remarks = [
        f"passed {_named(p)}: {p.reason}"
        for p in proofs
        if p.status is ProofStatus.PASSED and p.reason is not None
    ]
    alike = Counter(
        (proof.golden.partition("/")[0], proof.reason)
        for proof in proofs
        if proof.status is ProofStatus.NOT_COVERED
    )
    return [*failed, *remarks] + [
        f"not covered: {count} of {folder}: {reason}" for (folder, reason), count in alike.items()
    ]
