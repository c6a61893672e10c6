"""Messages of Hydra about a command line, in our words and with our exit codes."""

import sys
from unittest.mock import Mock

import pytest

from bench.core.cli import command
from bench.core.cli.command import run_app
from bench.core.cli.errors import ConfigError
from bench.studies.roots import root_of
from bench.studies.verify.settings import Verify


def never(config):
    raise AssertionError("a command line that is wrong must not reach the command")


SOFTMAX = "attention=[softmax]"
REFUSED = {
    "attention=null": "attention=null: attention takes names, in a list or alone. Known: ",
    f"{SOFTMAX} task=5 seq_len=4": "task=5: task takes names, in a list or alone. … recall",
    f"{SOFTMAX} +sq_len=5": "+sq_len=5: sq_len is not a key of sweep … seq_len",
    f"{SOFTMAX} XYZ=5": "XYZ is not a key of sweep. Known: attention, … , wandb.\n",
    "wandb.mod=offline": "Did you mean wandb.mode",
    "attention=softmx": "attention=softmx: there is no such attention. Did you mean softmax",
    "experiment=publishedd": "experiment=publishedd: there is no such experiment. Did you",
    "attention.softmax.bakend=x": "is not a key of sweep. Did you mean attention.softmax.b",
    "measure.xyz=1": "Known: measure.budget_s, ",
    "attention=kda attention.kda.foo=1": (
        "attention.kda.foo is not a key of sweep. Known: attention.kda.mechanism, "
        "attention.kda.negative_eigenvalues, attention.kda.normalise_keys, attention.kda.scale.\n"
    ),
    "hydra.run.dir=/proc/nope": (
        "hydra.run.dir=/proc/nope cannot be made: No such file or directory. "
        "Name a folder that can be written.\n"
    ),
    "seq_len": "'seq_len' is no KEY=VALUE such as seq_len=64, ",
}
"""Words -> parts of the message."""


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_a_users_mistake_and_named_beside_what_is_known(words, exits):
    err = exits(2, run_app("sweep", never, words.split()))
    assert err.startswith("ConfigError: ")
    assert all(part in err for part in REFUSED[words].split(" … ")), err
    assert "Traceback" not in err and "Exception" not in err


def test_an_error_of_the_commands_own_is_no_mistake_of_the_user(capsys):
    assert run_app("sweep", Mock(side_effect=ValueError("ours")), ["attention=[softmax]"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_config_error_of_the_command_is_said_without_a_traceback(exits):
    assert (
        exits(2, run_app("sweep", Mock(side_effect=ConfigError("no")), ["attention=[softmax]"]))
        == "ConfigError: no\n"
    )


def test_a_key_that_is_there_may_be_added_to():
    words = ["++seq_len=5", "+max_seq_len.softmax=4", "++wandb.mode=offline"]
    assert run_app("sweep", lambda config: 0, ["attention=[softmax]", *words]) == 0


@pytest.mark.parametrize("word", ["attention=[softmax,mine]", "attention=mine"])
def test_a_mechanism_of_a_plugin_that_has_no_yaml_is_a_row_with_its_defaults(word):
    seen = []
    words = ["plugins=[my_module]", word, "task=[]"]
    assert run_app("sweep", lambda config: seen.append(config) or 0, words) == 0
    assert list(seen[0]["attention"])[-1] == "mine"
    assert seen[0]["attention"]["mine"] == {"mechanism": "mine"}


def test_a_command_began_when_its_process_was_started_and_a_call_of_it_when_it_was_called(
    monkeypatch,
):
    seen = []
    monkeypatch.setattr(command, "process_age_s", lambda: 1000.0)
    monkeypatch.setattr(sys, "argv", ["sweep", "attention=[softmax]"])
    assert run_app("sweep", lambda config: seen.append(config) or 0) == 0
    assert run_app("sweep", lambda config: seen.append(config) or 0, ["attention=[softmax]"]) == 0
    process, call = (config["began_s"] for config in seen)
    assert call - process > 900


@pytest.mark.parametrize(
    ("group", "kind", "text"),
    [
        ("attention", "mechanism", "other: {mechanism: nala}"),
        ("task", "task", "other: {task: recall}"),
        ("task", "task", ""),
    ],
)
def test_an_entry_under_another_name_than_its_file_s_is_refused(
    group, kind, text, tmp_path, capsys
):
    (tmp_path / group).mkdir()
    (tmp_path / group / "own.yaml").write_text(text)
    assert run_app("sweep", never, ["--config-dir", str(tmp_path), f"{group}=[own]"]) == 2
    err = capsys.readouterr().err
    assert f"{group}/own.yaml has no settings under its own name" in err
    assert err.endswith(f"Its top key must be `own:`, and below it stands `{kind}: NAME`.\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "# @package _global_\nnum_head: 2\n",
            "A YAML sets num_head, which is not a key of sweep, and nothing would read it. "
            "Did you mean num_heads?",
        ),
        (
            "num_heads: 2\n",
            "The experiment sets num_heads below the key experiment, where nothing reads it. Let "
            "its YAML begin with the line: # @package _global_",
        ),
    ],
)
def test_a_key_of_an_experiment_that_nothing_reads_is_refused(text, said, tmp_path, capsys):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    assert run_app("sweep", never, ["--config-dir", str(tmp_path), "experiment=own"]) == 2
    assert capsys.readouterr().err == f"ConfigError: {said}\n"


@pytest.mark.parametrize("word", ["task=digits", "paper=nala", "xyzzy=1"])
def test_keys_and_groups_of_other_commands_are_no_keys_of_this_one(word, exits):
    said = exits(2, run_app("verify", never, [word], root=root_of(Verify)))
    assert f"{word.partition('=')[0]} is not a key of verify." in said
    assert "attention" in said and "experiment" not in said


@pytest.mark.parametrize("word", ["max_seq_len={softmax: 32}", "max_seq_len.softmax=32"])
def test_a_mapping_that_is_empty_by_default_can_be_filled(word):
    seen = []
    words = ["attention=[softmax]", "task=[]", word]
    assert run_app("sweep", lambda config: seen.append(config["max_seq_len"]) or 0, words) == 0
    assert seen == [{"softmax": 32}]


@pytest.mark.parametrize("name", ["~/runs", "ergebnisse-für-heute", "a;b"])
def test_a_value_with_signs_is_told_how_it_is_quoted_and_can_be(
    name, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run_app("sweep", never, [f"out={name}"]) == 2
    assert f"""Quote it twice: 'out="{name}"'.""" in capsys.readouterr().err
    seen = []
    assert run_app("sweep", lambda config: seen.append(config["out"]) or 0, [f'out="{name}"']) == 0
    assert seen == [name]
