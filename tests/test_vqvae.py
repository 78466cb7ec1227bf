"""Mathematics of kexue.vqvae: brute force, closed forms, gradients, enumeration, bad input."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.cluster import KMeans
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from kexue import vqvae
from kexue.vqvae import (
    ORDERS,
    VQVAE,
    FiniteScalarQuantizer,
    PixelAttention,
    PixelCNN,
    TwoLevelVQVAE,
    VectorQuantizer,
    autoencoder,
    generation_order,
    gradient_agreement,
    image_quality,
    nearest,
    priors,
    quantizers,
    rotate_onto,
    straight_through,
)

F64 = torch.float64

settings.register_profile("kexue", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("kexue")


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> torch.Tensor:
    return torch.randn(*shape, generator=gen(seed), dtype=dtype)


def quantizer(
    num_codes: int, dim: int, seed: int = 0, dtype: torch.dtype = F64, **options
) -> VectorQuantizer:
    """A quantiser with random codes, which has started."""
    made = VectorQuantizer(num_codes, dim, **options).to(dtype)
    with torch.no_grad():
        made.codebook.copy_(randn(num_codes, dim, seed=seed, dtype=dtype))
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


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 3, 4, 5), (0, 5)])
def test_nearest_keeps_the_other_axes(shape):
    z, codebook = randn(*shape), randn(7, 5, seed=1)
    found = nearest(z, codebook)
    assert found.shape == shape[:-1]
    assert torch.equal(found.flatten(), brute_force(z.reshape(-1, 5), codebook))


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


@pytest.mark.verifies("vqvae.eq10")
def test_the_gradient_is_the_decoder_s_at_the_code():
    z, hard = torch.tensor(1.0, requires_grad=True), torch.tensor(2.0)
    (0 - straight_through(hard, z) ** 2).square().backward()
    assert z.grad == 32  # d(u⁴)/du at u = 2; at u = 1 it is 4


@pytest.mark.verifies("vqvae.eq10")
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


@pytest.mark.unchecked
def test_straight_through_names_a_wrong_shape():
    with pytest.raises(ValueError, match=r"hard must have the shape of soft, \(3,\), got \(2,\)"):
        straight_through(torch.zeros(2), torch.zeros(3))


# --- The quantiser -----------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.eq3", "vqvae.eq4")
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("decay", [None, 0.9])
def test_codes_and_vectors_are_the_same_thing(shape, decay):
    vq = quantizer(8, 5, ema_decay=decay).eval()
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
    vq = quantizer(6, 3, beta=beta, gamma=gamma)
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
    vq = quantizer(6, 3, ema_decay=0.9)
    assert list(vq.parameters()) == []
    z = randn(20, 3, seed=1).requires_grad_()
    code = vq.codebook.clone()[brute_force(z.detach(), vq.codebook)]
    out = vq(z)
    torch.testing.assert_close(out.loss, 0.25 * mse_loss(z, code))
    out.loss.backward()
    torch.testing.assert_close(z.grad, 0.25 * 2 * (z.detach() - code) / z.numel())


def test_perplexity_is_the_number_of_codes_in_even_use():
    vq = quantizer(6, 2)
    assert vq(vq.codebook.detach()[:3]).perplexity.item() == pytest.approx(3)  # in training too
    assert FiniteScalarQuantizer((4, 4))(torch.zeros(9, 2)).perplexity == pytest.approx(1)
    vq.eval()
    assert vq(vq.codebook.detach()).perplexity == pytest.approx(6)
    assert vq(vq.codebook.detach()[:1]).perplexity == pytest.approx(1)
    uneven = vq.codebook.detach()[[0, 0, 0, 1]]
    assert vq(uneven).perplexity == pytest.approx(math.exp(stats.entropy([0.75, 0.25])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_decoder_sees_finite_scalars_bit_for_bit(dtype):
    torch.manual_seed(0)
    model = VQVAE(3, 12, 80, 3, downsample=4, quantizer=FiniteScalarQuantizer((4, 4, 5))).to(dtype)
    y, out = model(torch.rand(2, 3, 16, 24, generator=gen()).to(dtype))
    assert torch.equal(y, model.decode_codes(out.indices))
    assert torch.equal(y, model.decode_codes(out.indices.to(torch.uint8)))


def test_the_quantiser_takes_the_gradient_that_it_is_told():
    z, g = randn(20, 3, seed=1).requires_grad_(), randn(20, 3, seed=2)
    found = {}
    for estimator in ("straight_through", "rotation"):
        vq = quantizer(6, 3, gamma=0.0, estimator=estimator)
        (found[estimator],) = torch.autograd.grad(vq(z).quantized, z, g)
    code = vq.codebook.detach()[brute_force(z.detach(), vq.codebook)]
    (rotated,) = torch.autograd.grad(rotate_onto(code, z), z, g)
    torch.testing.assert_close(found["rotation"], rotated)
    assert torch.equal(found["straight_through"], g)
    assert not torch.allclose(rotated, g)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
@pytest.mark.parametrize("decay", [None, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_decoder_sees_the_codes_bit_for_bit(estimator, decay, dtype):
    torch.manual_seed(0)
    vq = VectorQuantizer(16, 8, ema_decay=decay, estimator=estimator)
    vq.start(randn(16, 8, dtype=torch.float32))
    model = VQVAE(3, 12, 16, 8, downsample=4, quantizer=vq).to(dtype).eval()
    x = torch.rand(2, 3, 16, 24, generator=gen()).to(dtype) * 2 - 1
    y, out = model(x)
    assert torch.equal(y, model.decode_codes(out.indices))
    assert torch.equal(y, model.decode(vq.codebook[out.indices]))


# --- The moving average ------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.ema")
def test_the_average_is_the_closed_form():
    """eⱼ = Σₜ d^(T−t) Σ(vectors of j in call t) / Σₜ d^(T−t) nⱼ(t), for codes that the first call uses."""
    decay, calls = 0.8, 12
    vq = VectorQuantizer(5, 2, ema_decay=decay).to(F64)
    batches = [randn(40, 2, seed=t) + torch.tensor([t / 10, 0.0], dtype=F64) for t in range(calls)]
    sums, counts = torch.zeros(5, 2, dtype=F64), torch.zeros(5, dtype=F64)
    for batch in batches:
        found = vq(batch, gen()).indices
        sums, counts = decay * sums, decay * counts
        sums.index_add_(0, found, batch)
        counts += torch.bincount(found, minlength=5)
    assert (counts > 1).all()
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


@pytest.mark.verifies("vqvae.ema")
def test_one_call_with_decay_zero_is_one_step_of_lloyd():
    vq = quantizer(4, 2, ema_decay=0.0)
    z = randn(50, 2, seed=5)
    found = brute_force(z, vq.codebook)
    expected = vq.codebook.clone()
    for j in found.unique():
        expected[j] = z[found == j].mean(0)
    vq(z)
    torch.testing.assert_close(vq.codebook, expected)


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


def test_codes_are_averages_of_vectors():
    """Within the smallest box that holds all vectors so far, whatever comes."""
    vq = VectorQuantizer(16, 2, ema_decay=0.5).to(F64)
    seen = []
    for t in range(50):
        seen.append(randn(10, 2, seed=t) * (1 + t))
        vq(seen[-1], gen(t))
        box = torch.cat(seen)
        assert (vq.codebook <= box.amax(0) + 1e-9).all()
        assert (vq.codebook >= box.amin(0) - 1e-9).all()


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


def test_the_first_call_takes_its_generator(monkeypatch):
    x = torch.rand(4, 3, 16, 16, generator=gen())
    found = []
    for seed in (0, 1):
        torch.manual_seed(3)
        vq = [VectorQuantizer(8, 4, ema_decay=0.9) for _ in range(3)]
        one, two = VQVAE(3, 8, 8, 4, quantizer=vq[0]), TwoLevelVQVAE(3, 8, 4, 2, (vq[1], vq[2]))
        torch.manual_seed(seed)
        one(x, gen()), two(x, gen())
        found.append([v.codebook for v in vq])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


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
    vq = quantizer(4, 2, dtype=torch.float32, ema_decay=decay, restart_after=3)
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


def test_the_rotation_keeps_the_angle_between_code_and_gradient():
    z, q, g = randn(50, 5).requires_grad_(), randn(50, 5, seed=1), randn(50, 5, seed=2)
    (found,) = torch.autograd.grad(rotate_onto(q, z), z, g)
    torch.testing.assert_close(
        torch.cosine_similarity(found, z.detach()), torch.cosine_similarity(g, q), atol=1e-12, rtol=0
    )


def test_where_no_rotation_is_defined_it_is_straight_through():
    cases = [
        ([0.0, 0.0], [1.0, 2.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([1.0, 2.0], [-2.0, -4.0]),
        ([1e-15, 0.0], [4.0, 3.0]),
        ([0.0, 0.0], [0.0, 0.0]),
    ]
    for dtype in (torch.float16, torch.bfloat16, torch.float32, F64):
        g = torch.tensor([3.0, 5.0], dtype=dtype)
        for z, q in cases:
            leaf = torch.tensor(z, dtype=dtype, requires_grad=True)
            code = torch.tensor(q, dtype=dtype)
            out = rotate_onto(code, leaf)
            (found,) = torch.autograd.grad(out, leaf, g)
            assert torch.equal(out, code)
            assert found.tolist() == g.tolist()


def test_the_rotation_of_a_small_half_precision_vector_is_finite():
    z = torch.tensor([1e-6, 0.0], dtype=torch.float16, requires_grad=True)
    q = torch.tensor([10.0, 2.0], dtype=torch.float16)
    assert torch.equal(rotate_onto(q, z), q)


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


def test_many_levels_stay_on_the_grid():
    fsq = FiniteScalarQuantizer((1500, 3)).to(F64)
    z = torch.tensor([[-50.0, -50.0], [50.0, -50.0], [-50.0, 50.0], [50.0, 50.0], [0.0, 0.0]], dtype=F64)
    out = fsq(z)
    assert out.indices[[0, 3]].tolist() == [0, 4499]
    torch.testing.assert_close(fsq.codebook[out.indices].to(F64), out.quantized)


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


# --- The autoencoder ---------------------------------------------------------------------------


@pytest.mark.verifies("vqvae.eq5", "vqvae.eq6")
@pytest.mark.parametrize(
    ("channels", "downsample", "height", "width"),
    [(3, 4, 16, 24), (1, 2, 6, 4), (2, 8, 8, 8), (3, 16, 32, 16)],
)
def test_shapes_of_the_pipeline(channels, downsample, height, width):
    model = VQVAE(channels, 8, num_codes=5, dim=6, downsample=downsample)
    x = torch.rand(2, channels, height, width, generator=gen())
    y, out = model(x)
    assert y.shape == x.shape
    assert out.indices.shape == (2, height // downsample, width // downsample)
    assert model.encode(x).shape == (*out.indices.shape, 6)


@pytest.mark.verifies("vqvae.eq6")
def test_every_place_is_quantised_on_its_own():
    vq = quantizer(9, 4).eval()
    z = randn(2, 5, 6, 4, seed=3)
    whole = vq(z).indices
    for b, i, j in itertools.product(range(2), range(5), range(6)):
        assert vq(z[b, i, j]).indices == whole[b, i, j]


def losses(model: VQVAE, x: torch.Tensor, which: str) -> torch.Tensor:
    """The article's losses of equations 7, 8, 9 and 13, with squared norms as means."""
    z = model.encode(x)
    out = model.quantizer(z)
    if which == "eq13":
        return mse_loss(model.decode(out.quantized), x) + out.loss
    from_z = mse_loss(model.decode(z), x)
    from_code = mse_loss(model.decode(model.quantizer.codebook[out.indices]), x)
    return {"eq7": from_z, "eq8": from_code, "eq9": from_z + from_code}[which]


