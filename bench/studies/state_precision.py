"""Errors of a state that is kept in a narrow dtype, by its decay, against the number of tokens."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attentions.steps import map_tensors
from attentions.testing.forms import inputs
from bench.core.format import join_names, quantity
from bench.publishing.charts.ends import end_labels
from bench.publishing.charts.pictures import Point, Spec, lines
from bench.publishing.charts.spec import Axis, log_axis, look, picture, side_by_side
from bench.publishing.charts.style import plain_styles
from bench.publishing.document import Chart, markdown_table
from bench.publishing.templates import prose

States = dict[str, dict[str, dict[int, float | None]]]
"""Decay -> dtype -> tokens N -> root mean square of the error of outputs N/2 to N over that of the
outputs; None if they are not finite.
"""
MECHANISMS = (
    *("linear_unnormalised", "linear", "deltanet", "simple_gla", "gla", "gated_deltanet", "kda"),
    "mesanet",
)
"""One row for each kind of recurrence, in the order of the page."""
DTYPES = ("float32", "float16", "bfloat16", "int8", "float8_e4m3fn", "float8_e5m2")
SEQ_LEN, FIRST = 8192, 16
"""Numbers of tokens of the last error and of the first; in between they double."""
BATCH_SIZE = 4
NO_DECAY = "none"
DECAYS = {"1/16": 1 / 16, "1/128": 1 / 128, "1/1024": 1 / 1024}
"""Means of minus the log decay of a token, where a mechanism takes one."""
PICTURE = "state-precision"
TITLE = "Error of the output against length, by the dtype of the state"
_LEVEL = 1.25
"""Growth over the last two doublings up to which an error counts as level."""
_WIDTH, _HEIGHT, _IN_A_ROW, _HIGHEST = 190, 150, 3, 10.0


def rounded(state: Tensor, name: str) -> Tensor:
    """A state as a dtype keeps it, in the state's own dtype.

    Floats stop at their largest number. int8 is symmetric, with a scale for each row of the state
    (its last axis), the largest absolute value over 127.
    """
    if name == "int8":
        scale = state.abs().amax(dim=-1, keepdim=True).clamp(min=1e-30) / 127
        return (state / scale).round() * scale
    dtype = getattr(torch, name)
    most = torch.finfo(dtype).max
    return state.clamp(-most, most).to(dtype).to(state.dtype)


@torch.no_grad()
def state_errors(mechanism: Any) -> States:
    """Errors of the outputs of steps whose state is rounded after each token.

    Against one pass in float64, on unit-normal inputs. Steps compute in float32.

    Args:
        mechanism: a core with steps, in float32; it is called with its whole `seq_len`.
    """
    plain = inputs(mechanism, batch_size=BATCH_SIZE)
    exact = copy.deepcopy(mechanism).double()
    found: States = {}
    for decay in DECAYS if "log_decay" in mechanism.gates else (NO_DECAY,):
        gates: dict[str, Tensor] = {}
        if decay != NO_DECAY:
            sizes = mechanism.gate_shape("log_decay", BATCH_SIZE, mechanism.geometry.seq_len)
            gates["log_decay"] = -DECAYS[decay] * torch.empty(sizes).exponential_()
        expected = exact(*(x.double() for x in plain), **{n: x.double() for n, x in gates.items()})
        outs = _stepped(mechanism, plain, gates).double().chunk(len(DTYPES))
        pairs = zip(DTYPES, outs, strict=True)
        found[decay] = {dtype: dict(_by_length(out, expected)) for dtype, out in pairs}
    return found


def _stepped(mechanism: Any, plain: Sequence[Tensor], gates: Mapping[str, Tensor]) -> Tensor:
    """Step token by token; outputs (DTYPES x B, H, N, E): each dtype is a part of a batch."""
    count = len(DTYPES)

    def keep(state: Tensor) -> Tensor:
        parts = zip(DTYPES, state.chunk(count), strict=True)
        return torch.cat([rounded(part, dtype) for dtype, part in parts])

    every = [x.repeat(count, *(1 for _ in x.shape[1:])) for x in (*plain, *gates.values())]
    state = mechanism.init_state(len(every[0]), dtype=torch.float32, device=torch.device("cpu"))
    outputs = []
    for q, k, v, *rest in zip(*(x.split(1, dim=2) for x in every), strict=True):
        out, state = mechanism.step(q, k, v, state, **dict(zip(gates, rest, strict=True)))
        state = map_tensors(state, keep)
        outputs.append(out)
    return torch.cat(outputs, dim=2)


def _by_length(out: Tensor, expected: Tensor) -> Iterator[tuple[int, float | None]]:
    length = FIRST
    while length <= out.shape[2]:
        part = slice(length // 2, length)
        wrong = (out - expected)[:, :, part].square().mean() / expected[:, :, part].square().mean()
        yield length, float(f"{float(wrong.sqrt()):.2e}") if wrong.isfinite() else None
        length *= 2


# --- the page -----------------------------------------------------------------------------------


def section(found: Mapping[str, States], picture_path: str, command: str) -> str:
    """The part of the page: a sentence for each dtype, the picture and a table.

    Args:
        found: errors by mechanism.
        picture_path: of the picture, relative to the page's folder.
        command: that makes the whole page.
    """
    cases = _cases(found)
    last = min(max(by_dtype[DTYPES[0]]) for *_, by_dtype in cases)
    early = last // 4
    facts = {"seq_len": f"{last:,}", "early": f"{early:,}", "batch_size": str(BATCH_SIZE)}
    names = ",".join(dict.fromkeys(name for name, *_ in cases))
    facts |= {"command": f"{command} 'attention=[{names}]'", "level": f"{100 * _LEVEL - 100:.0f} %"}
    rows = [
        [name, decay, *(f"{_cell(e[d][early])} / {_cell(e[d][last])}" for d in DTYPES)]
        for name, decay, e in cases
    ]
    return "\n\n".join([
        prose(__file__, "introduction", **facts),
        "\n".join(f"- {_growth(dtype, cases, early, last)}" for dtype in DTYPES),
        f"![{TITLE}]({picture_path})",
        prose(__file__, "table", **facts),
        markdown_table(["mechanism", "decay", *DTYPES], rows, "ll" + "r" * len(DTYPES)) + "\n",
    ])  # fmt: skip


Case = tuple[str, str, dict[str, dict[int, float | None]]]


def _cases(found: Mapping[str, States]) -> list[Case]:
    """Mechanism, decay, and errors by dtype, in the order of the page."""
    return [
        (name, decay, by_dtype)
        for name in MECHANISMS
        for decay, by_dtype in found.get(name, {}).items()
    ]


def _cell(error: float | None) -> str:
    return "not finite" if error is None else f"{error:.1e}"


def _growth(dtype: str, cases: Sequence[Case], early: int, last: int) -> str:
    """Cases in which the error of a dtype still grows, and the largest growth of the others."""
    growing, level = [], []
    for name, decay, by_dtype in cases:
        before, after = by_dtype[dtype][early], by_dtype[dtype][last]
        words = name if decay == NO_DECAY else f"{name} at {decay}"
        if before is None or after is None:
            growing.append(f"{words} (not finite)")
        elif after > _LEVEL * before:
            growing.append(f"{words} (×{after / before:.1f})")
        else:
            level.append(after / before)
    rest = [f"at most ×{max(level):.2f} in {quantity(len(level), 'other case')}"] if level else []
    return f"{dtype}: {'; '.join([join_names(growing or ['nowhere']), *rest])}."


def chart(found: Mapping[str, States]) -> Chart:
    """Panels of mechanisms and decays, with a line for each dtype."""
    panels = [_panel(f"{name}, decay: {decay}", own) for name, decay, own in _cases(found)]
    rows = [panels[at : at + _IN_A_ROW] for at in range(0, len(panels), _IN_A_ROW)]
    notes = [
        "Root mean square error of outputs N/2 to N over that of the outputs, against float64",
        f"One head of 32 channels · errors above {_HIGHEST:g} are drawn at {_HIGHEST:g}",
    ]
    return Chart(name=PICTURE, title=TITLE, spec=side_by_side(rows, TITLE, notes))


def _panel(title: str, by_dtype: Mapping[str, Mapping[int, float | None]]) -> Spec:
    styles = plain_styles(DTYPES)
    drawn: list[list[Point]] = [
        [
            {"name": dtype, "run": dtype, "x": n, "y": min(error, _HIGHEST)} | look(styles[dtype])
            for n, error in errors.items()
            if error
        ]
        for dtype, errors in by_dtype.items()
    ]
    drawn = [line for line in drawn if line]
    points = [point for line in drawn for point in line]
    lengths = sorted(by_dtype[DTYPES[0]])
    x = Axis(kind="log", base=2, ends=(lengths[0], lengths[-1]), pixels=(0, _WIDTH), title="N",
             ticks=lengths[::3], format=",d")  # fmt: skip
    y = replace(log_axis("Error", (1e-7, _HIGHEST), (_HEIGHT, 0), by=1.0), format="~e")
    data = {"corners": points, "labels": end_labels(drawn, x, y)}
    return picture(lines(), x, y, data, title)
