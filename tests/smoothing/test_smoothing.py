"""What all of kexue.smoothing promises: extremes, precision, bad input, and what the chapter prints."""

import math

import pytest
import torch
from printed import printed
from seeded import F64, gen, randn
from torch.autograd import gradcheck

from kexue import smoothing
from kexue.smoothing import (
    floored_accuracy,
    smooth_max,
    soft_accuracy,
    soft_argmax,
    soft_f1,
    soft_k_max,
    soft_macro_f1,
    soft_onehot,
    soft_precision,
    soft_recall,
    soft_top_k,
)


@pytest.mark.parametrize("name", ["soft_onehot", "soft_argmax", "smooth_max", "soft_k_max", "soft_top_k"])
def test_dim_moves_the_axis_and_the_gradient_is_right(name):
    function, x = getattr(smoothing, name), randn(2, 3, 4)
    argument = 2 if name in ("soft_k_max", "soft_top_k") else 1.7
    for dim in (0, 1, -1):
        moved = function(x.movedim(dim, -1), argument)
        if moved.ndim == 3:
            moved = moved.movedim(-1, dim)
        torch.testing.assert_close(function(x, argument, dim=dim), moved)
        assert gradcheck(lambda z, d=dim: function(z, argument, dim=d), x.requires_grad_())


BINARY = (soft_recall, soft_precision, soft_f1)
SCORES = {
    "smooth_max": smooth_max,
    "soft_onehot": soft_onehot,
    "soft_argmax": soft_argmax,
    "soft_k_max": lambda x: soft_k_max(x, 2),
    "soft_top_k": lambda x: soft_top_k(x, 2),
}


@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize(
    "values", [[1e4, -1e4, 0, 1e4], [1e4] * 4, [-1e4, -1e4, -1e4, 0], [0.0, 0, 0, 1e-30]]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_large_and_tiny_scores_give_finite_values_and_gradients(function, values, dtype):
    x = torch.tensor(values, dtype=dtype, requires_grad=True)
    out = function(x)
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    (gradient,) = torch.autograd.grad((out * torch.arange(1, out.numel() + 1).reshape(out.shape)).sum(), x)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("dtype", "k", "tolerance"),
    [(torch.float32, 1.2e-38, 1e-5), (torch.float64, 2.3e-308, 1e-12), (torch.float16, 1e-5, 1e-3)],
)
def test_a_range_that_overflows_the_difference_is_resolved(dtype, k, tolerance):
    big = 0.6 * torch.finfo(dtype).max
    x = torch.tensor([big, -big], dtype=dtype)
    first = 1 / (1 + math.exp(-2 * k * float(x[0])))
    assert 0.5 < first < 0.999
    assert float(soft_onehot(x, k)[0]) == pytest.approx(first, abs=tolerance)
    assert float(soft_argmax(x, k)) == pytest.approx(1 - first, abs=tolerance)
    logit = k * float(x[0])  # σ(k(x₀ − λ)) with λ = 0 by symmetry
    assert float(soft_top_k(x, 1, k)[0]) == pytest.approx(1 / (1 + math.exp(-logit)), abs=tolerance)


@pytest.mark.parametrize(
    "function",
    [
        soft_onehot,
        soft_argmax,
        smooth_max,
        lambda x, sharpness: soft_top_k(x, 2, sharpness),
        lambda x, sharpness: soft_top_k(x, 2, sharpness, step="laplace"),
    ],
)
def test_the_largest_floats_and_sharpnesses_do_not_overflow(function):
    x = torch.tensor([3e38, -3e38, 0.0, 1.0], requires_grad=True)
    for sharpness in (1e-30, 1.0, 1e38):
        out = function(x, sharpness)
        (gradient,) = torch.autograd.grad(out.ravel()[0], x)
        assert torch.isfinite(out).all()
        assert torch.isfinite(gradient).all()


def test_half_precision_is_computed_in_float32():
    for dtype in (torch.float16, torch.bfloat16):
        zeros, many = torch.zeros(3, dtype=dtype), torch.ones(70_000, dtype=dtype)
        for function in BINARY:
            assert function(zeros, torch.zeros(3, dtype=torch.long)) == 0  # eps does not vanish
            assert function(many, torch.ones(70_000)) == 1  # sums do not overflow
            assert function(zeros, torch.zeros(3)).dtype == dtype
        one_class = torch.zeros(70_000, dtype=torch.long)
        assert soft_accuracy(torch.ones(70_000, 1, dtype=dtype), one_class) == 1
        assert soft_macro_f1(torch.ones(70_000, 1, dtype=dtype), one_class) == 1
        assert floored_accuracy(torch.zeros(70_000, 1, dtype=dtype), one_class) == 1
        probs, target = torch.softmax(randn(30, 3), -1).to(dtype), torch.arange(30) % 3
        for function, values in ((soft_macro_f1, probs), (floored_accuracy, probs.log())):
            assert function(values, target).dtype == dtype
            assert torch.equal(function(values, target), function(values.float(), target).to(dtype))
        x = torch.zeros(50_000, dtype=dtype)
        assert float(smooth_max(x)) == pytest.approx(math.log(50_000), rel=5e-3)
        assert float(soft_argmax(x)) == pytest.approx(24_999.5, rel=5e-3)
        x[5] = 100
        assert soft_argmax(x) == 5
        y = randn(20).to(dtype)
        for function in SCORES.values():
            torch.testing.assert_close(function(y), function(y.float()).to(dtype), rtol=0, atol=0)


