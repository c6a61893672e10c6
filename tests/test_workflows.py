"""The workflows of the repository, as far as they can be read without running them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from bench.gate.publish import Sides, markdown

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def steps(name: str) -> list[dict]:
    (job,) = load(ROOT / ".github" / "workflows" / name)["jobs"].values()
    return job["steps"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_says_what_it_may_do_and_ends_by_itself(path: Path) -> None:
    content = load(path)
    assert content["permissions"]["contents"] == "read"
    assert all(job["timeout-minutes"] <= 60 for job in content["jobs"].values())


def test_a_pull_request_is_compared_with_its_merge_base_by_what_anyone_can_type() -> None:
    checkout = next(
        s for s in steps("regress.yml") if s.get("uses", "").startswith("actions/checkout")
    )
    assert checkout["with"]["fetch-depth"] == 0
    assert [s["run"] for s in steps("regress.yml") if "run" in s] == ["make regress"]


def test_the_comment_is_found_again_by_how_the_table_begins() -> None:
    (script,) = (s["with"]["script"] for s in steps("regress.yml") if "script" in s.get("with", {}))
    start = markdown([], Sides(base="a", current="b")).splitlines()[0]
    assert f'startsWith("{start}")' in script
    assert "updateComment" in script and "createComment" in script
    assert '"results/regress.md"' in script


def test_the_table_is_posted_also_when_the_comparison_fails() -> None:
    (comment,) = (s for s in steps("regress.yml") if "script" in s.get("with", {}))
    assert comment["if"].startswith("always()")


def test_results_of_others_are_data_and_what_checks_them_may_write_nothing() -> None:
    content = load(ROOT / ".github" / "workflows" / "results.yml")
    assert content["permissions"] == {"contents": "read"}
    used = [s for s in steps("results.yml") if "uses" in s]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", s["uses"]) for s in used)
    code, data = (s["with"] for s in used if s["uses"].startswith("actions/checkout"))
    assert code["persist-credentials"] is data["persist-credentials"] is False
    assert "base.sha" in code["ref"] and "ref" not in data
    assert steps("results.yml")[-1]["run"] == "python -m bench.validate ../data"


def test_the_site_is_built_with_no_right_but_to_read_and_published_by_pinned_actions() -> None:
    content = load(ROOT / ".github" / "workflows" / "pages.yml")
    build, publish = content["jobs"]["build"], content["jobs"]["publish"]
    assert content["permissions"] == {"contents": "read"} and "permissions" not in build
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}
    used = [s["uses"] for job in (build, publish) for s in job["steps"] if "uses" in s]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert [s["run"] for s in build["steps"] if "run" in s] == ["make site"]
    assert "run" not in publish["steps"][0]
