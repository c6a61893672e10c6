import io

import pytest
from rich.console import Console

from bench.studies.gate import history
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


def timed(*medians):
    return [[stored(median=median)] for median in medians]


def counted(*operators):
    return [[stored(exact=OBSERVED | {"num_operators": count})] for count in operators]


HERE, BROKEN = [stored()], [failing("crashed: SIGSEGV")]
SKIPPED = [failing("skipped: no memory", is_skipped=True)]
BREAKS = ("latency", "BROKEN", "1", "2")
MOVES = {
    "noise is no step": (timed(0.5, 0.55, 0.48), []),
    "a jump is a step": (timed(0.5, 0.5, 0.7, 0.7), [("latency", "SLOWER", "2", "3")]),
    "there and back are two": (
        timed(0.5, 0.8, 0.5),
        [("latency", "SLOWER", "1", "2"), ("latency", "FASTER", "2", "3")],
    ),
    "small moves are found once they add up": (
        timed(*(0.5 * 1.08**day for day in range(5))),
        [("latency", "SLOWER", "3", "4")],
    ),
    "a number without noise moves at each change": (
        counted(7, 8, 8, 6),
        [("num_operators", "MORE", "1", "2"), ("num_operators", "LESS", "3", "4")],
    ),
    "a cell breaks once and comes back": ([HERE, BROKEN, BROKEN, HERE], [BREAKS]),
    "what comes back is compared with where it stood": (
        [HERE, BROKEN, *timed(0.9)],
        [BREAKS, ("latency", "SLOWER", "1", "3")],
    ),
    "a skipped cell may break later": (
        [HERE, SKIPPED, BROKEN],
        [("latency", "BROKEN", "1", "3")],
    ),
    "a cell is compared with its last time": (
        [HERE, [stored("linear")], *timed(0.9)],
        [("latency", "SLOWER", "1", "3")],
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_steps_are_found_between_the_baselines_where_something_moved(name):
    states, found = MOVES[name]
    assert moves(*states) == found


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


@pytest.mark.parametrize(
    ("states", "versions", "words"),
    [
        ([], None, "fewer than two baselines"),
        ([HERE], None, "fewer than two baselines"),
        ([HERE, HERE], None, "Nothing moved beyond noise in 2 baselines"),
        ([HERE, HERE], [1, 2], "METHOD_VERSION changed"),
        ([HERE, BROKEN], None, "SIGSEGV"),
        ([HERE, HERE, [], *timed(0.9)], None, "▁▁·█  0.5 to 0.9"),
        ([HERE, [], *timed(0.9)], None, "Time over softmax, 2031-05-01 to 2031-05-03"),
    ],
)
def test_a_history_says_in_words_or_blocks_what_happened(states, versions, words):
    assert words in printed(states, method_versions=versions)


def test_of_many_baselines_the_newest_are_drawn(monkeypatch):
    monkeypatch.setattr(history, "_MOST_MARKS", 2)
    text = printed([*timed(0.9), *timed(0.5), *timed(0.9)])
    assert "Time over softmax, 2031-05-02 to 2031-05-03" in text and "▁█  0.5 to 0.9" in text


def test_the_table_names_date_commits_cell_and_move_within_eighty_columns():
    grown = stored(median=0.9, exact=OBSERVED | {"num_operators": 9})
    text = printed([[stored()], [grown]])
    assert "imaginary-9000-2-cores-cpu-retain" in text and "2 steps in 2 baselines" in text
    assert "111111111..222222222" in text and "2031-05-02" in text
    assert "7 → 9" in text and "x 1.800 [" in text and "nala seq_len=64" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_blocks_are_logarithmic_and_a_flat_line_is_low():
    assert spark([1.0, 10.0, 100.0]) in ("▁▄█", "▁▅█")
    assert spark([2.0, 2.0, None]) == "▁▁·"
    assert spark([None, None]) == "··"


def test_a_history_reads_no_baselines_behind_a_link_and_no_markup(tmp_path, exits):
    from bench import regress

    words = ["history=true", f"out={tmp_path}", "attention=[softmax]", "task=[]"]
    (elsewhere,) = {append_baseline(baseline(stored()), tmp_path / "elsewhere")}
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "a.jsonl").symlink_to(elsewhere)
    assert "a.jsonl is a link" in exits(2, regress.main(words))
    (tmp_path / "baselines" / "a.jsonl").unlink()
    (tmp_path / "baselines" / "accepted.jsonl").write_text("growths, and no baselines\n")
    for day in "12":
        append_baseline(baseline(stored(), date=f"[/b]{day}"), tmp_path)
    assert "2 baselines, [/b]1 to [/b]2" in exits(0, regress.main(words))
