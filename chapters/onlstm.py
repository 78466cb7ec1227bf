# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # ON-LSTM: ordered neurons, and a language model that draws trees
#
# *ON-LSTM：用有序神经元表达层次结构*

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import itertools
import math
import time
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import sympy
import torch
from IPython.display import Markdown, display
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import data
from kexue.book import plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, source
from kexue.experiments import recorded
from kexue.onlstm import (
    HGRN,
    LSTM,
    ONLSTM,
    LanguageModel,
    LSTMCell,
    ONLSTMCell,
    balanced,
    best_tree,
    bracket_f1,
    brackets,
    cumax,
    divided,
    leaves,
    left_branching,
    reverse_cumax,
    right_branching,
    segmented_update,
    split_tree,
    tree_from_levels,
)

rng = setup("onlstm")
F64 = torch.float64

# %% [markdown]
# ## Who remembers what, and for how long?
#
# A recurrent network reads a sentence word by word and keeps a vector of memory. Some of what it should remember changes with every word. Some holds for a phrase, some for a clause, some for the whole
# text. An LSTM may learn that by itself, but nobody can say which of its neurons does what: their order means nothing.
#
# The idea of this chapter {cite:p}`su2019onlstm,shen2019onlstm` is to *give* the order a meaning. Low neurons are for what is short, high ones for what lasts. At each word the network decides two things only: down to which level the past has a claim to the memory,
# and up to which level the new word has one. Below, by hand: seven words, six levels, and for every level and every word, who wrote what is remembered there. (Here the two claims meet in one level, where the new word wins; the highest level keeps what stood there before the sentence.)

# %% tags=["hide-input"]
WORDS = ["the₁", "old", "cat", "sat", "on", "the₂", "mat"]
# By hand: the past has a claim to this level and those above, the word to this level and those below.
LEVELS = [2, 1, 0, 4, 3, 2, 0]


def draw_tree(ax, tree, fontsize=11):
    """A tree above its words; brackets meet in the middle of what they span."""
    tokens = leaves(tree)

    def walk(node, start):
        if isinstance(node, str):
            return start, 0.0, start + 1
        ends, stop = [], start
        for child in node:
            x, y, stop = walk(child, stop)
            ends.append((x, y))
        top = max(y for _, y in ends) + 1
        middle = (ends[0][0] + ends[-1][0]) / 2
        for x, y in ends:
            ax.plot([middle, x], [top, y], color=plotting.BLUE, lw=1.4)
        return middle, top, stop

    walk(tree, 0)
    for place, token in enumerate(tokens):
        ax.text(place, -0.25, token, ha="center", va="top", fontsize=fontsize)
    ax.set(xlim=(-0.6, len(tokens) - 0.4), ylim=(-1.1, None))
    ax.axis("off")


# %% mystnb={"figure": {"caption": "Above: the memory after each word, a column. A cell shows the word that wrote it, each word in its colour; a dot is what was there before the sentence. High levels keep their content for long, low ones change with every word. Below: the tree that the levels imply: the word that writes up to the highest level begins something new.", "name": "onlstm-idea"}, "image": {"alt": "A grid of six levels and seven words. The top row keeps what was there before; the row below changes at sat only; lower rows change more often. Below it a binary tree over the old cat sat on the mat, which splits before sat first."}} tags=["hide-input"]
def memory_by_hand(levels, n):
    """Which word wrote each level, after each word, 0 for none: (n, T)."""
    c, columns = torch.zeros(n, dtype=F64), []
    for t, level in enumerate(levels):
        new = torch.full((n,), t + 1.0, dtype=F64)
        forget, take = torch.zeros_like(c), torch.ones_like(c)
        # Where both claim a level, here the new word wins: f = 0, i = 1.
        c = segmented_update(c, new, forget, take, level, level)
        columns.append(c)
    return torch.stack(columns, 1).long()


wrote = memory_by_hand(LEVELS, 6).numpy()
tree = tree_from_levels(WORDS, LEVELS)
# The levels that one sees: how high each word writes. The tree is theirs.
shown = [int(np.flatnonzero(wrote[:, t] == t + 1).max()) for t in range(7)]
assert shown == LEVELS
assert tree_from_levels(WORDS, shown) == tree
assert tree == [["the₁", ["old", "cat"]], ["sat", ["on", ["the₂", "mat"]]]]
fig, (ax, below) = plotting.panels(2, height=2.4)
ax.imshow(
    np.ma.masked_equal(wrote, 0),
    cmap="Set3",
    origin="lower",
    aspect="auto",
    vmin=1,
    vmax=12,
)
for (level, t), who in np.ndenumerate(wrote):
    name = WORDS[who - 1] if who else "·"
    ax.text(t, level, name, ha="center", va="center", fontsize=9)
ax.set(
    ylabel="level",
    xticks=range(7),
    xticklabels=WORDS,
    yticks=range(6),
    yticklabels=range(1, 7),
)
ax.grid(False)
draw_tree(below, tree)
plt.show()

# %% [markdown]
# Two things are remarkable. The network can be made differentiable, so that it *learns* the two decisions from nothing but the task of predicting the next word. And after that one can read them off, sentence by sentence, and draw
# trees that nobody has shown it. The article calls the design vivid and the paper's account of it as obscure as a book from heaven (天书); so this chapter takes the article's way, from the hard decisions to
# the soft ones, and nothing falls from the sky. Then it checks what has been claimed about the trees.
#
# ## An LSTM does not know the order of its neurons
#
# The article's equation (1), the LSTM {cite:p}`hochreiter1997`. Three gates between 0 and 1, a candidate, a memory $c_t$ and an output $h_t$ ($\circ$ multiplies entry by entry):
#
# $$
# \begin{aligned}
# f_t&=\sigma(W_fx_t+U_fh_{t-1}+b_f)\\ i_t&=\sigma(W_ix_t+U_ih_{t-1}+b_i)\\ o_t&=\sigma(W_ox_t+U_oh_{t-1}+b_o)\\
# \hat c_t&=\tanh(W_cx_t+U_ch_{t-1}+b_c)\\ c_t&=f_t\circ c_{t-1}+i_t\circ\hat c_t\\ h_t&=o_t\circ\tanh(c_t)
# \end{aligned}
# $$ (onlstm-eq1)
#
# In the package the four products are one, `ih` for the input and `hh` for the recurrence:

# %%
source(LSTMCell)

# %% [markdown]
# It is PyTorch's LSTM, but for the order of the blocks of weights. Copied over, the two agree to the last digits of float64, step by step.


# %%
def from_torch(cell, theirs):
    """Give our LSTM cell the weights of torch's; its order is i, f, g, o."""
    for own, name in ((cell.ih, "ih"), (cell.hh, "hh")):
        for kind in ("weight", "bias"):
            i, f, g, o = getattr(theirs, f"{kind}_{name}").detach().chunk(4)
            getattr(own, kind).data = torch.cat([o, g, i, f])


theirs = nn.LSTMCell(3, 8).double()
ours = LSTMCell(3, 8).double()
from_torch(ours, theirs)
x = torch.randn(6, 2, 3, generator=rng, dtype=F64)


def states(cell, x):
    """h and c after each step, from zeros."""
    state, found = (torch.zeros(2, 8, dtype=F64),) * 2, []
    for step in x:
        state = cell(step, state)
        found.append(torch.stack(state))
    return torch.stack(found)


apart = (states(ours, x) - states(theirs, x)).abs().max().item()
verdict("onlstm.eq1", holds=apart < 1e-12)

# %% [markdown]
# Now shuffle the neurons. Permute the rows that produce the gates, and the columns of $U$ that read $h$. Each neuron computes what it computed before, in another place: the output is permuted, and that is all. Let the next layer's weights $W$ be permuted in the
# same way, and its output does not change at all. So *the order of an LSTM's neurons carries no information*; it is as accidental as the order of rows in a spreadsheet.
#
# An ON-LSTM (its cell comes below) is different. A permutation inside a level does nothing, either, but one across levels makes it another network.


# %%
def shuffled(cell, order):
    """The same cell with its neurons in another order."""
    other = type(cell)(*sizes(cell)).double()
    masters = 2 * cell.num_levels
    rows = torch.cat([torch.arange(masters)] + 4 * [order])
    rows[masters:] += masters + torch.arange(4).repeat_interleave(8) * 8
    for part in ("ih", "hh"):
        layer = getattr(cell, part)
        getattr(other, part).weight.data = layer.weight.data[rows]
        getattr(other, part).bias.data = layer.bias.data[rows]
    other.hh.weight.data = other.hh.weight.data[:, order]
    return other


def sizes(cell):
    more = (cell.num_levels,) if cell.num_levels else ()
    return (cell.input_size, cell.hidden_size, *more)


@torch.no_grad()
def outputs(cell, x):
    state, found = None, []
    for step in x:
        state = cell(step, state)
        found.append(state[0])
    return torch.stack(found)


def worst(cell, order):
    """How far the shuffled cell is from the cell with shuffled outputs."""
    change = outputs(shuffled(cell, order), x) - outputs(cell, x)[..., order]
    return change.abs().max().item()


anyhow = torch.tensor([5, 2, 7, 0, 3, 1, 6, 4])
inside = torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])  # the two of each level
ordered = ONLSTMCell(3, 8, 4).double()
same = {
    "LSTM, any order": worst(ours, anyhow) < 1e-12,
    "ON-LSTM, inside levels": worst(ordered, inside) < 1e-12,
    "ON-LSTM, across levels": worst(ordered, anyhow) < 1e-12,
}
print("the same network:", same)

second = LSTMCell(8, 8).double()
reads_shuffled = LSTMCell(8, 8).double()
reads_shuffled.load_state_dict(second.state_dict())
reads_shuffled.ih.weight.data = second.ih.weight.data[:, anyhow]
stack = outputs(second, outputs(ours, x))
stack_shuffled = outputs(reads_shuffled, outputs(shuffled(ours, anyhow), x))
unchanged = (stack - stack_shuffled).abs().max().item()

# %%
verdict(
    "onlstm.perm",
    holds=worst(ours, anyhow) < 1e-12
    and unchanged < 1e-12
    and worst(ordered, anyhow) > 0.01,
)

# %% [markdown]
# ## The past owns the high levels, the new word the low ones
#
# So let us use the order. Index 1 of $c_t$ is the lowest level, index $n$ the highest. Gates, candidate and output stay as they are; this is the article's equation (2):
#
# $$
# f_t,\,i_t,\,o_t,\,\hat c_t\ \text{as in (1)},\qquad h_t=o_t\circ\tanh(c_t).
# $$ (onlstm-eq2)
#
# What changes is how $c_t$ is made. Think of an empty vector, a disk on which nothing is written. Before anything is written, the network predicts two integers, which are the levels of the history and of the input (3):
#
# $$
# d_f=F_1(x_t,h_{t-1}),\qquad d_i=F_2(x_t,h_{t-1}).
# $$ (onlstm-eq3)
#
# The history holds what is general, so it claims the levels from $d_f$ *up*. The input is a single word, and a word always concerns the lowest levels, so it claims those from the lowest one up *to* $d_i$. Either the two claims overlap, or they leave a gap.
#
# **They overlap** ($d_f\le d_i$). Where only one of them has a claim, it copies its own content; where both have one, an LSTM decides (4):
#
# $$
# c_t=\begin{pmatrix}\hat c_{t,<d_f}\\ f_{t,[d_f:d_i]}\circ c_{t-1,[d_f:d_i]}+i_{t,[d_f:d_i]}\circ\hat c_{t,[d_f:d_i]}\\ c_{t-1,>d_i}\end{pmatrix}
# $$ (onlstm-eq4)
#
# **They leave a gap** ($d_f>d_i$). Nobody has written between them, and it stays empty (5):
#
# $$
# c_t=\begin{pmatrix}\hat c_{t,\le d_i}\\ 0_{(d_i:d_f)}\\ c_{t-1,\ge d_f}\end{pmatrix}
# $$ (onlstm-eq5)
#
# Word for word in code, with the three segments of each case and 1-based levels as in the formulas:


# %%
def literal(c_prev, c_hat, f, i, d_f, d_i):
    """Equations (4) and (5), segment by segment."""
    n = len(c_prev)
    c = torch.zeros(n, dtype=c_prev.dtype)
    for k in range(1, n + 1):
        j = k - 1
        if d_f <= d_i:
            if k < d_f:
                c[j] = c_hat[j]
            elif k <= d_i:
                c[j] = f[j] * c_prev[j] + i[j] * c_hat[j]
            else:
                c[j] = c_prev[j]
        elif k <= d_i:
            c[j] = c_hat[j]
        elif k >= d_f:
            c[j] = c_prev[j]
    return c


