from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from bench.core.cli.errors import ConfigError
from bench.publishing.config import PublishConfig, WandbConfig, read_publish_config
from bench.publishing.metrics import metric_names

DEFAULTS = Path(__file__).parents[3] / "conf" / "publish" / "default.yaml"
GIVEN: dict[str, Any] = {
    "out": "somewhere",
    "metrics": ["latency_s", "flops"],
    "columns": ["latency_s"],
    "controls": ["none"],
    "charts": False,
    "dashboard": "wandb",
    "wandb": {
        "mode": None,
        "project": "p",
        "entity": None,
        "tags": [],
        "group": None,
        "replay": False,
        "make": None,
    },
    "seq_len": [1, 2],
}


def test_plain_values_become_a_frozen_config_and_keys_of_others_are_left_alone():
    assert read_publish_config(GIVEN) == PublishConfig(
        out=Path("somewhere"),
        metrics=("latency_s", "flops"),
        columns=("latency_s",),
        model_columns=("latency_s",),
        controls=("none",),
        charts=False,
        wandb=WandbConfig(mode=None, project="p"),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": ["latncy_s"]}, r"metrics=latncy_s is not known\. Did you mean latency_s"),
        ({"columns": ["flop"]}, r"columns=flop is not known\. Did you mean .*flops"),
        ({"metrics": []}, r"metrics=\[\] is empty"),
        ({"columns": [1]}, "columns is 1; it takes a name"),
        ({"out": ["a", "b"]}, "out is the list .*it takes one value"),
        ({"wandb": None}, "wandb has no value"),
        ({"wandb": {"project": "p", "mod": "offline"}}, r"wandb\.mod is not a key.*mode"),
        (
            {"wandb": {"project": "p", "mode": ["offline"]}},
            r"wandb\.mode is the list \['offline'\]",
        ),
        ({"wandb": {"project": "p", "tags": 3}}, r"wandb\.tags is 3"),
    ],
)
def test_a_wrong_value_is_a_config_error_that_names_its_key(change, message):
    wandb = {"tags": []}
    if "wandb" in change and isinstance(change["wandb"], dict):
        change = {"wandb": wandb | change["wandb"]}
    with pytest.raises(ConfigError, match=message):
        read_publish_config(GIVEN | change)


def test_the_shipped_configuration_publishes_every_metric():
    shipped = OmegaConf.to_container(OmegaConf.load(DEFAULTS))
    assert isinstance(shipped, dict)
    read = read_publish_config({"out": "results", **shipped})
    assert set(metric_names()) - set(read.metrics) - set(read.columns) == set()
    assert read.columns[0] == "speedup_over"
    assert read.wandb == WandbConfig(mode=None, project="attnbench")
