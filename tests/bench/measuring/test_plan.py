from dataclasses import replace

import pytest

from attentions import Capabilities
from bench.core.cli.command import CONF, read_yaml
from bench.core.cli.errors import ConfigError
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import left_out, plan, planned_shapes, reference_cell
from bench.measuring.support import why_unsupported
from tests.bench.core.test_cell import KERNEL, TASK
from tests.bench.measuring.test_config import BASE


def planned(**changes):
    return plan(read_sweep_config(BASE | changes))


def test_the_plan_is_the_product_of_attention_and_shapes_and_of_attention_task_and_seed():
    cells = [
        p.cell
        for p in planned(
            seq_len=[64, 128], dtype=["float32", "bfloat16"], num_threads=[1, 2], seed=[0, 1, 2]
        )
    ]
    kernels = [c for c in cells if not c.is_task]
    tasks = [c for c in cells if c.is_task]
    assert len(kernels) == 2 * 2 * 2 * 2
    assert len(tasks) == 2 * 1 * 3
    assert {(c.task.dtype, c.num_threads) for c in tasks} == {("float32", 1)}
    assert len({c.key for c in cells}) == len(cells)
    both = [p.cell for p in planned(device=["cuda:0", "cpu"], dry_run=True)]
    assert {c.device for c in both if c.is_task} == {"cuda:0"}, "the first"
    assert {c.device for c in both if not c.is_task} == {"cuda:0", "cpu"}


def test_an_entry_can_have_a_longest_sequence():
    cells = planned(task={}, max_seq_len={"linear": 256}, seq_len=[256, 1024])
    assert [(p.cell.entry, p.cell.kernel.seq_len, p.unsupported) for p in cells] == [
        ("softmax", 256, None),
        ("linear", 256, None),
        ("softmax", 1024, None),
        ("linear", 1024, "left out of this sweep: max_seq_len.linear is 256."),
    ]
    with pytest.raises(ConfigError, match="plan is empty"):
        planned(task={}, max_seq_len={"linear": 8, "softmax": 8})
    with pytest.raises(
        ConfigError, match=r"max_seq_len names .softmax_explict.,.* Did you mean soft"
    ):
        planned(max_seq_len={"softmax_explict": 8})
    # A suite can limit an entry that this sweep does not have, and a reference is a row.
    assert len(planned(max_seq_len={"softmax_explicit": 8}, seq_len=256, task={})) == 2
    limited = planned(max_seq_len={"nala": 8}, reference="nala", seq_len=256, task={})
    assert [p.cell.entry for p in limited if p.unsupported] == ["nala"]


def test_an_entry_can_be_trained_alone_or_timed_alone():
    both = {"task_only": ["linear"], "speed_only": ["softmax"], "seq_len": 256}
    cells = [p.cell for p in planned(**both)]
    assert [(c.entry, c.is_task) for c in cells] == [("softmax", False), ("linear", True)]
    with pytest.raises(ConfigError, match=r"plan is empty: .* leaves nothing"):
        planned(task_only=["linear", "softmax"], task={})
    with pytest.raises(ConfigError, match=r"speed_only names .softmx.,.* Did you mean soft"):
        planned(speed_only=["softmx"])
    # A suite can name an entry that this sweep does not have.
    assert len(planned(task_only=["gla"], seq_len=256, task={})) == 2


def test_a_cell_holds_all_hyperparameters_so_that_a_later_default_cannot_change_it():
    bare = planned(attention={"linear": {"mechanism": "linear"}}, task={})[0].cell
    written = planned(attention={"linear": {"mechanism": "linear", "eps": 1e-6}}, task={})[0].cell
    assert bare.hyperparameters == {"eps": 1e-6}
    assert bare.key == written.key


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attention": {"x": {"mechanism": "sofmax"}}}, ["sofmax", "Did you mean softmax"]),
        (
            {"attention": {"p": {"mechanism": "performer", "num_featurs": 3}}},
            ["'p'", "num_featurs", "Did you mean num_features", "your attention/p.yaml"],
        ),
        (
            {"attention": {"p": {"mechanism": "performer", "num_features": -1}}},
            ["num_features", "-1"],
        ),
        ({"attention": {"n": {"mechanism": "nala", "eps": "small"}}}, ["'n'"]),
        ({"task": {"r": {"task": "recal"}}}, ["recal", "Did you mean recall"]),
        ({"task": {"r": {"task": "recall", "num_step": 1}}}, ["num_step", "num_steps"]),
        ({"task": {"r": {"task": "recall", "num_pairs": 10_000}}}, ["num_pairs"]),
        ({"device": "cuda:7"}, ["cuda:7", "cpu"]),
        ({"plugins": ["no_such_module"]}, ["no_such_module", "cannot be imported"]),
    ],
)
def test_mistakes_stop_before_anything_is_measured(changes, words):
    with pytest.raises(ConfigError) as error:
        planned(**changes)
    for word in words:
        assert word in str(error.value)


