"""Logits of decoders in Transformers, by cache and by padding, against one pass without cache."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from bench.core.cli.errors import ConfigError
from bench.core.cli.files import write_whole
from bench.core.format import quantity
from bench.core.grouping import grouped
from bench.core.lines import Lines
from bench.core.progress import Part
from bench.core.settings import Folder, Interval, Name, Settings, Some
from bench.core.sources import hashed
from bench.measuring import tracing
from bench.measuring.shipped import EVERY, Refused, first_line, model_names, quiet
from bench.measuring.tracing import TRACES, change, tiny_fields, tiny_model
from bench.publishing.document import (
    Block,
    Bullets,
    Column,
    Command,
    Document,
    Heading,
    Prose,
    Row,
    Table,
    Text,
    words,
)
from bench.studies.session import Session

BOUND = 1e-4
"""Relative change in float64 up to which it is rounding: many models compute norms, gates and
states in float32 whatever their dtype."""
BOUND_FLOAT32 = 1e-5
"""Relative change in float32 up to which logits agree: about 100 roundings."""
CUT = {"continue", "step by step", "rollback"}
"""Traces in which an input is cut."""

CAUSES = [
    (
        "continue",
        "falcon_mamba jamba mamba zamba",
        "forward of the mixer hands the kept state to mamba_selective_state_update, for one "
        "token, and not to mamba_selective_scan: a part of more tokens starts from zeros. "
        "generate(prefill_chunk_size=...) of jamba differs likewise; that of mamba and "
        "falcon_mamba refuses.",
    ),
    (
        "",
        "camembert data2vec-text roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl",
        "positions start at padding_idx + 1 in create_position_ids_from_input_ids, which one pass "
        "uses, and at 0 in _prepare_position_ids_for_generation, which generate uses.",
    ),
    (
        "left padding",
        "bart bigbird_pegasus blenderbot blenderbot-small marian mbart mvp pegasus plbart trocr "
        "whisper",
        "forward of the decoder takes no position ids and counts learned or sinusoidal positions "
        "from the first token of the row, padding included.",
    ),
    (
        "",
        "cpmant",
        "CpmAntModel.forward sets context to 1 for all tokens, with which _prepare_attention_mask "
        "lets each token see all others: logits depend on later tokens, which a cache cannot know.",
    ),
    (
        "left padding",
        "deepseek_v4",
        "compressors such as DeepseekV4HCACompressor take no mask: padding fills windows, and "
        "windows are counted from the first token of the row, position ids from the first that is "
        "not padding.",
    ),
]
"""A trace, or an empty text for every trace; models; why they differ in it."""

METHOD = [
    "Each is called as `generate` calls it (`prepare_inputs_for_generation`, position ids "
    "included), on a CPU by torch's own path, with random weights, and compared with one pass "
    "without cache.",
    f"A change is the largest of the logits over the largest logit. Logits agree up to "
    f"{BOUND_FLOAT32:g} in float32; more is rounding while float64 stays within {BOUND:g}, since "
    "many models compute norms, gates or states in float32 always. Where float64 gives NaN, because "
    "a softmax in float32 makes minus infinity of its mask, float32 alone counts.",
    "Sparse selection has 32 index heads here. With two, many scores are exactly zero "
    "after the ReLU; topk then chooses among equals by their place, and logits of deepseek_v32 "
    "and glm_moe_dsa change in float64, too, in all traces but the batch: these are "
    "ties. With 32 index heads, or when all tokens are selected, they agree.",
    "Tokens and cut are those of the smallest input, of up to 23 tokens, that differs in float64. "
    "Causes were read in the source of Transformers 5.24.0.",
]


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
    docs: Folder = Path("${out}")
    """Folder for traces.md, e.g. docs/results."""
    out: Folder = Path("results/traces")


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Verdicts on one architecture.

    Attributes:
        model, version, tokens, seed: the architecture, of Transformers, and the input.
        source: hash of torch's version and of the code that traces.
        verdicts: in words, by trace; under ``""`` why there are none.
        float32, float64: largest change of the logits over the largest logit, by trace.
        smallest: tokens and cut of the smallest input that differs, by trace.
    """

    model: str
    version: str
    tokens: int
    seed: int
    source: str = ""
    verdicts: dict[str, str]
    float32: dict[str, float] = field(default_factory=dict)
    float64: dict[str, float] = field(default_factory=dict)
    smallest: dict[str, tuple[int, int]] = field(default_factory=dict)


