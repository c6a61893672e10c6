"""`attnbench launches`: the calls to list, and the child that lists them."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from attentions.catalogue import catalogue
from bench.core.cell import DTYPES
from bench.core.cli.command import read_yaml
from bench.core.cli.entries import AttentionEntry, read_attention_entries
from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.cli.limits import MAX_SIZE
from bench.core.format import quantity
from bench.core.places import CHECKOUT
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
from bench.studies.launches.page import COMPILED, CSV, PAGE, document, flat, summary
from bench.studies.session import Session, run_study

USUAL: dict[str, dict[str, Any]] = {
    "deltanet_fla": {"normalise_queries": True},
    "gated_deltanet_fla": {"normalise_queries": True},
    "nsa_fla": {"num_heads": 16, "num_kv_heads": 1},
}
"""Default settings and sizes of some rows: as the layers of flash-linear-attention call them, or
the smallest that a kernel takes."""
Size = Annotated[int, Interval(ge=1, le=MAX_SIZE)]


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards of cards.yaml, by name."""
    return read_yaml(Path(__file__).parent / "cards.yaml")


def adapters(*packages: str) -> tuple[str, ...]:
    """Adapters to these packages of GPU kernels, by their registered names."""
    return tuple(e.name for e in catalogue() if {*e.capabilities.requires[:1]} & {*packages})


def _rows(given: Any) -> tuple[AttentionEntry, ...]:
    return tuple(read_attention_entries(given))


class Launches(Settings):
    """List the GPU kernels that operators launch on a card, without the card.

    Words are rows, all adapters if none is given: attnbench launches gla_fla card=[h100,a100].
    """

    attention: Annotated[tuple[AttentionEntry, ...], Group("attention"), BeforeValidator(_rows)] = (
        chosen(adapters("fla", *COMPILED))
    )
    launches: Some[Name] = ()
    """Further operators, as module:function, called with q, k and v, each (B, H, N, D)."""
    card: Many[Annotated[str, Word(cards)]] = ("h100",)
    seq_len: Many[Size] = (1024,)
    batch_size: Size = 1
    num_heads: Size = 4
    num_kv_heads: Size | None = None
    head_dim: Size = 64
    dtype: Annotated[str, Word(lambda: DTYPES)] = "bfloat16"
    mode: Literal["forward", "forward_backward"] = "forward"
    configs: Some[Name] = ("first",)
    """Configurations of a tuned kernel: the first that the card takes; all, as a range; or all for
    these rows only."""
    page: bool = False
    """Write docs/results/launches.md and launches.csv, too."""
    out: Folder = Path("results/launches.jsonl")
    """Where the launches go, one JSON object per call."""
    plugins: Some[Name] = ()
    """Modules to import that register further mechanisms."""


def calls_of(asked: Launches, given: Collection[str] = ()) -> list[dict[str, Any]]:
    """The calls to make on each card; ``given`` are the keys that the command line sets.

    Raises:
        ConfigError: ``configs`` names a row that is not called.
    """
    names = {"batch_size", "num_heads", "num_kv_heads", "head_dim", "dtype", "mode", "plugins"}
    sizes = asked.model_dump(include=names) | {"operator": None, "mechanism": None, "changed": {}}
    named = [{"entry": place, "operator": place} for place in asked.launches]
    for row in asked.attention:
        changed = {
            key: value
            for key, value in USUAL.get(row.label, {}).items()
            if not {key, f"attention.{row.label}.{key}"} & {*given}
        }
        settings = row.hyperparameters | {k: v for k, v in changed.items() if k not in sizes}
        one = {"entry": row.label, "mechanism": row.mechanism, "settings": settings}
        named.append(one | {k: v for k, v in changed.items() if k in sizes} | {"changed": changed})
    calls = [sizes | one | {"seq_len": n} for one, n in itertools.product(named, asked.seq_len)]
    if unknown := {*asked.configs} - {"first", "all"} - {one["entry"] for one in named}:
        raise ConfigError(
            f"configs={min(unknown)} is none of the rows that are called. Give first, all or rows."
        )
    return [
        one | {"configs": "all" if {"all", one["entry"]} & {*asked.configs} else "first"}
        for one in calls
    ]


