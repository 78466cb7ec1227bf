"""Reparameterisation: from the normal distribution to Gumbel-Softmax, and the score function beside it.

Source: 苏剑林, 《漫谈重参数：从正态分布到Gumbel Softmax》, https://kexue.fm/archives/6705.
The ids in brackets (gumbel.eq8) are rows of the ledger.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from kexue.gumbel.estimators import Gradients, Params, reparam_grad, score_function_grad
from kexue.gumbel.sampling import gumbel_max, gumbel_noise, gumbel_softmax
from kexue.gumbel.vae import ESTIMATORS, CategoricalVAE, Estimator, elbo, evaluate_elbo, vae_loss
from kexue.nn.autograd import straight_through

__all__ = [
    "ESTIMATORS",
    "CategoricalVAE",
    "Estimator",
    "Gradients",
    "Params",
    "elbo",
    "evaluate_elbo",
    "gumbel_max",
    "gumbel_noise",
    "gumbel_softmax",
    "reparam_grad",
    "score_function_grad",
    "straight_through",
    "vae_loss",
]
