"""Speed of kexue.smoothing beside its peers, forward and backward: `make bench`."""

import pytest
import torch
from entmax import entmax15, sparsemax

from kexue.smoothing import soft_k_max, soft_onehot, soft_top_k


def hard_top_k(x):
    return torch.zeros_like(x).scatter(-1, x.topk(16).indices, 1.0) + 0 * x


ONE = {
    "soft_onehot": soft_onehot,
    "torch.softmax": lambda x: torch.softmax(x, -1),
    "entmax.sparsemax": sparsemax,
    "entmax.entmax15": entmax15,
}
MANY = {
    "soft_top_k": lambda x: soft_top_k(x, 16),
    "soft_k_max": lambda x: soft_k_max(x, 16),
    "torch.topk (hard)": hard_top_k,
}
CASES = [("1 of 1024", name, f) for name, f in ONE.items()]
CASES += [("16 of 1024", name, f) for name, f in MANY.items()]


@pytest.mark.parametrize(("group", "name", "function"), CASES, ids=[c[1] for c in CASES])
def test_forward_and_backward(benchmark, group, name, function):
    benchmark.group = f"{group}, batch 256, float32, forward and backward"
    x = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(256, 1024, generator=torch.Generator().manual_seed(1))

    def step():
        return torch.autograd.grad((function(x) * weights).sum(), x)

    (gradient,) = benchmark(step)
    assert torch.isfinite(gradient).all()
