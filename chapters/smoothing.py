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
#
# Write a metric in terms of onehot(argmax), replace that by softmax, and the metric becomes a differentiable loss. Its gradient shows what it learns: which samples accuracy ignores, and which threshold F1 prefers.

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"

from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy import optimize, stats
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from kexue import data
from kexue.book import plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, seconds, setup, table
from kexue.experiments import recorded, smoothing_digits
from kexue.runs.statistics import false_alarms, mean_interval

rng = setup("smoothing")

# %% [markdown]
# ## Accuracy has no useful gradient
#
# A classifier gets 71 of 100 pictures right. Nudge one of its weights, and it still gets 71 right. Nudge it further,
# and at some point it gets 72. As a function of the weight, the accuracy is a staircase: flat almost everywhere, with
# jumps in between. Gradient descent asks for the slope, and the answer is zero.
#
# So classifiers are trained on cross-entropy, which nobody wants for its own sake, and judged by accuracy or F1, which
# nobody trains on. The two can disagree. Take four pictures of two classes. Model A gives the correct class the probability 0.51 each
# time; model B gives it 0.99 three times and 0.49 once. B has the lower cross-entropy, 0.19 against 0.67, but it gets only three pictures right, and A all four.

# %% tags=["hide-input"]
a, b = torch.full((4,), 0.51), torch.tensor([0.99, 0.99, 0.99, 0.49])
nats_a, nats_b = -a.log().mean(), -b.log().mean()
right_a, right_b = (a > 0.5).sum(), (b > 0.5).sum()
assert f"{nats_b:.2f} {nats_a:.2f}" == "0.19 0.67"
verdict(
    "smoothing.claim1",
    holds=(nats_b < nats_a) & (right_b < right_a),
    measured={"right with the lower cross-entropy, of 4": right_b},
)

# %% [markdown]
# The article starts from an observation: such metrics all contain the same jump, the one-hot vector of the largest
# score, $\operatorname{onehot}(\arg\max x)$. Put $\operatorname{softmax}(Kx)$ in its place, and the metric has a slope everywhere. The *sharpness* $K$, an inverse temperature, sets how
# closely the smooth version follows the jump.

# %% mystnb={"figure": {"caption": "Replacing onehot(argmax) by a softmax turns a staircase into a smooth curve, which steepens with the sharpness $K$. Index of the largest of the six scores $-(u-i)^2$, as $u$ moves from 0 to 5."}, "image": {"alt": "A staircase of six steps, and three smooth curves: a nearly straight line for K = 0.5, a gentle ripple for K = 2, rounded steps for K = 10."}} tags=["hide-input"]
u = torch.linspace(-0.5, 5.5, 601, dtype=torch.float64)
scores = -((u[:, None] - torch.arange(6)) ** 2)
fig, ax = plotting.panels(height=2.8)
ax.plot(u, scores.argmax(-1), color=plotting.INK, label="argmax")
for K in (0.5, 2, 10):
    smooth = torch.softmax(K * scores, -1) @ torch.arange(6.0).double()
    ax.plot(u, smooth, label=f"$K={K}$")
ax.set(xlabel="$u$", ylabel="index of the largest score")
ax.legend()
plt.show()

# %% [markdown]
# We build three pieces, the maximum, the one-hot vector and the index. Then we do what the article only proposes, and train on smooth accuracy and F1. A smooth top-$k$ comes last.
#
# ## The smooth maximum
#
# Take three scores, 3, 2 and 0. Their maximum is 3. The article approximates it by
#
# $$
# \max(x_1,\dots,x_n)\approx\frac1K\log\sum_{i=1}^n e^{Kx_i},
# $$ (smoothing-eq2)
#
# which for our three scores is 3.349 with $K=1$, 3.065 with $K=2$ and 3.000005 with $K=10$. Where does the excess come
# from? Let $m$ be the maximum. Each of the $n$ terms is at most $e^{Km}$, and one of them equals it, so the sum lies
# between $e^{Km}$ and $n\,e^{Km}$. Take logarithms and divide by $K$:
#
# $$
# 0\le\frac1K\log\sum_i e^{Kx_i}-m\le\frac{\log n}K.
# $$ (smoothing-bound)
#
# A score within about $1/K$ of the top counts as another winner; $n$ equal winners lift the result by exactly
# $\log(n)/K$, which is the worst case. As $K\to\infty$ the excess vanishes. Often $K=1$ will do, the article says, since a network can learn the scale of its scores.
# Larger scores have wider gaps, but ties remain inexact: a thousand equal scores always give an error of $\log1000=6.9$. What matters for training is the gradient, and that is $\operatorname{softmax}(Kx)$. The maximum passes its whole gradient to the winner; the smooth maximum shares it out.
#
# ## Softmax is the smooth one-hot vector
#
# For the scores 3, 2 and 0 the one-hot vector of the largest is $[1,0,0]$. To approximate it, subtract the maximum, which gives 0, −1 and −3, and exponentiate: 1, 0.37 and 0.05. The largest error is $e^{-\Delta}$, here 0.37, where $\Delta$ is the gap between the best two scores. Now replace the maximum by the smooth maximum {eq}`smoothing-eq2` with $K=1$, called logsumexp. This divides the three numbers by their sum, 1.42, and gives the softmax, $0.71, 0.26, 0.04$:
#
# $$
# \operatorname{onehot}(\arg\max x)\approx\Bigl[e^{x_i-\operatorname{logsumexp}(x)}\Bigr]_i
# =\Bigl[\frac{e^{x_i}}{\sum_j e^{x_j}}\Bigr]_i=\operatorname{softmax}(x).
# $$ (smoothing-eq7)
#
# With sharpness $K$ the error shrinks like $e^{-K\Delta}$, unless there is a tie. Three weights that sum to 1 are a point in a triangle whose corners are the one-hot vectors. Move the slider:

# %% tags=["hide-input"]
points = torch.randn(150, 3, generator=rng, dtype=torch.float64)
plotting.simplex_slider(
    {
        f"{K:g}": torch.softmax(K * points, -1)
        for K in (0.1, 0.3, 1, 2, 4, 8, 16, 32, 100)
    },
    group=points.argmax(-1),
    names=[f"score {i} is largest" for i in (1, 2, 3)],
    start="1",
    prefix="K = ",
    caption="As K grows, each vector of three scores moves to the corner of its largest one; near-ties linger on an edge. "
    "Softmax of K·x for 150 random vectors.",
    alt="Triangle with 150 points, softmax of K times three random scores. As K grows the points "
    "move from the centre to the corners.",
)

