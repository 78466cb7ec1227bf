"""VQ-VAE: an autoencoder whose code is a grid of integers, and the autoregressive models of such grids.

Source: 苏剑林, 《VQ-VAE的简明介绍：量子化自编码器》, https://kexue.fm/archives/6760.
The ids in brackets (vqvae.eq10) are rows of the ledger.

Bad input raises `TypeError` for a wrong type and `ValueError` for a value outside the domain; the
message names the argument and the value.
"""

from kexue.nn.autograd import straight_through
from kexue.vqvae.autoencoder import VQVAE, TwoLevelVQVAE, gradient_agreement, image_quality
from kexue.vqvae.priors import ORDERS, Order, PixelAttention, PixelCNN, generation_order
from kexue.vqvae.quantizers import (
    Estimator,
    FiniteScalarQuantizer,
    Quantized,
    VectorQuantizer,
    nearest,
    rotate_onto,
)

__all__ = [
    "ORDERS",
    "VQVAE",
    "Estimator",
    "FiniteScalarQuantizer",
    "Order",
    "PixelAttention",
    "PixelCNN",
    "Quantized",
    "TwoLevelVQVAE",
    "VectorQuantizer",
    "generation_order",
    "gradient_agreement",
    "image_quality",
    "nearest",
    "rotate_onto",
    "straight_through",
]