def gradients(which: str) -> dict[str, float]:
    torch.manual_seed(0)
    model = VQVAE(1, 6, 4, 3, downsample=2)
    model.quantizer.start(randn(4, 3, dtype=torch.float32))
    losses(model, torch.rand(2, 1, 8, 8, generator=gen()), which).backward()
    return {
        name: sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
        for name, part in model.named_children()
    }


@pytest.mark.verifies("vqvae.eq7", "vqvae.eq8", "vqvae.eq13")
def test_which_loss_trains_what():
    positive = {
        which: {k for k, v in gradients(which).items() if v > 0} for which in ("eq7", "eq8", "eq9", "eq13")
    }
    assert positive == {
        "eq7": {"encoder", "decoder"},
        "eq8": {"decoder", "quantizer"},
        "eq9": {"encoder", "decoder", "quantizer"},
        "eq13": {"encoder", "decoder", "quantizer"},
    }


@pytest.mark.verifies("vqvae.eq9")
def test_with_both_reconstruction_losses_the_encoder_still_learns_from_the_first_alone():
    first, second, both = (gradients(which) for which in ("eq7", "eq8", "eq9"))
    assert second["encoder"] == 0 < second["decoder"]
    assert both["encoder"] == pytest.approx(first["encoder"], rel=1e-5)
    assert both["quantizer"] == pytest.approx(second["quantizer"], rel=1e-5)
    assert both["decoder"] != pytest.approx(first["decoder"], rel=1e-2)


