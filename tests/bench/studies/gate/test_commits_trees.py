import os
import subprocess

import pytest

from bench.core.cli.errors import ConfigError
from bench.core.places import CHECKOUT
from bench.studies.gate import commits as trees
from bench.studies.gate.commits import Tree, base_entry


class Repository:
    """A small checkout that stands for this project's."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (folder / "attentions").mkdir()
        (folder / "attentions" / "__init__.py").write_text("VALUE = 1\n")
        (folder / "README.md").write_text("words\n")
        self.commit("first")

    def git(self, *words):
        author = ("-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false")
        command = ["git", *author, *words]
        return subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path, monkeypatch):
    made = Repository(tmp_path / "checkout")
    monkeypatch.setattr(trees, "CHECKOUT", made.folder)
    return made


def test_the_current_tree_is_dirty_where_what_is_measured_has_changed(repository):
    tree = trees.current_tree()
    assert tree.commit == repository.git("rev-parse", "HEAD") and not tree.is_dirty
    (repository.folder / "README.md").write_text("other words\n")
    (repository.folder / "attentions" / "new.py").write_text("")  # is part of no commit yet
    assert not trees.current_tree().is_dirty
    (repository.folder / "attentions" / "__init__.py").write_text("VALUE = 2\n")
    assert trees.current_tree().is_dirty


def test_a_branch_a_tag_a_hash_and_a_relative_name_are_commits(repository):
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", "old")
    repository.commit("second")
    assert trees.resolve("old") == trees.resolve("HEAD~1") == trees.resolve(first[:9]) == first
    assert trees.resolve("main") != first


@pytest.mark.parametrize("reference", ["no-such-branch", "HEAD~5", "HEAD:README.md", "--help", ""])
def test_an_unknown_commit_is_refused_with_what_there_is(repository, reference):
    with pytest.raises(ConfigError, match="is not a commit that git knows") as caught:
        trees.resolve(reference)
    assert "main" in str(caught.value)


def test_the_default_base_is_where_the_branch_left_main(repository):
    fork = repository.git("rev-parse", "HEAD")
    repository.git("update-ref", "refs/remotes/origin/main", fork)
    repository.commit("second")
    repository.commit("third")
    assert trees.default_base() == fork


def test_on_main_itself_the_default_base_is_the_commit_before(repository):
    first = repository.git("rev-parse", "HEAD")
    second = repository.commit("second")
    assert trees.default_base() == first  # no origin
    repository.git("update-ref", "refs/remotes/origin/main", second)
    assert trees.default_base() == first  # origin/main is HEAD itself


def test_a_first_commit_has_nothing_to_be_compared_with(repository):
    with pytest.raises(ConfigError, match=r"no earlier commit .* base=REF"):
        trees.default_base()


def test_a_worktree_holds_the_commit_and_is_gone_afterwards(repository):
    first = repository.git("rev-parse", "HEAD")
    (repository.folder / "attentions" / "__init__.py").write_text("VALUE = 2\n")
    repository.commit("second")
    (repository.folder / "attentions" / "__init__.py").write_text("VALUE = 3\n")
    with trees.worktree(first) as base:
        assert (base.root / "attentions" / "__init__.py").read_text() == "VALUE = 1\n"
        assert base.commit == first and not base.is_dirty
        assert len(repository.git("worktree", "list").splitlines()) == 2
    assert not base.root.parent.exists()
    assert len(repository.git("worktree", "list").splitlines()) == 1
    assert (repository.folder / "attentions" / "__init__.py").read_text() == "VALUE = 3\n"
    assert repository.git("rev-parse", "--abbrev-ref", "HEAD") == "main"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_worktree_is_gone_whatever_happens_in_it(repository, error):
    with pytest.raises(error), trees.worktree("HEAD") as base:
        (base.root / "left behind").write_text("")
        raise error
    assert not base.root.parent.exists()
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_a_killed_process_leaves_its_worktree_to_the_next_comparison(repository, tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f"attnbench-base-{ended.pid}-left"
    living = tmp_path / f"attnbench-base-{os.getpid()}-living"
    own = tmp_path / "my-own"
    for folder in (left, living, own):
        repository.git("worktree", "add", "--detach", str(folder / "tree"), "HEAD")
    with trees.worktree("HEAD"):
        assert not left.exists()
    assert (living / "tree").exists() and (own / "tree").exists()
    assert str(left) not in repository.git("worktree", "list")


def test_an_entry_of_the_base_is_its_yaml_or_what_its_constructor_says(tmp_path):
    here = Tree(root=CHECKOUT, commit="0" * 40, is_dirty=False)
    assert base_entry(here, "linear") == {"mechanism": "linear"}
    assert base_entry(here, "nala_published") == {"mechanism": "nala_published"}
    assert base_entry(here, "nala_rope") == {"mechanism": "nala", "rope": True}
    assert base_entry(here, "no_such_entry") is None
    (folder := tmp_path / "conf" / "attention").mkdir(parents=True)
    (folder / "linear.yaml").write_text("linear:\n  mechanism: linear\n  eps: 0.5\n")
    older = Tree(root=tmp_path, commit="1" * 40, is_dirty=False)
    assert base_entry(older, "linear") == {"mechanism": "linear", "eps": 0.5}
    assert base_entry(older, "nala") is None
