"""Presets survive the file, hold for what they were searched at, and change no cell's key."""

from pathlib import Path

import pytest
import yaml

from bench.app.command import CONF, read_yaml
from bench.app.errors import ConfigError
from bench.catalogue.rows import row_labels
from bench.rates.presets import RatePreset, presets_text, read_presets
from bench.rates.search import keep


def preset(entry="performer", task="recall", rate=1e-06, **changes):
    values = {
        "mechanism": "performer",
        "hyperparameters": {"eps": 1e-6, "orthogonal": True, "seed": None},
        "settings": {"num_pairs": 4, "learning_rate": 0.006},
        "tried": ((1e-06, 0.9), (0.001, None)),
        "is_at_edge": True,
    }
    return RatePreset(task=task, entry=entry, learning_rate=rate, **values | changes)


def test_the_file_gives_back_what_was_written(tmp_path: Path):
    presets = (preset(), preset("softmax", rate=0.01), preset(task="copy"))
    path = tmp_path / "searched.yaml"
    path.write_text(presets_text(presets))
    assert set(map(repr, read_presets(read_yaml(path)))) == set(map(repr, presets))
    assert read_presets(yaml.safe_load(presets_text(()))) == ()


def test_a_preset_holds_for_the_settings_it_was_searched_at_alone():
    found = preset()
    hyperparameters, settings = found.hyperparameters, found.settings
    assert found.fits("performer", hyperparameters, settings | {"a_later_one": 1})
    assert not found.fits("linear", hyperparameters, settings)
    assert not found.fits("performer", hyperparameters | {"eps": 1e-4}, settings)
    assert not found.fits("performer", hyperparameters, settings | {"num_pairs": 8})
    # A rate that the command line gives is for all rows.
    assert not found.fits("performer", hyperparameters, settings | {"learning_rate": 0.01})


def test_a_search_leaves_the_presets_of_other_rows_in_the_file(tmp_path: Path):
    path = tmp_path / "searched.yaml"
    keep(path, [preset(), preset("softmax")])
    keep(path, [preset("softmax", rate=0.5), preset("softmax", task="copy")])
    rates = {(p.task, p.entry): p.learning_rate for p in read_presets(read_yaml(path))}
    assert rates == {
        ("recall", "performer"): 1e-6,
        ("recall", "softmax"): 0.5,
        ("copy", "softmax"): 1e-6,
    }
    keep(path, [preset("softmax", settings={"num_pairs": 8, "learning_rate": 0.006})])
    assert {p.entry for p in read_presets(read_yaml(path)) if p.task == "recall"} == {"softmax"}


def test_another_file_is_refused_with_a_sentence():
    for wrong in ({"recall": 3}, {"recall": {"entries": {"softmax": {}}}}, [1]):
        with pytest.raises(ConfigError, match=r"rates holds no presets .* rates=shared"):
            read_presets(wrong)


def test_our_presets_are_of_rows_and_tasks_that_are_there():
    for found in read_presets(read_yaml(CONF / "rates" / "searched.yaml")):
        assert found.entry in row_labels()
        assert (CONF / "task" / f"{found.task}.yaml").is_file()
        assert found.learning_rate in dict(found.tried)
