"""How the engine cuts its work."""

import pytest
import torch

from attentions import _engine_threads, _engine_tiles
from attentions._engine_threads import Sharing
from attentions._engine_tiles import plan, room, sharing_of


@pytest.mark.parametrize(
    ("sizes", "num_features", "few_operators", "narrow"),
    [
        ((1, 8, 64), 64, True, Sharing.NONE),
        ((1, 8, 256), 64, True, Sharing.OPERATORS),
        ((1, 8, 256), 128, True, Sharing.OPERATORS),
        ((1, 8, 256), 64, False, Sharing.JOBS),
        ((1, 8, 256), 266, True, Sharing.JOBS),
        ((1, 9, 256), 64, True, Sharing.JOBS),
        ((1, 1, 1024), 64, True, Sharing.JOBS),
    ],
)
def test_what_threads_that_sleep_share_depends_on_the_work(
    sizes, num_features, few_operators, narrow, wide_vectors, monkeypatch
):
    monkeypatch.setattr(_engine_tiles, "is_intel", lambda: False)
    for module in (_engine_tiles, _engine_threads):
        monkeypatch.setattr(module, "NUM_FEW", 2**15)
    found = sharing_of(*sizes, num_features=num_features, few_operators=few_operators)
    with_wide = Sharing.NONE if narrow is Sharing.NONE else Sharing.JOBS
    assert found is (with_wide if wide_vectors else narrow)


@pytest.mark.parametrize("few_operators", [False, True])
@pytest.mark.parametrize("has_backward", [False, True])
def test_where_threads_wake_up_soon_they_share_the_operators_of_whole_tiles(
    few_operators, has_backward, wide_vectors, monkeypatch
):
    monkeypatch.setattr(_engine_tiles, "is_intel", lambda: True)
    monkeypatch.setattr(_engine_threads, "is_intel", lambda: True)
    monkeypatch.setattr(_engine_tiles, "NUM_FEW", 2**18)

    def found(length: int, num_features: int) -> Sharing:
        how = {"few_operators": few_operators, "has_backward": has_backward}
        return sharing_of(1, 8, length, num_features=num_features, **how)

    assert found(256, 266) is found(512, 128) is Sharing.JOBS
    if has_backward:
        assert found(128, 64) is Sharing.NONE
        assert found(256, 64) is found(256, 128) is Sharing.OPERATORS
    else:
        shares = few_operators and not wide_vectors
        alone = Sharing.OPERATORS if shares else Sharing.NONE
        assert found(256, 64) is found(256, 128) is alone


@pytest.mark.parametrize(("joint_heads", "alone"), [(1, False), (8, True)])
def test_operators_of_heads_that_share_a_norm_are_not_shared_out(joint_heads, alone, monkeypatch):
    monkeypatch.setattr(_engine_tiles, "is_intel", lambda: True)
    monkeypatch.setattr(_engine_tiles, "has_wide_vectors", lambda: True)
    monkeypatch.setattr(_engine_threads, "is_intel", lambda: True)
    monkeypatch.setattr(_engine_tiles, "NUM_FEW", 2**18)
    how = {"num_features": 64, "joint_heads": joint_heads, "has_backward": True}
    assert sharing_of(1, 8, 256, **how) is (Sharing.NONE if alone else Sharing.OPERATORS)
    assert sharing_of(1, 8, 1024, **how) is Sharing.JOBS


@pytest.mark.parametrize(("num_threads", "apart"), [(1, False), (2, True), (2, False)])
def test_a_backward_pass_halves_the_tiles_of_a_thread_by_itself(num_threads, apart, wide_vectors):
    cut = {"joint_heads": 1, "num_threads": num_threads, "apart": apart, "may_split": True}
    forward, backward = (
        plan(1, 16, 128, num_features=64, backward=backward, **cut)[0] for backward in (False, True)
    )
    heads = 8 if apart else 16
    assert forward.heads == slice(0, heads)
    is_halved = wide_vectors and num_threads == 1
    assert backward.heads == slice(0, 8 if is_halved or apart else 16)


