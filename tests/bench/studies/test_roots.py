"""A model of settings in place of a YAML: the same configuration from Hydra, and the help."""

from pathlib import Path
from typing import Annotated, Any, Literal

from bench.core.cli.command import run_app
from bench.core.settings import Field, Folder, Interval, Many, Rows, Settings, rows
from bench.studies.roots import root_of


class Inner(Settings):
    """Nothing that is shown."""

    timeout_s: float = 60.0
    """Longest silence."""


class Example(Settings):
    """Do nothing with each mechanism,
    and say so.
    """

    attention: Rows = rows("softmax", "linear")
    seed: Many[Annotated[int, Interval(ge=0)]] = (0,)
    """Settings of all draws."""
    mode: Literal["idle", "busy"] = "idle"
    """How."""
    run: Inner = Inner()
    """Workers."""
    canvas: dict[str, Any] = Field(default={"size": 24, "names": ["a"]})
    out: Folder = Path("results/example")
    docs: Folder = Path("${out}")


def run(capsys, *words):
    seen: list[dict[str, Any]] = []
    code = run_app("example", lambda c: seen.append(c) or 0, [*words], root=root_of(Example))
    return code, seen, "".join(capsys.readouterr())


def test_hydra_composes_the_defaults_the_rows_and_what_was_typed(capsys):
    code, (composed,), _ = run(capsys, "attention=[nala]", "run.timeout_s=1", "canvas.size=8")
    asked = Example.read(composed)
    assert code == 0 and [entry.label for entry in asked.attention] == ["nala"]
    assert (asked.run.timeout_s, asked.seed) == (1.0, (0,))
    assert asked.canvas == {"size": 8, "names": ["a"]}
    assert asked.docs == asked.out == Path("results/example")
    _, (composed,), _ = run(capsys)
    assert list(composed["attention"]) == ["softmax", "linear"]


def test_a_multirun_has_its_jobs_and_a_folder_below_out(capsys, tmp_path):
    code, seen, _ = run(capsys, "-m", "seed=1,2", f"out={tmp_path}")
    assert code == 0 and [composed["seed"] for composed in seen] == [1, 2]
    assert [folder.name for folder in (tmp_path / "hydra").glob("*/*/")] == ["0", "1"]


def test_a_key_that_is_not_there_is_refused_with_the_nearest(capsys):
    code, _, said = run(capsys, "run.timeout=1")
    assert code == 2 and "run.timeout is not a key of example. Did you mean run.timeout_s" in said
    code, _, said = run(capsys, "+sed=1")
    assert code == 2 and "Did you mean seed" in said


def test_help_has_every_key_with_its_default_its_meaning_and_all_choices(capsys):
    code, _, said = run(capsys, "--help")
    lines = said.splitlines()
    assert code == 0
    assert "Do nothing with each mechanism, and say so." in lines
    assert "  seed: 0                 # Settings of all draws." in lines
    assert "  mode: idle              # How. One of: idle, busy." in lines
    assert "    timeout_s: 60.0       # Longest silence." in lines
    assert "    names: [a]" in lines and "  docs: ${out}" in lines
    assert "; by default [softmax, linear]" in " ".join(said.split())
