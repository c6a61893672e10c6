"""The command: one kind of proof; those of outputs, against golden files, are in `outputs`."""

from __future__ import annotations

import torch

from attentions import attention_class
from bench.core.cli.files import check_writable, write_whole
from bench.core.cli.foreign import foreign_code, told
from bench.core.proofs import Badge, BadgeStatus, append_badges, badges_folder
from bench.measuring.costs.proof import FlopProof, FlopVerdict, prove_flops
from bench.measuring.machine.environment import mechanism_syntax
from bench.publishing.document import Document, Text
from bench.studies.conformance import table as badge_table
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.forms import forms_of
from bench.studies.conformance.run import badges_of
from bench.studies.numerics import page as numerics
from bench.studies.numerics.measure import findings_of
from bench.studies.session import Session, run_study
from bench.studies.verify import flop_table
from bench.studies.verify.keep import run_keep
from bench.studies.verify.outputs import run, tell, write_rows
from bench.studies.verify.settings import Verify


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_study("verify", Verify, study, argv, writes=("out",), out_is_file=True)


def study(asked: Verify, session: Session) -> int:
    """Run the chosen kind of proof; returns the exit code."""
    torch.set_num_threads(1)  # what is called is so small that threads would only wait
    if asked.keep:
        return run_keep(asked, session)
    if asked.flops:
        return run_flops(asked, session)
    if asked.conformance:
        return run_conformance(asked, session)
    return run_numerics(asked, session) if asked.numerics else run(asked, session)


def run_flops(asked: Verify, session: Session) -> int:
    """``flops=true``: FLOP formulas against counters, and against products of the slow forms."""
    out = asked.out.with_stem(f"{asked.out.stem}-flops")
    proofs: list[FlopProof] = []

    def prove(name: str) -> str:
        found = list(prove_flops(attention_class(name)))
        proofs.extend(found)
        return flop_table.summary(found)

    session.one_by_one(asked.mechanisms, "mechanism", prove)
    if session.is_stopped:
        return 0
    write_rows(out, proofs)
    caption = "FLOPs of one call of this shape, two per multiply-add."
    reasons = Text([caption, *flop_table.reasons(proofs)])
    session.show(Document("", [flop_table.table(proofs), reasons]))
    session.say(f"{flop_table.summary(proofs)}; rows in {out}")
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))


def run_conformance(asked: Verify, session: Session) -> int:
    """``conformance=true``: what mechanisms claim, kept as badges.

    A mechanism's badges are on the disk before the next one is tested, so Ctrl-C loses none.
    """
    out, run_name = asked.out.parent, session.sweep_id.replace("/", "-")
    check_writable(badges_folder(out))
    tested: dict[str, tuple[Badge, ...]] = {}

    def test(name: str) -> str:
        badges = badges_of(name, mechanism_syntax(name))
        append_badges(out, run_name, name, badges)
        tested[name] = badges
        return badge_table.summary(badges)

    session.one_by_one(asked.mechanisms, "mechanism", test)
    everything = [badge for badges in tested.values() for badge in badges]
    if tested:
        file = badges_folder(out) / f"{run_name}.jsonl"
        summary = f"{badge_table.summary(everything)}; badges in {file}"
        tell(session, badge_table.table(tested), badge_table.reasons(tested), summary)
    return int(any(badge.status is BadgeStatus.FAILED for badge in everything))


def run_numerics(asked: Verify, session: Session) -> int:
    """``numerics=true``: errors of narrow dtypes, kept as findings; and the page of all of them.

    Returns:
        1 if an output or a gradient of ours is not finite where finite is promised, or if a
        mechanism raises; else 0.
    """
    out = asked.out.parent
    page, folder = numerics.path_of(out), numerics.folder_of(out)
    for place in (folder, page.parent):
        check_writable(place)
    broken: list[str] = []
    raising: list[str] = []

    def measure(name: str) -> str:
        try:
            with foreign_code():
                found = [findings_of(form) for form in forms_of(name)]
        except Untestable as why:
            return f"not measured: {why}"
        except Exception as error:  # a plugin may raise anything; others are still measured
            raising.append(name)
            return f"FAILED: {told(error)}"
        numerics.lines_of(out, name).write(found)
        wrong = [line for each in found for line in each.failures]
        broken.extend(wrong)
        return "; ".join(wrong) or "measured"

    session.one_by_one(asked.mechanisms, "mechanism", measure)
    if session.is_stopped:
        return 0
    if raising:
        session.say(f"FAILED, so without findings of this run: {', '.join(raising)}")
    if len(raising) == len(asked.mechanisms):
        return 1
    write_whole(page, numerics.page_of(numerics.read_findings(out)))
    session.say(f"{len(broken)} not finite; findings in {folder}, page in {page}")
    return int(bool(broken or raising))
