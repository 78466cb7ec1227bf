"""Mathematics of kexue.vqvae.priors: enumeration, what is seen of what, sampling, bad input."""

import itertools
import math

import pytest
import torch
from refusing import refuses
from scipy import stats
from seeded import F64, gen, randn

from kexue import vqvae
from kexue.vqvae import ORDERS, PixelAttention, PixelCNN, generation_order, priors

GRID = torch.zeros(1, 2, 3, dtype=torch.long)
PRIORS = [*ORDERS, "cnn"]


def prior(name: str, num_codes: int, grid: tuple[int, int], seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    if name == "cnn":
        return PixelCNN(num_codes, hidden_size=12, num_layers=4).to(F64).eval()
    made = PixelAttention(num_codes, grid, 16, num_heads=2, num_layers=2, order=name).to(F64).eval()
    for parameter in made.parameters():  # the embeddings start small: make all of it matter
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=gen(seed), dtype=F64)
    return made


def all_codes(num_codes: int, rows: int, columns: int) -> torch.Tensor:
    every = list(itertools.product(range(num_codes), repeat=rows * columns))
    return torch.tensor(every).view(-1, rows, columns)


@pytest.mark.verifies("vqvae.eq1")
@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("grid", [(2, 2), (1, 3), (3, 1), (1, 1)])
def test_the_probabilities_of_all_images_sum_to_one(name, grid):
    log_prob = prior(name, 3, grid).log_prob(all_codes(3, *grid))
    assert log_prob.shape == (3 ** (grid[0] * grid[1]),)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)


def order_of(name: str, rows: int, columns: int) -> list[int]:
    return generation_order("raster" if name == "cnn" else name, rows, columns).tolist()


