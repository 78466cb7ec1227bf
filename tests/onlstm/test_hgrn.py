"""The linear relative: against its formulas in a loop."""

import pytest
import torch
from bad_input import refused
from stacks import randn, shaken

from kexue import onlstm
from kexue.onlstm import HGRN


def hgrn_by_hand(net, x, state=None):
    """The formulas, step by step and layer by layer."""
    layers, hidden = net.bounds.shape

    def norm(layer, v):
        eps = torch.finfo(v.dtype).eps
        return v / (v.square().mean(-1, keepdim=True) + eps).sqrt() * net.norms[layer].weight

    share = net.bounds.exp() / net.bounds.exp().sum(0)
    last = []
    for layer in range(layers):
        gamma = sum((share[j] for j in range(1, layer + 1)), torch.zeros(hidden, dtype=x.dtype))
        h = torch.zeros_like(x[:, 0]) if state is None else state[layer][0]
        rows = []
        for value in x.unbind(1):
            forget, new, gate = net.gates[layer](norm(3 * layer, value)).split(hidden, -1)
            keep = gamma + (1 - gamma) * forget.sigmoid()
            h = keep * h + (1 - keep) * new * new.sigmoid()
            value = value + net.outs[layer](norm(3 * layer + 2, h) * gate.sigmoid())
            a, b = net.glus[layer](norm(3 * layer + 1, value)).split(hidden, -1)
            rows.append(value + net.backs[layer](a * a.sigmoid() * b))
        x = torch.stack(rows, 1)
        last.append(h)
    return norm(3 * layers, x), last


@pytest.fixture
def net():
    return shaken(HGRN(4, 3), 0.6, dtype=torch.float32)


def test_hgrn_is_a_loop_over_its_formulas(net):
    x = randn(2, 7, 4, dtype=torch.float32).requires_grad_()
    for state in (None, [(randn(2, 4, seed=i, dtype=torch.float32),) for i in range(3)]):
        found, last = net(x, state)
        right, expected = hgrn_by_hand(net, x, state)
        torch.testing.assert_close(found, right, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close([h for (h,) in last], expected, atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(
            *(torch.autograd.grad(v.sin().sum(), [x, *net.parameters()]) for v in (found, right)),
            atol=2e-4,
            rtol=2e-3,
        )


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_the_lower_bounds_of_hgrn_rise_from_0(seed):
    net = shaken(HGRN(4, 5), 0.5, dtype=torch.float32)
    net.bounds.data = torch.zeros(5, 4) if seed is None else 2 * randn(5, 4, seed=seed, dtype=torch.float32)
    for gate in net.gates:  # λ = γ, and nothing new
        gate.weight.data[:8] = 0
        gate.bias.data[:4] = -100
        gate.bias.data[4:8] = 0
    _, state = net(torch.ones(1, 1, 4), [(torch.ones(1, 4),)] * 5)
    bounds = torch.cat([h for (h,) in state])
    assert (bounds[0] == 0).all()
    assert (bounds.diff(dim=0) > 0).all()
    assert (bounds < 1).all()
    if seed is None:
        assert bounds[:, 0].tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])


X = torch.zeros(2, 4, 3)


test_bad_arguments_of_hgrn_are_named = refused(
    (lambda: HGRN(0, 2), ValueError, "hidden_size must be at least 1, got 0"),
    (lambda: HGRN(3, 2, 1.0), ValueError, r"dropout must lie in \[0, 1\), got 1\.0"),
    (lambda: HGRN(3, 0), ValueError, "num_layers must be at least 1, got 0"),
    (lambda: HGRN(3, 2)(X.long()), TypeError, "x must have a floating-point dtype"),
    (lambda: HGRN(3, 2)(X.half()), TypeError, "x must have the weights' dtype torch.float32"),
    (lambda: HGRN(3, 2)(X[:, :0]), ValueError, r"x must have shape \(B, T, 3\) with T ≥ 1, got \(2, 0, 3\)"),
    (lambda: HGRN(3, 2)(X, [(X[:, 0],)]), ValueError, r"state must have one \(h,\) of shape \(2, 3\) for each of 2 layers"),
    (lambda: HGRN(3, 1)(X, [(X[:1, 0],)]), ValueError, r"state must have one \(h,\) of shape \(2, 3\) for each of 1 layers"),
)  # fmt: skip


FAULTS = [
    (lambda: test_the_lower_bounds_of_hgrn_rise_from_0(0), onlstm, "cumax", lambda logits, dim: logits.softmax(dim)),
]  # fmt: skip
