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
from bench.studies.catalogue.new import (
    MAX_NAME,
    check_free,
    destination_for,
    main,
    next_steps,
    read_words,
)
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
        ("_hidden", "'_hidden' cannot be a mechanism's name"),
        ("1st", "'1st' cannot be a mechanism's name"),
        ("titel=x", "titel=x is not known. Did you mean title?"),
    ],
)
def test_a_bad_name_is_bad_input(word, said, tmp_path, monkeypatch, exits):
    monkeypatch.chdir(tmp_path)
    assert said in exits(2, main([word]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [ROOT, Path("/")])
@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("tensor", "Tensor"),
        ("attention", "Attention"),
        ("geometry", "Geometry"),
        ("capabilities", "Capabilities"),
        ("call_shape", "CallShape"),
        ("value_error", "ValueError"),
        ("true", "True"),
    ],
)
def test_a_class_has_no_name_that_its_file_uses_for_something_else(name, cls, folder):
    said = f"would be named {cls}, which .* Choose another name, such as my_{name}\\."
    with pytest.raises(ConfigError, match=said):
        check_free(name, destination_for(name, folder))
    check_free(f"my_{name}", destination_for(f"my_{name}", folder))


def test_a_name_whose_class_is_taken_is_bad_input_and_nothing_is_written(
    tmp_path, monkeypatch, exits
):
    monkeypatch.chdir(tmp_path)
    assert "such as my_tensor." in exits(2, main(["tensor"]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["a", "b"],
        ["a", "engine=steam"],
        ["a", 'title="x"'],
        ["a" * 300],
        ["a", "title=" + "a" * 999],
    ],
)
def test_no_name_two_or_a_long_one_or_a_title_with_quotes_are_refused(words):
    with pytest.raises(ConfigError):
        read_words(words)


@pytest.mark.parametrize("title", ['a "word"', "a\\b", "two\nlines", "a" * (2 * MAX_NAME + 1), '"'])
def test_a_title_that_cannot_stand_in_a_file_is_refused(title):
    with pytest.raises(ConfigError, match="cannot stand in a source file"):
        read_words(["mine", f"title={title}"])


def test_the_longest_name_and_title_are_taken_and_a_title_is_made_of_the_name():
    longest = "a" * MAX_NAME, "b" * 2 * MAX_NAME, "state"
    assert read_words([longest[0], f"title={longest[1]}", "engine=state"]) == longest
    assert read_words(["my_own_attention"]) == ("my_own_attention", "My own attention", "none")
    with pytest.raises(ConfigError, match="has 101 letters; a name has 100 at most"):
        read_words(["a" * (MAX_NAME + 1)])


def test_a_test_that_is_there_is_not_overwritten_either(tmp_path, monkeypatch, exits):
    monkeypatch.chdir(tmp_path)
    test = tmp_path / "test_mine.py"
    test.write_text("mine")
    assert "test_mine.py is there already" in exits(2, main(["mine"]))
    assert [*tmp_path.iterdir()] == [test] and test.read_text() == "mine"


def test_next_steps_name_the_module_only_where_it_is_a_plugin(tmp_path):
    outside = next_steps("mine", destination_for("mine", tmp_path))
    assert outside.count(" 'plugins=[mine]'") == 3
    assert f"python -m pytest {tmp_path / 'test_mine.py'}\n" in outside
    assert "plugins" not in next_steps("mine", destination_for("mine", ROOT))


def test_a_folder_inside_of_the_checkout_is_the_checkout(tmp_path):
    assert not destination_for("mine", ROOT / "docs").is_plugin
    (tmp_path / "link").symlink_to(ROOT / "docs")
    assert not destination_for("mine", tmp_path / "link").is_plugin
    assert destination_for("mine", tmp_path).is_plugin
