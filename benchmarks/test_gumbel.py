"""Speed of kexue.gumbel beside its peers, as ratios within one run: make bench."""

import pytest
import torch

from kexue.gumbel import gumbel_max, gumbel_softmax

LOGITS = torch.randn(1000, 320, generator=torch.Generator().manual_seed(0))


@pytest.mark.benchmark(group="gumbel_softmax, 1000 × 320")
@pytest.mark.parametrize("which", ["kexue", "torch"])
def test_gumbel_softmax(benchmark, which):
    sample = {"kexue": gumbel_softmax, "torch": torch.nn.functional.gumbel_softmax}[which]
    logits = LOGITS.clone().requires_grad_()

    def forward_and_backward():
        sample(logits, 0.5)[:, 0].sum().backward()

    benchmark(forward_and_backward)


@pytest.mark.benchmark(group="a class of 320, 1000 draws")
@pytest.mark.parametrize("which", ["kexue", "torch"])
def test_a_class(benchmark, which):
    if which == "kexue":
        benchmark(lambda: gumbel_max(LOGITS))
    else:
        benchmark(lambda: torch.multinomial(torch.softmax(LOGITS, -1), 1))
