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
#
# Put the neurons of an LSTM in order, and let every word decide how far up it overwrites them. How much a word erases shows how strong a boundary precedes it, so a network that has only learned to predict the next word draws trees. Whether they are the right ones, only an experiment with sharp controls can tell.

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import itertools
import math
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from kexue import data, onlstm, runs
from kexue.book import drawing, interactive, notebook, plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import table
from kexue.experiments import onlstm_english, onlstm_grammar, onlstm_texts
from kexue.experiments.tasks import bigrams, onlstm_rules
from kexue.onlstm import bracket_f1, leaves, split_tree, tree_from_levels
from kexue.runs.statistics import mean_interval

rng = notebook.setup("onlstm")
onlstm.deterministic_recurrence()

# %% [markdown]
# ## A memory in which some things last longer than others
#
# A network reads *the singer played the old song and a dog barked*, word by word. What should it keep in mind? After *the* it should expect a noun, and that expectation is useless two words later. After *played* it should expect an object, and must keep doing so until the object is complete. *And* joins two clauses, which matters until the sentence ends.
#
# So let the memory be a column of levels, short-lived things at the bottom and lasting ones at the top. Each word settles two questions: from which level up is the past kept ($d_f$), and up to which level does the word write ($d_i$)? Below, both are set by hand, with $d_i=d_f-1$.

# %% mystnb={"figure": {"caption": "A word that writes high starts a large phrase, and what it wrote stays until the phrase is over. Above: the memory after each word, one column a word; a bar shows how long a level keeps what a word wrote, and the dark line is where the past begins to stay, $d_f$. Levels with a dot hold what was there before the sentence. Below: the tree that follows from $d_f$."}, "image": {"alt": "Six levels of bars over ten words. In the bottom row every word has a bar of its own. The word played fills rows three and four until and. The word and fills row five to the end; row six is untouched. The tree below divides before and, then before played and before barked."}} tags=["hide-input"]
SENTENCE = "the singer played the old song and a dog barked"
WORDS = SENTENCE.split()
D_F = [3, 2, 5, 3, 2, 2, 6, 3, 2, 5]  # 1-based, as in the formulas
c, columns, none = torch.zeros(6), [], torch.zeros(6)
for t, d in enumerate(D_F, start=1):
    c = onlstm.segmented_update(c, none + t, none, none, d - 1, d - 2)
    columns.append(c)
wrote = torch.stack(columns, 1).int().numpy()  # which word, in each cell
tree = tree_from_levels(WORDS, D_F)
fig, (ax, below) = plotting.panels(2, height=2.3, width=4.6)
drawing.memory(ax, wrote, WORDS, D_F)
ax.set_xticks(range(10), [f"{d}\n{d - 1}" for d in D_F])
ax.set_xlabel("$d_f$, and below it $d_i$")
drawing.draw_tree(below, tree)
plt.show()

# %% tags=["hide-input"]
writes_to = [int((wrote[:, t] == t + 1).sum()) for t in range(10)]
assert tree_from_levels(WORDS, writes_to) == tree  # as one sees it
verdict(
    "onlstm.claim3",
    holds=bool((wrote[-1] == 0).all())
    and bool((wrote[0] == np.arange(1, 11)).all()),
    measured={"words for which level 5 keeps “and”": (wrote[4] == 7).sum()},
)

