import io

import pytest
from rich.console import Console

from bench.studies.gate.baselines import append_baseline
from bench.studies.gate.history import print_history, spark, steps
from tests.bench.studies.gate.fakes import OBSERVED, baseline, failing, stored


def baselines(*states, method_versions=None):
    """A baseline a day; each state is its stored cells."""
    versions = method_versions or [1] * len(states)
    return [
        baseline(
            *cells,
            commit=str(day) * 40,
            date=f"2031-05-0{day}T00:00:00Z",
            method_version=version,
        )
        for day, (cells, version) in enumerate(zip(states, versions, strict=True), start=1)
    ]


def moves(*states, **rest):
    found = steps(baselines(*states, **rest), 0.2, 0.01)
    return [
        (s.row.channel, str(s.row.verdict), s.before.commit[0], s.after.commit[0]) for s in found
    ]


def test_noise_is_no_step():
    assert moves([stored()], [stored(median=0.55)], [stored(median=0.48)]) == []


def test_a_time_that_jumps_is_a_step_with_its_commit():
    assert moves([stored()], [stored()], [stored(median=0.7)], [stored(median=0.7)]) == [
        ("latency", "SLOWER", "2", "3")
    ]


def test_there_and_back_are_two_steps():
    assert moves([stored()], [stored(median=0.8)], [stored()]) == [
        ("latency", "SLOWER", "1", "2"),
        ("latency", "FASTER", "2", "3"),
    ]


def test_many_small_moves_in_one_direction_are_found_once_they_add_up():
    creeping = [[stored(median=0.5 * 1.08**day)] for day in range(5)]
    assert moves(*creeping) == [("latency", "SLOWER", "3", "4")]


def test_every_change_of_a_number_without_noise_is_a_step():
    def counted(operators):
        return [stored(exact=OBSERVED | {"num_operators": operators})]

    assert moves(counted(7), counted(8), counted(8), counted(6)) == [
        ("num_operators", "MORE", "1", "2"),
        ("num_operators", "LESS", "3", "4"),
    ]


def test_a_cell_that_breaks_is_one_step_and_comes_back_where_it_stood():
    broken = [failing("crashed: SIGSEGV")]
    assert moves([stored()], broken, broken, [stored()]) == [("latency", "BROKEN", "1", "2")]
    assert moves([stored()], broken, [stored(median=0.9)])[1:] == [("latency", "SLOWER", "1", "3")]


def test_a_cell_that_is_skipped_once_is_no_step_and_may_break_later():
    skipped = [failing("skipped: no memory", is_skipped=True)]
    broken = [failing("crashed: SIGSEGV")]
    assert moves([stored()], skipped, broken) == [("latency", "BROKEN", "1", "3")]


def test_a_cell_that_is_measured_now_and_then_is_compared_with_its_last_time():
    other = [stored("linear")]
    assert moves([stored()], other, [stored(median=0.9)]) == [("latency", "SLOWER", "1", "3")]


def test_a_cell_is_compared_with_the_first_time_that_it_has():
    untimed = [stored(time_over_softmax=None, why_untimed="softmax was not timed with it")]
    assert moves(untimed, [stored()], [stored(median=0.9)]) == [("latency", "SLOWER", "2", "3")]


def test_numbers_are_not_compared_across_a_method_version():
    states = [[stored()], [stored(median=0.9)], [stored(median=0.9)]]
    assert moves(*states, method_versions=[1, 2, 2]) == []


def printed(states, **rest):
    console = Console(file=io.StringIO(), width=80)
    known = baselines(*states, **rest)
    print_history(known, steps(known, 0.2, 0.01), console)
    return console.file.getvalue()


@pytest.mark.parametrize("states", [[], [[stored()]]])
def test_fewer_than_two_baselines_are_said_to_be_too_few(states):
    assert "fewer than two baselines" in printed(states)


def test_the_table_names_date_commits_cell_and_move():
    grown = stored(median=0.9, exact=OBSERVED | {"num_operators": 9})
    text = printed([[stored()], [grown]])
    assert "imaginary-9000-2-cores-cpu-retain" in text and "2 steps in 2 baselines" in text
    assert "111111111..222222222" in text and "2031-05-02" in text
    assert "7 → 9" in text and "x 1.800 [" in text and "nala seq_len=64" in text


def test_nothing_moved_is_a_sentence_of_its_own():
    assert "Nothing moved beyond noise in 2 baselines" in printed([[stored()], [stored()]])


def test_a_change_of_method_is_said():
    text = printed([[stored()], [stored()]], method_versions=[1, 2])
    assert "METHOD_VERSION changed" in text


def test_a_broken_cell_is_shown_with_its_reason():
    broken = failing("crashed: SIGSEGV")
    assert "SIGSEGV" in printed([[stored()], [broken]])


def test_no_line_is_wider_than_eighty_columns():
    grown = stored(median=0.9, exact=OBSERVED | {"num_operators": 9})
    assert max(len(line) for line in printed([[stored()], [grown]]).splitlines()) <= 80


def test_a_time_that_moved_is_drawn_as_a_line_of_blocks_with_its_ends():
    text = printed([[stored()], [stored()], [], [stored(median=0.9)]])
    assert "▁▁·█  0.5 to 0.9" in text
    assert "Time over softmax, 2031-05-01 to 2031-05-04" in text


def test_blocks_are_logarithmic_and_a_flat_line_is_low():
    assert spark([1.0, 10.0, 100.0]) in ("▁▄█", "▁▅█")
    assert spark([2.0, 2.0, None]) == "▁▁·"
    assert spark([None, None]) == "··"


def test_a_history_reads_no_baselines_behind_a_link_and_no_markup(tmp_path, capsys):
    from bench import regress

    words = ["history=true", f"out={tmp_path}", "attention=[softmax]", "task=[]"]
    (elsewhere,) = {append_baseline(baseline(stored()), tmp_path / "elsewhere")}
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "a.jsonl").symlink_to(elsewhere)
    assert regress.main(words) == 2
    assert "a.jsonl is a link" in capsys.readouterr().err
    (tmp_path / "baselines" / "a.jsonl").unlink()
    for day in "12":
        append_baseline(baseline(stored(), date=f"[/b]{day}"), tmp_path)
    assert regress.main(words) == 0
    assert "2 baselines, [/b]1 to [/b]2" in capsys.readouterr().out
