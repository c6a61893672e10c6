"""The Makefile: every target is documented, and setting up recovers from interruptions."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")

# Stands for an interpreter: `-c` succeeds if it is supported, `-m venv` makes a folder with a copy
# of itself in it, and every call is written down.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  -c*) exit {unsupported} ;;
  "-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m pip install"*) if [ -e {offline} ]; then exit 1; fi ;;
esac
"""


class Sandbox:
    """A folder with a pyproject.toml and interpreters that only write down how they are called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "calls.log"
        (folder / "pyproject.toml").write_text("")

    def interpreter(self, name: str, *, supported: bool = True) -> Path:
        path = self.folder / name
        offline = self.folder / "offline"
        path.write_text(
            FAKE_PYTHON.format(log=self.log, unsupported=int(not supported), offline=offline)
        )
        path.chmod(0o755)
        return path

    def setup(self, *interpreters: Path) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        names = " ".join(str(path) for path in interpreters)
        return make("setup", f"PYTHON={names}", folder=self.folder)

    def calls(self) -> list[str]:
        """Calls of the interpreters, but for those that only ask for a version."""
        lines = self.log.read_text().splitlines()
        return [line for line in lines if line != "-m pip --version" and not line.startswith("-c")]


VENV = "-m venv --clear .venv"
INSTALL = "-m pip install -e .[dev,charts]"


def make(*words, folder=ROOT):
    # A make that runs these tests must not hand its own variables on.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "PYTHON"}
    return subprocess.run(
        ["make", "-f", str(ROOT / "Makefile"), *words],
        cwd=folder,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def phony_targets():
    block = re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert block
    return set(block[1].replace("\\", " ").split())


def test_make_alone_lists_every_target_with_what_it_does():
    listed = dict(re.findall(r"^make ([a-z-]+) +(\S.*)$", make().stdout, re.MULTILINE))
    written = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
    assert set(listed) == written == phony_targets()


def test_clean_leaves_results_and_the_environment():
    removed = make("-n", "clean").stdout
    assert "__pycache__" in removed
    assert "results" not in removed
    assert ".venv" not in removed
    assert ".benchmarks" not in removed  # the history of make perf


def test_setup_makes_an_environment_once(sandbox):
    python = sandbox.interpreter("python3")
    assert sandbox.setup(python).returncode == 0
    assert sandbox.calls() == [VENV, INSTALL]
    assert sandbox.setup(python).returncode == 0
    assert sandbox.calls() == []


def test_an_interrupted_setup_is_started_afresh(sandbox):
    python = sandbox.interpreter("python3")
    (sandbox.folder / "offline").touch()
    assert sandbox.setup(python).returncode != 0
    assert not (sandbox.folder / ".venv" / "ready").exists()
    (sandbox.folder / "offline").unlink()
    assert sandbox.setup(python).returncode == 0
    assert sandbox.calls() == [VENV, INSTALL]


def test_the_first_interpreter_that_is_new_enough_and_not_too_new_is_taken(sandbox):
    old = sandbox.interpreter("python3", supported=False)
    good = sandbox.interpreter("python3.12")
    result = sandbox.setup(sandbox.folder / "missing", old, good)
    assert result.returncode == 0
    assert f"{good} {VENV}" in result.stdout


def test_without_a_usable_interpreter_one_sentence_says_what_is_needed(sandbox):
    result = sandbox.setup(sandbox.interpreter("python3", supported=False))
    assert result.returncode != 0
    message = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert len(message) == 1
    assert "Python 3.11, 3.12 or 3.13" in message[0]