# %% [markdown]
# The index of the largest score is the inner product of the one-hot vector with the numbers 1 to $n$, so the same substitution smooths it:
#
# $$
# \arg\max(x)\approx\sum_{i=1}^n i\cdot\operatorname{softmax}(x)_i.
# $$ (smoothing-eq10)
#
# The right-hand side is the *mean* of an index sampled from the softmax; the argmax is its *mode*. The two
# are close when one score stands out. With two nearly equal peaks, as in $[5,0,0,0,4.99]$, the mean is 2.99, where the score is 0. So the soft argmax suits a single bump over ordered positions, such as a keypoint along a row
# of pixels. For unordered classes it is meaningless.
#
# In code, with a shift that keeps the exponentials finite:


# %% tags=["minimal"]
def soft_onehot(x, sharpness=1.0):
    z = sharpness * (x - x.amax(-1, keepdim=True))
    return z.exp() / z.exp().sum(-1, keepdim=True)


def smooth_max(x, sharpness=1.0):
    top = x.amax(-1, keepdim=True)
    z = sharpness * (x - top)
    return top.squeeze(-1) + z.exp().sum(-1).log() / sharpness


def soft_argmax(x, sharpness=1.0):
    positions = torch.arange(x.shape[-1], dtype=x.dtype)  # from 0
    return soft_onehot(x, sharpness) @ positions


# %%
x = torch.tensor([3.0, 2.0, 0.0], dtype=torch.float64)
peaks = torch.tensor([5, 0, 0, 0, 4.99], dtype=torch.float64)
excess = [f"{smooth_max(x, K):.6f}" for K in (1.0, 2.0, 10.0)]
print("smooth maximum, K = 1, 2, 10:", ", ".join(excess))
print("softmax:", ", ".join(f"{p:.2f}" for p in soft_onehot(x)))
print(f"soft index of two peaks: {1 + soft_argmax(peaks):.2f}")

# %% [markdown]
# ## Smooth accuracy ignores what it gets wrong
#
# The accuracy is the average inner product of two one-hot vectors, that of a sample's class $t_s$ and that of the predicted class. Write $\mathbf 1_{t_s}$ for the first, and replace the second by the model's probabilities $p_s$:
#
# $$
# \text{accuracy}\approx\frac1N\sum_{s=1}^N\langle\mathbf 1_{t_s},p_s\rangle.
# $$ (smoothing-eq13)
#
# This is the mean probability of the correct class. It is also, exactly, the expected accuracy of a model that *samples* its predictions from $p_s$, since expectations are linear. Reinforcement learning would estimate the gradient of
# this expectation from samples; here it is known in closed form. (From here on $K=1$: a network learns the scale of its scores.)


# %% tags=["minimal"]
def soft_accuracy(probs, target):
    return probs.gather(-1, target[..., None]).squeeze(-1).mean(-1)


# %% [markdown]
# What does this loss learn? Let $p$ be the probability of a sample's correct class. Cross-entropy is $-\log p$, the smooth
# accuracy contributes $-p$, and the chain rule gives
#
# $$
# \nabla(-p)=p\cdot\nabla(-\log p).
# $$ (smoothing-weight)
#
# *The gradient of the smooth accuracy is that of cross-entropy, each sample weighted by the probability of its label.* Cross-entropy pulls the correct class's score up at the rate $1-p$: 0.1, 0.4 and 0.99 for $p=0.9$, $0.6$ and $0.01$. The smooth accuracy pulls at $p(1-p)$: 0.09, 0.24 and 0.0099. It almost ignores the sample on which cross-entropy pulls hardest.

# %% mystnb={"figure": {"caption": "Cross-entropy pulls hardest where the model is wrong; the smooth accuracy hardly pulls there. Pull on the score of the correct class, against the probability that the model gives it."}, "image": {"alt": "A straight line that falls from 1 to 0 for cross-entropy, and a parabola from 0 up to a quarter at one half and down to 0 for the smooth accuracy."}} tags=["hide-input"]
p = torch.linspace(0, 1, 201)
fig, ax = plotting.panels(height=2.2)
ax.plot(p, 1 - p, label="cross-entropy, $1-p$")
ax.plot(p, p * (1 - p), label="smooth accuracy, $p(1-p)$")
ax.set(xlabel="probability $p$ of the correct class", ylabel="pull")
ax.legend()
plt.show()

# %% [markdown]
# This can help or harm. A sample that the model never learns to fit may be *mislabelled*, and then it is better ignored. But a class that the model learns slowly may be ignored, too.
# Both happen. First the harm: we train eight small networks on scikit-learn's digits with each loss, at a learning rate of 0.03.

# %%
digits = data.digits()
pixels, label = digits.pixels.flatten(1), digits.label
train_rows, test_rows = data.stratified_split(
    label, (0.5, 0.5), torch.Generator().manual_seed(7)
)


def train(loss, seed, steps=600):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(steps):
        rows = train_rows[torch.randint(len(train_rows), (64,))]
        log_p = log_softmax(net(pixels[rows]), -1)
        optimizer.zero_grad()
        loss(log_p.gather(-1, label[rows, None])).mean().backward()
        optimizer.step()
    return net


# %%
@torch.no_grad()
def recall(net):  # the share of each class that is found
    found = net(pixels[test_rows]).argmax(-1) == label[test_rows]
    return [found[label[test_rows] == c].float().mean() for c in range(10)]


LIVE = {
    "cross-entropy": lambda log_p: -log_p,
    "smooth accuracy": lambda log_p: -log_p.exp(),
}
found = {
    name: torch.tensor([recall(train(loss, seed)) for seed in range(8)])
    for name, loss in LIVE.items()
}

# %% mystnb={"figure": {"caption": "Trained on the smooth accuracy from scratch, most of these networks miss a whole class, often the 8; trained on cross-entropy, none does. The learning rate, 0.03, is larger than the one that validation would choose. Share of each digit's test images that is found, for eight networks."}, "image": {"alt": "Two maps of eight rows for networks and ten columns for the digits. The upper one, cross-entropy, is bright throughout. The lower one, smooth accuracy, has black cells, many of them in the column of the 8."}} tags=["nbval-ignore-output", "hide-input"]
fig, axes = plotting.panels(2, height=2.2)
for ax, (name, shares) in zip(axes, found.items(), strict=True):
    image = ax.imshow(100 * shares, vmin=0, vmax=100, aspect="auto")
    ax.set(title=name, xlabel="digit", ylabel="network", xticks=range(10))
    ax.grid(False)
    fig.colorbar(image, ax=ax, label="found (%)")
plt.show()

