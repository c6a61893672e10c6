import re
from dataclasses import replace

import pytest
from rich.console import Console

from attentions.catalogue import catalogue
from attentions.testing.authors.proof import Proof, ProofStatus
from bench.core.cli.errors import ConfigError
from bench.core.proofs import Badge, BadgeStatus, Proofs, append_badges
from bench.core.rows import rows_of
from bench.studies.catalogue.showing import (
    Request,
    commands,
    find,
    main,
    read_request,
    show,
)
from bench.studies.verify.rows import write_rows


def page(name, badges=None, seq_len=()):
    console = Console(width=100)
    with console.capture() as captured:
        proofs = Proofs(badges=badges or {})
        show(find(name), proofs, console, Request(name=name, seq_len=seq_len))
    return captured.get()


def test_every_mechanism_has_a_page_with_all_that_it_says():
    for entry in catalogue():
        # Costs have a test of their own, and take a while to work out.
        console = Console(width=100)
        with pytest.MonkeyPatch.context() as patch, console.capture() as captured:
            patch.setattr(
                "bench.studies.catalogue.showing.cost_line", lambda name: "a line of costs"
            )
            show(entry, Proofs(), console, Request(name=entry.name))
        text = captured.get()
        assert text.startswith(f"{entry.name}  {entry.title}")
        for heading in ("Formula", "Cost", "Tested", "Hazards", "Commands"):
            assert f"\n{heading}\n" in text, entry.name
        assert all(name in text for name in entry.defaults), entry.name
        assert "``" not in text, entry.name


def test_a_formula_keeps_its_lines_and_words_are_not_taken_for_markup():
    text = page("hedgehog")
    assert "\n    phi(x) = [softmax(y); softmax(-y)]" in text


def needs_of(name, *lengths):
    """The cells of the table of lengths, the header first."""
    console = Console(width=120)
    with console.capture() as captured:
        show(find(name), Proofs(), console, Request(name=name, seq_len=lengths))
    table = captured.get().partition("estimated without measuring:\n")[2].partition("\n\n")[0]
    return [re.split(r"  +", line.strip()) for line in table.splitlines()]


def test_what_a_call_needs_is_told_at_any_length():
    assert needs_of("softmax", 1024, 2**20) == [
        [
            "seq_len",
            "FLOPs",
            "bytes moved, at least",
            "state while decoding",
            "parameters",
            "peak memory",
        ],
        ["1,024", "2.15 GFLOP", "8.00 MiB", "4.00 MiB", "0", "2.03 MiB"],
        ["1,048,576", "2,252 TFLOP", "8.00 GiB", "4.00 GiB", "0", "2.03 GiB"],
    ]


def test_a_state_that_does_not_grow_is_told_once_more_and_what_has_none_has_no_column():
    _, short, long = needs_of("linear", 64, 4096)
    assert short[3] == long[3] == "130 KiB"
    assert "state while decoding" not in needs_of("nala", 64)[0]


def test_bytes_moved_are_those_of_tensors_and_of_parameters():
    _, (_, _, moved, *_, num_parameters, _) = needs_of("linformer", 4096)
    assert moved == f"{32 + 4 * int(num_parameters.replace(',', '')) / 2**20:.1f} MiB"


def test_a_length_that_cannot_be_is_said_beside_the_others(monkeypatch):
    def odd(name, seq_len):
        raise ValueError(f"{seq_len} is odd")

    monkeypatch.setattr("bench.studies.catalogue.costs.needs", odd)
    assert "65: ValueError: 65 is odd" in page("linear", seq_len=(65,))


