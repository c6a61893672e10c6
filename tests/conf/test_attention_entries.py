"""Rows: a mechanism's own follows from its constructor, a variant's YAML says what differs."""

import json
from functools import cache
from pathlib import Path

import torch
from omegaconf import OmegaConf

import attentions
from bench.core.cli.command import run_app
from bench.core.rows import default_rows, row_labels, settings_of
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import plan

FOLDER = Path(__file__).parents[2] / "conf" / "attention"
VARIANTS = sorted(path.stem for path in FOLDER.glob("*.yaml") if "mechanism: " in path.read_text())
WRITTEN = json.loads((Path(__file__).parent / "default_rows.json").read_text())
"""Rows as YAMLs set them while each mechanism had one; their cells are in stores."""

ALL_WRITTEN = (f"attention=[{','.join(WRITTEN)}]", "seq_len=64", "scope=layer", "device=cpu")


def read(entry):
    return OmegaConf.to_container(OmegaConf.load(FOLDER / f"{entry}.yaml"))[entry]


def typed(row):
    """With types: 3 and 3.0 are equal, but not the same text in a cell."""
    return {key: (type(value), value) for key, value in row.items()}


def defaults_in(entry):
    """Hyperparameters that a YAML sets to what the constructor says."""
    own = read(entry)
    usual = typed(default_rows().get(own.pop("mechanism"), {}))
    return [key for key, value in typed(own).items() if usual.get(key) == value]


def tidy():
    """Delete such lines, and files in which no other is left."""
    for name in VARIANTS:
        file, drop = FOLDER / f"{name}.yaml", tuple(f"  {key}:" for key in defaults_in(name))
        lines = [s for s in file.read_text().splitlines(True) if not drop or not s.startswith(drop)]
        if name in default_rows() and len(lines) == 2:
            file.unlink()
        else:
            file.write_text("".join(lines))


@cache
def composed(*words: str) -> dict:
    seen = []
    assert run_app("sweep", lambda config: seen.append(config) or 0, [*words, "task=[]"]) == 0
    return seen[0]


def test_a_composed_row_is_what_its_yaml_said():
    rows = composed(*ALL_WRITTEN)["attention"]
    assert list(rows) == list(WRITTEN)
    for name, row in WRITTEN.items():
        assert list(rows[name]) == list(row) and typed(rows[name]) == typed(row), name


def test_cells_of_a_row_have_the_key_that_its_yaml_gave_them():
    config = composed(*ALL_WRITTEN)
    keys = [
        [p.cell.key for p in plan(read_sweep_config(config | {"attention": rows}))]
        for rows in (config["attention"], WRITTEN)
    ]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(WRITTEN)


def test_a_row_has_every_hyperparameter_of_its_constructor():
    for name, row in default_rows().items():
        defaults = {"mechanism": name, **attentions.hyperparameters(name)}
        assert list(row) == list(defaults) and typed(row) == typed(defaults), name


def test_a_yaml_is_a_variant_that_says_what_differs():
    said = {name: same for name in VARIANTS if (same := defaults_in(name))}
    named = [name for name in VARIANTS if name in default_rows()]
    mend = "python -m tests.conf.test_attention_entries deletes what constructors say"
    assert (said, named) == ({}, []), mend


def test_what_a_variant_leaves_at_its_default_can_be_overridden(exits):
    row = composed("attention=nala_rope", "attention.nala_rope.eps=1e-5")["attention"]
    assert row == {"nala_rope": {"mechanism": "nala", "rope": True, "eps": 1e-5}}
    words = ["attention=nala_rope", "attention.nala_rope.ep=1e-5"]
    said = exits(2, run_app("sweep", lambda config: 0, words))
    assert "attention.nala_rope.ep is not a key" in said


def test_an_entry_can_be_built():
    for entry in row_labels():
        settings = settings_of(entry)
        if "layers" in settings:  # one mechanism each, which have rows of their own
            continue
        mechanism = settings.pop("mechanism")
        can = attentions.attention_class(mechanism).capabilities
        causal = not can.bidirectional
        geometry = attentions.Geometry(num_heads=2, head_dim=64, seq_len=256, causal=causal)
        # On meta tensors no optional package is looked for.
        with torch.device("meta" if can.requires else "cpu"):
            built = attentions.build_attention(mechanism, geometry, **settings)
        assert built.geometry is geometry, entry


if __name__ == "__main__":
    tidy()
