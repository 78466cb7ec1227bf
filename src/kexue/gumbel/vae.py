"""An autoencoder with discrete latents, and five estimators of the gradient that it is trained by."""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, one_hot

from kexue.gumbel.estimators import leave_one_out
from kexue.gumbel.sampling import check_logits, gumbel_max, relax
from kexue.nn import checks

Estimator = Literal["gumbel", "straight_through", "score", "score_baseline", "rloo"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


class CategoricalVAE(nn.Module):
    """A variational autoencoder of binary images whose code is a list of categorical variables.

    q(z|x) = ∏ₗ Categorical(zₗ; softmax(encode(x)ₗ)), p(z) uniform, p(x|z) = ∏ Bernoulli(decode(z))
    (gumbel.claim5). Two convolutions with stride 2, and the same transposed; no batch statistics.

    Args:
        num_latents: L, the categorical variables.
        num_classes: K, the classes of each.
        channels: of the two convolutions.
        hidden_size: units of the dense layer on either side of the code.
        image_size: height and width of the images, a multiple of 4.

    Raises TypeError or ValueError for an argument that is no positive int, channels that are not two, or an
    image_size that is no multiple of 4.
    """

    def __init__(
        self,
        num_latents: int = 32,
        num_classes: int = 10,
        channels: tuple[int, int] = (32, 64),
        hidden_size: int = 32,
        image_size: int = 28,
    ) -> None:
        super().__init__()
        if not isinstance(channels, tuple | list) or len(channels) != 2:
            raise ValueError(f"channels must be two numbers, got {channels!r}")
        first, second = channels
        named = {"num_latents": num_latents, "num_classes": num_classes, "hidden_size": hidden_size}
        named |= {"image_size": image_size, "channels[0]": first, "channels[1]": second}
        for name, value in named.items():
            checks.count(name, value, 1)
        if image_size % 4:
            raise ValueError(f"image_size must be a multiple of 4, got {image_size}")
        self.num_latents, self.num_classes, self.image_size = num_latents, num_classes, image_size
        grid = (second, image_size // 4, image_size // 4)
        flat, code = math.prod(grid), num_latents * num_classes
        self.encoder = nn.Sequential(
            nn.Conv2d(1, first, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(flat, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, code),
        )
        self.decoder = nn.Sequential(
            nn.Linear(code, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, flat),
            nn.ReLU(),
            nn.Unflatten(1, grid),
            nn.ConvTranspose2d(second, first, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(first, 1, 3, stride=2, padding=1, output_padding=1),
        )

    def encode(self, x: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch latents classes"]:
        """Logits of q(z|x). Raises TypeError or ValueError for another dtype or shape."""
        self._check("x", x, (self.image_size, self.image_size))
        return self.encoder(x.unsqueeze(1)).unflatten(1, (self.num_latents, self.num_classes))

    def decode(self, z: Float[Tensor, "batch latents classes"]) -> Float[Tensor, "batch height width"]:
        """Logits of the pixels, for one-hot or relaxed codes z. Raises as `encode` does."""
        self._check("z", z, (self.num_latents, self.num_classes))
        return self.decoder(z.flatten(1)).squeeze(1)

    def forward(
        self, x: Float[Tensor, "batch height width"], sample: Callable[[Tensor], Tensor]
    ) -> tuple[
        Float[Tensor, "batch latents classes"],
        Float[Tensor, "batch latents classes"],
        Float[Tensor, "batch height width"],
    ]:
        """Encode, draw z = sample(logits), decode: (logits, z, logits of the pixels). Raises as they do."""
        checks.function("sample", sample)
        logits = self.encode(x)
        z = sample(logits)
        return logits, z, self.decode(z)

    def _check(self, name: str, value: Tensor, shape: tuple[int, int]) -> None:
        checks.floating(name, value)
        checks.like_weights(name, value, next(self.parameters()))
        if value.ndim != 3 or value.shape[1:] != shape:
            raise ValueError(
                f"{name} must have the shape (batch, {shape[0]}, {shape[1]}), got {tuple(value.shape)}"
            )


def elbo(
    x: Float[Tensor, "batch height width"],
    pixel_logits: Float[Tensor, "batch height width"],
    logits: Float[Tensor, "batch latents classes"],
) -> Float[Tensor, " batch"]:
    """Evidence lower bound log p(x|z) − KL(q(z|x) ‖ uniform) of each image, in nats.

    A lower bound on log p(x) in expectation over one-hot z ∼ q(z|x). The divergence is exact and whole,
    Σₗ (log K − H(qₗ)): the constant L·log K, which does not matter for training, is in it.

    Args:
        x: binary images.
        pixel_logits: of p(x|z), for one sample z of q(z|x) for each image.
        logits: of q(z|x).

    Raises:
        TypeError: one of them is not a floating-point tensor.
        ValueError: pixels other than 0 and 1, shapes that do not fit, bad logits (see `gumbel_max`).
    """
    for name, value in (("x", x), ("pixel_logits", pixel_logits), ("logits", logits)):
        checks.floating(name, value)
    fitting = x.ndim == logits.ndim == 3 and x.shape == pixel_logits.shape and len(logits) == len(x)
    if not fitting:
        shapes = tuple(map(tuple, (x.shape, pixel_logits.shape, logits.shape)))
        raise ValueError(f"x, pixel_logits and logits must have fitting shapes of 3 axes, got {shapes}")
    _check_binary(x)
    check_logits(logits, -1)
    if not torch.isfinite(pixel_logits).all():
        raise ValueError("pixel_logits must be finite, got NaN or ∞")
    bound = _log_likelihood(x, pixel_logits) - _kl_to_uniform(logits)
    if not torch.isfinite(bound).all():
        raise ValueError(
            f"pixel_logits must leave the bound finite, got up to {float(pixel_logits.abs().max()):g}"
        )
    return bound


def vae_loss(
    model: Callable[..., tuple[Tensor, Tensor, Tensor]],
    x: Float[Tensor, "batch height width"],
    noise: Float[Tensor, "samples batch latents classes"],
    estimator: Estimator = "gumbel",
    tau: float = 1.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """A loss whose gradient estimates that of −ELBO, and the mean ELBO of the samples that were drawn.

    The divergence is differentiated exactly; the estimators differ in E[log p(x|z)]:

    - "gumbel": the relaxed sample of `gumbel_softmax` goes through the decoder;
    - "straight_through": its one-hot version does, with the gradient of the relaxed one;
    - "score": the score function (gumbel.eq15), f = log p(x|z);
    - "score_baseline": minus the mean of f over the other images of x (of a process's share of a batch);
    - "rloo": two samples for each image, each the other's baseline.

    Args:
        model: a `CategoricalVAE`, what wraps it, or another function that gives what its `forward` does.
        x: binary images.
        noise: Gumbel noise for one sample, two for "rloo".
        estimator: one of the five.
        tau: temperature, for the first two.

    Raises:
        TypeError: x or noise are not floating-point.
        ValueError: an unknown estimator, noise or x of another shape, a bad tau, pixels other than 0 and 1,
            or too few images: "score_baseline" needs two.
    """
    checks.choice("estimator", estimator, ESTIMATORS)
    checks.function("model", model)
    checks.floating("noise", noise)
    checks.positive("tau", tau, noise)
    checks.floating("x", x)
    if x.ndim != 3:
        raise ValueError(f"x must have shape (batch, height, width), got {tuple(x.shape)}")
    _check_binary(x)
    if len(x) < (2 if estimator == "score_baseline" else 1):
        raise ValueError(f"x must hold enough images for {estimator!r}, got {len(x)}")
    samples = 2 if estimator == "rloo" else 1
    if len(noise) != samples:
        raise ValueError(f"noise must hold {samples} samples for {estimator!r}, got {len(noise)}")
    relaxed = estimator in ("gumbel", "straight_through")

    def sample(logits: Tensor) -> Tensor:
        if noise.ndim != 4 or noise.flatten(0, 1).shape != logits.shape:
            expected = (samples, len(logits) // samples, *logits.shape[1:])
            raise ValueError(f"noise must have the shape {expected}, got {tuple(noise.shape)}")
        checks.like_weights("noise", noise, logits)
        z = relax(logits + noise.flatten(0, 1), tau, hard=estimator != "gumbel")
        return z if relaxed else z.detach()

    x = x.repeat(samples, 1, 1)
    found = model(x, sample)
    if not isinstance(found, tuple) or len(found) != 3:
        raise TypeError(f"model must give logits, codes and logits of pixels, got {type(found).__name__}")
    logits, z, pixel_logits = found
    log_likelihood = _log_likelihood(x, pixel_logits)
    objective = (log_likelihood - _kl_to_uniform(logits)).mean()
    if relaxed:
        return -objective, objective.detach()
    f = log_likelihood.detach().unflatten(0, (samples, -1))
    if estimator != "score":
        f = f - leave_one_out(f, dim=0 if estimator == "rloo" else 1)
    log_prob = (z * log_softmax(logits, -1)).sum((-2, -1))
    return -objective - (f.flatten() * log_prob).mean(), objective.detach()


def _check_binary(x: Tensor) -> None:
    other = (x != 0) & (x != 1)
    if other.any():
        raise ValueError(f"x must be 0 or 1, got {x[other][0].item()}")


def _log_likelihood(x: Tensor, pixel_logits: Tensor) -> Tensor:
    return -binary_cross_entropy_with_logits(pixel_logits, x, reduction="none").sum((-2, -1))


def _kl_to_uniform(logits: Tensor) -> Tensor:
    log_probs = log_softmax(logits, -1)
    probs = log_probs.exp()
    log_probs = log_probs.masked_fill(probs == 0, 0.0)  # 0·log 0 is 0
    return (probs * (log_probs + math.log(logits.shape[-1]))).sum((-2, -1))


@torch.no_grad()
def evaluate_elbo(
    model: CategoricalVAE,
    x: Float[Tensor, "n height width"],
    generator: torch.Generator | None = None,
    num_samples: int = 1,
) -> Float[Tensor, " n"]:
    """ELBO of each image in nats, the mean over `num_samples` one-hot codes z ∼ q(z|x).

    Raises TypeError or ValueError for a num_samples that is no positive int, and what `elbo` raises.
    """
    checks.instance("model", model, CategoricalVAE, "a CategoricalVAE")
    checks.generator(generator)
    checks.count("num_samples", num_samples, 1)
    checks.floating("x", x)
    _check_binary(x)
    logits = model.encode(x)
    total = torch.zeros_like(x[:, 0, 0])
    for _ in range(num_samples):
        z = one_hot(gumbel_max(logits, generator), model.num_classes).to(x.dtype)
        total += elbo(x, model.decode(z), logits)
    return total / num_samples
