from dataclasses import replace

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.record import Quality
from bench.publishing.leaderboard import build_leaderboard
from bench.publishing.versus import versus
from tests import records as made


def board(records):
    return build_leaderboard(records)


def of(found, kind):
    return [verdict.winner for verdict in found.verdicts if verdict.of == kind]


def sweep(*lengths, **shape):
    """nala and softmax in the same rounds; nala is faster from 600 tokens on."""
    records = []
    for n in lengths:
        block = made.block_records(("softmax", "nala"), seq_len=n, **shape)
        key = block[0].cell.key
        records += [made.changed(r, rounds_key=f"{n}{shape}", reference_key=key) for r in block]
    return records


def test_what_cannot_be_told_apart_is_a_tie():
    records = sweep(1024)
    nala = next(r for r in records if r.cell.entry == "nala")
    records.append(replace(nala, cell=made.kernel_cell("linear", seq_len=1024)))
    found = versus(board(records), "nala", "linear")
    assert {verdict.winner for verdict in found.verdicts} == {"tie"}
    assert found.verdicts[0].words.endswith("ahead with 50 %")
    near = [
        made.changed(r, accuracy=0.8 + 0.01 * r.cell.task.seed + 0.02 * (r.cell.entry == "nala"))
        for r in made.task_records(("softmax", "nala"), seeds=(0, 1, 2))
    ]
    near[-1] = made.changed(near[-1], accuracy=0.81)
    (verdict,) = versus(board(near), "softmax", "nala").verdicts
    assert verdict.winner == "tie"
    share = verdict.words.partition("nala ahead with ")[2].removesuffix(" %")
    assert 50 < float(share) < 98


def test_a_row_that_may_not_be_ranked_wins_nothing():
    records = [made.changed(r, leaks_future=r.cell.entry == "nala") for r in sweep(256, 1024)]
    with pytest.raises(ConfigError, match=r"may not be ranked: nala \(leaks the future\)\.$"):
        versus(board(records), "nala", "softmax")


def test_speed_ups_over_two_settings_of_a_reference_are_not_compared():
    records = [
        made.changed(r, rounds_key="", reference_key=f"{number}" * 16)
        for number, entry in enumerate(("nala", "linear"))
        for r in sweep(1024, 4096)
        if r.cell.entry == "nala"
        for r in [replace(r, cell=replace(r.cell, entry=entry, mechanism=entry))]
    ]
    assert of(versus(board(records), "nala", "linear"), "faster") == []


def test_tasks_are_compared_over_their_seeds():
    leaderboard = board(made.task_records(("softmax", "linear", "softmax_explicit")))
    assert of(versus(leaderboard, "linear", "softmax"), "more accurate") in (["softmax"], ["tie"])
    assert of(versus(leaderboard, "softmax_explicit", "softmax"), "more accurate") == ["tie"]


def trained(mine, theirs, unit="", **settings):
    """nala with one score and softmax with the other, on a task with these settings."""
    records = []
    for r in made.task_records(("softmax", "nala")):
        assert isinstance(r.result, Quality)
        score = mine if r.cell.entry == "nala" else theirs
        cell = made.task_cell(r.cell.entry, seed=r.cell.task.seed, settings=settings)
        records.append(replace(r, cell=cell, result=replace(r.result, accuracy=score, unit=unit)))
    return records


def test_of_bits_per_byte_and_of_what_is_counted_less_wins():
    bits = versus(board(trained(1.5, 2.0, unit="bits per byte")), "nala", "softmax")
    assert of(bits, "more accurate") == ["nala"]
    assert bits.verdicts[0].words == "1.50 vs. 2.00 bits per byte"
    split = trained(0.5, 0.9)
    lost = next(i for i, r in enumerate(split) if r.cell.entry == "softmax")
    split[lost] = made.changed(split[lost], accuracy=0.1)
    (verdict,) = versus(board(split), "softmax", "nala").verdicts
    assert verdict.winner == "tie"
    assert verdict.words == "90.0 vs. 50.0 %, not settled (needs 5 seeds)", "medians, as in tables"
    for mine, theirs, winner in ((1, 2, "nala"), (2, 1, "softmax"), (2, 2, "tie")):
        records = [
            made.changed(r, peak_memory_bytes=mine if r.cell.entry == "nala" else theirs)
            for r in sweep(1024)
        ]
        assert of(versus(board(records), "nala", "softmax"), "less memory") == [winner]


def test_a_task_setting_can_be_the_axis_of_a_flip():
    records = trained(0.99, 0.9, num_pairs=4) + trained(0.6, 0.9, num_pairs=16)
    found = versus(board(records), "nala", "softmax")
    assert [(f.axis, f.winners) for f in found.flips] == [
        ("num_pairs", ((4, "nala"), (16, "softmax")))
    ]


@pytest.mark.parametrize(
    ("pair", "words"),
    [(("nalla", "softmax"), "Did you mean nala"), (("nala", "nala"), "twice")],
)
def test_a_pair_that_is_none_is_refused(pair, words):
    with pytest.raises(ConfigError, match=words):
        versus(board(sweep(256)), *pair)


def test_a_trained_row_that_may_not_be_ranked_wins_nothing_and_a_tie_is_no_flip():
    stuck = [
        made.changed(r, validation=(0.03,), validation_steps=(600,)) for r in trained(0.03, 0.9)
    ]
    with pytest.raises(ConfigError, match=r"may not be ranked: nala \(stuck near chance\)"):
        versus(board(stuck), "nala", "softmax")
    records = trained(0.9, 0.9, num_pairs=4) + trained(0.99, 0.9, num_pairs=8)
    assert versus(board(records), "nala", "softmax").flips == ()
