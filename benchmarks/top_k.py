"""Smooth top-k of one vector: time and memory against n, each method up to the n that fits 8 GB.

    python benchmarks/top_k.py

Each method and n has a process of its own, whose address space is limited; k = n/10, float32, one thread.
Times are the best of three, memory is what the process grew by at its peak. difftopk is measured where it can
be imported (it sorts differentiably; its entries, too, sum to k). 1.5-entmax sums to 1: beside, not among.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

METHODS = (
    "torch.topk (hard)",
    "soft_top_k",
    "soft_top_k, Laplace",
    "difftopk, bitonic",
    "difftopk, SoftSort",
    "1.5-entmax",
)
SIZES = (2**7, 2**10, 2**13, 2**16, 2**20, 2**23)  # the sorting networks want powers of 2
LIMIT = 8 * 2**30
"""Bytes, of what is allocated beyond the libraries."""


def method(name, n, k):
    if name == "torch.topk (hard)":
        return lambda x: x * 0 + (x >= x.topk(k).values[-1])
    if name.startswith("soft_top_k"):
        from kexue.smoothing import soft_top_k

        return lambda x: soft_top_k(x, k, step="laplace" if name.endswith("Laplace") else "logistic")
    if name == "1.5-entmax":
        from entmax import entmax15

        return lambda x: entmax15(x, -1)
    import difftopk

    if name.endswith("SoftSort"):
        sort = difftopk.SoftSort(tau=1.0)
        return lambda x: sort(x[None])[0, :k].sum(0)
    net = difftopk.DiffTopkNet("bitonic", n, k=k, distribution="logistic")
    return lambda x: net(x[None])[1][0].sum(-1)


def measure(name, n):
    import torch

    torch.set_num_threads(1)
    x = torch.randn(n, generator=torch.Generator().manual_seed(0), requires_grad=True)
    weights = torch.randn(n, generator=torch.Generator().manual_seed(1))
    f = method(name, n, n // 10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        p = f(x)
        middle = time.perf_counter()
        torch.autograd.grad((p * weights).sum(), x)
        times.append((middle - began, time.perf_counter() - middle))
        assert abs(float(p.sum()) - (1 if name == "1.5-entmax" else n // 10)) < 1e-3 * n, float(p.sum())
        del p
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [min(t) for t in zip(*times, strict=True)] + [(after - before) / 1024]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
        sys.exit()
    print(f"{'':22}{'n':>10}{'forward':>12}{'backward':>12}{'memory':>10}")
    for name in METHODS:
        for n in SIZES:
            try:
                done = subprocess.run(
                    [sys.executable, __file__, name, str(n)], capture_output=True, text=True, timeout=120
                )
            except subprocess.TimeoutExpired:
                print(f"{name:22}{n:>10,}   more than two minutes")
                break
            if done.returncode:
                print(f"{name:22}{n:>10,}   {(done.stderr.strip().splitlines() or ['killed'])[-1][:60]}")
                break
            forward, backward, memory = json.loads(done.stdout.splitlines()[-1])
            print(f"{name:22}{n:>10,}{1000 * forward:>9.1f} ms{1000 * backward:>9.1f} ms{memory:>7.0f} MB")