# %% [markdown]
# The weight $p$ suggests how a class is lost. At first all classes have $p\approx0.1$. Those that are learned first are pulled harder, so they are learned faster still. A class that falls behind counts for less at each step, until
# its gradient is nearly gone. The 8, which resembles several other digits, is often the one.
#
# If that is the cause, there are two remedies. Train with cross-entropy first, until every class has a sizeable $p$. Or put a floor under the weight, $\max(p,0.1)$:


# %% tags=["nbval-ignore-output"]
def floored(log_p):
    weight = log_p.exp().clamp(min=0.1)
    return -weight.detach() * log_p


kept = torch.tensor([recall(train(floored, seed)) for seed in range(8)])
print("networks that lose a class:", int((kept < 0.05).any(-1).sum()), "of 8")

# %% [markdown]
# For numbers, we trained 50 networks per loss on five splits, with 0, 20 or 40 % of the training labels replaced by wrong ones, uniformly at random.
# Every loss was given the same six learning rates, initial weights and minibatches. For comparison there are label smoothing and generalised cross-entropy {cite:p}`zhang2018gce`, whose weight is $\sqrt p$. The baseline is ridge regression on the one-hot labels.

# %% mystnb={"figure": {"caption": "On clean labels the smooth accuracy trails when trained from scratch. After a cross-entropy stage, or with a floor under its weight, it matches cross-entropy there and beats it on noisy labels. Test accuracy of 50 networks, with means and 95 % intervals."}, "image": {"alt": "Three panels for 0, 20 and 40 percent of wrong labels, each with six rows of 50 points. Accuracy from scratch scatters widely to the left. With 20 and 40 percent, the last two rows and generalised cross-entropy lie furthest right."}} tags=["nbval-ignore-output", "hide-input"]
runs = recorded("smoothing_digits")
networks = pd.concat(
    pd.DataFrame(run.columns("networks.csv")).assign(
        loss=trial.partition("-rate")[0], rate=run.config["learning_rate"]
    )
    for trial, run in runs.items()
)
assert len(runs) == len(smoothing_digits.RECORDINGS)
settings = next(iter(runs.values())).settings


def chosen(loss, noise, by="valid_accuracy"):
    """The networks at the learning rate and the time that are best on validation."""
    here = networks[(networks.loss == loss) & (networks.noise == noise)]
    rate, step = here.groupby(["rate", "step"])[by].mean().idxmax()
    return here[(here.rate == rate) & (here.step == step)].sort_values(
        "network"
    )


linear = smoothing_digits.ridge(settings)
METHODS = {
    "cross-entropy": "cross_entropy",
    "label smoothing": "label_smoothing",
    "generalised cross-entropy": "generalised_cross_entropy",
    "accuracy": "accuracy",
    "cross-entropy, then accuracy": "two_stage_accuracy",
    "accuracy, weight ≥ 0.1": "floored_accuracy",
}

fig, axes = plotting.panels(len(settings.noise), height=2.5)
for ax, noise in zip(axes, settings.noise, strict=True):
    groups = {
        name: 100 * chosen(loss, noise).accuracy
        for name, loss in METHODS.items()
    }
    plotting.seeds(ax, groups, ("ridge", 100 * linear[noise]))
    ax.set(title=f"{noise:.0%} of the labels wrong", xlabel="test accuracy (%)")
plt.show()

# %% [markdown]
# Both remedies work. At the learning rate that validation chooses, some of the networks trained from scratch lose a class; with either remedy none does. On clean labels, accuracy then only draws level with cross-entropy. With noisy labels it pulls clearly ahead, although validation may stop cross-entropy before it has memorised them. Generalised cross-entropy, which needs no remedy, comes close. Label smoothing gains little on noisy labels. A first stage must be long enough: at the smallest learning rate most networks lose a class in spite of it. And an equal start is no remedy: from an output layer of zeros, where every $p$ is 1/10, no network loses a class at the chosen rate, but at the smallest and the largest ones most do.
#
# So is accuracy the ideal loss, as the article remarks? For fine-tuning on noisy labels it is a good one; on clean labels it is level with cross-entropy, and within these 1,200 steps label smoothing is better than both. From scratch it is worse than cross-entropy on clean labels; the verdict is open because we had asked beforehand whether the loss exceeds half a point, and the interval includes that bound.


# %% tags=["hide-input"]
def gain(loss, noise):
    """Test accuracy over that of cross-entropy: (network,)."""
    own, base = (
        chosen(name, noise).accuracy for name in (loss, "cross_entropy")
    )
    return own.to_numpy() - base.to_numpy()


def two_stage_gain(noise):
    return gain("two_stage_accuracy", noise)


scratch = mean_interval(100 * gain("accuracy", 0.0))
clean, noisy = (mean_interval(100 * two_stage_gain(n)) for n in (0.0, 0.2))
best_20 = chosen("two_stage_accuracy", 0.2).accuracy
over_ridge = mean_interval(100 * (best_20 - linear[0.2]))
worse, remedies = scratch.beyond(-0.5), [clean.beyond(-0.5), noisy.beyond()]
verdict(
    "smoothing.ideal",
    holds=None if worse is False and None in remedies else worse,
    restricted=worse is False and all(remedies),
    reached=over_ridge.beyond() is True,
    measured={
        "clean labels, from scratch minus cross-entropy (points; bound −0.5)": scratch,
        "clean, two-stage": clean,
        "20 % wrong, two-stage": noisy,
        "20 % wrong, over ridge": over_ridge,
    },
)

# %% tags=["hide-input"]
at_end = networks[(networks.step == settings.steps) & (networks.noise == 0)]
missing = at_end.assign(missing=at_end.missed > 0).pivot_table(
    index="network", columns="loss", values="missing"
)  # the share of the learning rates
remedies = [
    mean_interval(missing.accuracy - missing[loss])
    for loss in ("two_stage_accuracy", "floored_accuracy")
]
above = [cure.beyond() for cure in remedies]
verdict(
    "smoothing.classes",
    holds=None if None in above or len(set(above)) > 1 else above[0],
    measured={
        "share of runs that miss a class, minus two-stage": remedies[0],
        "minus weight ≥ 0.1": remedies[1],
        "from scratch": missing.accuracy.mean(),
        "from scratch, output layer of zeros": missing.zero_output_accuracy.mean(),
    },
)

