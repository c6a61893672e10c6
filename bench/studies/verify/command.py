"""The command: run the checks that are asked for, say what failed, and store the results."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from attentions.testing.authors.cases import ABSENT, PACKAGED, Goldens, golden_runs
from attentions.testing.authors.files import GoldenFolder
from attentions.testing.authors.proof import ProofStatus
from attentions.testing.flops import FlopProof, FlopVerdict
from attentions.testing.forms import Untestable, forms_of
from attentions.testing.suite import CLAIMS, GOLDEN
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import check_writable
from bench.core.cli.foreign import foreign_code, told
from bench.core.format import join_names, quantity
from bench.core.progress import Part
from bench.core.proofs import Badge, BadgeStatus, append_badges, badges_folder
from bench.measuring.machine.environment import mechanism_syntax
from bench.measuring.plan import resolve_devices
from bench.publishing.document import Document, Text
from bench.studies import numerics
from bench.studies.session import Session, run_study
from bench.studies.verify import badges as claims
from bench.studies.verify import flop_table, keep, rows
from bench.studies.verify.settings import Verify
from bench.studies.verify.tester import FAILED, SKIPPED, Result, Tester


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_study("verify", Verify, study, argv, writes=("out",), out_is_file=True)


def study(asked: Verify, session: Session) -> int:
    """Run the chosen kind of proof; returns the exit code."""
    if asked.keep:
        return run_keep(asked, session)
    if asked.flops:
        return run_flops(asked, session)
    if asked.conformance:
        return run_conformance(asked, session)
    return run_numerics(asked, session) if asked.numerics else run_outputs(asked, session)


Ending = Callable[[str, tuple[Result, ...]], str]
"""Stores the results of a mechanism; returns its outcome in words."""


def tested(
    asked: Verify, session: Session, names: Sequence[str], claims: Sequence[str], end: Ending
) -> list[Result]:
    """Test claims of mechanisms by pytest, with progress, and say what failed.

    Every mechanism is stored before the next is tested, so that Ctrl-C loses none.
    """
    options = [f"--attention-claims={','.join(claims)}"]
    options += [word for plugin in asked.plugins for word in ("-p", plugin)]
    if GOLDEN in claims:
        (device,) = resolve_devices((asked.device,))
        options += [f"--attention-goldens={goldens(asked).path}", f"--attention-device={device}"]
    found: list[Result] = []
    with (
        Tester(names, options, asked.limit_s) as tester,
        session.each([Part(name=name) for name in names], "mechanism", goes_on=asked.keep) as todo,
    ):
        for part in todo:
            results = tester.results(part.name)
            found += results
            part.outcome = end(part.name, results)
    for line in findings(found, asked.plugins):
        session.say(line)
    return found


def findings(results: Sequence[Result], plugins: Sequence[str] = ()) -> list[str]:
    """A line per reason for which checks failed, then per reason for which some were skipped."""
    lines = []
    for outcome, said in ((FAILED, "FAILED"), (SKIPPED, "not tested:")):
        by_reason: dict[tuple[str, str], list[Result]] = {}
        for result in results:
            if result.outcome == outcome and (outcome == FAILED or result.earns):
                name = result.mechanism if outcome == FAILED else ""
                by_reason.setdefault((name, result.words), []).append(result)
        for (name, words), own in by_reason.items():
            of = own[0].id if name else join_names(list(dict.fromkeys(r.mechanism for r in own)))
            more = "" if len(own) == 1 else f" and {len(own) - 1} more" * bool(name)
            count = "" if name else f"{quantity(len(own), 'check')} of "
            lines.append(f"{said} {count}{of}{more}: {words}")
    failed = list(dict.fromkeys(r.mechanism for r in results if r.outcome == FAILED))
    if failed:
        words = "".join(f" -p {plugin}" for plugin in plugins)
        lines.append(
            "With tracebacks: python -m pytest --pyargs attentions.testing "
            f"--attention {','.join(failed)}{words}"
        )
    return lines


def goldens(asked: Verify) -> GoldenFolder:
    """The folder of golden files.

    Raises:
        ConfigError: it holds none, or none is named and a wheel brings none.
    """
    if asked.golden is None and not PACKAGED.is_dir():
        raise ConfigError(f"There is nothing to compare with: {ABSENT}, as golden=DIR.")
    try:
        return GoldenFolder(asked.golden or PACKAGED)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def run_outputs(asked: Verify, session: Session) -> int:
    """Outputs and gradients against golden files."""
    folder = goldens(asked)
    names = [name for name in asked.mechanisms if any(golden_runs(name, Goldens(folder.path)))]

    def end(_: str, results: tuple[Result, ...]) -> str:
        return rows.summary([*rows.proofs_of(results)])

    results = tested(asked, session, names, [GOLDEN], end)
    proofs = rows.all_proofs(results, None if asked.attention else folder)
    said = rows.remarks(proofs)
    if unproven := set(asked.attention) - {proof.mechanism for proof in proofs}:
        said.append(f"No golden file is about: {', '.join(sorted(unproven))}")
    rows.write_rows(asked.out, proofs)
    gaps = rows.unlisted(proofs, rows.listed_gaps(folder.path)) if asked.strict else []
    said += [
        f"NOT COVERED {gap}, and {rows.NOT_COVERED} does not list it with this reason"
        for gap in gaps
    ]
    for line in (*said, f"{rows.summary(proofs)}; rows in {asked.out}"):
        session.say(line)
    return int(bool(gaps) or any(proof.status is ProofStatus.FAILED for proof in proofs))


def run_flops(asked: Verify, session: Session) -> int:
    """``flops=true``: FLOP formulas against counters, and against products of the slow forms."""
    out = asked.out.with_stem(f"{asked.out.stem}-flops")

    def end(_: str, results: tuple[Result, ...]) -> str:
        return flop_table.summary([*flop_table.proofs_of(results)])

    proofs: list[FlopProof] = [
        *flop_table.proofs_of(tested(asked, session, asked.mechanisms, ["flops"], end))
    ]
    if session.is_stopped:
        return 0
    rows.write_rows(out, proofs)
    caption = Text(["FLOPs of one call of this shape, two per multiply-add."])
    session.show(Document("", [flop_table.table(proofs), caption]))
    session.say(f"{flop_table.summary(proofs)}; rows in {out}")
    return int(any(proof.status is FlopVerdict.FAILED for proof in proofs))


def run_conformance(asked: Verify, session: Session) -> int:
    """``conformance=true``: what mechanisms claim, kept as badges."""
    out, run_name = asked.out.parent, session.sweep_id.replace("/", "-")
    check_writable(badges_folder(out))

    def end(name: str, results: tuple[Result, ...]) -> str:
        own = claims.badges_of(results, mechanism_syntax(name))
        append_badges(out, run_name, name, own)
        everything.extend(own)
        return claims.summary(own)

    everything: list[Badge] = []
    tested(asked, session, asked.mechanisms, [*CLAIMS], end)
    if everything:
        file = badges_folder(out) / f"{run_name}.jsonl"
        session.say(f"{claims.summary(everything)}; badges in {file}")
    return int(any(badge.status is BadgeStatus.FAILED for badge in everything))


def run_keep(asked: Verify, session: Session) -> int:
    """``keep=true``: prove what changed since ``results/proofs.jsonl``, and keep it there.

    Returns:
        1 if a mechanism failed, whose line then stays as it was; else 0.

    Raises:
        ConfigError: the stored file cannot be read or written.
    """
    stored = keep.STORED
    changed = keep.changed(stored, asked.mechanisms, is_forced=asked.force)

    def end(name: str, results: tuple[Result, ...]) -> str:
        proofs = [*rows.proofs_of(results)]
        badges = claims.badges_of(results, mechanism_syntax(name))
        outcome = f"{rows.summary(proofs)}; {claims.summary(badges)}"
        if any(result.outcome == FAILED for result in results):
            return f"FAILED, not kept; {outcome}"
        keep.keep(stored, name, proofs, badges)
        return outcome

    results = tested(asked, session, changed, [GOLDEN, *CLAIMS], end)
    unchanged = quantity(len(asked.mechanisms) - len(changed), "mechanism")
    session.say(f"{unchanged} unchanged since {stored}; force=true proves these as well")
    return int(any(result.outcome == FAILED for result in results))


def run_numerics(asked: Verify, session: Session) -> int:
    """``numerics=true``: errors of narrow dtypes, kept as findings; and the page of all of them.

    Returns:
        1 if an output or a gradient of ours is not finite where finite is promised, or if a
        mechanism raises; else 0.
    """
    torch.set_num_threads(1)  # what is called is so small that threads would only wait
    out = asked.out.parent
    page, folder = numerics.path_of(out), numerics.folder_of(out)
    for place in (folder, page.parent):
        check_writable(place)
    broken: list[str] = []
    raising: list[str] = []

    def measure(name: str) -> str:
        try:
            with foreign_code():
                found = [numerics.findings_of(form) for form in forms_of(name)]
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
    pages = ", ".join(map(str, numerics.write_page(out)))
    session.say(f"{len(broken)} not finite; findings in {folder}, page in {pages}")
    return int(bool(broken or raising))