# %% mystnb={"figure": {"caption": "The update for six pairs of integers, with n = 9. The coloured bars are computed: each neuron's colour says how much of the past and of the input is in its new content.", "name": "onlstm-segments"}, "image": {"alt": "Six rows of nine cells. Where the history's level is at most the input's, blue cells of the past stand above, orange cells of the input below, and green mixed cells between; where it is higher, white empty cells lie between."}} tags=["hide-input"]
def who_owns(d_f, d_i, n):
    """0 empty, 1 the past, 2 the input, 3 both, for each level."""
    one, none = torch.ones(n, dtype=F64), torch.zeros(n, dtype=F64)
    past = segmented_update(one, none, one / 2, one / 2, d_f - 1, d_i - 1)
    new = segmented_update(none, one, one / 2, one / 2, d_f - 1, d_i - 1)
    return ((past > 0) + 2 * (new > 0)).int()


PAIRS = [(3, 7), (2, 3), (5, 5), (6, 5), (7, 3), (9, 1)]
SHADES = ["white", plotting.SKY, plotting.ORANGE, plotting.GREEN]
fig, ax = plotting.panels(1, height=3.4)
for row, (d_f, d_i) in enumerate(PAIRS):
    for k, owner in enumerate(who_owns(d_f, d_i, 9).tolist()):
        ax.add_patch(
            plt.Rectangle((k + 0.5, row), 1, 0.7, fc=SHADES[owner], ec="#555")
        )
labels = [f"d_f = {f}, d_i = {i}" for f, i in PAIRS]
for name, shade in zip(("empty", "past", "input", "mixed"), SHADES):
    ax.add_patch(plt.Rectangle((0, 0), 0, 0, fc=shade, ec="#555", label=name))
ax.set(
    xlim=(0.4, 9.6),
    ylim=(len(PAIRS), -0.3),
    xlabel="level",
    xticks=range(1, 10),
    yticks=[row + 0.35 for row in range(len(PAIRS))],
    yticklabels=labels,
)
ax.grid(False)
ax.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.4, 1.15))
plt.show()

# %% [markdown]
# That is the whole design. Since the past is *copied* in the high levels, it can stay there for long; since the input is copied in the low ones, they change with every word. Different spans at different levels: that is a hierarchy.
#
# ## One formula does both cases
#
# Integers and cases cannot be trained. The first step towards gradients is to write both cases as one formula (6). Let $1_k$ be the vector with a single 1 at place $k$, and
#
# $$
# \begin{aligned}
# \tilde f_t&=\overrightarrow{\mathrm{cs}}(1_{d_f}),\qquad\tilde i_t=\overleftarrow{\mathrm{cs}}(1_{d_i}),\qquad\omega_t=\tilde f_t\circ\tilde i_t,\\
# c_t&=\omega_t\circ(f_t\circ c_{t-1}+i_t\circ\hat c_t)+(\tilde f_t-\omega_t)\circ c_{t-1}+(\tilde i_t-\omega_t)\circ\hat c_t,
# \end{aligned}
# $$ (onlstm-eq6)
#
# where $\overrightarrow{\mathrm{cs}}$ and $\overleftarrow{\mathrm{cs}}$ are cumulative sums to the right and to the left (7):
#
# $$
# \begin{aligned}
# \overrightarrow{\mathrm{cs}}([x_1,\dots,x_n])&=[x_1,\;x_1+x_2,\;\dots,\;x_1+\dots+x_n],\\
# \overleftarrow{\mathrm{cs}}([x_1,\dots,x_n])&=[x_1+\dots+x_n,\;\dots,\;x_{n-1}+x_n,\;x_n].
# \end{aligned}
# $$ (onlstm-eq7)
#
# Why this is the same: $\overrightarrow{\mathrm{cs}}(1_{d_f})$ is $0\dots01\dots1$ with the first 1 at $d_f$, which is just the claim of the past; $\overleftarrow{\mathrm{cs}}(1_{d_i})$ is $1\dots10\dots0$ with the last 1 at $d_i$, the claim of the input. Their product
# $\omega_t$ marks what both claim, $\tilde f_t-\omega_t$ what only the past claims, and $\tilde i_t-\omega_t$ what only the input does. Where nobody does, all three are 0. For a proof by exhaustion, take every pair of levels for every $n$ up to 12:


# %%
def one_formula(c_prev, c_hat, f, i, d_f, d_i):
    n = len(c_prev)
    past = torch.cumsum(torch.eye(n, dtype=F64)[d_f - 1], 0)
    new = torch.eye(n, dtype=F64)[d_i - 1].flip(0).cumsum(0).flip(0)
    both = past * new
    mixed = both * (f * c_prev + i * c_hat)
    return mixed + (past - both) * c_prev + (new - both) * c_hat


def all_pairs(longest=12):
    """(overlap or gap, the formula agrees, the package agrees) for each pair."""
    for n in range(1, longest + 1):
        for d_f, d_i in itertools.product(range(1, n + 1), repeat=2):
            parts = torch.rand(4, n, generator=rng, dtype=F64)
            wanted = literal(*parts, d_f, d_i)
            same = torch.allclose(one_formula(*parts, d_f, d_i), wanted)
            hard = segmented_update(*parts, d_f - 1, d_i - 1)
            case = "overlap" if d_f <= d_i else "gap"
            yield case, same, torch.equal(hard, wanted)


results = list(all_pairs())
agree = {
    case: [same for kind, same, _ in results if kind == case]
    for case in ("overlap", "gap")
}
packaged = [equal for _, _, equal in results]
print({case: f"{sum(ok)} of {len(ok)}" for case, ok in agree.items()})

# %%
numbers = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0], dtype=F64)
right = [numbers[:k].sum().item() for k in range(1, 6)]
left = [numbers[k:].sum().item() for k in range(5)]
cell = ONLSTMCell(3, 9, 9).double()  # F₁ and F₂: its most probable levels


def two_integers(x, h):
    """d_f and d_i, from 1 to 9, for each row."""
    logits = (cell.ih(x) + cell.hh(h))[:, :18].unflatten(1, (2, 9))
    return logits.argmax(-1).flip(1) + 1


words, pasts = (
    5 * torch.randn(200, size, generator=rng, dtype=F64) for size in (3, 9)
)
d = two_integers(words, pasts)
of_word = bool((two_integers(-words, pasts) != d).any(0).all())
of_past = bool((two_integers(words, -pasts) != d).any(0).all())
verdict(
    "onlstm.eq3",
    holds=of_word and of_past and d.min() >= 1 and bool((d <= 9).all()),
)
verdict("onlstm.eq4", holds=all(agree["overlap"]) and all(packaged))
verdict("onlstm.eq5", holds=all(agree["gap"]) and all(packaged))
verdict("onlstm.eq6", holds=all(agree["overlap"] + agree["gap"]))
verdict(
    "onlstm.eq7",
    holds=numbers.cumsum(0).tolist() == right
    and numbers.flip(0).cumsum(0).flip(0).tolist() == left,
)

# %% [markdown]
# The article explains its formula in words. What only one side claims is its range less the intersection, it says, which is so. In other words, $\tilde f_t-\omega_t$ is 1 *from* $\max(d_f,d_i)$ on and $\tilde i_t-\omega_t$ is 1 from 0 *to* $\min(d_f,d_i)$; the braces under the formula say *greater than* $\max$ and *less than* $\min$. Each of these two
# is right in one case and off by one place in the other:


# %%
def readings(n):
    """In which cases each of the article's descriptions is right."""
    cases = {"overlap": [], "gap": []}
    k = torch.arange(1, n + 1)
    for d_f, d_i in itertools.product(range(1, n + 1), repeat=2):
        past, new = k >= d_f, k <= d_i
        only_past, only_new = past & ~new, new & ~past
        high, low = max(d_f, d_i), min(d_f, d_i)
        text = (
            torch.equal(only_past, k >= high),
            torch.equal(only_new, k <= low),
        )
        brace = torch.equal(only_past, k > high), torch.equal(only_new, k < low)
        case = "overlap" if d_f <= d_i else "gap"
        cases[case].append((all(text), all(brace)))
    return {case: [all(c) for c in zip(*rows)] for case, rows in cases.items()}


found = readings(8)
print("in the text ", {case: ok[0] for case, ok in found.items()})
print("in the brace", {case: ok[1] for case, ok in found.items()})

# %% [markdown]
# A slip of one phrase, and a harmless one, since code follows the formula.

# %%
verdict(
    "onlstm.segments",
    holds=found["overlap"][0] and found["gap"][0],
    restricted=found["gap"][0] and found["overlap"][1],
)

# %% [markdown]
# ## Two softmaxes make it differentiable
#
# The cumulative sums do not care what they sum. So put a distribution in the place of each one-hot vector, as in the chapter {doc}`smoothing` (8):
#
# $$
# \begin{aligned}
# 1_{d_f}&\approx\mathrm{softmax}(W_{\tilde f}x_t+U_{\tilde f}h_{t-1}+b_{\tilde f}),\\
# 1_{d_i}&\approx\mathrm{softmax}(W_{\tilde i}x_t+U_{\tilde i}h_{t-1}+b_{\tilde i}).
# \end{aligned}
# $$ (onlstm-eq8)
#
# The network is no longer sure where the past ends; it has a probability for each level. $\tilde f_t(k)$ is then the probability that level $k$ belongs to the past, $\sum_{j\le k}P(d_f=j)=P(d_f\le k)$, which rises with $k$; and $\tilde i_t(k)=P(d_i\ge k)$ falls. These are the *master gates*. With them the
# update (6) becomes (9):
#
# $$
# \begin{aligned}
# \tilde f_t&=\overrightarrow{\mathrm{cs}}\bigl(\mathrm{softmax}(W_{\tilde f}x_t+U_{\tilde f}h_{t-1}+b_{\tilde f})\bigr)\\
# \tilde i_t&=\overleftarrow{\mathrm{cs}}\bigl(\mathrm{softmax}(W_{\tilde i}x_t+U_{\tilde i}h_{t-1}+b_{\tilde i})\bigr)\\
# \omega_t&=\tilde f_t\circ\tilde i_t\\
# c_t&=\omega_t\circ(f_t\circ c_{t-1}+i_t\circ\hat c_t)+(\tilde f_t-\omega_t)\circ c_{t-1}+(\tilde i_t-\omega_t)\circ\hat c_t
# \end{aligned}
# $$ (onlstm-eq9)
#
# The paper writes cumax for $\overrightarrow{\mathrm{cs}}(\mathrm{softmax}(\cdot))$. In the package:

# %%
source(cumax, reverse_cumax)

# %% tags=["hide-input"]
logits_f = torch.tensor([0.2, 0.4, 1.0, 0.1, 0.8, 1.5, 0.3, 0.6], dtype=F64)
logits_i = torch.tensor([0.5, 0.9, 0.2, 1.4, 0.3, 0.1, 0.7, 0.2], dtype=F64)
levels = list(range(1, 9))
frames = []
for scale in (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0):
    past, new = cumax(scale * logits_f), reverse_cumax(scale * logits_i)
    curves = {
        "past, f̃": (past, plotting.SKY, "circle"),
        "input, ĩ": (new, plotting.ORANGE, "square"),
        "both, ω": (past * new, plotting.GREEN, "diamond"),
    }
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": name,
            "x": levels,
            "y": values.tolist(),
            "line": {"color": colour},
            "marker": {"symbol": symbol, "size": 9},
        }
        for name, (values, colour, symbol) in curves.items()
    ]
    frames.append((f"{scale:g}", traces))
plotting.slider_figure(
    frames,
    start=1,
    prefix="logits × ",
    caption="Master gates of eight levels. With larger logits the soft gates become the hard ones: here the past owns level 6 and above, the input level 4 and below, and level 5 is empty.",
    alt="Three curves over eight levels: a rising one for the past, a falling one for the input, and their product. As the slider goes up they turn into steps.",
    xaxis={"title": "level"},
    yaxis={"title": "gate", "range": [-0.05, 1.05]},
    legend={"orientation": "h", "y": 1.12},
)

# %% [markdown]
# Is that a good way to soften? Two answers. With larger and larger logits the soft update tends to the hard one, for every pair of levels. And for *any* logits, if $d_f$ and $d_i$ are drawn independently from their two distributions, the soft update is exactly the *expected* hard update: (6) is linear in $\omega$, $\tilde f$ and $\tilde i$, and
# $\mathbb E[\tilde f\circ\tilde i]=\mathbb E[\tilde f]\circ\mathbb E[\tilde i]$. (The paper introduces its gates as such expectations; that their product is one as well takes the independence.) Both by enumeration:


