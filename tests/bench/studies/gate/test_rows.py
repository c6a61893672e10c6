import json

import pytest

from bench.studies.gate.rows import exit_code
from bench.studies.gate.verdict import GateVerdict
from tests.bench.studies.gate.fakes import row


def test_a_row_is_written_with_every_name_that_readers_rely_on():
    written = row().to_dict()
    promised = {"entry", "mechanism", "cell", "channel", "verdict", "ratio", "low", "high"}
    assert promised <= written.keys()
    assert json.loads(json.dumps(written)) == written
    assert written["verdict"] == "SAME"


@pytest.mark.parametrize("verdict", [GateVerdict.SLOWER, GateVerdict.MORE, GateVerdict.BROKEN])
def test_one_failure_among_a_hundred_is_enough(verdict):
    rows = [row() for _ in range(99)]
    assert exit_code(rows) == 0
    assert exit_code([*rows, row(verdict)]) == 1


@pytest.mark.parametrize(
    "verdict",
    [v for v in GateVerdict if v not in (GateVerdict.SLOWER, GateVerdict.MORE, GateVerdict.BROKEN)],
)
def test_what_is_unsure_new_gone_or_accepted_does_not_fail(verdict):
    assert exit_code([row(verdict)]) == 0
