"""Files of `attnbench new` work at once: in a folder of one's own, and in a checkout."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.__main__ import main as attnbench
from bench.core.cli.errors import ConfigError
from bench.studies.catalogue.new import main, read_words
from tests.forked import forked

ROOT = Path(bench.__file__).resolve().parent.parent


def run(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def done(folder, *words):
    finished = run(folder, *words)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    with contextlib.chdir(folder):
        assert main(["my_attention", "title=Mine"]) == 0
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("attentions", "bench", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    done(folder, "bench", "new", "my_attention", "title=Mine")
    return folder


def test_outside_of_a_checkout_the_files_lie_in_the_current_folder(own_folder):
    files = {p.relative_to(own_folder).as_posix() for p in own_folder.rglob("*") if p.is_file()}
    assert files == {"my_attention.py", "test_my_attention.py"}


@pytest.mark.slow
def test_the_written_test_passes_there_and_fails_once_the_mechanism_is_another(
    own_folder, tmp_path, monkeypatch
):
    copy = Path(shutil.copytree(own_folder, tmp_path / "copy"))
    monkeypatch.chdir(copy)
    assert main(["another_attention"]) == 0
    module = copy / "another_attention.py"
    module.write_text(module.read_text().replace("scores.relu()", "scores.abs()"))
    said = run(copy, "pytest", "-q", "-p", "no:cacheprovider").stdout
    assert "2 failed, 4 passed" in said and "FAILED test_my_attention" not in said


def by_script(folder, *commands):
    """As the console script runs commands: without the current folder among Python's paths."""

    def script():
        sys.path[:] = [path for path in sys.path if path]
        for command in commands:
            sys.argv = ["attnbench", *command.split()]
            assert not attnbench()

    return forked(script, folder)


@pytest.mark.slow
def test_a_recurrence_from_the_template_passes_its_test_and_all_that_it_claims(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["my_state", "engine=state"]) == 0
    assert "2 passed" in done(tmp_path, "pytest", "-q", "-p", "no:cacheprovider")
    words = ("plugins=[my_state]", "conformance=true", "attention=[my_state]")
    assert " 0 failed" in done(tmp_path, "bench", "verify", *words)
    config = ["--no-cache", f"--config={ROOT / 'pyproject.toml'}"]
    done(tmp_path, "ruff", "format", "--check", *config, "my_state.py")
    done(tmp_path, "ruff", "check", "--ignore=D", *config, "my_state.py")


def test_it_is_listed_shown_and_planned_from_its_folder(own_folder):
    page = by_script(
        own_folder,
        "list plugins=[my_attention] family=other",
        "show my_attention plugins=my_attention",
        "sweep plugins=[my_attention] attention=[my_attention] attention.my_attention.power=2.0 "
        "seq_len=16 task=[] dry_run=true",
    )
    assert "Mine" in page
    assert "out_i = mean_j relu(q_i . k_j / sqrt(D))^power v_j" in page
    assert " 'plugins=[my_attention]' 'attention=[softmax,my_attention]'" in page
    assert "1 to measure" in page


@pytest.mark.slow
def test_in_a_checkout_the_files_lie_beside_its_own_and_are_found(checkout):
    said = done(checkout, "bench", "show", "my_attention")
    assert "my_attention  Mine" in said and "rows    my_attention" in said
    test = "tests/attentions/mechanisms/test_my_attention.py"
    assert "3 passed" in done(checkout, "pytest", "-q", "-p", "no:cacheprovider", test)


def test_what_is_written_is_formatted_as_this_project_is(own_folder, checkout):
    inside = [
        "attentions/mechanisms/my_attention.py",
        "tests/attentions/mechanisms/test_my_attention.py",
    ]
    for folder, paths in ((checkout, inside), (own_folder, ["my_attention.py"])):
        config = ["--no-cache", f"--config={ROOT / 'pyproject.toml'}"]
        done(folder, "ruff", "format", "--check", *config, *paths)
        done(folder, "ruff", "check", "--ignore=D", *config, *paths)


def test_a_file_that_is_there_is_not_overwritten(own_folder, monkeypatch, exits):
    monkeypatch.chdir(own_folder)
    assert "my_attention.py is there already" in exits(2, main(["my_attention"]))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("nala", "There is a mechanism 'nala' already"),
        ("json", "There is a module 'json' already"),
        ("My-attention", "'My-attention' cannot be a mechanism's name"),
        ("class", "'class' cannot be a mechanism's name"),
        ("tensor", "such as my_tensor."),
        ("titel=x", "titel=x is not known. Did you mean title?"),
    ],
)
def test_a_bad_name_is_bad_input(word, said, tmp_path, monkeypatch, exits):
    monkeypatch.chdir(tmp_path)
    assert said in exits(2, main([word]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("title", ['a "word"', "a\\b", "two\nlines", '"'])
def test_a_title_that_cannot_stand_in_a_file_is_refused(title):
    with pytest.raises(ConfigError, match="cannot stand in a source file"):
        read_words(["mine", f"title={title}"])
