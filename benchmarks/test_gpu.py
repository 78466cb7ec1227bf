"""Speed on a GPU, beside what PyTorch has for it, as ratios within one run: `make gpu`.

A step is timed until the GPU is done with it.
"""

import pytest
import torch
from torch.nn.functional import gumbel_softmax as torch_gumbel_softmax

from kexue.decoding import BidirectionalSeq2Seq, Seq2Seq, beam_search, bidirectional_beam_search
from kexue.gumbel import gumbel_softmax
from kexue.masking import masked_softmax, sequence_mask
from kexue.onlstm import LSTM, ONLSTM
from kexue.reading import LinearChainCRF
from kexue.smoothing import soft_top_k
from kexue.vqvae import nearest

pytestmark = [pytest.mark.gpu, pytest.mark.unchecked]


@pytest.fixture
def timed(benchmark):
    """Times a function of no arguments on the GPU, in one group, after two rounds that do not count."""

    def run(group, function):
        def until_done():
            result = function()
            torch.cuda.synchronize()
            return result

        benchmark.group = group
        return benchmark.pedantic(until_done, rounds=10, warmup_rounds=2)

    return run


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).cuda()


def hard_top_k(x):
    return torch.zeros_like(x).scatter(-1, x.topk(16).indices, 1.0) + 0 * x


@pytest.mark.parametrize("which", ["soft_top_k", "torch.topk (hard)"])
def test_top_k(timed, which):
    function = {"soft_top_k": lambda x: soft_top_k(x, 16), "torch.topk (hard)": hard_top_k}[which]
    x, weights = randn(4096, 1024).requires_grad_(), randn(4096, 1024)
    (gradient,) = timed(
        "16 of 1024, batch 4096, forward and backward",
        lambda: torch.autograd.grad((function(x) * weights).sum(), x),
    )
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("which", ["kexue", "torch"])
def test_gumbel_softmax(timed, which):
    sample = {"kexue": gumbel_softmax, "torch": torch_gumbel_softmax}[which]
    logits = randn(10_000, 320).requires_grad_()
    (gradient,) = timed(
        "gumbel_softmax, 10,000 × 320, forward and backward",
        lambda: torch.autograd.grad(sample(logits, 0.5)[:, 0].sum(), logits),
    )
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("which", ["kexue", "torch.cdist"])
def test_nearest_code(timed, which):
    z, codes = randn(64 * 64 * 64, 64), randn(1024, 64)
    functions = {"kexue": lambda: nearest(z, codes), "torch.cdist": lambda: torch.cdist(z, codes).argmin(-1)}
    found = timed("the nearest of 1,024 codes, 262,144 vectors of 64", functions[which])
    assert (found == nearest(z.cpu(), codes.cpu()).cuda()).double().mean() > 0.999  # but for rounding


@pytest.mark.parametrize("which", ["kexue", "masked_fill and softmax"])
def test_masked_softmax(timed, which):
    scores = randn(64, 8, 200, 200)
    mask = sequence_mask(torch.arange(1, 65) * 3, 200)[:, None, None].cuda()
    functions = {
        "kexue": lambda: masked_softmax(scores, mask),
        "masked_fill and softmax": lambda: torch.softmax(scores.masked_fill(~mask, -torch.inf), -1),
    }
    found = timed("softmax over 64 × 8 × 200 × 200 scores", functions[which])
    torch.testing.assert_close(found.sum(-1), torch.ones(64, 8, 200, device="cuda"))


@pytest.mark.parametrize("which", ["ON-LSTM", "LSTM", "torch.nn.LSTM"])
def test_training_step(timed, which):
    torch.manual_seed(0)
    networks = {
        "ON-LSTM": lambda: ONLSTM(400, hidden_sizes=(1150,), chunk_size=10, master_input="complement"),
        "LSTM": lambda: LSTM(400, (1150,)),
        "torch.nn.LSTM": lambda: torch.nn.LSTM(400, 1150, batch_first=True),
    }
    network, x = networks[which]().cuda(), randn(20, 70, 400)

    def step():
        network.zero_grad()
        network(x)[0].square().mean().backward()

    timed("a layer of 1,150 units, batch 20, length 70, forward and backward", step)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("which", ["one direction", "both directions"])
def test_search(timed, which, k):
    torch.manual_seed(0)
    kind, search = {
        "one direction": (Seq2Seq, beam_search),
        "both directions": (BidirectionalSeq2Seq, bidirectional_beam_search),
    }[which]
    model = kind(29, 72).cuda().eval()
    words = torch.randint(3, 29, (1000, 8), generator=torch.Generator().manual_seed(0)).cuda()
    found = timed(f"1,000 words, beam {k}, untrained models", lambda: search(model, words, k, 20))
    assert len(found) == 1000


def test_crf(timed):
    torch.manual_seed(0)
    crf = LinearChainCRF(4).cuda()
    emissions = randn(64, 200, 4)
    mask = sequence_mask(torch.arange(1, 65) * 3, 200).cuda()
    found = timed("decoding 64 × 200 tags of four kinds", lambda: crf.decode(emissions, mask))
    assert found.shape == (64, 200)
