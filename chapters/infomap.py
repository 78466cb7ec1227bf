# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # InfoMap: communities as the shortest description of a walk
#
# *最小熵原理（五）：“层层递进”之社区发现与聚类*

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import itertools
import math
import random
import sys
import time
from collections import Counter

# The C++ package has the name of this file, whose folder is therefore not searched.
sys.path = [folder for folder in sys.path if folder]


import igraph
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
from IPython.display import Markdown, display
from scipy import sparse
from scipy.optimize import brentq
from scipy.stats import binomtest
from sklearn.cluster import KMeans
from sklearn.manifold import TSNE
from sklearn.metrics import adjusted_mutual_info_score

import infomap as package
from kexue import data
from kexue.book import plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, source
from kexue.experiments import recorded
from kexue.infomap import (
    EXIT,
    HierarchicalCode,
    annealed_infomap,
    entropy,
    hierarchical_map_equation,
    huffman_code,
    infomap,
    kraft_sum,
    map_equation,
    neighbour_graph,
    overlapping_flow,
    random_walk_flow,
    search_stages,
    stationary_distribution,
)
from kexue.infomap.codelength import codelengths_of, exit_rates
from kexue.infomap.codes import codebook_cost
from kexue.infomap.network import Network
from kexue.infomap.two_levels import search_two_levels

setup("infomap")
rng = np.random.default_rng(0)


# %% [markdown]
# ## Good communities make a short description
#
# Somebody walks around in a network, from node to node along the links, and never stops. Somebody else wants to write down where the walker is, step by step, in as few bits as possible. How?
#
# Give every node a name in bits, short names to nodes that are visited often. That is the best one can do with one list of names. But cities have streets of the same name, and nobody is confused, since we know which
# city we are in. So divide the network into modules, use the same short names again in every module, and write down each change of module. This pays if changes are rare, that is, if the walker stays in a module for long; and modules in which a walker stays for long
# are what one calls *communities*.
#
# So there is a way to judge any division of a network, with no other notion than length: **the best division is the one with the shortest description.** Here are the members of a karate club that split in
# two {cite:p}`zachary1977`, without the weights of their links: the best of five divisions, and what a step costs with each of the five.

# %% tags=["hide-input"]
karate = nx.Graph()
karate.add_nodes_from(range(34))
karate.add_edges_from(nx.karate_club_graph().edges())  # without weights
karate_flow = random_walk_flow(karate, teleport=0)
karate_best = infomap(karate, teleport=0, trials=10)
club = nx.get_node_attributes(nx.karate_club_graph(), "club")
places = nx.spring_layout(karate, seed=4)


def draw(ax, graph, modules, places, title="", size=90, **options):
    """A graph whose nodes' colours and shapes are their modules."""
    shades = plotting.COLOURS
    order = list(dict.fromkeys(modules[v] for v in sorted(graph)))
    nx.draw_networkx_edges(graph, places, ax=ax, alpha=0.3)
    for number, module in enumerate(order):
        nx.draw_networkx_nodes(
            graph,
            places,
            [v for v in graph if modules[v] == module],
            node_color=shades[number % len(shades)],
            node_shape="osD^vph8"[number % 9],
            node_size=size,
            linewidths=0,
            ax=ax,
            **options,
        )
    ax.set(title=title)
    ax.axis("off")


# %% mystnb={"figure": {"caption": "Zachary's karate club. Above: the modules that make the description of a walk shortest. Below: what a step costs, in bits, with five divisions of the same club.", "name": "infomap-club"}, "image": {"alt": "A network of 34 people in three colours, each colour a dense region. Below it five horizontal bars: every member a module is the longest, then random thirds, one module for all, the two parts that the club split into, and, shortest, the three modules found."}} tags=["hide-input"]
divisions = {
    "every member a module": {v: v for v in karate},
    "three random modules": dict(zip(karate, rng.integers(3, size=34))),
    "one module": dict.fromkeys(karate, 0),
    "as the club split": club,
    "the shortest": karate_best.modules,
}
lengths = {
    name: map_equation(karate_flow, modules)
    for name, modules in divisions.items()
}
fig, (ax, bars) = plotting.panels(2, height=3.0)
draw(ax, karate, karate_best.modules, places)
assert sorted(lengths.values(), reverse=True) == list(lengths.values())
drawn = bars.barh(range(5), list(lengths.values()), color=plotting.BLUE)
bars.bar_label(drawn, fmt="%.2f", padding=3)
bars.bar_label(drawn, list(lengths), label_type="center", color="white")
bars.set(xlabel="bits for a step", xlim=(0, 7.5), yticks=[])
bars.grid(visible=False)
bars.invert_yaxis()
plt.show()

# %% [markdown]
# This chapter builds that from nothing: what a code is and why it cannot be too short, how to code by category, how long a walk's description is (the *map equation*), and how to search for the
# modules. The article calls the thread *层层递进*, layer by layer. Letters are on the page {doc}`../pages/notation`; all lengths are in bits.
#
# ## Codewords take room, and there is only so much of it
#
# A *code* gives each symbol a codeword of zeros and ones. If no codeword is the beginning of another, texts can be written without gaps, and the reader still knows where a word ends: the code is a *prefix code*. Such a code is a
# tree. Go left for 0 and right for 1; the symbols are the leaves.
#
# Short codewords are better, but not all can be short. The article's inequality (1), due to Kraft {cite:p}`kraft1949`, says how much there is to share out: the lengths $l_i$ of a prefix code satisfy
#
# $$
# \sum_i2^{-l_i}\le1.
# $$ (infomap-eq1)
#
# The tree shows why. Let one litre of water run into the root, and let it divide evenly at every fork. A leaf at depth $l$ gets $2^{-l}$ litres. No leaf lies below another, so no water is counted twice, and all leaves together get
# at most the litre. They get exactly that if every fork has two branches with a leaf below each.


# %% tags=["hide-input"]
def draw_tree(ax, code, labels=None):
    """A prefix code as a tree, 0 to the left."""
    inner = {w[:i] for w in code.values() for i in range(len(w))}
    words = sorted(code.values())
    x = {word: float(i) for i, word in enumerate(words)}
    for word in sorted(inner, key=len, reverse=True):
        below = [x[word + b] for b in "01" if word + b in x]
        x[word] = sum(below) / len(below)
    for word in x:
        if word:
            parent = word[:-1]
            ends = [x[parent], x[word]], [-len(parent), -len(word)]
            ax.plot(*ends, color=plotting.INK, linewidth=1)
            ax.annotate(
                word[-1],
                (0.5 * sum(ends[0]), 0.5 * sum(ends[1])),
                ha="center",
                va="center",
                fontsize=10,
                bbox={"fc": "white", "ec": "none", "pad": 1},
            )
    for symbol, word in code.items():
        text = (labels or {}).get(symbol, str(symbol))
        ax.annotate(
            text,
            (x[word], -len(word)),
            ha="center",
            va="top",
            fontsize=10,
            bbox={"boxstyle": "round", "fc": "#dce9f5", "ec": "none"},
        )
    ax.set_ylim(-max(map(len, words)) - 0.7, 0.3)
    ax.axis("off")


# %% mystnb={"figure": {"caption": "A prefix code for five letters, and the water that each leaf gets."}, "image": {"alt": "A binary tree with zeros to the left and ones to the right. The letter a is a leaf at depth one and gets a half, b at depth two a quarter, c at depth three an eighth, d and e at depth four a sixteenth each."}} tags=["hide-input"]
p = dict(zip("abcde", [0.5, 0.25, 0.125, 0.0625, 0.0625]))
code = huffman_code(p)
fig, ax = plotting.panels(1, height=2.6)
water = {s: f"{s}\n1/{2 ** len(w)}" for s, w in code.items()}
draw_tree(ax, code, water)
plt.show()


# %% [markdown]
# To check the inequality, let random trees grow: 1,000 prefix codes. Some forks have one branch only, and lose water.


# %%
def random_prefix_code(splits):
    """The leaves of a tree: at each split a leaf becomes two, or one that is longer."""
    words = [""]
    for two in splits:
        word = words.pop(rng.integers(len(words)))
        words += [word + "0", word + "1"] if two else [word + "1"]
    return words


def is_prefix_free(words):
    ordered = sorted(words)  # a word and what it begins are neighbours
    return not any(b.startswith(a) for a, b in itertools.pairwise(ordered))


full, lossy = [], []
for _ in range(1000):
    splits = rng.random(10) < 0.9
    words = random_prefix_code(splits)
    assert is_prefix_free(words)
    (full if splits.all() else lossy).append(kraft_sum(map(len, words)))
print(f"no fork lost: {set(full)}; others: at most {max(lossy):.4f}")
not_prefix = ["0", "1", "01"]  # is 01 one word or two?
print("0, 1 and 01 would need", kraft_sum(map(len, not_prefix)), "litres")

# %%
verdict(
    "infomap.eq1",
    holds=set(full) == {1.0}
    and max(lossy) < 1
    and kraft_sum(map(len, not_prefix)) > 1
    and not is_prefix_free(not_prefix),
    measured={"codes": len(full) + len(lossy)},
)

# %% [markdown]
# ## Entropy is the length that no code undercuts
#
# If symbol $i$ comes with probability $p_i$, what is the least that a symbol can cost on average? The article's answer (its equation 2) is the *entropy*,
#
# $$
# H(P)=-\sum_ip_i\log_2p_i.
# $$ (infomap-eq2)
#
# It begins with the mean length of a code (equation 3),
#
# $$
# \sum_ip_il_i=-\sum_ip_i\log_22^{-l_i}.
# $$ (infomap-eq3)
#
# Call each leaf's share of the water $\hat p_i$, and what was lost the slack $\hat p_0$ (equation 4):
#
# $$
# \hat p_i=2^{-l_i},\qquad\hat p_0=1-\sum_{i\ge1}\hat p_i\ge0.
# $$ (infomap-eq4)
#
# By Kraft these are probabilities. Give $p_0=0$ to the slack. Then the mean length is a *cross-entropy*, which is what symbols of distribution $p$ cost in a code made for $\hat p$ (equation 5, with $0\log\hat p_0=0$):
#
# $$
# \sum_ip_il_i=-\sum_{i\ge0}p_i\log_2\hat p_i.
# $$ (infomap-eq5)
#
# A cross-entropy is least if both distributions agree,
#
# $$
# -\sum_ip_i\log_2\hat p_i\ge-\sum_ip_i\log_2p_i.
# $$
#
# The reason is $\ln x\le x-1$: the right side minus the left is $\sum_ip_i\log_2\frac{\hat p_i}{p_i}\le\frac1{\ln2}\sum_ip_i\bigl(\frac{\hat p_i}{p_i}-1\bigr)=\frac{(1-\hat p_0)-1}{\ln2}\le0$. Together (equation 6):
#
# $$
# \sum_ip_il_i\ge H(P).
# $$ (infomap-eq6)
#
# The bound is reached where all $p_i=2^{-l_i}$, as in the tree above. In general one has to round, which costs less than a bit: Huffman's code {cite:p}`huffman1952` merges the two rarest
# symbols, again and again, and has the least mean length of all prefix codes. A thousand random distributions, each step of the chain evaluated:

# %%
source(entropy, huffman_code)

# %%
gaps, excess, rewritten, off = [], [], [], []
slacks, equal, dyadic = [], [], []
for _ in range(1000):
    n = int(rng.integers(2, 12))
    p = rng.dirichlet(np.ones(n))
    # Of Huffman's code, and of one with a branch lost: slack.
    for extra in (0, 1):
        huffman = huffman_code(p)
        length = np.array([len(huffman[i]) + extra for i in range(n)])
        p_hat = 2.0**-length
        slack = 1 - p_hat.sum()
        mean, cross = p @ length, -p @ np.log2(p_hat)
        as_logs = -sum(
            q * math.log2(2.0**-n) for q, n in zip(p, length.tolist())
        )
        rewritten.append(abs(mean - as_logs))
        off.append(abs(mean - cross))
        slacks.append(abs(slack - extra / 2))  # half of the water, or none
        gaps.append(cross - entropy(p))
        if extra == 0:
            excess.append(mean - entropy(p))
            equal.append(kraft_sum(map(len, huffman.values())))
    # A code made without regard to p.
    wild = random_prefix_code(rng.random(n - 1) < 0.8)
    q_hat = 2.0 ** -np.array([len(w) for w in wild])
    r = rng.dirichlet(np.ones(len(wild)))
    gaps.append(-r @ np.log2(q_hat) - entropy(r))
    slacks.append(-min(0, 1 - q_hat.sum()))
    fair = 2.0 ** -np.array([len(w) for w in huffman_code(p).values()])
    best = huffman_code(fair)
    dyadic.append(fair @ [len(best[i]) for i in range(n)] - entropy(fair))
gaps, excess, dyadic = map(np.array, (gaps, excess, dyadic))
print(
    f"Huffman's mean length − entropy: {excess.min():.3f} to {excess.max():.3f}"
)

