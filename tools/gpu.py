"""The day on which there is a card: `make gpu`, or `python -m tools.gpu`.

Steps of at most 4 minutes, 18 together, each of which leaves one file in results/gpu-CARD/. A step
that ended well leaves NAME.done as well and is passed over, so the same command resumes; one that
fails leaves its output beside it, and runs again. `dry_run=true` shows the plan where no card is.
`page=true` writes docs/results/gpu.md.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

HERE = Path(__file__).resolve().parent.parent
APART = HERE / "build" / "wheels"
"""Folder for the packages of `wheels=`, apart from the named python, so that its torch stays."""


def install(folder: str) -> None:
    """Install the wheels of a folder in `APART`, for this process and those that it starts."""
    wheels = map(str, sorted(Path(folder).glob("*.whl")))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--upgrade", "--target", str(APART), *wheels], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(APART)])
    sys.path.append(str(APART))


for word in sys.argv[1:] if __name__ == "__main__" else ():
    if word.startswith("wheels="):
        install(word.partition("=")[2])
try:
    from bench.core.cli.errors import ConfigError
    from bench.core.cli.files import write_whole
    from bench.core.cli.values import run_words, words_and_options
    from bench.core.places import CHECKOUT
    from bench.core.store import read_records
    from bench.measuring.device import KINDS, Device, first_card
    from bench.studies.launches.study import Launches, calls_of, kernels_path, listed
except ModuleNotFoundError as missing:
    print(
        f"ConfigError: {sys.executable} lacks the package {missing.name}. Name another python, "
        "make gpu PYTHON=/path/to/python, or a folder with wheels of what is missing, wheels=DIR.",
        file=sys.stderr,
    )
    sys.exit(2)

USAGE = "make gpu [PYTHON=…] [wheels=DIR] [dry_run=true]; make gpu-page"
SEEDS = "softmax,linear,nala,nala_cosine,flatten,performer,polaformer,rala"
CAUSAL = "softmax,linear,performer,gated_deltanet,gated_deltanet_fla,gla_fla,kda_fla"
MECHANISMS = ",".join(dict.fromkeys(f"{SEEDS},{CAUSAL}".split(",")))
COMPARED = ("kernel", "grid", "warps", "registers", "spilled_bytes", "shared_bytes")
"""Facts of a launch that have to be equal, listed without the card and made on it."""
PAGE = CHECKOUT / "docs/results/gpu.md"


@dataclass(frozen=True)
class Step:
    """A command and the file that it leaves.

    Attributes:
        minutes: after which it is ended.
        words: of Python; ``{out}`` is the folder.
    """

    name: str
    file: str
    minutes: int
    words: str

    def command(self, out: Path) -> list[str]:
        """The words as a process takes them."""
        return [sys.executable, *shlex.split(self.words.format(out=out))]


SWEEP = "-m bench.sweep experiment=gpu wandb.mode=disabled charts=false"
BIDIRECTIONAL = f"{SWEEP} causal=false attention=[{SEEDS}]"
AUTOREGRESSIVE = f"{SWEEP} causal=true attention=[{CAUSAL}]"
STEPS = (
    Step("launches", "launches.json", 2, "-m tools.gpu compare={out}/launches.json"),
    Step("tests", "tests.xml", 2, "-m pytest -m gpu -q --junitxml={out}/tests.xml"),
    Step(
        "goldens",
        "goldens.json",
        1,
        f"-m bench.verify device=cuda attention=[{MECHANISMS}] out={{out}}/goldens.json",
    ),
    Step(
        "claims",
        "claims.json",
        3,
        f"-m bench.verify conformance=true attention=[{MECHANISMS}] out={{out}}/claims.json",
    ),
    Step("speed", "speed/leaderboard.md", 4, f"{BIDIRECTIONAL} budget=3m out={{out}}/speed"),
    Step("causal", "causal/leaderboard.md", 3, f"{AUTOREGRESSIVE} budget=2m out={{out}}/causal"),
    Step(
        "compiled",
        "compiled/leaderboard.md",
        2,
        f"{SWEEP} causal=false attention=[softmax,nala,performer] seq_len=[4096] dtype=[bfloat16] "
        "mode=[forward] compile=inductor budget=100s out={out}/compiled",
    ),
    Step(
        "decode",
        "decode/leaderboard.md",
        1,
        f"{AUTOREGRESSIVE} seq_len=[4096] dtype=[bfloat16] mode=[decode] budget=30s "
        "out={out}/decode",
    ),
)


def card_of(properties: Any) -> dict[str, Any]:
    """A card as cards.yaml has them, from torch's properties of the device."""
    return {
        "name": properties.name,
        "arch": 10 * properties.major + properties.minor,
        "multiprocessors": properties.multi_processor_count,
        "shared_bytes": properties.shared_memory_per_block_optin,
    }


