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
# Every town has its High Street, and nobody is confused. InfoMap finds groups in a network by the same economy: it describes a walk in as few bits as possible, reusing short names in every group. The cost is a formula that you can evaluate by hand, and minimising it takes about a second for ten thousand nodes. Whether the groups mean anything is another question, and the formula does not answer it.
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
from scipy.stats import binomtest
from sklearn.metrics import adjusted_mutual_info_score

from kexue.book import plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, table
from kexue.experiments import recorded
from kexue.infomap import (
    EXIT,
    HierarchicalCode,
    entropy,
    hierarchical_map_equation,
    huffman_code,
    infomap,
    map_equation,
    neighbour_graph,
    overlapping_flow,
    random_walk_flow,
)
from kexue.runs.statistics import false_alarms, mean_interval

setup("infomap")
rng = np.random.default_rng(0)

# %% [markdown]
# ## Good groups make a short description
#
# Someone wanders through a network, from node to node along the links, for ever. Record where the walker is at every step, in as few bits as you can. How would you do it?
#
# Give every node a binary name, the shortest names to the nodes visited most. With a single list of names, that is the best you can do. But towns reuse the names of streets, because everybody knows which town they are in. So divide the network into
# groups, reuse the same short names in each, and record every change of group. This pays if the walker stays long in each group. Such groups are called *communities*, or *modules*.
#
# So any partition of a network can be scored, by length alone. Below are a karate club that later split in two {cite:p}`zachary1977`, and the cost of five partitions of it. A single list of names needs 4.70 bits per step; the best three modules need 4.31. They beat the two parts into which the club really fell, for the code knows nothing of quarrels, only of how long a walk stays.
# %% mystnb={"figure": {"caption": "Three modules describe a walk through Zachary's karate club more briefly than the split that happened. Above: the three modules. Below: bits per step for five partitions; dashed, a single list of names."}, "image": {"alt": "A network of 34 people in three colours, each colour a dense region. Below it five horizontal bars, from longest to shortest: each alone, three random modules, all together, the actual split, and the shortest. A dashed line stands at all together."}} tags=["hide-input"]
import networkx as nx

from kexue.experiments import infomap_null, infomap_words

karate = nx.Graph(nx.karate_club_graph().edges())
members = sorted(karate)
places = nx.spring_layout(karate, seed=4)
flow = random_walk_flow(karate, teleport=0)
best = infomap(karate, teleport=0, trials=10)


def draw(ax, graph, modules, places, size=80):
    nx.draw_networkx_edges(graph, places, ax=ax, alpha=0.3)
    for number, module in enumerate(dict.fromkeys(modules.values())):
        inside = [v for v in graph if modules[v] == module]
        look = {
            "node_color": plotting.COLOURS[number % 7],
            "node_shape": "osD^vph8"[number % 8],
        }
        nx.draw_networkx_nodes(
            graph, places, inside, node_size=size, linewidths=0, ax=ax, **look
        )
    ax.axis("off")


split = nx.get_node_attributes(nx.karate_club_graph(), "club")
divisions = {
    "each alone": {v: v for v in karate},
    "three random modules": dict(zip(members, rng.integers(3, size=34))),
    "all together": dict.fromkeys(karate, 0),
    "the actual split": split,
    "the shortest": best.modules,
}
lengths = {name: map_equation(flow, m) for name, m in divisions.items()}
assert f"{lengths['all together']:.2f} {best.codelength:.2f}" == "4.70 4.31"
fig, (ax, bars) = plotting.panels(2, height=2.6)
draw(ax, karate, best.modules, places)
drawn = bars.barh(list(lengths), list(lengths.values()), color=plotting.BLUE)
bars.bar_label(drawn, fmt="%.2f", label_type="center", color="white")
bars.axvline(lengths["all together"], color=plotting.INK, linestyle="--")
bars.set(xlabel="bits per step", xlim=(0, 7))
bars.invert_yaxis()
plt.show()

# %% [markdown]
# ## Short codewords are scarce
#
# A *code* gives each symbol a codeword of zeros and ones. If no codeword begins another, a text needs no gaps between them: the code is a *prefix code*. It can be drawn as a binary tree, left for 0 and right for 1, with the symbols as leaves.
#
# Not all codewords can be short. Pour a litre of water into the root, and let it divide evenly at every fork. A leaf at depth $l$ gets $2^{-l}$ litres. No leaf lies below another, so no water is counted twice, and all leaves together get at most one litre. This is Kraft's inequality {cite:p}`kraft1949`:
#
# $$
# \sum_i2^{-l_i}\le1.
# $$ (infomap-eq1)


# %% mystnb={"figure": {"caption": "One litre of water is shared among the leaves, so a short codeword for one symbol lengthens the others. Shown: the best code for five letters whose frequencies equal the shares."}, "image": {"alt": "A binary tree with zeros to the left and ones to the right. The letter a is a leaf at depth one and gets a half, b at depth two a quarter, c at depth three an eighth, d and e at depth four a sixteenth each."}} tags=["hide-input"]
frequency = dict(zip("abcde", [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16]))
code = huffman_code(frequency)
fig, ax = plotting.panels(1, height=2.4)
place = {word: i for i, word in enumerate(sorted(code.values()))}
for prefix in ("111", "11", "1", ""):
    place[prefix] = (place[prefix + "0"] + place[prefix + "1"]) / 2
    for bit in "01":
        x, y = (place[prefix], place[prefix + bit]), (-len(prefix),) * 2
        ax.plot(x, (y[0], y[1] - 1), color=plotting.INK, linewidth=1)
        ax.text(sum(x) / 2, y[0] - 0.5, bit, ha="right", va="bottom")
for symbol, word in code.items():
    share = f"{symbol}\n1/{2 ** len(word)}"
    ax.text(place[word], -len(word) - 0.1, share, ha="center", va="top")
ax.set_ylim(-5.1, 0.2)
ax.axis("off")
plt.show()