# %%
mean = 0.5 * 1 + 0.25 * 2 + 0.125 * 3 + 2 * 0.0625 * 4
weights = dict(zip("abcde", [0.5, 0.25, 0.125, 0.0625, 0.0625]))
counted = sum(weights[s] * len(w) for s, w in code.items())
text = rng.choice(list(weights), size=20_000, p=list(weights.values()))
written = len("".join(code[s] for s in text)) / len(text)
verdict("infomap.eq2", holds=entropy(list(weights.values())) == mean == 1.875)
verdict(
    "infomap.eq3",
    holds=max(rewritten) < 1e-12
    and mean == counted
    and abs(written - mean) < 0.03,
    measured={"bits a letter of a random text": written, "Σpl": mean},
)
verdict("infomap.eq4", holds=max(slacks) < 1e-12 and set(equal) == {1.0})
verdict("infomap.eq5", holds=max(off) < 1e-12)
verdict(
    "infomap.eq6",
    holds=gaps.min() > -1e-12
    and excess.min() > -1e-12
    and excess.max() < 1
    and abs(dyadic).max() < 1e-12,
    measured={
        "most that Huffman's code exceeds it by": excess.max(),
        "the same, for powers of two": abs(dyadic).max(),
    },
)

# %% [markdown]
# ## Names inside categories can be short
#
# Now the article's idea. Who has to remember a shopping list sorts it: *fruit: apples, bananas; dairy: …*. In a category few words suffice, so each can be short. As a code:
#
# 1. one codebook names the categories;
# 2. each category has a codebook of its own, for the objects in it and for one mark more, the *exit* ↩;
# 3. a text is written as: category, its objects, ↩, next category, its objects, ↩, ….
#
# The same bits mean different things in different categories, and still everything can be decoded, since the reader always knows which codebook is in use. What it costs: two codewords more for each change, the name of the category and the exit.

# %%
source(HierarchicalCode)

# %% [markdown]
# An example like the article's: twelve things of three kinds, fruits (apple, banana, pear, grapes, watermelon), cities (Beijing, Shanghai, Guangzhou, Chengdu) and numbers, in three orders.

# %%
KINDS = {
    "fruit": ["苹果", "香蕉", "雪梨", "葡萄", "西瓜"],
    "city": ["北京", "上海", "广州", "成都"],
    "number": ["13", "123", "256"],
}
kind_of = {item: kind for kind, items in KINDS.items() for item in items}
clumped = list(kind_of)
rows = itertools.zip_longest(*KINDS.values())
interleaved = [item for row in rows for item in row if item]
twelve = HierarchicalCode.fit(clumped, kind_of)
bits = twelve.encode(clumped)
print(bits)
print(twelve.decode(bits) == clumped, len(bits), "bits")

# %% mystnb={"figure": {"caption": "The codebooks for the clumped list: above, that of the categories; below, one of them, with its exit mark."}, "image": {"alt": "Two binary trees. The upper has the leaves fruit, city and number; the lower has four cities and the exit mark as leaves, at depths two and three."}} tags=["hide-input"]
English = {"北京": "Beijing", "上海": "Shanghai", "广州": "Guangzhou"}
English |= {"成都": "Chengdu", EXIT: "exit"}
fig, (above, below) = plotting.panels(2, height=2.0)
draw_tree(above, twelve.index)
draw_tree(below, twelve.modules["city"], English)
plt.show()

# %% [markdown]
# With ideal codewords, of $-\log_2p$ bits each, and with Huffman's, whose lengths are whole numbers:

# %%
flat_ideal = 12 * math.log2(12)
table = ["| order | ideal | Huffman |", "|---|---|---|"]
flat_code = huffman_code([1 / 12] * 12)
table.append(
    f"| any, one codebook | {flat_ideal:.2f} | {sum(map(len, flat_code.values()))} |"
)
ideal = {}
for name, order in (("clumped", clumped), ("interleaved", interleaved)):
    fitted = HierarchicalCode.fit(order, kind_of)
    ideal[name] = 12 * fitted.codelength
    assert fitted.decode(fitted.encode(order)) == order
    table.append(
        f"| {name}, three categories | {ideal[name]:.2f} | {len(fitted.encode(order))} |"
    )
display(Markdown("\n".join(table)))

# %% [markdown]
# So sorting pays, and categories on an unsorted list are worse than none. Between the two there is a break-even. Let a random text over these twelve things change its category with some probability after each; the mean number of things between two changes
# tells how clumped it is.


# %%
def clumpy(stay, length=4000):
    """A random text that stays in its category with this probability."""
    kind, text = "fruit", []
    for change in rng.random(length) > stay:
        if change:
            kind = rng.choice([k for k in KINDS if k != kind])
        text.append(str(rng.choice(KINDS[kind])))
    return text


def share(text):
    """How large a part of a text each object is."""
    return np.array(list(Counter(text).values())) / len(text)


runs_of = [1, 1.5, 2, 3, 4, 6, 8, 12, 16]
saving = []
for mean_run in runs_of:
    text = clumpy(1 - 1 / mean_run)
    fitted = HierarchicalCode.fit(text, kind_of)
    assert fitted.decode(fitted.encode(text)) == text
    saving.append(entropy(share(text)) - fitted.codelength)
saved = np.array(saving)
assert saved[1] < 0 < saved[5]  # from 1.5 to 6 in a row

# %% mystnb={"figure": {"caption": "Bits that the categories save for each thing, against how many things of a category come in a row. Below the line they cost more than they save."}, "image": {"alt": "A rising curve. It starts at minus two bits for runs of one, crosses zero between two and six in a row, and still rises above one bit for runs of sixteen."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=2.6)
ax.axhline(0, color=plotting.INK, linewidth=1)
ax.plot(runs_of, saved, "o-")
ax.set(
    xscale="log",
    xlabel="things of one category in a row, on average",
    ylabel="bits saved for each",
)
ax.set_xticks(runs_of, [f"{r:g}" for r in runs_of])
ax.minorticks_off()
plt.show()

# %%
verdict(
    "infomap.claim6",
    holds=ideal["clumped"] < flat_ideal < ideal["interleaved"]
    and saved[0] < 0 < saved[-1]
    and (np.diff(saved) > 0).all(),
    measured={
        "flat, bits": flat_ideal,
        "clumped, bits": ideal["clumped"],
        "interleaved, bits": ideal["interleaved"],
    },
)
lossless = []
for _ in range(300):
    items = "abcdefgh"[: rng.integers(1, 9)]
    parts = dict(zip(items, rng.integers(0, 4, len(items)).tolist()))
    text = [str(c) for c in rng.choice(list(items), size=rng.integers(1, 60))]
    fitted = HierarchicalCode.fit(text, parts)
    encoded = fitted.encode(text)
    lossless.append(
        fitted.decode(encoded) == text
        and len(encoded) == round(fitted.mean_length * len(text))
    )
verdict(
    "infomap.coding",
    holds=len(lossless) == 300 and all(lossless),
    measured={"random texts, encoded and decoded": len(lossless)},
)

# %% [markdown]
# ## Three kinds of rates, and one formula for the length
#
# To know the length of such a code we only need to know how often each codeword is written. The article's notation (equation 7), as rates for each object of the text:
#
# $$
# p_\alpha\ (\text{object }\alpha),\qquad q_i\ (\text{name of category }i),\qquad q_i\ (\text{its exit mark}).
# $$ (infomap-eq7)
#
# The exit mark of $i$ is written as often as the name of $i$, since whatever is entered is left. The article then has all of them sum to one (equation 8),
#
# $$
# \sum_iq_i+\sum_\alpha p_\alpha+\sum_iq_i=1,
# $$ (infomap-eq8)
#
# and remarks later that it does not matter whether they are normalised in this way. We will see that it does, and count for each *object* from here on: $\sum_\alpha p_\alpha=1$. The codebook of the categories is used $q=\sum_iq_i$ times an object, each time at the cost of its
# entropy (equation 9),
#
# $$
# H(\mathcal Q)=-\sum_i\frac{q_i}{q}\log_2\frac{q_i}{q};
# $$ (infomap-eq9)
#
# that of category $i$ is used $p_i^\circlearrowright=q_i+\sum_{\alpha\in i}p_\alpha$ times an object (the circle stands for moving about inside, the exit included), at (equation 10)
#
# $$
# H(\mathcal P^i)=-\frac{q_i}{p_i^\circlearrowright}\log_2\frac{q_i}{p_i^\circlearrowright}-\sum_{\alpha\in i}\frac{p_\alpha}{p_i^\circlearrowright}\log_2\frac{p_\alpha}{p_i^\circlearrowright}.
# $$ (infomap-eq10)
#
# In all (equation 11), with $M$ for the division into modules:
#
# $$
# L(M)=q\,H(\mathcal Q)+\sum_ip_i^\circlearrowright H(\mathcal P^i).
# $$ (infomap-eq11)
#
# This is the **map equation** {cite:p}`rosvall2008`. It *is* eq. (6), applied to each codebook; so no prefix code that has one codebook for each category and one for their names is shorter, and Huffman's are longer by less than one bit for each codeword, of which there are $1+2q$ for each object:
#
# $$
# L(M)\le\text{bits for an object}<L(M)+1+2q.
# $$
#
# We count the rates in random texts, write the five formulas down as they stand, and compare with the bits that were really written.


# %%
def as_written(text, parts):
    """Rates, and equations 9 to 11, from counts; and the bits of a real code."""
    objects = Counter(text)
    visits = [kind for kind, _ in itertools.groupby(text, parts.get)]
    n = len(text)
    q_i = {kind: count / n for kind, count in Counter(visits).items()}
    p = {item: count / n for item, count in objects.items()}
    q = sum(q_i.values())
    h_q = -sum(r / q * math.log2(r / q) for r in q_i.values())
    inside = {}
    for kind, r in q_i.items():
        rates = [r, *(p[item] for item in p if parts[item] == kind)]
        total = sum(rates)
        h = -sum(x / total * math.log2(x / total) for x in rates)
        inside[kind] = (total, h)
    length = q * h_q + sum(total * h for total, h in inside.values())
    return q_i, q, h_q, inside, length, n


def codewords(fitted, bits):
    """How many names, objects and exit marks these bits hold, read one by one."""
    counts, kind, word = Counter(), None, ""  # None: the codebook of categories
    for bit in bits:
        word += bit
        book = fitted.index if kind is None else fitted.modules[kind]
        symbol = next((s for s, w in book.items() if w == word), None)
        if symbol is None:
            continue
        word = ""
        if kind is None:
            counts["names"] += 1
            kind = symbol
        elif symbol == EXIT:
            counts["exits"] += 1
            kind = None
        else:
            counts["objects"] += 1
    return counts


eq7, eq9, eq10, eq11, between, sums = [], [], [], [], [], []
for stay in np.linspace(0, 0.95, 40):
    text = clumpy(stay, 600)
    q_i, q, h_q, inside, length, n = as_written(text, kind_of)
    fitted = HierarchicalCode.fit(text, kind_of)
    of = fitted.counts
    exits = np.array([of[kind][EXIT] for kind in of]) / n
    eq9.append(abs(h_q - entropy(exits / exits.sum())))
    for kind, (rate, h) in inside.items():
        counts = np.array(list(of[kind].values()))
        eq10.append(abs(h - entropy(counts / counts.sum())))
        eq10.append(abs(rate - counts.sum() / n))
    eq11.append(abs(length - fitted.codelength))
    bits = fitted.encode(text)
    read = codewords(fitted, bits)
    rates = {what: count / n for what, count in read.items()}
    eq7 += [abs(rates[what] - q) for what in ("names", "exits")]
    eq7.append(abs(rates["objects"] - 1))
    normalised = [*q_i.values(), *share(text), *q_i.values()]
    sums.append(abs(sum(normalised) * n / read.total() - 1))
    spent = len(bits) / n
    between.append(length - 1e-12 <= spent < length + 1 + 2 * q)

# %%
verdict("infomap.eq7", holds=max(eq7) < 1e-12)
verdict("infomap.eq9", holds=max(eq9) < 1e-12)
verdict("infomap.eq8", holds=max(sums) < 1e-12)
verdict("infomap.eq10", holds=max(eq10) < 1e-12)

# %% [markdown]
# ### The normalisation matters
#
# Sums of all rates are 1 after division by $1+2q$, as eq. (8) demands. Then the length is divided as well: it is bits for each *codeword* then. But $q$ depends on the division, so this favours divisions with many exits, whose many codewords are cheap. Take a triangle and a walk on
# it. One module needs $\log_23$ bits for a step. Three modules of one node need more bits, of course:

# %%
triangle = random_walk_flow(nx.cycle_graph(3), teleport=0)
one, three = (map_equation(triangle, m) for m in ([0, 0, 0], [0, 1, 2]))
q_three = exit_rates(triangle, np.arange(3)).sum()  # every step is one
print(f"bits for a step:     {one:.3f} in one module, {three:.3f} in three")
print(f"bits for a codeword: {one:.3f} and {three / (1 + 2 * q_three):.3f}")

