import pytest

from bench.core.cli.command import read_yaml
from bench.core.cli.errors import ConfigError
from bench.core.places import CONF
from bench.measuring.config import Shard, read_sweep_config

BASE = read_yaml(CONF / "sweep.yaml") | {
    "attention": {
        "softmax": {"mechanism": "softmax"},
        "linear": {"mechanism": "linear", "eps": 1e-6},
    },
    "task": {"recall": {"task": "recall", "num_steps": 5}},
    "rates": None,
}


def read(**changes):
    return read_sweep_config(BASE | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seq_len": [256, [512]]}, ["seq_len"]),
        (
            {"scope": "model", "task": {}, "model": "m", "image_size": 32, "ragged": 0.5},
            ["ragged beside"],
        ),
        ({"run": BASE["run"] | {"timeout_s": 0.01}}, ["run.timeout_s is 0.01", "0.1 or more"]),
        ({"device": "gpu"}, ["device=gpu"]),
        ({"device": "cuda:x"}, ["device=cuda:x"]),
        ({"attention": {}}, ["attention is empty"]),
        ({"attention": "softmax"}, ["attention", "entries are chosen by name"]),
        ({"attention": {"x": {"eps": 1}}}, ["'x'", "names no mechanism"]),
        ({"task": {"x": {"num_steps": 1}}}, ["'x'", "names no task"]),
        ({"task": {}, "seq_len": []}, ["plan is empty"]),
        ({"out": ["a", "b"]}, ["out", "takes one value"]),
        ({"measure": BASE["measure"] | {"budget_s": -1}}, ["measure.budget_s", "-1"]),
        (
            {"attention": {"x": {"mechanism": "linear", "eps": float("nan")}}},
            ["attention.x.eps is nan", "finite"],
        ),
        (
            {"task": {"x": {"task": "recall", "list": [1, float("inf")]}}},
            ["task.x.list is [1, inf]"],
        ),
        (
            {"scope": "model", "task": {}, "model": "deit_tiny", "image_size": 20_000},
            ["image_size is 20000", "4096 or less"],
        ),
        ({"measure": BASE["measure"] | {"max_rounds": 3}}, ["max_rounds=3", "min_rounds=7"]),
        ({"reference": ["nala"]}, ["reference is ['nala']", "mapping"]),
        ({"reference": {"nala": 3}}, ["reference", "mapping"]),
        ({"reference": {"linear": "linear"}}, ["reference compares linear with itself"]),
        ({"attention": {"a": {"mechanism": "softmax", 5: 6}}}, ["sets 5", "name is a word"]),
        *(
            ({key: value}, [f"{key} names 'linaer'", "Did you mean linear"])
            for key, value in (("max_seq_len", {"linaer": 9}), ("speed_only", ["linaer"]))
        ),
        ({"plugins": [3]}, ["plugins", "3"]),
    ],
)
def test_bad_input_is_refused_with_the_key_and_what_is_allowed(changes, words):
    with pytest.raises(ConfigError) as error:
        read(**changes)
    for word in words:
        assert word in str(error.value)


def test_a_list_of_values_of_a_tasks_setting_is_a_task_for_each():
    given = {"recall": {"task": "recall", "num_pairs": [4, 8], "position": ["rope"], "seq_len": 9}}
    entries = read(task=given).task
    assert [(e.label, e.settings) for e in entries] == [
        (
            f"recall num_pairs={num_pairs} position=rope",
            {"num_pairs": num_pairs, "position": "rope", "seq_len": 9},
        )
        for num_pairs in (4, 8)
    ]
    with pytest.raises(ConfigError, match=r"task\.recall\.num_pairs=\[\] is empty"):
        read(task={"recall": {"task": "recall", "num_pairs": []}})


def test_only_takes_failed_and_stale_and_nothing_beside_force():
    assert read(only="failed").only == ("failed",) and read().only == ()
    with pytest.raises(ConfigError, match="only=broken is not known"):
        read(only="broken")
    with pytest.raises(ConfigError, match="only=stale beside force=true"):
        read(only="stale", force=True)


@pytest.mark.parametrize("key", ["model", "image_size"])
def test_what_only_a_model_has_is_refused_where_no_model_is_measured(key):
    with pytest.raises(ConfigError, match=f"{key} is of whole models"):
        read(given=(key,))
    read(given=(key,), scope=["core", "model"], model="nalaformer_xt", image_size=224)


def test_tasks_of_the_defaults_are_dropped_beside_models_alone_and_named_ones_refused():
    alone = {"scope": "model", "model": "m", "image_size": 32}
    assert read(**alone).task == () and read(**alone | {"scope": ["core", "model"]}).task
    with pytest.raises(ConfigError, match="task names recall beside scope=model"):
        read(**alone, given=("task.recall.num_steps",))


def test_a_shard_is_one_of_so_many_parts():
    assert read(shard="3/16").shard == Shard(index=3, count=16)
    assert str(read(shard="4/4").shard) == "4/4" and read(shard=None).shard is None
    for given in ("0/4", "5/4", "a", "1/4/4", "1/100000", "-1/4", "١/٤", 1):
        with pytest.raises(ConfigError, match="shard"):
            read(shard=given)


def test_token_filters_are_read_with_the_shares_that_they_keep():
    found = read(token_filter=["none", "random"], token_keep=[0.25, 1])
    assert (found.token_filter, found.token_keep) == (("random",), (0.25, 1.0))
    assert read(token_filter="none", token_keep=[0.5]).token_filter == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_filter": "atention_rate"}, "Did you mean attention_rate"),
        ({"token_filter": "random", "token_keep": [0]}, "token_keep is 0; it must be 0.001"),
        ({"token_filter": "random", "token_keep": 1e-300}, "is 1e-300; it must be 0.001 or more"),
        ({"token_filter": "random", "token_keep": []}, "token_keep is empty"),
        ({"token_filter": "random", "token_keep": 0.5, "task": {}}, "token_filter needs a task"),
        ({"given": ("token_keep",), "token_keep": [0.5]}, "none is chosen"),
    ],
)
def test_token_filters_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        read(**changes)
