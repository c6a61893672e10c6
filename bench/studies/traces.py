"""Logits of decoders in Transformers, by cache and by padding, against one pass without cache."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from bench.core.clock import now_s
from bench.core.lines import Lines
from bench.core.progress import Part
from bench.core.settings import Folder, Interval, Name, Settings, Some
from bench.measuring import tracing
from bench.measuring.shipped import EVERY, Refused, first_line, model_names, quiet
from bench.measuring.tracing import TRACES, change, tiny_config, tiny_model
from bench.publishing.document import Bullets, Command, Document, Table, Text, words
from bench.studies.session import Session

BOUND = 1e-4
"""Relative change in float64 up to which it is rounding: many models compute norms, gates and
states in float32 whatever their dtype."""
BOUND_FLOAT32 = 1e-5
"""Relative change in float32 up to which logits agree: about 100 roundings."""


class Traces(Settings):
    """Compare answers of shipped decoders from a cache, in a batch and padded, with one pass.

    Models are tiny, with random weights.
    """

    model: Some[Name] = (EVERY,)
    """Model types of Transformers such as qwen3_next, or all."""
    tokens: Annotated[int, Interval(ge=4, le=512)] = 50
    """Tokens of the input."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of weights and tokens."""
    limit_s: Annotated[float, Interval(gt=0)] = 20.0
    """Seconds after which a model's further traces are left out; a trace that runs is not ended."""
    docs: Folder = Path("${out}")
    """Folder for traces.md, e.g. docs/results."""
    out: Folder = Path("results/traces")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Verdicts on one architecture.

    Attributes:
        model, version, tokens, seed: the architecture, of Transformers, and the input.
        verdicts: in words, by trace; under ``""`` why there are none.
        float32, float64: largest change of the logits over the largest logit, by trace.
        smallest: tokens and cut of the smallest input that differs, by trace.
    """

    model: str
    version: str
    tokens: int
    seed: int
    verdicts: dict[str, str]
    float32: dict[str, float] = field(default_factory=dict)
    float64: dict[str, float] = field(default_factory=dict)
    smallest: dict[str, tuple[int, int]] = field(default_factory=dict)


def study(asked: Traces, session: Session) -> int:
    """Trace every model that is not stored; 2 if none can be built."""
    names = model_names(asked.model)
    version = importlib.import_module("transformers").__version__
    store: Lines[Trace] = Lines(asked.out / "traces.jsonl", Trace)
    setting = (version, asked.tokens, asked.seed)
    kept = {
        one.model: one
        for one in store.read(missing_ok=True)
        if (one.version, one.tokens, one.seed) == setting
    }
    todo = [Part(name=name) for name in names if name not in kept]
    with session.each(todo, "model") as parts:
        for part in parts:
            kept[part.name] = traced(part.name, version, asked)
            store.append(kept[part.name])
            part.outcome = "; ".join(f"{k} {v}".strip() for k, v in kept[part.name].verdicts.items())
    found = [kept[name] for name in names if name in kept]
    for one in found:
        for trace, (tokens, cut) in one.smallest.items():
            path = asked.out / "scripts" / f"{one.model}_{trace.replace(' ', '_')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script(one, trace, tokens, cut))
    if not found:
        return 2
    session.publish(document_of(found, session), asked.docs / "traces.md")
    return 0 if any("" not in one.verdicts for one in found) else 2


def traced(name: str, version: str, asked: Traces) -> Trace:
    """All traces of an architecture."""
    made = Trace(model=name, version=version, tokens=asked.tokens, seed=asked.seed, verdicts={})
    with quiet(), torch.no_grad():
        try:
            model = tiny_model(tiny_config(name), asked.seed)
        except Refused as error:
            made.verdicts[""] = f"not buildable: {error}"
            return made
        double, began_s = deepcopy(model).double(), now_s()
        tokens = tracing.drawn(asked.tokens, asked.seed)
        for trace in TRACES:
            if now_s() - began_s > asked.limit_s:
                made.verdicts[trace] = "refused: out of time"
                continue
            try:
                cut = asked.tokens * 3 // 5
                single = change(trace, model, tokens, cut)
                exact = change(trace, double, tokens, cut)
            except Exception as error:
                made.verdicts[trace] = f"refused: {first_line(error)}"
                continue
            if not single < float("inf") or not exact < float("inf"):
                made.verdicts[trace] = "refused: logits are not finite"
                continue
            made.float32[trace], made.float64[trace] = single, exact
            made.verdicts[trace] = verdict(single, exact)
            if made.verdicts[trace] == "differs":
                made.smallest[trace] = smallest(trace, double, tokens, cut)
    return made


def verdict(single: float, double: float) -> str:
    """Verdict on the relative changes in float32 and float64."""
    if double > BOUND:
        return "differs"
    return "agrees" if single <= BOUND_FLOAT32 else "rounding"


def smallest(trace: str, model: nn.Module, tokens: Tensor, cut: int) -> tuple[int, int]:
    """Fewest tokens that differ in float64, then the first cut; the input itself if none does."""
    for count in range(2, min(tokens.shape[1], 24)):
        for place in range(1, count):
            try:
                if change(trace, model, tokens[:, :count], place) > BOUND:
                    return count, place
            except Exception:  # noqa: S112 - a shorter input may be refused
                continue
    return tokens.shape[1], cut


def script(one: Trace, trace: str, tokens: int, cut: int) -> str:
    """A program that shows a difference, with Transformers and torch alone."""
    parts: list[Callable[..., Any]] = [
        tracing.cache_of, tracing.drawn, *TRACES.values(), tracing.change
    ]  # fmt: skip
    config = tiny_config(one.model).to_dict()
    names = ", ".join(f"{key!r}: {value.__name__}" for key, value in TRACES.items())
    fields = {k: v for k, v in tracing.SMALL.items() if k in config or hasattr_of(one.model, k)}
    return "\n\n".join([
        f'"""Logits of {one.model} change by {trace}: Transformers {one.version}."""',
        "from __future__ import annotations\nimport inspect\nfrom typing import Any\nimport torch\n"
        "from torch import Tensor, nn\nfrom transformers import AutoModelForCausalLM, CONFIG_MAPPING",
        *map(inspect.getsource, parts),
        f"TRACES = {{{names}}}\nfields = {fields!r}\ntorch.manual_seed({one.seed})",
        f"config = CONFIG_MAPPING[{one.model!r}](**fields)\n"
        "more = dict(attn_implementation='eager', experts_implementation='eager')\n"
        "model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **more)\n"
        "model = model.eval().double()\n"
        f"tokens = drawn({one.tokens}, {one.seed})[:, :{tokens}]\n"
        "with torch.no_grad():\n"
        f"    print('largest relative change:', change({trace!r}, model, tokens, {cut}))\n",
    ])  # fmt: skip


def hasattr_of(name: str, key: str) -> bool:
    """Whether the default configuration of a model type has a field."""
    from transformers import CONFIG_MAPPING

    return hasattr(CONFIG_MAPPING[name](), key)


def document_of(found: list[Trace], session: Session) -> Document:
    """A row for each architecture, with its largest changes in float64 and float32."""

    def cell(one: Trace, trace: str) -> str:
        text = one.verdicts.get(trace, one.verdicts.get("", ""))
        if trace not in one.float64:
            return text
        text += f" ({one.float32[trace]:.0e}, {one.float64[trace]:.0e})"
        at = one.smallest.get(trace)
        return text + (f", from {at[0]} tokens cut at {at[1]}" if at else "")

    rows = [{"model": one.model} | {trace: cell(one, trace) for trace in TRACES} for one in found]
    return Document(
        "Traces of shipped decoders",
        [
            Text([
                f"Transformers {found[0].version}, torch's reference path on a CPU, tiny sizes and "
                "random weights, against one pass without cache.",
                "In brackets: the largest change of the logits over the largest logit, in float32 "
                "and float64.",
                f"Logits agree up to {BOUND_FLOAT32:g} in float32; more is rounding while float64 "
                f"stays within {BOUND:g}, since parts of many models compute in float32 always.",
                "A difference is not yet a bug: those of bamba, of sparse selection (ties at the "
                "cut) and of left padding are unexplained.",
            ]),
            Command(session.command("docs")),
            Table(title="Verdicts", columns=[words("model"), *map(words, TRACES)], rows=rows),
            Bullets(session.notes),
        ],
    )  # fmt: skip
