"""Plant each bug of `bugs.yaml` in a copy of the tree, and run the test file that catches it.

`python -m tests.mutations` runs all of them, `python -m tests.mutations store oracle` those whose
files contain one of the words. It prints each bug that lives, and ends with 1 if one does, or if
its line is no longer there: move the bug to where the code went, or plant another like it.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import copy2

import yaml
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LONGEST_TEST_S = 300
"""Seconds after which a test file that still runs has caught the bug by hanging."""


@dataclass(frozen=True)
class Bug:
    """A line of a file, the wrong line in its place, and the test file that catches it."""

    file: str
    line: str
    bug: str
    test: str


def bugs(words: Iterable[str]) -> list[Bug]:
    """Bugs whose file contains one of `words`; all if there is no word."""
    planted = yaml.safe_load(Path(__file__).with_name("bugs.yaml").read_text())
    wanted = list(words)
    every = [Bug(**fields) for fields in planted]
    return [bug for bug in every if not wanted or any(word in bug.file for word in wanted)]


def copy_of_the_tree(folder: Path) -> None:
    """Copy the files that git knows into `folder`, so that a bug never enters the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy2(name, folder / name)


def outcome(bug: Bug, tree: Path) -> str:
    """`died`, `lived`, or why the bug could not be planted."""
    path = tree / bug.file
    lines = path.read_text().split("\n") if path.is_file() else []
    if lines.count(bug.line) != 1:
        return f"not planted: the line is there {lines.count(bug.line)} times"
    whole = path.read_text()
    path.write_text("\n".join(bug.bug if line == bug.line else line for line in lines))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", bug.test]
    try:
        code = subprocess.run(
            command, cwd=tree, capture_output=True, timeout=LONGEST_TEST_S, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        code = 1
    finally:
        path.write_text(whole)
    return {0: "lived", 1: "died", 2: "died"}.get(code, f"pytest ended with {code}")


def main(words: list[str]) -> int:
    """Run the bugs that `words` select; 1 if one did not die."""
    console = Console()
    selected = bugs(words)
    if not selected:
        console.print(f"No bug is in a file whose path contains {' or '.join(words)}.")
        return 2
    survivors: list[tuple[Bug, str]] = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    with tempfile.TemporaryDirectory() as folder, Progress(*columns, console=console) as progress:
        copy_of_the_tree(Path(folder))
        task = progress.add_task("bugs", total=len(selected))
        for bug in selected:
            progress.update(task, description=bug.file)
            what = outcome(bug, Path(folder))
            if what != "died":
                survivors.append((bug, what))
                report = f"{what}: {bug.file}\n  - {bug.line}\n  + {bug.bug}\n  {bug.test}"
                console.print(report, markup=False)
            progress.advance(task)
    console.print(f"{len(selected) - len(survivors)} of {len(selected)} bugs died.")
    return 1 if survivors else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the checkout is as it was.") from None