def study(asked: Traces, session: Session) -> int:
    """Trace every model that is not stored; 2 if none can be built."""
    names = model_names(asked.model, paths=False)
    if not names:
        raise ConfigError("model=[] names no model. Name one, such as llama, or model=all.")
    version = importlib.import_module("transformers").__version__
    store: Lines[Trace] = Lines(asked.out / "traces.jsonl", Trace)
    code = [inspect.getsource(each) for each in (tracing, traced, verdict, smallest)]
    source = hashed([torch.__version__, BOUND, BOUND_FLOAT32, *code])
    setting = (version, asked.tokens, asked.seed, source)
    kept = {
        one.model: one
        for one in store.read(missing_ok=True)
        if (one.version, one.tokens, one.seed, one.source) == setting
    }
    todo = [Part(name=name) for name in names if name not in kept]
    with session.each(todo, "model") as parts:
        for part in parts:
            kept[part.name] = traced(part.name, version, source, asked)
            store.append(kept[part.name])
            part.outcome = "; ".join(
                f"{k} {v}".strip() for k, v in kept[part.name].verdicts.items()
            )
    found = [kept[name] for name in names if name in kept]
    for one in found:
        for trace, (tokens, cut) in one.smallest.items():
            path = asked.out / "scripts" / f"{one.model}_{trace.replace(' ', '_')}.py"
            write_whole(path, script(one, trace, tokens, cut))
    if not found:
        return 2
    session.publish(document_of(found, session), asked.docs / "traces.md")
    return 0 if any("" not in one.verdicts for one in found) else 2


def traced(name: str, version: str, source: str, asked: Traces) -> Trace:
    """All traces of an architecture."""
    made = Trace(
        model=name,
        version=version,
        source=source,
        tokens=asked.tokens,
        seed=asked.seed,
        verdicts={},
    )
    with quiet(), torch.no_grad():
        try:
            model = tiny_model(name, tiny_fields(name), asked.seed)
        except Refused as error:
            made.verdicts[""] = f"not buildable: {error}"
            return made
        double = deepcopy(model).double()
        tokens = tracing.drawn(asked.tokens, asked.seed)
        for trace in TRACES:
            try:
                cut = asked.tokens * 3 // 5
                single = change(trace, model, tokens, cut)
                exact = change(trace, double, tokens, cut)
            except Exception as error:
                made.verdicts[trace] = f"refused: {first_line(error)}"
                continue
            made.verdicts[trace] = verdict(single, exact)
            if not made.verdicts[trace].startswith("refused"):
                made.float32[trace] = single
                if isfinite(exact):
                    made.float64[trace] = exact
            if made.verdicts[trace] == "differs":
                made.smallest[trace] = smallest(trace, double, tokens, cut)
    return made


def verdict(single: float, double: float) -> str:
    """Verdict on the relative changes in float32 and float64.

    A mask for float64 is minus infinity where a model computes its softmax in float32; if all keys
    of a token are masked, its values in float64 are not finite, and float32 alone counts.
    """
    if not isfinite(single):
        return "refused: logits are not finite"
    if double > BOUND:  # False for one that is not finite
        return "differs"
    if single <= BOUND_FLOAT32:
        return "agrees"
    return "rounding" if isfinite(double) else "refused: logits in float64 are not finite"


