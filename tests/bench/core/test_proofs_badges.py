from bench.core.proofs import Badge, BadgeStatus, append_badges, read_badges


def badge(claim, status=BadgeStatus.PASSED, date="2026-01-01"):
    return Badge(claim=claim, status=status, source="abc", tested_at=date, torch="2.9")


def test_badges_come_back_as_they_were_written(tmp_path):
    assert read_badges(tmp_path / "nothing") == {}
    failed = Badge(
        claim="exact", status=BadgeStatus.FAILED, reason="off", num_checks=3, tested_at="2026"
    )
    append_badges(tmp_path, "run", "linear", [badge("causal"), failed])
    assert read_badges(tmp_path) == {"linear": {"causal": badge("causal"), "exact": failed}}


def test_the_newest_line_of_a_mechanism_replaces_all_of_its_badges(tmp_path):
    append_badges(tmp_path, "b", "linear", [badge("causal", date="2026-01-02"), badge("exact")])
    newest = [badge("causal", BadgeStatus.FAILED, "2026-01-03"), badge("order", date="2025-12-31")]
    append_badges(tmp_path, "a", "linear", newest)
    append_badges(tmp_path, "a", "nala", [badge("cross")])
    append_badges(tmp_path, "a", "nala", [badge("order")])  # on the same day, a line later
    read = read_badges(tmp_path)
    assert list(read) == ["linear", "nala"]
    assert read["linear"] == {"causal": newest[0], "order": newest[1]}
    assert read["nala"] == {"order": badge("order")}