# %% [markdown]
# If symbol $i$ occurs with probability $p_i$, how few bits per symbol can a code need on average? The answer is the *entropy*,
#
# $$
# H(P)=-\sum_ip_i\log_2p_i.
# $$ (infomap-eq2)
#
# For the five letters it is $\frac12\cdot1+\frac14\cdot2+\frac18\cdot3+\frac1{16}\cdot4+\frac1{16}\cdot4=1.875$ bits, exactly the mean length of the code in the tree. In general, let $\hat p_i=2^{-l_i}$ be the water in leaf $i$, and $\hat p_0$ what is lost. Together they sum to 1, so they are
# probabilities. The mean length is then $\sum p_il_i=-\sum p_i\log_2\hat p_i$, a *cross-entropy*: the cost per symbol when the symbols follow $P$ but the code was designed for $\hat P$. Since $\ln x\le x-1$,
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
# Equality holds only if every $p_i=2^{-l_i}$. Otherwise the ideal lengths must be rounded. Huffman's code {cite:p}`huffman1952`, which repeatedly merges the two rarest symbols, is the best prefix code and wastes less than one bit per symbol.
#
# ## Names inside categories can be short
#
# If you have to remember a shopping list, you sort it: *fruit: apples, bananas; dairy: milk, …*. The code for this has one codebook for the categories, and one per category for its objects plus an *exit* symbol, ↩. A list is written as category, objects, ↩, next category, objects, ↩.
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
assert [f"{value:.1f}" for value in bits.values()] == ["43.0", "39.9", "67.0"]
verdict(
    "infomap.claim6",
    holds=bits["clumped"] < bits["one codebook"] < bits["interleaved"],
    measured=bits,
)

# %% [markdown]
# Categories help when the list is sorted (39.9 bits) and hurt when it is not (67.0). A walk on a network is such a list: nodes are objects, modules are categories, and a walk that lingers in its modules is a sorted list.
#
# ## The map equation, by hand
#
# The cost depends only on how often each codeword is used. Measure all rates per step of the walk. Node $\alpha$ is visited at rate $p_\alpha$, with $\sum_\alpha p_\alpha=1$. Module $i$ is left at rate $q_i$, and entered equally often, so its name is written at rate $q_i$, too. If the walk goes from $\alpha$ to $\beta$ with probability $p_{\alpha\to\beta}$,
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
# Try it on two triangles joined by a bridge. There are 7 links, each walked in two directions, so 14 equally frequent steps. Each end of the bridge is reached by 3 of them, each other node by 2. One step leaves the left triangle and one the right, so $q=\frac17$. The index has two equally frequent names, one bit each. Each triangle's codebook is used
# 8 times in 14 steps, for seven visits and one exit, in the proportions 2 : 2 : 3 : 1. Its entropy is $2\cdot\frac28\cdot2+\frac38\cdot1.415+\frac18\cdot3=1.906$ bits. With two triangles,
#
# $$
# L=\tfrac17\cdot1+2\cdot\tfrac8{14}\cdot1.906=2.321.
# $$
#
# As one module the network costs $H(\frac2{14},\frac2{14},\frac3{14},\frac3{14},\frac2{14},\frac2{14})=2.557$ bits, and cut across the triangles it costs more than that. The same in code, for an undirected network given by its symmetric adjacency matrix:


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
two, one, across = (
    sum(bits_of_step(links, np.array(m)))
    for m in ([0, 0, 0, 1, 1, 1], [0] * 6, [0, 0, 1, 1, 2, 2])
)
assert across > one
of_triangle = entropy(np.array([2, 2, 3, 1]) / 8)
assert f"{of_triangle:.3f} {two:.3f} {one:.3f}" == "1.906 2.321 2.557"
assert abs(1 / 7 + 8 / 7 * of_triangle - two) < 1e-12

# %% [markdown]
# The two terms pull in opposite directions. With few modules, module names are rarely written, but the codebooks are long. With many, the codebooks are short, but the walk keeps crossing borders. The slider shows this trade-off for the karate club:


# %%
links = nx.to_numpy_array(karate, nodelist=members)


def terms_of(module):
    return bits_of_step(links, np.unique(module, return_inverse=True)[1])


def joined(module, a, b):
    return np.where(module == b, a, module)


def merged(module):  # the best merger of two linked modules
    pairs = np.argwhere(np.triu(links))
    pairs = {tuple(sorted(pair)) for pair in module[pairs].tolist()}
    mergers = [joined(module, a, b) for a, b in sorted(pairs) if a != b]
    return min(mergers, key=lambda m: sum(terms_of(m)))


# %%
def moved(module):  # single nodes, as long as that helps
    for _, v in itertools.product(range(3), range(34)):
        if (module == module[v]).sum() > 1:
            for target in set(module[links[v] > 0].tolist()):
                trial = module.copy()
                trial[v] = target
                if sum(terms_of(trial)) < sum(terms_of(module)) - 1e-12:
                    module = trial
    return module


steps = {34: np.arange(34)}
for k in range(33, 0, -1):
    steps[k] = moved(merged(steps[k + 1]))
terms = {k: terms_of(module) for k, module in steps.items()}

# %% tags=["hide-input"]
shortest = min(terms, key=lambda k: sum(terms[k]))
assert shortest == 3
assert abs(sum(terms[3]) - best.codelength) < 1e-9
xy = np.array([places[v] for v in members])
gap = np.full(2, np.nan)
wires = np.array([(xy[a], xy[b], gap) for a, b in karate.edges]).reshape(-1, 2)
base = {"type": "scatter", "hoverinfo": "skip", "showlegend": False}
lower = base | {"xaxis": "x2", "yaxis": "y2"}
k_axis = np.array(sorted(terms))
curves = {
    "index": np.array([terms[k][0] for k in k_axis]),
    "modules": np.array([terms[k][1] for k in k_axis]),
}
curves["sum"] = curves["index"] + curves["modules"]
fixed = [
    base
    | {"mode": "lines", "x": wires[:, 0], "y": wires[:, 1]}
    | {"line": {"color": "#80808080", "width": 1}}
]
for (name, y), dash in zip(curves.items(), ("dot", "dash", "solid")):
    fixed.append(
        lower
        | {"mode": "lines", "x": k_axis, "y": y, "showlegend": True}
        | {"name": name, "line": {"dash": dash}}
    )
