"""Batches of one orientation, which depend on the seed and the position alone."""

from itertools import islice

import numpy as np
import pytest

from epl_d2.data.sampling import StreamSampler

GROUPS = np.random.default_rng(0).random(37) < 0.6
BATCH = 4


def indices(start=0, count=37 * BATCH * 3, groups=GROUPS, seed=5):
    sampler = StreamSampler(len(GROUPS), seed, BATCH, groups)
    sampler.start_iteration = start
    return [index for _, index in islice(sampler, count)]


def test_every_epoch_holds_every_image_once():
    stream = indices()
    for epoch in range(12):
        assert sorted(stream[37 * epoch : 37 * (epoch + 1)]) == list(range(37))


@pytest.mark.parametrize("seed", range(5))
def test_batches_hold_one_group_but_for_what_is_left_over(seed):
    stream = np.reshape(indices(seed=seed), (-1, BATCH))
    mixed = [len(set(GROUPS[batch].tolist())) > 1 for batch in stream]
    assert sum(mixed) <= 2 * 12 and len(mixed) == 37 * 3  # 12 epochs
    assert {tuple(set(GROUPS[batch].tolist())) for batch in stream[:8]} >= {
        (True,),
        (False,),
    }  # not one after the other
    free = np.reshape(indices(groups=None, seed=seed), (-1, BATCH))
    assert sum(len(set(GROUPS[batch].tolist())) > 1 for batch in free) > 60


def test_a_stream_goes_on_in_the_middle():
    assert indices(start=23, count=200) == indices()[23 * BATCH :][:200]


def test_one_group_is_a_permutation_too():
    stream = indices(groups=np.zeros(37, dtype=int))
    assert sorted(stream[:37]) == list(range(37)) and stream[:37] != stream[37:74]
