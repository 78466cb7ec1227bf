"""Mathematics of kexue.gumbel.vae: enumeration of codes, formulas of the losses, bad input."""

import math

import pytest
import torch
from seeded import F64, gen, within
from torch.nn.functional import one_hot

from kexue import gumbel
from kexue.gumbel import (
    ESTIMATORS,
    CategoricalVAE,
    elbo,
    evaluate_elbo,
    gumbel_noise,
    gumbel_softmax,
    vae_loss,
)


def tiny_vae(seed: int = 0) -> CategoricalVAE:
    torch.manual_seed(seed)
    model = CategoricalVAE(2, 3, channels=(2, 3), hidden_size=4, image_size=4).double()
    for parameter in model.parameters():
        parameter.data.mul_(3)  # far from uniform
    return model


def tiny_image() -> torch.Tensor:
    return torch.randint(2, (1, 4, 4), generator=gen(9)).double()


CODES = one_hot(torch.cartesian_prod(torch.arange(3), torch.arange(3)), 3).double()  # all nine


def exact_elbo(model: CategoricalVAE, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """ELBO and log-likelihood of one image by enumeration of the nine codes."""
    log_q = model.encode(x).log_softmax(-1)
    log_prob = (CODES * log_q).sum((-2, -1))
    pixels = model.decode(CODES)
    log_likelihood = -torch.nn.functional.softplus(torch.where(x == 1, -pixels, pixels)).sum((-2, -1))
    prior = -2 * math.log(3)
    bound = (log_prob.exp() * (log_likelihood + prior - log_prob)).sum()
    return bound, torch.logsumexp(log_likelihood + prior, 0)


@pytest.mark.verifies("gumbel.claim5")
def test_elbo_against_enumeration():
    model, x = tiny_vae(), tiny_image()
    bound, log_p = exact_elbo(model, x)
    log_q = model.encode(x).log_softmax(-1)
    weights = (CODES * log_q).sum((-2, -1)).exp()
    each = elbo(x.expand(9, -1, -1), model.decode(CODES), model.encode(x).expand(9, -1, -1))
    torch.testing.assert_close((weights * each).sum(), bound)
    assert bound < log_p
    estimates = evaluate_elbo(model, x.expand(20_000, -1, -1), gen(), num_samples=2)
    assert within(estimates, bound.detach())
    assert not estimates.requires_grad


def test_the_divergence_is_whole():
    x = torch.zeros(2, 4, 4)
    far = torch.full((2, 4, 4), -100.0)  # log p(x|z) = 0
    assert elbo(x, far, torch.zeros(2, 5, 7)).tolist() == pytest.approx([0, 0], abs=1e-5)
    certain = 1000 * one_hot(torch.zeros(2, 5, dtype=torch.long), 7).float()
    assert elbo(x, far, certain).tolist() == pytest.approx([-5 * math.log(7)] * 2)
    impossible = torch.zeros(2, 5, 7)
    impossible[..., 3:] = -math.inf
    impossible.requires_grad_()
    bound = elbo(x, far, impossible)
    assert bound.tolist() == pytest.approx([-5 * math.log(7 / 3)] * 2)
    assert torch.isfinite(torch.autograd.grad(bound.sum(), impossible)[0]).all()


def loss_gradient(model, estimator, tau=1.0, copies=40_000, seed=0):
    """Mean gradient of the encoder's last layer and the decoder's first over many draws, in parts."""
    x = tiny_image().expand(copies // 20, -1, -1)
    parts = []
    for i in range(20):
        noise = gumbel_noise((2 if estimator == "rloo" else 1, copies // 20, 2, 3), gen(seed + i), F64)
        loss, _ = vae_loss(model, x, noise, estimator, tau)
        layers = (model.encoder[-1].weight, model.decoder[0].weight)
        parts.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, layers)]))
    return torch.stack(parts)


