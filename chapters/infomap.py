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
#
# Every town has its High Street, and nobody is confused. InfoMap finds groups in a network by the same economy: it describes a walk in as few bits as possible, reusing short names in every group. The cost of a grouping is a formula that you can evaluate by hand, and a search for the cheapest takes about a second for ten thousand nodes. Whether the groups mean anything, the formula does not say.
# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import itertools
import time
from collections import Counter
from importlib.metadata import version
from math import log2

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.optimize import brentq
from sklearn.metrics import adjusted_mutual_info_score

from kexue import runs
from kexue.book import drawing, plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, table
from kexue.book.recolour import recolour
from kexue.infomap import (
    HierarchicalCode,
    compare_with_rewired,
    entropy,
    hierarchical_map_equation,
    huffman_code,
    infomap,
    map_equation,
    neighbour_graph,
    overlapping_flow,
    random_walk_flow,
    rewired,
)

setup("infomap")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Good groups make a short description
#
# A walker wanders at random through a network, from node to node along the links, for ever. How would you record every step in as few bits as possible?
#
# With a single list of names, the most visited nodes should get the shortest. Towns do better: they reuse street names, because everybody knows which town they are in. So divide the network into groups, called *modules*, reuse the same short names in each, and record every change of module. This pays if the walker stays long in each; such a module is a *community*.
#
# So any partition of a network can be scored by length alone. Take the network of a karate club that later split in two {cite:p}`zachary1977`. A single list of names (*all together*) needs 4.70 bits per step; the best three modules need 4.31, fewer even than the two factions into which the club split: the code knows nothing of quarrels.
# %% mystnb={"figure": {"caption": "Three modules describe a walk through Zachary's karate club more briefly than the split that happened. Above: the three modules. Below: bits per step for five partitions; dashed, a single list of names."}, "image": {"alt": "A network of 34 people in three colours, each colour a dense region. Below it five horizontal bars, from longest to shortest: each alone, three random modules, all together, the actual split, and the shortest. A dashed line stands at all together."}} tags=["hide-input"]
import networkx as nx

from kexue.experiments import infomap_null, infomap_optima, infomap_words
from kexue.experiments.tasks import communities, infomap_rules

karate = nx.Graph(nx.karate_club_graph().edges())
members = sorted(karate)
places = nx.spring_layout(karate, seed=4)
flow = random_walk_flow(karate, teleport=0)
best = infomap(karate, teleport=0, trials=10)
divisions = {
    "each alone": {v: v for v in karate},
    "three random modules": dict(zip(members, rng.integers(3, size=34))),
    "all together": dict.fromkeys(karate, 0),
    "the actual split": dict(nx.karate_club_graph().nodes(data="club")),
    "the shortest": best.modules,
}
lengths = {name: map_equation(flow, m) for name, m in divisions.items()}
assert f"{lengths['all together']:.2f} {best.codelength:.2f}" == "4.70 4.31"
fig, (ax, bars) = plotting.panels(2, height=2.6)
drawing.network(ax, karate, best.modules, places)
drawing.bars(bars, lengths, lengths["all together"])
bars.set(xlabel="bits per step", xlim=(0, 7))
plt.show()

# %% [markdown]
# ## Short codewords are scarce
#
# A *code* gives each symbol a codeword of zeros and ones. In a *prefix code* no codeword is the beginning of another, so that a text needs no gaps. Draw it as a binary tree, left for 0 and right for 1: the symbols are the leaves.
#
# Pour a litre of water into the root, and let it divide evenly at every fork. A leaf at depth $l$, the end of a codeword of $l$ bits, gets $2^{-l}$ litres. No leaf lies below another, so no water is counted twice, and all leaves together get at most one litre. This is Kraft's inequality {cite:p}`kraft1949`:
#
# $$
# \sum_i2^{-l_i}\le1.
# $$ (infomap-eq1)


# %% mystnb={"figure": {"caption": "One litre of water is shared among the leaves, so a short codeword for one symbol lengthens the others. Shown: the best code for five letters whose frequencies equal the shares."}, "image": {"alt": "A binary tree with zeros to the left and ones to the right. The letter a is a leaf at depth one and gets a half, b at depth two a quarter, c at depth three an eighth, d and e at depth four a sixteenth each."}} tags=["hide-input"]
frequency = dict(zip("abcde", [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]))
code = huffman_code(frequency)
fig, ax = plotting.panels(1, height=2.4)
drawing.code_tree(ax, code)
plt.show()

# %% [markdown]
# If symbol $i$ occurs with probability $p_i$, how few bits per symbol can a code need on average? The answer is the *entropy* {cite:p}`shannon1948`,
#
# $$
# H(P)=-\sum_ip_i\log_2p_i.
# $$ (infomap-eq2)
#
# For the five letters it is $\frac12\cdot1+\frac14\cdot2+\frac18\cdot3+\frac1{16}\cdot4+\frac1{16}\cdot4=1.875$ bits, the mean length of the code in the tree. In general, let $\hat p_i=2^{-l_i}$ be the water in leaf $i$, and $\hat p_0$ the water that reaches no leaf. They sum to 1, and so form a distribution $\hat P$. The mean length is then $\sum p_il_i=-\sum p_i\log_2\hat p_i$, a *cross-entropy*: the cost per symbol of a code designed for $\hat P$ when the symbols follow $P$. Since $\ln x\le x-1$,
#
# $$
# \sum_ip_i\log_2\frac{\hat p_i}{p_i}\le\frac1{\ln2}\sum_ip_i\Bigl(\frac{\hat p_i}{p_i}-1\Bigr)=-\frac{\hat p_0}{\ln 2}\le0,
# $$
#
# and so no prefix code has a mean length below the entropy:
#
# $$
# \sum_ip_il_i\ge H(P).
# $$ (infomap-eq6)
#
# Equality needs the ideal lengths $l_i=-\log_2p_i$, which are rarely whole numbers. Huffman's code {cite:p}`huffman1952`, which repeatedly merges the two rarest symbols, is the best prefix code and wastes less than one bit per symbol.
#
# ## Categories shorten names
#
# To remember a shopping list, you sort it: *fruit: apples, bananas; dairy: milk, …*. A code can do the same. One codebook names the categories; each category has its own for its objects and for an *exit* symbol ↩, after which the next category is named.
#
# The article's example has twelve items: five kinds of fruit, such as 苹果 (*píngguǒ*, apple), four cities, such as 北京 (*Běijīng*), and three numbers. With a single codebook each item costs $\log_212=3.58$ bits, 43.0 in all.

