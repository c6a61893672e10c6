"""`attnbench launches`: the calls to list, and the child that lists them."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import bench
from attentions.catalogue import catalogue
from bench.core.cell import DTYPES
from bench.core.cli.command import read_yaml
from bench.core.cli.entries import AttentionEntry, read_attention_entries
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.limits import MAX_SIZE
from bench.core.settings import (
    BeforeValidator,
    Folder,
    Group,
    Interval,
    Many,
    Name,
    Settings,
    Some,
    Word,
    chosen,
)
from bench.studies.launches.page import CSV, PAGE, document, flat
from bench.studies.session import Session, run_study

ROOT = Path(bench.__file__).resolve().parent.parent
CHILD = "bench.studies.launches.noting"
COMPILED = ("flash_attn", "xformers")
"""Packages whose kernels come compiled, so that nothing can be seen of them here."""
AS_PUBLISHED: dict[str, dict[str, Any]] = {
    name: {"normalise_queries": True} for name in ("deltanet_fla", "gated_deltanet_fla")
}
"""Hyperparameters unless others are given: those of the layers of flash-linear-attention."""
Size = Annotated[int, Interval(ge=1, le=MAX_SIZE)]


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards of cards.yaml, by name."""
    return read_yaml(Path(__file__).parent / "cards.yaml")


def adapters() -> tuple[str, ...]:
    """Adapters to packages of GPU kernels, by their registered names."""
    needed = {"fla", *COMPILED}
    return tuple(e.name for e in catalogue() if needed & set(e.capabilities.requires))


def _rows(given: Any) -> tuple[AttentionEntry, ...]:
    return tuple(read_attention_entries(given))


class Launches(Settings):
    """List the GPU kernels that operators launch on a card, without the card.

    Words are rows, all adapters if none is given: attnbench launches gla_fla card=[h100,a100].
    """

    attention: Annotated[tuple[AttentionEntry, ...], Group("attention"), BeforeValidator(_rows)] = (
        chosen(adapters())
    )
    launches: Some[Name] = ()
    """Further operators, as module:function, called with q, k and v, each (B, H, N, D)."""
    card: Many[Annotated[str, Word(cards)]] = ("h100",)
    seq_len: Many[Size] = (1024,)
    batch_size: Size = 1
    num_heads: Size = 4
    head_dim: Size = 64
    dtype: Annotated[str, Word(lambda: DTYPES)] = "bfloat16"
    mode: Literal["forward", "forward_backward"] = "forward"
    configs: Literal["first", "all"] = "first"
    """Configurations of a tuned kernel: the first that the card takes, or all, as a range."""
    page: bool = False
    """Write docs/results/launches.md and launches.csv, too."""
    out: Folder = Path("results/launches.jsonl")
    """Where the launches go, one JSON object per call."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""


def calls_of(asked: Launches, given: Collection[str] = ()) -> list[dict[str, Any]]:
    """The calls to make on each card; ``given`` are the keys that the command line sets."""
    sizes = asked.model_dump(include={"batch_size", "num_heads", "head_dim", "dtype", "mode"})
    none: dict[str, Any] = {"mechanism": None, "settings": {}, "changed": {}, "operator": None}
    named = [none | {"entry": place, "operator": place} for place in asked.launches]
    for row in asked.attention:
        usual = AS_PUBLISHED.get(row.label, {})
        changed = {k: v for k, v in usual.items() if f"attention.{row.label}.{k}" not in given}
        settings = row.hyperparameters | changed
        one = {"entry": row.label, "mechanism": row.mechanism, "settings": settings}
        named.append(none | one | {"changed": changed})
    return [
        one | sizes | {"seq_len": n, "plugins": asked.plugins}
        for one, n in itertools.product(named, asked.seq_len)
    ]


def kernels_path() -> str:
    """A PYTHONPATH on which Triton and flash-linear-attention are.

    Raises:
        ConfigError: they are neither in .kernels nor installed.
    """
    apart = ROOT / ".kernels"
    ours = [path or os.getcwd() for path in sys.path]  # plugins in the current folder included
    if (apart / "triton").is_dir():
        return os.pathsep.join([str(ROOT), str(apart), *ours])
    if missing := [p for p in ("triton", "fla") if importlib.util.find_spec(p) is None]:
        raise ConfigError(
            f"launches compiles kernels, which needs the package {missing[0]}, and it is not "
            "installed. Say make kernels in a checkout, or pip install 'attnbench[fla]'."
        )
    return os.pathsep.join([str(ROOT), *ours])


def listed(
    calls: Sequence[dict[str, Any]],
    card: Mapping[str, Any],
    configs: str,
    path: str,
    device: str = "cpu",
) -> Iterator[dict[str, Any]]:
    """The answers of child processes, one per call; that a call ends its process is an answer.

    Args:
        calls: as of `calls_of`.
        card: an entry of cards.yaml.
        configs: first or all.
        path: PYTHONPATH of the processes.
        device: that of the card, for launches that are made and watched.
    """
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    # The next release of Triton has another default, so it is said which was meant.
    env |= {"PYTHONPATH": path, "TRITON_DEFAULT_FP_FUSION": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    todo = list(calls)
    with tempfile.TemporaryDirectory() as folder:
        request, answers = Path(folder, "request.json"), Path(folder, "answers.jsonl")
        while todo:
            answers.write_text("")
            asked = {"card": dict(card), "configs": configs, "calls": todo, "device": device}
            request.write_text(json.dumps(asked))
            words = [sys.executable, "-P", "-m", CHILD, str(request), str(answers)]
            child = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
            found = [json.loads(line) for line in answers.read_text().splitlines()]
            yield from (one | {"configs": configs} for one in found)
            todo = todo[len(found) :]
            if todo:
                last = (child.stderr.strip().splitlines() or ["nothing was said"])[-1]
                error = f"its process ended with {child.returncode}: {last}"
                yield todo[0] | {"configs": configs, "launches": [], "error": error}
                todo = todo[1:]


def study(asked: Launches, session: Session) -> int:
    """List, print and write; 1 if a call could not be made."""
    compiled = {e.name for e in catalogue() if set(COMPILED) & set(e.capabilities.requires)}
    visible = [
        call
        for call in calls_of(asked, session.composed["given"])
        if call["mechanism"] not in compiled
    ]
    hidden = [row.label for row in asked.attention if row.mechanism in compiled]
    path = kernels_path() if visible else ""
    found: list[dict[str, Any]] = []
    for card in asked.card if visible else ():
        session.say(f"Compiling {len(visible)} calls for {cards()[card]['name']} …")
        made = listed(visible, cards()[card], asked.configs, path)
        found += (one | {"card": card} for one in made)
    shown = document(found, hidden, cards(), asked.page)
    session.show(shown)
    session.say(f"wrote {write_whole(asked.out, ''.join(json.dumps(x) + chr(10) for x in found))}")
    if asked.page:
        session.write(shown, ROOT / "docs/results" / PAGE)
        session.write(flat(found), ROOT / "docs/results" / CSV)
    return int(any("error" in one for one in found))


def main(argv: list[str] | None = None) -> int:
    """Run the command; words without a value are names of rows. Returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    names = [word for word in given if "=" not in word and not word.startswith("-")]
    rest = [word for word in given if word not in names]
    if names or any(word.startswith("launches=") for word in rest):
        rest.append(f"attention=[{','.join(names)}]")
    return run_study("launches", Launches, study, rest, writes=("out",), out_is_file=True)
