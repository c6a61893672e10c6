"""Test answers that were right or wrong: their error by example, and two models on one test set.

Imports no torch.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.core.statistics import Interval

UNSEEN = 1.92
"""Pseudo-answers added at each end of the scale to a spread: z^2 / 2, as in Wilson's interval.

Examples that were all answered correctly have no spread, yet the next may be answered wrongly.
"""


def right_answers(packed: str, num_answers: int) -> np.ndarray:
    """Unpack which test answers were right: (answers,) of 0 and 1, in the order of the test set.

    `packed` is base64 of zlib of `numpy.packbits`.

    Raises:
        ValueError: `packed` is not that, or holds another number of answers.
    """
    size = (num_answers + 7) // 8
    bits = _unpacked(packed, size + 1, "answers")
    if len(bits) != size:
        raise ValueError(f"answers have {len(bits)} bytes or more; {size} hold {num_answers} bits.")
    return np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=num_answers)


def losses_of_examples(packed: str, num_answers: int) -> np.ndarray:
    """Unpack the mean loss of each test example: (examples,) of float64, exact copies of float16.

    `packed` is base64 of zlib of little-endian float16; each example has an answer or more.

    Raises:
        ValueError: `packed` is not that, or holds more than `num_answers` losses or one that is
            not finite.
    """
    content = _unpacked(packed, 2 * num_answers + 1, "window_losses")
    if not content or len(content) % 2 or len(content) > 2 * num_answers:
        raise ValueError(
            f"window_losses have {len(content)} bytes; 2 for each of 1 to {num_answers} examples "
            "are expected."
        )
    losses = np.frombuffer(content, dtype="<f2").astype(np.float64)
    if not np.isfinite(losses).all():
        raise ValueError("window_losses hold what is not a finite number.")
    return losses


def _unpacked(packed: str, most: int, name: str) -> bytes:
    """Decode base64 of zlib, up to `most` bytes: a damaged record cannot fill the memory."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(packed, validate=True), most)
    except (binascii.Error, zlib.error) as error:
        raise ValueError(f"{name} are not base64 of zlib: {error}") from error
    if len(content) < most and (not unpacker.eof or unpacker.unused_data):
        raise ValueError(f"{name} end before their zlib stream does, or go on behind it.")
    return content


def error_of_score(sums: np.ndarray, counts: np.ndarray) -> float | None:
    """Standard error of the mean over all answers, as training stores it in a record.

    The linearised error of a ratio with independent clusters; the variance has a factor of G / (G -
    1) for G clusters. Unlike `clustered_error` it adds no pseudo-answers. None with fewer than two
    clusters. `sums`, (G,), are the values of each cluster added up, and `counts`, (G,), its
    answers.
    """
    num_clusters, total = len(sums), float(counts.sum())
    if num_clusters < 2:
        return None
    residuals = sums - counts * (float(sums.sum()) / total)
    variance = float((residuals**2).sum()) * num_clusters / (num_clusters - 1)
    return math.sqrt(variance) / total


def clustered_error(
    answers: np.ndarray, per_cluster: int = 1, ends: Interval = (0.0, 1.0)
) -> tuple[float, float]:
    """Standard error of the mean of answers that come in clusters, and its degrees of freedom.

    Answers to one example are correlated, so the unit of observation is the cluster, not the answer
    (Liang and Zeger, Biometrika 73 (1986), 13).

    Args:
        answers: (answers,), each the share of seeds that were right, or a difference of two shares.
        per_cluster: consecutive answers to one example; the last cluster may have fewer.
        ends: smallest and largest possible answer; `UNSEEN` clusters of each are added to the
            spread.
    """
    starts = np.arange(0, len(answers), per_cluster)
    mean = float(np.mean(answers))
    # (clusters,): each cluster's sum less what the mean predicts
    beyond = np.add.reduceat(answers - mean, starts)
    unseen = UNSEEN * per_cluster**2 * sum((end - mean) ** 2 for end in ends)
    num_clusters = len(starts)
    small = num_clusters / max(1, num_clusters - 1)
    variance = (small * float(np.sum(beyond**2)) + unseen) / len(answers) ** 2
    return math.sqrt(variance), max(1, num_clusters - 1)


@dataclass(frozen=True, kw_only=True)
class TwoModels:
    """Comparison of two trained models on one test set.

    It says nothing about their mechanisms: the seeds of one mechanism may differ by more.

    Attributes:
        only_first, only_second: answers that only this model got right.
        p_value: exact and two-sided, for models that are right equally often.
    """

    only_first: int
    only_second: int
    p_value: float

    WORDS: ClassVar[str] = (
        "these two trained models: {only_first} answers right in the first alone, "
        "{only_second} in the second alone, p = {p_value} (McNemar)"
    )

    def __str__(self) -> str:
        """As a sentence about the models, which does not name their mechanisms."""
        return self.WORDS.format(
            only_first=self.only_first, only_second=self.only_second, p_value=self.p_words
        )

    @property
    def p_words(self) -> str:
        """`p_value` with two significant digits."""
        return f"{self.p_value:.2g}"


def mcnemar(first: np.ndarray, second: np.ndarray) -> TwoModels:
    """Compare two trained models answer by answer: for one seed, never for a rank.

    The exact test of McNemar, Psychometrika 12 (1947), 153, which assumes independent answers:
    several answers to one example are not. Both are (answers,) on one test set, 1 where a model was
    right.

    Raises:
        ValueError: the two have different numbers of answers.
    """
    from scipy import special

    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} answers are not of one test set.")
    only_first, only_second = int(np.sum(first > second)), int(np.sum(second > first))
    fewer, apart = min(only_first, only_second), only_first + only_second
    chance = 2 * float(special.bdtr(fewer, apart, 0.5)) if apart else 1.0
    return TwoModels(only_first=only_first, only_second=only_second, p_value=min(1.0, chance))
