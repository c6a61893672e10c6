from __future__ import annotations

import pytest
import torch

from bench.core.cli.errors import ConfigError
from bench.measuring.tasks.base import Batch, Split, build_task
from bench.studies.diagnostics.trained import first_examples

TASK = build_task(
    "recall",
    {"vocab_size": 16, "num_pairs": 2, "seq_len": 16, "num_test_examples": 16, "batch_size": 4},
)


def test_examples_come_from_as_many_batches_as_they_take() -> None:
    whole = Batch.join([*TASK.batches(Split.TEST, 0)])
    assert torch.equal(first_examples(TASK, 0, 10).inputs, whole.inputs[:10])


def test_more_examples_than_there_are_is_bad_input() -> None:
    with pytest.raises(ConfigError, match="num_examples is 17, and the test set of recall has 16"):
        first_examples(TASK, 0, 17)
