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
# *“非自回归”也不差:基于MLM的阅读理解问答*

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

from kexue import data, plotting, reading
from kexue.ledger import verdict
from kexue.notebook import card, setup, source
from kexue.plotting import mean_interval
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
from kexue.training import recorded

rng = setup("reading")

# %% [markdown]
# ## Must an answer be written one word after the other?
#
# A machine that reads a passage and a question can *write* its answer, token by token, each one after those before it. That is what a sequence-to-sequence model does, and it works. But it runs the network once for every token, and in training it sees only
# true beginnings, never its own. The article asks what happens if one does the simplest thing instead: put a few [MASK] tokens beside the question and the passage, and let a masked language model {cite:p}`devlin2019` fill in all of them at once. The tokens then know nothing of each other. Is that
# so bad, if a question has one answer and the answer is short?
#
# Our questions come from a newspaper, the *People's Daily* of January 1998, whose words are tagged, so that names are known: a sentence loses a name, and the text before it must give it back, in the way of Cui et al. {cite:p}`cui2016`.

# %% tags=["hide-input"]
train, valid, test = map(ClozeDataset, data.people_daily_parts())
example = next(
    q
    for q in test
    if len(q.answer) == 3 and 40 < len(q.passage) < 110 and q.kind == "nr"
)
display(
    Markdown(
        f"> **Passage** {example.passage}\n>\n> **Question** {example.question}\n>\n> **Answer** {example.answer}\n\n"
        f"There are {len(train):,} such questions for training, {len(valid):,} for choosing settings and {len(test):,} for the final numbers, from three stretches of the month with a gap between them; "
        f"who always says the name that the passage has most often is right in {100 * np.mean([most_frequent_entity(q) == q.answer for q in test]):.1f} % of the last."
    )
)

# %% [markdown]
# Two readers start from the same encoder, a small masked language model of characters that was pretrained on the same newspaper, in the open (`experiments/reading_pretraining.py`). The **MLM head** fills in all masks at once; the **seq2seq head** writes token by token. They are trained on the same
# questions in the same order, for as many steps, with settings from the same grid, three seeds each (`experiments/reading_comprehension.py`). What this chapter reads of them was recorded before. An answer can be *free*, or *within the passage*, as the article has it, or it can be the best of the passage's *names*.

# %% tags=["hide-input"]
SEEDS = (1, 2, 3)
finals = recorded("reading")
HEADS = {"mlm": "MLM, all at once", "seq2seq": "seq2seq, one by one"}
MODES = {
    "free": "free",
    "span": "within the passage",
    "entity": "of the passage's names",
}


def of(head, name):
    """One number of the summaries of three seeds, in percent where it is a share."""
    return np.array(
        [finals[f"{head}-seed{seed}"].summary[f"test_{name}"] for seed in SEEDS]
    )


def percent(values, digits=1):
    """Mean and 95 % interval's half width, in percent."""
    mean, low, _ = (100 * v for v in mean_interval(values))
    return f"{mean:.{digits}f} ± {mean - low:.{digits}f}"


def interval(three, digits=1):
    """A mean with its interval, as text."""
    mean, low, high = three
    return (
        f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})".replace(
            "-", "−"
        )
    )


def sign(three):
    """1 or −1 where a 95 % interval lies on one side of 0, else 0."""
    return int(three[1] > 0) - int(three[2] < 0)


baseline = np.mean([most_frequent_entity(q) == q.answer for q in test])
baseline_f1 = np.mean(
    [answer_f1(most_frequent_entity(q), q.answer) for q in test]
)

# %% mystnb={"figure": {"caption": "Exact match on held-out questions, three seeds with 95 % intervals, by what the readers may answer. The dashed line is the name that the passage has most often.", "name": "reading-accuracy"}, "image": {"alt": "Bars in three groups, free, within the passage and of the passage's names, two bars each, with a dashed horizontal line for the baseline."}} tags=["hide-input"]
fig, ax = plotting.panels()
for i, (head, label) in enumerate(HEADS.items()):
    mean, low, high = mean_interval(
        100 * np.array([of(head, f"{mode}_em") for mode in MODES])
    )
    ax.bar(
        np.arange(3) + 0.4 * i - 0.2,
        mean,
        0.38,
        yerr=(mean - low, high - mean),
        label=label,
        hatch=("", "//")[i],
        edgecolor="white",
        error_kw={"capsize": 3},
    )
ax.axhline(100 * baseline, color=plotting.BLACK, linestyle="--")
ax.set_xticks(range(3), MODES.values())
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
# p(A|Q)=p(a_1|Q)\,p(a_2|Q)\cdots p(a_n|Q).
# $$ (reading-eq2)
#
# Both are probability distributions over answers. To see it, we take a tiny encoder with random weights, four characters to write with and answers of at most two tokens, and list everything. A sequence that has not ended after two tokens must end then; so does it in the code.


# %%
def tiny(kind, longest=2, seed=0, width=16):
    """A reader with random weights, large enough that its distributions are not flat."""
    torch.manual_seed(seed)
    letters = Characters(["甲乙丙丁"])
    encoder = MaskedLM(len(letters), width, 2, 2, vocabulary=letters).double()
    return kind(encoder, longest).eval().requires_grad_(False)


