"""What readers do with questions: right, mixed up, how likely, and how they go on from a given beginning."""

import csv
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kexue.data import PassageQuestion
from kexue.experiments.tasks.questions import LONGEST, candidates, rivals
from kexue.reading import BLANK, ClozeQuestion, MLMReader, Seq2SeqReader, answer_f1, exact_match

COMPARED = 4
"""So many tokens of an answer are compared place by place."""


def parts(questions: Sequence[Any], size: int = 64) -> Iterator[Sequence[Any]]:
    return (questions[begin : begin + size] for begin in range(0, len(questions), size))


def texts(questions: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Passages, and what is asked."""
    passages, asked = zip(*((q.passage, q.question) for q in questions), strict=True)
    return list(passages), list(asked)


def said(reader: Any, questions: Sequence[Any], constrain: bool = False, **options: Any) -> list[str]:
    """The answers' texts."""
    return [one.text for one in reader.answer(*texts(questions), constrain, **options)]


def share(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def measured_cmrc(reader: Any, questions: Sequence[PassageQuestion]) -> dict[str, float]:
    """Exact match and F1, free and within the passage, with the best of the references."""
    found = {}
    for name, constrain in (("free", False), ("span", True)):
        answers = said(reader, questions, constrain, batch_size=32)
        for what, score in (("em", exact_match), ("f1", answer_f1)):
            each = (score(a, q.answers) for a, q in zip(answers, questions, strict=True))
            found[f"{name}_{what}"] = share(each)
    return found


def by_name(reader: Any, questions: Sequence[ClozeQuestion], blind: bool = False) -> list[Tensor]:
    """Of each question, log p of each of `candidates`; blind, with nothing but a blank for the question."""
    found: list[Tensor] = []
    for part in parts(questions):
        passages, asked = texts(part)
        asked = [BLANK] * len(part) if blind else asked
        scores = reader.candidate_log_probs(passages, asked, [candidates(q) for q in part])
        found += [one.float().cpu() for one in scores]
    return found


def chosen_name(question: ClozeQuestion, scores: Tensor, pool: list[str]) -> str:
    """The likeliest name of a pool."""
    names = candidates(question)
    return max(pool, key=lambda name: float(scores[names.index(name)]))


def mixes(answer: str, question: ClozeQuestion) -> bool:
    """Whether an answer does not stand in the passage, while its length is that of one of the passage's names
    and each token is in its place in one of them."""
    pool = candidates(question)
    return (
        answer != ""
        and answer not in question.passage
        and len(answer) in {len(name) for name in pool}
        and all(any(name[k : k + 1] == c for name in pool) for k, c in enumerate(answer))
    )


def token_nats(reader: Any, questions: Sequence[ClozeQuestion]) -> tuple[list[list[float]], list[float]]:
    """−log p of the true answers' tokens and ends; and the entropy of the first token, in bits."""
    nats: list[list[float]] = []
    entropies: list[float] = []
    for part in parts(questions):
        log_probs, target = reader.forced_log_probs(*texts(part), [q.answer for q in part])
        log_probs = log_probs.float()
        each = -log_probs.gather(-1, target[..., None]).squeeze(-1)
        real = target != reader.vocabulary.pad
        nats += [row[keep].tolist() for row, keep in zip(each, real, strict=True)]
        entropies += (-(log_probs[:, 0].exp() * log_probs[:, 0]).sum(1) / math.log(2)).tolist()
    return nats, entropies


def best_spans(reader: MLMReader, questions: Sequence[ClozeQuestion]) -> list[str]:
    """The spans of the passages with the largest product of probabilities, all of them compared."""
    found = []
    for part in parts(questions):
        tables = reader.predict(reader.inputs(*reader.encode(*texts(part)))).float()
        for q, table in zip(part, tables, strict=True):
            tokens, offsets = reader.vocabulary.encode(q.passage)
            ids = torch.tensor(tokens, device=table.device)
            best, text = -math.inf, ""
            total = torch.zeros(len(ids), device=table.device)
            for n in range(1, min(LONGEST, len(ids)) + 1):
                # By where the span begins.
                total = total[: len(ids) - n + 1] + table[n - 1, ids[n - 1 :]]
                place = int(total.argmax())
                if (score := float(total[place] + table[n, reader.vocabulary.end])) > best:
                    best, text = score, q.passage[offsets[place][0] : offsets[place + n - 1][1]]
            found.append(text)
    return found


def wrong_tokens(said: str, answer: str) -> list[float]:
    """Which tokens of the answer, the end included, are not those that were said: 1, or 0 where they are."""
    true, tokens = [*answer, ""], [*said, "", *[None] * len(answer)]
    return [float(a != b) for a, b in zip(tokens, true, strict=False)]


def measured(reader: Any, questions: Sequence[ClozeQuestion]) -> dict[str, list[float]]:
    """What the readers do with each cloze question: a column each, in the questions' order.

    * free, span, best: whether the free answer is right, that within the passage, and that of an exact search
      within the passage (MLM: all spans; seq2seq: a beam of four);
    * name, rival, blind: whether the likeliest of `candidates` is right, of `rivals`, and of these without a
      question;
    * named, mixed, outside: whether the free answer is one of `candidates`, `mixes`, or does not stand in the
      passage;
    * wrong0 … wrong3: whether a token of the free answer is wrong, the end included;
    * nats, nats0: −log p of the true answer, of its first token;
    * entropy: of the first token, in bits;
    * margin: log of the odds of the likeliest name against the next.
    """
    free, span = said(reader, questions), said(reader, questions, True)
    if isinstance(reader, Seq2SeqReader):
        best = said(reader, questions, True, beam_size=4)
    else:
        best = best_spans(reader, questions)
    scores = by_name(reader, questions), by_name(reader, questions, True), *token_nats(reader, questions)
    columns: dict[str, list[float]] = {}
    for q, mine, inside, found, likes, blind, nats, entropy in zip(
        questions, free, span, best, *scores, strict=True
    ):
        row: dict[str, float] = {}
        for name, text in (("free", mine), ("span", inside), ("best", found)):
            row |= {name: exact_match(text, q.answer), f"{name}_f1": answer_f1(text, q.answer)}
        names = candidates(q)
        pools = {"name": (likes, names), "rival": (likes, rivals(q)), "blind": (blind, rivals(q))}
        for name, (log_p, pool) in pools.items():
            row[name] = chosen_name(q, log_p, pool) == q.answer
        row |= {"named": mine in names, "mixed": mixes(mine, q), "outside": mine not in q.passage}
        wrong = wrong_tokens(mine, q.answer)
        row |= {f"wrong{k}": wrong[k] if k < len(wrong) else math.nan for k in range(COMPARED)}
        top = likes.topk(min(2, len(likes))).values
        margin = float(top[0] - top[1]) if len(top) > 1 else math.nan
        row |= {"nats": sum(nats), "nats0": nats[0], "entropy": entropy, "margin": margin}
        for name, value in row.items():
            columns.setdefault(name, []).append(float(value))
    return columns


def write_columns(columns: dict[str, list[float]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow("" if math.isnan(value) else f"{value:.4g}" for value in row)


def refined(reader: MLMReader, questions: Sequence[ClozeQuestion], passes: int) -> dict[str, float]:
    """Shares of the free answers after so many passes of Mask-Predict."""
    pairs = list(zip(said(reader, questions, passes=passes), questions, strict=True))
    return {
        f"passes{passes}": share(exact_match(a, q.answer) for a, q in pairs),
        f"passes{passes}_f1": share(answer_f1(a, q.answer) for a, q in pairs),
        f"passes{passes}_mixed": share(mixes(a, q) for a, q in pairs),
        f"passes{passes}_outside": share(a not in q.passage for a, q in pairs),
    }


def first_characters(
    reader: Seq2SeqReader, question: ClozeQuestion, scores: Tensor, generator: torch.Generator
) -> dict[str, str]:
    """What is put in: the true first character, another name's, and a stray one; nothing if one is missing.

    The other name is the likeliest of the passage that begins otherwise. A stray character is drawn from the
    letters of the passage that begin none of its names. Both are in the vocabulary.
    """

    def known(character: str) -> bool:
        return reader.vocabulary.unknown not in reader.vocabulary.encode(character)[0]

    names, true = candidates(question), question.answer[0]
    others = [name for name in names if name[0] != true and known(name[0])]
    strays = sorted(c for c in set(question.passage) - {n[0] for n in names} if c.isalpha() and known(c))
    drawn = int(torch.randint(max(1, len(strays)), (), generator=generator))
    if not others or not strays:
        return {}
    return {"true": true, "other": chosen_name(question, scores, others)[0], "stray": strays[drawn]}


def continued(reader: Seq2SeqReader, questions: Sequence[ClozeQuestion], firsts: Sequence[str]) -> list[str]:
    """Greedy free answers that begin with these characters."""
    prefix = reader.prefix(*reader.encode(*texts(questions)))
    written = torch.tensor([reader.vocabulary.encode(c)[0] for c in firsts], device=reader.device)
    for _ in range(LONGEST):
        log_probs = reader.possible(reader.next_log_probs(prefix, written)[:, -1])
        written = torch.cat((written, log_probs.argmax(1, keepdim=True)), 1)
    end = reader.vocabulary.end
    cut = [ids[: ids.index(end)] if end in ids else ids for ids in written.tolist()]
    return [reader.vocabulary.decode(ids) for ids in cut]


def after_first(
    reader: Seq2SeqReader, questions: Sequence[ClozeQuestion], generator: torch.Generator
) -> dict[str, float]:
    """One token is corrupted: how the seq2seq head goes on after a first character that is put in.

    Of the questions whose first token the head has right by itself, for each of `first_characters`: which of
    the later tokens are wrong (at each place, and their mean share, the end included), and whether the answer
    is a name of the passage, or stands in it. Of those whose first token it has wrong: how many answers begin
    as no name of the passage does.
    """
    chosen: list[tuple[ClozeQuestion, dict[str, str]]] = []
    found: dict[str, list[float]] = {}
    rows = zip(questions, by_name(reader, questions), said(reader, questions), strict=True)
    for q, scores, own in rows:
        put_in = first_characters(reader, q, scores, generator)
        if own[:1] != q.answer[0]:
            found.setdefault("own_wrong_stray", []).append(own[:1] not in {n[0] for n in candidates(q)})
        elif put_in:
            chosen.append((q, put_in))
    for part in parts(chosen, 128):
        asked = [q for q, _ in part]
        for which in ("true", "other", "stray"):
            answers = continued(reader, asked, [put_in[which] for _, put_in in part])
            for q, text in zip(asked, answers, strict=True):
                wrong = wrong_tokens(text, q.answer)
                what = {"later": share(wrong[1:])}
                what |= {f"wrong{place}": wrong[place] for place in range(1, min(COMPARED, len(wrong)))}
                what |= {"named": text in candidates(q), "inside": text in q.passage}
                for name, value in what.items():
                    found.setdefault(f"first_{which}_{name}", []).append(value)
    return {name: share(each) for name, each in found.items()} | {"corrupted": len(chosen)}


def measured_names(reader: Any, questions: list[tuple[ClozeQuestion, list[str]]]) -> dict[str, float]:
    """Of the task "names": free answers that are right, that mix names up, and the rest.

    And −log p of the answer that was drawn, and the probability of all the valid ones together.
    """
    free = said(reader, [q for q, _ in questions])
    right = share(a in valid for a, (_, valid) in zip(free, questions, strict=True))
    mixed = share(mixes(a, q) for a, (q, _) in zip(free, questions, strict=True))
    log_p = [
        one.double().cpu()
        for part in parts(questions, 256)
        for one in reader.candidate_log_probs(*texts(q for q, _ in part), [valid for _, valid in part])
    ]
    return {
        "right": right,
        "mixed": mixed,
        "else": 1 - right - mixed,
        "nats": -share(float(one.mean()) for one in log_p),
        "mass": share(float(one.exp().sum()) for one in log_p),
    }


def measured_briefly(reader: Any, questions: list[ClozeQuestion]) -> dict[str, float]:
    """Exact matches, free, within the passage and among its names; nats of the true answers."""
    found = {}
    for name, constrain in (("free", False), ("span", True)):
        pairs = zip(said(reader, questions, constrain), questions, strict=True)
        found[f"{name}_em"] = share(exact_match(a, q.answer) for a, q in pairs)
    rows = list(zip(questions, by_name(reader, questions), strict=True))
    nats = [-float(s[candidates(q).index(q.answer)]) for q, s in rows]
    vocabulary = reader.vocabulary
    spelt = [vocabulary.unknown not in vocabulary.encode(q.answer)[0] for q in questions]
    return found | {
        "name_em": share(chosen_name(q, s, candidates(q)) == q.answer for q, s in rows),
        "rival_em": share(chosen_name(q, s, rivals(q)) == q.answer for q, s in rows),
        "nats": share(nats),
        "known_nats": share(value for value, known in zip(nats, spelt, strict=True) if known),
    }
