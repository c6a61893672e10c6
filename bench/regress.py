"""`python -m bench.regress`: say whether this tree is slower, or takes more, than another."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from bench.app import check_writable, read_yaml, run_app
from bench.config import SweepConfig, one, read_number, read_sweep_config
from bench.errors import ConfigError
from bench.gate import trees
from bench.gate.commits import compare_commits
from bench.gate.publish import Sides, print_rows, write_rows
from bench.gate.rows import Row, exit_code
from bench.gate.versus import Effort
from bench.jobs import Interrupt, Interrupted, Jobs
from bench.launch import WorkerServer
from bench.measure.stopping import Stopping
from bench.plan import plan


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """What `bench.regress` was asked for; see conf/regress.yaml."""

    sweep: SweepConfig
    base: str | None
    effort: Effort
    family_error: float


def read_gate_config(composed: Mapping[str, Any]) -> GateConfig:
    """Check every value.

    Raises:
        ConfigError: naming the key, what was given and what is allowed.
    """
    config = dict(composed)
    extra = config.get("task_settings") or {}
    tasks = {label: {**task, **extra} for label, task in (config.get("task") or {}).items()}
    usual = {"dry_run": False, "force": False, "require_ok": False, "measure": _MEASURE}
    base = config.get("base")
    return GateConfig(
        sweep=read_sweep_config(config | usual | {"task": tasks}),
        base=None if base is None else one(config, "base", str),
        effort=Effort(
            threshold=read_number("threshold", config.get("threshold"), low=0.0, high=1.0),
            budget_s=read_number("budget_s", config.get("budget_s"), low=0.0),
        ),
        family_error=read_number("family_error", config.get("family_error"), low=1e-6, high=0.5),
    )


_MEASURE = {name: getattr(Stopping(), name) for name in Stopping.__dataclass_fields__}


def regress(composed: dict[str, Any]) -> int:
    """Compare, print and write; 1 if there is a regression."""
    config = read_gate_config(composed)
    console = Console()
    check_writable(config.sweep.out)
    return against_commit(config, console)


def against_commit(config: GateConfig, console: Console) -> int:
    """Compare this tree with a commit."""
    here = trees.current_tree()
    commit = trees.resolve(config.base) if config.base else trees.default_base()
    cells = [p.cell for p in plan(config.sweep) if p.unsupported is None]
    if not cells:
        raise ConfigError("Nothing to compare: no cell of this plan is supported.")
    dirt = " with uncommitted changes" if here.is_dirty else ""
    sides = Sides(base=commit[:12], current=here.commit[:12] + dirt)
    rows: list[Row] = []
    run = config.sweep.run
    with (
        trees.worktree(commit) as base,
        WorkerServer(run.allocator) as server,
        Interrupt() as interrupt,
        console.status("") as status,
    ):

        def base_entry(label: str) -> dict[str, Any] | None:
            file = base.root / "conf" / "attention" / f"{label}.yaml"
            return read_yaml(file)[label] if file.exists() else None

        jobs = Jobs(server, run.timeout_s, interrupt)
        try:
            for row in compare_commits(
                cells, base, base_entry, jobs, config.effort, config.family_error, status.update
            ):
                rows.append(row)
        except Interrupted:
            console.print("Stopped; no verdict.")
            return 130
    print_rows(rows, sides, console)
    for file in write_rows(rows, sides, config.sweep.out):
        console.print(f"Wrote {file}", highlight=False, soft_wrap=True)
    return exit_code(rows)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    return run_app("regress", regress, argv)


if __name__ == "__main__":
    sys.exit(main())
