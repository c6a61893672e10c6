from __future__ import annotations

import re

from tests.bench.publishing.charts.boards import drawn, lengths


def test_settings_never_share_a_file() -> None:
    records = lengths() + lengths(causal=True) + lengths(batch_size=2) + lengths(scope="layer")
    names = [chart.name for chart in drawn(records)]
    assert len(names) == len(set(names)) == 12
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