@pytest.mark.verifies("gumbel.claim5")
@pytest.mark.parametrize("estimator", ["score", "score_baseline", "rloo"])
def test_score_function_losses_are_the_formula(estimator):
    model, samples = tiny_vae(), 2 if estimator == "rloo" else 1
    x = torch.randint(2, (5, 4, 4), generator=gen(8)).double()
    noise = gumbel_noise((samples, 5, 2, 3), gen(), F64)
    loss, _ = vae_loss(model, x, noise, estimator)
    logits = model.encode(x)
    log_q = logits.log_softmax(-1)
    z = one_hot((logits + noise).argmax(-1), 3).double()  # (samples, 5, 2, 3)
    pixels = model.decode(z.flatten(0, 1)).unflatten(0, (samples, 5))
    f = (x * pixels - torch.nn.functional.softplus(pixels)).sum((-2, -1))
    weight = f.detach().clone()
    if estimator == "score_baseline":
        weight -= torch.stack([torch.cat([f[:, :i], f[:, i + 1 :]], 1).mean(1) for i in range(5)], 1).detach()
    if estimator == "rloo":
        weight -= weight.flip(0)
    kl = (log_q.exp() * (log_q + math.log(3))).sum((-2, -1))
    expected = -(f - kl + weight * (z * log_q).sum((-2, -1))).mean()
    torch.testing.assert_close(loss, expected)
    layers = list(model.parameters())
    for found, right in zip(
        torch.autograd.grad(loss, layers), torch.autograd.grad(expected, layers), strict=True
    ):
        torch.testing.assert_close(found, right)


@pytest.mark.slow
def test_the_relaxed_losses_have_a_gradient_that_is_near_in_the_cold():
    model = tiny_vae()
    bound, _ = exact_elbo(model, tiny_image())
    (truth,) = torch.autograd.grad(-bound, model.encoder[-1].weight)
    warm, cold = (
        float((loss_gradient(model, "gumbel", tau).mean(0)[:24] - truth.flatten()).norm() / truth.norm())
        for tau in (2.0, 0.1)
    )
    assert cold < 0.5 * warm
    straight = loss_gradient(model, "straight_through", 0.5)
    decoder = torch.autograd.grad(-exact_elbo(model, tiny_image())[0], model.decoder[0].weight)[0]
    assert within(straight[:, 24:], decoder.flatten(), errors=5)  # one-hot codes: exact for the decoder


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_bound_that_is_reported_is_that_of_the_samples(estimator):
    model, x = tiny_vae(), tiny_image().expand(6, -1, -1)
    noise = gumbel_noise((2 if estimator == "rloo" else 1, 6, 2, 3), gen(), F64)
    loss, bound = vae_loss(model, x, noise, estimator, 0.5)
    logits = model.encode(x)
    each = []
    for g in noise:
        z = torch.softmax((logits + g) / 0.5, -1)
        if estimator != "gumbel":
            z = one_hot(z.argmax(-1), 3).double()
        each.append(elbo(x, model.decode(z), logits))
    torch.testing.assert_close(bound, torch.stack(each).mean().detach())
    if estimator in ("gumbel", "straight_through"):
        torch.testing.assert_close(loss.detach(), -bound)


@pytest.mark.parametrize("estimator", ["gumbel", "rloo"])
def test_a_function_may_stand_for_the_model(estimator):
    model, samples = tiny_vae(), 2 if estimator == "rloo" else 1
    x = torch.randint(2, (5, 4, 4), generator=gen(8)).double()
    noise = gumbel_noise((samples, 5, 2, 3), gen(), F64)
    last = model.encoder[-1]
    with torch.no_grad():
        hidden = model.encoder[:-1](x.unsqueeze(1)).repeat(samples, 1)

    def from_last_layer(x, sample):
        logits = last(hidden).unflatten(1, (2, 3))
        z = sample(logits)
        return logits, z, model.decode(z)

    losses = [vae_loss(m, x, noise, estimator)[0] for m in (model, from_last_layer)]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, last.weight)[0] for loss in losses))