# %%
def soft_update(parts, logits_f, logits_i):
    """Equation (9) for given logits of the two levels."""
    c_prev, c_hat, f, i = parts
    past, new = cumax(logits_f), reverse_cumax(logits_i)
    both = past * new
    mixed = both * (f * c_prev + i * c_hat)
    return mixed + (past - both) * c_prev + (new - both) * c_hat


parts = torch.rand(4, 8, generator=rng, dtype=F64)
every = list(itertools.product(range(8), repeat=2))
one_hot = torch.eye(8, dtype=F64)


def largest_gap(scale):
    """Between the soft and the hard update, over all pairs of levels."""
    return max(
        (
            soft_update(parts, scale * one_hot[a], scale * one_hot[b])
            - segmented_update(*parts, a, b)
        )
        .abs()
        .max()
        .item()
        for a, b in every
    )


gap = {scale: largest_gap(scale) for scale in (1, 10, 100)}
p_f, p_i = logits_f.softmax(0), logits_i.softmax(0)
expected = sum(
    p_f[a] * p_i[b] * segmented_update(*parts, a, b) for a, b in every
)
is_expected = torch.allclose(soft_update(parts, logits_f, logits_i), expected)
many = 5 * torch.randn(500, 8, generator=rng, dtype=F64)
rises = bool((cumax(many).diff() >= 0).all())
falls = bool((reverse_cumax(many).diff() <= 0).all())
print("largest difference, 64 pairs:", {k: round(v, 4) for k, v in gap.items()})
verdict("onlstm.eq8", holds=gap[100] < 1e-12 and gap[1] > 0.1)
verdict("onlstm.eq9", holds=rises and falls and is_expected)

# %% [markdown]
# Everything together is the complete cell (10):
#
# $$
# \begin{aligned}
# f_t,i_t,o_t,\hat c_t&\ \text{as in (1)},\qquad\tilde f_t,\tilde i_t,\omega_t\ \text{as in (9)}\\
# c_t&=\omega_t\circ(f_t\circ c_{t-1}+i_t\circ\hat c_t)+(\tilde f_t-\omega_t)\circ c_{t-1}+(\tilde i_t-\omega_t)\circ\hat c_t\\
# h_t&=o_t\circ\tanh(c_t)
# \end{aligned}
# $$ (onlstm-eq10)

# %%
source(ONLSTMCell)

# %% [markdown]
# Two checks. First, an independent loop in NumPy, written from the formulas, must give the same numbers, and the gradients must be those of finite differences. Second, if the past claims everything and the input claims everything ($\tilde f_t=\tilde i_t=1$), then $\omega_t=1$ and what is left is the LSTM: the gates of (2) are
# those of (1).


# %%
def by_hand(cell, x):
    """Equations (10) in NumPy, one sequence, one neuron after another."""
    w, u = cell.ih.weight.detach().numpy(), cell.hh.weight.detach().numpy()
    b = (cell.ih.bias + cell.hh.bias).detach().numpy()
    n, size = cell.num_levels, cell.hidden_size
    h, c, found = np.zeros(size), np.zeros(size), []
    for step in x.numpy():
        z = w @ step + u @ h + b
        p_i, p_f = (np.exp(v) / np.exp(v).sum() for v in (z[:n], z[n : 2 * n]))
        o, g, i, f = z[2 * n :].reshape(4, size)
        o, i, f = (1 / (1 + np.exp(-v)) for v in (o, i, f))
        for j in range(size):
            level = j * n // size  # each level has size/n neurons
            past, new = p_f[: level + 1].sum(), p_i[level:].sum()
            both = past * new
            hat = np.tanh(g[j])
            c[j] = (
                both * (f[j] * c[j] + i[j] * hat)
                + (past - both) * c[j]
                + (new - both) * hat
            )
        h = o * np.tanh(c)
        found.append(h)
    return np.array(found)


cell = ONLSTMCell(3, 8, 4).double()
difference = np.abs(
    outputs(cell, x[:, :1])[:, 0].numpy() - by_hand(cell, x[:, 0])
)
starts = [torch.randn(2, 8, generator=rng, dtype=F64) for _ in range(2)]
for tensor in starts:
    tensor.requires_grad_()
gradients = torch.autograd.gradcheck(
    lambda h, c: cell(x[0], (h, c)), tuple(starts)
)
everything = ONLSTMCell(3, 8, 4).double()
everything.load_state_dict(cell.state_dict())
masters = torch.tensor([-1e3, -1e3, -1e3, 1e3, 1e3, -1e3, -1e3, -1e3])
everything.ih.bias.data[:8] = (
    masters  # the input up to the top, the past from the bottom
)
plain = LSTMCell(3, 8).double()
for part in ("ih", "hh"):
    for kind in ("weight", "bias"):
        rest = getattr(getattr(everything, part), kind).data[8:]
        getattr(getattr(plain, part), kind).data = rest.clone()
apart = (outputs(everything, x) - outputs(plain, x)).abs().max().item()
verdict("onlstm.eq2", holds=apart < 1e-12)
verdict("onlstm.eq10", holds=bool(difference.max() < 1e-12) and gradients)

# %% [markdown]
# ## The paper's input gate is the article's, one level lower, and its top level is dead
#
# The article remarks that the paper defines the master input gate differently (11):
#
# $$
# \tilde i_t=1-\mathrm{cumax}(W_{\tilde i}x_t+U_{\tilde i}h_{t-1}+b_{\tilde i}),
# $$ (onlstm-eq11)
#
# that this falls likewise and usually makes little difference; by symmetry it prefers its own. Let us see how large the difference is. With $p=\mathrm{softmax}(\cdot)$,
#
# $$
# 1-\sum_{j\le k}p_j=\sum_{j>k}p_j=\sum_{j\ge k+1}p_j,
# $$
#
# so the paper's gate at level $k$ is the article's at level $k+1$: *the same gate, shifted by one level*. The difference is $p_k$ at level $k$, and $\sum_kp_k=1$ whatever the logits are. They never coincide. With $n$ levels the average difference is $1/n$: little for the paper's 115 levels, much for 4.

# %%
logits = 4 * torch.randn(1000, 6, generator=rng, dtype=F64)
article, paper = reverse_cumax(logits), 1 - cumax(logits)
shifted = torch.allclose(paper[:, :-1], article[:, 1:])
total = (article - paper).abs().sum(-1)
always_one = torch.allclose(total, torch.ones_like(total))
both_fall = bool((paper.diff() <= 1e-12).all())
apart_with = {}
for levels in (4, 16, 115):
    z = 4 * torch.randn(1000, levels, generator=rng, dtype=F64)
    gap = (reverse_cumax(z) - 1 + cumax(z)).abs()
    apart_with[levels] = gap.mean().item()
verdict(
    "onlstm.eq11",
    # "Little", where levels are as many as in the paper.
    holds=both_fall and shifted and always_one and apart_with[115] < 0.01,
    measured={
        f"mean difference with {n} levels": round(value, 4)
        for n, value in apart_with.items()
    },
)

# %% [markdown]
# One level has no level above it. The paper's gate is 0 at the highest one: the input never writes there. Nor does anything else, since what stands there is copied from the past with weight $\tilde f_t(n)=1$, and the past began with zeros. **The highest level of the published implementation is dead**: with chunks of ten neurons, ten neurons a layer
# are zero for ever. Run both, with any weights and any input:


# %%
def top_level(master_input):
    """The largest entry of the memory's highest level, ever."""
    rnn = ONLSTM(5, 12, 4, master_input=master_input).double()
    noise = 3 * torch.randn(8, 200, 5, generator=rng, dtype=F64)
    with torch.no_grad():
        memory = rnn.trace(noise)[0].c
    return memory[..., -3:].abs().max().item()


tops = {kind: top_level(kind) for kind in ("complement", "cumsum")}
print({kind: "zero" if top < 1e-12 else "alive" for kind, top in tops.items()})
verdict(
    "onlstm.claim7", holds=tops["complement"] < 1e-12 and tops["cumsum"] > 0.01
)

# %% [markdown]
# That is why the package has both: `master_input="cumsum"`, the article's, and `"complement"`, which takes published weights (`ONLSTM.load_paper_weights`; no such file is at hand here, so this was tested with random weights, against the published forward written out from its source; in evaluation that multiplies $U$ by 1 − the rate of its DropConnect, which is the argument `dropconnect`).
#
# ## A level is a group of neurons
#
# A sentence has few levels, an LSTM has hundreds of neurons. So $n=pq$ neurons form $p$ levels of $q$ neurons, which share their master gates. That also keeps the number of weights down. A layer with input size $D$ and $H$ neurons has $4H(D+H+2)$ weights as an LSTM, counting both biases, and $(4H+2p)(D+H+2)$ as an ON-LSTM, a
# share of $1+\frac{p}{2H}=1+\frac1{2q}$:

# %%
rows = ["| H | levels p | neurons a level q | LSTM | ON-LSTM | ratio |"]
rows.append("|---|---|---|---|---|---|")
ratios = {}
for hidden, p in ((64, 64), (64, 16), (400, 40), (1150, 115)):
    counts = [
        sum(weight.numel() for weight in net.parameters())
        for net in (LSTM(400, [hidden]), ONLSTM(400, hidden, p))
    ]
    ratios[hidden, p] = counts[1] / counts[0]
    cells = [hidden, p, hidden // p, *(f"{c:,}" for c in counts)]
    rows.append(f"| {' | '.join(map(str, cells))} | {ratios[hidden, p]:.3f} |")
display(Markdown("\n".join(rows)))
gate = ONLSTM(5, 12, 4).double().trace(x.new_ones(1, 3, 5))[0].master_forget
verdict(
    "onlstm.group",
    holds=all(
        math.isclose(ratio, 1 + p / (2 * h)) for (h, p), ratio in ratios.items()
    )
    and gate.shape == (1, 3, 4),
)

# %% [markdown]
# The stack does two things that the cell does not. It multiplies the inputs of *all* times by $W$ at once, before the loop. And it knows its own derivative: in the form $c_t=F_t\circ c_{t-1}+I_t\circ\hat c_t$ with $F=\omega\circ f+\tilde f-\omega$ and $I=\omega\circ i+\tilde i-\omega$ the gradients are linear in those of $c_t$ and $h_t$, so all their
# coefficients are computed for all times together, the gradient of $U$ is one product instead of one for each time, and what is left in the loop is short. The same gradients as from the cells in a loop, sooner:


# %% tags=["nbval-ignore-output"]
def seconds(step, rounds=5):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times)


def cells_in_a_loop(rnn, x):
    for cell in rnn.cells:
        state, found = None, []
        for step in x.unbind(1):
            state = cell(step, state)
            found.append(state[0])
        x = torch.stack(found, 1)
    return x


rnn, batch = ONLSTM(64, 128, 16, num_layers=2), torch.randn(16, 35, 64)
fast = seconds(lambda: rnn(batch)[0].sum().backward())
slow = seconds(lambda: cells_in_a_loop(rnn, batch).sum().backward())
print(f"training step, 2 layers of 128: {slow / fast:.1f} times as fast")
gradients_of = []
for read in (lambda: rnn(batch)[0], lambda: cells_in_a_loop(rnn, batch)):
    rnn.zero_grad()
    read().square().sum().backward()
    gradients_of.append([p.grad.clone() for p in rnn.parameters()])
for one, other in zip(*gradients_of):
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-3)

# %% [markdown]
# In `benchmarks/` is the comparison at the paper's sizes, with PyTorch's own LSTM beside it.
#
# ## How much is forgotten says where something new begins
#
# Now to the trees. The distribution before the cumulative sum (12),
#
# $$
# p_f=\mathrm{softmax}(W_{\tilde f}x_t+U_{\tilde f}h_{t-1}+b_{\tilde f}),
# $$ (onlstm-eq12)
#
# says where the history begins. One may take its most probable level (13),
#
# $$
# d_f\approx\operatorname*{arg\,max}_kp_f(k),
# $$ (onlstm-eq13)
#
# or, softer, as in {doc}`smoothing`, its mean (14):
#
# $$
# d_f\approx\sum_{k=1}^nk\,p_f(k)=n\Bigl(1-\frac1n\sum_{k=1}^n\tilde f_t(k)\Bigr)+1.
# $$ (onlstm-eq14)
#
# The second equality: in $\sum_k\tilde f_t(k)=\sum_k\sum_{j\le k}p_f(j)$ each $p_f(j)$ is counted for $k=j,\dots,n$, which is $n-j+1$ times. So $\sum_k\tilde f_t(k)=\sum_j(n+1-j)\,p_f(j)=n+1-\sum_jj\,p_f(j)$.
#
# The paper's formula (15) ends at $n-\sum_k\tilde f_t(k)$, without the 1. The article calls it wrong, and as an equation it is: by exactly 1, for any $p_f$. (Read as the expected *number of neurons that are let go*, which is $d_f-1$, the paper's right-hand side is right, and its left-hand side is not.) A constant changes no order, so *every tree stays as it is*.

