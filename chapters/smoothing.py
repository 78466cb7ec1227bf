# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Smoothing: max, argmax, accuracy and F1 as losses
#
# *函数光滑化杂谈：不可导函数的可导逼近*

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import itertools

import matplotlib.pyplot as plt
import numpy as np
import sympy
import torch
from IPython.display import Markdown, display
from sklearn import metrics
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kexue import data
from kexue.book import plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, source
from kexue.smoothing import (
    smooth_max,
    soft_accuracy,
    soft_argmax,
    soft_f1,
    soft_k_max,
    soft_onehot,
    soft_precision,
    soft_recall,
    soft_top_k,
)

rng = setup("smoothing")

# %% [markdown]
# ## One substitution turns counting into calculus
#
# Much of what we want from a classifier is counted: how many predictions are right, how many of the
# positives were found, whether the right answer is among the best five. Counts are steps. Their
# derivative is zero almost everywhere, so gradient descent cannot use them.
#
# The article's idea fits in a sentence. Write the count with $\operatorname{onehot}(\arg\max x)$, put
# $\operatorname{softmax}(Kx)$ in its place, and the result is differentiable. The *sharpness* $K$ (an
# inverse temperature) says how near the smooth version is to the steps. In formulas
# capital $K$ is the sharpness and small $k$ counts, as in "the $k$ largest"; in code, the
# argument `sharpness` is $K$. All letters are on the page {doc}`../pages/notation`. The figure shows the position of
# the largest of six scores $x_i(t)=-(t-i)^2$, which jumps from $i$ to $i+1$ halfway between, and what
# the substitution makes of it.

# %% mystnb={"figure": {"caption": "The argmax of six scores $-(t-i)^2$ is a staircase in $t$. The soft argmax is a smooth curve that steepens towards it as $K$ grows."}, "image": {"alt": "Staircase of six steps, and three smooth curves that approach it: a nearly straight line for K = 0.5, a gentle ripple for K = 2, clear steps for K = 10."}} tags=["hide-input"]
t = torch.linspace(-0.5, 5.5, 601, dtype=torch.float64)
scores = -((t[:, None] - torch.arange(6)) ** 2)
fig, ax = plotting.panels()
ax.plot(t, scores.argmax(-1), color=plotting.INK, label="argmax")
for k in (0.5, 2, 10):
    ax.plot(t, soft_argmax(scores, k), label=f"soft argmax, $K={k}$")
ax.set(xlabel="$t$", ylabel="position of the largest score")
ax.legend()
plt.show()

# %% [markdown]
# How much is lost, and where does it go wrong? We go through the article in its order, first the
# maximum, then its position, then accuracy and F1, and last the $k$ best, and check every step by running it.
#
# ## The maximum is a limit, and log(n)/K is the most it is off
#
# The article starts from
#
# $$
# \max(x_1,\dots,x_n)=\lim_{K\to\infty}\frac1K\log\sum_{i=1}^n e^{Kx_i}
# $$ (smoothing-eq1)
#
# (its eq. 1) and keeps $K$ finite (its eq. 2):
#
# $$
# \max(x_1,\dots,x_n)\approx\frac1K\log\sum_{i=1}^n e^{Kx_i}.
# $$ (smoothing-eq2)
#
# It gives no error bound; here is one. Let $m=\max_i x_i$. Every term of the sum is at most $e^{Km}$,
# and one of them is equal to it, so
#
# $$e^{Km}\le\sum_i e^{Kx_i}\le n\,e^{Km}.$$
#
# Take logarithms and divide by $K>0$:
#
# $$0\le\frac1K\log\sum_i e^{Kx_i}-m\le\frac{\log n}K.$$
#
# The upper end is reached when all scores are equal. The lower one is approached when one dominates: if
# the second largest is $\Delta$ below, the sum is at most $e^{Km}(1+(n-1)e^{-K\Delta})$, and with
# $\log(1+a)\le a$ the error is at most $\frac{n-1}Ke^{-K\Delta}$, which falls exponentially in $K$. The limit
# {eq}`smoothing-eq1` follows. This is the whole implementation; subtracting the maximum first keeps the
# exponentials from overflowing and changes nothing else (`_sharpen` is $K(x-\max x)$):

# %%
source(smooth_max)

# %%
x = torch.randn(2000, 10, generator=rng, dtype=torch.float64)
sharpness = [1, 3, 10, 30, 100, 300, 1000]
errors = torch.stack(
    [smooth_max(x, k) - x.amax(-1) for k in sharpness]
)  # (K, vectors)
bounds = np.log(10) / torch.tensor(sharpness)[:, None]
first, second = x.topk(2).values.unbind(-1)
gaps = torch.tensor(sharpness)[:, None] * (first - second)  # K·Δ
by_gap = 9 * torch.exp(-gaps) / torch.tensor(sharpness)[:, None]
inside = (
    (errors >= -1e-12) & (errors <= bounds + 1e-12) & (errors <= by_gap + 1e-12)
)
flat = smooth_max(
    torch.zeros(10, dtype=torch.float64), 7.0
)  # the upper end: all equal
upper_reached = torch.isclose(flat, torch.tensor(np.log(10) / 7))

# %%
largest = errors.amax(-1)
verdict(
    "smoothing.eq1",
    holds=(largest.diff() < 0).all() & (largest[-1] < 1e-2),
    measured={"largest error at K = 1": largest[0], "at K = 1000": largest[-1]},
)
verdict(
    "smoothing.eq2",
    holds=inside.all() & upper_reached,
    measured={
        "vectors × K": errors.numel(),
        "largest error · K / log n": (errors / bounds).max(),
    },
)

# %% mystnb={"figure": {"caption": "Smooth maximum minus maximum for 2,000 vectors of ten normal scores: median, and the range that holds 90 %. The line is the bound $\\log(n)/K$."}, "image": {"alt": "Both axes logarithmic. The error falls faster than the bound log n over K, and stays below it for every K from 1 to 1000."}} tags=["hide-input"]
fig, ax = plotting.panels()
low, middle, high = np.quantile(
    errors.clamp(min=1e-9), [0.05, 0.5, 0.95], axis=-1
)
ax.loglog(
    sharpness,
    bounds,
    color=plotting.INK,
    linestyle="--",
    label=r"bound $\log(n)/K$",
)
ax.loglog(sharpness, middle, marker="o", label="median error")
ax.fill_between(
    sharpness, low, high, alpha=0.25, linewidth=0, label="90 % of vectors"
)
ax.set(
    xlabel="sharpness $K$", ylabel="error of the smooth maximum", ylim=(1e-6, 4)
)
ax.legend()
plt.show()

# %% [markdown]
# ## With K = 1 the maximum may be off by log n, whatever the scale
#
# The article goes on: the network that produces $x$ can learn its scale, so $K$ can often be built into it (its eq. 3),
#
# $$
# \max(x_1,\dots,x_n)\approx\log\sum_{i=1}^n e^{x_i}=\operatorname{logsumexp}(x_1,\dots,x_n).
# $$ (smoothing-eq3)
#
# Two things deserve a remark. First, the bound for $K=1$ is $\log n$, a constant: 6.9 for a thousand
# scores. It does not shrink when all scores are equal, whatever they are. The approximation is a good one
# relative to the *gaps* between scores, and only once the model has made them large. Second, absorbing
# $K$ drops the factor $1/K$: with scores $Kx$ the right-hand side is near $K\max(x)$, so it can replace
# the maximum where only the comparison of values matters, not the value. What is exact is the gradient,
#
# $$\frac{\partial}{\partial x_i}\operatorname{logsumexp}(x)=\frac{e^{x_i}}{\sum_j e^{x_j}}=\operatorname{softmax}(x)_i,$$
#
# a smooth version of the gradient of the maximum, which is $\operatorname{onehot}(\arg\max x)$.

# %%
symbols = sympy.symbols("x1:4")
exps = [sympy.exp(s) for s in symbols]
lse = sympy.log(sum(exps))
symbolic = all(
    sympy.simplify(sympy.diff(lse, s) - e / sum(exps)) == 0
    for s, e in zip(symbols, exps)
)
x = torch.randn(
    50, 1000, generator=rng, dtype=torch.float64, requires_grad=True
)
(gradient,) = torch.autograd.grad(smooth_max(x).sum(), x)
exact_gradient = torch.allclose(gradient, torch.softmax(x, -1), atol=1e-14)

# %%
x = x.detach()
first, second = x.topk(2).values.unbind(-1)
error = {
    s: smooth_max(s * x) - s * first for s in (0, 1, 10, 1000)
}  # by scale of x
bounded_by_gap = all(
    (e <= torch.log1p(999 * torch.exp(-s * (first - second))) + 1e-9).all()
    for s, e in error.items()
)
all_equal = torch.allclose(error[0], torch.tensor(np.log(1000)))
absorbed = (smooth_max(30 * x) - 30 * first).abs().amax() <= np.log(
    1000
)  # K·max

# %%
verdict(
    "smoothing.eq3",
    holds=symbolic
    and exact_gradient
    and bounded_by_gap
    and all_equal
    and bool(absorbed & (error[1000].median() < 0.01)),
    measured={
        f"median error at scale {s}": e.median() for s, e in error.items()
    }
    | {"log n": np.log(1000)},
)

