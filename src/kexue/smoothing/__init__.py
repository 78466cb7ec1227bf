"""Differentiable approximations of max, argmax, accuracy, F1 and the k best.

Source: 苏剑林, 《函数光滑化杂谈：不可导函数的可导逼近》, https://kexue.fm/archives/6620.
The ids in brackets (smoothing.eq2) are rows of the ledger.

Every function checks its input and raises
`TypeError` for something that is not a floating-point tensor (or, for counts, not an int) and
`ValueError` for a value outside the domain; the message names the argument and the value. Half
precision is computed in float32 and rounded at the end.
"""

from kexue.smoothing.maxima import smooth_max, soft_argmax, soft_onehot
from kexue.smoothing.scores import (
    floored_accuracy,
    soft_accuracy,
    soft_f1,
    soft_macro_f1,
    soft_precision,
    soft_recall,
)
from kexue.smoothing.top_k import soft_k_max, soft_top_k

__all__ = [
    "floored_accuracy",
    "smooth_max",
    "soft_accuracy",
    "soft_argmax",
    "soft_f1",
    "soft_k_max",
    "soft_macro_f1",
    "soft_onehot",
    "soft_precision",
    "soft_recall",
    "soft_top_k",
]