frames = []
for k in k_axis.tolist():
    first = [np.flatnonzero(steps[k] == m)[0] for m in steps[k]]
    marker = {
        "size": 11,
        "color": [plotting.COLOURS[i % 7] for i in first],
        "symbol": [i // 7 for i in first],
    }
    nodes = base | {"mode": "markers", "x": xy[:, 0], "y": xy[:, 1]}
    here = lower | {
        "mode": "markers+text",
        "x": [k] * 3,
        "y": [y[k - 1] for y in curves.values()],
        "text": [f"{y[k - 1]:.2f}" for y in curves.values()],
        "textposition": "top right",
        "marker": {"color": plotting.INK, "size": 8},
    }
    frames.append((str(k), [*fixed, nodes | {"marker": marker}, here]))
hidden = {"visible": False}
plotting.slider_figure(
    frames,
    start=2,
    prefix="modules: ",
    caption="The sum of index and module codebooks is smallest at three modules. Above: the partition into the given number of modules, found by greedy mergers and moves of single nodes. Below: bits per step.",
    alt="Karate club coloured by module. Below it three curves for 1 to 34 modules: the cost of the index rises from 0, that of the codebooks falls, and their sum is lowest at three.",
    xaxis=hidden,
    yaxis=hidden | {"domain": [0.47, 1]},
    xaxis2={"title": "number of modules", "anchor": "y2"},
    yaxis2={"title": "bits", "domain": [0, 0.42], "range": [0, 7]},
    legend={"orientation": "h", "y": 1.08},
    height=560,
)

# %% [markdown]
# ## Real codes come close to the formula
#
# The map equation assumes ideal lengths, $-\log_2p$; real codewords have whole ones. Does the gain survive? We encode a walk of 100,000 steps through the club with Huffman codes, once with a single codebook and once with one per module.

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
home = [best.modules[v] for v in path]
costs = []
for t in range(150):
    names = code.modules[home[t]]
    entry = code.index[home[t]] if t == 0 or home[t] != home[t - 1] else ""
    leave = names[EXIT] if home[t] != home[t + 1] else ""
    costs.append(len(entry + names[path[t]] + leave))
order = list(dict.fromkeys(best.modules.values()))
shades = [plotting.COLOURS[order.index(m)] for m in home[:150]]
fig, (above, below) = plotting.panels(2, height=1.5)
above.bar(
    range(150), [len(flat[v]) for v in path[:150]], color=plotting.INK, width=1
)
below.bar(range(150), costs, color=shades, width=1)
for ax, total in zip((above, below), spent.values()):
    ax.axhline(total / 100_000, color=plotting.INK, linestyle="--", linewidth=1)
above.set(ylabel="bits", ylim=(0, 14), title="one codebook")
below.set(ylabel="bits", ylim=(0, 14), xlabel="step", title="three modules")
plt.show()

# %% [markdown]
# The rounding costs a few hundredths of a bit, and the modules still win. But how can 4.37 bits be less than the entropy, 4.70, if the article says that no code can be? Because that bound is for symbols drawn independently, and successive nodes of a walk are not independent. Shuffle the steps, and the same modules cost *more* than 4.70 bits. The true lower bound is the *entropy rate*, the uncertainty about the next node given the
# current one: 2.58 bits here. A separate codebook for each node would come close to it, but would say nothing about communities. The map equation looks for the best code that remembers a module and nothing else.
#
# The article normalises the rates of all codewords to sum to 1, $\sum_iq_i+\sum_\alpha p_\alpha+\sum_iq_i=1$, and remarks that this makes no difference. But it divides the length by $1+2q$, which depends on the modules. A triangle costs 1.585 bits per step as one module, and 3.585 as three single nodes. Per codeword, the three would cost only 1.195 and seem to win. So lengths must be counted per step.

# %% tags=["hide-input"]
triangle = random_walk_flow(nx.cycle_graph(3), 0)
whole, single = (map_equation(triangle, m) for m in ([0, 0, 0], [0, 1, 2]))
assert f"{whole:.3f} {single:.3f} {single / 3:.3f}" == "1.585 3.585 1.195"
verdict(
    "infomap.normalising",
    holds=(single < whole) == (single / 3 < whole / 1),
    measured={"three modules, bits a codeword": single / 3, "one": whole},
)
h = entropy(flow.visit)
rate = sum(p * log2(karate.degree(v)) for v, p in zip(flow.nodes, flow.visit))
shuffled = rng.permutation(path).tolist()
in_any_order = HierarchicalCode.fit(shuffled, best.modules).codelength
assert f"{h:.2f} {rate:.2f}" == "4.70 2.58"
assert f"{spent['three modules'] / 100_000:.2f}" == "4.37"
verdict(
    "infomap.bound",
    holds=not best.codelength < h,
    restricted=rate < best.codelength < h < in_any_order,
    measured={
        "with modules": best.codelength,
        "H(P)": h,
        "steps shuffled": in_any_order,
        "entropy rate": rate,
    },
)

# %% [markdown]
# ## Directed networks need an occasional jump
#
# In an undirected network, the visit rate of a node is proportional to its degree. In general the visit rates are stationary:
#
# $$
# p_\beta=\sum_\alpha p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq12)
#
# But iterating this may not settle, or may depend on the start. On a directed network the walk can be trapped in one part, or alternate for ever between two nodes. The cure is to *teleport*, with probability $\tau$, usually 0.15, to one of the $n$ nodes at random:
#
# $$
# p_\beta=(1-\tau)\sum_\alpha p_\alpha\,p_{\alpha\to\beta}+\frac\tau n.
# $$ (infomap-eq13)
#
# From a node without outgoing links the walk always teleports. Each iteration shrinks the $L_1$ distance between two distributions by at least the factor $1-\tau$, so there is exactly one solution: PageRank {cite:p}`page1999`. A jump out of a module of $n_i$ nodes counts as an exit:
#
# $$
# q_i=\tau\frac{n-n_i}{n}\sum_{\alpha\in i}p_\alpha+(1-\tau)\sum_{\alpha\in i}\sum_{\beta\notin i}p_\alpha\,p_{\alpha\to\beta}.
# $$ (infomap-eq15)
#
# The authors' package, [`infomap`](https://pypi.org/project/infomap/) {cite:p}`edler2025`, can compute exactly this; our code agrees with it to $10^{-9}$ bits. On directed networks its default is another objective: it teleports to links and leaves the jumps unrecorded {cite:p}`lambiotte2012`.
#
# ## Greedy search gets stuck, and a random shake frees it
#
# Ten nodes can be divided in 115,975 ways, thirty in nearly $10^{24}$. Trying them all is hopeless, but the effect of moving one node is cheap to compute. With $f(x)=x\log_2x$ the map equation becomes
#
# $$
# L=f(q)-2\sum_if(q_i)-\sum_\alpha f(p_\alpha)+\sum_if(p_i^\circlearrowright),
# $$
#
# and a move changes $q$ and the terms of two modules only. So the search {cite:p}`rosvall2009` starts with every node in its own module. In random order, each node $\alpha$ moves to the neighbouring module that makes $L$ smallest, or stays:
#
# $$
# m(\alpha)\leftarrow\arg\min_{i\,\in\,\{m(\alpha)\}\,\cup\,\{m(\beta)\,:\,\beta\sim\alpha\}}L\bigl(M_{\alpha\to i}\bigr).
# $$ (infomap-alg1)
#
# When no move helps, the modules become the nodes of a smaller network, and the search repeats. $L$ never increases, and that is the problem: the search stops wherever every *single* move makes $L$ larger. Among the 853 connected networks of seven nodes, it misses the optimum of two in all ten trials. Here is one:

# %%
stuck = nx.Graph([(0, 1), (1, 2), (1, 5), (2, 3), (2, 6), (3, 4), (5, 6)])
walk = random_walk_flow(stuck, 0)
for apart in ([], [3], [4], [3, 4]):
    length = map_equation(walk, [int(v in apart) for v in range(7)])
    print(f"{length:.4f} bits with {apart or 'no node'} apart")
greedy = infomap(stuck, teleport=0, trials=10, steps=())
print(f"{greedy.codelength:.4f} bits by the article's steps, ten trials")

# %% [markdown]
# The article's search ends with all nodes in one module. Neither node 3 nor node 4 alone gains by leaving; the two gain together, but by the time they could, earlier mergers cannot be undone. Our search adds four steps:
#
# - *Refine* {cite:p}`rosvall2009`: at the end, single nodes and then parts of modules may move again, which undoes early mergers.
# - *Empty module*: a node may start a module of its own.
# - *Unlinked mergers*: with teleportation, two modules may merge without a link between them.
# - *Shakes*: the nodes of a few modules are dealt at random into at most three, the search resumes, and the result is kept if it is shorter.
#
# Which of them matter? For up to ten nodes every partition can be checked. On 5,000 networks of eight nodes that had not been used in development, how often do all ten trials miss the optimum?

# %% tags=["hide-input"]
optima = {name: run.summary for name, run in recorded("infomap_optima").items()}
SETS = {
    "eight": "8 nodes",
    "connected": "connected, 3 to 8 nodes",
    "ten": "connected, 10 nodes",
}
SEARCHES = {
    "article": "the article's steps",
    "paper": "and refine",
    "no_refine": "all but refine",
    "no_empty": "all but empty",
    "no_mergers": "all but mergers",
    "no_shakes": "all but shakes",
    "all": "all",
    "package": "C++ package",
}


def missed(search, trials):
    """The share of networks of each set whose optimum is missed, in per cent."""
    found = [optima.get(f"{group}-{search}") for group in SETS]
    return [
        f"{s[f'rate_{trials}']:.2%} ({s[f'low_{trials}']:.2%}–{s[f'high_{trials}']:.2%})"
        if s
        else "–"
        for s in found
    ]


table(
    {"search": name}
    | dict(zip(SETS.values(), missed(search, "all")))
    | {f"one trial, {SETS['eight']}": missed(search, "one")[0]}
    for search, name in SEARCHES.items()
    if any(f"{group}-{search}" in optima for group in SETS)
)

# %% [markdown]
# With greedy moves alone, ten trials miss one optimum in ten; with all four steps none was missed. Leaving out shakes or unlinked mergers costs most, refining changes nothing at this size, and the authors' C++ package misses a few. These networks have teleportation, and some are in several parts. On connected networks without it, every search misses about one in a thousand, or none.
#
# The article reports five seconds for 10,000 nodes and 100,000 links. We time LFR networks {cite:p}`lancichinetti2008`, in which group sizes and degrees vary widely; the mixing µ is the share of links that leave their group. Our own search is about as fast, where numba compiles its innermost loop.


# %%
def lfr(nodes, mixing, seed):
    graph = nx.LFR_benchmark_graph(nodes, 3, 1.5, mixing, average_degree=20, max_degree=50, min_community=20, max_community=100, seed=seed)  # fmt: skip
    return nx.to_scipy_sparse_array(graph, dtype=float)


def timed(links, engine):
    begin = time.process_time()
    found = infomap(links, teleport=0, engine=engine)
    return time.process_time() - begin, found.codelength


# %% tags=["nbval-ignore-output", "hide-input"]
infomap(karate, 0), infomap(karate, 0, engine="infomap")  # compiled, loaded
speed, rows = [], []
for mixing, seed in itertools.product((0.3, 0.5), (1, 2, 3)):
    network = lfr(10_000, mixing, seed)
    of_one = entropy(network.sum(0) / network.sum())
    seconds, length = timed(network, "infomap")
    speed.append((seconds, of_one - length))
    if seed == 1:
        ours, own = timed(network, "numpy")
        rows.append(
            {
                "µ": f"{mixing}",
                "links": f"{network.nnz // 2:,}",
                "C++, seconds": seconds,
                "ours, seconds": ours,
                "C++, bits": f"{length:.3f}",
                "ours, bits": f"{own:.3f}",
            }
        )
table(rows)

# %% tags=["hide-input"]
slowest, saved = max(s for s, _ in speed), min(b for _, b in speed)
verdict(
    "infomap.claim2",
    holds=slowest < 5 and saved > 0,
    measured={"C++, seconds, slowest of six networks": slowest},
)

# %% [markdown]
# ## In dense networks, the number of groups comes for free
#
# What the article values most is that the number of groups need not be given. We test this on *planted* groups, which are known because we put them there: 1,000 nodes in 20 groups of 50, and 20 links per node on average.
#
# For comparison we run Leiden {cite:p}`traag2019`, today's standard choice. We let it maximise *modularity*, the excess of links inside groups over what the degrees alone would give. Agreement is measured by adjusted mutual information (AMI) {cite:p}`vinh2010`: 1 for perfect recovery, 0 for chance.


# %%
def planted(mixing, seed):
    memory = 1 - mixing * 20 / 19  # of the group, in one step
    return infomap_null.planted(1000, 20, 20, memory * 20**0.5, seed)


def compare(mixing, seed):
    network, truth = planted(mixing, seed)
    found = {
        "InfoMap": infomap_null.by_infomap(network, 5, seed, "infomap"),
        "Leiden": infomap_null.leiden(network, seed)[0],
    }
    return [
        {
            "mixing": mixing,
            "method": method,
            "agreement": adjusted_mutual_info_score(truth, labels),
            "modules": len(set(labels.tolist())),
        }
        for method, labels in found.items()
    ]


# %%
MIXINGS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8)
trials = pd.DataFrame(
    row
    for mixing, seed in itertools.product(MIXINGS, range(5))
    for row in compare(mixing, seed)
)

