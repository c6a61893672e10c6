from dataclasses import replace

import pytest

from bench.core.cell import Cell, KernelWorkload, TaskWorkload
from bench.core.workloads import LATER_SETTINGS
from tests.records import kernel_cell, model_cell, task_cell

KERNEL = Cell(
    entry="performer_m64",
    mechanism="performer",
    hyperparameters={"num_features": 64},
    device="cpu",
    num_threads=1,
    workload=KernelWorkload(
        seq_len=128,
        batch_size=1,
        num_heads=4,
        head_dim=64,
        dtype="float32",
        mode="forward",
        causal=False,
        scope="core",
    ),
)
TASK = replace(
    KERNEL, workload=TaskWorkload(label="recall", task="recall", settings={"num_steps": 5}, seed=0)
)


def test_a_cell_survives_its_json_form():
    filters = {"token_filters": ("random",), "token_keep": (0.5, 0.7)}
    filtered = replace(TASK, workload=replace(TASK.task, **filters))
    assert filtered.key != TASK.key
    for cell in (KERNEL, TASK, filtered):
        assert Cell.from_dict(cell.to_dict()) == cell
        assert Cell.from_dict(cell.to_dict()).key == cell.key


def test_a_name_and_how_a_rate_was_found_do_not_change_the_key():
    assert replace(KERNEL, entry="other").key == KERNEL.key
    assert replace(TASK, workload=replace(TASK.task, label="quick")).key == TASK.key
    searched = replace(TASK.task, shared_rate=0.1, is_at_edge=True)
    assert replace(TASK, workload=searched).key == TASK.key


def test_every_field_that_is_measured_changes_the_key():
    others = [
        replace(KERNEL, mechanism="linear"),
        replace(KERNEL, hyperparameters={"num_features": 65}),
        replace(KERNEL, num_threads=2),
        replace(KERNEL, device="cuda:0"),
        *(
            replace(KERNEL, workload=replace(KERNEL.kernel, **{name: value}))
            for name, value in {
                "seq_len": 129,
                "batch_size": 2,
                "num_heads": 5,
                "head_dim": 65,
                "dtype": "float64",
                "mode": "forward_backward",
                "causal": True,
                "scope": "layer",
            }.items()
        ),
        replace(TASK, workload=replace(TASK.task, seed=1)),
        replace(TASK, workload=replace(TASK.task, settings={"num_steps": 6})),
        TASK,
    ]
    keys = {cell.key for cell in [KERNEL, *others]}
    assert len(keys) == len(others) + 1


def test_mechanisms_compilers_and_numbers_of_threads_of_one_shape_share_a_block():
    other = replace(KERNEL, entry="linear", mechanism="linear", hyperparameters={"eps": 1e-6})
    compiled = replace(KERNEL, workload=replace(KERNEL.kernel, compile="inductor"))
    assert other.block == compiled.block == replace(KERNEL, num_threads=2).block == KERNEL.block
    assert compiled.key != KERNEL.key and compiled.eager == KERNEL and TASK.eager == TASK
    longer = replace(KERNEL, workload=replace(KERNEL.kernel, seq_len=129))
    assert longer.block != KERNEL.block


def test_an_axis_that_came_later_leaves_the_keys_of_earlier_records_alone():
    flat = KERNEL.to_dict()
    later = {"cache": "cold", "compile": "inductor", "num_kv_heads": 2}
    later |= {"key_len": 77, "padding": 0.25, "ragged": 0.5}
    for axis in later:
        del flat[axis]
    assert Cell.from_dict(flat).key == KERNEL.key
    for axis, value in later.items():
        assert replace(KERNEL, workload=replace(KERNEL.kernel, **{axis: value})).key != KERNEL.key


def test_the_keys_of_stored_records_stay_what_they_are():
    assert KERNEL.key == "ab2a9ce2424e1d35"
    assert TASK.key == "943d6d55172eec9d"
    assert model_cell("nala").key == "a1116fd84fed57a4"
    cold = replace(KERNEL, workload=replace(KERNEL.kernel, cache="cold", num_kv_heads=2))
    assert cold.key == "5e9c3898f18ceec4"


def shape(**changes):
    return replace(KERNEL.kernel, **changes)