# %%
p = sympy.symbols("p1:7", positive=True)
symbolic = []
for n in range(1, 7):
    probs = [*p[: n - 1], 1 - sum(p[: n - 1])]
    gates = [sum(probs[: k + 1]) for k in range(n)]
    mean = sum((k + 1) * q for k, q in enumerate(probs))
    ours = n * (1 - sum(gates) / n) + 1
    theirs = n - sum(gates)
    apart = sympy.expand(mean - ours), sympy.expand(mean - theirs)
    symbolic.append(tuple(map(int, apart)))
print("the mean, minus (14) and minus the paper's (15):", set(symbolic))

logits = 3 * torch.randn(2000, 7, generator=rng, dtype=F64)
prob = logits.softmax(-1)
mean = (torch.arange(1, 8) * prob).sum(-1)
level = 7 * (1 - cumax(logits).mean(-1)) + 1
sharp = (1e7 * logits).softmax(-1)
argmax = logits.argmax(-1) + 1.0
hard_limit = (torch.arange(1, 8) * sharp).sum(-1)
sums_to_one = torch.allclose(prob.sum(-1), torch.ones_like(mean))
some = ONLSTM(5, 12, 4).double()
text = torch.randn(2, 6, 5, generator=rng, dtype=F64)
ran = some.trace(text)[0]
before = torch.cat([torch.zeros(2, 1, 12, dtype=F64), ran.h[:, :-1]], 1)
literal_p = (some.cells[0].ih(text) + some.cells[0].hh(before))[..., 4:8]
differences = ran.master_forget.diff(dim=-1)
same_p = torch.allclose(differences, literal_p.softmax(-1)[..., 1:])
verdict("onlstm.eq12", holds=sums_to_one and same_p)
verdict("onlstm.eq13", holds=bool((hard_limit - argmax).abs().max() < 0.01))
verdict(
    "onlstm.eq14",
    holds=torch.allclose(mean, level)
    and all(a == 0 and b == 1 for a, b in symbolic),
)

# %% [markdown]
# Divided by $n$ and without the constant, a sentence gets the levels (15)
#
# $$
# \{d_{f,t}\}_{t=1}^{T}=\Bigl\{1-\frac1n\sum_{k=1}^n\tilde f_t(k)\Bigr\}_{t=1}^{T},
# $$ (onlstm-eq15)
#
# numbers in $[0,1)$, which `ONLSTM` returns with its outputs, one for each layer, position and sequence. A high level says: at this word most of the past is let go.

# %%
rnn = ONLSTM(5, 12, 4, num_layers=2).double()
noise = torch.randn(3, 9, 5, generator=rng, dtype=F64)
levels = rnn(noise)[2]
gates = [trace.master_forget for trace in rnn.trace(noise)]
literal_levels = torch.stack([1 - gate.sum(-1) / 4 for gate in gates])
verdict(
    "onlstm.eq15",
    holds=levels.shape == (2, 3, 9)
    and torch.allclose(levels, literal_levels)
    and bool(((levels >= 0) & (levels < 1)).all()),
)

# %% [markdown]
# ## The greedy rule draws trees, but not every tree
#
# The article's algorithm: find the highest level of the sentence, at position $k$, and split the sentence there,
#
# $$
# [\,x_{<k},\;[\,x_k,\;x_{>k}\,]\,],
# $$ (onlstm-alg1)
#
# then do the same with $x_{<k}$ and with $x_{>k}$, until single words are left; where $x_{<k}$ or $x_{>k}$ is empty, so is its bracket. Where the past is forgotten, something new begins, and so the nesting comes out step by step.

# %%
source(tree_from_levels, divided)

# %%
print(tree_from_levels("abcde", [0.1, 0.3, 0.2, 0.9, 0.4]))
print(tree_from_levels("abc", [0.5, 0.5, 0.5]))  # ties: the first

# %% [markdown]
# The algorithm is not as innocent as it looks. {cite:t}`dyer2019` show that it is incomplete, since it can give only a fraction of all trees, and that it is biased to the right. Both can be seen by counting. The word $x_k$ stands alone in front of its part: no bracket begins with it but $[x_k,x_{>k}]$ itself. Compare a rule that only splits, into $x_{<k}$ and $x_{\ge k}$. It reaches every binary tree; the article's does not:

# %%
Catalan = [math.comb(2 * n, n) // (n + 1) for n in range(9)]


def reached(rule, n):
    """The trees of n words that a rule gives for some order of the levels."""
    words = [chr(97 + i) for i in range(n)]
    orders = itertools.permutations(range(n))
    return {str(rule(words, order)) for order in orders}


counts = {
    n: (
        len(reached(tree_from_levels, n)),
        len(reached(split_tree, n)),
        Catalan[n - 1],
    )
    for n in range(1, 8)
}
rows = [
    "| words | article's rule | splits | all binary trees |",
    "|---|---|---|---|",
]
rows += [f"| {n} | {a} | {b} | {c} |" for n, (a, b, c) in counts.items()]
display(Markdown("\n".join(rows)))
missing = "[['a', 'b'], [['c', 'd'], 'e']]"
assert missing in reached(split_tree, 5) - reached(tree_from_levels, 5)


@cache
def possible(n):
    """The same count without enumeration; a tree's k is its first split."""
    if n < 2:
        return 1
    middle = sum(possible(k) * possible(n - k - 1) for k in range(2, n))
    return possible(n - 1) + middle


assert all(possible(n) == a for n, (a, _, _) in counts.items())
share = {
    n: possible(n) / (math.comb(2 * n - 2, n - 1) // n) for n in (10, 20, 40)
}
print("share that is reached:", {n: f"{s:.1%}" for n, s in share.items()})

# %% [markdown]
# With five words one tree is out of reach, $[[a,b],[[c,d],e]]$: after the split at $c$ the word $c$ is alone, so that $[c,d]$ cannot be a bracket. The share that can be reached falls without end. On real sentences the loss is smaller, as left parts are often single words; below the best trees that the rule can give are scored, too.
#
# The same asymmetry makes the rule lean to the right. Draw levels at random, and count how many of the brackets of the right-branching tree come out, and of the left-branching one:

# %%
chance_draws = np.random.default_rng(0)
lean = {}
for name, rule in (
    ("article's rule", tree_from_levels),
    ("splits", split_tree),
):
    hits = {"right": 0, "left": 0}
    words = [str(i) for i in range(10)]
    for _ in range(500):
        guess = brackets(rule(words, chance_draws.random(10)))
        hits["right"] += len(guess & brackets(right_branching(words))) - 1
        hits["left"] += len(guess & brackets(left_branching(words))) - 1
    lean[name] = {side: round(100 * n / (500 * 8)) for side, n in hits.items()}
print("per cent of the brackets, ten words:", lean)
assert lean["article's rule"]["right"] > 1.3 * lean["article's rule"]["left"]

# %% [markdown]
# So *random levels* must be among the baselines of every experiment.

# %%
verdict(
    "onlstm.trees",
    holds=all(b == c for _, b, c in counts.values())
    and counts[4][0] == Catalan[3]
    and all(counts[n][0] < Catalan[n - 1] for n in (5, 6, 7))
    and share[40] < 0.01,
    measured={
        f"{n} words": f"{a} of {c} trees" for n, (a, _, c) in counts.items()
    },
)

# %% [markdown]
# How alike are two trees? By their brackets, taken as spans of words. Leave out single words and the whole sentence, which every tree has. Precision is the share of the predicted brackets that are right, recall the share of the true ones that were found, and F1 their harmonic mean; a score for each sentence, then the mean over sentences:

# %%
source(bracket_f1)

# %% [markdown]
# ## On a grammar with known trees, the levels beat every baseline within seconds
#
# Does it work? First where we know the truth. A small grammar was written down before anything was trained on it: clauses with a topic, noun phrases that may have a second noun phrase attached, verbs with objects, adverbs at the end. Its trees branch to both sides. All nouns, verbs and adjectives of a clause are of its topic, so that a
# language model has something to remember within a clause, and something to forget after it.


# %%
def one_of(draw, words):
    return words[draw.integers(len(words))]


def clause(draw):
    """A tree: a noun phrase and a verb phrase about one of five topics."""
    topic = draw.integers(5)

    def word(kind, count):
        return f"{kind}{topic}.{draw.integers(count)}"

    def core():
        noun = word("noun", 8)
        if draw.random() < 0.4:
            noun = [word("adj", 4), noun]
        return [one_of(draw, ["the", "a", "this"]), noun]

    def noun_phrase():
        first = core()
        if draw.random() < 0.35:
            return [first, [one_of(draw, ["of", "in", "with"]), core()]]
        return first

    verb = [word("verb", 6), noun_phrase()]
    if draw.random() < 0.6:
        verb = [verb, one_of(draw, ["now", "here", "again", "often"])]
    return [noun_phrase(), verb]


def sentence(draw):
    """One clause, or two with a conjunction."""
    first = clause(draw)
    if draw.random() < 0.6:
        link = one_of(draw, ["and", "but", "while"])
        return [first, [link, clause(draw)]]
    return first


draw = np.random.default_rng(1)
GOLD = [sentence(draw) for _ in range(300)]
print(" ".join(leaves(GOLD[1])))


# %%
def mean_f1(predict, gold):
    """Mean sentence F1 in percent of trees that are made from the words."""
    scores = [bracket_f1(predict(leaves(tree)), tree) for tree in gold]
    return 100 * float(np.mean(scores))


def baselines(gold):
    chance = np.random.default_rng(0)
    return {
        "left": mean_f1(left_branching, gold),
        "right": mean_f1(right_branching, gold),
        "balanced": mean_f1(balanced, gold),
        "random splits": mean_f1(
            lambda words: split_tree(words, chance.random(len(words))), gold
        ),
        "random levels": mean_f1(
            lambda words: tree_from_levels(words, chance.random(len(words))),
            gold,
        ),
    }


chance = baselines(GOLD)
print({name: round(score) for name, score in chance.items()})
assert max(chance.values()) < 60

# %% [markdown]
# Now two layers of 64 neurons, 16 levels each, as a language model: predict the next word, nothing else. No tree is shown. Three seeds with the article's input gate and three with the paper's, a few seconds each. (One setting was chosen by looking at the trees of other seeds: the embeddings are not made longer by $\sqrt{64}$, as they are in the larger models below.)


# %%
def train_on(grammar, seed, master_input, steps=250):
    """A language model of 4,000 sentences; returns it and its vocabulary."""
    torch.manual_seed(seed)
    draw = np.random.default_rng([2, seed])
    texts = [leaves(grammar(draw)) for _ in range(4000)]
    vocabulary = data.Vocabulary([*texts, ["<eos>"]])
    ids = [vocabulary.ids(["<eos>", *text, "<eos>"]) for text in texts]
    ids.sort(key=len)
    model = LanguageModel(
        len(vocabulary),
        (64, 64),
        chunk_size=4,
        master_input=master_input,
        embedding_scale=1.0,
    )
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / steps)
        start = draw.integers(len(ids) - 64)
        batch = pad_sequence(ids[start : start + 64], batch_first=True)
        logits = model(batch[:, :-1]).logits.flatten(0, 1)
        loss = cross_entropy(logits, batch[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval(), vocabulary


@torch.no_grad()
def master_gates(model, vocabulary, words):
    """(f̃, ĩ) of each layer at each word, read from a zero state."""
    traces = model.trace(vocabulary.ids(["<eos>", *words]).unsqueeze(0))
    return [(t.master_forget[0, 1:], t.master_input[0, 1:]) for t in traces]


def tree_of(model, vocabulary, words, layer=1, gate="d_f", known=None):
    """The tree of a sentence; words are what the model knows them as."""
    past, new = master_gates(model, vocabulary, known or words)[layer]
    return tree_from_levels(
        words, 1 - past.mean(-1) if gate == "d_f" else new.mean(-1)
    )


KINDS = {"article": "cumsum", "paper": "complement"}
trained = {
    (kind, seed): train_on(sentence, seed, master_input)
    for kind, master_input in KINDS.items()
    for seed in range(3)
}
READINGS = list(itertools.product(("d_f", "d_i"), (0, 1)))


@torch.no_grad()
def levels_of(model, vocabulary, sentences):
    """The levels of the words of each sentence, by reading: 1 − mean f̃ for d_f, mean ĩ for d_i."""
    texts = [vocabulary.ids(["<eos>", *words]) for words in sentences]
    padded = {}
    ids = pad_sequence(texts, batch_first=True)
    for layer, trace in enumerate(model.trace(ids)):
        padded["d_f", layer] = 1 - trace.master_forget.mean(-1)
        padded["d_i", layer] = trace.master_input.mean(-1)
    return {
        reading: [
            row[1 : len(text)].numpy() for row, text in zip(levels, texts)
        ]
        for reading, levels in padded.items()
    }


def f1_of(levels, gold=GOLD):
    """Mean F1 in percent of the trees of levels."""
    trees = [tree_from_levels(leaves(t), v) for t, v in zip(gold, levels)]
    return 100 * float(np.mean([bracket_f1(*p) for p in zip(trees, gold)]))


def averaged(levels, keys):
    """Each level replaced by the mean over all places with the same key."""
    everything, names = np.concatenate(levels), np.concatenate(keys)
    means = {name: everything[names == name].mean() for name in set(names)}
    return [np.array([means[name] for name in part]) for part in keys]


KINDS_OF_WORDS = [
    np.array([word.split(".")[0].rstrip("01234") for word in leaves(tree)])
    for tree in GOLD
]
POSITIONS = [np.arange(len(leaves(tree))) for tree in GOLD]
torch.manual_seed(0)
any_vocabulary = trained["article", 0][1]
untrained = LanguageModel(
    len(any_vocabulary), (64, 64), chunk_size=4, embedding_scale=1.0
).eval()
on_grammar, by_kind, by_position = {}, {}, {}
sentences = [leaves(tree) for tree in GOLD]
for key, found in trained.items():
    for reading, levels in levels_of(*found, sentences).items():
        on_grammar[key, *reading] = f1_of(levels)
        by_kind[key, *reading] = f1_of(averaged(levels, KINDS_OF_WORDS))
        by_position[key, *reading] = f1_of(averaged(levels, POSITIONS))
read = levels_of(untrained, any_vocabulary, sentences)
before_training = {reading: f1_of(levels) for reading, levels in read.items()}

# %% mystnb={"figure": {"caption": "F1 of the grammar's trees, from both master gates and both layers, three seeds each; grey lines are the baselines, of which the highest is labelled.", "name": "onlstm-grammar"}, "image": {"alt": "Points for d_f and d_i in layers 1 and 2, for the article's and the paper's input gate. Horizontal lines mark five baselines, crosses an untrained network."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=3.4)
for offset, kind, marker in ((-0.12, "article", "o"), (0.12, "paper", "s")):
    for place, key in enumerate(READINGS):
        values = [on_grammar[(kind, seed), *key] for seed in range(3)]
        ax.plot(
            [place + offset] * 3,
            values,
            marker,
            color=plotting.BLUE if kind == "article" else plotting.ORANGE,
            label=f"{kind}'s input gate" if place == 0 else None,
        )
for name, score in chance.items():
    ax.axhline(score, color="#999", lw=1)
best = max(chance, key=chance.get)
ax.plot(
    range(4),
    [before_training[key] for key in READINGS],
    "x",
    color=plotting.INK,
    label="untrained",
)
ax.text(-0.4, chance[best] + 1, best, fontsize=9)
ax.set(
    xticks=range(4),
    xticklabels=[f"{gate}, layer {layer + 1}" for gate, layer in READINGS],
    ylabel="F1 (%)",
    ylim=(0, 100),
)
ax.legend(loc="upper right")
plt.show()

# %% mystnb={"figure": {"caption": "What the network does at one sentence of the grammar, one of those whose tree it gets best (second layer, paper's gate, seed 0). Top: the master forget gate of 16 levels; dark is what is let go at a word, light what is kept. Middle: the level, 1 \u2212 mean. Then the tree from these levels, and the true one.", "name": "onlstm-gates"}, "image": {"alt": "A heat map of 16 levels by words, bars of the level with peaks at the beginning of phrases, and two trees of which the upper follows from the bars and resembles the lower, true one."}} tags=["hide-input"]
shown = min(
    (tree for tree in GOLD if 10 <= len(leaves(tree)) <= 11),
    key=lambda tree: (
        -bracket_f1(tree_of(*trained["paper", 0], leaves(tree)), tree)
    ),
)
words = leaves(shown)
past, _ = master_gates(*trained["paper", 0], words)[1]
fig, axes = plotting.panels(4, height=2.0, width=6.0)
edges = (-0.5, len(words) - 0.5, 0.5, 16.5)
axes[0].imshow(
    past.T, origin="lower", aspect="auto", vmin=0, vmax=1, extent=edges
)
axes[0].set(ylabel="level", xticks=[])
axes[0].grid(False)
axes[1].bar(range(len(words)), 1 - past.mean(-1), color=plotting.SKY)
axes[1].set(ylabel="1 − mean f̃", xlim=(-0.6, len(words) - 0.4), xticks=[])
for ax, tree in zip(axes[2:], (tree_of(*trained["paper", 0], words), shown)):
    draw_tree(ax, tree, fontsize=7)
    f1 = 100 * bracket_f1(tree, shown)
    ax.set_title("the true tree" if tree is shown else f"F1 {f1:.0f} %")
plt.show()


# %% tags=["nbval-ignore-output"]
def mean_of(table, gate, layer):
    """Over the six networks."""
    return np.mean([table[key, gate, layer] for key in trained])


rows = [
    "| gate, layer | F1 (six networks) | untrained | by position | by kind of word |"
]
rows.append("|---|---|---|---|---|")
for gate, layer in READINGS:
    values = [on_grammar[key, gate, layer] for key in trained]
    rows.append(
        f"| {gate}, {layer + 1} | {np.mean(values):.0f} ({min(values):.0f} to {max(values):.0f}) | {before_training[gate, layer]:.0f} "
        f"| {mean_of(by_position, gate, layer):.0f} | {mean_of(by_kind, gate, layer):.0f} |"
    )
display(Markdown("\n".join(rows)))
passes_on_grammar = all(
    mean_of(on_grammar, "d_f", layer)
    > max(
        *chance.values(),
        before_training["d_f", layer],
        mean_of(by_position, "d_f", layer),
    )
    for layer in (0, 1)
)
assert passes_on_grammar
TABLE = {"and": 4, "but": 4, "while": 4, "verb": 3, "of": 2, "in": 2, "with": 2}
TABLE |= {"the": 1, "a": 1, "this": 1}
by_table = f1_of(
    [
        np.array([TABLE.get(kind, 0) for kind in kinds])
        for kinds in KINDS_OF_WORDS
    ]
)
ceiling = 100 * np.mean([bracket_f1(best_tree(tree), tree) for tree in GOLD])
print(f"a table of levels for four kinds of words, by hand: {by_table:.0f}")
print(f"the best that the rule can give: {ceiling:.0f}")

# %% tags=["hide-input", "nbval-ignore-output"]
singles = [value for (_, gate, _), value in on_grammar.items() if gate == "d_f"]
over = sum(value > max(chance.values()) for value in singles)
display(
    Markdown(
        f"Of the {len(singles)} readings from $d_f$ (six networks, two layers) {over} score higher than every baseline, "
        f"from {min(singles):.0f} to {max(singles):.0f} where the best baseline, {best}, gets {chance[best]:.0f}. Which layer and which gate carry the tree depends on the seed, with one exception: $d_i$ of the second layer is below random levels in all six networks."
    )
)
assert all(
    on_grammar[key, "d_i", 1] < chance["random levels"] for key in trained
)

# %% [markdown]
# What has the network found? The last two columns take it apart. In *by position* the level of a word is replaced by the mean level of all words at its place in the sentence: what is left is a lean, and it does not suffice. In *by kind of word* it is replaced by the mean level of its kind (of all nouns, of all determiners, and so on). That is
# for $d_f$ as good as the levels themselves, or better. So what the network has learned about this grammar is, in essence, *a level for each kind of word*: a preposition opens more than a determiner does. Four levels set by hand do it better still. That is less than a parser, which would give the same word different levels in different places, and
# more than the network was told: it had to find out what kinds of words there are.
#
# ## On English, the trees depend on the seed
#
# Now real language, in recorded runs (`kexue.experiments.onlstm_language_model`). The language model reads a million words: the Brown corpus and the raw text of the 3,914 sentences of the Wall Street Journal whose trees linguists have drawn, the sample of the Penn Treebank that NLTK distributes. It sees no tree. Three layers of 200, 200 and
# 128 neurons. It is a model of laptop size: the paper's has 1,150 neurons a layer, and trains for hundreds of epochs. There are four attempts: the paper's input gate with two seeds, the article's with one, and a long run with the paper's gate and more dropout. (Three seeds of the first were planned. When the second gave other trees than the first, one long run took the place of the third, and the rule for the verdict was rewritten, before the long run; the script says so. The verdict below does not follow that rule, by which the claim was *restricted*: no attempt passes right branching by the paper's reading, so that nothing can be said of the claim. Only this one setting was tried, with variants, and not the three different attempts that the verdict *unreached* asks for.)
#
# The article reports of the paper that the levels of the middle of three layers agree rather well with annotated trees. The protocol is the paper's. Punctuation is removed, \$ and # with it, and empty elements; a bracket around a bracket counts once; a sentence is read from a zero state between two marks of its end; F1 is taken for each sentence and averaged, over all sentences and over those of at most ten words (555 of them; WSJ10 is the whole treebank's). A sentence whose gold tree has no bracket left has recall 1, one without predicted brackets precision 1. First the baselines:

# %% tags=["hide-input"]
ENGLISH = {
    "paper's gate": recorded("onlstm_english_tuning")["complement"],
    "paper's gate, another seed": recorded("onlstm_english")["seed1"],
    "article's gate": recorded("onlstm_english_tuning")["cumsum"],
    "paper's gate, long": recorded("onlstm_english")["long"],
}
LONG = ENGLISH["paper's gate, long"]
one = LONG.summary
# Shen et al. 2019, their table 2: short sentences, all of the test part.
PUBLISHED = {1: (35.2, 20.0), 2: (65.1, 47.7), 3: (54.0, 36.6)}
FLAT = {
    "left": "left branching",
    "right": "right branching",
    "balanced": "balanced",
    "random_splits": "random splits",
    "random_levels": "random levels",
    "best_article": "best by the article's rule",
    "best_split": "best by splits",
}
rows = ["| trees | ≤ 10 words | all | all, corpus F1 |", "|---|---|---|---|"]
for key, name in FLAT.items():
    corpus = one.get(f"corpus_f1_{key}")
    rows.append(
        f"| {name} | {one[f'f1_short_{key}']:.1f} | {one[f'f1_{key}']:.1f} | {'' if corpus is None else f'{corpus:.1f}'} |"
    )
display(Markdown("\n".join(rows)))
# The protocol: right branching as the project's other sources have it.
assert abs(one["f1_right"] - 39.9) < 0.05
assert abs(one["f1_short_right"] - 58.6) < 0.05

# %% [markdown]
# English branches to the right, so right branching is a strong baseline for something that knows nothing. The last two lines are ceilings: many annotated brackets have three parts and more, so binary trees cannot get 100 on average, and the article's rule loses a little more. (The last column takes all brackets of the corpus together, in which long sentences count for more.)
#
# **A number that changed between copies of the paper.** In first copies right branching gets 16.5 on the treebank's test part, in later ones about 40; a reader had asked {cite:p}`orderedneurons2019issue`, and the answer was that the value had been taken over from a previous paper. Its author, asked by the same reader {cite:p}`prpnanalysis2019issue`, thinks of the punctuation, which was kept there, and names the script that computed it (we have not run that). From the sample's trees come a value near the second and one not far from the first. With punctuation a right-branching tree
# puts the full stop into every bracket, so that hardly any is right. If in addition gold trees are made binary and the root counts, a value not far from the first comes out; this was found afterwards, by trying:

# %%
protocols = {
    "no punctuation (the protocol)": one["f1_right"],
    "with punctuation": one["f1_right_punctuation"],
    "with punctuation, binary, root": one["f1_right_punctuation_root"],
}
for name, value in protocols.items():
    print(f"right branching, {name}: {value:.1f}")
first_copy, later_copies = 16.5, 39.8
near_first = abs(protocols["no punctuation (the protocol)"] - first_copy) < 5
near_later = abs(protocols["no punctuation (the protocol)"] - later_copies) < 5
explains = abs(protocols["with punctuation, binary, root"] - first_copy) < 5
verdict(
    "onlstm.claim8",
    holds=near_later and not near_first and explains,
    measured={name: round(value, 1) for name, value in protocols.items()},
)

# %% [markdown]
# Now the models.

# %% mystnb={"figure": {"caption": "F1 of trees from the four recorded models, by gate and layer (layer 2's d_f is the paper's choice). Black crosses: what the paper reports for d_f, of a much larger model, on other sentences of the same newspaper. Lines: right branching (solid) and random levels (dashed).", "name": "onlstm-english"}, "image": {"alt": "Two panels, sentences of at most ten words and all sentences. For each of the two gates and three layers four markers, one for each run, and two horizontal lines."}} tags=["hide-input"]
GATES = {"d_f": "forget", "d_i": "input"}
PLACES = [(gate, layer) for gate in GATES for layer in (1, 2, 3)]


def english(run, gate, layer, short):
    """F1 of a run's trees, in percent."""
    prefix = "f1_short_" if short else "f1_"
    return run.summary[f"{prefix}{GATES[gate]}_{layer}"]


fig, axes = plotting.panels(2, height=3.3)
for ax, short in zip(axes, (True, False)):
    for number, (name, run) in enumerate(ENGLISH.items()):
        values = [english(run, *place, short) for place in PLACES]
        places = np.arange(6) + 0.12 * (number - 1.5)
        shade = plotting.COLOURS[number]
        ax.plot(places, values, "osD^"[number], color=shade, label=name)
    reported = [PUBLISHED[layer][0 if short else 1] for layer in (1, 2, 3)]
    ax.plot(range(3), reported, "x", color=plotting.INK, ms=9, label="paper")
    kind = "short_" if short else ""
    for key, style in (("right", "-"), ("random_levels", "--")):
        ax.axhline(one[f"f1_{kind}{key}"], color="#555", lw=1, ls=style)
        height = one[f"f1_{kind}{key}"] + 0.8
        ax.text(5.4, height, FLAT[key], ha="right", fontsize=8)
    ax.set(
        title="at most ten words" if short else "all sentences",
        xticks=range(6),
        xticklabels=[f"{gate}, {layer}" for gate, layer in PLACES],
        ylabel="F1 (%)",
    )
axes[0].set(ylim=(10, 95))
axes[0].legend(ncols=2, loc="upper left", fontsize=8)
plt.show()

# %% tags=["nbval-ignore-output"]
rows = [
    "| short sentences: F1 | "
    + " | ".join(f"{g}, {n}" for g, n in PLACES)
    + " | perplexity |"
]
rows.append("|---" * 8 + "|")
for name, run in ENGLISH.items():
    cells = [f"{english(run, *place, True):.1f}" for place in PLACES]
    perplexity = run.summary["valid_perplexity"]
    rows.append(f"| {name} | {' | '.join(cells)} | {perplexity:.0f} |")
display(Markdown("\n".join(rows)))

# %% mystnb={"figure": {"caption": "F1 on short sentences during the long run, for each gate and layer; the horizontal line is right branching.", "name": "onlstm-english-curves"}, "image": {"alt": "Six curves of F1 against training steps and a horizontal line."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=3.4)
for gate, layer in PLACES:
    steps, values = LONG.curve(f"f1_short_{GATES[gate]}_{layer}")
    ax.plot(
        steps,
        values,
        "-" if gate == "d_f" else "--",
        color=plotting.COLOURS[layer - 1],
        label=f"{gate}, layer {layer}",
    )
ax.axhline(one["f1_short_right"], color="#555", lw=1)
ax.set(
    xlabel="training step", ylabel="F1, at most ten words (%)", ylim=(20, 85)
)
ax.legend(ncols=2, loc="upper left")
plt.show()

# %%
NAMES = ("left", "right", "balanced", "random_splits", "random_levels")
beaten = {
    "short" if short else "all": [
        name
        for name in NAMES
        if english(LONG, "d_f", 2, short)
        > one[f"f1_{'short_' if short else ''}{name}"]
    ]
    for short in (True, False)
}
scores = {
    (name, *place): english(run, *place, True)
    for name, run in ENGLISH.items()
    for place in PLACES
}
top = max(scores, key=scores.get)
own = [scores[name, "d_f", 2] for name in ENGLISH]
first_best = max(
    (key for key in scores if key[0] == "paper's gate"), key=scores.get
)
second_seed = scores["paper's gate, another seed", *first_best[1:]]
above_right = [key for key in scores if scores[key] > one["f1_short_right"]]
own_mean, own_low, own_high = plotting.mean_interval(own)
verdict(
    "onlstm.claim2",
    holds=all(len(names) == len(NAMES) for names in beaten.values()),
    # The reading that the paper takes, against the best trivial tree.
    reached=own_low > one["f1_short_right"],
    measured={
        "d_f of layer 2, four runs, F1 of short sentences": f"{own_mean:.1f} ({own_low:.1f} to {own_high:.1f})",
        "right branching": round(one["f1_short_right"], 1),
        "best of all 24": f"{scores[top]:.1f} ({top[1]} of layer {top[2]}, {top[0]})",
    },
)

# %% tags=["hide-input", "nbval-ignore-output"]
display(
    Markdown(
        f"What can be said: $d_f$ of the second layer, where the paper finds its trees, gets from {min(own):.1f} to {max(own):.1f} on short sentences in the four runs; random levels get {one['f1_short_random_levels']:.1f}, right branching {one['f1_short_right']:.1f}, and the paper reports {PUBLISHED[2][0]}. "
        f"Of the 24 readings (runs, gates and layers) {len(above_right)} pass right branching; the best, {top[1]} of layer {top[2]} in the run “{top[0]}”, gets {scores[top]:.1f}. "
        "A best of 24, chosen by the very trees that score it, proves little: "
        f"the reading that was best in the first run, {first_best[1]} of layer {first_best[2]}, got {scores[first_best]:.1f} there and {second_seed:.1f} with the second seed, with nothing else changed."
    )
)

# %% [markdown]
# The reasons for the distance to the paper are not hard to name, though we cannot weigh them. The models here are small and have seen each word a few times, where the paper's has 25 million weights; and most of what they read is not from the newspaper on whose sentences they are scored, as the treebank's sample is a small part of the text.
#
# Whoever looks at six readings of a network and takes the best has used the trees to choose, in this chapter and elsewhere {cite:p}`shi2020`. A score for unsupervised trees needs a reading that is fixed beforehand, and seeds.
#
# ## Do trees come from one gate only?
#
# The level of the input can be read off in the same way: the mean of $\tilde i_t$ over the levels, which is large where the input claims much. Why should trees come from $d_f$ only? The article: $d_f$ says how much history is still needed, so a large $d_f$ means that something new begins, while $d_i$ says something about the input alone. That is a good reason to expect trees from $d_f$. It is no reason why $d_i$ should not know them. A word that begins a large phrase has more to write than one that only continues.
# Which of the two gates shows it, training decides. (An earlier rule asked for $d_f$ to be ahead in every layer of every run. It was replaced when the results were known: the claim is open if the interval of the mean difference holds 0.)

# %%
ahead = {
    name: [
        layer
        for layer in (1, 2, 3)
        if scores[name, "d_f", layer] > scores[name, "d_i", layer]
    ]
    for name in ENGLISH
}
for name, layers in ahead.items():
    print(f"{name}: d_f is ahead in {len(layers)} of 3 layers")
lead = [
    np.mean(
        [scores[name, "d_f", n] - scores[name, "d_i", n] for n in (1, 2, 3)]
    )
    for name in ENGLISH
]
lead_mean, lead_low, lead_high = plotting.mean_interval(lead)
verdict(
    "onlstm.claim4",
    holds=None if lead_low < 0 < lead_high else lead_mean > 0,
    measured={
        "d_f − d_i, mean of three layers, F1, four runs": f"{lead_mean:.1f} ({lead_low:.1f} to {lead_high:.1f})",
        "right branching": round(one["f1_short_right"], 1),
    },
)

# %% tags=["hide-input", "nbval-ignore-output"]
display(
    Markdown(
        f"The interval of the difference holds 0, and most of these trees are worse than right branching; so this decides nothing. On the grammar, where the trees are good, $d_i$ of the first layer gives trees as well as $d_f$ does (F1 {mean_of(on_grammar, 'd_i', 0):.0f} and {mean_of(on_grammar, 'd_f', 0):.0f}, where the best baseline has {chance[best]:.0f}), and $d_i$ of the second gives none ({mean_of(on_grammar, 'd_i', 1):.0f})."
    )
)

# %% [markdown]
# ## Trained briefly, ON-LSTM and LSTM predict Chinese equally well, and worse than counts do
#
# The article reports of the paper that in its experiments ON-LSTM was generally better than an LSTM, as a language model among others: perplexity 56.17 on the Penn Treebank's test part against 57.3 of the well-tuned LSTM of {cite:t}`merity2018`. Here the comparison is on the corpus that this book has, a month of the People's Daily (segmented Chinese, as in the article's own experiment): two layers, the same number of parameters, the same four learning rates tried for each in short runs, three seeds for the best. A third model, HGRN, comes below.

# %% tags=["hide-input"]
CHINESE = recorded("onlstm_chinese")
TUNED = recorded("onlstm_chinese_tuning")
CELLS = {"onlstm": "ON-LSTM", "lstm": "LSTM", "hgrn": "HGRN"}


def of_cell(cell):
    return [run for run in CHINESE.values() if run.config["cell"] == cell]


rows = [
    "| model | parameters | learning rates tried: perplexity |",
    "|---|---|---|",
]
for cell, name in CELLS.items():
    trials = {
        run.config["learning_rate"]: run.summary["valid_perplexity"]
        for run in TUNED.values()
        if run.config["cell"] == cell
    }
    parameters = int(of_cell(cell)[0].summary["parameters"])
    tried = ", ".join(f"{r:g}: {v:.0f}" for r, v in sorted(trials.items()))
    rows.append(f"| {name} | {parameters:,} | {tried} |")
    used = {run.config["learning_rate"] for run in of_cell(cell)}
    assert used == {min(trials, key=trials.get)}
display(Markdown("\n".join(rows)))

# %% mystnb={"figure": {"caption": "Perplexity of held-out text during training, three seeds each, mean and 95 % interval.", "name": "onlstm-perplexity"}, "image": {"alt": "Three curves of validation perplexity, of ON-LSTM, LSTM and HGRN, against training steps."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=3.2)
for number, (cell, name) in enumerate(CELLS.items()):
    curves = [run.curve("valid_perplexity") for run in of_cell(cell)]
    values = np.stack([value for _, value in curves], 1)
    plotting.band(ax, curves[0][0], values, name, plotting.COLOURS[number])
ax.set(xlabel="training step", ylabel="perplexity", yscale="log")
ax.legend()
plt.show()

# %% [markdown]
# What must a language model beat before it is compared? Counts: how often each word followed the four before it, smoothed by the counts of shorter contexts (modified Kneser-Ney {cite:p}`chen1999`), on the same text, with the same vocabulary, in a second. (This condition was added when the results were known.)


# %% tags=["hide-input"]
def parts_of_people_daily():
    """As the experiment divides it: training, settings, test."""
    texts = data.people_daily().word
    block = [i // 50 % 20 for i in range(len(texts))]
    held = {"valid": {0}, "test": {10}}
    found = {
        name: [t for t, b in zip(texts, block) if b in blocks]
        for name, blocks in held.items()
    }
    found["train"] = [t for t, b in zip(texts, block) if b not in (0, 10)]
    return {
        name: [(*text, "<eos>") for text in part]
        for name, part in found.items()
    }


NEWS = parts_of_people_daily()
recorded_run = CHINESE["onlstm-seed1"]
vocabulary = data.Vocabulary(NEWS["train"], recorded_run.config["at_least"])


def look_up(keys, values, wanted):
    """values[k] where keys[k] is what is wanted, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def kneser_ney(text, held_out, symbols, order=5):
    """Probabilities of held-out words, from n-grams with modified Kneser-Ney smoothing."""

    def runs_of(ids, n):  # n successive ids as one number
        parts = [ids[k : len(ids) - n + 1 + k] for k in range(n)]
        return sum(p * symbols ** (n - 1 - k) for k, p in enumerate(parts))

    grams, counts = {}, {}
    grams[order], counts[order] = np.unique(
        runs_of(text, order), return_counts=True
    )
    for n in range(order - 1, 0, -1):  # after how many words, not how often
        shorter = grams[n + 1] % symbols**n
        grams[n], counts[n] = np.unique(shorter, return_counts=True)
    probability = 1 / symbols
    for n in range(1, order + 1):
        once = [int((counts[n] == k).sum()) for k in range(1, 5)]
        y = once[0] / (once[0] + 2 * once[1])
        taken = [k - (k + 1) * y * once[k] / once[k - 1] for k in (1, 2, 3)]
        less = np.array([0, *taken])[np.minimum(counts[n], 3)]
        context, group = np.unique(grams[n] // symbols, return_inverse=True)
        total = np.bincount(group, counts[n])
        spare = np.bincount(group, less) / total
        wanted = runs_of(held_out[order - n :], n)
        seen = look_up(context, total, wanted // symbols)
        kept = look_up(grams[n], counts[n] - less, wanted)
        rest = np.where(seen > 0, look_up(context, spare, wanted // symbols), 1)
        probability = kept / np.maximum(seen, 1) + rest * probability
    return probability


streams = {
    name: vocabulary.ids([word for text in NEWS[name] for word in text]).numpy()
    for name in ("train", "test")
}
# Behind the test part, its first four words before each word there is.
ids = np.arange(len(vocabulary))
runs = np.insert(np.tile(streams["test"][:4], (len(ids), 1)), 4, ids, axis=1)
held_out = np.concatenate([streams["test"], runs.ravel()])
chances = kneser_ney(streams["train"], held_out, len(ids))
by_counts = math.exp(-np.log(chances[: len(streams["test"]) - 4]).mean())
# A distribution: after these four words the chances of all words sum to 1.
assert math.isclose(chances[len(streams["test"]) :: 5].sum(), 1)
print(f"five-grams: test perplexity {by_counts:.1f}")

# %%
test = {
    cell: np.array([run.summary["test_perplexity"] for run in of_cell(cell)])
    for cell in CELLS
}
gap, low, high = plotting.mean_interval(test["onlstm"] - test["lstm"])
for cell, name in CELLS.items():
    mean, spread = test[cell].mean(), test[cell].std(ddof=1)
    print(f"{name}: test perplexity {mean:.1f} ± {spread:.1f}")
print(
    f"ON-LSTM − LSTM: {round(gap, 1) + 0:.1f}, 95 % from {low:.1f} to {high:.1f}"
)
better = min(("onlstm", "lstm"), key=lambda cell: test[cell].mean())
_, _, worst_of_better = plotting.mean_interval(test[better])
verdict(
    "onlstm.claim1",
    holds=None if low < 0 < high else high < 0,
    reached=worst_of_better < by_counts,
    measured={
        "five-grams, perplexity": round(by_counts, 1),
        f"{CELLS[better]}, perplexity": round(float(test[better].mean()), 1),
        "ON-LSTM − LSTM, perplexity": round(float(gap), 1) + 0,
        "95 %, low": round(float(low), 1),
        "95 %, high": round(float(high), 1),
    },
)

# %% tags=["hide-input"]
if low > 0:
    finding = (
        "So at this size the ON-LSTM is the worse language model, by little."
    )
elif high < 0:
    finding = "So at this size, too, the ON-LSTM is the better language model."
else:
    finding = "So this experiment does not tell the two apart."
epochs = 4000 * 16 * 35 / 1_000_000
steps_used = {run.config["steps"] for run in CHINESE.values()}
assert steps_used == {4000}
display(
    Markdown(
        f"The 95 % interval of the difference goes from {low:.1f} to {high:.1f}. {finding} And counts of five words are better than both ({by_counts:.1f}): these networks have not learned enough for a comparison to say much of them. Three attempts to train them better, which the verdict *unreached* asks for, have not been made yet. "
        f"The paper's gain is 1.1 at a perplexity of 57, after hundreds of epochs and with five kinds of dropout; this experiment, of {epochs:.1f} epochs, can neither confirm nor deny that."
    )
)

# %% [markdown]
# The third curve is a relative from 2023. HGRN {cite:p}`qin2023` is a *linear* recurrence, here in its real-valued form (the published one has a complex state with a phase), $h_t=\lambda_t\circ h_{t-1}+(1-\lambda_t)\circ u_t$, whose forget gates $\lambda_t$ do not look at $h_{t-1}$, so that it can be computed in parallel. It keeps one idea of this article, an order with a cumulative softmax: not from neuron to neuron, but from layer to
# layer. Each layer has a lower bound $\gamma$ for its forget gates, a cumax over the layers that is 0 in the first, so that low layers may forget at once and high layers must remember.

# %%
source(HGRN.forward)

# %% tags=["hide-input"]
fewer = 1 - (
    of_cell("hgrn")[0].summary["parameters"]
    / of_cell("lstm")[0].summary["parameters"]
)
display(
    Markdown(
        f"With {fewer:.0%} fewer parameters and the same tuning its test perplexity is {test['hgrn'].mean():.1f}; the LSTM's is {test['lstm'].mean():.1f}, the ON-LSTM's {test['onlstm'].mean():.1f}. "
        "That is no proof of the ordered bounds: HGRN also has residual connections and normalisation, and its curve is ahead from the first steps on, where the two LSTMs are still slow. With as few steps as here that decides."
    )
)
assert test["hgrn"].mean() < min(test["lstm"].mean(), test["onlstm"].mean())

# %% [markdown]
# ## Eleven Chinese sentences
#
# The article shows the trees of two sentences and comments that they look as they should, and then again not quite; its author knows no way to judge them, he says, and leaves that to readers. Its script has more examples. Here are eleven, with brackets drawn by us before the model was trained, and the trees of the recorded model (ON-LSTM with the article's input gate, seed 1). Words that the training part has fewer than 20 times are unknown to it, and a newspaper of 1998 says little about apples and mice; they are marked with a star below. The article's script reads $d_f$ of the first layer; so does this.

# %%
SENTENCES = {
    "what colour are apples": [[["苹果", "的"], "颜色"], ["是", "什么"]],
    "love really needs courage": ["爱", ["真的", ["需要", "勇气"]]],
    "water is the source of life": ["水", ["是", [["生命", "的"], "源泉"]]],
    "the case is still under further investigation": [
        "案件",
        ["仍", ["在", [["进一步", "侦查"], "当中"]]],
    ],
    "such an idea is rather ideal": [
        [["这样", "的"], "设想"],
        ["是", [["比较", "理想"], "的"]],
    ],
    "what rather special use has a computer's mouse": [
        [["计算机", "的"], "鼠标"],
        [["有", ["什么", [[["比较", "特殊"], "的"], "用途"]]], "呢"],
    ],
    "where is Beijing": ["北京", ["在", "哪里"]],
    "how many colours has an apple": ["苹果", ["有", [["几", "种"], "颜色"]]],
    "what colour are apples and bananas": [
        [[["苹果", ["和", "香蕉"]], "的"], "颜色"],
        ["都", ["是", "什么"]],
    ],
    "Beijing is the capital of China": [
        "北京",
        ["是", [["中国", "的"], "首都"]],
    ],
    "what these templates describe are linguistic phenomena at the level of syntax": [
        [[["这些", "模版"], ["所", "描述"]], "的"],
        ["都", ["是", [[["句法", "级"], "的"], ["语言", "现象"]]]],
    ],
}
# What the article prints for the first two.
ARTICLE = [
    [[["苹果", "的"], ["颜色", "是"]], "什么"],
    ["爱", ["真的", ["需要", "勇气"]]],
]


# %%
model = recorded_run.model()

stream = vocabulary.ids([word for text in NEWS["test"] for word in text])
rows = 20
stream = stream[: (len(stream) - 1) // rows * rows + 1]
inputs, targets = (part.view(rows, -1) for part in (stream[:-1], stream[1:]))
entropy, state = 0.0, None
with torch.no_grad():
    for part, aim in zip(inputs.split(100, 1), targets.split(100, 1)):
        out = model(part, state)
        state = out.state
        entropy += cross_entropy(
            out.logits.flatten(0, 1), aim.flatten(), reduction="sum"
        ).item()
again = math.exp(entropy / targets.numel())
# The recorded value is with bfloat16, from weights in single precision.
assert abs(again / recorded_run.summary["test_perplexity"] - 1) < 0.005
print(f"test perplexity of {len(stream):,} words, evaluated again: {again:.0f}")

# %% tags=["nbval-ignore-output"]
GOLDEN = list(SENTENCES.values())
by_reading = {
    (gate, layer): mean_f1(
        lambda words: tree_of(model, vocabulary, words, layer, gate), GOLDEN
    )
    for gate, layer in READINGS
}
draws = np.random.default_rng(0)
by_chance = [
    mean_f1(lambda w: tree_from_levels(w, draws.random(len(w))), GOLDEN)
    for _ in range(400)
]
high_chance = float(np.quantile(by_chance, 0.975))
articles_f1 = [
    100 * bracket_f1(tree, true) for tree, true in zip(ARTICLE, GOLDEN)
]
print(
    {
        f"{gate}, {layer + 1}": round(f1)
        for (gate, layer), f1 in by_reading.items()
    }
)
print(
    f"random levels: {np.mean(by_chance):.0f}, 97.5 % of them below {high_chance:.0f}"
)
print(f"right branching: {mean_f1(right_branching, GOLDEN):.0f}")
print(
    f"the article's own two trees: {articles_f1[0]:.0f} and {articles_f1[1]:.0f}"
)


# %% mystnb={"figure": {"caption": "The article's two sentences and a third one, as the recorded model parses them (first layer); at the bottom the third with our brackets. A star marks words that the model does not know. \u82f9\u679c\u7684\u989c\u8272\u662f\u4ec0\u4e48: what colour are apples; \u7231\u771f\u7684\u9700\u8981\u52c7\u6c14: love really needs courage; \u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd: Beijing is the capital of China.", "name": "onlstm-chinese"}, "image": {"alt": "Four small binary trees over segmented Chinese sentences."}} tags=["hide-input"]
def starred(node, known):
    """The tree with a star at words that are not known."""
    if isinstance(node, list):
        return [starred(part, known) for part in node]
    return node if node in known else f"{node}*"


fig, axes = plotting.panels(4, height=1.7)
chosen = [*GOLDEN[:2], GOLDEN[9], None]
for ax, true in zip(axes, chosen):
    words = leaves(true or GOLDEN[9])
    drawn = tree_of(model, vocabulary, words, 0) if true else GOLDEN[9]
    known = set(vocabulary.symbols)
    draw_tree(ax, starred(drawn, known))
    if true is None:
        ax.set_title("our brackets")
plt.show()

# %%
first = by_reading["d_f", 0]
apart = [
    100
    * (
        bracket_f1(tree_of(model, vocabulary, leaves(true), 0), true)
        - bracket_f1(right_branching(leaves(true)), true)
    )
    for true in GOLDEN
]
apart_mean, apart_low, apart_high = plotting.mean_interval(apart)
verdict(
    "onlstm.claim5",
    holds=None if apart_low < 0 < apart_high else apart_mean > 0,
    measured={
        "d_f of layer 1 − right branching, F1": f"{apart_mean:.0f} ({apart_low:.0f} to {apart_high:.0f})",
        "F1 of eleven sentences, d_f, layer 1": round(first),
        "best of the four readings": round(max(by_reading.values())),
        "right branching": round(mean_f1(right_branching, GOLDEN)),
        "97.5 % of random levels below": round(high_chance),
    },
)

# %% [markdown]
# ## High levels keep their content longer
#
# By the design high levels may be kept for long, and low levels may be renewed at every step. Does the trained model use them so? Run it over held-out news and watch the memory of each level. For a neuron $j$ and a lag $\tau$, the correlation of $c_{t,j}$ with $c_{t+\tau,j}$ over all $t$ tells how much is left after $\tau$ words. Let the *lifetime* of a level be the
# number of words until the correlation, averaged over its neurons, has fallen below $1/e$.

# %%
torch.manual_seed(0)
fresh = LanguageModel(
    len(vocabulary),
    recorded_run.config["hidden_sizes"],
    chunk_size=recorded_run.config["chunk_size"],
).eval()
with torch.no_grad():
    watched = model.trace(inputs[:, :1000])
    unwatched = fresh.trace(inputs[:, :1000])


def lifetimes(trace, levels, longest=300):
    """Words until the mean correlation of a level's neurons is below 1/e."""
    c = trace.c - trace.c.mean((0, 1))
    c = c / c.square().mean((0, 1)).sqrt()
    # All lags from one Fourier transform, with as many zeros behind as there are steps.
    steps = c.shape[1]
    power = torch.fft.rfft(c, 2 * steps, dim=1).abs().square().mean(0)
    power = power.unflatten(-1, (levels, -1)).mean(-1)
    lags = torch.arange(1, longest)
    left = torch.fft.irfft(power, dim=0)[lags] / (steps - lags).unsqueeze(-1)
    gone = left < math.exp(-1)
    return (gone.int().argmax(0) + 1).where(gone.any(0), longest).numpy()


lives, untrained = (
    [lifetimes(trace, trace.master_forget.shape[-1]) for trace in traces]
    for traces in (watched, unwatched)
)

# %% mystnb={"figure": {"caption": "Lifetime of the memory by level, in words, for the two layers of the recorded model (bars) and for the same network before training (line); 300 stands for 300 or more.", "name": "onlstm-lifetimes"}, "image": {"alt": "Two panels of bars, lifetime against level, for layer 1 with 32 levels and layer 2 with 16."}} tags=["hide-input"]
fig, axes = plotting.panels(2, height=2.4)
for number, (ax, life) in enumerate(zip(axes, lives), start=1):
    places = range(1, len(life) + 1)
    ax.bar(places, life, color=plotting.BLUE, label="trained")
    ax.step(
        places,
        untrained[number - 1],
        where="mid",
        color=plotting.ORANGE,
        label="untrained",
    )
    ax.set(ylabel="words", title=f"layer {number}", yscale="log")
axes[-1].set(xlabel="level")
axes[0].legend()
plt.show()

# %% [markdown]
# The line is a warning. Part of the order is there before anything has been learned: $\tilde f$ rises with the level whatever the weights are, and it bounds what a level can keep of its past ($F\le\tilde f$). So the question is what training adds.

# %% tags=["nbval-ignore-output"]
trend = [float(spearmanr(range(len(life)), life)[0]) for life in lives]


def thirds(life):
    """Median lifetime of the lowest and of the highest third."""
    third = len(life) // 3
    return float(np.median(life[:third])), float(np.median(life[-third:]))


for layer, (life, old) in enumerate(zip(lives, untrained), start=1):
    print(
        f"layer {layer}: lowest third {thirds(life)[0]:.0f} words, highest {thirds(life)[1]:.0f}; "
        f"untrained {thirds(old)[0]:.0f} and {thirds(old)[1]:.0f}"
    )

# %%
lasting = [thirds(a)[1] > thirds(b)[1] for a, b in zip(lives, untrained)]
verdict(
    "onlstm.claim3",
    # It may be so: in some layer the lowest level is renewed at every word while the highest one lasts.
    holds=min(trend) > 0.5
    and all(lasting)
    and any(life[0] == 1 and life[-1] > 30 for life in lives),
    measured={
        f"layer {layer}, lowest and highest level, words": f"{life[0]} and {life[-1]}"
        for layer, life in enumerate(lives, start=1)
    },
)

# %% [markdown]
# Low levels need not be renewed at every step, though: in the second layer all but the lowest keep their content for dozens of words.

# %% [markdown]
# ## Logic: what happens beyond the lengths of training
#
# The paper's fourth experiment, which the article only names, is inference in propositional logic, after {cite:t}`bowman2015`. Two formulas over six variables, such as `( a and ( not b ) )` and `( a or c )`: does one entail the other, do they exclude each other, are they independent? There are seven answers: equivalent, entails, is entailed, negation, exclude each other, cover all cases, independent. A network reads both as strings of symbols. It is trained on formulas with at most 6 operators and tested on up to 12:
# a model that has understood how formulas are nested should not fall off a cliff at 7. The data can be generated, so there are no two opinions about them (`kexue.experiments.onlstm_logic`; our generator, not the original files, so the paper's curves cannot be laid over these: each pair uses four of the six variables, and of the independent pairs, which would be most, one in four is kept).

# %% mystnb={"figure": {"caption": "Accuracy on pairs of formulas by the number of operators in the longer one, three seeds, mean and 95 % interval. Training has seen up to 6 (vertical line).", "name": "onlstm-logic"}, "image": {"alt": "Two curves of accuracy against the number of operators from 1 to 12, for ON-LSTM and LSTM, with a vertical line between 6 and 7."}} tags=["hide-input"]
LOGIC = recorded("onlstm_logic")
OPERATORS = np.arange(1, 13)


def accuracy(cell):
    """By operators and seed, in percent: (12, seeds)."""
    return (
        100
        * np.array(
            [
                [run.summary[f"test_accuracy_{k}"] for k in OPERATORS]
                for run in LOGIC.values()
                if run.config["cell"] == cell
            ]
        ).T
    )


fig, ax = plotting.panels(1, height=3.2)
for number, cell in enumerate(("onlstm", "lstm")):
    plotting.band(
        ax, OPERATORS, accuracy(cell), CELLS[cell], plotting.COLOURS[number]
    )
ax.axvline(6.5, color="#555", lw=1)
ax.set(xlabel="operators", ylabel="accuracy (%)", xticks=OPERATORS)
ax.legend()
plt.show()

# %%
beyond = {cell: accuracy(cell)[6:].mean(0) for cell in ("onlstm", "lstm")}
within = {cell: accuracy(cell)[:6].mean(0) for cell in ("onlstm", "lstm")}
gap, low, high = plotting.mean_interval(beyond["onlstm"] - beyond["lstm"])
gap_within, low_within, high_within = plotting.mean_interval(
    within["onlstm"] - within["lstm"]
)
for cell in beyond:
    print(
        f"{CELLS[cell]}: 1 to 6 operators {within[cell].mean():.1f} %, "
        f"7 to 12 {beyond[cell].mean():.1f} %"
    )
verdict(
    "onlstm.claim6",
    holds=True if low > 0 else False if high < 0 else None,
    measured={
        "ON-LSTM − LSTM, 7 to 12 operators, points": round(float(gap), 1),
        "95 %, low": round(float(low), 1),
        "95 %, high": round(float(high), 1),
    },
)

# %% tags=["hide-input", "nbval-ignore-output"]
lost = {cell: within[cell].mean() - beyond[cell].mean() for cell in beyond}
assert lost["onlstm"] < lost["lstm"]
assert within["onlstm"].mean() < within["lstm"].mean()
display(
    Markdown(
        f"Within the lengths of training the difference, ON-LSTM minus LSTM, is {gap_within:.1f} points (95 %: {low_within:.1f} to {high_within:.1f}), beyond them {gap:.1f} ({low:.1f} to {high:.1f}). "
        f"From the one to the other the ON-LSTM loses {lost['onlstm']:.1f} points, the LSTM {lost['lstm']:.1f}."
    )
)

# %% [markdown]
# ## Recurrent networks can count
#
# Why study recurrent networks at all, when there are Transformers? One of the article's answers: a recurrent network easily simulates a counting function. Counting is what $a^nb^n$ demands: after $n$ times $a$ come $n$ times $b$, and then the end. Train on $n$ up to 20, as a language model, and ask for all $n$ up to 60. The first wrong prediction after the first $b$ ends the count.


# %%
def anbn(lengths):
    """Ids: 1 a, 2 b, 3 the beginning and the end, 0 padding: (B, T)."""
    words = [[3] + [1] * n + [2] * n + [3] for n in lengths]
    return pad_sequence(
        [torch.tensor(word) for word in words], batch_first=True
    )


def counts_to(cell, seed, steps=400, hidden=32):
    """The largest n up to which every prediction after the first b is right."""
    torch.manual_seed(seed)
    rnn = LSTM(8, [hidden]) if cell == "lstm" else ONLSTM(8, hidden, 8)
    embed, out = nn.Embedding(4, 8), nn.Linear(hidden, 4)
    parameters = [p for part in (embed, rnn, out) for p in part.parameters()]
    optimizer = torch.optim.Adam(parameters)
    ids = anbn(range(1, 21))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        logits = out(rnn(embed(ids[:, :-1]))[0]).flatten(0, 1)
        loss = cross_entropy(logits, ids[:, 1:].flatten(), ignore_index=0)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    ids = anbn(range(1, 61))
    with torch.no_grad():
        guess = out(rnn(embed(ids[:, :-1]))[0]).argmax(-1)
    right = [
        bool(
            (
                guess[n - 1, n + 1 : 2 * n + 1] == ids[n - 1, n + 2 : 2 * n + 2]
            ).all()
        )
        for n in range(1, 61)
    ]
    return right.index(False) if False in right else 60


counted = {
    cell: [counts_to(cell, seed) for seed in range(3)]
    for cell in ("lstm", "onlstm")
}

# %%
verdict(
    "onlstm.claim9",
    holds=min(min(reach) for reach in counted.values()) > 20,
    restricted=any(min(reach) > 20 for reach in counted.values()),
    measured={
        CELLS[cell]: ", ".join(f"{n}" for n in reach)
        for cell, reach in counted.items()
    },
)

# %% [markdown]
# That is LSTM and ON-LSTM, not every recurrent network. {cite:t}`gers2001` trained LSTMs on such languages; {cite:t}`weiss2018` show that LSTMs, and networks with ReLU, can count easily, while a GRU and a network with tanh cannot. (The latter two were not run here.) Nor does it go on for ever: most of these six are wrong before $n=60$.
#
# Whoever counts beyond 20 has not learned the words by heart. An LSTM's memory is not bounded: with $f=1$ it adds $i\circ\hat c$ at every step, a counter. In an ON-LSTM that happens only where both claims overlap; what a level merely copies, it cannot add to.
#
# ## Where the article is imprecise, and what the field does now
#
# Slips, each settled above: in the article, one phrase around formula (6) ({ref}`the segments <onlstm-segments>`); in the paper, an input gate with a dead level, a formula (15) that is off by 1 without consequence, and, in first copies, a baseline from another protocol. The greedy rule deserves a warning that
# neither text has: it cannot draw most trees, and leans to the right {cite:p}`dyer2019`.
#
# What became of the idea? Unsupervised parsing went on with other models; a neural probabilistic grammar {cite:p}`kim2019` does better on the treebank, {cite:t}`dyer2019` showed that the greedy rule itself is incomplete and favours right-branching trees, and that an ordinary LSTM gives about as good ones by it, {cite:t}`htut2018` replicated the model before this one and found how much the protocol matters, and {cite:t}`shi2020` warn of choosing models by annotated trees.
#
# For language models, recurrent networks came back as linear recurrences that train in parallel, and some of them order their layers, as HGRN does.

# %% [markdown]
# ## Exercises
#
# **1.** Which levels must be highest for the tree `[["a", "b"], ["c", ["d", "e"]]]`? Find some with the rule, and show that no levels give `[["a", "b"], [["c", "d"], "e"]]`.
#
# :::{dropdown} Solution
# The first split must come before $c$, so $c$ is highest; then $b$ or $a$ in the left part gives the same bracket. In the right part $c$ stands alone already. For the second tree $c$ would have to be highest and not alone.
# :::

# %% tags=["hide-input"]
assert tree_from_levels("abcde", [0, 1, 4, 3, 2]) == [
    ["a", "b"],
    ["c", ["d", "e"]],
]
never = [["a", "b"], [["c", "d"], "e"]]
orders = itertools.product(range(5), repeat=5)
print(any(tree_from_levels("abcde", order) == never for order in orders))

# %% [markdown]
# **2.** For equal logits of $n$ levels, what is the overlap $\sum_k\omega_k$? What does it mean for a network at the start of its training?
#
# :::{dropdown} Solution
# For equal logits $\tilde f(k)=k/n$ and $\tilde i(k)=(n-k+1)/n$, so $\sum_k\omega_k=\frac{(n+1)(n+2)}{6n}$, about $n/6$: at the start an LSTM decides in a sixth of the memory, a third each is copied from either side, and a sixth stays empty.
# :::

# %% tags=["hide-input"]
n = 12
equal = torch.zeros(n, dtype=F64)
overlap = (cumax(equal) * reverse_cumax(equal)).sum().item()
print(round(overlap, 4), round((n + 1) * (n + 2) / (6 * n), 4))

# %% [markdown]
# **3.** A network with one level and a network with $n=H$ levels are both ON-LSTMs. What is the first one?
#
# :::{dropdown} Solution
# A softmax over one level is 1, so $\tilde f=\tilde i=\omega=1$: an LSTM (with two useless rows of weights).
# :::

# %% tags=["hide-input"]
single = ONLSTMCell(3, 8, 1).double()
plain = LSTMCell(3, 8).double()
for part in ("ih", "hh"):
    for kind in ("weight", "bias"):
        rest = getattr(getattr(single, part), kind).data[2:]
        getattr(getattr(plain, part), kind).data = rest.clone()
print(torch.allclose(outputs(single, x), outputs(plain, x)))

# %% [markdown]
# ## On a GPU: the paper's setting
#
# Mikolov's Penn Treebank, three layers of 1,150, 1,150 and 400 neurons, five kinds of dropout, averaged stochastic gradient descent. The published perplexity is 56.17 ± 0.12 on the test part. Nobody has run this cell here; it downloads the text, or takes it from the folder that `KEXUE_DATA` names.

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run -m kexue.experiments.onlstm_language_model --scale gpu

# %% [markdown]
# ## The card

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "onlstm",
    {
        "Live": "grammar: six models of 2 × 64 neurons, 250 steps; counting: six models of 32 neurons, 400 steps",
        "Recorded": "onlstm_chinese, onlstm_english, onlstm_logic and their tunings, in runs/",
    },
)