# %% mystnb={"figure": {"caption": "InfoMap recovers all 20 groups up to a mixing of 0.6, then abruptly merges everything; Leiden degrades gradually. Points: five networks per mixing; lines: means; dashed: no agreement, and 20 groups."}, "image": {"alt": "Two panels. Above, agreement against mixing: InfoMap stays near 1 up to a mixing of 0.6, and is at 0 from 0.65 on; Leiden falls gradually, from 0.8 at 0.65. Below, the number of modules: 20 for InfoMap, then 1; a dashed line stands at 20."}} tags=["hide-input"]
LOOK = {
    "InfoMap": ("o-", plotting.BLUE),
    "with a prior": ("^:", plotting.ORANGE),
    "Leiden": ("s--", plotting.GREEN),
    "spectral, told the number": ("D-.", plotting.RED),
}


def curves_of(ax, frame, x, y, names):
    """Every seed as a point, and the mean of each method as a line."""
    for name, column in names.items():
        style, colour = LOOK[name]
        own = frame[frame.method == name] if "method" in frame else frame
        values = own[column or y]
        ax.plot(own[x], values, style[0], color=colour, ms=3, alpha=0.5)
        mean = values.groupby(own[x]).mean()
        ax.plot(mean.index, mean, style, color=colour, ms=5, label=name)