# %%
KINDS = {
    "fruit": ["苹果", "香蕉", "雪梨", "葡萄", "西瓜"],
    "city": ["北京", "上海", "广州", "成都"],
    "number": ["13", "123", "256"],
}
kind_of = {item: kind for kind, items in KINDS.items() for item in items}
clumped = list(kind_of)
in_turn = itertools.zip_longest(*KINDS.values())
interleaved = [item for row in in_turn for item in row if item]

bits = {"one codebook": 12 * log2(12)}
for name, order in {"clumped": clumped, "interleaved": interleaved}.items():
    code = HierarchicalCode.fit(order, kind_of)
    assert code.decode(code.encode(order)) == order
    bits[name] = 12 * code.codelength  # with ideal lengths, −log₂ p
for name, value in bits.items():
    print(f"{name}: {value:.1f} bits")

# %% tags=["hide-input"]
shown = [f"{bits[k]:.1f}" for k in ("clumped", "one codebook", "interleaved")]
assert shown == ["39.9", "43.0", "67.0"]
verdict(
    "infomap.claim6",
    holds=bits["clumped"] < bits["one codebook"] < bits["interleaved"],
    measured={"bits, clumped < one codebook < interleaved": " < ".join(shown)},
)

# %% [markdown]
# Sorted, the three names cost $3\log_23$ bits and the items and exits $6\log_26+5\log_25+4\log_24$, together 39.9; interleaved, every item needs a name and an exit, 67.0 in all. A walk that lingers in its modules is like a sorted list.
#
# ## The map equation, by hand
#
# The cost depends only on how often, per step of the walk, each codeword is used. Node $\alpha$ is visited at rate $p_\alpha$, with $\sum_\alpha p_\alpha=1$. Module $i$ is left at rate $q_i$, and entered equally often, so its name is written at the same rate. If the walk goes from $\alpha$ to $\beta$ with probability $p_{\alpha\to\beta}$,
#
# $$
# q_i=\sum_{\alpha\in i}\sum_{\beta\notin i}p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq14)
#
# The *index* codebook, with the names of modules, is used at rate $q=\sum_iq_i$, at a cost per use of
#
# $$
# H(\mathcal Q)=-\sum_i\frac{q_i}{q}\log_2\frac{q_i}{q}
# $$ (infomap-eq9)
#
# bits. The codebook of module $i$ is used at rate $p_i^\circlearrowright=q_i+\sum_{\alpha\in i}p_\alpha$, for nodes and exits, at a cost per use of
#
# $$
# H(\mathcal P^i)=-\frac{q_i}{p_i^\circlearrowright}\log_2\frac{q_i}{p_i^\circlearrowright}-\sum_{\alpha\in i}\frac{p_\alpha}{p_i^\circlearrowright}\log_2\frac{p_\alpha}{p_i^\circlearrowright}
# $$ (infomap-eq10)
#
# bits. Together they give the **map equation** {cite:p}`rosvall2008`, the number of bits per step for a partition $M$:
#
# $$
# L(M)=q\,H(\mathcal Q)+\sum_ip_i^\circlearrowright H(\mathcal P^i).
# $$ (infomap-eq11)
#
# Try it on two triangles joined by a bridge. The 7 links, walked in both directions, make 14 steps. If these are equally frequent, each node is reached as often as it is left, so they stay so. Three arrive at each end of the bridge, two at every other node. One step leaves the left triangle and one the right, so $q=\frac2{14}=\frac17$. The index holds two equally frequent names, of one bit each. Each triangle's codebook is used 8 times in 14 steps, for seven visits and one exit, in the proportions 2 : 2 : 3 : 1. Its entropy is $2\cdot\frac28\cdot2+\frac38\cdot1.415+\frac18\cdot3=1.906$ bits, and so
#
# $$
# L=\tfrac17\cdot1+2\cdot\tfrac8{14}\cdot1.906=2.321.
# $$
#
# As one module the network costs $H(\frac2{14},\frac2{14},\frac3{14},\frac3{14},\frac2{14},\frac2{14})=2.557$ bits; cut into three pairs, it costs more than either. The same in code, for the adjacency matrix of an undirected network:


# %% tags=["minimal"]
def codebook(rates):  # bits per step
    used = rates[rates > 0]
    return (used * np.log2(used.sum() / used)).sum()


def bits_of_step(links, module):  # (index, modules)
    link = links / links.sum()  # share of steps along it
    visit = link.sum(1)
    leaving = (link * (module[:, None] != module)).sum(1)
    exits = np.bincount(module, leaving)
    inside = [
        codebook(np.append(visit[module == i], exits[i]))
        for i in range(len(exits))
    ]
    return codebook(exits), sum(inside)


# %%
bridge = nx.Graph([(0, 1), (0, 2), (1, 2), (2, 3), (3, 4), (3, 5), (4, 5)])
links = nx.to_numpy_array(bridge, nodelist=range(6))
for module in ([0, 0, 0, 1, 1, 1], [0] * 6, [0, 0, 1, 1, 2, 2]):
    index, modules = bits_of_step(links, np.array(module))
    print(module, f"{index:.3f} + {modules:.3f} = {index + modules:.3f}")

# %% tags=["hide-input"]
of_triangle = entropy(np.array([2, 2, 3, 1]) / 8)
two, one = (sum(bits_of_step(links, np.repeat([0, i], 3))) for i in (1, 0))
assert f"{of_triangle:.3f} {two:.3f} {one:.3f}" == "1.906 2.321 2.557"

# %% [markdown]
# With few modules, borders are rarely crossed, but codewords for nodes are long; with many, the reverse. Strike the balance yourself: click on nodes of the karate club, and watch the bits.


# %%
links = nx.to_numpy_array(karate, nodelist=members)
steps = communities.merged_step_by_step(links)
terms = {
    k: bits_of_step(links, np.unique(labels, return_inverse=True)[1])
    for k, labels in steps.items()
}

