"""Batches, shares, generators and schedules of a step."""

from pathlib import Path

import pytest
import torch

from kexue import runs
from kexue.nn import randomness
from kexue.runs import Step

ROOT = Path(__file__).parents[2]


def test_batches_are_epochs_in_a_new_order_each():
    steps = [Step(i, seed=3).batch(10, 3) for i in range(6)]
    first, second = torch.cat(steps[:3]), torch.cat(steps[3:])
    assert len(first.unique()) == len(second.unique()) == 9
    assert not torch.equal(first, second)
    assert torch.equal(steps[4], Step(4, seed=3).batch(10, 3))
    assert not torch.equal(steps[0], Step(0, seed=4).batch(10, 3))


@pytest.mark.parametrize("size", [0, 11, -1])
def test_bad_batches_are_named(size):
    with pytest.raises(
        ValueError, match=f"batch_size must be between 1 and the size of the data, 10, got {size}"
    ):
        Step(0, 0).batch(10, size)


def test_shares_make_up_the_batch():
    whole = torch.arange(12).view(2, 6)
    shares = [Step(0, 0, process, 3).share(whole, dim=1) for process in range(3)]
    assert torch.equal(torch.cat(shares, 1), whole)
    with pytest.raises(ValueError, match="the batch must divide by 4 processes, got 6"):
        Step(0, 0, 0, 4).share(whole, dim=1)


def test_generators_depend_on_seed_and_key():
    draws = [
        torch.rand(3, generator=randomness.generator(*key)) for key in ((0,), (1,), (1, 1), (0, 1), (0, 0, 1))
    ]
    assert len({tuple(d.tolist()) for d in draws}) == 5
    assert torch.equal(draws[3], torch.rand(3, generator=randomness.generator(0, 1)))
    assert torch.equal(Step(7, 1).generator().get_state(), Step(7, 1, 1, 2).generator().get_state())


def test_the_rate_warms_up_and_goes_down():
    factor = runs.warm_up_then_down(4, 10)
    assert [factor(i) for i in range(10)] == pytest.approx(
        [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    )
    for warmup in (0, 10):
        with pytest.raises(ValueError, match=f"warmup must be between 1 and steps − 1 = 9, got {warmup}"):
            runs.warm_up_then_down(warmup, 10)


def test_the_rate_goes_down_along_a_cosine():
    factor = runs.cosine(4)
    assert [factor(i) for i in range(5)] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2, 0])
    assert [runs.cosine(4, 2)(i) / factor(i) for i in range(3)] == pytest.approx([0.5, 1, 1])
    for given, name in (((0,), "steps"), ((4, 0), "warmup")):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            runs.cosine(*given)


def test_batches_of_similar_length_take_every_sequence_once_an_epoch():
    lengths = torch.randint(1, 40, (230,), generator=randomness.generator(0))
    epochs = [[Step(14 * epoch + i, 0).batch_of_similar(lengths, 16) for i in range(14)] for epoch in (0, 1)]
    for batches in epochs:
        assert len(torch.cat(batches).unique()) == 14 * 16
        # The longest are what is left over after the last whole batch.
        spread = [int(lengths[batch].max() - lengths[batch].min()) for batch in batches]
        assert max(spread) <= 5
    assert not all(torch.equal(a, b) for a, b in zip(*epochs, strict=True))
    assert torch.equal(Step(3, 0).batch_of_similar(lengths, 16), epochs[0][3])
    assert not torch.equal(Step(3, 1).batch_of_similar(lengths, 16), epochs[0][3])
    for size in (0, 231):
        with pytest.raises(
            ValueError, match=f"batch_size must be between 1 and the size of the data, 230, got {size}"
        ):
            Step(0, 0).batch_of_similar(lengths, size)


@pytest.mark.parametrize("index", [-1, 10, 50])
def test_a_step_that_is_none_has_no_rate(index):
    with pytest.raises(ValueError, match=f"index must be between 0 and steps − 1 = 9, got {index}"):
        runs.warm_up_then_down(4, 10)(index)