# %% [markdown]
# ## F1 as a loss, and the threshold it learns
#
# For two classes, with labels $t\in\{0,1\}$ and probabilities $p$ of the positive one, $\sum tp$ counts the true positives,
# $\sum t$ the positives and $\sum p$ the predicted ones. So recall is $\sum tp/\sum t$, precision is $\sum tp/\sum p$, and
# their harmonic mean is
#
# $$
# F_1\approx\frac{2\sum_s t_sp_s}{\sum_s(t_s+p_s)},
# $$ (smoothing-eq14)
#
# a loss already used by {cite:t}`jansche2005`:


# %% tags=["minimal"]
def soft_f1(probs, target, eps=1e-8):
    return 2 * (target * probs).sum(-1) / ((target + probs).sum(-1) + eps)


# %% [markdown]
# Let $S=\sum(t+p)$. The quotient rule gives $\partial F_1/\partial p_s=(2t_s-F_1)/S$: a positive is pushed up by $2-F_1$, a negative down by $F_1$, both over $S$. Now suppose that many samples look alike, at a point $x$ where a share $q=P(t=1\mid x)$ of them is positive.
# On balance they are pushed by
#
# $$
# q\,(2-F_1)-(1-q)\,F_1=2q-F_1.
# $$ (smoothing-threshold)
#
# If the model can set each prediction freely, it rises to 1 where $q>F_1/2$ and falls to 0 elsewhere. *At the optimum $F^*$, a sample is classified as positive if and only if $P(t=1\mid x)>F^*/2$.* Where the best possible F1 is 0.4, a probability of 0.2 is the break-even point: the upward push, $0.2\cdot1.6$, equals the downward push, $0.8\cdot0.4$. This threshold is known
# {cite:p}`zhao2013,lipton2014`. Does training on the smooth F1 find it?
#
# We draw negatives from the standard normal distribution and positives from the same distribution shifted by 1.5; they make up 1, 2 or 5 % of the data.
# The classes overlap, so that even the best F1 is low, and $P(t=1\mid x)$ is known exactly. A logistic regression has a single threshold to learn.

# %%
POSITIVES, SHIFT, N, DRAWS = (0.01, 0.02, 0.05), 1.5, 5000, 30
g = torch.Generator().manual_seed(3000)


def gaussian(rate):
    """Inputs and a constant, (draw, sample, 2); labels, (draw, sample)."""
    t = (torch.rand(DRAWS, N, generator=g) < rate).float()
    x = torch.randn(t.shape, generator=g) + SHIFT * t
    return torch.stack([x, torch.ones_like(x)], -1), t


# %% tags=["hide-input"]
def patients():
    """Who is among the tenth that fared worst? Parts of 30 splits."""
    sick = data.diabetes()
    worst = sick.target > sick.target.quantile(0.9)
    x = torch.cat([sick.features, torch.ones(len(worst), 1)], 1)
    splits = [
        data.stratified_split(
            worst.long(), (0.5, 0.2, 0.3), torch.Generator().manual_seed(s)
        )
        for s in range(600, 600 + DRAWS)
    ]
    return [
        (x[rows], worst[rows].float())
        for rows in map(torch.stack, zip(*splits, strict=True))
    ]


GAUSSIAN = [f"{rate:.0%} positives" for rate in POSITIVES]
PROBLEMS = {  # the training, validation and test part of each
    name: [gaussian(rate) for _ in range(3)]
    for name, rate in zip(GAUSSIAN, POSITIVES, strict=True)
} | {"diabetes": patients()}


# %%
def cross_entropy(z, t):
    each = binary_cross_entropy_with_logits(z, t, reduction="none")
    return each.mean(-1)


def minus_f1(z, t):
    return -soft_f1(torch.sigmoid(z), t)


# %% tags=["hide-input"]
def fit(problem, loss, rate, batch=None, steps=300, first_stage=0):
    """Logistic regressions side by side; `batch` samples a step, or all."""
    (x, t), g = PROBLEMS[problem][0], torch.Generator().manual_seed(0)
    w = torch.randn(len(x), x.shape[-1], 1, generator=g) / 2
    optimizer = torch.optim.Adam([w.requires_grad_()], lr=rate, fused=True)
    for step in range(steps):
        now_x, now_t = x, t
        if batch is not None:
            rows = torch.randint(t.shape[1], (len(t), batch), generator=g)
            now_x, now_t = (
                x.take_along_dim(rows[..., None], 1),
                t.gather(1, rows),
            )
        now = cross_entropy if step < first_stage else loss
        optimizer.zero_grad()
        now((now_x @ w).squeeze(-1), now_t).sum().backward()
        optimizer.step()
    return w.detach()


F1_RATES = (0.03, 0.1, 0.3, 1.0)


def f1_of(problem, w, part, threshold=0.0):
    """F1 of the decisions w·x > threshold on a part: (draw,)."""
    x, t = PROBLEMS[problem][part]
    return soft_f1(((x @ w).squeeze(-1) > threshold).float(), t).double()


def best(fits, problem):
    """Of several learning rates the one with the best validation F1."""
    return max(fits[problem], key=lambda w: f1_of(problem, w, 1).mean())


def fits(loss, problems=GAUSSIAN, **settings):
    return {
        name: [fit(name, loss, rate, **settings) for rate in F1_RATES]
        for name in problems
    }


# %% mystnb={"figure": {"caption": "Training on the smooth F1 puts the boundary where $P(t=1\\mid x)$ is half of the best F1, not at one half; small minibatches put it too low. One point for each draw of the training data, with means and 95 % intervals; dashed, $F^*/2$."}, "image": {"alt": "Three panels for 1, 2 and 5 percent of positives. In each the points of full batches gather around the dashed line; with batches of 64 they lie to the left of it, less so with more positives."}} tags=["nbval-ignore-output", "hide-input"]
by_entropy, by_f1 = (fits(loss, PROBLEMS) for loss in (cross_entropy, minus_f1))
by_batches = fits(minus_f1, batch=64, steps=600)


def boundary(w):
    """Where a logistic regression on the Gaussian classes says ½: (draw,)."""
    return -(w[:, 1] / w[:, 0]).squeeze(-1).double()


def posterior(x, rate):
    """P(t = 1 | x) for the two normal distributions."""
    return torch.sigmoid(SHIFT * x - SHIFT**2 / 2 + np.log(rate / (1 - rate)))


def true_f1(x, rate):
    """F1 of "positive above x" on the two normal distributions."""
    hit, false = rate * stats.norm.sf(x - SHIFT), (1 - rate) * stats.norm.sf(x)
    return 2 * hit / (rate + hit + false)


highest = [
    -optimize.minimize_scalar(
        lambda x, r=r: -true_f1(x, r), bounds=(-1, 5), method="bounded"
    ).fun
    for r in POSITIVES
]
learned, in_batches = (
    [
        posterior(boundary(best(by, name)), r)
        for name, r in zip(GAUSSIAN, POSITIVES, strict=True)
    ]
    for by in (by_f1, by_batches)
)