# %%
same_order = (three < one) == (three / (1 + 2 * q_three) < one)
verdict(
    "infomap.normalising",
    holds=same_order,
    measured={
        "triangle, one module": one,
        "three modules, bits a step": three,
        "three modules, bits a codeword": three / (1 + 2 * q_three),
    },
)

# %% [markdown]
# So the convention has to be chosen, and the map equation's is: visits sum to 1, bits for a step.
#
# ## The text is a walk
#
# A network has no text. We let it write one: the nodes that a *random walk* visits. From node $\alpha$ it goes to $\beta$ with probability $p_{\alpha\to\beta}$, in proportion to the weights of the links that leave $\alpha$. If the walker is at $\alpha$ with probability $p_\alpha$ at one step, and at the next with the same
# probability, then $p$ is *stationary* (equation 12):
#
# $$
# p_\beta=\sum_\alpha p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq12)
#
# These are the rates of its visits in a long walk. They are a left eigenvector of the transition matrix, of eigenvalue 1. The article computes it by iteration: begin somewhere, apply the right side again and again. And it warns that the result may depend on where one begins, if there are several solutions: the walk can get
# caught in one part of the network or in another. That is so. It can also depend on the start where there is one solution only: on two nodes that point at each other a long walk visits both equally often; but the probabilities of where it is swap at every step, and never settle, because of the *period* two.


# %%
def walk(transitions, teleport, steps):
    """A simulated walk, node by node."""
    n, node, path = len(transitions), 0, []
    cumulated = transitions.cumsum(1)
    for jump, place in rng.random((steps, 2)):
        path.append(node)
        if jump < teleport or cumulated[node, -1] == 0:
            node = int(place * n)
        else:
            node = min(np.searchsorted(cumulated[node], place), n - 1)
    return path


caught = np.array([[0, 0.5, 0.5], [0, 1, 0], [0, 0, 1]])
swap = np.array([[0.0, 1.0], [1.0, 0.0]])


def iterate(p, transitions, steps=1000):
    for _ in range(steps):
        p = p @ transitions
    return p


def solutions(transitions):
    """The dimension of the space of all solutions of eq. 12."""
    n = len(transitions)
    return n - np.linalg.matrix_rank(transitions.T - np.eye(n), tol=1e-9)


for name, transitions in (("caught", caught), ("swap", swap)):
    n = len(transitions)
    ends = [iterate(np.eye(n)[i], transitions) for i in (n - 1, n - 2)]
    print(f"{name}: {solutions(transitions)} independent solutions;", end=" ")
    print("from two starts:", *(e.tolist() for e in ends))

# %% [markdown]
# (Two nodes with one link between them are such a case, and so is every connected undirected network without odd cycles.) Equation 13 mends both. With probability $\tau=0.15$ the walk does not take a link but *teleports*, to any of the $n$ nodes with equal odds:
#
# $$
# p_\beta=(1-\tau)\sum_\alpha p_\alpha\,p_{\alpha\to\beta}+\frac\tau n.
# $$ (infomap-eq13)
#
# A node without links out, a *dangling* node, teleports always; that is as if it had a link to each of the $n$ nodes, $p_{\alpha\to\beta}=\frac1n$. Then all rows sum to 1, and with each step two distributions come closer, in $\sum|\cdot|$, by the factor $1-\tau$ at least: links cannot make the difference larger, and what teleports, $\frac\tau n$, is the same for both. So there is one solution, and every start leads to it. (This is PageRank {cite:p}`page1999`.)

# %%
source(stationary_distribution)

# %%
closest, worst_eigen, worst_rank, contraction = [], [], [], []
for seed in range(20):
    graph = nx.gnp_random_graph(12, 0.15, seed, directed=True)
    weights = nx.to_numpy_array(graph)
    out = weights.sum(1, keepdims=True)
    transitions = np.divide(weights, out, where=out > 0, out=np.zeros((12, 12)))
    full = np.where(out > 0, 0.85 * transitions + 0.15 / 12, 1 / 12)
    found = stationary_distribution(transitions, 0.15)
    worst_eigen.append(abs(found @ full - found).max())
    ends = [iterate(np.eye(12)[i], full, 250) for i in range(12)]
    closest.append(max(abs(end - found).max() for end in ends))
    rank = nx.pagerank(graph, 0.85, tol=1e-14, max_iter=1000)
    worst_rank.append(max(abs(found[i] - rank[i]) for i in range(12)))
    a, b = rng.dirichlet(np.ones(12), size=2)
    contraction.append(abs(a @ full - b @ full).sum() / abs(a - b).sum())
flow = random_walk_flow(karate, 0)
by_degree = np.array([karate.degree(v) for v in flow.nodes]) / (
    2 * karate.number_of_edges()
)
balance = abs(flow.link.sum(0) - flow.visit).max()
steps = nx.to_numpy_array(karate)
steps /= steps.sum(1, keepdims=True)
starts = [iterate(np.eye(34)[i], steps) for i in (0, 16, 33)]
reached = max(abs(end - by_degree).max() for end in starts)
eigenvalues, eigenvectors = np.linalg.eig(steps.T)
leading = eigenvectors[:, abs(eigenvalues - 1).argmin()].real
leading_error = abs(leading / leading.sum() - by_degree).max()
long_walk = np.bincount(walk(steps, 0, 100_000), minlength=34) / 100_000

# %%
two_solutions = solutions(caught) == 2
has_period = solutions(swap) == 1 and not np.allclose(
    iterate(np.eye(2)[0], swap, 1000), iterate(np.eye(2)[0], swap, 1001)
)
solved = (
    max(balance, abs(flow.visit - by_degree).max()) < 1e-15
    and max(reached, leading_error) < 1e-12
    and abs(long_walk - by_degree).max() < 0.01
)
verdict("infomap.eq12", holds=solved and two_solutions and has_period)
verdict(
    "infomap.eq13",
    holds=max(worst_eigen) < 1e-12
    and max(closest) < 1e-12
    and max(worst_rank) < 1e-9
    and max(contraction) <= 0.85 + 1e-12,
    measured={
        "largest error of the equation": max(worst_eigen),
        "difference to networkx' PageRank": max(worst_rank),
    },
)

# %% [markdown]
# ## A module's exits: along links, and by teleportation
#
# Objects are visits now, and categories are modules. Entering a module follows on leaving another, so the $q_i$ are the rates at which the walk leaves module $i$ (equation 14):
#
# $$
# q_i=\sum_{\alpha\in i}\sum_{\beta\notin i}p_\alpha\,p_{\alpha\to\beta},
# $$ (infomap-eq14)
#
# and with teleportation, which leads out of a module of $n_i$ nodes in $n-n_i$ of $n$ cases (equation 15):
#
# $$
# q_i=\tau\frac{n-n_i}{n}\sum_{\alpha\in i}p_\alpha+(1-\tau)\sum_{\alpha\in i}\sum_{\beta\notin i}p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq15)
#
# For dangling nodes $\tau$ is 1. Where an undirected network is walked with teleportation, each link goes both ways. We compare with a sum over all pairs of nodes, each pair by itself, and with the exits that were counted in a walk of 100,000 steps:


# %%
def exits_by_pairs(flow, labels, transitions, teleport):
    """Equations 14 and 15, summed over pairs of nodes one by one."""
    n, q = len(labels), np.zeros(max(labels) + 1)
    for a, b in itertools.product(range(n), repeat=2):
        if labels[a] != labels[b]:
            tau = teleport if transitions[a].any() else 1.0
            chance = tau / n + (1 - tau) * transitions[a, b]
            q[labels[a]] += flow.visit[a] * chance
    return q


# %%
errors, simulated = {}, {}
labels = [i % 3 for i in range(12)]
for name, teleport, seed in (("eq14", 0.0, 1), ("eq15", 0.15, 3)):
    graph = nx.gnp_random_graph(12, 0.2, seed, directed=teleport > 0)
    if teleport:
        graph.remove_edges_from([*graph.out_edges(5)])  # a dangling node
    weights = nx.to_numpy_array(graph)
    out = weights.sum(1, keepdims=True)
    transitions = np.divide(weights, out, where=out > 0, out=np.zeros((12, 12)))
    flow = random_walk_flow(graph, teleport)
    q = exit_rates(flow, np.array(labels))
    errors[name] = abs(q - exits_by_pairs(flow, labels, transitions, teleport))
    path = np.array(labels)[walk(transitions, teleport, 100_000)]
    left = path[:-1][path[:-1] != path[1:]]
    counted = np.bincount(left, minlength=3) / len(path)
    simulated[name] = abs(counted - q).max()
    print(name, "computed:", q.round(3), "counted:", counted.round(3))

# %%
for name in ("eq14", "eq15"):
    verdict(
        f"infomap.{name}",
        holds=errors[name].max() < 1e-12 and simulated[name] < 0.01,
        measured={"difference to the simulated walk": simulated[name]},
    )

# %% [markdown]
# Here is the whole of it in code: exits, two kinds of codebooks, a sum. It uses a shorthand. A codebook whose names are written at the rates $r_1,r_2,\dots$ with the sum $R$ costs
#
# $$
# R\,H=-\sum_kr_k\log_2\frac{r_k}R=\operatorname{plogp}(R)-\sum_k\operatorname{plogp}(r_k),\qquad\operatorname{plogp}(x)=x\log_2x.
# $$

# %%
source(
    random_walk_flow, map_equation, exit_rates, codelengths_of, codebook_cost
)

# %% [markdown]
# ## What the formula says is what a code spends
#
# Now really write a walk through the karate club down, with Huffman codes, in one codebook and with the three modules from the figure at the head. Eight steps, in the midst of which the walk changes its module:

# %% tags=["hide-input"]
path = walk(steps, 0, 100_000)
one_book = huffman_code(Counter(path))
books = HierarchicalCode.fit(path, karate_best.modules)
rows = ["| at member | one codebook | with modules |", "|---|---|---|"]
visited = [karate_best.modules[v] for v in path]
change = next(i for i in range(5, 200) if visited[i] != visited[i - 1])
for place in range(change - 4, change + 4):
    node, module = path[place], visited[place]
    word = books.modules[module][node]
    if module != visited[place - 1]:
        word = f"**{books.index[module]}** {word}"
    if module != visited[place + 1]:
        word += f" **{books.modules[module][EXIT]}**"
    rows.append(f"| {node} | {one_book[node]} | {word} |")
rows.append(
    f"| all {len(path):,} | {sum(len(one_book[v]) for v in path):,} bits | {len(books.encode(path)):,} bits |"
)
display(
    Markdown("\n".join(rows) + "\n\nBold: names of modules, and exit marks.")
)

# %% mystnb={"figure": {"caption": "The first 150 steps. Above: the bits that each step costs with one codebook. Below: with modules, coloured by the module; where the walk changes it, the step costs the exit mark and the name as well."}, "image": {"alt": "Two rows of bars. In the upper one nearly all bars are three to seven bits high. In the lower one most are two to five bits high, in stretches of one colour, with a tall bar at each change of colour."}} tags=["hide-input"]
shown = 150
costs_flat = [len(one_book[v]) for v in path[:shown]]
costs, shades = [], []
order = list(dict.fromkeys(karate_best.modules[v] for v in sorted(karate)))
for place in range(shown):
    module = visited[place]
    names = books.modules[module]
    cost = len(names[path[place]])
    if place == 0 or visited[place - 1] != module:
        cost += len(books.index[module])
    if visited[place + 1] != module:
        cost += len(names[EXIT])
    costs.append(cost)
    shades.append(plotting.COLOURS[order.index(module)])
fig, (above, below) = plotting.panels(2, height=1.6)
above.bar(range(shown), costs_flat, color="#888", width=1)
below.bar(range(shown), costs, color=shades, width=1)
above.set(ylabel="bits", ylim=(0, 14), title="one codebook")
below.set(ylabel="bits", ylim=(0, 14), xlabel="step", title="three modules")
plt.show()

# %%
expected = map_equation(karate_flow, karate_best.modules)
spent = len(books.encode(path)) / len(path)
q = sum(of[EXIT] for of in books.counts.values()) / len(path)
print(
    f"map equation: {expected:.4f}; from this walk's counts: {books.codelength:.4f}"
)
print(
    f"really written: {spent:.4f}, which must be less than {expected + 1 + 2 * q:.4f}"
)

# %% [markdown]
# ### Parity with the package of the map equation's authors
#
# The package [`infomap`](https://pypi.org/project/infomap/), in C++ {cite:p}`edler2025`, computes the same formula, if it is told to. On undirected graphs, without teleportation, it does so by default. On directed graphs its default is another one: it teleports to nodes in proportion to
# their links, and does not write these steps down, "unrecorded teleportation" {cite:p}`lambiotte2012`. That changes $q_i$ and $p_\alpha$, and is another objective. The article's needs the flags below. Thirteen graphs, each with the division that the package finds:

# %%
RECORDED = "--directed --recorded-teleportation --to-nodes --teleportation-probability 0.15"