def test_a_shape_that_cannot_be_built_is_skipped_with_the_constructors_words():
    entry = {"nala_rope": {"mechanism": "nala", "rope": True}}
    odd, even = planned(attention=entry, task={}, seq_len=64, head_dim=[6, 8])
    assert "head_dim" in odd.unsupported and "6" in odd.unsupported
    assert even.unsupported is None


def test_a_layer_that_does_not_fit_a_task_is_skipped_with_its_constructors_words_as_a_row_is():
    rows = {"mixed": {"layers": ["softmax", "differential"]}, "softmax": {"mechanism": "softmax"}}
    task = {"task": "recall", "embed_dim": 60, "num_heads": 4}  # 15 channels per head are odd
    mixed, softmax = planned(attention=rows, task={"recall": task}, seq_len=[])
    assert softmax.unsupported is None
    assert mixed.unsupported.startswith("differential cannot be built: ")


CAN = Capabilities()
EVERYTHING = Capabilities(causal=True, cross=True, recurrent=True, masks=frozenset({"padding"}))


@pytest.mark.parametrize(
    ("capabilities", "changes", "word"),
    [
        (CAN, {"causal": True}, "causal"),
        (replace(CAN, bidirectional=False, causal=True), {}, "causal only"),
        (replace(CAN, scopes=("layer",)), {}, "layer"),
        (replace(CAN, dtypes=("float32",)), {"dtype": "float16"}, "float16"),
        (
            replace(CAN, backward_devices=("cuda",)),
            {"mode": "forward_backward"},
            "no backward pass on cpu; it has one on cuda",
        ),
        (CAN, {"key_len": 9}, "needs as many keys as queries"),
        (CAN, {"padding": 0.25}, "takes no mask over keys"),
        (CAN, {"ragged": 0.5, "batch_size": 2}, "takes no mask over keys"),
        (replace(CAN, causal=True), {"causal": True, "mode": "prefill"}, "keeps no state"),
    ],
)
def test_each_missing_capability_has_its_sentence(capabilities, changes, word):
    cell = replace(KERNEL, workload=replace(KERNEL.kernel, **changes))
    assert word in why_unsupported(capabilities, cell)
    assert why_unsupported(EVERYTHING, cell) is None


def test_a_mode_that_does_not_fit_the_rest_of_a_cell_has_its_sentence():
    for mode, needed in (("prefill", "with causal=true"), ("train_step", "at scope layer")):
        cell = replace(KERNEL, workload=replace(KERNEL.kernel, mode=mode))
        assert f"{mode} runs {needed}" in why_unsupported(EVERYTHING, cell)


def test_devices_packages_and_tasks_are_looked_at_too():
    on_cuda = replace(KERNEL, device="cuda:0")
    assert "cuda:0" in why_unsupported(replace(CAN, devices=("cpu",)), on_cuda)
    assert why_unsupported(CAN, on_cuda) is None
    needs = replace(CAN, requires=("no_such_package",))
    assert "no_such_package" in why_unsupported(needs, KERNEL)
    causal_only = replace(CAN, bidirectional=False, causal=True)
    assert "causal only" in why_unsupported(causal_only, TASK)
    causal_task = replace(TASK, workload=replace(TASK.task, settings={"causal": True}))
    assert why_unsupported(causal_only, causal_task) is None
    assert "no causal form; recall is causal" in why_unsupported(CAN, causal_task)
    turned = replace(TASK, workload=replace(TASK.task, settings={"position": "rope"}))
    assert "owns its projections" in why_unsupported(replace(CAN, scopes=("layer",)), turned)
    assert "does not take float32" in why_unsupported(replace(CAN, dtypes=("float16",)), TASK)
    forward_only = replace(CAN, backward_devices=())
    assert "no backward pass" in why_unsupported(forward_only, TASK)
    assert why_unsupported(forward_only, KERNEL) is None


def test_recall_causal_is_the_cell_of_recall_with_causal_set_its_searched_rate_included():
    settings = read_yaml(CONF / "task" / "recall.yaml")["recall"] | {"causal": True}
    rates = read_yaml(CONF / "rates" / "searched.yaml")

    def cells(label):
        return [p.cell for p in planned(seq_len=[], task={label: settings}, rates=rates)]

    assert [c.key for c in cells("recall")] == [c.key for c in cells("recall_causal")]
    assert all(c.task.shared_rate == settings["learning_rate"] for c in cells("recall"))


def test_data_that_is_missing_is_a_reason_and_data_that_is_wrong_a_mistake(tmp_path):
    def cells(**settings):
        task = {"cifar10": {"task": "cifar10", **settings}}
        return planned(seq_len=[], task=task)

    assert {p.unsupported[:19] for p in cells()} == {"There are no images"}
    with pytest.raises(
        ConfigError, match=r"task entry 'cifar10': .*data_batch_1\.bin is not there"
    ):
        cells(root=str(tmp_path))