def smallest(trace: str, model: nn.Module, tokens: Tensor, cut: int) -> tuple[int, int]:
    """Fewest tokens, and a cut, that differ in float64; the input itself if none do."""
    for count in range(2, min(tokens.shape[1], 24)):
        for place in sorted({1, count // 2, count - 1}):
            try:
                if change(trace, model, tokens[:, :count], place) > BOUND:
                    return count, place
            except Exception:  # a shorter input may be refused
                continue
    return tokens.shape[1], cut


def script(one: Trace, trace: str, tokens: int, cut: int) -> str:
    """A program that shows a difference, with Transformers and torch alone."""
    parts: list[Callable[..., Any]] = [
        tracing.drawn, tracing.part, *TRACES.values(), tracing.change
    ]  # fmt: skip
    names = ", ".join(f"{key!r}: {value.__name__}" for key, value in TRACES.items())
    fields = tiny_fields(one.model)
    return "\n\n".join([
        f'"""Logits of {one.model} change by {trace}: Transformers {one.version}."""',
        "from __future__ import annotations\nimport inspect\nfrom typing import Any\n"
        "import torch\nfrom torch import Tensor\n"
        "from transformers import AutoModelForCausalLM, CONFIG_MAPPING",
        *map(inspect.getsource, parts),
        f"TRACES = {{{names}}}\nfields = {fields!r}\ntorch.manual_seed({one.seed})",
        f"config = CONFIG_MAPPING[{one.model!r}](**fields)\n"
        "more = dict(dtype=torch.float32, experts_implementation='eager')\n"
        "model = AutoModelForCausalLM.from_config(config, **more)\n"
        "model = model.eval().double()\n"
        f"tokens = drawn({one.tokens}, {one.seed})[:, :{tokens}]\n"
        "with torch.no_grad():\n"
        f"    print('largest relative change:', change({trace!r}, model, tokens, {cut}))\n",
    ])  # fmt: skip


def document_of(found: list[Trace], session: Session) -> Document:
    """A sentence on all architectures, a row for each change and for each architecture."""
    built = [one for one in found if "" not in one.verdicts]
    rows: list[Row] = [
        {
            "model": one.model,
            "trace": trace,
            "float32": one.float32.get(trace),
            "float64": one.float64[trace],
            "tokens": one.smallest[trace][0],
            "cut": one.smallest[trace][1] if trace in CUT else None,
        }
        for one in built
        for trace in one.smallest
    ]
    changes = [Column(name, digits=".0e") for name in ("float32", "float64")]
    whole = [Column(name, digits=".0f") for name in ("tokens", "cut")]
    table = Table(
        title="What differs",
        columns=[words("model"), words("trace"), *changes, *whole],
        rows=rows,
    )
    verdicts = Table(
        title="Verdicts",
        columns=[words("model"), *map(words, TRACES)],
        rows=[
            {"model": one.model} | {k: v.partition(":")[0] for k, v in one.verdicts.items()}
            for one in built
        ],
    )
    why: dict[str, list[str]] = {}
    for one in found:
        for text, own in grouped(one.verdicts, one.verdicts.__getitem__).items():
            if ":" in text:
                where = "" if len(own) == len(TRACES) else ", ".join(own)
                why.setdefault(f"{where} {text}".strip(), []).append(one.model)
    reasons = [f"{text}: {', '.join(models)}" for text, models in why.items()]
    differing: list[Block] = [table, Bullets(causes(built))] if rows else []
    refused: list[Block] = [Heading("Refused and not buildable"), Bullets(reasons)]
    refused = refused if reasons else []
    return Document(
        "Traces of shipped decoders",
        [
            Text([summary(found, built), session.origin()]),
            Prose("  \n".join(METHOD)),
            Command(session.command("docs")),
            *differing,
            verdicts,
            *refused,
            Bullets(session.notes),
        ],
    )


def causes(built: list[Trace]) -> list[str]:
    """A sentence for each known cause, and one for the changes without one."""
    differ = {(trace, one.model) for one in built for trace in one.smallest}
    lines = []
    for trace, models, cause in CAUSES:
        own = {one for one in differ if one[0].startswith(trace) and one[1] in models.split()}
        if own:
            lines.append(f"{', '.join(sorted({m for _, m in own}))}: {cause}")
            differ -= own
    unknown = ", ".join(f"{model} ({trace})" for trace, model in sorted(differ))
    return lines + ([f"Cause unknown: {unknown}."] if unknown else [])


def summary(found: list[Trace], built: list[Trace]) -> str:
    """Sentence on how many architectures agree, and which differ in which trace."""
    ran = [one for one in built if one.float64]
    alike = grouped((one for one in ran if one.smallest), lambda one: tuple(one.smallest))
    lists = [
        f"{'every trace' if len(where) == len(TRACES) else ', '.join(where)} "
        f"({', '.join(one.model for one in own)})"
        for where, own in alike.items()
    ]
    same = sum(not one.smallest for one in ran)
    return (
        f"Of {quantity(len(found), 'decoder')} in Transformers {found[0].version}, {len(built)} "
        f"could be built at tiny sizes and {len(ran)} could be traced; {same} of these give the "
        "logits of one pass, up to rounding, in every trace that they do not refuse. "
        + (f"Logits differ in {'; '.join(lists)}." if lists else "None differs.")
    )
