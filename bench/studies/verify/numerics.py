"""``numerics=true``: errors of narrow dtypes, kept as findings, and the page made of them all."""

from __future__ import annotations

import torch

from bench.core.cli.files import check_writable, write_whole
from bench.core.cli.foreign import foreign_code, told
from bench.studies.conformance.check import Untestable
from bench.studies.conformance.forms import forms_of
from bench.studies.numerics import page as numerics_page
from bench.studies.numerics import store as numerics
from bench.studies.numerics.measure import findings_of
from bench.studies.session import Session
from bench.studies.verify.settings import Verify


def run_numerics(asked: Verify, session: Session) -> int:
    """Measure narrow dtypes, store the findings, and write the page from all stored ones.

    Returns:
        1 if an output or a gradient of ours is not finite where finite is promised, or if a
        mechanism raises; else 0.
    """
    out = asked.out.parent
    page = numerics_page.path_of(out)
    for folder in (numerics.folder_of(out), page.parent):
        check_writable(folder)
    torch.set_num_threads(1)
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
    write_whole(page, numerics_page.page_of(numerics.read_findings(out)))
    line = f"{len(broken)} not finite; findings in {numerics.folder_of(out)}, page in {page}"
    session.say(line)
    return int(bool(broken or raising))