# %% [markdown]
# Read the upper panel row by row. The bottom row changes with each word. *Played* stays in two levels for as long as its object lasts, and *and* stays to the end. The words that write highest divide the sentence: first *and*, then *played* and *barked*. Hence the tree below it.
#
# This is the idea of ON-LSTM {cite:p}`shen2019onlstm` (*the paper*), told in the order of *the article* {cite:p}`su2019onlstm`. We state the update exactly, soften it so that it can be trained, and ask what its trees are worth.
#
# ## The cell
#
# **An LSTM does not know the order of its neurons.** It has three gates between 0 and 1, a candidate $\hat c_t$, a memory $c_t$ and an output $h_t$ {cite:p}`hochreiter1997,gers2000`:
#
# $$
# \begin{aligned}
# f_t,\,i_t,\,o_t&=\sigma(W_{f,i,o}\,x_t+U_{f,i,o}\,h_{t-1}+b_{f,i,o}),\qquad\hat c_t=\tanh(W_cx_t+U_ch_{t-1}+b_c),\\
# c_t&=f_t\circ c_{t-1}+i_t\circ\hat c_t,\qquad h_t=o_t\circ\tanh(c_t).
# \end{aligned}
# $$ (onlstm-eq1)
#
# Renumber the neurons, and the rows and columns of all weights with them: each neuron computes what it did before, in another place. So the order means nothing, and we may give it a meaning. ON-LSTM keeps the gates and the output, and changes only how $c_t$ is computed from $c_{t-1}$ and $\hat c_t$.
#
# **Hard positions.** Let $x_t$ and $h_{t-1}$ determine two integers $d_f$ and $d_i$. The past claims the levels from $d_f$ up, and the word those up to $d_i$. Where the claims overlap, the cell is an LSTM:
#
# $$
# c_t=\begin{pmatrix}\hat c_{t,<d_f}\\ f_{t,[d_f:d_i]}\circ c_{t-1,[d_f:d_i]}+i_{t,[d_f:d_i]}\circ\hat c_{t,[d_f:d_i]}\\ c_{t-1,>d_i}\end{pmatrix}\qquad(d_f\le d_i).
# $$ (onlstm-eq4)
#
# If they do not, any levels in between are set to zero:
#
# $$
# c_t=\begin{pmatrix}\hat c_{t,\le d_i}\\ 0_{(d_i:d_f)}\\ c_{t-1,\ge d_f}\end{pmatrix}\qquad(d_f>d_i).
# $$ (onlstm-eq5)
#
# Take five neurons with $c_{t-1}=(10,20,30,40,50)$, $\hat c_t=(1,2,3,4,5)$, and all gates at one half. With $d_f=2$ and $d_i=4$ the new memory is $(1,11,16.5,22,50)$: written, mixed three times, kept. With $d_f=4$ and $d_i=2$ it is $(1,2,0,40,50)$.
#
# **One formula.** Write the two claims as vectors of zeros and ones. For the past, $\tilde f_t=0\dots01\dots1$ has its first 1 at $d_f$: the cumulative sum, from the left, of the one-hot vector of $d_f$. For the word, $\tilde i_t=1\dots10\dots0$ has its last 1 at $d_i$: a cumulative sum from the right. Where both claim, $\omega_t=\tilde f_t\circ\tilde i_t$ is 1, and both cases become
#
# $$
# c_t=\omega_t\circ(f_t\circ c_{t-1}+i_t\circ\hat c_t)+(\tilde f_t-\omega_t)\circ c_{t-1}+(\tilde i_t-\omega_t)\circ\hat c_t.
# $$ (onlstm-eq6)
#
# **Soft positions.** Integers have no gradient. But a cumulative sum accepts any vector, so replace both one-hot vectors by a softmax, as in {doc}`smoothing`:
#
# $$
# \begin{aligned}
# \tilde f_t&=\overrightarrow{\mathrm{cs}}\bigl(\mathrm{softmax}(W_{\tilde f}x_t+U_{\tilde f}h_{t-1}+b_{\tilde f})\bigr),\\
# \tilde i_t&=\overleftarrow{\mathrm{cs}}\bigl(\mathrm{softmax}(W_{\tilde i}x_t+U_{\tilde i}h_{t-1}+b_{\tilde i})\bigr).
# \end{aligned}
# $$ (onlstm-eq9)
#
# The paper calls a cumulative softmax cumax, and $\tilde f_t$ and $\tilde i_t$ the *master gates*. Suppose that the past's claim begins at 2 or at 3, with probability one half each, and that the word's ends at 2. The gates are $\tilde f=(0,\frac12,1,1,1)$ and $\tilde i=(1,1,0,0,0)$, and our five neurons become $(1,6.5,30,40,50)$. That is the average of the two hard results, $(1,11,30,40,50)$ and $(1,2,30,40,50)$. It always is: {eq}`onlstm-eq6` is linear in $\tilde f$, $\tilde i$ and $\omega$, so for independent positions *the soft update is the expected hard one*. The paper introduces each gate as such an expectation (its section 4.1).
#
# A sentence has fewer levels than a network has neurons, so each level is a group of neurons that share their master gates. With $q$ neurons to a level, the cell has only $1+\frac1{2q}$ times the weights of an LSTM. The whole cell:


# %% tags=["minimal"]
def cumax(z):  # a soft 0 … 0 1 … 1
    return z.softmax(-1).cumsum(-1)


def reverse_cumax(z):  # a soft 1 … 1 0 … 0
    return z.softmax(-1).flip(-1).cumsum(-1).flip(-1)


