"""How right what was written is: against references, by place and length, beside other models."""

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kexue import data
from kexue.decoding import TOKENS, Hypothesis, error_rate, pad_ids, token_log_probs
from kexue.experiments.tasks.sequence_pairs import Part, cut, phonemes, subwords

FIFTHS = 5
LONG = 8
"""Phonemes from which on the first four and the last four are different ones."""


def count_fifths(table: np.ndarray, right: list[bool]) -> None:
    """Adds hits and places of one sequence to (2, fifths); a place belongs to the fifth of its middle."""
    for place, hit in enumerate(right):
        fifth = int((place + 0.5) / len(right) * FIFTHS)
        table[:, fifth] += (hit, 1)


def searched(found: list[list[Hypothesis]]) -> list[tuple[int, ...]]:
    """The best of each; nothing where a search found nothing."""
    return [hypotheses[0].tokens for hypotheses in found]


def unstressed(ids: Iterable[int]) -> tuple[str, ...]:
    return tuple(phonemes()[one - TOKENS].rstrip("012") for one in ids)


def closest(guess: Sequence[Any], references: Iterable[Sequence[Any]]) -> Sequence[Any]:
    """The reference with the fewest edits per phoneme."""
    from rapidfuzz.distance import Levenshtein

    return min(references, key=lambda one: Levenshtein.distance(guess, one) / len(one))


def described(name: str, guesses: list[Any], part: Part) -> dict[str, float]:
    """Error rates with and without stress, accuracy of first and last four, by fifth, and by length."""
    from rapidfuzz.distance import Levenshtein

    found = {}
    per, wer = error_rate(guesses, part.references)
    found[f"{name}_per"], found[f"{name}_wer"] = per, wer
    plain = [[unstressed(one) for one in several] for several in part.references]
    per, wer = error_rate([unstressed(one) for one in guesses], plain)
    found[f"{name}_per_plain"], found[f"{name}_wer_plain"] = per, wer
    first, last, fifths = [], [], np.zeros((2, FIFTHS))
    by_length = defaultdict(list)
    for guess, references in zip(guesses, part.references, strict=True):
        true = closest(guess, references)
        by_length[min(max(len(true), 3), 12)].append(guess != true)
        if len(true) >= LONG:
            padded = (*guess, *[0] * 4)
            first += [a == b for a, b in zip(padded[:4], true[:4], strict=True)]
            ended = (*[0] * 4, *guess)
            last += [a == b for a, b in zip(ended[-4:], true[-4:], strict=True)]
        right = [True] * len(true)
        for edit in Levenshtein.editops(guess, true):
            if edit.tag == "insert" or edit.tag == "replace":
                right[edit.dest_pos] = False
        count_fifths(fifths, right)
    found[f"{name}_first4"], found[f"{name}_last4"] = float(np.mean(first)), float(np.mean(last))
    for i in range(FIFTHS):
        found[f"{name}_fifth{i}"] = float(fifths[0, i] / fifths[1, i])
    for length, wrong in sorted(by_length.items()):
        found[f"{name}_wer_length{length}"] = float(np.mean(wrong))
    return found


@cache
def g2p_en() -> Any:
    """The model of the package g2p_en; it saw most of the dictionary in its training."""
    import zipfile

    import nltk

    # On import it wants to download what only sentences need: an empty stand-in for each.
    with tempfile.TemporaryDirectory() as folder:
        for name, member in (
            ("taggers/averaged_perceptron_tagger", "README"),
            ("corpora/cmudict", "cmudict/cmudict"),
        ):
            path = Path(folder, name + ".zip")
            path.parent.mkdir()
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(member, "")
        before = list(nltk.data.path)
        nltk.data.path[:] = [folder]
        try:
            from g2p_en import G2p

            return G2p()
        finally:
            nltk.data.path[:] = before


def joint_scores(
    lists: list[list[list[Hypothesis]]], models: Sequence[Any], part: Part
) -> list[dict[tuple[int, ...], float]]:
    """Of each source, for all that the searches found: log p of both directions together."""
    scores = [
        dict.fromkeys(sorted({h.tokens for one in each for h in one if h.tokens}), -math.inf)
        for each in zip(*lists, strict=True)
    ]
    rows = [(i, tokens) for i, several in enumerate(scores) for tokens in several]
    rows.sort(key=lambda row: len(row[1]))
    device = next(models[0].parameters()).device
    for start in range(0, len(rows), 2000):
        several = rows[start : start + 2000]
        src = cut(part.src[[i for i, _ in several]]).to(device)
        tgt = pad_ids([tokens for _, tokens in several]).to(device)
        found = sum(token_log_probs(model, src, tgt)[0].sum((1, 2)) for model in models).tolist()  # type: ignore[union-attr]
        for (i, tokens), value in zip(several, found, strict=True):
            scores[i][tokens] = value
    return scores


def reranked(
    found: list[list[Hypothesis]], scores: list[dict[tuple[int, ...], float]]
) -> list[tuple[int, ...]]:
    """Of each source's hypotheses the one with the best joint score."""
    best = []
    for several, score in zip(found, scores, strict=True):
        candidates = sorted({h.tokens for h in several if h.tokens})
        best.append(max(candidates, key=score.__getitem__, default=()))
    return best


def by_g2p_en(part: Part) -> list[tuple[int, ...]]:
    """What the package g2p_en says."""
    words = ["".join(chr(one - TOKENS + ord("a")) for one in source) for source in part.source]
    index = {phoneme: i for i, phoneme in enumerate(phonemes(), start=TOKENS)}
    # What is no phoneme of ours (<unk>, UW without stress) equals nothing, but UW is UW without stress.
    return [
        tuple(index.get(one, index["UW1"] if one == "UW" else 0) for one in word)
        for word in map(g2p_en().predict, words)
    ]


def bleu(guesses: dict[str, list[Any]], count: int) -> dict[str, float]:
    """BLEU, and the ratio of lengths, on the first captions of the test."""
    import sacrebleu

    references = [english for _, english in data.multi30k()["test"][:count]]
    found = {}
    for name, several in guesses.items():
        texts = [subwords().decode(list(ids)).strip() for ids in several]
        score = sacrebleu.corpus_bleu(texts, [references])
        found[f"{name}_bleu"] = score.score / 100
        found[f"{name}_length_ratio"] = score.sys_len / score.ref_len
    return found