def weighted(graph, seed):
    draws = np.random.default_rng(seed)
    for _, _, attributes in graph.edges(data=True):
        attributes["weight"] = float(draws.integers(1, 9))
    return graph


def with_loops(graph):
    graph.add_weighted_edges_from([(0, 0, 2.0), (3, 3, 1.0)])
    return graph


def dangling(graph):
    graph.remove_edges_from([*graph.out_edges(2), *graph.out_edges(5)])
    return graph


def gnp(n, p, seed, directed=False):
    return nx.gnp_random_graph(n, p, seed, directed)


GRAPHS = {
    "karate club": karate,
    "random": gnp(40, 0.1, 0),
    "random, weighted": weighted(gnp(40, 0.1, 1), 1),
    "weighted, self-loops": with_loops(weighted(gnp(30, 0.15, 2), 2)),
    "two parts": nx.disjoint_union(gnp(12, 0.4, 1), gnp(9, 0.5, 2)),
    "isolated nodes": nx.disjoint_union(gnp(20, 0.2, 9), nx.empty_graph(3)),
    "planted groups": nx.planted_partition_graph(4, 15, 0.5, 0.03, seed=0),
    "directed": gnp(30, 0.1, 3, True),
    "directed, weighted": weighted(gnp(30, 0.1, 4, True), 3),
    "directed, self-loops": with_loops(weighted(gnp(30, 0.1, 5, True), 4)),
    "dangling nodes": dangling(gnp(30, 0.1, 6, True)),
    "directed, two parts": nx.disjoint_union(
        gnp(15, 0.2, 7, True), gnp(15, 0.2, 8, True)
    ),
    "karate club, both ways": karate.to_directed(),
}


# %%
def by_package(graph, flags):
    """The package's codelength, and the modules that it is for."""
    search = package.Infomap(f"--silent --two-level --seed 7 {flags}")
    search.add_nodes(list(graph))
    for a, b, attributes in graph.edges(data=True):
        search.add_link(a, b, attributes.get("weight", 1.0))
    result = search.run()
    return result.codelength, result.modules()


parity, default = {}, {}
for name, graph in GRAPHS.items():
    directed = graph.is_directed()
    theirs, modules = by_package(graph, RECORDED if directed else "")
    flow = random_walk_flow(graph, 0.15 if directed else 0.0)
    ours = map_equation(flow, dict(modules))
    parity[name] = (ours, theirs, len(set(dict(modules).values())))
    if directed:
        other, modules = by_package(graph, "--directed")
        default[name] = abs(other - map_equation(flow, dict(modules)))

# %% tags=["hide-input"]
rows = ["| graph | modules | L(M), bits |", "|---|---|---|"]
rows += [f"| {n} | {k} | {ours:.6f} |" for n, (ours, _, k) in parity.items()]
display(Markdown("\n".join(rows)))
difference = max(abs(ours - theirs) for ours, theirs, _ in parity.values())
print(f"all equal to the package's to 1e-9: {difference < 1e-9}")
print(
    f"with its default for directed graphs, off by {min(default.values()):.2f} to {max(default.values()):.2f} bits"
)

# %%
verdict(
    "infomap.eq11",
    holds=max(eq11) < 1e-12
    and all(between)
    and abs(books.codelength - expected) < 0.01
    and books.codelength <= spent < books.codelength + 1 + 2 * q
    and difference < 1e-9,
    measured={
        "karate club, L(M)": expected,
        "bits that Huffman codes of a walk spend": spent,
        "graphs compared with the package": len(parity),
    },
)

# %% [markdown]
# ## Below the entropy
#
# The article says at one point, of characters that come with the probabilities $P$, that no code, whether static or dynamic, that is, whether it stays the same or changes on the way, has a mean length below $H(P)$. For the nodes of a walk, which depend on each other, that is not so. One codebook for all costs $H(P)$ at least, and modules cost less:

# %%
h = entropy(karate_flow.visit)
rate = sum(
    p * math.log2(karate.degree(v)) for v, p in zip(karate, karate_flow.visit)
)
print(f"H(P) = {h:.4f}; with three modules {karate_best.codelength:.4f}")
print(f"entropy rate of the walk {rate:.4f}")

# %% [markdown]
# Equation (6) holds for a code that writes each symbol without regard to the others, and $H(P)$ is the bound for all codes if the symbols are drawn independently. A hierarchical code knows something of the past, the module. If the steps of the walk are shuffled, that is worth nothing, and the same modules cost more than $H(P)$. The bound for all codes, however clever, in the long run, is the *entropy rate*: what is uncertain about the next node if the present one is known,
#
# $$
# H(P_{t+1}\mid P_t)=-\sum_\alpha p_\alpha\sum_\beta p_{\alpha\to\beta}\log_2p_{\alpha\to\beta}.
# $$
#
# A codebook for each node, naming its neighbours, would reach it but for the rounding. But such a code says nothing about communities. The map equation looks for the best code among those that remember a module and nothing else.

# %%
neighbours = {v: huffman_code(dict.fromkeys(karate[v], 1.0)) for v in karate}
with_all = sum(len(neighbours[a][b]) for a, b in itertools.pairwise(path))
one_step = with_all / (len(path) - 1)
assert [round(v, 4) for v in (h, karate_best.codelength)] == [4.7044, 4.3118]
assert round(rate, 3) == 2.581 <= min(one_step, spent)
below = spent < h and karate_best.codelength < h
# The same nodes as often, in any order.
shuffled = np.random.default_rng(0).permutation(path).tolist()
without_order = HierarchicalCode.fit(shuffled, karate_best.modules).codelength
verdict(
    "infomap.bound",
    holds=not below,
    restricted=without_order > h and below and min(one_step, spent) >= rate,
    measured={
        "H(P)": h,
        "modules, L(M)": karate_best.codelength,
        "modules, bits really written": spent,
        "the steps shuffled, modules": without_order,
        "entropy rate": rate,
        "a codebook for each node, Huffman": one_step,
    },
)

# %% [markdown]
# ## The search: move what helps, then move whole modules
#
# Ten nodes can be divided in 115,975 ways, thirty in nearly $10^{24}$. One cannot try them all. But one can compute cheaply what a small change does. With the shorthand from above the index costs $\operatorname{plogp}(q)-\sum\operatorname{plogp}(q_i)$, and module $i$ costs $\operatorname{plogp}\bigl(q_i+\sum p_\alpha\bigr)-\operatorname{plogp}(q_i)-\sum\operatorname{plogp}(p_\alpha)$. Together,
#
# $$
# \begin{aligned}
# L(M)={}&\operatorname{plogp}\Bigl(\sum_iq_i\Bigr)-2\sum_i\operatorname{plogp}(q_i)-\sum_\alpha\operatorname{plogp}(p_\alpha)\\
# &+\sum_i\operatorname{plogp}\Bigl(q_i+\sum_{\alpha\in i}p_\alpha\Bigr),
# \end{aligned}
# $$
#
# and if a node moves from one module to another, only the terms of these two change, and the first. So the search of 2009 {cite:p}`rosvall2009` begins with every node as a module of its own. In random order, each node $\alpha$ looks at its own module $m(\alpha)$, at those of its neighbours, and at an empty one, and goes where $L$ becomes shortest:
#
# $$
# m(\alpha)\leftarrow\arg\min_{i\,\in\,\{m(\alpha)\}\,\cup\,\{m(\beta)\,:\,\beta\sim\alpha\}\,\cup\,\{\varnothing\}}L\bigl(M_{\alpha\to i}\bigr).
# $$ (infomap-alg1)
#
# When nobody wants to move any more, the modules become the nodes of a smaller network, with the flow between them as links, and the same begins anew. That reaches divisions that no single move would. But nodes that moved together must stay together from then on, even if that was a mistake; so at the end single nodes are let go
# again, and then parts of modules, until nothing helps. Three things are added here: the empty module; a second start, from groups of modules; and, where the walk teleports, mergers of modules without a link between them. On the karate club:

# %%
stages = search_stages(karate, teleport=0, seed=1)
for stage in stages:
    print(
        f"{stage.codelength:.4f}  {len(set(stage.modules.values())):2} modules  {stage.name}"
    )


# %% mystnb={"figure": {"caption": "The karate club after each stage but the first, in which every member is a module. Below: the length of the description stage by stage, for three random orders on a network of 1,000 nodes with planted communities."}, "image": {"alt": "The karate club three times, with seven, four and three modules in colours and shapes; small modules are joined from each to the next. Below, three falling curves that nearly coincide: the first stage makes most of the way, the later ones less and less."}} tags=["hide-input"]
def lfr(nodes, mixing, seed):
    """A network with planted communities, whose sizes and degrees vary as in real ones."""
    return nx.LFR_benchmark_graph(nodes, 3, 1.5, mixing, average_degree=20, max_degree=50, min_community=20, max_community=100, seed=seed)  # fmt: skip


fig, axes = plotting.panels(len(stages), height=2.3)
for ax, stage in zip(axes, stages[1:]):
    title = f"{stage.name}: {stage.codelength:.4f} bits"
    draw(ax, karate, stage.modules, places, title, 50)
example, ax = lfr(1000, 0.4, 1), axes[-1]
for seed, style in enumerate(("o-", "s--", "D:")):
    trace = [s.codelength for s in search_stages(example, 0, seed)]
    ax.plot(trace, style, markersize=4, label=f"order {seed}")
ax.set(xlabel="stage", ylabel="bits for a step")
ax.xaxis.get_major_locator().set_params(integer=True)
ax.legend()
plt.show()

# %% [markdown]
# ### On small networks ten trials nearly always find the shortest
#
# A search that only goes downhill can end in a hollow. For small networks we can look at every division. Here are all connected networks of two to seven nodes (there are 877 divisions of seven nodes), and 200 random ones of eight, weighted, half of them
# directed (4,140 divisions). Ten trials of the search, each in another random order; how often does one trial miss the optimum, and how often do all ten?


# %%
def all_divisions(n):
    """Module numbers, a row for each division of n nodes."""
    rows = [(0,)]
    for _ in range(n - 1):
        rows = [(*row, k) for row in rows for k in range(max(row) + 2)]
    return np.array(rows)


DIVISIONS = {n: all_divisions(n) for n in range(1, 9)}


def optimum(flow):
    """The least L(M) of all divisions, all of them computed at once."""
    labels = DIVISIONS[len(flow.visit)]
    n = labels.shape[1]
    member = labels[:, None, :] == np.arange(n)[:, None]
    apart = labels[:, :, None] != labels[:, None, :]
    jumps = flow.teleport[:, None] / n
    leaving = ((flow.link.toarray() + jumps) * apart).sum(2)
    exits = (member * leaving[:, None]).sum(2)
    within = exits + member @ flow.visit

    def plogp(x):
        return x * np.log2(np.where(x > 0, x, 1))

    index = plogp(exits.sum(1)) - 2 * plogp(exits).sum(1)
    inside = plogp(within).sum(1) - plogp(flow.visit).sum()
    return (index + inside).min()


def random_eight(seed):
    draws = np.random.default_rng(seed)
    weights = draws.integers(1, 6, (8, 8)) * (draws.random((8, 8)) < 0.3)
    if seed % 2:
        weights = np.triu(weights) + np.triu(weights, 1).T
    return weights.astype(float)


atlas = [g for g in nx.graph_atlas_g() if len(g) > 0 and nx.is_connected(g)]
atlas = [g for g in atlas if g.number_of_edges()]
cases = {
    "connected, up to 7 nodes": [(g, 0.0) for g in atlas],
    "random, 8 nodes": [(random_eight(seed), 0.15) for seed in range(200)],
}


def above_optimum(graph, teleport):
    """How much longer than the shortest is what `infomap` finds with the seeds 0 to 9."""
    # All seeds have the same walk, whose rates are computed once.
    flow = random_walk_flow(graph, teleport)
    network = Network.of(flow)
    found = [
        search_two_levels(network, random.Random(seed)) for seed in range(10)
    ]
    return [map_equation(flow, modules) for modules in found] - optimum(flow)


missed = {}
for name, graphs in cases.items():
    found = np.array([above_optimum(g, tau) for g, tau in graphs])
    missed[name] = (found > 1e-9).mean(1)
    print(f"{name}: {len(graphs)} networks")
    worst = max(found.max(), 0)
    print(
        f"  one trial misses {missed[name].mean():.1%}, by {worst:.3f} bits at most"
    )
    print(f"  all ten miss {(found.min(1) > 1e-9).sum()}")

# %% [markdown]
# Ten trials found all of these. They do not always. We went on with 5,000 more networks of the same generator, that of the random ones (seeds 200 to 5,199). In these all ten missed:

# %%
MORE = 5_000
MISSED = (
    207,
    642,
    856,
    963,
    1107,
    1193,
    1320,
    1851,
    1919,
    2049,
    2389,
    2873,
    3208,
    4252,
    4328,
    4517,
    4727,
)
behind = [min(above_optimum(random_eight(seed), 0.15)) for seed in MISSED]
assert min(behind) > 1e-3
rate_of_misses = len(MISSED) / MORE
low, high = binomtest(len(MISSED), MORE).proportion_ci(method="wilson")
print(
    f"{len(MISSED)} of {MORE:,}, {rate_of_misses:.2%} (95 %: {low:.2%} to {high:.2%}), by {max(behind):.3f} bits at most"
)