passage, asked = "甲乙丙。", "丁？"
writer, filler = tiny(Seq2SeqReader), tiny(MLMReader)
vocabulary = writer.vocabulary
END, IDS = vocabulary.end, range(len(vocabulary))

prefix = writer.prefix(
    [vocabulary.encode(passage)[0]], [vocabulary.encode(asked)[0]]
)
total = 0.0
first = writer.next_log_probs(prefix, prefix[:, :0])[0, -1].exp()
total += float(first[END])  # the empty answer
for a in IDS:
    if a != END:
        second = writer.next_log_probs(prefix, torch.tensor([[a]]))[0, -1].exp()
        total += float(first[a] * second[END])  # one token
        total += float(first[a] * (1 - second[END]))  # two tokens, then the end
print("all answers together:", round(total, 12))

# %% tags=["hide-input"]
texts = ["甲", "乙丙", "丁丁"]
steps, real = writer.token_log_probs([passage] * 3, [asked] * 3, texts)
by_step = []
for text, row in zip(texts, steps):
    ids = [*vocabulary.encode(text)[0], END]
    for k, a in enumerate(ids):
        log_p = writer.next_log_probs(
            prefix, torch.tensor([ids[:k]], dtype=torch.int64)
        )
        by_step.append(float(log_p[0, -1, a] - row[k]))
