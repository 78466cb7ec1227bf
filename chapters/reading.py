# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading: an answer filled in all at once
#
# *“非自回归”也不差：基于MLM的阅读理解问答*

# %% tags=["hide-input"]
# On Colab, first: %pip install -q "kexue[book] @ git+https://github.com/kexue-book/executable-scientific-spaces"
import math
import time
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from torch import nn

from kexue import data, reading
from kexue.book import interactive, plotting
from kexue.book.ledger import verdict
from kexue.book.notebook import card, setup, source
from kexue.book.plotting import mean_interval
from kexue.experiments import recorded
from kexue.reading import (
    Characters,
    ClozeDataset,
    LinearChainCRF,
    MaskedLM,
    MLMReader,
    Seq2SeqReader,
    answer_f1,
    exact_match,
    most_frequent_entity,
    product_of_marginals,
    total_correlation,
    vote,
)
from kexue.runs import warm_up_then_down

rng = setup("reading")

# %% [markdown]
# ## Must an answer be written one word after the other?
#
# A machine that reads a passage and a question can *write* its answer, token by token, each one after those before it. That is what a sequence-to-sequence model does, and it works. But it runs the network once for every token, and in training it sees only
# true beginnings, never its own. The article asks what happens if one does the simplest thing instead: put a few [MASK] tokens beside the question and the passage, and let a masked language model {cite:p}`devlin2019` fill in all of them at once. The tokens then know nothing of each other.
# Does that matter, if a question has one short answer?
#
# Our questions come from a newspaper, the *People's Daily* of January 1998, whose words are tagged, so that names are known: a sentence loses a name, and the text before it must give it back, in the way of Cui et al. {cite:p}`cui2016`.

# %% tags=["hide-input"]
train, valid, test = map(ClozeDataset, data.people_daily_parts())


def most_frequent_rival(question):
    """The most frequent of the names that the question does not have."""
    rivals = [n for n in question.entities if n not in question.question]
    return rivals[0] if rivals else ""


baseline = np.mean([most_frequent_entity(q) == q.answer for q in test])
rival_baseline = np.mean([most_frequent_rival(q) == q.answer for q in test])
example = next(
    q
    for q in test
    if len(q.answer) == 3 and 40 < len(q.passage) < 110 and q.kind == "nr"
)
display(
    Markdown(
        f"> **Passage** {example.passage}\n>\n> **Question** {example.question}\n>\n> **Answer** {example.answer}\n\n"
        f"There are {len(train):,} such questions for training, {len(valid):,} for choosing settings and {len(test):,} for the final numbers, from three stretches of the month with a gap between them. "
        f"Always saying the passage's most frequent name would be right in {100 * baseline:.1f} % of the last. The answer is blanked out wherever the question has it, so a name that stands in the question is not the answer; the most frequent of the other names is right in {100 * rival_baseline:.1f} %."
    )
)

# %% [markdown]
# (*Passage:* in the first semi-final of a table tennis challenge at Yuyao, Liu Guoliang and Wang Chen each beat their opponents. *Question:* ＿, Olympic champion in the men's singles, won three straight games without much trouble. *Answer:* Liu Guoliang.)
#
# %% [markdown]
# Two readers start from the same encoder, a small masked language model of characters that was pretrained on the training stretch of the same newspaper (`kexue.experiments.reading_pretraining`). The **MLM head** fills in all masks at once; the **seq2seq head** writes token by token. They are trained on the same
# questions in the same order, for as many steps, each with the best values from the same two grids, by the probability of those true answers on the questions for choosing that the vocabulary can spell (one seed; the second grid, which decided, in runs of less than half the length; `kexue.experiments.reading_comprehension`). With half or with twice its learning rate, either head was worse there. The results shown here were recorded beforehand. Intervals are Student's 95 % over three seeds, paired where the same seed trained both heads. A seed is an order of the questions:
# all readers start from one pretrained encoder, so the intervals do not say what another pretraining would change.
#
# An answer can be *free*; *within the passage*, by the article's greedy decoding (below); *searched* for there; or, which is our addition, the likeliest of the passage's *names*, of all or of those that are not in the question. A free answer is *mixed up* if it does not stand in the passage, though one of the passage's names has its length,
# and each of its characters stands in its place in one of them. A token is a character. Those that occur fewer than ten times in training are one unknown token, so that neither head can write an answer freely that holds one.
#
# :::{dropdown} When the rules of the verdicts were fixed
# Each rule stands beside its verdict; those of claims 1, 3, 4, 6 and 7 also in the script's docstring. A difference counts only if its whole interval lies on the side that the rule names; where the interval holds the bound, the row is open.
# Final runs were recorded twice. The rule of claim 1 was written while the first ones went on, those of claims 2 and 5 when their first numbers were known. Then a reader objected to the rules of claims 3, 4, 6 and 7, since they could hardly fail, or compared passages with few names to passages with many. They were replaced, and so were some measures, before the final runs began that the chapter shows. These are longer and keep the pretrained embedding.
#
# The rule of claim 3 was replaced twice more. By the second one it was refuted: it asked whether the seq2seq head finishes a name less often after another name's first character than after the true one, which it does not. A reader then objected that the article speaks of tokens, not of names, and that another name's character is no intervention where the head begins with it by itself. The rule that stands there now was written before its measures were taken; the seq2seq readers were trained again for them, and came out the same to the bit.
#
# Last, three rows were corrected that said more than the article says, or something else. Claim 1 asks first whether the better head beats the most frequent name. Claim 3 has the article's “may”, so that a third condition, on answers that begin wrong by themselves, which had made it *restricted*, is no part of its rule any more. Claim 5 had a sentence on CRFs that is not in the article.
# :::

# %% tags=["hide-input"]
letters = Characters(
    ("".join(words) for words in data.people_daily_parts()[0].word), 10
)
SEEDS = (1, 2, 3)
finals = recorded("reading")
HEADS = {"mlm": "MLM, all at once", "seq2seq": "seq2seq, one by one"}
MODES = {"free": "free", "span": "within the passage", "best": "searched"}
unknown_share = np.mean(
    [letters.unknown in letters.encode(q.answer)[0] for q in test]
)
NAMES = {
    "name": "likeliest of all names",
    "rival": "likeliest name not in the question",
}
refined = recorded("reading_refine")["seed1"].summary
answers = {
    (head, seed): finals[f"{head}-seed{seed}"].columns("questions.csv")
    for head in HEADS
    for seed in SEEDS
}


def of(head, name):
    """A mean over the test questions, of each seed."""
    return np.array(
        [finals[f"{head}-seed{seed}"].summary[f"test_{name}"] for seed in SEEDS]
    )


def among(head, name, which):
    """The same over some of the questions: a mask, or one for each seed."""
    masks = which if isinstance(which, dict) else dict.fromkeys(SEEDS, which)
    return np.array([answers[head, s][name][masks[s]].mean() for s in SEEDS])


def percent(values, digits=1):
    """Mean and 95 % interval's half width, in percent."""
    mean, low, _ = (100 * v for v in mean_interval(values))
    return f"{mean:.{digits}f} ± {mean - low:.{digits}f}"


def interval(three, digits=1):
    """A mean with its interval, as text."""
    text = "{:+.{d}f} ({:+.{d}f} to {:+.{d}f})".format(*three, d=digits)
    return text.replace("-", "−")


def sign(three):
    """1 or −1 where a 95 % interval lies on one side of 0, else 0."""
    return int(three[1] > 0) - int(three[2] < 0)


def bars(ax, samples):
    """Bars side by side in each group; `samples` by label, (groups, seeds)."""
    width = 0.8 / len(samples)
    for i, (label, values) in enumerate(samples.items()):
        mean, low, high = mean_interval(values)
        ax.bar(
            np.arange(len(values)) + width * (i - (len(samples) - 1) / 2),
            mean,
            0.95 * width,
            yerr=(mean - low, high - mean),
            label=label,
            hatch=("", "//", "..")[i],
            edgecolor="white",
            error_kw={"capsize": 3},
        )


lengths = np.array([len(q.answer) for q in test])

# %% mystnb={"figure": {"caption": "Exact match on held-out questions by what the readers may answer, three seeds with 95 % intervals. Diamond: an MLM head trained for Mask-Predict (below), four passes, one seed. Dashed: the most frequent name, of all names (first three groups) and of those not in the question.", "name": "reading-accuracy"}, "image": {"alt": "Bars in four groups: free, within the passage, of the passage's names, of those not in the question; a bar for the MLM head and one for the seq2seq head in each, a diamond in the first group, and a dashed line for the baseline in each."}} tags=["hide-input"]
fig, ax = plotting.panels()
shown = ("free", "span", "name", "rival")
bars(
    ax,
    {
        label: 100 * np.array([of(head, mode) for mode in shown])
        for head, label in HEADS.items()
    },
)
ax.plot(
    [0], [100 * refined["test_passes4"]], "D", color=plotting.INK, markersize=5
)
for place, value in enumerate((baseline, baseline, baseline, rival_baseline)):
    ax.hlines(
        100 * value, place - 0.45, place + 0.45, plotting.INK, linestyle="--"
    )
ticks = ("free", "within\nthe passage", "a name", "a name not in\nthe question")
ax.set_xticks(range(4), ticks)
ax.set(ylabel="exact match (%)")
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# ## One writes, the other fills in
#
# The seq2seq reader's model of an answer $A=a_1\dots a_n$ to $Q$ (the question with its passage) is the chain rule, the article's formula (1),
#
# $$
# p(A|Q)=p(a_1|Q)\,p(a_2|Q,a_1)\cdots p(a_n|Q,a_1,\dots,a_{n-1}),
# $$ (reading-eq1)
#
# where the last token is an end mark. The MLM reader's is (2),
#
# $$
# p(A|Q)=p(a_1|Q)\,p(a_2|Q)\cdots p(a_n|Q),
# $$ (reading-eq2)
#
# where $a_n$ is again the end mark. To see what they are, we take a tiny encoder with random weights and a vocabulary of ten tokens, four of them letters, and list everything that it may write. (Special tokens count, too, so that all sums to 1.)