fig, axes = plotting.panels(2, height=2.1)
both = dict.fromkeys(("InfoMap", "Leiden"), "")
for ax, y in zip(axes, ("agreement", "modules")):
    curves_of(ax, trials, "mixing", y, both)
    ax.set(ylabel=y)
axes[0].axhline(0, color=plotting.INK, linestyle="--", linewidth=1)
axes[1].axhline(20, color=plotting.INK, linestyle="--", linewidth=1)
axes[1].set(xlabel="mixing")
axes[0].legend()
plt.show()

# %% tags=["hide-input"]
by = trials.groupby(["method", "mixing"])
good = {}
for mixing in MIXINGS:
    of = {m: by.get_group((m, mixing)) for m in ("InfoMap", "Leiden")}
    agree, many = (
        mean_interval(of["InfoMap"][c]) for c in ("agreement", "modules")
    )
    leiden_low = mean_interval(of["Leiden"].agreement).low
    good[mixing] = agree.low >= 0.95 and many.low >= 18 and many.high <= 22
    good[mixing] = bool(good[mixing]), bool(leiden_low > 0.5)
verdict(
    "infomap.claim1",
    holds=all(found for found, leiden in good.values() if leiden),
    restricted=all(good[m][0] for m in MIXINGS if m <= 0.4),
    measured={
        "largest mixing with all groups found": max(
            m for m in good if good[m][0]
        ),
        "largest mixing at which Leiden agrees by 0.5": max(
            m for m in good if good[m][1]
        ),
    },
)

# %% [markdown]
# The collapse is not a failure of the search. Nodes of equal degree in 20 planted groups cost, by the map equation, $\mu\log_220+\log_2\bigl(50(1+\mu)\bigr)+\mu\log_2\frac{1+\mu}{\mu}$ bits: the index, the nodes, the exits. One module costs $\log_21000=9.966$. At $\mu=0.6$ the groups need 9.764, at 0.65 already 10.049: two of every three steps leave, and the shortest description has no groups.
#
# ## In sparse networks, InfoMap finds groups in pure noise
#
# Take a network without any groups: 1,000 nodes, every pair linked with the same probability, four links per node on average.

# %%
random_links = infomap_null.random_network(1000, degree=4, seed=0)
found = infomap_null.by_infomap(random_links, trials=1, seed=0)
bits = infomap_null.saved_bits(random_links, found)
print(f"{len(set(found.tolist()))} modules save {bits:.2f} bits a step")

# %% [markdown]
# A walk does linger in the odd corners of a sparse random network, but the next network has other corners. At ten links per node the corners are gone, and InfoMap rightly finds one module. One remedy is a *prior*. A link that was not observed may still exist, so the Bayesian map equation adds a weak link between every pair of nodes {cite:p}`smiljanic2021`; the package has it as `--regularized`.

# %% tags=["hide-input"]
noise = pd.concat(
    pd.DataFrame(run.columns("metrics.csv")).assign(degree=run.config["degree"])
    for trial, run in recorded("infomap_null_random").items()
    if trial != "alarms"
)
detect = {
    run.config["groups"]: pd.DataFrame(run.columns("metrics.csv"))
    for run in recorded("infomap_null_planted").values()
}

# %% mystnb={"figure": {"caption": "In sparse random networks InfoMap finds up to a hundred or more spurious modules and Leiden 10 to 20; with a prior, InfoMap correctly finds one. Five networks of 1,000 nodes per mean degree. Dashed: the truth, one module and nothing saved."}, "image": {"alt": "Two panels against the mean degree. Above: InfoMap has over a hundred modules at a mean degree of three, fewer as it grows, and one from ten on; Leiden ten to twenty; with a prior always one. Below: InfoMap saves almost three bits at a mean degree of three, falling towards zero; with a prior zero."}} tags=["nbval-ignore-output", "hide-input"]
fig, axes = plotting.panels(2, height=2.1)
PARTS = {"modules": "modules found", "saved": "bits saved"}
NAMES = {
    "InfoMap": "infomap",
    "with a prior": "regularized",
    "Leiden": "leiden",
}
for ax, (part, label), truth in zip(axes, PARTS.items(), (1, 0)):
    named = {name: f"{part}_{column}" for name, column in NAMES.items()}
    curves_of(ax, noise, "degree", part, named)
    ax.axhline(truth, color=plotting.INK, linestyle="--", linewidth=1)
    ax.set(ylabel=label)
axes[1].set(xlabel="mean degree")
axes[0].legend()
plt.show()

# %% tags=["hide-input"]
found = [
    mean_interval(frame.modules_infomap).low > 10
    and mean_interval(frame.saved_infomap).low > 0
    for degree, frame in noise.groupby("degree")
    if degree in (3, 4, 5, 6, 8)
]
four = noise[noise.degree == 4]
verdict(
    "infomap.noise",
    holds=len(found) == 5 and all(found),
    restricted=any(found),
    measured={
        "modules, 4 links a node": mean_interval(four.modules_infomap),
        "bits saved": mean_interval(four.saved_infomap),
    },
)

# %% [markdown]
# The other remedy needs no assumption about what was missed, only a second opinion. *Rewire* the network: swap the ends of random pairs of links until only the degrees are left of its structure {cite:p}`maslov2002`. If InfoMap saves as many bits on such copies as on the original, the saving is no evidence of groups.

# %% mystnb={"figure": {"caption": "Five of six real networks beat all 99 of their rewired copies; the Florentine families do not. Bits per step saved over one module. Star: the network; points: rewired copies, with mean and 95 % interval."}, "image": {"alt": "Six rows. In all but one a star lies to the right of a cloud of points near zero, far to the right for Les Mis\u00e9rables and for places in the newspaper. For the Florentine families the star lies within the cloud."}} tags=["nbval-ignore-output", "hide-input"]
TITLES = {
    "karate": "karate club",
    "miserables": "Les Misérables",
    "southern_women": "Southern women",
    "florentine": "Florentine families",
    "places": "places in one paragraph",
    "adjacent_words": "adjacent words",
}
nulls = recorded("infomap_null")
fig, ax = plotting.panels(1, height=3.0)
bits_of = {
    title: nulls[name].columns("metrics.csv")["saved"]
    for name, title in TITLES.items()
}
plotting.seeds(ax, {title: b[1:] for title, b in bits_of.items()}, ("none", 0))
for row, b in enumerate(bits_of.values()):
    ax.plot(b[0], row, "*", color=plotting.INK, markersize=13)
