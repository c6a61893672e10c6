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
    "attention=[softmax,1]": "attention=[softmax,1]: attention takes names, in a list or alone.",
    "attention={a:1}": "attention={a:1}: attention takes names, in a list or alone. Known: ",
    f"{SOFTMAX} task=5 seq_len=4": "task=5: task takes names, in a list or alone. … recall",
    f"{SOFTMAX} +sq_len=5": "+sq_len=5: sq_len is not a key of sweep … seq_len",
    f"{SOFTMAX} XYZ=5": "XYZ is not a key of sweep. Known: attention, … , wandb.\n",
    "wandb.mod=offline": "Did you mean wandb.mode",
    "attention=softmx": "attention=softmx: there is no such attention. Did you mean softmax",
    "experiment=publishedd": "experiment=publishedd: there is no such experiment. Did you",
    "hydra/launcher=basik": "there is no such hydra/launcher. Did you mean basic?",
    "attention.softmax.bakend=x": "is not a key of sweep. Did you mean attention.softmax.b",
    "measure.xyz=1": "Known: measure.budget_s, ",
    "attention=[softmax,mine] task=[]": "attention=mine: there is no such attention",
    "attention=kda attention.kda.foo=1": (
        "attention.kda.foo is not a key of sweep. Known: attention.kda.mechanism, "
        "attention.kda.negative_eigenvalues, attention.kda.normalise_keys, attention.kda.scale.\n"
    ),
    "attention=[kda] attention.kda.scal=1": "Did you mean attention.kda.scale? Known: ",
    "hydra.run.dir=/proc/nope": (
        "hydra.run.dir=/proc/nope cannot be made: No such file or directory. "
        "Name a folder that can be written.\n"
    ),
    "seq_len": "'seq_len' is no KEY=VALUE such as seq_len=64, ",
    "seq_len=[64": "'seq_len=[64' is no KEY=VALUE such as seq_len=64, ",
    "=3": "'=3' is no KEY=VALUE such as seq_len=64, ",
}
"""Words -> parts of the message."""


@pytest.mark.parametrize("words", REFUSED)
def test_wrong_words_are_a_users_mistake_and_named_beside_what_is_known(words, exits):
    err = exits(2, run_app("sweep", never, words.split()))
    assert err.startswith("ConfigError: ")
    assert all(part in err for part in REFUSED[words].split(" … ")), err
    assert "Traceback" not in err and "Exception" not in err


def test_a_broken_file_is_not_blamed_on_the_words(tmp_path, exits):
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "broken.yaml").write_text("broken: [1\n")
    words = ["--config-dir", str(tmp_path), "attention=[broken]", "task=[]"]
    said = exits(2, run_app("sweep", never, words))
    assert "broken.yaml" in said and "takes names" not in said


def test_a_row_that_is_not_in_utf_8_is_named_beside_a_hyperparameter_of_another(tmp_path, exits):
    (tmp_path / "attention").mkdir()
    (tmp_path / "attention" / "latin.yaml").write_bytes(b"latin: {mechanism: nala} # caf\xe9\n")
    words = ["attention=[performer]", "attention.performer.num_features=16", "task=[]"]
    said = exits(2, run_app("sweep", never, ["--config-dir", str(tmp_path), *words]))
    assert "latin.yaml cannot be read" in said and "UTF-8" in said


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


def yaml(folder, name, content):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return ["--config-dir", str(folder)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"5\n", "int"),
        ("caf\xe9: {mechanism: softmax}\n".encode("latin-1"), "utf-8"),
        (b"own: &own\n  inner: *own\n", "refers to itself"),
    ],
    ids=["a number", "Latin-1", "refers to itself"],
)
def test_an_entry_that_is_no_entry_is_a_users_mistake(content, said, tmp_path, exits):
    words = [*yaml(tmp_path, "attention/own.yaml", content), "attention=[own]", "task=[]"]
    err = exits(2, run_app("sweep", never, words))
    assert err.startswith("ConfigError: ") and said in err


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
        ("attention", "mechanism", "own: nala"),
        ("attention", "mechanism", ""),
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


@pytest.mark.parametrize("folder", ["/nowhere", "x" * 5000])
def test_a_folder_of_yamls_that_is_not_there_is_a_users_mistake(folder, exits):
    err = exits(2, run_app("sweep", never, ["--config-dir", folder, "attention=[softmax]"]))
    assert "Additional config directory" in err and "not found" in err


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


def test_a_value_of_several_words_is_told_how_it_is_quoted(exits):
    words = ["power=nala > flatten by 0.5 on tile_recall"]
    said = exits(2, run_app("reproduce", never, words, root=root_of(Verify)))
    assert """Quote it twice: 'power="nala > flatten by 0.5 on tile_recall"'.""" in said


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


def test_a_folder_of_a_multirun_that_cannot_be_made_is_named(tmp_path, monkeypatch, exits):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "hydra").touch()
    said = exits(2, run_app("sweep", never, ["-m", "seq_len=64,96", "task=[]"]))
    assert said.startswith("ConfigError: results/hydra/") and "OSError" not in said
    assert said.endswith("cannot be made: Not a directory. Name a folder that can be written.\n")