# %%
def tiny(kind, longest=2, seed=0, width=16):
    """A reader with random weights, large enough that its distributions are not flat."""
    torch.manual_seed(seed)
    letters = Characters(["甲乙丙丁"])
    encoder = MaskedLM(len(letters), width, 2, 2, vocabulary=letters).double()
    return kind(encoder, longest).eval().requires_grad_(False)


passage, asked = "甲乙丙甲", "丁"
writer, filler = tiny(Seq2SeqReader), tiny(MLMReader)
vocabulary = writer.vocabulary
END = vocabulary.end
OTHERS = [i for i in range(len(vocabulary)) if i != END]

prefix = writer.prefix(
    [vocabulary.encode(passage)[0]], [vocabulary.encode(asked)[0]]
)


def following(*ids):
    """The seq2seq reader's probabilities of the next token, after these."""
    written = torch.tensor([ids], dtype=torch.int64)
    return writer.next_log_probs(prefix, written)[0, -1].exp().tolist()


first, chain, longer = following(), {}, 0.0
for a in OTHERS:
    second = following(a)
    chain[a,] = first[a] * second[END]
    for b in OTHERS:
        third = following(a, b)
        chain[a, b] = first[a] * second[b] * third[END]
        longer += first[a] * second[b] * (1 - third[END])
masses = {
    "nothing": first[END],
    "one token": sum(chain[k] for k in chain if len(k) == 1),
    "two tokens": sum(chain[k] for k in chain if len(k) == 2),
    "more": longer,
}
print({name: round(value, 4) for name, value in masses.items()})

# %% [markdown]
# Together they make 1. The package's `log_prob` reads an answer at once, each token under a mask that hides what follows (below). For all answers of one and two of the four letters it gives what we multiplied step by step:

# %%
LETTERS = set(vocabulary.encode("甲乙丙丁")[0])
spelt = {k: v for k, v in chain.items() if LETTERS.issuperset(k)}
texts = [vocabulary.decode(k) for k in spelt]
n = len(texts)
at_once = writer.log_prob([passage] * n, [asked] * n, texts).exp()
apart_by = (
    (at_once / torch.tensor(list(spelt.values()), dtype=torch.float64) - 1)
    .abs()
    .max()
)
print(
    n,
    "answers, largest relative difference below 1e-12:",
    bool(apart_by < 1e-12),
)

# %% tags=["hide-input"]
total = sum(masses.values())
verdict(
    "reading.eq1",
    holds=abs(total - 1) < 1e-12 and float(apart_by) < 1e-12,
    measured={
        "all together": f"{total:.12f}",
        "at once / step by step − 1": float(apart_by),
    },
)

# %% [markdown]
# The MLM reader runs once. Its input, and what the masks are to become, in the tiny vocabulary:

# %%
ids = filler.inputs(
    [vocabulary.encode(passage)[0]], [vocabulary.encode(asked)[0]]
)
print("reads ", " ".join(vocabulary.symbols[i] for i in ids[0].tolist()))
target = filler.targets(["乙"])
print(
    "writes", " ".join(vocabulary.symbols[i] or "·" for i in target[0].tolist())
)

# %% [markdown]
# [CLS], $l_{\max}$ masks (here three, one of them for the end), [SEP], question, [SEP], passage, [SEP]. The masks are to become the answer and then [SEP], the end mark. What stands behind it (·) does not count in the loss. The picture shows both readers with an answer of two tokens.

# %% mystnb={"figure": {"caption": "Who looks at whom (row at column), and what a place is to write (right); M mask, q question, p passage, a answer. Top: the MLM reader, where all tokens see each other and the masks write at once. Bottom: the seq2seq reader, which reads the passage first; its answer sees what stands before it, and each place writes the next token.", "name": "reading-layout"}, "image": {"alt": "Two square grids with the tokens of the input along both sides. The first is full, with masks after the first token; in the second the answer's tokens come last and their columns are empty but for a small triangle."}} tags=["hide-input"]
Q, P = ["q"] * len(asked), ["p"] * len(passage)
grids = {
    "MLM": (
        ["[CLS]", "M", "M", "M", "[SEP]", *Q, "[SEP]", *P, "[SEP]"],
        torch.ones(len(ids[0]), len(ids[0])),
        {1: "$a_1$", 2: "$a_2$", 3: "[SEP]"},
    ),
    "seq2seq": (
        ["[CLS]", *P, "[SEP]", *Q, "[SEP]", "$a_1$", "$a_2$"],
        writer.mask(prefix, 2)[0],
        {
            k - 1: text
            for k, text in zip(
                range(prefix.shape[1], 99), ("$a_1$", "$a_2$", "[SEP]")
            )
        },
    ),
}
fig, axes = plotting.panels(2, height=3.3, width=4.6)
for ax, (name, (tokens, seen, written)) in zip(axes, grids.items()):
    ax.imshow(seen, cmap="Blues", vmin=0, vmax=2.5)
    ax.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=8)
    ax.set_yticks(range(len(tokens)), tokens, fontsize=8)
    ax.grid(visible=False)
    ax.set_xticks(np.arange(len(tokens)) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(tokens)) - 0.5, minor=True)
    ax.grid(which="minor", color="white")
    ax.tick_params(which="both", length=0)
    ax.set_title(name, fontsize=10)
    for row, text in written.items():
        ax.text(len(tokens) - 0.3, row, f"→ {text}", va="center", fontsize=9)
plt.show()

# %% tags=["hide-input"]
layout = (
    [vocabulary.start]
    + [vocabulary.mask] * 3
    + [
        END,
        *vocabulary.encode(asked)[0],
        END,
        *vocabulary.encode(passage)[0],
        END,
    ]
)
log_p = filler.predict(ids)[0]
own_loss = -float(log_p[0, target[0, 0]] + log_p[1, END])


class Example:
    passage, question, answer = passage, asked, "乙"


difference = abs(own_loss - float(filler.loss([Example()])))
verdict(
    "reading.input",
    holds=ids[0].tolist() == layout
    and target[0].tolist() == [vocabulary.encode("乙")[0][0], END, 0]
    and difference < 1e-12,
    measured={"loss by hand − loss": difference},
)

# %% [markdown]
# Filling in all at once means multiplying the places' softmaxes: the probability of an answer of two letters is a product of three numbers from one table, the third being the end's.

# %%
table = filler.predict(ids)[0].exp()  # 3 places × 10 ids
pairs = ["".join(p) for p in product("甲乙丙丁", repeat=2)]
listed = filler.log_prob([passage] * 16, [asked] * 16, pairs).exp()
by_hand = [
    float(table[0, a] * table[1, b] * table[2, END])
    for a, b in (vocabulary.encode(p)[0] for p in pairs)
]
print("all 16 pairs agree:", np.allclose(listed, by_hand, rtol=1e-12, atol=0))

# %% tags=["hide-input"]
mass = float(torch.einsum("a,b,c->", *table))
verdict(
    "reading.eq2",
    holds=np.allclose(listed, by_hand, rtol=1e-12, atol=0)
    and abs(mass - 1) < 1e-12,
    measured={"total over three places": f"{mass:.12f}"},
)

# %% [markdown]
# ## In the loss, independence costs exactly the total correlation
#
# How much does {eq}`reading-eq2` give away? Let $p$ be the true distribution of answers to one question. Of all independent $q=q_1\cdots q_n$, the nearest one in the sense of the loss is the product of the marginals $p_k$, and what is left is
#
# $$
# \min_{q_1,\dots,q_n}\mathrm{KL}\Big(p\,\Big\|\,\prod_kq_k\Big)=\sum_kH(a_k)-H(a_1,\dots,a_n),
# $$ (reading-gap)
#
# the *total correlation* of the tokens {cite:p}`watanabe1960`. (The article does not have this; it says that independence is a strong assumption. For translation it is in {cite:t}`huang2022nat`.)
#
# :::{dropdown} Why
# $\mathrm{KL}(p\|\prod q_k)=\sum_Ap(A)\log\frac{p(A)}{\prod_kp_k(a_k)}+\sum_k\sum_{a_k}p_k(a_k)\log\frac{p_k(a_k)}{q_k(a_k)}$, where the first part does not depend on $q$ and the second is a sum of divergences, which is 0 exactly for $q_k=p_k$. The first part is $-H(A)+\sum_kH(a_k)$.
# :::
#
# An optimiser that is not told this finds the same numbers:


# %% tags=["hide-input"]
def nearest_independent(joint, rounds=3):
    """The least KL of an independent q, by gradient descent on its logits."""
    logits = [
        torch.zeros(n, dtype=joint.dtype).requires_grad_() for n in joint.shape
    ]
    optimizer = torch.optim.LBFGS(
        logits,
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def divergence():
        optimizer.zero_grad()
        log_q = torch.zeros((), dtype=joint.dtype)
        for each in logits:
            log_q = log_q[..., None] + each.log_softmax(0)
        value = (torch.special.xlogy(joint, joint) - joint * log_q).sum()
        value.backward()
        return value

    for _ in range(rounds):
        optimizer.step(divergence)
    return float(divergence().detach())


unique = torch.zeros(2, 2, 2, dtype=torch.float64)
unique[1, 0, 1] = 1.0
two = torch.zeros(2, 2, dtype=torch.float64)
two[0, 0] = two[1, 1] = 0.5
random_p = torch.rand(3, 4, 2, dtype=torch.float64, generator=rng).square()
examples = {
    "one answer": unique,
    "½{00} + ½{11}": two,
    "at random": random_p / random_p.sum(),
    "independent": product_of_marginals(random_p / random_p.sum()),
}
found = {
    name: (nearest_independent(p), float(total_correlation(p)))
    for name, p in examples.items()
}
lines = ["| p | least KL, found (nats) | total correlation |", "|---|---|---|"]
lines += [
    f"| {n} | {abs(a):.4f} | {abs(b):.4f} |" for n, (a, b) in found.items()
]
display(Markdown("\n".join(lines)))

# %% tags=["hide-input"]
gaps = {n: abs(a - b) for n, (a, b) in found.items() if n != "one answer"}
verdict(
    "reading.gap",
    holds=max(gaps.values()) < 1e-9
    and float(total_correlation(unique)) == 0
    and found["one answer"][0] < 1e-6
    and abs(found["½{00} + ½{11}"][1] - math.log(2)) < 1e-12,
    measured={"largest difference (nats)": max(gaps.values())},
)

# %% [markdown]
# Where the answer is unique, the price is nothing (the minimum is at infinite logits, which an optimiser approaches). Where two answers are equally good and differ in all of their $n$ tokens, the price is $n-1$ bits: each place costs a bit by itself, and all together are worth one. That is the price in the loss. What the reader *says*, if it draws place by place, is one of the two answers with probability $2^{1-n}$ only, and a mixture otherwise.
#
# ## The readers, and how they answer
#
# Both heads inherit from one class that cuts texts into tokens and long passages into overlapping windows. The parts that differ:

# %% tags=["hide-input"]
source(
    MLMReader.inputs,
    MLMReader.predict,
    Seq2SeqReader.mask,
    Seq2SeqReader.next_log_probs,
)

# %% [markdown]
# `Seq2SeqReader.mask` is UniLM's {cite:p}`dong2019`: passage and question see each other, the answer's tokens see all of that and what stands before them.
#
# The article's script restricts answers to the passage in a simple way: go from left to right, and let the next token be the likeliest among those that continue *some* span of the passage which begins with the tokens chosen so far, or the end. A span's score is the mean of the probabilities of its steps. Written down plainly for one question:


# %%
def literal_decode(p, passage, end):
    """The script's decoding; p[k][a] is the probability of token a at place k."""
    answer, scores = [], []
    for k in range(len(p)):
        n = len(answer)
        spans = [i for i in range(len(passage)) if passage[i : i + n] == answer]
        options = {passage[i + n] for i in spans if i + n < len(passage)}
        options = (
            {end} if k == len(p) - 1 else options | ({end} if n else set())
        )
        best = max(options, key=lambda a: p[k][a])
        scores.append(p[k][best])
        if best == end:
            break
        answer.append(best)
    return answer, sum(scores) / len(scores)


# %% tags=["hide-input"]
agree = []
for seed in range(20):
    reader = tiny(MLMReader, longest=3, seed=seed)
    text = "".join(np.random.default_rng(seed).choice(list("甲乙丙丁"), 9))
    tokens = vocabulary.encode(text)[0]
    p = reader.predict(reader.inputs([tokens], [vocabulary.encode(asked)[0]]))
    answer, score = literal_decode(p[0].exp().tolist(), tokens, END)
    said = reader.answer([text], [asked])[0]
    agree.append(
        said.text == vocabulary.decode(answer)
        and math.isclose(said.score, score)
    )
    assert said.text in text
print(
    sum(agree),
    "of",
    len(agree),
    "passages: the same answer with the same score",
)

# %% tags=["hide-input"]
verdict(
    "reading.decode",
    holds=sum(agree) == len(agree),
    measured={"passages": len(agree)},
)

# %% [markdown]
# When one question has several passages, as in the article's data, its script adds the same answer from several of them up as $\sum s_i^2/(1+\sum s_i)$. One certain voice beats several doubtful ones, but not sixteen:

# %%
for scores in ([0.9], [0.5, 0.5], [0.5] * 4, [0.5] * 16):
    said = vote([reading.Answer("甲", s) for s in scores])
    print(len(scores), "×", scores[0], "→", round(said.score, 4))

# %% tags=["hide-input"]
voices = [("甲", 0.9), ("乙", 0.5), ("乙", 0.7), ("丙", 0.1)]
totals = {
    name: sum(s * s for n, s in voices if n == name)
    / (1 + sum(s for n, s in voices if n == name))
    for name in "甲乙丙"
}
elected = vote([reading.Answer(*v) for v in voices])
verdict(
    "reading.vote",
    holds=elected.text == max(totals, key=totals.get)
    and math.isclose(elected.score, max(totals.values())),
)

# %% [markdown]
# Two numbers say how good an answer is: whether it *equals* the true one, after spaces and punctuation are removed, and case and the width of letters made uniform, and the $F_1$ of its characters, as multisets. The article reports both, and their mean.

# %%
for said, true in (
    ("北京", "北京。"),
    ("北京市", "北京"),
    ("京北", "北京"),
    ("哈哈", "哈"),
):
    print(said, true, exact_match(said, true), round(answer_f1(said, true), 3))

# %% tags=["hide-input"]
symmetric = all(
    math.isclose(answer_f1(a, b), answer_f1(b, a))
    for a, b in product(("北京", "北京市", "哈哈", "哈"), repeat=2)
)
verdict(
    "reading.metric",
    holds=exact_match("北京", "北京。")
    and not exact_match("京北", "北京")
    and answer_f1("京北", "北京") == 1
    and math.isclose(answer_f1("北京市", "北京"), 0.8)
    and math.isclose(answer_f1("哈哈", "哈"), 2 / 3)
    and symmetric,
)

# %% [markdown]
# ## The MLM head falls behind where it must spell
#
# The article reports 0.728 exact and $F_1$ 0.821 (their mean 0.774) for the MLM head on the validation set of SogouQA, Chinese questions from the web, level with its seq2seq reader (0.77, {cite:p}`su2019readingseq2seq`), both on a pretrained BERT. Ours is a small encoder that has read the training stretch of a month of one newspaper. Here they are on the held-out questions. The first two pairs of columns are the article's two ways. *Searched* goes beyond it: instead of the greedy decoding, the span
# with the largest product of probabilities (MLM: all spans are compared; seq2seq: a beam of four).

# %% tags=["hide-input"]
lines = [
    "| | " + " | ".join(f"{m}: exact | {m}: F1" for m in MODES.values()) + " |"
]
lines.append("|---" * 7 + "|")
for head, label in HEADS.items():
    cells = [
        percent(of(head, f"{mode}{what}"))
        for mode in MODES
        for what in ("", "_f1")
    ]
    lines.append(f"| {label} | " + " | ".join(cells) + " |")
display(Markdown("\n".join(lines)))
display(
    Markdown(
        f"(The true answer of {100 * unknown_share:.1f} % of the questions holds an unknown character.)"
    )
)
lines = [
    "| the likeliest name of the passage is right (%) | of all names | of those not in the question | the same, without the question |",
    "|---" * 4 + "|",
]
for head, label in HEADS.items():
    cells = [percent(of(head, name)) for name in (*NAMES, "blind")]
    lines.append(f"| {label} | " + " | ".join(cells) + " |")
lines.append(
    f"| most frequent name | {100 * baseline:.1f} | {100 * rival_baseline:.1f} | |"
)
display(Markdown("\n".join(lines)))

# %% [markdown]
# Is the article's claim kept? We count it as kept if the MLM head's exact match within the passage is at most one point behind the seq2seq head's (the whole interval). But two readers that lose to a trivial answer say nothing of readers that work. So the better head must first be right more often, free or within the passage, than the passage's most frequent name (the whole interval, again).

# %% tags=["hide-input"]
apart = {
    mode: mean_interval(100 * (of("mlm", mode) - of("seq2seq", mode)))
    for mode in (*MODES, *NAMES)
}
above = {
    (head, name): mean_interval(100 * (of(head, name) - base))
    for head in HEADS
    for name, base in (("name", baseline), ("rival", rival_baseline))
}
over_baseline = {
    (head, mode): mean_interval(100 * (of(head, mode) - baseline))
    for head in HEADS
    for mode in ("free", "span")
}
each = 100 * np.mean(
    [answers["mlm", s]["span"] - answers["seq2seq", s]["span"] for s in SEEDS],
    axis=0,
)
# Questions of one story stand together: blocks of 20 are drawn, not single questions.
blocks = each.reshape(-1, 20).mean(1)
drawn = np.random.default_rng(0).choice(blocks, (4000, len(blocks))).mean(1)
resampled = each.mean(), *np.quantile(drawn, (0.025, 0.975))
final = {head: (of(head, "span") + of(head, "span_f1")) / 2 for head in HEADS}
final_apart = mean_interval(100 * (final["mlm"] - final["seq2seq"]))
verdict(
    "reading.claim1",
    holds=None
    if apart["span"][1] <= -1 <= apart["span"][2]
    else apart["span"][1] > -1,
    reached=any(low > 0 for _, low, _ in over_baseline.values()),
    measured={
        "the most frequent name is right (%)": 100 * baseline,
        **{
            f"{HEADS[head]}, {MODES[mode]}, above the most frequent name (points)": interval(
                three
            )
            for (head, mode), three in over_baseline.items()
        },
        **{
            f"MLM − seq2seq, exact match, {label} (points)": interval(
                apart[mode]
            )
            for mode, label in {**MODES, **NAMES}.items()
        },
        "within the passage, blocks of 20 neighbouring questions resampled (points)": interval(
            resampled
        ),
        "mean of exact match and F1, within the passage (points)": interval(
            final_apart
        ),
        **{
            f"mean of exact match and F1, within the passage, {HEADS[head]} (%)": percent(
                value
            )
            for head, value in final.items()
        },
        **{
            f"{HEADS[head]}, {NAMES[name]}, above the most frequent one (points)": interval(
                three
            )
            for (head, name), three in above.items()
        },
    },
)

# %% tags=["hide-input"]
first_nats = {head: of(head, "nats0") for head in HEADS}
later = {head: of(head, "nats") - of(head, "nats0") for head in HEADS}
apart_f1 = {
    mode: mean_interval(
        100 * (of("mlm", f"{mode}_f1") - of("seq2seq", f"{mode}_f1"))
    )
    for mode in ("free", "span")
}
assert abs(apart_f1["free"][0]) < abs(apart["free"][0]) / 2
assert abs(first_nats["mlm"].mean() - first_nats["seq2seq"].mean()) < 0.3
assert min(three[1] for three in above.values()) > 0
assert of("mlm", "span").min() > of("mlm", "free").max()
assert max(of(head, "blind").max() for head in HEADS) < rival_baseline
assert of("mlm", "mixed").min() > 3 * of("seq2seq", "mixed").max()
assert later["mlm"].min() > 1.5 * later["seq2seq"].max()
display(
    Markdown(
        f"Where they must find and spell the answer, neither head is better than the most frequent name: within the passage the MLM head differs from it by {interval(over_baseline['mlm', 'span'])} points, the seq2seq head by {interval(over_baseline['seq2seq', 'span'])}. "
        f"But if the passage's names are given, both choose among them better than by frequency: the MLM head is above the most frequent name by {interval(above['mlm', 'name'])} points, the seq2seq head by {interval(above['seq2seq', 'name'])}; among the names that are not in the question, by {interval(above['mlm', 'rival'])} and {interval(above['seq2seq', 'rival'])}. It is the question that they use: with nothing but a blank in its place, which they have not seen in training, both are below that baseline. "
        f"About the first character they know equally much ($-\\log p$ of the true one: {first_nats['mlm'].mean():.2f} and {first_nats['seq2seq'].mean():.2f} nats). The others and the end cost the MLM head {later['mlm'].mean():.2f} nats and the seq2seq head, which has read those before, {later['seq2seq'].mean():.2f}. "
        f"So the MLM head falls behind where it must spell: {percent(of('mlm', 'mixed'))} % of its free answers are mixed up, and {percent(of('seq2seq', 'mixed'))} % of the seq2seq head's. "
        f"$F_1$ forgives a mixture, which has many of the right characters: of the free answers, the MLM head's exact match is {interval(apart['free'])} points from the seq2seq head's, its $F_1$ {interval(apart_f1['free'])}. Within the passage, where there are no mixtures, the difference in $F_1$ is {interval(apart_f1['span'])}, and in the mean of both measures, in which the article finds its heads level, {interval(final_apart)}."
    )
)

# %% [markdown]
# Both heads had equally many steps and equal tuning. But the MLM head is asked for what its encoder was pretrained to do, to put characters in the place of masks, and the seq2seq head must first learn to continue: on another encoder the comparison can come out differently.

# %% [markdown]
# ## How much faster depends on the cache
#
# The MLM head runs the network once, the seq2seq head once for each token and once for the end. The article's seq2seq reader computes everything again for each token; today one keeps the keys and values of what was read, so that passage and question go through the network once. We measure both, greedily and with a beam, one question at a time and eight together. So that all answers have exactly
# the length that we want, the encoder has random weights, the sizes of the trained one, and never chooses the end itself. The MLM head has its nine masks whatever the answer's length, as in use. Passages have 120 characters, questions 30; one thread, processor time, medians of three rounds in which both heads take turns.


# %% tags=["hide-input"]
def fixed_length(kind, length):
    """A reader that always writes so many tokens."""
    letters = Characters(["".join(map(chr, range(0x4E00, 0x4E00 + 2850)))])
    encoder = (
        MaskedLM(len(letters), vocabulary=letters).eval().requires_grad_(False)
    )
    encoder.bias[letters.end] = -1e4
    return kind(encoder, length)


def seconds(reader, batch, **options):
    """Processor time of answering once; a busy machine does not lengthen it much."""
    texts = [
        "".join(chr(0x4E00 + (7 * i + b) % 2000) for i in range(150))
        for b in range(batch)
    ]
    passages, questions = [t[:120] for t in texts], [t[120:] for t in texts]
    began = time.process_time()
    answers = reader.answer(passages, questions, **options)
    took = time.process_time() - began
    assert {len(a.text) for a in answers} == {reader.max_answer_length}
    return took


WAYS = {
    "again each time": {"cache": False},
    "cached": {"cache": True},
    "again each time, beam 3": {"cache": False, "beam_size": 3},
    "cached, beam 3": {"cache": True, "beam_size": 3},
}
ratio, rate = {}, {}
fills_in = fixed_length(MLMReader, 8)
for batch, several in ((1, (2, 4, 6, 8)), (8, (2, 8))):
    for length, (name, options) in product(several, WAYS.items()):
        reader = fixed_length(Seq2SeqReader, length)
        rounds = [
            (
                seconds(fills_in, batch, constrain=False),
                seconds(reader, batch, constrain=False, **options),
            )
            for _ in range(3)
        ]
        # Of rounds in which both were measured, one after the other.
        ratio[name, batch, length] = np.median([b / a for a, b in rounds])
        once, took = np.median(rounds, axis=0)
        rate[name, batch, length] = batch / took
        rate["MLM", batch, 8] = batch / once

# %% mystnb={"figure": {"caption": "How many times as long the seq2seq head takes as the MLM head, by the length of the answer, one question at a time, one thread. As the article ran it, everything is computed again for each token.", "name": "reading-speed"}, "image": {"alt": "Four curves over the length of the answer on a logarithmic scale. All rise; with a cache they are lower, and the more so the longer the answer."}} tags=["hide-input", "nbval-ignore-output"]
fig, ax = plotting.panels()
for (name, _), style, marker in zip(
    WAYS.items(), ("-", "-", "--", "--"), "osD^"
):
    ax.plot(
        (2, 4, 6, 8),
        [ratio[name, 1, n] for n in (2, 4, 6, 8)],
        style,
        marker=marker,
        label=f"seq2seq, {name}",
    )
ax.axhline(1, color=plotting.INK, linestyle=":", linewidth=1)
ax.set(
    xlabel="tokens of the answer",
    ylabel="times the MLM head's time",
    yscale="log",
)
ax.set_yticks((1, 2, 5, 10, 20), (1, 2, 5, 10, 20))
ax.set_ylim(0.25, 28)
ax.set_xticks((2, 4, 6, 8))
ax.legend(fontsize="small", loc="lower left")
plt.show()

# %% tags=["hide-input"]
factor = {n: ratio["again each time", 1, n] for n in (2, 4, 6, 8)}
assert ratio["cached", 1, 8] < 6
verdict(
    "reading.claim2",
    holds=min(factor.values()) >= 6,
    restricted=factor[8] >= 6,
    measured={
        f"times the MLM head, {name}, batch {batch}, {length} tokens": value
        for (name, batch, length), value in ratio.items()
        if length in (2, 8)
    }
    | {
        f"{name}, questions a second, batch {batch}, 8 tokens": value
        for (name, batch, length), value in rate.items()
        if length == 8 and "beam" not in name
    },
)

# %% [markdown]
# The article has 12 against 2 questions a second, a factor of 6. Its seq2seq reader has no cache. The claim is kept if we find that factor without a cache at two, four, six and eight tokens (the most that our readers write), one question at a time and greedily; restricted if only at eight. With $n$ tokens the seq2seq reader runs $n+1$ times, so that without a cache the factor is nearly that; for the two or three characters that most of our answers have it is smaller. With a cache, later steps read one token each, and the MLM head has less to save.
# (On a GPU short steps cost nearly as much as long ones, since what counts there is their number; nobody has measured that here.)
#
# ## A corrupted token corrupts those after it, if they read it
#
# Exposure bias {cite:p}`ranzato2016`: in training the seq2seq head always continues *true* beginnings, in use its own. Its errors, says the article, may accumulate, and those of the MLM head do not. (How much that matters is disputed {cite:p}`he2021`.) First, what is observed: how often each token of the free answers is wrong, where the true answer has three characters (place 4 is the end), overall, and where the first token was right, or wrong:

# %% tags=["hide-input"]
lines = [
    "| place | "
    + " | ".join(
        f"{label}: all | first right | first wrong" for label in HEADS.values()
    )
    + " |"
]
lines.append("|---" * 7 + "|")
three = lengths == 3
first_wrong = {
    head: {s: answers[head, s]["wrong0"] == 1 for s in SEEDS} for head in HEADS
}
rest_wrong = {}
for place in range(4):
    cells = []
    for head in HEADS:
        cells.append(percent(among(head, f"wrong{place}", three)))
        for wrong in (False, True):
            which = {s: three & (first_wrong[head][s] == wrong) for s in SEEDS}
            value = among(head, f"wrong{place}", which)
            rest_wrong[head, place, wrong] = value
            cells.append(percent(value) if place else "")
    lines.append(f"| {place + 1} | " + " | ".join(cells) + " |")
display(Markdown("\n".join(lines)))
for head in HEADS:
    assert (rest_wrong[head, 1, True] > 2 * rest_wrong[head, 1, False]).all()
assert (rest_wrong["seq2seq", 1, True] > rest_wrong["mlm", 1, True]).all()
assert (rest_wrong["seq2seq", 1, False] < rest_wrong["mlm", 1, False]).all()

# %% [markdown]
# After a wrong first token the next one is wrong far more often in *both* heads. In the MLM head this is because its beliefs at all places come from the same doubt about the same passage: a common cause, no accumulation. The tie is much stronger in the seq2seq head, which continues what it wrote, right after right and wrong after wrong. But such a table cannot tell cause from common cause. Two other questions tell more.
#
# *What is caused?* We corrupt one token. Where the seq2seq head's first token is right by itself, it is kept, or replaced: by the first character of another name of the passage, the likeliest of those that begin differently; or by a *stray* one, drawn from those of the passage with which none of its names begins. Then the head goes on by itself. How many of the later tokens are wrong? In the MLM head a token that is put in changes none of the others, since they do not read it (there is a test that says so).
# *What becomes of answers that begin wrong?* Of the questions whose first token *both* heads have wrong by themselves, how many free answers are at least one of the passage's names?
#
# The claim, that errors *may* accumulate, is kept if more of the later tokens are wrong after either corruption than after the true character, and refuted if fewer are after one of them. The second question is answered beside it.

# %% mystnb={"figure": {"caption": "How many of the seq2seq head's tokens are wrong at each place after a first character that is put in (of every second test question those whose first token the head has right by itself, with another name that begins differently and a character that begins none; stray ones drawn anew for each seed; three seeds, 95 % intervals). The end counts as a token: at the third place it is right wherever the true name and the one that is written both have two characters.", "name": "reading-corrupted"}, "image": {"alt": "Bars in three groups, the second, third and fourth token, each for the true first character, for that of another name and for a stray one. The first is low everywhere, the other two are high, most of all at the second token."}} tags=["hide-input"]
PUT_IN = {"true": "kept", "other": "of another name", "stray": "stray"}
corrupted = {
    (which, what): of("seq2seq", f"first_{which}_{what}")
    for which in PUT_IN
    for what in ("wrong1", "wrong2", "wrong3", "later", "named", "inside")
}
fig, ax = plotting.panels()
bars(
    ax,
    {
        label: 100
        * np.array([corrupted[which, f"wrong{k}"] for k in (1, 2, 3)])
        for which, label in PUT_IN.items()
    },
)
ax.set_xticks(range(3), ("second token", "third", "fourth"))
ax.set(ylabel="wrong (%)", ylim=(0, 130), yticks=range(0, 101, 20))
ax.legend(title="the first character", loc="upper left", ncols=3)
plt.show()

# %% tags=["hide-input"]
effects = {
    which: mean_interval(
        100 * (corrupted[which, "later"] - corrupted["true", "later"])
    )
    for which in ("other", "stray")
}
both_wrong = {
    s: first_wrong["mlm"][s] & first_wrong["seq2seq"][s] for s in SEEDS
}
names_then = {head: among(head, "named", both_wrong) for head in HEADS}
still_names = mean_interval(100 * (names_then["seq2seq"] - names_then["mlm"]))
own_starts = {
    (head, wrong): among(
        head, "named", {s: first_wrong[head][s] == wrong for s in SEEDS}
    )
    for head in HEADS
    for wrong in (False, True)
}
caused = min(sign(three) for three in effects.values())
verdict(
    "reading.claim3",
    holds=None if caused == 0 else caused == 1,
    measured={
        **{
            f"seq2seq, later tokens wrong, first one {PUT_IN[which]} − kept (points)": interval(
                three
            )
            for which, three in effects.items()
        },
        **{
            f"seq2seq, first one {label}: later tokens wrong; a name of the passage; stands in it (%)": "; ".join(
                percent(corrupted[which, what])
                for what in ("later", "named", "inside")
            )
            for which, label in PUT_IN.items()
        },
        "seq2seq, questions of each seed": ", ".join(
            f"{n:.0f}" for n in of("seq2seq", "corrupted")
        ),
        "seq2seq, of its own wrong beginnings, those of no name (%)": percent(
            of("seq2seq", "own_wrong_stray")
        ),
        "both begin wrong, answers that are names, seq2seq − MLM (points)": interval(
            still_names
        ),
        **{
            f"both begin wrong, answers that are names, {HEADS[head]} (%)": percent(
                value
            )
            for head, value in names_then.items()
        },
        **{
            f"begun {'wrong' if wrong else 'right'} by itself, answers that are names, {HEADS[head]} (%)": percent(
                value
            )
            for (head, wrong), value in own_starts.items()
        },
    },
)

# %% tags=["hide-input"]
assert min(low for _, low, _ in effects.values()) > 30
assert corrupted["other", "named"].min() > 0.6
assert corrupted["stray", "inside"].max() < 0.2
assert of("seq2seq", "own_wrong_stray").max() < 0.5
assert (names_then["seq2seq"] > 1.5 * names_then["mlm"]).all()
display(
    Markdown(
        f"Of tokens, the article is right: what follows a corrupted one goes wrong with it. After another name's first character that is mostly the rest of that name, {percent(corrupted['other', 'named'])} % of the answers are names of the passage, after the true one {percent(corrupted['true', 'named'])} %. After a stray one {percent(corrupted['stray', 'inside'])} % of the answers stand in the passage. (Others can be consistent, too: a name from elsewhere that begins so. They are not counted.) "
        f"An answer that begins wrong is lost for exact match, whatever follows. The seq2seq head makes at least a name of it more often: where both heads begin wrong, in {percent(names_then['seq2seq'])} % of the answers, the MLM head in {percent(names_then['mlm'])} %. Most of its own wrong beginnings are those of some name of the passage, not stray ones; how it goes on after its own stray ones was not measured."
    )
)

# %% [markdown]
# ## Longer answers cost the MLM head more in nats; in points it is open
#
# “The shorter the text, the better independence fits.” Exact match of free answers by the length of the true one. The claim is kept if the seq2seq head's lead in points grows with the length, by least squares over the questions; the nats beside it were looked at afterwards. By {eq}`reading-gap` the price of doubt between $k$ equally good names without a common character is $(n-1)\log k$. (Longer answers are also of other kinds, organisations and foreign names, which this does not separate.)

# %% mystnb={"figure": {"caption": "Exact match of free answers by the length of the true answer (three seeds, 95 % intervals); the last length stands for five characters and more.", "name": "reading-length"}, "image": {"alt": "Two falling curves over answer lengths of two, three, four and five or more characters; the MLM head's is the lower one."}} tags=["hide-input"]
LENGTHS = (2, 3, 4, 5)
capped = lengths.clip(max=5)
by_length = {
    head: 100 * np.array([among(head, "free", capped == n) for n in LENGTHS])
    for head in HEADS
}
fig, ax = plotting.panels()
for (head, values), style, marker in zip(by_length.items(), ("-", "--"), "os"):
    plotting.band(
        ax, LENGTHS, values, HEADS[head], linestyle=style, marker=marker
    )
ax.set(xlabel="characters of the answer", ylabel="exact match (%)")
ax.set_ylim(bottom=0)
ax.set_xticks(LENGTHS, ("2", "3", "4", "5+"))
ax.legend()
plt.show()

# %% tags=["hide-input"]


def growth_per_character(name, factor):
    """Slope of MLM − seq2seq over the length, by least squares, of each seed."""
    return mean_interval(
        [
            np.polyfit(
                capped,
                factor
                * (answers["mlm", s][name] - answers["seq2seq", s][name]),
                1,
            )[0]
            for s in SEEDS
        ]
    )


slope = growth_per_character("free", -100)
nats_slope = growth_per_character("nats", 1)
assert nats_slope[1] > 0
dearer = {
    n: mean_interval(
        among("mlm", "nats", capped == n)
        - among("seq2seq", "nats", capped == n)
    )
    for n in LENGTHS
}
verdict(
    "reading.claim6",
    holds=None if sign(slope) == 0 else sign(slope) == 1,
    measured={
        "seq2seq's lead, growth per character (points)": interval(slope),
        "MLM − seq2seq, growth per character (nats)": interval(nats_slope),
        **{
            f"{n}{'+' if n == 5 else ''} characters, {(capped == n).sum()} questions: seq2seq − MLM (points)": interval(
                mean_interval(by_length["seq2seq"][i] - by_length["mlm"][i])
            )
            for i, n in enumerate(LENGTHS)
        },
        **{
            f"{n}{'+' if n == 5 else ''} characters, −log p of the true answer, MLM − seq2seq (nats)": interval(
                dearer[n]
            )
            for n in LENGTHS
        },
    },
)

# %% [markdown]
# ## With several valid answers, the MLM head mixes them up
#
# Now an experiment in which we know the distribution. One, two or four persons are each in a place: 黄河清在北京。李大明在上海。 (*Huang Heqing is in Beijing. Li Daming is in Shanghai.*) The question names a place, ＿在北京。, and either one of the persons is there, or all of them are, and each is a valid answer, equally often in training. The names are new each time, three characters
# that no two of the persons share. Both heads of seed 1 were trained on, for a few hundred steps, with one setting for both that was not tuned, at the learning rate that was best for the MLM head above and half of the other's; the three seeds are those of this training.
#
# With $k$ valid answers the best that the MLM head can learn is, at each of the three places, the $k$ characters with probability $1/k$. All valid answers together then have probability $k\cdot k^{-3}$, and whoever draws place by place mixes with probability $1-k^{-2}$; the price is $2\log k$ nats. (The reader does not draw but takes the likeliest character. Where all are equally likely, small deviations decide, so it need not meet that share. And training is short: neither head reaches its optimum, as the probabilities in the verdict tell.) The claim is kept if the MLM head mixes over 10 points more than the seq2seq head where all of two and
# four persons are valid, and over 10 points more than where only one of as many is, and is right in over 90 % where there is one person, with each seed; restricted if only the first is so.

# %% tags=["hide-input"]
named = recorded("reading_names")
PERSONS = (1, 2, 4)


def of_names(head, valid, persons, name):
    return np.array(
        [
            named[f"{head}-{valid}of{persons}-seed{s}"].summary[f"test_{name}"]
            for s in SEEDS
        ]
    )


lines = [
    "| persons, valid answers | "
    + " | ".join(
        f"{label}: right | mixed up | else" for label in HEADS.values()
    )
    + " |",
    "|---" * 7 + "|",
]
mixed = {}
for right_ones, persons in ((1, 1), (1, 2), (1, 4), (2, 2), (4, 4)):
    cells = []
    for head in HEADS:
        for what in ("right", "mixed", "else"):
            value = of_names(head, right_ones, persons, what)
            cells.append(percent(value))
            if what == "mixed":
                mixed[head, right_ones, persons] = 100 * value
    lines.append(f"| {persons}, {right_ones} | " + " | ".join(cells) + " |")
display(Markdown("\n".join(lines)))

# %% mystnb={"figure": {"caption": "Answers that mix up names, by the number of persons, where all of them are valid answers and where only one is (three seeds, 95 % intervals), and what drawing each character among the valid ones would give.", "name": "reading-valid"}, "image": {"alt": "Mixed-up answers in percent for one, two and four persons: two curves for each head, all valid and one valid, and a dotted line for independent choice."}} tags=["hide-input"]
fig, ax = plotting.panels()
for head, color in zip(HEADS, (plotting.BLUE, plotting.ORANGE)):
    for kind, style, marker in (("all", "-", "o"), ("one", "--", "s")):
        plotting.band(
            ax,
            PERSONS,
            [mixed[head, k if kind == "all" else 1, k] for k in PERSONS],
            f"{HEADS[head].split(',')[0]}, {kind} valid",
            color=color,
            linestyle=style,
            marker=marker,
        )
ax.plot(
    PERSONS,
    [100 * (1 - k**-2) for k in PERSONS],
    ":",
    color=plotting.INK,
    label="independent choice",
)
ax.set(xlabel="persons", ylabel="mixed up (%)", ylim=(-3, 100))
ax.set_xticks(PERSONS)
ax.legend(fontsize="small", loc="center right")
plt.show()

# %% tags=["hide-input"]
right_of_four = {head: of_names(head, 1, 4, "right") for head in HEADS}
assert right_of_four["mlm"].min() > 0.9 > right_of_four["seq2seq"].max()
display(
    Markdown(
        f"The MLM head is no worse a reader for it, here at least, where the seq2seq head has not finished learning, as its seeds show: with four persons in four places it names the right one in {percent(right_of_four['mlm'])} % of the questions, the seq2seq head, after as many steps, in {percent(right_of_four['seq2seq'])} %. Answers that are neither right nor mixed up, such as another person's name, are *else*."
    )
)

# %% tags=["hide-input"]
more = [
    mean_interval(mixed["mlm", k, k] - mixed["seq2seq", k, k]) for k in (2, 4)
]
by_validity = [
    mean_interval(mixed["mlm", k, k] - mixed["mlm", 1, k]) for k in (2, 4)
]
works = of_names("mlm", 1, 1, "right")
breaks = all(low > 10 for _, low, _ in more)
verdict(
    "reading.claim4",
    holds=None
    if any(low <= 10 <= high for _, low, high in more)
    else breaks
    and all(low > 10 for _, low, _ in by_validity)
    and bool(works.min() > 0.9),
    restricted=breaks,
    measured={
        "one person, MLM right (%)": percent(works),
        **{
            f"{k} valid, mixed up, MLM − seq2seq (points)": interval(more[i])
            for i, k in enumerate((2, 4))
        },
        **{
            f"{k} persons, MLM, mixed up, all valid − one valid (points)": interval(
                by_validity[i]
            )
            for i, k in enumerate((2, 4))
        },
        **{
            f"{k} valid, probability of all valid answers, MLM; seq2seq; k⁻²": f"{of_names('mlm', k, k, 'mass').mean():.3f}; {of_names('seq2seq', k, k, 'mass').mean():.3f}; {k**-2:.3f}"
            for k in (2, 4)
        },
    },
)

# %% [markdown]
# ## A unique answer does not make a unique belief
#
# The cloze questions have one answer each. Does the MLM head then not mix? What counts for it is not how many answers are valid but how many it *believes in*. How undecided a head is we read off its first token, of which both have a distribution before anything is written: its entropy in bits.
#
# The claim is kept if the MLM head mixes more where that entropy is above one bit than where it is below, among passages with similar numbers of names (two; three or four; five and more; the three differences weighted by their numbers of questions: where there are more names, there is more to mix *and* more doubt), and if it mixes more than the seq2seq head overall.

# %% mystnb={"figure": {"caption": "Free answers of the cloze questions that mix up names of the passage, by the entropy of the head's own first token (three seeds, 95 % intervals).", "name": "reading-belief"}, "image": {"alt": "Two curves over four classes of entropy in bits, from nearly certain to more than two bits."}} tags=["hide-input"]
CLASSES = ("< 0.1", "0.1–1", "1–2", "> 2")
sorted_in = {
    head: {
        s: np.digitize(answers[head, s]["entropy"], (0.1, 1, 2)) for s in SEEDS
    }
    for head in HEADS
}


def by_class(head, name):
    """One row for each class of entropy, in percent."""
    return 100 * np.array(
        [
            among(head, name, {s: sorted_in[head][s] == i for s in SEEDS})
            for i in range(4)
        ]
    )


fig, ax = plotting.panels()
for head, style, marker in zip(HEADS, ("-", "--"), "os"):
    plotting.band(
        ax,
        range(4),
        by_class(head, "mixed"),
        HEADS[head],
        linestyle=style,
        marker=marker,
    )
ax.set(xlabel="entropy of the first token (bits)", ylabel="mixed up (%)")
ax.set_ylim(bottom=0)
ax.set_xticks(range(4), CLASSES)
ax.legend()
plt.show()

# %% tags=["hide-input"]
lines = [
    "| entropy (bits) | "
    + " | ".join(
        f"{label}: questions | right | mixed up | else not in the passage"
        for label in HEADS.values()
    )
    + " |",
    "|---" * 9 + "|",
]
for i, label in enumerate(CLASSES):
    cells = []
    for head in HEADS:
        share = np.mean([(sorted_in[head][s] == i).mean() for s in SEEDS])
        right, mix, out = (
            by_class(head, name)[i].mean()
            for name in ("free", "mixed", "outside")
        )
        cells += [f"{100 * share:.0f} %", f"{right:.0f} %", f"{mix:.0f} %"]
        cells.append(f"{out - mix:.0f} %")
    lines.append(f"| {label} | " + " | ".join(cells) + " |")
display(Markdown("\n".join(lines)))

# %% tags=["hide-input"]
number = np.array([len(q.entities) for q in test])
groups = [number == 2, (number == 3) | (number == 4), number > 4]


def undecided_more(s):
    """Mixed up where undecided − where decided, with as many names (points)."""
    undecided = answers["mlm", s]["entropy"] > 1
    mix = 100 * answers["mlm", s]["mixed"]
    each = [
        mix[g & undecided].mean() - mix[g & ~undecided].mean() for g in groups
    ]
    return np.average(each, weights=[g.sum() for g in groups])


growth = mean_interval([undecided_more(s) for s in SEEDS])
against = mean_interval(100 * (of("mlm", "mixed") - of("seq2seq", "mixed")))
odds = {
    label: among(
        "mlm", "mixed", {s: inside(answers["mlm", s]["margin"]) for s in SEEDS}
    )
    for label, inside in (
        ("below 2 : 1", lambda m: m < math.log(2)),
        ("above 20 : 1", lambda m: m > math.log(20)),
    )
}
verdict(
    "reading.claim7",
    holds=None
    if 0 in (sign(growth), sign(against))
    else sign(growth) == sign(against) == 1,
    measured={
        "MLM, mixed up, undecided − decided, with similar numbers of names (points)": interval(
            growth
        ),
        "mixed up, MLM − seq2seq (points)": interval(against),
        **{
            f"MLM, mixed up where the two likeliest names stand {label} (%)": percent(
                value
            )
            for label, value in odds.items()
        },
        **{
            f"{label}: mixed up; not in the passage (%)": f"{percent(of(head, 'mixed'))}; {percent(of(head, 'outside'))}"
            for head, label in HEADS.items()
        },
    },
)

# %% [markdown]
# So the MLM head pays for doubt. That is not all: even where the likeliest name is far ahead of the next as a whole, it mixes some up, since each place has its own doubt, of all the names' characters that fit there. Where names are compared as wholes, each of their characters speaks for them, and independence costs the MLM head little; where it must spell an answer freely, it pays for its doubts with strings that are no answer. Restricting answers to the passage repairs part of it: the character chosen first limits the others, which then depend on it, as in the seq2seq head.
#
# Look at it yourself: the slider goes through eight test questions, printed below. When the head is undecided, the masks can lean to different names.


# %% tags=["hide-input"]
pretrained = recorded("reading_pretraining")["seed1"]
mlm, seq2seq = (
    finals[f"{head}-seed1"].model().reader.requires_grad_(False)
    for head in ("mlm", "seq2seq")
)
pool = [q for q in test if len(q.passage) < 110 and len(q.entities) >= 4]
chosen = pool[:: len(pool) // 8][:8]
places = mlm.predict(
    mlm.inputs(
        [letters.encode(q.passage)[0] for q in chosen],
        [letters.encode(q.question)[0] for q in chosen],
    )
).exp()


# %% tags=["hide-input"]
def heat_map(p, top=12):
    """The tokens that are likeliest at one of the first six masks, in the order of their masks."""
    p = p[:6]
    best = p.max(0).values.topk(top).indices
    rows = sorted(
        best.tolist(),
        key=lambda i: (int(p[:, i].argmax()), -float(p[:, i].max())),
    )
    names = ["(end)" if i == letters.end else letters.symbols[i] for i in rows]
    trace = {
        "type": "heatmap",
        "x": [str(k) for k in range(1, 7)],
        "y": list(range(top)),
        "z": p[:, rows].T.tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": "Blues",
        "showscale": False,
        "text": [
            [f"{v:.2f}" if v > 0.005 else "" for v in row]
            for row in p[:, rows].T.tolist()
        ],
        "texttemplate": "%{text}",
        "hovertemplate": "mask %{x}: %{z:.3f}<extra></extra>",
    }
    return trace, names


maps = [heat_map(p) for p in places]
interactive.views_figure(
    [trace for trace, _ in maps],
    {
        f"{i}: {chosen[i - 1].answer}": (
            [k == i - 1 for k in range(len(maps))],
            {"yaxis.ticktext": names},
        )
        for i, (_, names) in enumerate(maps, start=1)
    },
    prefix="question ",
    caption="What the MLM head (seed 1) expects in its first six masks: the twelve likeliest characters, the end mark included. The slider goes through eight test questions; it shows their true answers.",
    alt="A heat map: columns are the first six masks, rows characters, cells probabilities. A slider chooses the question.",
    yaxis={
        "autorange": "reversed",
        "tickvals": list(range(12)),
        "ticktext": maps[0][1],
    },
    xaxis={"side": "top", "title": "mask"},
)

# %% [markdown]
# The passages, questions, true answers (in italics), and what the heads say:

# %% tags=["hide-input", "nbval-ignore-output"]
passages, questions = [q.passage for q in chosen], [q.question for q in chosen]
said = {
    "MLM": mlm.answer(passages, questions, False),
    "MLM, within the passage": mlm.answer(passages, questions),
    "seq2seq": seq2seq.answer(passages, questions, False),
}
lines = []
for i, q in enumerate(chosen):
    each_said = "; ".join(
        f"{name}: {found[i].text or '(nothing)'}"
        for name, found in said.items()
    )
    lines.append(
        f"{i + 1}. {q.passage} **{q.question}** *{q.answer}*. {each_said}."
    )
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A second look helps: Mask-Predict in between
#
# *Mask-Predict* {cite:p}`ghazvininejad2019` lies between one pass for everything and one pass per token: fill in all masks, keep the length, mask the least certain tokens again, fill these in with the others in sight, and so on, fewer each time. It needs a head that has seen answers with holes in training: in half of the questions the end and some tokens are shown. Such a head was trained with the seed (1), settings and steps of the MLM head shown beside it; with one seed, small differences mean nothing.

# %% tags=["hide-input"]
same = {head: finals[f"{head}-seed1"].summary for head in HEADS}
ROWS = {
    "MLM": (same["mlm"], "free", ""),
    "Mask-Predict, 1 pass": (refined, "free", ""),
    **{
        f"Mask-Predict, {n} passes": (refined, f"passes{n}", f"passes{n}_")
        for n in (2, 3, 4)
    },
    "seq2seq": (same["seq2seq"], "free", ""),
}
lines = [
    "| one seed, free answers | exact (%) | F1 (%) | mixed up (%) | not in the passage (%) |",
    "|---" * 5 + "|",
]
for name, (summary, key, before) in ROWS.items():
    keys = (key, f"{key}_f1", f"{before}mixed", f"{before}outside")
    values = [summary[f"test_{k}"] for k in keys]
    lines.append(
        f"| {name} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |"
    )
display(Markdown("\n".join(lines)))
assert refined["test_free"] < refined["test_passes2"]
assert refined["test_passes4_mixed"] < refined["test_mixed"]
assert refined["test_passes4_outside"] < refined["test_outside"]
assert refined["test_passes4"] < same["seq2seq"]["test_free"]
assert refined["test_passes4_f1"] < refined["test_passes2_f1"]

# %% [markdown]
# The second pass repairs mixtures: more answers are exactly right, and fewer are no part of the passage. It does not make a better reader: $F_1$, which forgives mixtures, does not grow with the passes, and the seq2seq head stays ahead.

# %% [markdown]
# ## Sequence labelling works because its answer is unique
#
# Word segmentation is done with a softmax for each character, independently, and works well. According to the article this is so not because input and output are aligned, but because the answer is unique. **First** the task itself: the same encoder, a tag for each character of the same newspaper (begins a word, middle, end, single), by independent softmaxes and by a
# CRF {cite:p}`lafferty2001`, with the same settings (not tuned), three seeds, a short training. In between: the same softmaxes, but the likeliest tags of those whose neighbours are all possible (no middle after a single, and so on; how a piece begins and ends is left free), found by the Viterbi algorithm. Published figures for a benchmark from the same newspaper, with another test part and systems made for it: $F_1$ 95.1 % {cite:p}`zhang2006`, and 96.6 % with a BERT {cite:p}`huang2019segmentation`; on features of a BERT a softmax does as well as a CRF {cite:p}`yang2019bert`.

# %% tags=["hide-input"]
segmented = recorded("reading_segmentation")


def of_words(kind, name):
    return np.array(
        [segmented[f"{kind}-seed{s}"].summary[f"test_{name}"] for s in SEEDS]
    )


lines = [
    "| | F1 (%) | precision (%) | recall (%) | recall of words not seen in training (%) | impossible neighbours per 1,000 characters |",
    "|---" * 6 + "|",
]
for kind, which, label in (
    ("softmax", "", "independent softmaxes"),
    ("softmax", "possible_", "the same, possible tags only"),
    ("crf", "", "CRF"),
):
    cells = [percent(of_words(kind, f"{which}f1"), 2)]
    for what in ("precision", "recall", "recall_new"):
        cells.append(percent(of_words(kind, which + what)))
    per_thousand = of_words(kind, f"{which}impossible_per_1000").mean()
    lines.append(
        f"| {label} | " + " | ".join(cells) + f" | {per_thousand:.2f} |"
    )
display(Markdown("\n".join(lines)))
crf_gain = mean_interval(
    100 * (of_words("crf", "f1") - of_words("softmax", "f1"))
)
possible_gain = mean_interval(
    100 * (of_words("softmax", "possible_f1") - of_words("softmax", "f1"))
)
beyond_possible = mean_interval(
    100 * (of_words("crf", "f1") - of_words("softmax", "possible_f1"))
)

# %% tags=["hide-input"]
assert possible_gain[1] > 0
display(
    Markdown(
        f"The independent softmaxes put tags side by side that no segmentation has: that is how they mix two segmentations up, as the MLM head mixes names. In $F_1$ it costs little. Possible neighbours only, without any training, change it by {interval(possible_gain, 2)} points; a trained CRF changes it by {interval(crf_gain, 2)}."
    )
)

# %% [markdown]
# Two more experiments separate the two reasons. **Second**, an answer that is unique and not aligned: six digits are to be written in reverse order into six masks behind them, each by its own softmax. **Third**, one that is aligned and not unique: each of six letters is to be tagged with its class (whether its number is odd or even) in one of two styles, and a coin decides the style for the whole sequence, so that there are $2\times2$ tags and two valid answers.


# %% tags=["hide-input"]
def train_tiny(model, loss, steps, rate=2e-3):
    optimizer = torch.optim.Adam(model.parameters(), rate)
    factor = warm_up_then_down(30, steps)
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = rate * factor(i)
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()


def digits(n):
    """Six digits and six masks, and the digits in reverse order."""
    x = torch.randint(6, 16, (n, 6), generator=rng)
    marks = [torch.full((n, k), i) for i, k in ((2, 1), (3, 1), (4, 6))]
    return torch.cat((marks[0], x, *marks[1:]), 1), x.flip(1)


torch.manual_seed(1)
reverse = MaskedLM(16, 64, 4, 2)


def reverse_loss():
    ids, y = digits(64)
    logits = reverse(ids, keep=slice(8, None))
    return nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())


train_tiny(reverse, reverse_loss, 600)
ids, y = digits(1000)
with torch.no_grad():
    reversed_right = float(
        (reverse(ids, keep=slice(8, None)).argmax(-1) == y)
        .all(1)
        .float()
        .mean()
    )


# %% tags=["hide-input"]
def letters_with_tags(n):
    """Letters, and tags: class + 2·style, the style from a coin for each sequence."""
    x = torch.randint(6, 16, (n, 6), generator=rng)
    coin = torch.randint(2, (n, 1), generator=rng)
    return x, x % 2 + 2 * coin


class Tagger(nn.Module):
    def __init__(self, crf):
        super().__init__()
        self.encoder, self.out = MaskedLM(16, 32, 2, 1), nn.Linear(32, 4)
        self.crf = LinearChainCRF(4) if crf else None

    def emissions(self, x):
        return self.out(self.encoder.states(x)[0])

    def log_prob(self, x, y):
        scores = self.emissions(x)
        if self.crf is None:
            each = scores.log_softmax(-1).gather(-1, y[..., None])
            return each.sum((1, 2))
        return self.crf(scores, y, x > 0)


valid_share, best_loss = {}, {}
for name, crf in (("softmax", False), ("CRF", True)):
    torch.manual_seed(2)
    tagger = Tagger(crf)
    train_tiny(
        tagger,
        lambda: -tagger.log_prob(*letters_with_tags(64)).mean(),
        800,
        5e-2,
    )
    x, y = letters_with_tags(1000)
    with torch.no_grad():
        best_loss[name] = -float(tagger.log_prob(x, y).mean())
        valid_share[name] = sum(
            float(tagger.log_prob(x, x % 2 + 2 * style).exp().mean())
            for style in (0, 1)
        )

# %% tags=["hide-input", "nbval-ignore-output"]
display(
    Markdown(
        f"Reversed digits, independent softmaxes: {100 * reversed_right:.1f} % of the sequences are right in all six places, though no output stands where its input does. Tags in one of two styles: of the probability that the independent softmaxes give, {100 * valid_share['softmax']:.1f} % goes to the two valid answers, "
        f"with the CRF {100 * valid_share['CRF']:.1f} %. Their cross-entropies are {best_loss['softmax']:.2f} and {best_loss['CRF']:.2f} nats a sequence; a coin for each letter costs $6\\log2={6 * math.log(2):.2f}$, one for the sequence $\\log2={math.log(2):.2f}$, and the difference is the total correlation."
    )
)

# %% [markdown]
# So it is uniqueness that counts. The third experiment also shows a difference between the two taggers, both of which the article calls non-autoregressive: the softmaxes are of the form {eq}`reading-eq2`, a CRF is not. A CRF's tags depend on each other, which is what its transitions are for: with $t_{00}=t_{11}=0$ and $t_{01}=t_{10}=-\infty$ (−50 in the code) it is $\tfrac12\{00\}+\tfrac12\{11\}$, which no independent model is.

# %%
crf = LinearChainCRF(2).double()
with torch.no_grad():
    crf.transition.copy_(torch.tensor([[0.0, -50.0], [-50.0, 0.0]]))
both = torch.tensor(list(product((0, 1), repeat=2)))
flat = torch.zeros(4, 2, 2, dtype=torch.float64)
joint = (
    crf(flat, both, torch.ones(4, 2, dtype=torch.bool))
    .detach()
    .exp()
    .view(2, 2)
)
bits = float(total_correlation(joint)) / math.log(2)
print(
    "p(00), p(01), p(10), p(11):",
    [round(v, 12) for v in joint.flatten().tolist()],
)
print("total correlation:", round(bits, 12), "bit")

# %% [markdown]
# The claim is kept if the independent softmaxes reach an $F_1$ over 90 % and a CRF changes it by less than a point (means), if over 99 % of the reversed digits are right, and if less than half of the softmaxes' probability goes to the two valid taggings. (That either may be called non-autoregressive is a matter of words: neither conditions a tag on those chosen before it, step by step.)

# %% tags=["hide-input"]
verdict(
    "reading.claim5",
    holds=bool(
        of_words("softmax", "f1").mean() > 0.9
        and abs(crf_gain[0]) < 1
        and reversed_right > 0.99
        and valid_share["softmax"] < 0.5
    ),
    measured={
        "words, independent softmaxes, F1 (%)": percent(
            of_words("softmax", "f1"), 2
        ),
        "words, CRF − softmaxes, F1 (points)": interval(crf_gain, 2),
        "words, possible tags only − softmaxes, F1 (points)": interval(
            possible_gain, 2
        ),
        "words, CRF − possible tags only, F1 (points)": interval(
            beyond_possible, 2
        ),
        "reversed digits, all six right (%)": 100 * reversed_right,
        "two styles, probability of valid answers, softmaxes (%)": 100
        * valid_share["softmax"],
    },
)
verdict(
    "reading.crf",
    holds=bool(abs(bits - 1) < 1e-9 and valid_share["CRF"] > 0.95),
    measured={
        "CRF of two tags, total correlation (bits)": bits,
        "two styles, probability of valid answers, CRF (%)": 100
        * valid_share["CRF"],
    },
)

# %% [markdown]
# ## On a GPU
#
# At full scale the encoder is a real Chinese BERT, by its name or folder, and the questions are those of CMRC 2018 {cite:p}`cui2019`, which people asked. Long passages are cut into windows. The encoder of this chapter was pretrained on a GPU, with the script's settings for a laptop; nobody has run the cell below yet.

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run -m kexue.experiments.reading_comprehension --scale gpu --bert bert-base-chinese --head mlm
# %run -m kexue.experiments.reading_comprehension --scale gpu --bert bert-base-chinese --head seq2seq

# %% [markdown]
# ## Where the article is imprecise, and what is done now
#
# - *“As good as seq2seq”* is a statement on one data set with a strong encoder. With our small one, which is often in doubt, neither head beats the passage's most frequent name, and the MLM head mixes names up, though each question has one answer. Whether a strong encoder is sure enough for the two to be level, we have not measured.
# - *“6 times as fast”* compares with a decoder without a cache, as the article's was.
# - *Errors may accumulate*: in the seq2seq head a corrupted token corrupts those after it, which it cannot do in the MLM head. But by themselves both heads go on wrong after a wrong token, from one and the same doubt, and then the seq2seq head's answer is more often a name, if the wrong one.
# - *A CRF*, which the article calls non-autoregressive, is not of the form (2): its decoding is exact, its tags depend on each other.
# - *Deciding the length.* The end mark is one more independent token; the article does not say what follows from that. A name that goes on with the end of a longer one counts as mixed up, too; one that is cut does not, since it stands in the passage.
#
# What came of it: translation without autoregression {cite:p}`gu2018` has the same trouble, the *multimodality problem*, since a sentence has many translations, and relies on distillation, which brings the answer closer to unique, and on refinement as in Mask-Predict. For extractive questions today's readers point at the first and the last token of a span, which are two choices instead of $n$ {cite:p}`devlin2019`; independence of these two has a price as well.
# Masked *diffusion* models {cite:p}`austin2021` fill in a few masks at a time, and pay the total correlation of those that they fill in together, given what is already there {cite:p}`liu2025copula`.
#
# ## Exercises
#
# **1.** Two equally good answers share all but their last character. What is the price of independence, and how often does the reader mix them up?

# %% tags=["hide-cell"]
# Nothing, and never: only one place is undecided. The price is paid by pairs of undecided places.
shared = torch.zeros(2, 2, 2, dtype=torch.float64)
shared[1, 0, 0] = shared[1, 0, 1] = 0.5
print(round(abs(float(total_correlation(shared))), 9))

# %% [markdown]
# **2.** $k$ equally likely answers of $n$ tokens that differ in every place: show that the price is $(n-1)\log k$, and that choosing place by place is valid with probability $k^{1-n}$.

# %% tags=["hide-cell"]
# Each marginal has entropy log k, and so has the whole: n·log k − log k. The first token is always one of a valid
# answer, and each of the others agrees with it with probability 1/k.
for n, k in ((2, 3), (3, 2), (4, 3)):
    p = torch.zeros([k] * n, dtype=torch.float64)
    for i in range(k):
        p[(i,) * n] = 1 / k
    q = product_of_marginals(p)
    print(
        n,
        k,
        round(float(total_correlation(p)) / math.log(k), 9),
        round(float(q[p > 0].sum() * k ** (n - 1)), 9),
    )

# %% [markdown]
# **3.** The greedy restriction takes the likeliest first token. Find a table of probabilities for which another span has a larger product.

# %% tags=["hide-cell"]
# The passage is 甲乙丙丁: 甲 is the likeliest beginning, but what must follow it is unlikely.
p = [{"甲": 0.5, "丙": 0.4}, {"乙": 0.05, "丁": 0.9}, {}]
table = [{**dict.fromkeys("甲乙丙丁", 1e-3), "。": 1e-3, **row} for row in p]
greedy, _ = literal_decode(table, list("甲乙丙丁"), "。")
products = {s: table[0][s[0]] * table[1][s[1]] for s in ("甲乙", "丙丁")}
print(
    "greedy:",
    "".join(greedy),
    " products:",
    {s: round(v, 3) for s, v in products.items()},
)
assert greedy[:2] == ["甲", "乙"]
assert products["丙丁"] > products["甲乙"]

# %% [markdown]
# **4.** Mask-Predict keeps $m$ tokens of a mixture of $k$ equally likely names that share no character. How often do they agree? Why does it help to keep few at first?

# %% tags=["hide-cell"]
# k^(1−m): a single token always agrees with itself, and the others can follow it; two of them agree half of the time
# with two names, a quarter with four.
for k in (2, 4):
    print(k, "names:", [round(k ** (1.0 - m), 4) for m in (1, 2, 3)])

# %% [markdown]
# ## The card

# %% tags=["nbval-ignore-output", "hide-input"]
tuning = recorded("reading_tuning")
runs = [*finals.values(), *named.values(), *segmented.values()]
card(
    "reading",
    {
        "Sizes": f"recorded: encoder {pretrained.summary['steps']:,} steps of {pretrained.config['batch_size']} windows; {len(finals)} readers of {finals['mlm-seed1'].summary['steps']:,} steps of 32 questions; {len(named)} on names, {len(segmented)} on words, {len(tuning) + 1} for tuning and refinement",
        "Seeds": "recorded: 1 to 3, refinement 1, tuning 0; live: the generator that the first cell seeds",
        "Recorded on": f"encoder and first tuning: {pretrained.environment['device']}, {pretrained.environment['seconds'] / 60:.0f} min for the encoder (beside three others); the rest: {runs[0].environment['processor']}, one thread each, {max(run.environment['seconds'] for run in runs) / 60:.0f} min for the longest",
    },
)
