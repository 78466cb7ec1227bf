"""Parts with the same share of each class."""

import pytest
import torch

from kexue import data


def test_stratified_split_is_disjoint_and_keeps_the_shares():
    label, (one, other) = torch.arange(100) % 5, (torch.Generator().manual_seed(s) for s in (0, 1))
    parts = data.stratified_split(label, (0.5, 0.2, 0.3), one)
    assert [len(part) for part in parts] == [50, 20, 30]
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    assert [label[part].bincount().tolist() for part in parts] == [[10] * 5, [4] * 5, [6] * 5]
    again = data.stratified_split(label, (0.5, 0.2, 0.3), one.manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(parts, again, strict=True))
    assert not torch.equal(parts[0], data.stratified_split(label, (0.5, 0.2, 0.3), other)[0])
    rounded = data.stratified_split(torch.zeros(10, dtype=torch.long), (0.1, 0.2, 0.7), one)
    assert [len(part) for part in rounded] == [1, 2, 7]


@pytest.mark.parametrize("fractions", [(), (0.5, 0.6), (1.0,), (-0.1, 0.5), (0.0,)])
def test_bad_fractions_are_named(fractions):
    with pytest.raises(ValueError, match=r"fractions must lie in \(0, 1\) and sum to at most 1, got"):
        data.stratified_split(torch.arange(4), fractions, torch.Generator())


@pytest.mark.unchecked
@pytest.mark.parametrize(
    "label", [torch.zeros(0, dtype=torch.long), torch.tensor([0.0, 1.0]), torch.zeros(2, 2).long()]
)
def test_bad_labels_are_named(label):
    with pytest.raises(ValueError, match="label must be a vector of integers, got torch"):
        data.stratified_split(label, (0.5,), torch.Generator())