@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
def test_each_vector_of_a_batch_is_on_its_own(function):
    x = torch.stack(
        [randn(5), randn(5, seed=1) + 3000, randn(5, seed=2) - 3000, 500.0 * randn(5), torch.zeros(5)]
    )
    torch.testing.assert_close(function(x), torch.stack([function(row) for row in x]))
    assert function(x[:0]).shape == function(x)[:0].shape  # an empty batch stays one


@pytest.mark.gpu
@pytest.mark.parametrize("function", SCORES.values(), ids=SCORES)
def test_cuda_agrees_with_the_processor(function):
    x = randn(8, 30)
    torch.testing.assert_close(function(x.cuda()).cpu(), function(x))


X = torch.tensor([1.0, 2.0, 3.0])
P = torch.tensor([0.2, 0.7])
T = torch.tensor([0, 1])
NAN = float("nan")
ONE, K = [(smooth_max, ()), (soft_onehot, ()), (soft_argmax, ())], [(soft_k_max, (1,)), (soft_top_k, (1,))]
BAD = [
    *(
        (f, (bad, *rest), {}, error, match)
        for f, rest in ONE + K
        for bad, error, match in (
            (torch.tensor([1, 2]), TypeError, r"x must have a floating-point dtype of 16 to 64 bits, got torch.int64"),
            (torch.tensor([1.0, NAN]), ValueError, r"x must be finite, got nan"),
            (torch.zeros(0), ValueError, r"x must not be empty along dim=-1, got shape \(0,\)"),
        )
    ),
    # what kexue.nn.checks refuses anywhere
    (smooth_max, ([1.0],), {}, TypeError, r"x must be a torch.Tensor, got list"),
    (smooth_max, (X.to_sparse(),), {}, TypeError, r"x must be a dense tensor, got layout torch.sparse_coo"),
    (smooth_max, (X.to(torch.float8_e5m2),), {}, TypeError, r"x must have .*, got torch.float8_e5m2"),
    (smooth_max, (X + 0j,), {}, TypeError, r"x must have .*, got torch.complex64"),
    (smooth_max, (torch.tensor(1.0),), {}, ValueError, r"dim must be an axis of x, whose shape is \(\), got -1"),
    (smooth_max, (X,), {"dim": -2}, ValueError, r"dim must be .*, got -2"),
    *((f, (X, *rest), {"dim": 1}, ValueError, r"dim must be .* \(3,\), got 1") for f, rest in ONE + K),
    (smooth_max, (torch.zeros(10_000), 1.2e-38), {}, ValueError, r"result must fit into torch.float32, but log\(n\)/sharpness is too large for sharpness = 1.2e-38"),
    (soft_argmax, (torch.zeros(140_000).half(),), {}, ValueError, r"result must fit into torch.float16, but x has 140000 positions"),
    # sharpness and eps
    *(
        (smooth_max, (X, bad), {}, ValueError, rf"sharpness must be positive and finite, within \[1\.2e-38, 3\.4e\+38\], got {got}")
        for bad, got in ((0, "0"), (-1.5, "-1.5"), (math.inf, "inf"), (NAN, "nan"), (1e-50, "1e-50"), (10**400, "1000"))
    ),
    (smooth_max, (X, True), {}, TypeError, "sharpness must be a number, got bool"),
    *((f, (X, *rest), {"sharpness": 0}, ValueError, "sharpness must be positive and finite") for f, rest in [*ONE[1:], K[1]]),
    *((f, (P, T, 0), {}, ValueError, "eps must be positive and finite") for f in BINARY),
    # counts
    *(
        (f, (X, bad), {}, error, match)
        for f, _ in K
        for bad, error, match in (
            (0, ValueError, r"k must be between 1 and n = 3, .*, got 0"),
            (4, ValueError, r"k must be between 1 and n = 3, .*, got 4"),
            (1.0, TypeError, r"k must be an int, got float"),
        )
    ),
    (soft_k_max, (torch.tensor([3e38, -3e38]), 1), {}, ValueError, r"x must span less than 3.40282e\+38"),
    # probabilities
    *(
        (f, (bad, T) if f in BINARY else (bad[None], T[:1]), {}, error, match)
        for f in (soft_accuracy, soft_macro_f1, *BINARY)
        for bad, error, match in (
            (torch.tensor([0.5, 1.25]), ValueError, r"probs must lie in \[0, 1\], got 1.25"),
            (torch.tensor([-0.25, 1.0]), ValueError, r"probs must lie in \[0, 1\], got -0.25"),
            (torch.tensor([NAN, 1.0]), ValueError, r"probs must lie in \[0, 1\], got nan"),
        )
    ),
    # targets
    *(
        (f, bad, {}, error, match)
        for f in BINARY
        for bad, error, match in (
            ((P, torch.tensor([0, 2])), ValueError, r"target must be 0 or 1, got 2"),
            ((P, torch.tensor([0, 1j])), TypeError, r"target must have a real dtype, got torch.complex64"),
            ((P, T[:1]), ValueError, r"target must have the shape of probs, \(2,\), got \(1,\)"),
            ((P[:0], T[:0]), ValueError, r"at least one sample, got shape \(0,\)"),
            ((P[0], T[0]), ValueError, r"at least one sample, got shape \(\)"),
        )
    ),
    *(
        (f, (values[None], bad), {}, error, match)
        for f, name, values in ((soft_accuracy, "probs", P), (soft_macro_f1, "probs", P), (floored_accuracy, "log_probs", P.log()))
        for bad, error, match in (
            *((bad, TypeError, f"target must have an integer dtype, got {bad.dtype}") for bad in (T[:1].float(), T[:1].bool(), T[:1] + 0j)),
            (torch.tensor([2]), ValueError, rf"target must lie in 0 … 1, the classes of {name}, got 2"),
            (torch.tensor([-1]), ValueError, rf"target must lie in 0 … 1, the classes of {name}, got -1"),
            (T, ValueError, rf"{name} must have the shape of target, \(2,\), and an axis of classes, got \(1, 2\)"),
            ([0], TypeError, r"target must be a torch.Tensor, got list"),
        )
    ),
    (floored_accuracy, (P[None], T[:1]), {}, ValueError, r"log_probs must be at most 0, got 0.6\d*"),
    (floored_accuracy, (torch.tensor([[-torch.inf, 0.0]]), T[:1]), {}, ValueError, r"log_probs must be finite, got -inf"),
    (floored_accuracy, (T[None], T[:1]), {}, TypeError, r"log_probs must have a floating-point dtype"),
    *((floored_accuracy, (P.log()[None], T[:1], bad), {}, ValueError, match) for bad, match in ((0.0, "floor must be positive"), (1.5, r"floor must be at most 1, got 1.5"))),
    (floored_accuracy, (P.log()[None], T[:1], "0.1"), {}, TypeError, "floor must be a number, got str"),
    (soft_macro_f1, (P[None], T[:1], 0), {}, ValueError, "eps must be positive and finite"),
    (soft_top_k, (X, 1), {"step": "normal"}, ValueError, r"step must be one of \('logistic', 'laplace'\), got 'normal'"),
    (soft_accuracy, (P, torch.tensor(0)), {}, ValueError, r"probs must have the shape of target, \(\), .* got \(2,\)"),
    (soft_accuracy, (torch.zeros(0, 3), T[:0]), {}, ValueError, r"at least one sample, got shape \(0,\)"),
]  # fmt: skip


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("function", "args", "kwargs", "error", "match"),
    BAD,
    ids=[f"{case[0].__name__}-{i}" for i, case in enumerate(BAD)],
)
def test_bad_input_is_named(function, args, kwargs, error, match):
    with pytest.raises(error, match=match):
        function(*args, **kwargs)


