import re

from bench.publishing.charts.file_names import _MAX_BYTES, _bounded
from tests import records as made
from tests.bench.publishing.charts.boards import drawn, lengths


def test_settings_never_share_a_file():
    records = lengths() + lengths(causal=True) + lengths(batch_size=2) + lengths(scope="layer")
    names = [chart.name for chart in drawn(records)]
    assert len(names) == len(set(names)) == 12
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


def test_two_pictures_of_one_name_are_two_files():
    records = [
        made.changed(made.with_work(run, settings={"batch_size": size, "seq_len": 64}), longer=far)
        for run in made.task_records(["softmax"], seeds=[0])
        for size, far in ((8, {"128": 0.5}), (16, {"128": 0.4}))
    ]
    name = "extrapolation-recall-cpu-1-thread"
    assert [chart.name for chart in drawn(records)] == [name, f"{name}-2"]


def test_a_name_that_no_file_could_have_is_shortened_and_stays_its_own():
    names = [_bounded(letter * 5000) for letter in "aü"] + [_bounded("a" * 4999)]
    assert all(len(name.encode()) <= _MAX_BYTES for name in names) and len({*names}) == 3
    assert _bounded("short") == "short"
