"""NaLaFormer's claim about memory: how much less NaLa takes, and than which baseline."""

from __future__ import annotations

from dataclasses import replace

from bench.measuring.costs.estimate import peak_bytes_of
from bench.studies.catalogue.costs import default_cell
from bench.studies.reproduce.claims.registry import Lab, register_claim
from bench.studies.reproduce.claims.samples import holds_where
from bench.studies.reproduce.findings import Finding, FindingRow
from bench.studies.reproduce.runs import entry_of


@register_claim("nalaformer-memory-at-70k")
def memory_at_70k(
    lab: Lab, *, of: str, baselines: list[str], num_tokens: int, claimed: float
) -> Finding:
    """Compare the peak memory of a forward call, by a dry run on meta tensors: nothing is computed.

    Args:
        lab: shows progress.
        of: the entry that the sentence is about.
        baselines: entries that it may be compared with.
        num_tokens: of one sequence.
        claimed: the published change, as a share, such as -0.923.
    """
    own = _peak(of, num_tokens)
    rows = [FindingRow(name=f"{of}, GiB at {num_tokens:,} tokens", value=own / 2**30)]
    holds: list[str] = []
    fails: list[str] = []
    for name in lab.steps(baselines, "baseline"):
        change = own / _peak(name, num_tokens) - 1
        rows.append(FindingRow(name=f"change against {name}, %", value=100 * change))
        (holds if change <= claimed else fails).append(f"{name} ({100 * change:+.1f} %)")
    return Finding(
        verdict=holds_where(holds, fails),
        words=(
            f"the baseline is {' or '.join(holds) or 'none of these'}; not against "
            f"{', '.join(fails) or 'any'}. The abstract names none"
        ),
        rows=tuple(rows),
        unit="by a dry run: 1 sequence, 8 heads of 64, float32",
    )


def _peak(entry: str, num_tokens: int) -> int:
    settings = entry_of("attention", entry)
    cell = default_cell(settings.pop("mechanism"), num_tokens)
    found = peak_bytes_of(replace(cell, hyperparameters=cell.hyperparameters | settings))
    assert found, f"{entry} does not run on tensors without values"
    return found
