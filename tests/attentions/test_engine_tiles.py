"""How the engine cuts its work."""

import pytest
import torch

from attentions import _engine_tiles
from attentions._engine_threads import Sharing
from attentions._engine_tiles import plan, sharing_of


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
    monkeypatch.setattr(_engine_tiles, "num_few", lambda: 2**15)
    found = sharing_of(*sizes, num_features=num_features, few_operators=few_operators)
    with_wide = Sharing.NONE if narrow is Sharing.NONE else Sharing.JOBS
    assert found is (with_wide if wide_vectors else narrow)


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