def test_the_vae_of_the_article():
    model = CategoricalVAE()
    x = torch.randint(2, (3, 28, 28), generator=gen()).float()
    logits, z, pixels = model(x, lambda scores: gumbel_softmax(scores, generator=gen()))
    assert logits.shape == z.shape == (3, 32, 10)
    assert pixels.shape == x.shape
    weights = [tuple(layer.weight.shape) for layer in model.encoder if hasattr(layer, "weight")]
    assert weights == [(32, 1, 3, 3), (64, 32, 3, 3), (32, 64 * 7 * 7), (320, 32)]
    layers = " ".join(type(layer).__name__ for layer in model.decoder)
    assert layers == "Linear ReLU Linear ReLU Unflatten ConvTranspose2d ReLU ConvTranspose2d"
    # The code's entries go to the decoder variable by variable.
    torch.testing.assert_close(model.decode(z), model.decoder(z.reshape(3, 320)).squeeze(1))


X, CODED, NOISE = torch.zeros(2, 4, 4), torch.zeros(2, 5, 7), torch.zeros(1, 2, 2, 3)
BAD = [
    *((CategoricalVAE, {name: 0}, f"{name} must be at least 1, got 0") for name in ("num_latents", "num_classes", "hidden_size", "image_size")),
    (CategoricalVAE, {"channels": (1, -2)}, r"channels\[1\] must be at least 1, got -2"),
    (CategoricalVAE, {"channels": (1, 2, 3)}, r"channels must be two numbers, got \(1, 2, 3\)"),
    (CategoricalVAE, {"image_size": 30}, "image_size must be a multiple of 4, got 30"),
    (elbo, {"x": X + 0.5}, r"x must be 0 or 1, got 0\.5"),
    *((elbo, wrong, "must have fitting shapes of 3 axes") for wrong in ({"pixel_logits": X[:1]}, {"x": X[:, None]}, {"logits": CODED[:, 0]})),
    (elbo, {"logits": CODED + math.nan}, "logits must be finite or −∞, got nan"),
    (elbo, {"pixel_logits": X + math.nan}, "pixel_logits must be finite"),
    (elbo, {"x": X.long()}, "x must have a floating-point dtype"),
    (evaluate_elbo, {"num_samples": 0}, "num_samples must be at least 1, got 0"),
    (vae_loss, {"estimator": "magic"}, "estimator must be one of .*, got 'magic'"),
    (vae_loss, {"estimator": "rloo"}, "noise must hold 2 samples for 'rloo', got 1"),
    (vae_loss, {"tau": 0.0}, "tau must be positive and finite"),
    *((vae_loss, {"noise": torch.zeros(shape)}, r"noise must have the shape \(1, 2, 2, 3\), got") for shape in ((1, 1, 2, 3), (1, 2, 1, 3), (1, 2, 2, 1), (1, 2, 3))),
    (vae_loss, {"noise": NOISE.long()}, "noise must have a floating-point dtype"),
    (vae_loss, {"x": X + 7}, r"x must be 0 or 1, got 7\.0"),
    (vae_loss, {"x": X[:1], "estimator": "score_baseline"}, "x must hold enough images for 'score_baseline', got 1"),
    (vae_loss, {"x": None}, "x must be a torch.Tensor, got NoneType"),
    (vae_loss, {"x": X[0]}, r"x must have shape \(batch, height, width\), got \(4, 4\)"),
    (vae_loss, {"x": X.double()}, "x must have the weights' dtype torch.float32, got torch.float64"),
]  # fmt: skip
GOOD = {
    CategoricalVAE: {},
    elbo: {"x": X, "pixel_logits": X, "logits": CODED},
    evaluate_elbo: {"model": tiny_vae().float(), "x": X},
    vae_loss: {"model": tiny_vae().float(), "x": X, "noise": NOISE},
}


@pytest.mark.unchecked
@pytest.mark.parametrize(("call", "wrong", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_named(call, wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call(**GOOD[call] | wrong)


def forgets_the_constant(x, pixel_logits, logits):
    return gumbel.elbo(x, pixel_logits, logits) + logits.shape[-2] * math.log(logits.shape[-1])


FAULTS = [(test_the_divergence_is_whole, None, "elbo", forgets_the_constant)]