def test_an_image_does_not_depend_on_its_batch():
    torch.manual_seed(0)
    model = VQVAE(3, 8, 5, 6).eval()
    x = torch.rand(3, 3, 16, 16, generator=gen())
    torch.testing.assert_close(model(x)[0][1:2], model(x[1:2])[0])


def test_residual_blocks_add_to_what_goes_in():
    torch.manual_seed(0)
    x, residual = randn(2, 6, 5, 5, dtype=torch.float32), autoencoder._Residual(6)
    before = residual(x)
    for parameter in residual.branch[-1].parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(residual(x), x)
    assert not torch.equal(before, x)
    sizes = [sum(p.numel() for p in VQVAE(3, 8, 5, 6, blocks=b).parameters()) for b in (0, 1, 2)]
    one = 8 * 8 * 9 + 8 + 8 * 8 + 8  # a residual block of width 8
    assert np.diff(sizes).tolist() == [2 * one, 2 * one]
    model = VQVAE(3, 8, 5, 6, blocks=1)
    image = torch.rand(1, 3, 16, 16, generator=gen())
    for part in (model.encoder, model.decoder):
        block = next(m for m in part if isinstance(m, autoencoder._Residual))
        before = model.decode(model.encode(image))
        torch.nn.init.normal_(block.branch[-1].weight)
        assert not torch.allclose(model.decode(model.encode(image)), before)