def kernels_path() -> str:
    """A PYTHONPATH with Triton and flash-linear-attention.

    Raises:
        ConfigError: they are neither in .kernels nor installed.
    """
    apart = CHECKOUT / ".kernels"
    ours = [path or os.getcwd() for path in sys.path]  # plugins in the current folder included
    if (apart / "triton").is_dir():
        return os.pathsep.join([str(CHECKOUT), str(apart), *ours])
    if missing := [p for p in ("triton", "fla") if importlib.util.find_spec(p) is None]:
        raise ConfigError(
            f"launches compiles kernels, which needs the package {missing[0]}, and it is not "
            "installed. Say make kernels in a checkout, or pip install 'attnbench[fla]'."
        )
    return os.pathsep.join([str(CHECKOUT), *ours])


def listed(
    calls: Sequence[dict[str, Any]], card: Mapping[str, Any], path: str, device: str | None = None
) -> Iterator[dict[str, Any]]:
    """The answers of child processes, one per call, also for a call that ends its process.

    Args:
        calls: see `calls_of`.
        card: an entry of cards.yaml.
        path: PYTHONPATH of the processes.
        device: the card's, to make and note launches; None to compile kernels only.

    Raises:
        ConfigError: there is no such operator.
    """
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    # The next release of Triton has another default, so it is set explicitly.
    env |= {"PYTHONPATH": path, "TRITON_DEFAULT_FP_FUSION": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} if device is None else {}
    words, todo = [sys.executable, "-P", "-m", "bench.studies.launches.noting"], list(calls)
    while todo:
        request = json.dumps({"card": dict(card), "calls": todo, "device": device})
        child = subprocess.run(
            words, env=env, input=request, capture_output=True, text=True, check=False
        )
        found = [json.loads(line) for line in child.stdout.splitlines()]
        if found and "mistake" in found[0]:
            raise ConfigError(f"{found[0]['mistake']}. An operator is named as module:function.")
        yield from found
        todo = todo[len(found) :]
        if todo:
            last = (child.stderr.strip().splitlines() or ["nothing was said"])[-1]
            error = f"its process ended with {child.returncode}: {last}"
            yield todo.pop(0) | {"launches": [], "error": error}


def study(asked: Launches, session: Session) -> int:
    """List, print and write the launches; returns 1 if a call could not be made."""
    layers = {entry.name for entry in catalogue() if entry.is_layer}
    if own := [row.label for row in asked.attention if row.mechanism in layers]:
        raise ConfigError(
            f"{own[0]} owns its projections, and launches calls what takes q, k and v: a core."
        )
    hidden = [row.label for row in asked.attention if row.mechanism in adapters(*COMPILED)]
    calls = calls_of(asked, session.composed["given"])
    visible = [call for call in calls if call["entry"] not in hidden]
    path = kernels_path() if visible else ""
    found: list[dict[str, Any]] = []
    for card in asked.card if visible else ():
        session.say(f"Compiling {quantity(len(visible), 'call')} for {cards()[card]['name']} …")
        found += (one | {"card": card} for one in listed(visible, cards()[card], path))
    session.show(document(found, hidden, cards()))
    session.say(f"wrote {write_whole(asked.out, ''.join(json.dumps(x) + chr(10) for x in found))}")
    if asked.page:
        session.write(flat(found, cards()), CSV)
        session.say(f"wrote {write_whole(PAGE, summary())}")
    return int(any("error" in one for one in found))


def main(argv: list[str] | None = None) -> int:
    """Run the command; words without a value are names of rows. Returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    names = [word for word in given if "=" not in word and not word.startswith("-")]
    rest = [word for word in given if word not in names]
    if names or any(word.startswith("launches=") for word in rest):
        rest.append(f"attention=[{','.join(names)}]")
    return run_study("launches", Launches, study, rest, writes=("out",), out_is_file=True)
