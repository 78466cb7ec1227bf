"""Mathematics of kexue.vqvae.quantizers: brute force, closed forms, gradients, bad input."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusing import refuses
from scipy import stats
from seeded import F64, gen, randn
from sklearn.cluster import KMeans
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from kexue import vqvae
from kexue.vqvae import (
    FiniteScalarQuantizer,
    VectorQuantizer,
    nearest,
    quantizers,
    rotate_onto,
    straight_through,
)

NAN, INF = math.nan, math.inf


def started(num_codes: int, dim: int, dtype: torch.dtype = F64, **options) -> VectorQuantizer:
    """A quantiser with random codes, which has started."""
    made = VectorQuantizer(num_codes, dim, **options).to(dtype)
    with torch.no_grad():
        made.codebook.copy_(randn(num_codes, dim, dtype=dtype))
        if made.ema_decay is not None:
            made.size.fill_(1.0)
    return made


# --- The nearest code --------------------------------------------------------------------------


def brute_force(z: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return (z.double().unsqueeze(-2) - codebook.double()).square().sum(-1).argmin(-1)


@pytest.mark.verifies("vqvae.eq4")
@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 9),
    st.sampled_from([4, 50, 10**6]),
)
def test_nearest_is_brute_force(seed, n, codes, dim, block):
    z, codebook = randn(n, dim, seed=seed), randn(codes, dim, seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantizers, "_BLOCK", block)  # one row at a time, some, all
        assert torch.equal(nearest(z, codebook), brute_force(z, codebook))


@pytest.mark.verifies("vqvae.eq4")
def test_the_first_of_equally_near_codes_is_chosen():
    codebook = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0], [-2.0, 0.0]])
    z = torch.tensor([[3.0, 0.0], [0.0, 5.0], [1.0, 1.0], [0.0, 0.0], [-1.0, 0.0]])
    assert nearest(z, codebook).tolist() == [0, 1, 0, 0, 4]
    assert nearest(z[:0], codebook).tolist() == []


def test_nearest_survives_a_common_offset_in_float32():
    """Without centring, ‖e‖² − 2z·e is a small difference of numbers near 10¹⁰."""
    z, codebook = randn(2000, 8, dtype=torch.float32), randn(64, 8, seed=1, dtype=torch.float32)
    offset = 2.0**15  # exactly representable, as are the multiples of 2⁻⁶ that are added
    z, codebook = (z * 64).round() / 64 + offset, (codebook * 64).round() / 64 + offset
    found, true = nearest(z, codebook), brute_force(z, codebook)
    distance = (z.double().unsqueeze(-2) - codebook.double()).square().sum(-1)
    lost = distance.gather(1, found[:, None]) - distance.gather(1, true[:, None])
    assert float(lost.max()) < 1e-4
    assert (found == true).double().mean() > 0.999


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nearest_of_half_precision_is_computed_in_float32(dtype):
    z, codebook = randn(500, 16, dtype=dtype), randn(64, 16, seed=1, dtype=dtype)
    assert torch.equal(nearest(z, codebook), nearest(z.float(), codebook.float()))
    with torch.autocast("cpu", torch.bfloat16):
        inside = nearest(z.float(), codebook.float())
    assert torch.equal(inside, nearest(z.float(), codebook.float()))


def test_nearest_of_huge_numbers_does_not_overflow():
    codebook = torch.tensor([[-1e25], [0.0], [1e25], [2e25]])
    z = torch.tensor([[0.0], [1e25], [2.1e25], [3e38]])
    assert nearest(z, codebook).tolist() == [1, 2, 3, 3]
    assert nearest(z[:, :1].expand(-1, 1).reshape(2, 2, 1), codebook).tolist() == [[1, 2], [3, 3]]
    with pytest.raises(ValueError, match="must have finite squares, got entries up to 1e"):
        nearest(torch.full((1, 1), 1e200, dtype=F64), torch.tensor([[0.0], [1e200]], dtype=F64))


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation gives."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.slow
def test_no_table_of_all_distances_is_made():
    n, codes, dim = 60_000, 1024, 8
    z, codebook = randn(n, dim, dtype=torch.float32), randn(codes, dim, seed=1, dtype=torch.float32)
    with Sizes() as sizes:
        nearest(z, codebook)
    assert sizes.largest <= quantizers._BLOCK < n * codes / 10


# --- Straight-through --------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.eq10")
def test_the_article_s_order_of_terms_rounds_and_ours_does_not():
    z, hard = randn(10**5, dtype=torch.float32), randn(10**5, seed=1, dtype=torch.float32)
    assert torch.equal(straight_through(hard, z), hard)
    differs = (z + (hard - z) != hard).double().mean()
    assert 0.25 < differs < 0.45


@pytest.mark.fails("vqvae.eq10")
def test_the_gradient_for_z_is_that_for_the_code():
    decoder = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.Tanh(), torch.nn.Linear(9, 3)).to(F64)
    z, hard = randn(6, 4).requires_grad_(), randn(6, 4, seed=1).requires_grad_()

    def loss(u):
        return decoder(u).square().sum()

    (for_z,) = torch.autograd.grad(loss(straight_through(hard, z)), z)
    (for_code,) = torch.autograd.grad(loss(hard), hard)
    (for_itself,) = torch.autograd.grad(loss(z), z)
    assert torch.equal(for_z, for_code)
    assert not torch.allclose(for_z, for_itself, rtol=0.1)


@pytest.mark.verifies("vqvae.ste")
def test_relu_with_a_straight_through_gradient():
    x = torch.tensor([-3.0, -0.1, 0.0, 0.1, 3.0], requires_grad=True)
    y = x + (x.relu() - x).detach()
    y.sum().backward()
    assert y.tolist() == x.relu().tolist()
    assert x.grad.tolist() == [1.0] * 5


# --- The quantiser -----------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.eq3", "vqvae.eq4", "vqvae.eq6")
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_codes_and_vectors_are_the_same_thing(shape, decay):
    vq = started(8, 5, ema_decay=decay).eval()
    z = randn(*shape, seed=1)
    out = vq(z)
    assert out.quantized.shape == z.shape
    assert out.indices.shape == z.shape[:-1]
    assert torch.equal(vq.codebook[out.indices], out.quantized)
    assert torch.equal(out.indices, brute_force(z, vq.codebook))
    assert torch.equal(vq(out.quantized).indices, out.indices)


@pytest.mark.verifies("vqvae.eq11", "vqvae.eq12")
def test_the_split_has_the_gradients_and_twice_the_value():
    z, code = randn(7, 3).requires_grad_(), randn(7, 3, seed=1).requires_grad_()
    whole = (z - code).square().sum()
    split = (z.detach() - code).square().sum() + (z - code.detach()).square().sum()
    torch.testing.assert_close(split, 2 * whole)
    for a, b in zip(
        torch.autograd.grad(whole, (z, code)), torch.autograd.grad(split, (z, code)), strict=True
    ):
        torch.testing.assert_close(a, b)
    to_z, to_code = torch.autograd.grad((z - code).square().sum(), (z, code))
    torch.testing.assert_close(to_z, -to_code)


@pytest.mark.verifies("vqvae.eq13")
@pytest.mark.parametrize(("beta", "gamma"), [(1.0, 0.25), (0.0, 0.0), (3.0, 0.0), (0.0, 2.0)])
def test_who_receives_which_gradient(beta, gamma):
    """Of loss = f(quantised) + β‖sg[z] − e‖² + γ‖z − sg[e]‖²: by hand, for every code."""
    vq = started(6, 3, beta=beta, gamma=gamma)
    z = randn(4, 5, 3, seed=1).requires_grad_()
    weight = randn(4, 5, 3, seed=2)
    out = vq(z)
    ((out.quantized**2 * weight).sum() + out.loss).backward()
    code = vq.codebook.detach()[out.indices]
    n = z.numel()
    torch.testing.assert_close(z.grad, 2 * code * weight + gamma * 2 * (z.detach() - code) / n)
    by_hand = torch.zeros_like(vq.codebook).index_add_(
        0, out.indices.flatten(), (beta * 2 * (code - z.detach()) / n).flatten(0, 1)
    )
    torch.testing.assert_close(vq.codebook.grad, by_hand)
    torch.testing.assert_close(out.loss.detach(), (beta + gamma) * (z.detach() - code).square().mean())
    assert (vq.codebook.grad.abs().sum() > 0) == (beta > 0)


def test_with_a_moving_average_the_codes_are_not_trained():
    vq = started(6, 3, ema_decay=0.9)
    assert list(vq.parameters()) == []
    z = randn(20, 3, seed=1).requires_grad_()
    code = vq.codebook.clone()[brute_force(z.detach(), vq.codebook)]
    out = vq(z)
    torch.testing.assert_close(out.loss, 0.25 * mse_loss(z, code))
    out.loss.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z.detach() - code) / z.numel())


def test_perplexity_is_the_number_of_codes_in_even_use():
    vq = started(6, 2)
    assert vq(vq.codebook.detach()[:3]).perplexity.item() == pytest.approx(3)  # in training too
    assert FiniteScalarQuantizer((4, 4))(torch.zeros(9, 2)).perplexity == pytest.approx(1)
    vq.eval()
    assert vq(vq.codebook.detach()).perplexity == pytest.approx(6)
    assert vq(vq.codebook.detach()[:1]).perplexity == pytest.approx(1)
    uneven = vq.codebook.detach()[[0, 0, 0, 1]]
    assert vq(uneven).perplexity == pytest.approx(math.exp(stats.entropy([0.75, 0.25])))


def test_the_quantiser_takes_the_gradient_that_it_is_told():
    z, g = randn(20, 3, seed=1).requires_grad_(), randn(20, 3, seed=2)
    found = {}
    for estimator in ("straight_through", "rotation"):
        vq = started(6, 3, gamma=0.0, estimator=estimator)
        (found[estimator],) = torch.autograd.grad(vq(z).quantized, z, g)
    code = vq.codebook.detach()[brute_force(z.detach(), vq.codebook)]
    (rotated,) = torch.autograd.grad(rotate_onto(code, z), z, g)
    torch.testing.assert_close(found["rotation"], rotated)
    assert torch.equal(found["straight_through"], g)
    assert not torch.allclose(rotated, g)


@pytest.mark.unchecked
@pytest.mark.parametrize("value", [1e38, -3e38, math.inf, math.nan])
def test_a_vector_that_is_too_large_is_named_and_spoils_no_codebook(value):
    quantizer = VectorQuantizer(3, 4, ema_decay=0.9)
    with pytest.raises(ValueError, match=r"z must (have a sum of squares that is finite|be finite)"):
        quantizer(torch.full((6, 4), value))
    assert torch.isfinite(quantizer.codebook).all()
    assert torch.isfinite(quantizer(torch.randn(6, 4)).loss)


def test_the_loss_of_half_precision_is_finite():
    out = VectorQuantizer(3, 4).half()(torch.full((2, 4), 300.0).half())
    assert float(out.loss.detach()) == pytest.approx(1.25 * 300**2, rel=0.01)
    assert out.quantized.dtype == torch.float16


# --- The moving average ------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.ema")
def test_the_average_is_the_closed_form():
    """eⱼ = Σₜ d^(T−t) Σ(vectors of j in call t) / Σₜ d^(T−t) nⱼ(t); the first call uses all codes."""
    decay, calls = 0.8, 12
    vq = VectorQuantizer(16, 2, ema_decay=decay).to(F64)
    sums, counts, unused = torch.zeros(16, 2, dtype=F64), torch.zeros(16, dtype=F64), 0
    for t in range(calls):
        batch = randn(40, 2, seed=t) + torch.tensor([t / 10, 0.0], dtype=F64)
        found = vq(batch, gen()).indices
        sums = (decay * sums).index_add_(0, found, batch)
        counts = decay * counts + torch.bincount(found, minlength=16)
        unused += 16 - len(found.unique())
    assert unused > 0
    torch.testing.assert_close(vq.codebook, sums / counts[:, None], atol=1e-13, rtol=0)
    torch.testing.assert_close(vq.size, (1 - decay) * counts, atol=1e-13, rtol=0)


@pytest.mark.slow
@pytest.mark.verifies("vqvae.ema")
def test_repeated_on_the_same_vectors_it_is_k_means():
    z = torch.cat([randn(100, 2, seed=i) * 0.6 + 3 * randn(1, 2, seed=90 + i) for i in range(4)])
    start = z[[0, 100, 200, 300]]
    lloyd = KMeans(4, init=start.numpy(), n_init=1, algorithm="lloyd", tol=0).fit(z.numpy())
    for decay, calls in ((0.0, 60), (0.9, 600)):
        vq = VectorQuantizer(4, 2, ema_decay=decay).to(F64)
        with torch.no_grad():
            vq.codebook.copy_(start)
            vq.size.fill_(1e-300)
        for _ in range(calls):
            out = vq(z)
        torch.testing.assert_close(vq.codebook, torch.tensor(lloyd.cluster_centers_))
        assert out.indices.tolist() == lloyd.labels_.tolist()


@pytest.mark.slow
@pytest.mark.verifies("vqvae.ema")
@pytest.mark.parametrize("restart", [None, 50])
def test_a_codebook_that_starts_from_the_first_batch_stays_bounded(restart):
    """Half of the codes are never chosen again, until their counts underflow."""
    vq = VectorQuantizer(8, 3, ema_decay=0.7, restart_after=restart)
    first = torch.cat([randn(20, 3, dtype=torch.float32), 100 + randn(20, 3, seed=1, dtype=torch.float32)])
    vq(first, gen())
    far = vq.codebook.clone()[vq.codebook[:, 0] > 50]
    assert 0 < len(far) < 8
    for t in range(500):  # 0.7³⁰⁰ is less than float32 has
        vq(randn(20, 3, seed=t, dtype=torch.float32), gen(t))
        assert torch.isfinite(vq.codebook).all()
        assert vq.codebook.abs().max() < 110
    left = vq.codebook[vq.codebook[:, 0] > 50]
    if restart is None:
        assert vq.size.min() < 1e-44  # nothing is left to divide by
        assert torch.equal(left, far)  # they stay exactly where they were
    else:
        assert len(left) == 0


def test_the_first_call_in_training_starts_from_its_vectors():
    z = randn(30, 2, dtype=torch.float32)
    vq = VectorQuantizer(10, 2, ema_decay=0.99)
    before = vq.codebook.clone()
    vq.eval()(z)
    assert torch.equal(vq.codebook, before)
    vq.train()(z, gen())
    picked = torch.randperm(30, generator=gen())[:10]
    indices = brute_force(z, z[picked])
    means = torch.stack([z[indices == j].mean(0) for j in range(10)])
    torch.testing.assert_close(vq.codebook, means)
    trained = VectorQuantizer(10, 2)
    kept = trained.codebook.clone()
    trained(z, gen())
    assert torch.equal(trained.codebook, kept)  # a codebook that the loss trains does not


def test_a_codebook_that_was_started_does_not_start_again():
    first, second = randn(30, 2, dtype=torch.float32), 50 + randn(30, 2, dtype=torch.float32)
    vq = VectorQuantizer(10, 2, ema_decay=0.99)
    vq.start(first, gen())
    started = vq.codebook.clone()
    indices = vq(second).indices
    unused = torch.ones(10, dtype=torch.bool).index_fill(0, indices, False)
    assert torch.equal(vq.codebook[unused], started[unused])
    assert unused.any()
    for j in indices.unique():
        torch.testing.assert_close(vq.codebook[j], second[indices == j].mean(0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_moving_average_in_half_precision_is_refused(dtype):
    vq = VectorQuantizer(4, 2, ema_decay=0.9).to(dtype)
    with pytest.raises(ValueError, match=r"codebook must be float32 or float64 to be averaged, got torch\."):
        vq(torch.zeros(3, 2, dtype=dtype))
    vq.eval()(torch.zeros(3, 2, dtype=dtype))
    vq.float()(torch.ones(3, 2, dtype=dtype))  # as under autocast


def test_more_codes_than_vectors_repeat():
    vq = VectorQuantizer(7, 2)
    z = randn(3, 2, dtype=torch.float32)
    vq.start(z, gen())
    assert len(vq.codebook.unique(dim=0)) == 3
    counts = [int((vq.codebook == row).all(1).sum()) for row in z]
    assert sorted(counts) == [2, 2, 3]


@pytest.mark.parametrize("decay", [None, 0.9])
def test_idle_codes_restart_at_vectors_of_the_call(decay):
    vq = started(4, 2, dtype=torch.float32, ema_decay=decay, restart_after=3)
    with torch.no_grad():
        vq.codebook.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0], [60.0, 0.0], [70.0, 0.0]]))
    z = 0.1 * randn(8, 2, dtype=torch.float32)
    for _ in range(2):
        vq(z, gen())
    assert vq.idle.tolist() == [0, 2, 2, 2]
    assert (vq.codebook[1:, 0] >= 50).all()
    for _ in range(5):
        vq.eval()(z)  # does not count
    assert vq.idle.tolist() == [0, 2, 2, 2]
    vq.train()(z, gen())
    assert vq.idle.tolist() == [0, 0, 0, 0]
    assert torch.equal(vq.codebook[1:], z[torch.randperm(8, generator=gen())[:3]])
    if decay is not None:
        assert vq.size.tolist()[1:] == [0, 0, 0]
        vq(z)
        found = brute_force(z, vq.codebook)
        assert torch.isfinite(vq.codebook).all()
        assert len(found.unique()) > 1


def test_a_code_that_one_vector_chose_is_not_idle():
    quantizer = VectorQuantizer(2, 1, restart_after=3)
    quantizer.codebook.data = torch.tensor([[0.0], [10.0]])
    for _ in range(5):
        quantizer(torch.tensor([[0.0], [0.1], [10.0]]))
        assert quantizer.idle.tolist() == [0, 0]


@pytest.mark.parametrize("decay", [None, 0.9])
def test_looking_changes_nothing(decay):
    vq = VectorQuantizer(6, 2, ema_decay=decay, restart_after=1)
    z = randn(9, 2, dtype=torch.float32)
    vq(z, gen())
    state = {k: v.clone() for k, v in vq.state_dict().items()}
    vq.eval()
    for t in range(3):
        vq(randn(9, 2, seed=t, dtype=torch.float32))
    assert all(torch.equal(v, state[k]) for k, v in vq.state_dict().items())
    copy = VectorQuantizer(6, 2, ema_decay=decay, restart_after=1)
    copy.load_state_dict(state)
    one, two = vq.train()(z, gen(1)), copy(z, gen(1))  # does not start again
    assert torch.equal(one.indices, two.indices)
    assert torch.equal(vq.codebook, copy.codebook)


# --- The rotation trick and finite scalars -----------------------------------------------------


def test_the_rotation_is_a_rotation_of_z_onto_the_code():
    z, q, g = randn(50, 5).requires_grad_(), randn(50, 5, seed=1), randn(50, 5, seed=2)
    out = rotate_onto(q, z)
    assert torch.equal(out, q)
    (found,) = torch.autograd.grad(out, z, g)
    for i in range(50):
        # The matrix by which the gradient is multiplied, column by column.
        one = z.detach()[i].clone().requires_grad_()
        matrix = torch.autograd.functional.jacobian(lambda v, i=i: rotate_onto(q[i], v), one)
        scale = q[i].norm() / one.detach().norm()
        rotation = matrix / scale
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(5, dtype=F64))
        assert torch.linalg.det(rotation) == pytest.approx(1)
        torch.testing.assert_close(matrix @ one.detach(), q[i])
        torch.testing.assert_close(found[i], matrix.T @ g[i])
        # Only the plane of z and q turns.
        plane = torch.stack([one.detach(), q[i]], 1)
        other = g[i] - plane @ torch.linalg.lstsq(plane, g[i, :, None]).solution[:, 0]
        torch.testing.assert_close(rotation @ other, other)


@pytest.mark.parametrize(
    ("z", "q"),
    [([0.0, 0.0], [1.0, 2.0]), ([1.0, 2.0], [0.0, 0.0]), ([1.0, 2.0], [-2.0, -4.0]), ([1e-15, 0.0], [4.0, 3.0]), ([0.0, 0.0], [0.0, 0.0])],
)  # fmt: skip
def test_where_no_rotation_is_defined_it_is_straight_through(z, q):
    for dtype in (torch.float16, torch.bfloat16, torch.float32, F64):
        g, code = torch.tensor([3.0, 5.0], dtype=dtype), torch.tensor(q, dtype=dtype)
        leaf = torch.tensor(z, dtype=dtype, requires_grad=True)
        out = rotate_onto(code, leaf)
        assert torch.equal(out, code)
        assert torch.equal(torch.autograd.grad(out, leaf, g)[0], g)


def test_where_a_rotation_begins_and_ends_to_be_defined():
    def gradient(q):
        leaf = z.clone().requires_grad_()
        return torch.autograd.grad(rotate_onto(q, leaf), leaf, upstream)[0]

    z, upstream = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[0.3, 0.7]], dtype=F64)
    for angle, defined in ((2e-3, True), (5e-4, False)):  # that far from the opposite direction
        found = gradient(-torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=F64))
        assert torch.equal(found, upstream) is not defined
        assert found.norm() == pytest.approx(float(upstream.norm()))
    for stretching, defined in ((0.9e12, True), (1.1e12, False)):
        factor = stretching if defined else 1.0
        torch.testing.assert_close(gradient(stretching * z), factor * upstream, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("levels", [(8, 8, 8), (8, 5, 5, 5), (3,), (2, 4), (7, 6, 2)])
def test_finite_scalars_reach_every_code(levels):
    fsq = FiniteScalarQuantizer(levels).to(F64)
    assert (fsq.num_codes, fsq.dim) == (math.prod(levels), len(levels))
    codebook = fsq.codebook
    assert codebook.shape == (fsq.num_codes, fsq.dim)
    assert len(codebook.unique(dim=0)) == fsq.num_codes
    for i, level in enumerate(levels):
        # Even steps from −1, through 0.
        steps = (torch.arange(level) - level // 2) / (level // 2)
        assert codebook[:, i].unique().tolist() == pytest.approx(steps.tolist())
    z = 20 * randn(20_000, len(levels)) * torch.rand(20_000, 1, generator=gen(1), dtype=F64) ** 3
    out = fsq(z)
    assert len(out.indices.unique()) > (0.9 * fsq.num_codes if fsq.num_codes > 8 else fsq.num_codes - 1)
    torch.testing.assert_close(codebook[out.indices].to(F64), out.quantized)
    assert fsq(torch.zeros(len(levels), dtype=F64)).quantized.tolist() == [0.0] * len(levels)
    assert out.loss == 0


@pytest.mark.parametrize(
    ("levels", "z"), [(10**7, 100.0), (10**7, -100.0), (8388610, -100.0), (8388610, 100.0), (3, 1e30)]
)
def test_no_index_leaves_the_range(levels, z):
    quantizer = FiniteScalarQuantizer([levels])
    index = int(quantizer(torch.tensor([[z]])).indices)
    assert index == (levels - 1 if z > 0 else 0)


def test_finite_scalars_are_those_of_the_paper_s_formula():
    """Beside the reference formula, entry by entry; and the gradient is that of the bounded value."""
    levels = (8, 5, 4)
    fsq = FiniteScalarQuantizer(levels).to(F64)
    z = (3 * randn(200, 3)).requires_grad_()
    out = fsq(z)
    for i, level in enumerate(levels):
        half, offset = (level - 1) * 1.001 / 2, 0.0 if level % 2 else 0.5
        bounded = np.tanh(z.detach()[:, i].numpy() + np.arctanh(offset / half)) * half - offset
        np.testing.assert_allclose(out.quantized.detach()[:, i], np.round(bounded) / (level // 2))
        (found,) = torch.autograd.grad(out.quantized[:, i].sum(), z, retain_graph=True)
        slope = half * (1 - ((bounded + offset) / half) ** 2) / (level // 2)
        np.testing.assert_allclose(found[:, i], slope, atol=1e-12)


# --- Bad input ---------------------------------------------------------------------------------


test_bad_input_is_named = refuses([
    (lambda: nearest(torch.zeros(2, 3), torch.zeros(4, 2)), ValueError, r"z must have the codes' dimension last, got \(2, 3\) for \(4, 2\)"),
    (lambda: nearest(torch.zeros(2, 3), torch.zeros(0, 3)), ValueError, "z must have the codes' dimension"),
    (lambda: nearest(torch.tensor(1.0), torch.zeros(4, 1)), ValueError, "z must have the codes' dimension"),
    (lambda: nearest(torch.tensor([[0.0, NAN]]), torch.zeros(4, 2)), ValueError, "z must be finite, got nan"),
    (lambda: nearest(torch.zeros(1, 2), torch.tensor([[0.0, INF]])), ValueError, "codebook must be finite, got inf"),
    (lambda: VectorQuantizer(0, 3), ValueError, "num_codes must be at least 1, got 0"),
    (lambda: VectorQuantizer(4, 2, beta=-1.0), ValueError, "beta must be a finite number that is not negative, got -1.0"),
    (lambda: VectorQuantizer(4, 2, ema_decay=1.0), ValueError, r"ema_decay must lie in \[0, 1\), got 1.0"),
    (lambda: VectorQuantizer(4, 2, estimator="magic"), ValueError, "estimator must be one of .*, got 'magic'"),
    (lambda: VectorQuantizer(4, 2, restart_after=0), ValueError, "restart_after must be at least 1, got 0"),
    (lambda: VectorQuantizer(4, 2)(torch.zeros(5, 3)), ValueError, r"z must have shape \(..., 2\) and hold vectors, got \(5, 3\)"),
    (lambda: VectorQuantizer(4, 2)(torch.zeros(0, 2)), ValueError, r"z .*hold vectors, got \(0, 2\)"),
    (lambda: FiniteScalarQuantizer(()), ValueError, r"levels must be a list of at least one number, got \(\)"),
    (lambda: FiniteScalarQuantizer(8), ValueError, "levels must be a list of at least one number, got 8"),
    (lambda: FiniteScalarQuantizer((8, 1)), ValueError, r"levels\[1\] must be at least 2, got 1"),
    (lambda: FiniteScalarQuantizer((2,) * 64), ValueError, "levels must have a product of at most 2²⁴, got 18446744073709551616"),
    (lambda: FiniteScalarQuantizer((8, 8))(torch.tensor([0.0, INF])), ValueError, "z must be finite, got inf"),
    (lambda: VectorQuantizer(3, 4).start(torch.zeros(2, 3)), ValueError, r"z must have shape \(..., 4\) and hold vectors, got \(2, 3\)"),
    (lambda: straight_through(torch.zeros(2), torch.zeros(3)), ValueError, r"hard must have the shape of soft, \(3,\), got \(2,\)"),
    (lambda: rotate_onto(torch.zeros(3, 4), torch.zeros(2, 4)), ValueError, r"q must have z's shape, \(2, 4\), got \(3, 4\)"),
    (lambda: rotate_onto(torch.full((2,), 3e38), torch.zeros(2)), ValueError, "q must have a sum of squares that is finite in torch.float32, got entries up to 3e.38"),
    (lambda: rotate_onto(torch.zeros(2), torch.full((2,), NAN)), ValueError, "z must be finite, got nan"),
])  # fmt: skip


# --- Faults: the verifier, what is replaced in the package or in this file, and by what --------


def forgets_the_norms(z, codebook):
    return (z @ codebook.to(z.dtype).T).argmax(-1)


def from_zero_counts(self, flat, indices, counts, generator):
    """Averages of sums and of counts that begin with nothing but the codes, and a small number against 0/0."""
    if not hasattr(self, "sums"):
        self.sums, self.total = self.codebook.clone(), torch.zeros_like(self.size)
    new = torch.zeros_like(self.codebook).index_add_(0, indices, flat)
    self.sums.lerp_(new, 1 - self.ema_decay)
    self.total.lerp_(counts.to(self.size.dtype), 1 - self.ema_decay)
    self.codebook.copy_(self.sums / (self.total[:, None] + 1e-5))
    self.size.fill_(1.0)


def forgets_decay(self, flat, indices, counts, generator):
    sums = torch.zeros_like(self.codebook).index_add_(0, indices, flat)
    used = counts > 0
    self.size.copy_(counts.to(self.size.dtype))
    self.codebook[used] = sums[used] / counts[used, None]


FAULTS = [
    (test_nearest_is_brute_force, None, "nearest", forgets_the_norms),
    (test_the_first_of_equally_near_codes_is_chosen, None, "nearest", lambda z, codes: len(codes) - 1 - vqvae.nearest(z, codes.flip(0))),
    (lambda: test_codes_and_vectors_are_the_same_thing((3, 5), None), vqvae, "nearest", forgets_the_norms),
    (test_the_article_s_order_of_terms_rounds_and_ours_does_not, None, "straight_through", lambda hard, soft: soft + (hard - soft).detach()),
    (lambda: test_who_receives_which_gradient(1.0, 0.25), vqvae, "straight_through", lambda hard, soft: hard),
    (lambda: test_a_codebook_that_starts_from_the_first_batch_stays_bounded(None), VectorQuantizer, "_update", from_zero_counts),
    (test_the_average_is_the_closed_form, VectorQuantizer, "_update", forgets_decay),
]  # fmt: skip
