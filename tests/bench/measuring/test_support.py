from importlib.machinery import PathFinder

import pytest

from bench.core.cell import ORIGINAL
from bench.core.cli.errors import ConfigError
from bench.measuring.config import read_sweep_config
from bench.measuring.plan import plan
from bench.measuring.support import check_models, why_no_model, why_unbuildable
from tests.bench.measuring.models.cells import FACTORY, cell, own
from tests.bench.measuring.test_config import BASE

ENTRIES = {"linear": {"mechanism": "linear"}, "gla": {"mechanism": "gla"}}


def planned(**changes):
    usual = {"scope": "model", "model": own(), "image_size": 32, "task": {}, "attention": ENTRIES}
    return plan(read_sweep_config(BASE | usual | changes))


def test_each_model_is_planned_as_it_is_and_with_each_entry_at_each_size():
    cells = [p.cell for p in planned(image_size=[32, 64], model=["nalaformer_xt", own()])]
    assert [c.entry for c in cells[:3]] == [ORIGINAL, "linear", "gla"]
    assert len(cells) == len({c.key for c in cells}) == 3 * 2 * 2
    assert len({c.block for c in cells}) == 2 * 2
    assert all(c.is_model and c.model.scope == "model" for c in cells)


def test_a_mechanism_that_cannot_stand_in_a_model_is_skipped_with_its_reason():
    reasons = {p.cell.entry: p.unsupported for p in planned()}
    assert reasons[ORIGINAL] is None and reasons["linear"] is None
    assert reasons["gla"] == "gla is causal only; images are seen whole."


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_modes_of_a_next_token_are_no_modes_of_a_model(mode):
    assert "no mode of a model" in why_no_model(cell(mode=mode))


def test_a_model_whose_package_is_missing_is_skipped_and_the_extra_named(monkeypatch):
    found = PathFinder.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *rest: None if name == "timm" else found(name),
    )
    one = cell(model="deit_tiny", image_size=224)
    reason = why_no_model(one)
    assert "timm" in reason and "attnbench[models]" in reason
    assert all(p.unsupported == reason for p in planned(model="deit_tiny", image_size=224)[:2])


def test_a_model_of_the_users_own_may_refuse_one_size_and_take_another(tmp_path):
    file = tmp_path / "picky.py"
    file.write_text(
        "from torch import nn\n"
        "def build(image_size):\n"
        "    assert image_size == 32, 'only 32 pixels'\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))\n"
    )
    small, large = planned(model=f"{file}:build", image_size=[32, 64], attention=ENTRIES)[::3]
    assert small.unsupported is None
    assert large.unsupported == "The model cannot be built: AssertionError: only 32 pixels"
    swapped = cell("linear", model=f"{file}:build")
    assert "cannot be built" in why_unbuildable(swapped)  # it has no attention to replace


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nalaformer_xtt", ["nalaformer_xtt", "Did you mean nalaformer_xt"]),
        ("no/such/file.py:build", ["no/such/file.py", "names no factory"]),
        (f"{FACTORY}", ["path/to/factory.py:build"]),
        (own("no_such_function"), ["no_such_function", "build"]),
        (own("no_module"), ["returned a str", "nn.Module"]),
        (own("breaks"), ["RuntimeError", "its weights are not there"]),
    ],
)
def test_a_mistaken_model_stops_before_anything_is_measured(model, words):
    with pytest.raises(ConfigError) as error:
        check_models([model], [32])
    for word in words:
        assert word in str(error.value)


def test_a_model_without_a_learned_parameter_has_no_backward(tmp_path):
    file = tmp_path / "frozen.py"
    file.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 2)).requires_grad_(False)\n"
    )
    assert why_unbuildable(cell(model=f"{file}:build")) is None
    reason = why_unbuildable(cell(model=f"{file}:build", mode="forward_backward"))
    assert "no parameter that learns; mode=forward" in reason
