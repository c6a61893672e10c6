"""Follow a page of docs/ literally: write its files into an empty folder, run its commands."""

import functools
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

from _pytest.assertion.rewrite import AssertionRewritingHook

from bench.measuring.worker import launch
from bench.studies import session
from tests.forked import forked
from tests.kept import Kept

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = "measure.budget_s=0.02 measure.max_rounds=10 charts=false"
"""Keys that are added to every sweep of a page, to make its timing short."""


def text_of(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text()


def typed(name: str, folder: Path) -> Path:
    """Write all files of a page and run its commands, as a reader would; returns the folder.

    The tools/ that it names are this checkout's, and its sweeps are made short.
    """
    commands: list[str] = []
    for _, what, text in FENCE.findall(text_of(name)):
        if what == "run":
            text = text.replace(" tools/", f" {ROOT}/tools/")
            commands += re.sub(r"-m bench\.sweep .*", rf"\g<0> {QUICK}", text).splitlines()
            continue
        if not what.startswith("file="):
            continue
        path = folder / what.removeprefix("file=")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert commands
    run = functools.partial(run_all, [shlex.split(command) for command in commands])
    # The entry point of an environment that was installed earlier may lack it.
    forked(run, folder, WANDB_MODE="disabled", PYTEST_ADDOPTS="-p attentions.testing.plugin")
    return folder


def run_all(commands: list[list[str]]) -> None:
    """Run the commands `python …` one after the other in this process."""
    sys.path.insert(0, os.getcwd())
    server = Kept()  # the one that tests share has another current folder
    with server:
        for module in (launch, session):
            module.WorkerServer = server.lent
        for program, *words in commands:
            assert program == "python", program
            is_module = words[0] == "-m"
            sys.argv[:] = words[is_module:]
            # Pytest rewrites the modules of a package that brings it a plugin; runpy needs others.
            of_pytest = [f for f in sys.meta_path if isinstance(f, AssertionRewritingHook)]
            sys.meta_path[:] = [f for f in sys.meta_path if f not in of_pytest]
            loaded = sys.modules.get(words[1]) if is_module else None
            if isinstance(getattr(loaded, "__loader__", None), AssertionRewritingHook):
                del sys.modules[words[1]]
            try:
                if is_module:
                    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
                else:
                    runpy.run_path(words[0], run_name="__main__")
            except SystemExit as ended:
                assert not ended.code, words