@pytest.mark.parametrize("num_features", [64, 266])
def test_heads_that_lie_side_by_side_share_a_tile(num_features, wide_vectors, monkeypatch):
    cut = {"joint_heads": 1, "num_threads": 1, "apart": False, "may_split": True}
    cut["num_features"] = num_features
    apart, *_ = plan(1, 16, 4096, tokens_first=False, **cut)
    together, *_ = plan(1, 16, 4096, tokens_first=True, **cut)
    assert apart.heads == slice(0, 1)
    if _engine_tiles.onednn_outruns_mkl(is_wide=num_features > 128):
        assert together == apart
    else:
        assert together.heads.stop == room(num_features, 4096) // 256
        assert together.tile_len == 256
        assert plan(1, 4, 4096, tokens_first=True, **cut)[0].heads == slice(0, 4)


@pytest.mark.parametrize(
    ("vectors", "long", "wide_and_long", "pairs"),
    [("whole", 2048, 1024, 1), ("halved", 4096, 2048, 2), ("narrow", 4096, 2048, 2)],
)
def test_vectors_in_halves_get_the_tiles_of_narrow_ones(
    vectors, long, wide_and_long, pairs, monkeypatch
):
    monkeypatch.setattr(_engine_tiles, "has_wide_vectors", lambda: vectors != "narrow")
    monkeypatch.setattr(_engine_tiles, "halves_wide_vectors", lambda: vectors == "halved")
    by_onednn = {"whole": (True, True), "halved": (False, True), "narrow": (False, False)}[vectors]
    monkeypatch.setattr(
        _engine_tiles, "onednn_outruns_mkl", lambda *, is_wide=False: by_onednn[is_wide]
    )
    assert room(64, 4096) == long
    assert room(266, 4096) == wide_and_long
    assert room(64, 512) == 2048
    cut = {"joint_heads": 1, "num_threads": 1, "apart": False, "may_split": True}
    plan.cache_clear()
    first, *_ = plan(1, 8, 1024, num_features=64, **cut)
    alone, *_ = plan(1, 8, 1024, num_features=266, **cut)
    plan.cache_clear()
    assert first.heads == slice(0, pairs)
    assert alone.heads == slice(0, 2 if vectors == "narrow" else 1)


@pytest.mark.parametrize("sizes", [(1, 1, 5000), (3, 5, 70), (2, 12, 1024), (1, 7, 1), (40, 2, 9)])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("num_threads", [1, 2, 8])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("num_features", [64, 300])
def test_jobs_cover_each_token_of_each_head_once(sizes, joint, num_threads, apart, num_features):
    batch_size, num_heads, length = sizes
    jobs = plan(
        *sizes,
        num_features=num_features,
        joint_heads=num_heads if joint else 1,
        num_threads=num_threads,
        apart=apart,
        may_split=True,
    )
    seen = torch.zeros(sizes)
    for job in jobs:
        assert not joint or job.heads == slice(0, num_heads)
        for tokens in job.tiles():
            assert tokens.stop - tokens.start <= job.tile_len
            job.of(seen)[:, tokens] += 1
    assert seen.eq(1).all()
    if num_threads > 1 and length > 1000 and not joint:
        if apart:
            assert len(jobs) >= min(num_threads, 2 * batch_size * num_heads)
        else:
            assert len(jobs[0].of(seen)) >= min(num_threads, num_heads)


def test_jobs_share_heads_only_where_they_may():
    jobs = plan(
        1,
        1,
        5000,
        num_features=64,
        joint_heads=1,
        num_threads=2,
        apart=True,
        may_split=False,
    )
    assert [job.tokens for job in jobs] == [slice(0, 5000)]


def test_with_threads_that_spin_tiles_of_shorter_sequences_are_smaller():
    def largest(length: int, num_features: int) -> int:
        jobs = plan(
            1,
            8,
            length,
            num_features=num_features,
            joint_heads=1,
            num_threads=2,
            apart=False,
            may_split=True,
        )
        heads = max(job.heads.stop - job.heads.start for job in jobs)
        return heads * max(t.stop - t.start for job in jobs for t in job.tiles())

    assert [largest(n, 128) for n in (1024, 4096)] == [2048, 4096]
    assert [largest(n, 266) for n in (1024, 4096)] == [1024, 2048]
