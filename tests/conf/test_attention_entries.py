"""Every leaderboard entry names a mechanism and writes all that can be set."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

import attentions

FOLDER = Path(__file__).parents[2] / "conf" / "attention"
ENTRIES = sorted(path.stem for path in FOLDER.glob("*.yaml") if "mechanism: " in path.read_text())


def read(entry: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(FOLDER / f"{entry}.yaml"))


def test_every_mechanism_has_an_entry_under_its_own_name():
    names = {
        name
        for name in attentions.attention_names()
        if attentions.attention_class(name).__module__.startswith("attentions.")  # no plug-in's
    }
    assert names <= set(ENTRIES)


def test_an_entry_writes_every_hyperparameter_of_its_mechanism():
    for entry in ENTRIES:
        settings = read(entry)[entry]
        mechanism = settings.pop("mechanism")
        assert list(settings) == list(attentions.hyperparameters(mechanism)), entry


def test_an_entry_named_like_its_mechanism_writes_the_defaults():
    for entry in sorted(set(ENTRIES) & set(attentions.attention_names())):
        settings = read(entry)[entry]
        assert settings.pop("mechanism") == entry
        # 3 and 3.0 are equal, but not the same text in a cell.
        written = {key: (type(value), value) for key, value in settings.items()}
        defaults = attentions.hyperparameters(entry)
        assert written == {key: (type(value), value) for key, value in defaults.items()}, entry


def test_an_entry_can_be_built():
    for entry in ENTRIES:
        settings = read(entry)[entry]
        mechanism = settings.pop("mechanism")
        can = attentions.attention_class(mechanism).capabilities
        causal = not can.bidirectional
        geometry = attentions.Geometry(num_heads=2, head_dim=8, seq_len=256, causal=causal)
        # On meta tensors no optional package is looked for.
        with torch.device("meta" if can.requires else "cpu"):
            built = attentions.build_attention(mechanism, geometry, **settings)
        assert built.geometry is geometry, entry
