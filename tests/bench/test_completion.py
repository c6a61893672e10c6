"""Completions, asked of a real bash and, where there is one, of zsh."""

import shutil
import subprocess

import pytest

from bench import completion
from bench.__main__ import COMMANDS

PRINT = 'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _attnbench; printf "%s\\n" "${COMPREPLY[@]}"'


@pytest.fixture(scope="module")
def script():
    return completion.script(["bash"])


@pytest.mark.parametrize(
    ("words", "among"),
    [
        ("attnbench sw", {"sweep"}),
        ("attnbench sweep seq_l", {"seq_len="}),
        ("attnbench sweep experiment = su", {"suite"}),
        ("attnbench sweep attention = '[softmax,nal'", {"[softmax,nala", "[softmax,nala_cosine"}),
        ("attnbench sweep attention=[softmax,nal", {"attention=[softmax,nala"}),
        ('attnbench sweep "\'attention=[nal"', {"attention=[nala"}),
        ("attnbench verify conf", {"conformance="}),
    ],
)
def test_commands_keys_and_names_are_completed(script, words, among):
    bash = shutil.which("bash")
    assert bash is not None
    line = f"compopt() {{ :; }}\n{script}\nCOMP_WORDS=({words})\n{PRINT}"
    done = subprocess.run([bash, "-c", line], capture_output=True, text=True, check=True)
    assert among <= set(done.stdout.split()), done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_takes_the_script():
    script = completion.script(["zsh"])
    assert script.startswith("#compdef attnbench")
    line = f"autoload -Uz compinit && compinit -u\n{script}\nwhence _attnbench"
    done = subprocess.run(["zsh", "-fc", line], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "_attnbench", done.stderr


def test_every_command_can_be_completed(script):
    assert all(f"{command}:) names=" in script for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["fish"], ["bash", "zsh"]])
def test_another_shell_is_refused(words, exits):
    assert "Known: bash, zsh." in exits(2, completion.main(words))
