import json
from dataclasses import replace

import pytest

from attentions.catalogue import catalogue
from bench.core.proofs import (
    COMMAND,
    Badge,
    BadgeStatus,
    Proofs,
    append_badges,
    line_of,
    read_proofs,
    stored_proofs,
    with_verified,
)
from bench.core.sources import hash_syntax
from bench.publishing.metrics.marks import marks
from tests import records as made

LINEAR = next(entry for entry in catalogue() if entry.name == "linear")
SOURCE = hash_syntax(f"attentions.{LINEAR.module.replace('/', '.')}")
BADGE = Badge(
    claim="causal",
    status=BadgeStatus.PASSED,
    num_checks=3,
    source=SOURCE,
    tested_at="2026-11-29T12:00:00Z",
    torch="2.13",
)


def stored(folder, badge=BADGE):
    path = folder / "proofs.jsonl"
    path.write_text(line_of("linear", {"causal": badge}, (3, 4)) + "\n")
    return path


def test_a_fresh_clone_shows_what_was_stored_and_says_so(tmp_path):
    proofs = read_proofs(tmp_path / "results", stored(tmp_path))["linear"]
    assert list(proofs.words(LINEAR.module)) == [
        "matches the authors' code in 3 of 4 recorded cases",
        "1 of 1 claims hold",
        "stored with the code: 2026-11-29, torch 2.13",
    ]
    assert proofs.badges["causal"].num_checks == 3


def test_proofs_of_an_earlier_source_are_said_to_be_that(tmp_path):
    path = stored(tmp_path, replace(BADGE, source="before"))
    *_, last = stored_proofs(path)["linear"].words(LINEAR.module)
    assert last.startswith("of an earlier state of its source")


def test_own_proofs_come_before_stored_ones(tmp_path):
    failed = replace(BADGE, status=BadgeStatus.FAILED)
    append_badges(tmp_path, "run", "linear", [failed])
    own = read_proofs(tmp_path, stored(tmp_path))["linear"]
    assert (own.claims, own.goldens, own.stored) == ((0, 1), (3, 4), "")  # of the same source
    other = read_proofs(tmp_path, stored(tmp_path, replace(BADGE, source="before")))["linear"]
    assert other.goldens is None


def test_golden_cases_of_an_earlier_source_are_said_to_be_that(tmp_path):
    row = {"mechanism": "linear", "status": "passed", "source": "before"}
    uncounted = [row | {"status": "not_covered"}, row | {"mechanism": None}]
    (tmp_path / "verify.json").write_text(json.dumps([row, *uncounted]))
    proofs = read_proofs(tmp_path, stored(tmp_path))["linear"]
    assert (proofs.goldens, proofs.is_stale(LINEAR.module)) == ((1, 1), False)
    *_, last = proofs.words(LINEAR.module)
    assert last.startswith("authors' numbers: of an earlier state of its source")
    (tmp_path / "verify.json").write_text(json.dumps([row | {"source": SOURCE}]))
    *_, last = read_proofs(tmp_path, stored(tmp_path))["linear"].words(LINEAR.module)
    assert last.startswith("stored with the code")


def test_nothing_is_claimed_where_nothing_was_run(tmp_path):
    assert stored_proofs(tmp_path / "none") == {}
    [words] = Proofs().words(LINEAR.module)
    assert words.startswith("not tested")
    badges = {status: replace(BADGE, status=status) for status in BadgeStatus}
    assert Proofs(badges=badges).claims == (1, 2), "what is not claimed or skipped is not tested"


def test_every_mechanism_has_proofs_in_git_and_they_are_of_these_sources():
    found = stored_proofs()
    assert found.keys() == {entry.name for entry in catalogue()}
    old = [e.name for e in catalogue() if found[e.name].is_stale(e.module)]
    assert not old, f"`{COMMAND}` proves them again: {', '.join(old)}"


@pytest.mark.parametrize(
    ("status", "said"),
    [(None, "claims untested"), ("passed", ""), ("failed", "claims untested")],
)
def test_a_plugin_is_marked_untested_until_its_claims_hold_here(status, said, tmp_path):
    record = made.changed(made.block_records(["softmax"])[0], is_foreign=True)
    if status:
        badge = replace(BADGE, status=BadgeStatus(status))
        append_badges(tmp_path, "run", record.cell.mechanism, [badge])
    assert "; ".join(marks(*with_verified([record], tmp_path))) == said