fig, axes = plotting.panels(len(POSITIVES), height=1.5)
for ax, name, full, small, best_f1 in zip(
    axes, GAUSSIAN, learned, in_batches, highest, strict=True
):
    plotting.seeds(
        ax,
        {"all samples": full, "batches of 64": small},
        ("$F^*/2$", best_f1 / 2),
    )
    ax.set(
        title=name,
        xlim=(0, 0.35),
        xlabel="$P(t=1\\mid x)$ at the learned boundary",
    )
plt.show()

# %% [markdown]
# It does. F1 is flat near its optimum, so a slightly misplaced boundary costs almost nothing. Even with 1 % of positives, about 50 to train on, the learned boundary averages over 90 % of the best possible F1, although single draws scatter widely. Random weights, or cross-entropy thresholded at ½, reach far less.

# %% tags=["hide-input"]
ratios = [
    mean_interval(q / (f / 2)) for q, f in zip(learned, highest, strict=True)
]


def share_of_best(weights):
    """Test F1 over F*: an interval for each problem."""
    return [
        mean_interval(f1_of(name, w, 2) / f)
        for name, w, f in zip(GAUSSIAN, weights, highest, strict=True)
    ]


reached = [
    mean_interval(true_f1(boundary(best(by_f1, name)).numpy(), r) / f)
    for name, r, f in zip(GAUSSIAN, POSITIVES, highest, strict=True)
]
initial = (
    torch.randn(DRAWS, 2, 1, generator=torch.Generator().manual_seed(0)) / 2
)
controls = share_of_best([initial] * 3) + share_of_best(
    [best(by_entropy, n) for n in GAUSSIAN]
)
holds = all(r.low > 0.8 and r.high < 1.25 for r in ratios) and all(
    r.low > 0.9 for r in reached
)
fails = any(r.high < 0.8 or r.low > 1.25 for r in ratios) or any(
    r.high < 0.9 for r in reached
)
assert all(control.high < 0.9 for control in controls)
verdict(
    "smoothing.threshold",
    holds=True if holds else False if fails else None,
    measured={
        f"boundary : F*/2, {n}": r
        for n, r in zip(GAUSSIAN, ratios, strict=True)
    }
    | {f"F1 : F*, {n}": r for n, r in zip(GAUSSIAN, reached, strict=True)}
    | {
        "initial weights, 1 %": controls[0],
        "cross-entropy at ½, 1 %": controls[3],
    },
)

# %% [markdown]
# ### Cross-entropy with a tuned threshold does as well
#
# Is it fair to threshold cross-entropy at ½? Its threshold can be moved after training, for free. Choose it on validation data, or set it to $F/2$, where $F$ is the best F1 expected under the model's own probabilities. On the Gaussian data, either closes the gap.


# %%
def tuned(problem, w):
    """Test F1 with the threshold that is best on validation."""
    grid = torch.linspace(-5, 1, 61)
    at = torch.stack([f1_of(problem, w, 1, c) for c in grid]).argmax(0)
    return f1_of(problem, w, 2, grid[at][:, None])


def plugged_in(problem, w):
    """Test F1 with the threshold F/2, if the probabilities are right."""
    p = (
        torch.sigmoid((PROBLEMS[problem][1][0] @ w).squeeze(-1))
        .sort(-1, descending=True)
        .values
    )
    called = torch.arange(1, p.shape[-1] + 1)
    f = (2 * p.cumsum(-1) / (called + p.sum(-1, keepdim=True))).amax(
        -1, keepdim=True
    )
    return f1_of(problem, w, 2, torch.logit(f / 2))


# %% mystnb={"figure": {"caption": "Trained on the smooth F1, a model needs no tuned threshold; with one, cross-entropy does as well. Test F1 of 30 draws or splits, with means and 95 % intervals, which for diabetes are widened, since its splits overlap; dashed, predicting all as positive."}, "image": {"alt": "Four panels for 1, 2 and 5 percent of positives and for diabetes. In the first three the points of cross-entropy at one half lie far to the left, those of the three other methods close together to the right; on diabetes all intervals are wide and overlap."}} tags=["nbval-ignore-output", "hide-input"]
test_f1 = {
    "cross-entropy, at ½": {
        n: f1_of(n, best(by_entropy, n), 2) for n in PROBLEMS
    },
    "threshold tuned": {n: tuned(n, best(by_entropy, n)) for n in PROBLEMS},
    "threshold plugged in": {
        n: plugged_in(n, best(by_entropy, n)) for n in PROBLEMS
    },
    "smooth F1, at ½": {n: f1_of(n, best(by_f1, n), 2) for n in PROBLEMS},
}
rate = {n: float(parts[2][1].mean()) for n, parts in PROBLEMS.items()}
everything = {
    n: 2 * r / (1 + r) for n, r in rate.items()
}  # F1 of "all positive"
overlap = {n: 0.6 if n == "diabetes" else 0.0 for n in PROBLEMS}

fig, axes = plotting.panels(4, height=1.9)
for ax, name in zip(axes, PROBLEMS, strict=True):
    groups = {method: values[name] for method, values in test_f1.items()}
    plotting.seeds(
        ax, groups, ("all positive", everything[name]), overlap[name]
    )
    ax.set(title=name, xlabel="test F1", xlim=(-0.02, None))
plt.show()

# %% [markdown]
# So if your model is well specified, tune the threshold. The diabetes data have 442 patients, and the positives are the worst tenth. There, training on F1 looks slightly better, but the intervals overlap.

# %% tags=["hide-input"]
base, raised = test_f1["cross-entropy, at ½"], test_f1["smooth F1, at ½"]
gains = {
    n: mean_interval(raised[n] - base[n], overlap=overlap[n]) for n in PROBLEMS
}
sides = [interval.beyond() for interval in gains.values()]
verdict(
    "smoothing.recipe",
    holds=None if None in sides else all(sides),
    restricted=None not in sides and any(sides) and not all(sides),
    reached=all(raised[n].mean() > everything[n] for n in PROBLEMS),
    measured={
        f"F1 gained, {name}": gains[name] for name in reversed(list(gains))
    },
)

# %% [markdown]
# ### Minibatches bias F1
#
# F1 is a ratio of sums. On a minibatch both sums are over the batch, so the minibatch average is biased, as the article warns. In the extreme case, a minibatch without positives scores 0 and gives no gradient: it pushes no negative down. With 1 % of positives, that is half of the batches of 64, so negatives are pushed down too rarely, and in the figure above the boundary ends too low.

