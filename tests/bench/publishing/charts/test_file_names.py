import re

from bench.publishing.charts.file_names import _MAX_BYTES, _bounded
from tests.bench.publishing.charts.boards import drawn, lengths


def test_settings_never_share_a_file():
    records = lengths() + lengths(causal=True) + lengths(batch_size=2) + lengths(scope="layer")
    names = [chart.name for chart in drawn(records)]
    assert len(names) == len(set(names)) == 12
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)


def test_a_name_that_no_file_could_have_is_shortened_and_stays_its_own():
    names = [_bounded(letter * 5000) for letter in "aü"] + [_bounded("a" * 4999)]
    assert all(len(name.encode()) <= _MAX_BYTES for name in names) and len({*names}) == 3
    assert _bounded("short") == "short"