def test_both_levels_reach_the_picture():
    torch.manual_seed(0)
    model = TwoLevelVQVAE(3, 8, 6, 2, (VectorQuantizer(1, 6), VectorQuantizer(7, 6))).eval()
    model.fine.start(randn(30, 6, dtype=torch.float32))
    x = torch.rand(2, 3, 16, 16, generator=gen())
    seen = []
    model.join.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    before = model(x)[0]
    joined = seen[0][
        :, 8:
    ]  # what the fine encoder sees of the coarse level: a single code, so always the same
    torch.testing.assert_close(joined[0], joined[1])
    with torch.no_grad():
        model.fine.codebook += 1
    assert not torch.allclose(model(x)[0], before)
    with torch.no_grad():
        model.fine.codebook -= 1
        model.coarse.codebook += 1
    assert not torch.allclose(model(x)[0], before)


def test_two_levels_train_all_that_they_have():
    torch.manual_seed(0)
    model = TwoLevelVQVAE(3, 8, 6, 4, (VectorQuantizer(5, 6), VectorQuantizer(7, 6)))
    for quantizer_ in (model.coarse, model.fine):
        quantizer_.start(randn(30, 6, dtype=torch.float32))
    x = torch.rand(2, 3, 16, 24, generator=gen())
    y, (coarse, fine) = model(x)
    assert y.shape == x.shape
    assert coarse.indices.shape == (2, 2, 3)
    assert fine.indices.shape == (2, 4, 6)
    (mse_loss(y, x) + coarse.loss + fine.loss).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_gradient_of_half_the_contrast_is_half_of_it_in_the_same_direction():
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert gradient_agreement(x, x) == pytest.approx((1, 1))
    assert gradient_agreement(x, x / 2 + 0.1) == pytest.approx((0.5, 1))
    assert gradient_agreement(x, -x) == pytest.approx((-1, -1))
    assert gradient_agreement(x, torch.full_like(x, 0.3)) == (0, 0)
    edge = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 3.0]])[
        None, None
    ]  # by hand: its gradient is 3 in two places
    other = torch.tensor([[0.0, 1.0, 3.0], [0.0, 0.0, 3.0]])[None, None]  # 1, 2 and 3 across, −1 down
    assert gradient_agreement(edge, other) == pytest.approx((15 / 18, 15 / (18 * 15) ** 0.5))


