"""Presets survive the file, hold for what they were searched at, and change no cell's key."""

from itertools import product

import yaml

from bench.core.cli.command import CONF, read_yaml
from bench.core.observed import CONTROLS
from bench.core.presets import RatePreset, presets_text, read_presets
from bench.core.rows import settings_of
from bench.measuring.tasks.base import task_settings
from bench.studies.rates.search import USUAL, keep


def preset(entry="performer", task="recall", rate=1e-06, **changes):
    values = {
        "mechanism": "performer",
        "hyperparameters": {"eps": 1e-6, "orthogonal": True, "seed": None},
        "settings": {"num_pairs": 4, "learning_rate": 0.006},
        "tried": ((1e-06, 0.9), (0.001, None)),
        "is_at_edge": True,
    }
    return RatePreset(task=task, entry=entry, learning_rate=rate, **values | changes)


def test_the_file_gives_back_what_was_written(tmp_path):
    longer = {"num_pairs": 3, "learning_rate": 0.006, "name": "it's"}
    presets = (preset(), preset("softmax", rate=0.01), preset(task="copy"), preset(settings=longer))
    presets += (preset("gla", caveat="nothing found: every run was stuck with seed 0"),)
    path = tmp_path / "searched.yaml"
    path.write_text(presets_text(presets))
    assert set(map(repr, read_presets(read_yaml(path)))) == set(map(repr, presets))
    assert presets_text(presets) == presets_text(presets[::-1]), "its order is its own"
    assert read_presets(yaml.safe_load(presets_text(()))) == ()


def test_a_preset_holds_for_the_settings_it_was_searched_at_alone():
    found = preset()
    hyperparameters, settings = found.hyperparameters, found.settings
    usual = {"num_pairs": 4, "learning_rate": 0.001, "a_later_one": 1}

    def fits(mechanism="performer", eps=1e-6, **changes):
        own = hyperparameters | {"eps": eps}
        return found.fits(mechanism, own, settings | changes, usual)

    assert fits() and fits(a_later_one=1) and not fits(a_later_one=2)
    assert not fits("linear") and not fits(eps=1e-4) and not fits(num_pairs=8)
    assert not fits(learning_rate=0.01)  # which the command line gives for all rows


def test_a_search_leaves_the_presets_of_other_rows_in_the_file(tmp_path):
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
    kept = [(p.entry, p.settings["num_pairs"]) for p in read_presets(read_yaml(path))]
    assert kept.count(("softmax", 8)) == 1 and ("performer", 4) in kept and ("softmax", 4) in kept
    for value in (True, False):  # of a setting that is newer: another search, and this one
        later = {"num_pairs": 8, "learning_rate": 0.006, "head_norm": value}
        keep(path, [preset("softmax", settings=later)])
        ours = [p.settings for p in read_presets(read_yaml(path)) if p.entry == "softmax"]
        kept_norms = [own.get("head_norm") for own in ours if own["num_pairs"] == 8]
        assert kept_norms.count(None) == int(value) and len(kept_norms) == 2


def test_the_rows_of_make_bench_have_presets_at_the_settings_of_their_yamls_today():
    # If not, search again: make rates.
    presets = read_presets(read_yaml(CONF / "rates" / "searched.yaml"))
    assert all(found.learning_rate in dict(found.tried) for found in presets)
    named = {key: value.strip("[]").split(",") for key, value in USUAL.items()}
    for task, entry in product(named["task"], named["attention"]):
        if entry in CONTROLS or entry in ("gla", "gated_deltanet"):
            continue  # nothing is searched for the former, the latter are causal only
        row = settings_of(entry)
        settings = read_yaml(CONF / "task" / f"{task}.yaml")[task]
        mechanism, name = row.pop("mechanism"), settings.pop("task")
        usual = task_settings(name)
        assert any(p.fits(mechanism, row, settings, usual) for p in presets), (task, entry)
