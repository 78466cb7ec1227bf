"""Speed of kexue.onlstm at the paper's sizes, as ratios within one run: make bench.

Three layers, embedding 400, hidden 1,150, 1,150 and 400 in chunks of 10 neurons, batch 20, length 70; a step
of training, forward and backward. Beside it a straightforward loop of modules that projects the inputs of a
layer for all times at once, as the published implementation does, and torch's own LSTM of the same sizes.
"""

import time

import pytest
import torch
from torch import nn

from kexue.onlstm import LSTM, ONLSTM
from kexue.onlstm.recurrence import _product_with

EMBEDDING, SIZES, CHUNK, B, T = 400, (1150, 1150, 400), 10, 20, 70


class Straightforward(nn.Module):
    """Cells of modules, one autograd step after another, over projections that are computed at once."""

    def __init__(self):
        super().__init__()
        sizes = zip((EMBEDDING, *SIZES), SIZES, strict=False)
        rows = [(d, h, 4 * h + 2 * h // CHUNK) for d, h in sizes]
        self.ih = nn.ModuleList(nn.Linear(d, r) for d, _, r in rows)
        self.hh = nn.ModuleList(nn.Linear(h, r) for _, h, r in rows)

    def forward(self, x):
        for ih, hh in zip(self.ih, self.hh, strict=True):
            projected, hidden = ih(x), hh.in_features
            n = hidden // CHUNK
            h, c = x.new_zeros(len(x), hidden), x.new_zeros(len(x), n, CHUNK)
            found = []
            for step in projected.unbind(1):
                gates = step + hh(h)
                master_i, master_f = gates[:, : 2 * n].chunk(2, 1)
                keep = master_f.softmax(-1).cumsum(-1).unsqueeze(-1)
                write = 1 - master_i.softmax(-1).cumsum(-1).unsqueeze(-1)
                o, g, i, f = gates[:, 2 * n :].view(-1, 4, n, CHUNK).unbind(1)
                o, i, f, g = o.sigmoid(), i.sigmoid(), f.sigmoid(), g.tanh()
                both = keep * write
                c = (f * both + keep - both) * c + (i * both + write - both) * g
                h = (o * c.tanh()).flatten(1)
                found.append(h)
            x = torch.stack(found, 1)
        return x


class Torch(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = zip((EMBEDDING, *SIZES), SIZES, strict=False)
        self.layers = nn.ModuleList(nn.LSTM(d, h, batch_first=True) for d, h in sizes)

    def forward(self, x):
        for layer in self.layers:
            x, _ = layer(x)
        return x


class First(nn.Module):
    """The output of a network that returns more."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)[0]


def networks():
    torch.manual_seed(0)
    straight = Straightforward()
    ours = ONLSTM(EMBEDDING, hidden_sizes=SIZES, chunk_size=CHUNK, master_input="complement")
    for cell, ih, hh in zip(ours.cells, straight.ih, straight.hh, strict=True):
        cell.ih.load_state_dict(ih.state_dict())
        cell.hh.load_state_dict(hh.state_dict())
    return {
        "kexue": First(ours),
        "straightforward loop": straight,
        "torch.nn.LSTM": Torch(),
        "kexue's LSTM": First(LSTM(EMBEDDING, SIZES)),
    }


@pytest.fixture(scope="module")
def nets():
    torch.set_num_threads(2)
    return networks()


X = torch.randn(B, T, EMBEDDING, generator=torch.Generator().manual_seed(0))


def step(net):
    net.zero_grad()
    net(X).square().mean().backward()


def products():
    """The matrix products of a step of the ON-LSTM, and nothing else: no gate, no gradient of one."""
    for d, h in zip((EMBEDDING, *SIZES), SIZES, strict=False):
        w, u = torch.randn(4 * h + 2 * h // CHUNK, d), torch.randn(4 * h + 2 * h // CHUNK, h)
        x, hs, gates = torch.randn(T * B, d), torch.randn(T, B, h), torch.randn(T, B, len(u))
        forward, backward, flat = _product_with(u), _product_with(u.t()), gates.flatten(0, 1)
        x @ w.t(), flat @ w, flat.t() @ x
        _product_with(hs.flatten(0, 1).t())(flat.t())
        for before, gradient in zip(hs, gates, strict=True):
            forward(before), backward(gradient)


def test_both_compute_the_same(nets):
    with torch.no_grad():
        torch.testing.assert_close(nets["kexue"](X), nets["straightforward loop"](X), rtol=1e-4, atol=1e-5)


def test_training_is_faster_than_a_straightforward_loop(nets):
    """In one run: rounds in turn, best of each. Where the time goes: the loop over time, by kind of work."""
    parts = {name: lambda net=net: step(net) for name, net in nets.items()} | {"products alone": products}
    best = dict.fromkeys(parts, float("inf"))
    for _ in range(5):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            best[name] = min(best[name], time.perf_counter() - began)
    for name, seconds in best.items():
        ratio = seconds / best["kexue"]
        print(
            f"\n{name}: {seconds:.2f} s a step, {B * T / seconds:,.0f} words/s, {ratio:.2f} × kexue", end=""
        )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        step(nets["kexue"])
    spent = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    whole = sum(spent.values())
    multiplied = sum(spent.get(f"aten::{name}", 0) for name in ("mm", "addmm", "matmul", "bmm"))
    print(f"\nkexue: {multiplied / whole:.0%} of the time in matrix products", end="")
    assert best["kexue"] < best["straightforward loop"]


@pytest.mark.benchmark(group=f"a training step, {SIZES}, batch {B}, length {T}")
@pytest.mark.parametrize("which", ["kexue", "straightforward loop", "torch.nn.LSTM", "kexue's LSTM"])
def test_training(benchmark, nets, which):
    benchmark.pedantic(lambda: step(nets[which]), rounds=3, warmup_rounds=1)
