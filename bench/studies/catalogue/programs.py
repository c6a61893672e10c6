"""Programs of a mechanism's page: one that trains a layer of it, one that decodes with the layer.

They follow from its claims: whether it has a causal form and steps, needs a grid, takes gates, has
a loss of its own, and where it has gradients.
"""

from __future__ import annotations

from collections.abc import Iterator

from attentions.catalogue import CatalogueEntry, mechanism_behind
from bench.publishing.templates import prose


def programs(entry: CatalogueEntry) -> Iterator[str]:
    """Sections of the page: a program that trains a layer, and one that decodes if it has steps.

    Where it has no gradients, a layer of the mechanism that it computes is trained, and its weights
    are loaded. Where it has them on a card alone, all is there.
    """
    can = entry.capabilities
    trained = entry.name if can.backward_devices else mechanism_behind(entry.name)
    on_card = bool(can.backward_devices) and "cpu" not in can.backward_devices
    half = ", torch.bfloat16" if "float32" not in can.dtypes else ""
    has_gates = bool(can.gates) and not entry.is_layer
    sizes = "seq_len=32, causal=True" if can.causal else "seq_len=49"
    values = {
        "name": entry.name,
        "trained": trained,
        "causal": can.causal,
        "sizes": sizes + ", grid=(7, 7)" * can.needs_grid,
        "settings": ', gates="tokens"' * has_gates,
        "more_loss": " + layer.auxiliary.mean()" * can.auxiliary_loss,
        "move": f'.to("cuda"{half})' * on_card,
        "device": ', device="cuda"' * on_card,
    }
    yield from ("## Train", "", prose(__file__, "train", **values))
    if can.recurrent:
        yield from ("", "## Decode", "")
        yield prose(__file__, "decode", **values)