# %%
assert all((share < 1).all() for share in missed.values())
downhill = [
    np.diff([s.codelength for s in search_stages(g, tau, 0)]).max(initial=-1.0)
    for g, tau in [(g, 0.0) for g in atlas[::4]] + cases["random, 8 nodes"]
]
verdict(
    "infomap.alg1",
    holds=max(downhill) <= 1e-12,
    measured={
        "networks": sum(map(len, missed.values())),
        "one trial misses the optimum, %": 100
        * np.concatenate(list(missed.values())).mean(),
        "all ten trials miss it": sum(
            int((share == 1).sum()) for share in missed.values()
        ),
        f"all ten trials miss it, of {MORE:,} more networks, %": 100
        * rate_of_misses,
    },
)

# %% [markdown]
# ### The search of 2007 comes nearly as far, much later
#
# Two years earlier two of the three authors had searched in another way. They merged the two modules whose merger shortens $L$ most, until none does, and then improved the result by *simulated annealing*: nodes change their modules at random, downhill preferably but sometimes uphill, and
# ever less so as a temperature $T$ falls. We draw the module of a node, one of its neighbours', its own or an empty one, from
#
# $$
# (i,j)=\arg\min_{i,j}L\bigl(M_{i\cup j}\bigr),\qquad\text{then}\qquad P\bigl(m(\alpha)=i\bigr)\propto2^{-L(M_{\alpha\to i})/T}.
# $$ (infomap-alg2)
#
# Both on small networks, five seeds each:


# %%
def triangles():
    """Three triangles make a larger one, three of those a larger one still."""
    graph = nx.Graph()
    for i, j in itertools.product(range(3), repeat=2):
        for a, b in itertools.combinations(range(3), 2):
            graph.add_edge((i, j, a), (i, j, b))
    for a, b in itertools.combinations(range(3), 2):
        for i in range(3):
            graph.add_edge((i, a, b), (i, b, a))
        graph.add_edge((a, b, b), (b, a, a))
    return graph


small = {
    "karate club": karate,
    "triangles": triangles(),
    "Les Misérables": nx.les_miserables_graph(),
    "planted groups": GRAPHS["planted groups"],
}
comparison, clock = {}, {"2009": 0.0, "2007": 0.0}
for name, graph in small.items():
    begin = time.process_time()
    new = [infomap(graph, 0, seed).codelength for seed in range(5)]
    middle = time.process_time()
    old = [
        annealed_infomap(graph, 0, seed, sweeps=60).codelength
        for seed in range(5)
    ]
    clock["2009"] += middle - begin
    clock["2007"] += time.process_time() - middle
    merged = annealed_infomap(graph, 0, sweeps=0).codelength
    comparison[name] = (np.array(new), merged, np.array(old))
rows = [
    "| network | 2009, best and mean | mergers only | annealed, best and mean |",
    "|---|---|---|---|",
]
for name, (new, merged, old) in comparison.items():
    rows.append(
        f"| {name} | {new.min():.4f}, {new.mean():.4f} | {merged:.4f} | {old.min():.4f}, {old.mean():.4f} |"
    )
display(Markdown("\n".join(rows)))

# %%
annealing_helps = all(
    old.min() <= m + 1e-9 for _, m, old in comparison.values()
)
as_short = all(
    old.min() <= 1.005 * new.min() for new, _, old in comparison.values()
)
slower = clock["2007"] / clock["2009"]
excess = max(100 * (o.min() / n.min() - 1) for n, _, o in comparison.values())
verdict(
    "infomap.alg2",
    holds=annealing_helps and as_short,
    measured={
        "time, as a multiple of the search of 2009": slower,
        "largest excess of the best of five, %": excess,
    },
)

# %%
never_shorter = all(
    o.min() >= n.min() - 1e-9 for n, _, o in comparison.values()
)
stuck = sum(m > n.min() + 1e-9 for n, m, _ in comparison.values())
print("annealing is never shorter than the search of 2009:", never_shorter)
print(f"mergers alone end too early on {stuck} of {len(comparison)} networks")

# %% [markdown]
# ## Nobody says how many communities there are
#
# What the article values most: the number of clusters is an outcome. To test it, we need networks whose communities are known. Two kinds, of 1,000 nodes: *planted partitions*, 20 groups of 50, all alike, with 20 links a node on average; and *LFR* networks {cite:p}`lancichinetti2008`, whose
# degrees and group sizes (20 to 100) vary. The *mixing* is the share of the links that leave their group. We measure it, since networkx' generator of LFR networks gives each node its share of links to others without regard to those that others attach to it later; so degrees and mixing come out larger than
# its parameters say. Such comparisons are old {cite:p}`lancichinetti2009`, and of planted partitions it is known where no method can find the groups {cite:p}`decelle2011`. For comparison, two widely used methods, Louvain {cite:p}`blondel2008` and Leiden {cite:p}`traag2019`. They maximise *modularity* {cite:p}`newman2004`, by how much more links there are inside groups than random links of the same nodes would give, and need no number, either.
#
# The measure is *adjusted mutual information* with the planted groups {cite:p}`vinh2010`: 1 if both divisions are the same, 0 if they agree as much as chance would. Beside it, the number of groups.


# %%
def planted(groups, size, mixing, draws, degree=20):
    """Equal groups: a sparse matrix of links, and the groups."""
    n = groups * size
    truth = np.repeat(np.arange(groups), size)
    inside = draws.random((groups, size, size)) < degree * (1 - mixing) / (
        size - 1
    )
    group, one, other = np.nonzero(np.triu(inside, 1))
    within = np.stack([group * size + one, group * size + other])
    across = draws.integers(
        n, size=(2, round(n * degree * mixing * groups / (groups - 1) / 2))
    )
    across = across[:, truth[across[0]] != truth[across[1]]]
    ends = np.concatenate([within, across], 1)
    links = sparse.coo_array((np.ones(ends.shape[1]), ends), shape=(n, n))
    return ((links + links.T) > 0).astype(float), truth


def lfr_matrix(nodes, mixing, seed):
    graph = lfr(nodes, mixing, seed)
    groups = {frozenset(graph.nodes[v]["community"]) for v in graph}
    truth = np.empty(nodes, dtype=int)
    for number, group in enumerate(groups):
        truth[list(group)] = number
    graph.remove_edges_from(nx.selfloop_edges(graph))
    return nx.to_scipy_sparse_array(graph, dtype=float), truth


def by_igraph(matrix, method, seed):
    igraph.set_random_number_generator(random.Random(seed))
    upper = sparse.triu(matrix).tocoo()
    graph = igraph.Graph(
        matrix.shape[0], zip(upper.row.tolist(), upper.col.tolist())
    )
    if method == "Louvain":
        return graph.community_multilevel().membership
    return graph.community_leiden("modularity", n_iterations=-1).membership


# %%
PARAMETERS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
METHODS = ("InfoMap", "Louvain", "Leiden")
KINDS_OF_NETWORK = ("planted partition", "LFR")
shape = len(PARAMETERS), 3  # three networks each
scores = {
    key: np.zeros(shape) for key in itertools.product(KINDS_OF_NETWORK, METHODS)
}
numbers = {key: np.zeros(shape) for key in scores}
mixing = {kind: np.zeros(shape) for kind in KINDS_OF_NETWORK}
excess_of_truth = {kind: np.zeros(shape) for kind in KINDS_OF_NETWORK}
for row, seed in np.ndindex(*shape):
    networks = {
        "planted partition": planted(
            20, 50, PARAMETERS[row], np.random.default_rng(seed)
        ),
        "LFR": lfr_matrix(1000, PARAMETERS[row], seed),
    }
    for kind, (matrix, truth) in networks.items():
        link = matrix.tocoo()
        mixing[kind][row, seed] = (truth[link.row] != truth[link.col]).mean()
        found = infomap(matrix, 0, seed)
        of_truth = map_equation(random_walk_flow(matrix, 0), truth)
        excess_of_truth[kind][row, seed] = of_truth - found.codelength
        divisions = {"InfoMap": [found.modules[v] for v in range(len(truth))]}
        for method in METHODS[1:]:
            divisions[method] = by_igraph(matrix, method, seed)
        for method, labels in divisions.items():
            scores[kind, method][row, seed] = adjusted_mutual_info_score(
                truth, labels
            )
            numbers[kind, method][row, seed] = len(set(labels)) / len(
                set(truth)
            )

# %% mystnb={"figure": {"caption": "Agreement with the planted groups, and the number of groups found as a multiple of the true one, against the measured share of links that leave a group. Means of three networks; bands: 95 % confidence."}, "image": {"alt": "Four panels, for planted partitions and LFR networks. InfoMap agrees nearly perfectly up to a mixing of about a half and then falls to zero at once; Louvain and Leiden fall more slowly. The number of groups that InfoMap finds is the true one, or nearly, until it breaks down; modularity finds too few in the LFR networks."}} tags=["hide-input"]
fig, axes = plotting.panels(4, height=2.1)
for (ax, below), kind in zip((axes[:2], axes[2:]), KINDS_OF_NETWORK):
    for method, style in zip(METHODS, ("o-", "s--", "D:")):
        look = {"marker": style[0], "linestyle": style[1:], "markersize": 4}
        x = mixing[kind].mean(1)
        plotting.band(ax, x, scores[kind, method], method, **look)
        plotting.band(below, x, numbers[kind, method], method, **look)
    ax.set(title=kind, ylabel="agreement", ylim=(-0.05, 1.05))
    below.set(ylabel="groups ÷ true", ylim=(0, 2))
    for each in (ax, below):
        each.set(xlim=(0.05, 0.9))
axes[0].legend()
axes[-1].set(xlabel="mixing, measured")
plt.show()

# %%
mostly_inside = {k: mixing[k].mean(1) <= 0.5 for k in KINDS_OF_NETWORK}
agreed = {
    k: scores[k, "InfoMap"][inside] for k, inside in mostly_inside.items()
}
number = {
    k: numbers[k, "InfoMap"][inside] for k, inside in mostly_inside.items()
}
right_number = max(abs(n - 1).max() for n in number.values()) <= 0.1
verdict(
    "infomap.claim1",
    # As long as at least half of the links stay in their group.
    holds=min(a.mean(1).min() for a in agreed.values()) >= 0.95
    and right_number,
    measured={
        "agreement, least, mixing up to a half": min(
            a.mean(1).min() for a in agreed.values()
        ),
        "number of groups ÷ true, least": min(n.min() for n in number.values()),
        "most": max(n.max() for n in number.values()),
        "largest mixing tested up to a half, LFR": mixing["LFR"][
            mostly_inside["LFR"]
        ].max(),
    },
)

# %%
collapsed = {
    kind: (numbers[kind, "InfoMap"] < 0.1) for kind in KINDS_OF_NETWORK
}
too_long = np.concatenate([excess_of_truth[k][c] for k, c in collapsed.items()])
assert (too_long > 0).all()
assert all((scores[k, "InfoMap"][c] == 0).all() for k, c in collapsed.items())
display(
    Markdown(
        "Where InfoMap breaks down in these networks, it finds one module. That is no failure of the search. "
        f"In the {len(too_long)} networks where it happens, the planted groups make a longer description than none, "
        f"by {too_long.min():.2f} to {too_long.max():.2f} bits: "
        "a walk that soon leaves its group cannot be described by it. Modularity goes on to find something there, with an agreement that gets ever smaller."
    )
)

# %% [markdown]
# But many modules are no proof of groups. In a sparse random network, where every pair of nodes has a link with the same probability, InfoMap finds many as well. Here is the largest connected part of two such networks of 1,000 nodes:

# %%
for degree in (4, 8):
    noise = nx.fast_gnp_random_graph(1000, degree / 999, seed=0)
    noise = noise.subgraph(max(nx.connected_components(noise), key=len))
    found = infomap(noise, 0, 0)
    whole = map_equation(random_walk_flow(noise, 0), dict.fromkeys(noise, 0))
    number = len(set(found.modules.values()))
    print(
        f"{degree} links a node: {number} modules, {whole - found.codelength:.2f} bits shorter than one module"
    )
    assert number > 50

# %% [markdown]
# ## Ten thousand nodes in seconds
#
# The article says of the search of 2009 that it takes a network of 10,000 nodes and 100,000 links within five seconds. Our search is written in Python, with NumPy for what can be done for all modules at once. It takes planted partitions from a thousand to a hundred thousand links, and so does the
# C++ package, called by the same function with `engine="infomap"`, which sets the flags from above; that is the way for a million links or more. Times are processor times of one core; the slope of the lines is the exponent $b$ in time $\propto$ links$^b$.

