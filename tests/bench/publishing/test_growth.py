from bench.publishing.growth import crossovers, growth_sections
from bench.publishing.leaderboard import build_leaderboard
from tests import records as made
from tests.bench.publishing.metrics.growing import with_times

LENGTHS = (256, 1024, 4096)


def board(records):
    return build_leaderboard(records, ("none", "uniform"))


def blocks(*entries, lengths=LENGTHS, **shape):
    return [r for n in lengths for r in made.block_records(entries, seq_len=n, **shape)]


def test_each_setting_has_crossovers_of_its_own():
    records = blocks("softmax", "nala") + blocks("softmax", "nala", dtype="bfloat16")
    found = crossovers(board(records))
    assert len(found) == 2
    for of_setting in found.values():
        # 3e-6 N = 6e-7 N + 4e-9 N^2 at N = 600.
        low, high = of_setting["nala"].interval or (0.0, 0.0)
        assert 550 < low < 600 < high < 650


def test_a_row_measured_less_far_than_others_has_no_prediction_beside_theirs():
    records = blocks("softmax", "nala", lengths=(128, 256, 1024, 4096))
    short = [r for r in records if r.cell.entry != "nala" or r.cell.kernel.seq_len < 4096]
    (section,) = growth_sections(board(short))
    predicted = {row[0]: row[4] for row in section.tables[0].texts()}
    assert predicted["nala"] == "" and predicted["softmax"]


def test_a_fit_that_misses_a_measured_time_predicts_none():
    jumps = with_times("nala", {256: 1.0, 512: 3.0, 1024: 2.0, 4096: 8.0})
    steady = with_times("linear", {n: n / 512 for n in jumps})
    (section,) = growth_sections(board([*jumps.values(), *steady.values()]))
    predicted = {row[0]: row[4] for row in section.tables[0].texts()}
    assert predicted == {"nala": "", "linear": "~32.0"}