def test_image_quality_is_scikit_image_s():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x = torch.rand(3, 3, 20, 24, generator=gen()) * 2 - 1
    y = x + 0.2 * randn(3, 3, 20, 24, dtype=torch.float32)
    psnr, ssim = image_quality(x, y)
    for i in range(3):
        a, b = ((v[i].clamp(-1, 1).double().numpy() + 1) / 2 for v in (x, y))
        assert psnr[i] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0))
        expected = structural_similarity(
            a,
            b,
            data_range=1.0,
            channel_axis=0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert ssim[i] == pytest.approx(expected)
    assert np.isinf(image_quality(x, x)[0]).all()
    assert image_quality(x, x)[1] == pytest.approx(1)
    flat = torch.zeros(1, 1, 16, 16)
    assert image_quality(flat, flat + 0.2)[0] == pytest.approx(20)  # an error of 0.1 in [0, 1]


GRID = torch.zeros(1, 2, 3, dtype=torch.long)

# --- Models of the codes -----------------------------------------------------------------------


def prior(name: str, num_codes: int, grid: tuple[int, int], seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    if name == "cnn":
        return PixelCNN(num_codes, width=12, layers=4).to(F64).eval()
    made = PixelAttention(num_codes, grid, width=16, heads=2, blocks=2, order=name).to(F64).eval()
    for parameter in made.parameters():  # the embeddings start small: make all of it matter
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=gen(seed), dtype=F64)
    return made


PRIORS = [*ORDERS, "cnn"]


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
    assert generation_order("centre_out", 2, 4).tolist() == [1, 2, 5, 6, 0, 3, 4, 7]
    for order in ORDERS:
        assert sorted(generation_order(order, 5, 4).tolist()) == list(range(20))


def test_log_prob_under_autocast_stays_close():
    model = prior("raster", 5, (3, 3)).float()
    x = torch.randint(5, (8, 3, 3), generator=gen())
    exact = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.log_prob(x)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=2e-2, atol=0.2)