# %% tags=["hide-input"]
assert min(terms, key=lambda k: sum(terms[k])) == 3
recolour(
    karate,
    places,
    {k: dict(zip(members, m.tolist())) for k, m in steps.items()},
    start=3,
    caption="A click moves a node to the next of its neighbours' modules, or to one of its own. Can you beat three modules? Single moves will hardly do it, from any of the slider's partitions, which greedy merging found. Below: the bits of these partitions, index on top of modules; dashed, one module for all; the point is what you see above.",
    alt="Karate club coloured by module. Below it, for 1 to 34 modules, two stacked areas: the cost of the index grows from 0, that of the codebooks of modules falls, and their sum is lowest at three.",
)

# %% [markdown]
# ## Real codes come close to the formula
#
# The map equation assumes ideal lengths; real ones are whole numbers. To see what rounding costs, we encode a walk of 100,000 steps through the karate club with Huffman codes:

# %%
path = [0]
while len(path) < 100_000:
    neighbours = list(karate[path[-1]])
    path.append(neighbours[rng.integers(len(neighbours))])
flat = huffman_code(Counter(path))
code = HierarchicalCode.fit(path, best.modules)
assert code.decode(code.encode(path)) == path
spent = {"one codebook": sum(len(flat[v]) for v in path)}
spent["three modules"] = len(code.encode(path))
for name, total in spent.items():
    print(f"{name}: {total / 100_000:.2f} bits per step")

# %% mystnb={"figure": {"caption": "Steps inside a module are cheap; a change of module costs extra, for the exit and the new module's name. Bits for each of the first 150 steps, with the mean of the whole walk (dashed): one codebook (above), three modules (below, coloured by module)."}, "image": {"alt": "Two rows of bars. In the upper one most bars are three to seven bits high. In the lower one most are two to five bits high, in stretches of one colour, with a tall bar at each change of colour."}} tags=["hide-input"]
first = path[:150]
order = list(dict.fromkeys(best.labels.tolist()))
shades = [plotting.COLOURS[order.index(best.modules[v])] for v in first]
fig, (above, below) = plotting.panels(2, height=1.5)
above.bar(range(150), [len(flat[v]) for v in first], 1, color=plotting.INK)
below.bar(range(150), code.costs(path)[:150], 1, color=shades)
for ax, total in zip((above, below), spent.values()):
    ax.axhline(total / 100_000, color=plotting.INK, linestyle="--", linewidth=1)
above.set(ylabel="bits", ylim=(0, 14), title="one codebook")
below.set(ylabel="bits", ylim=(0, 14), xlabel="step", title="three modules")
plt.show()

# %% [markdown]
# Rounding costs little; the modules still win. But the entropy of a visit is 4.70 bits, and the article says that no code can go below it. How can 4.37 be enough? That bound is for symbols drawn independently, and successive nodes of a walk are not. Shuffle the steps, and the same modules cost *more* than a single codebook. For a walk, the lower bound is the *entropy rate*, the uncertainty about the next node given the current one: 2.58 bits here.
#
# A codebook for each current node would come close to it, but find no modules. The map equation makes every crossing expensive, and that price is what keeps modules large.

# %%
h = entropy(flow.visit)
rate = sum(p * log2(karate.degree(v)) for v, p in zip(flow.nodes, flow.visit))
shuffled = rng.permutation(path).tolist()
mixed = HierarchicalCode.fit(shuffled, best.modules).codelength
print(f"drawn independently: {h:.2f} bits; entropy rate: {rate:.2f}")
print(f"three modules, steps shuffled: {mixed:.2f}")

# %% [markdown]
# The article normalises the rates of all codewords to sum to 1, $\sum_iq_i+\sum_\alpha p_\alpha+\sum_iq_i=1$, and remarks that this makes no difference. It does: dividing by $1+2q$, which depends on the modules, counts bits per codeword, and by that count even a triangle prefers three modules to one:

# %%
triangle = random_walk_flow(nx.cycle_graph(3), teleport=0)
whole, single = (map_equation(triangle, m) for m in ([0, 0, 0], [0, 1, 2]))
print(f"as one module {whole:.3f} bits per step, as three {single:.3f}")
print(f"per codeword {whole:.3f} and {single / 3:.3f}")

# %% tags=["hide-input"]
shown = " < ".join(f"{bits:.2f}" for bits in (rate, best.codelength, h, mixed))
assert shown[:18] == "2.58 < 4.31 < 4.70"
assert f"{spent['three modules'] / 100_000:.2f}" == "4.37"
verdict(
    "infomap.bound",
    holds=not best.codelength < h,
    restricted=rate < best.codelength < h < mixed,
    measured={"entropy rate < modules < H(P) < steps shuffled, bits": shown},
)
verdict(
    "infomap.normalising",
    holds=(single < whole) == (single / 3 < whole / 1),
    measured={"bits as three modules and as one": f"{single:.3f} > {whole:.3f}"}
    | {"per codeword": f"{single / 3:.3f} < {whole:.3f}"},
)

# %% [markdown]
# ## Directed networks need teleportation
#
# In an undirected network, visit rates are proportional to degrees. In general they are stationary:
#
# $$
# p_\beta=\sum_\alpha p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq12)
#
# On a directed network the walker can be trapped in one part, and the rates may then depend on where it starts. The cure is to *teleport*: with probability $\tau$, usually 0.15, the walker jumps to one of the $n$ nodes at random:
#
# $$
# p_\beta=(1-\tau)\sum_\alpha p_\alpha\,p_{\alpha\to\beta}+\frac\tau n.
# $$ (infomap-eq13)
#
# From a node without outgoing links the walker always jumps. Each iteration multiplies the $L_1$ distance between two distributions by at most $1-\tau$, so there is exactly one solution: PageRank {cite:p}`page1999`. A jump that leaves a module of $n_i$ nodes counts as an exit:
#
# $$
# q_i=\tau\frac{n-n_i}{n}\sum_{\alpha\in i}p_\alpha+(1-\tau)\sum_{\alpha\in i}\sum_{\beta\notin i}p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq15)
#
# The authors' package {cite:p}`edler2025` does so on request only; by default it does not encode the jumps {cite:p}`lambiotte2012`.
#
# Take two rings of one-way links, and one link from the first to the second. Without jumps the walk ends up in the second. With them, both rings are modules, unless jumps, which count as exits, become too frequent:

