"""Sessions, settings and results for tests of `attnbench verify`."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.studies.session import Session
from bench.studies.verify.settings import Verify
from bench.studies.verify.tester import Result

ROOT = Path(__file__).resolve().parents[4]


def config(golden: Path | None, *attention: str, out: Path = Path("unused.json")) -> Verify:
    return Verify(golden=golden, attention=attention, out=out)


def session(console: Console | None = None) -> Session:
    found = Session("verify", {"sweep_id": "verify"})
    found.console = console or Console(record=True, width=400)
    return found


RESULT = Result(
    mechanism="linear",
    form="linear",
    claim="causal",
    check="the_past_stays",
    id="linear-causal-the_past_stays",
    earns=True,
    outcome="passed",
)


def told(monkeypatch, results_of):
    """Let ``results_of(name)`` give the results of each mechanism, in place of pytest's."""

    class Told:
        def __init__(self, names, options, limit_s):
            self.options = options

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def results(self, name):
            return tuple(replace(each, mechanism=name) for each in results_of(name))

    monkeypatch.setattr("bench.studies.verify.command.Tester", Told)
