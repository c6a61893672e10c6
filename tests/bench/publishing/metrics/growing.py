"""Records of one entry over sequence lengths, with the ratios over softmax that a test asks for."""

import random
from collections.abc import Mapping

from bench.core.record import Record
from tests import records as made


def with_ratios(
    entry: str,
    ratios: Mapping[int, float],
    *,
    spread: float = 0.01,
    num_rounds: int = 20,
    seed: int = 0,
    flops: Mapping[int, int] | None = None,
    **observed: object,
) -> dict[int, Record]:
    """Records by length; each round's ratio is off by `spread`, normally distributed."""
    draw = random.Random(seed)
    found = {}
    for length, ratio in ratios.items():
        softmax = [1e-3 * draw.uniform(0.8, 1.25) for _ in range(num_rounds)]
        own = [s / ratio / (1 + draw.gauss(0, spread)) for s in softmax]
        speed = made.speed(own, softmax, flops=(flops or {}).get(length), **observed)
        found[length] = made.ok_record(made.kernel_cell(entry, seq_len=length), speed)
    return found


def with_times(
    entry: str,
    times: Mapping[int, float],
    *,
    spread: float = 0.0,
    num_rounds: int = 20,
    **more: object,
) -> dict[int, Record]:
    """Records by length, of calls that take so many seconds."""
    draw = random.Random(entry)
    return {
        length: made.ok_record(
            made.kernel_cell(entry, seq_len=length),
            made.speed([t * (1 + draw.gauss(0, spread)) for _ in range(num_rounds)], **more),
        )
        for length, t in times.items()
    }
