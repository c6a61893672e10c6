from __future__ import annotations

from bench.publishing.metrics import evaluate
from tests import records as made

IMAGES, TOKENS = "throughput_images_per_s", "throughput_tokens_per_s"


def test_throughput_is_tokens_of_the_whole_batch_per_second() -> None:
    cell = made.kernel_cell(batch_size=8, seq_len=1024)
    record = made.ok_record(cell, made.speed([0.5, 0.5, 9.0], tokens_per_call=8 * 1024))
    assert evaluate(record, ["throughput_tokens_per_s"]) == {"throughput_tokens_per_s": 16384.0}


def test_a_whole_model_is_counted_in_images_and_a_mechanism_in_tokens() -> None:
    model = made.ok_record(made.model_cell(batch_size=4), made.speed([0.5, 0.5, 9.0]))
    assert evaluate(model, [IMAGES, TOKENS]) == {IMAGES: 8.0, TOKENS: None}
    core = made.ok_record(made.kernel_cell(), made.speed([0.5]))
    assert evaluate(core, [IMAGES]) == {IMAGES: None}