# %% tags=["nbval-ignore-output"]
infomap(karate, 0, engine="infomap")  # loads the package
sizes = (100, 200, 500, 1000, 2000, 5000, 10_000)
seconds = {"numpy": [], "infomap": []}
links, big = [], {}
for n in sizes:
    matrix, _ = planted(n // 50, 50, 0.3, np.random.default_rng(n), 20.2)
    links.append(matrix.nnz // 2)
    for engine, times in seconds.items():
        begin = time.process_time()
        big[engine] = infomap(matrix, 0, seed=0, engine=engine).codelength
        times.append(time.process_time() - begin)
exponent = {
    engine: np.polyfit(np.log(links), np.log(times), 1)[0]
    for engine, times in seconds.items()
}
for engine, times in seconds.items():
    print(
        f"{engine}: {times[-1]:.1f} s for {links[-1]:,} links; exponent {exponent[engine]:.2f}"
    )

# %% mystnb={"figure": {"caption": "Processor time of one trial against the number of links, this search and the C++ package, each with its fitted exponent."}, "image": {"alt": "Two nearly straight, parallel lines on logarithmic axes, from a thousand to a hundred thousand links. Both lie far below the line of five seconds; the package is several times as fast all along."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=2.8)
names = {"numpy": "NumPy", "infomap": "C++"}
for (engine, times), style in zip(seconds.items(), ("o-", "s--")):
    label = f"{names[engine]}, exponent {exponent[engine]:.2f}"
    ax.loglog(links, times, style, label=label)
ax.axhline(5, color=plotting.INK, linewidth=1)
ax.set(xlabel="links", ylabel="seconds, one core")
ax.legend()
plt.show()

# %%
verdict(
    "infomap.claim2",
    holds=seconds["numpy"][-1] < 5
    and links[-1] >= 100_000
    and exponent["numpy"] < 1.3,
    measured={
        "links": links[-1],
        "seconds": seconds["numpy"][-1],
        "exponent": exponent["numpy"],
        "exponent of the C++ package": exponent["infomap"],
        "time, as a multiple of the package's": seconds["numpy"][-1]
        / seconds["infomap"][-1],
    },
)

# %% [markdown]
# Speed is easy if the result may be bad. On four LFR networks, the same number of trials for both:

# %%
rows = ["| nodes | `mu` | ours | C++ | ratio |", "|---|---|---|---|---|"]
quality = []
for nodes, parameter, trials in (
    (1000, 0.3, 3),
    (1000, 0.5, 3),
    (10_000, 0.3, 1),
    (10_000, 0.5, 1),
):
    matrix, _ = lfr_matrix(nodes, parameter, 1)
    ours, theirs = (
        infomap(matrix, 0, 0, trials=trials, engine=engine).codelength
        for engine in ("numpy", "infomap")
    )
    quality.append(ours / theirs)
    rows.append(
        f"| {nodes:,} | {parameter} | {ours:.4f} | {theirs:.4f} | {ours / theirs:.4f} |"
    )
display(Markdown("\n".join(rows)))
assert max(quality) <= 1.005

# %% [markdown]
# ## Modules in modules are shorter still
#
# Why stop at two layers? A country has provinces, which have cities. A module can hold modules, with a codebook of *their* names and its own exit mark, instead of nodes. The formula grows a term for each such module, $L=q\,H(\mathcal Q)+\sum_iL_i$, where $L_i$ of a module with modules inside is
#
# $$
# L_i=\Bigl(q_i+\sum_{j\subset i}q_j\Bigr)H\bigl(q_i,\{q_j\}_{j\subset i}\bigr)+\sum_{j\subset i}L_j,
# $$
#
# and of one with nodes inside it is $p_i^\circlearrowright H(\mathcal P^i)$ as before {cite:p}`rosvall2011`. How many layers there are is an outcome, again. In the network of that paper three triangles form a triangle, and three of these another.

# %%
source(hierarchical_map_equation)

# %%
nested = triangles()
flow = random_walk_flow(nested, 0)
nine = {v: v[:2] for v in nested}
three = {v: v[0] for v in nested}
two_level = infomap(nested, 0, trials=10)
multilevel = infomap(nested, 0, trials=10, levels=None)
theirs = infomap(nested, 0, trials=10, levels=None, engine="infomap")
lengths = {
    "one module": map_equation(flow, dict.fromkeys(nested, 0)),
    "three": map_equation(flow, three),
    "nine, all alike": map_equation(flow, nine),
    f"best two levels: {len(set(two_level.modules.values()))}": two_level.codelength,
    "nine in three, all alike": hierarchical_map_equation(flow, [three, nine]),
    "best with levels": multilevel.codelength,
}
for name, length in lengths.items():
    print(f"{length:.4f}  {name}")

# %% mystnb={"figure": {"caption": "The triangles of triangles. Above: the best two-level division found. Middle: with levels; colours are the upper modules, shades and shapes the lower ones. Below: the same as a tree, from the whole over upper and lower modules to the nodes."}, "image": {"alt": "Twice the same network of nested triangles. Above: one large triangle in one colour, and six small ones. Middle: two large triangles, each with three shades of a colour, and three small ones in colours of their own. Below: a tree with five branches, two of which divide into three; every last branch has three nodes."}} tags=["hide-input"]
corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 0.87]])
where = {
    (i, j, a): 4 * corner[i] + 1.75 * corner[j] + 0.7 * corner[a]
    for i, j, a in nested
}
fig, (above, below, tree) = plotting.panels(3, height=3.0)
draw(above, nested, two_level.modules, where, "two levels", 70)
nx.draw_networkx_edges(nested, where, ax=below, alpha=0.3)
fine = multilevel.levels[-1]
for top in set(multilevel.modules.values()):
    inside = [v for v in nested if multilevel.modules[v] == top]
    order = list(dict.fromkeys(fine[v] for v in inside))
    for number, module in enumerate(order):
        nx.draw_networkx_nodes(
            nested,
            where,
            [v for v in inside if fine[v] == module],
            node_color=plotting.COLOURS[top % 7],
            alpha=1 - 0.3 * (number % 3),
            node_shape="osD^"[number % 4],
            node_size=70,
            linewidths=0,
            ax=below,
        )
below.set(title="with levels")
below.axis("off")
for ax in (above, below):
    ax.set_aspect("equal")
coarse = multilevel.modules
leaves = sorted(nested, key=lambda v: (coarse[v], fine[v]))
levels = [lambda v: 0, coarse.get, lambda v: (coarse[v], fine[v]), lambda v: v]
centre = [{key(v): [] for v in leaves} for key in levels]
for place, v in enumerate(leaves):
    for key, of in zip(levels, centre):
        of[key(v)].append(place)
for v in leaves:
    for depth in range(3):
        x = [np.mean(centre[depth + i][levels[depth + i](v)]) for i in (0, 1)]
        shade = plotting.COLOURS[coarse[v] % 7]
        tree.plot(x, [-depth, -depth - 1], color=shade, linewidth=1)
tree.axis("off")
plt.show()

# %%
improvement = []
for name, graph in small.items():
    found = [
        infomap(graph, 0, trials=3, levels=n).codelength for n in (2, None)
    ]
    improvement.append(found[0] - found[1])
# All divisions of the nine small triangles, each of which is one node here, with the nodes' own term put right.
DIVISIONS[9] = all_divisions(9)
member = np.array([[nine[v] == t for t in set(nine.values())] for v in nested])
links = nx.to_numpy_array(nested)
by_triangle = random_walk_flow(member.T.astype(float) @ links @ member, 0)
kept_whole = (
    optimum(by_triangle) - entropy(by_triangle.visit) + entropy(flow.visit)
)
assert len(DIVISIONS[9]) == 21_147
assert abs(kept_whole - two_level.codelength) < 1e-9
two_sizes = sorted(Counter(two_level.modules.values()).values())
top_sizes = sorted(Counter(multilevel.modules.values()).values())
assert two_sizes == [3] * 6 + [9]
assert top_sizes == [3, 3, 3, 9, 9]
verdict(
    "infomap.claim3",
    holds=multilevel.codelength < two_level.codelength - 0.05
    and multilevel.codelength < lengths["nine in three, all alike"]
    and two_level.codelength < lengths["nine, all alike"]
    and len(multilevel.levels) == 2
    and min(improvement) > -1e-9
    and abs(multilevel.codelength - theirs.codelength) < 1e-9,
    measured={
        "one module": lengths["one module"],
        "best two levels": two_level.codelength,
        "with levels": multilevel.codelength,
    },
)

# %% [markdown]
# The symmetric divisions, nine triangles and nine in three, are what one sees at once. Neither is the shortest. With two levels it is shorter to leave one of the large triangles whole, and to divide the other two into their three. With levels, two large triangles become modules of three; the three
# small ones of the last large triangle stand beside them at the top, without a module of their own: one name less for each passage. (The first is the shortest of all 21,147 two-level divisions that keep the nine small triangles whole, which the cell above checks. The second is the best that was found, here and by the C++ package.) The eye and the code do not agree; a symmetric drawing of this network shows good divisions, and not the best.
#
# ## A node between two groups belongs to both
#
# Somebody who dances in two groups belongs to both. A word like 打 (to hit) belongs to fights, to telephone calls and to ball games. Whoever is in both can have a short name in both codebooks {cite:p}`viamontes2011`. Let a node have several memberships. A walk in module $i$ that comes to a node of $i$ stays in $i$; if the
# node is no member of $i$, the walk enters one of the node's modules at random. So the walk is on pairs (node, module), and the map equation applies to the pairs as it stands.

# %%
source(overlapping_flow)

# %%
groups = nx.Graph()  # two dance groups of five; dancer 4 is in both
for group in (range(5), range(4, 9)):
    groups.add_edges_from(itertools.combinations(group, 2))


def overlapping_length(graph, memberships):
    flow = overlapping_flow(graph, memberships)
    return map_equation(flow, {state: state[1] for state in flow.nodes})


apart = {v: [int(v > 4)] for v in groups}
options = {
    "one module": {v: [0] for v in groups},
    "two modules, dancer 4 in one of them": apart,
    "dancer 4 in both": apart | {4: [0, 1]},
    "dancers 3 and 4 in both": apart | {3: [0, 1], 4: [0, 1]},
}
dance = {name: overlapping_length(groups, m) for name, m in options.items()}
for name, length in dance.items():
    print(f"{length:.4f}  {name}")

# %% [markdown]
# Without the second membership two groups don't even pay: one module is shorter. To see that second memberships are not just always good, we try each one in a neighbour's module on the karate club, and keep the best as long as one helps:

# %%
memberships = {v: [karate_best.modules[v]] for v in karate}
history = [overlapping_length(karate, memberships)]
steps_taken = []
while True:
    trials = {}
    for v in karate:
        near = {m for u in karate[v] for m in memberships[u]}
        for module in near - set(memberships[v]):
            more = memberships | {v: [*memberships[v], module]}
            trials[v, module] = overlapping_length(karate, more)
    (v, module), length = min(trials.items(), key=lambda item: item[1])
    helpful = sum(t < history[-1] - 1e-9 for t in trials.values())
    steps_taken.append(
        f"{history[-1]:.4f}: {helpful} of {len(trials)} second memberships would help"
    )
    if length > history[-1] - 1e-9:
        break
    steps_taken[-1] += f"; member {v} gets one"
    memberships[v].append(module)
    history.append(length)
print("\n".join(steps_taken))

# %% mystnb={"figure": {"caption": "Ringed: members of the karate club with two modules. Those with links into the other module come first; who hangs on them alone may follow."}, "image": {"alt": "The karate club in three colours. Six members are ringed, most of them where two colours meet."}} tags=["hide-input"]
fig, ax = plotting.panels(1, height=3.2)
draw(ax, karate, karate_best.modules, places)
double = [v for v in karate if len(memberships[v]) > 1]
assert len(double) == 6
rings = nx.draw_networkx_nodes(
    karate, places, double, node_size=260, node_color="none", edgecolors=plotting.INK, linewidths=2, ax=ax
)  # fmt: skip
plt.show()

# %%
verdict(
    "infomap.claim4",
    holds=dance["dancer 4 in both"]
    < min(dance["one module"], dance["two modules, dancer 4 in one of them"])
    and dance["dancers 3 and 4 in both"] > dance["dancer 4 in both"]
    and history[-1] < history[0] - 0.01,
    measured={
        "dance groups, best without overlap": min(
            dance["one module"], dance["two modules, dancer 4 in one of them"]
        ),
        "dance groups, with overlap": dance["dancer 4 in both"],
        "karate club, without": history[0],
        "karate club, with": history[-1],
    },
)

# %% [markdown]
# ## Words cluster by their use
#
# Now the article's experiment, of which it shows six clusters and finds that they look good. Take a vector for each word, link each word with its nearest neighbours, and let InfoMap divide the network. The article takes the 10,000 most frequent words of its author's vectors, and from each word up to 50 links, to the nearest words whose *cosine*, the inner product of the vectors at length 1, is 0.6 or more; the cosine is the link's weight. So do
# we, with vectors whose training is open: *skip-gram*, in which a word's vector learns to tell the words around it from others {cite:p}`mikolov2013`, on one month of a newspaper, the *People's Daily* (人民日报) of January 1998, cut into words by people. That is little text.
#
# `kexue.experiments.infomap_words` has the training and the search for its settings. They were chosen by how many words have a nearest neighbour of their own *class*: in the corpus each word has a tag, its part of speech or kind of name (noun, verb, person, place, organisation, …). We give each word its most frequent tag.