# %% tags=["hide-input"]
x, t = (part[0] for part in PROBLEMS["5% positives"][2])
p, t = (
    torch.sigmoid(x @ best(by_entropy, "5% positives")[0]).squeeze(-1).double(),
    t.double(),
)
whole, sizes = soft_f1(p, t), (8, 16, 32)
picks = torch.randint(len(t), (4000, max(sizes)), generator=g)
batches = [soft_f1(p[picks[:, :size]], t[picks[:, :size]]) for size in sizes]
means = [mean_interval(values, confidence=0.99) for values in batches]
excluded = [not m.low <= whole <= m.high for m in means]
verdict(
    "smoothing.claim2",
    holds=True if all(excluded) else None if any(excluded) else False,
    measured={
        f"smooth F1 at B = {b} (all data: {whole:.3f})": mean
        for b, mean in zip(sizes, means, strict=True)
    },
)

# %% [markdown]
# ### Must F1 training start with cross-entropy?
#
# The article advises training with cross-entropy nearly to convergence, then fine-tuning with $-F_1$: from scratch, it warns, training may fail. For accuracy, that advice was right. With ten digits, there is an F1 for each of them against the others, and the loss is minus their mean:


# %%
def macro_f1(probs, target):
    t = torch.nn.functional.one_hot(target, probs.shape[-1])
    return soft_f1(probs.mT, t.mT).mean(-1)


# %% [markdown]
# Here the first stage matters less.

# %% tags=["nbval-ignore-output", "hide-input"]
lost = missing.mean()
table(
    {"trained on": name}
    | {
        f"{noise:.0%} wrong": f"{100 * chosen(loss, noise, 'valid_f1').f1.mean():.1f}"
        for noise in settings.noise
    }
    | {
        "lose a class": f"{(chosen(loss, 0.0, 'valid_f1').missed > 0).mean():.0%}",
        "at any rate": f"{lost[loss]:.0%}",
    }
    for name, loss in {
        "cross-entropy": "cross_entropy",
        "accuracy": "accuracy",
        "accuracy, output layer of zeros": "zero_output_accuracy",
        "cross-entropy, then accuracy": "two_stage_accuracy",
        "accuracy, weight ≥ 0.1": "floored_accuracy",
        "F1": "f1",
        "cross-entropy, then F1": "two_stage_f1",
    }.items()
)

# %% [markdown]
# The table has test F1 in per cent for each share of wrong labels, and how many networks lose a class on clean labels, at the learning rate that validation chooses and over all six. From scratch, F1 loses one at the largest rate only, and ends a fraction of a point behind. Like accuracy, it withstands wrong labels.
#
# Part of the reason is its denominator. At the scores, both losses carry the factor $p(1-p)$, so that F1, too, can lose a class for good; but it does so later. A class that is never predicted has $F_1=0$ and $S=m$, its number of samples, so that $\partial F_1/\partial p=2/m$ for each of them. A class predicted perfectly has $F_1=1$ and $S=2m$, which gives $1/(2m)$, four times less. F1 favours the class that falls behind;
# accuracy, which has no denominator, does not. For logistic regression on the Gaussian data, trained on minibatches, a cross-entropy stage does not help.

# %% tags=["hide-input"]
two_stage = fits(minus_f1, batch=64, steps=600, first_stage=300)


def astray(fits):
    """Share of the learning rates, and problems, at which a draw ends below "all positive": (draw,)."""
    return (
        torch.stack(
            [f1_of(n, w, 2) < everything[n] for n in GAUSSIAN for w in fits[n]]
        )
        .double()
        .mean(0)
    )


def final(fits):
    """Test F1 at the chosen rates, mean over the problems: (draw,)."""
    return torch.stack([f1_of(n, best(fits, n), 2) for n in GAUSSIAN]).mean(0)


two, one = (
    chosen(loss, 0.0, "valid_f1").f1.to_numpy()
    for loss in ("two_stage_f1", "f1")
)
advice = {
    "digits: F1, two-stage minus from scratch": mean_interval(two - one),
    "digits: share astray from scratch, minus two-stage": mean_interval(
        missing.f1 - missing.two_stage_f1
    ),
    "Gaussian: F1, two-stage minus from scratch": mean_interval(
        final(two_stage) - final(by_batches)
    ),
    "Gaussian: share astray from scratch, minus two-stage": mean_interval(
        astray(by_batches) - astray(two_stage)
    ),
}
sides = [interval.beyond() for interval in advice.values()]
small = all(
    i.high < bound
    for i, bound in zip(advice.values(), (0.005, 0.05) * 2, strict=True)
)
both = [all(sides[:2]), all(sides[2:])]
verdict(
    "smoothing.claim3",
    holds=True if all(both) else False if small else None,
    restricted=any(both) and not all(both),
    reached=bool(final(two_stage).mean() > final(by_entropy).mean()),
    measured=advice,
)

# %% [markdown]
# ## Smooth top-k
#
# For an indicator of the $k$ largest scores the article proposes a recursion. Shift the scores so that the smallest is 0; then, $k$ times,
# add the softmax of what has not been taken yet:
#
# $$
# \begin{aligned}
# x&\leftarrow x-\min(x),\qquad p^{(0)}=0,\\
# p^{(j)}&=p^{(j-1)}+\operatorname{softmax}\bigl((1-p^{(j-1)})\otimes x\bigr),\qquad j=1,\dots,k.
# \end{aligned}
# $$ (smoothing-alg1)
#
# The entries sum to $k$. If $k<n$ and the $k+1$ largest scores are distinct, scaling the scores up gives the right indicator. But take the two scores $s\cdot(1,0)$ with a large $s$, and $k=2$, where both entries should
# be 1. The first step selects the first score. In the second, its entry $(1-p_1)x_1$ is almost 0, like the other score, so they tie, and the result is $(1.5,0.5)$.
#
# A second failure occurs even for $k<n$. Scores that are nearly equal *share* a step, and are then handicapped by their share.
# With $1000\cdot(1,0.9999,0.9,0)$ and $k=2$ the recursion returns $(0.52,0.48,1,0)$: the third score overtakes both winners.
#
# The remedy is to choose all $k$ at once. Give every score the same smooth step, and move the step until the total is $k$:
#
# $$
# p_i=\sigma\bigl(K(x_i-\lambda)\bigr),\qquad\lambda\text{ such that }\sum_ip_i=k.
# $$ (smoothing-shared)
#
# The sum falls strictly from $n$ to 0 as $\lambda$ grows, so for $k<n$ exactly one $\lambda$ exists, and bisection finds it.
# This is the limited multi-label projection of {cite:t}`amos2019`, and the article's author arrived at the same threshold in 2024 {cite:p}`su2024topk`.