def differences(listed_: Sequence[Any], made: Sequence[Any]) -> list[str]:
    """Where the launches that were made are not those that were listed; empty if all are equal."""
    found = []
    for one, other in zip(listed_, made, strict=True):
        name = f"{one['entry']} at {one['seq_len']}"
        for which, answer in (("listed", one), ("made", other)):
            found += [f"{name}, {which}: {answer['error']}"] if "error" in answer else []
        # A configuration that the card refuses is listed with its sizes and never made.
        taken = [[x for x in y["launches"] if not x.get("refused")] for y in (one, other)]
        if len(taken[0]) != len(taken[1]):
            found.append(f"{name}: {len(taken[0])} launches listed, {len(taken[1])} made")
        for a, b in zip(*taken, strict=False):
            found += [
                f"{name}, {a['kernel']}: {key} {a.get(key)} listed, {b.get(key)} made"
                for key in COMPARED
                if a.get(key) != b.get(key)
            ]
    return found


def compare(out: Path) -> int:
    """List launches, make them, and write whether both are equal; 1 if not."""
    card = card_of(a_card().properties)
    rows = {name: {"mechanism": name} for name in MECHANISMS.split(",") if name.endswith("_fla")}
    asked = Launches.read({"attention": rows, "seq_len": [1024], "mode": "forward_backward"})
    path, calls = kernels_path(), calls_of(asked)
    both = [list(listed(calls, card, path, device)) for device in ("cpu", "cuda")]
    found = differences(*both)
    write_whole(out, json.dumps({"card": card, "unequal": found, "answers": both[1]}, indent=1))
    print("\n".join(found) or f"{sum(len(x['launches']) for x in both[1])} launches, all equal")
    return int(bool(found))


def run_steps(out: Path, run: Callable[..., Any] = subprocess.run) -> int:
    """Run what has not ended well yet; 1 if a step still did not."""
    failed = []
    for step in STEPS:
        done = out / f"{step.name}.done"  # its file alone may be that of tests that failed
        if done.exists() and (out / step.file).exists():
            print(f"{step.name}: done before")
            continue
        done.unlink(missing_ok=True)
        log = out / f"{step.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as said:
            try:
                limit = 60 * step.minutes
                code = run(step.command(out), stdout=said, stderr=said, timeout=limit).returncode
                ending = f"exit code {code}"
            except subprocess.TimeoutExpired:
                code, ending = 124, f"ended after {step.minutes} minutes"
        print(f"{step.name}: {ending}, see {log}")
        if code:
            failed.append(step.name)
        else:
            done.touch()
    return int(bool(failed))


def plan(card: str, out: Path) -> list[str]:
    """A line for each step, and one for all of them."""
    lines = [
        f"{step.name}: at most {step.minutes} min, leaves {out / step.file}\n"
        f"  {shlex.join(['python', *step.command(out)[1:]])}"
        for step in STEPS
    ]
    return [f"On {card}:", *lines, f"Together at most {sum(s.minutes for s in STEPS)} minutes."]


def page_of(folder: Path) -> str:
    """Markdown page of a folder of results."""
    lines = [f"# {folder.name.removeprefix('gpu-')}", "", "Made by `make gpu-page`.", ""]
    file = folder / "launches.json"
    if file.exists():
        said = json.loads(file.read_text())
        count = sum(len(one["launches"]) for one in said["answers"])
        lines += [f"Launches on {said['card']['name']}: {count} made.", ""]
        lines += [f"- {one}" for one in said["unequal"]] or [
            "All equal to those listed without it."
        ]
    for step in (s for s in STEPS if s.file.endswith(".md")):
        if (board := folder / step.file).exists():
            count = len(read_records(folder / step.name, missing_ok=True))
            lines += ["", f"## {step.name}: {count} records", ""]
            lines += [x for x in board.read_text().splitlines() if not x.startswith("# ")]
    return "\n".join(lines) + "\n"


def a_card() -> Device:
    """The card of this machine.

    Raises:
        ConfigError: there is none.
    """
    card = first_card()
    if card is None:
        raise ConfigError(
            f"{sys.executable} sees no CUDA device. Run this where one is, with the python whose "
            "torch has CUDA: make gpu PYTHON=/path/to/python; dry_run=true shows the plan."
        )
    return card


def rehearse() -> int:
    """Print the plan, and of each sweep its cells, on a card that is none; the first exit code."""
    from bench import sweep
    from tests.fake_device import FakeDevice

    with patch.dict(KINDS, {FakeDevice.kind: FakeDevice}):
        print("\n".join(plan(title := a_card().title, out := _folder(title))))
        sweeps = [s.command(out)[3:] for s in STEPS if "bench.sweep" in s.words]
        codes = [sweep.main([*words, "dry_run=true"]) for words in sweeps]
    return next(filter(None, codes), 0)


def _folder(name: str) -> Path:
    return CHECKOUT / "results" / f"gpu-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}"


def _main(words: list[str]) -> int:
    plain, options = words_and_options(words, ("dry_run", "page", "compare", "wheels"), USAGE)
    if plain:
        raise ConfigError(f"{plain[0]} is not known. Usage: {USAGE}")
    if "compare" in options:
        return compare(Path(options["compare"]))
    if options.get("page") == "true":
        folders = sorted((CHECKOUT / "results").glob("gpu-*/"))
        if not folders:
            raise ConfigError("There is no results/gpu-CARD/. Run make gpu on a machine with one.")
        print(write_whole(PAGE, "\n".join(map(page_of, folders))))
        return 0
    if options.get("dry_run") == "true":
        return rehearse()
    card = a_card().title
    print("\n".join(plan(card, out := _folder(card))))
    return run_steps(out)


if __name__ == "__main__":
    sys.exit(run_words(_main, None, USAGE))