ax.set(xlabel="bits saved per step")
plt.show()

# %% tags=["hide-input"]
p_values = {title: nulls[name].summary["p"] for name, title in TITLES.items()}
weighted = recorded("infomap_null_weights")
alarms = recorded("infomap_null_random")["alarms"].columns("metrics.csv")["p"]
share = binomtest(int((alarms <= 0.05).sum()), len(alarms), 0.05)
low, high = share.proportion_ci(method="exact")
real = [p <= 0.05 for p in p_values.values()]
verdict(
    "infomap.null",
    holds=all(real) and low <= 0.05,
    restricted=any(real) and low <= 0.05,
    measured={
        "false alarms on random networks": f"{share.statistic:.1%} ({low:.1%} to {high:.1%})"
    }
    | {f"p, {title}": p for title, p in p_values.items()}
    | {
        f"p, with weights, {n}": run.summary["p"] for n, run in weighted.items()
    },
)

# %% [markdown]
# Three of the six are social networks, one links women to the events that they attended, and two come from a newspaper: places named in the same paragraph, and adjacent words. There are only fifteen Florentine families, too few to tell. Where links have weights, choose the copies with care: the network of places saves *less* than most copies with shuffled weights, and more than all copies in which each node keeps its total weight.

# %% [markdown]
# ## How weak may groups be and still be found?
#
# The prior has a price: it also hides groups that are real but weak. How weak may a group be and still be found? Let two nodes be linked with probability $c_\text{in}/n$ if they share a group and $c_\text{out}/n$ if not, and let $c$ be the mean degree. With $k$ equal groups, no efficient method is known to find them unless {cite:p}`decelle2011`
#
# $$
# |c_\text{in}-c_\text{out}|>k\sqrt c.
# $$
#
# We call the left side divided by the right the *signal*. Below 1 the groups cannot be seen; above 1 a good method can find them. Beside Leiden we run a spectral method, which clusters the nodes by leading eigenvectors and is told $k$.

# %% mystnb={"figure": {"caption": "InfoMap needs a stronger signal than a spectral method that is told the number of groups, and with a prior a stronger one still. Panels: 2, 4 and 10 planted groups, mean degree 8. Points: five networks; dashed: the limit of detectability."}, "image": {"alt": "Three panels of agreement against signal, for two, four and ten groups. All methods are near 0 up to a signal of 1. The spectral method rises first, Leiden next, InfoMap later, and InfoMap with a prior last, for two groups not at all."}} tags=["nbval-ignore-output", "hide-input"]
fig, axes = plotting.panels(3, height=1.9)
NAMES |= {"spectral, told the number": "spectral"}
for ax, groups in zip(axes, sorted(detect)):
    named = {name: f"ami_{column}" for name, column in NAMES.items()}
    curves_of(ax, detect[groups], "signal", "", named)
    ax.axvline(1, color=plotting.INK, linestyle="--", linewidth=1)
    ax.set(title=f"{groups} groups", ylabel="agreement")
axes[0].legend(fontsize=8)
axes[-1].set(xlabel="signal")
plt.show()

# %% tags=["hide-input"]
SEEN = ("infomap", "package", "regularized", "leiden", "spectral")
weak = [
    mean_interval(part[f"ami_{method}"]).high
    for frame in detect.values()
    for signal, part in frame.groupby("signal")
    if signal <= 0.75
    for method in SEEN
]
behind = [
    mean_interval(part.ami_infomap - part.ami_spectral)
    for part in (f[f.signal == 1.5] for f in detect.values())
]
below, needs_more = max(weak) < 0.1, all(b.high < 0 for b in behind)
verdict(
    "infomap.limit",
    holds=below and needs_more,
    restricted=below or needs_more,
    measured={"10 groups, signal 1.5: InfoMap less spectral": behind[0]}
    | {"largest upper end of an interval below the limit": max(weak)},
)
silent = noise.groupby("degree").modules_regularized.agg(
    lambda m: (m == 1).mean()
)
price = {
    (groups, signal): mean_interval(part.ami_regularized - part.ami_package)
    for groups, frame in detect.items()
    for signal, part in frame[frame.signal > 1].groupby("signal")
}
verdict(
    "infomap.prior",
    holds=bool((silent == 1).all())
    and not any(p.high < -0.1 for p in price.values()),
    restricted=bool((silent == 1).all()),
    measured={
        "10 groups, signal 1.5: AMI, with less without": price[10, 1.5],
        "random networks with one module": silent.mean(),
    },
)

# %% [markdown]
# Look at two groups. At the strongest signal one link in seventeen leaves its group, and InfoMap still cuts the two into dozens: the corners of the sparse network again.
#
# There is a limit of resolution, too, as for modularity {cite:p}`fortunato2007`, but it sets in later {cite:p}`kawamoto2015`. In a ring of 100 cliques of four nodes each clique is a module; in a ring of 1,000, pairs of cliques give the shorter description, 4.004 bits against 4.030.

