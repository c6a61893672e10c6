"""Convert each model that the store lacks, and keep its curve."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.core.cell import Cell
from bench.core.cli.errors import ConfigError
from bench.core.cli.stored_files import read_regular, shown
from bench.core.clock import cpu_s
from bench.core.lines import Lines
from bench.measuring.config import training_config
from bench.measuring.plan import PlannedCell
from bench.measuring.plugins import PluginFailed, code_of
from bench.measuring.tasks.base import Task, build_task
from bench.measuring.tasks.train import Diverged, score_on_test_set
from bench.studies.convert.curve import CURVES, TEACHERS, Ablated, Curve
from bench.studies.convert.models import Pupil, exchanged_in, load, num_layers_of, of_cell
from bench.studies.convert.page import document_of
from bench.studies.convert.settings import Convert
from bench.studies.convert.training import converted, from_scratch, looks
from bench.studies.session import Session

PAGE, CHECKPOINTS = "conversion.md", "checkpoints"
MAX_WEIGHTS_BYTES = 2**40
"""Largest file of a teacher, in bytes."""

_ROUNDING = 0.005
"""A share that is nearer than this to a whole number of layers was meant as that number."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to convert.

    Attributes:
        key: see `Curve`.
        scratch: cell of the control; the converted model is built from it too.
        teacher: cell of its teacher.
        keep: share of the layers that stay softmax.
    """

    key: str
    scratch: Cell
    teacher: Cell
    keep: float
    expected_s: float = 60.0

    def describe(self) -> str:
        """Name of the run, e.g. ``linear, keep 0.5, recall_causal, seed 0``."""
        work = self.scratch.task
        return f"{self.scratch.entry}, keep {self.keep:g}, {work.label}, seed {work.seed}"


def study(asked: Convert, session: Session) -> None:
    """Train the conversions that the store lacks, and publish those of this command that it has."""
    if sum(asked.phases) == 0:
        raise ConfigError("All phases have 0 steps. Give match_steps, distil_steps or tune_steps.")
    store: Lines[Curve] = Lines(asked.out / CURVES, Curve)
    runs = list(_runs(asked, session))
    known = {curve.key: curve for curve in store.read(missing_ok=True)}
    todo = [run for run in runs if run.key not in known]
    torch.set_num_threads(1)
    teachers = _Teachers(asked, session)
    with session.each(todo, "model", within_s=asked.budget) as units:
        for run in units:
            try:
                with code_of(run.scratch.mechanism):
                    curve = _convert(run, asked, session, teachers)
            except (Diverged, PluginFailed) as error:
                session.note(f"{run.describe()} has no curve: {error}")
                continue
            store.append(curve)
            known[curve.key] = curve
    curves = [known[run.key] for run in runs if run.key in known]
    if lacking := len(runs) - len(curves):
        session.note(f"{lacking} of {len(runs)} conversions are not in the store.")
    if curves:
        own = {run.teacher.key: run.teacher for run in runs if run.key in known}
        ablated = [] if asked.teacher else [*_ablated(own.values(), asked.out, session)]
        command = session.command("docs", "budget")
        session.publish(document_of(curves, ablated, command, session.notes), asked.docs / PAGE)


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
            trained = [digest or teacher.key, one.cell.key, keep, asked.phases, asked.rate_share]
            key = hashlib.sha256(json.dumps(trained).encode()).hexdigest()[:16]
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


class _Teachers:
    """Teachers of runs; one that is trained here is kept until a run has another."""

    def __init__(self, asked: Convert, session: Session) -> None:
        self._asked, self._session = asked, session
        self._own: dict[str, Any] = {}

    def pair(self, run: Run, task: Task) -> tuple[nn.Module, Pupil, nn.Module]:
        """Teacher, the model to convert, and the control."""
        asked, cell = self._asked, run.scratch
        if asked.teacher is None:
            if run.teacher.key not in self._own:
                model = self._session.trained(run.teacher, asked.out / CHECKPOINTS)
                self._own = {run.teacher.key: model}
            teacher = self._own[run.teacher.key]
            return teacher, of_cell(cell, teacher), of_cell(cell, None).model
        teacher, drawn = load(asked.teacher, task)
        exchange = (cell.mechanism, cell.hyperparameters, run.keep)
        fresh = exchanged_in(drawn(cell.task.seed), *exchange)
        return teacher, exchanged_in(teacher, *exchange), fresh.model


def _convert(run: Run, asked: Convert, session: Session, teachers: _Teachers) -> Curve:
    began_s, work = cpu_s(), run.scratch.task
    task = build_task(work.task, work.settings)
    teacher, pupil, control = teachers.pair(run, task)

    def say(arm: str) -> Callable[[str], None]:
        return lambda words_: session.status(f"{run.describe()}, {arm}: {words_}")

    seed = work.seed
    whole = score_on_test_set(teacher, task, seed, torch.device("cpu"))
    source = f"a softmax model of {asked.num_layers} layers"
    source = shown(asked.teacher) if asked.teacher else source
    made = converted(pupil, teacher, task, asked.phases, asked.rate_share, seed, say("converted"))
    anew = from_scratch(control, task, asked.phases, seed, say("from scratch"))
    return Curve(
        key=run.key,
        task=work.label,
        attention=run.scratch.entry,
        keep=run.keep,
        seed=seed,
        phases=asked.phases,
        steps=looks(asked.phases),
        converted=made,
        scratch=anew,
        teacher=whole,
        chance=task.chance(),
        unit=task.unit,
        train_s=cpu_s() - began_s,
        source=source,
        origin=session.place,
    )