def test_a_reference_is_the_entry_as_it_was_set_and_never_compiled():
    attention = {
        "nala": {"mechanism": "nala"},
        "small": {"mechanism": "performer", "num_features": 8},
    }
    changes = {"attention": attention, "reference": {"nala": "small"}, "compile": "inductor"}
    config = read_sweep_config(BASE | changes)
    cell = replace(KERNEL, entry="nala", workload=replace(KERNEL.kernel, compile="inductor"))
    reference = reference_cell(cell, config)
    assert (reference.entry, reference.mechanism) == ("small", "performer")
    assert reference.hyperparameters["num_features"] == 8
    assert reference.kernel.compile == "eager" and reference.block == cell.block
    assert reference_cell(cell).mechanism == "softmax"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nalla", ["'nalla'", "Did you mean nala"]),
        ({"linear": "nalla"}, ["'nalla'", "Did you mean nala"]),
        ({"linnear": "nala"}, ["row 'linnear'", "Did you mean linear"]),
    ],
)
def test_a_reference_that_nothing_goes_by_is_refused_with_the_nearest_names(reference, words):
    with pytest.raises(ConfigError) as error:
        planned(reference=reference)
    assert all(word in str(error.value) for word in words)


def test_a_row_trains_at_the_rate_that_was_searched_for_it_and_says_so():
    def cells(**changes):
        rows = planned(
            seq_len=[], task={"recall": {"task": "recall"}} | changes.pop("task", {}), **changes
        )
        return {p.cell.entry: p.cell for p in rows}

    shared = cells()
    found = {
        "mechanism": "linear",
        "hyperparameters": shared["linear"].hyperparameters,
        "learning_rate": 0.03,
        "is_at_edge": True,
        "tried": [[0.03, 0.9]],
    }
    settings = shared["linear"].task.settings
    rates = {"recall": [{"settings": settings, "entries": {"linear": found}}]}
    own = cells(rates=rates)
    assert own["softmax"] == shared["softmax"] and own["softmax"].task.shared_rate is None
    work = own["linear"].task
    assert (work.settings["learning_rate"], work.shared_rate) == (0.03, 0.006)
    assert work.is_at_edge and not own["softmax"].task.is_at_edge
    assert work.shared_settings == shared["linear"].task.shared_settings
    # The same run that a rate given by hand is; and one that is given is for all rows.
    by_hand = {"recall": {"task": "recall", "learning_rate": 0.03}}
    assert own["linear"].key == cells(task=by_hand)["linear"].key
    assert cells(task=by_hand, rates=rates)["linear"].task.shared_rate is None


CANVAS = {"task": "canvas", "num_steps": 5}


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"task": "recall"}, "whose tokens are no patches of an image. Take task="),
        (CANVAS | {"conv_width": 3}, "other neighbours or places. Set conv_width=1"),
        (CANVAS | {"position": "rope"}, "other neighbours or places"),
        (
            {"task": "fashion_mnist"},
            "does not know where its objects are, and object_rate needs that; canvas",
        ),
    ],
)
def test_token_filters_are_refused_where_tokens_cannot_be_dropped(task, words):
    with pytest.raises(ConfigError, match=words):
        planned(seq_len=[], task={"it": task}, token_filter="object_rate", token_keep=[0.5])


def test_filters_belong_to_the_cell_and_leave_those_without_them_alone():
    (plain, *_), (filtered, *_) = (
        [p.cell for p in planned(seq_len=[], task={"canvas": CANVAS}, **more)]
        for more in ({}, {"token_filter": ["none", "random"], "token_keep": [0.5]})
    )
    assert plain.key != filtered.key
    assert "token_filters" not in plain.to_dict()
    assert filtered.task.token_filters == ("random",) and filtered.task.token_keep == (0.5,)
    assert type(filtered).from_dict(filtered.to_dict()) == filtered
    assert filtered.task.shared_settings != plain.task.shared_settings  # another table


def axes(**changes):
    return read_sweep_config(BASE | {"seq_len": 64, "batch_size": 4} | changes).axes


def test_as_many_keys_as_queries_are_the_cell_without_key_len():
    assert [w.key_len for w in planned_shapes(axes(key_len=[32, 64]))] == [32, None]
    assert [w.key_len for w in planned_shapes(axes(key_len=[None, 64, 32]))] == [None, 32]


def test_shapes_without_a_meaning_are_left_out_where_others_remain():
    wanted = axes(mode=["forward", "prefill"], causal=True, padding=[0, 0.25], ragged=[0, 0.5])
    found = [(w.mode, w.padding, w.ragged) for w in planned_shapes(wanted)]
    assert found == [
        ("forward", 0.0, 0.0),
        ("prefill", 0.0, 0.0),
        ("forward", 0.0, 0.5),
        ("forward", 0.25, 0.0),
    ]
    assert sum(left_out(wanted).values()) == 2 * 2 * 2 - len(found)


def test_a_sweep_whose_shapes_all_contradict_themselves_is_refused():
    with pytest.raises(ConfigError, match=r"key_len needs causal=false.* Change one"):
        planned_shapes(axes(key_len=32, causal=True))
    with pytest.raises(ConfigError, match="batch_size is 1"):
        planned_shapes(axes(ragged=0.5, batch_size=1))