verdict(
    "reading.eq1",
    holds=abs(total - 1) < 1e-12 and max(map(abs, by_step)) < 1e-12,
    measured={
        "total": f"{total:.12f}",
        "step by step − at once": max(map(abs, by_step)),
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
# [CLS], $l_{\max}$ masks (here three, one of them for the end), [SEP], question, [SEP], passage, [SEP]. The masks are to become the answer and then [SEP], the end mark. What stands behind it (·) does not count in the loss. Where a character is unknown to the vocabulary, U+FFFD stands for it.

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
# And all at once is the product of the places' softmaxes: the probability of each pair of tokens that we list equals a product of two numbers from one table, and the table's rows sum to 1.

# %%
table = filler.predict(ids)[0].exp()  # 3 places × 10 ids
pairs = ["".join(p) for p in product("甲乙丙丁", repeat=2)]
listed = filler.log_prob([passage] * 16, [asked] * 16, pairs).exp()
by_hand = [
    float(table[0, a] * table[1, b] * table[2, END])
    for a, b in (vocabulary.encode(p)[0] for p in pairs)
]
print(
    "largest difference:",
    float((listed - torch.tensor(by_hand)).abs().max()) < 1e-15,
)

# %% tags=["hide-input"]
mass = float(torch.einsum("a,b,c->", *table))
verdict(
    "reading.eq2",
    holds=np.allclose(listed, by_hand, rtol=1e-12, atol=0)
    and abs(mass - 1) < 1e-12,
    measured={"total over three places": f"{mass:.12f}"},
)

# %% [markdown]
# ## Independence costs the total correlation, and nothing else
#
# How much does {eq}`reading-eq2` give away? Let $p$ be the true distribution of answers to one question. Of all independent $q=q_1\cdots q_n$, the nearest one in the sense of the loss is the product of the marginals $p_k$, and what is left is
#
# $$
# \min_{q_1,\dots,q_n}\mathrm{KL}\Big(p\,\Big\|\,\prod_kq_k\Big)=\sum_kH(a_k)-H(a_1,\dots,a_n),
# $$ (reading-gap)
#
# the *total correlation* of the tokens {cite:p}`watanabe1960`. (The article does not have this; it says that independence is a strong assumption.)
#
# :::{dropdown} Why
# $\mathrm{KL}(p\|\prod q_k)=\sum_Ap(A)\log\frac{p(A)}{\prod_kp_k(a_k)}+\sum_k\sum_{a_k}p_k(a_k)\log\frac{p_k(a_k)}{q_k(a_k)}$, where the first part does not depend on $q$ and the second is a sum of divergences, which is 0 exactly for $q_k=p_k$. The first part is $-H(A)+\sum_kH(a_k)$.
# :::
#
# An optimiser that knows nothing of this finds the same numbers:


# %%
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
# Where the answer is unique, the price is nothing (the minimum is at infinite logits, which an optimiser approaches). Where two answers are equally good and differ in every token, it is one bit however long they are; but what the reader then *says* is wrong half of the time or more, since it draws, or maximises, place by place.
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
# The article restricts answers to the passage in a simple way: go from left to right, and let the next token be the likeliest among those that continue *some* span of the passage which begins with the tokens chosen so far, or the end. A span's score is the mean of the probabilities of its steps. Written down plainly for one question:


# %%
def literal_decode(p, passage, end):
    """The article's decoding; p[k][a] is the probability of token a at place k."""
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
# When several passages are there for one question, as in the article's data, the same answer from several of them is added up as $\sum s_i^2/(1+\sum s_i)$. One certain voice beats several doubtful ones, but not many:

# %%
for scores in ([0.9], [0.5, 0.5], [0.5] * 4, [0.5] * 8):
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
# Two numbers say how good an answer is: whether it *equals* the true one, after spaces, punctuation and the width of letters are taken out, and the $F_1$ of its characters, as multisets. The article reports both, and their mean.

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
# ## Which head is more accurate depends on what may be said
#
# The article reports 0.728 exact and $F_1$ 0.821 for the MLM head on a Chinese set of web questions, level with its seq2seq reader, both on a BERT that was pretrained on billions of characters. Ours have 1.7 million parameters and a month of one newspaper. Here they are on the held-out questions, with the baseline that knows nothing of the question:

# %% tags=["hide-input"]
lines = ["| | " + " | ".join(f"{m}: exact | F1" for m in MODES.values()) + " |"]
lines.append("|---" * 7 + "|")
for head, label in HEADS.items():
    cells = [
        percent(of(head, f"{mode}_{what}"))
        for mode in MODES
        for what in ("em", "f1")
    ]
    lines.append(f"| {label} | " + " | ".join(cells) + " |")
lines.append(
    f"| most frequent name | | | | | {100 * baseline:.1f} | {100 * baseline_f1:.1f} |"
)
display(Markdown("\n".join(lines)))
apart = {
    mode: mean_interval(
        100 * (of("mlm", f"{mode}_em") - of("seq2seq", f"{mode}_em"))
    )
    for mode in MODES
}
above = {
    head: mean_interval(100 * (of(head, "entity_em") - baseline))
    for head in HEADS
}
nats = {head: of(head, "nats") for head in HEADS}

# %% tags=["hide-input"]
verdict(
    "reading.claim1",
    holds=None
    if apart["span"][1] <= -1 <= apart["span"][2]
    else apart["span"][1] > -1,
    measured={
        **{
            f"MLM − seq2seq, exact match, {MODES[mode]} (points)": interval(
                three
            )
            for mode, three in apart.items()
        },
        **{
            f"{HEADS[head]}, names, above the most frequent one (points)": interval(
                three
            )
            for head, three in above.items()
        },
        **{
            f"−log p of the true answer, {HEADS[head]} (nats)": f"{v.mean():.2f} ± {v.mean() - mean_interval(v)[1]:.2f}"
            for head, v in nats.items()
        },
    },
)

# %% tags=["hide-input"]
final = {
    head: (of(head, "span_em") + of(head, "span_f1")) / 2 for head in HEADS
}
final_apart = mean_interval(100 * (final["mlm"] - final["seq2seq"]))
apart_f1 = mean_interval(
    100 * (of("mlm", "span_f1") - of("seq2seq", "span_f1"))
)
assert apart["entity"][1] > 0 > apart["free"][2]
assert of("mlm", "free_mixed").min() > 3 * of("seq2seq", "free_mixed").max()
display(
    Markdown(
        "Is the MLM head the worse reader? Not where it may choose among the passage's names: there it is better "
        f"by {interval(apart['entity'])} points, and clearly above the baseline, while the seq2seq head is above it by only {interval(above['seq2seq'])}. "
        "It falls behind where it must spell. "
        f"Free answers that are none of the names, but put together from their characters, are {percent(of('mlm', 'free_mixed'))} % with the MLM head and {percent(of('seq2seq', 'free_mixed'))} % with the seq2seq head; "
        "the sections below show where they come from. Such a mixture still has many of the right characters, so that $F_1$ forgives what exact match does not: "
        f"within the passage the MLM head's $F_1$ minus the seq2seq head's is {interval(apart_f1)} points, and in the mean of both numbers, in which the article finds its heads level, it is {interval(final_apart)}."
    )
)

# %% [markdown]
# Both heads had equally many steps, fewer than in the tuning, and a mixture of questions beyond the grid, since fewer other words than names had been better for both; two longer runs were stopped before any evaluation, for lack of time. So this is a comparison after a short training, not of what the heads can reach. The MLM head is asked for what its encoder was pretrained to do, to put characters in the place of masks, and the seq2seq head must first learn to continue; that may be why it chooses less well. In nats it is ahead: $-\log p$ of the true answer is smaller, since the characters after the first cost it little.

# %% [markdown]
# ## How much faster depends on the cache
#
# The MLM head runs the network once, the seq2seq head once for each token and once for the end. The article's seq2seq reader computes everything again for each token; today one keeps the keys and values of what was read, so that passage and question go through the network once. We measure both. So that all answers have exactly
# the length that we want, the encoder has random weights, the sizes of the trained one, and never chooses the end itself. Passages have 120 characters, questions 30; one thread, the best of three rounds.


# %%
def fixed_length(kind, length):
    """A reader that always writes so many tokens."""
    letters = Characters(["".join(map(chr, range(0x4E00, 0x4E00 + 2850)))])
    encoder = (
        MaskedLM(len(letters), vocabulary=letters).eval().requires_grad_(False)
    )
    encoder.bias[letters.end] = -1e4
    return kind(encoder, length)


def seconds(reader, batch, **options):
    texts = [
        "".join(chr(0x4E00 + (7 * i + b) % 2000) for i in range(150))
        for b in range(batch)
    ]
    passages, questions = [t[:120] for t in texts], [t[120:] for t in texts]
    times = []
    for _ in range(3):
        began = time.perf_counter()
        answers = reader.answer(passages, questions, **options)
        times.append(time.perf_counter() - began)
    assert {len(a.text) for a in answers} == {reader.max_answer_length}
    return min(times)


WAYS = {
    "again each time": {"cache": False},
    "cached": {"cache": True},
    "again each time, beam 3": {"cache": False, "beam_size": 3},
    "cached, beam 3": {"cache": True, "beam_size": 3},
}
ratio, rate = {}, {}
for batch, lengths in ((1, (2, 4, 6, 8)), (8, (2, 8))):
    for length in lengths:
        once = seconds(fixed_length(MLMReader, length), batch, constrain=False)
        rate[batch, length] = batch / once
        for name, options in WAYS.items():
            if batch > 1 and "beam" in name:
                continue
            took = seconds(
                fixed_length(Seq2SeqReader, length),
                batch,
                constrain=False,
                **options,
            )
            ratio[name, batch, length] = took / once

# %% mystnb={"figure": {"caption": "How many times as long the seq2seq head takes as the MLM head, by the length of the answer, one question at a time, one thread. As the article ran it, everything is computed again for each token.", "name": "reading-speed"}, "image": {"alt": "Four curves over the length of the answer on a logarithmic scale: two rise with it, those with a cache stay low."}} tags=["hide-input", "nbval-ignore-output"]
fig, ax = plotting.panels()
for (name, _), style, marker in zip(
    WAYS.items(), ("-", "-", "--", "--"), "oso^"
):
    ax.plot(
        (2, 4, 6, 8),
        [ratio[name, 1, n] for n in (2, 4, 6, 8)],
        style,
        marker=marker,
        label=f"seq2seq, {name}",
    )
ax.axhline(1, color=plotting.BLACK, linestyle=":", linewidth=1)
ax.set(
    xlabel="tokens of the answer",
    ylabel="times the MLM head's time",
    yscale="log",
)
ax.set_yticks((1, 2, 5, 10, 20), (1, 2, 5, 10, 20))
ax.set_xticks((2, 4, 6, 8))
ax.legend(fontsize="small")
plt.show()

# %% tags=["hide-input"]
factor = {name: ratio[name, 1, 8] for name in ("again each time", "cached")}
verdict(
    "reading.claim2",
    holds=min(factor.values()) >= 6,
    restricted=factor["again each time"] >= 6,
    measured={
        f"times the MLM head, {name}, batch {batch}, {length} tokens": value
        for (name, batch, length), value in ratio.items()
        if length in (2, 8)
    }
    | {
        f"MLM head, questions a second, batch {batch}, 8 tokens": value
        for (batch, length), value in rate.items()
        if length == 8
    },
)

# %% [markdown]
# The article's factor of 6, for answers of some six to eight tokens, is that of a decoder without a cache: with $n$ tokens and the end it runs $n+1$ times. With the cache, which the verdict asks for the same factor, what the MLM head saves is short steps of one token each. (On a GPU short steps cost nearly as much as long ones, since what counts there is their number; nobody has measured that here.)
#
# ## A wrong start drags the rest along, in one head by cause, in the other by circumstance
#
# Exposure bias: in training the seq2seq head always continues *true* beginnings, in use its own. Its errors, says the article, accumulate, and those of the MLM head do not. Two different things can be meant. Here is how often the token at each place is wrong (free answers, the end counts as a token), and how often if the first was right, or wrong:

# %% tags=["hide-input"]
lines = [
    "| place | "
    + " | ".join(
        f"{label}: all | first right | first wrong" for label in HEADS.values()
    )
    + " |"
]
lines.append("|---" * 7 + "|")
for place in range(4):
    cells = []
    for head in HEADS:
        cells.append(percent(of(head, f"wrong_place{place}")))
        for which in ("right", "wrong"):
            cells.append(
                percent(of(head, f"wrong_place{place}_first_{which}"))
                if place
                else ""
            )
    lines.append(f"| {place + 1} | " + " | ".join(cells) + " |")
display(Markdown("\n".join(lines)))

# %% [markdown]
# After a wrong first token the next is mostly wrong in *both* heads, for the head that fills in all at once because what it believes at place 2 comes from the same doubt about the same passage. That is a common cause, no accumulation. To see a cause we must intervene: give the seq2seq head the true first token, or the
# likeliest wrong one, and let it go on. (For the MLM head there is nothing to give: its places do not read each other.)

# %% mystnb={"figure": {"caption": "Share of wrong tokens at the second, third and fourth place of the seq2seq head's answers after the true first token was put in, and after the likeliest wrong one (400 test questions, three seeds, 95 % intervals).", "name": "reading-forced"}, "image": {"alt": "Two curves over three places: the one after a wrong first token lies far above the other at the second place."}} tags=["hide-input"]
forced = {
    which: 100
    * np.array([of("seq2seq", f"forced_{which}_place{k}") for k in (1, 2, 3)])
    for which in ("true", "wrong")
}
fig, ax = plotting.panels()
for (which, values), marker in zip(forced.items(), "os"):
    plotting.band(
        ax, (2, 3, 4), values, f"after the {which} first token", marker=marker
    )
ax.set(xlabel="place", ylabel="tokens wrong (%)", ylim=(0, 100))
ax.set_xticks((2, 3, 4))
ax.legend()
plt.show()

# %% tags=["hide-input"]
effect = mean_interval(forced["wrong"][0] - forced["true"][0])
given_wrong = mean_interval(
    100
    * (
        of("seq2seq", "wrong_place1_first_wrong")
        - of("mlm", "wrong_place1_first_wrong")
    )
)
verdict(
    "reading.claim3",
    holds=None
    if 0 in (sign(effect), sign(given_wrong))
    else sign(effect) == 1 and sign(given_wrong) == 1,
    restricted=sign(effect) == 1 and sign(given_wrong) == -1,
    measured={
        "seq2seq, place 2, wrong first − true first put in (points)": interval(
            effect
        ),
        "place 2 wrong if the first was, seq2seq − MLM (points)": interval(
            given_wrong
        ),
        "after a wrong first token, the answer is another span of the passage (%)": percent(
            of("seq2seq", "forced_wrong_coherent")
        ),
    },
)

# %% [markdown]
# ## Whether longer answers suffer more, in points, these questions do not say
#
# “The shorter the text, the better independence fits.” Exact match of free answers by the length of the true one; both heads fail on most long names, which leaves little room for a difference:

# %% mystnb={"figure": {"caption": "Exact match of free answers by the length of the true answer (three seeds, 95 % intervals); the last length stands for five characters and more.", "name": "reading-length"}, "image": {"alt": "Two curves over answer lengths of two, three, four and five or more characters."}} tags=["hide-input"]
LENGTHS = (2, 3, 4, 5)
by_length = {
    head: 100 * np.array([of(head, f"free_em_length{n}") for n in LENGTHS])
    for head in HEADS
}
fig, ax = plotting.panels()
for (head, values), style, marker in zip(by_length.items(), ("-", "--"), "os"):
    plotting.band(
        ax, LENGTHS, values, HEADS[head], linestyle=style, marker=marker
    )
ax.set(xlabel="characters of the answer", ylabel="exact match (%)")
ax.set_xticks(LENGTHS, ("2", "3", "4", "5+"))
ax.legend()
plt.show()

# %% tags=["hide-input"]
lead = by_length["seq2seq"] - by_length["mlm"]
slope = mean_interval(np.polyfit(LENGTHS, lead, 1)[0])
counts = {n: sum(min(len(q.answer), 5) == n for q in test) for n in LENGTHS}
verdict(
    "reading.claim6",
    holds=None if sign(slope) == 0 else sign(slope) == 1,
    measured={
        "seq2seq's lead, growth per character (points)": interval(slope),
        "MLM's exact match as a share of seq2seq's, by length (%)": "; ".join(
            f"{100 * a / b:.0f}" if b else "–"
            for a, b in zip(
                by_length["mlm"].mean(1), by_length["seq2seq"].mean(1)
            )
        ),
        **{
            f"seq2seq − MLM, {n}{'+' if n == 5 else ''} characters, {counts[n]} questions (points)": interval(
                mean_interval(lead[i])
            )
            for i, n in enumerate(LENGTHS)
        },
    },
)

# %% [markdown]
# ## With several valid answers, it mixes them up
#
# Now an experiment in which we know the distribution. One, two or four persons, whose names are made up of three characters that no two of them share, are each in a place, and the question is only who: 黄河清在北京。李大明在上海。谁？ (*Huang Heqing is in Beijing. Li Daming is in Shanghai. Who?*) Any of them is a valid answer, each equally often in training. Both heads of seed 1 were trained on, for a few steps. (A few names have a character that the readers' vocabulary lacks: these nobody can spell. The settings were not tuned, one for both heads.)
#
# With $k$ valid answers the best that the MLM head can learn is, at each of the three places, the $k$ characters with probability $1/k$. If it then chose at random, it would mix with probability $1-k^{-2}$, and the price is $2\log k$ nats.

# %% tags=["hide-input"]
named = recorded("reading_names")
VALID = (1, 2, 4)


def of_names(head, valid, name):
    return np.array(
        [
            named[f"{head}-valid{valid}-seed{seed}"].summary[f"test_{name}"]
            for seed in SEEDS
        ]
    )


mixed = {
    head: np.array([of_names(head, k, "mixed") for k in VALID])
    for head in HEADS
}
right = {
    head: np.array([of_names(head, k, "right") for k in VALID])
    for head in HEADS
}

# %% mystnb={"figure": {"caption": "Answers that mix valid ones up, by the number of valid answers (three seeds, 95 % intervals), and what choosing each character at random among the valid ones would give.", "name": "reading-valid"}, "image": {"alt": "Two curves over one, two and four valid answers in percent, and a dotted line for independent choice."}} tags=["hide-input"]
fig, ax = plotting.panels()
for head, style, marker in zip(HEADS, ("-", "--"), "os"):
    plotting.band(
        ax,
        VALID,
        100 * mixed[head],
        HEADS[head],
        linestyle=style,
        marker=marker,
    )
ax.plot(
    VALID,
    [100 * (1 - k**-2) for k in VALID],
    ":",
    color=plotting.BLACK,
    label="independent choice",
)
ax.set(xlabel="valid answers", ylabel="mixed up (%)")
ax.set_xticks(VALID)
ax.legend()
plt.show()

# %% tags=["hide-input"]
more = [
    mean_interval(100 * (mixed["mlm"][i] - mixed["seq2seq"][i])) for i in (1, 2)
]
works = right["mlm"][0].min() > 0.9
verdict(
    "reading.claim4",
    holds=None
    if 0 in map(sign, more)
    else bool(works) and all(three[1] > 10 for three in more),
    restricted=all(three[1] > 10 for three in more),
    measured={
        **{
            f"{k} valid, {HEADS[head]}: right; mixed up (%)": f"{100 * right[head][i].mean():.1f}; {100 * mixed[head][i].mean():.1f}"
            for i, k in enumerate(VALID)
            for head in HEADS
        },
        **{
            f"{k} valid, MLM − seq2seq (nats); 2 log {k}": f"{(of_names('mlm', k, 'nats') - of_names('seq2seq', k, 'nats')).mean():.2f}; {2 * math.log(k):.2f}"
            for k in VALID
        },
    },
)

# %% [markdown]
# ## A unique answer does not make a unique belief
#
# The cloze questions have one answer each. Does the MLM head then not mix? What counts for it is not how many answers are valid but how many it *believes in*. Each head's belief is what it gives to the names of the passage, normalised; its entropy says how undecided it is. An answer is mixed up if it is none of the names, while each of its characters, and its length, is that of one of them in that place.

# %% mystnb={"figure": {"caption": "Free answers of the cloze questions that mix names of the passage up, by the entropy of the head's own belief in these names (three seeds, 95 % intervals).", "name": "reading-belief"}, "image": {"alt": "Two curves over four classes of entropy in bits, from nearly certain to more than one bit."}} tags=["hide-input"]
CLASSES = ("< 0.1", "0.1–0.5", "0.5–1", "> 1")
by_bin = {
    head: 100 * np.array([of(head, f"bin{i}_mixed") for i in range(4)])
    for head in HEADS
}
fig, ax = plotting.panels()
for (head, values), style, marker in zip(by_bin.items(), ("-", "--"), "os"):
    plotting.band(
        ax, range(4), values, HEADS[head], linestyle=style, marker=marker
    )
ax.set(xlabel="entropy of the belief (bits)", ylabel="mixed up (%)")
ax.set_xticks(range(4), CLASSES)
ax.legend()
plt.show()

# %% tags=["hide-input"]
growth = mean_interval(by_bin["mlm"][-1] - by_bin["mlm"][0])
against = mean_interval(
    100 * (of("mlm", "free_mixed") - of("seq2seq", "free_mixed"))
)
verdict(
    "reading.claim7",
    holds=None
    if 0 in (sign(growth), sign(against))
    else sign(growth) == sign(against) == 1,
    measured={
        "MLM, mixed up, undecided (> 1 bit) − certain (< 0.1) (points)": interval(
            growth
        ),
        "mixed up, MLM − seq2seq (points)": interval(against),
        **{
            f"{label}: mixed up; not in the passage (%)": f"{percent(of(head, 'free_mixed'))}; {percent(of(head, 'free_outside'))}"
            for head, label in HEADS.items()
        },
        **{
            f"{label}: belief's entropy; total correlation (bits)": f"{of(head, 'belief_entropy').mean():.2f}; {of(head, 'belief_total_correlation').mean():.2f}"
            for head, label in HEADS.items()
        },
    },
)

# %% [markdown]
# This explains the table above. Where names are compared as wholes, independence costs the MLM head little; where it must spell an answer freely, it pays for its doubts with strings that are no answer at all. Restricting answers to the passage repairs part of it: the first character decides, the others follow, which is one step of what the seq2seq head does anyway.
#
# Look at it yourself. The menu has eight test questions, printed below; the slider goes through the masks. When the head is undecided, the places lean to different names.

# %% tags=["hide-input"]
letters = Characters(
    ("".join(words) for words in data.people_daily_parts()[0].word), 10
)


def trained(kind, name):
    """A recorded reader of seed 1."""
    holder = nn.Module()
    holder.reader = kind(MaskedLM(len(letters), vocabulary=letters), 8)
    finals[f"{name}-seed1"].load_weights(holder)
    return holder.reader.eval().requires_grad_(False)


mlm, seq2seq = trained(MLMReader, "mlm"), trained(Seq2SeqReader, "seq2seq")
pool = [q for q in test if len(q.passage) < 110 and len(q.entities) >= 4]
chosen = pool[:: len(pool) // 8][:8]
places = mlm.predict(
    mlm.inputs(
        [letters.encode(q.passage)[0] for q in chosen],
        [letters.encode(q.question)[0] for q in chosen],
    )
).exp()


# %% tags=["hide-input"]
def bars(p):
    """The six likeliest tokens of a place."""
    top = p.topk(6)
    names = [
        "(end)" if i == letters.end else letters.symbols[i]
        for i in top.indices.tolist()
    ]
    return {
        "type": "bar",
        "x": names,
        "y": top.values.tolist(),
        "marker": {"color": plotting.BLUE},
        "hoverinfo": "x+y",
        "showlegend": False,
    }


plotting.stories_figure(
    {
        f"{i}: {q.answer}": [[bars(p)] for p in places[i - 1, :5]]
        for i, q in enumerate(chosen, start=1)
    },
    prefix="mask ",
    caption="What the MLM head (seed 1) expects in each of its first five masks. The menu has eight test questions with their true answers.",
    alt="Bars: probabilities of the six likeliest characters at the mask that the slider chooses, for the question that the menu chooses.",
    yaxis={"range": [0, 1], "title": "probability"},
    xaxis={"type": "category"},
)

# %% tags=["hide-input", "nbval-ignore-output"]
passages, questions = [q.passage for q in chosen], [q.question for q in chosen]
said = {
    "MLM": mlm.answer(passages, questions, False),
    "MLM, within the passage": mlm.answer(passages, questions),
    "seq2seq": seq2seq.answer(passages, questions, False),
}
lines = []
for i, q in enumerate(chosen):
    answers = "; ".join(
        f"{name}: {found[i].text or '(nothing)'}"
        for name, found in said.items()
    )
    lines.append(
        f"{i + 1}. {q.passage} **{q.question}** *{q.answer}*. {answers}."
    )
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## A second look helps: Mask-Predict in between
#
# Between one pass and one pass a token lies *Mask-Predict* {cite:p}`ghazvininejad2019`: fill in all masks, mask the least certain again, fill these in with the others in sight, a few times. It needs a head that has seen answers with holes in training: in half of the questions the end and some tokens are shown. One seed was trained so, from the settings of the tuning; beside it the two heads with the same settings and as many steps.

# %% tags=["hide-input"]
refined = recorded("reading_refine")["seed0"].summary
tuning = recorded("reading_tuning")
same = {head: tuning[f"{head}-rate0.001"].summary for head in HEADS}
ROWS = {
    "MLM, 1 pass": (same["mlm"], "free"),
    "Mask-Predict, 1 pass": (refined, "free"),
    "Mask-Predict, 2 passes": (refined, "passes2"),
    "Mask-Predict, 3 passes": (refined, "passes3"),
    "Mask-Predict, 4 passes": (refined, "passes4"),
    "seq2seq": (same["seq2seq"], "free"),
}
lines = [
    "| one seed, free answers | exact (%) | F1 (%) | mixed up (%) | not in the passage (%) |",
    "|---" * 5 + "|",
]
for name, (summary, key) in ROWS.items():
    values = [
        summary[f"test_{key}_{what}"]
        for what in ("em", "f1", "mixed", "outside")
    ]
    lines.append(
        f"| {name} | " + " | ".join(f"{100 * v:.1f}" for v in values) + " |"
    )
display(Markdown("\n".join(lines)))
assert refined["test_passes4_mixed"] < refined["test_free_mixed"]
assert refined["test_passes4_outside"] < refined["test_free_outside"]

# %% [markdown]
# ## Sequence labelling works because its answer is unique
#
# Word segmentation is done with a softmax for each character, independently, and works well. The article's reason is not that output and input are aligned, but that the answer is unique. Three experiments separate the two. **First** the real task: the same encoder, a tag for each character of the same newspaper (begins a word, middle, end, single), by independent softmaxes and by a
# CRF {cite:p}`lafferty2001`, equal tuning, three seeds, a short training. Published figures for this corpus, with its own test part and systems made for it: $F_1$ 95.1 % {cite:p}`zhang2006`, and 97.6 % with a BERT {cite:p}`huang2019segmentation`.

# %% tags=["hide-input"]
segmented = recorded("reading_segmentation")


def of_words(kind, name):
    return np.array(
        [
            segmented[f"{kind}-seed{seed}"].summary[f"test_{name}"]
            for seed in SEEDS
        ]
    )


lines = [
    "| | F1 (%) | recall of words not seen in training (%) | impossible neighbours per 1,000 characters |",
    "|---" * 4 + "|",
]
for kind, label in (("softmax", "independent softmaxes"), ("crf", "CRF")):
    lines.append(
        f"| {label} | {percent(of_words(kind, 'f1'), 2)} | {percent(of_words(kind, 'recall_new'))} | {of_words(kind, 'impossible_per_1000').mean():.2f} |"
    )
display(Markdown("\n".join(lines)))
crf_gain = mean_interval(
    100 * (of_words("crf", "f1") - of_words("softmax", "f1"))
)

# %% [markdown]
# **Second**, an answer that is unique and not aligned: six digits are to be written in reverse order into six masks behind them, each by its own softmax. **Third**, one that is aligned and not unique: each of six letters is to be tagged with its own class (0 or 1) in one of two styles, and a coin decides the style for the whole sequence, so that there are $2\times2$ tags and two valid answers.


# %%
def train_tiny(model, loss, steps, rate=2e-3):
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for i in range(steps):
        factor = min((i + 1) / 30, (steps - i) / (steps - 30))
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
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


# %%
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
# So it is uniqueness that counts. And the third experiment shows where the article's sentence on sequence labelling goes too far: it counts a CRF under {eq}`reading-eq2`. A CRF's tags depend on each other, which is what its transitions are for: with $t_{00}=t_{11}=0$ and $t_{01}=t_{10}=-\infty$ it is $\tfrac12\{00\}+\tfrac12\{11\}$, which no independent model is.

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

# %% tags=["hide-input"]
parts = (
    of_words("softmax", "f1").mean() > 0.9
    and abs(crf_gain[0]) < 1
    and reversed_right > 0.99
    and valid_share["softmax"] < 0.5
)
verdict(
    "reading.claim5",
    holds=bool(parts and bits < 1e-9 and valid_share["CRF"] < 0.5),
    restricted=bool(
        parts and abs(bits - 1) < 1e-9 and valid_share["CRF"] > 0.95
    ),
    measured={
        "words, independent softmaxes, F1 (%)": percent(
            of_words("softmax", "f1"), 2
        ),
        "words, CRF − softmaxes, F1 (points)": interval(crf_gain, 2),
        "reversed digits, all six right (%)": 100 * reversed_right,
        "two styles, probability of valid answers, softmaxes (%)": 100
        * valid_share["softmax"],
        "two styles, probability of valid answers, CRF (%)": 100
        * valid_share["CRF"],
        "CRF of two tags, total correlation (bits)": bits,
    },
)

# %% [markdown]
# ## On a GPU
#
# At full scale the encoder is a real Chinese BERT, by its name or folder, and the questions are those of CMRC 2018 {cite:p}`cui2019`, which people asked. Long passages are cut into windows. The encoder of this chapter was pretrained on a GPU, with the script's settings for a laptop; nobody has run the cell below yet.

# %% tags=["gpu", "skip-execution", "nbval-ignore-output"]
# %run ../experiments/reading_comprehension.py --scale gpu --bert bert-base-chinese --head mlm

# %% [markdown]
# ## Where the article is imprecise, and what is done now
#
# - *“As good as seq2seq”* is a statement on one data set with a strong encoder, whose beliefs are mostly sharp. With a weak encoder that often hesitates between two names, the same head mixes them up. What decides is the entropy of the belief, not the number of valid answers.
# - *“6 times as fast”* compares with a decoder without a cache.
# - *Errors accumulate*: an observed wrong token makes later ones likelier to be wrong in both heads; that one *causes* the others is true of the seq2seq head only. There, what follows a wrong start is often a consistent other answer, which is no worse than a wrong one.
# - *A CRF is not of the form (2)*; its decoding is exact, its tags depend on each other.
# - *Deciding the length.* The end mark is one more independent token; the article does not speak of it. An answer of one name's characters with another's length is mixed up, too.
#
# What came of it: translation without autoregression {cite:p}`gu2018` has the same trouble, since a sentence has many translations, and lives on distillation, which makes the answer nearly unique, and on refinement as in Mask-Predict. For extractive questions today's readers point at the first and the last token of a span, which are two choices instead of $n$ {cite:p}`devlin2019`; independence of these two has a price as well.
# Masked *diffusion* models {cite:p}`austin2021` fill in a few masks at a time, and pay the total correlation of those that they fill in together.
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
# **4.** Why do two passes of Mask-Predict repair most of what one pass mixes up when *two* names compete, and why are more passes needed for more?

# %% tags=["hide-cell"]
# After the first pass half of the tokens are kept, the certain ones. If those are of one name, the rest follows. The
# more names compete, the fewer tokens must be kept at once for them to agree: with k names, m independent ones
# agree with probability k^(1−m).
for k in (2, 4):
    print(k, "names:", [round(k ** (1.0 - m), 4) for m in (1, 2, 3)])

# %% [markdown]
# ## The card

# %% tags=["nbval-ignore-output", "hide-input"]
pretrained = recorded("reading_pretraining")["seed1"]
runs = [*finals.values(), *named.values(), *segmented.values()]
card(
    "reading",
    {
        "Sizes": f"recorded: encoder {pretrained.summary['steps']:,} steps of {pretrained.config['batch_size']} windows; {len(finals)} readers of {finals['mlm-seed1'].summary['steps']:,} steps of 32 questions; {len(named)} on names, {len(segmented)} on words, {len(tuning) + 1} for tuning and refinement",
        "Seeds": "recorded: 1 to 3, tuning and refinement 0; live: the generator that the first cell seeds",
        "Recorded on": f"encoder, tuning, refinement: {pretrained.environment['device']}, {pretrained.environment['seconds'] / 60:.0f} min for the encoder (beside three others); the rest: {runs[0].environment['processor']}, one thread each, {max(run.environment['seconds'] for run in runs) / 60:.0f} min for the longest",
    },
)