# %%
rings = nx.DiGraph([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 3)])
for tau in (0.01, 0.15, 0.3):
    first = random_walk_flow(rings, tau).visit[:3].sum()
    count = infomap(rings, tau, trials=10).num_modules
    print(f"τ = {tau}: {first:.0%} in the first ring; modules: {count}")

# %% [markdown]
#
# ## Greedy search gets stuck, and a random shake frees it
#
# Ten nodes can be partitioned in 115,975 ways, thirty in nearly $10^{24}$: too many to try. But moving a single node is cheap. With $f(x)=x\log_2x$, the map equation becomes
#
# $$
# L=f(q)-2\sum_if(q_i)-\sum_\alpha f(p_\alpha)+\sum_if(p_i^\circlearrowright),
# $$
#
# and a move changes only $q$ and the terms of two modules. So the search {cite:p}`rosvall2009,blondel2008` starts with every node in its own module. In random order, each node $\alpha$ moves to the neighbouring module that makes $L$ smallest, or stays:
#
# $$
# m(\alpha)\leftarrow\arg\min_{i\,\in\,\{m(\alpha)\}\,\cup\,\{m(\beta)\,:\,\beta\sim\alpha\}}L\bigl(M_{\alpha\to i}\bigr).
# $$ (infomap-alg1)
#
# When no move helps, the modules become the nodes of a smaller network, and the search repeats. $L$ never increases, so the search stops wherever no *single* move makes it smaller. On these seven nodes it stops too early in nearly every order:

# %%
stuck = nx.Graph([(0, 1), (1, 2), (1, 5), (2, 3), (2, 6), (3, 4), (5, 6)])
walk = random_walk_flow(stuck, 0)
for apart in ([], [3], [4], [3, 4]):
    length = map_equation(walk, {v: int(v in apart) for v in stuck})
    print(f"{length:.4f} bits with {apart or 'no node'} apart")
for name, options in {
    "the article's steps": {"steps": ()},
    "shakes as well": {"steps": ("shakes",)},
}.items():
    found = [infomap(stuck, 0, s, **options).codelength for s in range(100)]
    optimal = sum(bits < length + 1e-9 for bits in found)
    print(f"{optimal} of 100 trials find the optimum by {name}")

# %% [markdown]
# Here the article's search usually ends with all nodes in one module, and no neighbour offers another. Nor would an empty module help: only moving both nodes 3 and 4 out shortens the description. Our search adds four steps:
#
# - *Refine* {cite:p}`rosvall2009`: at the end, single nodes and then parts of modules may move again.
# - *Empty module*: a node may start a module of its own.
# - *Unlinked mergers*: with teleportation, two modules may merge without a link between them.
# - *Shakes*: the nodes of a few modules are redistributed at random among at most three, the search resumes, and the result is kept if shorter.
#
# Which of them matter? We took 5,000 networks of eight nodes, small enough to check every partition.

# %% mystnb={"figure": {"caption": "Greedy moves miss one optimum in ten even in ten trials, and with all four further steps none is missed. Share of 5,000 networks of eight nodes whose shortest description is not found, with 95 % intervals: by any of ten trials, and by the first alone. Below 0.1 % the axis is linear, so that it shows zero."}, "image": {"alt": "Eight rows of two points on an axis from 0 to 10 %. The article's steps, with and without refining, lie near 10 %. All other searches lie below 1 % with ten trials; ours with all four steps, and ours without refine, at 0. In every row the first trial alone lies further right, for the C++ package and without unlinked mergers near 4 %."}} tags=["nbval-ignore-output", "hide-input"]
fig, ax = plotting.panels(1, height=3.6)
drawing.shares(ax, infomap_optima.missed("eight"))
ax.set(xlabel="networks whose optimum is missed")
plt.show()

# %% [markdown]
# Most misses of the article's search occur on networks in several parts, a minority that only teleportation connects. There the shakes matter most with ten trials, the unlinked mergers with one. On connected networks, ten trials of the article's search miss fewer than one in a thousand.
#
# The article reports five seconds for 10,000 nodes and 100,000 links. We time LFR networks {cite:p}`lancichinetti2008`, in which group sizes and degrees vary widely. Our own search, compiled by numba, is about as fast as the authors'. Here nearly all of the gain over greedy search comes from refining, which the small networks did not need.


# %%
def lfr(nodes, mixing, seed):
    graph = nx.LFR_benchmark_graph(nodes, 3, 1.5, mixing, average_degree=20, max_degree=50, min_community=20, max_community=100, seed=seed)  # fmt: skip
    return nx.to_scipy_sparse_array(graph, dtype=float)


def timed(links, engine):
    begin = time.process_time()
    found = infomap(links, teleport=0, engine=engine)
    return time.process_time() - begin, found


# %%
infomap(karate, 0), infomap(karate, 0, engine="infomap")  # compiled, loaded
cases = list(itertools.product((0.3, 0.5), (1, 2, 3)))
networks = {case: lfr(10_000, *case) for case in cases}
theirs = {case: timed(networks[case], "infomap") for case in cases}
ours = {m: timed(networks[m, 1], "numpy") for m in (0.3, 0.5)}
STEPS = {"greedy": (), "refined": ("refine",)}
partly = {
    (m, name): infomap(networks[m, 1], teleport=0, steps=steps).codelength
    for m, (name, steps) in itertools.product(ours, STEPS.items())
}


# %% tags=["nbval-ignore-output", "hide-input"]
table(
    {
        "µ": f"{mixing}",
        "links": f"{networks[mixing, 1].nnz // 2:,}",
        "C++, seconds": theirs[mixing, 1][0],
        "ours, seconds": seconds,
        "C++, bits": f"{theirs[mixing, 1][1].codelength:.3f}",
        "ours": f"{found.codelength:.3f}",
        "greedy": f"{partly[mixing, 'greedy']:.3f}",
        "with refine": f"{partly[mixing, 'refined']:.3f}",
    }
    for mixing, (seconds, found) in ours.items()
)