# %% [markdown]
# ## Softmax is what becomes of onehot(argmax)
#
# The position of the maximum, as a one-hot vector (the article's eq. 4):
#
# $$
# \operatorname{onehot}(\arg\max[2,1,4,5,3])=[0,0,0,1,0].
# $$ (smoothing-eq4)
#
# The article gets from here to softmax in three steps. Shift the scores, so that the largest is 0 and
# the others are negative (its eq. 5),
#
# $$
# x\;\longrightarrow\;[x_1-\max(x),\;\dots,\;x_n-\max(x)],
# $$ (smoothing-eq5)
#
# exponentiate, so that the largest becomes 1 and the others, if they are far below, nearly 0 (its eq. 6),
#
# $$
# \operatorname{onehot}(\arg\max x)\approx\bigl[e^{x_1-\max(x)},\;\dots,\;e^{x_n-\max(x)}\bigr],
# $$ (smoothing-eq6)
#
# and replace the maximum by {eq}`smoothing-eq3` (its eq. 7):
#
# $$
# \operatorname{onehot}(\arg\max x)_i\approx e^{x_i-\operatorname{logsumexp}(x)}
# =\frac{e^{x_i}}{\sum_j e^{x_j}}=\operatorname{softmax}(x)_i.
# $$ (smoothing-eq7)
#
# The last equality is an identity, so the step from {eq}`smoothing-eq6` to here approximates nothing but
# the maximum. The error of {eq}`smoothing-eq6` itself is exactly $e^{-\Delta}$, where $\Delta$ is the gap between the largest score and
# the second: multiply the scores by $K$ and it vanishes like $e^{-K\Delta}$, unless there is a tie.

# %%
example = torch.tensor([2.0, 1, 4, 5, 3], dtype=torch.float64)
onehot = torch.nn.functional.one_hot(example.argmax(), 5)
verdict("smoothing.eq4", holds=onehot.tolist() == [0, 0, 0, 1, 0])

x = torch.randn(500, 6, generator=rng, dtype=torch.float64)
hard = torch.nn.functional.one_hot(x.argmax(-1), 6)
shifted = x - x.amax(-1, keepdim=True)
same_place = (
    (shifted.argmax(-1) == x.argmax(-1)).all()
    & ((shifted == 0) == hard.bool()).all()
    & (shifted <= 0).all()
)
verdict("smoothing.eq5", holds=same_place)

# %%
gap = x.topk(2).values.diff(dim=-1).abs().squeeze(-1)
errors = {
    k: (torch.exp(k * shifted) - hard).abs().amax(-1) for k in (1, 10, 100)
}
as_derived = all(
    torch.allclose(e, torch.exp(-k * gap)) for k, e in errors.items()
)
means = [float(e.mean()) for e in errors.values()]
verdict(
    "smoothing.eq6",
    holds=as_derived and means == sorted(means, reverse=True),
    measured={f"mean error at K = {k}": m for k, m in zip(errors, means)},
)

# %%
three = [
    sympy.exp(s - lse) - sympy.exp(s) / sum(map(sympy.exp, symbols))
    for s in symbols
]
numeric = torch.allclose(
    torch.exp(x - smooth_max(x)[:, None]), soft_onehot(x), atol=1e-15
)
verdict(
    "smoothing.eq7",
    holds=numeric and all(sympy.simplify(d) == 0 for d in three),
)

# %% [markdown]
# With three scores, softmax is a point in a triangle, and its corners are the three one-hot vectors. Move
# the slider: at small $K$ all points sit near the centre, at large $K$ each has gone to the corner of its
# largest score. Those that linger on an edge are near-ties.

# %% tags=["hide-input"]
points = torch.randn(150, 3, generator=rng, dtype=torch.float64)
plotting.simplex_slider(
    {
        f"{k:g}": soft_onehot(points, k)
        for k in (0.1, 0.3, 1, 2, 4, 8, 16, 32, 100)
    },
    group=points.argmax(-1),
    names=[f"score {i} is largest" for i in (1, 2, 3)],
    start="1",
    prefix="K = ",
    caption="Softmax of K·x for 150 random vectors of three scores; colour and shape name the largest.",
    alt="Triangle with 150 points, softmax of K times three random scores. As K grows the points "
    "move from the centre to the corners.",
)

# %% [markdown]
# ## The soft argmax is a mean, so two peaks mislead it
#
# The index of the largest score, counted from 1 as in the article (its eq. 8),
#
# $$
# \arg\max[2,1,4,5,3]=4,
# $$ (smoothing-eq8)
#
# is an inner product with the positions (its eq. 9),
#
# $$
# \arg\max(x)=\bigl\langle[1,2,\dots,n],\;\operatorname{onehot}(\arg\max x)\bigr\rangle,
# $$ (smoothing-eq9)
#
# and so it is smoothed like everything else (its eq. 10):
#
# $$
# \arg\max(x)\approx\sum_{i=1}^n i\cdot\operatorname{softmax}(x)_i.
# $$ (smoothing-eq10)
#
# Our `soft_argmax` counts from 0, as code does; we add 1 here to stay with the article's numbers.

# %%
positions = torch.arange(1, 6)
verdict("smoothing.eq8", holds=example.argmax() + 1 == 4)
verdict(
    "smoothing.eq9", holds=(positions * onehot).sum() == example.argmax() + 1
)

soft = torch.stack([1 + soft_argmax(x, k) for k in (1, 10, 100, 10000)])
away = (soft - (x.argmax(-1) + 1)).abs().mean(-1)
verdict(
    "smoothing.eq10",
    holds=(away.diff() < 0).all() & (away[-1] < 1e-2),
    measured={"mean distance at K = 1": away[0], "at K = 10000": away[-1]},
)

# %% [markdown]
# The right-hand side of {eq}`smoothing-eq10` is the *mean* of a position drawn from the softmax; the
# argmax is its *mode*. Let $q$ be the largest weight. The other positions are at most $n-1$ away and weigh
# $1-q$ together, so
#
# $$\Bigl|\sum_ii\cdot\operatorname{softmax}(x)_i-\arg\max(x)\Bigr|\le(n-1)(1-q).$$
#
# The two are near where the softmax is nearly one-hot, and also where it is symmetric about its mode. Nothing
# guarantees it elsewhere. For the article's own example the mean is about a quarter of a place off. And with two
# near-equal peaks far apart, it lands between them, on a position that nobody voted for:

# %%
peaks = torch.tensor([5, 0, 0, 0, 4.99], dtype=torch.float64)
first, second = (
    1 + soft_argmax(example),
    [float(1 + soft_argmax(peaks, k)) for k in (1, 10, 100, 1000)],
)
print(f"[2, 1, 4, 5, 3]: argmax 4, soft argmax {first:.2f}")
print(
    "[5, 0, 0, 0, 4.99]: argmax 1, soft argmax",
    ", ".join(f"{s:.2f}" for s in second),
    "at K = 1, 10, 100, 1000",
)

# %%
bounded = []
for k in (1, 10, 100):
    distance = (soft_argmax(x, k) - x.argmax(-1)).abs()
    bounded.append(
        (distance <= 5 * (1 - soft_onehot(x, k).amax(-1)) + 1e-9).all()
    )
bump = torch.tensor(
    [0, 1, 2, 1, 0], dtype=torch.float64
)  # symmetric, far from one-hot
symmetric = torch.isclose(1 + soft_argmax(bump), torch.tensor(3.0).double())

# %%
verdict(
    "smoothing.claim5",
    holds=all(bounded)
    and bool(symmetric & ((first - 4).abs() > 0.1))
    and 1.5 < second[0] < 4.5,
    measured={
        "[2,1,4,5,3]": first,
        "[5,0,0,0,4.99]": second[0],
        "[0,1,2,1,0]": 1 + soft_argmax(bump),
        "its largest weight": soft_onehot(bump).amax(),
    },
)

# %% [markdown]
# The two peaks differ by 0.01, so $K$ must be in the hundreds before the loser's weight $e^{-0.01K}$
# fades. *When to use it*: for one unimodal bump over ordered positions (a key point in an image row,
# a disparity between two views, a position in time), where the mean resolves fractions of a step that
# the mode cannot, though it is drawn inwards near the ends (see the first figure at $K=0.5$). *When not*: for unordered classes, whose numbers mean nothing,
# and for several peaks.
#
# ## A lower cross-entropy does not imply a higher accuracy
#
# Why look for another loss at all? Because the usual one is not what we count. Four examples of two
# classes are enough to see it. Model A gives the right class probability 0.51 each time; model B gives it
# 0.99 three times and 0.49 once. B has the lower cross-entropy and the lower accuracy.

# %%
right = {
    "A": torch.full((4,), 0.51),
    "B": torch.tensor([0.99, 0.99, 0.99, 0.49]),
}  # p of the right class
for name, p in right.items():
    print(
        f"model {name}: cross-entropy {-p.log().mean():.3f}, accuracy {(p > 0.5).float().mean():.2f}"
    )

# %% [markdown]
# It happens in real training too. We train a small network on half of scikit-learn's digits and look
# at the other half after each epoch: how often do cross-entropy *and* accuracy fall together?

