import base64
import subprocess
import sys
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bench import validate
from bench.core.answers import error_of_score
from bench.core.record import Quality
from bench.publishing.metrics.roofline import floor_s
from tests import records as made
from tests.bench.core.test_examples import TOKENS, written

CEILING = made.ceiling(bytes_per_s=[[10**6, 1e9], [10**9, 1e9]])


def test_sound_results_are_counted(tmp_path, capsys):
    made.stored(tmp_path / "mine", *made.sweep_records())
    made.stored(tmp_path / "yours", *made.model_records())
    assert validate.main([str(tmp_path)]) == 0
    count = len(made.sweep_records()) + len(made.model_records())
    assert f"{count} records, 2 files, 0 calibrations; 0 problems." in capsys.readouterr().out


def test_a_bad_line_is_named_by_file_and_line(tmp_path, capsys, monkeypatch):
    path = made.stored(tmp_path, *made.block_records(["softmax", "nala"]))
    with path.open("a") as file:
        file.write('{"entry":"\\u001b[2J"}\nnot a record\n{"entry":"torn')
    assert validate.main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert [line.split(": ")[0] for line in said.err.splitlines()] == [
        f"{path}:{number}" for number in (3, 4, 5)
    ]
    assert "2 records, 1 file, 0 calibrations; 3 problems." in said.out
    assert "\x1b" not in said.err + said.out
    monkeypatch.setattr(validate, "MAX_SAID", 2)
    assert validate.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines()[2:] == ["... and 1 more."]


def calibrated(latency_of_floor):
    facts = made.ENVIRONMENT | {"calibration": {"ceilings": [CEILING]}}
    cell = made.kernel_cell("nala", seq_len=1024)
    speed = made.speed([1.0, 1.0, 1.0], flops=10**9)
    floor = floor_s(made.ok_record(cell, speed, environment=facts))
    assert floor == pytest.approx(1.0)
    samples = [latency_of_floor * floor] * 3
    return made.ok_record(cell, made.speed(samples, flops=10**9), environment=facts)


def test_no_time_lies_below_its_roofline_floor(tmp_path, exits):
    path = made.stored(tmp_path, calibrated(0.92))
    assert validate.main([str(tmp_path)]) == 0
    made.stored(tmp_path, calibrated(0.88))
    said = exits(2, validate.main([str(tmp_path)]))
    assert (
        said.startswith(f"{path}:2: nala seq_len=1024") and "0.88 s, and 1 s are the least" in said
    )