# %% tags=["hide-input"]
slowest = max(seconds for seconds, _ in theirs.values())
verdict(
    "infomap.claim2",
    holds=slowest < 5 and min(found.saved for _, found in theirs.values()) > 0,
    measured={"slowest of six, C++": f"{slowest:.1f} of 5 seconds allowed"},
)

# %% [markdown]
# ## InfoMap finds the number of groups, if they are strong enough
#
# The article values most that the number of groups need not be given. We test this on *planted* groups: 1,000 nodes in 20 groups of 50, with 20 links per node on average, of which a share µ (the *mixing*) leave their group. For comparison, Leiden {cite:p}`traag2019` maximises *modularity*, the excess of links inside groups over what the degrees alone would give. Agreement is adjusted mutual information (AMI) {cite:p}`vinh2010`: 1 for perfect recovery, 0 for chance.


# %%
def planted(mixing, seed):
    return infomap_null.planted_by_mixing(1000, 20, 20, mixing, seed)


def compare(network, truth, seed):
    found = {
        "InfoMap": communities.by_infomap(network, 5, seed, "infomap"),
        "Leiden": communities.leiden(network, seed)[0],
    }
    return [
        {
            "method": method,
            "agreement": round(adjusted_mutual_info_score(truth, labels), 4),
            "modules": len(set(labels.tolist())),
        }
        for method, labels in found.items()
    ]


# %%
MIXINGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8)
trials = pd.DataFrame(
    {"mixing": mixing, **row}
    for mixing, seed in itertools.product(MIXINGS, range(5))
    for row in compare(*planted(mixing, seed), seed)
)

# %% mystnb={"figure": {"caption": "InfoMap recovers all 20 groups up to a mixing of 0.6, then abruptly merges everything; Leiden degrades gradually. Points: five networks per mixing; lines: means; dashed: no agreement, and 20 groups; dotted: where one module becomes the shorter description."}, "image": {"alt": "Two panels. Above, agreement against mixing: InfoMap stays near 1 up to a mixing of 0.6, and is at 0 from 0.65 on; Leiden falls gradually, from 0.8 at 0.65. Below, the number of modules: 20 for InfoMap, then 1; a dashed line stands at 20, and a dotted one at a mixing of 0.635."}} tags=["hide-input"]
fig, axes = plotting.panels(2, height=2.1)
for ax, y, baseline in zip(axes, ("agreement", "modules"), (0, 20)):
    points = {k: (own.mixing, own[y]) for k, own in trials.groupby("method")}
    drawing.means(ax, points, baseline)
    ax.axvline(0.635, color=plotting.INK, linestyle=":", linewidth=1)
    ax.set(ylabel=y)
axes[1].set(xlabel="mixing")
axes[0].legend()
plt.show()

