from dataclasses import replace

import pytest

from bench.cell import Cell, KernelWorkload, TaskWorkload
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
    for cell in (KERNEL, TASK):
        assert Cell.from_dict(cell.to_dict()) == cell
        assert Cell.from_dict(cell.to_dict()).key == cell.key


def test_renaming_an_entry_or_a_task_label_does_not_change_the_key():
    assert replace(KERNEL, entry="other").key == KERNEL.key
    assert replace(TASK, workload=replace(TASK.task, label="quick")).key == TASK.key


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


def test_the_json_form_is_flat_and_names_the_axes():
    flat = KERNEL.to_dict()
    assert flat["seq_len"] == 128 and flat["dtype"] == "float32" and flat["kind"] == "kernel"
    assert TASK.to_dict()["task"] == "recall" and TASK.to_dict()["seed"] == 0


def test_an_axis_that_came_later_leaves_the_keys_of_earlier_records_alone():
    flat = KERNEL.to_dict()
    for axis in ("cache", "compile", "num_kv_heads"):
        del flat[axis]
    assert Cell.from_dict(flat).key == KERNEL.key
    for axis, value in {"cache": "cold", "compile": "inductor", "num_kv_heads": 2}.items():
        assert replace(KERNEL, workload=replace(KERNEL.kernel, **{axis: value})).key != KERNEL.key


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (kernel_cell("nala", seq_len=1024), "nala seq_len=1024 float32 forward cpu"),
        (
            kernel_cell(causal=True, scope="layer", cache="cold", num_kv_heads=2),
            "softmax seq_len=256 float32 forward causal layer cold num_kv_heads=2 cpu",
        ),
        (kernel_cell(compile="inductor"), "softmax seq_len=256 float32 forward inductor cpu"),
        (model_cell("nala"), "nala nalaformer_xt image_size=224 float32 forward cpu"),
        (task_cell("nala", "digits", 3), "nala digits seed=3"),
    ],
)
def test_a_cell_describes_itself_by_what_is_not_usual(cell, words):
    assert cell.describe() == words