# %% tags=["nbval-ignore-output"]
digits = data.digits()
pixels = digits.pixels.flatten(1)
train, test = data.stratified_split(digits.label, (0.5, 0.5), rng)
network = torch.nn.Sequential(
    torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
)
optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
history = []
for epoch in range(120):
    for batch in train[torch.randperm(len(train), generator=rng)].split(64):
        optimizer.zero_grad()
        cross_entropy(network(pixels[batch]), digits.label[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        logits = network(pixels[test])
    history.append(
        (
            cross_entropy(logits, digits.label[test]),
            (logits.argmax(-1) == digits.label[test]).double().mean(),
        )
    )
losses, accuracies = torch.tensor(history, dtype=torch.float64).T

# %% mystnb={"figure": {"caption": "Cross-entropy and accuracy on the held-out half from epoch 30 on. Dots: epochs in which both are lower than in the epoch before."}, "image": {"alt": "Two curves over the epochs 30 to 120. The test cross-entropy wobbles and slowly rises again, the test accuracy jitters by a few tenths of a percent. Dots mark dips of the accuracy at epochs where the cross-entropy fell as well."}} tags=["nbval-ignore-output", "hide-input"]
both_fell = (losses.diff() < 0) & (accuracies.diff() < 0)
epochs = torch.arange(2, 121)[both_fell]
fig, (top, bottom) = plotting.panels(2, height=2.3)
for ax, series, name in (
    (top, losses, "cross-entropy (nats)"),
    (bottom, 100 * accuracies, "accuracy (%)"),
):
    ax.plot(range(30, 121), series[29:])
    shown = epochs[epochs >= 30]
    ax.plot(shown, series[shown - 1], "o", color=plotting.RED, markersize=6)
    ax.set(xlabel="epoch", ylabel=name)
plt.show()

# %%
constructed = (
    -right["B"].log().mean() < -right["A"].log().mean()
    and (right["B"] > 0.5).sum() < (right["A"] > 0.5).sum()
)
verdict(
    "smoothing.claim1",
    holds=constructed & both_fell.any(),
    measured={
        "epochs in which both fell": int(both_fell.sum()),
        "of": len(both_fell),
    },
)

# %% [markdown]
# ## Smooth accuracy is the expected accuracy of a drawn prediction
#
# Write $\mathbf 1_i$ for the one-hot vector of class $i$. Inner products compare classes (the article's eq. 11),
#
# $$
# \langle\mathbf 1_i,\mathbf 1_j\rangle=\begin{cases}1,&i=j\\0,&i\ne j,\end{cases}
# $$ (smoothing-eq11)
#
# so the accuracy on a set of $N$ samples with classes $t_s$ and predictions $\hat t_s$ is (its eq. 12)
#
# $$
# \text{accuracy}=\frac1N\sum_{s}\langle\mathbf 1_{t_s},\mathbf 1_{\hat t_s}\rangle,
# $$ (smoothing-eq12)
#
# and with the model's probabilities $p_s$ for $\mathbf 1_{\hat t_s}$ it is smooth (its eq. 13):
#
# $$
# \text{accuracy}\approx\frac1N\sum_{s}\langle\mathbf 1_{t_s},p_s\rangle.
# $$ (smoothing-eq13)
#
# There is more in it than an approximation. Let the prediction be *drawn*, $\hat t_s\sim p_s$. Then
# $\mathbb E\,\mathbf 1_{\hat t_s}=p_s$, and since {eq}`smoothing-eq12` is linear in it,
#
# $$\mathbb E\,[\text{accuracy}]=\frac1N\sum_s\langle\mathbf 1_{t_s},p_s\rangle.$$
#
# That is the objective of a policy gradient with reward 1 for a right answer: the smooth loss has
# the same objective, with the expectation taken exactly instead of by sampling. Policy gradients, the
# sledgehammer that the article wants to spare us, would estimate what is known in closed form.

# %%
pairs = torch.eye(4) @ torch.eye(4).T
verdict("smoothing.eq11", holds=torch.equal(pairs, torch.eye(4)))

target = digits.label[test]
probs = torch.softmax(logits.double(), -1)
predicted = torch.nn.functional.one_hot(probs.argmax(-1), 10).double()
counted = metrics.accuracy_score(target, probs.argmax(-1))
verdict(
    "smoothing.eq12",
    holds=torch.einsum("sc,sc->", torch.eye(10).double()[target], predicted)
    / len(target)
    == counted,
)

# %%
hard_equal = soft_accuracy(predicted, target) == counted
draws = torch.multinomial(
    probs, 4000, replacement=True, generator=rng
)  # (samples, draws)
drawn_accuracy = (draws == target[:, None]).double().mean(0)
mean, low, high = plotting.mean_interval(drawn_accuracy, confidence=0.999)
smooth = soft_accuracy(probs, target)
verdict(
    "smoothing.eq13",
    holds=hard_equal and bool((low <= smooth) & (smooth <= high)),
    measured={
        "smooth accuracy": smooth,
        "mean accuracy of 4,000 draws": mean,
        "accuracy": counted,
    },
)

# %% [markdown]
# ## Smooth recall, precision and F1 are exact for hard predictions
#
# For two classes with labels $t\in\{0,1\}$ and probabilities $p\in[0,1]$ of the positive class,
# $\sum tp$ counts the true positives, $\sum t$ the positives, and $\sum p$ the predicted positives. The
# article mentions recall, without a formula; recall and precision are $\sum tp/\sum t$ and
# $\sum tp/\sum p$. Their harmonic mean is F1 (its eq. 14; {cite:t}`jansche2005` trained classifiers on this form),
#
# $$
# F_1\approx\frac{2\sum_s t_s p_s}{\sum_s(t_s+p_s)}.
# $$ (smoothing-eq14)

# %%
source(soft_f1)

# %% [markdown]
# The gradient, from the quotient rule with $S=\sum_s(t_s+p_s)$, is
#
# $$\frac{\partial F_1}{\partial p_s}=\frac{2t_s-F_1}{S}:$$
#
# every positive is pushed up by $(2-F_1)/S$, every negative down by $F_1/S$. When the score is low,
# negatives are hardly punished, and in any case a sample's own confidence does not enter. We meet this again.

# %%
labels = (torch.rand(200, 30, generator=rng) < 0.3).double()
decisions = (torch.rand(200, 30, generator=rng) < 0.4).double()
ours = torch.stack(
    [f(decisions, labels) for f in (soft_recall, soft_precision, soft_f1)]
)
theirs = torch.tensor(
    [
        [
            f(t, p, zero_division=0)
            for t, p in zip(labels.int(), decisions.int())
        ]
        for f in (
            metrics.recall_score,
            metrics.precision_score,
            metrics.f1_score,
        )
    ]
)
differences = (ours - theirs).abs().amax(-1)

# %%
verdict(
    "smoothing.recall",
    holds=(differences[:2] < 1e-7).all(),
    measured={"sets": 200, "largest difference": differences[:2].max()},
)

# %%
p = torch.rand(200, 30, generator=rng, dtype=torch.float64, requires_grad=True)
(gradient,) = torch.autograd.grad(soft_f1(p, labels).sum(), p)
derived = (2 * labels - soft_f1(p, labels)[:, None]) / (labels + p).sum(
    -1, keepdim=True
)
verdict(
    "smoothing.eq14",
    holds=(differences[2] < 1e-7)
    & torch.allclose(gradient, derived, atol=1e-8),
    measured={"largest difference from scikit-learn": differences[2]},
)

# %% [markdown]
# ## The smooth F1 of soft probabilities is not the F1 you will measure
#
# For the experiments on F1 we take a problem with few positives: is a digit an 8? About a tenth are. A
# logistic regression with a small ridge penalty is fitted to one half of the digits and judged on the other.

# %%
eight = (digits.label == 8).double()
features = torch.cat([pixels.double(), torch.ones(len(pixels), 1).double()], 1)


# %%
def test_scores(ridge):
    """Logits of the test half, from a logistic regression on the training half."""
    weights = torch.zeros(65, dtype=torch.float64, requires_grad=True)
    lbfgs = torch.optim.LBFGS(
        [weights], max_iter=300, line_search_fn="strong_wolfe"
    )

    def loss():
        lbfgs.zero_grad()
        z = features[train] @ weights
        value = (
            binary_cross_entropy_with_logits(z, eight[train])
            + ridge * weights @ weights
        )
        value.backward()
        return value

    lbfgs.step(loss)
    return (features[test] @ weights).detach()


# %%
score, truth = test_scores(ridge=1e-3), eight[test]
accuracy = ((score > 0) == truth.bool()).double().mean()
print(
    f"{len(test)} digits, {int(truth.sum())} of them eights; accuracy {accuracy:.2f}"
)

# %% [markdown]
# Its F1 depends on the threshold; its smooth F1 is one number. Sharpening the probabilities to
# $\sigma(Kz)$ ($z$ the logit) leaves every decision at threshold one half as it is, and moves the smooth F1 towards
# the F1 of those decisions.

# %%
thresholds = torch.linspace(0.05, 0.95, 91)
probability = torch.sigmoid(score)
hard_f1 = soft_f1(
    (probability > thresholds[:, None]).double(), truth.expand(91, -1)
)
full_f1 = soft_f1(probability, truth)
at_half = soft_f1((score > 0).double(), truth)
sharpening = [1, 2, 4, 8, 16, 32, 64, 128]
sharpened = torch.stack(
    [soft_f1(torch.sigmoid(k * score), truth) for k in sharpening]
)
freer = test_scores(ridge=1e-5)  # less penalty, more extreme probabilities
freer_gap = soft_f1((freer > 0).double(), truth) - soft_f1(
    torch.sigmoid(freer), truth
)
gaps = (sharpened - at_half).abs()

# %%
verdict(
    "smoothing.claim6",
    holds=(gaps[0] > 0.02) & (gaps[-1] < 0.01) & (gaps[-1] < gaps[0] / 5),
    measured={
        "smooth F1": full_f1,
        "F1 at threshold 1/2": at_half,
        "F1 at the best threshold": hard_f1.max(),
        "smooth F1 at K = 128": sharpened[-1],
        "F1 minus smooth F1 with ridge 1e-3": at_half - full_f1,
        "with ridge 1e-5": freer_gap,
    },
)

# %% mystnb={"figure": {"caption": "Above: F1 of the thresholded probabilities against the threshold, and the smooth F1 of the same probabilities. Below: the smooth F1 of sharpened probabilities tends to the F1 at threshold one half."}, "image": {"alt": "Upper panel: F1 rises and falls with the threshold. It lies above the horizontal line of the smooth F1 for middle thresholds and below it at both ends. Lower panel: smooth F1 against sharpness climbs steeply, then levels off at the F1 at one half."}} tags=["hide-input"]
fig, (top, bottom) = plotting.panels(2, height=2.6)
top.plot(thresholds, hard_f1, label="F1 of the decisions")
top.axhline(full_f1, color=plotting.RED, linestyle="--", label="smooth F1")
top.set(xlabel="threshold", ylabel="F1", ylim=(0, 1))
top.legend(loc="lower center")
bottom.semilogx(
    sharpening,
    sharpened,
    marker="o",
    color=plotting.RED,
    label="smooth F1 of $\\sigma(Kz)$",
)
bottom.axhline(
    at_half, color=plotting.BLUE, linestyle="--", label="F1 at threshold 1/2"
)
bottom.set(xlabel="sharpness $K$", ylabel="F1")
bottom.legend(loc="lower right")
plt.show()

# %% [markdown]
# The smooth F1 punishes every bit of probability that a classifier leaves on the wrong side, and a calibrated
# classifier leaves some. How much depends on the classifier: with a hundredth of the ridge penalty the
# probabilities are more extreme and the gap is smaller (in the box). So the two numbers answer different questions: compare smooth F1 with smooth F1
# only, and report the F1 of decisions at a threshold that was chosen on data of its own. (For calibrated probabilities the best threshold is half of the best F1 {cite:p}`zhao2013,lipton2014`.)
#
# ## Small minibatches bias the smooth F1: first by lacking positives, then by curvature
#
# F1 is a ratio of sums. The expectation of a ratio is not the ratio of the expectations, so the value on
# a minibatch is biased. The article says so; how large is it? We add the leading term. Write $F_1^{(B)}$ for the
# smooth F1 of a minibatch of $B$ of the $N$ samples, drawn without replacement, $a$ and $b$ for the minibatch means of
# $t_sp_s$ and $t_s+p_s$, and $\bar a$, $\bar b$ for their means on the full set. Expand $2a/b$ around
# $(\bar a,\bar b)$ to second order, and take expectations:
#
# $$\mathbb E\,F_1^{(B)}-F_1\approx\frac2B\cdot\frac{N-B}{N-1}\Bigl(\frac{\bar a\,\operatorname{Var}(t+p)}{\bar b^3}-\frac{\operatorname{Cov}(tp,\,t+p)}{\bar b^2}\Bigr).$$
#
# The expansion is about *small* fluctuations. A minibatch without a positive, which scores 0, is not one; the
# product of its probability and $F_1$ is what these alone take away.

# %%
sizes = [8, 16, 32, 64, 128, 256, 512, len(test)]
orders = torch.rand(4000, len(test), generator=rng).argsort(
    -1
)  # 4,000 random orders of the test set
batch_f1 = torch.stack(
    [soft_f1(probability[orders[:, :b]], truth[orders[:, :b]]) for b in sizes]
)
mean, low, high = map(torch.from_numpy, plotting.mean_interval(batch_f1))
hits, sums = truth * probability, truth + probability
covariance = torch.cov(torch.stack([hits, sums]), correction=0)
curvature = (
    hits.mean() * covariance[1, 1] / sums.mean() ** 3
    - covariance[0, 1] / sums.mean() ** 2
)
predicted_bias = torch.tensor(
    [2 / b * (len(test) - b) / (len(test) - 1) * curvature for b in sizes]
)
no_positive = torch.stack(
    [(truth[orders[:, :b]].sum(-1) == 0).double().mean() for b in sizes]
)

# %%
bias = mean - full_f1
lacking = (
    no_positive * full_f1 / bias.abs().clamp(min=1e-12)
)  # share of the bias
excluded = (high[:4] < full_f1) | (low[:4] > full_f1)
verdict(
    "smoothing.claim2",
    holds=excluded.all()
    & (bias[:5].abs().diff() < 0).all()
    & (bias[-1].abs() < 1e-9),
    measured={f"bias at B = {b}": x for b, x in zip(sizes[:6], bias)}
    | {"no positive at B = 8": no_positive[0]},
)

# %% mystnb={"figure": {"caption": "Smooth F1 of random minibatches: mean with its 95 % confidence interval, the range of 90 % of the minibatches, and the second-order prediction (dotted). The line is the value on the full set."}, "image": {"alt": "Smooth F1 against batch size from 8 to the full set. The mean starts far below the full value at 8 and has reached it near 128; the spread shrinks from almost the whole range to nothing."}} tags=["hide-input"]
fig, ax = plotting.panels()
low90, high90 = np.quantile(batch_f1, [0.05, 0.95], axis=-1)
ax.fill_between(
    sizes,
    low90,
    high90,
    alpha=0.15,
    color=plotting.BLUE,
    linewidth=0,
    label="90 % of minibatches",
)
plotting.band(ax, sizes, batch_f1, "mean", color=plotting.BLUE, marker="o")
ax.plot(
    sizes,
    full_f1 + predicted_bias,
    ":",
    color=plotting.RED,
    label="second-order prediction",
)
ax.axhline(
    full_f1, color=plotting.INK, linestyle="--", linewidth=1, label="full set"
)
ax.set(
    xscale="log",
    xlabel="batch size $B$",
    ylabel="smooth F1",
    xticks=sizes,
    xticklabels=sizes,
)
ax.minorticks_off()
ax.legend(loc="lower right")
plt.show()

# %% tags=["hide-input"]
assert lacking[0] > 0.5 > lacking[3]  # what the heading says
display(
    Markdown(
        f"With 8 samples, {100 * no_positive[0]:.0f} % of the minibatches hold no positive at all; "
        f"the mean is {-bias[0]:.2f} below the value on the full set, and by themselves these would take away "
        f"{no_positive[0] * full_f1:.2f}. With 64 samples {100 * no_positive[3]:.1f} % hold none, which explains "
        f"{100 * lacking[3]:.0f} % of a bias of {bias[3]:.3f}; the rest is curvature, for which the formula "
        f"says {predicted_bias[3]:.3f}. With 256 the bias is {bias[5]:.3f}. A single value scatters by far "
        f"more than its bias: at 64 the standard deviation is {batch_f1[3].std():.2f}."
    )
)

# %% [markdown]
# ## Cross-entropy first, then −F1, beats −F1 from scratch, and hardly beats cross-entropy
#
# The article warns that minimising $-F_1$ from the start may go astray, and advises to train with
# cross-entropy to near convergence first and to continue with $-F_1$. We put that to the test on ten problems
# with about 10 % of positives each: is it a 0, …, is it a 9? For each, small networks (64–16–1) are trained on 20
# random splits into training, validation and test data, in three arms of 1,000 Adam steps on
# minibatches of 64. The second stage starts after half of the steps. All arms get the same initial weights,
# minibatches and six learning rates; for each digit, each arm's rate is the one with the best mean F1 on
# the validation data.
#
# The intervals need care. The splits are drawn from the same 1,797 digits, so the results overlap and are not
# independent; Student's interval over splits would be too narrow. We widen it as Nadeau and Bengio propose
# {cite:p}`nadeau2003`: the variance of the mean is taken to be $\bigl(\frac1{20}+\frac{n_\text{test}}{n_\text{train}}\bigr)$ times that of a split.

# %%
ARMS = ("cross-entropy", "F1 from scratch", "cross-entropy, then F1")
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEEDS, STEPS, BATCH, HIDDEN = 20, 1000, 64, 16
FRACTIONS = {"train": 0.5, "validation": 0.15, "test": 0.35}
splits = [
    data.stratified_split(
        digits.label,
        tuple(FRACTIONS.values()),
        torch.Generator().manual_seed(seed),
    )
    for seed in range(SEEDS)
]
parts = {name: torch.stack(rows) for name, rows in zip(FRACTIONS, zip(*splits))}
is_digit = torch.nn.functional.one_hot(
    digits.label, 10
).float()  # (image, digit)


# %%
def networks(x, w1, b1, w2, b2):
    """Ten networks for each split, side by side: (split, n, 64) -> (split, digit, n)."""
    hidden = torch.relu(x @ w1 + b1).unflatten(-1, (10, HIDDEN))
    return (hidden * w2[:, None]).sum(-1).mT + b2


# %%
def train_networks(arm, rate):
    """Parameters at the half and at the end; the summed loss separates into the networks'."""
    g = torch.Generator().manual_seed(0)
    shapes = ((64, 10 * HIDDEN), (1, 10 * HIDDEN), (10, HIDDEN), (10, 1))
    scale = (64**-0.5, 0, HIDDEN**-0.5, 0)
    w = [c * torch.randn(SEEDS, *s, generator=g) for s, c in zip(shapes, scale)]
    optimizer = torch.optim.Adam(
        [v.requires_grad_() for v in w], lr=rate, fused=True
    )
    for step in range(STEPS):
        if step == STEPS // 2:
            half = [v.detach().clone() for v in w]
        pick = torch.randint(
            parts["train"].shape[1], (SEEDS, BATCH), generator=g
        )
        rows = parts["train"].gather(1, pick)
        z, t = networks(pixels[rows], *w), is_digit[rows].mT
        if arm == ARMS[1] or (arm == ARMS[2] and step >= STEPS // 2):
            loss = -soft_f1(torch.sigmoid(z), t).sum()
        else:
            loss = BATCH**-1 * binary_cross_entropy_with_logits(
                z, t, reduction="sum"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return half, [v.detach() for v in w]


# %% tags=["nbval-ignore-output"]
trained = {
    trial: train_networks(*trial) for trial in itertools.product(ARMS, RATES)
}


def scores(part, w, threshold=0.5):
    """F1 of the decisions at a threshold: (split, digit)."""
    probs = torch.sigmoid(networks(pixels[parts[part]], *w))
    return soft_f1((probs > threshold).float(), is_digit[parts[part]].mT)


# %% tags=["nbval-ignore-output"]
results = {  # (arm, rate, split, digit)
    part: torch.stack([scores(part, w) for _, w in trained.values()]).unflatten(
        0, (3, -1)
    )
    for part in parts
}
best = (
    results["validation"].mean(2).argmax(1)
)  # (arm, digit): the rate that was chosen
take = best[:, None, None, :].expand(-1, 1, SEEDS, -1)
final = dict(
    zip(ARMS, results["test"].gather(1, take).squeeze(1))
)  # (split, digit)

# %% mystnb={"figure": {"caption": "Above: test F1 against the learning rate, mean over ten digits and 20 splits, with 95 % confidence intervals for overlapping splits. Below: how many of the 200 networks went astray, with a test F1 below one half."}, "image": {"alt": "Upper panel: F1 from scratch lies below the other two arms at all but the smallest rates, and far below at the largest. Cross-entropy alone and cross-entropy then F1 are nearly equal. Lower panel: at the largest rate most networks trained on F1 from scratch go astray, and few of the others."}} tags=["nbval-ignore-output", "hide-input"]
overlap = FRACTIONS["test"] / FRACTIONS["train"]
fig, (top, bottom) = plotting.panels(2, height=2.9)
for i, arm in enumerate(ARMS):
    over_digits = results["test"][i].mean(-1)
    plotting.band(
        top, RATES, over_digits, arm, overlap=overlap, marker="os^"[i]
    )
    bottom.plot(
        RATES,
        (results["test"][i] < 0.5).sum((1, 2)),
        marker="os^"[i],
        label=arm,
    )
top.set(xscale="log", ylabel="test F1", xlabel="learning rate", ylim=(0, 1))
bottom.set(
    xscale="log", ylabel="networks astray, of 200", xlabel="learning rate"
)
top.legend(loc="lower left")
plt.show()

# %% [markdown]
# Two more things belong to a fair picture: a reference that costs nothing, cross-entropy alone with the
# *threshold* chosen on the validation data instead of fixed at one half; and whether the first stage was near
# convergence when the second began.

# %% tags=["nbval-ignore-output", "hide-input"]
grid = torch.linspace(0.05, 0.95, 19).tolist()
ce = [
    trained[ARMS[0], RATES[r]][1] for r in best[0]
]  # for each digit, all ten networks
by_threshold = {
    part: torch.stack(
        [
            torch.stack([scores(part, ce[d], c)[:, d] for d in range(10)], -1)
            for c in grid
        ]
    )
    for part in ("validation", "test")
}  # (threshold, split, digit)
choice = by_threshold["validation"].argmax(0, keepdim=True)
final["cross-entropy, threshold tuned"] = by_threshold["test"].gather(
    0, choice
)[0]


def interval(f1):
    """Mean and interval of the average over the ten digits."""
    values = plotting.mean_interval(f1.mean(-1), overlap=overlap)
    return "{:.3f} ({:.3f} to {:.3f})".format(*values)


lines = ["| arm | test F1 | minus cross-entropy |", "|---|---|---|"]
for arm, f1 in final.items():
    gain = interval(f1 - final[ARMS[0]]) if arm != ARMS[0] else ""
    lines.append(f"| {arm} | {interval(f1)} | {gain} |")
halfway = torch.stack(
    [
        scores("train", trained[ARMS[2], RATES[r]][0])[:, d]
        for d, r in enumerate(best[2])
    ]
)
display(
    Markdown(
        "\n".join(lines)
        + f"\n\nMeans over ten digits, with 95 % intervals for overlapping splits. When the second stage "
        f"began, the two-stage networks had a training F1 of {halfway.mean():.3f}."
    )
)

# %% tags=["nbval-ignore-output", "hide-input"]
lines = [
    "| digit | " + " | ".join(ARMS) + " | then-F1 minus from-scratch |",
    "|---|--:|--:|--:|---|",
]
clear = 0
for d in range(10):
    gap = final[ARMS[2]][:, d] - final[ARMS[1]][:, d]
    mean, low, high = plotting.mean_interval(gap, overlap=overlap)
    clear += bool(low > 0)
    cells = " | ".join(f"{final[arm][:, d].mean():.3f}" for arm in ARMS)
    lines.append(f"| {d} | {cells} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) |")
display(
    Markdown(
        "\n".join(lines)
        + f"\n\nThe hard digits decide: the two-stage arm is ahead on average, but for a single digit the "
        f"interval excludes 0 in {clear} of 10 cases."
    )
)

# %%
gains = {
    other: plotting.mean_interval(
        (final[ARMS[2]] - final[other]).mean(-1), overlap=overlap
    )
    for other in ARMS[:2]
}
assert abs(gains[ARMS[0]][0]) < 0.01  # "hardly beats cross-entropy"
astray = dict(zip(ARMS, (results["test"] < 0.5).sum((1, 2, 3)).tolist()))
at_chosen = {arm: int((final[arm] < 0.5).sum()) for arm in ARMS}

# %%
verdict(
    "smoothing.claim3",
    holds=astray[ARMS[1]] > 2 * astray[ARMS[2]] and bool(gains[ARMS[1]][1] > 0),
    measured={f"test F1, {arm}": f1.mean() for arm, f1 in final.items()}
    | {
        f"astray of {10 * SEEDS * len(RATES)}, {arm}": count
        for arm, count in astray.items()
    }
    | {"astray at the chosen rates": sum(at_chosen.values())}
    | {
        f"then-F1 minus {other}": "{:.3f} ({:.3f} to {:.3f})".format(*gain)
        for other, gain in gains.items()
    },
)

# %% [markdown]
# So the warning is justified: from scratch, $-F_1$ is worse on average even at its best rate, and at the
# largest rate most of its networks go astray, where the two-stage arm seldom does. The advice is sound in that sense.
# The second stage adds little to what cross-entropy had reached, as the table says; but on these digits it cannot add much, since
# the training F1 is nearly 1 when it begins. What it adds where the classes overlap was not tried.
#
# Why does the smooth F1 go astray? Look at its gradient with respect to a *logit* $z_s$, where $p_s=\sigma(z_s)$:
#
# $$\frac{\partial(-F_1)}{\partial z_s}=-\frac{2t_s-F_1}{S}\,p_s(1-p_s),\qquad
# \frac{\partial\,\text{CE}}{\partial z_s}=\frac{p_s-t_s}N.$$
#
# The factor $p_s(1-p_s)$ makes the first one vanish for a sample on which the network is confidently
# *wrong*, where the cross-entropy pulls hardest. A positive that has once been pushed to $p\approx0$ is
# given up; if that happens to all of them, nothing moves any more. Cross-entropy first means that few
# samples are in that state when $-F_1$ takes over. If this is the reason, the positives that remain unfound in the
# *training* data should sit at $p\approx0$ after training on $F_1$. They do:

# %% tags=["nbval-ignore-output", "hide-input"]
lines = [
    "| arm | learning rate | training positives missed | of these with p < 0.01 |",
    "|---|--:|--:|--:|",
]
is_positive = is_digit[parts["train"]].mT == 1
for arm, rate in itertools.product(ARMS[:2], RATES[2:5]):
    p = torch.sigmoid(networks(pixels[parts["train"]], *trained[arm, rate][1]))
    missed = is_positive & (p < 0.5)
    if arm == ARMS[1]:  # what the text says
        assert (missed & (p < 0.01)).sum() > 0.5 * missed.sum()
    share = (
        f"{(missed & (p < 0.01)).sum() / missed.sum():.0%}"
        if missed.any()
        else "–"
    )
    lines.append(
        f"| {arm} | {rate:g} | {missed.sum() / is_positive.sum():.1%} | {share} |"
    )
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## The article's soft-k-max sums to k, but its limit has a condition
#
# For the $k$ largest, the article offers a recursion, *soft-k-max*: shift the scores so that the smallest
# is 0, then $k$ times take the softmax of what has not been taken yet,
#
# $$
# \begin{aligned}
# x&\leftarrow x-\min(x),\qquad p^{(0)}=0,\\
# y^{(t)}&=(1-p^{(t-1)})\otimes x,\\
# p^{(t)}&=p^{(t-1)}+\operatorname{softmax}(y^{(t)}),\qquad t=1,\dots,k.
# \end{aligned}
# $$ (smoothing-alg1)

# %%
source(soft_k_max)

# %% [markdown]
# The sum is $k$ by construction. But try the smallest example, two scores and $k=2$:

# %%
for scale in (1, 10, 100):
    p = soft_k_max(scale * torch.tensor([1.0, 0.0]), 2)
    print(f"x = {scale:3} · (1, 0):  p = ({p[0]:.2f}, {p[1]:.2f})")

# %% [markdown]
# Both should be 1. The first step takes the maximum; in the second, $y_1=(1-p_1)x_1\approx0$, and the minimum, which
# was shifted to 0, is at $y_2=0$ as well: they tie. To see how far this goes, scale the scores up, $x=s\,u$ with
# $u_1>u_2>\dots>u_n=0$ and $s\to\infty$. We prove three statements that the article does not have. (Its author writes in 2024 {cite:p}`su2024topk` that he cannot prove what one would like: that entries stay between 0 and 1 and keep the order.)
#
# **1. For $k<n$ and distinct scores the limit is right**: $p\to(1,\dots,1,0,\dots,0)$ with $k$ ones.
#
# **2. For $k=n$ it is wrong**: $p\to\bigl(1+\tfrac1n,\dots,1+\tfrac1n,\tfrac1n\bigr)$. And at *any* scale some entry
# is greater than 1, unless all scores are equal.
#
# **3. If $m$ scores tie at the minimum, and $k=n-m+r$ with $r\ge1$**, the $n-m$ others tend to $1+\frac1n$ and
# the tied ones to $\frac1n+\frac{r-1}m$.
#
# :::{dropdown} Proof
# Write $e_i$ for the one-hot vector of $i$. Suppose that $p^{(t)}\to e_1+\dots+e_t$, with errors that vanish exponentially in $s$; for $t=0$ this is
# trivial. Then $y_i=s\,u_i(1-p_i)\to0$ for $i\le t$, and $y_j=s\,u_j+o(1)$ for $j>t$. If $u_{t+1}>0$, then $y_{t+1}$
# exceeds all others by at least $s\min(u_{t+1},\,u_{t+1}-u_{t+2})+o(1)$, so its softmax tends to
# $e_{t+1}$, again exponentially fast. This carries the induction to $t=n-1$ and proves 1.
#
# With $m$ scores at the minimum, the induction stops at $t=n-m$, where *all* $y_i$ tend to 0: those
# taken because $1-p_i\to0$, the tied ones because $u_j=0$. The next softmax is uniform, and adds $1/n$ to
# every entry. After it, the taken entries have $y_i=-s\,u_i/n\to-\infty$ and receive nothing more; the
# tied ones keep $y_j=0$ and share each further step equally. This is 3, and $m=r=1$ is the limit in 2.
#
# For the second half of 2, suppose that no entry passes 1. Since the $n$ entries sum to $n$, all end at exactly 1,
# and, as every step adds something, all are below 1 before. So $y_i\ge0=y_n$ at every step, with $>$
# where $x_i>0$: such an $i$ receives more than $n$ at every step and cannot end equal to it. Hence all $x_i=0$. ∎
# :::

# %%
u = torch.tensor([4, 3, 2.5, 1, 0], dtype=torch.float64)
limits = {k: (torch.arange(5) < k).double() for k in range(1, 5)}
limits[5] = torch.tensor([1.2, 1.2, 1.2, 1.2, 0.2], dtype=torch.float64)
gaps = {
    k: (soft_k_max(300 * u, k) - limit).abs().max()
    for k, limit in limits.items()
}
tied = soft_k_max(
    300 * torch.tensor([3, 2, 0, 0, 0], dtype=torch.float64), 4
)  # n = 5, m = 3, r = 2
predicted_tied = torch.tensor(
    [1 + 1 / 5] * 2 + [1 / 5 + 1 / 3] * 3, dtype=torch.float64
)

# %%
x = torch.randn(200, 12, generator=rng, dtype=torch.float64)
sums = torch.stack(
    [
        soft_k_max(s * x, k).sum(-1) - k
        for s in (0.1, 1, 30)
        for k in range(1, 13)
    ]
)
as_proved = (
    max(gaps.values()) < 1e-9
    and torch.allclose(tied, predicted_tied, atol=1e-9)
    and sums.abs().max() < 1e-9
)
indicator = soft_k_max(300 * u, 5)  # for k = n this should be all ones

# %%
verdict(
    "smoothing.alg1",
    holds=(indicator - 1).abs().max() < 0.01,
    restricted=as_proved,
    measured={
        "limit for k = n = 5": ", ".join(f"{v:.2f}" for v in indicator),
        "largest |Σp − k|": sums.abs().max(),
    },
)

# %% [markdown]
# ## Near-equal scores at the top make soft-k-max lose the top-k set
#
# Statement 1 is about $s\to\infty$ with fixed gaps. At a finite scale some gaps are small, and there the
# recursion fails in a second way: two scores that are nearly equal *share* the first step, and each is
# then handicapped by its half in the next. Take $k=2$, measure the scores from the minimum, and let
# $x_2$, $x_3$ and $x_2-x_3$ all be large, but not $\delta=x_1-x_2$. The first step gives
# $p=(\sigma(\delta),\sigma(-\delta),0,\dots)$, where $\sigma(z)=1/(1+e^{-z})$. In the second,
# $y_2=x_2\,\sigma(\delta)$ competes with $y_3=x_3$. To leading order, the third score overtakes the second and the
# top two are lost if $\sigma(\delta)<x_3/x_2$, that is if
#
# $$e^{x_1-x_2}<\frac{x_3}{x_2-x_3}.$$
#
# For $x_3=0.9\,x_2$ the first two must differ by about $\log9\approx2.2$, however large the scale. An exact tie fails even
# in the limit: $x=s\,(1,1,0.9,0)$ tends to $(\frac12,\frac12,1,0)$. For random
# scores the chance that the gap is below a constant falls like $1/s$, slowly.
#
# The same sharing makes entries pass 1: a score that got a *fraction* of an early step later gets a *whole*
# one. For $k=2$, if the top two are kept, the second has $q_2\approx e^{-(x_1-x_2)}$ from the first step and
# $1-e^{-(x_2-x_3)}$ from the second, to leading order. So
#
# $$p_2>1\iff x_1-x_2<x_2-x_3,\qquad p_1>1\iff x_1>2x_2,$$
#
# the second because the first entry lacks $e^{-(x_1-x_2)}$ after its step and receives $e^{-x_2}$ in the other. In
# words: whichever of the two gaps is smaller decides, and the excess is $e^{-\text{gap}}$. For $k$ near $n$
# the re-entry of statement 2 comes on top.


# %%
def top_set_lost(p, x, k):
    """Whether the k largest entries of p are not those of x."""
    chosen = torch.zeros_like(x, dtype=torch.bool).scatter(
        -1, x.topk(k).indices, True
    )
    return p.masked_fill(~chosen, torch.inf).amin(-1) < p.masked_fill(
        chosen, -torch.inf
    ).amax(-1)


# %%
normal = torch.randn(20000, 20, generator=rng, dtype=torch.float64)
normal = normal.sort(-1, descending=True).values - normal.amin(-1, keepdim=True)
agreement = {}  # by scale: precision and recall of the first, accuracy of the second
for s in (10, 30, 100, 300, 1000):
    x, p = s * normal, soft_k_max(s * normal, 2)
    one, two, three = x[:, 0] - x[:, 1], x[:, 1] - x[:, 2], x[:, 2]
    predicted, lost = torch.exp(one) < three / two, top_set_lost(p, x, 2)
    right = (predicted & lost).sum()
    passes = (one < two) & (one < -np.log(1e-6))  # by more than 1e-6
    correct = (passes == (p.amax(-1) > 1 + 1e-6))[~lost]
    agreement[s] = (
        right / predicted.sum(),
        right / lost.sum(),
        correct.double().mean(),
    )
lines = [
    "| scale | lost: precision | lost: recall | p₂ > 1: correct |",
    "|--:|--:|--:|--:|",
]
lines += [
    f"| {s} | " + " | ".join(f"{v:.2f}" for v in a) + " |"
    for s, a in agreement.items()
]
display(Markdown("\n".join(lines)))

# %%
tie = soft_k_max(1000 * torch.tensor([1, 1, 0.9, 0], dtype=torch.float64), 2)
print("1000 · (1, 1, 0.9, 0):", [round(v, 3) for v in tie.tolist()])

u2 = torch.linspace(0.1, 0.9, 100, dtype=torch.float64)
u2 = u2[(u2 - 0.5).abs() > 0.04]  # too near for the leading order
x = 25 * torch.stack([torch.ones_like(u2), u2, torch.zeros_like(u2)], -1)
p = soft_k_max(x, 2)
print(
    "25 · (1, u₂, 0): p₁ > 1 iff x₁ > 2x₂:", torch.equal(p[:, 0] > 1, u2 < 0.5)
)
print("p₂ > 1 iff x₁ − x₂ < x₂ − x₃:", torch.equal(p[:, 1] > 1, u2 > 0.5))

# %% [markdown]
# Both conditions become exact as the scale grows. How often does it happen, on random scores? The map counts
# both failures over the scale and $k/n$; an entry counts as above 1 from 1.01 on.

# %%
scales = torch.logspace(-1, 3, 17)
sample = torch.randn(400, 20, generator=rng, dtype=torch.float64)


def failure_rates(method):
    """Shares of vectors that lose their top-k set, and that have an entry above 1.01: (k, scale) each."""
    lost, above = torch.zeros(2, 20, len(scales))
    for i, k in enumerate(range(1, 21)):
        for j, s in enumerate(scales.tolist()):
            p = method(s * sample, k)
            lost[i, j] = (
                top_set_lost(p, sample, k).double().mean() if k < 20 else 0
            )
            above[i, j] = (p.amax(-1) > 1.01).double().mean()
    return lost, above


lost, above = failure_rates(soft_k_max)

# %% mystnb={"figure": {"caption": "Where the article's recursion fails: 400 vectors of 20 standard normal scores times the scale. Above: the share that loses its top-k set. Below: the share with an entry above 1.01."}, "image": {"alt": "Two heat maps over scale and k divided by n. The top-k set is lost most often in a band from scale 10 to a few hundred that moves to larger scales as k grows. Entries above 1.01 appear at all scales for k near n; for smaller k they appear in the same band and fade again at the largest scales."}} tags=["hide-input"]
fig, axes = plotting.panels(2, height=3.0)
for ax, rates, title in zip(
    axes, (lost, above), ("top-k set lost", "an entry above 1.01")
):
    image = ax.pcolormesh(
        scales,
        torch.arange(1, 21) / 20,
        100 * rates,
        vmin=0,
        vmax=100,
        shading="nearest",
    )
    ax.set(
        xscale="log", xlabel="scale of the scores", ylabel="$k/n$", title=title
    )
    ax.grid(False)
    fig.colorbar(image, ax=ax, label="% of vectors")
plt.show()

# %%
by_size = {}
for n in (5, 20, 100):
    z = torch.randn(20000, n, generator=rng, dtype=torch.float64)
    by_size[n] = torch.stack(
        [
            top_set_lost(soft_k_max(s * z, 2), z, 2).double().mean()
            for s in scales.tolist()
        ]
    )
tail = scales >= 30
slope = {}
for n, rates in by_size.items():
    enough = tail & (
        rates * 20000 >= 50
    )  # counts, for a fit that means something
    slope[n] = np.polyfit(scales[enough].log(), rates[enough].log(), 1)[0]
one_over_s = all(abs(value + 1) < 0.25 for value in slope.values())
print("the share of lost top-2 sets falls like 1/scale:", one_over_s)

# %% mystnb={"figure": {"caption": "Share of random vectors that lose their top-2 set, against the scale, for three lengths. The dotted line falls like 1/scale."}, "image": {"alt": "Three humps on logarithmic axes, higher for longer vectors, with a peak near scale 10 and a tail that falls like one over the scale."}} tags=["hide-input"]
fig, ax = plotting.panels()
for n, rates in by_size.items():
    ax.loglog(
        scales,
        rates.clamp(min=1e-4),
        marker="o",
        markersize=4,
        label=f"$n={n}$",
    )
ax.loglog(
    scales[tail],
    10 / scales[tail],
    ":",
    color=plotting.INK,
    label="$\\propto1/s$",
)
ax.set(
    xlabel="scale $s$ of the scores",
    ylabel="share with a lost top-2 set",
    ylim=(5e-4, 1),
)
ax.legend()
plt.show()

# %% [markdown]
# ## A logarithm in the next step ties, unless the softmax is sharpened
#
# If a taken entry must not re-enter at $y=0$, why not send it to $-\infty$: $y=x+\log(1-p)$, with the total $p$ so far? Try it:


# %%
def obvious_repair(x, k):
    p = torch.zeros_like(x)
    for _ in range(k):
        p = p + torch.softmax(x + torch.log(1 - p), -1)
    return p


x = 20 * torch.tensor([4.0, 3, 2, 1], dtype=torch.float64)
print("k = 2:", [round(v, 3) for v in obvious_repair(x, 2).tolist()])
print("k = 3:", obvious_repair(x, 3).tolist())

# %% [markdown]
# The reason is exact. Let $q=\operatorname{softmax}(x)$ be the first step. The second has weights
# $e^{y_i}=e^{x_i}(1-q_i)$, so
#
# $$r_i\propto q_i(1-q_i).$$
#
# The logarithm takes away from the winner precisely what the softmax had left to the others: with $q_1\approx1-\varepsilon$ and
# $q_2\approx\varepsilon$, both weights are $\varepsilon$. At *every* scale the winner keeps at least as much as the
# runner-up, because $q_1(1-q_1)-q_2(1-q_2)=(q_1-q_2)(1-q_1-q_2)\ge0$. So the limit is $(1.5,0.5,0,\dots)$ for any
# distinct scores. With an entry above 1, the third step takes the logarithm of a negative number.
#
# {cite:t}`plotz2018` and {cite:t}`xie2019` do it better, in two respects: the logarithm of each *single* step $r$ is added to the scores, $x\leftarrow x+\log(1-r)$, so that nothing becomes negative; and each step is a sharpened softmax, $r=\operatorname{softmax}(x/\tau)$. For $\tau=1$ the second step is the one above, and ties. With $K=1/\tau>1$ the weights become
# $q_i(1-q_i)^K$, and the winner's $\varepsilon^K$ loses against the runner-up's $\varepsilon$; the last line below shows it.

# %%
x = 3 * torch.randn(1000, 6, generator=rng, dtype=torch.float64)
q = torch.softmax(x, -1)
r = obvious_repair(x, 2) - q
weights = q * (1 - q)
formula = torch.allclose(r, weights / weights.sum(-1, keepdim=True), atol=1e-12)
largest = r.gather(-1, x.topk(2).indices)
print("second step is q(1 − q), normalised:", formula)
print(
    "the winner keeps at least as much as the runner-up:",
    bool((largest[:, 0] >= largest[:, 1]).all()),
)


# %%
def step_by_step(x, k, tau):
    """The sum of k soft choices, each of which is taken from the scores."""
    p = torch.zeros_like(x)
    for _ in range(k):
        r = torch.softmax(x / tau, -1)
        x, p = x + torch.log(1 - r), p + r
    return p


x = 5 * torch.tensor([4.0, 3, 2, 1, 0], dtype=torch.float64)
by_tau = {tau: step_by_step(x, 3, tau) for tau in (1.0, 0.1)}
for tau, p in by_tau.items():
    print(f"step by step, τ = {tau}:", [round(v, 2) for v in p.tolist()])
assert by_tau[1.0].max() > 1.4
assert torch.allclose(
    by_tau[0.1], torch.tensor([1.0, 1, 1, 0, 0]).double(), atol=0.01
)

# %% [markdown]
# ## One shared threshold repairs the selection
#
# All of these take the $k$ best one after the other. Take them at once instead: give every score the same
# smooth step, and move the step until the total is $k$ (this is the limited multi-label projection of {cite:t}`amos2019`, with its gradient, and the threshold form of {cite:t}`su2024topk`),
#
# $$p_i=\sigma\bigl(K(x_i-\lambda)\bigr),\qquad\lambda\text{ such that }\sum_ip_i=k.$$
#
# *It exists and is unique* for $1\le k<n$: the sum falls strictly and continuously from $n$ to 0 as $\lambda$ runs through the
# reals. *Entries lie in $(0,1)$* and *the order is kept*, since $\sigma$ increases. *It tends to the indicator*:
# let $\Delta=x_{(k)}-x_{(k+1)}>0$ be the gap between the last that is in and the first that is out. What is misplaced
# is the same on both sides, $M=\sum_{\text{in}}(1-p_i)=\sum_{\text{out}}p_j$. The first sum is at most
# $k\,e^{-K(x_{(k)}-\lambda)}$, the second at most $(n-k)\,e^{-K(\lambda-x_{(k+1)})}$. Multiply the two; $\lambda$ cancels:
#
# $$M\le\sqrt{k(n-k)}\;e^{-K\Delta/2}.$$
#
# *Its gradient* follows from the constraint without looking into the solver. With $w_i=p_i(1-p_i)$, differentiate
# $\sum_ip_i=k$:
#
# $$\sum_iw_i\Bigl(\delta_{ij}-\frac{\partial\lambda}{\partial x_j}\Bigr)=0\;\Rightarrow\;
# \frac{\partial\lambda}{\partial x_j}=\frac{w_j}{\sum_iw_i},\qquad
# \frac{\partial p_i}{\partial x_j}=K\,w_i\Bigl(\delta_{ij}-\frac{w_j}{\sum_lw_l}\Bigr).$$

# %%
source(soft_top_k)

# %% [markdown]
# The same scores, the same map, the proved bound, and the gradient against finite differences:

# %%
lost_repaired, above_repaired = failure_rates(soft_top_k)
x = torch.randn(300, 12, generator=rng, dtype=torch.float64)
ordered, slack = x.sort(-1, descending=True).values, []
for k, sharpness in itertools.product(range(1, 12), (1, 10, 100)):
    out = soft_top_k(ordered, k, sharpness)
    delta = ordered[:, k - 1] - ordered[:, k]
    bound = (k * (12 - k)) ** 0.5 * torch.exp(-sharpness * delta / 2)
    slack.append((out[:, k:].sum(-1) - bound).max())
    assert (out.sum(-1) - k).abs().max() < 1e-12
    assert (out.diff(dim=-1) <= 0).all()
gradient_right = torch.autograd.gradcheck(
    lambda z: soft_top_k(z, 3, 2.0), x[:5].clone().requires_grad_()
)
repaired = (
    bool((lost_repaired == 0).all() & (above_repaired == 0).all())
    and max(slack) < 1e-12
    and gradient_right
)
assert repaired

# %%
two = soft_k_max(torch.tensor([40.0, 0]), 2)
verdict(
    "smoothing.claim4",
    holds=bool((lost > 0).any() & (above[:-1] > 0).any())
    and torch.allclose(two, torch.tensor([1.5, 0.5]), atol=1e-3)
    and repaired,
    measured={
        "x = 40·(1, 0), k = 2": ", ".join(f"{v:.2f}" for v in two),
        "largest share of lost top-k sets (n = 20)": lost.max(),
        "at scale": scales[lost.amax(0).argmax()],
        "largest share with an entry above 1.01, k < n": above[:-1].max(),
        "both shares for soft_top_k": max(
            lost_repaired.max(), above_repaired.max()
        ),
        **{f"slope of the tail, n = {n}": value for n, value in slope.items()},
    },
)

# %% mystnb={"figure": {"caption": "One vector of 20 sorted scores; each row is the selection for one $k$. Above: the article's recursion; entries above 1 are red. Below: soft_top_k with the same sharpness."}, "image": {"alt": "Two heat maps of 20 rows for k and 20 columns for the sorted scores. Soft-k-max has red entries above 1 and dark holes among the selected ones; soft_top_k shows a clean triangle."}} tags=["hide-input"]
z = (
    15
    * torch.randn(20, generator=rng, dtype=torch.float64)
    .sort(descending=True)
    .values
)
fig, axes = plotting.panels(2, height=3.4)
colours = plt.get_cmap("cividis").with_extremes(over=plotting.RED)
for ax, method in zip(axes, (soft_k_max, soft_top_k)):
    rows = torch.stack([method(z, k) for k in range(1, 21)])
    image = ax.imshow(
        rows,
        vmin=0,
        vmax=1 + 1e-6,
        cmap=colours,
        extent=(0.5, 20.5, 20.5, 0.5),
        aspect="auto",
    )
    ax.set(
        xlabel="rank of the score",
        ylabel="$k$",
        title=method.__name__,
        xticks=[1, 5, 10, 15, 20],
        yticks=[1, 5, 10, 15, 20],
    )
    ax.grid(False)
    fig.colorbar(image, ax=ax, extend="max", label="selected")
plt.show()

# %% [markdown]
# ## What the field does now
#
# The substitution of this chapter is the seed of three articles that this book takes up later:
# [Gumbel-Softmax](https://kexue.fm/archives/6705) adds noise to the scores, so that the soft one-hot vector is also a
# *sample*; [ON-LSTM](https://kexue.fm/archives/6621)'s `cumax` is the cumulative sum of a softmax, a smooth step;
# [VQ-VAE](https://kexue.fm/archives/6760)'s straight-through estimator keeps the hard choice in the forward pass and
# borrows a gradient for the backward pass. Elsewhere the field has gone on:
#
# - **Mellowmax** {cite:p}`asadi2017` is $\frac1K\log\frac1n\sum e^{Kx_i}$: the smooth maximum minus $\frac{\log n}K$. It approaches
#   the maximum from below and is exact when all scores are equal, where {eq}`smoothing-eq3` is worst.
# - **Sparsemax** {cite:p}`martins2016` and **entmax** {cite:p}`peters2019` replace softmax by maps that reach 0 and 1 exactly at a finite gap.
# - **Top-k.** The threshold that is determined by the sum {cite:p}`amos2019`, to which the article's author came in 2024 {cite:p}`su2024topk`, is `soft_top_k`. Other steps than $\sigma$ can be moved in the same way:
#   $\min(1,e^{x-\lambda})$, or the clipped line of the projection on the capped simplex, which is sparse.

# %% mystnb={"figure": {"caption": "Successors. Above: smooth versions of $\\max(t,0)$. Middle: weight of the first of the scores $(t,0,0)$. Below: selection of the first of $(t,1,0,-1)$ for $k=2$ with three steps under one threshold."}, "image": {"alt": "Three panels against t from -4 to 4. Smooth maximum above, mellowmax below the hinge. Softmax never reaches 0 or 1, entmax and sparsemax do, sparsemax soonest. For top-2, the sigmoid is smooth, the exponential reaches one, the clipped line reaches both 0 and 1."}} tags=["hide-input"]
from entmax import entmax15, sparsemax

t = torch.linspace(-4, 4, 321, dtype=torch.float64)
zero = torch.zeros_like(t)
fig, axes = plotting.panels(3, height=2.6)
pair, triple = torch.stack([t, zero], -1), torch.stack([t, zero, zero], -1)
axes[0].plot(t, pair.amax(-1), color=plotting.INK, label="max")
axes[0].plot(t, smooth_max(pair), label="smooth max, $K=1$")
axes[0].plot(t, smooth_max(pair) - np.log(2), label="mellowmax, $K=1$")
for name, weights in (
    ("softmax", soft_onehot(triple)),
    ("1.5-entmax", entmax15(triple)),
    ("sparsemax", sparsemax(triple)),
):
    axes[1].plot(t, weights[:, 0], label=name)


def one_threshold(step, x, k):
    low, high = x.amin(-1, keepdim=True) - 50, x.amax(-1, keepdim=True) + 50
    for _ in range(60):
        middle = (low + high) / 2
        enough = step(x - middle).sum(-1, keepdim=True) > k
        low, high = (
            torch.where(enough, middle, low),
            torch.where(enough, high, middle),
        )
    return step(x - low)


steps = {
    "$\\sigma(x-\\lambda)$": torch.sigmoid,
    "$\\min(1,e^{x-\\lambda})$": lambda z: z.exp().clamp(max=1),
    "clipped $x-\\lambda$": lambda z: z.clamp(0, 1),
}
four = torch.stack([t, zero + 1, zero, zero - 1], -1)
for name, step in steps.items():
    axes[2].plot(t, one_threshold(step, four, 2)[:, 0], label=name)
for ax, label in zip(
    axes, ("maximum of $(t,0)$", "weight of $t$", "selection of $t$")
):
    ax.set(xlabel="$t$", ylabel=label)
    ax.legend()
plt.show()
same = torch.allclose(
    one_threshold(torch.sigmoid, four, 2), soft_top_k(four, 2), atol=1e-12
)
print("bisection and soft_top_k agree:", same)

# %% [markdown]
# ## Exercises
#
# **1.** Build a smooth *minimum* from `smooth_max`, and give its bounds.

# %% tags=["hide-cell"]
x = torch.randn(100, 8, generator=rng, dtype=torch.float64)
smooth_min = -smooth_max(
    -x, 5.0
)  # min x = −max(−x), so the error changes sign: [−log(n)/K, 0]
error = smooth_min - x.amin(-1)
print(
    "in [−log(n)/K, 0]:",
    bool(((error <= 1e-12) & (error >= -np.log(8) / 5 - 1e-12)).all()),
)

# %% [markdown]
# **2.** Find the $k$-th largest *value* with `soft_top_k` (the median, for example), and say why the
# weights sum to 1.

# %% tags=["hide-cell"]
x = torch.tensor([3.0, 9, 1, 7, 5], dtype=torch.float64)
third = soft_top_k(x, 3, 20.0) - soft_top_k(
    x, 2, 20.0
)  # indicator of the third largest; 3 − 2 = 1
print(f"weights sum to {third.sum():.3f}; soft median {(third * x).sum():.3f}")

# %% [markdown]
# **3.** Derive a smooth $F_\beta=(1+\beta^2)\frac{PR}{\beta^2P+R}$, and compare it with scikit-learn's.

# %% tags=["hide-cell"]
beta, tp = 2.0, (decisions * labels).sum(-1)
f_beta = (
    (1 + beta**2) * tp / (beta**2 * labels.sum(-1) + decisions.sum(-1) + 1e-8)
)
reference = [
    metrics.fbeta_score(a, b, beta=beta, zero_division=0)
    for a, b in zip(labels.int(), decisions.int())
]
print(
    "equal:",
    torch.allclose(
        f_beta, torch.tensor(reference, dtype=torch.float64), atol=1e-7
    ),
)

# %% [markdown]
# **4.** Show that soft-k-max with $n=k=2$ passes 1 for *every* pair of different scores. (Hint: with
# $d=x_1-x_2>0$, both steps are sigmoids of something positive.)

# %% tags=["hide-cell"]
d = torch.logspace(
    -6, 2, 50, dtype=torch.float64
)  # p₁ = σ(d) + σ(d·σ(−d)) > 1/2 + 1/2
p1 = soft_k_max(torch.stack([d, torch.zeros_like(d)], -1), 2)[:, 0]
closed = torch.sigmoid(d) + torch.sigmoid(d * torch.sigmoid(-d))
print(
    "closed form:",
    torch.allclose(p1, closed),
    "| above 1:",
    bool((p1 > 1).all()),
)

# %% [markdown]
# ## The card

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "smoothing",
    {
        "Sizes": f"{SEEDS} splits × {len(RATES)} rates × {len(ARMS)} arms × 10 networks "
        f"64–{HIDDEN}–1, {STEPS} steps of {BATCH}",
        "Seeds": f"splits: 0 to {SEEDS - 1}; networks: 0; the rest: the two generators that the first cell seeds",
    },
)
