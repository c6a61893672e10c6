"""Pages agree with the code wherever that can be checked."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from bench.__main__ import COMMANDS
from bench.core.record import METHOD_VERSION, Status
from bench.measuring.config import Axes
from bench.measuring.oracle.expected import MAX_KEPT, NUM_ROWS
from bench.measuring.oracle.oracle import GRADIENT_FACTOR, TOLERANCES
from tools import docs_site

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"])
METHODOLOGY = "\n".join(p.read_text() for p in sorted((ROOT / "docs" / "methodology").glob("*.md")))
README = (ROOT / "README.md").read_text()


def broken_links(page, folder):
    """Relative targets of links and pictures that do not exist."""
    targets = re.findall(r"\]\(([^)#\s]+)", page)
    return [t for t in targets if "://" not in t and not (folder / t).exists()]


def test_links_lead_somewhere():
    found = {str(path): broken_links(path.read_text(), path.parent) for path in PAGES}
    assert {path: links for path, links in found.items() if links} == {}


def lines_of_code(page, first):
    """Lines of a page's code that begin with a word; comments and continuations are left out."""
    return re.findall(rf"^(?: {{4}})?({first} [^#\\\n]+)", page, re.MULTILINE)


def test_a_command_that_a_page_types_is_one_and_its_words_are_quoted():
    for line in (line for path in PAGES for line in lines_of_code(path.read_text(), "attnbench")):
        name, *words = shlex.split(line)[1:]
        assert name in COMMANDS or name == "--help", line
        assert all("[" not in word for word in re.sub(r"'[^']*'", "", line).split()), line
        keys = [word.partition("=")[0] for word in words if "=" in word and word[0] != "-"]
        known = sweep_keys() if name in ("sweep", "smoke") else None
        assert known is None or {key.partition(".")[0] for key in keys} <= known, line


def sweep_keys():
    root = yaml.safe_load((ROOT / "conf" / "sweep.yaml").read_text())
    groups = {group for one in root["defaults"] if isinstance(one, dict) for group in one}
    published = yaml.safe_load((ROOT / "conf" / "publish" / "default.yaml").read_text())
    return {*root, *groups, *published}


@pytest.mark.slow
def test_the_workflow_for_other_repositories_runs_commands_that_exist(tmp_path):
    page = (ROOT / "docs" / "methodology" / "gate.md").read_text()
    (block,) = re.findall(r"```yaml title.*?\n(.*?)```", page, re.DOTALL)
    workflow = yaml.safe_load(block)
    steps = [step["run"] for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    lines = [line for line in steps if line.startswith("attnbench ")]
    environment = os.environ | workflow["env"] | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, "-m", "bench", "new", "my_attention"],
        cwd=tmp_path,
        check=True,
        env=environment,
    )
    for line in lines:
        dry = "--cfg job" if "regress" in line else "dry_run=true"
        words = line.replace("attnbench", f"{sys.executable} -m bench", 1)
        said = subprocess.run(
            ["bash", "-c", f"{words} {dry}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
    assert len(lines) == 3


@pytest.mark.slow
def test_the_commands_of_the_page_on_wandb_run_offline(tmp_path):
    pytest.importorskip("wandb_workspaces")
    pytest.importorskip("trackio")
    page = (ROOT / "docs" / "comparing-runs-in-wandb.md").read_text()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for line in lines_of_code(page, "attnbench"):
        short = "charts=false measure.budget_s=0.01 measure.min_rounds=2" * (" sweep " in line)
        words = [sys.executable, "-m", "bench", *shlex.split(line)[1:], *short.split()]
        said = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        # Two sweeps that are this short may differ.
        assert said.returncode in ((0, 1) if " regress " in line else (0,)), said.stderr
    made = {path.name for path in (tmp_path / "december" / "wandb").iterdir()}
    assert {"workspace.json", "report.json"} <= made


@pytest.mark.parametrize("name", ["README.md", "docs/start.md"])
def test_python_of_the_first_pages_runs_on_q_k_v(name):
    page = (ROOT / name).read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    indented = re.findall(r"(?:^ {4}(?:from|import|out|core).*\n)+", page, re.MULTILINE)
    assert blocks or indented
    q, k, v = torch.randn(3, 1, 2, 16, 8)
    for block in (*blocks, *map(textwrap.dedent, indented)):
        exec(block, {"q": q, "k": k, "v": v})


def test_each_page_has_a_place_in_the_navigation():
    """Pages lie in docs/ or in a folder that docs/.nav.yml takes whole."""
    navigation = (ROOT / "docs" / ".nav.yml").read_text()
    folders = {path.parent for path in (ROOT / "docs").rglob("*.md")} - {ROOT / "docs"}
    for folder in folders:
        if folder.parent == ROOT / "docs":
            assert f"{folder.name}/*" in navigation, folder


def test_the_site_has_a_page_for_each_task():
    pages = docs_site.task_pages()
    assert pages.keys() == {file.stem for file in (ROOT / "conf" / "task").glob("*.yaml")}
    as_deep = ROOT / "docs" / "results"  # their own folder is made with the site
    assert {target for page in pages.values() for target in broken_links(page, as_deep)} == set()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("", "the record"),
        ("https://host/x", "[the record](https://host/x/bench/core/record.py#L1)"),
    ],
)
def test_the_site_has_no_links_that_lead_out_of_its_folder(source, shown):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="api/attentions.md"))
    files = SimpleNamespace(get_file_from_path=lambda path: path == "start.md")
    links = "[Start](../start.md#a), [the record](../../bench/core/record.py#L1)"
    words = f"<!-- numbers\nx | y\n-->\n{links}"
    got = docs_site.on_page_markdown(words, page, {"extra": {"source": source}}, files)
    assert got == f"[Start](../start.md#a), {shown}"


def test_methodology_states_the_tolerance_of_every_dtype():
    rows = re.findall(r"^\| (\w+) \| (\S+) \| (\S+) \|$", METHODOLOGY, re.MULTILINE)
    stated = {dtype: (float(largest), float(rms)) for dtype, largest, rms in rows if "e-" in rms}
    assert stated == {name: (t.max_error, t.rms_error) for name, t in TOLERANCES.items()}
    sentences = " ".join(METHODOLOGY.split())
    assert f"Gradients may be {GRADIENT_FACTOR:g} times as far off" in sentences
    assert f"{NUM_ROWS} query rows" in sentences and f"{MAX_KEPT} tokens" in sentences


def test_methodology_explains_every_status():
    explained = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", METHODOLOGY, re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(explained))) >= {str(status) for status in Status}


def test_the_page_on_sweeps_names_every_axis_and_every_study():
    page = (ROOT / "docs" / "running-sweeps.md").read_text()
    axes = re.search(r"An axis takes one value or a list:(.*?)\. ", page, re.DOTALL)
    assert axes
    named = set(re.findall(r"`(\w+)`", axes[1]))
    assert named == Axes.model_fields.keys() | {"attention", "task"}
    studies = re.search(r"The ready studies are (.*?)\. ", page, re.DOTALL)
    assert studies
    existing = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert set(re.findall(r"`(\w+)`", studies[1])) == existing


def test_the_changelog_knows_the_method_that_is_in_use():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert "### Measurement" in changelog
    assert f"Method version {METHOD_VERSION}" in changelog