@pytest.mark.parametrize("words", [[], ["nowhere"], ["--help=1"], ["dir=x"]])
def test_what_is_no_folder_of_results_ends_with_2(tmp_path, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert validate.main(words) == 2


def test_it_needs_neither_torch_nor_hydra(tmp_path):
    made.stored(tmp_path, *made.block_records(["nala"]))
    code = (
        "import sys; from bench import merge, validate; code = validate.main(sys.argv[1:]);"
        "sys.exit(code or bool({'torch', 'hydra', 'wandb', 'psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == 0


def packed(content):
    return base64.b64encode(zlib.compress(content, 9)).decode()


RIGHT = np.random.default_rng(0).random((100, 4)) < 0.7
WINDOWS = np.random.default_rng(1).uniform(0.5, 3.0, 60)


def trained(right=RIGHT, **changes):
    """A record of 100 examples with 4 answers each."""
    cell = made.task_cell()
    values: dict[str, Any] = {
        "accuracy": float(right.mean()),
        "score_error": error_of_score(right.sum(axis=1), np.full(len(right), right.shape[1])),
        "answers": packed(np.packbits(right).tobytes()),
        "answers_per_cluster": right.shape[1],
        "num_examples": right.size,
    }
    quality = Quality(chance=0.1, guess="any", num_parameters=1, **(values | changes))
    return made.ok_record(cell, quality)


def of_bytes(losses=WINDOWS, **changes):
    """A record of 60 examples of 512 bytes each."""
    values: dict[str, Any] = {
        "answers": "",
        "accuracy": float(WINDOWS.mean()),
        "score_error": error_of_score(512 * WINDOWS, np.full(60, 512)),
        "window_losses": packed(losses.astype("<f2").tobytes()),
        "answers_per_cluster": 512,
        "num_examples": 60 * 512,
        "unit": "bits per byte",
    }
    return trained(**(values | changes))


def flipped(*places):
    """The answers of `trained` with some bits changed."""
    right = RIGHT.copy()
    for place in places:
        right[place] ^= True
    return packed(np.packbits(right).tobytes())


def test_answers_that_give_the_score_are_no_problem(tmp_path):
    uneven = trained(answers_per_cluster=None, score_error=0.5)
    one = trained(RIGHT[:1], score_error=None)
    older = replace(trained(answers="", answers_per_cluster=None), started_at="")
    made.stored(tmp_path, trained(), of_bytes(), uneven, one, older, *made.task_records())
    assert validate.validate(tmp_path).problems == ()


@pytest.mark.parametrize("place", [(0, 0), (57, 2), (99, 3)])
def test_a_changed_bit_is_found(tmp_path, place):
    path = made.stored(tmp_path, trained(), trained(answers=flipped(place)))
    [problem] = validate.validate(tmp_path).problems
    count = int(RIGHT.sum()) + (-1 if RIGHT[place] else 1)
    assert problem == (
        f"{path}:2: {count} of its 400 answers are right, and its accuracy is {RIGHT.mean():.6g}."
    )


def test_two_changed_bits_that_leave_the_score_change_its_error(tmp_path):
    all_right = int(RIGHT.all(axis=1).argmax())
    half = int((RIGHT.sum(axis=1) == 2).argmax())
    wrong = int((~RIGHT[half]).argmax())
    made.stored(tmp_path, trained(answers=flipped((all_right, 0), (half, wrong))))
    [problem] = validate.validate(tmp_path).problems
    assert ":1: its score_error is 0.0" in problem and "and its answers give 0.0" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answers": "AAAA"}, "answers are not base64 of zlib"),
        ({"answers": packed(bytes(49))}, "answers have 49 bytes or more; 50 hold 400 bits"),
        ({"answers_per_cluster": 3}, "answers_per_cluster is 3, which does not divide the 400"),
        ({"answers_per_cluster": 2}, "its score_error is"),
        ({"score_error": None}, "its score_error is None, and its answers give 0.0"),
        ({"window_losses": packed(bytes(20))}, "it has answers, which are right or wrong, and"),
    ],
)
def test_answers_that_do_not_give_what_the_record_says_are_named(changes, words, tmp_path):
    path = made.stored(tmp_path, trained(**changes))
    [problem] = validate.validate(tmp_path).problems
    assert problem.startswith(f"{path}:1: ") and words in problem


def with_loss(place, loss):
    losses = WINDOWS.copy()
    losses[place] = loss
    return packed(losses.astype("<f2").tobytes())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_losses": with_loss(7, WINDOWS[7] + 0.5)}, "the mean of its window_losses is"),
        ({"window_losses": with_loss(7, float("nan"))}, "hold what is not a finite number"),
        ({"window_losses": packed(bytes(20))}, "window_losses are of 10 examples, and 30,720"),
        ({"score_error": 0.2}, "its score_error is 0.2, and its answers give 0.0"),
        ({"unit": ""}, "it is 1 at most"),
    ],
)
def test_losses_that_do_not_give_what_the_record_says_are_named(changes, words, tmp_path):
    path = made.stored(tmp_path, of_bytes(**changes))
    [problem] = validate.validate(tmp_path).problems
    assert problem.startswith(f"{path}:1: ") and words in problem


def test_losses_of_any_size_are_held_to_no_more_than_their_rounding(tmp_path):
    draw = np.random.default_rng(2)
    records = []
    for scale in (1e-6, 1e-3, 1.0, 1e3):
        for count in (2, 3, 50):
            losses = draw.uniform(0.5, 1.5, count) * scale
            said = {
                "accuracy": float(losses.mean()),
                "score_error": error_of_score(8 * losses, np.full(count, 8)),
                "answers_per_cluster": 8,
                "num_examples": 8 * count,
            }
            records.append(of_bytes(losses, **said))
    made.stored(tmp_path, *records)
    assert validate.validate(tmp_path).problems == ()


def test_files_of_examples_are_counted_and_a_damaged_one_is_a_problem(tmp_path, exits):
    made.stored(tmp_path, trained())
    written(tmp_path, TOKENS)
    said = exits(0, validate.main([str(tmp_path)]))
    assert "0 calibrations, 1 file of examples; 0 problems." in said
    file = written(tmp_path, TOKENS, "f" * 16)
    assert f"{file} is not a file of examples" in exits(2, validate.main([str(tmp_path)]))
