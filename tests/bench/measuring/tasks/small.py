"""Every task that needs no file from outside, small enough to be drawn whole within a moment."""

from itertools import islice

from bench.measuring.tasks.base import Split, build_task

_FEW = {"batch_size": 8, "num_test_examples": 24}
_MAD = _FEW | {"num_train_examples": 16}
SMALL = {
    "associative_recall": _FEW | {"num_train_examples": 16, "vocab_size": 10, "context_len": 20},
    "bytes": {"batch_size": 8, "context_len": 512},
    "canvas": _FEW,
    "copy": _FEW,
    "digits": {"batch_size": 8},
    "even_pairs": _FEW,
    "induction": _FEW | {"num_train_examples": 16},
    "listops": _FEW | {"min_len": 10, "max_len": 60, "max_depth": 4},
    "mad_compression": _MAD,
    "mad_fuzzy_recall": _MAD,
    "mad_memorization": _MAD,
    "mad_noisy_recall": _MAD,
    "mad_recall": _MAD,
    "mad_selective_copy": _MAD | {"seq_len": 64},
    "mqar": _FEW | {"num_train_examples": 32},
    "parity": _FEW,
    "recall": _FEW,
    "reverse_string": _FEW,
    "selective_copy": _FEW,
    "tile_recall": _FEW,
    "word_problem": _FEW,
}


def drawn(name, split=Split.TRAIN, seed=0, count=3, **settings):
    """Batches of a small task; of the test set all of them."""
    batches = build_task(name, SMALL.get(name, {}) | settings).batches(split, seed)
    return list(batches if split is Split.TEST else islice(batches, count))


def examples(batches):
    """Each example as inputs, targets and positions, in lists."""
    return [
        (inputs, targets, None if batch.positions is None else batch.positions[row].tolist())
        for batch in batches
        for row, (inputs, targets) in enumerate(
            zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True)
        )
    ]