def test_rows_of_a_batch_have_the_tokens_that_are_no_padding_the_longest_first():
    assert shape(batch_size=3).row_lens == {(128, 128): 3}
    assert shape(key_len=40).row_lens == {(128, 40): 1}
    assert shape(padding=0.25, batch_size=3).row_lens == {(128, 96): 3}
    assert shape(padding=0.25, key_len=40).row_lens == {(128, 30): 1}
    assert shape(padding=0.25, causal=True).row_lens == {(96, 96): 1}
    ragged = shape(ragged=0.5, batch_size=5)
    assert list(ragged.row_lens) == [(n, n) for n in (128, 112, 96, 80, 64)]
    assert ragged.num_tokens == 128 + 112 + 96 + 80 + 64
    assert shape(ragged=0.001, batch_size=3).row_lens == {(128, 128): 3}
    assert shape(mode="decode", causal=True, batch_size=3).num_tokens == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key_len": 40, "causal": True}, "key_len needs causal=false"),
        ({"key_len": 40, "scope": "layer"}, "key_len needs scope=core"),
        ({"padding": 0.5, "scope": "layer"}, "a layer is called without one"),
        ({"padding": 0.5, "mode": "prefill", "causal": True}, "prefill and decode are called"),
        ({"ragged": 0.5, "batch_size": 2, "mode": "decode", "causal": True}, "without one"),
        ({"padding": 0.5, "ragged": 0.5, "batch_size": 2}, "one of them has to be 0"),
        ({"ragged": 0.5}, "batch_size is 1"),
        ({"ragged": 0.5, "batch_size": 2**20}, "up to 65,536 rows"),
        ({"padding": 1.0}, "padding=1 leaves a row of 128 keys with none"),
    ],
)
def test_a_shape_without_a_meaning_says_why(changes, words):
    assert words in shape(**changes).contradiction
    assert shape().contradiction is None


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (kernel_cell("nala", seq_len=1024), "nala seq_len=1024 float32 forward cpu"),
        (
            kernel_cell(causal=True, scope="layer", cache="cold", num_kv_heads=2),
            "softmax seq_len=256 float32 forward causal layer cold num_kv_heads=2 cpu",
        ),
        (
            kernel_cell(key_len=77, padding=0.25, batch_size=2),
            "softmax seq_len=256 float32 forward key_len=77 padding=0.25 cpu",
        ),
        (model_cell("nala"), "nala nalaformer_xt image_size=224 float32 forward cpu"),
        (task_cell("nala", "digits", 3), "nala digits seed=3"),
    ],
)
def test_a_cell_describes_itself_by_what_is_not_usual(cell, words):
    assert cell.describe() == words


def test_a_later_hyperparameter_at_its_old_value_leaves_the_key_alone():
    old = replace(KERNEL, mechanism="deltanet", hyperparameters={"scale": None})
    said = replace(old, hyperparameters={"scale": None, "negative_eigenvalues": False})
    other = replace(old, hyperparameters={"scale": None, "negative_eigenvalues": True})
    assert said.key == old.key != other.key
    kda = replace(said, mechanism="kda")
    assert kda.key != replace(old, mechanism="kda").key


def test_settings_that_rows_share_have_their_shared_rate_later_settings_and_what_is_filtered():
    work = replace(TASK.task, settings={"learning_rate": 0.3, "head_norm": True})
    usual = LATER_SETTINGS | {"head_norm": True}
    assert work.shared_settings == usual | {"learning_rate": 0.3}
    filters = {"token_filters": ("random",), "token_keep": (0.5,)}
    shared = replace(work, shared_rate=0.1, **filters).shared_settings
    told = {"learning_rate": 0.1, "token_filters": ["random"], "token_keep": [0.5]}
    assert shared == usual | told


def test_a_mode_says_its_work_in_forward_passes_and_whether_it_takes_gradients():
    modes = ("forward", "prefill", "decode", "backward", "forward_backward", "train_step")
    works = [replace(KERNEL.kernel, mode=mode) for mode in modes]
    assert [w.flops_factor for w in works] == [1, 1, 1, 2, 3, 3]
    assert [w.has_backward for w in works] == [False] * 3 + [True] * 3