# %% tags=["minimal"]
def soft_k_max(x, k):
    x = x - x.amin(-1, keepdim=True)
    p = torch.zeros_like(x)
    for _ in range(k):
        p = p + torch.softmax((1 - p) * x, -1)
    return p


def soft_top_k(x, k, sharpness=1.0):
    z = sharpness * x
    low = z.detach().amin(-1, keepdim=True) - 40  # there σ is 1 or 0
    high = z.detach().amax(-1, keepdim=True) + 40
    for _ in range(60):
        middle = (low + high) / 2
        p = torch.sigmoid(z.detach() - middle)
        many = p.sum(-1, keepdim=True) > k
        low = torch.where(many, middle, low)
        high = torch.where(many, high, middle)
    w = (p * (1 - p)).sum(-1, keepdim=True)
    # k < n; a Newton step moves nothing any more, but carries the gradient
    total = torch.sigmoid(z - low).sum(-1, keepdim=True)
    return torch.sigmoid(z - low - (total - k) / w)


# %%
print("k = n:", soft_k_max(100 * torch.tensor([1.0, 0.0]), 2).tolist())
tied = 1000 * torch.tensor([1, 0.9999, 0.9, 0], dtype=torch.float64)
for method in (soft_k_max, soft_top_k):
    values = [round(v, 2) for v in method(tied, 2).tolist()]
    print(f"{method.__name__}:", values)

# %% mystnb={"figure": {"caption": "The recursion has holes among the selected scores and entries above 1 (orange); one shared threshold has neither. One vector of 20 sorted scores; each row is the selection for one $k<20$."}, "image": {"alt": "Two heat maps of 19 rows for k and 20 columns for the sorted scores. The upper one has orange entries above 1 and dark holes; the lower one is a clean triangle."}} tags=["hide-input"]
z = (
    15
    * torch.randn(20, generator=rng, dtype=torch.float64)
    .sort(descending=True)
    .values
)
fig, axes = plotting.panels(2, height=3.0)
colours = plt.get_cmap("cividis").with_extremes(over=plotting.RED)
for ax, method in zip(axes, (soft_k_max, soft_top_k), strict=True):
    rows = torch.stack([method(z, k) for k in range(1, 20)])
    assert rows.isfinite().all()
    extent = (0.5, 20.5, 19.5, 0.5)
    image = ax.imshow(
        rows, vmin=0, vmax=1 + 1e-6, cmap=colours, extent=extent, aspect="auto"
    )
    ticks = [1, 5, 10, 15, 20]
    ax.set(
        xlabel="rank of the score",
        ylabel="$k$",
        title=method.__name__,
        xticks=ticks,
        yticks=ticks,
    )
    ax.grid(False)
    fig.colorbar(image, ax=ax, extend="max", label="selected")
plt.show()

# %% [markdown]
# How far is this from the hard choice? Let $\Delta$ be the gap between the last score that is in and the first that is out. Because the $p_i$ sum to $k$, what is missing from the top $k$ has leaked to the rest; call it $M$. It is at most $k\,e^{-K(x_{(k)}-\lambda)}$, and also at most
# $(n-k)\,e^{-K(\lambda-x_{(k+1)})}$. Multiply the two bounds, and $\lambda$ cancels:
#
# $$
# M\le\sqrt{k(n-k)}\;e^{-K\Delta/2}.
# $$
#
# The gradient needs no differentiation through the bisection. Differentiate $\sum_ip_i=k$ with $w_i=p_i(1-p_i)$: the threshold moves by
# $\partial\lambda/\partial x_j=w_j/\sum_l w_l$, and so
#
# $$
# \frac{\partial p_i}{\partial x_j}=K\,w_i\Bigl(\delta_{ij}-\frac{w_j}{\sum_lw_l}\Bigr).
# $$

# %% [markdown]
# ## Related and later work
#
# **Losses.** One minus the smooth accuracy is half the $L_1$ distance between $p$ and the one-hot label. {cite:t}`ghosh2017` proved that a minimiser of this loss withstands symmetric label noise. {cite:t}`zhang2018gce` found that it trains poorly with many classes, and proposed the weight $p^r$ (their $q$ is our $r$), between cross-entropy, $r=0$, and accuracy, $r=1$. Our figure has $r=\frac12$.
#
# **Softmax alternatives.** Sparsemax {cite:p}`martins2016` and entmax {cite:p}`peters2019` replace softmax by maps that reach 0 and 1 at a finite gap.
#
# **Top-k.** Any increasing function from 0 to 1 can take the place of $\sigma$. {cite:t}`struski2025` use the distribution function of the Laplace distribution. Between neighbouring scores the sum is then $a-b\,e^{\lambda}+c\,e^{-\lambda}$, so that $\lambda$ has a closed form.
# After a sort this costs $O(n)$, and the authors report that it is ahead of earlier methods for long vectors and large $k$. On our CPU, for $n=100{,}000$, that sort costs more than the package's Newton iteration, which needs none. {cite:t}`blondel2020` sort and rank by projections in $O(n\log n)$, with piecewise linear results.

# %% tags=["nbval-ignore-output", "hide-input"]
from kexue import smoothing

METHODS = {
    "hard, torch.topk": lambda x, k: x * 0 + (x >= x.topk(k).values[-1]),
    "one threshold, logistic": smoothing.soft_top_k,
    "one threshold, Laplace": partial(smoothing.soft_top_k, step="laplace"),
}