@pytest.mark.verifies("vqvae.eq1")
@pytest.mark.parametrize("name", PRIORS)
def test_each_code_is_predicted_from_those_before_it_and_from_all_of_them(name):
    rows, columns, codes = 4, 5, 6
    model = prior(name, codes, (rows, columns))
    x = torch.randint(codes, (1, rows, columns), generator=gen())
    with torch.no_grad():
        logits = model(x).flatten(1, 2)
        order = order_of(name, rows, columns)
        for t, place in enumerate(order):
            other = x.clone()
            other.view(-1)[place] = (other.view(-1)[place] + 1) % codes
            moved = (model(other).flatten(1, 2) - logits).abs().amax((0, 2))
            before, after = order[: t + 1], order[t + 1 :]
            assert moved[before].max() == 0
            assert not after or moved[after].min() > 1e-9


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("axis", ["row", "column"])
def test_the_embeddings_are_those_of_the_place_to_predict(name, axis):
    rows, columns = 3, 4
    model = prior(name, 5, (rows, columns))
    x = torch.randint(5, (1, rows, columns), generator=gen())
    order = order_of(name, rows, columns)
    with torch.no_grad():
        before = model(x).flatten(1, 2)
        getattr(model, axis).weight[1] += torch.randn(16, generator=gen(1), dtype=F64)
        moved = (model(x).flatten(1, 2) - before).abs().amax((0, 2))
    here = [p for p in order if (p // columns if axis == "row" else p % columns) == 1]
    first = order.index(here[0])
    assert moved[here].min() > 1e-6
    assert not order[:first] or moved[order[:first]].max() == 0


def test_the_gate_is_a_gate():
    x = randn(2, 6, 3, 3)
    torch.testing.assert_close(priors._gate(x), x[:, :3].tanh() * x[:, 3:].sigmoid())


@pytest.mark.parametrize(
    "model", [PixelCNN(5, 8, 2, dropout=0.5), PixelAttention(5, (2, 3), 8, 2, 1, dropout=0.5)]
)
def test_dropout_only_in_training(model):
    model.train()
    assert not torch.equal(model.log_prob(GRID), model.log_prob(GRID))
    model.eval()
    assert torch.equal(model.log_prob(GRID), model.log_prob(GRID))


def test_codes_of_any_integer_type():
    for name in ("raster", "cnn"):
        model = prior(name, 256, (2, 3))
        x = torch.randint(256, (2, 2, 3), generator=gen())
        assert torch.equal(model.log_prob(x), model.log_prob(x.to(torch.uint8)))
        assert torch.equal(model.log_prob(x), model.log_prob(x.to(torch.int32)))


@pytest.mark.slow
@pytest.mark.verifies("vqvae.eq1")
@pytest.mark.parametrize("name", PRIORS)
def test_samples_have_the_probabilities(name):
    grid, n = (1, 2), 20_000
    model = prior(name, 3, grid)
    drawn = model.sample((n, *grid), gen())
    assert drawn.shape == (n, *grid)
    with torch.no_grad():
        expected = model.log_prob(all_codes(3, *grid)).exp() * n
    counts = torch.bincount(drawn[:, 0, 0] * 3 + drawn[:, 0, 1], minlength=9)
    assert stats.chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("name", PRIORS)
def test_sampling_is_the_same_without_a_cache(name):
    rows, columns, codes = 3, 4, 5
    model = prior(name, codes, (rows, columns))
    generator, slow = gen(), torch.zeros(6, rows * columns, dtype=torch.long)
    with torch.no_grad():
        for place in order_of(name, rows, columns):
            p = model(slow.view(6, rows, columns)).flatten(1, 2)[:, place].softmax(-1)
            slow[:, place] = torch.multinomial(p, 1, generator=generator)[:, 0]
    fast = model.sample((6, rows, columns), gen())
    assert torch.equal(fast.flatten(1), slow)
    assert len(fast.unique(dim=0)) > 1


def test_generation_orders():
    assert generation_order("raster", 2, 3).tolist() == [0, 1, 2, 3, 4, 5]
    assert generation_order("reversed", 2, 3).tolist() == [5, 4, 3, 2, 1, 0]
    assert generation_order("centre_out", 3, 3).tolist() == [4, 1, 3, 5, 7, 0, 2, 6, 8]
    for rows, columns in ((5, 7), (4, 6), (1, 8)):
        middle = ((rows - 1) / 2, (columns - 1) / 2)
        places = [(math.dist(middle, divmod(i, columns)), i) for i in range(rows * columns)]
        assert generation_order("centre_out", rows, columns).tolist() == [i for _, i in sorted(places)]


def test_log_prob_under_autocast_stays_close():
    model = prior("raster", 5, (3, 3)).float()
    x = torch.randint(5, (8, 3, 3), generator=gen())
    exact = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_prob(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=2e-2, atol=0.2)


test_bad_input_is_named = refuses([
    (lambda: generation_order("raster", -1, -2), ValueError, "rows must be at least 1, got -1"),
    (lambda: generation_order("spiral", 2, 2), ValueError, "order must be one of .*, got 'spiral'"),
    (lambda: PixelAttention(4, 3), ValueError, "grid must be two numbers, rows and columns, got 3"),
    (lambda: PixelAttention(4, (2, 3), hidden_size=10, num_heads=3), ValueError, "num_heads must divide hidden_size = 10, got 3"),
    (lambda: PixelAttention(4, (2, 0)), ValueError, r"grid\[1\] must be at least 1, got 0"),
    (lambda: PixelAttention(4, (2, 3), dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1.0"),
    (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID - 1), ValueError, "codes must lie in 0 … 3, got -1"),
    (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID.transpose(1, 2)), ValueError, r"codes must have shape \(batch, 2, 3\), got \(1, 3, 2\)"),
    (lambda: PixelAttention(4, (2, 3), 8, 2).sample((1, 3, 2)), ValueError, r"shape must be \(batch, 2, 3\), got \(1, 3, 2\)"),
    (lambda: PixelAttention(4, (2, 3), 8, 2).sample((0, 2, 3)), ValueError, "shape's batch must be at least 1, got 0"),
    (lambda: PixelCNN(4, kernel_size=4), ValueError, "kernel_size must be odd, got 4"),
    (lambda: PixelCNN(4, 8, 1).log_prob(GRID + 4), ValueError, "codes must lie in 0 … 3, got 4"),
    (lambda: PixelCNN(4, 8, 1).sample((2, 3)), ValueError, r"shape must be three numbers, got \(2, 3\)"),
])  # fmt: skip


def sees_itself(length, device=None):
    return torch.ones(length, length, dtype=torch.bool)


FAULTS = [
    (lambda: test_each_code_is_predicted_from_those_before_it_and_from_all_of_them("raster"), vqvae, "causal_mask", sees_itself),
]  # fmt: skip
