"""Convert each model that the store lacks, and keep its curve."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular, shown
from bench.core.lines import Lines
from bench.measuring.config import training_config
from bench.measuring.plan import PlannedCell
from bench.measuring.plugins import PluginFailed, code_of
from bench.measuring.tasks.base import build_task
from bench.measuring.tasks.train import Diverged, score_on_test_set
from bench.studies.convert.arms import (
    CHECKPOINTS,
    CONVERTED,
    SCRATCH,
    AllDiverged,
    Arms,
    Run,
    hashed,
)
from bench.studies.convert.curve import (
    AT_EDGE,
    CURVES,
    NOT_SEARCHED,
    TEACHERS,
    Ablated,
    Curve,
)
from bench.studies.convert.models import num_layers_of
from bench.studies.convert.page import charts, document_of
from bench.studies.convert.settings import Convert
from bench.studies.convert.training import looks
from bench.studies.session import Session

PAGE = "conversion.md"
MAX_WEIGHTS_BYTES = 2**40
"""Largest file of a teacher, in bytes."""

_ROUNDING = 0.005
"""A share that is nearer than this to a whole number of layers was meant as that number."""


def study(asked: Convert, session: Session) -> None:
    """Train the conversions that the store lacks, and publish those of this command that it has."""
    if sum(asked.phases) == 0:
        raise ConfigError("All phases have 0 steps. Give match_steps, distil_steps or tune_steps.")
    store: Lines[Curve] = Lines(asked.out / CURVES, Curve)
    runs = list(_runs(asked, session))
    known = {curve.key: curve for curve in store.read(missing_ok=True)}
    todo = [run for run in runs if run.key not in known]
    torch.set_num_threads(1)
    arms = Arms(asked, session)
    # Runs of the first seed come before the others of their row.
    searched = {run.row: known[run.key] for run in reversed(runs) if run.key in known}
    with session.each(todo, "model", within_s=asked.budget) as units:
        for run in units:
            try:
                with code_of(run.scratch.mechanism):
                    curve = _convert(run, asked, session, arms, searched.get(run.row))
            except (AllDiverged, Diverged, PluginFailed) as error:
                session.note(f"{run.describe()} has no curve: {error}")
                continue
            store.append(curve)
            known[curve.key] = searched[run.row] = curve
    curves = [known[run.key] for run in runs if run.key in known]
    if lacking := len(runs) - len(curves):
        session.note(f"{lacking} of {len(runs)} conversions are not in the store.")
    if curves:
        own = {run.teacher.key: run.teacher for run in runs if run.key in known}
        ablated = [] if asked.teacher else [*_ablated(own.values(), asked.out, session)]
        command = session.command("docs", "budget")
        document = partial(document_of, curves, ablated, command, session.notes)
        session.publish(asked.docs / PAGE, charts(curves), document)


def _runs(asked: Convert, session: Session) -> Iterator[Run]:
    """Every conversion: one task after the other, the first seed of all rows before the next."""
    digest = asked.teacher and _digest(asked.teacher)
    shares = _shares(asked, session)

    def plan(keep: float, attention: Mapping[str, Any]) -> dict[tuple[str, str, int], PlannedCell]:
        kept = {"num_layers": asked.num_layers, "softmax_layers": round(keep * asked.num_layers)}
        tasks = {label: settings | kept for label, settings in asked.task.items()}
        more = {"seed": list(asked.seed), "plugins": list(asked.plugins), "device": "cpu"}
        planned = session.plan(training_config(attention, tasks, asked.out, **more))
        return {(p.cell.entry, p.cell.task.label, p.cell.task.seed): p for p in planned}

    teachers = plan(0.0, {"softmax": {"mechanism": "softmax"}})
    rows = {keep: plan(keep, session.composed["attention"]) for keep in shares}
    refused: set[str] = set()
    for label, seed, keep in product(asked.task, asked.seed, shares):
        teacher = teachers["softmax", label, seed].cell
        for (_, *about), one in rows[keep].items():
            if about != [label, seed]:
                continue
            if one.unsupported:
                refused.add(f"{one.cell.entry} is left out on {label}: {one.unsupported}")
                continue
            about_run = [digest or teacher.key, one.cell.key, keep, asked.phases]
            key = hashed([*about_run, asked.rate_share, asked.learning_rates])
            yield Run(key=key, scratch=one.cell, teacher=teacher, keep=keep)
    for words_ in sorted(refused):
        session.note(words_)


def _shares(asked: Convert, session: Session) -> list[float]:
    """The shares of layers that stay softmax, each a whole number of layers where that is known.

    Raises:
        ConfigError: a share leaves no layer to exchange.
    """
    layers = num_layers_of(asked.teacher) if asked.teacher else asked.num_layers
    if layers is None:
        return [*asked.keep]
    found: dict[float, None] = {}
    for keep in asked.keep:
        count = round(keep * layers)
        if count == layers:
            mend = "Keep fewer." if asked.teacher else "Keep fewer, or set num_layers."
            raise ConfigError(f"keep={keep:g} of {layers} layers leaves none to exchange. {mend}")
        share = count / layers
        if abs(share - keep) >= _ROUNDING:
            session.note(
                f"keep={keep:g} is no whole number of {layers} layers: {count} of them "
                f"({100 * share:.0f} %) stay softmax."
            )
        found[share] = None
    return [*found]


def _ablated(teachers: Iterable[Cell], out: Path, session: Session) -> Iterator[Ablated]:
    """Scores of each teacher, and without each of its mixers, measured once."""
    store: Lines[Ablated] = Lines(out / TEACHERS, Ablated)
    known = {one.key: one for one in store.read(missing_ok=True)}
    for cell in teachers:
        if cell.key not in known:
            model = session.trained(cell, out / CHECKPOINTS)
            task, seed = build_task(cell.task.task, cell.task.settings), cell.task.seed
            score = partial(score_on_test_set, model, task, seed, torch.device("cpu"))
            whole, without = score(), []
            for name in (f"blocks.{i}.mixer" for i in range(len(model.blocks))):
                mixer = model.get_submodule(name)
                handle = mixer.register_forward_hook(lambda *args: args[-1] * 0)
                without.append(score())
                handle.remove()
            found = Ablated(
                key=cell.key,
                task=cell.task.label,
                seed=seed,
                score=whole,
                without=tuple(without),
            )
            store.append(found)
            known[cell.key] = found
        yield known[cell.key]


def _digest(folder: Path) -> str:
    """Hash of the files of a model.

    Raises:
        ConfigError: the folder holds no model.
    """
    endings = ("*.json", "*.safetensors") if os.path.isdir(folder) else ()
    files = [file for ending in endings for file in sorted(folder.glob(ending))]
    if not files:
        raise ConfigError(
            f"teacher={folder} holds no model. It takes a folder with config.json and "
            "model.safetensors."
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(read_regular(file, MAX_WEIGHTS_BYTES))
    return digest.hexdigest()[:16]


def _convert(
    run: Run, asked: Convert, session: Session, arms: Arms, searched: Curve | None
) -> Curve:
    """Train both arms at the rates of the row, or search them if no seed of the row has."""
    work = run.scratch.task
    task = build_task(work.task, work.settings)
    whole = score_on_test_set(arms.teacher(run, task), task, work.seed, torch.device("cpu"))
    source = f"a softmax model of {asked.num_layers} layers"
    rates = [asked.learning_rates] * 2
    if searched and searched.rates:
        rates = [(rate,) for rate in searched.rates]
    found = [
        arms.best(run, arm, each, task.better)
        for arm, each in zip((CONVERTED, SCRATCH), rates, strict=True)
    ]
    (rate, _, (made, *_)), (other_rate, _, (anew, *_)) = found
    mark = AT_EDGE if any(is_at_edge for _, is_at_edge, _ in found) else ""
    if searched:
        mark = searched.mark
    elif len(asked.learning_rates) == 1:
        mark = NOT_SEARCHED
    return Curve(
        key=run.key,
        task=work.label,
        attention=run.scratch.entry,
        keep=run.keep,
        seed=work.seed,
        phases=asked.phases,
        steps=looks(asked.phases),
        converted=made.scores,
        scratch=anew.scores,
        teacher=whole,
        chance=task.chance(),
        unit=task.unit,
        train_s=sum(arm.train_s for _, _, tried in found for arm in tried),
        source=shown(asked.teacher) if asked.teacher else source,
        origin=session.place,
        rates=(rate, other_rate),
        mark=mark,
    )