# %% tags=["hide-input"]
holds, partly, numbers = infomap_rules.number_comes_out(trials)
verdict("infomap.claim1", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# At 0.65 the code itself prefers one module (just below, the search can fail, too). Take $k$ groups of $n/k$ nodes of equal degree, with mixing $\mu$. The index costs $\mu\log_2k$ bits per step, the nodes $\log_2\bigl(\frac nk(1+\mu)\bigr)$, the exits $\mu\log_2\frac{1+\mu}\mu$, and one module for all $\log_2n$. The size $n/k$ cancels, and the groups give the shorter description as long as
#
# $$
# (1-\mu)\log_2k>(1+\mu)\log_2(1+\mu)-\mu\log_2\mu.
# $$
#
# On the left is what shorter names save, less what the index takes back; on the right, the price of telling exits from nodes. So how weak a group InfoMap can find depends on how many there are. Two groups are merged although three quarters of the links stay inside. Two hundred are kept apart although more than two thirds of the links leave; there Leiden merges groups instead, unless the resolution of modularity is tuned. Modularity merges small groups in any large network, its *resolution limit* {cite:p}`fortunato2007`; that of the map equation is far weaker {cite:p}`kawamoto2015`.


# %%
def largest_mixing(k):  # at which k groups are worth their names
    bits = lambda µ: (1 + µ) * log2(1 + µ) - µ * log2(µ)
    return brentq(lambda µ: (1 - µ) * log2(k) - bits(µ), 1e-6, 1 - 1e-6)


limits = {k: round(largest_mixing(k), 2) for k in (2, 4, 10, 20, 50, 200)}
print("limit for each number of groups:", limits)
for k, size, mixing in ((2, 500, 0.25), (200, 50, 0.7)):
    case = infomap_null.planted_by_mixing(k * size, k, 20, mixing, seed=0)
    for row in compare(*case, seed=0):
        print(f"{k} groups of {size} at {mixing}:", *row.values())
assert limits[2] < 0.25 < 0.6 < limits[20] < 0.65 < 0.7 < limits[200] < 0.8

# %% [markdown]
# ## In sparse networks, InfoMap finds groups in pure noise
#
# Take a network without groups: 1,000 nodes, every pair linked with the same probability, four links per node on average. Then increase density and size:

# %%
for nodes, degree in ((1000, 4), (1000, 10), (10_000, 10)):
    found = infomap(infomap_null.random_network(nodes, degree, seed=0), 0)
    modules = (
        f"{found.num_modules} modules save {found.saved:.2f} bits per step"
    )
    print(f"{nodes} nodes of mean degree {degree}:", modules)

# %% [markdown]
# The description really is shorter: by chance, some regions of a sparse random network have few ways out, and a walk lingers there. But the next random network has others. With more links per node such modules vanish. In a larger network they return, because a name in the single codebook costs about $\log_2n$ bits, while in a small module it stays as short as before. Modularity, too, is high in random networks {cite:p}`guimera2004`.

# %% tags=["hide-input"]
rows = infomap_rules.rows_of("infomap_null_random", "degree", "compare")
noise, alarms = rows[rows["compare"]], rows[~rows["compare"]].p
holds, partly, numbers = infomap_rules.modules_in_noise(noise)
verdict("infomap.noise", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# One remedy is a null model. *Rewire* the network: swap the ends of random pairs of links, until only the degrees are left {cite:p}`maslov2002`. If InfoMap saves as many bits on such copies, the saving is no evidence of groups. If it saves fewer, the links are not random given the degrees, but that alone does not prove groups. The share of networks, original and copies, that save at least as much as the original is a *p*-value.

# %%
own = infomap(karate, teleport=0).saved
copies = [rewired(karate, seed) for seed in range(1, 20)]
saved = [infomap(copy, teleport=0).saved for copy in copies]
p = (1 + sum(bits >= own for bits in saved)) / 20
print(f"the club saves {own:.2f} bits, its copies at most {max(saved):.2f}")
print(f"p = {p:.2f}")
assert p == compare_with_rewired(karate, copies=19).p  # the same, in one call

# %% mystnb={"figure": {"caption": "Five of six real networks beat all 99 of their rewired copies; the Florentine families do not, nor does a random network, but a grid does, which has no groups. Bits per step saved over one module. Star: the network; points: rewired copies, with mean and 95 % interval."}, "image": {"alt": "Eight rows. In five real networks a star lies to the right of a cloud of points near zero, far to the right for Les Mis\u00e9rables and for places in the newspaper. For the Florentine families and for the random network the star lies within the cloud; for the grid, in the last row, it lies far to the right."}} tags=["nbval-ignore-output", "hide-input"]
nulls = infomap_rules.saved_by_copies()
stars = [bits[0] for bits in nulls.values()]
copies = {title: bits[1:] for title, bits in nulls.items()}
fig, ax = plotting.panels(1, height=3.8)
plotting.seeds(ax, copies, ("none", 0), stars=stars)
ax.set(xlabel="bits saved per step")
plt.show()

# %% tags=["hide-input"]
p_values = runs.table("infomap_null").p
holds, partly, numbers = infomap_rules.told_apart(p_values, alarms)
verdict("infomap.null", holds=holds, restricted=partly, measured=numbers)
of = runs.table("infomap_null_weights")
assert of.saved["places-shuffled"] < of.null_mean["places-shuffled"]
assert of.saved["places-strengths"] > of.null_most["places-strengths"]

# %% [markdown]
# The Florentine families save no more than their copies. The grid does, although it has no groups. With weighted links, the choice of null model decides (see the verdict).
#
# Another remedy is a *prior*. A link that was not observed may still exist, so the Bayesian map equation adds a weak link between every pair of nodes {cite:p}`smiljanic2020,smiljanic2021`.

# %% mystnb={"figure": {"caption": "In sparse random networks InfoMap finds dozens of spurious modules, in the sparsest over a hundred, and Leiden 10 to 20; with a prior, InfoMap correctly finds one. Five networks of 1,000 nodes per mean degree. Dashed: the truth, one module and nothing saved."}, "image": {"alt": "Two panels against the mean degree. Above: InfoMap has over a hundred modules at a mean degree of three, fewer as it grows, and one from ten on; Leiden ten to twenty; with a prior always one. Below: InfoMap saves almost three bits at a mean degree of three, falling towards zero; with a prior zero."}} tags=["nbval-ignore-output", "hide-input"]
fig, axes = plotting.panels(2, height=2.1)
for ax, y, truth in zip(axes, ("modules", "saved"), (1, 0)):
    drawing.means(ax, infomap_rules.curves(noise, "degree", y), truth)
axes[0].set(ylabel="modules found")
axes[1].set(xlabel="mean degree", ylabel="bits saved")
axes[0].legend()
plt.show()

# %% [markdown]
# ## How weak a group can be found?
#
# The prior has a price: it also hides groups that are real but weak. Let two nodes be linked with probability $c_\text{in}/n$ if they share a group and $c_\text{out}/n$ if not, and let $c$ be the mean degree. With $k$ equal groups, no efficient method is known to find them unless {cite:p}`decelle2011`
#
# $$
# |c_\text{in}-c_\text{out}|>k\sqrt c.
# $$
#
# The ratio of the two sides is the *signal*; the *detectability limit*, 1, holds for infinitely large networks. To InfoMap and Leiden we add a spectral method, which clusters the nodes by eigenvectors {cite:p}`saade2014` and is told $k$.

# %% mystnb={"figure": {"caption": "With few groups InfoMap needs a stronger signal than a spectral method that is told their number, and with a prior a stronger one still; with 50 groups it is level or ahead. Panels: 2, 4, 10 and 50 planted groups, mean degree 8. Points: five networks; dashed: the limit of detectability."}, "image": {"alt": "Four panels of agreement against signal. For two and four groups all methods are near 0 up to a signal of 1; then the spectral method rises first, Leiden next, InfoMap later, and InfoMap with a prior last, for two groups not at all. For ten groups they lie closer together, and for fifty InfoMap rises a little before the others, the prior's still last."}} tags=["nbval-ignore-output", "hide-input"]
planted_rows = infomap_rules.rows_of("infomap_null_planted", "groups")
fig, axes = plotting.panels(4, height=1.9)
for ax, (groups, own) in zip(axes, planted_rows.groupby("groups")):
    drawing.means(ax, infomap_rules.curves(own, "signal", "ami"))
    ax.axvline(1, color=plotting.INK, linestyle="--", linewidth=1)
    ax.set(title=f"{groups} groups", ylabel="agreement")
axes[0].legend(fontsize=8)
axes[-1].set(xlabel="signal")
plt.show()

# %% tags=["hide-input"]
holds, partly, numbers = infomap_rules.detectable(planted_rows)
verdict("infomap.limit", holds=holds, restricted=partly, measured=numbers)
holds, partly, numbers = infomap_rules.with_a_prior(noise, planted_rows)
verdict("infomap.prior", holds=holds, restricted=partly, measured=numbers)
two = planted_rows.query("groups == 2 and signal == 2.5")
assert round(1 / two.mixing.mean()) == 17
assert min(two.modules_infomap) >= 24
failed = planted_rows.query("groups == 2 and saved < saved_planted")
assert failed.signal.tolist() == [2.5] * 5

# %% [markdown]
# With two groups at our strongest signal, only one link in seventeen runs between them, yet our two trials return dozens of modules, and a *longer* description than that of the two groups: here the search fails. At weaker signals such fragments really are shorter. With fifty groups of 20 nodes, hardly larger than such a module, it does as well as any method here.

# %% [markdown]
# ## Nested and overlapping modules
#
# Modules may contain modules, on as many levels as pay {cite:p}`rosvall2011`. Take 27 nodes, a triangle of triangles of triangles:


# %%
nested = nx.Graph()
for i, j, a, b in itertools.product(range(3), repeat=4):
    if a < b:
        nested.add_edge((i, j, a), (i, j, b))  # in a small triangle
        nested.add_edge((i, a, b), (i, b, a))  # between small ones
        nested.add_edge((a, b, b), (b, a, a))  # between large ones
walk = random_walk_flow(nested, 0)
nine, three = {v: v[:2] for v in nested}, {v: v[0] for v in nested}
many, best_two = (infomap(nested, 0, trials=10, levels=k) for k in (None, 2))
triangles = {
    "many levels": many.codelength,
    "two levels": best_two.codelength,
    "nine in three": hierarchical_map_equation(walk, [three, nine]),
    "nine": map_equation(walk, nine),
    "three": map_equation(walk, three),
}
for name, length in triangles.items():
    print(f"{length:.4f}  {name}")

# %% mystnb={"figure": {"caption": "With many levels, two of the large triangles are modules of three small ones each, and the small ones of the third stand beside them at the top. Above: many levels, top modules by colour, small ones inside by shape. Below: the best division on two levels."}, "image": {"alt": "Two drawings of a triangle of three large triangles, each of three small ones. Above, two of the large ones have one colour each, and in them each small triangle has a shape; the small ones of the third have a colour each. Below, one large triangle has one colour, and the six small ones of the other two have a colour each."}} tags=["hide-input"]
corner = {k: np.array(xy) for k, xy in enumerate([(0, 0), (2, 0), (1, 1.7)])}
at = {v: sum(corner[k] * r for k, r in zip(v, (4, 1.7, 0.7))) for v in nested}
fig, (above, below) = plotting.panels(2, height=2.6)
drawing.network(above, nested, many.modules, at, many.levels[-1])
above.set_title("many levels: colours at the top, shapes inside")
drawing.network(below, nested, best_two.modules, at)
below.set_title("two levels")
plt.show()

# %% [markdown]
# Several levels save 0.10 bits over the best partition on two. And the best one found is not symmetric: three small triangles are entered without naming a large one first.
#
# A node may also belong to two modules {cite:p}`viamontes2011`. Two dance groups of five share one dancer. If she may belong to both, two modules give the shortest description; if not, a single one for everyone does.


# %%
groups = nx.Graph()  # dancer 4 is in both
for group in (range(5), range(4, 9)):
    groups.add_edges_from(itertools.combinations(group, 2))
apart = {v: [int(v > 4)] for v in groups}
dance = {
    "in both": apart | {4: [0, 1]},
    "one module": {v: [0] for v in groups},
    "in one of two": apart,
    "another in both": apart | {3: [0, 1], 4: [0, 1]},
}
for name, memberships in dance.items():
    pairs = overlapping_flow(groups, memberships)  # of node and module
    dance[name] = map_equation(pairs, [module for _, module in pairs.nodes])
    print(f"{dance[name]:.4f}  {name}")

# %% tags=["hide-input"]
two, deep = best_two.codelength, many.codelength
assert f"{two:.4f} {deep:.4f}" == "3.5644 3.4623"
gains = [
    infomap(graph, 0, trials=3).codelength
    - infomap(graph, 0, trials=3, levels=None).codelength
    for graph in (karate, nx.les_miserables_graph())
]
verdict(
    "infomap.claim3",
    holds=two - deep > 0.05 and min(gains) > -1e-9,
    measured={"bits, many levels < two levels": f"{deep:.4f} < {two:.4f}"},
)
both, whole, once, other = dance.values()
verdict(
    "infomap.claim4",
    holds=both < whole < once and both < other,
    measured={"bits, in both < one module": f"{both:.4f} < {whole:.4f}"},
)

# %% [markdown]
# ## Word clusters: better than chance, no better than simpler ones
#
# Last, the article links words with similar vectors and clusters them. From one month of a newspaper, 人民日报 (*Rénmín Rìbào*, the People's Daily), we count co-occurrences within eight words, reduce each word's counts to a vector of 100 numbers, and link words whose cosine similarity is at least 0.6. Six of InfoMap's clusters, chosen by us:


# %%
month = infomap_words.paragraphs()
small = infomap_words.Config(words=4000, width=100, threshold=0.6)
words = infomap_words.known_words(small.words)
vectors = infomap_words.word_vectors(month, words, small)
near = neighbour_graph(vectors, neighbours=50, threshold=0.6)
linked = np.flatnonzero(near.sum(0) + near.sum(1))
found = infomap(near[linked][:, linked], engine="infomap")
cluster = {words[i]: module for i, module in zip(linked, found.labels)}

# %% tags=["nbval-ignore-output", "hide-input"]
table(infomap_words.examples(cluster))

# %% [markdown]
# These look good, and so do the article's six. But some cluster always does, so we learn vectors and clusters from one half of the newspaper and score all clusters on the other: of two words of a paragraph, how many bits does the first one's cluster save in predicting the second?

# %% mystnb={"figure": {"caption": "InfoMap's clusters help to predict unseen text, about as much as Leiden's on the same links. Bits saved on a second word of the same paragraph: five random halves of the newspaper, means and 95 % intervals; dashed, no clusters."}, "image": {"alt": "Seven rows of five points. Leiden by modularity and InfoMap lie furthest right, then Leiden with the same number of clusters as InfoMap, then k-means; connected components, random clusters and frequency bands lie at zero."}} tags=["nbval-ignore-output", "hide-input"]
halves = runs.table("infomap_words")
fig, ax = plotting.panels(1, height=3.2)
bits = {k: halves[f"bits_{v}"] for k, v in infomap_words.METHODS.items()}
plotting.seeds(ax, bits, ("none", 0))
ax.set(xlabel="bits saved on a second word")
plt.show()

# %% tags=["hide-input"]
holds, partly, numbers = infomap_words.clusters_hold(halves)
verdict("infomap.claim5", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# Leiden saves about as much with far fewer clusters, and less with as many as InfoMap (by another score, more: see the protocol). All savings are small, and k-means with only ten clusters, which a reader tried, saves as much. And of five subjects whose words we had listed beforehand, only one comes out as a cluster in most of the five halves (at the article's own threshold, three).
#
# The article says that there is almost nothing to choose, only how links are made, and $\tau$. But the threshold for a link changed the number of clusters more than twofold, and near the collapse $\tau$ matters, because jumps are exits: with 20 groups and the usual $\tau$, a mixing of 0.6 becomes $(1-\tau)\mu+\tau(1-\frac1k)=0.65$, beyond the limit.

# %% tags=["hide-input"]
agreement = infomap_rules.agreement_by_tau(
    {m: [planted(m, seed) for seed in range(5)] for m in (0.3, 0.4, 0.5, 0.6)}
)
tuned = runs.table("infomap_words_tuning")
holds, partly, numbers = infomap_words.few_settings(tuned, agreement)
verdict("infomap.claim7", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# ## When to use InfoMap, and further reading
#
# Use InfoMap, its authors advise, if something flows along the links (traffic, citations, clicks), and Leiden if only their density counts. In our tests Leiden, at the usual resolution, found weaker groups when there were few, InfoMap when there were many. With either, compare with rewired copies.
#
# **The package**, [`infomap`](https://pypi.org/project/infomap/), searches many levels by default, and handles networks in layers and with memory {cite:p}`smiljanic2023`. If false groups are worse than missed ones, add the prior (`--regularized`).
#
# **Gradients.** With soft memberships the map equation becomes a training loss for graph neural networks {cite:p}`blocker2024`, and for their pooling layers {cite:p}`vonpichowski2024`.
#
# **Describing the links.** Stochastic block models compress the network itself, not a walk on it, and so can tell groups from noise without rewired copies {cite:p}`peixoto2019`.
#
# ## Exercises
#
# **1.** Why does InfoMap often find a single module in a similarity network? Link all pairs of 1,000 objects, with weight $w$ inside each of 20 equal groups and 1 between. How large must $w$ be for the groups to pay? And with 100 groups?


# %% tags=["hide-cell"]
# Most pairs lie in different groups, so the walk leaves at once unless w is large. In practice, drop weak links.
def groups_pay(w, groups, size):
    inside, across = w * (size - 1), size * (groups - 1)
    q = across / (inside + across)
    node, exit_rate = 1 / (groups * size), q / groups
    module = codebook(np.array(size * [node] + [exit_rate]))
    return q * log2(groups) + groups * module < log2(groups * size)


for groups, size in ((20, 50), (100, 10)):
    least = next(w for w in itertools.count(1) if groups_pay(w, groups, size))
    print(f"{groups} groups of {size}: from w = {least} on")

# %% [markdown]
# **2.** Make the walker lazy: give each member of the karate club a self-loop of $w$ times its degree. How does the number of modules change?

# %% tags=["hide-cell"]
# The walker stays put in w of w + 1 steps, so exits are rarer by a factor of w + 1, and smaller modules pay.
# This tunes the size of modules; it is called Markov time (Schaub et al. 2012; by self-loops
# Kheirkhahzadeh et al. 2016).
for w in (0, 0.25, 0.5, 3):
    lazy = nx.Graph(karate)
    loops = [(v, v, w * karate.degree(v)) for v in members]
    lazy.add_weighted_edges_from(loops if w else [])
    print(f"w = {w}: {infomap(lazy, 0, trials=5).num_modules} modules")

# %% [markdown]
# ## Experimental details
#
# :::{dropdown} Protocol, rules and their history
# **Rules.** Each verdict's rule, under *More*, was fixed on 1 December 2026, before the runs shown here. For exact computations (normalisation, the bound, the twelve items, levels, overlap) we already knew the answer; for random, rewired and planted networks we had seen runs with other seeds.
#
# The rule for dense planted groups is our second. The first omitted the mixing 0.65 and gave *holds*: InfoMap found all groups at 0.6, and Leiden's agreement at 0.7 was below one half. At 0.65 we then saw 0.8 for Leiden and one module for InfoMap, and added that point with its outcome known.
#
# **Search.** We added the shakes because an earlier search missed the optimum of some networks, and developed them on those. The figure uses other networks, with seeds from 100,000 on, none of them used before.
#
# **Rewiring.** Links a–b and c–d become a–d and c–b, unless this creates a self-loop or a double link; ten swaps per link. Bipartite networks stay bipartite. Weights are ignored, except in the two kinds of weighted copies. With 99 copies the smallest possible $p$ is 0.01.
#
# **Limit.** The thresholds, signal 0.75 and agreement 0.1, were set in advance. The limit holds for infinitely large networks; with more than four groups it is conjectured, for efficient algorithms.
#
# **Words.** This rule is our third, written after seeing one half of another seed. Width (25) and threshold (0.7) were tuned on a fifth of the newspaper that no score uses. We took the setting that saved most bits; among settings within 1%, the number of clusters decided. Runs with the article's threshold of 0.6 and width 100 were added later and do not count. The table in the text uses those settings, 4,000 words and the whole month. Another score, the *lift*, says how many times as often as by frequency alone the second word is of the first one's cluster; by this score, Leiden and k-means with as many clusters are ahead of InfoMap.
#
# **How often the rule for the words would err** is simulated with the spread of these runs. *False*: the share of wrong decisions if clusters carried no information. *Power*: the share of correct decisions for an effect one tenth of InfoMap's.
# :::

# %% tags=["nbval-ignore-output", "hide-input"]
chance = infomap_words.errors_of_rule(halves)
wrong = chance.holds + chance.refuted
print(f"false: {wrong:.1%}, power: {chance.power:.0%}")

# %% [markdown]
# ## Data, seeds and versions

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "infomap",
    {
        "Sizes": f"{len(runs.table('infomap_optima'))} recorded runs on small networks, {len(nulls)} networks with 99 copies each, {len(rows)} random and {len(planted_rows)} planted networks, {len(halves)} halves of the newspaper",
        "Seeds": "small networks: from 100,000 on; copies: 1 to 99; others: 0 to 4, and 1 to 5; here NumPy's generator 0",
        "Compared with": f"infomap {version('infomap')}, igraph {version('igraph')}, networkx {nx.__version__}",
    },
)