# %%
source(neighbour_graph)

# %%
tuning = recorded("infomap_words_tuning")
runs = recorded("infomap_words")
best_first = sorted(tuning.values(), key=lambda run: -run.summary["same_class"])
rows = [
    "| window | subsampling | rate | neighbour of own class | clusters |",
    "|---|---|---|---|---|",
]
for run in best_first[:4] + best_first[-2:]:
    c, found = run.config, run.summary
    rows.append(
        f"| {c['window']} | {c['subsample']:g} | {c['learning_rate']:g} | {found['same_class']:.1%} | {found['clusters']:.0f} |"
    )
tokens = sum(map(len, data.people_daily().word))
rows.append(
    f"\nThe four best and the two worst of {len(tuning)} settings. Trained on {tokens:,} words and marks."
)
display(Markdown("\n".join(rows)))
chosen = best_first[0].config
assert all(
    chosen[k] == run.config[k]
    for run in runs.values()
    for k in ("window", "subsample", "learning_rate")
)

# %% [markdown]
# The clusters come from the vectors of seed 1. The search for them sees numbers only, no words and no tags.

# %%
run = runs["seed1"]
text = data.people_daily()
paragraphs = (
    [w for w, tag in zip(*pair) if tag != "w"]  # no punctuation
    for pair in zip(text.word, text.tag)
)
words = data.Vocabulary(paragraphs).symbols[: run.config["words"]]
classes = data.word_classes(text, words)
vectors = run.model().word.weight.detach().numpy()
graph = neighbour_graph(vectors)
linked = np.flatnonzero(graph.sum(0) + graph.sum(1))
graph = graph[linked][:, linked]
found = infomap(graph, seed=run.config["seed"])
modules = np.array([found.modules[i] for i in range(len(linked))])
names = [words[i] for i in linked]
tags = classes[linked]

# %% tags=["hide-input", "nbval-ignore-output"]
GLOSS = {
    "李": "family name", "张": "family name", "王": "family name", "刘": "family name", "陈": "family name", "周": "family name", "江": "family name",
    "美国": "USA", "日本": "Japan", "英国": "Britain", "俄罗斯": "Russia", "法国": "France", "德国": "Germany", "政府": "government", "总统": "president",
    "总理": "prime minister", "伊拉克": "Iraq", "年": "year", "元": "yuan", "美元": "dollar", "天": "day", "岁": "years old", "米": "metre", "月": "month",
    "每": "each", "吨": "ton", "公斤": "kilogram", "更": "more", "最": "most", "很": "very", "较": "rather", "十分": "very", "更加": "even more", "比较": "fairly",
    "太": "too", "越来越": "ever more", "非常": "extremely", "北京": "Beijing", "上海": "Shanghai", "天津": "Tianjin", "去年": "last year", "今年": "this year",
    "这": "this", "他": "he", "她": "she", "我": "I", "我们": "we", "他们": "they", "你": "you", "看": "look", "那": "that", "当": "when", "想": "think", "孩子": "child",
    "经济": "economy", "学校": "school", "国民经济": "national economy", "教师": "teacher", "高校": "university", "中小学": "primary and secondary schools", "教职工": "school staff",
    "群众": "the masses", "职工": "employees", "农民": "farmer", "青年": "youth", "家庭": "family", "学生": "student", "居民": "resident", "妇女": "women", "市民": "citizen",
    "蔬菜": "vegetables", "商场": "department store", "菜": "dishes", "新鲜": "fresh", "肉": "meat", "猪": "pig", "鱼": "fish", "蛋": "egg", "奶": "milk", "鸡蛋": "egg",
    "１月": "January", "１２月": "December", "下午": "afternoon", "上午": "morning", "冠军": "champion", "女子": "women's", "男子": "men's", "足球": "football",
    "游泳": "swimming", "金牌": "gold medal", "武术": "martial arts", "由于": "owing to", "因为": "because", "面对": "facing", "妈妈": "mother", "银行": "bank", "集": "market", "年代": "decade",
    "提高": "raise", "加强": "strengthen", "两": "two", "三": "three", "关系": "relations", "国": "country", "走": "walk", "吃": "eat", "名": "counter for people", "位": "polite counter",
    "积极": "actively", "进一步": "further", "增长": "grow", "增加": "increase", "电": "wire report", "副": "vice", "国务院": "State Council", "主席": "chairman", "泽民": "given name",
    "万": "ten thousand", "２０": "20", "问题": "problem", "形式": "form", "公司": "company", "金融": "finance", "世界": "world", "国际": "international", "要": "must", "应": "should",
    "艺术": "art", "创作": "creative work", "也": "also", "就": "then",
}  # fmt: skip


def glossed(word):
    """The word, and its meaning in English if it is in the list."""
    return f"{word} ({GLOSS[word]})" if word in GLOSS else word


PROBES = [
    "李",
    "日本",
    "公斤",
    "很",
    "鸡蛋",
    "足球",
    "学生",
    "学校",
    "妈妈",
    "银行",
]
rows = ["| with | words | the most frequent of them |", "|---|---|---|"]
for probe in PROBES:
    if probe not in names:
        rows.append(
            f"| {glossed(probe)} | 0 | no neighbour with a cosine of 0.6 |"
        )
        continue
    members = np.flatnonzero(modules == modules[names.index(probe)])
    listed = ", ".join(glossed(names[i]) for i in members[:7])
    rows.append(f"| {glossed(probe)} | {len(members)} | {listed} |")
display(Markdown("\n".join(rows)))

# %% [markdown]
# Nobody said that there are family names, measures, adverbs of degree. These clusters group words of one *use* more than of one subject, probably because the window of the chosen setting reaches to the next word only. The article's six are kin, administration, finance, school, illness and fantasy. Of the three of them that we look for, family, finance and school, one comes out here: the school. In
# one month of news 妈妈 (mother) shares a large cluster with the pronouns, and 银行 (bank) has no close neighbour at all.
#
# In the map a dot is a word; colours and shapes are the 24 clusters with most of these words, all others are grey. Where a dot lies is decided by t-SNE {cite:p}`vandermaaten2008`, which sees the vectors and not the clusters. Tap a dot for its word and tag. The slider goes from cluster to cluster and names the words.

# %% tags=["hide-input"]
# Of the 1,500 most frequent linked words, the 4,000 strongest links, and the words that these link.
near = graph[:1500][:, :1500].tocoo()
strong = near.data >= np.sort(near.data)[-4000]
ends = np.unique(np.sort(np.stack([near.row, near.col])[:, strong], 0), axis=1)
on_map, ends = np.unique(ends, return_inverse=True)
ends = ends.reshape(2, -1)
module_of = modules[on_map]
scale = TSNE(metric="cosine", perplexity=15, init="pca", random_state=0)
place = scale.fit_transform(vectors[linked[on_map]].astype(np.float32))
place = (place / abs(place).max()).round(3)


def readable(candidates, low, high, most=22):
    """Those whose labels do not cover each other, the most frequent first."""
    taken = []
    for i in candidates:
        at = (place[i] - low) / (high - low)
        room = 0.05 * (1 + len(names[on_map[i]])), 0.05
        if ((at > 0) & (at < 1)).all() and all(
            (abs(at - other) > room).any() for other, _ in taken
        ):
            taken.append((at, i))
    return [i for _, i in taken[:most]]


