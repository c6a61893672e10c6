"""Which form of an entry is compared with which other, and why some entries have no other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import attentions
from bench.config import AttentionEntry
from bench.errors import ConfigError
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


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An entry by our form and by the one that it is compared with.

    Attributes:
        against: the other form's name, ``official`` or ``plain``.
        scope: ``core``, or ``layer`` for a mechanism that owns its projections.
    """

    ours: AttentionEntry
    other: AttentionEntry
    against: str
    scope: str


def pairs_of(entries: Iterable[AttentionEntry], *, causal: bool) -> Iterator[Pair]:
    """Each entry beside its other form: published operators, or if causal its own plain form.

    Causal, no published code is plain torch. Entries without a causal form are left out then.

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
        settings = entry.hyperparameters | {SWITCH: against}
        yield Pair(
            ours=entry,
            other=replace(entry, label=f"{entry.label} {against}", hyperparameters=settings),
            against=against,
            scope="core" if "core" in capabilities.scopes else "layer",
        )


def softmax() -> AttentionEntry:
    """The yardstick."""
    settings = attentions.hyperparameters(REFERENCE)
    return AttentionEntry(label=REFERENCE, mechanism=REFERENCE, hyperparameters=settings)