# --- Bad input ---------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(4, 2)), ValueError, r"z must have the codes' dimension last, got \(2, 3\) for \(4, 2\)"),
        (lambda: nearest(torch.zeros(2, 3), torch.zeros(0, 3)), ValueError, "codes' dimension"),
        (lambda: nearest(torch.tensor(1.0), torch.zeros(4, 1)), ValueError, "codes' dimension"),
        (lambda: nearest(torch.tensor([[0.0, NAN]]), torch.zeros(4, 2)), ValueError, "z must be finite, got nan"),
        (lambda: nearest(torch.tensor([[INF, -INF]]), torch.zeros(4, 2)), ValueError, "z must be finite, got inf"),
        (lambda: nearest(torch.zeros(1, 2), torch.tensor([[0.0, INF]])), ValueError, "codebook must be finite, got inf"),
        (lambda: nearest(torch.zeros(1, 2).long(), torch.zeros(4, 2)), TypeError, "z must have a floating-point dtype"),
        (lambda: nearest([[0.0]], torch.zeros(4, 1)), TypeError, "z must be a torch.Tensor, got list"),
        (lambda: VectorQuantizer(0, 3), ValueError, "num_codes must be at least 1, got 0"),
        (lambda: VectorQuantizer(4, 2.0), TypeError, "dim must be an int, got float"),
        (lambda: VectorQuantizer(4, 2, beta=-1.0), ValueError, "beta must be a finite number that is not negative, got -1.0"),
        (lambda: VectorQuantizer(4, 2, gamma=NAN), ValueError, "gamma must be a finite number .*, got nan"),
        (lambda: VectorQuantizer(4, 2, ema_decay=1.0), ValueError, r"ema_decay must be None or lie in \[0, 1\), got 1.0"),
        (lambda: VectorQuantizer(4, 2, estimator="magic"), ValueError, "estimator must be one of .*, got 'magic'"),
        (lambda: VectorQuantizer(4, 2, restart_after=0), ValueError, "restart_after must be at least 1, got 0"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(5, 3)), ValueError, r"z must have shape \(..., 2\) and hold vectors, got \(5, 3\)"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(0, 2)), ValueError, r"hold vectors, got \(0, 2\)"),
        (lambda: VectorQuantizer(4, 2)(torch.tensor([0.0, NAN])), ValueError, "z must be finite, got nan"),
        (lambda: VectorQuantizer(4, 2, ema_decay=0.9)(torch.tensor([0.0, NAN])), ValueError, "z must be finite, got nan"),
        (lambda: VectorQuantizer(4, 2)(torch.zeros(2, 2), 3), TypeError, "generator must be a torch.Generator or None, got int"),
        (lambda: FiniteScalarQuantizer(()), ValueError, r"levels must be a list of at least one number, got \(\)"),
        (lambda: FiniteScalarQuantizer((8, 1)), ValueError, r"levels\[1\] must be at least 2, got 1"),
        (lambda: FiniteScalarQuantizer((8, 8))(torch.zeros(3)), ValueError, r"z must have shape \(..., 2\)"),
        (lambda: FiniteScalarQuantizer((8, 8))(torch.tensor([0.0, INF])), ValueError, "z must be finite, got inf"),
        (lambda: VQVAE(3, 8, 4, 4, downsample=3), ValueError, "downsample must be a power of 2, got 3"),
        (lambda: VQVAE(3, 8, 4, 4, downsample=1), ValueError, "downsample must be at least 2, got 1"),
        (lambda: VQVAE(0, 8, 4, 4), ValueError, "channels must be at least 1, got 0"),
        (lambda: VQVAE(3, 8, 4, 4, blocks=-1), ValueError, "blocks must be at least 0, got -1"),
        (lambda: VQVAE(3, 8, 4, 4, quantizer=VectorQuantizer(5, 4)), ValueError, "quantizer must have num_codes = 4 and dim = 4, got 5 and 4"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(1, 1, 8, 8)), ValueError, r"x must have shape \(batch, 3, height, width\), got \(1, 1, 8, 8\)"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(3, 8, 8)), ValueError, r"got \(3, 8, 8\)"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(1, 3, 8, 10)), ValueError, "divide by the total downsample, 4, got 8 × 10"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)), TypeError, "x must have a floating-point dtype"),
        (lambda: VQVAE(3, 8, 4, 4).decode_codes(GRID + 4), ValueError, "indices must lie in 0 … 3, got 4"),
        (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4), VectorQuantizer(5, 3))), ValueError, "quantizers must have dim = 4, got 3"),
        (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4), VectorQuantizer(5, 4)))(torch.zeros(1, 3, 12, 16)), ValueError, "divide by the total downsample, 8, got 12 × 16"),
        (lambda: gradient_agreement(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), ValueError, "must have a gradient, got images of one colour"),
        (lambda: gradient_agreement(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)), ValueError, r"in the shape of y, \(1, 3, 8, 9\)"),
        (lambda: image_quality(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)), ValueError, "at least 11 × 11 pixels"),
        (lambda: image_quality(torch.zeros(1, 3, 16, 16) + 255, torch.zeros(1, 3, 16, 16)), ValueError, r"x must lie in \[−1, 1\], got 255"),
        (lambda: image_quality(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 12)), ValueError, "in the shape of y"),
        (lambda: image_quality(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)), ValueError, r"got \(3, 16, 16\)"),
        (lambda: image_quality(torch.full((1, 3, 16, 16), NAN), torch.zeros(1, 3, 16, 16)), ValueError, "x must be finite, got nan"),
        (lambda: VQVAE(3, 8, 4, 4, quantizer=torch.nn.Identity()), TypeError, "quantizer must be a VectorQuantizer or .*, got Identity"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.full((1, 3, 8, 8), NAN)), ValueError, "x must be finite, got nan"),
        (lambda: VQVAE(3, 8, 4, 4)(torch.zeros(0, 3, 8, 8)), ValueError, r"got \(0, 3, 8, 8\)"),
        (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4),)), ValueError, "quantizers must be two different ones"),
        (lambda: TwoLevelVQVAE(3, 8, 4, 4, (VectorQuantizer(5, 4),) * 2), ValueError, "quantizers must be two different ones"),
        (lambda: VectorQuantizer(4, 2, beta="1"), TypeError, "beta must be a number, got str"),
        (lambda: FiniteScalarQuantizer((2,) * 64), ValueError, "levels must have a product of at most 2²⁴, got 18446744073709551616"),
        (lambda: FiniteScalarQuantizer(8), ValueError, "levels must be a list of at least one number, got 8"),
        (lambda: PixelAttention(4, 3), ValueError, "grid must be two numbers, rows and columns, got 3"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).sample((1, 2, 3), 7), TypeError, "generator must be a torch.Generator or None, got int"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID.bool()), TypeError, "codes must be integers, got torch.bool"),
        (lambda: generation_order("raster", -1, -2), ValueError, "rows must be at least 1, got -1"),
        (lambda: generation_order("spiral", 2, 2), ValueError, "order must be one of .*, got 'spiral'"),
        (lambda: PixelAttention(4, (2, 3), width=10, heads=3), ValueError, "num_heads must divide hidden_size = 10, got 3"),
        (lambda: PixelAttention(4, (2, 0)), ValueError, r"grid\[1\] must be at least 1, got 0"),
        (lambda: PixelAttention(4, (2, 3), dropout=1.0), ValueError, r"dropout must lie in \[0, 1\), got 1.0"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID - 1), ValueError, "codes must lie in 0 … 3, got -1"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID + 4), ValueError, "codes must lie in 0 … 3, got 4"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID.transpose(1, 2)), ValueError, r"codes must have shape \(batch, 2, 3\), got \(1, 3, 2\)"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID[0]), ValueError, r"codes must have shape \(batch, rows, columns\), got \(2, 3\)"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).log_prob(GRID.float()), TypeError, "codes must be integers, got torch.float32"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).sample((1, 3, 2)), ValueError, r"shape must be \(batch, 2, 3\), got \(1, 3, 2\)"),
        (lambda: PixelAttention(4, (2, 3), 8, 2).sample((0, 2, 3)), ValueError, "shape's batch must be at least 1, got 0"),
        (lambda: PixelCNN(4, kernel=4), ValueError, "kernel must be odd and at least 3, got 4"),
        (lambda: PixelCNN(4, dropout=-0.1), ValueError, r"dropout must lie in \[0, 1\), got -0.1"),
        (lambda: PixelCNN(4, 8, 1).log_prob(GRID + 4), ValueError, "codes must lie in 0 … 3, got 4"),
        (lambda: PixelCNN(4, 8, 1).sample((2, 3)), ValueError, r"shape must be three numbers, got \(2, 3\)"),
        (lambda: PixelCNN(4, 8, 1).sample((2, 3, 0)), ValueError, "shape's columns must be at least 1, got 0"),
    ],
    ids=range(71),
)  # fmt: skip
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


