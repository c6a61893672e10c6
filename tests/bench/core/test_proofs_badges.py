import json

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.proofs import Badge, BadgeStatus, append_badges, badges_folder, read_badges


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


def test_a_line_that_a_crash_cut_short_is_passed_over(tmp_path):
    file = append_badges(tmp_path, "run", "linear", [badge("causal")])
    whole = file.read_text()
    file.write_text(whole + whole[: len(whole) // 2])
    assert list(read_badges(tmp_path)) == ["linear"]


@pytest.mark.parametrize(
    "line",
    [
        *("not json", "[]", '{"mechanism": "a"}', '{"badges": []}'),
        *(json.dumps({"mechanism": name, "badges": []}) for name in (5, ["a"], None, "a\nb")),
    ],
)
def test_a_line_that_is_not_ours_is_bad_input_with_file_and_number(tmp_path, line):
    file = append_badges(tmp_path, "run", "linear", [badge("causal")])
    file.write_text(f"{file.read_text()}{line}\n")
    with pytest.raises(ConfigError, match=r"run\.jsonl:2 is no Tested"):
        read_badges(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"claim": ["a"]}, ""),
        ({"torch": "\ud800"}, ""),
        ({"status": "splendid"}, "splendid"),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_bad_input(tmp_path, changes, words):
    file = append_badges(tmp_path, "run", "linear", [badge("causal")])
    said = json.loads(file.read_text())
    said["badges"][0] |= changes
    file.write_text(json.dumps(said) + "\n")
    with pytest.raises(ConfigError, match=rf"run\.jsonl:1 is no Tested.*{words}"):
        read_badges(tmp_path)


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path):
    badges_folder(tmp_path).write_text("a file is in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        append_badges(tmp_path, "run", "linear", [badge("causal")])


def test_a_reason_that_a_terminal_would_obey_is_escaped(tmp_path):
    one = Badge(claim="exact", status=BadgeStatus.FAILED, reason="\x1b[2J off")
    append_badges(tmp_path, "run", "linear", [one])
    assert read_badges(tmp_path)["linear"]["exact"].reason == "\\x1b[2J off"
