"""Test answers that were right or wrong: their error by example, and two models on one test set.

Ground floor: imports no torch.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from dataclasses import dataclass

import numpy as np

from bench.statistics import Interval

UNSEEN = 1.92
"""Answers added at either end to the spread of shares, half of z squared as in Wilson's interval.

Examples that were all answered rightly have no spread, and yet the next may be answered wrongly.
"""


def right_answers(packed: str, num_answers: int) -> np.ndarray:
    """Unpack which test answers were right: (answers,) of 0 and 1, in the order of the test set.

    Args:
        packed: base64 of zlib of `numpy.packbits`.
        num_answers: that were packed.

    Raises:
        ValueError: it is not that, or not of so many answers.
    """
    size = (num_answers + 7) // 8
    try:
        unpacker = zlib.decompressobj()
        # No further than is asked for, so that a damaged record cannot fill the memory.
        bits = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"answers are no base64 of zlib: {error}") from error
    if len(bits) != size:
        raise ValueError(f"answers have {len(bits)} bytes or more; {size} hold {num_answers} bits.")
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=num_answers)


def clustered_error(
    answers: np.ndarray, per_cluster: int = 1, ends: Interval = (0.0, 1.0)
) -> tuple[float, float]:
    """Standard error of the mean of answers that come in clusters: its size, degrees of freedom.

    Answers to one example are alike, so that a cluster counts and not an answer (Liang and Zeger,
    Biometrika 73 (1986), 13).

    Args:
        answers: (answers,), shares of right ones or differences of these.
        per_cluster: consecutive answers that belong to one example; the last cluster may have less.
        ends: the least and the greatest that an answer can be; `UNSEEN` clusters of each are added
            to the spread.
    """
    starts = np.arange(0, len(answers), per_cluster)
    mean = float(np.mean(answers))
    # (clusters,): what each adds to the sum beyond its share
    beyond = np.add.reduceat(answers - mean, starts)
    unseen = UNSEEN * per_cluster**2 * sum((end - mean) ** 2 for end in ends)
    num_clusters = len(starts)
    small = num_clusters / max(1, num_clusters - 1)
    variance = (small * float(np.sum(beyond**2)) + unseen) / len(answers) ** 2
    return math.sqrt(variance), max(1, num_clusters - 1)


@dataclass(frozen=True, kw_only=True)
class TwoModels:
    """Two trained models on one test set: nothing about the mechanisms, whose seeds differ more.

    Attributes:
        only_first, only_second: answers that one of the two had right.
        p_value: two-sided and exact, of models that are right equally often.
    """

    only_first: int
    only_second: int
    p_value: float

    def __str__(self) -> str:
        """In words that do not speak of mechanisms."""
        return (
            f"these two trained models: {self.only_first} answers right in the first alone, "
            f"{self.only_second} in the second alone, p = {self.p_value:.2g} (McNemar)"
        )


def mcnemar(first: np.ndarray, second: np.ndarray) -> TwoModels:
    """Compare two trained models, answer by answer; for one seed, and never for a rank.

    The exact test of McNemar, Psychometrika 12 (1947), 153, which takes answers for independent:
    several of one example are not.

    Args:
        first: (answers,), 1 where a model was right.
        second: likewise, on the same test set.

    Raises:
        ValueError: they are not equally many.
    """
    from scipy import special

    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers are not of one test set.")
    only_first, only_second = int(np.sum(first > second)), int(np.sum(second > first))
    fewer, apart = min(only_first, only_second), only_first + only_second
    chance = 2 * float(special.bdtr(fewer, apart, 0.5)) if apart else 1.0
    return TwoModels(only_first=only_first, only_second=only_second, p_value=min(1.0, chance))