# %% tags=["hide-input"]
for count, expected in ((100, "3.556 3.767"), (1000, "4.030 4.004")):
    ring = random_walk_flow(nx.ring_of_cliques(count, 4), 0)
    each = [map_equation(ring, np.arange(4 * count) // n) for n in (4, 8)]
    assert " ".join(f"{b:.3f}" for b in each) == expected

# %% [markdown]
# ## Nested and overlapping modules
#
# Modules may contain modules, each with a codebook for *their* names and its own exit; the number of levels need not be given either {cite:p}`rosvall2011`. Take a triangle of triangles of triangles, 27 nodes:


# %%
nested = nx.Graph()
for i, j, a, b in itertools.product(range(3), repeat=4):
    if a < b:
        nested.add_edge((i, j, a), (i, j, b))  # in a small triangle
        nested.add_edge((i, a, b), (i, b, a))  # between small ones
        nested.add_edge((a, b, b), (b, a, a))  # between large ones
walk = random_walk_flow(nested, 0)
nine, three = {v: v[:2] for v in nested}, {v: v[0] for v in nested}
triangles = {
    "many levels": infomap(nested, 0, trials=10, levels=None).codelength,
    "two levels": infomap(nested, 0, trials=10).codelength,
    "nine in three": hierarchical_map_equation(walk, [three, nine]),
    "nine": map_equation(walk, nine),
    "three": map_equation(walk, three),
}
for name, length in triangles.items():
    print(f"{length:.4f}  {name}")

# %% [markdown]
# Several levels save 0.10 bits over the best two. But the best division is not nine nested in three. Two of the large triangles are modules that hold three small ones each. The small ones of the third stand beside these two at the top, where the walk enters them without naming their large triangle first.
#
# A node may also belong to two modules {cite:p}`viamontes2011`. Two dance groups of five share one dancer. If she must belong to one group, a single module for everyone is shorter. If she may belong to both, two modules are shortest.


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
two, many = triangles["two levels"], triangles["many levels"]
assert f"{two:.4f} {many:.4f}" == "3.5644 3.4623"
assert two < min(triangles["nine"], triangles["three"])
assert many < triangles["nine in three"]
gains = [
    infomap(graph, 0, trials=3).codelength
    - infomap(graph, 0, trials=3, levels=None).codelength
    for graph in (karate, nx.les_miserables_graph())
]
verdict(
    "infomap.claim3",
    holds=two - many > 0.05 and min(gains) > -1e-9,
    measured=triangles,
)
verdict(
    "infomap.claim4",
    holds=dance["in both"] < dance["one module"] < dance["in one of two"]
    and dance["in both"] < dance["another in both"],
    measured=dance,
)

# %% [markdown]
# ## Clusters of words: better than chance, no better than Leiden's
#
# The article's last application is clustering words: represent each by a vector, link words with similar vectors, and run InfoMap. Our text is one month of a newspaper, 人民日报 (*Rénmín Rìbào*, the People's Daily). We count co-occurrences within eight words, reduce each word's counts to a vector of 100 numbers, and link words whose cosine similarity is at least 0.6. Six of the clusters, chosen by us:


# %%
month = infomap_words.paragraphs()
small = infomap_words.Config(words=4000, width=100, threshold=0.6)
words = infomap_words.known_words(small.words)
vectors = infomap_words.word_vectors(month, words, small)
near = neighbour_graph(vectors, neighbours=50, threshold=0.6)
linked = np.flatnonzero(near.sum(0) + near.sum(1))
modules = infomap(near[linked][:, linked], engine="infomap").modules
cluster = {words[i]: modules[n] for n, i in enumerate(linked)}

# %% tags=["nbval-ignore-output", "hide-input"]
MEANING = {
    "银行": "银行 bank, 贷款 loan, 业务 business, 风险 risk, 监管 supervision, 倒闭 bankruptcy",
    "学校": "学校 school, 教育 education, 人才 talent, 学生 student, 教师 teacher, 考试 exam",
    "患者": "患者 patient, 医疗 medical care, 治疗 treat, 医生 doctor, 药 medicine, 疾病 disease",
    "演出": "演出 performance, 京剧 Peking opera, 观众 audience, 舞台 stage, 掌声 applause",
    "法院": "法院 court, 犯罪 crime, 证据 evidence, 逮捕 arrest, 嫌疑人 suspect, 司法 justice",
    "日本": "日本 Japan, 泰国 Thailand, 货币 currency, 股市 stock market, 危机 crisis",
}
rows = []
for word, listed in MEANING.items():
    inside = [w for w in cluster if cluster[w] == cluster.get(word)]
    shown = [p for p in listed.split(", ") if p.split()[0] in inside]
    rows.append(
        {"members (selection)": ", ".join(shown), "size": f"{len(inside)}"}
    )
table(rows)

# %% [markdown]
# These look good, and so do the article's six. But some cluster always looks good, so we score all of them on text from which they were not made. Learn vectors and clusters from one half of the newspaper. In the other half, pick two words of one paragraph: how many bits does knowing the first word's cluster save in predicting the second? The trivial baselines are random clusters of the same sizes, connected components, and bands of frequency. We also run Leiden
# on the same links, and k-means.

# %% mystnb={"figure": {"caption": "InfoMap's clusters help to predict unseen text, about as much as Leiden's. Bits saved on a second word of the same paragraph: five random halves of the newspaper, means and 95 % intervals; dashed, no clusters."}, "image": {"alt": "Seven rows of five points. Leiden by modularity and InfoMap lie furthest right, then Leiden with the same number of clusters as InfoMap, then k-means; connected components, random clusters and frequency bands lie at zero."}} tags=["nbval-ignore-output", "hide-input"]
halves = pd.DataFrame(run.summary for run in recorded("infomap_words").values())
ROWS = {
    "InfoMap": "infomap",
    "Leiden, modularity": "leiden",
    "Leiden, same number": "leiden_as_many",
    "k-means, same number": "kmeans",
    "connected components": "components",
    "random, same sizes": "random",
    "frequency bands": "frequency",
}
fig, ax = plotting.panels(1, height=3.2)
bits = {name: halves[f"bits_{column}"] for name, column in ROWS.items()}
plotting.seeds(ax, bits, ("none", 0))
ax.set(xlabel="bits saved on a second word")
plt.show()

# %% tags=["hide-input"]
fine = pd.DataFrame(
    run.summary for run in recorded("infomap_words_fine").values()
)
trivial = {
    name: mean_interval(halves.bits_infomap - halves[f"bits_{name}"])
    for name in ("random", "components", "frequency")
}
beats = [gain.beyond() for gain in trivial.values()]


def halves_with(subject, runs):
    together = runs[f"together_{subject}"] >= 3
    return int((together & (runs[f"size_{subject}"] <= 200)).sum())


comes_out = {s: halves_with(s, halves) for s in infomap_words.SUBJECTS}
subjects = sum(n >= 3 for n in comes_out.values()) >= 3
leiden = mean_interval(halves.bits_infomap - halves.bits_leiden)
verdict(
    "infomap.claim5",
    holds=None if None in beats else all(beats) and subjects,
    restricted=all(b is True for b in beats),
    measured={"bits, InfoMap less random": trivial["random"]}
    | {"less Leiden, modularity": leiden}
    | {f"{s}: halves of five": n for s, n in comes_out.items()}
    | {f"{s}, threshold 0.6": halves_with(s, fine) for s in comes_out},
)

# %% [markdown]
# All three trivial baselines save nothing. Leiden by modularity saves about as much as InfoMap with far fewer clusters, and less with the same number. But the saving is small, and of the five subjects whose words we had listed beforehand fewer than three come out as clusters in most of the halves.
#
# The article says that there are almost no hyperparameters: only how links are made, and $\tau$. True, but the first is a large one. In our tuning the threshold for a link changed the number of clusters several times over. The value of $\tau$ hardly matters: planted groups were recovered with 0.05, 0.15 and 0.3.

# %% tags=["hide-input"]
tuned = pd.DataFrame(
    {**run.config, "clusters": run.summary["clusters_infomap"]}
    for run in recorded("infomap_words_tuning").values()
)
tuned = tuned[tuned.threshold.between(0.4, 0.7) & (tuned.width >= 25)]
ratio = tuned.groupby("width").clusters.agg(lambda c: c.max() / c.min())
by_tau = {}
for tau in (0.05, 0.15, 0.3):
    agreement = []
    for seed in range(5):
        network, truth = planted(0.3, seed)
        found = infomap(network, tau, seed, engine="infomap").modules
        agreement.append(
            adjusted_mutual_info_score(truth, list(found.values()))
        )
    by_tau[tau] = mean_interval(agreement)
harmless = all(a.low > 0.95 for a in by_tau.values())
verdict(
    "infomap.claim7",
    holds=harmless and bool((ratio > 2).all()),
    restricted=harmless,
    measured={"threshold: clusters, most over fewest": ratio.max()}
    | {"the same, least": ratio.min()}
    | {f"τ = {tau}: agreement": a for tau, a in by_tau.items()},
)

# %% [markdown]
# ## Which to use, and later work
#
# Use InfoMap if something flows along the links: traffic, citations, clicks. Use Leiden if only the density of links counts; it finds weaker groups. With either, try several seeds, and compare with rewired copies before you believe a group.
#
# **The package** {cite:p}`edler2025` is maintained, searches many levels by default, and handles networks in layers and with memory {cite:p}`smiljanic2023`. Its `--regularized` is for those to whom a false group is worse than a missed one.
#
# **Gradients.** With soft memberships the map equation becomes a training loss for graph neural networks {cite:p}`blocker2024`, and a pooling layer that chooses its own number of clusters {cite:p}`vonpichowski2024`.
#
# **Describing the links.** Stochastic block models compress the network itself, not a walk on it, and so can tell groups from noise without rewired copies {cite:p}`peixoto2019`.
#
# ## Exercises
#
# **1.** How long must runs be for categories to pay? Take $k$ categories of $m$ equally frequent objects, in runs of mean length $r$.


# %% tags=["hide-cell"]
# A run costs log₂ k for its category's name. Of the r + 1 codewords that follow, r are objects, each of the m
# equally often, and one is the exit. Without categories an object costs log₂(k·m).
def bits_an_object(r, k=3, m=4):
    return log2(k) / r + codebook(np.array([1 / r] + m * [1 / m]))


runs = np.linspace(1, 8, 701)
even = min(r for r in runs if bits_an_object(r) < log2(12))
print(f"three categories of four objects: in runs longer than {even:.2f}")

# %% [markdown]
# **2.** Why does InfoMap often find a single module in a similarity network? Link all pairs of 1,000 objects, with weight $w$ inside each of 20 equal groups and 1 between groups. How large must $w$ be before the groups shorten the description? And for 100 groups?


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
# **3.** Make the walker lazy: give each member of the karate club a self-loop of $w$ times its degree. How does the number of modules change with $w$, and why?

# %% tags=["hide-cell"]
# The walker stays put in w of w + 1 steps, so exits are rarer by a factor of w + 1, and smaller modules pay.
# This tunes the size of modules; it is called Markov time (Kheirkhahzadeh et al. 2016).
for w in (0, 1, 3, 10):
    lazy = nx.Graph(karate)
    loops = [(v, v, w * karate.degree(v)) for v in members]
    lazy.add_weighted_edges_from(loops if w else [])
    found = infomap(lazy, 0, trials=5)
    print(f"w = {w}: {len(set(found.modules.values()))} modules")

# %% [markdown]
# ## Experimental details
#
# :::{dropdown} Protocol, rules and their history
# **Rules.** Each verdict's rule, under *More*, was fixed on 1 December 2026, before the runs shown here. For exact computations (normalisation, the bound, the twelve items, levels, overlap) we already knew the answer. For random, rewired and planted networks we had seen runs with other seeds.
#
# The rule for dense planted groups is our second. The first omitted the mixing 0.65 and gave *holds*: InfoMap found all groups at 0.6, and Leiden's agreement at 0.7 was below one half. At 0.65 we then saw 0.8 for Leiden and one module for InfoMap, and added that point with its outcome known.
#
# **Search.** The shakes were added for networks that an earlier search missed, and tried on these; the networks of the figure have seeds from 100,000 on, which nobody had used.
#
# **Rewiring.** Links a–b and c–d become a–d and c–b, unless this creates a self-loop or a double link; ten swaps per link. Bipartite networks stay bipartite. Weights are ignored, but in the two kinds of weighted copies. With 99 copies the smallest possible $p$ is 0.01.
#
# **Limit.** The thresholds, signal 0.75 and agreement 0.1, were set in advance. The limit is one of infinitely large networks; with more than four groups it is a conjectured limit of efficient algorithms.
#
# **Words.** This rule is our third, written after seeing one half of another seed. Width (25) and threshold (0.7) were tuned on a fifth of the newspaper that no score uses. We took the setting that saved most bits; among settings within 1%, the number of clusters decided. Runs with the article's threshold of 0.6 and width 100 were added later and do not count. The table in the text uses those settings, 4,000 words and the whole month.
#
# **How often the rule for the words would err** is simulated with the spread of these runs. *False*: the share of wrong decisions if clusters carried no information. *Power*: the share of correct decisions for an effect one tenth of InfoMap's.
# :::

# %% tags=["nbval-ignore-output", "hide-input"]
gain = halves.bits_infomap - halves.bits_random
chance = false_alarms(
    lambda d: mean_interval(d).beyond(), gain.std(), 5, gain.mean() / 10, 2000
)
wrong = chance.holds + chance.refuted
print(f"false: {wrong:.1%}, power: {chance.power:.0%}")

# %% [markdown]
# ## Data, seeds and versions

# %% tags=["nbval-ignore-output", "hide-input"]
card(
    "infomap",
    {
        "Sizes": f"{len(optima)} recorded runs on small networks, {len(nulls)} networks with 99 copies each, {len(noise)} random and {sum(map(len, detect.values()))} planted networks, {len(halves)} halves of the newspaper",
        "Seeds": "small networks: from 100,000 on; copies: 1 to 99; others: 0 to 4, and 1 to 5; here NumPy's generator 0",
        "Compared with": f"infomap {version('infomap')}, igraph {version('igraph')}, networkx {nx.__version__}",
    },
)