def test_rows_and_hyperparameters_are_shown_with_what_they_mean(tmp_path):
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "mine.yaml").write_text("mine:\n  mechanism: nala\n  rope: true\n")
    entry = replace(find("nala"), defaults={"rope": "", "tau": "0.5"})
    console = Console(width=200)
    with console.capture() as captured, pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.studies.catalogue.showing.cost_line", lambda name: "")
        show(entry, Proofs(), console, Request(name="nala", config_dir=tmp_path))
    text = captured.get()
    (rows,) = re.findall(r"^  rows    (.*)$", text, re.M)
    assert rows.split(", ") == [*rows_of("nala", tmp_path)] and "mine" in rows
    meaning = entry.description.arguments["tau"].replace("``", "")[:20]
    assert re.search(rf"^ *tau +0\.5 +{re.escape(meaning)}", text, re.M)
    assert re.search(r"^ *rope +needed ", text, re.M)
    said = entry.description
    hazards, _, differences = text.partition("\nHazards\n")[2].partition("\nDifferences\n")
    assert hazards.startswith(f"- {said.hazards[0][:20]}".replace("``", ""))
    assert differences.startswith(f"- {said.differences[0][:20]}".replace("``", ""))


def test_badges_are_told_by_how_they_ended_with_the_reasons_of_failures():
    badges = {
        "causal": Badge(claim="causal", status=BadgeStatus.PASSED),
        "masks": Badge(claim="masks", status=BadgeStatus.FAILED, reason="row 3 differs"),
        "pads": Badge(claim="pads", status=BadgeStatus.FAILED, reason="row 4 differs"),
        "cross": Badge(claim="cross", status=BadgeStatus.NOT_CLAIMED),
    }
    text = page("linear", badges)
    assert "passed: causal\n" in text
    assert "failed: masks, pads\n  masks: row 3 differs\n  pads: row 4 differs\n" in text
    assert "not claimed: cross\n" in text


def test_the_command_reads_badges_and_goldens_from_out(tmp_path, exits):
    append_badges(tmp_path, "run", "linear", [Badge(claim="causal", status=BadgeStatus.PASSED)])
    row = Proof(golden="a/b", mechanism="linear", case="b", status=ProofStatus.PASSED)
    write_rows(tmp_path / "verify.json", [row, row])
    said = exits(0, main(["linear", f"out={tmp_path}"]))
    assert "matches the authors' code in 2 of 2 recorded cases" in said
    assert "passed: causal" in said


def test_a_misspelt_name_is_answered_with_the_nearest(capsys):
    assert main(["performr"]) == 2
    captured = capsys.readouterr()
    assert "ConfigError: No mechanism is named 'performr'. Did you mean performer" in captured.err
    assert captured.out == ""


def test_a_row_is_answered_with_its_mechanism():
    with pytest.raises(ConfigError, match="It is a row of nala: attnbench show nala"):
        find("nala_rope")


@pytest.mark.parametrize("words", [[], ["a", "b"], ["nala", "ou=x"]])
def test_a_line_that_names_no_single_mechanism_is_bad_input(words):
    assert main(words) == 2


def test_commands_name_rows_of_ones_own_and_can_be_typed_in_zsh(tmp_path):
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "mine.yaml").write_text("mine:\n  mechanism: nala\n  rope: true\n")
    request = read_request(["nala", "plugins=[a,b]", "--config-dir", str(tmp_path)])
    assert request.config_dir == tmp_path and request.plugins == ("a", "b")
    assert "mine" in rows_of("nala", tmp_path)
    sweep, verify = commands(find("nala"), request.plugins, request.config_dir)
    row = f"--config-dir {tmp_path} 'plugins=[a,b]'"
    assert verify == f"attnbench verify {row} conformance=true 'attention=[nala]'"
    assert f"--config-dir {tmp_path} 'plugins=[a,b]' 'attention=[softmax,nala]'" in sweep
    assert all("'" in word for word in sweep.split() if "[" in word)
    with pytest.raises(ConfigError, match="is not a folder"):
        read_request(["nala", "--config-dir=nowhere"])
    (tmp_path / "attention" / "latin.yaml").write_bytes(b"latin: # caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml cannot be read"):
        read_request(["nala", "--config-dir", str(tmp_path)])