# --- Deliberate faults -------------------------------------------------------------------------


def forgets_the_norms(z, codebook):
    return (z @ codebook.to(z.dtype).T).argmax(-1)


def last_of_ties(z, codebook):
    return len(codebook) - 1 - vqvae.nearest(z, codebook.flip(0))


def article_s_order(hard, soft):
    return soft + (hard - soft).detach()


def no_estimator(hard, soft):
    return hard


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


def sees_itself(length, device=None):
    return torch.ones(length, length, dtype=torch.bool)


# The verifier, what is replaced in an object or in this file (None), its name, and by what.
# --- What hostile inputs found -----------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("levels", "z"), [(10**7, 100.0), (10**7, -100.0), (8388610, -100.0), (8388610, 100.0), (3, 1e30)]
)
def test_no_index_leaves_the_range(levels, z):
    quantizer = FiniteScalarQuantizer([levels])
    index = int(quantizer(torch.tensor([[z]])).indices)
    assert index == (levels - 1 if z > 0 else 0)


@pytest.mark.unchecked
def test_what_cannot_be_rotated_is_named():
    z = torch.randn(2, 4)
    for bad, error, message in (
        (
            torch.full((2, 4), 3e38),
            ValueError,
            "must have a sum of squares that is finite in torch.float32, got entries up to 3e.38",
        ),
        (torch.full((2, 4), math.nan), ValueError, "must be finite, got nan"),
        (z.long(), TypeError, "must have a floating-point dtype"),
    ):
        with pytest.raises(error, match=f"q {message}"):
            rotate_onto(bad, z)
        with pytest.raises(error, match=f"z {message}"):
            rotate_onto(z, bad)
    with pytest.raises(ValueError, match=r"q must have z's shape, \(2, 4\), got \(3, 4\)"):
        rotate_onto(torch.randn(3, 4), z)


