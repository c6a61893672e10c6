"""``--help`` of the commands that take keys."""

import importlib

import pytest
from omegaconf import OmegaConf

from bench.__main__ import COMMANDS
from bench.core.cli.command import CONF
from bench.studies.ceilings import Calibrate
from bench.studies.diagnostics.study import Diagnose
from bench.studies.explain.study import Explain
from bench.studies.reproduce.settings import Reproduce
from bench.studies.roots import root_of
from bench.studies.verify.settings import Verify

WITH_YAML = {file.stem for file in CONF.glob("*.yaml")} & COMMANDS.keys()
ROOTS = {command: OmegaConf.load(CONF / f"{command}.yaml") for command in WITH_YAML}
MODELS = {
    "calibrate": Calibrate,
    "diagnose": Diagnose,
    "explain": Explain,
    "reproduce": Reproduce,
    "verify": Verify,
}
ROOTS |= {command: root_of(model).content for command, model in MODELS.items()}


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", sorted(ROOTS))
def test_help_has_every_key_with_its_default(command, flag, capsys):
    assert importlib.import_module(COMMANDS[command]).main([flag]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: attnbench {command} ") and not err
    lines = out.splitlines()
    for key in ROOTS[command]:
        is_shown = any(line.startswith(f"  {key}:") for line in lines)
        assert is_shown == (key not in ("defaults", "hydra")), key


def test_help_names_what_can_be_chosen_and_what_is(exits):
    words = " ".join(
        exits(0, importlib.import_module("bench.sweep").main(["seq_len=64", "--help"])).split()
    )
    assert "experiment: batch, catalogue," in words
    assert "task: associative_recall, bytes," in words and "; by default [recall, digits]" in words
    assert "by default [softmax, softmax_explicit, linear," in words
    assert "project: attnbench" in words, "a key of conf/publish"


def test_names_of_ones_own_are_there_as_well(tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "tonight.yaml").write_text("# @package _global_\nseq_len: 64\n")
    importlib.import_module("bench.sweep").main(["--config-dir", str(tmp_path), "--help"])
    assert "threads, tonight" in capsys.readouterr().out
