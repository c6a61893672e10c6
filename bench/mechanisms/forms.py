"""Which form of an entry is compared with which other, and why some entries have no other."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import attentions
from bench.app.errors import ConfigError
from bench.config import AttentionEntry
from bench.plan import REFERENCE, checked_hyperparameters

SWITCH = "implementation"
"""The hyperparameter that chooses a form."""

NO_OTHER_FORM = {
    "linear_unnormalised": "the reference code has the same two products",
    "dpfp": "the authors' features are the same operators; their sums are a CUDA kernel",
    "hedgehog": "the authors' features are the same two softmaxes; their sums are a CUDA kernel or "
    "N x N weights",
    "taylor": "the plain reference code is the N x N form, which form=explicit is",
    "rfa": "no numbers of the authors' code are here to prove its operators by",
    "sigmoid": "no numbers of the authors' code are here to prove its operators by",
    "retnet, lightning, simple_gla, gla, deltanet, gated_deltanet, mamba2_ssd": "the published "
    "code is GPU kernels; its plain references are loops over tokens",
    "reformer, topk, block_sparse, sliding_window": "no numbers of the authors' code are here to "
    "prove its operators by",
}
"""Entry, or several, -> why nothing is compared. The page says it."""


CORES = {"flatten_layer": ("flatten_layer_core", "bench.mechanisms.flatten_core")}
"""Mechanism that owns its projections -> what is left without them, and the module that has it."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An entry by our form and by the one that it is compared with.

    Attributes:
        against: the other form's name, ``official`` or ``plain``.
        scope: ``core``, or ``layer`` for a mechanism that owns its projections.
        plugins: modules that register the mechanism; see `CORES`.
    """

    ours: AttentionEntry
    other: AttentionEntry
    against: str
    scope: str
    plugins: tuple[str, ...] = ()


def pairs_of(entries: Iterable[AttentionEntry], *, causal: bool) -> Iterator[Pair]:
    """Each entry beside its other form: published operators, or if causal its own plain form.

    Causal, no published code is plain torch. Entries without a causal form are left out then. A
    layer of `CORES` is followed by what it does between its projections.

    Raises:
        ConfigError: an unknown entry, or one that has one form only.
    """
    for given in entries:
        entry = replace(given, hyperparameters=checked_hyperparameters(given))
        if SWITCH not in entry.hyperparameters:
            reason = NO_OTHER_FORM.get(entry.mechanism)
            raise ConfigError(
                f"attention={entry.label}: {entry.mechanism} has one form only"
                f"{f': {reason}' if reason else ''}. Name entries that take {SWITCH}."
            )
        capabilities = attentions.attention_class(entry.mechanism).capabilities
        if not (capabilities.causal if causal else capabilities.bidirectional):
            continue
        against = "plain" if causal else "official"
        yield _pair(entry, against, scope="core" if "core" in capabilities.scopes else "layer")
        if entry.mechanism in CORES and entry.hyperparameters["sr_ratio"] == 1:
            mechanism, module = CORES[entry.mechanism]
            yield _pair(_core_of(entry, mechanism, module), against, scope="core", plugin=module)


def _core_of(entry: AttentionEntry, mechanism: str, module: str) -> AttentionEntry:
    """A layer's core, set as the layer is."""
    importlib.import_module(module)  # registers it
    taken = attentions.hyperparameters(mechanism)
    settings = {name: value for name, value in entry.hyperparameters.items() if name in taken}
    return AttentionEntry(
        label=f"{entry.label} core", mechanism=mechanism, hyperparameters=settings
    )


def _pair(entry: AttentionEntry, against: str, *, scope: str, plugin: str | None = None) -> Pair:
    settings = entry.hyperparameters | {SWITCH: against}
    return Pair(
        ours=entry,
        other=replace(entry, label=f"{entry.label} {against}", hyperparameters=settings),
        against=against,
        scope=scope,
        plugins=() if plugin is None else (plugin,),
    )


def softmax() -> AttentionEntry:
    """The yardstick."""
    settings = attentions.hyperparameters(REFERENCE)
    return AttentionEntry(label=REFERENCE, mechanism=REFERENCE, hyperparameters=settings)