def onlstm_step(x, h, c, W, U, b, levels):
    neurons = h.shape[-1]
    gates = x @ W.T + h @ U.T + b
    z_i, z_f, o, g, i, f = gates.split(2 * [levels] + 4 * [neurons], -1)
    o, g, i, f = o.sigmoid(), g.tanh(), i.sigmoid(), f.sigmoid()
    keep = cumax(z_f).repeat_interleave(neurons // levels, -1)
    write = reverse_cumax(z_i).repeat_interleave(neurons // levels, -1)
    both = keep * write
    c = both * (f * c + i * g) + (keep - both) * c + (write - both) * g
    return o * c.tanh(), c


# %%
past, word = torch.tensor([10.0, 20, 30, 40, 50]), torch.arange(1.0, 6)
half = torch.full((5,), 0.5)


def update(d_f, d_i):
    new = onlstm.segmented_update(past, word, half, half, d_f - 1, d_i - 1)
    return new.tolist()


assert update(2, 4) == [1, 11, 16.5, 22, 50]
assert update(4, 2) == [1, 2, 0, 40, 50]
expected = (torch.tensor(update(2, 2)) + torch.tensor(update(3, 2))) / 2
assert expected.tolist() == [1, 6.5, 30, 40, 50]

# %% [markdown]
# ## Forgetting marks a boundary
#
# While a phrase lasts, what the network has stored about it helps to predict the next word. Once it is over, most of that is useless, but what was stored earlier is still needed. So we may expect a good predictor to forget *at boundaries*, and more at those of larger phrases.
#
# How much does it forget? The softmax $p_f$ inside {eq}`onlstm-eq9` is a distribution over the level at which the past begins. Its mode would be one answer; its mean is smoother, and needs only the gate:
#
# $$
# d_f\approx\sum_{k=1}^nk\,p_f(k)=n\Bigl(1-\frac1n\sum_{k=1}^n\tilde f_t(k)\Bigr)+1,
# $$ (onlstm-eq14)
#
# because $p_f(j)$ occurs in $\tilde f_t(k)$ for all $k\ge j$, that is, $n+1-j$ times. (The paper's formula (15) lacks the 1, as the article remarks; the trees are the same.) From here on, the *level of a word* is $1-\frac1n\sum_k\tilde f_t(k)$: the share of the memory's levels that the past does not claim.
#
# Now cut a sentence before every word whose level exceeds a threshold, and lower the threshold:

# %% tags=["hide-input"]
interactive.cuts_slider(
    WORDS,
    D_F,
    start=2,
    caption="As the threshold falls, the sentence breaks into clauses, then phrases, then words. Blue: the levels of the first figure; orange: the threshold; green: the pieces so far, one row for each threshold.",
    alt="Ten bars over the words of the sentence, a dashed threshold, and rows of green segments below. Each lower threshold adds a row with more and shorter segments.",
)

# %% [markdown]
# The pieces are nested, and so form a tree. The article's greedy rule does nearly this: divide before the word $x_k$ of highest level, set it apart from what follows,
#
# $$
# [\,x_{<k},\;[\,x_k,\;x_{>k}\,]\,],
# $$ (onlstm-alg1)
#
# and go on with $x_{<k}$ and $x_{>k}$ until single words are left.


# %% tags=["minimal"]
def tree_of(words, levels):
    if len(words) == 1:
        return words[0]
    k = max(range(len(words)), key=lambda t: levels[t])  # the first of equals
    right, left = words[k], words[:k]
    if words[k + 1 :]:
        right = [right, tree_of(words[k + 1 :], levels[k + 1 :])]
    return [tree_of(left, levels[:k]), right] if left else right


# %% tags=["hide-input"]
def bracketed(tree):
    return str(tree).replace("'", "").replace(",", "")


assert tree_of(WORDS, D_F) == tree
print(bracketed(tree_of(WORDS, D_F)))

# %% [markdown]
# ## An experiment with known trees
#
# Does a network find such levels by itself? We test this on a small grammar, fixed before anything was trained: noun phrases, some with a prepositional phrase, verbs with objects, and adverbs; each clause draws its words from one of five topics. A sentence with its tree:

# %% tags=["hide-input"]
gold = onlstm_grammar.gold()
texts = [leaves(tree) for tree in gold]
short = next(tree for tree in gold if len(leaves(tree)) == 9)
print(bracketed(onlstm_grammar.spoken(short)))

# %% [markdown]
# The network has two layers of 64 neurons, 16 levels each. It sees 4,000 sentences without brackets, and learns to predict the next word. The whole training:

# %%
torch.manual_seed(0)
read = onlstm_grammar.texts(seed=0, count=4000)
vocabulary = data.Vocabulary([*read, ["<eos>"]])
ids = [
    vocabulary.ids(["<eos>", *text, "<eos>"]) for text in sorted(read, key=len)
]
model = onlstm.LanguageModel(
    len(vocabulary), (64, 64), "onlstm", chunk_size=4, embedding_scale=1.0
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 600)

# %%
for _ in range(600):
    start = int(torch.randint(len(ids) - 32, ()))
    batch = pad_sequence(ids[start : start + 32], batch_first=True)
    logits = model(batch[:, :-1]).logits.flatten(0, 1)
    target = batch[:, 1:].flatten()
    loss = cross_entropy(logits, target, ignore_index=data.PAD)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    schedule.step()
model.eval()
levels = onlstm.master_levels(model, vocabulary, texts)
d_f = [row[0, 1] for row in levels]  # of the second layer
found = [tree_from_levels(*pair) for pair in zip(texts, d_f)]

# %% [markdown]
# To compare two trees, take their brackets as spans of words, leave out the whole sentence, and compute F1, the harmonic mean of precision and recall. Here is a sentence of about ten words on which this network's F1 is at its *median*; the best would look better, and prove less.

# %% mystnb={"figure": {"caption": "What the trained network does with a sentence on which its F1 is the median. From above: the master forget gate of the second layer, where dark cells are erased, most of all where the found tree divides first; the level of each word; the tree from these levels; the true tree."}, "image": {"alt": "A heat map of sixteen levels by the words of a sentence, dark columns at some words; bars of the level below it; and two trees over the same words that agree in part."}} tags=["nbval-ignore-output", "hide-input"]
scores = np.array([bracket_f1(*pair) for pair in zip(found, gold)])
length = np.array([len(text) for text in texts])
apart = np.abs(scores - np.median(scores)) + 9.0 * (np.abs(length - 10) > 1)
middle = int(apart.argmin())
vectors = vocabulary.ids(["<eos>", *texts[middle]])[None]
with torch.no_grad():
    gate = model.trace(vectors)[1].master_forget[0, 1:]
shown = map(onlstm_grammar.spoken, (found[middle], gold[middle]))
titles = f"found, F1 {100 * scores[middle]:.0f} %", "true"
drawing.gate_and_trees(gate, d_f[middle], dict(zip(titles, shown)))

# %% [markdown]
# ## Are these trees better than trees without grammar?
#
# How well do trees score that owe nothing to grammar? Does chance do as well: random levels, or the same network *before training*? Does a shape: left- or right-branching, halves, levels that favour early words, or the network's own *averaged by position* in the sentence? Does the frequency or rarity of a word, taken as its level? The greedy rule itself is suspect: with random levels, its trees lean to the right. So we also *split only*, into $x_{<k}$ and $x_{\ge k}$, never at the first word; this rule does not lean.
#
# We fixed beforehand what to read: $d_f$ of the second layer. We train ten ON-LSTMs, and ten plain LSTMs with as many weights, whose levels are 1 minus the mean forget gate.

# %% mystnb={"figure": {"caption": "With the greedy rule the levels of ten ON-LSTMs give better trees than every control that was fixed beforehand; with splits only, no longer clearly better than their own average by position. F1 of 300 sentences, one point for each network, with means and 95 % intervals; dashed, the best control that needs no network."}, "image": {"alt": "Two panels of four rows of ten points. In the upper one the trained ON-LSTM lies well to the right of its average by position, of itself before training, and of the LSTM. In the lower one it overlaps with the average by position."}} tags=["nbval-ignore-output", "hide-input"]
networks = runs.table("onlstm_grammar")
ours, plain, paper = (
    networks[networks.index.str.startswith(arm)].set_index("seed").sort_index()
    for arm in ("onlstm", "lstm", "paper")
)
plotting.seeds_panels(
    *onlstm_grammar.compared(ours, plain),
    height=2.5,
    xlabel="F1 (%)",
    xlim=(0, 80),
)

# %% tags=["nbval-ignore-output", "hide-input"]
known = {rule: onlstm_grammar.controls_of(rule) for rule in onlstm_rules.RULES}
everything = {k: v | onlstm_grammar.counted(k) for k, v in known.items()}
NAMED = onlstm_rules.TREES | bigrams.NAMES
table(
    {
        "tree without a network": NAMED[key],
        "F1, greedy": f"{everything['greedy'][key]:.1f}",
        "splits only": f"{everything['split'][key]:.1f}",
    }
    for key in NAMED
)

# %% tags=["hide-input"]
entry = onlstm_rules.beat_counts(ours, plain, paper)
over_controls = onlstm_grammar.over_controls
gains = {rule: over_controls(ours, "forget_2", rule) for rule in known}
holds, partly, numbers = onlstm_rules.trees_are_found(gains)
verdict(
    "onlstm.grammar",
    holds=holds,
    restricted=partly,
    reached=entry,
    measured=numbers,
)
lead = mean_interval(ours.greedy_forget_2 - plain.greedy_forget_2)
verdict(
    "onlstm.plain",
    holds=lead.beyond(),
    reached=entry,
    measured={"F1, ON-LSTM less LSTM": lead},
    bound=0.0,
)

# %% [markdown]
# All networks beat an interpolated Kneser-Ney five-gram model {cite:p}`chen1999` (“counts of five words”), as we required before looking at any tree. Under the greedy rule the levels carry much more than a slope. Under splits only, the interval of the advantage includes zero. And our controls left one thing out, as a reader showed: they count words, but not pairs. Let a word's level be the number of different words seen just before it, and the trees are as good as the network's. Let it be minus the entropy of the next word, and they are far better (the last rows of the table). The LSTM's input gate, as we shall see, does better than its forget gate. Another reader mirrored the grammar, so that phrases end in their function words. Of four networks, $d_f$ by splits only is then no better than chance, and $d_i$ is: these trees depend on the direction of branching.
#
# What did the networks learn? Replace each word's level by the mean of its word class (its *kind*): one level for nouns, another for determiners. The trees do not get worse:

# %% tags=["nbval-ignore-output", "hide-input"]
READ = {
    "ON-LSTM": (ours, ""),
    "the same, by kind of word": (ours, "_by_kind"),
    "paper’s gate": (paper, ""),
    "LSTM": (plain, ""),
}
table(
    {"F1, greedy rule": f"${symbol}$, layer {layer}"}
    | {
        name: f"{arm[f'greedy_{gate}_{layer}{how}'].mean():.0f}"
        for name, (arm, how) in READ.items()
    }
    for gate, symbol in {"forget": "d_f", "input": "d_i"}.items()
    for layer in (1, 2)
)

# %% [markdown]
# So on this grammar *one level for each kind of word* does all that these networks do, and counts of pairs yield it, too. Verbs, prepositions and conjunctions erase most, and phrases end before them. But nouns erase a little more than determiners, so that *the soft* is set apart from *pupil*, where the grammar has *soft pupil*. (Not in the first layer, whose trees are better; but we had fixed the second.) And as a conjunction erases no more than a verb, the first cut is often not at the clause. A parser can do more: it may give one word different levels in different places. Yet nobody told the network that there are word classes.
#
# ## Other gates, and the limits of the greedy rule
#
# **The other gate knows the trees, too.** One can also read $d_i$, as the mean of $\tilde i_t$. The article argues that trees can come from $d_f$ only, since $d_i$ speaks of the present word alone. In the first layer both do about equally well. In the second, $d_i$ is worse than random levels. Here are the mean levels of the ten networks:

# %% tags=["nbval-ignore-output"]
KINDS = {
    "determiner": "the a this",
    "adjective": "adj",
    "noun": "noun",
    "verb": "verb",
    "preposition": "of in with",
    "adverb": "now here again often",
    "conjunction": "and but while",
}


def mean_level(gate, words):
    columns = [f"level_{gate}_2_of_{word}" for word in words.split()]
    return f"{ours[columns].to_numpy().mean():.2f}"


table(
    {"layer 2": kind, "$d_f$": mean_level("forget", words)}
    | {"$d_i$": mean_level("input", words)}
    for kind, words in KINDS.items()
)

# %% [markdown]
# There $d_i$ is largest at nouns and adverbs, with which phrases *end*. So we tried, after the fact, cutting *after* the maximum of each network's mean levels, and the trees are good:


# %% tags=["nbval-ignore-output"]
def f1_by_kind(rule, reading):
    """Of ten networks, each with one level for each kind of word."""
    levels = [
        onlstm_grammar.by_kind(row, *reading) for _, row in ours.iterrows()
    ]
    return mean_interval(
        [onlstm_grammar.f1_of(lambda w, i: rule(w, own[i])) for own in levels]
    )


for name, rule in {
    "before": split_tree,
    "after": onlstm_grammar.cut_after,
}.items():
    f1 = f1_by_kind(rule, ("input", 2))
    print(f"d_i of layer 2, cut {name} its maximum: F1 {f1:.1f}")

# %% tags=["hide-input"]
by_gate = {
    (gate, layer): over_controls(ours, f"{gate}_{layer}", "greedy")
    for gate, layer in itertools.product(("forget", "input"), (1, 2))
}
(holds, _, numbers), entry_d_f = onlstm_rules.only_from_forgetting(by_gate)
verdict("onlstm.claim4", holds=holds, reached=entry_d_f, measured=numbers)

# %% [markdown]
# **A plain LSTM's input gate knows them, too.** {cite:t}`dyer2019` found that an ordinary LSTM gives about as good trees by the greedy rule. Read by its forget gate in the same direction, ours does not on this grammar; on English, below, it comes closer. But the last column of the table holds a surprise: the mean *input* gate of its first layer gives trees as good as the best reading of the ON-LSTMs. We saw this after the rule was fixed, so it is a hint and not a verdict. It agrees with their finding: ordered neurons are not the only way to see where a language model divides a sentence.
#
# **The paper's input gate is the article's, shifted.** The paper sets
#
# $$
# \tilde i_t=1-\mathrm{cumax}(W_{\tilde i}x_t+U_{\tilde i}h_{t-1}+b_{\tilde i}),
# $$ (onlstm-eq11)
#
# which falls likewise and, the article remarks, usually makes little difference. Since $1-\sum_{j\le k}p_j=\sum_{j\ge k+1}p_j$, it is the same gate, one level lower. At the highest level it is 0: nothing is ever written there, so from a zero state *the highest level of the published implementation stays zero for ever*. With the paper's 115 levels that is a small loss. With 16, ten seeds did not suffice to tell whether it matters, within a margin of 2 % that we had fixed.

# %% tags=["hide-input"]
change = mean_interval(100 * np.log(paper.perplexity / ours.perplexity))
verdict(
    "onlstm.eq11",
    holds=change.within(-2, 2),
    reached=entry,
    measured={"perplexity, paper’s gate over the article’s (%)": change},
)

# %% [markdown]
# **The greedy rule cannot draw most trees of a long sentence.** After a cut at $x_k$, no bracket begins with $x_k$ except $[x_k,x_{>k}]$. So with five words $[[a,b],[[c,d],e]]$ is out of reach, whatever the levels. {cite:t}`dyer2019` called the rule incomplete and biased to the right. Both defects can be counted, over all orders of the levels:


# %%
@cache
def greedy_trees(n):
    """How many trees of n words the greedy rule can give, by its first cut."""
    if n < 2:
        return 1
    return greedy_trees(n - 1) + sum(
        greedy_trees(k) * greedy_trees(n - k - 1) for k in range(2, n)
    )


def binary_trees(n):
    return math.comb(2 * n - 2, n - 1) // n


# %%
def trees_of(rule, n):
    """Those that a rule gives, one for each order of the levels."""
    return [rule("abcdef"[:n], o) for o in itertools.permutations(range(n))]


def leaning(rule, aim):
    """The share of a tree's brackets that six words get, over all orders."""
    wanted = onlstm.brackets(aim("abcdef")) - {(0, 6)}
    found = [onlstm.brackets(tree) & wanted for tree in trees_of(rule, 6)]
    return sum(map(len, found)) / len(found) / len(wanted)


# %% tags=["hide-input"]
sizes = range(2, 7)
counts, all_splits = (
    {n: len(set(map(str, trees_of(rule, n)))) for n in sizes}
    for rule in (tree_from_levels, split_tree)
)
assert counts == {n: greedy_trees(n) for n in sizes}
for rule, name in {tree_from_levels: "greedy", split_tree: "splits"}.items():
    print(
        f"{name}: {leaning(rule, onlstm.right_branching):.0%} of right-branching,",
        f"{leaning(rule, onlstm.left_branching):.0%} of left-branching",
    )
table(
    {
        "words": f"{n}",
        "binary trees": f"{binary_trees(n):.3g}",
        "by the greedy rule": f"{greedy_trees(n) / binary_trees(n):.1%}",
    }
    for n in (4, 5, 6, 10, 20, 40)
)
share = greedy_trees(40) / binary_trees(40)
verdict(
    "onlstm.trees",
    holds=all(all_splits[n] == binary_trees(n) for n in sizes)
    and [n for n in sizes if counts[n] == binary_trees(n)] == [2, 3, 4]
    and share < 0.01,
    measured={"share of the trees of 40 words": share},
)

# %% [markdown]
# With random levels, the rule finds more brackets of the right-branching tree than of the left-branching one; splits only treats both alike. In a right-branching language such as English this helps before anything is learned.
#
# ## English: which baseline is right?
#
# From the middle of three layers, the paper reports an F1 of 65.1 on Wall Street Journal sentences of at most ten words, and of 47.7 on the test set. English branches to the right, so right-branching trees are the baseline to beat. In the first copies of the paper they get 16.5, in later ones about 40. A reader asked why {cite:p}`orderedneurons2019issue`; the value came from earlier work, whose author suspected the punctuation {cite:p}`prpnanalysis2019issue`. We scored trees that need no model on NLTK's treebank sample, in eight protocols (punctuation or not, gold trees binarized or not, root counted or not):

# %% tags=["hide-input"]
protocols = onlstm.protocol_scores()
SHOWN = {
    "first copies of the paper": onlstm_rules.PUBLISHED,
    "words only": protocols[False, False, False],
    "with punctuation": protocols[True, False, False],
    "the same, binary trees, root counted": protocols[True, True, True],
}
table(
    {"F1 of": name}
    | {tree.partition("_")[0]: f"{f1:.1f}" for tree, f1 in scores.items()}
    for name, scores in SHOWN.items()
)
holds, partly, numbers = onlstm_rules.protocols_near_published(protocols)
verdict("onlstm.claim8", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# With punctuation, the full stop ends up inside every right-branching bracket, and hardly any of them is right. If, moreover, the gold trees are made binary and the root is counted, all four baselines of the first copies come out within three points; under no other protocol do they. So 47.7 is 8 points above right-branching, not 31.
#
# ## Does it find the linguists' trees?
#
# Like the paper, we train three layers, with its input gate, on Mikolov's version of the Penn Treebank {cite:p}`mikolov2010`, but with 200, 200 and 128 neurons instead of 1,150, 1,150 and 400. Again we fixed beforehand what to read: $d_f$ of the second layer, by the greedy rule, in sentences of at most ten words. To be compared at all, the networks must predict better than counts of five words and draw better trees than right branching. {cite:t}`htut2018` found that the paper's predecessor had been tuned, and even trained, on what was in effect the test set. We chose nothing by these trees; but our networks did read four fifths of the sentences, without brackets.

# %% mystnb={"figure": {"caption": "Two of five ON-LSTMs reach the F1 that the paper reports, 65.1; one draws far worse trees than right branching, which needs no network. F1 of $d_f$ of the second layer on sentences of at most ten words, one point for each of five seeds, with means and 95 % intervals; dashed, right-branching trees."}, "image": {"alt": "Two rows of five points, ON-LSTM above LSTM, and a dashed line for right-branching trees, which lies among the points of ON-LSTM and to the right of those of LSTM."}} tags=["nbval-ignore-output", "hide-input"]
english = onlstm_english.networks()
short, right = onlstm_english.short_f1(english)
fig, ax = plotting.panels(height=1.6)
plotting.seeds(ax, short, ("right-branching", right))
ax.set(xlabel="F1 (%) of sentences of at most ten words", xlim=(30, 80))
plt.show()

# %% tags=["hide-input"]
table(onlstm_english.rows(english))

# %% tags=["hide-input"]
decision, entry = onlstm_english.agree_with_annotated(english)
verdict("onlstm.claim2", reached=entry, **decision._asdict())

# %% [markdown]
# The networks predict far better than counts. But their trees are not reliably better than right-branching ones, which need no training. So the claim stays *unreached*: at this size we can say neither that it holds nor that it fails. Two things stand out. The seed decides: two of the five networks reach the F1 that the paper reports, and one is nearer to random levels than to right branching, while their perplexities hardly differ. And the trees come first: after a quarter of the training, when the networks predict far worse, each already draws trees about as good as at the end. Better prediction brought no better trees. (By the greedy rule no levels can reach 85 here, mostly because many of the treebank's brackets are not binary. To choose another layer or gate now would be to tune on the test set.) The setting of the paper is one command on a GPU:

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run -m kexue.experiments.onlstm_texts --scale gpu

# %% [markdown]
# ## Is it a better language model?
#
# In the paper's experiments ON-LSTM generally beats the LSTM, in language modelling and beyond. Its test perplexity on the Penn Treebank is 56.2, against 57.3 for the well-tuned LSTM of {cite:t}`merity2018`. We compare the two on Chinese, which the article's own model also read: one month of the People's Daily (人民日报, *Rénmín Rìbào*), already divided into words. Both get about as many weights and the same grid of settings; the best setting of each is trained for three epochs with five seeds. Both must first beat counts of five words, which take seconds.

# %% mystnb={"figure": {"caption": "On Chinese news every ON-LSTM predicts better than every LSTM of the same size, and both predict far better than counts of five words. Test perplexity, one point for each of five seeds, with means and 95 % intervals; below, the same points closer."}, "image": {"alt": "Two panels of two rows of five points each. In the upper one both rows lie far to the left of a dashed line for counts of five words. The lower one shows that all points of ON-LSTM lie to the left of all points of LSTM."}} tags=["nbval-ignore-output", "hide-input"]
news = runs.table("onlstm_news").sort_values("seed").groupby("cell")
tested = dict(iter(news.test_perplexity))
settings = onlstm_texts.NEWS_FINALS["onlstm_news/onlstm-seed1"]
of_counts = onlstm_texts.perplexity_of_counts(settings)
fig, (ax, closer) = plotting.panels(2, height=1.6)
rows = {"ON-LSTM": tested["onlstm"], "LSTM": tested["lstm"]}
plotting.seeds(ax, rows, ("counts of five words", of_counts))
plotting.seeds(closer, rows)
ax.set_xlim(70, 1.25 * of_counts)
closer.set_xlabel("test perplexity")
plt.show()

# %% tags=["hide-input"]
decision, entry = onlstm_rules.better_language_model(
    tested, of_counts, dict(iter(english.test_perplexity))
)
verdict("onlstm.claim1", reached=entry, **decision._asdict())

# %% [markdown]
# Both do, and on this newspaper ON-LSTM is ahead. That does not carry over: on the grammar the two predict about equally well, and on the Penn Treebank, with the newspaper's settings, the paper's gate and a third layer, the LSTM is ahead. On the newspaper the lead shrinks as training goes on. Where ON-LSTM wins, it may owe this to the order or only to its extra gates; we have not separated the two.
#
# So the cell does what it was made for, and its trees are better than chance. But simple counts and other gates do as well, and one network proves little.
#
# ## What came after ON-LSTM
#
# **Trees without annotation.** Published F1 on the Wall Street Journal test set, words only, mean over sentences.
#
# | method | trees come from | F1 |
# |---|---|--:|
# | ON-LSTM {cite:p}`shen2019onlstm` | levels of a language model, greedy rule | 47.7 |
# | compound PCFG {cite:p}`kim2019` | a grammar with neural rule probabilities | 55.2 |
# | GPST {cite:p}`hu2024gpst` | a Transformer with an induced tree, read left to right | 55.2 |
# | averaged trees {cite:p}`shayegh2024` | several unsupervised parsers | 70.4 |
#
# {cite:t}`chen2025seminfo` train grammars to maximize semantic information instead of likelihood, and gain 7.85 points on average over five grammars and four languages. {cite:t}`shi2020` warn that much of such progress rests on choosing models by annotated trees.
#
# **Ordered memories.** HGRN {cite:p}`qin2023` orders *layers* by a cumulative softmax: their forget gates have lower bounds that rise from layer to layer. Its gates do not look at $h_{t-1}$, so it trains in parallel; ON-LSTM cannot. xLSTM {cite:p}`beck2024xlstm` brings the LSTM back at scale.
#
# **When to use what.** For a language model, none of this; for trees, a neural grammar, or an average of parsers. ON-LSTM remains a short way from a gate to a tree.
#
# ## Questions that readers asked
#
# - *All levels are close to 1. Is that wrong?* Only their order matters. But then nearly everything is erased at each word, and the order may be noise.
# - *Why three layers?* Convention. Reading the middle one was a choice made with trees at hand.
#
#
# ## Exercises
#
# **1.** Find levels that give $[[a,b],[c,[d,e]]]$, and show that none give $[[a,b],[[c,d],e]]$.

# %% tags=["hide-cell"]
# c must come first, and is alone afterwards: so [d, e] needs nothing more, and [c, d] can never be a bracket.
possible = [["a", "b"], ["c", ["d", "e"]]]
assert tree_from_levels("abcde", [1, 1, 3, 2, 1]) == possible
never = [["a", "b"], [["c", "d"], "e"]]
orders = itertools.product(range(5), repeat=5)
print(any(tree_from_levels("abcde", order) == never for order in orders))

# %% [markdown]
# **2.** Before training all logits are about equal. What share of the memory does the LSTM then decide, what share is copied from the past, and what share stays empty?

# %% tags=["hide-cell"]
# With equal logits f̃(k) = k/n and ĩ(k) = (n + 1 − k)/n: about a sixth each is mixed and empty, a third each
# is kept and written.
equal = torch.zeros(1000)
keep, write = cumax(equal), reverse_cumax(equal)
mixed, empty = (keep * write).mean(), ((1 - keep) * (1 - write)).mean()
kept = (keep * (1 - write)).mean()
print(f"mixed {mixed:.2f}, kept {kept:.2f}, empty {empty:.2f}")

# %% [markdown]
# **3.** Recurrent networks easily simulate a counting function, says the article. Train LSTMs and ON-LSTMs on $a^nb^n$ with $n\le20$. How far do they count? Which cells of an ON-LSTM can be a counter?

# %% tags=["hide-cell"]
# A counter adds to what it keeps. Only where both claim a cell is f∘c + i∘ĉ computed; elsewhere a cell is
# copied or replaced. Gers and Schmidhuber (2001) trained LSTMs on such languages; Weiss, Goldberg and Yahav
# (2018) show that a GRU cannot count without bound. These were trained by kexue.experiments.onlstm_counting.
counters = runs.table("onlstm_counting").groupby("cell").right_up_to
reach = {cell: list(map(int, numbers)) for cell, numbers in counters}
holds, partly, numbers = onlstm_rules.counted(reach)
verdict("onlstm.claim9", holds=holds, restricted=partly, measured=numbers)

# %% [markdown]
# ## Experimental details
#
# :::{dropdown} Protocol, rules and their history
# **Grammar.** Ten networks for each of three cells (ON-LSTM, the same with the paper's input gate, LSTM), seeds 11 to 20, which were used for nothing before; two layers of 64 neurons (the LSTM 72 and 64, for as many weights), 600 steps of Adam. The number of steps was chosen by the perplexity of held-out sentences, seed 1. The embeddings' scale was chosen by the trees of other seeds. Trees are scored on 300 sentences that no network was trained on. A sentence is read from a zero state after its start mark.
#
# **Rules.** They stand in the verdicts, under *More*. They were committed before the recorded networks were trained; what was known of six networks of the first edition stands in the ledger. The rule for the claim about $d_f$ is the second: an earlier one, on English, would have refuted it with probability 0.75 if both gates were alike. That $d_i$ of the second layer peaks where phrases end, and that the LSTM's input gate gives good trees, was found afterwards and decides nothing.
#
# **Treebank.** Words only: punctuation, \$ and # with it, and empty elements are removed; unary brackets count once; root and single words do not count; a sentence without brackets has recall 1. NLTK's sample has 3,914 sentences. The published values of the four baselines are from other papers' copies of the table. Of the eight protocols, the outcome of one was known when the rule was written.
#
# **News.** The People's Daily in blocks of 50 paragraphs in turn: one in 20 for choosing settings, one in 20 for the test, the rest for training. Words with fewer than 20 occurrences count as unknown. Two layers (ON-LSTM 256 and 128, LSTM 268 and 128). Learning rates 0.002, 0.004 and 0.008 were tried in 1,000 steps, with a dropout of 0.1; for both the best was 0.004. Then dropout 0 and 0.1 were tried in 5,400 steps. For both, 0.1 was several points of validation perplexity worse, so both are trained without dropout, and 0.2 was not tried. Three seeds of the first edition were known; in them the two tied. The rule is the second: the first asked for this newspaper only and gave *holds*; the Penn Treebank was added when its outcome was known.
#
# **Penn Treebank.** ON-LSTM 200, 200 and 128 neurons, LSTM 208, 208 and 128, with the settings of the news, for 5,320 steps of 20 times 35 words, about four epochs; seeds 1 to 5. Scores are means over sentences. In the first edition four networks that were trained on another text scored 39.8 to 52.0. The networks here are the second attempt; the paper's setting, on a GPU, would be the third. The rule has a fault: as its entry already asks for more than the controls reach, it can hardly refute.
#
# **Counting.** One layer of 32 neurons, 400 steps; right means every prediction after the first $b$. Six networks of the first edition were known.
#
# **Dropped.** Eleven Chinese sentences, an unequal comparison with HGRN, and logical inference, none decisive, were in the first edition only.
# :::
#
# **How often the rules would err**, by simulation with the spread of these runs: *false* is how often an interval excludes 0 if there is no effect, *power* how often it does at the effect given.

# %% tags=["nbval-ignore-output", "hide-cell"]
AT = {  # with an effect of 15 points
    "greedy, over its average by position": "greedy_forget_2",
    "splits only, over the same": "split_forget_2",
    "$d_i$ of layer 1, over its average by position": "greedy_input_1",
}
notebook.alarms(
    {
        name: (ours[at] - ours[f"{at}_by_position"], 15)
        for name, at in AT.items()
    }
    | {"ON-LSTM less LSTM": (ours.greedy_forget_2 - plain.greedy_forget_2, 15)}
    | {"news, LSTM less ON-LSTM (%)": (onlstm_rules.log_gap(tested), 2)}
    | {"treebank, ON-LSTM less LSTM": (onlstm_english.lead(english), 5)}
)

# %% [markdown]
# ## Data, seeds and versions

# %% tags=["nbval-ignore-output", "hide-input"]
notebook.card(
    "onlstm",
    {
        "Sizes": f"{len(networks)} recorded networks of the grammar, {int(ours.parameters.iloc[0]):,} weights each, and {counters.size().sum()} that count; {news.seed.size().sum()} of the news and {english.seed.size().sum()} of the Penn Treebank, {int(news.parameters.max().max()):,} and {int(english.parameters.max().max()):,} weights; here one",
        "Seeds": "grammar: 11 to 20, here 0; its held-out sentences: 1; news and treebank: 1 to 5, tuning 0; counting: 10 to 14; random trees: 0",
    },
)