def test_shapes_are_checked_while_testing():
    from jaxtyping import TypeCheckError

    with pytest.raises(TypeCheckError):
        soft_f1(torch.rand(3), torch.rand(4))


def test_the_printed_implementation_equals_the_package_in_value_and_gradient():
    minimal = printed("smoothing", torch=torch)
    x, probs, target = randn(6, 5), torch.rand(6, 5, generator=gen(), dtype=F64), torch.arange(6) % 5
    calls = {
        "smooth_max": [(x,), (x, 7.0)],
        "soft_onehot": [(x,), (x, 7.0)],
        "soft_argmax": [(x,), (x, 7.0)],
        "soft_accuracy": [(probs, target)],
        "soft_f1": [(probs, (x > 0).double())],
        "soft_macro_f1": [(probs, target)],
        "soft_k_max": [(x, k) for k in range(1, 6)],
        "soft_top_k": [(x, k, sharpness) for k in range(1, 5) for sharpness in (0.5, 3.0)],
    }
    assert set(minimal) == set(calls)
    for name, several in calls.items():
        for first, *others in several:
            results = []
            for function in (minimal[name], getattr(smoothing, name)):
                given = first.clone().requires_grad_()
                value = function(given, *others)
                weights = torch.arange(1.0, value.numel() + 1, dtype=F64).reshape(value.shape)
                (gradient,) = torch.autograd.grad((value * weights).sum(), given)
                results.append((value.detach(), gradient))
            torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)