@pytest.mark.unchecked
@pytest.mark.parametrize("decay", [False, True, "0.9"])
def test_a_decay_that_is_no_number_is_named(decay):
    with pytest.raises(TypeError, match=f"ema_decay must be a number or None, got {type(decay).__name__}"):
        VectorQuantizer(3, 4, ema_decay=decay)


def test_from_the_centre_out_is_by_euclid_s_distance():
    for rows, columns in ((5, 7), (4, 6), (1, 8)):
        middle = ((rows - 1) / 2, (columns - 1) / 2)
        places = [(math.dist(middle, divmod(i, columns)), i) for i in range(rows * columns)]
        assert generation_order("centre_out", rows, columns).tolist() == [i for _, i in sorted(places)]


def test_a_code_that_one_vector_chose_is_not_idle():
    quantizer = VectorQuantizer(2, 1, restart_after=3)
    quantizer.codebook.data = torch.tensor([[0.0], [10.0]])
    for _ in range(5):
        quantizer(torch.tensor([[0.0], [0.1], [10.0]]))
        assert quantizer.idle.tolist() == [0, 0]


def gradient_of_rotation(q, z, upstream):
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((rotate_onto(q, z) * upstream).sum(), z)
    return gradient


def test_where_a_rotation_begins_and_ends_to_be_defined():
    z, upstream = torch.tensor([[1.0, 0.0]], dtype=F64), torch.tensor([[0.3, 0.7]], dtype=F64)
    for angle, defined in ((2e-3, True), (5e-4, False)):  # that far from the opposite direction
        q = -torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=F64)
        gradient = gradient_of_rotation(q, z, upstream)
        assert torch.equal(gradient, upstream) is not defined
        assert gradient.norm() == pytest.approx(float(upstream.norm()))
    for stretching, defined in ((0.9e12, True), (1.1e12, False)):
        gradient = gradient_of_rotation(stretching * z, z, upstream)
        factor = stretching if defined else 1.0
        torch.testing.assert_close(gradient, factor * upstream, rtol=1e-9, atol=0.0)


FAULTS = [
    (test_nearest_is_brute_force, None, "nearest", forgets_the_norms),
    (test_the_first_of_equally_near_codes_is_chosen, None, "nearest", last_of_ties),
    (lambda: test_codes_and_vectors_are_the_same_thing((3, 5), None), vqvae, "nearest", forgets_the_norms),
    (test_the_article_s_order_of_terms_rounds_and_ours_does_not, None, "straight_through", article_s_order),
    (lambda: test_who_receives_which_gradient(1.0, 0.25), vqvae, "straight_through", no_estimator),
    (lambda: test_a_codebook_that_starts_from_the_first_batch_stays_bounded(None), VectorQuantizer, "_update", from_zero_counts),
    (test_the_average_is_the_closed_form, VectorQuantizer, "_update", forgets_decay),
    (lambda: test_each_code_is_predicted_from_those_before_it_and_from_all_of_them("raster"), vqvae, "causal_mask", sees_itself),
]  # fmt: skip
