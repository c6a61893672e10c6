"""Settings, registry, batches and seeds."""

import hashlib

import pytest
import torch

from bench.measuring.tasks import base
from bench.measuring.tasks.base import (
    Batch,
    Recipe,
    Size,
    Task,
    build_task,
    generator,
    register_task,
    seeded,
    task_class,
    task_names,
    task_settings,
    why_no_task,
)
from tests.refusals import refused


@pytest.fixture
def tasks(monkeypatch):
    """The registry, put back after the test."""
    task_names()
    monkeypatch.setattr(base.TASKS, "entered", dict(base.TASKS.entered))
    return base.TASKS.entered


def test_a_mistyped_task_is_refused_with_the_nearest_name():
    with refused(r"'recal'\. Did you mean recall"):
        task_class("recal")


def test_scores_are_better_when_higher_or_when_lower(tasks):
    with refused(r"better is 'bigger'.*higher or lower"):
        register_task("other", better="bigger")


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("recall", {"num_pair": 4}, r"num_pair is not a key\. Did you mean num_pairs"),
        ("recall", {"num_pairs": None}, r"num_pairs has no value\. Give one"),
        ("digits", {"position": "sines"}, "position=sines is not known. Known: learned, none, ro"),
        ("digits", {"num_heads": 5}, "embed_dim is 64 and num_heads is 5; num_heads must div"),
        ("digits", {"conv_width": 4}, "conv_width is 4; 0 or an odd number"),
        (
            "digits",
            {"embed_dim": 12, "position": "rope"},
            "embed_dim / num_heads is 3; an even number is needed with position=rope",
        ),
    ],
)
def test_settings_that_no_model_could_have_are_refused_with_what_could_be(task, settings, words):
    with refused(words):
        build_task(task, settings)


def test_every_setting_of_every_task_has_a_type():
    for name in task_names():
        for setting, default in task_settings(name).items():
            excluded = "such" if isinstance(default, bool | int | float) else -1
            with refused(rf"^{setting}\b"):
                build_task(name, {setting: excluded})
            if isinstance(default, int | float) and not isinstance(default, bool):
                with refused(rf"^{setting} is -1; it must be"):
                    build_task(name, {setting: -1})


class Written(Task):
    """A task with a constructor of its own."""

    default_recipe = Recipe()
    batches = embedding = chance = None

    def __init__(self, recipe, *, size: Size = 4, name: str | None = None, free=None) -> None:
        super().__init__(recipe)
        self.seq_len, self.free = size, free


def test_a_constructor_says_what_is_allowed_as_fields_do(tasks):
    register_task("written")(Written)
    assert list(task_settings("written"))[:3] == ["size", "name", "free"]
    task = build_task("written", {"size": 3, "free": [1]})
    assert (task.seq_len, task.free, task.recipe) == (3, [1], Recipe())
    with refused("^size is 0; it must be 1 or more"):
        build_task("written", {"size": 0})


def test_the_score_is_the_share_of_right_answers():
    targets = torch.tensor([[0, 1], [2, 0]])
    logits = torch.eye(3)[torch.tensor([[0, 1], [2, 2]])]  # the last answer is wrong
    batch = Batch(inputs=torch.zeros(2, 4), targets=targets, positions=targets)
    assert build_task("recall", {}).score(logits, batch) == 0.75


def test_streams_differ_by_seed_and_by_purpose_and_by_nothing_else():
    def draw(seed, purpose):
        torch.manual_seed(torch.seed())
        return tuple(torch.rand(4, generator=generator(seed, purpose)).tolist())

    assert draw(0, "a") == draw(0, "a")
    assert len({draw(0, "a"), draw(1, "a"), draw(0, "b"), draw(1, "b")}) == 4


def test_a_stretch_draws_what_the_stream_of_its_seed_and_purpose_does():
    seed = int.from_bytes(hashlib.sha256(b"inside 3").digest()[:4], "big")
    wanted = torch.rand(4, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.rand(4, generator=generator(3, "inside")), wanted)
    with seeded(3, "inside"):
        assert torch.equal(torch.rand(4), wanted)


def test_a_seeded_stretch_leaves_the_global_stream_as_it_was():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(0, "inside"):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(0, "inside"):
        assert torch.equal(torch.rand(2), first)


@pytest.mark.parametrize("name", ["num_classes", "seq_len", "guess"])
def test_a_task_without_what_every_task_has_is_told_which(name):
    task = build_task("recall", {})
    assert why_no_task(task) is None
    setattr(task, name, 1.5)
    assert why_no_task(task).startswith(f"the task recall has {name} of type float; it is the ")
