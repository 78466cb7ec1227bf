"""The chain beside an enumeration of all sequences of tags."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import MIXTURE, product_of
from seeded import F64, randn
from torch.func import functional_call
from torch.nn.functional import pad

from kexue import reading

INF, NAN = math.inf, math.nan


def crf_of(tags, seed=0):
    crf = reading.LinearChainCRF(tags).to(F64)
    with torch.no_grad():
        crf.transition.copy_(1.5 * randn(tags, tags, seed=seed))
    return crf


def mask_of(lengths):
    return torch.tensor([[t < n for t in range(max(lengths))] for n in lengths])


def literal_scores(crf, emissions):
    """Of every sequence of tags for the emissions of one sequence."""
    time, tags = emissions.shape
    scores = {}
    for path in itertools.product(range(tags), repeat=time):
        score = sum(float(emissions[t, tag]) for t, tag in enumerate(path))
        scores[path] = score + sum(crf.transition[a, b].item() for a, b in itertools.pairwise(path))
    return scores


def agrees_with_enumeration(lengths, tags=3, seed=0):
    crf = crf_of(tags, seed)
    emissions, mask = randn(len(lengths), max(lengths), tags, seed=seed + 1), mask_of(lengths)
    garbage = emissions.masked_fill(~mask[..., None], 7.0)
    best, log_z = crf.decode(garbage, mask), crf.log_partition(garbage, mask)
    for row, n in enumerate(lengths):
        scores = literal_scores(crf, emissions[row, :n])
        top = max(scores.values())
        z = top + math.log(math.fsum(math.exp(s - top) for s in scores.values()))
        assert log_z[row].item() == pytest.approx(z, abs=1e-10)
        assert tuple(best[row, :n].tolist()) == max(scores, key=scores.__getitem__)
        assert not best[row, n:].any()
        paths = torch.tensor(list(scores))
        shown = pad(paths, (0, max(lengths) - n), value=99)  # whatever stands in the padding
        several = (garbage[row].expand(len(paths), -1, -1), shown, mask[row].expand(len(paths), -1))
        log_p = crf(*several)
        expected = [s - z for s in scores.values()]
        assert log_p.tolist() == pytest.approx(expected, abs=1e-10)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.verifies("reading.crf")
@settings(max_examples=15)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 99))
def test_any_crf_by_enumeration(lengths, tags, seed):
    agrees_with_enumeration(lengths, tags, seed)


@pytest.mark.verifies("reading.crf")
def test_gradients_of_the_crf():
    crf, mask = crf_of(3), mask_of([4, 2])
    emissions, tags = randn(2, 4, 3, seed=2).requires_grad_(), torch.tensor([[0, 2, 1, 1], [2, 2, 9, 9]])
    transition = crf.transition.detach().clone().requires_grad_()

    def log_likelihood(emissions, transition):
        return functional_call(crf, {"transition": transition}, (emissions, tags, mask))

    assert torch.autograd.gradcheck(log_likelihood, (emissions, transition))
    # ∂ log Z/∂ emission is the marginal, of real places only.
    marginal = torch.autograd.grad(crf.log_partition(emissions, mask).sum(), emissions)[0]
    torch.testing.assert_close(marginal.sum(-1), mask.double())


@pytest.mark.parametrize("filling", [7.0, NAN, INF, -INF])
def test_what_stands_in_the_crf_s_padding_changes_nothing(filling):
    crf, mask, tags = crf_of(2), mask_of([4, 2]), torch.tensor([[0, 1, 1, 0], [1, 1, 5, -5]])
    emissions = randn(2, 4, 2)
    filled = emissions.masked_fill(~mask[..., None], filling)
    results = []
    for x in (emissions, filled):
        x = x.requires_grad_()
        found = crf(x, tags, mask)
        grads = torch.autograd.grad(found.sum(), (x, crf.transition))
        results.append((found.detach(), *grads, crf.decode(x, mask)))
        assert not grads[0][~mask].any()
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    assert crf(emissions[:0], tags[:0], mask[:0]).shape == (0,)


def joint_of(crf, emissions):
    """p of every sequence of tags, an axis for each place."""
    time, tags = emissions.shape
    paths = torch.tensor(list(itertools.product(range(tags), repeat=time)))
    mask = torch.ones(len(paths), time, dtype=torch.bool)
    return crf(emissions.expand(len(paths), -1, -1), paths, mask).exp().detach().view([tags] * time)


@pytest.mark.verifies("reading.crf")
def test_a_crf_is_not_an_independent_model():
    crf, emissions = reading.LinearChainCRF(2).to(F64), torch.zeros(2, 2, dtype=F64)
    with torch.no_grad():
        crf.transition.copy_(torch.tensor([[0.0, -INF], [-INF, 0.0]]))
    joint = joint_of(crf, emissions)
    torch.testing.assert_close(joint, MIXTURE, atol=1e-15, rtol=0)
    assert float(reading.total_correlation(joint)) / math.log(2) == pytest.approx(1, abs=1e-12)
    product = reading.product_of_marginals(joint)
    assert float((product - MIXTURE).abs().max()) == pytest.approx(0.25)
    # Without transitions it is one, for any emissions.
    with torch.no_grad():
        crf.transition.zero_()
    for seed in range(3):
        joint = joint_of(crf, 2 * randn(3, 2, seed=seed))
        assert float(reading.total_correlation(joint)) == pytest.approx(0, abs=1e-12)
        torch.testing.assert_close(
            joint, product_of([one.softmax(0) for one in 2 * randn(3, 2, seed=seed)]), atol=1e-13, rtol=0
        )


def test_a_crf_of_many_tags_takes_narrow_integers():
    crf, mask = reading.LinearChainCRF(300), torch.ones(1, 2, dtype=torch.bool)
    emissions = torch.randn(1, 2, 300)
    tags = torch.tensor([[250, 3]])
    assert torch.equal(crf(emissions, tags.to(torch.uint8), mask), crf(emissions, tags, mask))


CRF = reading.LinearChainCRF


class TransposedTransitions(reading.LinearChainCRF):
    def decode(self, emissions, mask):
        turned = CRF(len(self.transition))
        turned.transition.data = self.transition.data.T
        return turned.decode(emissions, mask)


class SumsOverPadding(reading.LinearChainCRF):
    def log_partition(self, emissions, mask):
        return super().log_partition(emissions, torch.ones_like(mask))


FAULTS = [
    (lambda: agrees_with_enumeration([4, 1, 3]), "LinearChainCRF", TransposedTransitions),
    (lambda: agrees_with_enumeration([4, 1, 3]), "LinearChainCRF", SumsOverPadding),
]