def forward_and_backward(method, x):
    torch.autograd.grad((method(x, len(x) // 10) * x.detach()).sum(), x)


sizes = (1000, 100_000)
inputs = [torch.randn(n, generator=rng, requires_grad=True) for n in sizes]
times = {
    name: np.array(
        [seconds(forward_and_backward, method, x, rounds=10) for x in inputs]
    )
    for name, method in METHODS.items()
}
x = torch.tensor([3.0, 2.0, 0.0])
table(
    {
        "method": name,
        "of 3, 2, 0 (k = 2)": ", ".join(f"{v:.2f}" for v in method(x, 2)),
        "time, n = 1,000": relative[0],
        "n = 100,000": relative[1],
    }
    for name, method in METHODS.items()
    for relative in [times[name] / times["hard, torch.topk"]]
)

# %% [markdown]
# Times, forward and backward with $k=n/10$, are relative to `torch.topk`, from one run.
#
# Three later chapters use the same substitution. Gumbel-Softmax adds noise to the scores, so that the soft one-hot vector is also a *sample*. ON-LSTM's `cumax` is the cumulative sum of a softmax, a smooth step.
# VQ-VAE is hard in the forward pass and uses a surrogate gradient in the backward pass.
#
# **When to use what.** For F1, train with cross-entropy and tune the threshold; we found no case in which training on F1 was clearly better, and it wants batches that hold enough positives. Against wrong labels, fine-tune on the smooth accuracy or on F1 after cross-entropy, put a floor under the weight, or take generalised cross-entropy. For a position on a line, the soft argmax; for a set of $k$, one shared threshold. {doc}`../pages/api` has the functions with checks of their input.
#
# ## Exercises
#
# **1.** In the recursion for the $k$ largest, leave out the subtraction of the minimum, and try the scores $-1,-2,-3$, scaled by 10, with $k=2$. What goes wrong?

# %% tags=["hide-cell"]
x, p = 10 * torch.tensor([-1.0, -2, -3]), torch.zeros(3)
for _ in range(2):
    p = p + torch.softmax((1 - p) * x, -1)
# A score that is taken is multiplied by nearly 0, and among negative ones 0 is the largest.
print([round(v, 2) for v in p.tolist()], "- the winner is taken twice")

# %% [markdown]
# **2.** The area under the ROC curve is the share of pairs of a positive and a negative in which the positive has the higher score. Smooth it. Is its
# value on a minibatch biased?

# %% tags=["hide-cell"]
# A step of a difference of scores becomes a sigmoid. It is a mean over pairs, so that a minibatch with samples of
# both classes gives an unbiased estimate; F1, a ratio of sums, does not.
score = torch.randn(400, generator=rng, dtype=torch.float64)
positive = torch.rand(400, generator=rng) < torch.sigmoid(2 * score)
pairs = torch.sigmoid(20 * (score[positive][:, None] - score[~positive]))
rows, columns = (
    torch.randint(n, (4000, 3), generator=rng) for n in pairs.shape
)
small = mean_interval(
    pairs[rows[:, :, None], columns[:, None]].mean((1, 2)), confidence=0.999
)
print(
    "six samples give the same on average:",
    bool(small.low <= pairs.mean() <= small.high),
)

# %% [markdown]
# **3.** Why not set the $k-1$ largest entries to 1 and put a softmax over the rest?


# %% tags=["hide-cell"]
# It jumps. As the second and the third score swap ranks, one of them goes from 1 to a share of the rest.
def first_then_softmax(x, k):
    top = x.topk(k - 1).indices
    rest = torch.softmax(x.index_fill(-1, top, -torch.inf), -1)
    return rest.index_fill(-1, top, 1.0)


for second in (2.01, 1.99):
    x = torch.tensor([3.0, second, 2.0, 1.0])
    print([round(v, 2) for v in first_then_softmax(x, 3).tolist()])

# %% [markdown]
# ## Experimental details
#
# :::{dropdown} Protocol, rules and their history
# **Digits.** Five stratified splits (half for training, 15 % for validation, 35 % for testing) of scikit-learn's 1,797 digits; on each of them ten networks
# 64–32–10, with initial weights, minibatches and wrong labels of their own; 1,200 Adam steps of 64 samples, the first 400 of which are the first stage. Each loss
# has the same six learning rates. (They were five; the best of cross-entropy turned out to be the smallest, so a smaller one was added. It changed nothing.) The rate and the time of stopping, in steps of 200, are those with the best mean validation accuracy (for F1: F1), where validation labels are as noisy as those of training.
# Intervals are over the networks: they speak of training on these splits. A network that is to count must beat ridge regression on the same labels. The eight networks trained on this page are an illustration; the verdicts rest on the recorded ones.
#
# **F1.** Gaussian classes: 30 independent draws of 5,000 samples each for training, validation and testing; logistic regression, 300 Adam steps on all
# samples, 600 on minibatches, the second stage beginning at half; four learning rates, the best by mean validation F1. Diabetes: 30 stratified splits (50, 20 and 30 %), which overlap, so that
# their intervals are widened as {cite:t}`nadeau2003` propose. A loss that is to count must beat calling everything positive.
#
# **Rules.** They stand in the verdicts above, under *More*, and were written on 1 December 2026, before the runs shown here and after trial runs on other splits and draws. In the trials the smooth accuracy with a first
# stage had been two points ahead at 20 % wrong labels, the learned boundary near $F^*/2$, and F1 from scratch level with two stages, so these rules were likely to decide as they did. Those for accuracy, for the threshold and for the first stage of F1 had earlier versions, which the ledger keeps, with what they had found. Readers of the first version of this page asked for the floor, the output layer of zeros, label smoothing,
# the plugged-in threshold, and for networks in the comparison of F1 with and without a first stage.
# :::
#
# **How often the intervals would err** on which the rules rest, by simulation with the spread of these runs: *false* is how often one excludes 0 if there were no effect, *power* how often it does at an effect of the given size.


# %% tags=["nbval-ignore-output", "hide-cell"]
differences = {  # and the effect at which to state the power
    "two-stage accuracy, 20 % wrong": (two_stage_gain(0.2), 0.01),
    "runs that miss a class": (
        missing.accuracy - missing.floored_accuracy,
        0.2,
    ),
    "F1 raised, 1 % positives": (
        raised["1% positives"] - base["1% positives"],
        0.05,
    ),
    "two-stage F1, digits": (two - one, 0.002),
}
rows = []
for name, (values, effect) in differences.items():
    d = np.asarray(values)
    chance = false_alarms(
        lambda d: mean_interval(d).beyond(), d.std(ddof=1), len(d), effect, 2000
    )
    wrong = f"{chance.holds + chance.refuted:.1%}"
    rows.append(
        {
            "rule": name,
            "false": wrong,
            "power": f"{chance.power:.0%}",
            "at": f"{effect:g}",
        }
    )
table(rows)

# %% [markdown]
# ## Data, seeds and versions

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "smoothing",
    {
        "Sizes": f"{len(runs)} recorded runs of {len(settings.noise)} × {len(missing)} networks 64–{settings.hidden}–10, {settings.steps} steps; "
        f"here {len(found) + 1} × 8 networks, and logistic regressions on {len(PROBLEMS)} problems × {DRAWS} draws",
        "Seeds": f"splits: {settings.splits}, of the patients 600 to {599 + DRAWS}; draws: 3000; weights and minibatches: 0; networks on this page: split 7, 0 to 7; the rest: the generator of the first cell",
    },
)
