"""How the engine cuts its work."""

import pytest
import torch

from attentions import _engine_tiles
from attentions._engine_tiles import Job, are_few, plan


def test_jobs_of_short_sequences_are_few_unless_they_have_many_features(monkeypatch):
    monkeypatch.setattr(_engine_tiles, "num_few", lambda: 2**17)
    short = Job(0, slice(0, 4), slice(0, 256), 256)
    assert are_few([short, short], num_features=64)
    assert not are_few([short, short], num_features=65)
    assert not are_few([short, short, short], num_features=64)


@pytest.mark.parametrize("sizes", [(1, 1, 5000), (3, 5, 70), (2, 12, 1024), (1, 7, 1), (40, 2, 9)])
@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("num_threads", [1, 2, 8])
@pytest.mark.parametrize("threads_sleep", [False, True])
@pytest.mark.parametrize("num_features", [64, 300])
def test_jobs_cover_each_token_of_each_head_once(
    sizes, joint, num_threads, threads_sleep, num_features
):
    batch_size, num_heads, length = sizes
    jobs = plan(
        *sizes,
        num_features=num_features,
        joint_heads=num_heads if joint else 1,
        num_threads=num_threads,
        threads_sleep=threads_sleep,
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
        if threads_sleep:
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
        threads_sleep=True,
        may_split=False,
    )
    assert [job.tokens for job in jobs] == [slice(0, 5000)]