# %% tags=["hide-input"]
largest = [m for m, _ in Counter(module_of.tolist()).most_common(24)]
rank = {module: i for i, module in enumerate(largest)}
ranks = [rank.get(module) for module in module_of.tolist()]
SYMBOLS = ["circle", "square", "diamond", "triangle-up"]
dots = {
    "color": ["#bbb" if r is None else plotting.COLOURS[r % 7] for r in ranks],
    "symbol": ["circle" if r is None else SYMBOLS[r // 7] for r in ranks],
    "size": 7,
}
scatter = {"type": "scatter", "hoverinfo": "skip"}
lines = np.stack([*place[ends], np.full((ends.shape[1], 2), np.nan)], 1)
x, y = lines.reshape(-1, 2).T
traces = [
    scatter
    | {"mode": "lines", "x": x, "y": y, "line": {"color": "#ccc", "width": 1}},
    scatter
    | {"mode": "markers", "x": place[:, 0], "y": place[:, 1], "marker": dots}
    | {"text": [f"{glossed(names[i])} · {tags[i]}" for i in on_map]}
    | {"hoverinfo": "text"},
]
views = {}
for choice in ["all words", *largest]:
    inside = np.arange(len(on_map))
    low, high = np.full(2, -1.2), np.full(2, 1.2)
    if choice != "all words":
        inside = np.flatnonzero(module_of == choice)
        low, high = np.quantile(place[inside], [0.05, 0.95], axis=0)
        side = max(*(high - low), 0.2) * 0.65
        low, high = (low + high) / 2 - side, (low + high) / 2 + side
    label = readable(inside, low, high)
    written = {"x": place[label, 0], "y": place[label, 1]}
    written |= {"text": [names[on_map[i]] for i in label]}
    traces.append(
        scatter | {"mode": "text", "textposition": "top center"} | written
    )
    frame = {"xaxis.range": [low[0], high[0]], "yaxis.range": [low[1], high[1]]}
    title = "all words"
    if choice != "all words":
        title = ", ".join(glossed(names[on_map[i]]) for i in inside[:2])
        title += f": {(modules == choice).sum()} words"
    number = len(views)
    views[title] = (
        [True, True] + [i == number for i in range(len(largest) + 1)],
        frame,
    )
hidden = {"visible": False}
first = views["all words"][1]
plotting.views_figure(
    traces,
    views,
    prefix="",
    caption=f"{len(on_map):,} frequent words and their strongest links. The slider: all of them, then {len(largest)} clusters, each named by its two most frequent words; how many words it has, those not on the map included.",
    alt="An interactive map of words as dots with thin lines between them. Dots of one colour and shape, which are one cluster, lie together. A slider shows single clusters with their words.",
    xaxis=hidden | {"range": first["xaxis.range"]},
    yaxis=hidden | {"range": first["yaxis.range"]},
    showlegend=False,
    hovermode="closest",
)

# %% [markdown]
# ### The clusters agree with word classes, a little better than k-means
#
# Tags are known for all words, and the clusters were found without them (the settings of the training were not). So we measure how well clusters and tags agree, by adjusted mutual information: for InfoMap's clusters, and for as many clusters by k-means on the same normalised vectors of the same words, for three trainings.

# %%
agreement = {
    method: np.array([run.summary[f"ami_{method}"] for run in runs.values()])
    for method in ("infomap", "kmeans")
}
live = adjusted_mutual_info_score(tags, modules)
shuffled = adjusted_mutual_info_score(rng.permutation(tags), modules)
gain = agreement["infomap"] - agreement["kmeans"]
gain_mean, gain_low, gain_high = plotting.mean_interval(gain[None])
ours_mean, ours_low, ours_high = plotting.mean_interval(
    agreement["infomap"][None]
)
rows = [
    "| seed | words linked | clusters | InfoMap | k-means |",
    "|---|---|---|---|---|",
]
for name, run_ in runs.items():
    s = run_.summary
    rows.append(
        f"| {name[4:]} | {s['linked']:,.0f} | {s['clusters']:.0f} | {s['ami_infomap']:.3f} | {s['ami_kmeans']:.3f} |"
    )
display(
    Markdown(
        "\n".join(rows)
        + f"\n\nMean difference {gain_mean[0]:.3f} (95 %: {gain_low[0]:.3f} to {gain_high[0]:.3f}, three seeds)."
    )
)

# %% tags=["nbval-ignore-output"]
print(
    f"clusters found here, from the recorded vectors: {live:.3f}; with the tags shuffled: {abs(shuffled):.3f}"
)

# %% [markdown]
# The agreement looks low, but it has a ceiling. Even if no cluster mixed two tags, hundreds of clusters and a few dozen tags cannot be the same division. And the number of clusters matters: k-means with as many clusters as there are tags agrees with the tags better, where clusters are many. InfoMap does not know with what one wants to compare; its number is that of the
# network. The figure has all of that, at several thresholds of the network's links, always on the words that are linked there. (`engine="infomap"`, for speed; on this directed network its descriptions come out a little longer, and its clusters fewer, than those of our search.)

# %%
WIDE = neighbour_graph(vectors, threshold=0.5)


def words_at(threshold=0.6, teleport=0.15, seed=0, neighbours=50):
    """Clusters of all words at these settings; −1 for words without links."""
    near = WIDE
    if neighbours != 50:
        near = neighbour_graph(vectors, neighbours, threshold)
    near = near.multiply(near >= threshold).tocsr()
    inside = np.flatnonzero(near.sum(0) + near.sum(1))
    found = infomap(near[inside][:, inside], teleport, seed, engine="infomap")
    labels = np.full(len(words), -1)
    labels[inside] = [found.modules[i] for i in range(len(inside))]
    return labels


THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7)
at_threshold = {t: words_at(threshold=t) for t in THRESHOLDS}
scores_at = {}
for threshold, labels in at_threshold.items():
    inside = labels >= 0
    true, k = classes[inside], labels.max() + 1
    unit = vectors[inside].astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    means = {
        number: KMeans(number, n_init=1, random_state=0).fit_predict(unit)
        for number in (k, len(set(tags)))
    }
    # Pure clusters of InfoMap's sizes: the words in the order of their tags, cut.
    sizes = np.bincount(labels[inside])
    pure = np.empty(len(true), dtype=int)
    pure[np.argsort(true, kind="stable")] = np.repeat(np.arange(k), sizes)
    scores_at[threshold] = [
        adjusted_mutual_info_score(true, found)
        for found in (labels[inside], *means.values(), pure)
    ]
by_method = np.array(list(scores_at.values())).T

# %% mystnb={"figure": {"caption": "Agreement with the tags at five thresholds; under each the share of the words that are linked, and the number of clusters."}, "image": {"alt": "Four curves. Pure clusters lie far above the others. At 0.5 the other three agree equally well with the tags; towards 0.7 they rise, k-means with as many clusters as tags most, then InfoMap, then k-means with as many clusters as InfoMap."}} tags=["hide-input", "nbval-ignore-output"]
fig, ax = plotting.panels(1, height=3.4)
METHOD_NAMES = (
    "InfoMap",
    "k-means, as many clusters",
    f"k-means, {len(set(tags))} clusters",
    "pure clusters of InfoMap's sizes",
)
for values, name, style in zip(
    by_method, METHOD_NAMES, ("o-", "s--", "D:", "^-.")
):
    ax.plot(THRESHOLDS, values, style, label=name, markersize=5)
marks = [
    f"{t}\n{(of >= 0).mean():.0%}\n{of.max() + 1}"
    for t, of in at_threshold.items()
]
ax.set_xticks(THRESHOLDS, marks)
ax.set(
    xlabel="threshold, words linked, clusters",
    ylabel="agreement with tags",
    ylim=(0, 1.1),
)
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# Is that *meaning*? The rule for this verdict was fixed in the experiment's script before the final runs: agreement above chance, and not below that of k-means with the same number of clusters, over three seeds. The claim passes it. But it is too weak: tags say how a word is used, not what it is about; and the settings had been chosen with the
# help of tags. So, afterwards, we added three of the article's own examples. Two words of family, of finance and of school each should be together in a cluster of at most 50 words.

# %%
SUBJECTS = {
    "family": ("妈妈", "爸爸"),
    "finance": ("银行", "贷款"),
    "school": ("学校", "教师"),
}
together = {}
for subject, pair in SUBJECTS.items():
    of = {modules[names.index(w)] if w in names else w for w in pair}
    module = next(iter(of))
    size = (modules == module).sum()
    together[subject] = bool(len(of) == 1 and size <= 50)
print(together)

# %%
passes = bool(
    ours_low[0] > 0
    and gain_high[0] >= 0
    and abs(live - agreement["infomap"][0]) < 0.01
    and abs(shuffled) < 0.01
)
verdict(
    "infomap.claim5",
    holds=passes and all(together.values()),
    restricted=passes and any(together.values()),
    measured={
        "agreement, InfoMap": ours_mean[0],
        "agreement, k-means": agreement["kmeans"].mean(),
        "difference, lower end": gain_low[0],
        "difference, upper end": gain_high[0],
        "of three of the article's six subjects, those that come out": sum(
            together.values()
        ),
    },
)

# %% [markdown]
# ## One setting matters: how words become links
#
# The article counts almost no hyperparameters, or rather one: the construction of the transition probabilities; and $\tau$. For words the construction has two settings, the threshold and the number of neighbours. How much do the clusters depend on them? The search itself is random, so other seeds show what counts as no difference. We vary one setting at a time and compare with
# the clusters at the article's settings, on the words that are in both; and $\tau$ also on an LFR network, whose groups are known.


# %%
def similar(a, b):
    both = (a >= 0) & (b >= 0)
    return adjusted_mutual_info_score(a[both], b[both])


base = at_threshold[0.6]
others = [words_at(seed=seed) for seed in (1, 2, 3)]
by_seed = [similar(base, labels) for labels in others]
TELEPORTS = (0.05, 0.1, 0.2, 0.3)
by_teleport = {t: words_at(teleport=t) for t in TELEPORTS}
by_neighbours = {n: words_at(neighbours=n) for n in (20, 100)}
matrix, truth = lfr_matrix(1000, 0.3, 1)
of_groups = []
for teleport in (0, 0.05, 0.15, 0.3):
    found = infomap(matrix, teleport, 0).modules
    of_groups.append(
        adjusted_mutual_info_score(truth, [found[v] for v in range(1000)])
    )
rows = [
    "| what is changed | clusters | agreement with the default |",
    "|---|---|---|",
    f"| nothing but the seed, three times | | {min(by_seed):.2f} to {max(by_seed):.2f} |",
    f"| default: τ = 0.15, 0.6, 50 | {base.max() + 1} | |",
]
for name, settings in (
    ("τ =", by_teleport),
    ("neighbours:", by_neighbours),
    ("threshold", {t: of for t, of in at_threshold.items() if t != 0.6}),
):
    for value, labels in settings.items():
        rows.append(
            f"| {name} {value} | {labels.max() + 1} | {similar(base, labels):.2f} |"
        )

# %% tags=["hide-input", "nbval-ignore-output"]
display(Markdown("\n".join(rows)))


# %%
def shared_pairs(a, b):
    """Of the pairs of words that are together in a, the share that is in b."""
    both = (a >= 0) & (b >= 0)
    a, b = a[both], b[both]
    joint = Counter(zip(a.tolist(), b.tolist()))
    pairs = sum(n * (n - 1) for n in Counter(a.tolist()).values())
    return sum(n * (n - 1) for n in joint.values()) / pairs


kept = [shared_pairs(base, labels) for labels in others]
of_teleport = min(similar(base, of) for of in by_teleport.values())
rising = [by_teleport[t].max() for t in TELEPORTS]
rising.insert(2, base.max())  # 0.15
assert sorted(rising) == rising
# Three seeds do not show all of the spread between seeds; hence 0.03.
tau_harmless = of_teleport > min(by_seed) - 0.03 and min(of_groups) > 0.95
counts = [labels.max() + 1 for labels in at_threshold.values()]
threshold_matters = max(counts) > 5 * min(counts) and all(
    similar(base, at_threshold[t]) < min(by_seed) - 0.03
    for t in THRESHOLDS
    if t != 0.6
)
verdict(
    "infomap.claim7",
    holds=tau_harmless and threshold_matters,
    measured={
        "words, agreement between seeds, least": min(by_seed),
        "words, agreement between values of τ, least": of_teleport,
        "LFR network, agreement with its groups, τ from 0 to 0.3, least": min(
            of_groups
        ),
        "clusters, thresholds 0.5 to 0.7, fewest": min(counts),
        "clusters, most": max(counts),
    },
)

# %% [markdown]
# So between 0.05 and 0.3 $\tau$ changes the clusters about as little as another seed does, though their number rises with it, as the table shows. The threshold changes them more. It changes the network, and InfoMap describes the network that it is given. Whoever turns vectors into links decides about the number of clusters, without saying a number. Note also the first row: another
# seed alone makes clusters that differ.

# %% tags=["nbval-ignore-output"]
display(
    Markdown(
        f"Of the pairs of words that share a cluster, {min(kept):.0%} to {max(kept):.0%} do so with another seed. "
        "There are many divisions that are nearly as good as the best; a cluster that matters should be there for several seeds."
    )
)

# %% [markdown]
#
# ## What the field does now
#
# - **InfoMap is alive.** The package has memory networks, where the walk's next step depends on the present node and the one before, bipartite and multilayer networks, and node metadata; {cite:t}`smiljanic2023` survey them.
# - **Few observations.** Where links are missing, the map equation finds modules in noise, as every method does that trusts each link. A prior on the links reduces that {cite:p}`smiljanic2021`.
# - **Scale.** A walk that is read only every $t$ steps, or that rests, has other communities: *Markov time* {cite:p}`kheirkhahzadeh2016` is a knob for their size (exercise 4).
# - **Modularity** is still widely used, with Leiden as the search. It has a resolution limit {cite:p}`fortunato2007`; the map equation has one as well, which sets in much later {cite:p}`kawamoto2015` (exercise 3).
# - **Description length of the network**, not of a walk on it: stochastic block models, inferred, can tell communities from noise, and from other structure such as a core and its periphery {cite:p}`peixoto2019`.
# - **Gradients.** With soft assignments the map equation is a loss for graph neural networks {cite:p}`blocker2024`.
#
# On a machine with a CUDA device this cell trains word vectors of 300 dimensions, ten times as long. It has not been run for this book.

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run -m kexue.experiments.infomap_words --scale gpu

# %% [markdown]
# ## Exercises
#
# **1.** From which run length on do categories pay? Let there be $k$ categories of $m$ objects each, all alike, and runs of $r$ objects on average. Write $L$ down and find the break-even for three categories of four, to be compared with the curve above.


# %% tags=["hide-cell"]
def length_of_runs(r, k, m):
    # q = 1/r; a category's codebook is used for k-th parts of all objects and of all exits.
    q = 1 / r
    exits, objects = q / (1 + q), 1 / (1 + q)
    inside = entropy([exits] + m * [objects / m])
    return q * math.log2(k) + (1 + q) * inside


k, m = 3, 4
even = brentq(lambda r: length_of_runs(r, k, m) - math.log2(k * m), 1, 50)
print(f"three categories of four: from runs of {even:.2f} on")

# %% [markdown]
# **2.** Two complete networks of $m$ nodes with one link between them: from which $m$ on are two modules shorter than one? (Compute $L$ of both.)

# %% tags=["hide-cell"]
for m in range(2, 6):
    pair = nx.barbell_graph(m, 0)
    flow = random_walk_flow(pair, 0)
    one = map_equation(flow, dict.fromkeys(pair, 0))
    two = map_equation(flow, {v: int(v >= m) for v in pair})
    print(f"m = {m}: one module {one:.3f}, two {two:.3f}")

# %% [markdown]
# **3.** A ring of 30 complete networks of 5 nodes, each with one link to the next. How many communities do InfoMap and Leiden find?

# %% tags=["hide-cell"]
ring = nx.ring_of_cliques(30, 5)
matrix = nx.to_scipy_sparse_array(ring, dtype=float)
found = len(set(infomap(ring, 0, trials=3).modules.values()))
leiden = len(set(by_igraph(matrix, "Leiden", 0)))
print(f"InfoMap: {found}; fewer by modularity: {leiden < 30}")
# Modularity compares with a random network of the same size: the larger the whole, the less a link between
# two small cliques is expected, so that merging them seems good. In L(M) only the names of modules know how large
# the whole is. In a ring of 1,000 complete networks of 4 nodes they are long enough that merging pairs pays as well:
ring = nx.ring_of_cliques(1000, 4)
flow = random_walk_flow(ring, 0)
single, in_pairs = (
    map_equation(flow, {v: v // size for v in ring}) for size in (4, 8)
)
print(f"1,000 modules: {single:.3f} bits; 500 pairs: {in_pairs:.3f}")
assert in_pairs < single

# %% [markdown]
# **4.** Let the walker of the karate club be lazy: give each node a self-loop of weight $w$ times its degree. What happens to the exits, and to the number of modules?

# %% tags=["hide-cell"]
for w in (0, 1, 3, 10):
    lazy = karate.copy()
    lazy.add_weighted_edges_from(
        [(v, v, w * karate.degree(v)) for v in karate] if w else []
    )
    found = infomap(lazy, 0, trials=5)
    print(
        f"w = {w}: {len(set(found.modules.values()))} modules, {found.codelength:.3f} bits"
    )
# The walk stays where it is in w of w + 1 steps. All exit rates fall by the factor w + 1, leaving a module
# costs less, and smaller modules pay. L is bits for a step that often goes nowhere.

# %% [markdown]
# ## The card

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "infomap",
    {
        "Sizes": f"recorded: {len(runs)} runs and {len(tuning)} for tuning, {run.summary['steps']:,} steps of {run.config['batch_size']:,} pairs; vectors of {run.config['width']} numbers",
        "Seeds": "recorded: 1 to 3, tuning: 0; live: networks and searches as the cells say, and numpy's generator 0",
        "Recorded on": f"{run.environment['processor']}, {max(r.environment['seconds'] for r in runs.values()) / 60:.1f} min for the longest",
        "Compared with": f"infomap {package.__version__}, igraph {igraph.__version__}, networkx {nx.__version__}",
    },
)
